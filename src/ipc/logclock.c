/*
 * logclock.c - log time (rule T2): pure lines, and their publication in shared memory.
 *
 * Every process reads, the consensus worker alone writes. No locks: two lines and a count of
 * publications; the line not in use is filled, then the count says that it is. A reader that was overtaken
 * twice reads again, so a writer stopped half-way makes nobody wait.
 *
 * Invariant: a published line begins at the value which the line before it has at that moment.
 */
#include "ipc/logclock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "port/clock.h"

#define NS_PER_MS UINT64_C(1000000)

typedef struct LogClock {
	_Alignas(64) _Atomic uint64_t published; /* lines so far; line `published & 1` is the one in force */
	struct {
		_Atomic uint64_t base_ns, mono_ns;
		_Atomic int32_t rate;
	} line[2];
} LogClock;

static LogClock *shared;

uint64_t
logline_at(const LogLine *l, uint64_t mono_ns)
{
	uint64_t elapsed = mono_ns > l->mono_ns ? mono_ns - l->mono_ns : 0;
	uint64_t slewed = elapsed < LOGCLOCK_HORIZON_NS ? elapsed : LOGCLOCK_HORIZON_NS;

	/* |rate| <= 100, slewed <= 5e8: no overflow, and the sum is not negative. */
	return l->base_ns + (uint64_t) ((int64_t) elapsed + (int64_t) slewed * l->rate / 1000);
}

LogLine
logline_term(uint64_t last_ms, uint64_t wall_ms, uint64_t mono_ns)
{
	return (LogLine){ (last_ms > wall_ms ? last_ms : wall_ms) * NS_PER_MS, mono_ns, 0 };
}

LogLine
logline_tick(const LogLine *l, uint64_t wall_ms, uint64_t mono_ns)
{
	LogLine n = { logline_at(l, mono_ns), mono_ns, 0 };
	int64_t behind_ms = (int64_t) (wall_ms - n.base_ns / NS_PER_MS);

	/* Close the whole distance by the next tick if that is allowed: 1 ms in a tick is 1000/TICK permille. */
	if (behind_ms > LOGCLOCK_TICK_MS)
		behind_ms = LOGCLOCK_TICK_MS;
	if (behind_ms < -LOGCLOCK_TICK_MS)
		behind_ms = -LOGCLOCK_TICK_MS;
	n.rate = (int32_t) (behind_ms * 1000 / LOGCLOCK_TICK_MS);
	if (n.rate > LOGCLOCK_SLEW_PERMILLE)
		n.rate = LOGCLOCK_SLEW_PERMILLE;
	if (n.rate < -LOGCLOCK_SLEW_PERMILLE)
		n.rate = -LOGCLOCK_SLEW_PERMILLE;
	if (n.mono_ns < l->mono_ns)
		n.mono_ns = l->mono_ns; /* another core's clock: keep the line from falling */
	return n;
}

size_t
logclock_shmem_size(void)
{
	return sizeof(LogClock);
}

void
logclock_shmem_init(void *mem)
{
	shared = mem;
	memset(mem, 0, sizeof *shared);
}

/* The line in force; false if there is none yet. */
static bool
current(LogLine *out)
{
	for (;;) {
		uint64_t seen = atomic_load_explicit(&shared->published, memory_order_acquire);
		unsigned i = seen & 1;

		if (seen == 0)
			return false;
		out->base_ns = atomic_load_explicit(&shared->line[i].base_ns, memory_order_relaxed);
		out->mono_ns = atomic_load_explicit(&shared->line[i].mono_ns, memory_order_relaxed);
		out->rate = atomic_load_explicit(&shared->line[i].rate, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
		/* Line i is overwritten only after the other one was published. */
		if (atomic_load_explicit(&shared->published, memory_order_relaxed) == seen)
			return true;
	}
}

static void
publish(const LogLine *l)
{
	uint64_t n = atomic_load_explicit(&shared->published, memory_order_relaxed) + 1;
	unsigned i = n & 1;

	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&shared->line[i].base_ns, l->base_ns, memory_order_relaxed);
	atomic_store_explicit(&shared->line[i].mono_ns, l->mono_ns, memory_order_relaxed);
	atomic_store_explicit(&shared->line[i].rate, l->rate, memory_order_relaxed);
	atomic_store_explicit(&shared->published, n, memory_order_release);
}

uint64_t
logclock_now(void)
{
	LogLine l;

	return current(&l) ? logline_at(&l, clock_mono_ns()) / NS_PER_MS : 0;
}

void
logclock_begin_term(uint64_t last_ms, uint64_t wall_ms)
{
	LogLine l = logline_term(last_ms, wall_ms, clock_mono_ns());

	publish(&l);
}

void
logclock_tick(void)
{
	LogLine l;

	if (!current(&l))
		return;
	l = logline_tick(&l, clock_wall_ms(), clock_mono_ns());
	publish(&l);
}
