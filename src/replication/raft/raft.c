/*
 * raft.c - the object: start, one step, and when the next is due by itself.
 *
 * Paper figure 2 is spread over the files of this room as README.md says. Every event goes the same way: its
 * own part, then what follows for a leader (finish), in an order that needs no second round: commit, what a
 * committed configuration changes, transfer, reads, promotions, and last the messages, of which a peer gets
 * one.
 */
#include <stddef.h>
#include <string.h>

#include "common/kv_assert.h"
#include "raft_internal.h"

RaftMsg *
raft_say(Step *s, RaftKind kind, uint64_t to)
{
	RaftOut *out = s->out;
	RaftMsg *m;

	KV_ASSERT(out->nmessages < RAFT_OUT_MESSAGES);
	m = &out->message[out->nmessages++];
	*m = (RaftMsg){ .kind = (uint8_t) kind, .from = s->r->self, .to = to, .term = s->r->vote.term };
	return m;
}

uint64_t
raft_random_timeout(Step *s, uint64_t base)
{
	return s->now + base + prng_below(&s->r->prng, base > 0 ? base : 1);
}

void
raft_init(Raft *r, const RaftStart *start)
{
	Step s = { .r = r, .now = start->now_us };

	memset(r, 0, sizeof *r);
	r->self = start->self;
	r->vote = start->vote;
	r->timing = start->timing;
	r->config = start->config;
	r->previous = start->previous;
	r->end = start->end;
	r->durable = start->durable;
	r->commit = start->commit;
	prng_seed(&r->prng, start->seed);
	for (uint32_t i = 0; i < start->nterms; i++)
		raft_history_push(r, start->terms[i].term, start->terms[i].start);
	if (r->nterms == 0 ? r->end > start->first : r->terms[0].start > start->first)
		r->forgotten = r->nterms == 0 ? r->end : r->terms[0].start;
	if (raft_last_term(r) > r->vote.term) { /* may have voted in it: not again */
		r->vote.term = raft_last_term(r);
		r->vote.voted_for = r->self;
	}
	r->contact_us = s.now; /* R1: it may have promised before it stopped */
	raft_sync_peers(&s);
	r->deadline_us = raft_random_timeout(&s, r->timing.election_us);
	if (raft_only_voter(r) && r->commit >= r->config.end)
		r->deadline_us = s.now; /* nobody to wait for */
}

static void
on_tick(Step *s)
{
	Raft *r = s->r;

	if (r->role != RAFT_LEADER) {
		if (s->now >= r->deadline_us)
			raft_campaign(s, false);
		return;
	}
	if (s->now >= raft_quorum_until(r)) {
		raft_become_follower(s, 0);
		s->out->note = "no majority answers: stepped down";
	}
}

static void
on_message(Step *s, const RaftMsg *m)
{
	switch (m->kind) {
	case RAFT_PREVOTE:
		raft_on_prevote(s, m);
		break;
	case RAFT_PREVOTE_REPLY:
		raft_on_prevote_reply(s, m);
		break;
	case RAFT_VOTE:
		raft_on_vote(s, m);
		break;
	case RAFT_VOTE_REPLY:
		raft_on_vote_reply(s, m);
		break;
	case RAFT_APPEND:
		raft_on_append(s, m, NULL);
		break;
	case RAFT_APPEND_REPLY:
		raft_on_append_reply(s, m);
		break;
	case RAFT_TIMEOUT_NOW:
		raft_on_timeout_now(s, m);
		break;
	case RAFT_CATCH_UP:
		raft_on_catch_up(s, m);
		break;
	default:
		break;
	}
}

static bool
is_for_us(const Raft *r, const RaftMsg *m)
{
	return m->from != 0 && m->from != r->self && m->to == r->self;
}

static void
on_term_begun(Step *s, uint64_t pos, uint64_t end)
{
	Raft *r = s->r;

	if (r->role != RAFT_LEADER || r->term_end != 0 || pos < r->end || end <= pos)
		return;
	raft_history_push(r, r->vote.term, pos);
	r->end = end;
	r->term_end = end;
	s->out->open_gate = true;
}

static void
on_log_grew(Step *s, uint64_t end)
{
	/* In any role: after a leader has stepped down, what came in before its gate was closed. */
	if (end > s->r->end && !s->r->truncating)
		s->r->end = end;
}

static void
on_durable(Step *s, uint64_t end)
{
	Raft *r = s->r;

	r->durable = r->truncating && end > r->truncate_to ? r->truncate_to : end;
	raft_follower_progress(s);
}

static void
on_truncated(Step *s)
{
	Raft *r = s->r;

	if (!r->truncating)
		return;
	r->truncating = false;
	if (r->durable > r->end)
		r->durable = r->end;
	if (r->role == RAFT_FOLLOWER && r->leader != 0)
		raft_acknowledge(s, r->stamp_us); /* go on at once */
}

static void
on_peer_up(Step *s, uint64_t id)
{
	Raft *r = s->r;
	RaftPeer *p = raft_find_peer(r, id);

	if (p == NULL)
		return;
	p->up = true;
	if (r->role == RAFT_LEADER) {
		p->up_us = s->now;
		raft_peer_reset(s, p);
	} else if (id == r->leader) {
		r->told_ack = 0; /* the newest may have been lost with the old connection */
	}
}

