/*
 * wal.h - the log: one stream of records, a shared ring, files behind it.
 *
 * LSN = position of a record's first byte in the stream = its version, index and acknowledgement.
 * The stream starts at one segment (LSN 0 is no position). Segment k holds the bytes [k, k+1) * segment size
 * in the file wal/<k as 16 hex digits>.kvw. Records are 8-byte aligned and may span segments.
 *
 * Five positions, all exclusive ends on record boundaries, all in shared memory:
 *   applied <= commit <= durable(quorum);  durable <= written <= inserted
 *   inserted  end of what is completely in the ring     writer: derived (reserve word and inserting marks)
 *   written   end of what is in the files               writer: flush owner
 *   durable   end of what is synced                     writer: flush owner only (rule L3)
 *   commit    end of what is agreed                     writer: flush owner while alone, else consensus worker
 *   released  the ring may overwrite below it           writer: holder of the APPLY lock (= applied)
 * Reading any of them late only makes a reader wait a little longer.
 *
 * Rules: L1 to L11, G1 to G4 (doc/rules.md). The process that finds an I/O error on write or sync
 * panics: the node stops.
 */
#ifndef STORAGE_WAL_H
#define STORAGE_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/bytes.h"
#include "common/limits.h"
#include "storage/control.h"

typedef uint64_t Lsn;

typedef enum WalKind {
	WAL_WRITE = 1,   /* client operations: body is storage/op.h's */
	WAL_TERM = 2,    /* body: WalTermBody; the only place where the term changes (L1) */
	WAL_CONFIG = 3,  /* body: the cluster's configuration, opaque here */
	WAL_TIME = 4,    /* no body: moves log time on */
	WAL_HASH = 5,    /* no body: replicas compare their contents as of here (rule C7) */
	WAL_KIND_MAX = 5
} WalKind;

/* Little-endian on disk, in the ring and on the wire; wal_format.c encodes, static asserts check. */
typedef struct WalHeader {
	uint32_t crc;      /* crc32c seeded with the cluster's seed: body first, then header bytes 4..39 */
	uint32_t length;   /* header + body, without padding to 8 (padding is zero) */
	uint64_t lsn;
	uint64_t term;
	uint64_t log_time; /* ms; raw stamp of the inserter, effective time is the running maximum (T1) */
	uint8_t kind;      /* WalKind */
	uint8_t flags;     /* 0 */
	uint16_t reserved; /* 0 */
	uint32_t count;    /* operations in a WAL_WRITE; else 0 */
} WalHeader;
#define WAL_HEADER_SIZE 40

typedef struct WalTermBody {
	uint64_t previous_term; /* term of the record before this one; 0 for the first record of a log */
} WalTermBody;

typedef struct WalRecord {
	WalHeader header;
	Slice body;
	Lsn end; /* of the record with padding: LSN of the next one */
} WalRecord;

/* Room a record with this much body takes in the stream. */
static inline uint64_t
wal_record_size(size_t body_len)
{
	return ((uint64_t) WAL_HEADER_SIZE + body_len + 7) & ~UINT64_C(7);
}

/* ---- set up (postmaster before fork), start (replay process) */
/* Bytes of shared memory for a ring of ring_bytes, rounded down to whole pages, and so many slots. */
size_t wal_shmem_size(size_t ring_bytes, int slots);
/* BAD_SETTING when the ring cannot hold 4 of the largest records (and the reserve). */
KV_CHECK Status wal_shmem_init(void *mem, size_t ring_bytes, int slots, const Control *control);
/* A new data directory: directory "wal" and the durable mark. The log is empty and starts at one segment. */
KV_CHECK Status wal_create(const Control *control);
/* Where the log of a new directory starts. */
Lsn wal_first_lsn(const Control *control);

typedef struct WalRecovery {
	Lsn end;             /* where the next record goes; everything below is durable now */
	Lsn commit_hint;     /* from the durable mark: certainly committed */
	uint64_t last_term;  /* 0: empty log */
	uint64_t last_time;  /* running maximum of log_time over the records scanned */
	Lsn last_config;     /* LSN of the newest CONFIG record at or above `from`; 0 none */
	Lsn previous_config; /* of the one before it; 0 none */
	/*
	 * With CORRUPT: the log below the durable mark is damaged from here on; 0: something else is. After
	 * wal_recover_damaged(): it was cut here; 0: there was no damage.
	 */
	Lsn damaged_at;
	uint64_t torn_bytes; /* cut off above the durable mark; for the log line */
} WalRecovery;
/*
 * Read the log from `from` (a record boundary: what tables already hold, or the log's start) with the term
 * of the record before it (0 above the log's start: not known), find its end, tell a torn tail (cut) from
 * damage below the durable mark (CORRUPT: refuse, naming file and offset), rewrite and sync the tail above
 * the mark (L7), build the term history, set all positions but `commit` and `released` (set to `from`).
 * Gate stays closed.
 */
