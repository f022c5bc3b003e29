/*
 * test_output.c - the five formats, the progress line, and lines of files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvctl.h"

static char *text;
static size_t text_len;

static void
open_output(Output *o, Format f, bool tty)
{
	*o = (Output){ .format = f, .tty = tty };
	o->file = open_memstream(&text, &text_len);
	assert_non_null(o->file);
}

static void
check_output(Output *o, const char *want, size_t len)
{
	assert_int_equal(fclose(o->file), 0);
	if (text_len != len || memcmp(text, want, len) != 0)
		fail_msg("got:\n%s\nexpected:\n%s", text, want);
	free(text);
	output_free(o);
}

#define CHECK(o, want) check_output(o, want, sizeof want - 1)

static void
two_rows(Output *o)
{
	static const char *const columns[] = { "key", "n" };

	output_begin(o, 2, columns);
	output_row(o, (Cell[]){ CELL_OF_BYTES(((kv_bytes){ "a\0\"\n", 4 })), CELL_OF_U64(1) });
	output_row(o, (Cell[]){ CELL_OF_STR("\xc3\xa4,"), { .kind = CELL_NONE } });
	output_end(o, true);
}

static void
test_rows(void **state)
{
	static const struct { Format f; bool tty; const char *want; size_t len; } cases[] = {
#define CASE(f, tty, want) { f, tty, want, sizeof want - 1 }
		CASE(FORMAT_TABLE, false, "key      | n\n---------+--\na\\x00\"\\n | 1\n\xc3\xa4,       | \n"),
		CASE(FORMAT_AUTO, true, "key      | n\n---------+--\na\\x00\"\\n | 1\n\xc3\xa4,       | \n(2 rows)\n"),
		CASE(FORMAT_AUTO, false, "a\\x00\"\\n\t1\n\xc3\xa4,\t\n"),
		CASE(FORMAT_JSON, true, "{\"key\":\"a\\u0000\\\"\\n\",\"n\":1}\n{\"key\":\"\xc3\xa4,\",\"n\":null}\n"),
		CASE(FORMAT_CSV, false, "key,n\n\"a\0\"\"\n\",1\n\"\xc3\xa4,\",\n"),
		CASE(FORMAT_TSV, false, "a\\x00\"\\n\t1\n\xc3\xa4,\t\n"),
		CASE(FORMAT_RAW, false, "a\0\"\n\t1\n\xc3\xa4,\t\n"),
#undef CASE
	};
	Output o;

	(void) state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		open_output(&o, cases[i].f, cases[i].tty);
		two_rows(&o);
		check_output(&o, cases[i].want, cases[i].len);
	}
}

static void
test_expanded(void **state)
{
	Output o;

	(void) state;
	open_output(&o, FORMAT_TABLE, false);
	o.expanded = true;
	two_rows(&o);
	CHECK(&o, "-[ 1 ]-\nkey | a\\x00\"\\n\nn   | 1\n-[ 2 ]-\nkey | \xc3\xa4,\nn   | \n");
}

/* Rows beyond those that are held are printed too, all of them in order. */
static void
test_long_table(void **state)
{
	static const char *const columns[] = { "n" };
	int lines = 0;
	Output o;

	(void) state;
	open_output(&o, FORMAT_TABLE, false);
	output_begin(&o, 1, columns);
	for (uint64_t i = 0; i < OUTPUT_TABLE_ROWS + 5; i++)
		output_row(&o, (Cell[]){ CELL_OF_U64(i) });
	output_end(&o, true);
	fclose(o.file);
	for (char *p = strchr(text, '\n'); p != NULL && p[1] != '\0'; p = strchr(p + 1, '\n'))
		if (++lines > 1)
			assert_int_equal(strtol(p + 1, NULL, 10), lines - 2);
	assert_int_equal(lines, OUTPUT_TABLE_ROWS + 5 + 1);
	free(text);
	output_free(&o);
}

static void
test_value(void **state)
{
	Slice key = slice_of("k", 1), value = slice_of("a\0\n", 3);
	Output o;

	(void) state;
	open_output(&o, FORMAT_AUTO, false);
	output_value(&o, key, value);
	CHECK(&o, "a\0\n"); /* bytes alone: nothing is added in a pipe */
	open_output(&o, FORMAT_AUTO, true);
	output_value(&o, key, value);
	CHECK(&o, "a\\x00\\n\n");
	open_output(&o, FORMAT_RAW, true);
	output_value(&o, key, value);
	CHECK(&o, "a\0\n\n");
	open_output(&o, FORMAT_AUTO, false);
	o.session = true;
	output_value(&o, key, value);
	CHECK(&o, "a\0\n\n");
	open_output(&o, FORMAT_JSON, true);
	output_value(&o, key, value);
	CHECK(&o, "{\"key\":\"k\",\"value\":\"a\\u0000\\n\"}\n");
}

static void
test_progress(void **state)
{
	Progress p = { .start_ns = 0, .total = 100 << 20 };
	char line[160];

	(void) state;
	progress_text(&p, UINT64_C(2000000000), 1234567, 50 << 20, line, sizeof line);
	assert_string_equal(line, "1,234,567 records, 50.0 MB, 25.0 MB/s, 50%, 0:02 left");
	p.total = 0;
	progress_text(&p, UINT64_C(2000000000), 999, 0, line, sizeof line);
	assert_string_equal(line, "999 records, 0 B, 0 B/s");
	progress_text(&p, UINT64_C(2000000000), 1, 0, line, sizeof line);
	assert_string_equal(line, "1 record, 0 B, 0 B/s");
	p.total = UINT64_C(3700) << 20;
	progress_text(&p, UINT64_C(1000000000), 1000, 1 << 20, line, sizeof line);
	assert_string_equal(line, "1,000 records, 1.0 MB, 1.0 MB/s, 0%, 61:39 left");
	progress_text(&p, 0, 0, 0, line, sizeof line); /* no time has passed: nothing is divided by zero */
}

/* Lines across reads, the last without a newline, and empty ones. */
static void
test_lines(void **state)
{
	char path[] = "/tmp/kvctl_lines.XXXXXX";
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w+");
	Lines l = { .fd = fd };
	const char *line;
	size_t len;

	(void) state;
	assert_non_null(f);
	unlink(path);
	for (int i = 0; i < 300; i++)
		fprintf(f, "%0*d\n", i * 97 % 9000, i);
	fputs("\nend", f);
	fflush(f);
	rewind(f);
	lseek(fd, 0, SEEK_SET);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(lines_next(&l, &line, &len), ST_OK);
		assert_non_null(line);
		assert_int_equal(strtol(line, NULL, 10), i);
		assert_int_equal(l.number, i + 1);
	}
	assert_int_equal(lines_next(&l, &line, &len), ST_OK);
	assert_int_equal(len, 0);
	assert_int_equal(lines_next(&l, &line, &len), ST_OK);
	assert_int_equal(len, 3);
	assert_int_equal(l.number, 302);
	assert_int_equal(lines_next(&l, &line, &len), ST_OK);
	assert_null(line);
	lines_free(&l);
	fclose(f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows), cmocka_unit_test(test_expanded), cmocka_unit_test(test_long_table),
		cmocka_unit_test(test_value), cmocka_unit_test(test_progress), cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
