/*
 * test_reads.c - how many reads from files a GET costs, with more data than cache.
 */
#define CACHE_BYTES (2 * 1024 * 1024)

#include "keyed_table.h"

#define READS_PER_1000 1050 /* what is promised */

static FsOps counting;
static uint64_t reads; /* preads since reset */

static Status
count_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	reads++;
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_per_get),
	};

	counting = fs_posix;
	counting.pread = count_pread;
	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
