/*
 * sstable_internal.h - the table format's constants and what the files of this room share.
 *
 * The bytes are documented in doc/formats-tables.md; change both, and TABLE_FORMAT_VERSION.
 */
#ifndef SSTABLE_INTERNAL_H
#define SSTABLE_INTERNAL_H

#include "common/bytes.h"
#include "common/coding.h"
#include "common/limits.h"
#include "port/fs.h"
#include "storage/cache.h"
#include "storage/entry.h"
#include "storage/sstable.h"
#include "storage/value_file.h"

/* ---- format */
#define TABLE_MAGIC "KVDTABLE"
#define TABLE_FORMAT_VERSION 2u    /* 2: blocks may be compressed */
#define TABLE_FORMAT_OLDEST 1u     /* still read */
#define BLOCK_TARGET 4096          /* blocks are cut before they exceed it, unless one entry alone does */
#define BLOCK_TRAILER 5            /* codec, crc32c */
#define CODEC_HEADER 4             /* of compressed content: length of what it was */
#define CODEC_SAVES 8              /* compressed content is kept when it saves this part */
#define RESTART_INTERVAL 16
#define RESTARTS_MAX 64            /* in a block of BLOCK_TARGET bytes */
#define RESTART_BYTES 4            /* offset of the entry, offset of its value */
#define DATA_HEADER 6              /* bytes of entries, number of restarts */
#define ENTRY_BYTES_MIN 5          /* shared, unshared, value length, flags, version: one byte each */
#define ENTRY_HEADER_MAX (3 * CODING_VARINT32_MAX + 1 + 2 * CODING_VARINT64_MAX)
#define ENTRY_KIND_MASK 0x03
#define ENTRY_KIND_MAX ENTRY_VALUE_REF
#define ENTRY_FLAG_EXPIRE 0x80
#define INDEX_HEADER 8             /* count, prefix length */
#define INDEX_ITEM 12              /* key head, offset of the item */
#define INDEX_ITEM_HEADER_MAX (2 * CODING_VARINT64_MAX + CODING_VARINT32_MAX)
#define TABLE_HEIGHT_MAX 32        /* each level at least halves the number of blocks */
#define FILTER_PAGE 4096
#define FILTER_LINE 64
#define FILTER_PAGE_LINES (FILTER_PAGE / FILTER_LINE)
#define FILTER_PROBES 6
#define FILTER_STRIDE (FILTER_PAGE + BLOCK_TRAILER)
#define FOOTER_BYTES 64
#define PROPERTIES_FIXED 128       /* then the two keys, and the shares */
/* The largest block: one largest record. A larger size in an index is damage. */
#define BLOCK_BYTES_MAX KV_RECORD_MAX
#define PROPERTIES_MAX (PROPERTIES_FIXED + 2 * INTERNAL_KEY_MAX + VALUE_SHARES_MAX * VALUE_SHARE_BYTES)

_Static_assert(BLOCK_TARGET <= CACHE_BLOCK_MAX, "ordinary blocks fit a cache frame");
_Static_assert(FILTER_PAGE <= CACHE_BLOCK_MAX, "filter pages fit a cache frame");
_Static_assert(BLOCK_TARGET / ENTRY_BYTES_MIN / RESTART_INTERVAL + 1 <= RESTARTS_MAX, "restarts of a block");
_Static_assert(DATA_HEADER + RESTART_BYTES + ENTRY_HEADER_MAX + INTERNAL_KEY_MAX + KV_VALUE_MAX <=
               BLOCK_BYTES_MAX, "a largest entry fits");
_Static_assert(INDEX_HEADER + 2 * (INDEX_ITEM + INDEX_ITEM_HEADER_MAX + INTERNAL_KEY_MAX) + 4 <=
               BLOCK_BYTES_MAX, "two largest separators fit");
_Static_assert(sizeof(TableInfo) == 120, "no padding: compared as bytes by table_verify");
_Static_assert(TABLE_CODEC_NONE == 0 && TABLE_CODEC_LZ4 == 1 && TABLE_CODEC_ZSTD == 2, "codecs are on disk");
_Static_assert(ENTRY_PUT == 0 && ENTRY_DELETE == 1 && ENTRY_VALUE_REF == 2, "kinds are on disk");
_Static_assert(PROPERTIES_MAX <= BLOCK_BYTES_MAX, "properties are a block");
_Static_assert(ENTRY_KIND_MAX <= ENTRY_KIND_MASK, "a kind has its bits");
_Static_assert(BLOCK_TARGET <= UINT16_MAX, "restarts are offsets of 16 bits");
_Static_assert(BLOCK_TARGET == 4096 && FILTER_PAGE == 4096 && KV_RECORD_MAX == 17039360 && KV_VALUE_MAX == 16777216,
               "numbers in doc/formats-tables.md and formats-values.md");
