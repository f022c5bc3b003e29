/*
 * membership.c - single-server changes (thesis 4.1 with the erratum of 2015, 4.2.1 catching up, 4.2.2
 * removing the leader; rules C1, C2, C4).
 *
 * A configuration counts from the moment it is in the log, and is undone when it is truncated; as the next
 * is begun only when the last is committed, one step back is enough. Changes: one member added as learner,
 * one learner made voter, one member removed; only after a commit in the own term (the erratum: else two
 * leaders may have changed the same configuration to ones whose majorities do not meet).
 *
 * A removed peer gets appends until the configuration without it is committed, so that it learns of it.
 */
#include <string.h>

#include "bug.h"
#include "raft_internal.h"

const RaftMember *
raft_find_member(const RaftConfig *c, uint64_t id)
{
	for (int i = 0; i < c->n; i++)
		if (c->member[i].id == id)
			return &c->member[i];
	return NULL;
}

bool
raft_is_voter(const RaftConfig *c, uint64_t id)
{
	const RaftMember *m = raft_find_member(c, id);

	return m != NULL && m->voter;
}

int
raft_voters(const RaftConfig *c)
{
	int n = 0;

	for (int i = 0; i < c->n; i++)
		n += c->member[i].voter;
	return n;
}

bool
raft_only_voter(const Raft *r)
{
	return raft_is_voter(&r->config, r->self) && raft_voters(&r->config) == 1;
}

void
raft_sync_peers(Step *s)
{
	Raft *r = s->r;
	RaftPeer old[RAFT_NODES_MAX];
	int nold = r->npeers;

	memcpy(old, r->peer, sizeof old);
	r->npeers = 0;
	for (int i = 0; i < r->config.n; i++) {
		uint64_t id = r->config.member[i].id;
		RaftPeer *p = &r->peer[r->npeers];
		int k = 0;

		if (id == r->self)
			continue;
		r->npeers++;
		while (k < nold && old[k].id != id)
			k++;
		if (k < nold) {
			*p = old[k];
			continue;
		}
		*p = (RaftPeer){ .id = id };
		if (r->role == RAFT_LEADER)
			raft_peer_reset(s, p);
	}
	if (r->role != RAFT_LEADER || r->config.end <= r->commit)
		return;
	for (int k = 0; k < nold && r->npeers < RAFT_NODES_MAX; k++)
		if (raft_find_member(&r->config, old[k].id) == NULL)
			r->peer[r->npeers++] = old[k];
}

void
raft_config_set(Step *s, const RaftConfig *c)
{
	Raft *r = s->r;

	r->previous = r->config;
	r->config = *c;
	raft_sync_peers(s);
}

void
raft_config_undo(Step *s)
{
	Raft *r = s->r;

	if (r->previous.n == 0) {
		s->out->note = "a configuration was cut away and the one before it is not known";
		return;
	}
	r->config = r->previous;
	r->previous.n = 0;
	raft_sync_peers(s);
}

static bool
is_config(const RaftConfig *c)
{
	if (c->n < 1 || c->n > RAFT_NODES_MAX)
		return false;
	for (int i = 0; i < c->n; i++) {
		if (c->member[i].id == 0)
			return false;
		for (int k = 0; k < i; k++)
			if (c->member[k].id == c->member[i].id)
				return false;
	}
	return true;
}

static bool
answers(const Raft *r, uint64_t id, uint64_t now)
{
	const RaftPeer *p = raft_peer(r, id);

	return id == r->self || (p != NULL && p->answer_us != 0 && now < p->answer_us + r->timing.election_us);
}

static bool
has_quorum(const Raft *r, const RaftConfig *c, uint64_t now)
{
	int n = 0;

	for (int i = 0; i < c->n; i++)
		n += c->member[i].voter && answers(r, c->member[i].id, now);
	return n > raft_voters(c) / 2;
}

static bool
caught_up(const Raft *r, uint64_t id, uint64_t now)
{
	const RaftPeer *p = raft_peer(r, id);

	return p != NULL && p->caught_up && now < p->round_us + r->timing.election_us;
}

