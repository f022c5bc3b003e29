/* The file kvd.control. */
#include "wal_test.h"

static int
teardown(void **state)
{
	(void) state;
	(void) unlink(CONTROL_FILE);
	wal_test_dir_remove();
	return 0;
}

static void
test_known_bytes(void **state)
{
	static const uint8_t want[56] = { 'k',  'v',  'd',  'c',  't',  'r',  'l',  0,    1,    0,    0,    0,
									  0,    0x10, 0,    0,    0,    1,    2,    3,    4,    5,    6,    7,
									  8,    9,    10,   11,   12,   13,   14,   15,   8,    7,    6,    5,
									  4,    3,    2,    1,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
									  0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21 };
	Control c = { CONTROL_FORMAT, 4096, { 0 }, 0x0102030405060708, 0x1112131415161718, 0x2122232425262728 },
			back;
	uint8_t *file;
	size_t len;

	(void) state;
	for (int i = 0; i < 16; i++)
		c.cluster_id[i] = (uint8_t) i;
	assert_status(control_read(&back), ST_NOT_FOUND);
	assert_ok(control_write(&c));
	file = wal_test_load(CONTROL_FILE, &len);
	assert_int_equal(len, 60);
	assert_memory_equal(file, want, sizeof want);
	free(file);
	assert_ok(control_read(&back));
	assert_memory_equal(&back, &c, sizeof c);
}

static void
test_make(void **state)
{
	Control a, b;

	(void) state;
	assert_ok(control_make(&a, 1 << 20));
	assert_ok(control_make(&b, 1 << 20));
	assert_int_not_equal(a.crc_seed, b.crc_seed);
	assert_int_not_equal(a.node_incarnation, b.node_incarnation);
	assert_memory_not_equal(a.cluster_id, b.cluster_id, 16);
	assert_ok(control_make(&a, CONTROL_SEGMENT_MIN));
	assert_ok(control_make(&a, CONTROL_SEGMENT_MAX));
	assert_status(control_make(&a, CONTROL_SEGMENT_MIN / 2), ST_BAD_SETTING);
	assert_status(control_make(&a, CONTROL_SEGMENT_MIN - 1), ST_BAD_SETTING);
	assert_status(control_make(&a, CONTROL_SEGMENT_MIN + 1), ST_BAD_SETTING);
	assert_status(control_make(&a, CONTROL_SEGMENT_MAX + 1), ST_BAD_SETTING);
	assert_status(control_make(&a, CONTROL_SEGMENT_MAX * 2), ST_BAD_SETTING);
}

static void
test_every_flip_and_cut(void **state)
{
	uint8_t *file;
	size_t len;
	Control c;

	(void) state;
	assert_ok(control_make(&c, TEST_SEGMENT));
	assert_ok(control_write(&c));
	file = wal_test_load(CONTROL_FILE, &len);
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			file[i] ^= (uint8_t) (1 << bit);
			wal_test_store(CONTROL_FILE, file, len);
			assert_status(control_read(&c),
						  i < 8 || (i < 12 && (i > 8 || bit > 0)) ? ST_FOREIGN : ST_CORRUPT);
			file[i] ^= (uint8_t) (1 << bit);
		}
		wal_test_store(CONTROL_FILE, file, i);
		assert_status(control_read(&c), i < 12 ? ST_FOREIGN : ST_CORRUPT);
	}
	file = realloc(file, len + 1);
	file[len] = 0;
	wal_test_store(CONTROL_FILE, file, len + 1);
	assert_status(control_read(&c), ST_CORRUPT);
	free(file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_known_bytes, wal_test_setup, teardown),
		cmocka_unit_test_setup_teardown(test_make, wal_test_setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_flip_and_cut, wal_test_setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
