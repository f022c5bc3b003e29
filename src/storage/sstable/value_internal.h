/*
 * value_internal.h - constants of the format of value files, and what the files about them share.
 *
 * The bytes are documented in doc/formats-values.md; change both, and VALUE_FORMAT_VERSION.
 */
#ifndef VALUE_INTERNAL_H
#define VALUE_INTERNAL_H

#include "sstable_internal.h"
#include "storage/value_file.h"

#define VALUE_MAGIC "KVDVALUE"
#define VALUE_FORMAT_VERSION 1u
#define VALUE_BLOCK_TARGET CACHE_BLOCK_MAX /* values share a block up to this; a larger one is alone in its */
#define VALUE_PREFIX 4             /* before each block: its size in the file */
/* No block begins later: a file ends with the value that takes it to its bound. */
#define VALUE_OFFSET_MAX ((uint64_t) VALUE_FILE_BYTES + VALUE_BLOCK_TARGET + 2 * (VALUE_PREFIX + BLOCK_TRAILER))

_Static_assert(VALUE_BLOCK_TARGET == 4096 && VALUE_FILE_BYTES == 67108864, "they bound references on disk");
_Static_assert(FOOTER_BYTES == 4 * sizeof(uint64_t) + 16 + 2 * sizeof(uint32_t) + 8,
               "a value file's: counts, zeros, version and checksum, magic");
_Static_assert(KV_VALUE_MAX <= BLOCK_BYTES_MAX, "a largest value fits a block");
_Static_assert(sizeof(ValueShare) == VALUE_SHARE_BYTES, "no padding");
_Static_assert(VALUE_REF_MAX == sizeof(uint64_t) + CODING_VARINT64_MAX + 2 * CODING_VARINT32_MAX, "longest");

typedef struct ValueFooter {
	uint64_t file_id, values, value_bytes, blocks;
} ValueFooter;
void value_footer_encode(const ValueFooter *f, uint8_t out[FOOTER_BYTES]);
/* CORRUPT or FOREIGN; `path` for the detail. */
KV_CHECK Status value_footer_decode(const uint8_t in[FOOTER_BYTES], const char *path, ValueFooter *f);
/* The footer of an open file. CORRUPT: it is of another file. */
KV_CHECK Status value_footer_read(int fd, uint64_t file_id, const char *path, uint64_t *bytes, ValueFooter *f);

extern const BlockKind value_kind;
static inline BlockFile
value_blocks(uint64_t file_id)
{
	return (BlockFile){ .kind = &value_kind, .number = file_id, .file_id = file_id };
}
/* Content of the block at `offset`, of at most `most` bytes in the file, in `own` (reused). */
KV_CHECK Status value_block_read(uint64_t file_id, uint64_t offset, uint32_t most, Buf *own, Slice *out);

#endif
