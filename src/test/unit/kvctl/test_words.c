/*
 * test_words.c - lines into words, arguments by the table, options, numbers and times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvctl.h"

static void
test_split(void **state)
{
	static const struct { const char *line; int n; const char *words[4]; size_t last_len; } cases[] = {
		{ "", 0, { NULL }, 0 }, { "  # only a comment", 0, { NULL }, 0 }, { "put a b", 3, { "put", "a", "b" }, 1 },
		{ "a  \t b\r", 2, { "a", "b" }, 1 }, { "put 'a b' \"c\\td\"", 3, { "put", "a b", "c\td" }, 3 },
		{ "x '' \"\"", 3, { "x", "", "" }, 0 }, { "a\"b c\"d'e f'", 1, { "ab cde f" }, 8 }, { "a\\x20b", 1,
			{ "a b" }, 3 },
		{ "'\\n'", 1, { "\\n" }, 2 }, { "\"\\\"\"", 1, { "\"" }, 1 }, { "a#b #c", 1, { "a#b" }, 3 },
		{ "\"\\x00\\x01\"", 1, { "" }, 2 },
	};
	static const char *const bad[] = { "'a", "\"a", "a \"b", "\"a\\\"", "\\q", "\"\\q\"", "\\" };
	Words w;

	(void) state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(words_split(&w, cases[i].line, strlen(cases[i].line)), ST_OK);
		assert_int_equal(w.n, cases[i].n);
		for (size_t k = 0; k < w.n; k++)
			assert_string_equal((const char *) w.word[k].data, cases[i].words[k]);
		if (w.n > 0)
			assert_int_equal(w.word[w.n - 1].len, cases[i].last_len);
		words_free(&w);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (words_split(&w, bad[i], strlen(bad[i])) != ST_USAGE)
			fail_msg("accepted %s", bad[i]);
		words_free(&w);
	}
}

/* Words stay where they are while the line's memory grows. */
static void
test_split_many(void **state)
{
	char *line = malloc(100000 * 2 + 1);
	Words w;

	(void) state;
	assert_non_null(line);
	for (int i = 0; i < 100000; i++)
		memcpy(line + (size_t) i * 2, "x ", 3);
	assert_int_equal(words_split(&w, line, 200000), ST_OK);
	assert_int_equal(w.n, 100000);
	for (size_t i = 0; i < w.n; i++)
		assert_string_equal((const char *) w.word[i].data, "x");
	words_free(&w);
	free(line);
}

static void
test_numbers(void **state)
{
	static const char *const bad_times[] = { "", "x", "5 s", "-1s", "5sec", "s", "1e99d" };
	static const char *const bad_u64[] = { "", "-1", "1x", " 1", "18446744073709551616" };
	uint64_t ms, u;
	int64_t i;
	char text[40];

	(void) state;
	assert_true(time_parse("250ms", &ms) == ST_OK && ms == 250);
	assert_true(time_parse("1.5s", &ms) == ST_OK && ms == 1500);
	assert_true(time_parse("7d", &ms) == ST_OK && ms == 7 * 86400000);
	assert_true(time_parse("0", &ms) == ST_OK && ms == 0);
	assert_true(time_parse("5", &ms) == ST_OK && ms == 5);
	assert_true(time_parse("9007199254740992", &ms) == ST_OK && ms == UINT64_C(9007199254740992));
	assert_int_equal(time_parse("9007199254740994", &ms), ST_USAGE);
	for (size_t k = 0; k < sizeof bad_times / sizeof bad_times[0]; k++)
		if (time_parse(bad_times[k], &ms) == ST_OK)
			fail_msg("accepted %s", bad_times[k]);
	assert_true(u64_parse("18446744073709551615", &u) == ST_OK && u == UINT64_MAX);
	for (size_t k = 0; k < sizeof bad_u64 / sizeof bad_u64[0]; k++)
		if (u64_parse(bad_u64[k], &u) == ST_OK)
			fail_msg("accepted %s", bad_u64[k]);
	assert_true(i64_parse("-9223372036854775808", &i) == ST_OK && i == INT64_MIN);
	assert_true(i64_parse("+5", &i) == ST_OK && i == 5);
	assert_int_equal(i64_parse("9223372036854775808", &i), ST_USAGE);
	assert_int_equal(i64_parse("-", &i), ST_USAGE);
	duration_text(UINT64_C(3725) * 1000000000, text, sizeof text);
	assert_string_equal(text, "1:02:05");
	size_text(1536, text, sizeof text);
	assert_string_equal(text, "1.5 kB");
}

static kv_bytes words[16];

static int
split(const char *line)
{
	static Words w;

	words_free(&w);
	assert_int_equal(words_split(&w, line, strlen(line)), ST_OK);
	memcpy(words, w.word, w.n * sizeof words[0]);
	return (int) w.n;
}

