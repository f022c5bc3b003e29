/* test_child.c - fork with signals held back, reaping, polling, entering a directory, append-only files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/child.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/proc.h"

static volatile sig_atomic_t caught;

static void
on_usr1(int signo)
{
	(void) signo;
	caught = 1;
}

static ChildEnd
wait_end(void)
{
	ChildEnd end;

	while (!child_reap(&end))
		child_poll(NULL, NULL, 0, 1);
	return end;
}

static void
a_child_is_not_interrupted_before_it_is_ready(void **state)
{
	pid_t pid;
	int go[2];
	ChildEnd end;

	(void) state;
	assert_int_equal(child_pipe(go), ST_OK);
	proc_signal(SIGUSR1, on_usr1); /* the parent's handler, which a child must not run */
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0) {
		char c;
		bool early;

		alarm(20);
		while (child_pipe_get(go[0], &c, 1) == 0)
			child_poll(&go[0], &early, 1, 10);
		early = caught != 0;
		child_unblock_signals();
		child_exit(early ? 1 : caught ? 7 : 2);
	}
	child_signal(pid, SIGUSR1);
	child_pipe_put(go[1], 'x');
	end = wait_end();
	assert_true(end.pid == pid && end.signal == 0);
	assert_int_equal(end.code, 7);
	/* And the parent's mask is as before. */
	raise(SIGUSR1);
	assert_int_equal(caught, 1);
	close(go[0]);
	close(go[1]);
}

static void
ends_are_told_apart(void **state)
{
	pid_t pid;
	ChildEnd end;

	(void) state;
	assert_false(child_reap(&end));
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0)
		child_exit(3);
	end = wait_end();
	assert_true(end.code == 3 && end.signal == 0);
	assert_int_equal(child_fork(&pid), ST_OK);
	if (pid == 0)
		for (;;)
			pause();
	child_signal(pid, SIGKILL);
	end = wait_end();
	assert_true(end.signal == SIGKILL && end.code == 0 && end.pid == pid);
	child_signal(pid, SIGTERM); /* gone: nothing happens */
}

static void
polling(void **state)
{
	int a[2], b[2], fds[2];
	bool ready[2];
	char c;
	uint64_t begun = clock_mono_ns();

	(void) state;
	assert_int_equal(child_pipe(a), ST_OK);
	assert_int_equal(child_pipe(b), ST_OK);
	fds[0] = a[0];
	fds[1] = b[0];
	child_poll(fds, ready, 2, 20);
	assert_false(ready[0] || ready[1]);
	assert_true(clock_mono_ns() - begun >= UINT64_C(15000000));
	child_pipe_put(b[1], 'x');
	child_poll(fds, ready, 2, 10000);
	assert_true(!ready[0] && ready[1]);
	assert_int_equal(child_pipe_get(b[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(child_pipe_get(b[0], &c, 1), 0);
	close(a[1]);
	child_poll(fds, ready, 2, 10000);
	assert_true(ready[0] && !ready[1]);
	assert_int_equal(child_pipe_get(a[0], &c, 1), -1);
	close(a[0]);
	close(b[0]);
	close(b[1]);
}

static void
directories_and_append(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char dir[256], abs[512], small[4];
	char *text;
	size_t len;
	int fd;

	(void) state;
	snprintf(dir, sizeof dir, "%s/kvd_child.XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(child_enter_dir("/nonexistent/kvd", abs, sizeof abs), ST_NOT_FOUND);
	assert_int_equal(child_enter_dir(dir, small, sizeof small), ST_IO_ERROR);
	assert_int_equal(child_enter_dir(dir, abs, sizeof abs), ST_OK);
	assert_string_equal(strrchr(abs, '/'), strrchr(dir, '/'));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(child_open_append("log", &fd), ST_OK);
		assert_int_equal(write(fd, "line\n", 5), 5);
		close(fd);
	}
	assert_int_equal(fs_read_file("log", 100, &text, &len), ST_OK);
	assert_string_equal(text, "line\nline\n");
	free(text);
	assert_int_equal(child_enter_dir("log", abs, sizeof abs), ST_IO_ERROR);
	unlink("log");
	assert_int_equal(chdir("/"), 0);
	rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_is_not_interrupted_before_it_is_ready),
		cmocka_unit_test(ends_are_told_apart),
		cmocka_unit_test(polling),
		cmocka_unit_test(directories_and_append),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
