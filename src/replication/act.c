/*
 * act.c - doing what raft says, in its order (replication/raft.h, RaftOut).
 *
 * Consensus worker only. Waits for the disk in one place, the vote file (rule L8), and when a node stops being alone;
 * everything else is put into shared memory and left to the WAL writer and the replay process (rule A3).
 *
 * Invariants:
 * 1. The gate is open only while raft leads and its TERM record of that term is in the log.
 * 2. A message leaves after everything that RaftOut names before it was done.
 * 3. cons.current and cons.previous follow raft.config and raft.previous.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "consensus_internal.h"
#include "ipc/childsig.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/nodestate.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"

#define CLOSE_GATE_MS 1000 /* rule G2: an insertion is a copy in memory */
#define FOLLOW_UPS 4       /* answers to one step's actions: TERM_BEGUN, CONFIG_APPENDED, APPENDED, DURABLE */

static RaftEvent follow_ups[FOLLOW_UPS];
static int nfollow_ups;
static MembershipAt appended; /* what CONFIG_APPENDED is about */

static void
follow_up(RaftEventKind kind, uint64_t pos, uint64_t end)
{
	KV_ASSERT(nfollow_ups < FOLLOW_UPS);
	follow_ups[nfollow_ups++] = (RaftEvent){ .kind = kind, .pos = pos, .end = end };
}

uint64_t
now_us(void)
{
	return clock_mono_ns() / 1000;
}

/* ---- configuration */

RaftConfig
raft_config_of(const MembershipAt *m)
{
	RaftConfig c = { .start = m->start, .end = m->end, .n = m->members.n };

	for (int i = 0; i < c.n; i++)
		c.member[i] = (RaftMember){ m->members.node[i].incarnation, m->members.node[i].voter };
	return c;
}

/* Names and addresses of raft's configuration: from what was proposed, else from what is known. */
static Membership
members_of(const RaftConfig *c)
{
	Membership m = { .election_ms = cons.current.members.election_ms, .n = c->n };

	for (int i = 0; i < c->n; i++) {
		const Member *known = membership_find(&cons.proposed, c->member[i].id);

		if (known == NULL)
			known = membership_find(&cons.current.members, c->member[i].id);
		KV_ASSERT(known != NULL); /* only what people or raft itself proposed */
		m.node[i] = *known;
		m.node[i].voter = c->member[i].voter;
	}
	return m;
}

/* "n1, n2, n3 (learner)", for the log. */
static void
log_members(void)
{
	const Membership *m = &cons.current.members;
	char text[MEMBERSHIP_NODES_MAX * (MEMBERSHIP_NAME_MAX + 12)] = "";
	size_t len = 0;

	for (int i = 0; i < m->n && len < sizeof text; i++)
		len += (size_t) snprintf(text + len, sizeof text - len, "%s%s%s", i > 0 ? ", " : "", m->node[i].name,
								 m->node[i].voter ? "" : " (learner)");
	elog(LOG_LEVEL_LOG, "members: %s", text);
}

static void
use_members(void)
{
	log_members();
	peers_set_members(&cons.current.members, cons.current.start);
	if (membership_file_write(&cons.current.members, cons.current.start) != ST_OK)
		elog_panic("cannot write " MEMBERSHIP_FILE ": %s", status_detail());
}

static void
follow_config(const MembershipAt *incoming)
{
	if (cons.raft.config.start == cons.current.start)
		return;
	if (incoming != NULL && incoming->start == cons.raft.config.start) {
		cons.previous = cons.current;
		cons.current = *incoming;
	} else {
		KV_ASSERT(cons.previous.members.n > 0 && cons.previous.start == cons.raft.config.start);
		cons.current = cons.previous; /* truncated (rule C2) */
		cons.previous = (MembershipAt){ 0 };
	}
	use_members();
}

/* ---- the gate */

/* Everything inserted goes to the disk: now, by this process. Only where the node changes from alone to not alone. */
static void
flush_all(void)
{
	while (wal_durable() < wal_inserted())
		if (!wal_flush())
			procslot_sleep(procslot_prepare_sleep(), 1000);
}

static void
set_alone(bool alone)
{
	if (alone == cons.alone_without_end)
		return;
	/*
	 * What came in so far was promised by this node's own majority: commit it by that before others count. What
	 * comes in from here on is committed by raft, which counts the voters of the newest configuration.
	 */
	flush_all();
	wal_set_alone_limit(alone ? UINT64_MAX : wal_inserted());
	cons.alone_without_end = alone;
}

