/*
 * lsm_internal.h - what the files of this room share: edits, Versions, the manifest, picking.
 */
#ifndef LSM_INTERNAL_H
#define LSM_INTERNAL_H

#include <stdatomic.h>

#include "common/bytes.h"
#include "common/figure.h"
#include "storage/lsm.h"
#include "storage/manifest.h"

#define LSM_TABLES_DIR TABLE_DIR
#define LSM_LIST_NUMBER 0 /* of the manifest that is a list for another node */
/* 10 bits a key: about 1 % of the reads of an absent key go to the table. */
#define LSM_FILTER_BITS 10
#define LSM_GET_AHEAD 8 /* tables whose filters a read of one key lets come at once; more would push each other out */
/*
 * A table may overlap about this many tables' worth of bytes in the level below it: that bounds what it
 * costs to compact it further. What would overlap more is not moved there, and outputs are cut before they
 * do.
 */
#define GRANDPARENT_TABLES 10

/* In shared memory: made by lsm_shmem_init(), read by anyone. */
typedef struct LsmShared {
	/* Compaction worker writes, anyone reads: figures. */
	_Atomic uint64_t flushes, flush_bytes, compactions, bytes_in, bytes_out, trivial_moves, files_deleted;
	_Atomic uint64_t rewrites, range_tables, range_bytes, range_entries, ranges_retired, relocated_bytes;
	/* By level: bytes that came from shallower ones (level 0: from memory), also moved; bytes of tables written. */
	_Atomic uint64_t level_in[LSM_LEVELS], level_written[LSM_LEVELS];
	_Atomic uint64_t level0_out;       /* bytes of tables that left level 0 */
	/* The compaction under way; running_total 0: none. */
	_Atomic uint32_t running_level, running_level0;
	_Atomic uint64_t running_done, running_total, running_out;
	/* Any reader adds, many at once. */
	_Alignas(64) _Atomic uint64_t level_reads[LSM_LEVELS];
	/* lsm_open() writes, lsm_writer_open() reads; the processes follow each other. */
	uint64_t next_number;      /* table files */
	uint64_t manifest_number;
} LsmShared;
extern LsmShared *lsm_shared;

/* ---- edits: the difference between two Versions. Zero-initialise. */
typedef struct EditAdd {
	uint32_t level;
	Table *table;
} EditAdd;
typedef struct EditDelete {
	uint32_t level;
	uint64_t number;
} EditDelete;
typedef struct Edit {
	Buf adds;                  /* EditAdd[] */
	Buf deletes;               /* EditDelete[]; take effect before the adds */
	Buf values;                /* ValueFile *[]: new ones, each referred to by a table that it adds */
	bool has_state;
	LsmState state;
	Buf range_adds;            /* RangeDelete[], by version, all newer than those there; keys are the caller's */
	Buf range_drops;           /* uint64_t[]: their versions */
	uint64_t oldest;           /* smallest snapshot anyone may read; 0: not known */
	uint64_t ranges_applied;   /* of the tables it adds */
} Edit;

KV_CHECK Status edit_add(Edit *e, uint32_t level, Table *t);
KV_CHECK Status edit_delete(Edit *e, uint32_t level, uint64_t number);
static inline const EditAdd *
edit_adds(const Edit *e, size_t *n)
{
	*n = e->adds.len / sizeof(EditAdd);
	return (const EditAdd *) (const void *) e->adds.data;
}
static inline const EditDelete *
edit_deletes(const Edit *e, size_t *n)
{
	*n = e->deletes.len / sizeof(EditDelete);
	return (const EditDelete *) (const void *) e->deletes.data;
}
KV_CHECK Status edit_add_values(Edit *e, ValueFile *f);
static inline ValueFile *const *
edit_values(const Edit *e, size_t *n)
{
	*n = e->values.len / sizeof(ValueFile *);
	return (ValueFile *const *) (const void *) e->values.data;
}
void edit_free(Edit *e);