static void
on_config(Step *s, const RaftConfig *c)
{
	Raft *r = s->r;

	r->config_pending = false;
	if (c == NULL) {
		r->retry_us = s->now + r->timing.election_us;
		return;
	}
	on_log_grew(s, c->end);
	raft_config_set(s, c);
}

static void
dispatch(Step *s, const RaftEvent *e)
{
	RaftPeer *p;

	switch (e->kind) {
	case RAFT_EV_TICK:
		on_tick(s);
		break;
	case RAFT_EV_MESSAGE:
		if (is_for_us(s->r, e->msg))
			on_message(s, e->msg);
		break;
	case RAFT_EV_APPEND:
		if (is_for_us(s->r, &e->append->head))
			raft_on_append(s, &e->append->head, e->append);
		break;
	case RAFT_EV_TERM_BEGUN:
		on_term_begun(s, e->pos, e->end);
		break;
	case RAFT_EV_APPENDED:
		on_log_grew(s, e->end);
		break;
	case RAFT_EV_CONFIG_APPENDED:
		on_config(s, e->config);
		break;
	case RAFT_EV_CONFIG_FAILED:
		on_config(s, NULL);
		break;
	case RAFT_EV_DURABLE:
		on_durable(s, e->end);
		break;
	case RAFT_EV_TRUNCATED:
		on_truncated(s);
		break;
	case RAFT_EV_FETCHED:
		raft_on_fetched(s, e->append);
		break;
	case RAFT_EV_FETCH_ENDED:
		s->r->fetching = false;
		s->r->fetch_snapshot = false;
		break;
	case RAFT_EV_PEER_UP:
		on_peer_up(s, e->id);
		break;
	case RAFT_EV_PEER_DOWN:
		p = raft_find_peer(s->r, e->id);
		if (p != NULL)
			p->up = false;
		break;
	case RAFT_EV_PROPOSE:
		raft_on_propose(s, e->config);
		break;
	case RAFT_EV_TRANSFER:
		raft_on_transfer(s, e->id);
		break;
	case RAFT_EV_READ:
		raft_on_read(s);
		break;
	case RAFT_EV_LOG_START:
		raft_log_start(s, e->pos, e->end);
		break;
	}
}

static void
finish(Step *s)
{
	Raft *r = s->r;

	raft_try_commit(s);
	raft_config_committed(s);
	if (r->role != RAFT_LEADER)
		return;
	raft_transfer_go_on(s);
	raft_answer_reads(s);
	raft_promote_learners(s);
	raft_keep_alive(s);
}

void
raft_step(Raft *r, const RaftEvent *e, RaftOut *out)
{
	Step s = { .r = r, .now = e->now_us, .out = out };
	uint64_t lease = raft_lease_us(r);

	memset(out, 0, offsetof(RaftOut, message)); /* the messages are written whole when there are some */
	out->proposal = RAFT_NO_ANSWER;
	out->note = NULL;
	dispatch(&s, e);
	finish(&s);
	out->lease_moved = raft_lease_us(r) != lease;
}

static uint64_t
min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t
raft_deadline_us(const Raft *r)
{
	uint64_t due;

	if (r->role != RAFT_LEADER)
		return r->deadline_us;
	due = raft_quorum_until(r);
	for (int i = 0; i < r->npeers; i++)
		due = min_u64(due, r->peer[i].poke ? 0 : raft_alive_due(r, &r->peer[i]));
	if (r->transferring)
		due = min_u64(due, r->transfer_until_us);
	if (raft_timeout_now_due(r))
		due = min_u64(due, r->timeout_us == 0 ? 0 : r->timeout_us + r->timing.heartbeat_us);
	return due;
}

uint64_t
raft_clock_ms(const Raft *r, uint64_t own_ms)
{
	uint64_t clock[RAFT_NODES_MAX];
	int n = 0;

	clock[n++] = own_ms;
	for (int i = 0; i < r->npeers && n < RAFT_NODES_MAX; i++) {
		uint64_t v = r->peer[i].clock_ms;
		int k = n;

		if (!r->peer[i].clock_known)
			continue;
		for (; k > 0 && clock[k - 1] > v; k--)
			clock[k] = clock[k - 1];
		clock[k] = v;
		n++;
	}
	return clock[(n - 1) / 2]; /* of two in the middle the earlier: log time can still be slewed forward */
}

const char *
raft_role_name(RaftRole role)
{
	static const char *const names[] = { "follower", "pre-candidate", "candidate", "leader" };

	return (unsigned) role < sizeof names / sizeof names[0] ? names[role] : "unknown";
}

const char *
raft_proposal_text(RaftProposal p)
{
	switch (p) {
	case RAFT_NO_ANSWER:
		return "no answer";
	case RAFT_ACCEPTED:
		return "accepted";
	case RAFT_NOT_LEADER:
		return "this node is not the leader";
	case RAFT_NOT_YET:
		return "another change or transfer is under way, or the leader has just been elected; try again";
	case RAFT_TOO_MUCH:
		return "only one member may change at a time: added as learner, promoted, or removed";
	case RAFT_NOT_CAUGHT_UP:
		return "the node is behind, or does not answer";
	case RAFT_NO_QUORUM:
		return "the voters that answer would not be a majority";
	case RAFT_UNKNOWN_NODE:
		return "no such node in the configuration, or not one that could do this";
	}
	return "unknown";
}
