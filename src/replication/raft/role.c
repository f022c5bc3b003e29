/*
 * role.c - changes of role and term (paper 5.1, figure 2 "rules for servers").
 *
 * A new term is persisted before anything that depends on it leaves (out.persist comes first). A leader
 * closes the gate before anything else when it steps down.
 */
#include "bug.h"
#include "raft_internal.h"

void
raft_stop_fetching(Step *s)
{
	if (!s->r->fetching)
		return;
	s->r->fetching = false;
	s->r->fetch_snapshot = false;
	s->out->fetch = false;
	s->out->stop_fetch = true;
}

void
raft_become_follower(Step *s, uint64_t leader)
{
	Raft *r = s->r;
	bool led = r->role == RAFT_LEADER;

	if (led) {
		s->out->close_gate = true;
		s->out->begin_term = false;
		s->out->open_gate = false;
		s->out->append_config = false;
	}
	if (leader != r->leader)
		raft_stop_fetching(s);
	r->role = RAFT_FOLLOWER;
	r->leader = leader;
	r->force = false;
	r->transferring = false;
	r->timeout_us = 0;
	r->config_pending = false;
	r->read_us = 0;
	r->read_round_us = 0;
	r->term_end = 0;
	r->deadline_us = raft_random_timeout(s, r->timing.election_us);
	if (led)
		raft_sync_peers(s);
}

void
raft_adopt_term(Step *s, uint64_t term)
{
	Raft *r = s->r;

	r->vote.term = term;
	r->vote.voted_for = 0;
	if (!BUG(TERM_NOT_PERSISTED))
		s->out->persist = true;
	if (!BUG(MATCHED_KEPT))
		r->matched = 0; /* L2: the next leader's log is another one */
	r->recover_to = 0;
	r->stamp_us = 0;
	r->told_ack = 0;
	raft_become_follower(s, 0);
}

bool
raft_heard_leader(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;

	if (r->role == RAFT_LEADER || (r->leader != 0 && r->leader != m->from && !BUG(OLD_LEADER_APPEND))) {
		s->out->note = "two leaders in one term: ignored";
		return false;
	}
	if (r->role != RAFT_FOLLOWER && BUG(EQUAL_TERM_CANDIDATE))
		return false;
	if (r->role != RAFT_FOLLOWER || r->leader != m->from)
		raft_become_follower(s, m->from);
	r->contact_us = s->now;
	r->deadline_us = raft_random_timeout(s, r->timing.election_us);
	if (m->stamp_us > r->stamp_us)
		r->stamp_us = m->stamp_us;
	/*
	 * L5: all that was ever committed is below the commit position of a leader that has committed in its own
	 * term.
	 */
	if (r->recover_to == 0 && ((m->flags & RAFT_OWN_TERM) || BUG(RECOVERED_TOO_EARLY)))
		r->recover_to = m->commit;
	return true;
}

/*
 * Its TERM record is still to come: peers are asked about the log before it, which is also the first
 * heartbeat.
 */
void
raft_become_leader(Step *s)
{
	Raft *r = s->r;

	r->role = RAFT_LEADER;
	r->leader = r->self;
	r->force = false;
	r->term_end = 0;
	r->quorum_us = s->now;
	r->transferring = false;
	r->timeout_us = 0;
	r->config_pending = false;
	r->retry_us = 0;
	r->read_us = 0;
	r->read_round_us = 0;
	for (int i = 0; i < r->npeers; i++) {
		RaftPeer *p = &r->peer[i];

		p->echo_us = 0;
		p->answer_us = 0;
		p->up_us = 0;
		raft_peer_reset(s, p);
	}
	s->out->begin_term = true;
}
