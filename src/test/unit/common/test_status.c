/* test_status.c - codes, details, and what errno turns into. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "common/status.h"

static void
names_and_texts(void **state)
{
	(void) state;
	assert_string_equal(status_name(ST_OK), "OK");
	assert_string_equal(status_name(1), "NOT_FOUND");
	assert_string_equal(status_text(1), "key not found");
	assert_string_equal(status_name(ST_USAGE), "USAGE");
	assert_string_equal(status_name(-1), "UNKNOWN");
	assert_string_equal(status_name(99), "UNKNOWN");
	assert_string_equal(status_text(99), "unknown code");
}

static void
numbers_of_the_protocol_are_final(void **state)
{
	(void) state;
	assert_int_equal(ST_CONDITION_FAILED, 2);
	assert_int_equal(ST_OUTCOME_UNKNOWN, 21);
	assert_int_equal(ST_IO_ERROR, 40);
	assert_int_equal(ST_FOREIGN, 44);
	assert_int_equal(ST_CANNOT_CONNECT, 100);
}

static void
detail_is_formatted_and_may_contain_itself(void **state)
{
	(void) state;
	assert_int_equal(status_fail(ST_CORRUPT, "block %d", 7), ST_CORRUPT);
	assert_string_equal(status_detail(), "block 7");
	assert_int_equal(status_fail(ST_CORRUPT, "table: %s", status_detail()), ST_CORRUPT);
	assert_string_equal(status_detail(), "table: block 7");
	assert_int_equal(status_prefix(ST_CORRUPT, "level %d", 2), ST_CORRUPT);
	assert_string_equal(status_detail(), "level 2: table: block 7");
}

static void
detail_is_cut_at_its_bound(void **state)
{
	char text[STATUS_DETAIL_MAX + 2];

	(void) state;
	for (int len = STATUS_DETAIL_MAX - 2; len <= STATUS_DETAIL_MAX + 1; len++) {
		memset(text, 'x', (size_t) len);
		text[len] = '\0';
		assert_int_equal(status_fail(ST_INTERNAL, "%s", text), ST_INTERNAL);
		assert_int_equal(strlen(status_detail()), len < STATUS_DETAIL_MAX ? len : STATUS_DETAIL_MAX - 1);
	}
	assert_int_equal(status_prefix(ST_INTERNAL, "%s", text), ST_INTERNAL);
	assert_int_equal(strlen(status_detail()), STATUS_DETAIL_MAX - 1);
	/* The reason survives a text that is too long. */
	errno = EACCES;
	assert_int_equal(status_fail_errno(ST_IO_ERROR, "%s", text), ST_IO_ERROR);
	assert_int_equal(strlen(status_detail()), STATUS_DETAIL_MAX - 1);
	assert_non_null(strstr(status_detail(), ": Permission denied"));
}

static void
errno_is_named_and_kept(void **state)
{
	(void) state;
	errno = EACCES;
	assert_int_equal(status_fail_errno(ST_IO_ERROR, "cannot open \"%s\"", "a"), ST_IO_ERROR);
	assert_string_equal(status_detail(), "cannot open \"a\": Permission denied");
	assert_int_equal(errno, EACCES);
}

static void
full_disk_has_its_own_code(void **state)
{
	(void) state;
	errno = ENOSPC;
	assert_int_equal(status_fail_errno(ST_IO_ERROR, "write"), ST_NO_SPACE);
	errno = EDQUOT;
	assert_int_equal(status_fail_errno(ST_IO_ERROR, "write"), ST_NO_SPACE);
	errno = ENOSPC;
	assert_int_equal(status_fail_errno(ST_INTERNAL, "other"), ST_INTERNAL);
}

static void *
fail_elsewhere(void *arg)
{
	(void) arg;
	assert_string_equal(status_detail(), "");
	assert_int_equal(status_prefix(ST_TIMEOUT, "elsewhere"), ST_TIMEOUT);
	assert_string_equal(status_detail(), "elsewhere: deadline passed, not done");
	return NULL;
}

static void
detail_belongs_to_the_thread(void **state)
{
	pthread_t t;

	(void) state;
	assert_int_equal(status_fail(ST_BUSY, "here"), ST_BUSY);
	assert_int_equal(pthread_create(&t, NULL, fail_elsewhere, NULL), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_string_equal(status_detail(), "here");
}

static Status
try_it(Status s, int *after)
{
	KV_TRY(s);
	*after = 1;
	return ST_OK;
}

static void
try_returns_failures(void **state)
{
	int after = 0;

	(void) state;
	assert_int_equal(try_it(ST_BUSY, &after), ST_BUSY);
	assert_int_equal(after, 0);
	assert_int_equal(try_it(ST_OK, &after), ST_OK);
	assert_int_equal(after, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_texts),
		cmocka_unit_test(numbers_of_the_protocol_are_final),
		cmocka_unit_test(detail_is_formatted_and_may_contain_itself),
		cmocka_unit_test(detail_is_cut_at_its_bound),
		cmocka_unit_test(errno_is_named_and_kept),
		cmocka_unit_test(full_disk_has_its_own_code),
		cmocka_unit_test(detail_belongs_to_the_thread),
		cmocka_unit_test(try_returns_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
