/*
 * kvstore.h - the engine's door: writes go into the log and come back applied, reads see a snapshot.
 *
 * Joins log, memtables and tables. Everything replicated lives in one tree of internal keys
 * (storage/entry.h). Keys passed here are internal keys: keyspace byte first.
 */
#ifndef STORAGE_KVSTORE_H
#define STORAGE_KVSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/control.h"
#include "storage/entry.h"
#include "storage/wal.h"

struct Op;

/* ---- set up */
/* Shared memory of all storage rooms (log, cache, heap, memtables), by the settings in force. */
size_t kvstore_shmem_size(int slots);
/*
 * Postmaster, before fork. The memory may hold anything: what has to be zero is cleared, which is little of it.
 * BAD_SETTING names settings that do not fit together.
 */
KV_CHECK Status kvstore_shmem_init(void *mem, const Control *control);
/* Identity of this data directory and its cluster. */
const Control *kvstore_control(void);
/* Make the log and the manifest of a new data directory (kvd.control is written by the caller). */
KV_CHECK Status kvstore_create(const Control *control);

/* ---- start: replay process */
/* Read the manifest; make the first memtable. After this the compaction worker may run. */
KV_CHECK Status kvstore_open(void);
/*
 * Find the log's end (wal_recover()); cut_damage: rule L5, as wal_recover_damaged(). CORRUPT with damaged_at in
 * kvstore_recovered(): may be called again with cut_damage.
 */
KV_CHECK Status kvstore_recover(bool cut_damage);
/*
 * Apply what is certain: all of it for a cluster of one, else up to max(what tables hold, commit hint) (rule A9); the
 * rest is applied when a leader says that it is committed.
 */
KV_CHECK Status kvstore_replay(bool alone);
/* Of the last kvstore_recover(). */
void kvstore_recovered(WalRecovery *out);
/*
 * One record of the log's files, below wal_written(); body in *scratch. For CONFIG records at start. Not
 * for the consensus worker once it runs (rule A3).
 */
KV_CHECK Status kvstore_log_record(Lsn at, Buf *scratch, WalRecord *out);
/*
 * The newest applied CONFIG record: its body and where it stood ([*start, *end)). NOT_FOUND: none ever. It is kept
 * under a key of the system keyspace, so that flush and snapshot carry it (rule A9).
 */
KV_CHECK Status kvstore_config(Buf *body, Lsn *start, Lsn *end);

/* ---- a cluster: consensus worker */
/*
 * commit has moved (wal_set_commit()), or the gate has closed or the log was cut: wake those who apply, or
 * have waited in vain. Takes no lock, reads no file.
 */
void kvstore_commit_moved(void);
/* Keep the log from here on for followers; UINT64_MAX: nobody needs any. Bounded by the setting wal_keep_max. */
void kvstore_keep_log(Lsn from);
/*
 * Any process: keep it from here on while this process serves it (its slot's own hold), until kvstore_release_log().
 * False: it is gone, or about to go, which a hold does not stop; it is set all the same. Not bounded by wal_keep_max:
 * whoever serves ends its clients.
 */
KV_CHECK bool kvstore_hold_log(Lsn from);
void kvstore_release_log(void);
/*
 * Content hash (rule C7). The newest HASH record applied since the start: its LSN, and the log time then; versions
 * below it are kept until kvstore_hash_done(lsn), which every node has to call, or the next one. False: none, or done.
 */
bool kvstore_hash_wanted(Lsn *lsn, uint64_t *log_time);
/*
 * Hash and number of all live entries (both keyspaces) as of the HASH record at lsn: equal on all replicas. Long: calls
 * `between` (may be NULL) outside of reads every now and then; not OK from it ends the walk. Not within a read.
 * SNAPSHOT_GONE: the record is done or there is a newer one.
 */
KV_CHECK Status kvstore_content_hash(Lsn lsn, uint64_t log_time, Status (*between)(void *arg), void *arg,
                                     uint64_t *hash, uint64_t *entries);