void
consensus_close_gate(void)
{
	int stuck;

	atomic_store(&nodestate()->gate_open, 0);
	replstate_set_lease(0, UINT64_MAX);
	if (!wal_close_gate(CLOSE_GATE_MS, &stuck)) {
		/* A stopped process in the middle of an insertion: only a restart of the node gets rid of it (rule G2). */
		elog(LOG_LEVEL_ERROR, "the process in slot %d is stuck while it inserts into the log", stuck);
		child_exit(EXIT_FATAL);
	}
	cons.gate_open = false;
	kvstore_commit_moved(); /* who waits looks again (rule G3) */
}

static void
publish_lease(void)
{
	uint64_t us = raft_lease_us(&cons.raft);

	replstate_set_lease(us == UINT64_MAX ? UINT64_MAX : us * 1000, raft_serve_from(&cons.raft));
}

static void
open_gate(void)
{
	if (cons.gate_open)
		return;
	wal_open_gate();
	cons.gate_open = true;
	atomic_store(&nodestate()->gate_open, 1);
}

/* Closed and opened around a change of what "alone" means (rule G7). */
static void
change_alone(bool alone)
{
	bool reopen = cons.gate_open;

	if (alone == cons.alone_without_end)
		return;
	if (reopen)
		consensus_close_gate();
	set_alone(alone);
	if (reopen) {
		open_gate();
		publish_lease(); /* raft, for which nothing has changed, would not say it again */
	}
}

void
consensus_adjust_alone(void)
{
	bool alone = membership_alone(&cons.current.members, cons.raft.self);

	if (alone && !cons.alone_without_end && cons.gate_open && cons.raft.commit >= cons.current.end)
		change_alone(true);
}

/* ---- terms */

void
consensus_persist_vote(void)
{
	Vote v = { .term = cons.raft.vote.term, .voted_for = cons.raft.vote.voted_for };

	if (cons.raft.vote.recovering || cons.repairing)
		v.flags |= VOTE_RECOVERING;
	if (votefile_write(&v) != ST_OK)
		elog_panic("cannot write the vote file: %s", status_detail());
}

bool
consensus_begin_term(void)
{
	uint64_t last = cons.last_time, applied = kvstore_applied_time();
	Lsn start, end;
	Status st;

	logclock_begin_term(applied > last ? applied : last, raft_clock_ms(&cons.raft, clock_wall_ms()));
	set_alone(membership_alone(&cons.current.members, cons.raft.self));
	st = wal_begin_term(cons.raft.vote.term, logclock_now(), &start, &end);
	cons.term_wanted = st != ST_OK;
	if (st != ST_OK) {
		elog(LOG_LEVEL_DEBUG, "cannot begin term %" PRIu64 " yet: %s", cons.raft.vote.term, status_detail());
		return false;
	}
	procslot_wake(PROC_WALWRITER);
	cons.end_told = end;
	cons.progress_us = now_us();
	follow_up(RAFT_EV_TERM_BEGUN, start, end);
	return true;
}

static void
append_config(const RaftConfig *c)
{
	MembershipAt next = { .members = members_of(c) };
	Status st = ST_OK;

	if (cons.alone_without_end && !membership_alone(&next.members, cons.raft.self)) {
		/* That waits until everything is on the disk: not for one that takes nothing. */
		if (wal_out_of_space())
			st = status_fail(ST_NO_SPACE, "no space for the log");
		else
			change_alone(false);
	}
	if (st == ST_OK)
		st = membership_insert(&next.members, &next.start, &next.end);
	if (st != ST_OK) {
		elog(LOG_LEVEL_WARNING, "cannot write the new configuration: %s", status_detail());
		follow_up(RAFT_EV_CONFIG_FAILED, 0, 0);
		return;
	}
	procslot_wake(PROC_WALWRITER);
	appended = next;
	follow_up(RAFT_EV_CONFIG_APPENDED, next.start, next.end);
}

/* ---- the log of a follower */

static void
accept_bytes(const RaftEvent *e, const RaftOut *o, Slice bytes)
{
	uint64_t skip = o->accept_from - e->append->head.pos;
	Slice part = slice_of(bytes.data + skip, (size_t) (o->accept_to - o->accept_from));

	KV_ASSERT(skip + part.len <= bytes.len);
	if (!lwlock_mine(LWLOCK_WAL_APPEND, 0)) {
		lwlock_acquire(LWLOCK_WAL_APPEND, 0);
		wal_append(o->accept_from, part);
		lwlock_release(LWLOCK_WAL_APPEND, 0);
	} else {
		wal_append(o->accept_from, part);
	}
	procslot_wake(PROC_WALWRITER);
}

static void
order_fetch(const RaftOut *o)
{
	const Member *from = membership_find(&cons.current.members, o->fetch_id);
	FetchOrder order = { .from = o->fetch_from, .until = o->fetch_until, .snapshot = o->fetch_snapshot };

	cons.fetch_ordered = true;
	if (from == NULL)
		return; /* over at once; the leader's next heartbeat asks again */
	memcpy(order.address, from->client_address, sizeof order.address);
	elog(LOG_LEVEL_LOG, "far behind: fetching %s from %s at %s", o->fetch_snapshot ? "tables and log" : "log",
		 from->name, from->client_address);
	fetch_order(&order);
}

