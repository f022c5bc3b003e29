/*
 * progress.c - leader: what it knows of each peer, and what it sends to it (paper 5.3; thesis 10.2.1
 * pipelining).
 *
 * Bytes are sent by the host straight from its ring (raft_next_send, raft_sent); from here come the empty
 * APPENDs that keep the peer's timer quiet, ask about its log, tell commit positions and carry the stamps of
 * the lease (read.c).
 *
 * Nothing is lost for good: an idle APPEND claims the end of what was sent, so a peer that lacks something
 * refuses; a window that is full of what was lost is noticed by answers that come, but tell of no progress.
 */
#include "bug.h"
#include "raft_internal.h"

const RaftPeer *
raft_peer(const Raft *r, uint64_t id)
{
	for (int i = 0; i < r->npeers; i++)
		if (r->peer[i].id == id)
			return &r->peer[i];
	return NULL;
}

RaftPeer *
raft_find_peer(Raft *r, uint64_t id)
{
	for (int i = 0; i < r->npeers; i++)
		if (r->peer[i].id == id)
			return &r->peer[i];
	return NULL;
}

uint64_t
raft_stamp(const Raft *r, uint64_t now)
{
	return r->read_round_us > now ? r->read_round_us : now;
}

/* Nothing is known of its log any more. */
void
raft_peer_reset(Step *s, RaftPeer *p)
{
	if (!BUG(HELLO_KEEPS_ACKED) || p->up_us == 0)
		p->acked = 0;
	p->seen = 0;
	p->refused = 0;
	p->end = 0;
	p->next = 0;
	p->told_commit = 0;
	p->tell_us = 0;
	p->mode = RAFT_PROBE;
	p->probe = s->r->end;
	p->since_us = s->now;
	p->caught_up = false;
	p->round_end = s->r->end;
	p->round_us = s->now;
	p->poke = true;
}

static void
fill_head(const Raft *r, const RaftPeer *p, uint64_t pos, uint64_t now, RaftMsg *m)
{
	*m = (RaftMsg){ .kind = RAFT_APPEND, .from = r->self, .to = p->id, .term = r->vote.term };
	if (raft_own_committed(r))
		m->flags = RAFT_OWN_TERM;
	m->pos = raft_history_knows(r, pos) ? pos : 0;
	m->pos_term = raft_term_before(r, m->pos);
	m->end = m->pos;
	m->commit = r->commit;
	m->stamp_us = raft_stamp(r, now);
}

static void
send_alive(Step *s, RaftPeer *p)
{
	const Raft *r = s->r;
	RaftMsg *m = raft_say(s, RAFT_APPEND, p->id);

	switch (p->mode) {
	case RAFT_PROBE:
		fill_head(r, p, p->probe, s->now, m);
		break;
	case RAFT_STREAM:
		/* `next` is a record boundary for certain only at the end. */
		fill_head(r, p, p->next == r->end ? p->next : p->seen, s->now, m);
		break;
	case RAFT_CATCHUP:
	case RAFT_INSTALL:
		fill_head(r, p, 0, s->now, m);
		m->kind = RAFT_CATCH_UP;
		if (p->mode == RAFT_INSTALL) {
			m->flags |= RAFT_SNAPSHOT;
		} else {
			m->pos = p->probe;
			m->pos_term = raft_term_at(r, p->probe);
		}
		break;
	}
	p->poke = false;
	p->sent_us = s->now;
	p->told_commit = r->commit;
	p->tell_us = 0;
}

uint64_t
raft_alive_due(const Raft *r, const RaftPeer *p)
{
	uint64_t due = p->sent_us + r->timing.heartbeat_us;

	return p->mode == RAFT_STREAM && p->tell_us != 0 && p->tell_us < due ? p->tell_us : due;
}

void
raft_keep_alive(Step *s)
{
	Raft *r = s->r;

	for (int i = 0; i < r->npeers; i++)
		if (r->peer[i].poke || s->now >= raft_alive_due(r, &r->peer[i]))
			send_alive(s, &r->peer[i]);
}

bool
raft_next_send(const Raft *r, uint64_t id, uint64_t now_us, RaftMsg *head, uint64_t *to)
{
	const RaftPeer *p = raft_peer(r, id);
	uint64_t limit;

	if (r->role != RAFT_LEADER || p == NULL || p->mode != RAFT_STREAM || !p->up || p->next < r->stream_start)
		return false;
	/* What it had when this began was not sent now, synced or not. */
	limit = (p->seen > p->probe ? p->seen : p->probe) + r->timing.window;
	if (limit > r->end)
		limit = r->end;
	if (p->next >= limit || !raft_history_knows(r, p->next))
		return false;
	fill_head(r, p, p->next, now_us, head);
	*to = limit;
	return true;
}

