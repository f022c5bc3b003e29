/*
 * test_reads.c - how many reads from files a GET costs, with more data than cache.
 */
#define CACHE_BYTES (2 * 1024 * 1024)

#include "keyed_table.h"

#define READS_PER_1000 1050 /* what is promised */

static FsOps counting;
static uint64_t reads, bytes; /* preads since reset */

static Status
count_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	reads++;
	bytes += len;
	return fs_posix.pread(fd, buf, len, off, got);
}

/* Reads per 1000 GETs of keys among [0, among) in steps of 2 from `first` on. */
static uint64_t
reads_per_1000(const TableInfo *t, uint64_t among, uint64_t first, uint64_t n, Prng *g, Status want)
{
	reads = 0;
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(get(t, first + 2 * prng_below(g, among)), want);
	return reads * 1000 / n;
}

static void
scan_all(const TableInfo *t)
{
	Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = true });
	uint64_t n = 0;

	assert_non_null(it);
	for (iter_seek_first(it); it->valid; iter_next(it))
		n++;
	assert_ok(it->status);
	assert_int_equal(n, t->entries);
	iter_close(it);
	epoch_unpin();
	epoch_pin(0);
}

/* With data `times` the cache: what a GET reads is its data block; what an absent key reads, next to nothing. */
static void
check_ratio(uint64_t times)
{
	uint64_t n = times * CACHE_BYTES / 116, present, absent, after_scan;
	TableInfo t;
	Prng g;

	prng_seed(&g, times);
	make_table(n, &t);
	(void) reads_per_1000(&t, n, 0, 3 * times * CACHE_BYTES / 4096, &g, ST_OK);
	present = reads_per_1000(&t, n, 0, 20000, &g, ST_OK);
	absent = reads_per_1000(&t, n, 1, 20000, &g, ST_NOT_FOUND);
	scan_all(&t);
	after_scan = reads_per_1000(&t, n, 0, 5000, &g, ST_OK);
	print_message("data %llu times the cache: reads per 1000 GETs: %llu, absent keys %llu, after a scan %llu\n",
	              (unsigned long long) times, (unsigned long long) present, (unsigned long long) absent,
	              (unsigned long long) after_scan);
	assert_true(present <= READS_PER_1000 && absent <= 30 && after_scan <= READS_PER_1000);
}

static void
test_reads_per_get(void **state)
{
	(void) state;
	fs = &counting;
	check_ratio(4);
	check_ratio(10);
	check_ratio(20);
	fs = &fs_posix;
}

/* `steps` entries from key i on, forward or back; what that took is in reads and bytes. */
static void
walk(const TableInfo *t, uint64_t i, uint64_t steps, bool back, bool fill)
{
	Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = fill });
	uint8_t key[KEY_BYTES];
	uint64_t n = 0;

	assert_non_null(it);
	reads = bytes = 0;
	if (back)
		iter_seek_before(it, key_of(i, key), UINT64_MAX);
	else
		iter_seek(it, key_of(i, key), UINT64_MAX);
	while (it->valid && ++n < steps) {
		if (back)
			iter_prev(it);
		else
			iter_next(it);
	}
	assert_ok(it->status);
	assert_int_equal(n, steps);
	iter_close(it);
	epoch_unpin();
	epoch_pin(0);
}

/* A long walk reads in large pieces, a short one no block that it does not look at. */
static void
test_read_ahead(void **state)
{
	const uint64_t n = 200000, block = 4096 + 5;
	uint64_t bytes_first;
	TableInfo t;

	(void) state;
	make_table(n, &t);
	fs = &counting;
	(void) get(&t, 0); /* opens the file */
	for (int back = 0; back < 2; back++) {
		uint64_t from = back ? 2 * n : 0;

		walk(&t, n, 40, back, false); /* root, leaf, two or three blocks: 36 entries a block */
		assert_true(reads <= 5 && bytes <= 5 * block);
		walk(&t, from, n, back, false);
		print_message("%s: %llu reads, %llu bytes of a file of %llu\n", back ? "back" : "forward",
		              (unsigned long long) reads, (unsigned long long) bytes, (unsigned long long) t.bytes);
		/* the index's own blocks are read one by one, the data's in pieces that grow to 256 KiB */
		assert_true(reads <= t.bytes / 4096 / 100 + t.bytes / (256 * 1024) + 12);
		assert_true(bytes <= t.bytes + t.bytes / 4);
		walk(&t, from, n / 100, back, true);
		bytes_first = bytes;
		walk(&t, from, n / 100, back, true); /* from the cache, but for what newer blocks of the scan pushed out */
		assert_true(bytes < bytes_first / 3);
	}
	fs = &fs_posix;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_per_get),
		cmocka_unit_test(test_read_ahead),
	};

	counting = fs_posix;
	counting.pread = count_pread;
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
