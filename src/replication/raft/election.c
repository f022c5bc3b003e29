/*
 * election.c - pre-vote (thesis 9.6), vote (paper 5.2, 5.4.1; thesis 3.6.1), and when both are refused
 * (thesis 4.2.3, 6.4.1; rules R1, L5).
 *
 * Term and vote are persisted (out.persist) before the answer leaves; a candidate's own vote likewise,
 * before it counts. A node that hears from a leader, or has just started and may have, refuses whoever asks,
 * itself too: so the leader's lease, which is shorter, has ended before another can be elected. The
 * exception is the campaign a leader has asked for.
 */
#include "bug.h"
#include "raft_internal.h"

/* R1. contact_us is also the time of the own start. */
static bool
leader_may_have_lease(const Step *s)
{
	const Raft *r = s->r;

	/*
	 * Alone there is nobody to wait for; but while the configuration that says so is not known to be
	 * committed, a leader outside of it may still have a lease.
	 */
	if (raft_only_voter(r) && r->commit >= r->config.end)
		return false;
	if (r->role == RAFT_LEADER)
		return true;
	if (BUG(VOTE_AFTER_CONTACT) && r->stamp_us != 0)
		return false;
	if (BUG(VOTE_AFTER_START) && r->stamp_us == 0)
		return false;
	return s->now < r->contact_us + r->timing.election_us;
}

/* Paper 5.4.1. */
static bool
log_is_as_new(const Raft *r, const RaftMsg *m)
{
	uint64_t last = raft_last_term(r);

	return m->pos_term > last || (m->pos_term == last && m->pos >= r->end) || BUG(NO_LOG_CHECK);
}

static void
ask_for_votes(Step *s, RaftKind kind, uint64_t term)
{
	Raft *r = s->r;

	for (int i = 0; i < r->npeers; i++) {
		RaftMsg *m;

		if (!raft_is_voter(&r->config, r->peer[i].id) && !BUG(LEARNER_VOTES))
			continue;
		m = raft_say(s, kind, r->peer[i].id);
		m->term = term;
		m->pos = r->end;
		m->pos_term = raft_last_term(r);
		if (r->force)
			m->flags |= RAFT_TRANSFER;
	}
}

static bool
won(const Raft *r)
{
	uint64_t vote[RAFT_NODES_MAX];
	int n = 0;

	for (int i = 0; i < r->config.n; i++) {
		const RaftMember *m = &r->config.member[i];
		const RaftPeer *p = m->id == r->self ? NULL : raft_peer(r, m->id);

		if (m->voter || (BUG(LEARNER_VOTES) && p != NULL && p->granted))
			vote[n++] = m->id == r->self || (p != NULL && p->granted);
	}
	return n > 0 && raft_majority(vote, n) == 1;
}

static void
clear_votes(Raft *r)
{
	for (int i = 0; i < r->npeers; i++) {
		if (!BUG(VOTES_KEPT) || r->role == RAFT_FOLLOWER)
			r->peer[i].granted = false;
		r->peer[i].answered = false;
		r->peer[i].clock_known = false;
	}
}

static void
become_candidate(Step *s)
{
	Raft *r = s->r;
	bool force = r->force;

	clear_votes(r);
	raft_adopt_term(s, r->vote.term + 1);
	r->vote.voted_for = r->self;
	s->out->persist = true;
	r->role = RAFT_CANDIDATE;
	r->force = force;
	r->deadline_us = raft_random_timeout(s, r->timing.election_us);
	ask_for_votes(s, RAFT_VOTE, r->vote.term);
	if (won(r))
		raft_become_leader(s);
}

/*
 * Thesis 4.2.2: one that is removed by a configuration not committed yet may be the only one that has it, and what is
 * before it; the others cannot elect anybody then. Its own vote does not count.
 */
static bool
may_lead(const Raft *r)
{
	return raft_is_voter(&r->config, r->self) ||
		   (r->config.end > r->commit && raft_find_member(&r->config, r->self) == NULL &&
			raft_is_voter(&r->previous, r->self));
}

