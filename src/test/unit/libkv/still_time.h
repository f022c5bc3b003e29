/*
 * still_time.h - time that stands still while a test of the client library says so. Included once by a program that is
 * linked with UNIT_WRAP for it (GNUmakefile).
 */
#ifndef STILL_TIME_H
#define STILL_TIME_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/*
 * A deadline that strikes while the last of several tries is under way makes its outcome unknown, whatever the server
 * says. So while time stands still only the library's pauses between tries move it, and they take none.
 */
static _Atomic uint64_t still_ns; /* the time it is; 0: the real one */

uint64_t __real_clock_mono_ns(void);
uint64_t __wrap_clock_mono_ns(void);
int __real_nanosleep(const struct timespec *t, struct timespec *left);
int __wrap_nanosleep(const struct timespec *t, struct timespec *left);

uint64_t
__wrap_clock_mono_ns(void)
{
	uint64_t at = atomic_load(&still_ns);

	return at != 0 ? at : __real_clock_mono_ns();
}

int
__wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
	if (atomic_load(&still_ns) == 0)
		return __real_nanosleep(t, left);
	atomic_fetch_add(&still_ns, (uint64_t) t->tv_sec * 1000000000 + (uint64_t) t->tv_nsec);
	return 0;
}

#endif