_Static_assert(PROPERTIES_FIXED == 13 * sizeof(uint64_t) + 6 * sizeof(uint32_t), "its fields");
_Static_assert(FOOTER_BYTES == 3 * sizeof(uint64_t) + 3 * sizeof(uint32_t) + 12 + 2 * sizeof(uint32_t) + 8,
               "a table's: places, sizes, zeros, version and checksum, magic");

/* ---- checksums, footer, properties: format.c */
uint32_t block_crc(uint64_t file_id, uint64_t offset, const uint8_t *content, size_t size, uint8_t codec);
/* What footers of all kinds of files have in common: version, checksum and magic are their last 16 bytes. */
typedef struct FooterKind {
	const char *what;              /* for messages */
	const char *magic;             /* 8 bytes */
	uint32_t oldest, version;      /* still read, written */
} FooterKind;
void footer_seal(uint8_t out[FOOTER_BYTES], const FooterKind *k);
/* CORRUPT or FOREIGN; `path` for the detail. */
KV_CHECK Status footer_check(const uint8_t in[FOOTER_BYTES], const FooterKind *k, const char *path);
typedef struct Footer {
	uint64_t file_id, root_offset, props_offset;
	uint32_t root_size, index_height, props_size;
} Footer;
void footer_encode(const Footer *f, uint8_t out[FOOTER_BYTES]);
/* CORRUPT or FOREIGN; `path` for the detail. */
KV_CHECK Status footer_decode(const uint8_t in[FOOTER_BYTES], const char *path, Footer *f);
typedef struct Properties {
	TableInfo info;
	Slice smallest, largest;
	Slice shares;                  /* info.value_files of them, encoded */
} Properties;
/* Appended. `shares`: in memory. */
KV_CHECK Status properties_encode(const Properties *p, const ValueShare *shares, Buf *out);
/* False: malformed. Slices are views into `in`; the shares are as long as they should be, no more is known of them. */
KV_CHECK bool properties_decode(Slice in, Properties *out);

/* ---- data blocks: data_block.c */
typedef struct DataBuilder {
	Buf content;                   /* the block, once finished */
	Buf keys, values;              /* entries without values, and values so far */
	Buf last_key;
	struct { uint16_t entry, value; } restarts[RESTARTS_MAX];
	uint32_t nrestarts, entries;
	uint64_t last_version;
} DataBuilder;
/*
 * Bytes that `key` and the key of the last entry (also of the block before) begin with in common: counted once for
 * all who ask.
 */
size_t data_builder_common(const DataBuilder *b, Slice key);
/* Would the block pass BLOCK_TARGET with it? False for an empty block. */
bool data_builder_full(const DataBuilder *b, const Entry *e, size_t common);
KV_CHECK Status data_builder_add(DataBuilder *b, const Entry *e, size_t common);
/* Put the block together in content. */
KV_CHECK Status data_builder_finish(DataBuilder *b);
void data_builder_reset(DataBuilder *b);
void data_builder_free(DataBuilder *b);

/* First entry at or after (key, version) if it has this key. NOT_FOUND, or CORRUPT without a detail. */
KV_CHECK Status data_get(Slice block, Slice key, uint64_t version, Entry *out);

/* A block's parts, inside it once data_view() was true. */
typedef struct DataView {
	const uint8_t *restarts;
	const uint8_t *base, *limit;   /* entries; the values begin at limit */
	const uint8_t *end;            /* of the values */
	uint32_t nrestarts;
} DataView;

/* A place in a data block. false = the block is malformed (bounds, not checksums). */
typedef struct DataCursor {
	DataView view;
	uint32_t limit;                /* bytes of the entries */
	uint32_t at, next;             /* offsets of the current entry and the one after; at == limit: none */
	uint32_t value_next;           /* offset among the values of the next entry's */
	Buf key;
	Entry entry;                   /* key points to this->key */
	bool out_of_memory;            /* why a call gave false */
} DataCursor;
KV_CHECK bool data_cursor_open(DataCursor *c, Slice block);
bool data_cursor_first(DataCursor *c);
bool data_cursor_last(DataCursor *c);
/* at == limit when all entries are before (key, version). */
bool data_cursor_seek(DataCursor *c, Slice key, uint64_t version);
bool data_cursor_next(DataCursor *c);
/* at == limit when there was none before. */
bool data_cursor_prev(DataCursor *c);
void data_cursor_free(DataCursor *c);
static inline bool
data_cursor_valid(const DataCursor *c)
{
	return c->at < c->limit;
}

