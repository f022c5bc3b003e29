/*
 * lsm.h - the list of tables by level, its manifest, flush and leveled compaction.
 *
 * A Version is an immutable list of tables in the shared heap. The compaction worker is the only
 * process that makes new ones and writes the manifest; everybody reads them under an epoch pin.
 * kvstore publishes a Version to readers together with the memtables (one pointer, rule A5);
 * a replaced Version is retired with an epoch and freed by lsm_collect().
 */
#ifndef STORAGE_LSM_H
#define STORAGE_LSM_H

#include <stddef.h>
#include <stdint.h>

#include "storage/entry.h"
#include "storage/range.h"
#include "storage/sstable.h"
#include "storage/value_file.h"

#define LSM_LEVELS 7
#define LSM_BATCH_MAX 64     /* keys of one lsm_get_many(): their values are kept together */
/*
 * Bytes of values that one batch may keep outside the cache, besides the first key's: one largest value, so
 * that a batch of large ones costs a process no more than two.
 */
#define LSM_BATCH_BYTES (KV_VALUE_MAX + 65536)

typedef struct Table {
	TableInfo info;
	Slice smallest, largest;     /* internal keys, inclusive; in the shared heap */
	const ValueShare *values;    /* [info.value_files] by file id: what it refers to; in the shared heap */
	_Atomic uint32_t refs;       /* Versions that name it; compaction worker only */
	/*
	 * It holds something to purge that no compaction would come by: rewritten in place, alone, when nothing else is
	 * due. Compaction worker only. Set only if rewriting it now would purge that, or it is rewritten for ever.
	 */
	bool rewrite;
	bool rewrite_ranges;         /* a range deletion is one reason: it gains also where no values are copied */
} Table;

typedef struct RangeSet RangeSet;
/* A value file; in the shared heap. */
typedef struct ValueFile {
	ValueFileInfo info;
	_Atomic uint32_t refs;       /* Versions that name it; compaction worker only */
} ValueFile;
/* What a Version's tables refer to in one. The rest of it is dead. */
typedef struct LiveValues {
	ValueFile *file;
	uint64_t values, bytes;      /* not 0 */
} LiveValues;

typedef struct Version {
	uint64_t number;             /* 1, 2, ... */
	uint64_t flushed;            /* log records below this LSN are in tables */
	uint64_t flushed_term;       /* term of the record before `flushed` (rule L9) */
	uint64_t flushed_time;       /* log time reached at `flushed` */
	uint32_t ntables[LSM_LEVELS];
	Table **tables[LSM_LEVELS];  /* level 0: newest first (by version_max); others: by smallest, disjoint */
	RangeSet *ranges;            /* all range deletions below `flushed` that still hide something; NULL: none */
	uint64_t bytes[LSM_LEVELS];  /* of the tables, without the values that they refer to */
	uint32_t nvalues;
	LiveValues *values;          /* by file id */
	uint64_t retire_epoch;       /* compaction worker: set when replaced */
	struct Version *next_retired;
} Version;

typedef struct LsmStats {
	uint64_t flushes, flush_bytes;
	uint64_t compactions, compact_bytes_in, compact_bytes_out, trivial_moves, rewrites;
	/* By level: bytes that came from shallower ones, moved ones too; bytes of tables written there. */
	uint64_t level_in[LSM_LEVELS], level_written[LSM_LEVELS];
	uint64_t level0_out;         /* bytes of tables that left level 0 */
	uint64_t level_reads[LSM_LEVELS]; /* tables of each that point reads asked, about */
	uint64_t files_deleted;
	uint64_t range_tables, range_bytes; /* dropped whole, without being read, and their bytes */
	uint64_t range_entries;             /* dropped by flush and compaction */
	uint64_t ranges_retired;            /* range deletions that hid nothing any more */
	uint64_t relocated_bytes;    /* of values that were copied out of value files */
} LsmStats;
/* Value files of a Version. */
typedef struct LsmValueStats {
	uint64_t files, bytes;       /* of the files */
	uint64_t live_bytes;         /* of values that tables refer to */
} LsmValueStats;

