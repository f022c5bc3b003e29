/*
 * io_faults.c - a short history over and over, its Nth call of the file system failing, for all N.
 *
 * The node may stop itself or go on; no read may be wrong, nothing acknowledged may be missing afterwards,
 * also if the power fails then; and what may pass (NO_SPACE) does not stop it.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/elog.h"
#include "faultfs.h"
#include "model.h"
#include "ipc/procslot.h"

#define STEPS 60
#define HUGE_WRITES 16

typedef struct Case {
	FaultPlan plan;
	bool after; /* a start on what the case has left, without faults */
} Case;

static const struct {
	const char *name;
	FaultPlan plan;
} kinds[] = {
	{ "EIO of a piece", { .calls = FAULT_WRITEBACK, .kind = FAULT_EIO } },
	{ "EIO", { .calls = FAULT_ALL, .kind = FAULT_EIO } },
	{ "EIO from there on", { .calls = FAULT_ALL, .kind = FAULT_EIO, .forever = true } },
	{ "short write", { .calls = FAULT_WRITE, .kind = FAULT_SHORT } },
	{ "ENOSPC", { .calls = FAULT_ALL, .kind = FAULT_ENOSPC } },
};
#define KINDS (sizeof kinds / sizeof kinds[0])

/* A table, or a value file, of more than one piece: each is sent to the disk by itself. */
static void
huge_values(Prng *g)
{
	world->set.value_large = VALUE_HUGE;
	world->set.large_of_100 = 100;
	for (int i = 0; i < HUGE_WRITES; i++)
		step_write(g);
	engine_freeze();
	engine_compact();
}

static void
history(void *arg)
{
	const Case *c = arg;
	Prng g;

	prng_seed(&g, world->seed);
	run_child_begin(prng_next(&g));
	if (!world->verbose)
		elog_setup(-1, LOG_LEVEL_PANIC, false); /* PANIC is what is wanted */
	fault_plan(&c->plan);
	world->faulty = !c->after;
	run_child_start(ordered);
	check_all();
	if (!c->after) {
		steps_run(&g, STEPS);
		if (c->plan.calls == FAULT_WRITEBACK)
			huge_values(&g);
	}
	engine_apply_all();
	check_all();
}

/* How it ended. False: wrongly. */
static bool
judge(int status, uint64_t *count)
{
	if (world->end == END_RUNNING && status == EXIT_STOP_NODE << 8) {
		world->stopped++;
		*count += 1;
		return true;
	}
	world->stopped += world->end == END_STOPPED;
	world->refused += world->end == END_REFUSED;
	world->passed += world->end == END_DONE;
	return world->end == END_DONE || world->end == END_STOPPED || world->end == END_REFUSED;
}

/* The state before the history: some data in all kinds of files. */
static void
fill(void *arg)
{
	Prng g;

	(void) arg;
	prng_seed(&g, world->seed);
	run_child_begin(prng_next(&g));
	MUST(engine_open());
	MUST(engine_start());
	steps_run(&g, 2 * STEPS);
	engine_freeze();
	engine_compact();
}

static bool
run_case(uint64_t seed, const FaultPlan *plan, unsigned kept, uint64_t *counted)
{
	Case c = { *plan, false };
	uint64_t panics = 0;
	Prng g;
	bool fine;

	run_begin(seed, &g);
	world->set.keys = 40;
	if (plan->calls == FAULT_WRITEBACK)
		world->set.memtable_size = 1048576; /* room for huge_values() */
	if (!run_create())
		return false;
	run_child(fill, NULL);
	if (world->end != END_DONE)
		return false;
	fine = judge(run_child(history, &c), &panics);
	*counted = fault_hits();
	if (!fine)
		return false;
	if (plan->kind == FAULT_ENOSPC && (world->end == END_STOPPED || panics > 0)) {
		snprintf(world->why, sizeof world->why, "a full disk stopped the node");
		return false;
	}
	c = (Case){ { 0 }, true };
	if (plan->nth % 2 == 0) { /* the processes are gone, the cache still has what the disk may not have */
		run_child(history, &c);
		if (world->end != END_DONE)
			return false;
	}
	disk_power_loss(kept);
	run_child(history, &c);
	return world->end == END_DONE;
}

/* All N of one kind. False: `world->why`. */
static bool
run_kind(uint64_t seed, size_t kind, uint64_t *cases)
{
	FaultPlan plan = kinds[kind].plan;
	uint64_t hits = 1;

	for (plan.nth = 1; hits > 0; plan.nth++) {
		char why[sizeof world->why];

		if (!run_case(seed, &plan, plan.nth % 3 == 0 ? 256 : plan.nth % 3 == 1 ? 0 : 128, &hits)) {
			snprintf(why, sizeof why, "%s", world->why);
			snprintf(world->why, sizeof world->why, "%s at call %llu: %.900s", kinds[kind].name,
					 (unsigned long long) plan.nth, why);
			return false;
		}
		*cases += 1;
	}
	return true;
}

bool
io_faults_seed(uint64_t seed)
{
	uint64_t cases = 0;

	for (size_t k = 0; k < KINDS; k++)
		if (!run_kind(seed, k, &cases))
			return false;
	return true;
}

int
io_faults(const RunOptions *o)
{
	double began = run_now();
	uint64_t seeds = o->seeds == UINT64_MAX ? 1 : o->seeds;

	for (uint64_t s = 0; s < seeds; s++) {
		for (size_t k = 0; k < KINDS; k++) {
			uint64_t cases = 0, stopped_before = world->stopped, passed_before = world->passed;

			if (!run_kind(o->first + s, k, &cases)) {
				printf("kvmodel io: seed %llu: %s\n  repeat with: kvmodel io --first %llu --seeds 1\n",
					   (unsigned long long) (o->first + s), world->why, (unsigned long long) (o->first + s));
				return 1;
			}
			printf("io: seed %llu: %s at each of %llu calls: %llu went on, %llu stopped\n",
				   (unsigned long long) (o->first + s), kinds[k].name, (unsigned long long) cases,
				   (unsigned long long) (world->passed - passed_before),
				   (unsigned long long) (world->stopped - stopped_before));
		}
	}
	printf("io: %.1f s\n", run_now() - began);
	return 0;
}