/* ---- range deletions of a Version: range_set.c */
struct RangeSet {
	uint32_t n;
	uint32_t refs;             /* Versions; who makes Versions */
	size_t key_bytes;
	const RangeDelete *list;   /* [n], by version */
	/* Fragment i: keys in [bounds[i], bounds[i + 1]); its versions, newest first: from versions[first[i]] on. */
	uint32_t nbounds;
	const Slice *bounds;
	const uint32_t *first;     /* [nbounds + 1] */
	const uint64_t *versions;
};
/*
 * Copies all it needs into the shared heap; one reference. n 0: *out is NULL. oldest: no snapshot below will ask.
 * NO_SPACE, OUT_OF_MEMORY.
 */
KV_CHECK Status range_set_make(const RangeDelete *list, uint32_t n, uint64_t oldest, RangeSet **out);
/* Give a reference back. NULL is allowed. */
void range_set_drop(RangeSet *s);
/* Newest version < snapshot over key, and how far around key that holds. */
void range_set_cover(const RangeSet *s, Slice key, uint64_t snapshot, Cover *narrow);
/* REQUIRES v->ranges. If e, found below snapshot, is hidden it becomes a tombstone. */
void lsm_hide(const Version *v, uint64_t snapshot, Entry *e);

/* ---- Versions: version.c. NO_SPACE: the shared heap is full. */
/* A Table without references. shares: info->value_files of them. */
KV_CHECK Status version_table(const TableInfo *info, Slice smallest, Slice largest, const ValueShare *shares,
                              Table **out);
/* A ValueFile without references. */
KV_CHECK Status version_value_file(const ValueFileInfo *info, ValueFile **out);
/* base (NULL: empty) with the edit, holding a reference on each of its tables. */
KV_CHECK Status version_make(const Version *base, const Edit *e, Version **out);
/* Level order; in level 0 version order where keys are shared. Status CORRUPT names what is wrong. */
KV_CHECK Status version_check(const Version *v);
/* The same of two tables that follow each other in a level. */
KV_CHECK Status version_check_order(uint32_t level, const Table *a, const Table *b);
/* The failure of an allocation in the shared heap. */
KV_CHECK Status heap_full(void);
/* Free it; each table and value file that nobody names any more is given to the one who frees it. */
void version_drop(Version *v, void (*dead)(Table *t), void (*dead_values)(ValueFile *f));
/* lsm_level0_depth() of the tables [first, first + n) of level 0. */
uint32_t version_level0_depth(const Version *v, uint32_t first, uint32_t n);
/* First table of a sorted run whose largest key is >= key; n if none. */
uint32_t version_find(Table *const *tables, uint32_t n, Slice key);
/*
 * Replicated state that users do not see (sessions above all) is written with each memtable, and its keys come before
 * all others. A table of both would reach from there to the newest of users' keys, share keys with every other, and
 * tables of an ascending load would be merged for the sake of some session slots: so the two are never in one.
 */
static inline bool
is_system_key(Slice key)
{
	return key.data[0] == KEYSPACE_SYSTEM;
}

static inline bool
tables_share_keys(const Table *a, const Table *b)
{
	return slice_cmp(a->smallest, b->largest) <= 0 && slice_cmp(b->smallest, a->largest) <= 0;
}

static inline bool
table_covers(const Table *t, Slice key)
{
	return slice_cmp(t->smallest, key) <= 0 && slice_cmp(key, t->largest) <= 0;
}

/* ---- the values of a Version: version_values.c */
/* Most entries that the list may have. */
size_t version_values_room(const Version *base, const Edit *e);
/* Make the list in `room`, and hold a reference on each file in it. v's tables are there. */
void version_values_fill(Version *v, const Version *base, const Edit *e, LiveValues *room);
/* NULL: it refers to nothing in this file. */
const LiveValues *version_values_find(const Version *v, uint64_t file_id);
/* On disk: the table's file, and the values that it refers to. */
uint64_t table_bytes(const Table *t);
/*
 * So little of it is live that it is worth copying: less than half. Compactions copy values out of such files, and
 * tables get `rewrite` when what that would let go is worth their size.
 */
