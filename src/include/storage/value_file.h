/*
 * value_file.h - large values, apart from their keys: builder, reader. Format in doc/formats-values.md.
 *
 * A value file is an immutable file of checksummed blocks. Small values share blocks of at most CACHE_BLOCK_MAX
 * bytes, which are cached as those of tables are; a larger value has a block of its own, read past the cache.
 * An entry of kind ENTRY_VALUE_REF has a reference in the place of its value. A file is named by a global
 * random id, so that it is called the same on every node.
 */
#ifndef STORAGE_VALUE_FILE_H
#define STORAGE_VALUE_FILE_H

#include "storage/sstable.h"

#define VALUE_DIR "values"
/* Set in the id of every value file, in no table's number: the cache tells their blocks apart by it. */
#define VALUE_ID_BIT (UINT64_C(1) << 63)
/*
 * A value file ends behind the value that takes it to this or more: it is the unit in which space comes back, and what
 * a compaction has to keep room for before it can let anything go.
 */
#define VALUE_FILE_BYTES (64u * 1048576u)

typedef struct ValueFileInfo {
	uint64_t file_id;
	uint64_t bytes;            /* of the file */
	uint64_t values;
	uint64_t value_bytes;      /* of all values, as users see them */
} ValueFileInfo;

/* ---- references: the bytes of an ENTRY_VALUE_REF's value */
typedef struct ValueRef {
	uint64_t file_id;
	uint64_t offset;           /* of the block */
	uint32_t at;               /* of the value in the block */
	uint32_t length;
} ValueRef;
#define VALUE_REF_MAX (8 + 10 + 5 + 5)
/* Gives the bytes used. */
size_t value_ref_encode(const ValueRef *ref, uint8_t out[VALUE_REF_MAX]);
/* False: malformed, or no reference that value_ref_encode() makes. */
KV_CHECK bool value_ref_decode(Slice in, ValueRef *out);

/* ---- what a table refers to in one value file */
typedef struct ValueShare {
	uint64_t file_id;
	uint64_t values, bytes;    /* not 0; as users see them */
} ValueShare;
#define VALUE_SHARE_BYTES 24
/*
 * Value files a table may refer to: 1 TiB of them. It bounds the properties of a table and its part of the shared
 * heap (384 KiB). At the bound a compaction copies further values into files of its own.
 */
#define VALUE_SHARES_MAX 16384
/* As it stands in the properties of a table and in the manifest: three u64. */
void value_share_encode(const ValueShare *s, uint8_t out[VALUE_SHARE_BYTES]);
/* n shares in `in`, appended to *out as ValueShare[]. CORRUPT, without a detail: out of order or impossible. */
KV_CHECK Status value_shares_decode(const uint8_t *in, uint32_t n, Buf *out);
/* Count one more reference in *shares, a ValueShare[]. */
KV_CHECK Status value_shares_count(Buf *shares, const ValueRef *ref);
/* Which of shares[0..n), or where it would go: they are in the order of their ids. */
uint32_t value_share_find(const ValueShare *shares, uint32_t n, uint64_t file_id);

/* ---- writing (one process, its own memory) */
typedef struct ValueBuilder ValueBuilder;
/* Creates values/<id>.kvv.tmp. codec: of blocks with small values, one that is built in. */
KV_CHECK Status value_builder_open(uint64_t file_id, TableCodec codec, ValueBuilder **out);
/* value: 1 to KV_VALUE_MAX bytes. A failed builder is only to be abandoned. */
KV_CHECK Status value_builder_add(ValueBuilder *b, Slice value, ValueRef *out);
/* File bytes written and buffered so far. */
uint64_t value_builder_bytes(const ValueBuilder *b);
/*
 * Write the rest, sync the file, rename it into place; the caller syncs the directory before a manifest names it.
 * Frees the builder whatever the result, and removes the file unless it is OK. REQUIRES a value in it. After
 * IO_ERROR of the sync the data is in doubt: stop the node.
 */
KV_CHECK Status value_builder_finish(ValueBuilder *b, ValueFileInfo *out);
/* Remove the half-made file; frees the builder. */
void value_builder_abandon(ValueBuilder *b);

/* ---- reading (any process). REQUIRES an epoch pin throughout, but for opt.read_ahead. */
/*
 * In steps, as TableLookup: begin, step until it is false; then status and value. CORRUPT, never NOT_FOUND.
 * Zero-initialise once.
 */
typedef struct ValueLookup {
	Status status;
	bool in_own;               /* the value lies in `own`, not in the cache; it may be taken from here */
	Slice value;
	uint32_t past;             /* as TableLookup's */
	uint8_t stage;
	ValueRef ref;
	CacheProbe probe;
	Buf own;
} ValueLookup;
void value_lookup_begin(ValueLookup *l, Slice ref);
bool value_lookup_step(ValueLookup *l);
/* Free what it has; begin may follow. A value that was taken out of `own` is its taker's. */
void value_lookup_end(ValueLookup *l);

/*
 * One value after another, for whoever walks over entries: a block read past the cache serves all references into
 * it that follow. Zero-initialise; buf_free(&r.own) in the end.
 */
typedef struct ValueReader {
	Buf own;
	uint64_t file_id, offset;  /* of the block in `own`; 0: none */
	Slice block;
} ValueReader;
/* *out stays valid until the next call, and no longer than the pin. opt.read_ahead: past the cache. */
KV_CHECK Status value_read(ValueReader *r, Slice ref, TableIterOptions opt, Slice *out);

/* ---- files */
/* Of the file, in the directory below; out: FS_PATH_MAX bytes are enough. */
void value_path(uint64_t file_id, char *out, size_t size);
/* Where this process looks for value files ("values" unless said). dir is not copied. */
void value_files_dir(const char *dir);
/* As table_file_check(): size and footer against *said. CORRUPT, FOREIGN. */
KV_CHECK Status value_file_check(const ValueFileInfo *said);
/* Every checksum, and what the footer counts against *said. CORRUPT, FOREIGN. `progress` may be NULL. */
KV_CHECK Status value_file_verify(const ValueFileInfo *said, void (*progress)(void *arg, uint64_t bytes),
                                  void *arg);

#endif
