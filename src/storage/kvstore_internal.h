/*
 * kvstore_internal.h - what the files of kvstore share: the engine's part of shared memory.
 */
#ifndef STORAGE_KVSTORE_INTERNAL_H
#define STORAGE_KVSTORE_INTERNAL_H

#include <stdatomic.h>

#include "common/config.h"
#include "storage/cache.h"
#include "storage/kvstore.h"
#include "storage/lsm.h"
#include "storage/memtable.h"
#include "storage/op.h"

#define MEMTABLES_MAX 16 /* bound of the setting memtable_count */
/*
 * Superversions alive at once: one for each freeze, flush or compaction while the oldest pin lasts. Pins last a
 * request, so a handful is usual; when all are in use the next change waits for a pin to go.
 */
#define SUPERVERSIONS 64
/* Samples of (time, applied) for the history floor: one each 1/64 of snapshot_retention. */
#define HISTORY_SAMPLES 128
/* The log may be this many memtables ahead of the tables before a memtable is flushed that is not full. */
#define LOG_AHEAD_MEMTABLES 4

/*
 * Log applied in one go (and to the end of a record): some milliseconds. A backend that only wants room in the ring
 * does so much for others and goes on; those whose records are in are answered before the rest is.
 */
#define APPLY_PIECE (1024 * 1024)
/*
 * Log ahead of what is applied from which on each ack=none write is slowed. Some tens of milliseconds of work for
 * who comes next; two pieces of a flush, so that there is one to write while the next one is gathered.
 */
#define UNWAITED_SOFT (UINT64_C(2) * WAL_FLUSH_PIECE)
/* And from which on it helps first, or waits. Only many writers or large records get there. */
#define UNWAITED_MAX (2 * UNWAITED_SOFT)

typedef enum MemState { MEM_FREE, MEM_ACTIVE, MEM_FROZEN, MEM_RETIRED } MemState;

/* Changed under SUPERVERSION. */
typedef struct MemSlot {
	void *memory;
	Memtable *table;      /* NULL while it has to be emptied first */
	MemState state;
	Lsn end;              /* FROZEN: everything below is in this table or older ones */
	uint64_t end_term, end_time;
	uint64_t retire_epoch;
} MemSlot;

/* What a reader needs to see everything, behind one pointer (rule A5). Immutable once current. */
typedef struct Superversion {
	Memtable *active;
	int nfrozen;
	Memtable *frozen[MEMTABLES_MAX]; /* newest first */
	Lsn frozen_end[MEMTABLES_MAX];   /* all versions in frozen[i] are below */
	const Version *version;
	bool in_use;           /* SUPERVERSION lock */
	uint64_t retire_epoch; /* 0 while current */
} Superversion;

/* What slows writers down: throttle.c. Read by writers, who may see one field older than another. */
typedef struct Throttle {
	_Atomic uint64_t level0;         /* compaction worker: tables in level 0 that wait, times THROTTLE_TABLE */
	_Atomic uint64_t drain_rate;     /* compaction worker: log bytes a second that leave level 0; 0 not known */
	_Atomic uint64_t flush_rate;     /* compaction worker: those that a flush takes on; 0 not known */
	_Atomic uint32_t free_memtables; /* holder of SUPERVERSION */
	_Atomic Lsn room_end;            /* holder of APPLY: applied, and the room in the active memtable; 0 not known */
	/* writers */
	_Atomic uint64_t paid_ns;        /* what was admitted is paid for up to here, by the monotonic clock */
	_Atomic uint64_t slowed, slowed_us, slowed_us_max;
} Throttle;
#define THROTTLE_TABLE 1024

/* A position, and the effective log time there. */
typedef struct Moment {
	_Atomic Lsn at;
	_Atomic uint64_t time;
} Moment;

