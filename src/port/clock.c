/*
 * clock.c - the two clocks.
 *
 * Runs anywhere; no locks. The test offset is read once, when the program is loaded, so that every
 * process of a node agrees on it.
 */
#define _GNU_SOURCE
#include "port/clock.h"

#include <stdlib.h>
#include <time.h>

#ifdef CLOCK_BOOTTIME
#define MONO_CLOCK CLOCK_BOOTTIME
#else
#define MONO_CLOCK CLOCK_MONOTONIC
#endif

static int64_t wall_offset_ms;

__attribute__((constructor)) static void
clock_setup(void)
{
	const char *offset = getenv("KVD_TEST_CLOCK_OFFSET_MS");

	if (offset != NULL)
		wall_offset_ms = strtoll(offset, NULL, 10);
}

uint64_t
clock_mono_ns(void)
{
	struct timespec t;

	clock_gettime(MONO_CLOCK, &t);
	return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

uint64_t
clock_wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t) ((int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000 + wall_offset_ms);
}
