/*
 * append.c - follower: APPEND (paper 5.3, figure 2 "AppendEntries"), over byte positions.
 *
 * Rules: L4, a tail is cut only where a record differs, never below commit, never because a message ends
 * earlier; L2, acknowledged is min(durable, matched), matched being how far the log equals that of the
 * leader of this term; commit = min(leader's commit, matched) and never falls; L5, a node whose log was
 * damaged says so until it has all again.
 *
 * While a tail is being cut (the host does that aside) everything that claims a position is refused: what is
 * accepted must go to the end of the log.
 */
#include "bug.h"
#include "raft_internal.h"

static uint64_t
ack_position(const Raft *r)
{
	if (BUG(ACK_NOT_MATCHED))
		return r->durable < r->end ? r->durable : r->end;
	if (BUG(ACK_NOT_DURABLE))
		return r->matched;
	return r->durable < r->matched ? r->durable : r->matched;
}

static RaftMsg *
reply(Step *s, uint64_t stamp_us)
{
	Raft *r = s->r;
	RaftMsg *m = raft_say(s, RAFT_APPEND_REPLY, r->leader);

	m->stamp_us = stamp_us;
	m->end = r->end;
	if (r->vote.recovering)
		m->flags |= RAFT_RECOVERING;
	return m;
}

void
raft_acknowledge(Step *s, uint64_t stamp_us)
{
	RaftMsg *m = reply(s, stamp_us);

	m->pos = ack_position(s->r);
	if (m->pos > s->r->told_ack)
		s->r->told_ack = m->pos;
}

void
raft_refuse(Step *s, const RaftMsg *about, uint64_t pos)
{
	RaftMsg *m = reply(s, about->stamp_us);

	m->flags |= RAFT_REFUSED;
	m->pos = pos;
	m->nterms = raft_history_tail(s->r, pos < s->r->end ? pos : s->r->end, m->terms);
}

static void
leave_recovery(Step *s)
{
	Raft *r = s->r;

	if (!r->vote.recovering || r->recover_to == 0)
		return;
	if (r->matched < r->recover_to || r->durable < r->recover_to)
		return;
	r->vote.recovering = false;
	s->out->persist = true;
	s->out->note = "the log is whole again: this node votes and counts";
}

void
raft_follower_progress(Step *s)
{
	Raft *r = s->r;

	leave_recovery(s);
	if (r->role == RAFT_FOLLOWER && r->leader != 0 && ack_position(r) > r->told_ack)
		raft_acknowledge(s, r->stamp_us);
}

void
raft_cut_log(Step *s, uint64_t at)
{
	Raft *r = s->r;

	raft_stop_fetching(s);
	r->end = at;
	if (r->durable > at)
		r->durable = at;
	if (r->matched > at)
		r->matched = at;
	raft_history_cut(r, at);
	if (r->config.start >= at && r->config.end != 0 && !BUG(CONFIG_NOT_UNDONE))
		raft_config_undo(s);
	r->truncating = true;
	r->truncate_to = at;
	s->out->truncate = true;
	s->out->truncate_to = at;
}

uint64_t
raft_conflict(const Raft *r, const RaftAppend *a)
{
	uint64_t both = a->head.end < r->end ? a->head.end : r->end;
	uint32_t i = 0, k = 0;

	while (i < r->nterms && r->terms[i].start < a->head.pos)
		i++;
	/* Equal up to here: the next difference is where only one of them begins a term, or each another. */
	for (;; i++, k++) {
		uint64_t ours = i < r->nterms ? r->terms[i].start : UINT64_MAX;
		uint64_t theirs = k < a->nterms ? a->terms[k].start : UINT64_MAX;
		uint64_t at = ours < theirs ? ours : theirs;

		if (at >= both)
			return UINT64_MAX;
		if (ours != theirs || r->terms[i].term != a->terms[k].term)
			return at;
	}
}

void
raft_extend_log(Step *s, const RaftAppend *a, uint64_t from)
{
	Raft *r = s->r;

	r->end = a->head.end;
	for (uint32_t i = 0; i < a->nterms; i++)
		if (a->terms[i].start >= from)
			raft_history_push(r, a->terms[i].term, a->terms[i].start);
	if (a->has_config && a->config.start >= from)
		raft_config_set(s, &a->config);
}

