/*
 * work_write.c - workloads that write.
 *
 * Not --sync: a write is acknowledged when it is in the log's ring (ACK_NONE), the WAL writer syncs and applies it
 * meanwhile, and the time of the run ends when all of it is durable and applied.
 */
#include <stdlib.h>

#include "bench.h"
#include "port/clock.h"
#include "storage/op.h"

#define WRITE_TIMEOUT_MS 60000
#define SYNC_SHARE 1000 /* fillsync does --writes / 1000, as db_bench does */
#define BATCH_DEFAULT 1000

/* The operations gathered in w->body become one record. */
static void
write_out(Worker *w, uint32_t count, uint64_t bytes, bool sync, bool deletes)
{
	if (count == 0)
		return;
	MUST(kvstore_write(wal_generation(), &w->body, count, sync ? ACK_QUORUM : ACK_NONE, WRITE_TIMEOUT_MS, deletes,
	                   &w->last_version));
	buf_clear(&w->body);
	/* A record is one call: its latency stands for each of its operations. */
	for (uint32_t i = 1; i < count; i++)
		w->r->ops++;
	worker_done(w, bytes);
}

static uint64_t
gather_put(Worker *w, uint64_t number)
{
	Op op = { .kind = OP_PUT, .key = data_key(&w->key, number, 0), .value = values_next(&w->values) };

	MUST(op_encode(&w->body, &op));
	return op.key.len - 1 + op.value.len;
}

/* The i-th number of this worker. */
typedef uint64_t (*NumberOf)(Worker *w, uint64_t i);

static void
fill(Worker *w, uint64_t n, NumberOf number, uint32_t batch, bool sync)
{
	uint64_t bytes = 0;
	uint32_t gathered = 0;

	worker_begin(w);
	for (uint64_t i = 0; i < n && worker_in_time(w); i++) {
		bytes += gather_put(w, number(w, i));
		if (++gathered < batch)
			continue;
		write_out(w, gathered, bytes, sync, false);
		bytes = gathered = 0;
	}
	write_out(w, gathered, bytes, sync, false);
	worker_end(w);
}

/* Each worker has a range of its own. */
static uint64_t
number_seq(Worker *w, uint64_t i)
{
	return (uint64_t) w->n * ((uint64_t) opt.num / (uint64_t) w->of + 1) + i;
}

static uint64_t
number_random(Worker *w, uint64_t i)
{
	(void) i;
	return prng_below(&w->random, (uint64_t) opt.num);
}

static uint32_t *shuffled; /* of this worker's share */

static uint64_t
number_unique(Worker *w, uint64_t i)
{
	return shuffled[i] * (uint64_t) w->of + (uint64_t) w->n;
}

void
work_fill_seq(Worker *w)
{
	fill(w, worker_share(w, (uint64_t) opt.num), number_seq, (uint32_t) opt.batch_size, opt.sync);
}

void
work_fill_random(Worker *w)
{
	fill(w, worker_count(w, (uint64_t) opt.writes), number_random, (uint32_t) opt.batch_size, opt.sync);
}

void
work_fill_unique(Worker *w)
{
	uint64_t n = worker_share(w, (uint64_t) opt.num);

	shuffled = malloc((n + 1) * sizeof *shuffled);
	if (shuffled == NULL)
		die("out of memory");
	for (uint64_t i = 0; i < n; i++) {
		uint64_t j = prng_below(&w->random, i + 1);

		shuffled[i] = shuffled[j];
		shuffled[j] = (uint32_t) i;
	}
	fill(w, n, number_unique, (uint32_t) opt.batch_size, opt.sync);
}

void
work_fill_sync(Worker *w)
{
	fill(w, worker_share(w, (uint64_t) opt.writes / SYNC_SHARE + 1), number_random, 1, true);
}

void
work_fill_batch(Worker *w)
{
	fill(w, worker_share(w, (uint64_t) opt.num), number_seq, BATCH_DEFAULT, opt.sync);
}

void
work_delete_random(Worker *w)
{
	uint64_t n = worker_count(w, (uint64_t) opt.writes);

	worker_begin(w);
	for (uint64_t i = 0; i < n && worker_in_time(w); i++) {
		Op op = { .kind = OP_DELETE, .key = data_key(&w->key, number_random(w, i), 0) };

		MUST(op_encode(&w->body, &op));
		write_out(w, 1, op.key.len - 1, opt.sync, true);
	}
	worker_end(w);
}

void
work_write_beside(Worker *w)
{
	w->r->secondary = true;
	worker_begin(w);
	do
		write_out(w, 1, gather_put(w, number_random(w, 0)), opt.sync, false);
	while (atomic_load_explicit(&shared->measured_left, memory_order_relaxed) > 0);
	worker_end(w);
}
