/*
 * wal_internal.h - what the files of storage/wal share: the shared memory, and the doors between them.
 *
 * Reading order: wal_format.c, wal_ring.c, wal_gate.c, wal_append.c, wal_segment.c, wal_flush.c, wal_mark.c,
 * wal_terms.c, wal_scan.c, wal_recover.c, wal_restart.c, wal_offline.c. The rules are in README.md beside this file.
 */
#ifndef STORAGE_WAL_INTERNAL_H
#define STORAGE_WAL_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/status.h"
#include "storage/wal.h"

#define WAL_DIR "wal"
#define WAL_MARK_FILE "wal/mark"
#define WAL_NAME_SIZE 32 /* "wal/" + 16 digits + ".kvw", and room */

/* Ring bytes that only TERM, TIME, CONFIG and HASH may use (L11): a full ring must not stop an election. */
#define WAL_RING_RESERVE 65536
/*
 * Of these only TERM records get the last WAL_RING_TERMS. A follower that appends leaves WAL_RING_OWN_TERMS
 * free, for terms of its own: all that a leader's ring of the same size holds above the same commit position
 * fits, but for the TERM records of many leaders one after another who could not commit. Else it could not
 * take the TERM record without which nothing is ever committed again.
 */
#define WAL_RING_TERMS 4096
#define WAL_RING_OWN_TERMS 512
/* The ring must hold this many of the largest records: a writer never waits for more than three others. */
#define WAL_RING_RECORDS 4
/* Terms remembered. A node alone adds one at each start; a follower that is further behind gets a snapshot. */
#define WAL_TERMS_MAX 4096
/* Positions are kept in 48 bits, in units of 8 bytes: no record ends above this (2 PiB). */
#define WAL_LSN_MAX ((UINT64_C(1) << 51) - 8)

#define WAL_TERM_RECORD_SIZE (WAL_HEADER_SIZE + 8)

/* On disk, in wal/mark; see wal_mark.c. */
typedef struct WalMark {
	uint64_t epoch; /* raised by truncation */
	Lsn durable;    /* everything below is synced: damage there is damage, never a torn tail */
	Lsn commit;     /* certainly committed: a hint for replay */
	Lsn start;      /* the log begins here: where it was made, or made anew (wal_restart.c) */
} WalMark;

typedef struct WalTerms {
	_Atomic uint32_t changing; /* sequence lock: odd while the writer is at it */
	_Atomic uint32_t count;    /* entries remembered */
	_Atomic uint32_t first;    /* index of the oldest */
	_Atomic uint64_t term[WAL_TERMS_MAX];
	_Atomic uint64_t start[WAL_TERMS_MAX];
} WalTerms;