static bool
well_formed(const RaftMsg *m, const RaftAppend *a)
{
	uint64_t term = m->pos_term, start = m->pos;

	if (a == NULL)
		return true;
	if (m->end <= m->pos || m->pos == 0 || a->nterms > RAFT_APPEND_TERMS)
		return false;
	for (uint32_t i = 0; i < a->nterms; i++) {
		if (a->terms[i].term <= term || a->terms[i].start < start || a->terms[i].start >= m->end)
			return false;
		term = a->terms[i].term;
		start = a->terms[i].start + 1;
	}
	return term <= m->term;
}

/* Log matching: our record that ends there is the leader's. What is committed is in every leader's log. */
static bool
matches(const Raft *r, const RaftMsg *m)
{
	if (r->truncating || m->pos > r->end)
		return false;
	if (m->pos <= r->commit || BUG(PREV_TERM_NOT_CHECKED))
		return true;
	return raft_history_knows(r, m->pos) && raft_term_before(r, m->pos) == m->pos_term;
}

/* Takes what is new in it. False: the log has to be cut first. */
static bool
take_bytes(Step *s, const RaftAppend *a)
{
	Raft *r = s->r;
	uint64_t conflict = raft_conflict(r, a);

	if (BUG(TRUNCATE_ON_SHORT) && a->head.end < r->end && a->head.end >= r->commit)
		conflict = a->head.end;
	if (conflict != UINT64_MAX && !BUG(NO_TRUNCATE)) {
		if (conflict > r->matched)
			r->matched = conflict;
		if (conflict < r->commit)
			s->out->note = "the leader's log differs below our commit position: one of us is broken";
		else
			raft_cut_log(s, conflict);
		return false;
	}
	if (a->head.end > r->end) {
		s->out->accept = true;
		s->out->accept_from = r->end;
		s->out->accept_to = a->head.end;
		raft_extend_log(s, a, r->end);
		raft_stop_fetching(s);
	}
	if (a->head.end > r->matched)
		r->matched = a->head.end;
	return true;
}

static void
follow_commit(Step *s, uint64_t commit)
{
	Raft *r = s->r;
	uint64_t have = BUG(COMMIT_OVER_MATCHED) ? r->end : r->matched;

	raft_raise_commit(s, commit < have ? commit : have);
}

/* The leader that sent it does not know yet that its time is over: it learns it from our term. */
static void
refuse_old_leader(Step *s, const RaftMsg *m)
{
	RaftMsg *answer = raft_say(s, RAFT_APPEND_REPLY, m->from);

	answer->flags |= RAFT_REFUSED;
	answer->pos = m->pos;
	answer->end = s->r->end;
}

void
raft_on_append(Step *s, const RaftMsg *m, const RaftAppend *a)
{
	Raft *r = s->r;
	bool led = r->role == RAFT_LEADER;

	if (m->term < r->vote.term && !(BUG(OLD_LEADER_APPEND) && !led)) {
		refuse_old_leader(s, m);
		return;
	}
	if (!well_formed(m, a)) {
		s->out->note = "an append whose terms do not ascend: ignored";
		return;
	}
	if (m->term > r->vote.term)
		raft_adopt_term(s, m->term);
	if (!raft_heard_leader(s, m))
		return;
	if (led && s->out->close_gate)
		return; /* where our log ends is known when the gate is closed */
	if (m->pos == 0) {
		follow_commit(s, m->commit);
		leave_recovery(s);
		raft_acknowledge(s, m->stamp_us);
		return;
	}
	if (!matches(r, m)) {
		raft_refuse(s, m, m->pos);
		return;
	}
	if (m->pos > r->matched)
		r->matched = m->pos;
	/* All that is committed here is in the log of whoever leads, and may be all that we know the terms of. */
	if (m->pos <= r->commit && r->commit > r->matched && r->commit <= r->end)
		r->matched = r->commit;
	if (a != NULL)
		(void) take_bytes(s, a);
	follow_commit(s, m->commit);
	leave_recovery(s);
	if (r->truncating)
		raft_refuse(s, m, r->end); /* what follows was not taken */
	else
		raft_acknowledge(s, m->stamp_us);
}
