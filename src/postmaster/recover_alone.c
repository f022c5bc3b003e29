/*
 * recover_alone.c - kvd --recover-alone: a majority of the cluster is lost for good, and this node goes on
 * without it.
 *
 * Offline, one process, holding the directory's lock. Gives up what Raft promises, so it says what may be
 * lost, and does nothing without --yes. The node becomes a cluster of one under a new cluster id: the old
 * members are strangers to it from then on, and it to them; what they may have agreed on meanwhile can
 * never be mixed with what it agrees on.
 *
 * In this order, each step synced; cut off anywhere, a start is refused (the marker) until it was done
 * again:
 *   marker; kvd.control with a new cluster id; term in the vote file; TERM and CONFIG {this node} in the
 *   log; kvd.members; marker away.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/logclock.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/fetch.h"
#include "replication/membership.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"
#include "storage/wal.h"

#define MARKER "kvd.recover-alone"
#define CLOSE_GATE_MS 1000

static Status
has_marker(bool *has)
{
	int fd;
	Status st = fs_open(MARKER, FS_READ, &fd);

	*has = st == ST_OK;
	if (st == ST_NOT_FOUND)
		return ST_OK;
	return st == ST_OK ? fs_close(fd) : st;
}

Status
recover_alone_pending(void)
{
	bool has;

	KV_TRY(has_marker(&has));
	return has ? status_fail(ST_BUSY, "kvd --recover-alone was cut off here: run it again, to its end")
			   : ST_OK;
}

static void
tell(const WalRecovery *log, const Vote *vote, const Membership *m, uint64_t self)
{
	printf("This node's log ends at %" PRIu64 "; its newest term is %" PRIu64
		   ", the newest it heard of %" PRIu64 ".\n",
		   log->end, log->last_term, vote->term);
	printf("It knows for certain that everything below %" PRIu64 " was agreed on.\n", log->commit_hint);
	printf("LOST is every write that others agreed on and that did not reach this node: all beyond %" PRIu64
		   ".\n",
		   log->end);
	if (log->end > log->commit_hint)
		printf("The %" PRIu64 " bytes from %" PRIu64
			   " on may have been agreed on or not; they will count as agreed.\n",
			   log->end - log->commit_hint, log->commit_hint);
	if ((vote->flags & VOTE_RECOVERING) != 0)
		printf("WARNING: damage was cut from this node's log, and it had not got back from the others what "
			   "stood there.\n");
	printf(
		"Another member whose log ends later has lost less: look at all that are left before you choose.\n");
	for (int i = 0; i < m->n; i++)
		if (m->node[i].incarnation != self)
			printf("Dropped: %s %s at %s. It can come back only with an empty directory (--join).\n",
				   m->node[i].voter ? "voter" : "learner", m->node[i].name, m->node[i].peer_address);
}

/* TERM and CONFIG at the log's end, durable. */
static Status
write_log(const WalRecovery *log, Vote *vote, const Membership *alone)
{
	Lsn start, end = 0;
	Status st;
	int stuck;

	vote->term = (vote->term > log->last_term ? vote->term : log->last_term) + 1;
	vote->voted_for = alone->node[0].incarnation;
	vote->flags = 0;
	KV_TRY(votefile_write(vote));
	wal_set_alone_limit(UINT64_MAX);
	logclock_begin_term(log->last_time, clock_wall_ms());
	KV_TRY(wal_begin_term(vote->term, logclock_now(), &start, &end));
	wal_open_gate();
	st = membership_insert(alone, &start, &end);
	if (!wal_close_gate(CLOSE_GATE_MS, &stuck) && st == ST_OK)
		st = status_fail(ST_INTERNAL, "the log's gate does not close");
	KV_TRY(st);
	while (wal_durable() < end)
		if (!wal_flush() && wal_out_of_space())
			return status_fail(ST_NO_SPACE, "no space for the log: free some, then run it again");
	return wal_finish_mark();
}

static Status
do_it(const Control *control, const WalRecovery *log, Vote *vote, const Membership *m)
{
	uint64_t self = control->node_incarnation;
	Control next = *control;
	Membership alone = { .election_ms = m->election_ms, .n = 1 };
	const Member *me = membership_find(m, self);

	if (me != NULL)
		alone.node[0] = *me;
	else
		snprintf(alone.node[0].name, sizeof alone.node[0].name, "%.*s", MEMBERSHIP_NAME_MAX,
				 config.node_name);
	alone.node[0].incarnation = self;
	alone.node[0].voter = true;
	KV_TRY(proc_random(next.cluster_id, sizeof next.cluster_id));
	KV_TRY(initdir_make_marker(MARKER));
	KV_TRY(control_write(&next));
	KV_TRY(write_log(log, vote, &alone));
	KV_TRY(membership_file_write(&alone, wal_inserted()));
	KV_TRY(fs_unlink(MARKER));
	return fs_sync_dir(".");
}

Status
recover_alone(const Control *control, bool yes)
{
	uint64_t self = control->node_incarnation;
	MembershipAt now, before;
	WalRecovery log;
	Vote vote;
	bool again, installed;
	Status st;

	KV_TRY(has_marker(&again));
	KV_TRY(votefile_read(self, &vote));
	KV_TRY(shmem_create(control));
	procslot_attach(PROC_REPLAY, PROC_REPLAY);
	KV_TRY(fetch_install(&installed)); /* as every start does: tables that came whole from another node count */
	KV_TRY(kvstore_open());
	KV_TRY(kvstore_recover(false));
	kvstore_recovered(&log);
	st = membership_at_start(&now, &before);
	if (!again && (st == ST_NOT_FOUND || (st == ST_OK && membership_alone(&now.members, self)))) {
		printf("This node is alone already: nothing to do.\n");
		return ST_OK;
	}
	KV_TRY(st);
	tell(&log, &vote, &now.members, self);
	if (!yes) {
		printf("Nothing was changed. If the majority is gone for good, and this is the node to go on with: "
			   "add --yes\n");
		return status_fail(ST_USAGE, "not done without --yes");
	}
	KV_TRY(do_it(control, &log, &vote, &now.members));
	printf("Done: this node is a cluster of one, with a new identity. Start it, then add others: kvctl "
		   "cluster add\n");
	return ST_OK;
}
