/* test_lock.c - rule P3: one server a directory, and none while a child of an earlier one lives. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../postmaster/postmaster_internal.h"
#include "port/child.h"
#include "port/clock.h"

static char dir[256];

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(dir, sizeof dir, "%s/kvd_lock.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(dir) == NULL || chdir(dir) != 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	(void) state;
	unlink("kvd.lock");
	unlink("kvd.alive");
	return chdir("/") != 0 || rmdir(dir) != 0 ? -1 : 0;
}

/*
 * In a process that tries to be the server the time is the test's (UNIT_WRAP in the GNUmakefile): it passes by naps,
 * which take none. Once what is in the way is being ended it stands still, however long the system takes for that.
 */
#define NEVER INT64_MAX

static uint64_t still_ns; /* the time it is; 0: the real one */
static int64_t end_ms;    /* from now until `victim` is ended; NEVER, or 0: nobody is, or it was already */
static pid_t victim;

uint64_t __real_clock_mono_ns(void);
uint64_t __wrap_clock_mono_ns(void);
void __real_child_poll(const int *fds, bool *ready, int n, int timeout_ms);
void __wrap_child_poll(const int *fds, bool *ready, int n, int timeout_ms);

uint64_t
__wrap_clock_mono_ns(void)
{
	return still_ns != 0 ? still_ns : __real_clock_mono_ns();
}

void
__wrap_child_poll(const int *fds, bool *ready, int n, int timeout_ms)
{
	if (still_ns == 0 || end_ms == 0) {
		__real_child_poll(fds, ready, n, timeout_ms);
		return;
	}
	still_ns += (uint64_t) timeout_ms * 1000000;
	if (end_ms == NEVER)
		return;
	end_ms = end_ms > timeout_ms ? end_ms - timeout_ms : 0;
	if (end_ms == 0)
		kill(victim, SIGKILL);
}

/*
 * What a process that tries to be the server here gets, while `other` is ended after `ms` of its time; its message goes
 * to `message`.
 */
static Status
try_lock_while(char *message, size_t size, pid_t other, int64_t ms)
{
	int out[2], status;
	pid_t pid;
	ssize_t n;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		Status st;

		alarm(300); /* if it is stuck */
		victim = other;
		end_ms = ms;
		still_ns = clock_mono_ns();
		st = lock_take(dir);
		if (end_ms > 0 && end_ms != NEVER)
			_exit(254); /* it did not wait */
		if (write(out[1], status_detail(), strlen(status_detail())) < 0)
			_exit(255);
		_exit((int) st);
	}
	close(out[1]);
	n = read(out[0], message, size - 1);
	message[n > 0 ? n : 0] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return (Status) WEXITSTATUS(status);
}

/* What is in the way stays. */
static Status
try_lock(char *message, size_t size)
{
	return try_lock_while(message, size, 0, NEVER);
}

/* Nothing is, or it has been killed. */
static Status
try_free_lock(char *message, size_t size)
{
	return try_lock_while(message, size, 0, 0);
}

/* A "postmaster" with one "child"; *child is its pid. attached: as a child that uses shared memory. */
static pid_t
start_server(bool attached, pid_t *child)
{
	int ready[2];
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		pid_t kid;

		if (lock_take(dir) != ST_OK)
			_exit(1);
		kid = fork();
		if (kid == 0) {
			kid = getpid();
			lock_close_in_child(attached);
			if (write(ready[1], &kid, sizeof kid) != sizeof kid)
				_exit(1);
			close(ready[1]);
		}
		alarm(300);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], child, sizeof *child), sizeof *child);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void
end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0); /* ours: reaped; a grandchild: init's */
}

static void
a_second_server_is_refused_and_told_by_whom(void **state)
{
	char message[512], who[32];
	pid_t child, server = start_server(true, &child);

	(void) state;
	snprintf(who, sizeof who, "%ld", (long) server);
	assert_int_equal(try_lock(message, sizeof message), ST_BUSY);
	assert_non_null(strstr(message, who));
	end_process(server);
	end_process(child);
	assert_int_equal(try_free_lock(message, sizeof message), ST_OK);
}

static void
a_child_of_a_dead_server_keeps_the_next_out(void **state)
{
	char message[512];
	pid_t child, server = start_server(true, &child);

	(void) state;
	end_process(server); /* the lock is free, but shared memory has a user */
	assert_int_equal(try_lock(message, sizeof message), ST_BUSY);
	assert_non_null(strstr(message, "earlier server"));
	end_process(child);
	assert_int_equal(try_free_lock(message, sizeof message), ST_OK);
}

static void
a_child_that_is_not_attached_does_not_count(void **state)
{
	char message[512];
	pid_t child, server = start_server(false, &child);

	(void) state;
	end_process(server);
	assert_int_equal(try_free_lock(message, sizeof message), ST_OK);
	end_process(child);
}

static void
the_next_server_waits_for_the_children_to_go(void **state)
{
	char message[512];
	pid_t child, server = start_server(true, &child);

	(void) state;
	end_process(server);
	assert_int_equal(try_lock_while(message, sizeof message, child, 2500), ST_OK);
}

/* A server that was killed keeps its lock until the system has given its memory back. */
static void
the_next_server_waits_a_moment_for_the_lock(void **state)
{
	char message[512];
	pid_t child, server = start_server(false, &child);

	(void) state;
	assert_int_equal(try_lock_while(message, sizeof message, server, 300), ST_OK);
	waitpid(server, NULL, 0);
	end_process(child);
}

static void
something_else_in_place_of_the_fifo(void **state)
{
	char message[512];
	FILE *f = fopen("kvd.alive", "w");

	(void) state;
	assert_non_null(f);
	fclose(f);
	assert_int_equal(try_lock(message, sizeof message), ST_FOREIGN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_second_server_is_refused_and_told_by_whom, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_of_a_dead_server_keeps_the_next_out, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_that_is_not_attached_does_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(the_next_server_waits_for_the_children_to_go, setup, teardown),
		cmocka_unit_test_setup_teardown(the_next_server_waits_a_moment_for_the_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(something_else_in_place_of_the_fifo, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
