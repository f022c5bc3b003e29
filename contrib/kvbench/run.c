/*
 * run.c - drives all connections through one workload.
 *
 * Closed loop: each connection sends a burst of -P requests at once and the next burst when all are answered,
 * as redis-benchmark does, so that both measure the same thing. Open loop (--rate): request k is due at
 * start + k / rate whatever became of those before it; at most -P are on the way per connection, the others
 * wait here, and the wait counts.
 *
 * A single connection in a closed loop does not go through the poller: recv waits, which saves a system
 * call per burst on both sides of the comparison that matters most there.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "kvbench.h"
#include "port/clock.h"

#define NO_DEADLINE UINT64_MAX
#define SILENCE_NS (SILENCE_MS * UINT64_C(1000000))
#define DUE_BURST 65536 /* operations handed out at once; keeps the loop turning when far behind */

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		(double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Give a connection that has nothing on the way (open loop: that has room) new requests. */
static Status
feed(Run *r, Conn *c, uint64_t now)
{
	uint32_t most, added;

	if (r->o->rate == 0 && conn_pending(c) > 0)
		return ST_OK;
	if (now >= r->deadline_ns)
		r->stopped = true;
	if (r->stopped && c->followers == 0)
		return ST_OK;
	most = r->o->pipeline - conn_pending(c);
	KV_TRY(workload_fill(r, c, most, now, &added));
	return added > 0 ? conn_send(r, c) : ST_OK;
}

/* Open loop: hand out the operations whose time has come. Returns when the next is due. */
static Status
hand_out(Run *r, uint64_t now, uint64_t *next_ns)
{
	double interval = 1e9 / r->o->rate;

	for (int i = 0; i < DUE_BURST && !r->stopped; i++) {
		Conn *c = &r->conns[r->handed % r->o->connections];

		*next_ns = r->start_ns + (uint64_t) ((double) r->handed * interval);
		if (*next_ns > now)
			return ST_OK;
		c->due++;
		r->handed++;
		KV_TRY(feed(r, c, now));
	}
	return ST_OK;
}

static bool
all_settled(const Run *r)
{
	if (r->in_flight > 0)
		return false;
	for (uint32_t i = 0; i < r->o->connections; i++)
		if (r->conns[i].followers > 0 || r->conns[i].out.len > 0)
			return false;
	return true;
}

/* Nothing can begin any more: told to stop, or every connection has read its part. */
static bool
at_end(const Run *r)
{
	if (!r->stopped) {
		if (r->in_flight > 0 || r->w->order != KEYS_PAGES)
			return false;
		for (uint32_t i = 0; i < r->o->connections; i++)
			if (!r->conns[i].pages_done)
				return false;
	}
	return all_settled(r);
}

static Status
on_event(Run *r, const PollerEvent *e)
{
	Conn *c = &r->conns[e->no];

	if (e->writable)
		KV_TRY(conn_send(r, c));
	if (e->readable)
		KV_TRY(conn_receive(r, c, false));
	if (r->o->rate == 0 && conn_pending(c) > 0)
		return ST_OK;
	return feed(r, c, clock_mono_ns());
}

static Status
loop_many(Run *r)
{
	uint64_t heard_ns = clock_mono_ns(), next_ns = 0;

	for (uint32_t i = 0; i < r->o->connections && r->o->rate == 0; i++)
		KV_TRY(feed(r, &r->conns[i], clock_mono_ns()));
	while (!at_end(r)) {
		uint64_t now = clock_mono_ns(), wait = SILENCE_NS;
		PollerEvent *events;
		uint32_t n;

		if (now >= r->deadline_ns)
			r->stopped = true;
		if (r->o->rate > 0 && !r->stopped) {
			KV_TRY(hand_out(r, now, &next_ns));
			wait = next_ns > now ? next_ns - now : 0;
		}
		if (!r->stopped && r->deadline_ns - now < wait)
			wait = r->deadline_ns - now;
		if (r->stopped && all_settled(r))
			break; /* stopped just now: there is nothing to wait for */
		KV_TRY(poller_wait(r->poller, wait, &events, &n));
		if (n > 0)
			heard_ns = now;
		else if (r->in_flight > 0 && now - heard_ns > SILENCE_NS)
			return status_fail(ST_CLOSED, "the server owes %llu answers and keeps silent",
				(unsigned long long) r->in_flight);
		for (uint32_t i = 0; i < n; i++)
			KV_TRY(on_event(r, &events[i]));
	}
	return ST_OK;
}

/* One connection, closed loop: wait in recv unless part of the burst has not been sent. */
static Status
loop_one(Run *r)
{
	Conn *c = &r->conns[0];

	KV_TRY(feed(r, c, clock_mono_ns()));
	while (!at_end(r)) {
		if (c->writing) {
			PollerEvent *events;
			uint32_t n;

			KV_TRY(poller_wait(r->poller, SILENCE_NS, &events, &n));
			if (n == 0)
				return status_fail(ST_CLOSED, "the server takes no requests and keeps silent");
			KV_TRY(on_event(r, &events[0]));
			continue;
		}
		KV_TRY(conn_receive(r, c, true));
		if (conn_pending(c) == 0)
			KV_TRY(feed(r, c, clock_mono_ns()));
	}
	return ST_OK;
}

/* Each connection reads its share of the keyspace; the last one reads to its end. */
static Status
share_out(Run *r)
{
	uint64_t n = r->o->keyspace, of = r->o->connections;

	for (uint32_t i = 0; i < of; i++) {
		Conn *c = &r->conns[i];

		KV_TRY(buf_reserve(&c->cursor, r->data.key_size));
		data_put_key(&r->data, c->cursor.data, n / of * i, false);
		c->cursor.len = i == 0 ? 0 : r->data.key_size;
		c->part_end = i + 1 == of ? UINT64_MAX : n / of * (i + 1);
	}
	return ST_OK;
}

static Status
prepare(Run *r)
{
	const Options *o = r->o;

	for (r->mask = 1; r->mask < o->pipeline; r->mask <<= 1)
		;
	r->mask--;
	KV_TRY(data_init(&r->data, o));
	dist_init(&r->dist, o->dist != DIST_DEFAULT ? o->dist : r->w->dist, o->keyspace);
	prng_seed(&r->prng, o->seed);
	r->next_key = o->keyspace;
	r->target = o->count > 0 ? o->count : UINT64_MAX;
	if (o->count == 0 && o->seconds == 0 && (r->w->order == KEYS_SEQUENCE || r->w->order == KEYS_SHUFFLED))
		r->target = o->keyspace;
	KV_TRY(poller_new(&r->poller, o->connections, o->use_poll));
	r->conns = calloc(o->connections, sizeof *r->conns);
	if (r->conns == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for %u connections", o->connections);
	for (uint32_t i = 0; i < o->connections; i++)
		r->conns[i].fd = -1;
	for (uint32_t i = 0; i < o->connections; i++) {
		KV_TRY(conn_open(r, &r->conns[i], i));
		KV_TRY(poller_add(r->poller, r->conns[i].fd, i));
	}
	return r->w->order == KEYS_PAGES ? share_out(r) : ST_OK;
}

static Status
measure(Run *r)
{
	double cpu = cpu_seconds();
	Status s;

	r->start_ns = clock_mono_ns();
	r->deadline_ns = r->o->seconds > 0 ? r->start_ns + (uint64_t) (r->o->seconds * 1e9) : NO_DEADLINE;
	s = r->o->connections == 1 && r->o->rate == 0 ? loop_one(r) : loop_many(r);
	r->t.seconds = (double) (clock_mono_ns() - r->start_ns) / 1e9;
	r->t.cpu_seconds = cpu_seconds() - cpu;
	r->t.late = r->o->rate > 0 ? r->handed - r->issued : 0;
	return s;
}

Status
run_workload(const Options *o, const Workload *w, Totals *out)
{
	Run *r = calloc(1, sizeof *r);
	Status s;

	if (r == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for a run");
	r->o = o;
	r->w = w;
	for (int i = 0; i < CLASS_COUNT; i++)
		histogram_init(&r->t.latency[i]);
	s = prepare(r);
	if (s == ST_OK)
		s = measure(r);
	*out = r->t;
	for (uint32_t i = 0; r->conns != NULL && i < o->connections; i++)
		conn_close(&r->conns[i]);
	free(r->conns);
	poller_free(r->poller);
	data_free(&r->data);
	free(r);
	return s;
}
