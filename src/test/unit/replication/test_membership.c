/* test_membership.c - the body of a CONFIG record: round trip, every cut, every bound. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "replication/membership.h"

static Membership
some(int n)
{
	Membership m = { .n = n };

	for (int i = 0; i < n && i < MEMBERSHIP_NODES_MAX; i++) {
		memset(m.node[i].name, 'a' + i, (size_t) (i % 3 == 0 ? MEMBERSHIP_NAME_MAX : 1));
		m.node[i].incarnation = UINT64_C(0x0102030405060708) * (uint64_t) (i + 1);
	}
	return m;
}

static void
round_trip(void **state)
{
	(void) state;
	for (int n = 1; n <= MEMBERSHIP_NODES_MAX; n++) {
		Membership m = some(n), back;
		Buf b = { 0 };

		assert_int_equal(membership_encode(&m, &b), ST_OK);
		assert_int_equal(membership_decode(slice_buf(&b), &back), ST_OK);
		assert_memory_equal(&m, &back, sizeof m);
		buf_free(&b);
	}
}

static void
the_bytes_are_these(void **state)
{
	static const uint8_t want[] = { 1, 0, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1, 5, 'n', 'o', 'd', 'e', '1' };
	Membership m = { .n = 1, .node = { { "node1", UINT64_C(0x0102030405060708) } } };
	Buf b = { 0 };

	(void) state;
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
	buf_free(&b);
}

static void
bounds(void **state)
{
	Membership m = some(MEMBERSHIP_NODES_MAX), out;
	Buf b = { 0 };

	(void) state;
	m.n = 0;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m.n = MEMBERSHIP_NODES_MAX + 1;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	m.node[0].name[0] = '\0';
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	memset(m.node[0].name, 'x', sizeof m.node[0].name); /* no NUL: one too long */
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	buf_clear(&b);
	m = some(2);
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	b.data[0] = MEMBERSHIP_FORMAT + 1;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_BAD_VERSION);
	b.data[0] = MEMBERSHIP_FORMAT;
	b.data[2] = 0;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	b.data[2] = MEMBERSHIP_NODES_MAX + 1;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	b.data[2] = 2;
	b.data[13] = '\0'; /* a NUL within a name */
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	buf_free(&b);
}

static void
every_cut_and_one_byte_more(void **state)
{
	Membership m = some(3), out;
	Buf b = { 0 };

	(void) state;
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	for (size_t len = 0; len < b.len; len++)
		assert_int_equal(membership_decode(slice_of(b.data, len), &out), ST_CORRUPT);
	assert_int_equal(buf_append(&b, "", 1), ST_OK);
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(the_bytes_are_these),
		cmocka_unit_test(bounds),
		cmocka_unit_test(every_cut_and_one_byte_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