/* ---- index blocks: index_block.c */
typedef struct BlockHandle {
	uint64_t offset;
	uint32_t size;
} BlockHandle;

typedef struct IndexItem {
	size_t key_at, key_len;        /* in IndexBuilder.keys */
	uint64_t version;
	BlockHandle child;
} IndexItem;

typedef struct IndexBuilder {
	Buf keys, items, content;      /* items: IndexItem[n] */
	uint32_t n;
	size_t prefix, header_bytes;
} IndexBuilder;
/* Bytes of the block with one more item; to be compared with BLOCK_TARGET. */
size_t index_builder_size_with(const IndexBuilder *b, Slice key, uint64_t version, BlockHandle child);
KV_CHECK Status index_builder_add(IndexBuilder *b, Slice key, uint64_t version, BlockHandle child);
/* Into b->content. */
KV_CHECK Status index_builder_finish(IndexBuilder *b);
/* Separator of the last item: the parent's separator for this block. */
Slice index_builder_last(const IndexBuilder *b, uint64_t *version);
void index_builder_reset(IndexBuilder *b);
void index_builder_free(IndexBuilder *b);

typedef struct IndexView {
	const uint8_t *prefix, *heads, *offsets, *items;
	uint32_t n, prefix_len, items_len;
} IndexView;
/* False: malformed. An open view has n >= 1. */
KV_CHECK bool index_open(IndexView *v, Slice block);
/* First item whose separator is at or after (key, version); n if none. False: malformed. */
KV_CHECK bool index_seek(const IndexView *v, Slice key, uint64_t version, uint32_t *i);
/* Start loading item i: its offset, and where it is if all items are about as long. */
void index_prefetch(const IndexView *v, uint32_t i);
bool index_child(const IndexView *v, uint32_t i, BlockHandle *child);
/* Item i's separator: prefix, suffix, version. */
KV_CHECK bool index_item(const IndexView *v, uint32_t i, Slice *suffix, uint64_t *version, BlockHandle *child);
/* Shortest key s with a <= s < b, appended to `out` (REQUIRES a < b). */
KV_CHECK Status index_separator(Slice a, Slice b, Buf *out);

/* ---- filter: filter.c */
uint32_t filter_pages_for(uint64_t keys, uint32_t bits_per_key);
/* pages * FILTER_PAGE zeroed bytes */
void filter_add(uint8_t *pages, uint32_t npages, uint64_t key_hash);
uint32_t filter_page_of(uint32_t npages, uint64_t key_hash);
/* Where in its page the key's line begins. */
uint32_t filter_line_at(uint32_t npages, uint64_t key_hash);
bool filter_probe(const uint8_t *page, uint32_t npages, uint64_t key_hash);

/* ---- compression: codec.c */
/* Pack content (`codec`: one this build has) into *out; *packed is false when it would not save enough. */
KV_CHECK Status codec_pack(uint8_t codec, Slice content, Buf *out, bool *packed);
/*
 * The content, of at most `most` bytes and more than it is packed, into *out. CORRUPT; FOREIGN: this build
 * lacks the codec. The detail names no file.
 */
KV_CHECK Status codec_unpack(uint8_t codec, Slice packed, size_t most, Buf *out);

/* ---- files made of blocks: open ones, files.c */
typedef struct BlockFile BlockFile;
typedef struct BlockKind {
	void (*path)(uint64_t number, char *out, size_t size);
	/* Is the open file the one that is meant? `path` for the detail. */
	Status (*check)(const BlockFile *f, int fd, const char *path);
	size_t unpacked_max;           /* a block's content, if it is compressed */
} BlockKind;
/* What reading blocks must know of the file they are in. A small value, made where it is needed. */
struct BlockFile {
	const BlockKind *kind;
	uint64_t number;               /* in the cache and among open files: unique over all kinds */
	uint64_t file_id, bytes;
	const void *more;              /* for check() */
};
extern const BlockKind table_kind;
static inline BlockFile
table_blocks(const TableInfo *t)
{
	return (BlockFile){ &table_kind, t->number, t->file_id, t->bytes, t };
}
/* Descriptor of the file, checked when it is opened. CORRUPT: it is missing or another one. */
KV_CHECK Status block_file(const BlockFile *f, int *fd);
/* The same check of a file that is not to stay open. */
KV_CHECK Status block_file_check(const BlockFile *f);

