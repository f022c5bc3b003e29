/*
 * test_lin.c - the checker of histories, told as stories: what is linearizable, what is not, what is no history.
 *
 * A story writes an operation as "FROM-TO PROCESS op key arguments -> result"; TO "?" is an unknown
 * outcome, "x" one that was certainly not applied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lin.h"

#define LINE 256

static const LinLimits plenty = { .steps = 1000000, .memory = (size_t) 64 << 20 };

/* Each operation by a process of its own, so that stories need no order. */
static void
story_line(FILE *out, const char *line, int process)
{
	char from[16], to[16], op[16], key[32], arguments[LINE] = "", result[LINE] = "", call[LINE], rest[LINE];
	const char *arrow = strstr(line, "->");
	int used = 0;

	snprintf(call, sizeof call, "%.*s", arrow == NULL ? (int) strlen(line) : (int) (arrow - line), line);
	if (arrow != NULL)
		snprintf(result, sizeof result, "%s", arrow + 2);
	assert_int_equal(sscanf(call, "%15[0-9]-%15s %15s %31s %n", from, to, op, key, &used), 4);
	snprintf(rest, sizeof rest, "%s", call + used);
	snprintf(arguments, sizeof arguments, "%s", rest);
	fprintf(out, "%s %d invoke %s %s %s\n", from, process, op, key, arguments);
	if (strcmp(to, "?") == 0)
		fprintf(out, "%s %d unknown %s %s\n", from, process, op, key);
	else if (strcmp(to, "x") == 0)
		fprintf(out, "%s %d fail %s %s\n", from, process, op, key);
	else
		fprintf(out, "%s %d ok %s %s %s\n", to, process, op, key, result);
}

static bool
read_text(LinHistory *h, const char *text, char *error, size_t size)
{
	FILE *in = tmpfile();
	bool good;

	assert_non_null(in);
	fputs(text, in);
	rewind(in);
	good = lin_history_read(h, in, "text", error, size);
	fclose(in);
	return good;
}

static LinReport
check_story(LinHistory *h, const char *const *lines, const LinLimits *limits)
{
	char error[LINE];
	FILE *f = tmpfile();
	LinReport r;

	assert_non_null(f);
	for (int i = 0; lines[i] != NULL; i++)
		story_line(f, lines[i], i);
	rewind(f);
	lin_history_init(h);
	if (!lin_history_read(h, f, "story", error, sizeof error))
		fail_msg("%s", error);
	fclose(f);
	lin_check(h, limits, &r);
	return r;
}

static void
expect(LinVerdict verdict, const char *const *lines)
{
	LinHistory h;
	LinReport r = check_story(&h, lines, &plenty);

	if (r.verdict != verdict)
		lin_report_print(stderr, &h, &r);
	assert_int_equal(r.verdict, verdict);
	lin_report_free(&r);
	lin_history_free(&h);
}

#define LEGAL(...) expect(LIN_LEGAL, (const char *const[]){ __VA_ARGS__, NULL })
#define ILLEGAL(...) expect(LIN_ILLEGAL, (const char *const[]){ __VA_ARGS__, NULL })

static void
one_after_the_other(void **state)
{
	(void) state;
	LEGAL("1-2 get k -> -");
	LEGAL("1-2 put k a", "3-4 get k -> a", "5-6 delete k", "7-8 get k -> -");
	LEGAL("1-2 incr k 5 -> 5", "3-4 incr k -7 -> -2", "5-6 get k -> -2");
	LEGAL("1-2 cas k - a -> yes", "3-4 cas k - b -> no", "5-6 cas k a c -> yes", "7-8 get k -> c");
	ILLEGAL("1-2 put k a", "3-4 get k -> -");
	ILLEGAL("1-2 incr k 5 -> 5", "3-4 incr k 5 -> 5");
	ILLEGAL("1-2 put k a", "3-4 cas k - b -> yes");
	ILLEGAL("1-2 put k a", "3-4 cas k a b -> no");
}

static void
keys_are_apart(void **state)
{
	(void) state;
	LEGAL("1-2 put k a", "3-4 get l -> -", "5-6 put l b", "7-8 get k -> a");
	ILLEGAL("1-2 put k a", "3-4 put l b", "5-6 get l -> b", "7-8 get k -> -");
}

