/* Bytes of a record, and every reason to refuse one. */
#include "wal_test.h"

#include "common/coding.h"
#include "common/crc32c.h"

#define MAX 1024

static WalHeader
sound(void)
{
	return (WalHeader){ .length = 45, .lsn = 4096, .term = 7, .log_time = 99, .kind = WAL_WRITE, .count = 1 };
}

static void
test_known_bytes(void **state)
{
	/* doc/formats.md shows these bytes; a change of them is a new format. */
	static const uint8_t want[WAL_HEADER_SIZE] = {
		0x44, 0x33, 0x22, 0x11, 45,   0,    0,    0,    /* crc, length */
		0x00, 0x10, 0,    0,    0,    0,    0,    0,    /* lsn 4096 */
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* term */
		0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, /* log_time */
		1,    0,    0,    0,    0x0d, 0x0c, 0x0b, 0x0a  /* kind, flags, reserved, count */
	};
	WalHeader h = { .crc = 0x11223344,
					.length = 45,
					.lsn = 4096,
					.term = 0x0102030405060708,
					.log_time = 0x123456789abcdef0,
					.kind = WAL_WRITE,
					.count = 0x0a0b0c0d },
			  back;
	uint8_t raw[WAL_HEADER_SIZE];

	(void) state;
	wal_header_encode(&h, raw);
	assert_memory_equal(raw, want, sizeof want);
	wal_header_decode(raw, &back);
	assert_memory_equal(&back, &h, sizeof h);
}

static void
test_whole_record(void **state)
{
	/* A TIME record as the log of seed 42 holds it; the CRC was computed bit by bit, apart from crc32c.c. */
	WalHeader h = { .length = 40, .lsn = 4096, .term = 1, .log_time = 1000, .kind = WAL_TIME };
	uint8_t raw[WAL_HEADER_SIZE];
	uint32_t crc = ~42u;

	(void) state;
	wal_header_encode(&h, raw);
	for (int i = 4; i < WAL_HEADER_SIZE; i++) {
		crc ^= raw[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	put_u32(raw, ~crc);
	assert_int_equal(wal_record_crc(42, raw), ~crc);
	wal_header_decode(raw, &h);
	assert_null(wal_header_check(&h, 4096, 1, MAX));
	assert_null(wal_record_check(raw, &h, 1, 42));
	assert_non_null(wal_record_check(raw, &h, 1, 43)); /* another cluster's seed */
}

#define REFUSED(change)                                                                                      \
	do {                                                                                                     \
		WalHeader h_ = sound();                                                                              \
		change;                                                                                              \
		assert_non_null(wal_header_check(&h_, 4096, 7, MAX));                                                \
	} while (0)
#define ACCEPTED(change)                                                                                     \
	do {                                                                                                     \
		WalHeader h_ = sound();                                                                              \
		change;                                                                                              \
		assert_null(wal_header_check(&h_, 4096, 7, MAX));                                                    \
	} while (0)

static void
test_header_bounds(void **state)
{
	(void) state;
	ACCEPTED((void) h_);
	REFUSED(h_.lsn = 4088);
	REFUSED(h_.lsn = 4104);
	REFUSED(h_.length = 0);
	REFUSED(h_.length = 39);
	ACCEPTED(h_.length = 40);
	ACCEPTED(h_.length = 41);
	ACCEPTED(h_.length = MAX - 1);
	ACCEPTED(h_.length = MAX);
	REFUSED(h_.length = MAX + 1);
	REFUSED(h_.length = UINT32_MAX);
	REFUSED(h_.kind = 0);
	REFUSED(h_.kind = WAL_KIND_MAX + 1);
	ACCEPTED((h_.kind = WAL_TIME, h_.count = 0));
	REFUSED(h_.kind = WAL_TIME); /* with a count */
	REFUSED(h_.flags = 1);
	REFUSED(h_.reserved = 1);
	REFUSED(h_.term = 0);
	REFUSED(h_.term = 6);
	REFUSED(h_.term = 8); /* L1: only TERM changes it */
	ACCEPTED((h_.kind = WAL_TERM, h_.count = 0, h_.length = 48, h_.term = 8));
	REFUSED((h_.kind = WAL_TERM, h_.count = 0, h_.length = 48, h_.term = 7));
	REFUSED((h_.kind = WAL_TERM, h_.count = 0, h_.length = 47, h_.term = 8));
	REFUSED((h_.kind = WAL_TERM, h_.count = 0, h_.length = 49, h_.term = 8));
}

static void
test_term_names_its_predecessor(void **state)
{
	WalHeader h = { .length = 48, .lsn = 4096, .term = 9, .kind = WAL_TERM };
	uint8_t raw[48];

	(void) state;
	wal_header_encode(&h, raw);
	put_u64(raw + 40, 7);
	put_u32(raw, h.crc = wal_record_crc(crc32c(42, raw + 40, 8), raw));
	assert_null(wal_record_check(raw, &h, 7, 42));
	assert_non_null(wal_record_check(raw, &h, 8, 42));
	assert_null(wal_record_check(raw, &h, UINT64_MAX, 42));
}

static void
test_sizes(void **state)
{
	(void) state;
	assert_int_equal(wal_record_size(0), 40);
	assert_int_equal(wal_record_size(1), 48);
	assert_int_equal(wal_record_size(8), 48);
	assert_int_equal(wal_record_size(9), 56);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_bytes),   cmocka_unit_test(test_whole_record),
		cmocka_unit_test(test_header_bounds), cmocka_unit_test(test_term_names_its_predecessor),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