/* ---- start (replay process) */
/* Make the empty manifest of a new data directory (and directory "tables"). Synced. */
KV_CHECK Status lsm_create(uint64_t first_lsn);
/* Bytes of shared memory for its figures: tables and lists of them are in the shared heap (ipc/shheap.h). */
size_t lsm_shmem_size(void);
/* Postmaster, before fork; zeroes it. */
void lsm_shmem_init(void *mem);
/*
 * Read the manifest, check that its files are there and are those that are meant (size and footer, one read a file),
 * build the Version in the shared heap. CORRUPT; FOREIGN: the manifest or a file is of a newer kvd.
 */
KV_CHECK Status lsm_open(Version **out);

/* ---- readers, under a pin */
/*
 * Newest version < snapshot, tombstones included; what is hidden by a range deletion is given as a tombstone
 * of that one's version. NOT_FOUND (without a detail), OK or a failure. Slices stay valid until the pin ends; a value
 * that the cache did not take (see table_get()) until the next lsm_get().
 */
KV_CHECK Status lsm_get(const Version *v, Slice key, uint64_t snapshot, Entry *out);
/*
 * The same for keys[0..n), n <= LSM_BATCH_MAX (asserted), at once: st[i], and out[i] where it is OK. Gives
 * how many keys, from the first, were answered: all, unless large values outside the cache would pass
 * LSM_BATCH_BYTES; at least one if n > 0. What is beyond them in out and st is scratch. The detail of a
 * failure is that of some key: for a certain one's, lsm_get() it. Slices stay valid until the pin ends, the
 * next lsm_get_many() or lsm_batch_end().
 */
int lsm_get_many(const Version *v, const Slice *keys, int n, uint64_t snapshot, Entry *out, Status *st);
/* Free what the last batch keeps outside the cache. */
void lsm_batch_end(void);
/*
 * Merged over all tables, every version of every key, also of those that a range deletion hides. Values elsewhere are
 * references: value_read() them.
 */
KV_CHECK Iter *lsm_iter(const Version *v, TableIterOptions opt);
/*
 * The same, but what `view` hides may be left out: it does not walk through tables, or parts of them, that are older
 * than a range deletion. The caller still has to look at each entry. The view lives as long as the iterator.
 */
KV_CHECK Iter *lsm_iter_through(const Version *v, TableIterOptions opt, const RangeView *view);
/* The entries of `it` (taken over, also on failure), all older than version `below`, without what `view` hides. */
KV_CHECK Iter *iter_through(Iter *it, uint64_t below, const RangeView *view);
/* How many range deletions are kept beside the tables. */
uint32_t lsm_ranges(const Version *v);
/* How many of them are older than this version; the newest one's version, 0 if there is none. */
uint32_t lsm_ranges_below(const Version *v, uint64_t version);
uint64_t lsm_newest_range(const Version *v);
/* Bytes of their keys; into how many fragments they cut all keys. */
size_t lsm_range_key_bytes(const Version *v);
uint32_t lsm_range_fragments(const Version *v);
/*
 * Under a pin: bytes of tables, and of values elsewhere, that the view hides; of parts of tables an estimate, which may
 * read index blocks, for about a thousand places in all tables together (ESTIMATE_LOOKUPS). Where the view cuts tables
 * in more, what is beyond counts as not hidden.
 */
uint64_t lsm_hidden_bytes(const Version *v, const RangeView *view);
/* What those below snapshot say of key. */
void lsm_cover(const Version *v, Slice key, uint64_t snapshot, Cover *narrow);
/* Merge of n iterators (takes ownership of them, also on failure). Used for memtables over tables. */
KV_CHECK Iter *iter_merge(Iter **sources, int n);
/* A table, or a value file, by its id. */
bool lsm_version_has(const Version *v, uint64_t number);
/* Tables of level 0 that a key may have to be looked for in, about: the larger number of both keyspaces'. */
uint32_t lsm_level0_depth(const Version *v);
/*
 * About what v's tables have in [start, end) (unbounded: from start on; else start < end), values elsewhere included.
 * Exact for tables that lie in it wholly. What `view` (NULL: nothing) hides of tables that hold nothing newer does not
 * count. *cuts: at how many places an end of the range, or of what is hidden, cuts a table: each adds an error of up to
 * a block of disk_bytes, and of what stands in it. Reads index blocks only, and is bounded: of about a thousand places
 * (*cuts, ESTIMATE_LOOKUPS) on, a table counts wholly unless all of it is hidden.
 */
