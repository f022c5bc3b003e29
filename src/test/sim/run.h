/*
 * run.h - ways to run seeds. Each returns the exit code: 0 as it should be, 1 something failed, 2 cannot run.
 */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "sim.h"

#define JOBS_MAX 64

typedef enum RunMode { MODE_SEEDS, MODE_TRACE, MODE_SHRINK, MODE_BUGS } RunMode;

typedef struct RunOptions {
	RunMode mode;
	uint64_t first, seeds;
	uint32_t steps, last, without;
	int jobs;
	bool verbose;
	const char *bug, *regressions;
} RunOptions;

/* run.c */
int run_seeds(const RunOptions *o);
int run_trace(const RunOptions *o);
int run_shrink(const RunOptions *o);
/* bugs.c */
int run_bugs(const RunOptions *o);
/* By its name; false: there is none. */
bool bug_switch_on(const char *name);

#endif
