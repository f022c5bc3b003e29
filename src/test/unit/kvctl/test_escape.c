/*
 * test_escape.c - escapes, JSON strings, base64 and UTF-8: what goes out comes back, and what is wrong is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "common/prng.h"
#include "kvctl.h"

static Prng prng;

static int
setup(void **state)
{
	const char *seed = getenv("KVD_SEED");
	uint64_t s = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t) time(NULL);

	(void) state;
	printf("seed %llu (repeat with KVD_SEED)\n", (unsigned long long) s);
	prng_seed(&prng, s);
	return 0;
}

/* Random bytes, mostly of the kinds that need care. */
static size_t
random_bytes(uint8_t *out, size_t max)
{
	static const char special[] = "\\\\\t\n\r\"'{}:,\0\x7f\xff\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
	size_t n = prng_below(&prng, max + 1);

	for (size_t i = 0; i < n; i++)
		out[i] = prng_below(&prng, 2) ? (uint8_t) prng_next(&prng)
			: (uint8_t) special[prng_below(&prng, sizeof special - 1)];
	return n;
}

static void
expect(Status (*fn)(Buf *, Slice), const char *in, size_t len, const char *want)
{
	Buf b = { 0 };

	assert_int_equal(fn(&b, slice_of(in, len)), ST_OK);
	assert_int_equal(buf_append(&b, "", 1), ST_OK);
	assert_string_equal((char *) b.data, want);
	buf_free(&b);
}

static void
test_known(void **state)
{
	(void) state;
	expect(escape_text, "a\n\t\\\0\x7f\xff\xc3\xa4", 9, "a\\n\\t\\\\\\x00\\x7f\\xff\xc3\xa4");
	expect(escape_text, "\xc2\x9b", 2, "\\xc2\\x9b"); /* a control character of terminals */
	expect(escape_tsv, "a\n\t\\\0\xff\xc3\xa4", 8, "a\\n\\t\\\\\\x00\xff\xc3\xa4");
	expect(escape_json, "a\"\\\n\x01\xc3\xa4", 7, "\"a\\\"\\\\\\n\\u0001\xc3\xa4\"");
	expect(escape_json, "a\xff", 2, "{\"base64\":\"Yf8=\"}");
	expect(base64_encode, "", 0, "");
	expect(base64_encode, "f", 1, "Zg==");
	expect(base64_encode, "foobar", 6, "Zm9vYmFy");
}

static void
test_unescape(void **state)
{
	static const char *const bad[] = { "\\", "a\\q", "\\x", "\\x1", "\\xg1", "\\8", "\\400", "\\\n" };
	Buf b = { 0 };

	(void) state;
	assert_int_equal(unescape(&b, "\\x41\\101\\0\\e\\\\z\\\"", 17), ST_OK);
	assert_int_equal(b.len, 7);
	assert_memory_equal(b.data, "AA\0\033\\z\"", 7);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (unescape(&b, bad[i], strlen(bad[i])) != ST_USAGE)
			fail_msg("accepted %s", bad[i]);
	}
	assert_int_equal(unescape(&b, "\\\0", 2), ST_USAGE);
	buf_free(&b);
}