KV_CHECK Status wal_recover(Lsn from, uint64_t from_term, WalRecovery *out);
/*
 * As wal_recover(), but damage below the durable mark is cut like a torn tail and the mark lowered. Only for a node
 * whose replicas have what is cut, after `recovering` was persisted (rule L5).
 */
KV_CHECK Status wal_recover_damaged(Lsn from, uint64_t from_term, WalRecovery *out);
/*
 * Before wal_recover(), after tables up to `from` came from another node (rule C5): keep the log if a record of
 * from_term ends at `from`, else forget all of it; it then starts at `from`. *kept tells. Can be cut off anywhere and
 * done again, but before wal_recover() has succeeded.
 */
KV_CHECK Status wal_restart_at(Lsn from, uint64_t from_term, bool *kept);
/* The same for a log that is not trusted (a repair, rule C7): it is forgotten in any case. */
KV_CHECK Status wal_restart_without(Lsn from);

/* ---- positions */
Lsn wal_inserted(void);
/* End of what is being inserted, too: some of it may still be copied. */
Lsn wal_reserved(void);
Lsn wal_written(void);
Lsn wal_durable(void);
Lsn wal_commit(void);
/* Raise commit to min(to, what the caller may claim); never lowers. */
void wal_set_commit(Lsn to);
/*
 * While the configuration is {self}: durable is commit, up to alone_limit (rule G7). Takes flush ownership;
 * raises commit at once and from then on after each sync.
 */
void wal_set_alone_limit(Lsn limit); /* UINT64_MAX: alone without end; 0: not alone. REQUIRES gate closed */
/*
 * REQUIRES APPLY. Records below `applied` (a record boundary, not below the last one given) are not needed in the ring
 * any more: inserters may write over them at once, whoever still has a slice into one. Wakes nobody.
 */
void wal_release_ring(Lsn applied);
/* Term of the record at lsn by the term history; 0 if it is older than what is remembered. */
uint64_t wal_term_at(Lsn lsn);
/* Newest first, up to max entries of (term, its first LSN). Returns how many. */
typedef struct WalTerm { uint64_t term; Lsn start; } WalTerm;
int wal_term_history(WalTerm *out, int max);

/* ---- the gate (consensus worker changes it, everybody reads it) */
/*
 * Generation (odd = open). Changes whenever the gate opens or closes; a waiter that sees another one re-
 * checks.
 */
uint32_t wal_generation(void);
static inline bool wal_generation_open(uint32_t g) { return (g & 1) != 0; }
/*
 * Closed -> a new term: put its TERM record (naming the previous term) at the end of the log; somebody else's
 * flush makes it durable: the caller never waits for the disk. Wakes nobody. REQUIRES closed gate, nobody
 * appending, no truncation pending, term > last term, and a term that was never used before (vote file): a tail
 * that was cut may have had it, and its records would be taken for this term's (L1). NO_SPACE, BUSY: nothing was put.
 */
KV_CHECK Status wal_begin_term(uint64_t term, uint64_t log_time, Lsn *start, Lsn *end);
/* Term of the newest TERM record: the one that inserts carry while the gate is open. */
uint64_t wal_term(void);
void wal_open_gate(void);   /* inserts carry the newest term from now on */
/*
 * Raise the generation, so that nobody reserves any more, and wait until no slot is inserting (G2): the stream then
 * ends where the last record ends. Raises it by 2 more at the end, so that marks which come late count for nothing.
 * Returns false if a slot was still inserting after limit_ms: *stuck_slot names it.
 */
bool wal_close_gate(int limit_ms, int *stuck_slot);
/*
 * L3: lower durable mark (synced), then positions, then cut. Raises the generation by 2. Takes flush
 * ownership itself. REQUIRES closed gate, to >= commit, a record boundary.
 */