static void
concurrent_ones_may_take_any_order(void **state)
{
	(void) state;
	LEGAL("1-9 put k a", "2-8 put k b", "10-11 get k -> a");
	LEGAL("1-9 put k a", "2-8 put k b", "10-11 get k -> b");
	LEGAL("1-9 put k a", "2-3 get k -> -", "4-5 get k -> a");
	LEGAL("1-9 put k a", "1-9 put k b", "2-3 get k -> a", "4-5 get k -> b", "10-11 get k -> b");
	LEGAL("1-9 incr k 1 -> 2", "1-9 incr k 1 -> 1");
	LEGAL("1-9 cas k - a -> no", "1-9 cas k - b -> yes");
	/* meeting at one instant is overlapping */
	LEGAL("1-2 put k a", "2-3 get k -> -");
	ILLEGAL("1-9 cas k - a -> yes", "1-9 cas k - b -> yes");
	ILLEGAL("1-9 incr k 1 -> 1", "1-9 incr k 1 -> 1");
}

static void
stale_read(void **state)
{
	(void) state;
	ILLEGAL("1-2 put k a", "3-4 put k b", "5-6 get k -> a");
	LEGAL("1-2 put k a", "3-6 put k b", "4-5 get k -> a");
	ILLEGAL("1-2 put k a", "3-4 delete k", "5-6 get k -> a");
}

static void
reads_going_backwards(void **state)
{
	(void) state;
	ILLEGAL("1-2 put k a", "3-20 put k b", "4-5 get k -> b", "6-7 get k -> a");
	LEGAL("1-2 put k a", "3-20 put k b", "4-7 get k -> b", "5-6 get k -> a");
	ILLEGAL("1-20 put k a", "1-20 put k b", "2-3 get k -> a", "4-5 get k -> b", "6-7 get k -> a");
}

static void
lost_update(void **state)
{
	(void) state;
	ILLEGAL("1-2 put k a", "3-9 cas k a b -> yes", "3-9 cas k a c -> yes");
	ILLEGAL("1-9 incr k 1 -> 1", "1-9 incr k 1 -> 2", "10-11 get k -> 1");
	ILLEGAL("1-2 put k a", "3-4 put k b", "9-10 get k -> -");
}

static void
never_written(void **state)
{
	(void) state;
	ILLEGAL("1-2 put k a", "3-4 get k -> b");
	ILLEGAL("1-2 get k -> a", "3-4 put k a");
	ILLEGAL("1-x put k a", "3-4 get k -> a");
	ILLEGAL("1-2 lget k -> a");
	LEGAL("1-2 put k a", "3-4 put k b", "5-6 lget k -> a", "7-8 lget k -> -");
}

static void
unknown_outcomes(void **state)
{
	(void) state;
	LEGAL("1-? put k a", "3-4 get k -> -");
	LEGAL("1-? put k a", "3-4 get k -> a");
	LEGAL("1-? put k a", "3-4 get k -> -", "5-6 put k b", "7-8 get k -> b", "9-10 get k -> a");
	LEGAL("1-? cas k b a", "3-4 put k b", "5-6 get k -> b", "7-8 get k -> a");
	LEGAL("1-? incr k 1", "2-? incr k 1", "3-4 get k -> 1", "5-6 incr k 1 -> 3");
	LEGAL("1-? delete k", "3-4 put k b", "5-6 get k -> -");
	/* not before it was asked for, once only, and conditions hold */
	ILLEGAL("1-2 get k -> a", "3-? put k a");
	ILLEGAL("1-? put k a", "2-3 get k -> a", "4-5 put k b", "6-7 get k -> a");
	ILLEGAL("1-? incr k 1", "3-4 get k -> 1", "5-6 get k -> 2");
	ILLEGAL("1-? cas k b a", "3-4 get k -> a");
	/* two writers of one value: either may have been read */
	LEGAL("1-? put k a", "1-? put k a", "2-3 get k -> a", "4-5 put k b", "6-7 get k -> a");
	/* a counter makes numbers that nobody wrote */
	LEGAL("1-? put k 2", "2-3 incr k 1 -> 1", "4-5 incr k 1 -> 2", "6-7 get k -> 2", "8-9 incr k 1 -> 3");
}

static void
retry_applied_twice(void **state)
{
	(void) state;
	ILLEGAL("1-2 incr k 1 -> 1", "3-4 get k -> 2");
	ILLEGAL("1-9 put k a", "2-3 get k -> a", "4-5 put k b", "10-11 get k -> a");
	ILLEGAL("1-9 cas k - a -> no", "10-11 get k -> a");
}