void
raft_campaign(Step *s, bool force)
{
	Raft *r = s->r;

	raft_stop_fetching(s);
	r->leader = 0;
	if (!may_lead(r) || r->vote.recovering || r->truncating) {
		r->deadline_us = raft_random_timeout(s, r->timing.election_us);
		return;
	}
	r->force = force;
	if (force || raft_only_voter(r)) {
		become_candidate(s);
		return;
	}
	clear_votes(r);
	r->role = RAFT_PRECANDIDATE;
	/* Costs nobody anything: who asked a moment too early for R1 asks again soon. */
	r->deadline_us = raft_random_timeout(s, r->timing.election_us / 4);
	ask_for_votes(s, RAFT_PREVOTE, r->vote.term + 1);
}

void
raft_on_prevote(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;
	RaftMsg *reply;
	bool granted =
		m->term > r->vote.term && !leader_may_have_lease(s) && !r->vote.recovering && log_is_as_new(r, m);

	reply = raft_say(s, RAFT_PREVOTE_REPLY, m->from);
	if (granted) {
		reply->term = m->term;
		reply->flags |= RAFT_GRANTED;
	}
}

/* True if the voice is one that counts. */
static bool
note_voice(Raft *r, const RaftMsg *m)
{
	RaftPeer *p = raft_find_peer(r, m->from);

	if (p == NULL) {
		if (BUG(STRANGER_VOTES) && (m->flags & RAFT_GRANTED) && r->npeers > 0)
			r->peer[0].granted = true;
		return BUG(STRANGER_VOTES);
	}
	p->answered = true;
	p->granted = p->granted || (m->flags & RAFT_GRANTED);
	p->clock_known = true;
	p->clock_ms = m->clock_ms;
	return true;
}

void
raft_on_prevote_reply(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;

	if (!(m->flags & RAFT_GRANTED)) {
		/*
		 * Not granted because of an older term, perhaps: it is told in the answer, and without it we would
		 * ask forever.
		 */
		if (m->term > r->vote.term && raft_find_peer(r, m->from) != NULL)
			raft_adopt_term(s, m->term);
		return;
	}
	if (BUG(PREVOTE_COUNTS_OLD) && r->role == RAFT_CANDIDATE) {
		raft_on_vote_reply(s, m);
		return;
	}
	if (r->role != RAFT_PRECANDIDATE || m->term != r->vote.term + 1 || !note_voice(r, m))
		return;
	if (won(r))
		become_candidate(s);
}

void
raft_on_vote(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;
	RaftMsg *reply;
	bool granted, barred = !(m->flags & RAFT_TRANSFER) && leader_may_have_lease(s);

	/* Without a word: neither its term nor its wish matters while there may be a leader (thesis 4.2.3). */
	if (barred && m->term > r->vote.term)
		return;
	if (m->term > r->vote.term)
		raft_adopt_term(s, m->term);
	granted = !barred && m->term == r->vote.term && r->role == RAFT_FOLLOWER && log_is_as_new(r, m) &&
			  (r->vote.voted_for == 0 || r->vote.voted_for == m->from || BUG(VOTE_TWICE)) &&
			  (!r->vote.recovering || BUG(RECOVERING_VOTES));
	if (granted && r->vote.voted_for == 0 && r->leader != 0)
		granted = false; /* this term has its leader */
	if (granted) {
		if (r->vote.voted_for != m->from)
			s->out->persist = !BUG(VOTE_NOT_PERSISTED);
		r->vote.voted_for = m->from;
		r->deadline_us = raft_random_timeout(s, r->timing.election_us);
	}
	reply = raft_say(s, RAFT_VOTE_REPLY, m->from);
	if (granted)
		reply->flags |= RAFT_GRANTED;
}

void
raft_on_vote_reply(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;

	if (m->term > r->vote.term && !BUG(PREVOTE_COUNTS_OLD)) {
		if (raft_find_peer(r, m->from) != NULL)
			raft_adopt_term(s, m->term);
		return;
	}
	if (r->role != RAFT_CANDIDATE ||
		(m->term != r->vote.term && !BUG(STALE_VOTE_REPLY) && !BUG(PREVOTE_COUNTS_OLD)))
		return;
	if (note_voice(r, m) && won(r))
		raft_become_leader(s);
}
