/* test_child.c - forked children and how they end, pipes, and the interlock of a data directory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "port/child.h"
#include "port/proc.h"

#define WAIT_MS 30000 /* far longer than anything here takes: reaching it is a failure */

static char home[1024];
static char dir[1024];

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(dir, sizeof dir, "%s/kvd_test_child.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return getcwd(home, sizeof home) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0;
}

static int
teardown(void **state)
{
	(void) state;
	unlink("lock");
	unlink("fifo");
	unlink("log");
	return chdir(home) != 0 || rmdir(dir) != 0;
}

/* The end of a child that this test started: the pipe closes with it, then it can be reaped. */
static ChildEnd
await_end(const int pipe_fds[2])
{
	ChildEnd end = { 0 };
	bool ready = false;
	char c;

	close(pipe_fds[1]);
	while (child_pipe_get(pipe_fds[0], &c, 1) >= 0) {
		child_poll(pipe_fds, &ready, 1, WAIT_MS);
		assert_true(ready);
	}
	close(pipe_fds[0]);
	/* Closing its files comes a moment before the process can be waited for. */
	for (int i = 0; i < WAIT_MS && !child_reap(&end); i++)
		child_poll(NULL, NULL, 0, 1);
	return end;
}

static void
ends_are_told_apart(void **state)
{
	int fds[2];
	pid_t pid;
	ChildEnd end;

	(void) state;
	assert_false(child_reap(&end));
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0)
		child_exit(7);
	end = await_end(fds);
	assert_int_equal(end.pid, pid);
	assert_int_equal(end.signal, 0);
	assert_int_equal(end.code, 7);

	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0) {
		child_unblock_signals();
		for (;;)
			pause();
	}
	child_signal(pid, SIGKILL);
	end = await_end(fds);
	assert_int_equal(end.pid, pid);
	assert_int_equal(end.signal, SIGKILL);
	assert_int_equal(end.code, 0);
	assert_false(child_reap(&end));
}

static void
exit_on_term(int signo)
{
	(void) signo;
	child_exit(9);
}

/* A signal that comes before the child has its own handlers waits until it has. */
static void
children_start_with_signals_blocked(void **state)
{
	int fds[2], go[2];
	bool ready;
	char c;
	pid_t pid;
	ChildEnd end;
	sigset_t before, after;

	(void) state;
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &before), 0);
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_pipe(go), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0) {
		while (child_pipe_get(go[0], &c, 1) == 0)
			child_poll(go, &ready, 1, WAIT_MS);
		proc_signal(SIGTERM, exit_on_term);
		child_unblock_signals();
		for (;;)
			pause();
	}
	assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &after), 0);
	for (int signo = 1; signo <= SIGTERM; signo++)
		assert_int_equal(sigismember(&before, signo), sigismember(&after, signo));
	child_signal(pid, SIGTERM);
	child_pipe_put(go[1], 'g');
	end = await_end(fds);
	assert_int_equal(end.signal, 0);
	assert_int_equal(end.code, 9);
	close(go[0]);
	close(go[1]);
}