void kvstore_hash_done(Lsn lsn);
/*
 * A node without a checker process: this process will hash as of a HASH record that it inserts after this, until it
 * calls kvstore_hash_done(), which it does in any case (0: it has no record). A record that nobody is there for any
 * more, because its process died or gave up before it was applied, the WAL writer lets go.
 */
void kvstore_hash_claim(void);
/* Insert a HASH record (leader). NOT_LEADER, BUSY. */
KV_CHECK Status kvstore_insert_hash(uint32_t generation, Lsn *lsn);

/* ---- writing: backends */
typedef enum Ack { ACK_QUORUM = 0, ACK_LOCAL = 1, ACK_NONE = 2 } Ack; /* on the wire: never renumber */

/*
 * Put `count` operations (body made by op_encode, storage/op.h) into the log as one record and wait until the
 * acknowledgement asked for: QUORUM = applied, LOCAL = durable here, NONE = inserted.
 * generation: wal_generation() as read before anything the request depends on.
 * *version: of the first operation; the i-th has *version + i.
 * NOT_LEADER, NO_SPACE, BATCH_TOO_LARGE, TIMEOUT (no room within timeout_ms): certainly not applied.
 * OUTCOME_UNKNOWN: inserted, but not agreed within timeout_ms, or within an election timeout after the gate had
 * closed, or cut off.
 * The record is applied as a whole; conditions are evaluated at apply (see kvstore_outcome()).
 */
KV_CHECK Status kvstore_write(uint32_t generation, const Buf *body, uint32_t count, Ack ack, int timeout_ms,
                              bool deletes_only, uint64_t *version);
/*
 * As kvstore_write() up to the insertion; for a reply that is left to the WAL writer (ipc/delegate.h), wanted at *end.
 */
KV_CHECK Status kvstore_insert(uint32_t generation, const Buf *body, uint32_t count, int timeout_ms,
                               bool deletes_only, Lsn *start, Lsn *end);
/*
 * Before inserting n more range deletions with so many bytes of keys. BUSY: as many as are kept have not been worked
 * off yet: that happens as snapshots older than them go (snapshot_retention), and tables are written anew. What is in
 * the log already is not counted, and other nodes may have more of them: the bound leaves room for that.
 */
KV_CHECK Status kvstore_admit_ranges(uint32_t n, size_t key_bytes);
/* The bounds: how many, and bytes of keys. They depend on metadata_size. */
#define KVSTORE_RANGES_MAX 1024 /* in any case: they are sorted anew with each memtable that brings some */
uint32_t kvstore_ranges_max(void);
size_t kvstore_range_bytes_max(void);
/* Are writes refused for lack of disk space (disk_reserve)? A hint. */
bool kvstore_no_space(void);
/* Is somebody flushing the log right now? A hint. */
bool kvstore_flush_busy(void);
/*
 * Before kvstore_write() with conditions, and until the outcomes are read: keep versions from here on
 * (rule A8).
 * Released by kvstore_end_read() or kvstore_release().
 */
void kvstore_hold(void);
void kvstore_release(void);
/* Move log time on to at least now (a TIME record), shared by all who wait for it (rule T3). */
KV_CHECK Status kvstore_advance_time(uint64_t now_ms);

/* ---- reading: any attached process */
typedef struct Snapshot {
	Lsn at;             /* versions < at are seen */
	uint64_t log_time;  /* applied log time: what expired by then is gone */
	uint64_t now;       /* leader's log clock when the request arrived; 0: judge by log_time only */
	bool time_behind;   /* set by reads: met an entry with log_time < expire_ms <= now. Then end the read,
	                       kvstore_advance_time(now), begin again */
} Snapshot;

/* Pin and take a snapshot of all that is applied. Does not nest. */
void kvstore_begin_read(Snapshot *s, uint64_t now);
/*
 * Close files that were deleted since this process last read. A read does so when it begins; who may not read for long
 * calls this now and then, or the space of deleted tables is not given back. Cheap. REQUIRES no pin.
 */
void kvstore_release_files(void);
/*
 * As kvstore_begin_read(), keeping what kvstore_hold() holds; for kvstore_outcome() and kvstore_judge().
 * kvstore_end_read() ends both.
 */