static inline bool
values_are_few(const LiveValues *l)
{
	return l->bytes < l->file->info.value_bytes - l->bytes;
}

/* ---- writing value files, for flush and compaction: value_writer.c. Zero-initialise, set `edit`. */
typedef struct ValueWriter {
	Edit *edit;                /* gets the files */
	ValueBuilder *builder;     /* NULL: none */
	uint64_t bytes;            /* of files that are finished */
	uint8_t ref[VALUE_REF_MAX];
} ValueWriter;
/* Put e's value into a value file: *e becomes a reference, which lies in w until the next call. */
KV_CHECK Status value_writer_put(ValueWriter *w, Entry *e);
/* All files are finished, in the edit, and directory VALUE_DIR is synced. */
KV_CHECK Status value_writer_finish(ValueWriter *w);
/* Remove the file that is not finished; the others are the edit's. */
void value_writer_abandon(ValueWriter *w);

/* VALUE_FILE_BYTES; tests make it smaller. */
extern uint64_t value_file_bytes;

/* ---- values in a compaction: value_gc.c. Zero-initialise. */
typedef struct ValueGc {
	Buf victims;               /* uint64_t[]: file ids in order; values are copied out of them */
	ValueReader reader;
	ValueWriter out;
	uint64_t relocated;        /* bytes */
	bool left_out;             /* there would be more victims, but not so much room */
} ValueGc;
/* room: bytes of values that may be copied. */
struct Pick;
KV_CHECK Status value_gc_begin(ValueGc *g, const Version *base, const struct Pick *p, uint64_t room, Edit *edit);
/* An entry that goes into table b: copy its value if it lies in a victim, or b refers to too many files. */
KV_CHECK Status value_gc_entry(ValueGc *g, const TableBuilder *b, Entry *e);
/* Does b refer to so many files that the output has to end at the next key? */
bool value_gc_full(const TableBuilder *b);
KV_CHECK Status value_gc_finish(ValueGc *g);
/* After a failure value_writer_abandon(&g->out) first. */
void value_gc_free(ValueGc *g);
/*
 * A compaction takes no further victims once it has so many bytes to copy out of those it has; one in any case. It
 * bounds how long all others wait for it. Tests make it smaller.
 */
#define VALUE_COPY_BYTES (UINT64_C(1) << 30)
extern uint64_t value_gc_copy_max;
/*
 * A table in the making refers to at most value_gc_shares_max files from which nothing is copied; the room up to
 * VALUE_SHARES_MAX is for the files that this compaction writes. When half of that is used (value_gc_shares_end) the
 * output ends at the next key; the other half, 32 GiB of values, is for versions of one key, which are never parted.
 * Tests make both smaller.
 */
#define VALUE_SHARES_OWN 1024
extern uint32_t value_gc_shares_max, value_gc_shares_end;

/* ---- the manifest: manifest.c (writing); reading it is storage/manifest.h */
#define MANIFEST_MAGIC "KVDMANIF"
#define MANIFEST_FORMAT 2u
#define MANIFEST_HEADER 40
#define MANIFEST_RECORD_HEADER 8
_Static_assert(sizeof MANIFEST_MAGIC - 1 == 8 && MANIFEST_HEADER == 8 + 2 * sizeof(uint64_t) + 4 * sizeof(uint32_t),
               "magic; number, bytes of the list; format, zeros twice, checksum");
_Static_assert(MANIFEST_RECORD_HEADER == 2 * sizeof(uint32_t), "checksum, length");
_Static_assert(LSM_LEVELS <= UINT8_MAX, "a level is a byte");
/* A manifest is written anew when its edits outgrow this and the list of tables it began with. */
#define MANIFEST_ROTATE_BYTES (1024 * 1024)

