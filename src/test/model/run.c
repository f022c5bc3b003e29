/*
 * run.c - seeds: settings, incarnations, how each of them ends, and the verdict.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/elog.h"
#include "faultfs.h"
#include "model.h"
#include "storage/lsm.h"

World *world;

#define INCARNATIONS 4
#define EXIT_FAILED 90
#define EXIT_CUT 91
#define CHILD_SECONDS 60 /* more is a hang */

void
world_make(void)
{
	world =
		mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (world == MAP_FAILED) {
		perror("no memory");
		exit(2);
	}
	disk_make();
	fault_use(&disk_fs); /* its counters are shared by all children */
}

_Noreturn void
failed(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(world->why, sizeof world->why, fmt, args);
	va_end(args);
	world->end = END_FAILED;
	if (world->tell) {
		fprintf(stderr, "%s\n", world->why);
		abort();
	}
	_exit(EXIT_FAILED);
}

bool
may_pass(Status st)
{
	return st == ST_NO_SPACE || st == ST_OUT_OF_MEMORY || st == ST_BUSY;
}

bool
ordered(Status st)
{
	return world->faulty && (st == ST_IO_ERROR || may_pass(st) || st == ST_CORRUPT || st == ST_FOREIGN);
}

_Noreturn void
stopped(void)
{
	world->end = END_STOPPED;
	_exit(EXIT_CUT);
}

bool
worked(Status st, const char *what)
{
	if (st == ST_OK)
		return true;
	if (!ordered(st))
		failed("%s: %s (%s)", what, status_name(st), status_detail());
	if (!may_pass(st))
		stopped();
	return false;
}

