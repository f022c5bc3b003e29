/*
 * consensus.c - the consensus worker's work: raft meets the log, the other nodes and the rest of the server.
 *
 * Consensus worker only. It is the only writer of the vote file, the gate, the role and term in the node's
 * state, log time, and what replication/replstate.h publishes. A turn: sleep until something happens, tell
 * raft about it, do what raft says (act.c), send. Nothing in a turn waits for another process or, but for a
 * vote, for the disk (rule A3).
 *
 * A node alone goes the same way as a leader elected by others: new term in the vote file, TERM record, gate. Its own
 * vote is the majority, its own disk the quorum; there the flush owner moves commit (rule G7).
 *
 * Invariants:
 * 1. The term in the vote file is never below one that is in the log; it is durable before the TERM record is made.
 * 2. Every start opens a new term (rule L1).
 */
#include "replication/consensus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "consensus_internal.h"
#include "ipc/logclock.h"
#include "ipc/nodestate.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/proc.h"
#include "replication/address.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"

#define APPLY_WAIT_MS 60000 /* the replay process may have to wait for a flush to a slow disk first */
#define TURN_MAX_NS UINT64_C(100000000) /* look at everything at least this often */
#define HEARTBEATS_PER_TIMEOUT 8
#define COMMIT_DELAY_US 2000 /* an idle leader tells followers a new commit position at most this late */
/* A leader whose disk gets nowhere for this many election timeouts hands leadership over (rule G6). */
#define STALLED_TIMEOUTS 3
#define NO_SPACE_RETRY_US UINT64_C(60000000)
#define EVENTS_PER_TURN 256 /* from other nodes, before own duties are looked after again */

Consensus cons;

/* ---- start */

static RaftTiming
timing_of(const Membership *m)
{
	uint64_t election_us = (uint64_t) m->election_ms * 1000;

	return (RaftTiming){ .election_us = election_us,
						 .heartbeat_us = election_us / HEARTBEATS_PER_TIMEOUT,
						 .commit_delay_us = COMMIT_DELAY_US,
						 .window = (uint64_t) config.replication_window };
}

static Status
self_member(Member *m)
{
	*m = (Member){ .incarnation = cons.control->node_incarnation, .voter = true };
	snprintf(m->name, sizeof m->name, "%.63s", config.node_name);
	return address_of_self(m->peer_address, m->client_address);
}

static Status
find_configuration(void)
{
	Status st = membership_at_start(&cons.current, &cons.previous);

	if (st != ST_NOT_FOUND)
		return st;
	/* A new node alone: the log names nobody yet. */
	cons.current = (MembershipAt){ .members = { .election_ms = (uint32_t) config.election_timeout, .n = 1 } };
	return self_member(&cons.current.members.node[0]);
}

/*
 * The log's term history, oldest first. What was before recovery began is known by its end only: its term is entered
 * just below, where no record can be meant.
 */
static uint32_t
term_history(RaftTerm *out)
{
	static WalTerm newest_first[RAFT_TERMS_MAX];
	int n = wal_term_history(newest_first, RAFT_TERMS_MAX);

	for (int i = 0; i < n; i++)
		out[i] = (RaftTerm){ newest_first[n - 1 - i].term, newest_first[n - 1 - i].start };
	if (n > 0 && n < RAFT_TERMS_MAX && out[0].start > wal_first_lsn(cons.control))
		out[0].start -= 8;
	return (uint32_t) n;
}