typedef struct WalShared {
	/* -- set by wal_shmem_init() before any fork, then only read */
	uint8_t *ring;
	uint64_t ring_bytes;
	uint64_t record_max;
	uint64_t segment_size;
	Lsn first_lsn;
	uint32_t crc_seed;
	int slots;
	/*
	 * By process slot: 0, or the reserve word its owner loaded before reserving (wal_ring.c). Owner writes.
	 */
	_Atomic uint64_t *insert_from;
	/* By process slot: records inserted through it, for the figures. Owner writes. */
	_Atomic uint64_t *records;

	/*
	 * -- {generation : 16, position / 8 : 48}, by CAS. Inserters raise the position, the gate's owner the
	 * rest.
	 */
	_Alignas(64) _Atomic uint64_t reserve;

	/*
	 * -- Written by the flush owner and recovery. Late reads make inserters and waiters wait a little
	 * longer.
	 */
	_Alignas(64) _Atomic uint64_t written;
	_Atomic uint64_t durable;
	_Atomic uint64_t alone_limit;   /* set under flush ownership, gate closed (G7) */
	_Atomic uint32_t out_of_space;  /* 1: the next segment could not be made. Flush owner, WAL writer */
	_Atomic uint64_t last_flush_ns; /* monotonic, for "idle" */
	_Atomic uint64_t flushes, flush_bytes, flush_ns, flush_ns_max;

	/* -- commit only rises (by CAS, from several writers); released: holder of APPLY. */
	_Alignas(64) _Atomic uint64_t commit;
	_Atomic uint64_t released;
	/* Lowest position that was ever put into this ring: recovery, truncation. */
	_Atomic uint64_t ring_base;

	/* -- Seldom written. */
	_Alignas(64) _Atomic uint64_t ring_full; /* anyone adds */
	_Atomic uint64_t start_lsn;              /* where this run's first record went; recovery */
	_Atomic uint64_t bytes_cut;              /* truncated since start; truncation */
	_Atomic uint64_t log_start;              /* mark.start, for readers; recovery */
	/* 0, or where the log is to be cut. Consensus worker sets it (0 -> to), the WAL writer clears it when done. */
	_Atomic uint64_t truncate_to;
	_Atomic uint32_t recovered;              /* 1 when wal_recover() is done; house-keeping waits for it */
	/*
	 * Files first_segment .. last_segment are there, whole. Changed under WAL_SEGMENT, after syncing names.
	 */
	_Atomic uint64_t first_segment, last_segment;
	_Atomic uint64_t segments_created, segments_recycled, segments_inline;
	/* The newest mark on disk: under WAL_SEGMENT. */
	WalMark mark;
	/* Its commit, for a look without the lock; written with it. */
	_Atomic uint64_t mark_commit;
	uint64_t mark_ns; /* when it was written, monotonic */
	int mark_slot;    /* which of the two holds it */

	WalTerms terms; /* writer, one at a time: who begins a term, appends or truncates; recovery */
} WalShared;

extern WalShared *wal_sh;

/* As wal_shmem_init(), for rings of small records in tests. */
KV_CHECK Status wal_ring_init(void *mem, uint64_t ring_bytes, int slots, const Control *control,
							  uint64_t record_max);

/* ---- the reserve word */
static inline uint64_t
wal_word(uint32_t generation, Lsn pos)
{
	return (uint64_t) (generation & 0xffff) << 48 | pos >> 3;
}

static inline uint32_t
wal_word_generation(uint64_t w)
{
	return (uint32_t) (w >> 48);
}

static inline Lsn
wal_word_pos(uint64_t w)
{
	return (w & ((UINT64_C(1) << 48) - 1)) << 3;
}

static inline uint64_t
wal_segment_of(Lsn lsn)
{
	return lsn / wal_sh->segment_size;
}

/* ---- wal_format.c */
/* What the CRCs of this cluster's records start with. */
static inline uint32_t
wal_crc_seed(const Control *control)
{
	return (uint32_t) (control->crc_seed ^ control->crc_seed >> 32);
}

void wal_header_encode(const WalHeader *h, uint8_t out[WAL_HEADER_SIZE]);
void wal_header_decode(const uint8_t in[WAL_HEADER_SIZE], WalHeader *h);
/*
 * CRC of the record: `body_crc` is that of the body alone, seeded; `encoded` the header, its crc field not
 * looked at.
 */
uint32_t wal_record_crc(uint32_t body_crc, const uint8_t encoded[WAL_HEADER_SIZE]);
/*
 * Why a header can't be that of the record at `pos` behind a record of `previous_term`; NULL: it can.
 * previous_term UINT64_MAX: not known. For a TERM record the body's term is checked by wal_record_check().
 */
const char *wal_header_check(const WalHeader *h, Lsn pos, uint64_t previous_term, uint64_t record_max);
/* A header that fails for what a newer kvd may have meant by it; if the checksum fits, it did. */
bool wal_header_of_later_format(const WalHeader *h, uint64_t previous_term);
/* fs_sync() or fs_datasync(), marked as such for who looks after stuck processes. */
KV_CHECK Status wal_sync_file(Status (*sync)(int fd), int fd);
/* The whole record, header + body + padding, whose header passed the check above. NULL: sound. */
const char *wal_record_check(const uint8_t *raw, const WalHeader *h, uint64_t previous_term, uint32_t seed);

/* ---- wal_ring.c */
/*
 * The record into the ring as `slot`; the generation may be an even one (begin_term). CRC of the body is
 * given. A TERM record is in the term history before a flusher can see it.
 */
