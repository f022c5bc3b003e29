/*
 * work_time.c - a worker's clock: what each operation took, when to stop.
 */
#include <time.h>

#include "bench.h"
#include "port/clock.h"

#define WAIT_APPLIED_MS 600000 /* for what was written and not yet applied: a slow disk with a full ring */

uint64_t
worker_share(const Worker *w, uint64_t all)
{
	uint64_t of = (uint64_t) w->of, n = (uint64_t) w->n;

	return all / of + (n < all % of);
}

static uint64_t
cpu_now(void)
{
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (uint64_t) cpu.tv_sec * 1000000000 + (uint64_t) cpu.tv_nsec;
}

uint64_t
worker_count(const Worker *w, uint64_t all)
{
	return opt.duration > 0 ? UINT64_MAX : worker_share(w, all);
}

uint64_t
worker_reads(void)
{
	return opt.duration > 0 ? UINT64_MAX : (uint64_t) opt.reads;
}

void
worker_begin(Worker *w)
{
	w->r->cpu_ns = cpu_now();
	w->last_ns = w->r->began_ns = clock_mono_ns();
	w->until_ns = opt.duration > 0 ? w->last_ns + (uint64_t) opt.duration * 1000000000 : UINT64_MAX;
}

static void
count_stall(WorkerResult *r, uint64_t took)
{
	r->stalls++;
	r->stall_ns += took;
	if (took > r->stall_max_ns)
		r->stall_max_ns = took;
}

void
worker_done(Worker *w, uint64_t bytes)
{
	uint64_t now, took;

	w->r->ops++;
	w->r->bytes += bytes;
	if (!opt.histogram && opt.duration == 0)
		return;
	now = clock_mono_ns();
	took = now - w->last_ns;
	w->last_ns = now;
	histogram_add(&w->r->latency, took);
	if (took > (uint64_t) opt.stall_us * 1000)
		count_stall(w->r, took);
}

bool
worker_in_time(const Worker *w)
{
	return w->last_ns < w->until_ns;
}

void
worker_end(Worker *w)
{
	if (w->last_version != 0)
		MUST(kvstore_wait_applied(w->last_version, WAIT_APPLIED_MS));
	w->r->ended_ns = clock_mono_ns();
	w->r->cpu_ns = cpu_now() - w->r->cpu_ns;
}
