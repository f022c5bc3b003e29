/*
 * check_worker.c - the checker process: hashes this node's contents as of a HASH record (rule C7), without
 * haste.
 *
 * Checker process; what it finds is in shared memory, written by it alone, `ready` last. It rests as long
 * as it works, so that it never takes more than half of a core from those who serve.
 */
#include <stdatomic.h>
#include <string.h>

#include "common/elog.h"
#include "ipc/childsig.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "replication/check.h"
#include "storage/kvstore.h"

#define IDLE_US 200000            /* a HASH record wakes nobody */
#define WORK_NS UINT64_C(5000000) /* at a stretch */

typedef struct CheckShared {
	_Atomic uint32_t seq; /* odd: being written; 0: nothing yet */
	_Atomic uint64_t lsn, hash, entries;
	_Atomic uint32_t failed, damaged;
} CheckShared;

static CheckShared *sh;

size_t
check_shmem_size(void)
{
	return sizeof(CheckShared);
}

void
check_shmem_init(void *mem)
{
	sh = mem;
	memset(mem, 0, sizeof(CheckShared));
}

bool
check_own(CheckReport *out)
{
	uint32_t seq = atomic_load(&sh->seq);

	if (seq == 0 || (seq & 1) != 0) /* being written: it will be there at the next look */
		return false;
	*out = (CheckReport){ .lsn = atomic_load(&sh->lsn),
						  .failed = atomic_load(&sh->failed) != 0,
						  .damaged = atomic_load(&sh->damaged) != 0,
						  .hash = atomic_load(&sh->hash),
						  .entries = atomic_load(&sh->entries) };
	return atomic_load(&sh->seq) == seq;
}

static void
publish(const CheckReport *r)
{
	atomic_fetch_add(&sh->seq, 1);
	atomic_store(&sh->lsn, r->lsn);
	atomic_store(&sh->failed, r->failed);
	atomic_store(&sh->damaged, r->damaged);
	atomic_store(&sh->hash, r->hash);
	atomic_store(&sh->entries, r->entries);
	atomic_fetch_add(&sh->seq, 1);
	procslot_wake(PROC_CONSENSUS);
}

/* Called every now and then while tables are read. */
static Status
rest(void *arg)
{
	uint64_t *since = arg, worked = clock_mono_ns() - *since;

	if (child_stop)
		return status_fail(ST_SHUTTING_DOWN, "the node stops");
	if (worked < WORK_NS)
		return ST_OK;
	procslot_sleep(procslot_prepare_sleep(), worked / 1000);
	*since = clock_mono_ns();
	return ST_OK;
}

Status
check_step(uint64_t *nap_us)
{
	CheckReport r = { 0 };
	uint64_t log_time, since = clock_mono_ns();
	Lsn lsn;
	Status st;

	*nap_us = IDLE_US;
	if (!kvstore_hash_wanted(&lsn, &log_time))
		return ST_OK;
	st = kvstore_content_hash(lsn, log_time, rest, &since, &r.hash, &r.entries);
	if (st == ST_SHUTTING_DOWN)
		return ST_OK;
	if (st != ST_OK) {
		/*
		 * A damaged table is what this is here to find; others hold it whole. The node goes on as with any
		 * read.
		 */
		elog(LOG_LEVEL_ERROR, "contents as of %llu cannot be hashed: %s", (unsigned long long) lsn,
			 status_detail());
		r = (CheckReport){ .failed = st == ST_SNAPSHOT_GONE,
						   .damaged = st == ST_CORRUPT || st == ST_IO_ERROR };
		if (!r.failed && !r.damaged)
			return st; /* no memory: later */
	}
	r.lsn = lsn;
	publish(&r);
	kvstore_hash_done(lsn);
	return ST_OK;
}
