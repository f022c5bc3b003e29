/*
 * consensus.c - the consensus worker's work, for a cluster of one.
 *
 * Consensus worker only. It is the only writer of the vote file, the gate, the role and term in the node's
 * state, and log time. Takes no locks of its own.
 *
 * A node alone goes the same way as a leader elected by others: new term in the vote file, TERM record, gate.
 * Its own vote is the majority, its own disk the quorum (alone_limit without end, rule G7).
 *
 * Invariants:
 * 1. The term in the vote file is never below one that is in the log; it is durable before the TERM record is made.
 * 2. Every start opens a new term (rule L1).
 * 3. The gate opens after the own TERM record is applied.
 */
#include "replication/consensus.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/logclock.h"
#include "ipc/nodestate.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "replication/address.h"
#include "replication/membership.h"
#include "replication/replstate.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"
#include "storage/wal.h"

#define APPLY_WAIT_MS 60000  /* the replay process may have to wait for a flush to a slow disk first */
#define CLOSE_GATE_MS 1000   /* rule G2: an insertion is a copy in memory */
#define SELF_NAME "node1"    /* of a cluster of one; a name is given when a node joins others */

/* Make the log durable up to `end` and wait until that is applied. */
static Status
settle(Lsn end)
{
	while (wal_durable() < end)
		(void) wal_flush();
	procslot_wake(PROC_REPLAY);
	return kvstore_wait_applied(end - 1, APPLY_WAIT_MS);
}

static Status
open_term(const WalRecovery *found, uint64_t self, uint64_t *term)
{
	Vote vote;
	uint64_t last_time = kvstore_applied_time();
	Lsn start, end;

	KV_TRY(votefile_read(self, &vote));
	*term = (vote.term > found->last_term ? vote.term : found->last_term) + 1;
	vote.term = *term;
	vote.voted_for = self;
	KV_TRY(votefile_write(&vote));

	wal_set_alone_limit(UINT64_MAX);
	logclock_begin_term(found->last_time > last_time ? found->last_time : last_time, clock_wall_ms());
	KV_TRY(wal_begin_term(*term, logclock_now(), &start, &end));
	return settle(end);
}

static Status
name_configuration(uint64_t self)
{
	Membership m = { .n = 1, .election_ms = (uint32_t) config.election_timeout, .node[0].voter = true };
	Buf body = { 0 };
	Slice part;
	Lsn start, end;
	Status st;

	snprintf(m.node[0].name, sizeof m.node[0].name, "%s", SELF_NAME);
	m.node[0].incarnation = self;
	st = membership_encode(&m, &body);
	part = slice_buf(&body);
	if (st == ST_OK)
		st = wal_insert(wal_generation(), WAL_CONFIG, 0, logclock_now(), &part, 1, &start, &end);
	buf_free(&body);
	return st == ST_OK ? settle(end) : st;
}

/* What others may know of a cluster of one; its lease has no end. */
static Status
publish_alone(uint64_t self, uint64_t term)
{
	ReplView v = { .term = term, .self = self, .leader = self, .role = NODE_LEADER, .voter = true, .n = 1 };

	v.election_ms = (uint32_t) config.election_timeout;
	v.elections = v.terms_led = 1;
	v.peer[0].id = self;
	v.peer[0].voter = true;
	snprintf(v.peer[0].name, sizeof v.peer[0].name, "%s", SELF_NAME);
	KV_TRY(address_of_self(v.peer[0].peer_address, v.peer[0].client_address));
	replstate_publish(&v);
	replstate_set_lease(UINT64_MAX, 0);
	return ST_OK;
}

Status
consensus_start(const Control *control)
{
	NodeState *node = nodestate();
	WalRecovery found;
	uint64_t term;

	kvstore_recovered(&found);
	atomic_store(&node->role, NODE_CANDIDATE);
	KV_TRY(open_term(&found, control->node_incarnation, &term));
	wal_open_gate();
	/* The part of the log that was read at the start names none: first start, or an older record is in tables. */
	if (found.last_config == 0)
		KV_TRY(name_configuration(control->node_incarnation));
	KV_TRY(publish_alone(control->node_incarnation, term));
	atomic_store(&node->term, term);
	atomic_store(&node->role, NODE_LEADER);
	atomic_store(&node->gate_open, 1);
	atomic_store(&node->phase, NODE_RUNNING);
	elog(LOG_LEVEL_LOG, "leader of a cluster of one in term %" PRIu64, term);
	return ST_OK;
}

void
consensus_tick(void)
{
	logclock_tick();
}

void
consensus_stop(void)
{
	NodeState *node = nodestate();
	int stuck;

	atomic_store(&node->phase, NODE_STOPPING);
	atomic_store(&node->gate_open, 0);
	replstate_set_lease(0, 0);
	/* Backends are gone by now; nothing can be cut wrongly if one is stuck after all, the log just ends before it. */
	if (!wal_close_gate(CLOSE_GATE_MS, &stuck))
		elog(LOG_LEVEL_WARNING, "slot %d was still inserting while the gate closed", stuck);
	atomic_store(&node->role, NODE_FOLLOWER);
}
