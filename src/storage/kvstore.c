/*
 * kvstore.c - set up the engine: sizes of shared memory, a new data directory, start and replay.
 *
 * Set-up is run by the postmaster before it forks, opening and replay by the replay process. While the log is
 * replayed the compaction worker already writes full memtables out.
 */
#include <string.h>

#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "ipc/shheap.h"
#include "kvstore_internal.h"

/* Applied between two looks at whether somebody else wants the lock: records, and bytes of log (to a record's end). */
#define REPLAY_BATCH 4096
#define REPLAY_BYTES (4 * 1024 * 1024)
#define REPLAY_BODIES (256 * 1024) /* records that are taken in together */
#define REPLAY_STALL_US 1000 /* the compaction worker is writing a table; it wakes us when done */

KvShared *kvs;

static size_t
round_line(size_t n)
{
	return (n + 63) & ~(size_t) 63;
}

static size_t
kvs_size(int slots)
{
	return round_line(sizeof(KvShared) + (size_t) slots * (sizeof kvs->want[0] + sizeof kvs->hold[0] +
                                                             sizeof kvs->hashing[0]));
}

size_t
kvstore_shmem_size(int slots)
{
	return kvs_size(slots) + round_line(wal_shmem_size((size_t) config.wal_buffers, slots)) +
		   round_line(cache_shmem_size((size_t) config.block_cache_size)) + round_line(lsm_shmem_size()) +
		   round_line((size_t) config.metadata_size) +
		   (size_t) config.memtable_count * round_line((size_t) config.memtable_size);
}

Status
kvstore_shmem_init(void *mem, const Control *control)
{
	uint8_t *p = mem;

	if (config.memtable_size < MEMTABLE_BYTES_ANY_RECORD)
		return status_fail(ST_BAD_SETTING, "memtable_size must be at least %dMB to hold the largest record",
						   (int) (MEMTABLE_BYTES_ANY_RECORD / MB));
	KV_TRY(table_codec_check((uint32_t) config.compression));
	kvs = mem;
	memset(kvs, 0, kvs_size(procslot_count()));
	p += kvs_size(procslot_count());
	KV_TRY(wal_shmem_init(p, (size_t) config.wal_buffers, procslot_count(), control));
	p += round_line(wal_shmem_size((size_t) config.wal_buffers, procslot_count()));
	cache_shmem_init(p, (size_t) config.block_cache_size);
	p += round_line(cache_shmem_size((size_t) config.block_cache_size));
	lsm_shmem_init(p);
	p += round_line(lsm_shmem_size());
	shheap_shmem_init(p, (size_t) config.metadata_size);
	p += round_line((size_t) config.metadata_size);
	kvs->control = *control;
	kvs->nmem = (int) config.memtable_count;
	kvs->nslots = procslot_count();
	kvs->hold = (_Atomic Lsn *) &kvs->want[kvs->nslots];
	kvs->hashing = (_Atomic uint64_t *) &kvs->hold[kvs->nslots];
	atomic_store(&kvs->keep_log, UINT64_MAX);
	for (int i = 0; i < kvs->nmem; i++) {
		kvs->mem[i].memory = p;
		p += round_line((size_t) config.memtable_size);
	}
	return ST_OK;
}

const Control *
kvstore_control(void)
{
	return &kvs->control;
}

Status
kvstore_create(const Control *control)
{
	KV_TRY(wal_create(control));
	return lsm_create(wal_first_lsn(control));
}

Status
kvstore_open(void)
{
	Version *v;

	KV_TRY(lsm_open(&v));
	apply_set_moment(v->flushed, v->flushed_time);
	atomic_store(&kvs->flushed, v->flushed);
	atomic_store(&kvs->flushed_term, v->flushed_term);
	return superversion_first(v);
}

/* Take one record in. Its body is the reader's, which goes on: a copy stays until apply_publish(). */
static Status
replay_record(const WalRecord *rec)
{
	static uint8_t bodies[REPLAY_BODIES];
	static size_t used;
	WalRecord copy = *rec;
	Status st;

	if (rec->body.len > sizeof bodies - used) {
		apply_publish();
		used = 0;
	}
	if (rec->body.len > sizeof bodies) {
		st = apply_take(rec);
		apply_publish();
		return st;
	}
	if (rec->body.len > 0)
		memcpy(bodies + used, rec->body.data, rec->body.len);
	copy.body.data = bodies + used;
	used += rec->body.len;
	return apply_take(&copy);
}

