/* test_elog.c - the form of a line, what is left out, and that no message can forge another line. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/elog.h"
#include "common/kv_assert.h"

static int ends[2];
static char got[8192];

static int
setup(void **state)
{
	(void) state;
	elog_process("tester");
	return pipe(ends);
}

static int
teardown(void **state)
{
	(void) state;
	elog_setup(2, LOG_LEVEL_LOG, false);
	return close(ends[0]) | close(ends[1]);
}

/* What one write put into the pipe, as text; it was there before this is called. */
static const char *
line(void)
{
	ssize_t n = read(ends[0], got, sizeof got - 1);

	assert_true(n > 0);
	got[n] = '\0';
	return got;
}

/* The text after the "[pid] tester " of a line. */
static const char *
tail(void)
{
	const char *p = strstr(line(), "] tester ");

	assert_non_null(p);
	return p + strlen("] tester ");
}

static void
text_line(void **state)
{
	char want[64];
	const char *s;
	int y, mo, d, h, mi, sec, ms;

	(void) state;
	elog_setup(ends[1], LOG_LEVEL_LOG, false);
	elog(LOG_LEVEL_LOG, "hello %d", 5);
	s = line();
	assert_int_equal(sscanf(s, "%4d-%2d-%2d %2d:%2d:%2d.%3d UTC", &y, &mo, &d, &h, &mi, &sec, &ms), 7);
	assert_true(y >= 2024);
	snprintf(want, sizeof want, " UTC [%ld] tester LOG:  hello 5\n", (long) getpid());
	assert_string_equal(s + strlen("2026-01-31 12:00:00.123"), want);
}

static void
json_line(void **state)
{
	char want[128];

	(void) state;
	elog_setup(ends[1], LOG_LEVEL_DEBUG, true);
	elog(LOG_LEVEL_WARNING, "a \"quote\" \\ \n\t\x01 \x7f \xc3\xa9");
	snprintf(want, sizeof want, ",\"pid\":%ld,\"process\":\"tester\",\"level\":\"WARNING\",\"message\":",
		(long) getpid());
	assert_memory_equal(line(), "{\"time\":\"", 9);
	assert_non_null(strstr(got, "Z\""));
	assert_non_null(strstr(got, want));
	assert_non_null(strstr(got, "\"a \\\"quote\\\" \\\\ \\u000a\\u0009\\u0001 \\u007f \xc3\xa9\"}\n"));
}

static void
levels_below_the_least_are_left_out(void **state)
{
	static const char *const names[] = { "DEBUG", "INFO", "LOG", "WARNING", "ERROR", "FATAL", "PANIC" };

	(void) state;
	for (int min = LOG_LEVEL_DEBUG; min <= LOG_LEVEL_PANIC; min++) {
		elog_setup(ends[1], (LogLevel) min, false);
		for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_PANIC; level++) {
			elog((LogLevel) level, "x");
			if (level < min)
				continue;
			assert_memory_equal(tail(), names[level], strlen(names[level]));
		}
	}
	/* Nothing was left in the pipe: the next line is the next line. */
	elog(LOG_LEVEL_PANIC, "last");
	assert_string_equal(tail(), "PANIC:  last\n");
}

static void
a_message_cannot_forge_a_line(void **state)
{
	(void) state;
	elog_setup(ends[1], LOG_LEVEL_LOG, false);
	elog(LOG_LEVEL_LOG, "%s", "one\n2026 PANIC: two\r\x1b[31m");
	assert_string_equal(tail(), "LOG:  one 2026 PANIC: two  [31m\n");
}

static void
what_is_not_utf8_is_marked(void **state)
{
	(void) state;
	elog_setup(ends[1], LOG_LEVEL_LOG, false);
	elog(LOG_LEVEL_LOG, "%s",
		"\x80|\xc3|\xc0\xaf|\xe0\x80\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xff|\xe2\x82\xac|\xf0\x9f\x98\x80|\xe2\x82");
	assert_string_equal(tail(), "LOG:  ?|?|??|???|???|????|?|\xe2\x82\xac|\xf0\x9f\x98\x80|??\n");
}

static void
long_messages_are_cut_and_stay_one_line(void **state)
{
	static char text[6000];

	(void) state;
	memset(text, 'y', sizeof text - 1);
	elog_setup(ends[1], LOG_LEVEL_LOG, false);
	elog(LOG_LEVEL_LOG, "%s", text);
	assert_true(strlen(line()) < 4096);
	assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
	/* Every byte becomes six. */
	memset(text, '\x01', sizeof text - 1);
	elog_setup(ends[1], LOG_LEVEL_LOG, true);
	elog(LOG_LEVEL_LOG, "%s", text);
	assert_true(strlen(line()) <= 4096);
	assert_string_equal(got + strlen(got) - 9, "\\u0001\"}\n");
}

static void
errno_is_kept(void **state)
{
	(void) state;
	elog_setup(-1, LOG_LEVEL_LOG, false);
	errno = ENOSPC;
	elog(LOG_LEVEL_LOG, "nowhere");
	assert_int_equal(errno, ENOSPC);
}

enum Ending { PANIC, ASSERTION };

static int
status_of_child(enum Ending how)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		if (how == PANIC)
			elog_panic("panic %d", 2);
		KV_ASSERT(1 + 1 == 3);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
ends_of_a_process(void **state)
{
	int status;

	(void) state;
	elog_setup(ends[1], LOG_LEVEL_LOG, false);
	status = status_of_child(PANIC);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EXIT_STOP_NODE);
	assert_string_equal(tail(), "PANIC:  panic 2\n");
	status = status_of_child(ASSERTION);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(tail(), "assertion failed: 1 + 1 == 3 ("));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(text_line, setup, teardown),
		cmocka_unit_test_setup_teardown(json_line, setup, teardown),
		cmocka_unit_test_setup_teardown(levels_below_the_least_are_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(a_message_cannot_forge_a_line, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_utf8_is_marked, setup, teardown),
		cmocka_unit_test_setup_teardown(long_messages_are_cut_and_stay_one_line, setup, teardown),
		cmocka_unit_test_setup_teardown(errno_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_of_a_process, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