void kvstore_begin_own_read(Snapshot *s);
/*
 * The same at an older position (paged scan). SNAPSHOT_GONE below the history floor (rule A10); nothing is
 * pinned then.
 */
KV_CHECK Status kvstore_begin_read_at(Snapshot *s, uint64_t now, Lsn at);
/*
 * Within a read: let go of the memtables, tables and files that it holds, and take those of now, at the same position,
 * whose versions stay meanwhile. Slices and walks of before are gone; what has expired is judged anew.
 */
void kvstore_renew_read(Snapshot *s);
void kvstore_end_read(void);
/* Newest live version. NOT_FOUND also for tombstones and expired entries. Slices live until kvstore_end_read()
 * (or, for values over a cache block, the next kvstore_get()). */
KV_CHECK Status kvstore_get(Snapshot *s, Slice key, Entry *out);
/*
 * kvstore_get() of keys[0..n), n <= KVSTORE_BATCH_MAX (asserted), at once, faster than one after the other:
 * st[i], and out[i] where it is OK. Gives how many keys, from the first, were answered: all, unless large
 * values would take too much memory (lsm_get_many()); at least one if n > 0. What is beyond is scratch: ask
 * again for it. The detail of a failure is that of some key: for a certain one's, kvstore_get() it (there is no
 * detail to NOT_FOUND). Slices live until
 * kvstore_end_read() or (values over a cache block) the next kvstore_get_many().
 */
#define KVSTORE_BATCH_MAX 64
int kvstore_get_many(Snapshot *s, const Slice *keys, int n, Entry *out, Status *st);
/*
 * Did the operation with this version take effect on key? *out: the entry it left (also a tombstone).
 * NOT_FOUND: its condition failed.
 */
KV_CHECK Status kvstore_outcome(Slice key, uint64_t version, Entry *out);
/*
 * Why an operation did not take effect: judge it anew against the state below `below` (the first
 * version of its group).
 * *status as in doc/protocol.md; OK when it can't be told any more (a deadline passed since).
 * *version: of the key then, 0 absent.
 */
void kvstore_judge(const struct Op *op, Lsn below, Status *status, uint64_t *version);
/*
 * What became of the group whose stamp (storage/session.h) has this version; within kvstore_begin_own_read().
 * OK: *out as when the serial was done for the first time, *done_version the stamp's then; slices as of kvstore_get().
 * SESSION_EXPIRED: it was not done now.
 */
struct SlotValue;
KV_CHECK Status kvstore_stamp_outcome(uint64_t session, uint64_t serial, uint64_t version, struct SlotValue *out,
                                      uint64_t *done_version);
/* Wait until applied > at_least. TIMEOUT. */
KV_CHECK Status kvstore_wait_applied(Lsn at_least, int timeout_ms);
/*
 * Everything below it is applied (the exclusive end of a record): a snapshot taken now sees versions < it. Never
 * falls.
 */
Lsn kvstore_applied(void);
/*
 * Effective log time there, ms since 1970: what expiry goes by. It is published before kvstore_applied(), so who reads
 * that first has a time that is not older.
 */
uint64_t kvstore_applied_time(void);

/*
 * A walk over live entries of [start, end) within a read, upwards; reverse: downwards, from the last one before `end`.
 * unbounded: to the last key, `end` is not looked at. start and end are copied; `s` is not, and has to outlive the
 * walk. fill_cache: blocks that are read stay in the cache, first to be replaced. Within that read only, not once it
 * is renewed. OUT_OF_MEMORY: also when a table's iterator could not be made for another reason; there is nothing to
 * close then. Damage and failures of reading are kvstore_scan_next()'s.
 */
typedef struct Scan Scan;
KV_CHECK Status kvstore_scan_open(Snapshot *s, Slice start, Slice end, bool unbounded, bool reverse,
                                  bool fill_cache, Scan **out);
/*
 * What one walk may do, since it is within one read: keys looked at, whether they are answered or gone, and time from
 * its opening on; a million tombstones may lie between two entries. The first keys are not timed, so that a small
 * walk ends in one go, and each gets somewhere, however slow the machine is.
 */