typedef struct KvShared {
	/* -- line 1: positions. Writer: holder of APPLY. Readers: anyone; late only means an older snapshot. */
	_Alignas(64) _Atomic Lsn applied;
	_Atomic uint64_t applied_time;
	/*
	 * Both as one, for snapshots: moment[moments & 1]; the next one goes into the other. It may be ahead of `applied`
	 * for an instant, never behind. apply_moment() reads it.
	 */
	_Atomic uint64_t moments;
	Moment moment[2];
	/* Writer: holder of SUPERVERSION. Readers: anyone with a pin. */
	_Atomic(Superversion *) current;
	/* -- line 2: seldom written */
	_Alignas(64) _Atomic Lsn history_floor;  /* WAL writer; snapshots below are gone (rule A10) */
	_Atomic uint32_t walwriter_idle;         /* WAL writer sets 1 before a long sleep; who clears it wakes it */
	_Atomic uint32_t stalled;                /* applier: no free memtable; compactor clears it and wakes the waiters */
	_Atomic uint32_t no_space;               /* WAL writer: less than disk_reserve is free */
	/* WAL writer: free on the file system, and at least needed, when it last looked; since when writes are refused. */
	_Atomic uint64_t space_free, space_needed, full_since_ms;
	_Atomic uint64_t refused;                /* anyone adds 1: writes refused for lack of space */
	_Atomic uint64_t reclaims, reclaimed_bytes; /* compaction worker: lsm_reclaim() that gained, and how much */
	_Atomic uint32_t freeze_wanted;          /* anyone sets; the next applier freezes and clears */
	_Atomic uint32_t compact_wanted;         /* anyone adds 1; see compact_done */
	_Atomic uint32_t compact_done;           /* compaction worker: value of compact_wanted it has served */
	_Atomic Lsn flushed;                     /* compaction worker: everything below is in tables */
	_Atomic uint64_t flushed_term;
	_Atomic uint64_t pending_time;           /* newest TIME record under way (rule T3) */
	_Atomic uint64_t pending_time_end;       /* its end and the generation that it was inserted in: commit.c */
	_Atomic uint32_t flush_waits;            /* compaction worker sets it: a table waits for durable; flusher clears */
	_Atomic Lsn keep_log;                    /* consensus worker: followers need the log from here; UINT64_MAX: none */
	_Atomic Lsn log_floor;                   /* WAL writer: the log below is about to go; see kvstore_hold_log() */
	/* Newest HASH record applied, 0: none or done. Holder of APPLY sets, kvstore_hash_done() and WAL writer clear. */
	_Atomic Lsn hash_lsn;
	_Atomic uint32_t hash_claimed;           /* anyone sets, for good: HASH records here are for those in hashing[] */
	_Atomic uint64_t hash_time;              /* effective log time there; holder of APPLY, while hash_lsn is 0 */
	_Alignas(64) Throttle throttle;
	/* -- figures; writers: holder of APPLY */
	_Alignas(64) _Atomic uint64_t applied_records, applied_ops, freezes, stalls, condition_failures;
	_Atomic uint64_t session_repeats, session_refusals; /* stamped groups met again; without a session */
	_Atomic uint64_t range_deletes;
	Control control; /* postmaster, before fork; constant */
	/* -- recovery result; replay process writes once, before the consensus worker starts */
	WalRecovery recovered;
	/* -- history samples: WAL writer only */
	struct { uint64_t mono_ms; Lsn applied; } history[HISTORY_SAMPLES];
	int history_count;
	/* -- under SUPERVERSION */
	int nmem;
	MemSlot mem[MEMTABLES_MAX];
	Superversion pool[SUPERVERSIONS];
	int nslots;
	/*
	 * By slot: the process needs the log from here on; 0 no. Writer: the slot's owner; WAL writer when the slot is
	 * cleared. Behind want[].
	 */
	_Atomic Lsn *hold;
	/*
	 * By slot: 1 while the process hashes as of a record of its own (kvstore_hash_claim()). Writer: the slot's owner;
	 * WAL writer when the slot is cleared. Behind hold[].
	 */
	_Atomic uint64_t *hashing;
	/*
	 * want[slot]: position the process waits for (WANT_LOCAL: durable is enough), 0 = none. Writer: the slot's owner.
	 */
	_Atomic uint64_t want[];
} KvShared;

/* Positions are 8-byte aligned: the low bits of a want are free. */
#define WANT_LOCAL UINT64_C(1) /* durable here is enough */
#define WANT_WATCH UINT64_C(2) /* only looks on: can't be woken to flush or apply next */
#define WANT_FLAGS UINT64_C(7)

extern KvShared *kvs;

