/*
 * clock.h - the two clocks.
 */
#ifndef PORT_CLOCK_H
#define PORT_CLOCK_H

#include <stdint.h>

/* Monotonic nanoseconds; counts suspend where the system can (CLOCK_BOOTTIME). */
uint64_t clock_mono_ns(void);
/* Wall clock, milliseconds since 1970-01-01 UTC. Tests may shift it: KVD_TEST_CLOCK_OFFSET_MS. */
uint64_t clock_wall_ms(void);

#endif
