/*
 * commit.c - what a majority has: commit (paper 5.3, 5.4.2), and whether a majority answers (CheckQuorum,
 * thesis 6.2).
 *
 * Leader only. The configuration is the newest in the log, committed or not (thesis 4.1). A leader outside
 * of it does not count itself (thesis 4.2.2).
 */
#include "bug.h"
#include "raft_internal.h"

uint64_t
raft_majority(uint64_t *number, int n)
{
	int majority = n / 2 + 1;

	if (BUG(MAJORITY_OFF_BY_ONE) && n > 1)
		majority = n / 2;
	for (int i = 1; i < n; i++) { /* few: insertion sort, largest first */
		uint64_t v = number[i];
		int k = i;

		for (; k > 0 && number[k - 1] < v; k--)
			number[k] = number[k - 1];
		number[k] = v;
	}
	return number[majority - 1];
}

uint64_t
raft_majority_of(const Raft *r, RaftOf of, uint64_t self)
{
	uint64_t number[RAFT_NODES_MAX];
	int n = 0;

	for (int i = 0; i < r->config.n; i++) {
		const RaftMember *m = &r->config.member[i];
		const RaftPeer *p = m->id == r->self ? NULL : raft_peer(r, m->id);

		if (!m->voter && !BUG(LEARNER_COUNTS))
			continue;
		number[n++] = m->id == r->self ? self : p != NULL ? of(p) : 0;
	}
	if (BUG(REMOVED_LEADER_COUNTS) && !raft_is_voter(&r->config, r->self) && n < RAFT_NODES_MAX)
		number[n++] = self;
	return n > 0 ? raft_majority(number, n) : UINT64_MAX;
}

bool
raft_own_committed(const Raft *r)
{
	return r->role == RAFT_LEADER && r->term_end != 0 && r->commit >= r->term_end;
}

void
raft_raise_commit(Step *s, uint64_t to)
{
	Raft *r = s->r;

	if (to <= r->commit)
		return;
	r->commit = to;
	s->out->commit_moved = true;
	for (int i = 0; i < r->npeers && r->role == RAFT_LEADER; i++) {
		RaftPeer *p = &r->peer[i];

		if (p->mode == RAFT_STREAM && p->tell_us == 0)
			p->tell_us = s->now + r->timing.commit_delay_us;
	}
}

static uint64_t
acked(const RaftPeer *p)
{
	return p->acked;
}

void
raft_try_commit(Step *s)
{
	Raft *r = s->r;
	uint64_t own = r->durable < r->end ? r->durable : r->end;
	uint64_t pos;

	if (r->role != RAFT_LEADER || r->term_end == 0)
		return;
	if (BUG(OWN_NOT_DURABLE))
		own = r->end;
	pos = raft_majority_of(r, acked, own);
	if (pos == UINT64_MAX)
		return;
	/* Earlier terms are committed only along with something of the own (paper 5.4.2, figure 8). */
	if (pos < r->term_end && !BUG(COUNT_OLD_TERM))
		return;
	raft_raise_commit(s, pos);
}

static uint64_t
answered(const RaftPeer *p)
{
	return p->answer_us;
}

uint64_t
raft_quorum_until(const Raft *r)
{
	uint64_t since = raft_majority_of(r, answered, UINT64_MAX);

	if (since == UINT64_MAX)
		return UINT64_MAX;
	if (since < r->quorum_us)
		since = r->quorum_us;
	return since + r->timing.election_us;
}