/* Keys of the system keyspace (its byte first). */
#define CONFIG_KEY "\0config"  /* the newest CONFIG record: u64 where it starts, u64 its end, its body */
#define CONFIG_HEADER_SIZE 16

/* ---- superversion.c */
/* First superversion: an active memtable over v. */
KV_CHECK Status superversion_first(const Version *v);
/* REQUIRES APPLY. Freeze the active memtable and start the next. BUSY: no memtable or superversion is free yet. */
KV_CHECK Status superversion_freeze(void);
/* Compaction worker: make v current; flushed: also drop the oldest frozen memtable. */
KV_CHECK Status superversion_publish(const Version *v, bool flushed);
/* The Version that readers have. Compaction worker: it alone lets Versions go. */
const Version *superversion_version(void);
/* Oldest frozen memtable; false: none. Compaction worker. */
bool superversion_oldest_frozen(MemSlot *out);
/* Empty what no reader can see any more. Returns whether anything became free. Compaction worker or applier. */
bool superversion_reclaim(void);

/* ---- space.c */
/* WAL writer: look at the free space, now and then; begin or end refusing writes. */
void space_check(uint64_t now_ms);
/* Compaction worker: how much a compaction may write, as LsmCompactOptions.room; 0: not known. */
uint64_t space_room(void);
/* Compaction worker: the tables had so many bytes, and have now. */
void space_reclaimed(uint64_t before, uint64_t after);

/* ---- apply.c */
/*
 * REQUIRES APPLY. Take in records one after the other, the first at `applied`; publish makes them visible, also
 * between two of them. Bodies must stay until then: the memtable gets them many at a time. BUSY: no memtable is free,
 * nothing of this record was taken in. Panics when the engine cannot apply.
 */
void apply_begin(void);
KV_CHECK Status apply_take(const WalRecord *r);
void apply_publish(void);
/* Before each look-up of the state by who applies: it gets on, however slow the disk. */
void apply_count_read(void);
/* REQUIRES APPLY, after apply_begin(): end of what was taken in. */
Lsn apply_taken(void);
/* REQUIRES APPLY. All below `at` is visible from now on; the log time there is `time`. */
void apply_set_moment(Lsn at, uint64_t time);
/* Anyone: a position that is visible, and the log time there. Not behind kvstore_applied() as loaded before. */
void apply_moment(Lsn *at, uint64_t *time);
/*
 * Apply a piece of what is committed if nobody else does. True if it got the lock: then the caller has to call
 * commit_wake(), for those who went to sleep because the lock was held. *moved: something was applied (no
 * memtable may have been free); there may be more.
 */
bool apply_committed(bool *moved);
/* Does what comes next lie below the log's ring? Then only the replay process applies, from the files. */
bool apply_below_ring(void);
/*
 * One group of operations against the state below `version`: does it take effect? Index of the first that fails, why.
 */
typedef struct OpVerdict {
	Status status;       /* OK, NOT_FOUND, CONDITION_FAILED, NOT_INTEGER, OUT_OF_RANGE; others: cannot tell */
	uint64_t version;    /* of the key when judged; 0 absent */
	int64_t number;      /* INCR: the new value */
	uint64_t expire_ms;  /* deadline of the value that was there; 0 none or absent */
} OpVerdict;
void apply_judge(const Op *op, Lsn below, uint64_t now_ms, OpVerdict *out);

/* ---- session.c */
typedef enum StampVerdict {
	STAMP_NEW,   /* to be done */
	STAMP_DONE,  /* the slot has its outcome */
	STAMP_PAST,  /* the slot has a later one's */
	STAMP_LOST   /* no such session, or expired */
} StampVerdict;
/*
 * A stamp against the state below `below` at log time now_ms. NEW: *expire_ms is the deadline for its slot.
 * Not OK: cannot tell.
 */
KV_CHECK Status session_judge(const Op *stamp, Lsn below, uint64_t now_ms, StampVerdict *out, uint64_t *expire_ms);
/* Within a read: live sessions, counted up to SESSION_COUNT_MAX, or as far as one walk goes. */
KV_CHECK Status session_count(Snapshot *s, uint64_t *out);
/* STATS is asked for every second or so: more are not worth counting each time. */
#define SESSION_COUNT_MAX 100000

