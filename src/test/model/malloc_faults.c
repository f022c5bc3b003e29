/*
 * malloc_faults.c - a short history over and over, its Nth allocation failing, for all N.
 *
 * A request or a step fails with OUT_OF_MEMORY and is forgotten, the next ones work: so no lock was kept.
 * Where nothing else is right (a committed record cannot be applied) the node stops. Nothing acknowledged is
 * lost.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/elog.h"
#include "model.h"

#define STEPS 60

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);

static bool armed, forever;
static int paused;
static uint64_t calls, nth, hits;

void
malloc_pause(bool on)
{
	paused += on ? 1 : -1;
}

static bool
fails(void)
{
	if (!armed || paused > 0)
		return false;
	calls++;
	if (forever ? calls < nth : calls != nth)
		return false;
	hits++;
	return true;
}

void *
__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* ---- the history; what it says comes back through the world */
typedef struct Case {
	uint64_t nth; /* 0: none */
	bool forever;
	bool fill;
} Case;

static bool
out_of_memory(Status st)
{
	return st == ST_OUT_OF_MEMORY && hits > 0;
}

static void
history(void *arg)
{
	const Case *c = arg;
	Prng g;

	prng_seed(&g, world->seed + (c->fill ? 1 : 0));
	run_child_begin(prng_next(&g));
	if (!world->verbose)
		elog_setup(-1, LOG_LEVEL_PANIC, false); /* PANIC is one right answer */
	nth = c->nth;
	forever = c->forever;
	calls = 0;
	world->mallocs_failed = 0;
	world->faulty = nth != 0;
	armed = nth != 0;
	run_child_start(out_of_memory);
	steps_run(&g, c->fill ? 3 * STEPS : STEPS);
	world->mallocs_failed = hits;
	armed = false;
	engine_apply_all();
	check_all();
	if (c->fill) {
		engine_freeze();
		engine_compact();
	}
}

static bool
run_case(uint64_t seed, const Case *c, bool *hit)
{
	Case fill = { .fill = true }, after = { 0 };
	Prng g;
	int status;

	run_begin(seed, &g);
	world->set.keys = 40;
	if (!run_create())
		return false;
	run_child(history, &fill);
	if (world->end != END_DONE)
		return false;
	status = run_child(history, (void *) (uintptr_t) c);
	*hit = world->end != END_DONE || world->mallocs_failed > 0;
	if (world->end == END_RUNNING && status != EXIT_STOP_NODE << 8)
		return false;
	if (world->end == END_FAILED)
		return false;
	world->stopped += world->end == END_RUNNING || world->end == END_STOPPED;
	world->refused += world->end == END_REFUSED;
	world->passed += world->end == END_DONE;
	disk_power_loss(128);
	run_child(history, &after);
	return world->end == END_DONE;
}

static bool
run_kind(uint64_t seed, bool on)
{
	Case c = { .nth = 1, .forever = on };
	uint64_t passed = world->passed, stopped_before = world->stopped, refused = world->refused;
	bool hit = true;

	for (; hit; c.nth++) {
		if (!run_case(seed, &c, &hit)) {
			printf("kvmodel malloc: seed %llu, allocation %llu%s: %s\n  repeat with: kvmodel malloc --first "
				   "%llu --seeds 1\n",
				   (unsigned long long) seed, (unsigned long long) c.nth, on ? " and all later ones" : "",
				   world->why, (unsigned long long) seed);
			return false;
		}
	}
	printf(
		"malloc: seed %llu: each of %llu allocations%s: %llu went on, %llu stopped, %llu answers refused\n",
		(unsigned long long) seed, (unsigned long long) c.nth - 2, on ? " and all later ones" : "",
		(unsigned long long) (world->passed - passed), (unsigned long long) (world->stopped - stopped_before),
		(unsigned long long) (world->refused - refused));
	return true;
}

int
malloc_faults(const RunOptions *o)
{
	double began = run_now();
	uint64_t seeds = o->seeds == UINT64_MAX ? 1 : o->seeds;

	for (uint64_t s = 0; s < seeds; s++)
		if (!run_kind(o->first + s, false) || !run_kind(o->first + s, true))
			return 1;
	printf("malloc: %.1f s\n", run_now() - began);
	return 0;
}
