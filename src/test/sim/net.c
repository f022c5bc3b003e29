/*
 * net.c - the network between the nodes.
 *
 * Two kinds, drawn per seed. As TCP: in order, and what is lost breaks the connection; a blocked direction
 * stalls or loses. Hostile: messages are lost, doubled and reordered one by one, and nobody is told. In both,
 * what was sent over an earlier connection is not delivered after PEER_UP, as raft.h says of it.
 */
#include <string.h>

#include "sim.h"

static Link *
pair(int a, int b)
{
	return a < b ? &W.link[a][b] : &W.link[b][a];
}

void
net_free(Letter *l)
{
	uint32_t i = (uint32_t) (l - W.letter);

	l->next_free = W.free_letter;
	W.free_letter = i;
	W.letters--;
}

static size_t
used(const RaftMsg *m)
{
	return offsetof(RaftMsg, terms) + m->nterms * sizeof m->terms[0];
}

static void
post(int from, int to, const RaftMsg *m, uint32_t last, uint64_t until, uint64_t arrives)
{
	Letter *l;

	if (W.free_letter == UINT32_MAX)
		return; /* buffers are bounded */
	l = &W.letter[W.free_letter];
	W.free_letter = l->next_free;
	W.letters++;
	l->from = from;
	l->to = to;
	l->session = pair(from, to)->session;
	l->last = last;
	l->until = until;
	memcpy(&l->msg, m, used(m));
	push(arrives, EV_LETTER, to, (uint32_t) (l - W.letter));
}

static bool
blocked(const Link *k, uint64_t at)
{
	return k->blocked_until > at;
}

void
net_send(Node *from, const RaftMsg *m, uint32_t last, uint64_t until, uint64_t leaves)
{
	Node *to = node_of(m->to);
	Chance *c = &W.chance;
	Link *k;
	uint64_t arrives;

	if (to == NULL || to == from || !pair(from->slot, to->slot)->connected ||
		from->seen[to->slot] != pair(from->slot, to->slot)->session)
		return;
	if (trace_on)
		trace_message("sends", m, until);
	k = &W.link[from->slot][to->slot];
	arrives = leaves + 1 + between(c, W.p.delay_min, W.p.delay_max);
	if (perhaps(c, W.p.slow_ppm))
		arrives += between(c, 0, W.p.slow_us);
	if (blocked(k, leaves)) {
		if (W.p.silent_loss || k->lost)
			return;
		arrives =
			k->blocked_until + between(c, 0, W.p.delay_max); /* stalls, if the connection lives so long */
	}
	if (W.phase == SAFETY && perhaps(c, W.p.drop_ppm)) {
		if (!W.p.silent_loss)
			net_break(from->slot, to->slot);
		return;
	}
	if (!W.p.silent_loss || !perhaps(c, W.p.reorder_ppm)) {
		if (arrives <= k->last_arrival)
			arrives = k->last_arrival + 1;
		k->last_arrival = arrives;
	}
	post(from->slot, to->slot, m, last, until, arrives);
	if (W.p.silent_loss && perhaps(c, W.p.dup_ppm))
		post(from->slot, to->slot, m, last, until, arrives + between(c, 0, 5 * (uint64_t) W.p.delay_max));
}

void
net_arrive(Letter *l)
{
	Node *n = &W.node[l->to];

	if (!n->up || l->msg.to != n->id || (l->session < n->seen[l->from] && !HBUG(OLD_CONNECTION)))
		return;
	if (trace_on)
		trace_message("gets", &l->msg, l->until);
	host_message(n, l);
}

static void
tell_down(int slot, int peer)
{
	if (W.node[slot].up)
		push_aux(W.now + below(&W.chance, ELECTION_US / 2), EV_CONNECTED, slot, 0, peer);
}