static bool
parse(Ctl *ctl, const char *line, Args *a)
{
	int n = split(line);

	ctl->command = words[0].data;
	return args_parse(ctl, command_find(words[0].data), words + 1, n - 1, a);
}

static void
test_args(void **state)
{
	static const char *const bad[] = { "put", "put a b c", "put a --ttl", "put a b --nope", "scan --keys=1",
		"put a -q=1" };
	Ctl ctl = { .out.file = stdout, .shell = true };
	Args a;

	(void) state;
	assert_true(parse(&ctl, "put --ttl 5s k --if-version=7 v --keep-ttl", &a));
	assert_int_equal(a.n, 2);
	assert_string_equal((const char *) a.positional[0].data, "k");
	assert_string_equal((const char *) a.positional[1].data, "v");
	assert_string_equal((const char *) a.option[0]->data, "5s");
	assert_string_equal((const char *) a.option[3]->data, "7");
	assert_null(a.option[1]);
	assert_non_null(a.option[8]);
	assert_true(parse(&ctl, "put a -- --ttl", &a));
	assert_int_equal(a.n, 2);
	assert_string_equal((const char *) a.positional[1].data, "--ttl");
	assert_true(parse(&ctl, "incr a -5", &a));
	assert_string_equal((const char *) a.positional[1].data, "-5");
	assert_true(parse(&ctl, "scan --prefix=", &a));
	assert_int_equal(a.option[0]->len, 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (parse(&ctl, bad[i], &a))
			fail_msg("accepted %s", bad[i]);
	/* Options of the program stand behind a command too, but not in the shell. */
	ctl.shell = false;
	assert_true(parse(&ctl, "get a -p 5 b --format json -hx", &a));
	assert_int_equal(a.n, 2);
	assert_string_equal(ctl.port, "5");
	assert_string_equal(ctl.host, "x");
	assert_int_equal(ctl.out.format, FORMAT_JSON);
	assert_false(parse(&ctl, "get a --format yaml", &a));
	assert_false(parse(&ctl, "get a --timeout 5x", &a));
	split("x");
}

/* Every command: a page, options within the bound, and a place in completion. */
static void
test_table(void **state)
{
	(void) state;
	for (int i = 0; i < command_count; i++) {
		const Command *c = &command_table[i];

		assert_ptr_equal(command_find(c->name), c);
		assert_non_null(c->run);
		assert_true(c->summary[0] != '\0' && (c->max < 0 || c->min <= c->max));
		assert_string_equal(completion(c->name, strlen(c->name), 0), c->name);
	}
	assert_null(completion("zzz", 3, 0));
	assert_string_equal(completion("\\wa", 3, 0), "\\watch");
}

static void
test_exit_codes(void **state)
{
	(void) state;
	assert_int_equal(exit_code_of(KV_OK), 0);
	assert_int_equal(exit_code_of(KV_NOT_FOUND), 1);
	assert_int_equal(exit_code_of(KV_CONDITION_FAILED), 1);
	assert_int_equal(exit_code_of(KV_USAGE), 2);
	assert_int_equal(exit_code_of(KV_CANNOT_CONNECT), 3);
	assert_int_equal(exit_code_of(KV_TIMEOUT), 4);
	assert_int_equal(exit_code_of(KV_NO_SPACE), 4);
	assert_int_equal(exit_code_of(77), 4);
	assert_int_equal(exit_code_of(KV_OUTCOME_UNKNOWN), 5);
}

static void
test_pidfile(void **state)
{
	static const char *const bad[] = { "", "x\n", "1\n2\n", "1\n2\n3\n", "1\n2\n3\n/d\n", "0\n2\n3\n/d\nready\n",
		"1\n70000\n3\n/d\nready\n" };
	PidFile p;

	(void) state;
	assert_int_equal(pidfile_parse("123\n7400\n1700000000\n/data\nready\n127.0.0.1,::1\n", &p), ST_OK);
	assert_true(p.pid == 123 && p.port == 7400 && p.start_s == 1700000000);
	assert_string_equal(p.dir, "/data");
	assert_string_equal(p.state, "ready");
	assert_string_equal(p.listen, "127.0.0.1");
	assert_int_equal(pidfile_parse("1\n2\n1700000000123\n/data\nstarting\n", &p), ST_OK);
	assert_int_equal(p.start_s, 1700000000);
	assert_int_equal(pidfile_parse("1\n2\n3\n/d\nready\n*", &p), ST_OK);
	assert_string_equal(p.listen, "127.0.0.1");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (pidfile_parse(bad[i], &p) == ST_OK)
			fail_msg("accepted case %zu", i);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split), cmocka_unit_test(test_split_many), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_args), cmocka_unit_test(test_table), cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_pidfile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