/* ---- what a seed decides */
static uint32_t
one_of(Prng *g, const uint32_t *choices, uint64_t n)
{
	return choices[prng_below(g, n)];
}
#define ONE_OF(g, ...)                                                                                       \
	one_of(g, (const uint32_t[]){ __VA_ARGS__ }, sizeof((uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

void
run_settings(uint64_t seed, Settings *s)
{
	Prng g;

	prng_seed(&g, seed);
	*s = (Settings){
		.keys = (int) ONE_OF(&g, 8, 40, 120, KEYS_MAX),
		.segment_size = ONE_OF(&g, 4096, 16384, 65536, 262144),
		.memtable_size = ONE_OF(&g, 131072, 131072, 262144, 1048576),
		.table_size = ONE_OF(&g, 1024, 4096, 16384, 65536),
		.l0_trigger = ONE_OF(&g, 2, 2, 4),
		.level_ratio = ONE_OF(&g, 2, 2, 4, 10),
		.level_base = ONE_OF(&g, 2048, 8192, 65536, 524288),
		.codec = ONE_OF(&g, 0, 0, 1, 2),
		.blob_threshold = ONE_OF(&g, 0, 0, 1, 64, 1024),
		.retention_ms = ONE_OF(&g, 0, 1000, 5000, 60000),
		.value_small = ONE_OF(&g, 10, 100, 300),
		.value_large = ONE_OF(&g, 1024, 5000, VALUE_MAX_LEN),
		.large_of_100 = ONE_OF(&g, 0, 5, 30),
		.weight = { 60, 10, 10, 3, 6, 1, 4, 3, 2, 2, 3, 1, 3, 2 },
	};
	/* Swarm: each seed does some things often and others never. */
	for (int i = 1; i < STEPS; i++)
		s->weight[i] *= ONE_OF(&g, 0, 1, 1, 3);
	s->weight[STEP_WALWRITER] += 1; /* the log is let go, or the disk is full */
}

static DiskProfile
draw_disk(Prng *g)
{
	return (DiskProfile){
		.sector = ONE_OF(g, 512, 512, 4096),
		.ordered = prng_below(g, 2) == 0,
		.garbage = prng_below(g, 3) == 0,
		.writeback = ONE_OF(g, 0, 3, 20, 200),
	};
}

/* ---- children */
int
run_child(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	world->end = END_RUNNING;
	world->why[0] = '\0';
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		fn(arg);
		world->end = END_DONE;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("kvmodel");
		exit(2);
	}
	if (world->end == END_RUNNING)
		snprintf(world->why, sizeof world->why, "the process ended with status %d (%s)", status,
				 WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit");
	return status;
}

static void
cut(void)
{
	world->end = END_CUT;
	_exit(EXIT_CUT);
}

typedef struct Incarnation {
	uint64_t cut_at; /* 0: never */
	int steps;
} Incarnation;

static void
add_figures(void)
{
	LsmStats s;

	lsm_stats(&s);
	world->flushes += s.flushes;
	world->compactions += s.compactions;
	world->moves += s.trivial_moves;
}

void
run_child_begin(uint64_t seed)
{
	/* children with one seed make different ids: those of value files must never come again */
	prng_seed(&world->engine_random, seed ^ prng_next(&world->engine_random));
	fault_use(&disk_fs);
	mistake_fs();
	alarm(CHILD_SECONDS);
}

void
run_child_start(bool (*may_fail)(Status st))
{
	Status st = engine_open();

	if (st == ST_OK)
		st = engine_start();
	if (st == ST_OK)
		return;
	if (!may_fail(st))
		failed("start: %s (%s)", status_name(st), status_detail());
	world->end = END_REFUSED;
	_exit(1);
}

static void
live(void *arg)
{
	const Incarnation *in = arg;
	Prng g;

	prng_seed(&g, world->seed * 64 + (uint64_t) world->incarnation);
	run_child_begin(prng_next(&g));
	fault_plan(&(FaultPlan){ .calls = FAULT_CHANGES, .nth = in->cut_at, .kind = FAULT_CUT, .on_cut = cut });
	MUST(engine_open());
	MUST(engine_start());
	check_all();
	world->starts++;
	steps_run(&g, in->steps);
	if (in->cut_at == 0) {
		engine_apply_all();
		check_all();
	}
	add_figures();
}

static void
create(void *arg)
{
	(void) arg;
	fs = &disk_fs;
	engine_create();
}

void
run_begin(uint64_t seed, Prng *g)
{
	DiskProfile disk;

	prng_seed(g, seed ^ UINT64_C(0x6b7664));
	world->seed = seed;
	world->incarnation = 0;
	world->faulty = false;
	world->nops = world->nacked = 0;
	world->time_seen = 0;
	world->config = 0;
	world->mono_ns = UINT64_C(1000000000);
	world->wall_ms = UINT64_C(1700000000000);
	prng_seed(&world->engine_random, seed);
	run_settings(seed, &world->set);
	disk = draw_disk(g);
	disk_format(&disk, seed);
	world->runs++;
}

bool
run_create(void)
{
	keys_make(world->set.keys);
	run_child(create, NULL);
	return world->end == END_DONE;
}

/* Small numbers often: the start itself is where the power fails. */
static uint64_t
draw_cut(Prng *g)
{
	uint64_t most = prng_below(g, 3) == 0 ? 30 : prng_below(g, 2) == 0 ? 200 : 800;

	return 1 + prng_below(g, most);
}

static void
lose_power(Prng *g)
{
	static const unsigned kept[] = { 0, 64, 128, 192, 250, 256 };

	disk_power_loss(kept[prng_below(g, sizeof kept / sizeof kept[0])]);
	world->cuts++;
}

bool
run_seed(uint64_t seed, bool power)
{
	int incarnations = power ? 3 : 2;
	Prng g;

	run_begin(seed, &g);
	if (!run_create())
		return false;
	incarnations += (int) prng_below(&g, INCARNATIONS);
	for (int i = 0; i < incarnations; i++) {
		bool last = i == incarnations - 1;
		Incarnation in = { .steps = (int) prng_below(&g, 120) };

		if (!last && prng_below(&g, 4) != 0)
			in.cut_at = draw_cut(&g);
		if (prng_below(&g, 8) == 0)
			in.steps = 1000;
		world->incarnation = i;
		run_child(live, &in);
		if (world->end != END_DONE && world->end != END_CUT)
			return false;
		if (power && !last && prng_below(&g, 4) != 0) /* else only the processes are gone */
			lose_power(&g);
		engine_wait(prng_below(&g, 5000));
	}
	return true;
}

/* ---- many seeds */
double
run_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void
report(const char *what, uint64_t first, uint64_t seeds, double began)
{
	const World *w = world;

	printf("%s: seeds %llu to %llu, %llu starts, %llu power failures, %llu records, %llu unacknowledged "
		   "lost, %.1f s\n",
		   what, (unsigned long long) first, (unsigned long long) (first + seeds - 1),
		   (unsigned long long) w->starts, (unsigned long long) w->cuts, (unsigned long long) w->records,
		   (unsigned long long) w->lost_unacked, run_now() - began);
	printf(
		"  %llu reads, %llu scans, %llu ranges deleted (%llu refused), %llu flushes, %llu compactions, %llu "
		"moves, levels",
		(unsigned long long) w->reads, (unsigned long long) w->scans, (unsigned long long) w->ranges,
		(unsigned long long) w->ranges_refused, (unsigned long long) w->flushes,
		(unsigned long long) w->compactions, (unsigned long long) w->moves);
	for (int i = 0; i < LSM_LEVELS; i++)
		printf(" %llu", (unsigned long long) w->levels_used[i]);
	printf("\n");
}

static int
run_many(const RunOptions *o, bool power, const char *what)
{
	double began = run_now();
	uint64_t done = 0;

	while (done < o->seeds && (o->cuts == 0 || world->cuts < o->cuts) &&
		   (o->seconds == 0 || run_now() - began < (double) o->seconds)) {
		if (!run_seed(o->first + done, power)) {
			printf("kvmodel %s: seed %llu, incarnation %d: %s\n  repeat with: kvmodel %s --first %llu "
				   "--seeds 1\n",
				   what, (unsigned long long) (o->first + done), world->incarnation, world->why, what,
				   (unsigned long long) (o->first + done));
			return 1;
		}
		done++;
	}
	report(what, o->first, done, began);
	return 0;
}

int
run_model(const RunOptions *o)
{
	return run_many(o, false, "model");
}

int
run_power(const RunOptions *o)
{
	return run_many(o, true, "power");
}