void
net_break(int a, int b)
{
	Link *p = pair(a, b);

	if (!p->connected)
		return;
	p->connected = false;
	p->session++;
	W.link[a][b].last_arrival = W.link[b][a].last_arrival = 0;
	if (below(&W.chance, 2) == 0) {
		tell_down(a, b);
		tell_down(b, a);
	}
	push_aux(W.now + 1000 + below(&W.chance, ELECTION_US / 4), EV_CONNECT, a, 0, b);
}

void
net_down_all(Node *n)
{
	for (int i = 0; i < SLOTS; i++) {
		if (i == n->slot)
			continue;
		if (pair(n->slot, i)->connected && below(&W.chance, 2) == 0)
			tell_down(i, n->slot);
		pair(n->slot, i)->connected = false;
		pair(n->slot, i)->session++;
		n->seen[i] = pair(n->slot, i)->session;
		W.link[n->slot][i].last_arrival = W.link[i][n->slot].last_arrival = 0;
	}
}

void
net_connect(int a, int b)
{
	Link *p = pair(a, b);

	if (p->connected || !W.node[a].up || !W.node[b].up)
		return; /* who is down connects when it starts */
	if (blocked(&W.link[a][b], W.now) || blocked(&W.link[b][a], W.now)) {
		push_aux(W.now + 1000 + below(&W.chance, ELECTION_US / 2), EV_CONNECT, a, 0, b);
		return;
	}
	p->connected = true;
	p->session++;
	W.link[a][b].lost = W.link[b][a].lost = false;
	push_aux(W.now + between(&W.chance, W.p.delay_min, W.p.delay_max), EV_CONNECTED, a, p->session, b);
	push_aux(W.now + between(&W.chance, W.p.delay_min, W.p.delay_max), EV_CONNECTED, b, p->session, a);
}

void
net_connected(Node *n, int peer, uint32_t session)
{
	RaftEvent e = { .kind = session == 0 ? RAFT_EV_PEER_DOWN : RAFT_EV_PEER_UP, .id = W.node[peer].id };
	const Link *p = pair(n->slot, peer);

	if (session == 0 ? p->connected : !p->connected || p->session != session)
		return;
	if (session != 0) {
		n->seen[peer] = session;
		n->partial[peer] = (Partial){ 0, 0 };
	}
	TRACE("%d: connection to %d %s", n->slot, peer, session == 0 ? "down" : "up");
	host_event(n, &e);
}

/* The core has made entries for new members: which of them are connected? */
void
net_tell_new_peers(Node *n)
{
	RaftConfig c = n->raft.config;
	uint32_t boot = n->boot;

	n->config_seen = c.start;
	for (int i = 0; i < c.n && n->up && n->boot == boot; i++) {
		Node *m = node_of(c.member[i].id);
		const RaftPeer *p = raft_peer(&n->raft, c.member[i].id);
		RaftEvent e = { .kind = RAFT_EV_PEER_UP, .id = c.member[i].id };

		if (m != NULL && m != n && p != NULL && !p->up && pair(n->slot, m->slot)->connected &&
			n->seen[m->slot] == pair(n->slot, m->slot)->session)
			host_event(n, &e);
	}
}

void
net_block(int from, int to, uint64_t until)
{
	Link *k = &W.link[from][to];

	if (k->blocked_until < until)
		k->blocked_until = until;
	if (below(&W.chance, 2) == 0 && !W.p.silent_loss) { /* else it stalls */
		k->lost = true;
		net_break(from, to);
	}
}

bool
net_reachable(int a, int b)
{
	return !blocked(&W.link[a][b], W.now) && !blocked(&W.link[b][a], W.now) && W.node[a].pause == RUNS &&
		   W.node[b].pause == RUNS;
}

/* Nothing is blocked any more, and connections are new, so that nobody waits for what was lost. */
void
net_heal_all(void)
{
	for (int a = 0; a < SLOTS; a++) {
		for (int b = 0; b < SLOTS; b++)
			W.link[a][b].blocked_until = 0;
	}
	for (int a = 0; a < SLOTS; a++)
		for (int b = a + 1; b < SLOTS; b++)
			net_break(a, b);
}