/* Apply some of the log under one hold of the lock, and one pin. NOT_FOUND at its end. */
static Status
replay_some(WalReader *reader, WalRecord *rec, bool *pending)
{
	Status st = ST_OK;
	Lsn began;

	lwlock_acquire(LWLOCK_APPLY, 0);
	epoch_enter();
	apply_begin();
	began = kvstore_applied();
	for (int i = 0; i < REPLAY_BATCH && apply_taken() - began < REPLAY_BYTES; i++) {
		if (!*pending)
			st = wal_reader_next(reader, rec);
		if (st != ST_OK)
			break;
		*pending = true;
		st = replay_record(rec);
		if (st != ST_OK)
			break;
		*pending = false;
	}
	apply_publish();
	wal_release_ring(kvstore_applied());
	epoch_leave();
	lwlock_release(LWLOCK_APPLY, 0);
	return st;
}

static Status
replay_log(Lsn from, Lsn until)
{
	WalReader *reader;
	WalRecord rec;
	bool pending = false;
	Status st;

	KV_TRY(wal_reader_open(from, until, &reader));
	do {
		st = replay_some(reader, &rec, &pending);
		if (st == ST_BUSY) {
			procslot_wake(PROC_COMPACTOR);
			procslot_sleep(procslot_prepare_sleep(), REPLAY_STALL_US);
		}
	} while (st == ST_OK || st == ST_BUSY);
	wal_reader_close(reader);
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
kvstore_recover(bool cut_damage)
{
	Status (*recover)(Lsn, uint64_t, WalRecovery *) = cut_damage ? wal_recover_damaged : wal_recover;

	return recover(kvstore_applied(), atomic_load(&kvs->flushed_term), &kvs->recovered);
}

Status
kvstore_replay(bool alone)
{
	Lsn from = kvstore_applied();
	WalRecovery *r = &kvs->recovered;
	Lsn until = alone ? r->end : r->commit_hint;

	/* A cluster of one: what is durable here is agreed; else what is certain, that tables hold or a mark names (A9). */
	wal_set_alone_limit(alone ? UINT64_MAX : 0);
	if (until < from)
		until = from;
	wal_set_commit(until);
	KV_TRY(replay_log(from, until));
	/* What was compared before the start is past: nothing kept the versions for it. */
	atomic_store(&kvs->hash_lsn, 0);
	atomic_store(&kvs->history_floor, until);
	return ST_OK;
}

void
kvstore_recovered(WalRecovery *out)
{
	*out = kvs->recovered;
}

Status
kvstore_log_record(Lsn at, Buf *scratch, WalRecord *out)
{
	WalReader *reader;
	Status st;

	KV_TRY(wal_reader_open(at, wal_written(), &reader));
	st = wal_reader_next(reader, out);
	buf_clear(scratch);
	if (st == ST_OK)
		st = buf_append_slice(scratch, out->body);
	wal_reader_close(reader);
	out->body = slice_buf(scratch);
	return st;
}

/* Committed records that were in the files when the node started, and were not certain then. */
static Status
replay_files(bool *did)
{
	Lsn applied = kvstore_applied(), until = wal_commit(), floor = wal_ring_floor();
	bool pending = false;
	WalReader *reader;
	WalRecord rec;
	Status st;

	if (until > floor)
		until = floor;
	*did = applied < until;
	if (!*did)
		return ST_OK;
	KV_TRY(wal_reader_open(applied, until, &reader));
	do
		st = replay_some(reader, &rec, &pending);
	while (st == ST_OK);
	wal_reader_close(reader);
	if (st == ST_BUSY) {
		procslot_wake(PROC_COMPACTOR);
		atomic_store(&kvs->stalled, 1);
	}
	commit_wake();
	return st == ST_NOT_FOUND || st == ST_BUSY ? ST_OK : st;
}

Status
kvstore_replay_step(bool *did)
{
	if (apply_below_ring())
		KV_TRY(replay_files(did));
	else
		*did = commit_work(0);
	if (atomic_load(&kvs->stalled) && kvstore_applied() < wal_commit()) {
		procslot_sleep(procslot_prepare_sleep(), REPLAY_STALL_US);
		*did = true;
	}
	return ST_OK;
}
