/*
 * world.c - memory, the queue of (virtual time, sequence), and what happens to what comes out of it.
 *
 * All memory is taken once; a run resets what the last one used. Nothing but the seed decides anything.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

World W;
int host_bug;

#define EVENTS_MAX 65536
#define SAFETY_EVENTS 40 /* per step: a run whose nodes are all away ends too */

static void *
take(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL) {
		fprintf(stderr, "kvsim: no memory\n");
		exit(2);
	}
	return p;
}

void
world_make(void)
{
	W.events_max = EVENTS_MAX;
	W.event = take(EVENTS_MAX, sizeof *W.event);
	W.letter = take(MESSAGES_MAX, sizeof *W.letter);
	W.rec = take(RECORDS_MAX, sizeof *W.rec);
	W.config = take(CONFIGS_MAX, sizeof *W.config);
	W.committed = take(RECORDS_MAX, sizeof *W.committed);
	W.committed_in = take(RECORDS_MAX, sizeof *W.committed_in);
	W.hash_at = take(RECORDS_MAX, sizeof *W.hash_at);
	W.durable_of = take(INCARNATIONS_MAX, sizeof *W.durable_of);
	W.effect = take(OPS_MAX, sizeof *W.effect);
	W.ballot = take(TERMS_MAX, sizeof *W.ballot);
	W.leader_rec = take(TERMS_MAX, sizeof *W.leader_rec);
	W.leader_id = take(TERMS_MAX, sizeof *W.leader_id);
	for (int i = 0; i < SLOTS; i++) {
		W.node[i].log = take(RECORDS_MAX, sizeof *W.node[i].log);
		W.node[i].disk.image = take(RECORDS_MAX, sizeof *W.node[i].disk.image);
	}
}

/* ---- time -------------------------------------------------------------------------- */

uint64_t
local_now(const Node *n)
{
	return n->clock_offset + (uint64_t) ((double) W.now * n->clock_rate);
}

uint64_t
global_time(const Node *n, uint64_t local)
{
	if (local == NEVER)
		return W.now + UINT64_C(3600000000);
	if (local <= n->clock_offset)
		return W.now;
	return (uint64_t) ((double) (local - n->clock_offset) / n->clock_rate) + 1;
}

/* About exponential: [1, 4 * mean]. */
uint64_t
random_time(uint64_t mean)
{
	uint32_t shape = below(&W.chance, 8);

	return 1 + between(&W.chance, 0, shape == 0 ? 4 * mean : shape < 4 ? mean : mean / 2 + 1);
}

Node *
node_of(uint64_t id)
{
	Node *n = &W.node[id % SLOTS];

	return n->id == id ? n : NULL;
}

/* ---- queue --------------------------------------------------------------------------- */

static inline bool
earlier(const Event *a, const Event *b)
{
	return a->time < b->time || (a->time == b->time && a->seq < b->seq);
}

static void
push_event(Event e)
{
	uint32_t i = W.nevents;

	if (W.nevents == W.events_max)
		sim_fail("bounded queues", "%u events are waiting", W.nevents);
	W.nevents++;
	e.seq = ++W.seq;
	while (i > 0) {
		uint32_t up = (i - 1) / 4;

		if (!earlier(&e, &W.event[up]))
			break;
		W.event[i] = W.event[up];
		i = up;
	}
	W.event[i] = e;
}

void
push_aux(uint64_t time, EventKind kind, int slot, uint32_t number, int aux)
{
	push_event((Event){ .time = time,
						.kind = (uint8_t) kind,
						.slot = (uint8_t) slot,
						.aux = (uint16_t) aux,
						.boot = W.node[slot].boot,
						.number = number });
}

void
push(uint64_t time, EventKind kind, int slot, uint32_t number)
{
	push_aux(time, kind, slot, number, 0);
}

static Event
pop(void)
{
	Event first = W.event[0], last = W.event[--W.nevents];
	uint32_t i = 0;

	for (;;) {
		uint32_t child = 4 * i + 1, best = child, end = child + 4 < W.nevents ? child + 4 : W.nevents;

		if (child >= W.nevents)
			break;
		for (uint32_t k = child + 1; k < end; k++)
			if (earlier(&W.event[k], &W.event[best]))
				best = k;
		if (!earlier(&W.event[best], &last))
			break;
		W.event[i] = W.event[best];
		i = best;
	}
	W.event[i] = last;
	return first;
}

/* ---- what comes out --------------------------------------------------------------------- */

static void
flush_event(Node *n)
{
	push(W.now + random_time(W.p.flush_us), EV_FLUSH, n->slot, 0);
	node_flush(n);
}

static void
resume(Node *n)
{
	if (n->pause == RUNS || n->stopped_until > W.now)
		return;
	if (HBUG(CLOCK_STOPS) && n->pause == NODE_STOPPED)
		n->clock_offset -= (uint64_t) ((double) (W.now - n->stopped_us) * n->clock_rate);
	n->pause = RUNS;
	n->timer_at = NEVER;
	TRACE("%d goes on", n->slot);
	check_leases(); /* what lay in its sockets is read first */
}

/* Of a node that is up, in this life, and runs. */
static void
node_event(Node *n, const Event *e)
{
	switch (e->kind) {
	case EV_TIMER:
		if (n->timer_at == NEVER || e->time >= n->timer_at)
			host_timer(n);
		break;
	case EV_LETTER:
		net_arrive(&W.letter[e->number]);
		break;
	case EV_SYNCED:
		host_sync_done(n, e->number);
		break;
	case EV_TRUNCATE:
		host_truncate(n);
		break;
	case EV_FETCH:
		host_fetch(n, e->number);
		break;
	case EV_FLUSH:
		flush_event(n);
		break;
	case EV_CONNECTED:
		net_connected(n, e->aux, e->number);
		break;
	case EV_APPLY:
		n->apply_due = false;
		apply_up_to(n);
		break;
	default:
		host_fed(n);
		break;
	}
	if (n->up)
		host_arm(n);
}