KV_CHECK Status lsm_estimate(const Version *v, Slice start, Slice end, bool unbounded, const RangeView *view,
							 EntrySum *sum, uint32_t *cuts);

/* ---- the writer (compaction worker only): keeps the newest Version itself */
/* Take over: start a fresh manifest from *v, delete files no version names. */
KV_CHECK Status lsm_writer_open(Version *v);
typedef struct LsmState {    /* what the manifest remembers besides tables (rule L9) */
	uint64_t flushed, flushed_term, flushed_time;
} LsmState;
/*
 * Write all of `src` as one level-0 table, or two, the system's keys in one of their own; add them and `state` to the
 * manifest (synced), give the new Version.
 * All versions in src are newer than those in tables. Versions superseded below `oldest` are left out.
 * src is not closed. An empty src only moves `state`. A failure changes nothing, except that after a failed
 * sync of the manifest (IO_ERROR) every later call fails, too: the node has to restart.
 */
KV_CHECK Status lsm_flush(Iter *src, const LsmState *state, uint64_t oldest, Version **out);
/*
 * With the range deletions list[0..n), by version, that belong to src: they are kept beside the tables, from the same
 * edit on. What they hide from every snapshot is left out of the table.
 */
KV_CHECK Status lsm_flush_ranges(Iter *src, const RangeDelete *list, uint32_t n, const LsmState *state,
                                 uint64_t oldest, Version **out);
typedef struct LsmCompactOptions {
	uint64_t oldest;     /* smallest snapshot anyone may read: versions >= it and the newest below stay */
	uint64_t now_ms;     /* applied log time: entries that expired by then count as tombstones */
	/*
	 * Called between blocks, may be NULL. It may call lsm_flush() (and publish the result): flushes do not
	 * wait for a long compaction. True: give up now (BUSY, nothing changed).
	 */
	bool (*between)(void *arg);
	void *between_arg;
	/*
	 * NO_SPACE if the inputs together have more bytes; 0: no bound. Values are copied out of files for which there is
	 * room besides; a table with `rewrite` set for them alone waits, NO_SPACE, until there is for one. Of what is not
	 * urgent (`rewrite`, many tombstones) the first that fits is taken.
	 */
	uint64_t room;
} LsmCompactOptions;
/*
 * For a full disk, where compactions find no room for what they merge: leave out of ONE table what newer versions in
 * shallower levels hide from every snapshot (deletes, overwrites), so that space comes back table by table. Looks for
 * a table that gains by it and whose result has at most opt->room bytes (0: no result at all may be written). *out
 * NULL: none was changed; *more: tables are left that this round has not looked at, or that there is room for by now. A
 * round begins anew when more is in tables or old snapshots have gone.
 */
KV_CHECK Status lsm_reclaim(const LsmCompactOptions *opt, Version **out, bool *more);
/* Of all tables. */
uint64_t lsm_bytes(const Version *v);
/* Would lsm_compact() do anything, whatever the oldest snapshot? Pure (lsm_pick.c). */
bool lsm_due(const Version *v);
/* How urgent a level is (from 1 on it is due), and what bringing all to their targets would write. Pure. */
double lsm_score(const Version *v, uint32_t level);
uint64_t lsm_pending_bytes(const Version *v);
/*
 * One compaction, of what is most urgent; of a table with `rewrite` set if nothing is. *out NULL: nothing to
 * do. Otherwise the new Version, to be published, the old one retired.
 */
KV_CHECK Status lsm_compact(const LsmCompactOptions *opt, Version **out);
/*
 * lsm_compact(), lsm_compact_down() and lsm_compact_all() fail alike; *out is NULL then, and the tables are as before
 * but for what between() did. NO_SPACE (no room, or the disk is full), OUT_OF_MEMORY (the process's, or the shared
 * heap's) and BUSY (between() said so) may be tried again. CORRUPT: an input is damaged. IO_ERROR: as with
 * lsm_flush().
 */
/*
 * What range deletions older than `oldest` make superfluous: tables wholly hidden by them go, without being read; so
 * do range deletions that hide nothing more, or nothing that another one does not. With `edges`, tables that keep one
 * of the others from going are to be rewritten (Table.rewrite). *out NULL: nothing to do.
 */
