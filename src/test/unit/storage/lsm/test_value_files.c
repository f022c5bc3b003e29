/*
 * test_value_files.c - where a value file ends and the next one begins: at its bound, in flushes and in compactions.
 */
#include "letters.h"

static Status
no_writeback(int fd, uint64_t off, uint64_t len)
{
	(void) fd, (void) off, (void) len;
	return ST_OK;
}

static void
start(void)
{
	quick_fs.writeback = no_writeback;
	fresh_directory();
	config_init();
	config.blob_threshold = 1024;
	config.memtable_size = 64; /* no file is small */
	value_file_bytes = VALUE_FILE_BYTES;
	ok(lsm_create(1));
	reopen();
}

/* So many, on disk and in the list. */
static void
expect_files(int want)
{
	int n = 0;

	ok(fs_list(VALUE_DIR, count_name, &n));
	assert_int_equal(n, want);
	assert_int_equal(published->nvalues, want);
}

static void
expect(const char *keys, uint64_t version, size_t len)
{
	epoch_pin(0);
	for (; *keys != '\0'; keys++) {
		Entry e;

		ok(lsm_get(published, slice_of(keys, 1), UINT64_MAX, &e));
		assert_int_equal(e.value.len, len);
		assert_int_equal(e.value.data[0], version & 0xff);
		assert_int_equal(e.value.data[len - 1], version & 0xff);
	}
	epoch_unpin();
}

/* Three values: the second takes the file to its bound, or not. */
static void
a_file_ends_with_the_value_that_takes_it_to_its_bound(void **state)
{
	const uint64_t second = 2 * 1500;

	(void) state;
	for (uint64_t bound = second - 1; bound <= second + 1; bound++) {
		start();
		value_file_bytes = bound;
		ok(flush_letters("abc", 10, 1500));
		expect_files(bound <= second ? 2 : 1);
		expect("abc", 10, 1500);
		reopen();
		expect_files(bound <= second ? 2 : 1);
		expect("abc", 10, 1500);
	}
}

static void
the_bound_of_a_file_is_64_mib(void **state)
{
	(void) state;
	start();
	ok(flush_letters("abcd", 10, KV_VALUE_MAX)); /* with these it is reached, and nothing comes behind them */
	expect_files(1);
	assert_true(published->values[0].file->info.bytes > VALUE_FILE_BYTES);
	start();
	ok(flush_letters("abcde", 10, KV_VALUE_MAX));
	expect_files(2);
	expect("abcde", 10, KV_VALUE_MAX);
}

/* Three of eight values are left: they are copied, into files with a bound of two. */
static void
a_compaction_begins_files_at_the_same_bound(void **state)
{
	(void) state;
	start();
	ok(flush_letters("abcdefgh", 10, 2000));
	ok(flush_letters("abcde", 40, 2000));
	expect_files(2);
	value_file_bytes = 4000;
	for (int i = 0; i < 5; i++) { /* the first leaves values where they are, and marks the table */
		LsmCompactOptions opt = { .oldest = UINT64_MAX };
		Version *v = NULL;

		if (i == 0)
			ok(lsm_compact_all(&opt, &v));
		else
			ok(lsm_compact(&opt, &v));
		if (v != NULL)
			publish_and_collect(v);
	}
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 6000);
	expect_files(3);
	expect("abcde", 40, 2000);
	expect("fgh", 10, 2000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_ends_with_the_value_that_takes_it_to_its_bound),
		cmocka_unit_test(the_bound_of_a_file_is_64_mib),
		cmocka_unit_test(a_compaction_begins_files_at_the_same_bound),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