static Status
start_raft(const WalRecovery *found)
{
	static RaftTerm terms[RAFT_TERMS_MAX];
	RaftStart s = { .self = cons.control->node_incarnation, .now_us = now_us(), .end = found->end };
	Vote vote;

	KV_TRY(votefile_read(s.self, &vote));
	KV_TRY(proc_random(&s.seed, sizeof s.seed));
	s.vote = (RaftVote){ vote.term, vote.voted_for, (vote.flags & VOTE_RECOVERING) != 0 };
	s.timing = timing_of(&cons.current.members);
	s.config = raft_config_of(&cons.current);
	if (cons.previous.members.n > 0)
		s.previous = raft_config_of(&cons.previous);
	s.durable = wal_durable();
	s.commit = wal_commit();
	s.terms = terms;
	s.nterms = term_history(terms);
	s.first = wal_first_lsn(cons.control);
	raft_init(&cons.raft, &s);
	/* Log or tables that were fetched may be of a newer term than any that this node voted in. */
	if (cons.raft.vote.term != vote.term)
		consensus_persist_vote();
	return ST_OK;
}

/* A node alone: elected at once; clients are let in when its TERM record is applied. */
static Status
lead_alone(void)
{
	consensus_tell(RAFT_EV_TICK, 0, 0, 0);
	if (cons.raft.role != RAFT_LEADER)
		return status_fail(ST_INTERNAL, "a node alone was not elected by itself");
	while (wal_durable() < cons.end_told) {
		if (cons.term_wanted && !consensus_begin_term())
			return status_fail(ST_NO_SPACE, "cannot begin a term: %s", status_detail());
		(void) wal_flush();
	}
	consensus_tell(RAFT_EV_DURABLE, 0, 0, wal_durable());
	procslot_wake(PROC_REPLAY);
	return kvstore_wait_applied(cons.end_told - 1, APPLY_WAIT_MS);
}

Status
consensus_start(const Control *control)
{
	NodeState *node = nodestate();
	WalRecovery found;

	kvstore_recovered(&found);
	cons = (Consensus){ .control = control };
	cons.last_time = found.last_time;
	cons.durable_told = wal_durable();
	cons.end_told = found.end;
	KV_TRY(find_configuration());
	KV_TRY(start_raft(&found));
	KV_TRY(peers_open(control));
	peers_set_members(&cons.current.members, cons.current.start);
	if (membership_alone(&cons.current.members, cons.raft.self) && raft_voters(&cons.raft.config) == 1)
		KV_TRY(lead_alone());
	atomic_store(&node->phase, NODE_RUNNING);
	report_turn(now_us());
	return ST_OK;
}

/* ---- the replay process asks */