KV_CHECK Status wal_truncate(Lsn to);
/*
 * Consensus worker, which must not wait for the disk: ask the WAL writer to do it (and wake it). The caller is woken
 * when wal_truncate_pending() has become false. REQUIRES as wal_truncate(), none pending, and nothing is appended
 * meanwhile.
 */
void wal_request_truncate(Lsn to);
bool wal_truncate_pending(void);
/* WAL writer: do what was asked. *did: something was. */
KV_CHECK Status wal_serve_truncate(bool *did);
/* Is this node alone without end (rule G7)? */
bool wal_alone(void);

/* ---- inserting (backends and whoever proposes) */
/*
 * Copy one record (body = the parts in order) into the ring. generation: as read before the caller looked
 * at anything that must still hold. NOT_LEADER: gate closed or other generation, nothing inserted. BUSY:
 * the ring has no room; flush and apply, then try again. BATCH_TOO_LARGE: over KV_RECORD_MAX. WAL_TERM,
 * WAL_TIME, WAL_CONFIG and WAL_HASH may use the ring's reserve (L11). Never sleeps.
 */
KV_CHECK Status wal_insert(uint32_t generation, WalKind kind, uint32_t count, uint64_t log_time,
                           const Slice *parts, int nparts, Lsn *start, Lsn *end);

/* ---- appending what another node wrote (a follower) */
/*
 * Is there a whole, sound record at the start of `bytes`, which stand at `at` in the log behind a record of
 * previous_term (0 at the log's start)? OK: *out, whose body points into bytes. NOT_FOUND: the bytes end
 * before the record does (its header, if that is here, was checked). CORRUPT: they are no log.
 */
KV_CHECK Status wal_record_at(Slice bytes, Lsn at, uint64_t previous_term, WalRecord *out);
/* Is there room in the ring for this much more? A little is kept for TERM records of this node's own. */
bool wal_append_room(size_t bytes);
/*
 * Put whole, checked records at the end of the log. REQUIRES the lock WAL_APPEND (consensus worker or its fetcher,
 * one at a time: replication/fetch.h), closed gate, no truncation pending, at == wal_inserted(), wal_append_room().
 * Raises the term history at TERM records. Wakes nobody; the WAL writer flushes when it is woken.
 */
void wal_append(Lsn at, Slice records);

/* ---- sending: bytes of the ring */
/* Lowest position whose bytes are in the ring now. May rise at any moment. */
Lsn wal_ring_floor(void);
/*
 * Pieces of the ring that hold [from, to), to <= wal_inserted(); 0: not in the ring. After having copied
 * or sent them, and before they count: wal_ring_floor() <= from must still hold (rule C3).
 */
int wal_ring_pieces(Lsn from, Lsn to, struct iovec iov[2]);
/* Lowest position that is in the files: where the log starts, or a file; the latter need not be a record boundary. */
Lsn wal_files_floor(void);

/* ---- flushing */
/*
 * Most bytes of one flush, if its first record is not larger. Syncing more at once is hardly faster, and meanwhile
 * nobody could apply any of it, nor get room in the ring; who waits for a small record behind a bulk load waits that
 * long.
 */
#define WAL_FLUSH_PIECE (4 * 1024 * 1024)
/*
 * Try to become the flush owner; then write and sync everything inserted, of a backlog a piece, publish written and
 * durable (and commit when alone), give ownership back. False: somebody else owns it (sleep until woken) or nothing
 * to do. Panics on I/O errors. After true the caller re-checks inserted (A2) and wakes those who wait.
 */
bool wal_flush(void);

/*
 * No file is ready behind the one being written, and none could be made for lack of space: refuse writes
 * (NO_SPACE). wal_flush() then writes what fits and returns false when nothing does; waiters go on trying.
 * Cleared when a file is made or recycled.
 */
bool wal_out_of_space(void);

/* ---- reading */
/*
 * Record at `lsn` < inserted, from the ring; body points into the ring or, where the record wraps, into
 * *scratch. NOT_FOUND: no longer in the ring (use a WalReader). The caller holds the APPLY lock or
 * otherwise knows that `released` <= lsn.
 */
KV_CHECK Status wal_ring_read(Lsn lsn, Buf *scratch, WalRecord *out);
/*
 * From the files; checks CRC, LSN and the term chain. until: at most wal_written(), or UINT64_MAX: to the
 * end of a log that nobody writes (kvd --check): NOT_FOUND where the log ends at or above the durable mark.
 */
