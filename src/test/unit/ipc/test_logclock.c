/* test_logclock.c - log time (rule T2): no steps within a term, a tenth at most, jumps of a day in both directions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "common/prng.h"
#include "ipc/logclock.h"
#include "port/clock.h"
#include "port/proc.h"

#define DAY_MS UINT64_C(86400000)
#define MS UINT64_C(1000000)
#define START_MS UINT64_C(1700000000000)

/* A world: monotonic time, wall clock, and the line that follows them. */
typedef struct World {
	uint64_t mono_ns;
	int64_t wall_offset_ms; /* wall - monotonic */
	LogLine line;
	uint64_t last_us;
} World;

static uint64_t
wall(const World *w)
{
	return w->mono_ns / MS + (uint64_t) w->wall_offset_ms;
}

static uint64_t
now_us(const World *w)
{
	return logline_at(&w->line, w->mono_ns) / 1000;
}

static World
new_world(void)
{
	World w = { .mono_ns = 5000 * MS, .wall_offset_ms = (int64_t) START_MS };

	w.line = logline_term(0, wall(&w), w.mono_ns);
	w.last_us = now_us(&w);
	return w;
}

/* Let `ms` pass in small steps, a tick each `tick_ms`; at every step the speed is within a tenth. */
static void
pass(World *w, uint64_t ms, uint64_t tick_ms)
{
	for (uint64_t t = 0; t < ms; t += 10) {
		uint64_t before = now_us(w), after;

		w->mono_ns += 10 * MS;
		after = now_us(w);
		assert_true(after >= before + 9000 - 1 && after <= before + 11000 + 1);
		if (t % tick_ms == 0) {
			uint64_t at_line_end = now_us(w);

			w->line = logline_tick(&w->line, wall(w), w->mono_ns);
			assert_int_equal(now_us(w), at_line_end); /* a tick never steps */
		}
	}
}

static void
it_follows_a_good_clock(void **state)
{
	World w = new_world();

	(void) state;
	assert_int_equal(now_us(&w) / 1000, wall(&w));
	pass(&w, 3600000, LOGCLOCK_TICK_MS);
	assert_true(now_us(&w) / 1000 + 1 >= wall(&w) && now_us(&w) / 1000 <= wall(&w) + 1);
}

static void
a_clock_that_jumps_a_day_ahead_expires_nothing_at_once(void **state)
{
	World w = new_world();
	uint64_t before;

	(void) state;
	pass(&w, 1000, LOGCLOCK_TICK_MS);
	before = now_us(&w) / 1000;
	w.wall_offset_ms += (int64_t) DAY_MS;
	pass(&w, 60000, LOGCLOCK_TICK_MS);
	assert_true(now_us(&w) / 1000 - before <= 66001); /* a minute, and a tenth */
	assert_true(now_us(&w) / 1000 - before >= 65500); /* but it does turn toward the wall clock */
}

static void
a_clock_that_jumps_a_day_back_freezes_nothing(void **state)
{
	World w = new_world();
	uint64_t before;

	(void) state;
	pass(&w, 1000, LOGCLOCK_TICK_MS);
	before = now_us(&w) / 1000;
	w.wall_offset_ms -= (int64_t) DAY_MS;
	pass(&w, 60000, LOGCLOCK_TICK_MS);
	assert_true(now_us(&w) / 1000 - before >= 53999);
	assert_true(now_us(&w) / 1000 - before <= 54500);
}

static void
a_small_error_is_worked_off_and_then_it_stays(void **state)
{
	World w = new_world();

	(void) state;
	for (int sign = -1; sign <= 1; sign += 2) {
		w.wall_offset_ms += sign * 500;
		pass(&w, 10000, LOGCLOCK_TICK_MS);
		for (int i = 0; i < 100; i++) {
			int64_t off;

			pass(&w, 100, LOGCLOCK_TICK_MS);
			off = (int64_t) (now_us(&w) / 1000 - wall(&w));
			assert_true(off >= -2 && off <= 2);
		}
	}
}

