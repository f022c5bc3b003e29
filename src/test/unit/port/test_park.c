/* test_park.c - sleeping on a shared word: returning at once, in time, and being woken from another process. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "port/clock.h"
#include "port/park.h"
#include "port/proc.h"

#define ROUNDS 2000
#define LONG_US 60000000 /* a lost wake-up shows as a test that takes a minute */

typedef struct Shared {
	_Atomic uint32_t ball; /* both write, in turn */
	_Atomic uint32_t woken;
} Shared;

static Shared *shared;

static int
setup(void **state)
{
	void *p;

	(void) state;
	if (proc_shm_map(sizeof *shared, &p) != ST_OK)
		return -1;
	shared = p;
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	proc_shm_unmap(shared, sizeof *shared);
	return 0;
}

static void
returns_at_once_when_it_differs(void **state)
{
	uint64_t start = clock_mono_ns();

	(void) state;
	park(&shared->ball, 1, LONG_US);
	assert_true(clock_mono_ns() - start < UINT64_C(10) * 1000000000);
}

static void
returns_after_its_time(void **state)
{
	uint64_t start = clock_mono_ns();

	(void) state;
	errno = E2BIG;
	while (clock_mono_ns() - start < 20 * 1000000)
		park(&shared->ball, 0, 5000);
	park(&shared->ball, 0, 0);
	assert_true(clock_mono_ns() - start < UINT64_C(10) * 1000000000);
	assert_int_equal(errno, E2BIG);
}

/* Sleeps until the ball is not `seen` any more; ends the process when nobody wakes it. */
static void
sleep_once(uint32_t seen)
{
	uint64_t begun = clock_mono_ns();

	park(&shared->ball, seen, LONG_US);
	if (clock_mono_ns() - begun >= UINT64_C(50) * 1000000000)
		_exit(1);
}

static void
play(uint32_t mine)
{
	for (uint32_t i = mine; i < ROUNDS; i += 2) {
		while (atomic_load(&shared->ball) != i)
			sleep_once(i - 1);
		atomic_store(&shared->ball, i + 1);
		unpark(&shared->ball, 1);
	}
}

static void
processes_wake_each_other(void **state)
{
	int status;
	pid_t pid = fork();

	(void) state;
	if (pid == 0) {
		play(1);
		_exit(0);
	}
	assert_true(pid > 0);
	play(0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(atomic_load(&shared->ball), ROUNDS);
}

static void
all_sleepers_wake(void **state)
{
	enum { SLEEPERS = 5 };
	pid_t pid[SLEEPERS];

	(void) state;
	for (int i = 0; i < SLEEPERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			while (atomic_load(&shared->ball) == 0)
				sleep_once(0);
			atomic_fetch_add(&shared->woken, 1);
			_exit(0);
		}
		assert_true(pid[i] > 0);
	}
	atomic_store(&shared->ball, 1);
	unpark(&shared->ball, SLEEPERS);
	for (int i = 0; i < SLEEPERS; i++)
		assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
	assert_int_equal(atomic_load(&shared->woken), SLEEPERS);
}

static volatile sig_atomic_t signalled;

static void
on_signal(int signo)
{
	(void) signo;
	signalled = 1;
}

static void
a_signal_ends_the_sleep(void **state)
{
	uint64_t start = clock_mono_ns();
	pid_t parent = getpid();
	pid_t pid;

	(void) state;
	proc_signal(SIGUSR1, on_signal);
	pid = fork();
	if (pid == 0) {
		/* Until it has seen one: the first may come before it sleeps. */
		while (atomic_load(&shared->woken) == 0) {
			kill(parent, SIGUSR1);
			park(&shared->woken, 0, 1000);
		}
		_exit(0);
	}
	assert_true(pid > 0);
	park(&shared->ball, 0, LONG_US);
	assert_int_equal(signalled, 1);
	atomic_store(&shared->woken, 1);
	while (waitpid(pid, NULL, 0) != pid)
		assert_int_equal(errno, EINTR);
	proc_signal(SIGUSR1, SIG_DFL);
	assert_true(clock_mono_ns() - start < UINT64_C(50) * 1000000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(returns_at_once_when_it_differs),
		TEST(returns_after_its_time),
		TEST(processes_wake_each_other),
		TEST(all_sleepers_wake),
		TEST(a_signal_ends_the_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
