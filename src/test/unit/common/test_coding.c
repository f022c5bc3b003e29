/* test_coding.c - integers at their bounds, and a reader that never passes its end. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/coding.h"
#include "common/prng.h"

static void
fixed_are_little_endian(void **state)
{
	uint8_t b[8];

	(void) state;
	put_u16(b, 0x0102);
	assert_memory_equal(b, "\x02\x01", 2);
	assert_int_equal(get_u16(b), 0x0102);
	put_u32(b, 0x01020304);
	assert_memory_equal(b, "\x04\x03\x02\x01", 4);
	assert_int_equal(get_u32(b), 0x01020304);
	put_u64(b, UINT64_C(0xf102030405060708));
	assert_memory_equal(b, "\x08\x07\x06\x05\x04\x03\x02\xf1", 8);
	assert_true(get_u64(b) == UINT64_C(0xf102030405060708));
	put_u16(b, UINT16_MAX);
	assert_int_equal(get_u16(b), UINT16_MAX);
}

static void
check_varint(uint64_t v, size_t len)
{
	uint8_t b[CODING_VARINT64_MAX];
	uint64_t back = ~v;

	assert_int_equal(put_varint(b, v) - b, len);
	assert_int_equal(varint_len(v), len);
	assert_ptr_equal(get_varint(b, b + len, &back), b + len);
	assert_true(back == v);
	/* Cut anywhere: refused. */
	for (size_t cut = 0; cut < len; cut++)
		assert_null(get_varint(b, b + cut, &back));
}

static void
varint_lengths(void **state)
{
	(void) state;
	check_varint(0, 1);
	for (unsigned len = 1; len < CODING_VARINT64_MAX; len++) {
		uint64_t first_longer = UINT64_C(1) << (7 * len);

		check_varint(first_longer - 1, len);
		check_varint(first_longer, len + 1);
		check_varint(first_longer + 1, len + 1);
	}
	check_varint(UINT32_MAX, CODING_VARINT32_MAX);
	check_varint(UINT64_MAX, CODING_VARINT64_MAX);
}

static void
varint_known_bytes(void **state)
{
	uint8_t b[CODING_VARINT64_MAX];

	(void) state;
	assert_int_equal(put_varint(b, 300) - b, 2);
	assert_memory_equal(b, "\xac\x02", 2);
}

static void
varint_too_large_is_refused(void **state)
{
	const uint8_t over_64_bits[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
	const uint8_t eleven[] = { 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00 };
	uint64_t v;

	(void) state;
	assert_null(get_varint(over_64_bits, over_64_bits + sizeof over_64_bits, &v));
	assert_null(get_varint(eleven, eleven + sizeof eleven, &v));
}

static void
varint_random_round_trips(void **state)
{
	Prng g;

	(void) state;
	prng_seed(&g, 1);
	for (int i = 0; i < 20000; i++) {
		uint64_t v = prng_next(&g) >> prng_below(&g, 64);

		check_varint(v, varint_len(v));
	}
}

static void
reader_reads_in_order(void **state)
{
	const uint8_t b[] = { 1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 'x', 'y' };
	Reader r = reader_of(b, sizeof b);

	(void) state;
	assert_int_equal(read_u8(&r), 1);
	assert_int_equal(read_u16(&r), 2);
	assert_int_equal(read_u32(&r), 3);
	assert_true(read_u64(&r) == 4);
	assert_true(read_varint(&r) == 300);
	assert_int_equal(reader_left(&r), 2);
	assert_true(slice_eq(read_bytes(&r, 2), slice_str("xy")));
	assert_int_equal(reader_left(&r), 0);
	assert_int_equal(read_bytes(&r, 0).len, 0);
	assert_true(reader_ok(&r));
}

static void
reader_stays_failed(void **state)
{
	const uint8_t b[] = { 1, 2, 3 };
	Reader r = reader_of(b, sizeof b);

	(void) state;
	assert_int_equal(read_u32(&r), 0);
	assert_false(reader_ok(&r));
	assert_int_equal(read_u8(&r), 0); /* though a byte is left */
	assert_true(read_varint(&r) == 0);
	assert_null(read_bytes(&r, 1).data);
	assert_false(reader_ok(&r));
}

static void
reader_takes_no_length_for_granted(void **state)
{
	const uint8_t b[] = { 1 };
	Reader r = reader_of(b, sizeof b);

	(void) state;
	assert_null(read_bytes(&r, SIZE_MAX).data);
	assert_false(reader_ok(&r));
	r = reader_of(b, 0);
	assert_true(read_varint(&r) == 0);
	assert_false(reader_ok(&r));
	r = reader_of(b, 1);
	assert_non_null(read_bytes(&r, 1).data);
	assert_null(read_bytes(&r, 1).data);
	assert_false(reader_ok(&r));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fixed_are_little_endian),
		cmocka_unit_test(varint_lengths),
		cmocka_unit_test(varint_known_bytes),
		cmocka_unit_test(varint_too_large_is_refused),
		cmocka_unit_test(varint_random_round_trips),
		cmocka_unit_test(reader_reads_in_order),
		cmocka_unit_test(reader_stays_failed),
		cmocka_unit_test(reader_takes_no_length_for_granted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