static void
not_applied_ones_say_nothing(void **state)
{
	(void) state;
	LEGAL("1-x put k a", "3-4 get k -> -");
	LEGAL("1-2 put k a", "3-x get k", "4-x incr k 1", "5-6 get k -> a");
}

static void
versions(void **state)
{
	(void) state;
	LEGAL("1-2 put k a -> 10", "3-4 get k -> a 10", "5-6 casv k 10 b -> yes 20", "7-8 get k -> b 20");
	LEGAL("1-9 put k a -> 20", "1-9 put k b -> 10", "10-11 get k -> a 20");
	ILLEGAL("1-9 put k a -> 20", "1-9 put k b -> 10", "10-11 get k -> b 10");
	ILLEGAL("1-2 put k a -> 20", "3-4 put k b -> 10");
	ILLEGAL("1-2 put k a -> 20", "3-4 put k b -> 20");
	ILLEGAL("1-2 put k a -> 10", "3-4 get k -> a 11");
	ILLEGAL("1-2 put k a -> 10", "3-4 casv k 10 b -> no");
	ILLEGAL("1-2 put k a -> 10", "3-4 casv k 9 b -> yes");
	LEGAL("1-2 casv k 5 a -> no 0", "3-4 put k a -> 10", "5-6 cas k b c -> no 10");
	ILLEGAL("1-2 put k a -> 10", "5-6 cas k b c -> no 0");
	ILLEGAL("1-2 put k a -> 10", "5-6 cas k b c -> no 9");
	/* the same value again: only the version tells that the first writer's is back */
	ILLEGAL("1-2 put k a -> 10", "3-4 put k a -> 20", "5-6 get k -> a 10");
	/* of unknown outcome, and its version is told by who read it */
	LEGAL("1-? put k a", "2-9 put k b -> 10", "3-9 put k c -> 30", "10-11 get k -> a 40",
		  "12-13 casv k 40 d -> yes 50");
	ILLEGAL("1-? put k a", "2-3 put k b -> 10", "4-5 get k -> a 9");
	ILLEGAL("1-? put k a", "2-3 put k b -> 10", "4-5 get k -> a 20", "6-7 get k -> a 30");
	ILLEGAL("1-? put k a", "2-3 put k b -> 10", "4-5 get k -> a 40", "6-7 put k c -> 30");
}