KV_CHECK Status wal_put(int slot, uint32_t generation, WalHeader *h, uint32_t body_crc, const Slice *parts,
						int nparts, Lsn *start, Lsn *end);
void wal_ring_copy_in(Lsn at, const void *from, size_t len);
void wal_ring_copy_out(Lsn from, void *to, size_t len);
/* May the ring take bytes up to `end`, and this much be left free for others? */
bool wal_ring_has_room(Lsn end, uint64_t keep);
/* `n` more records put by this process, for the figures. */
void wal_count_records(int slot, uint64_t n);
/* [from, to) of the ring as one or two pieces; returns how many. */
int wal_ring_iov(Lsn from, Lsn to, struct iovec iov[2]);
/* A slot whose insertion is under way, -1: none. */
int wal_inserting_slot(void);
void wal_raise_commit(Lsn to);

/* ---- wal_segment.c */
void wal_segment_name(uint64_t segment, char out[WAL_NAME_SIZE]);
/* Descriptor of an existing segment, from this process's cache; do not close it. */
KV_CHECK Status wal_segment_fd(uint64_t segment, int *fd);
/* Make every segment up to `segment` that is missing. NO_SPACE is recorded for wal_out_of_space(). */
KV_CHECK Status wal_segment_ensure(uint64_t segment);
/* `data` at position `at`, over as many segments as it takes; not synced. */
KV_CHECK Status wal_segment_write(Lsn at, Slice data);
/* Sync every segment that holds bytes of [from, to). */
KV_CHECK Status wal_segment_sync(Lsn from, Lsn to);
/* Recovery: fill a short segment `end` lies in, count what is ready behind it, remove what is no use. */
KV_CHECK Status wal_segment_settle(Lsn end);

/* ---- wal_mark.c */
KV_CHECK Status wal_mark_read(WalMark *mark, int *slot);
/* Write it to the other slot, sync, remember in shared memory. REQUIRES WAL_SEGMENT, or recovery. */
KV_CHECK Status wal_mark_write(const WalMark *mark);
/* Recovery: what is on disk is *mark. */
void wal_mark_set(const WalMark *mark);
/* REQUIRES WAL_FLUSH; before the log is written up to `to`: a restart must find room in the ring for what follows the
   mark's commit (wal_recover.c). Panics like a flush. */
void wal_mark_keep_near(Lsn to);
void wal_mark_close(void);

/* Remove all files of the log. Start only. */
KV_CHECK Status wal_segment_forget(void);

/* ---- wal_terms.c; writers: see WalShared.terms */
void wal_terms_reset(void);
void wal_terms_add(uint64_t term, Lsn start);
/* Forget terms that start at `to` or above. */
void wal_terms_cut(Lsn to);

/* ---- wal_scan.c */
typedef struct WalScan {
	Lsn pos;       /* where the next record is looked for */
	Lsn until;     /* nothing at or above this is looked at */
	uint64_t term; /* of the record before pos; UINT64_MAX: not known */
	uint8_t *buf;
	size_t cap;
	Lsn at;           /* position of buf[0] */
	size_t len;       /* bytes in buf */
	int fd;           /* -1: none */
	uint64_t segment; /* of fd */
	const char *why;  /* after NOT_FOUND: what is wrong, */
	Lsn bad;          /* and where: pos, or where the bytes end */
	uint64_t torn;    /* after NOT_FOUND: size of the record that was begun at pos; 0: none was */
} WalScan;
KV_CHECK Status wal_scan_open(WalScan *s, Lsn from, Lsn until, uint64_t term);
/* Next record and its raw bytes (valid until the next call). NOT_FOUND: no sound record at pos. */
KV_CHECK Status wal_scan_next(WalScan *s, WalRecord *out, Slice *raw);
void wal_scan_close(WalScan *s);
/* Go on to the first sound record at or above pos, by content. NOT_FOUND: none begins before `limit`. */
KV_CHECK Status wal_scan_find(WalScan *s, Lsn limit);
/* CORRUPT that names file and offset of pos. */
KV_CHECK Status wal_scan_corrupt(const WalScan *s, const char *advice);

#endif