typedef struct Manifest {
	int fd;                    /* -1: not open */
	uint64_t number;
	uint64_t base;             /* bytes of the list it began with */
	uint64_t length;           /* bytes in effect; the next record goes here */
	bool broken;               /* a write is in doubt: nothing more goes in */
} Manifest;

void manifest_path(uint64_t number, char *out, size_t size);
/* crc32c of a record at `offset`: covers manifest number, offset, length and body. */
uint32_t manifest_crc(uint64_t number, uint64_t offset, Slice body);
uint32_t manifest_header_crc(const uint8_t header[MANIFEST_HEADER]);
/*
 * Write all of v to a new file, not synced. *m (fd -1 if there is none) gets it, also after a failure:
 * close it.
 */
KV_CHECK Status manifest_write(Manifest *m, const char *path, uint64_t number, const Version *v, uint64_t next_number);
/* Write MANIFEST-<number> with all of v, sync it and name it in CURRENT; *m (fd -1) gets it. */
KV_CHECK Status manifest_create(Manifest *m, uint64_t number, const Version *v, uint64_t next_number);
/* Append an edit, synced. After a failed sync every later call fails. */
KV_CHECK Status manifest_append(Manifest *m, const Edit *e, uint64_t next_number);
KV_CHECK Status manifest_close(Manifest *m);
/*
 * Of those listed (ValueFileInfo[]) the image gets those that its tables refer to. CORRUPT, without a detail: a
 * malformed share, a file that is not listed or is listed twice, more referred to than is in it.
 */
KV_CHECK Status manifest_values_settle(ManifestImage *img, const Buf *listed);

/* ---- picking: lsm_pick.c, pure */
typedef struct Pick {
	bool any;
	bool trivial;              /* only move: nothing below overlaps */
	uint32_t out_level;        /* that of the only input: it is rewritten in place */
	uint32_t idle;             /* 0: it is due; n: number n, from 1 on, of pick_idle() */
	bool for_values;           /* it gains only if values are copied out of a file of which few is live */
	/* Inputs: tables [first, first + n) of each level. Of level 0: the oldest ones. */
	uint32_t first[LSM_LEVELS], n[LSM_LEVELS];
} Pick;
typedef struct PickConfig {
	uint64_t l0_trigger, level_ratio;
	uint64_t level_base;       /* bytes that a compaction of level 0 brings, about */
	uint64_t table_size;
	uint64_t l0_bytes;         /* at most so much of level 0 at once, but l0_trigger tables in any case */
} PickConfig;
PickConfig pick_config(void);
/* What sizes the levels should have, from those they have. */
typedef struct LevelPlan {
	uint32_t base;               /* where level 0 goes, once the levels before it are empty */
	double target[LSM_LEVELS];   /* bytes; 0 before base; the last level's is the size of the largest */
	double entry_bytes;          /* of an entry that is no tombstone, on average */
} LevelPlan;
void pick_levels(const PickConfig *c, const Version *v, LevelPlan *out);
/* From 1 on a level is due. */
double pick_score(const PickConfig *c, const Version *v, uint32_t level);
/* oldest: as in LsmCompactOptions; only what is put off until snapshots have gone depends on it. */
Pick pick_compaction(const PickConfig *c, const Version *v, uint64_t oldest);
/* What is done when nothing is due: tables that are written anew where they are, but for the first `skip` of them. */
Pick pick_idle(const Version *v, uint64_t oldest, uint32_t skip);
/* Everything into the last level; the next step on the way there. */
Pick pick_all(const Version *v);
Pick pick_down(const PickConfig *c, const Version *v, const LsmDown *down);

