/* test_proc.c - shared memory, children that die with their parent, signals, random bytes. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mount.h>
#endif
#include <sys/wait.h>
#include <unistd.h>

#include "port/clock.h"
#include "port/fs.h"
#include "port/proc.h"

static void
memory_is_zeroed_and_shared(void **state)
{
	const size_t bytes = 3 * 1024 * 1024 + 4096;
	void *p;
	volatile uint8_t *m;
	pid_t pid;

	(void) state;
	assert_int_equal(proc_shm_map(bytes, &p), ST_OK);
	m = p;
	for (size_t i = 0; i < bytes; i += 512)
		assert_int_equal(m[i], 0);
	pid = fork();
	if (pid == 0) {
		m[0] = 1;
		m[bytes - 1] = 2;
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(m[0], 1);
	assert_int_equal(m[bytes - 1], 2);
	proc_shm_unmap(p, bytes);
}

static void
odd_sizes(void **state)
{
	void *p;

	(void) state;
	for (size_t bytes = 4095; bytes <= 4097; bytes++) {
		assert_int_equal(proc_shm_map(bytes, &p), ST_OK);
		memset(p, 1, bytes);
		proc_shm_unmap(p, bytes);
	}
	assert_int_not_equal(proc_shm_map(0, &p), ST_OK);
}

#ifdef __linux__
/* Has the object behind this mapping a name? */
static bool
has_a_name(const void *p)
{
	FILE *f = fopen("/proc/self/maps", "r");
	bool found = false, named = true;
	char line[512];

	assert_non_null(f);
	while (!found && fgets(line, sizeof line, f) != NULL) {
		found = strtoull(line, NULL, 16) == (uintptr_t) p;
		named = strstr(line, "(deleted)") == NULL;
	}
	fclose(f);
	assert_true(found);
	return named;
}

static void
no_name_stays(void **state)
{
	void *p;

	(void) state;
	assert_int_equal(proc_shm_map(4096, &p), ST_OK);
	assert_false(has_a_name(p));
	proc_shm_unmap(p, 4096);
}

#define CANNOT 77

static bool
put_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	bool ok = f != NULL && fputs(text, f) >= 0;

	return f != NULL && fclose(f) == 0 && ok;
}

/* Into a namespace of our own, where this user may mount. */
static bool
enter_namespace(void)
{
	char uid[32], gid[32];

	snprintf(uid, sizeof uid, "0 %ld 1", (long) getuid());
	snprintf(gid, sizeof gid, "0 %ld 1", (long) getgid());
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put_text("/proc/self/setgroups", "deny") &&
		put_text("/proc/self/uid_map", uid) && put_text("/proc/self/gid_map", gid);
}

/* In a child with a /dev/shm of its own, of 1 MB: 0 when a mapping larger than that is refused as it should be. */
static int
fill_small_dev_shm(void)
{
	void *p = NULL;

	if (!enter_namespace() || mount("none", "/dev/shm", "tmpfs", 0, "size=1m") != 0)
		return CANNOT;
	if (proc_shm_map(2 << 20, &p) != ST_NO_SPACE)
		return 1;
	if (strcmp(status_detail(), "no room for 2 MB of shared memory: /dev/shm has 1 MB free of 1 MB") != 0)
		return 2;
	if (proc_shm_map(1 << 20, &p) != ST_OK) /* and nothing of the first stayed behind */
		return 3;
	return proc_shm_map(4096, &p) == ST_NO_SPACE ? 0 : 4;
}

static void
too_much_memory_is_an_error_with_figures(void **state)
{
	int status;
	pid_t pid = fork();

	(void) state;
	if (pid == 0)
		_exit(fill_small_dev_shm());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT)
		skip(); /* no namespaces for this user */
	assert_int_equal(status, 0);
}
#endif

static void
impossible_sizes_are_errors(void **state)
{
	void *p = NULL;

	(void) state;
	assert_int_not_equal(proc_shm_map((size_t) 1 << 62, &p), ST_OK);
	assert_non_null(strstr(status_detail(), "4398046511104 MB of shared memory"));
	assert_null(p);
}

static void
random_bytes_differ(void **state)
{
	uint8_t a[1000] = { 0 }, b[1000] = { 0 };
	size_t zeroes = 0;

	(void) state;
	assert_int_equal(proc_random(a, sizeof a), ST_OK);
	assert_int_equal(proc_random(b, sizeof b), ST_OK);
	assert_memory_not_equal(a, b, 16);
	assert_memory_not_equal(a + sizeof a - 16, b + sizeof b - 16, 16);
	for (size_t i = 0; i < sizeof a; i++)
		zeroes += a[i] == 0;
	assert_true(zeroes < 50);
	assert_int_equal(proc_random(a, 0), ST_OK);
}

static void
the_machine(void **state)
{
	(void) state;
	assert_true(proc_memory_bytes() > 1 << 20);
	proc_sched_batch();
	proc_title("test_proc");
}

static volatile sig_atomic_t count;

static void
on_signal(int signo)
{
	(void) signo;
	count++;
}

static void
signals(void **state)
{
	struct sigaction act;

	(void) state;
	proc_signal(SIGUSR1, on_signal);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(raise(SIGUSR1), 0); /* the handler stays */
	assert_int_equal(count, 2);
	assert_int_equal(sigaction(SIGUSR1, NULL, &act), 0);
	assert_int_equal(act.sa_flags & SA_RESTART, 0);
	proc_signal(SIGUSR1, SIG_IGN);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(count, 2);
	proc_signal(SIGUSR1, SIG_DFL);
}

#ifdef __linux__
/*
 * A parent with a child that sleeps for ever: when the parent is killed the child's end of a pipe must close.
 */
static void
children_die_with_their_parent(void **state)
{
	int ends[2];
	char ready;
	pid_t parent;
	uint64_t start = clock_mono_ns();

	(void) state;
	assert_int_equal(pipe(ends), 0);
	parent = fork();
	if (parent == 0) {
		pid_t me = getpid();

		close(ends[0]);
		if (fork() == 0) {
			if (!proc_die_with_parent(me) || write(ends[1], "r", 1) != 1)
				_exit(1);
			alarm(60); /* should all else fail */
			for (;;)
				pause();
		}
		for (;;)
			pause();
	}
	assert_true(parent > 0);
	close(ends[1]);
	assert_int_equal(read(ends[0], &ready, 1), 1);
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(waitpid(parent, NULL, 0), parent);
	assert_int_equal(read(ends[0], &ready, 1), 0); /* end of file: nobody holds the pipe any more */
	close(ends[0]);
	assert_true(clock_mono_ns() - start < UINT64_C(50) * 1000000000); /* not by the alarm */
}

static void
a_parent_that_has_gone_is_noticed(void **state)
{
	pid_t pid = fork();
	int status;

	(void) state;
	if (pid == 0)
		_exit(proc_die_with_parent(getpid()) ? 1 : 0); /* that is not our parent */
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_zeroed_and_shared),
		cmocka_unit_test(odd_sizes),
		cmocka_unit_test(impossible_sizes_are_errors),
		cmocka_unit_test(random_bytes_differ),
		cmocka_unit_test(the_machine),
		cmocka_unit_test(signals),
#ifdef __linux__
		cmocka_unit_test(no_name_stays),
		cmocka_unit_test(too_much_memory_is_an_error_with_figures),
		cmocka_unit_test(children_die_with_their_parent),
		cmocka_unit_test(a_parent_that_has_gone_is_noticed),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