/* A stopped or busy node takes it later. */
static bool
deferred(Node *n, const Event *e)
{
	Event later = *e;

	if (!n->up)
		return false;
	if (n->pause == NODE_STOPPED || (n->pause == WORKER_STOPPED && e->kind != EV_APPLY)) {
		later.time = n->stopped_until + 1 + below(&W.chance, 3000);
		if (e->kind == EV_LETTER || e->kind == EV_CONNECTED)
			later.time = n->stopped_until + 1500; /* in order */
	} else if (n->busy_until > W.now) {
		later.time = n->busy_until;
	} else {
		return false;
	}
	push_event(later);
	return true;
}

static void
dispatch(const Event *e)
{
	Node *n = &W.node[e->slot];

	switch (e->kind) {
	case EV_CLIENT:
		if ((W.client[e->number >> 24].attempt & 0xffffff) == (e->number & 0xffffff))
			client_event((int) (e->number >> 24));
		break;
	case EV_FAULT:
		fault_event(e->number, e->slot, e->aux);
		break;
	case EV_OPERATOR:
		operator_event();
		break;
	case EV_START:
		if (W.live_mask & 1u << e->slot) {
			node_start(n);
			if (n->up)
				host_arm(n);
		}
		break;
	case EV_CONNECT:
		net_connect(e->slot, e->aux);
		break;
	case EV_RESUME:
		if (n->up && n->boot == e->boot)
			resume(n);
		break;
	case EV_LETTER:
		if (deferred(n, e))
			break;
		if (n->up)
			node_event(n, e);
		net_free(&W.letter[e->number]);
		break;
	default:
		if (n->up && n->boot == e->boot && !deferred(n, e))
			node_event(n, e);
		break;
	}
}

/* ---- a run --------------------------------------------------------------------------------- */

static void
reset(void)
{
	memset(W.committed, 0, (W.nrec + 2) * sizeof *W.committed);
	memset(W.committed_in, 0, (W.nrec + 2) * sizeof *W.committed_in);
	memset(W.hash_at, 0, (W.nrec + 2) * sizeof *W.hash_at);
	memset(W.effect, 0, ((size_t) W.nops + 2) * sizeof *W.effect);
	memset(W.leader_rec, 0, ((size_t) W.max_term + 1) * sizeof *W.leader_rec);
	memset(W.ballot, 0, ((size_t) W.max_voted + 1) * sizeof *W.ballot);
	memset(W.durable_of, 0, ((size_t) W.incarnations + 2) * sizeof *W.durable_of);
	memset(W.link, 0, sizeof W.link);
	memset(W.client, 0, sizeof W.client);
	memset(&W.nops, 0, sizeof W.nops);
	W.incarnations = W.ncommitted = W.seen_index = W.letters = W.nevents = W.seq = W.steps = W.nconfig = 0;
	W.max_term = W.max_voted = W.answered = W.reads = W.now = 0;
	W.crashes = W.elections = W.installs = W.fetches = W.damages = W.wipes = W.changes = W.partitions =
		W.pauses = 0;
	W.truncations = W.lease_reads = 0;
	W.lull_until = W.live_sum = 0;
	W.overflow = W.quiet = false;
	W.nrec = 1;
	W.rec[0] = (Rec){ .start = FIRST_POS, .end = FIRST_POS, .kind = REC_ROOT };
	for (uint32_t i = 0; i < MESSAGES_MAX; i++)
		W.letter[i].next_free = i + 1 < MESSAGES_MAX ? i + 1 : UINT32_MAX;
	W.free_letter = 0;
	W.invariant[0] = W.detail[0] = '\0';
}

void
world_begin(uint64_t seed, uint32_t steps, uint32_t without)
{
	reset();
	W.seed = seed;
	W.steps_max = steps;
	W.without = without;
	W.phase = SAFETY;
	W.live_mask = (1u << SLOTS) - 1;
	W.chance.s = hash_mix(seed + UINT64_C(0x6b7673696d));
	profile_draw(&W.p, &W.chance);
	memset(&W.first_config, 0, sizeof W.first_config);
	for (int i = 0; i < SLOTS; i++) {
		bool initial = i < W.p.voters + W.p.learners;

		node_init(&W.node[i], i, initial);
		if (initial)
			W.first_config.member[W.first_config.n++] =
				(RaftMember){ .id = W.node[i].id, .voter = i < W.p.voters };
	}
	for (int i = 0; i < SLOTS; i++)
		push(random_time(ELECTION_US / 2), EV_START, i, 0);
	for (uint32_t c = 0; c < CLIENTS; c++)
		push(random_time(ELECTION_US), EV_CLIENT, 0, c << 24);
	push(random_time(W.p.fault_us), EV_FAULT, 0, 0);
	push(random_time(W.p.operator_us), EV_OPERATOR, 0, 0);
}

static void
next_event(void)
{
	Event e = pop();

	W.now = e.time;
	dispatch(&e);
}

bool
world_run(void)
{
	uint64_t events = 0, check_at;

	if (setjmp(W.failed) != 0)
		return false;
	while (W.steps < W.steps_max && !W.overflow && W.nevents > 0 &&
		   events++ < (uint64_t) W.steps_max * SAFETY_EVENTS)
		next_event();
	if (W.overflow)
		return true;
	live_begin();
	for (check_at = W.now; W.nevents > 0 && !W.overflow;) {
		next_event();
		if (W.now < check_at)
			continue;
		check_at = W.now + ELECTION_US / 2;
		if (live_check())
			return true;
	}
	return true;
}
