/*
 * transfer.c - leadership transfer (thesis 3.10).
 *
 * The gate is closed and the lease ended first (R2): the target's campaign is granted although a leader is
 * heard of. When it has everything, it is told to campaign at once. If that leads to nothing within an
 * election timeout the gate is opened again; the lease comes back only when the target, still in our term,
 * has answered something newer than the last TIMEOUT_NOW, which it then ignores should it arrive at last.
 */
#include "bug.h"
#include "raft_internal.h"

static bool
may_take_over(const Step *s, const RaftPeer *p)
{
	const Raft *r = s->r;

	return raft_is_voter(&r->config, p->id) && p->mode == RAFT_STREAM && p->answer_us != 0 &&
		   s->now < p->answer_us + r->timing.election_us;
}

static RaftPeer *
furthest(Step *s)
{
	Raft *r = s->r;
	RaftPeer *best = NULL;

	for (int i = 0; i < r->npeers; i++) {
		RaftPeer *p = &r->peer[i];

		if (may_take_over(s, p) && (best == NULL || p->acked > best->acked))
			best = p;
	}
	return best;
}

static RaftProposal
begin_transfer(Step *s, uint64_t to)
{
	Raft *r = s->r;
	RaftPeer *p;

	if (r->role != RAFT_LEADER)
		return RAFT_NOT_LEADER;
	if (to == r->self) {
		raft_become_follower(s, 0);
		s->out->note = "stepped down as asked";
		return RAFT_ACCEPTED;
	}
	if (!raft_own_committed(r) || r->transferring || r->config_pending || r->config.end > r->commit)
		return RAFT_NOT_YET;
	p = to == 0 ? furthest(s) : raft_find_peer(r, to);
	if (p == NULL)
		return to == 0 ? RAFT_NO_QUORUM : RAFT_UNKNOWN_NODE;
	if (!raft_is_voter(&r->config, p->id))
		return RAFT_UNKNOWN_NODE;
	if (!may_take_over(s, p))
		return RAFT_NOT_CAUGHT_UP;
	r->transferring = true;
	r->transfer_to = p->id;
	r->transfer_until_us = s->now + r->timing.election_us;
	r->timeout_us = 0;
	s->out->close_gate = true;
	return RAFT_ACCEPTED;
}

void
raft_on_transfer(Step *s, uint64_t to)
{
	s->out->proposal = begin_transfer(s, to);
}

bool
raft_transfer_in_flight(const Raft *r)
{
	const RaftPeer *p = raft_peer(r, r->transfer_to);

	return r->timeout_us != 0 && (p == NULL || p->echo_us <= r->timeout_us);
}

bool
raft_timeout_now_due(const Raft *r)
{
	const RaftPeer *p = raft_peer(r, r->transfer_to);

	return r->transferring && p != NULL && p->acked == r->end;
}

void
raft_transfer_go_on(Step *s)
{
	Raft *r = s->r;
	RaftMsg *m;

	/* In the step that closes the gate the end of the log is not known yet. */
	if (!r->transferring || s->out->close_gate)
		return;
	if (s->now >= r->transfer_until_us) {
		r->transferring = false;
		s->out->open_gate = true;
		s->out->note = "leadership was not taken over: goes on leading";
		return;
	}
	if (!raft_timeout_now_due(r) || (r->timeout_us != 0 && s->now < r->timeout_us + r->timing.heartbeat_us))
		return;
	m = raft_say(s, RAFT_TIMEOUT_NOW, r->transfer_to);
	m->stamp_us = raft_stamp(r, s->now);
	r->timeout_us = m->stamp_us;
}

void
raft_on_timeout_now(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;

	if (m->term > r->vote.term)
		raft_adopt_term(s, m->term);
	if (m->term != r->vote.term || r->role != RAFT_FOLLOWER || r->leader != m->from ||
		m->stamp_us < r->stamp_us)
		return;
	if (!raft_is_voter(&r->config, r->self) || r->vote.recovering || r->truncating)
		return;
	raft_campaign(s, true);
}
