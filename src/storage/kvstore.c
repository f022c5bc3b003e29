/*
 * kvstore.c - set up the engine: sizes of shared memory, a new data directory, start and replay.
 *
 * Set-up is run by the postmaster before it forks, opening and replay by the replay process. While the log is
 * replayed the compaction worker already writes full memtables out.
 */
#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "ipc/shheap.h"
#include "kvstore_internal.h"

/* Records applied between two looks at whether somebody else wants the lock. */
#define REPLAY_BATCH 4096
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
	return round_line(sizeof(KvShared) + (size_t) slots * sizeof kvs->want[0]);
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
	kvs = mem; /* zeroed by the system */
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
	atomic_store(&kvs->applied, v->flushed);
	atomic_store(&kvs->flushed, v->flushed);
	atomic_store(&kvs->flushed_term, v->flushed_term);
	atomic_store(&kvs->applied_time, v->flushed_time);
	return superversion_first(v);
}

/* Apply up to REPLAY_BATCH records under one hold of the lock. NOT_FOUND at the end of the log. */
static Status
replay_some(WalReader *reader, WalRecord *rec, bool *pending)
{
	Status st = ST_OK;

	lwlock_acquire(LWLOCK_APPLY, 0);
	epoch_enter();
	for (int i = 0; i < REPLAY_BATCH; i++) {
		if (!*pending)
			st = wal_reader_next(reader, rec);
		if (st != ST_OK)
			break;
		*pending = true;
		st = apply_record(rec);
		if (st != ST_OK)
			break;
		*pending = false;
	}
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
	(void) cut_damage;
	return wal_recover(kvstore_applied(), atomic_load(&kvs->flushed_term), &kvs->recovered);
}

Status
kvstore_replay(bool alone)
{
	Lsn from = kvstore_applied();
	WalRecovery *r = &kvs->recovered;

	(void) alone;
	/* A cluster of one: what is durable here is agreed (rule A9). */
	wal_set_alone_limit(UINT64_MAX);
	wal_set_commit(r->end);
	KV_TRY(replay_log(from, r->end));
	wal_release_ring(r->end);
	atomic_store(&kvs->history_floor, r->end);
	return ST_OK;
}

void
kvstore_recovered(WalRecovery *out)
{
	*out = kvs->recovered;
}

Status
kvstore_replay_step(bool *did)
{
	*did = commit_work(0);
	return ST_OK;
}
