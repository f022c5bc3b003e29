/*
 * test_speed.c - rates of this room alone, for whoever works on them: KVD_TEST_BENCH=WORK, one of those in
 * main(), on KVD_TEST_BENCH_N entries (default 1000000) with a cache of KVD_TEST_BENCH_CACHE MiB (256). Without
 * them it only sees that each of the works runs. Rates are printed, never judged.
 *
 *   KVD_TEST_BENCH=readseq perf stat -e instructions:u build/unit/storage/sstable/test_speed
 */
#define CACHE_BYTES test_env("KVD_TEST_BENCH_CACHE", 256) * (1024 * 1024)

#include <time.h>

#include <stdlib.h>

static long
test_env(const char *name, long def)
{
	const char *value = getenv(name);

	return value != NULL ? atol(value) : def;
}

#include "keyed_table.h"

static uint64_t n_entries;
static TableInfo table;
static struct timespec began;

static void
begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
}

static void
done(const char *what, uint64_t n)
{
	struct timespec now;
	double s;

	clock_gettime(CLOCK_MONOTONIC, &now);
	s = (double) (now.tv_sec - began.tv_sec) + (double) (now.tv_nsec - began.tv_nsec) * 1e-9;
	print_message("%-10s %9llu in %.3f s: %8.0f ns each\n", what, (unsigned long long) n, s, s * 1e9 / (double) n);
}

static void
scan(const char *what, TableIterOptions opt)
{
	Iter *it = table_iter(&table, opt);
	uint64_t n = 0;

	assert_non_null(it);
	begin();
	for (iter_seek_first(it); it->valid; iter_next(it))
		n += it->entry.value.len == VALUE_BYTES;
	assert_ok(it->status);
	assert_int_equal(n, n_entries);
	done(what, n);
	iter_close(it);
	epoch_unpin();
	epoch_pin(0);
}

static void
work_build(void)
{
	begin();
	make_table(n_entries, &table);
	done("build", n_entries);
}

static void
work_readseq(void)
{
	for (int round = 0; round < 5; round++)
		scan("readseq", (TableIterOptions){ .fill_cache = true });
}

static void
work_readpast(void)
{
	for (int round = 0; round < 5; round++)
		scan("readpast", (TableIterOptions){ .fill_cache = false });
}

static void
work_compact(void)
{
	for (int round = 0; round < 5; round++)
		scan("compact", (TableIterOptions){ .read_ahead = true });
}

static void
work_seek50(void)
{
	uint64_t n = n_entries / 50;
	Prng g;

	prng_seed(&g, 1);
	begin();
	for (uint64_t i = 0; i < n; i++) {
		Iter *it = table_iter(&table, (TableIterOptions){ .fill_cache = true });
		uint8_t key[KEY_BYTES];
		int steps = 0;

		assert_non_null(it);
		for (iter_seek(it, key_of(prng_below(&g, 2 * n_entries), key), UINT64_MAX); it->valid && steps < 50;
			iter_next(it))
			steps++;
		assert_ok(it->status);
		iter_close(it);
		epoch_unpin();
		epoch_pin(0);
	}
	done("seek50", n);
}

static void
work_get(void)
{
	Prng g;

	prng_seed(&g, 1);
	begin();
	for (uint64_t i = 0; i < n_entries; i++)
		assert_int_equal(get(&table, 2 * prng_below(&g, n_entries)), ST_OK);
	done("get", n_entries);
}

static void
test_speed(void **state)
{
	static const struct {
		const char *name;
		void (*work)(void);
	} works[] = {
		{ "build", work_build }, { "readseq", work_readseq }, { "readpast", work_readpast },
		{ "compact", work_compact }, { "seek50", work_seek50 }, { "get", work_get },
	};
	const char *which = getenv("KVD_TEST_BENCH");

	(void) state;
	n_entries = (uint64_t) test_env("KVD_TEST_BENCH_N", which == NULL ? 20000 : 1000000);
	make_table(n_entries, &table);
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		if (which == NULL || strcmp(which, works[i].name) == 0)
			works[i].work();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_speed),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