void
raft_sent(Raft *r, uint64_t id, uint64_t now_us, uint64_t to)
{
	RaftPeer *p = raft_find_peer(r, id);

	if (r->role != RAFT_LEADER || p == NULL || p->mode != RAFT_STREAM || to <= p->next || to > r->end)
		return;
	p->next = to;
	p->sent_us = now_us;
	p->bytes_us = now_us;
	p->told_commit = r->commit;
	p->tell_us = 0;
}

uint64_t
raft_needed(const Raft *r)
{
	uint64_t least = r->end;

	for (int i = 0; i < r->npeers; i++) {
		const RaftPeer *p = &r->peer[i];
		uint64_t need = p->mode == RAFT_CATCHUP && p->probe > p->seen ? p->probe : p->seen;

		/* One that is away counts: it comes back where it was, or, not heard by this leader yet, anywhere. */
		if (r->role != RAFT_LEADER || (p->up && (p->mode == RAFT_INSTALL || need == 0)))
			continue;
		if (need < least)
			least = need;
	}
	return least;
}

/* A plain answer while we ask about its log. */
static void
probe_answered(Step *s, RaftPeer *p, const RaftMsg *m)
{
	const Raft *r = s->r;
	bool matched = m->stamp_us >= p->since_us && m->end >= p->probe && m->pos != 0;
	uint64_t from = matched && p->probe > m->pos ? p->probe : m->pos;

	if (from >= r->stream_start && from != 0)
		raft_peer_stream(s, p, from);
	else if (!matched)
		return;
	else if (m->end > p->probe && m->end <= r->end && m->end >= r->stream_start &&
			 (p->refused == 0 || m->end < p->refused)) /* else there and back for ever */
		raft_peer_probe(s, p, m->end);
	else
		raft_peer_follow_from(s, p, from);
}

static void
caught_up_answered(Step *s, RaftPeer *p, const RaftMsg *m)
{
	const Raft *r = s->r;

	if (p->seen >= r->stream_start && p->seen != 0) {
		raft_peer_stream(s, p, p->seen);
	} else if (m->end >= r->stream_start && m->end <= r->end && p->mode == RAFT_CATCHUP) {
		raft_peer_probe(s, p, m->end); /* all there, if not synced yet */
	} else if (p->mode == RAFT_CATCHUP && p->seen > p->probe) {
		p->probe = p->seen;
	}
}

static void
stream_answered(Step *s, RaftPeer *p, const RaftMsg *m)
{
	const Raft *r = s->r;

	if (p->next < p->seen)
		p->next = p->seen;
	/* Asked long after the last byte was sent, it still lacks some: lost. */
	if (m->end < p->next && m->stamp_us >= p->bytes_us + r->timing.election_us)
		raft_peer_probe(s, p, m->end > p->seen ? m->end : p->seen);
}

static void
note_contact(Step *s, RaftPeer *p, const RaftMsg *m)
{
	/* Not `up`: an answer may be read after its connection ended, and then nothing would ever say so. */
	if (BUG(LATE_ANSWER_IS_UP))
		p->up = true;
	p->heard_us = s->now;
	if ((m->flags & RAFT_RECOVERING) && !BUG(RECOVERING_ACKS_COUNT)) {
		p->acked = 0;
		return;
	}
	p->answer_us = s->now;
	if (m->stamp_us > p->echo_us && m->stamp_us <= s->now + 1)
		p->echo_us = BUG(LEASE_FROM_RECEIVE) ? s->now : m->stamp_us;
}

void
raft_on_append_reply(Step *s, const RaftMsg *m)
{
	Raft *r = s->r;
	RaftPeer *p = raft_find_peer(r, m->from);

	if (p == NULL)
		return;
	if (m->term > r->vote.term) {
		raft_adopt_term(s, m->term);
		return;
	}
	if (r->role != RAFT_LEADER || (m->term < r->vote.term && !BUG(STALE_ACK_OF_OLD_TERM)))
		return;
	note_contact(s, p, m);
	if (m->stamp_us < p->up_us && !BUG(HELLO_KEEPS_ACKED) && !BUG(STALE_ACK_OF_OLD_TERM))
		return; /* of the log it had before it came back */
	p->end = m->end;
	if (m->flags & RAFT_REFUSED) {
		if (m->stamp_us >= p->since_us)
			raft_peer_refused(s, p, m);
		return;
	}
	if (m->pos > r->end)
		return;
	if (m->pos > p->seen)
		p->seen = m->pos;
	if (m->pos > p->acked && (!(m->flags & RAFT_RECOVERING) || BUG(RECOVERING_ACKS_COUNT)))
		p->acked = m->pos;
	if (p->mode == RAFT_PROBE)
		probe_answered(s, p, m);
	else if (p->mode == RAFT_STREAM)
		stream_answered(s, p, m);
	else
		caught_up_answered(s, p, m);
	raft_learner_round(s, p);
}