/* ---- publishing */

static void
publish_commit(void)
{
	wal_set_commit(cons.raft.commit);
	kvstore_commit_moved();
}

static void
publish_role(void)
{
	static const NodeRole roles[] = { [RAFT_FOLLOWER] = NODE_FOLLOWER,
									  [RAFT_PRECANDIDATE] = NODE_CANDIDATE,
									  [RAFT_CANDIDATE] = NODE_CANDIDATE,
									  [RAFT_LEADER] = NODE_LEADER };
	static RaftRole before = RAFT_FOLLOWER;
	static uint64_t term, leader;
	NodeState *node = nodestate();
	const Raft *r = &cons.raft;

	if (r->role == before && r->vote.term == term && r->leader == leader)
		return;
	if (r->role == RAFT_CANDIDATE && before != RAFT_CANDIDATE)
		cons.elections++;
	if (r->role == RAFT_LEADER && before != RAFT_LEADER) {
		cons.terms_led++;
		elog(LOG_LEVEL_LOG, "leader in term %" PRIu64 " of %d nodes", r->vote.term, cons.current.members.n);
	} else if (r->leader != 0 && r->leader != leader && r->leader != r->self) {
		const Member *m = membership_find(&cons.current.members, r->leader);

		elog(LOG_LEVEL_LOG, "following %s in term %" PRIu64, m != NULL ? m->name : "an unknown node",
			 r->vote.term);
	} else if (before == RAFT_LEADER && r->role != RAFT_LEADER) {
		elog(LOG_LEVEL_LOG, "no longer the leader, term %" PRIu64, r->vote.term);
	}
	before = r->role;
	term = r->vote.term;
	leader = r->leader;
	atomic_store(&node->term, term);
	atomic_store(&node->role, roles[r->role]);
}

static void
send_messages(const RaftOut *o)
{
	uint64_t wall = clock_wall_ms();

	for (int i = 0; i < o->nmessages; i++) {
		RaftMsg m = o->message[i];

		m.clock_ms = wall;
		peers_send(&m);
	}
}

static void
carry_out(const RaftEvent *e, const RaftOut *o, Slice bytes)
{
	if (o->close_gate) {
		Lsn end;

		consensus_close_gate();
		end = wal_inserted();
		if (end > cons.end_told)
			follow_up(RAFT_EV_APPENDED, 0, end);
		cons.end_told = end;
	}
	if (o->persist)
		consensus_persist_vote();
	if (o->stop_fetch)
		fetch_stop();
	if (o->accept)
		accept_bytes(e, o, bytes);
	if (o->truncate) {
		elog(LOG_LEVEL_LOG, "cutting the log at %" PRIu64 ": what follows was never agreed on",
			 o->truncate_to);
		cons.truncating = true;
		wal_request_truncate(o->truncate_to);
	}
	if (o->fetch)
		order_fetch(o);
	if (o->begin_term)
		(void) consensus_begin_term(); /* tried again each turn */
	if (o->append_config)
		append_config(&o->config);
	if (o->open_gate)
		open_gate();
	if (o->commit_moved)
		publish_commit();
	if (o->lease_moved || o->open_gate)
		publish_lease();
	if (o->note != NULL)
		elog(LOG_LEVEL_DEBUG, "%s", o->note);
	publish_role();
	send_messages(o);
}

/* ---- reads (ReadIndex, thesis 6.4): tickets by the time they were taken */

#define READ_ROUNDS 16 /* rounds under way; more of them join the newest */

static struct {
	uint64_t ticket, us;
} rounds[READ_ROUNDS];
static int nrounds;

static void
confirm_reads(const RaftOut *o)
{
	uint64_t ticket = 0;
	int done = 0;

	for (; done < nrounds && rounds[done].us < o->reads_until_us; done++)
		ticket = rounds[done].ticket;
	if (done == 0)
		return;
	memmove(rounds, rounds + done, (size_t) (nrounds - done) * sizeof rounds[0]);
	nrounds -= done;
	replstate_reads_confirmed(ticket, o->reads_index);
}

void
consensus_reads_turn(void)
{
	uint64_t ticket = 0;

	if (cons.raft.role != RAFT_LEADER) {
		if (replstate_reads_wanted(&ticket) || nrounds > 0)
			replstate_reads_confirmed(
				nrounds > 0 && rounds[nrounds - 1].ticket > ticket ? rounds[nrounds - 1].ticket : ticket, 0);
		nrounds = 0;
		return;
	}
	if (!replstate_reads_wanted(&ticket))
		return;
	if (nrounds == READ_ROUNDS)
		nrounds--;
	rounds[nrounds].ticket = ticket;
	rounds[nrounds].us = now_us();
	nrounds++;
	consensus_tell(RAFT_EV_READ, 0, 0, 0);
}