/* n writers of unknown outcome, and reads that see none of them: 2^n ways for who looks at each. */
static void
many_crashed_writers(void **state)
{
	char lines[64][LINE];
	const char *story[65] = { 0 };
	LinHistory h;
	LinReport r;

	(void) state;
	for (int i = 0; i < 60; i++) {
		if (i < 30)
			snprintf(lines[i], LINE, "%d-? put k crashed%d", i + 1, i);
		else
			snprintf(lines[i], LINE, i % 2 == 0 ? "%d-%d put k v%d" : "%d-%d get k -> v%d", 10 * i,
					 10 * i + 5, i / 2);
		story[i] = lines[i];
	}
	r = check_story(&h, story, &plenty);
	assert_int_equal(r.verdict, LIN_LEGAL);
	assert_true(r.steps < 100);
	lin_report_free(&r);
	lin_history_free(&h);
	/* and one that is illegal */
	snprintf(lines[59], LINE, "595-596 get k -> v27");
	r = check_story(&h, story, &plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_true(r.steps < 100000);
	lin_report_free(&r);
	lin_history_free(&h);
}

static void
explanation_is_small(void **state)
{
	char lines[203][LINE];
	const char *story[204] = { 0 };
	LinHistory h;
	LinReport r;

	(void) state;
	for (int i = 0; i < 200; i++) {
		snprintf(lines[i], LINE, i % 2 == 0 ? "%d-%d put k v%d" : "%d-%d get k -> v%d", 10 * i, 10 * i + 5,
				 i / 2);
		story[i] = lines[i];
	}
	snprintf(lines[200], LINE, "2001-2002 get k -> v97");
	snprintf(lines[201], LINE, "2003-2004 put k last");
	story[200] = lines[200];
	story[201] = lines[201];
	r = check_story(&h, story, &plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_false(r.from_start);
	/* one newer thing that was known before, and the stale read */
	assert_int_equal(r.nwindow, 2);
	assert_int_equal(r.window[1].invoked, 2001);
	assert_int_equal(r.window[1].kind, LIN_GET);
	lin_report_free(&r);
	lin_history_free(&h);
}

/* What is wrong comes last, though versions would put it first: two leaders gave one version to two writes. */
static void
explanation_ends_where_it_goes_wrong(void **state)
{
	char lines[102][LINE];
	const char *story[103] = { 0 };
	LinHistory h;
	LinReport r;

	(void) state;
	for (int i = 0; i < 100; i++) {
		snprintf(lines[i], LINE, "%d-%d put k v%d -> %d", 10 * i, 10 * i + 5, i, 100 + i);
		story[i] = lines[i];
	}
	story[100] = "2000-2001 put k again -> 50";
	story[101] = "2002-2003 get k -> again 50";
	r = check_story(&h, story, &plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_int_equal(r.nwindow, 2);
	assert_int_equal(r.window[0].invoked, 990);
	assert_int_equal(r.window[1].invoked, 2000);
	lin_report_free(&r);
	lin_history_free(&h);
}

static void
explanation_counts_on_the_start(void **state)
{
	LinHistory h;
	LinReport r;

	(void) state;
	r = check_story(&h, (const char *const[]){ "1-2 put k a", "3-4 delete k", "5-6 incr k 2 -> 5", NULL },
					&plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_int_equal(r.nwindow, 2);
	assert_int_equal(r.window[0].kind, LIN_DELETE);
	lin_report_free(&r);
	lin_history_free(&h);
	r = check_story(&h, (const char *const[]){ "1-2 get k -> -", "5-6 incr k 2 -> 5", "7-8 put k 5", NULL },
					&plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_false(r.from_start);
	assert_int_equal(r.nwindow, 2);
	lin_report_free(&r);
	lin_history_free(&h);
	r = check_story(&h, (const char *const[]){ "5-6 incr k 2 -> 5", NULL }, &plenty);
	assert_true(r.from_start);
	assert_int_equal(r.nwindow, 1);
	lin_report_free(&r);
	lin_history_free(&h);
}

static void
undecided_within_bounds(void **state)
{
	char lines[24][LINE];
	const char *story[25] = { 0 };
	LinLimits few = { .steps = 100, .memory = (size_t) 64 << 20 };
	LinLimits little = { .memory = 4096 };
	LinHistory h;
	LinReport r;

	(void) state;
	/* concurrent counters whose results cannot be: every order has to be tried */
	for (int i = 0; i < 20; i++) {
		snprintf(lines[i], LINE, "%d-1000 incr k %d -> 999999", i + 1, 1 << i);
		story[i] = lines[i];
	}
	r = check_story(&h, story, &plenty);
	assert_int_equal(r.verdict, LIN_ILLEGAL); /* none can be first */
	lin_report_free(&r);
	lin_history_free(&h);
	for (int i = 0; i < 20; i++)
		snprintf(lines[i], LINE, "%d-1000 put k v%d", i + 1, i);
	snprintf(lines[20], LINE, "1-1000 cas k never a -> yes");
	story[20] = lines[20];
	r = check_story(&h, story, &few);
	assert_int_equal(r.verdict, LIN_UNDECIDED);
	assert_true(r.steps <= 101);
	lin_report_free(&r);
	lin_history_free(&h);
	r = check_story(&h, story, &little);
	assert_int_equal(r.verdict, LIN_UNDECIDED);
	lin_report_free(&r);
	lin_history_free(&h);
}

/* Illegal in one key is illegal, even when another is undecided. */
static void
illegal_wins_over_undecided(void **state)
{
	char lines[25][LINE];
	const char *story[26] = { 0 };
	LinLimits few = { .steps = 100, .memory = (size_t) 64 << 20 };
	LinHistory h;
	LinReport r;

	(void) state;
	for (int i = 0; i < 20; i++) {
		snprintf(lines[i], LINE, "%d-1000 put a v%d", i + 1, i);
		story[i] = lines[i];
	}
	story[20] = "1-1000 cas a never b -> yes";
	story[21] = "1-2 put z a";
	story[22] = "3-4 get z -> -";
	r = check_story(&h, story, &few);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	assert_string_equal(lin_text(&h.words, r.key), "z");
	lin_report_free(&r);
	lin_history_free(&h);
}

static void
no_history(void **state)
{
	static const struct {
		const char *text, *error;
	} bad[] = {
		{ "1 1 invoke get k", "text:1: the last line has no end: the file was cut off" },
		{ "1 1 invoke get\n", "text:1: there are too few fields" },
		{ "1 1 invoke get k a\n", "text:1: the number of arguments is not that of the operation" },
		{ "1 1 invoke put k\n", "text:1: the number of arguments is not that of the operation" },
		{ "1 1 invoke put k -\n", "text:1: \"-\" stands for an absent key and can't be written" },
		{ "1 1 invoke jump k\n", "text:1: the operation is not known" },
		{ "x 1 invoke get k\n", "text:1: the time is no number" },
		{ "1 65536 invoke get k\n", "text:1: the process is no number up to 65535" },
		{ "1 1 invoke get k\n2 1 invoke get k\n", "text:2: the process has an operation under way" },
		{ "\n2 1 ok get k a\n", "text:2: the process has no operation under way" },
		{ "5 1 invoke get k\n4 1 ok get k a\n", "text:2: it returns before it was invoked" },
		{ "5 1 invoke get k\n6 1 ok get l a\n", "text:2: the process has another operation under way" },
		{ "5 1 invoke get k\n6 1 ok get k\n", "text:2: the result is missing" },
		{ "5 1 invoke get k\n6 1 done get k\n", "text:2: the event is none of invoke, ok, fail, unknown" },
		{ "5 1 invoke cas k a b\n6 1 ok cas k maybe\n", "text:2: yes or no is missing" },
		{ "5 1 invoke incr k a\n", "text:1: the step is no number" },
		{ "5 1 invoke incr k 1\n6 1 ok incr k one\n", "text:2: the result is no number" },
		{ "5 1 invoke put k a\n6 1 ok put k one\n", "text:2: the version is no number" },
		{ "5 1 invoke put k a\n6 1 ok put k 1 2\n", "text:2: there is more behind the version" },
		{ "5 1 invoke casv k 0 a\n", "text:1: the version expected is no number above 0" },
	};
	char error[LINE];
	LinHistory h;

	(void) state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		lin_history_init(&h);
		assert_false(read_text(&h, bad[i].text, error, sizeof error));
		assert_string_equal(error, bad[i].error);
		lin_history_free(&h);
	}
}

static void
words_at_their_bound(void **state)
{
	char word[LIN_WORD_MAX + 2], text[2 * sizeof word + 32], error[LINE];
	LinHistory h;

	(void) state;
	for (int len = LIN_WORD_MAX - 1; len <= LIN_WORD_MAX + 1; len++) {
		memset(word, 'w', sizeof word);
		word[len] = '\0';
		snprintf(text, sizeof text, "1 1 invoke put %s %s\n", word, word);
		lin_history_init(&h);
		assert_int_equal(read_text(&h, text, error, sizeof error), len <= LIN_WORD_MAX);
		lin_history_free(&h);
	}
}

static void
several_files_are_one_history(void **state)
{
	char error[LINE];
	LinHistory h;
	LinReport r;

	(void) state;
	lin_history_init(&h);
	assert_true(read_text(&h, "# a comment\n1 1 invoke put k a\n2 1 ok put k\n", error, sizeof error));
	assert_true(read_text(&h, "3 1 invoke get k\n\n4 1 ok get k -\n", error, sizeof error));
	lin_check(&h, &plenty, &r);
	assert_int_equal(r.verdict, LIN_ILLEGAL);
	lin_report_free(&r);
	lin_history_free(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(keys_are_apart),
		cmocka_unit_test(concurrent_ones_may_take_any_order),
		cmocka_unit_test(stale_read),
		cmocka_unit_test(reads_going_backwards),
		cmocka_unit_test(lost_update),
		cmocka_unit_test(never_written),
		cmocka_unit_test(unknown_outcomes),
		cmocka_unit_test(retry_applied_twice),
		cmocka_unit_test(not_applied_ones_say_nothing),
		cmocka_unit_test(versions),
		cmocka_unit_test(many_crashed_writers),
		cmocka_unit_test(explanation_is_small),
		cmocka_unit_test(explanation_ends_where_it_goes_wrong),
		cmocka_unit_test(explanation_counts_on_the_start),
		cmocka_unit_test(undecided_within_bounds),
		cmocka_unit_test(illegal_wins_over_undecided),
		cmocka_unit_test(no_history),
		cmocka_unit_test(words_at_their_bound),
		cmocka_unit_test(several_files_are_one_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