/* ---- where an output ends: lsm_cut.c, pure */
typedef struct OutputCut {
	Table *const *below;       /* tables of the next level that has any, below that of the output */
	uint32_t n, i;             /* those before i lie before the last key */
	uint64_t table_size;
	uint64_t overlapped;       /* bytes of `below` that the output has passed */
	bool system;               /* so is the last key */
} OutputCut;
OutputCut output_cut(const PickConfig *c, const Version *v, uint32_t out_level);
/*
 * Keys of one level's outputs in order, each once: should the output, of `bytes` so far, end before this one?
 * bytes 0: there is none yet.
 */
bool output_ends(OutputCut *o, Slice key, uint64_t bytes);

/* ---- iterators over a sorted run of tables: level_iter.c */
KV_CHECK Iter *level_iter(Table *const *tables, uint32_t n, TableIterOptions opt);
/* The same for lsm_iter_through(). */
KV_CHECK Iter *level_iter_through(Table *const *tables, uint32_t n, TableIterOptions opt, const RangeView *view);
/* Is all of the table hidden by range deletions newer than anything in it? */
bool table_hidden(const Table *t, const RangeView *view);

/* ---- estimates: lsm_estimate.c */
/* Places in tables that one call looks up, at most. Tests make it smaller. */
#define ESTIMATE_LOOKUPS 1024
extern uint32_t estimate_lookups_max;

/* ---- the writer: writer.c */
typedef struct Writer {
	Version *current;          /* newest, given to the caller; NULL: not open */
	const Version *held;       /* a compaction reads it: lsm_collect leaves it */
	Version *retired;          /* newest first */
	Manifest manifest;
	uint64_t next_number;
} Writer;
extern Writer lsm_writer;

/* Make the edit the newest Version: shared heap, manifest (synced), then current. */
KV_CHECK Status writer_install(const Edit *e);
/* A builder for the next table number, for a table of this level. */
KV_CHECK Status writer_builder(uint32_t level, uint64_t expected_entries, TableBuilder **out);
/* Finish it as a Table in the edit; without effect on files when it fails. */
KV_CHECK Status writer_finish(TableBuilder *b, Edit *e, uint32_t level, uint64_t *bytes);
/*
 * Range deletions below this have been applied to what a flush or compaction writes: those that no snapshot tells apart
 * and that are in the list of its Version. Newer ones may still be in memtables, although every snapshot sees them.
 */
uint64_t ranges_applied_by(uint64_t oldest, uint64_t flushed);
/* A failure is only logged: the next start removes what nothing names. */
void writer_remove_file(const char *path);
/* An edit that is not installed: remove the files it would have added, and the tables. */
void writer_abandon(Edit *e);
/* Compaction of a pick (not trivial): compact.c. */
KV_CHECK Status compact_run(const Pick *p, const LsmCompactOptions *opt, bool above);
/*
 * For a pick of one table with its own level as out_level: what would come of leaving out what newer versions in
 * shallower levels hide; compact_run(above) does it.
 */
typedef struct ReclaimPlan {
	uint64_t seen, kept;       /* bytes of the table's entries: all, and those that stay */
	uint64_t values;           /* bytes in value files that it would not refer to any more */
} ReclaimPlan;
KV_CHECK Status compact_hidden(const Pick *p, const LsmCompactOptions *opt, ReclaimPlan *out);

/*
 * Which versions of a key go on: fed in entry order. `oldest` as in LsmCompactOptions.
 */
typedef struct KeepRule {
	uint64_t oldest;
	Buf key;                   /* of the entry before */
	bool started;
	bool covered;              /* a version < oldest of this key went by: older ones are invisible */
	/* What a range deletion older than `oldest` hides is dropped. NULL: none. */
	const RangeSet *ranges;
	Cover cover;               /* around the key */
	uint64_t hidden;           /* entries dropped for that */
} KeepRule;
typedef enum Keep { KEEP, KEEP_NEWEST_BELOW, DROP } Keep;
/*
 * KEEP_NEWEST_BELOW: what every snapshot that old sees; if it is a tombstone it may go if nothing is below
 * it.
 */
KV_CHECK Status keep_rule(KeepRule *r, const Entry *e, Keep *out, bool *new_key);

#endif
