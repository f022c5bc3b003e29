/*
 * test_uri.c - URIs and environment to hosts and options.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "libkv_internal.h"

static void
test_environment(void **state)
{
	Options o;

	(void) state;
	unsetenv("KVD_HOST");
	unsetenv("KVD_PORT");
	assert_int_equal(options_parse(NULL, &o), ST_OK);
	assert_int_equal(o.host_count, 1);
	assert_string_equal(o.hosts[0].name, "127.0.0.1");
	assert_int_equal(o.hosts[0].port, 7400);
	assert_int_equal(o.timeout_ms, 5000);
	setenv("KVD_HOST", "a,b:1", 1);
	setenv("KVD_PORT", "99", 1);
	assert_int_equal(options_parse("", &o), ST_OK);
	assert_int_equal(o.host_count, 2);
	assert_int_equal(o.hosts[0].port, 99);
	assert_int_equal(o.hosts[1].port, 1);
	assert_int_equal(options_parse("kv:///?timeout=7ms", &o), ST_OK);
	assert_string_equal(o.hosts[0].name, "a");
	assert_int_equal(o.timeout_ms, 7);
	setenv("KVD_PORT", "0", 1);
	assert_int_equal(options_parse(NULL, &o), ST_USAGE);
	assert_non_null(strstr(status_detail(), "KVD_PORT"));
	unsetenv("KVD_HOST");
	unsetenv("KVD_PORT");
}

static void
test_good(void **state)
{
	Options o;

	(void) state;
	assert_int_equal(options_parse("kv://h1:1,[::1]:65535,h3/?timeout=1.5s&ack=local&read=local&name=a%20b&admin=yes",
		&o), ST_OK);
	assert_int_equal(o.host_count, 3);
	assert_string_equal(o.hosts[1].name, "::1");
	assert_int_equal(o.hosts[1].port, 65535);
	assert_int_equal(o.hosts[2].port, 7400);
	assert_int_equal(o.timeout_ms, 1500);
	assert_int_equal(o.ack, 1);
	assert_int_equal(o.read, 1);
	assert_string_equal(o.name, "a b");
	assert_true(o.admin);
	assert_int_equal(options_parse("kv://h", &o), ST_OK);
	assert_int_equal(options_parse("kv://h?ack=none", &o), ST_OK);
	assert_int_equal(o.ack, 2);
}

static void
test_bad(void **state)
{
	static const char *const bad[] = {
		"http://h/", "kv://h:0/", "kv://h:65536/", "kv://h:x/", "kv://h:/", "kv://,/", "kv://a,/", "kv://[::1/",
		"kv://::1/",
		"kv://[::1]x/", "kv://h/path", "kv://h/?timeout", "kv://h/?timeout=0", "kv://h/?timeout=5 s",
		"kv://h/?timeout=-1s",
		"kv://h/?timeout=25h", "kv://h/?ack=all", "kv://h/?read=x", "kv://h/?nme=x", "kv://h/?name=%2",
		"kv://h/?name=%",
		"kv://h/?name=%gg", "kv://h/?name=%00", "kv://h/?admin=1",
		"kv://h/?name=12345678901234567890123456789012345678901234567890123456789012345",
	};
	Options o;

	(void) state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (options_parse(bad[i], &o) != ST_USAGE)
			fail_msg("accepted: %s", bad[i]);
		assert_true(status_detail()[0] != '\0');
	}
}

/* The list of hosts ends at its bound, not beyond. */
static void
test_host_bounds(void **state)
{
	char uri[512] = "kv://h";
	size_t len = strlen(uri);
	char name[KV_HOST_NAME_MAX + 2];
	Options o;
	Host h;

	(void) state;
	for (int i = 1; i < KV_HOSTS_MAX; i++)
		len += (size_t) snprintf(uri + len, sizeof uri - len, ",h");
	assert_int_equal(options_parse(uri, &o), ST_OK);
	assert_int_equal(o.host_count, KV_HOSTS_MAX);
	snprintf(uri + len, sizeof uri - len, ",h");
	assert_int_equal(options_parse(uri, &o), ST_USAGE);
	memset(name, 'h', sizeof name);
	assert_int_equal(host_parse(name, KV_HOST_NAME_MAX, 1, &h), ST_OK);
	assert_int_equal(host_parse(name, KV_HOST_NAME_MAX + 1, 1, &h), ST_USAGE);
}

static void
test_ranges(void **state)
{
	Range r;

	(void) state;
	assert_int_equal(range_of(&(kv_range){ .prefix = kv_str("ab") }, &r), ST_OK);
	assert_true(slice_eq(slice_buf(&r.start), slice_str("ab")) && slice_eq(slice_buf(&r.end), slice_str("ac")));
	assert_false(r.unbounded || r.empty);
	range_free(&r);
	assert_int_equal(range_of(&(kv_range){ .prefix = kv_str("ab"), .start = kv_str("a"), .end = kv_str("abx") }, &r),
		ST_OK);
	assert_true(slice_eq(slice_buf(&r.start), slice_str("ab")) && slice_eq(slice_buf(&r.end), slice_str("abx")));
	range_free(&r);
	assert_int_equal(range_of(&(kv_range){ .prefix = kv_str("\xff\xff") }, &r), ST_OK);
	assert_true(r.unbounded);
	range_free(&r);
	assert_int_equal(range_of(&(kv_range){ .prefix = kv_str("\xff"), .end = kv_str("b") }, &r), ST_OK);
	assert_true(r.empty);
	range_free(&r);
	assert_int_equal(range_of(&(kv_range){ .end = kv_str("") }, &r), ST_OK);
	assert_true(r.empty);
	range_free(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_environment), cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_host_bounds), cmocka_unit_test(test_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