typedef struct WalReader WalReader;
KV_CHECK Status wal_reader_open(Lsn from, Lsn until, WalReader **out);
/* NOT_FOUND at `until`. *out is valid until the next call. CORRUPT names file and offset. */
KV_CHECK Status wal_reader_next(WalReader *r, WalRecord *out);
/* *raw: its bytes in the stream, with padding. */
KV_CHECK Status wal_reader_next_raw(WalReader *r, WalRecord *out, Slice *raw);
/* Frees its buffers, with what was read last. May be NULL. */
void wal_reader_close(WalReader *r);

/* ---- reading the files without a server: tools, kvd --check. Nothing is changed; a server may be running. */
/* Once a process, instead of wal_shmem_init(): how this log's bytes are judged. Only what follows works then. */
KV_CHECK Status wal_offline(const Control *control);
/* The durable mark. CORRUPT: neither of its two copies is whole. */
typedef struct WalMarkInfo {
	uint64_t epoch;
	Lsn durable, commit;
	Lsn start; /* the log begins here; below it nothing ever was, or is to be read */
} WalMarkInfo;
KV_CHECK Status wal_offline_mark(WalMarkInfo *out);
/* Would wal_restart_at() keep the log? */
KV_CHECK Status wal_offline_goes_on(Lsn from, uint64_t from_term, bool *kept);
/* The bytes there are files for: those of the lowest number up to the first that is missing. NOT_FOUND: no files. */
KV_CHECK Status wal_offline_extent(Lsn *from, Lsn *to);
/*
 * The first sound record at or above `from`, by content: for a log whose lower files were let go, so that the lowest
 * one left begins within a record. The checksum is seeded by the cluster's random key, so no value can pass for a
 * record. NOT_FOUND: none before `until`.
 */
KV_CHECK Status wal_offline_find(Lsn from, Lsn until, Lsn *at);
/* As wal_reader_open(), to the log's end; without a sound record below `certain` is CORRUPT. */
KV_CHECK Status wal_offline_reader(Lsn from, Lsn certain, WalReader **out);
/* Why there is no record behind the last one read; after NOT_FOUND or CORRUPT of wal_reader_next(). */
typedef struct WalEnd {
	Lsn at;          /* where the next record would stand */
	Lsn bad;         /* what is wrong stands here: `at`, or where the bytes end */
	const char *why;
	uint64_t begun;  /* size of the record that was begun at `at`; 0: none was */
} WalEnd;
void wal_reader_end(const WalReader *r, WalEnd *out);
/* Name of the file that holds this position, and the position's offset in it. out: WAL_PATH_SIZE bytes. */
#define WAL_PATH_SIZE 32
uint64_t wal_offline_place(Lsn lsn, char *out);

/* ---- house-keeping (WAL writer) */
/*
 * Keep `spare` zero-filled or recycled segments ready beyond the one being written: makes one. *did: it did, more may
 * be missing. No space is no error here: see wal_out_of_space().
 */
KV_CHECK Status wal_prepare_segments(int spare, bool *did);
/* Segments wholly below `below` are recycled (or removed when there are enough spares). */
KV_CHECK Status wal_retire_segments(Lsn below, int spare);
/*
 * Sync the durable mark {epoch, durable, commit} if it is behind and either 50 ms old or nothing was
 * flushed for 10 ms. *did: written. Call it at least every 50 ms while the log moves, and once more when it
 * stops.
 */
KV_CHECK Status wal_update_mark(bool *did);
/* The same at once, however young the mark is: before an orderly end, so that it is exact. */
KV_CHECK Status wal_finish_mark(void);
/* Close this process's descriptors (of segments and the mark). */
void wal_files_close(void);

/* ---- figures */
typedef struct WalStats {
	uint64_t records, bytes;        /* inserted since start */
	uint64_t flushes, flush_bytes;  /* syncs and bytes written */
	uint64_t flush_ns, flush_ns_max;
	uint64_t ring_full;             /* BUSY answers */
	uint64_t segments_created, segments_recycled;
	uint64_t segments_inline; /* made by a flusher: the WAL writer was late */
} WalStats;
/* Anyone, without locks: each figure is right, together they may be a moment apart. */
void wal_stats(WalStats *out);

#endif
