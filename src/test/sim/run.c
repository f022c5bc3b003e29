/*
 * run.c - seeds in several processes, one seed with its trace, and making a failing one smaller.
 *
 * A child takes the next seed from a counter in shared memory. One that dies (an assertion of the core) has
 * said there which seed it was at; the parent reports it as a failure and starts another in its place.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

#define REGRESSIONS_MAX 1000

typedef struct Shared {
	_Atomic uint64_t next, failures, steps, answered, reads, lease_reads, crashes, elections, installs,
		fetches, damages, wipes, changes, partitions, pauses, truncations, overflows;
	_Atomic uint64_t at[JOBS_MAX]; /* seed under way; 0 none */
} Shared;

static Shared *shared;
static uint64_t regression[REGRESSIONS_MAX];
static uint32_t regression_steps[REGRESSIONS_MAX];
static uint32_t regressions;

/* Lines "SEED [STEPS] # why". */
static int
read_regressions(const char *path, uint32_t steps)
{
	char line[512];
	FILE *f = fopen(path, "r");

	if (f == NULL) {
		perror(path);
		return 2;
	}
	while (fgets(line, sizeof line, f) != NULL && regressions < REGRESSIONS_MAX) {
		char *end;
		uint64_t seed = strtoull(line, &end, 10);
		uint32_t own = (uint32_t) strtoul(end, NULL, 10);

		if (end == line)
			continue;
		regression[regressions] = seed;
		regression_steps[regressions++] = own != 0 ? own : steps;
	}
	fclose(f);
	return 0;
}

static void
report(uint64_t seed)
{
	printf("seed %llu version " KVD_VERSION " voters %d %s: %s, step %u (%s)\n", (unsigned long long) seed,
		   W.p.voters, W.p.silent_loss ? "hostile" : "tcp", W.invariant, W.steps, W.detail);
	fflush(stdout);
}

static void
count(void)
{
	shared->steps += W.steps;
	shared->answered += W.answered;
	shared->reads += W.reads;
	shared->lease_reads += W.lease_reads;
	shared->crashes += W.crashes;
	shared->elections += W.elections;
	shared->installs += W.installs;
	shared->fetches += W.fetches;
	shared->damages += W.damages;
	shared->wipes += W.wipes;
	shared->changes += W.changes;
	shared->partitions += W.partitions;
	shared->pauses += W.pauses;
	shared->truncations += W.truncations;
	shared->overflows += W.overflow;
}

static void
work(const RunOptions *o, int job)
{
	for (;;) {
		uint64_t i = shared->next++;
		uint64_t seed;

		if (i >= regressions + o->seeds)
			break;
		seed = i < regressions ? regression[i] : o->first + i - regressions;
		shared->at[job] = seed;
		world_begin(seed, i < regressions ? regression_steps[i] : o->steps, o->without);
		if (!world_run()) {
			shared->failures++;
			report(seed);
		}
		count();
	}
	shared->at[job] = 0;
}

static pid_t
start_job(const RunOptions *o, int job)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		work(o, job);
		fflush(stdout);
		_exit(0);
	}
	return pid;
}

static int
wait_for_jobs(const RunOptions *o, pid_t *pid, int jobs)
{
	int status, left = jobs;

	while (left > 0) {
		pid_t gone = wait(&status);
		int job = 0;

		if (gone < 0)
			return 2;
		while (job < jobs && pid[job] != gone)
			job++;
		if (job == jobs)
			continue;
		left--;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		shared->failures++;
		printf("seed %llu version " KVD_VERSION ": the process died, status %d\n",
			   (unsigned long long) shared->at[job], status);
		pid[job] = start_job(o, job);
		left += pid[job] > 0;
	}
	return 0;
}

static void
summary(void)
{
	printf("%llu steps, %llu elections, %llu writes and %llu reads answered (%llu under a lease)\n"
		   "%llu crashes, %llu partitions, %llu pauses, %llu damaged, %llu wiped, %llu configurations, %llu "
		   "truncations, "
		   "%llu installed, %llu fetched, %llu cut short for lack of room\n",
		   (unsigned long long) shared->steps, (unsigned long long) shared->elections,
		   (unsigned long long) shared->answered, (unsigned long long) shared->reads,
		   (unsigned long long) shared->lease_reads, (unsigned long long) shared->crashes,
		   (unsigned long long) shared->partitions, (unsigned long long) shared->pauses,
		   (unsigned long long) shared->damages, (unsigned long long) shared->wipes,
		   (unsigned long long) shared->changes, (unsigned long long) shared->truncations,
		   (unsigned long long) shared->installs, (unsigned long long) shared->fetches,
		   (unsigned long long) shared->overflows);
}

int
run_seeds(const RunOptions *o)
{
	pid_t pid[JOBS_MAX];
	int jobs = o->jobs < JOBS_MAX ? o->jobs : JOBS_MAX;

	if (o->regressions != NULL && read_regressions(o->regressions, o->steps) != 0)
		return 2;
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("kvsim: mmap");
		return 2;
	}
	world_make();
	for (int i = 0; i < jobs; i++)
		if ((pid[i] = start_job(o, i)) < 0) {
			perror("kvsim: fork");
			return 2;
		}
	if (wait_for_jobs(o, pid, jobs) != 0)
		return 2;
	summary();
	printf("%llu seeds (%u of them regressions), %llu failed\n",
		   (unsigned long long) (o->seeds + regressions), regressions, (unsigned long long) shared->failures);
	return shared->failures != 0;
}

int
run_trace(const RunOptions *o)
{
	bool good;

	world_make();
	trace_begin(true, o->verbose, o->last);
	world_begin(o->first, o->steps, o->without);
	profile_print(&W.p);
	good = world_run();
	trace_print();
	if (!good)
		report(o->first);
	else
		printf("seed %llu: nothing violated in %u steps\n", (unsigned long long) o->first, W.steps);
	return !good;
}

static bool
fails(const RunOptions *o, uint32_t without)
{
	world_begin(o->first, o->steps, without);
	return !world_run();
}

/*
 * Switching a kind off changes all that follows, so what still fails may fail for another reason: the name
 * is printed.
 */
int
run_shrink(const RunOptions *o)
{
	uint32_t without = o->without;

	world_make();
	if (!fails(o, without)) {
		printf("seed %llu does not fail in %u steps\n", (unsigned long long) o->first, o->steps);
		return 0;
	}
	for (int i = 0; i < FAULT_KINDS; i++)
		if (W.p.weight[i] != 0 && !(without & 1u << i) && fails(o, without | 1u << i))
			without |= 1u << i;
	(void) fails(o, without);
	printf("--steps %u", W.steps + 1);
	for (int i = 0; i < FAULT_KINDS; i++)
		if (without & 1u << i)
			printf(" --without %s", fault_name(i));
	printf("\n");
	report(o->first);
	return 1;
}
