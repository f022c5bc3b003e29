/*
 * main.c - kvsim: many seeds, in several processes; one seed with its trace; the known mistakes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

static void
usage(FILE *to)
{
	fprintf(
		to,
		"usage: kvsim [--seeds N] [--first SEED] [--steps N] [--jobs N] [--bug NAME]   run N seeds (default "
		"2000)\n"
		"       kvsim --trace SEED [--last N] [-v] [--steps N] [--bug NAME]           one seed, with what "
		"happened\n"
		"       kvsim --bugs [--seeds N] [--steps N] [--jobs N]     is each mistake caught within N seeds?\n"
		"       kvsim --shrink SEED [--steps N] [--bug NAME]        fewer faults and steps that still fail\n"
		"       kvsim --regressions FILE                            seeds that once failed, run first\n"
		"       --without KIND   no faults of this kind (crash, power, pause, split ...); may be repeated\n");
}

static uint64_t
number_of(const char *option, const char *text)
{
	char *end;
	uint64_t v;

	if (text == NULL || *text < '0' || *text > '9' || (v = strtoull(text, &end, 10), *end != '\0')) {
		fprintf(stderr, "kvsim: %s needs a number\n", option);
		exit(2);
	}
	return v;
}

static void
without(RunOptions *o, const char *name)
{
	for (int i = 0; name != NULL && i < FAULT_KINDS; i++) {
		if (strcmp(fault_name(i), name) == 0) {
			o->without |= 1u << i;
			return;
		}
	}
	fprintf(stderr, "kvsim: no faults are called %s\n", name == NULL ? "nothing" : name);
	exit(2);
}

/* Options with a value. False: it is none of them. */
static bool
valued(RunOptions *o, const char *option, const char *value)
{
	if (strcmp(option, "--seeds") == 0)
		o->seeds = number_of(option, value);
	else if (strcmp(option, "--first") == 0)
		o->first = number_of(option, value);
	else if (strcmp(option, "--steps") == 0)
		o->steps = (uint32_t) number_of(option, value);
	else if (strcmp(option, "--jobs") == 0)
		o->jobs = (int) number_of(option, value);
	else if (strcmp(option, "--last") == 0)
		o->last = (uint32_t) number_of(option, value);
	else if (strcmp(option, "--trace") == 0)
		o->mode = MODE_TRACE, o->first = number_of(option, value);
	else if (strcmp(option, "--shrink") == 0)
		o->mode = MODE_SHRINK, o->first = number_of(option, value);
	else if (strcmp(option, "--regressions") == 0)
		o->regressions = value;
	else if (strcmp(option, "--without") == 0)
		without(o, value);
	else if (strcmp(option, "--bug") == 0)
		o->bug = value == NULL ? "" : value;
	else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	RunOptions o = { .first = 1, .steps = 20000, .last = 200, .jobs = (int) sysconf(_SC_NPROCESSORS_ONLN) };

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--bugs") == 0) {
			o.mode = MODE_BUGS;
		} else if (strcmp(argv[i], "-v") == 0) {
			o.verbose = true;
		} else if (strcmp(argv[i], "--help") == 0) {
			usage(stdout);
			return 0;
		} else if (valued(&o, argv[i], i + 1 < argc ? argv[i + 1] : NULL)) {
			i++;
		} else {
			usage(stderr);
			return 2;
		}
	}
	if (o.seeds == 0)
		o.seeds = o.mode == MODE_BUGS ? 1200 : 2000;
	if (o.jobs < 1)
		o.jobs = 1;
	if (o.bug != NULL && !bug_switch_on(o.bug)) {
		fprintf(stderr, "kvsim: no mistake is called %s; --bugs lists them\n", o.bug);
		return 2;
	}
	switch (o.mode) {
	case MODE_TRACE:
		return run_trace(&o);
	case MODE_SHRINK:
		return run_shrink(&o);
	case MODE_BUGS:
		return run_bugs(&o);
	default:
		return run_seeds(&o);
	}
}
