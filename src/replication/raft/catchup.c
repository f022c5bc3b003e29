/*
 * catchup.c - leader: how a peer gets what it lacks: from the ring, from files, or with tables (paper 7 and
 * thesis 5 in the place of which a follower fetches; rule C3).
 *
 *     PROBE ----> STREAM     they part at or above the start of the ring
 *       |  <----             something was refused, or the ring has passed it
 *       +-------> CATCHUP    below the ring, but in log files: it fetches
 *       +-------> INSTALL    below the oldest file, or below the oldest term remembered: it fetches tables too
 *
 * The fork comes from the two term histories (history.c) and is exact, unless the 16 terms in the answer do
 * not reach back to it; then the oldest of them is asked about next.
 */
#include "raft_internal.h"

void
raft_peer_probe(Step *s, RaftPeer *p, uint64_t pos)
{
	bool asked = p->mode == RAFT_PROBE && p->probe == pos && s->now < p->sent_us + s->r->timing.heartbeat_us;

	p->mode = RAFT_PROBE;
	p->probe = pos;
	if (asked)
		return; /* again at the pace of heartbeats */
	p->since_us = s->now;
	p->poke = true;
}

void
raft_peer_stream(Step *s, RaftPeer *p, uint64_t next)
{
	p->mode = RAFT_STREAM;
	p->refused = 0;
	p->next = next;
	p->probe = next;
	p->since_us = s->now;
	p->bytes_us = s->now;
	if (p->told_commit < s->r->commit && p->tell_us == 0)
		p->tell_us = s->now + s->r->timing.commit_delay_us;
}

static void
catch_up(Step *s, RaftPeer *p, RaftPeerMode mode, uint64_t pos)
{
	bool told = p->mode == mode && s->now < p->sent_us + s->r->timing.heartbeat_us;

	p->mode = mode;
	p->probe = pos;
	p->since_us = s->now;
	if (!told)
		p->poke = true;
}

void
raft_peer_follow_from(Step *s, RaftPeer *p, uint64_t fork)
{
	const Raft *r = s->r;

	if (fork >= r->stream_start && raft_history_knows(r, fork))
		raft_peer_stream(s, p, fork);
	else if (fork < r->log_start || !raft_history_knows(r, fork))
		catch_up(s, p, RAFT_INSTALL, 0);
	else
		catch_up(s, p, RAFT_CATCHUP, fork);
}

void
raft_peer_refused(Step *s, RaftPeer *p, const RaftMsg *m)
{
	const Raft *r = s->r;
	uint64_t end = m->pos < m->end ? m->pos : m->end;
	uint32_t n = m->nterms < RAFT_TAIL_MAX ? m->nterms : RAFT_TAIL_MAX;
	uint64_t fork;
	bool exact;

	if (p->mode == RAFT_INSTALL)
		return; /* its log goes anyway */
	if (m->pos <= m->end)
		p->refused = m->pos;
	fork = raft_history_fork(r, end, m->terms, n, &exact);
	if (fork == 0 || !raft_history_knows(r, fork) || (n == 0 && raft_term_before(r, fork) != 0))
		catch_up(s, p, RAFT_INSTALL, 0);
	else if (exact && fork < r->stream_start)
		raft_peer_follow_from(s, p, fork); /* nothing to be streamed: no need to ask */
	else
		raft_peer_probe(s, p, fork);
}

void
raft_log_start(Step *s, uint64_t stream, uint64_t fetch)
{
	Raft *r = s->r;

	r->stream_start = stream;
	r->log_start = fetch;
	for (int i = 0; i < r->npeers && r->role == RAFT_LEADER; i++) {
		RaftPeer *p = &r->peer[i];

		if (p->mode == RAFT_STREAM && p->next < stream)
			raft_peer_probe(s, p, p->seen != 0 ? p->seen : r->end);
		else if (p->mode == RAFT_CATCHUP && p->probe < fetch)
			raft_peer_probe(s, p, p->seen != 0 ? p->seen : r->end);
	}
}
