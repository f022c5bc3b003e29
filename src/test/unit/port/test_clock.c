/* test_clock.c - both clocks run, and the test offset shifts the wall clock only. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "port/clock.h"

#define OFFSET_MS INT64_C(-86400000)

static const char *self;

static void
monotonic_never_goes_back(void **state)
{
	uint64_t before = clock_mono_ns();

	(void) state;
	for (int i = 0; i < 10000; i++) {
		uint64_t now = clock_mono_ns();

		assert_true(now >= before);
		before = now;
	}
}

static void
monotonic_counts_nanoseconds(void **state)
{
	struct timespec nap = { 0, 20 * 1000000 };
	uint64_t start = clock_mono_ns();

	(void) state;
	assert_int_equal(nanosleep(&nap, NULL), 0);
	assert_true(clock_mono_ns() - start >= 20 * 1000000);
	assert_true(clock_mono_ns() - start < UINT64_C(60) * 1000000000);
}

static void
wall_is_the_time_of_day(void **state)
{
	time_t before = time(NULL);
	uint64_t s = clock_wall_ms() / 1000;

	(void) state;
	assert_true(s >= (uint64_t) before && s <= (uint64_t) time(NULL) + 1); /* time() may lag by a tick */
}

static void
offset_shifts_the_wall_clock(void **state)
{
	int status;
	pid_t pid = fork();

	(void) state;
	if (pid == 0) {
		setenv("KVD_TEST_CLOCK_OFFSET_MS", "-86400000", 1);
		execl(self, self, "--shifted", (char *) NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* In the new program: is the wall clock a day behind? */
static int
shifted(void)
{
	int64_t before = time(NULL), s = ((int64_t) clock_wall_ms() - OFFSET_MS) / 1000;

	return s >= before && s <= (int64_t) time(NULL) + 1 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(monotonic_never_goes_back),
		cmocka_unit_test(monotonic_counts_nanoseconds),
		cmocka_unit_test(wall_is_the_time_of_day),
		cmocka_unit_test(offset_shifts_the_wall_clock),
	};

	self = argv[0];
	if (argc > 1 && strcmp(argv[1], "--shifted") == 0)
		return shifted();
	unsetenv("KVD_TEST_CLOCK_OFFSET_MS");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
