/*
 * sstable.h - immutable sorted tables: builder, reader. Format in doc/formats-tables.md.
 *
 * A table is a file of checksummed blocks: data blocks, filter pages, index blocks (a tree of any
 * height, whose blocks go through the cache like all others), properties, footer. A block's
 * checksum covers the file's random id and its offset, so a misplaced or stale block is damage.
 */
#ifndef STORAGE_SSTABLE_H
#define STORAGE_SSTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "storage/cache.h"
#include "storage/entry.h"

/* What a reader must know of a table; kept in the manifest and, while it lives, in shared memory. */
typedef struct TableInfo {
	uint64_t number;       /* names the file: tables/NNNNNNNNNNNNNNNN.kvt (hex); never reused on this node */
	uint64_t file_id;      /* random, global; seeds every checksum in the file */
	uint64_t bytes;        /* file size */
	uint64_t root_offset;  /* of the index tree */
	uint32_t root_size;
	uint32_t index_height; /* levels of index blocks, >= 1 */
	uint64_t filter_offset;/* first filter page; pages have one fixed size */
	uint32_t filter_pages; /* 0: no filter */
	uint32_t value_files;  /* value files that it refers to */
	uint64_t entries, tombstones, expiring;
	uint64_t key_bytes, value_bytes; /* user bytes; of a value elsewhere its own */
	uint64_t version_min, version_max;
	/* In the manifest only: range deletions below this version hide nothing in it any more. */
	uint64_t ranges_applied;
} TableInfo;

/* ---- compression of data blocks. On disk, and the order of setting `compression`: never renumber. */
typedef enum TableCodec { TABLE_CODEC_NONE = 0, TABLE_CODEC_LZ4 = 1, TABLE_CODEC_ZSTD = 2 } TableCodec;
/* Does this build have it? */
bool table_codec_built(uint32_t codec);
/* BAD_SETTING if not, saying what to build with. */
KV_CHECK Status table_codec_check(uint32_t codec);

/* ---- writing (one process, its own memory) */
typedef struct TableBuilder TableBuilder;
typedef struct TableBuildOptions {
	uint64_t number;
	uint64_t file_id;
	uint32_t filter_bits_per_key; /* 0: none */
	uint64_t expected_entries;    /* a hint; 0 unknown */
	TableCodec codec;             /* of its data blocks, one that is built in */
} TableBuildOptions;

/* Creates tables/N.kvt.tmp. */
KV_CHECK Status table_builder_open(const TableBuildOptions *opt, TableBuilder **out);
/* Entries in strict order, within the bounds of common/limits.h (asserted). The first failure sticks. */
KV_CHECK Status table_builder_add(TableBuilder *b, const Entry *e);
/* What it refers to so far, in the order of ids; valid until the next call. At most VALUE_SHARES_MAX (asserted). */
const struct ValueShare *table_builder_shares(const TableBuilder *b, uint32_t *n);
/* File bytes written and buffered so far. */
uint64_t table_builder_bytes(const TableBuilder *b);
/*
 * Write the rest, sync the file, rename it into place; the caller syncs the directory "tables" before
 * naming it in the manifest. smallest/largest: keys, appended to the Bufs. Frees the builder whatever the
 * result, and removes the file unless it is OK. INTERNAL: no entries. After IO_ERROR of the sync the data
 * is in doubt: stop the node.
 */
KV_CHECK Status table_builder_finish(TableBuilder *b, TableInfo *info, Buf *smallest, Buf *largest);
/* Remove the half-made file; frees the builder. */
void table_builder_abandon(TableBuilder *b);

/* ---- reading (any process). REQUIRES an epoch pin throughout. */
/*
 * Newest version < snapshot (tombstones count). NOT_FOUND (without a detail), OK or a failure. out->key is
 * the slice given. out->value stays valid until the pin ends, but no longer than the next table_get() of
 * this process: a block that the cache could not take (too large, or all frames pinned) lies in a buffer
 * that is reused. *out is scratch unless OK.
 */
KV_CHECK Status table_get(const TableInfo *t, Slice key, uint64_t snapshot, Entry *out);
/*
 * False: key is certainly not there; table_get() does not ask this itself. key_hash: table_key_hash(key),
 * computed once for many tables. Damage or I/O failure counts as maybe (it is the read that reports).
 */
