/*
 * fetch.c - follower: CATCH_UP and what it fetched by itself (in the place of paper 7, InstallSnapshot; rule
 * C3).
 *
 * What is fetched is the leader's committed log, so it counts as matched, and as committed as far as the
 * leader has said.
 */
#include "bug.h"
#include "raft_internal.h"

static void
fetch(Step *s, const RaftMsg *m, bool snapshot)
{
	Raft *r = s->r;

	if (r->fetching && r->fetch_id == m->from && r->fetch_snapshot == snapshot)
		return; /* is at it */
	r->fetching = true;
	r->fetch_snapshot = snapshot;
	r->fetch_id = m->from;
	s->out->fetch = true;
	s->out->stop_fetch = false;
	s->out->fetch_snapshot = snapshot;
	s->out->fetch_id = m->from;
	s->out->fetch_from = r->end;
	s->out->fetch_until = m->commit;
}

/* The leader has found that our logs part at m->pos. */
static void
fetch_log(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;

	if (BUG(TRUNCATE_BELOW_COMMIT) && m->pos < r->end) {
		raft_cut_log(s, m->pos);
		return;
	}
	if (m->pos == r->end) {
		fetch(s, m, false);
		raft_acknowledge(s, m->stamp_us);
	} else if (m->pos < r->end && m->pos >= r->commit && raft_term_at(r, m->pos) != m->pos_term) {
		raft_cut_log(s, m->pos); /* proven to differ; fetched when this is done */
		raft_acknowledge(s, m->stamp_us);
	} else if (r->fetching) {
		raft_acknowledge(s, m->stamp_us); /* is further already */
	} else {
		raft_refuse(s, m, r->end); /* this is not where they part: the leader looks again */
	}
}

void
raft_on_catch_up(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;
	bool led = r->role == RAFT_LEADER;

	if (m->term < r->vote.term) {
		RaftMsg *answer = raft_say(s, RAFT_APPEND_REPLY, m->from);

		answer->flags |= RAFT_REFUSED;
		return;
	}
	if (m->term > r->vote.term)
		raft_adopt_term(s, m->term);
	if (!raft_heard_leader(s, m) || (led && s->out->close_gate))
		return;
	if (r->truncating) {
		raft_acknowledge(s, m->stamp_us);
	} else if (m->flags & RAFT_SNAPSHOT) {
		fetch(s, m, true);
		raft_acknowledge(s, m->stamp_us);
	} else {
		fetch_log(s, m);
	}
}

void
raft_on_fetched(Step *s, const RaftAppend *a)
{
	Raft *r = s->r;
	uint64_t known;

	if (r->role == RAFT_LEADER || r->truncating || a->nterms > RAFT_APPEND_TERMS ||
		a->head.end <= a->head.pos)
		return;
	if (a->head.pos > r->end || raft_conflict(r, a) != UINT64_MAX) {
		s->out->note = "fetched log does not fit to ours: ignored";
		return;
	}
	if (a->head.end > r->end)
		raft_extend_log(s, a, r->end);
	if (a->head.end > r->matched)
		r->matched = a->head.end;
	known = a->head.commit < a->head.end ? a->head.commit : a->head.end;
	raft_raise_commit(s, known);
	raft_follower_progress(s);
}