static void
test_utf8(void **state)
{
	static const struct { const char *bytes; size_t len; bool valid; } cases[] = {
		{ "", 0, true }, { "a\0b", 3, true }, { "\xc3\xa4", 2, true }, { "\xe2\x82\xac", 3, true },
		{ "\xf0\x9f\x98\x80", 4, true }, { "\xf4\x8f\xbf\xbf", 4, true }, { "\x80", 1, false }, { "\xc3", 1, false },
		{ "\xc0\x80", 2, false }, { "\xc1\xbf", 2, false }, { "\xe0\x9f\xbf", 3, false }, { "\xed\xa0\x80", 3, false },
		{ "\xf0\x8f\xbf\xbf", 4, false }, { "\xf4\x90\x80\x80", 4, false }, { "\xf5\x80\x80\x80", 4, false },
		{ "\xe2\x82", 2, false }, { "\xff", 1, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (utf8_valid(slice_of(cases[i].bytes, cases[i].len)) != cases[i].valid)
			fail_msg("case %zu", i);
}

static void
test_base64(void **state)
{
	static const char *const bad[] = { "Zg=", "Zg", "Z===", "====", "Zg==Zg==", "Z g=", "Zm9v!mFy" };
	uint8_t in[100];
	Buf text = { 0 }, out = { 0 };

	(void) state;
	for (int i = 0; i < 2000; i++) {
		size_t n = random_bytes(in, sizeof in);

		buf_clear(&text);
		buf_clear(&out);
		assert_int_equal(base64_encode(&text, slice_of(in, n)), ST_OK);
		assert_int_equal(base64_decode(&out, (const char *) text.data, text.len), ST_OK);
		assert_true(slice_eq(slice_buf(&out), slice_of(in, n)));
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (base64_decode(&out, bad[i], strlen(bad[i])) == ST_OK)
			fail_msg("accepted %s", bad[i]);
	buf_free(&text);
	buf_free(&out);
}

/* What load reads is what dump wrote, for any bytes. */
static void
test_records_round_trip(void **state)
{
	uint8_t key[80], value[400];
	RecordBuf memory = { 0 };
	Buf line = { 0 };

	(void) state;
	for (int i = 0; i < 20000; i++) {
		Record r = { { key, random_bytes(key, sizeof key - 1) }, { value, random_bytes(value, sizeof value) }, 0 };
		bool json = i % 2 == 1;
		Record back;

		if (r.key.len == 0)
			r.key.len = 1;
		if (json)
			r.ttl_ms = prng_below(&prng, 3) * prng_below(&prng, UINT64_C(1) << 53);
		buf_clear(&line);
		assert_int_equal(json ? json_write(&line, &r) : tsv_write(&line, &r), ST_OK);
		assert_ptr_equal(memchr(line.data, '\n', line.len), line.data + line.len - 1);
		if ((json ? json_parse : tsv_parse)((char *) line.data, line.len - 1, &memory, &back) != ST_OK)
			fail_msg("%s: %.*s", status_detail(), (int) line.len, (char *) line.data);
		assert_true(slice_eq(slice_of(back.key.data, back.key.len), slice_of(r.key.data, r.key.len)));
		assert_true(slice_eq(slice_of(back.value.data, back.value.len), slice_of(r.value.data, r.value.len)));
		assert_int_equal(back.ttl_ms, r.ttl_ms);
	}
	record_buf_free(&memory);
	buf_free(&line);
}

static void
test_json_lines(void **state)
{
	static const struct { const char *line, *key, *value; } good[] = {
		{ "{\"key\":\"a\",\"value\":\"b\"}", "a", "b" },
		{ " { \"value\" : \"\\u00e4\\ud83d\\ude00\\/\" , \"\\u006bey\" : \"x\\ty\" , \"ttl_ms\" : null , "
			"\"version\":5 } ", "x\ty",
		  "\xc3\xa4\xf0\x9f\x98\x80/" },
		{ "{\"key\":{\"base64\":\"YQ==\"},\"value\":{ \"base64\" : \"\" }}", "a", "" },
	};
	static const char *const bad[] = {
		"", "{}", "[]", "{\"key\":\"a\"}", "{\"value\":\"a\"}", "{\"key\":\"\",\"value\":\"\"}",
		"{\"key\":\"a\",\"value\":\"b\"",
		"{\"key\":\"a\",\"value\":\"b\"} x", "{\"key\":\"a\",\"value\":\"b\",}", "{\"key\":\"a\",\"value\":5}",
		"{\"key\":\"a\",\"value\":\"b\",\"ttl\":5}", "{\"key\":\"a\",\"value\":\"b\",\"ttl_ms\":-1}",
		"{\"key\":\"a\",\"value\":\"b\",\"ttl_ms\":99999999999999999999}", "{\"key\":\"a\",\"value\":\"\\ud83d\"}",
		"{\"key\":\"a\",\"value\":\"\\ude00\"}", "{\"key\":\"a\",\"value\":\"\\u12\"}",
		"{\"key\":\"a\",\"value\":\"\\q\"}",
		"{\"key\":\"a\",\"value\":\"\xff\"}", "{\"key\":\"a\",\"value\":{\"base64\":\"YQ=\"}}",
		"{\"key\":\"a\",\"value\":{\"base32\":\"YQ==\"}}", "{\"key\":\"a\",\"value\":\"tab\there\"}", "{\"key\":\"a",
		"{\"key\":\"a\\", "{\"key\"",
	};
	RecordBuf memory = { 0 };
	Record r;

	(void) state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		if (json_parse(good[i].line, strlen(good[i].line), &memory, &r) != ST_OK)
			fail_msg("%s: %s", good[i].line, status_detail());
		assert_true(slice_eq(slice_of(r.key.data, r.key.len), slice_str(good[i].key)));
		assert_true(slice_eq(slice_of(r.value.data, r.value.len), slice_str(good[i].value)));
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (json_parse(bad[i], strlen(bad[i]), &memory, &r) == ST_OK)
			fail_msg("accepted %s", bad[i]);
	record_buf_free(&memory);
}

/* No line, cut or changed anywhere, is read beyond its end (valgrind and sanitizers watch). */
static void
test_json_damaged(void **state)
{
	static const char line[] = "{\"key\":{\"base64\":\"YWJj\"},\"value\":\"\\u00e4\\ud83d\\ude00\\n\",\"ttl_ms\":123}";
	RecordBuf memory = { 0 };
	Record r;

	(void) state;
	for (int i = 0; i < 20000; i++) {
		size_t n = prng_below(&prng, sizeof line);
		char *copy = malloc(n + 1);

		assert_non_null(copy);
		memcpy(copy, line, n);
		if (n > 0)
			copy[prng_below(&prng, n)] = (char) prng_next(&prng);
		copy = realloc(copy, n > 0 ? n : 1);
		assert_non_null(copy);
		(void) !json_parse(copy, n, &memory, &r);
		(void) !tsv_parse(copy, n, &memory, &r);
		free(copy);
	}
	record_buf_free(&memory);
}

static void
test_tsv_lines(void **state)
{
	static const char *const bad[] = { "", "key", "\tvalue", "a\tb\tc", "a\\q\tb", "a\tb\\x1" };
	RecordBuf memory = { 0 };
	Record r;

	(void) state;
	assert_int_equal(tsv_parse("a\\tb\t", 5, &memory, &r), ST_OK);
	assert_true(slice_eq(slice_of(r.key.data, r.key.len), slice_str("a\tb")));
	assert_int_equal(r.value.len, 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (tsv_parse(bad[i], strlen(bad[i]), &memory, &r) == ST_OK)
			fail_msg("accepted %s", bad[i]);
	record_buf_free(&memory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known), cmocka_unit_test(test_unescape), cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_base64), cmocka_unit_test(test_records_round_trip), cmocka_unit_test(test_json_lines),
		cmocka_unit_test(test_json_damaged), cmocka_unit_test(test_tsv_lines),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