#define SCAN_KEYS_MAX 262144
#define SCAN_KEYS_SURE 1024
#define SCAN_MS_MAX 50
/*
 * NOT_FOUND at the end. BUSY: it has done what it may; go on in another read, behind kvstore_scan_last(). The entry is
 * valid until the next call.
 */
KV_CHECK Status kvstore_scan_next(Scan *sc, Entry *out);
/* The last key looked at (empty: none yet): it and all before it, in the walk's direction, are done with. */
Slice kvstore_scan_last(const Scan *sc);
/* At any moment, whatever the last call said. Entries and the slice of kvstore_scan_last() go with it. Not NULL. */
void kvstore_scan_close(Scan *sc);
/* Before the first kvstore_scan_next(): nobody looks at values, so those that would cost a read are left empty. */
void kvstore_scan_keys_only(Scan *sc);

/*
 * Within a read, in microseconds: about what lies in [start, end) (unbounded: to the end), in memtables
 * (memtable_estimate()) and tables (lsm_estimate(), *cuts as there). Bytes are those of users' keys and values.
 */
KV_CHECK Status kvstore_estimate(Slice start, Slice end, bool unbounded, EntrySum *sum, uint32_t *cuts);

/* ---- background: each returns *did = false when there is nothing to do now */
/* Compaction worker: open the manifest for writing (after kvstore_open() in the replay process). */
KV_CHECK Status kvstore_compactor_open(void);
/*
 * One piece of work: a memtable written out, or else tables purged, reclaimed or merged. Between blocks of a merge it
 * writes out memtables that have become full. NO_SPACE, OUT_OF_MEMORY (also: the list of tables does not fit
 * metadata_size) and BUSY may pass: what was being made is given up, nothing is lost, call again later. A merge for
 * which there is no room is put off without a failure. Anything else, CORRUPT or IO_ERROR above all, is for good: the
 * node has to stop. *did is not said then.
 */
KV_CHECK Status kvstore_compactor_step(bool *did);
/*
 * WAL writer: flush unwaited work, segments ahead, durable mark, retire, reap dead slots. Then sleep on the
 * own slot for sleep_ms.
 */
KV_CHECK Status kvstore_walwriter_step(uint32_t *sleep_ms);
/* WAL writer, for each slot it frees: forget what the dead process waited for. */
void kvstore_slot_cleared(int slot);
/* Replay process while running: apply what is committed and nobody waits for. */
KV_CHECK Status kvstore_replay_step(bool *did);

/* ---- on command */
/* Freeze the memtable and wait until all applied before the call is in tables. */
KV_CHECK Status kvstore_checkpoint(int timeout_ms);
/* Compact everything as far as it goes (asks the compaction worker, waits). */
KV_CHECK Status kvstore_compact(int timeout_ms);
/*
 * name, value pairs for STATS; calls back once a line. A name lives until the call returns. Begins a read of its own,
 * so not within one; `emit` is called inside it, must not begin one, and must not wait. What is not OK from `emit`
 * ends it and is given back; else failures of counting sessions.
 */
KV_CHECK Status kvstore_stats(Status (*emit)(void *arg, const char *name, uint64_t value), void *arg);

/* ---- kvd --check: manifest, tables, log. Reads only; needs no shared memory. No server may run on the directory. */
typedef struct KvCheck {
	/* What is wrong, with status_detail(): CORRUPT is damage, anything else could not be read. */
	void (*finding)(void *arg, Status st);
	/* So far, and in all by what is known now. */
	void (*progress)(void *arg, uint64_t bytes, uint64_t of);
	void *arg;
	/*
	 * Tables up to here came from another node, and the start that put them in place was cut off before it had decided
	 * whether the log goes on behind them; 0: none did. Only if it will be kept is anything asked of the log.
	 */
	Lsn installed;
	uint64_t installed_term; /* of the record that ends there; 0: the log goes in any case */
	/* what was looked at */
	uint64_t tables, entries, records, bytes, of;
} KvCheck;
/* Goes on after a finding, so that one run tells all. */
void kvstore_check(const Control *control, KvCheck *c);

#endif