/* ---- read.c */
/* Newest version < at in superversion sv, tombstones included. NOT_FOUND, OK, failures. */
KV_CHECK Status superversion_get(const Superversion *sv, Slice key, Lsn at, Entry *out);
/* Superversion of the read this process is in. */
const Superversion *read_superversion(void);

/* ---- ranges.c */
/* Range deletions in its memtables and beside its tables. */
uint32_t superversion_ranges(const Superversion *sv);
/* What a snapshot sees of the range deletions of a superversion, for walks over many keys. */
typedef struct SuperversionRanges {
	RangeView base;
	const Superversion *sv;
	Lsn at;
} SuperversionRanges;
void superversion_ranges_view(SuperversionRanges *v, const Superversion *sv, Lsn at);

/* Is the entry a live value for this snapshot? Notes in it when log time has to move on to be sure. */
bool read_entry_live(Snapshot *s, const Entry *e);

/* ---- scan.c */
/* From now on the walk may look at so many keys (SCAN_KEYS_SURE and some 64s more) and take so long. For tests. */
void scan_bound(Scan *sc, uint32_t keys, uint32_t ms);

/* ---- throttle.c */
typedef struct ThrottleState {
	double level0, slowdown;  /* tables; l0_slowdown */
	double room, memtable;    /* bytes left in memtables (may be below 0); of one memtable */
	double drained, flushed;  /* log bytes a second that leave level 0, that flush takes; 0 not known */
} ThrottleState;
/* Pure: log bytes a second that writers may insert; 0 any number. */
double throttle_rate(const ThrottleState *s);
/*
 * Pure: the schedule after a write of so many bytes at `rate`: at most 50 ms from now, or what a large record costs, at
 * most 1 s.
 */
uint64_t throttle_pay(uint64_t paid_ns, uint64_t now_ns, uint64_t bytes, double rate);
/* Pure: how long to pause for that, 0 not at all. own_ns: what this process's writes cost since it last paused. */
uint64_t throttle_pause(uint64_t ahead_ns, uint64_t own_ns);
/* Pure: a measured rate after one more sample; 0 before: the first. */
uint64_t throttle_sample(uint64_t before, uint64_t bytes, uint64_t ns);
/* What throttle_rate() says now. */
double throttle_now(void);
/* Sleep for what a record of so many bytes costs. Holds no lock. */
void throttle_write(uint64_t bytes);
/* A writer was slowed for so long, here or elsewhere (write.slowed... of STATS). */
void throttle_count(uint64_t us);
/* Compaction worker: a flush of log bytes [from, to) took so long. */
void throttle_flushed(Lsn from, Lsn to, uint64_t ns);
/* Compaction worker: v's level 0, less what the compaction under way has done of it. */
void throttle_level0(const Version *v);
/* Compaction worker, after each compaction, or having had nothing to do (idle): how fast level 0 is emptied. */
void throttle_drained(bool idle);

/* ---- range_purge.c: compaction worker */
/* Work off what range deletions older than the oldest snapshot hide. *out NULL: nothing to do, else to be published. */
KV_CHECK Status range_purge(Lsn oldest, Version **out);
/* Have the active memtable written out if its range deletions make whole tables superfluous. */
void range_ask_for_flush(Lsn oldest);

/* ---- replica.c: WAL writer */
/* A HASH record of a process that has gone, on a node where those who ask hash by themselves. */
void replica_drop_unclaimed_hash(void);

/* ---- commit.c */
/* Pure: how long an ack=none write of this timeout waits with so many bytes ahead of what is applied. 0: not at all. */
uint64_t commit_unwaited_ns(uint64_t ahead, int timeout_ms);
/*
 * If `end` is not durable flush a piece, apply a piece, without waiting, and wake who waited for that. False: nothing
 * moved on.
 */
bool commit_work(Lsn end);
/* The same without applying: in a cluster the WAL writer leaves that to the replay process. */
bool commit_flush(Lsn end);
/* Wake everybody whose position is reached, and one that must flush next. */
void commit_wake(void);
/* Wake everybody who waits for anything. */
void commit_wake_all(void);
/* WAL writer: flush, apply and send for backends that left their replies. False: there was none. */
bool commit_serve_delegated(void);
/* Wake the WAL writer if it sleeps long. */
void commit_poke_walwriter(void);

#endif