static void
a_late_worker_does_not_let_it_run_away(void **state)
{
	World w = new_world();
	uint64_t before;

	(void) state;
	w.wall_offset_ms += (int64_t) DAY_MS;
	w.line = logline_tick(&w.line, wall(&w), w.mono_ns);
	before = now_us(&w) / 1000;
	w.mono_ns += DAY_MS * MS; /* the worker was stopped for a day */
	assert_true(now_us(&w) / 1000 - before >= DAY_MS);
	assert_true(now_us(&w) / 1000 - before <= DAY_MS + LOGCLOCK_HORIZON_NS / MS / 10);
}

static void
a_term_steps_forward_only(void **state)
{
	World w = new_world();
	uint64_t last = wall(&w) + 100;

	(void) state;
	/* Wall time is ahead of the log: step to it. */
	assert_int_equal(logline_at(&(LogLine){ 0 }, 0), 0);
	w.line = logline_term(last - 5000, last, w.mono_ns);
	assert_int_equal(now_us(&w), last * 1000);
	/* The log is ahead (a day, say): go on from there, slowed, never back. */
	w.line = logline_term(last + DAY_MS, last, w.mono_ns);
	assert_int_equal(now_us(&w), (last + DAY_MS) * 1000);
	pass(&w, 10000, LOGCLOCK_TICK_MS);
	assert_true(now_us(&w) > (last + DAY_MS + 8999) * 1000);
	/* A monotonic time from before the line begins (another core): its begin. */
	assert_int_equal(logline_at(&w.line, 0), w.line.base_ns);
}

static void
any_walk_of_the_wall_clock(void **state)
{
	World w = new_world();
	Prng g;

	(void) state;
	print_message("seed 11\n");
	prng_seed(&g, 11);
	for (int i = 0; i < 3000; i++) {
		if (prng_below(&g, 10) == 0)
			w.wall_offset_ms += (int64_t) prng_below(&g, 2 * DAY_MS) - (int64_t) DAY_MS;
		pass(&w, 10 + prng_below(&g, 400), 10 + 10 * prng_below(&g, 60));
	}
}

static void
all_processes_see_it(void **state)
{
	void *mem;
	uint64_t wall_ms = clock_wall_ms(), a;
	int status;
	pid_t pid;

	(void) state;
	assert_int_equal(proc_shm_map(4096, &mem), ST_OK);
	assert_true(logclock_shmem_size() <= 4096);
	logclock_shmem_init(mem);
	assert_int_equal(logclock_now(), 0);
	logclock_tick(); /* before a term: nothing to go on from */
	assert_int_equal(logclock_now(), 0);
	logclock_begin_term(wall_ms + 1000, clock_wall_ms());
	a = logclock_now();
	assert_true(a >= wall_ms + 1000);
	pid = fork();
	if (pid == 0) {
		uint64_t last = 0;

		for (int i = 0; i < 200000; i++) {
			uint64_t begun = clock_mono_ns(), now = logclock_now();

			if (now < a)
				_exit(1);
			/* Who is stopped between line and clock goes by an old line: that may fall (logclock.h). */
			if (clock_mono_ns() - begun >= LOGCLOCK_TICK_MS * UINT64_C(1000000))
				continue;
			if (now + 1 < last)
				_exit(1);
			last = now;
		}
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		logclock_tick();
	assert_int_equal(status, 0);
	proc_shm_unmap(mem, 4096);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_follows_a_good_clock),
		cmocka_unit_test(a_clock_that_jumps_a_day_ahead_expires_nothing_at_once),
		cmocka_unit_test(a_clock_that_jumps_a_day_back_freezes_nothing),
		cmocka_unit_test(a_small_error_is_worked_off_and_then_it_stays),
		cmocka_unit_test(a_late_worker_does_not_let_it_run_away),
		cmocka_unit_test(a_term_steps_forward_only),
		cmocka_unit_test(any_walk_of_the_wall_clock),
		cmocka_unit_test(all_processes_see_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
