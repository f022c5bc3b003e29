/*
 * test_speed.c - rates of this room alone, for whoever works on them: KVD_TEST_BENCH=WORK, one of those in
 * main(), with KVD_TEST_BENCH_N entries (default 1000000) in the last level and a fifth of that in each of
 * four tables of level 0. Without them it only sees that each of the works runs. Rates are printed, never
 * judged.
 *
 *   KVD_TEST_BENCH=compact perf stat -e instructions:u build/unit/storage/lsm/test_speed
 */
#include "lsm_test.h"

#include <time.h>

#define L0_TABLES 4
#define BENCH_KEY 17   /* the byte of the keyspace and 16 more */
#define BENCH_VALUE 100

typedef struct RandomIter {
	Iter base;
	const uint64_t *keys;  /* sorted */
	uint64_t n, i, version;
	uint8_t key[BENCH_KEY], value[BENCH_VALUE];
} RandomIter;

static uint64_t n_entries;
static struct timespec began;

static void
begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
}

static void
done(const char *what, uint64_t n, uint64_t bytes)
{
	struct timespec now;
	double s;

	clock_gettime(CLOCK_MONOTONIC, &now);
	s = (double) (now.tv_sec - began.tv_sec) + (double) (now.tv_nsec - began.tv_nsec) * 1e-9;
	print_message("%-10s %9llu in %.3f s: %6.0f ns each, %.0f MB/s\n", what, (unsigned long long) n, s,
	              s * 1e9 / (double) n, (double) bytes / 1e6 / s);
}

static void
random_show(RandomIter *it)
{
	it->base.valid = it->i < it->n;
	if (!it->base.valid)
		return;
	snprintf((char *) it->key, sizeof it->key, "%016llu", (unsigned long long) it->keys[it->i]);
	it->base.entry = (Entry){ .key = slice_of(it->key, BENCH_KEY - 1),
		                  .value = slice_of(it->value, BENCH_VALUE),
		                  .version = it->version + it->i };
}

static void
random_first(Iter *base)
{
	((RandomIter *) base)->i = 0;
	random_show((RandomIter *) base);
}

static void
random_next(Iter *base)
{
	((RandomIter *) base)->i++;
	random_show((RandomIter *) base);
}

static int
number_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

/* A table of level 0 with n random ones of 2 * n_entries keys. */
static void
flush_random(Prng *g, uint64_t n)
{
	static const IterOps random_ops = { .seek_first = random_first, .next = random_next };
	uint64_t *keys = malloc(n * sizeof *keys), distinct = 0;
	RandomIter it = { .base = { .ops = &random_ops }, .keys = keys, .version = published->flushed };
	LsmState state = { published->flushed + n + 1, 1, 1 };
	Version *v;

	assert_non_null(keys);
	for (uint64_t i = 0; i < n; i++)
		keys[i] = prng_below(g, 2 * n_entries);
	qsort(keys, n, sizeof *keys, number_order);
	for (uint64_t i = 0; i < n; i++)
		if (distinct == 0 || keys[distinct - 1] != keys[i])
			keys[distinct++] = keys[i];
	it.n = distinct;
	ok(lsm_flush(&it.base, &state, UINT64_MAX, &v));
	publish_and_collect(v);
	free(keys);
}

static void
compact_all(void)
{
	LsmCompactOptions opt = { .oldest = UINT64_MAX };
	Version *v;

	ok(lsm_compact_all(&opt, &v));
	publish_and_collect(v);
}

static void
start(void)
{
	Prng g;

	prng_seed(&g, 1);
	fresh_directory();
	fresh_memory(TEST_HEAP);
	config_init();
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	flush_random(&g, n_entries);
	compact_all();
	for (int i = 0; i < L0_TABLES; i++)
		flush_random(&g, n_entries / 5);
}

static uint64_t
entries_in(const Version *v)
{
	uint64_t n = 0;

	for (int level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < v->ntables[level]; i++)
			n += v->tables[level][i]->info.entries;
	return n;
}

/* Level 0 into the last level: read, merge, write. Counts entries read, bytes written. */
static void
work_compact(void)
{
	uint64_t n = entries_in(published);

	begin();
	compact_all();
	done("compact", n, published->bytes[LSM_LEVELS - 1]);
}

/* Many small sources over one another, as a scan has them. */
static void
walk(const char *what, TableIterOptions opt)
{
	Iter *it = lsm_iter(published, opt);
	uint64_t n = 0;

	assert_non_null(it);
	epoch_pin(0);
	begin();
	for (iter_seek_first(it); it->valid; iter_next(it))
		n += it->entry.value.len == BENCH_VALUE;
	ok(it->status);
	assert_int_equal(n, entries_in(published));
	done(what, n, n * (BENCH_KEY + BENCH_VALUE));
	iter_close(it);
	epoch_unpin();
}

static void
work_merge(void)
{
	for (int round = 0; round < 5; round++)
		walk("merge", (TableIterOptions){ .read_ahead = true });
}

static void
work_readseq(void)
{
	compact_all();
	for (int round = 0; round < 5; round++)
		walk("readseq", (TableIterOptions){ .read_ahead = true });
}

static void
test_speed(void **state)
{
	static const struct { const char *name; void (*run)(void); } works[] = {
		{ "compact", work_compact }, { "merge", work_merge }, { "readseq", work_readseq },
	};
	const char *which = getenv("KVD_TEST_BENCH"), *count = getenv("KVD_TEST_BENCH_N");

	(void) state;
	n_entries = count != NULL ? strtoull(count, NULL, 10) : which != NULL ? 1000000 : 5000;
	for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
		if (which != NULL && strcmp(which, works[i].name) != 0)
			continue;
		start();
		works[i].run();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_speed) };

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
