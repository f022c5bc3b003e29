/*
 * fetch.c - the order: what the consensus worker asks of the fetcher process, and what comes back (rule C3).
 *
 * Shared memory. Under the lock WAL_APPEND: order, its number, `active`, `posted` being set. The fetcher
 * appends and posts a piece under one hold of it, after it has looked at the number: so when fetch_stop()
 * or fetch_order() return, what is in the log is what fetch_piece() has told or will tell.
 *	writers	order, no		consensus worker
 *			active			consensus worker; the fetcher takes it away when it is done
 *			piece, posted	fetcher; the consensus worker takes `posted` away
 */
#include "replication/fetch.h"

#include <string.h>

#include "common/elog.h"
#include "fetch_internal.h"
#include "fetch_shared.h"
#include "ipc/childsig.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "replication/snapshot.h"
#include "storage/kvstore.h"

#define IDLE_US 1000000
#define RETRY_US 500000 /* after a failure: the other node may be starting */
#define COMPLAIN_NS UINT64_C(10000000000)
#define SWEEP_NS UINT64_C(10000000000) /* what dead readers of our snapshots left may wait this long */

FetchShared *fetch_sh;

size_t
fetch_shmem_size(void)
{
	return sizeof(FetchShared);
}

void
fetch_shmem_init(void *mem)
{
	fetch_sh = mem;
	memset(mem, 0, sizeof(FetchShared));
}

/* ---- consensus worker */
/* The consensus worker holds it already while it gives raft an event. */
static bool
take_append_lock(void)
{
	if (lwlock_mine(LWLOCK_WAL_APPEND, 0))
		return false;
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	return true;
}

static void
give_append_lock(bool taken)
{
	if (taken)
		lwlock_release(LWLOCK_WAL_APPEND, 0);
}

void
fetch_order(const FetchOrder *o)
{
	bool mine = take_append_lock();

	fetch_sh->order = *o;
	fetch_sh->no++;
	atomic_store(&fetch_sh->active, 1);
	give_append_lock(mine);
	procslot_wake(PROC_FETCHER);
}

void
fetch_stop(void)
{
	bool mine;

	if (!fetch_active())
		return;
	mine = take_append_lock();
	fetch_sh->no++;
	atomic_store(&fetch_sh->active, 0);
	give_append_lock(mine);
	procslot_wake(PROC_FETCHER);
}

bool
fetch_active(void)
{
	return atomic_load(&fetch_sh->active) != 0;
}

bool
fetch_piece(FetchPiece *out)
{
	if (atomic_load(&fetch_sh->posted) == 0)
		return false;
	*out = fetch_sh->piece;
	return true;
}

void
fetch_taken(void)
{
	atomic_store(&fetch_sh->posted, 0);
	procslot_wake(PROC_FETCHER);
}

/* ---- fetcher */
static bool
take_job(FetchJob *job)
{
	bool active;

	if (!fetch_active())
		return false;
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	active = fetch_active();
	job->no = fetch_sh->no;
	job->order = fetch_sh->order;
	lwlock_release(LWLOCK_WAL_APPEND, 0);
	return active;
}

bool
fetch_stands(const FetchJob *job)
{
	FetchJob now;

	return !child_stop && take_job(&now) && now.no == job->no;
}

Status
fetch_not_ordered(void)
{
	return status_fail(ST_BUSY, "the order has changed");
}

void
fetch_end(const FetchJob *job)
{
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	if (fetch_sh->no == job->no)
		atomic_store(&fetch_sh->active, 0);
	lwlock_release(LWLOCK_WAL_APPEND, 0);
	procslot_wake(PROC_CONSENSUS);
}

void
fetch_nap(const FetchJob *job, uint64_t us)
{
	uint32_t token;

	if (us == 0)
		return;
	token = procslot_prepare_sleep();
	if (fetch_stands(job))
		procslot_sleep(token, us);
	else
		procslot_cancel_sleep();
}

/* Is this a failure of the other node or the way to it, or of this node's space, that may pass? */
static bool
may_pass(Status st)
{
	return st != ST_IO_ERROR && st != ST_INTERNAL;
}

static Status
after_failure(const FetchJob *job, Status st)
{
	static uint64_t complained_ns;
	uint64_t now = clock_mono_ns();

	if (!fetch_stands(job))
		return ST_OK;
	if (!may_pass(st))
		return st;
	if (complained_ns == 0 || now - complained_ns >= COMPLAIN_NS) {
		elog(LOG_LEVEL_WARNING, "fetching %s from %s: %s", job->order.snapshot ? "tables" : "log",
			 job->order.address, status_detail());
		complained_ns = now;
	}
	return ST_OK;
}

static Status
do_log(FetchJob *job, FetchClient *c, bool *done)
{
	Status st = fetch_log(job, c, done);

	if (st == ST_NOT_FOUND) {
		/* Retired since the leader looked: go on with tables. */
		elog(LOG_LEVEL_LOG, "%s has no log at our end any more, fetching tables", job->order.address);
		job->order.snapshot = true;
		return fetch_snapshot(job, c);
	}
	*done = *done || st == ST_CONDITION_FAILED;
	return st;
}

/* *nap_us: until the next turn. */
static Status
work(FetchJob *job, FetchClient *c, uint64_t *nap_us)
{
	bool done = false;
	Status st = ST_OK;

	if (!fetch_client_is_open(c))
		st = fetch_client_open(c, job->order.address, kvstore_control());
	if (st == ST_OK) {
		st = job->order.snapshot ? fetch_snapshot(job, c) : do_log(job, c, &done);
		done = done || (job->order.snapshot && st == ST_CONDITION_FAILED);
	}
	*nap_us = st == ST_OK ? fetch_client_rest_us(c) : RETRY_US;
	if (st != ST_OK)
		st = after_failure(job, st);
	if (done) {
		fetch_client_close(c);
		fetch_end(job);
	}
	return st;
}

static void
sweep(void)
{
	static uint64_t swept_ns;
	uint64_t now = clock_mono_ns();

	if (swept_ns != 0 && now - swept_ns < SWEEP_NS)
		return;
	swept_ns = now;
	if (snapshot_sweep() != ST_OK)
		elog(LOG_LEVEL_WARNING, "snapshots of readers that are gone stay for now: %s", status_detail());
}

Status
fetch_step(uint64_t *nap_us)
{
	static FetchClient client = { .fd = -1 };
	static FetchJob job;
	FetchJob now = { 0 };

	*nap_us = IDLE_US;
	sweep();
	if (!take_job(&now)) {
		fetch_client_close(&client);
		job.no = 0;
		return ST_OK;
	}
	if (now.no != job.no) {
		fetch_client_close(&client);
		job = now;
	}
	return work(&job, &client, nap_us);
}
