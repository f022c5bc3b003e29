/*
 * logclock.h - log time, the only clock the data knows (rule T2).
 *
 * Milliseconds near wall time, but with the steps taken out: within a term it follows the monotonic clock from the
 * last log time and turns toward wall time by at most a tenth of its speed; it steps only at the start of a
 * term, forward, to at most wall time. So a clock set wrong by a day expires nothing at once and
 * freezes nothing.
 *
 * The consensus worker publishes a line (base, rate) a few times a second; everybody computes the time
 * from it and the monotonic clock. Stamps may be slightly out of order, between processes and, when a process is
 * stopped between reading the line and the clock, within one (rule T1: effective log time is the running
 * maximum at apply).
 */
#ifndef IPC_LOGCLOCK_H
#define IPC_LOGCLOCK_H

#include <stddef.h>
#include <stdint.h>

#define LOGCLOCK_SLEW_PERMILLE 100 /* rule T2: at most 10 % */
#define LOGCLOCK_TICK_MS 250       /* how often the consensus worker looks at the wall clock */
/* A line's slew ends here: if the worker is late, time goes on at the monotonic clock's own speed. */
#define LOGCLOCK_HORIZON_NS (UINT64_C(2) * LOGCLOCK_TICK_MS * 1000000)

/* One line. Pure functions over it (any process, tests): */
typedef struct LogLine {
	uint64_t base_ns; /* log time at mono_ns, in nanoseconds: no tick loses a fraction */
	uint64_t mono_ns;
	int32_t rate; /* permille faster (+) or slower (-) than the monotonic clock, until the horizon */
} LogLine;

/*
 * Log time in nanoseconds at the monotonic time mono_ns (times before the line's begin give its base).
 * Never falls.
 */
uint64_t logline_at(const LogLine *l, uint64_t mono_ns);
/* The start of a term: not before last_ms, which is the log's newest time, and else wall time. */
LogLine logline_term(uint64_t last_ms, uint64_t wall_ms, uint64_t mono_ns);
/* Go on from the line without a step, aiming at wall time. */
LogLine logline_tick(const LogLine *l, uint64_t wall_ms, uint64_t mono_ns);

size_t logclock_shmem_size(void);
void logclock_shmem_init(void *mem);
/* Log time now, ms. REQUIRES that a term was begun since the node started (0 before). Any process. */
uint64_t logclock_now(void);
/*
 * Consensus worker only: step at TERM, to at most wall_ms (of the voters' clocks: rule T2) and not before
 * last_ms; look at the wall clock again.
 */
void logclock_begin_term(uint64_t last_ms, uint64_t wall_ms);
void logclock_tick(void);

#endif
