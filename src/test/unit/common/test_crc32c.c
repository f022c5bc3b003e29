/* test_crc32c.c - published answers (RFC 3720 B.4), and both versions against each other. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/crc32c.h"
#include "common/prng.h"

static void
check(const void *data, size_t len, uint32_t want)
{
	assert_int_equal(crc32c(0, data, len), want);
	assert_int_equal(crc32c_portable(0, data, len), want);
}

static void
known_answers(void **state)
{
	/* An iSCSI SCSI Read (10) command PDU */
	const uint8_t pdu[48] = { 0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04,
		0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0 };
	uint8_t b[32];

	(void) state;
	check("", 0, 0);
	check("123456789", 9, 0xe3069283);
	memset(b, 0, sizeof b);
	check(b, sizeof b, 0x8a9136aa);
	memset(b, 0xff, sizeof b);
	check(b, sizeof b, 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t) i;
	check(b, sizeof b, 0x46dd794e);
	for (int i = 0; i < 32; i++)
		b[i] = (uint8_t) (31 - i);
	check(b, sizeof b, 0x113fdb5c);
	check(pdu, sizeof pdu, 0xd9963a56);
}

static uint8_t noise[20000];

static void
both_versions_agree_at_every_length_and_offset(void **state)
{
	(void) state;
	for (size_t off = 0; off < 8; off++)
		for (size_t len = 0; len < 2100; len++)
			assert_int_equal(crc32c(7, noise + off, len), crc32c_portable(7, noise + off, len));
	for (size_t len = 2100; len < sizeof noise; len += 89)
		assert_int_equal(crc32c((uint32_t) len, noise, len), crc32c_portable((uint32_t) len, noise, len));
}

static void
pieces_continue(void **state)
{
	uint32_t whole = crc32c(0, noise, 2200);

	(void) state;
	for (size_t cut = 0; cut <= 2200; cut++)
		assert_int_equal(crc32c(crc32c(0, noise, cut), noise + cut, 2200 - cut), whole);
}

static void
every_bit_counts(void **state)
{
	uint32_t whole = crc32c(0, noise, 1100);

	(void) state;
	for (unsigned bit = 0; bit < 1100 * 8; bit++) {
		noise[bit / 8] ^= (uint8_t) (1u << bit % 8);
		assert_int_not_equal(crc32c(0, noise, 1100), whole);
		noise[bit / 8] ^= (uint8_t) (1u << bit % 8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(both_versions_agree_at_every_length_and_offset),
		cmocka_unit_test(pieces_continue),
		cmocka_unit_test(every_bit_counts),
	};
	Prng g;

	prng_seed(&g, 32);
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (uint8_t) prng_next(&g);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
