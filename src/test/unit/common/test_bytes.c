/* test_bytes.c - slices, buffers, the end of a prefix, and memory that runs out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/bytes.h"

/* Under AddressSanitizer an impossible malloc shall return NULL, as it does without. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static Slice
sl(const char *s)
{
	return slice_str(s);
}

static void
order_is_of_unsigned_bytes(void **state)
{
	(void) state;
	assert_true(slice_cmp(sl("a"), sl("b")) < 0);
	assert_true(slice_cmp(sl("\x7f"), sl("\x80")) < 0);
	assert_true(slice_cmp(sl("ab"), sl("a")) > 0);
	assert_true(slice_cmp(sl(""), sl("a")) < 0);
	assert_int_equal(slice_cmp(slice_of(NULL, 0), sl("")), 0);
	assert_true(slice_cmp(slice_of("a\0", 2), slice_of("a\0b", 3)) < 0);
	assert_true(slice_eq(slice_of(NULL, 0), sl("")));
	assert_false(slice_eq(sl("a"), sl("b")));
	assert_false(slice_eq(sl("a"), sl("aa")));
}

static void
prefixes(void **state)
{
	(void) state;
	assert_true(slice_has_prefix(sl("abc"), sl("ab")));
	assert_true(slice_has_prefix(sl("abc"), sl("abc")));
	assert_true(slice_has_prefix(sl("abc"), slice_of(NULL, 0)));
	assert_false(slice_has_prefix(sl("ab"), sl("abc")));
	assert_false(slice_has_prefix(sl("abc"), sl("b")));
}

static void
check_prefix_end(Slice prefix, Slice want, bool want_unbounded)
{
	Buf out = { 0 };
	bool unbounded = !want_unbounded;

	assert_int_equal(buf_append_slice(&out, sl("leftover")), ST_OK);
	assert_int_equal(slice_prefix_end(prefix, &out, &unbounded), ST_OK);
	assert_int_equal(unbounded, want_unbounded);
	assert_true(slice_eq(slice_buf(&out), want));
	buf_free(&out);
}

static void
end_of_a_prefix(void **state)
{
	(void) state;
	check_prefix_end(sl("ab"), sl("ac"), false);
	check_prefix_end(sl("a\xff"), sl("b"), false);
	check_prefix_end(sl("a\xfe\xff\xff"), sl("a\xff"), false);
	check_prefix_end(slice_of("\0", 1), sl("\x01"), false);
	check_prefix_end(sl("\xff\xff"), sl(""), true);
	check_prefix_end(sl(""), sl(""), true);
}

static void
end_of_a_prefix_in_place(void **state)
{
	Buf b = { 0 };
	bool unbounded;

	(void) state;
	assert_int_equal(buf_append_slice(&b, sl("a\xff")), ST_OK);
	assert_int_equal(slice_prefix_end(slice_buf(&b), &b, &unbounded), ST_OK);
	assert_true(slice_eq(slice_buf(&b), sl("b")));
	buf_free(&b);
}

static void
buffer_grows_and_keeps_content(void **state)
{
	Buf b = { 0 };

	(void) state;
	for (unsigned i = 0; i < 5000; i++) {
		uint8_t byte = (uint8_t) i;

		assert_int_equal(buf_append(&b, &byte, 1), ST_OK);
		assert_true(b.len <= b.cap);
	}
	assert_int_equal(b.len, 5000);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(b.data[i], (uint8_t) i);
	assert_true(b.cap < 5000 * 2 + 64);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_true(b.cap >= 5000);
	buf_free(&b);
	assert_null(b.data);
	assert_int_equal(b.cap, 0);
}

static void
empty_appends_are_free(void **state)
{
	Buf b = { 0 };

	(void) state;
	assert_int_equal(buf_append(&b, NULL, 0), ST_OK);
	assert_int_equal(buf_reserve(&b, 0), ST_OK);
	assert_int_equal(buf_set(&b, slice_of(NULL, 0)), ST_OK);
	assert_null(b.data);
}

static void
set_takes_a_part_of_itself(void **state)
{
	Buf b = { 0 };

	(void) state;
	assert_int_equal(buf_append_slice(&b, sl("0123456789")), ST_OK);
	assert_int_equal(buf_set(&b, slice_of(b.data + 2, 8)), ST_OK);
	assert_true(slice_eq(slice_buf(&b), sl("23456789")));
	assert_int_equal(buf_set(&b, slice_buf(&b)), ST_OK);
	assert_true(slice_eq(slice_buf(&b), sl("23456789")));
	buf_free(&b);
}

static void
printf_appends(void **state)
{
	Buf b = { 0 };

	(void) state;
	assert_int_equal(buf_printf(&b, "%s", ""), ST_OK);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_printf(&b, "%d-%s", 42, "x"), ST_OK);
	assert_int_equal(buf_printf(&b, "%0200d", 7), ST_OK);
	assert_int_equal(b.len, 204);
	assert_memory_equal(b.data, "42-x000", 7);
	assert_int_equal(b.data[203], '7');
	buf_free(&b);
}

static void
no_memory_is_a_status_and_changes_nothing(void **state)
{
	Buf b = { 0 };
	Slice huge;

	(void) state;
	assert_int_equal(buf_append_slice(&b, sl("kept")), ST_OK);
	huge = slice_of(b.data, SIZE_MAX / 2 - 8);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), ST_OUT_OF_MEMORY);
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 4), ST_OUT_OF_MEMORY);
	assert_int_equal(buf_set(&b, huge), ST_OUT_OF_MEMORY);
	assert_true(slice_eq(slice_buf(&b), sl("kept")));
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_is_of_unsigned_bytes),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(end_of_a_prefix),
		cmocka_unit_test(end_of_a_prefix_in_place),
		cmocka_unit_test(buffer_grows_and_keeps_content),
		cmocka_unit_test(empty_appends_are_free),
		cmocka_unit_test(set_takes_a_part_of_itself),
		cmocka_unit_test(printf_appends),
		cmocka_unit_test(no_memory_is_a_status_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