/* ---- events */

static RaftProposal answered; /* to the last PROPOSE or TRANSFER */

static void
one_event(RaftEvent *e, Slice bytes, const MembershipAt *incoming)
{
	static RaftOut out;

	e->now_us = now_us();
	raft_step(&cons.raft, e, &out);
	if (out.proposal != RAFT_NO_ANSWER)
		answered = out.proposal;
	carry_out(e, &out, bytes);
	if (out.reads_moved)
		confirm_reads(&out);
	follow_config(incoming);
}

/* What the fetcher appended: raft has to know of it before anything else happens to the log. */
static void
take_piece(void)
{
	FetchPiece p;
	RaftAppend a = { 0 };
	RaftEvent e = { .kind = RAFT_EV_FETCHED, .append = &a };
	MembershipAt incoming = { 0 };

	if (!fetch_piece(&p))
		return;
	a.head.pos = p.pos;
	a.head.end = a.head.commit = p.end; /* only committed log is fetched */
	a.nterms = p.nterms;
	memcpy(a.terms, p.terms, p.nterms * sizeof a.terms[0]);
	if (p.has_config) {
		incoming = (MembershipAt){ p.config, p.config_start, p.config_end };
		a.has_config = true;
		a.config = raft_config_of(&incoming);
	}
	one_event(&e, slice_of(NULL, 0), p.has_config ? &incoming : NULL);
	fetch_taken();
}

static void
run_follow_ups(void)
{
	while (nfollow_ups > 0) {
		RaftEvent e = follow_ups[0];
		bool config = e.kind == RAFT_EV_CONFIG_APPENDED;
		RaftConfig c;

		memmove(follow_ups, follow_ups + 1, (size_t) --nfollow_ups * sizeof follow_ups[0]);
		if (config) {
			c = raft_config_of(&appended);
			e.config = &c;
		}
		one_event(&e, slice_of(NULL, 0), config ? &appended : NULL);
	}
}

static void
event_and_follow_ups(RaftEvent *e, Slice bytes, const MembershipAt *incoming)
{
	one_event(e, bytes, incoming);
	run_follow_ups();
}

void
consensus_retry_term(void)
{
	if (cons.term_wanted && cons.raft.role == RAFT_LEADER && consensus_begin_term())
		run_follow_ups(); /* TERM_BEGUN before any other event: one might depose us, and the record is in the log */
}

void
consensus_event(RaftEvent *e, Slice bytes, const MembershipAt *incoming)
{
	FetchPiece p;

	if (!fetch_active() && !fetch_piece(&p)) {
		event_and_follow_ups(e, bytes, incoming);
		return;
	}
	/* The fetcher appends under this lock: what raft decides now, it decides about the log as it is. */
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	take_piece();
	event_and_follow_ups(e, bytes, incoming);
	lwlock_release(LWLOCK_WAL_APPEND, 0);
}

void
consensus_tell(RaftEventKind kind, uint64_t id, uint64_t pos, uint64_t end)
{
	RaftEvent e = { .kind = kind, .id = id, .pos = pos, .end = end };

	consensus_event(&e, slice_of(NULL, 0), NULL);
}

static Status
proposal_status(RaftProposal p)
{
	if (p == RAFT_ACCEPTED)
		return ST_OK;
	return status_fail(p == RAFT_NOT_LEADER ? ST_NOT_LEADER : ST_BAD_REQUEST, "%s", raft_proposal_text(p));
}

Status
consensus_propose(const Membership *m)
{
	MembershipAt next = { .members = *m };
	RaftConfig c = raft_config_of(&next);
	RaftEvent e = { .kind = RAFT_EV_PROPOSE, .config = &c };

	cons.proposed = *m;
	answered = RAFT_NO_ANSWER;
	consensus_event(&e, slice_of(NULL, 0), NULL);
	cons.proposed.n = 0; /* addresses may change until raft proposes something by itself */
	return proposal_status(answered);
}

Status
consensus_transfer(uint64_t to)
{
	answered = RAFT_NO_ANSWER;
	consensus_tell(RAFT_EV_TRANSFER, to, 0, 0);
	return proposal_status(answered);
}

RaftProposal
consensus_would(RaftEventKind kind, const RaftConfig *config, uint64_t id)
{
	static Raft copy;
	static RaftOut out;
	RaftEvent e = { .kind = kind, .now_us = now_us(), .config = config, .id = id };

	copy = cons.raft;
	raft_step(&copy, &e, &out);
	return out.proposal;
}
