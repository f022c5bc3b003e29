/*
 * lock.c - one server a data directory (rule P3).
 *
 * Postmaster, and offline modes of kvd. Two parts:
 *   kvd.lock   an fcntl lock, between postmasters. Not inherited by fork, so it says nothing of children.
 *   kvd.alive  a FIFO whose read end attached children inherit: opening it for writing without waiting fails
 *              with ENXIO exactly when none of them lives any more.
 *
 * Both end a moment after a kill -9, not with it: a dying postmaster gives its memory back before its lock, and its
 * children see its death only then. Whoever starts the next server at once is made to wait, not refused.
 *
 * Invariant: kvd.lock is opened once in a process and never closed while it serves.
 */
#include "common/elog.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/fs.h"
#include "postmaster_internal.h"

#define LOCK_FILE "kvd.lock"
#define ALIVE_FIFO "kvd.alive"
#define HOLDER_WAIT_MS 1000   /* a server that lives is refused after this; one that dies needs milliseconds */
#define CHILDREN_WAIT_MS 5000 /* a dead postmaster's children are gone after milliseconds; more on a loaded machine */
#define POLL_MS 5

static int lock_fd = -1;
static int alive_fd = -1;

/* Wait a little for the children of a predecessor to notice that it is gone. */
static Status
wait_for_children(const char *shown)
{
	uint64_t deadline = clock_mono_ns() + UINT64_C(1000000) * CHILDREN_WAIT_MS;
	bool has;

	for (;;) {
		KV_TRY(child_fifo_has_reader(ALIVE_FIFO, &has));
		if (!has)
			return ST_OK;
		if (clock_mono_ns() >= deadline)
			return status_fail(ST_BUSY, "a process of an earlier server still uses data directory \"%s\": "
			                   "end it (fuser %s/" ALIVE_FIFO " names it), then start again", shown, shown);
		child_poll(NULL, NULL, 0, POLL_MS);
	}
}

/* Take the lock, waiting a moment for a holder that is about to end. */
static Status
take_file_lock(pid_t *holder)
{
	uint64_t deadline = clock_mono_ns() + UINT64_C(1000000) * HOLDER_WAIT_MS;

	for (;;) {
		Status st = child_lock_file(LOCK_FILE, &lock_fd, holder);

		if (st != ST_BUSY || clock_mono_ns() >= deadline)
			return st;
		child_poll(NULL, NULL, 0, POLL_MS);
	}
}

Status
lock_take(const char *shown)
{
	pid_t holder;
	Status st = take_file_lock(&holder);

	if (st == ST_BUSY)
		return status_fail(ST_BUSY, "another server (process %ld) is running in data directory \"%s\"", (long) holder,
		                   shown);
	KV_TRY(st);
	KV_TRY(wait_for_children(shown));
	return child_fifo_open_reader(ALIVE_FIFO, &alive_fd);
}

void
lock_close_in_child(bool attached)
{
	/* Closing it in a child does not touch the postmaster's lock: fcntl locks belong to a process. */
	if (lock_fd >= 0 && fs_close(lock_fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
	lock_fd = -1;
	if (attached)
		return;
	if (alive_fd >= 0 && fs_close(alive_fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
	alive_fd = -1;
}
