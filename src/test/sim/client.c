/*
 * client.c - clients and the backends that serve them.
 *
 * A client has a session, one request at a time, and repeats a write in doubt with its serial until it is
 * answered. Backends see only what the worker has published (gate, lease, applied), so they go on while it is
 * stopped.
 */
#include <string.h>

#include "sim.h"

#define UNCOMMITTED_MAX 262144 /* the log's ring: what is not committed has to stay in it, so writers wait */

static void
again(int c, uint64_t in)
{
	push(W.now + 1 + in, EV_CLIENT, 0, ((uint32_t) c << 24) | (++W.client[c].attempt & 0xffffff));
}

static void
answered(int c)
{
	Client *cl = &W.client[c];

	cl->busy = false;
	W.live_answered += W.phase == LIVENESS;
	again(c, random_time(W.p.client_us));
}

static void
seen(uint32_t index)
{
	if (index <= W.seen_index)
		return;
	W.seen_index = index;
	check_leases();
}

/* ---- writes ------------------------------------------------------------------ */

static uint32_t
insert(Node *n, int c)
{
	uint32_t rec = rec_new(n->log[n->last], REC_WRITE, W.rec[n->log[n->last]].term,
						   64 + 8 * (uint64_t) below(&W.chance, W.p.record_max / 8));

	if (c >= 0) {
		W.rec[rec].op = W.client[c].op;
		W.rec[rec].session = (uint8_t) c;
		W.rec[rec].serial = W.client[c].serial;
	}
	log_append(n, rec);
	return rec;
}

void
clients_insert_more(Node *n)
{
	if (n->truncating || W.overflow)
		return;
	insert(n, -1);
}

static void
answer_write(Node *n, int c)
{
	Waiter *w = &n->waiter[c];

	check_answer(n, w->rec);
	W.answered++;
	TRACE("%d answers write %u of client %d", n->slot, w->op, c);
	seen(W.rec[w->rec].index);
	if (W.client[c].busy && !W.client[c].reading && W.client[c].op == w->op)
		answered(c);
	w->rec = 0;
}

static void
write_at(Node *n, int c)
{
	Client *cl = &W.client[c];

	if (HBUG(BLIND_RETRY) && cl->inserted_op == cl->op)
		cl->serial++;
	cl->inserted_op = cl->op;
	n->waiter[c].rec = insert(n, c);
	n->waiter[c].op = cl->op;
	if (perhaps(&W.chance, W.p.background_ppm))
		insert(n, -1);
	TRACE("%d inserts write %u of client %d at %llu", n->slot, cl->op, c,
		  (unsigned long long) W.rec[n->waiter[c].rec].start);
	again(c, W.p.patience_us);
	if (HBUG(ANSWER_BEFORE_COMMIT))
		answer_write(n, c);
	if (n->pause == RUNS && n->busy_until <= W.now && below(&W.chance, 2) == 0)
		host_fed(n);
	else
		push(W.now + below(&W.chance, 300), EV_GROWN, n->slot, 0);
	if (n->up)
		host_start_sync(n);
}

/* ---- reads ------------------------------------------------------------------- */

static void
answer_read(Node *n, int c, uint32_t floor, const char *how)
{
	check_read(n, floor, how);
	W.reads++;
	seen(n->state.index);
	n->waiter[c].arrived_us = 0;
	if (W.client[c].busy && W.client[c].reading)
		answered(c);
}

static void
read_at(Node *n, int c)
{
	RaftEvent e = { .kind = RAFT_EV_READ };
	Waiter *w = &n->waiter[c];
	uint64_t applied = W.rec[n->state.rec].end;

	again(c, W.p.patience_us);
	if (HBUG(LOCAL_READ)) {
		answer_read(n, c, W.seen_index, "local read");
		return;
	}
	if (W.p.lease_reads && n->lease > local_now(n) &&
		(applied >= n->serve_from || HBUG(LEASE_BEFORE_APPLIED))) {
		W.lease_reads++;
		answer_read(n, c, W.seen_index, "lease read");
		return;
	}
	if (n->pause != RUNS || n->busy_until > W.now || n->raft.role != RAFT_LEADER)
		return;
	w->arrived_us = local_now(n);
	w->floor = W.seen_index;
	w->confirmed = false;
	host_event(n, &e);
}

void
clients_reads_moved(Node *n, uint64_t until_us, uint64_t index)
{
	for (int c = 0; c < CLIENTS; c++) {
		Waiter *w = &n->waiter[c];

		if (w->arrived_us == 0 || w->confirmed || w->arrived_us >= until_us)
			continue;
		w->confirmed = true;
		w->at = index;
	}
	clients_look(n);
}

/* ---- answers ----------------------------------------------------------------- */

void
clients_look(Node *n)
{
	for (int c = 0; c < CLIENTS; c++) {
		Waiter *w = &n->waiter[c];

		if (w->arrived_us != 0 && w->confirmed &&
			(W.rec[n->state.rec].end >= w->at || HBUG(READ_NOT_APPLIED)))
			answer_read(n, c, w->floor, "ReadIndex");
		if (w->rec == 0)
			continue;
		if (W.rec[w->rec].index > n->last ||
			(W.rec[w->rec].index >= n->base && n->log[W.rec[w->rec].index] != w->rec))
			w->rec = 0; /* cut: in doubt, the client repeats it */
		else if (W.rec[w->rec].index <= n->state.index)
			answer_write(n, c);
	}
}

/*
 * Not after the gate has closed: what is applied from now on may be newer than what the next leader has
 * applied.
 */
void
clients_end_reads(Node *n)
{
	for (int c = 0; c < CLIENTS && !HBUG(READS_KEPT); c++)
		n->waiter[c].arrived_us = 0;
}

void
clients_forget(Node *n)
{
	memset(n->waiter, 0, sizeof n->waiter);
}

static Node *
choose(Client *cl)
{
	Node *n = &W.node[cl->target];

	if (n->up && n->pause != NODE_STOPPED &&
		(n->gate || (cl->reading && n->lease != 0) || below(&W.chance, 4) == 0))
		return n;
	for (int i = 0; i < SLOTS; i++) { /* whom it asks next is told by whoever it asked */
		cl->target = (cl->target + 1) % SLOTS;
		n = &W.node[cl->target];
		if (n->up && n->pause != NODE_STOPPED && n->gate)
			return n;
	}
	return NULL;
}

static void
next_request(int c)
{
	Client *cl = &W.client[c];

	cl->busy = true;
	cl->reading = below(&W.chance, 100) < W.p.read_percent;
	if (cl->reading)
		return;
	cl->op = ++W.nops;
	cl->serial++;
	if (W.nops + 2 >= OPS_MAX)
		W.overflow = true;
}

void
client_event(int c)
{
	Client *cl = &W.client[c];
	Node *n;

	if (W.quiet || W.overflow) {
		again(c, ELECTION_US);
		return;
	}
	if (!cl->busy)
		next_request(c);
	else if (below(&W.chance, 2) == 0)
		cl->target = (int) below(&W.chance, SLOTS);
	n = choose(cl);
	if (n == NULL || (!cl->reading && W.now < W.lull_until) ||
		(!cl->reading && log_end(n) - n->published_commit > UNCOMMITTED_MAX)) {
		again(c, ELECTION_US / 8 + random_time(W.p.client_us));
		return;
	}
	n->waiter[c].arrived_us = 0;
	n->waiter[c].rec = 0;
	if (cl->reading)
		read_at(n, c);
	else if (n->gate && !n->truncating)
		write_at(n, c);
	else
		again(c, random_time(W.p.client_us));
}
