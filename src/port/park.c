/*
 * park.c - futex on Linux; elsewhere naps of at most NAP_US.
 *
 * Runs anywhere, also in signal handlers (unpark). The kernel compares the word and goes to sleep as one
 * step, so a change followed by unpark() is never missed. The futex is a shared one (no PRIVATE
 * flag): it is found by the page behind the address, hence works between processes.
 */
#define _GNU_SOURCE
#include "port/park.h"

#include <errno.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void
park(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_us)
{
	struct timespec t = { (time_t) (timeout_us / 1000000), (long) (timeout_us % 1000000) * 1000 };
	int saved_errno = errno;

	/* Every way to return (woken, changed, timed out, signal) is the same to the caller, who looks again. */
	syscall(SYS_futex, (uint32_t *) word, FUTEX_WAIT, expected, &t, NULL, 0);
	errno = saved_errno;
}

void
unpark(_Atomic uint32_t *word, int n)
{
	int saved_errno = errno;

	syscall(SYS_futex, (uint32_t *) word, FUTEX_WAKE, n, NULL, NULL, 0);
	errno = saved_errno;
}

#else

#define NAP_US 500 /* what a sleeper may be late by where there is no futex */

void
park(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_us)
{
	uint64_t us = timeout_us < NAP_US ? timeout_us : NAP_US;
	struct timespec t = { 0, (long) us * 1000 };

	if (atomic_load(word) == expected)
		nanosleep(&t, NULL);
}

void
unpark(_Atomic uint32_t *word, int n)
{
	(void) word;
	(void) n;
}

#endif