Status
consensus_is_alone(const Control *control, bool *alone)
{
	MembershipAt current, previous;
	Status st = membership_at_start(&current, &previous);

	*alone =
		st == ST_NOT_FOUND || (st == ST_OK && membership_alone(&current.members, control->node_incarnation));
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
consensus_may_cut(const Control *control)
{
	char why[STATUS_DETAIL_MAX];
	Membership m;
	Lsn at;
	Vote v;

	snprintf(why, sizeof why, "%s", status_detail());
	if (membership_file_read(&m, &at) != ST_OK || membership_alone(&m, control->node_incarnation))
		return status_fail(ST_CORRUPT, "%s", why);
	elog(LOG_LEVEL_ERROR, "%s", why);
	elog(LOG_LEVEL_ERROR,
		 "the log is cut there; this node takes no part in votes until other nodes have given it back");
	KV_TRY(votefile_read(control->node_incarnation, &v));
	v.flags |= VOTE_RECOVERING;
	return votefile_write(&v);
}

/* ---- a turn */

/* What other processes did to the log. */
static void
look_at_log(void)
{
	Lsn durable, end;

	if (cons.truncating && !wal_truncate_pending()) {
		cons.truncating = false;
		cons.end_told = wal_inserted();
		cons.durable_told = wal_durable();
		consensus_tell(RAFT_EV_TRUNCATED, 0, cons.end_told, 0);
		consensus_tell(RAFT_EV_DURABLE, 0, 0, cons.durable_told);
	}
	durable = wal_durable();
	if (cons.gate_open) {
		end = wal_inserted();
		if (end != cons.end_told) {
			cons.end_told = end;
			consensus_tell(RAFT_EV_APPENDED, 0, 0, end);
		}
	}
	if (durable != cons.durable_told && !cons.truncating) {
		cons.durable_told = durable;
		consensus_tell(RAFT_EV_DURABLE, 0, 0, durable);
	}
}

/* Pieces go to raft before any event (act.c); here those that nothing else would bring along, and the end. */
static void
look_at_fetcher(void)
{
	FetchPiece p;

	if (fetch_piece(&p))
		consensus_tell(RAFT_EV_TICK, 0, 0, 0);
	if (cons.fetch_ordered && !fetch_active()) {
		cons.fetch_ordered = false;
		consensus_tell(RAFT_EV_FETCH_ENDED, 0, 0, 0);
	}
}

static void
on_append(const PeerEvent *p)
{
	const RaftMsg *m = &p->msg;

	if ((m->flags & RAFT_OWN_TERM) && m->from == cons.raft.leader && m->term == cons.raft.vote.term)
		replstate_leader_said(m->commit);
	if (p->bytes.len > 0)
		assemble_piece(p);
	else
		assemble_empty(m);
}

static void
on_message(const PeerEvent *p)
{
	RaftMsg m = p->msg;
	RaftEvent e = { .kind = RAFT_EV_MESSAGE, .msg = &m };

	report_heard(p->id);
	if (m.kind >= RAFT_HOST_KINDS)
		compare_message(&m);
	else if (m.kind != RAFT_APPEND)
		consensus_event(&e, slice_of(NULL, 0), NULL);
	else
		on_append(p);
}

static void
look_at_peers(void)
{
	PeerEvent p;

	for (int i = 0; i < EVENTS_PER_TURN && peers_next(&p); i++)
		switch (p.kind) {
		case PEER_EV_UP:
			consensus_tell(RAFT_EV_PEER_UP, p.id, 0, 0);
			break;
		case PEER_EV_DOWN:
			consensus_tell(RAFT_EV_PEER_DOWN, p.id, 0, 0);
			break;
		case PEER_EV_LOST:
			assemble_lost(p.id);
			break;
		case PEER_EV_MESSAGE:
			on_message(&p);
			break;
		}
}

static void
send_ranges(void)
{
	const RaftConfig *c = &cons.raft.config;

	if (cons.raft.role != RAFT_LEADER)
		return;
	for (int i = 0; i < c->n; i++) {
		uint64_t id = c->member[i].id, to, sent;
		RaftMsg head;

		while (id != cons.raft.self && peers_ready(id) &&
			   raft_next_send(&cons.raft, id, now_us(), &head, &to)) {
			sent = peers_send_range(&head, to);
			if (sent == head.pos)
				break;
			raft_sent(&cons.raft, id, now_us(), sent);
		}
	}
}

/* Rule G6: a leader that cannot make anything durable is none, nor one that cannot begin its term. */
static void
watch_progress(uint64_t us)
{
	uint64_t limit = STALLED_TIMEOUTS * cons.raft.timing.election_us;
	Lsn durable = wal_durable();
	bool waits = durable < cons.end_told || cons.term_wanted;

	if (cons.raft.role != RAFT_LEADER || durable != cons.progress_at || !waits || cons.progress_us == 0) {
		cons.progress_at = durable;
		cons.progress_us = us;
		return;
	}
	if (us - cons.progress_us < limit || cons.raft.transferring || raft_voters(&cons.raft.config) == 1)
		return;
	cons.progress_us = us;
	elog(LOG_LEVEL_WARNING, "the log's disk makes no progress: handing leadership over");
	if (consensus_transfer(0) != ST_OK && consensus_transfer(cons.raft.self) != ST_OK)
		elog(LOG_LEVEL_WARNING, "nobody can take over: %s", status_detail());
}

/*
 * Rule C8: a leader that has to refuse writes lets another have a try, at most so often: it may have no
 * space either.
 */
static void
watch_space(uint64_t us)
{
	static uint64_t tried_us;

	if (cons.raft.role != RAFT_LEADER || raft_voters(&cons.raft.config) == 1 || !kvstore_no_space() ||
		(tried_us != 0 && us - tried_us < NO_SPACE_RETRY_US))
		return;
	tried_us = us;
	elog(LOG_LEVEL_WARNING, "no disk space for writes: handing leadership over");
	if (consensus_transfer(0) != ST_OK)
		elog(LOG_LEVEL_WARNING, "nobody can take over: %s", status_detail());
}

/* The configuration from before the log gets a record of its own; so does a new address of this node. */
static void
record_configuration(void)
{
	static uint64_t tried_us;
	const Raft *r = &cons.raft;
	Membership m = cons.current.members;
	Member self;
	uint64_t us = now_us();

	if (r->role != RAFT_LEADER || !cons.gate_open || r->commit < raft_serve_from(r) ||
		us - tried_us < r->timing.election_us)
		return;
	tried_us = us;
	if (self_member(&self) != ST_OK)
		return;
	for (int i = 0; i < m.n; i++)
		if (m.node[i].incarnation == self.incarnation) {
			self.voter = m.node[i].voter;
			memcpy(self.name, m.node[i].name, sizeof self.name);
			if (cons.current.start != 0 && strcmp(self.peer_address, m.node[i].peer_address) == 0 &&
				strcmp(self.client_address, m.node[i].client_address) == 0)
				return;
			m.node[i] = self;
		}
	if (consensus_propose(&m) != ST_OK)
		elog(LOG_LEVEL_DEBUG, "configuration not recorded yet: %s", status_detail());
}

static void
every_while(uint64_t us)
{
	static uint64_t clock_us;

	if (us - clock_us >= LOGCLOCK_TICK_MS * 1000) {
		clock_us = us;
		logclock_tick();
		watch_progress(us);
		watch_space(us);
		record_configuration();
		consensus_adjust_alone();
		kvstore_keep_log(cons.raft.role == RAFT_LEADER && cons.raft.config.n > 1 ? raft_needed(&cons.raft)
																				 : UINT64_MAX);
	}
	report_turn(us);
}

void
consensus_turn(void)
{
	uint64_t deadline_ns = raft_deadline_us(&cons.raft) * 1000, most = clock_mono_ns() + TURN_MAX_NS, us;

	peers_wait(deadline_ns < most ? deadline_ns : most);
	look_at_log();
	look_at_fetcher();
	look_at_peers();
	assemble_feed();
	look_at_log();
	consensus_reads_turn();
	consensus_retry_term();
	us = now_us();
	if (cons.raft.role == RAFT_LEADER)
		consensus_tell(RAFT_EV_LOG_START, 0, wal_ring_floor(), wal_files_floor());
	if (us >= raft_deadline_us(&cons.raft))
		consensus_tell(RAFT_EV_TICK, 0, 0, 0);
	admin_turn();
	compare_turn(us);
	send_ranges();
	peers_flush();
	every_while(us);
}

/* ---- stop */

/* An orderly stop does not make the others wait for an election. */
static void
hand_over(void)
{
	uint64_t until = now_us() + cons.raft.timing.election_us;

	if (cons.raft.role != RAFT_LEADER || raft_voters(&cons.raft.config) == 1)
		return;
	if (consensus_transfer(0) != ST_OK) {
		elog(LOG_LEVEL_LOG, "stopping as the leader: %s", status_detail());
		return;
	}
	while (cons.raft.role == RAFT_LEADER && now_us() < until)
		consensus_turn();
}

void
consensus_stop(void)
{
	NodeState *node = nodestate();

	atomic_store(&node->phase, NODE_STOPPING);
	hand_over();
	if (cons.gate_open)
		consensus_close_gate();
	peers_close();
	atomic_store(&node->role, NODE_FOLLOWER);
}