bool table_may_contain(const TableInfo *t, Slice key, uint64_t key_hash);
uint64_t table_key_hash(Slice key);
/*
 * Both in steps, for a process that has other lookups to go on with while memory answers. Zero-initialise
 * once; begin; step until it is false; then status and entry are what table_get() gives (NOT_FOUND when the
 * filter says so), the bytes of the value being on their way. All under one pin; `info` and `key` stay as
 * they are.
 */
typedef struct TableLookup {
	/* result */
	Status status;
	bool in_own;           /* the value lies in `own`, not in the cache; it may be taken from here */
	Entry entry;
	/* of use between steps: bytes (more than a cache block) that the next one may read into `own`; else 0 */
	uint32_t past;
	/* get.c's */
	uint8_t stage;
	uint32_t level;        /* index levels below and with the block looked at; 0: it is a data block */
	uint32_t size;         /* the block: size, offset, and in the cache */
	uint64_t offset;
	CacheProbe probe;
	Slice block;           /* an index block whose item is on its way */
	uint32_t item;
	const TableInfo *info;
	Slice key;
	uint64_t hash, version;
	Buf own;               /* a block that is not in the cache; kept for the next lookup */
} TableLookup;
/* key_hash: table_key_hash(key). Starts with the filter. */
void table_lookup_begin(TableLookup *l, const TableInfo *t, Slice key, uint64_t key_hash, uint64_t snapshot);
/* Go on to the next likely cache miss. A block that is not in the cache is read at once. */
bool table_lookup_step(TableLookup *l);
/* Free what it has; begin may follow. */
void table_lookup_end(TableLookup *l);
typedef struct TableIterOptions {
	bool fill_cache;     /* put blocks read into the cache (low priority) */
	bool read_ahead;     /* compaction: read in large pieces past the cache */
} TableIterOptions;
/* NULL with status_detail(): out of memory or unreadable. `t` must outlive it. */
KV_CHECK Iter *table_iter(const TableInfo *t, TableIterOptions opt);
/* Approximate file offset of key: for estimates of range sizes. */
KV_CHECK Status table_offset_of(const TableInfo *t, Slice key, uint64_t *offset);

/* ---- whole-file checks */
/*
 * Is the file there, by its size and its footer the one that is meant, and of a format that this kvd reads? One read.
 * CORRUPT, FOREIGN.
 */
KV_CHECK Status table_file_check(const TableInfo *t);
/*
 * Read the footer and properties of a file (offline tools, orphans); keys are appended to the Bufs.
 * NOT_FOUND: no such file. FOREIGN: a newer format. info->number is the number given.
 */
KV_CHECK Status table_read_info(uint64_t number, TableInfo *info, Buf *smallest, Buf *largest);
/* The value files that a file's properties name: ValueShare[], appended. As table_read_info(). */
KV_CHECK Status table_read_shares(uint64_t number, Buf *out);
/* Every checksum, order, how keys are cut, filter membership, counts against properties. `progress` may be NULL. */
KV_CHECK Status table_verify(const TableInfo *t, void (*progress)(void *arg, uint64_t bytes), void *arg);
/* Data blocks by codec, [TABLE_CODEC_NONE] those that are as they were. For tools: reads the whole index. */
#define TABLE_CODECS 3
KV_CHECK Status table_count_codecs(const TableInfo *t, uint64_t blocks[TABLE_CODECS]);

/* ---- this process's open files */
/* Close descriptors of tables for which alive() is false; call when the list of tables has changed. */
void table_files_sweep(bool (*alive)(void *arg, uint64_t number), void *arg);
/* Close all of them, those of value files too. They are opened again when they are needed. */
void table_files_close_all(void);
/* How many this process has open: of tables and of value files. */
int table_files_open(void);
#define TABLE_FILES_MAX 256 /* descriptors one process keeps open; least recently used goes */
/* Of the table's file, in the directory below; out: FS_PATH_MAX bytes are enough. */
void table_path(uint64_t number, char *out, size_t size);
/* Where this process looks for table files ("tables" unless said); closes those it has open. dir is not copied. */
#define TABLE_DIR "tables"
void table_files_dir(const char *dir);

#endif