/* What differs: at most one thing may. Nothing: what the host knows of the members (addresses) is recorded anew. */
static RaftProposal
judge_difference(const Raft *r, const RaftConfig *c, uint64_t now)
{
	int changes = 0;
	uint64_t promoted = 0;

	for (int i = 0; i < c->n; i++) {
		const RaftMember *was = raft_find_member(&r->config, c->member[i].id);

		if (was != NULL && was->voter == c->member[i].voter)
			continue;
		changes++;
		if (was == NULL ? c->member[i].voter : was->voter)
			return RAFT_TOO_MUCH; /* not as learner first; or a voter made learner */
		if (was != NULL)
			promoted = was->id;
	}
	for (int i = 0; i < r->config.n; i++)
		changes += raft_find_member(c, r->config.member[i].id) == NULL;
	if (changes > 1)
		return RAFT_TOO_MUCH;
	return promoted == 0 || caught_up(r, promoted, now) ? RAFT_ACCEPTED : RAFT_NOT_CAUGHT_UP;
}

static RaftProposal
judge(const Step *s, const RaftConfig *c)
{
	const Raft *r = s->r;
	RaftProposal p;

	if (r->role != RAFT_LEADER || r->term_end == 0)
		return RAFT_NOT_LEADER;
	if (!raft_own_committed(r) && !BUG(CONFIG_BEFORE_OWN_COMMIT))
		return RAFT_NOT_YET;
	if (r->config_pending ||
		(r->config.end > r->commit && !BUG(TWO_CHANGES) && !BUG(CONFIG_BEFORE_OWN_COMMIT)))
		return RAFT_NOT_YET;
	if (r->transferring)
		return RAFT_NOT_YET;
	if (!is_config(c))
		return RAFT_TOO_MUCH;
	p = judge_difference(r, c, s->now);
	if (p == RAFT_ACCEPTED && !has_quorum(r, c, s->now))
		return RAFT_NO_QUORUM;
	return p;
}

static void
append_config(Step *s, const RaftConfig *c)
{
	s->r->config_pending = true;
	s->out->append_config = true;
	s->out->config = *c;
	s->out->config.start = 0;
	s->out->config.end = 0;
}

void
raft_on_propose(Step *s, const RaftConfig *c)
{
	s->out->proposal = judge(s, c);
	if (s->out->proposal == RAFT_ACCEPTED)
		append_config(s, c);
}

/* Thesis 4.2.1: a round is everything that was in the log when it began. */
void
raft_learner_round(Step *s, RaftPeer *p)
{
	Raft *r = s->r;

	if (p->acked < p->round_end || p->acked == 0)
		return;
	p->caught_up = s->now < p->round_us + r->timing.election_us;
	p->round_end = r->end;
	p->round_us = s->now;
}

void
raft_promote_learners(Step *s)
{
	Raft *r = s->r;

	if (r->role != RAFT_LEADER || r->config_pending || s->now < r->retry_us ||
		s->out->proposal != RAFT_NO_ANSWER)
		return;
	for (int i = 0; i < r->config.n; i++) {
		RaftConfig c;

		if (r->config.member[i].voter || !caught_up(r, r->config.member[i].id, s->now) ||
			!answers(r, r->config.member[i].id, s->now))
			continue;
		c = r->config;
		c.member[i].voter = true;
		if (judge(s, &c) != RAFT_ACCEPTED)
			continue;
		append_config(s, &c);
		return;
	}
}

void
raft_config_committed(Step *s)
{
	Raft *r = s->r;
	bool removed = false;
	bool leaves = !raft_is_voter(&r->config, r->self);

	if (r->role != RAFT_LEADER || r->config.end == 0 || r->config.end > r->commit)
		return;
	for (int i = 0; i < r->npeers; i++)
		removed = removed || raft_find_member(&r->config, r->peer[i].id) == NULL;
	if (!removed && !leaves)
		return;
	/* Those that go, and those that stay when we go, hear of it from us. */
	for (int i = 0; i < r->npeers; i++)
		r->peer[i].poke = true;
	raft_keep_alive(s);
	if (leaves) {
		raft_become_follower(s, 0);
		s->out->note = "not a member any more: stepped down";
	} else {
		raft_sync_peers(s);
	}
}