/* ---- reading blocks: block_io.c */
typedef enum BlockUse {
	BLOCK_STAY,    /* through the cache: index and filters */
	BLOCK_KEEP,    /* through the cache: what point reads want */
	BLOCK_SCAN,    /* through the cache, first to be replaced */
	BLOCK_PAST     /* past the cache */
} BlockUse;
/* Content of a block: in the cache, or in `own` (reused). */
KV_CHECK Status block_load(const BlockFile *f, BlockHandle h, BlockUse use, Buf *own, Slice *out);
/* The same of a block that was looked for in the cache in vain. */
KV_CHECK Status block_fetch(const BlockFile *f, BlockHandle h, BlockUse use, Buf *own, Slice *out);
/* Content of a block from the file, in `own` (reused). */
KV_CHECK Status block_read(const BlockFile *f, BlockHandle h, Buf *own, Slice *out);
/*
 * The same of bytes read already: `raw` has h.size + BLOCK_TRAILER of them. *out is in `raw`, or in `own` if
 * the block is compressed.
 */
KV_CHECK Status block_open(const BlockFile *f, BlockHandle h, const uint8_t *raw, Buf *own, Slice *out);
/* The same where `own` has those bytes from `at` on; *out is in it. */
KV_CHECK Status block_take(const BlockFile *f, BlockHandle h, size_t at, Buf *own, Slice *out);
/* ---- reading ahead of an iterator: window.c. Zero-initialise; free `bytes`. */
#define WINDOW_MAX (256 * 1024)
typedef struct ReadWindow {
	bool always;                   /* read WINDOW_MAX from the first block on */
	Buf bytes;                     /* of the file, from `at` on */
	uint64_t at;
	BlockHandle last;              /* the block loaded last */
	uint32_t row;                  /* blocks that were read one after the other */
	size_t ahead;                  /* bytes read last time, 0: no more than the block */
} ReadWindow;
/* As block_open(), of a block that is in the window or read into it. */
KV_CHECK Status window_load(ReadWindow *w, const BlockFile *f, BlockHandle h, Buf *own, Slice *out);
/* A block of the walk was in the cache. */
void window_hit(ReadWindow *w);

/* CORRUPT with file and offset. */
Status block_damaged(const BlockFile *f, uint64_t offset, const char *what);
/* The same of a table. */
Status table_damaged(const TableInfo *t, uint64_t offset, const char *what);
/* Children lie before their parents in the table: no cycles whatever the bytes say. */
KV_CHECK Status block_child_check(const TableInfo *t, BlockHandle parent, BlockHandle child);
static inline CacheUse
block_cache_use(BlockUse use)
{
	return use == BLOCK_STAY ? CACHE_STAY : use == BLOCK_KEEP ? CACHE_POINT : CACHE_SCAN;
}
/* May a cached block be the one that `h` names? Compression only makes blocks smaller. */
static inline bool
block_size_fits(Slice cached, BlockHandle h)
{
	return cached.len >= h.size;
}

/* ---- writing a file of blocks: block_out.c */
#define BLOCK_OUT_BUFFER (256 * 1024)
typedef struct BlockOut {
	char path[FS_PATH_MAX], tmp[FS_PATH_MAX];
	uint64_t file_id;
	int fd;
	Buf buffer;                    /* not yet written; begins at file offset `written` */
	uint64_t written;
	Buf packed;                    /* the last block that was compressed */
} BlockOut;
/* Creates path.tmp. Nothing is left to free when it fails. */
KV_CHECK Status block_out_open(BlockOut *o, const char *path, uint64_t file_id);
/* Append a block and its trailer; `content` is as the codec says. */
KV_CHECK Status block_out_write(BlockOut *o, Slice content, uint8_t codec, BlockHandle *h);
/*
 * Append a block, compressed if that pays. Larger blocks than BLOCK_TARGET never are: whoever reads knows from the
 * index how much memory a block takes, at most BLOCK_TARGET if it is compressed.
 */
KV_CHECK Status block_out_pack(BlockOut *o, Slice content, uint8_t codec, BlockHandle *h);
/* Append bytes that are no block. */
KV_CHECK Status block_out_bytes(BlockOut *o, const void *bytes, size_t len);
static inline uint64_t
block_out_length(const BlockOut *o)
{
	return o->written + o->buffer.len;
}
/* Write the rest, sync, rename. If it fails: block_out_abandon(). IO_ERROR of the sync: the data is in doubt. */
KV_CHECK Status block_out_finish(BlockOut *o);
/* Remove the half-made file. */
void block_out_abandon(BlockOut *o);

#endif