KV_CHECK Status lsm_purge(uint64_t oldest, bool edges, Version **out);
/*
 * Everything there is now into the last level, written anew, step by step: each is a compaction of some tables, between
 * two of them others may go first. *out NULL: nothing is left to do.
 */
typedef struct LsmDown {
	uint64_t flushed;    /* what had been flushed: entries below go down */
	uint64_t number;     /* tables before this one are written anew */
} LsmDown;
LsmDown lsm_down_begin(void);
KV_CHECK Status lsm_compact_down(const LsmCompactOptions *opt, const LsmDown *down, Version **out);
/* The same in one compaction, which takes twice the space: for small trees, and tests. */
KV_CHECK Status lsm_compact_all(const LsmCompactOptions *opt, Version **out);
/*
 * v was replaced for readers (by *out of the above, published): free it and its files when no pin can see it.
 * Each Version given out is retired once, after the next one was published.
 */
void lsm_retire(Version *v);
/* Free what is safe by now; deletes files. */
KV_CHECK Status lsm_collect(void);
/* Anyone, since lsm_shmem_init(), without locks: each figure is right, together they may be a moment apart. */
void lsm_stats(LsmStats *out);
/* Under a pin. */
void lsm_value_stats(const Version *v, LsmValueStats *out);
/* The compaction under way, for figures and for who has to wait for it. Anyone; total 0: there is none. */
typedef struct LsmRunning {
	uint32_t level;        /* where it goes */
	uint32_t level0;       /* tables of level 0 among its inputs, as lsm_level0_depth() counts */
	uint64_t done, total;  /* bytes of entries read, of those to read; values elsewhere count as their references */
	uint64_t out;          /* bytes written to tables and value files */
} LsmRunning;
void lsm_running(LsmRunning *out);

/* ---- tables and value files that go to another node, or have come from one (rule C5) */
typedef struct LsmSum {
	LsmState state;
	uint64_t files, file_bytes;  /* tables and value files */
	uint64_t list_bytes;
} LsmSum;
/*
 * Under a pin, any process: a directory (which is there, and empty) with a second name for each file of v (see
 * lsm_exported_path()), and LSM_LIST, a manifest of them. Nothing is synced: it is to last no longer than the server
 * runs. The files stay, whatever becomes of v.
 */
#define LSM_LIST "LIST"
KV_CHECK Status lsm_export(const Version *v, const char *dir, LsmSum *out);
/* number: of a table, or a value file's id. */
void lsm_exported_path(const char *dir, uint64_t number, char *out, size_t size);
/* Read and check a list that came from another node. CORRUPT, FOREIGN. */
typedef struct LsmList LsmList;
KV_CHECK Status lsm_list_read(const char *path, LsmList **out);
/* May be NULL. */
void lsm_list_free(LsmList *l);
/* Lives as long as the list. */
const LsmSum *lsm_list_sum(const LsmList *l);
typedef struct LsmFile {
	uint64_t number;             /* of a table: that of the node that made the list; of a value file: its id */
	uint64_t file_id;            /* everywhere */
	uint64_t bytes;
} LsmFile;
/* i < files: the tables, then the value files. */
LsmFile lsm_list_file(const LsmList *l, uint64_t i);
/*
 * Here a fetched file is called by its global name until it is installed: <dir>/<file id>.kvt, or .kvv. Check all of it
 * (table_verify(), value_file_verify()) against the list. For a process that reads no other tables meanwhile.
 */
KV_CHECK Status lsm_list_verify(const LsmList *l, uint64_t i, const char *dir,
                                void (*progress)(void *arg, uint64_t bytes), void *arg);
void lsm_fetched_path(const char *dir, const LsmFile *f, char *out, size_t size);
/*
 * The tables of a list, from dir, take the place of all there are: one switch of CURRENT. Replay process, before
 * lsm_open(). First a plan, which names what is new and which the caller keeps; then lsm_install(), which can be cut
 * off anywhere and done again with the same plan.
 */
typedef struct LsmPlan {
	uint64_t manifest, first_table;
} LsmPlan;
KV_CHECK Status lsm_install_plan(LsmPlan *out);
KV_CHECK Status lsm_install(const LsmPlan *plan, const LsmList *l, const char *dir);
KV_CHECK Status lsm_installed(const LsmPlan *plan, bool *done);
/* What the manifest in effect says, without opening anything. */
KV_CHECK Status lsm_state_now(LsmState *out);

#endif