static void
pipes(void **state)
{
	int fds[2];
	bool ready[2];
	char buf[8];

	(void) state;
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(fds[1], F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(child_pipe_get(fds[0], buf, 8), 0);
	child_poll(fds, ready, 1, 0);
	assert_false(ready[0]);
	child_pipe_put(fds[1], 'a');
	child_pipe_put(fds[1], 'b');
	child_poll(fds, ready, 1, WAIT_MS);
	assert_true(ready[0]);
	assert_int_equal(child_pipe_get(fds[0], buf, 1), 1);
	assert_int_equal(buf[0], 'a');
	assert_int_equal(child_pipe_get(fds[0], buf, 8), 1);
	/* A full pipe neither blocks nor fails. */
	for (int i = 0; i < 200000; i++)
		child_pipe_put(fds[1], 'x');
	close(fds[1]);
	while (child_pipe_get(fds[0], buf, 8) > 0)
		continue;
	assert_int_equal(child_pipe_get(fds[0], buf, 8), -1);
	child_poll(fds, ready, 1, WAIT_MS);
	assert_true(ready[0]); /* closed counts */
	close(fds[0]);
}

static void
one_process_holds_the_lock(void **state)
{
	pid_t parent = getpid(), holder = -1, pid;
	int fd, other, fds[2];
	char want[64];

	(void) state;
	assert_int_equal(child_lock_file("lock", &fd, &holder), ST_OK);
	assert_int_equal(holder, 0);
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0) {
		snprintf(want, sizeof want, "lock is locked by process %ld", (long) parent);
		if (child_lock_file("lock", &other, &holder) != ST_BUSY || other != -1)
			child_exit(1);
		child_exit(holder == parent && strcmp(status_detail(), want) == 0 ? 0 : 2);
	}
	assert_int_equal(await_end(fds).code, 0);
	close(fd);
	/* Free again, for another process. */
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0)
		child_exit(child_lock_file("lock", &other, &holder) == ST_OK ? 0 : 1);
	assert_int_equal(await_end(fds).code, 0);
	assert_int_equal(child_lock_file("none/lock", &fd, &holder), ST_IO_ERROR);
}

/* The interlock of a crashed postmaster: while a child of it lives, the FIFO has a reader. */
static void
fifo_tells_whether_a_child_lives(void **state)
{
	int reader, fds[2], go[2];
	bool has = true, ready;
	char c;
	pid_t pid;

	(void) state;
	assert_int_equal(child_fifo_has_reader("fifo", &has), ST_OK);
	assert_false(has);
	assert_int_equal(child_fifo_open_reader("fifo", &reader), ST_OK);
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_pipe(go), ST_OK);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0) {
		close(go[1]);
		while (child_pipe_get(go[0], &c, 1) == 0)
			child_poll(go, &ready, 1, WAIT_MS);
		child_exit(0);
	}
	close(reader);
	assert_int_equal(child_fifo_has_reader("fifo", &has), ST_OK);
	assert_true(has);
	close(go[1]);
	await_end(fds);
	close(go[0]);
	assert_int_equal(child_fifo_has_reader("fifo", &has), ST_OK);
	assert_false(has);
}

static void
what_is_no_fifo_is_refused(void **state)
{
	int fd;
	bool has;

	(void) state;
	assert_int_equal(child_open_append("fifo", &fd), ST_OK);
	close(fd);
	assert_int_equal(child_fifo_has_reader("fifo", &has), ST_FOREIGN);
	assert_int_equal(child_fifo_has_reader("none/fifo", &has), ST_IO_ERROR);
}

static void
logs_are_appended_to(void **state)
{
	struct stat st;
	int a, b;

	(void) state;
	assert_int_equal(child_open_append("log", &a), ST_OK);
	assert_int_equal(child_open_append("log", &b), ST_OK);
	assert_int_equal(write(a, "one\n", 4), 4);
	assert_int_equal(write(b, "two\n", 4), 4);
	assert_int_equal(fstat(a, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(st.st_mode & 0777, 0600);
	close(a);
	close(b);
	assert_int_equal(child_open_append("none/log", &a), ST_IO_ERROR);
}

static void
entering_a_directory(void **state)
{
	char abs[1024], want[1100];
	struct stat st;

	(void) state;
	assert_int_equal(child_enter_dir("none", abs, sizeof abs), ST_NOT_FOUND);
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(child_enter_dir("d", abs, sizeof abs), ST_OK);
	snprintf(want, sizeof want, "%s/d", dir);
	assert_int_equal(stat(want, &st), 0);
	assert_string_equal(abs + strlen(abs) - 2, "/d");
	assert_int_equal(child_enter_dir(".", abs, 2), ST_IO_ERROR);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(rmdir("d"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ends_are_told_apart),
		TEST(children_start_with_signals_blocked),
		TEST(pipes),
		TEST(one_process_holds_the_lock),
		TEST(fifo_tells_whether_a_child_lives),
		TEST(what_is_no_fifo_is_refused),
		TEST(logs_are_appended_to),
		TEST(entering_a_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
