/*
 * futex_watch.h - how the waits of park() end, seen at link time (UNIT_WRAP in the GNUmakefile). Included once by a
 * program. A wait that timed out although its waker was done before that time has lost the wake-up, however slow the
 * machine is.
 */
#ifndef FUTEX_WATCH_H
#define FUTEX_WATCH_H

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "port/clock.h"

static uint64_t gave_up_ns; /* this process's last wait timed out, not before then; 0: it did not */
static _Atomic uint32_t *futex_waits; /* counts waits that begin; NULL: nobody asks */

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* With a time it is a wait. */
long
__wrap_syscall(long number, ...)
{
	uint64_t begun = clock_mono_ns();
	const struct timespec *t;
	uint32_t *at, value;
	va_list args;
	long rc;
	int op;

	va_start(args, number);
	at = va_arg(args, uint32_t *);
	op = va_arg(args, int);
	value = va_arg(args, uint32_t);
	t = va_arg(args, const struct timespec *);
	va_end(args);
	if (t != NULL && futex_waits != NULL)
		atomic_fetch_add(futex_waits, 1);
	rc = __real_syscall(number, at, op, value, t, NULL, 0);
	if (t != NULL)
		gave_up_ns = rc == -1 && errno == ETIMEDOUT
						 ? begun + (uint64_t) t->tv_sec * 1000000000 + (uint64_t) t->tv_nsec : 0;
	return rc;
}

#endif
