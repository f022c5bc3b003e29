/*
 * How long it takes to fill a memtable in random order and to walk it, as apply and flush do. Figures for people,
 * asserted nowhere; run with KVD_TEST_BENCH=1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/hash.h"
#include "storage/memtable.h"

#define KEYS 384000 /* a multiple of the batch */
#define ARENA ((size_t) 80 << 20)
#define KEY 17
#define VALUE 100
#define ROUNDS 5

static uint8_t keys[MEMTABLE_BATCH][KEY], value[VALUE];

/* Keys of enginebench: a keyspace byte, 8 bytes big-endian below 10 M, zeros. */
static void
make_entry(Entry *e, int slot, uint64_t i)
{
	uint64_t k = __builtin_bswap64(hash_mix(i) % 10000000);

	keys[slot][0] = 1;
	memcpy(keys[slot] + 1, &k, 8);
	memset(keys[slot] + 9, '0', 8);
	*e = (Entry){ .key = slice_of(keys[slot], KEY), .value = slice_of(value, VALUE), .version = i + 1 };
}

/* CPU time of this process: others on the machine matter less. */
static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

static double
fill(Memtable *m)
{
	double began = now_ns();

	for (uint64_t i = 0; i < KEYS; i += MEMTABLE_BATCH) {
		Entry e[MEMTABLE_BATCH];

		for (int k = 0; k < MEMTABLE_BATCH; k++)
			make_entry(&e[k], k, i + (uint64_t) k);
		assert_int_equal(memtable_add_many(m, e, MEMTABLE_BATCH), ST_OK);
	}
	return (now_ns() - began) / KEYS;
}

static double
walk(const Memtable *m)
{
	double began = now_ns();
	uint64_t n = 0;
	Iter *it = memtable_iter(m);
	uint8_t copy[VALUE];
	volatile uint8_t sink;

	assert_non_null(it);
	for (iter_seek_first(it); it->valid; iter_next(it)) {
		memcpy(copy, it->entry.value.data, VALUE);
		sink = copy[n++ % VALUE];
	}
	(void) sink;
	iter_close(it);
	assert_int_equal(n, KEYS);
	return (now_ns() - began) / KEYS;
}

static void
speed(void **state)
{
	void *mem;
	double best_fill = 1e9, best_walk = 1e9;

	(void) state;
	if (getenv("KVD_TEST_BENCH") == NULL)
		skip();
	mem = aligned_alloc(4096, ARENA);
	assert_non_null(mem);
	memset(mem, 1, ARENA);
	for (int i = 0; i < ROUNDS; i++) {
		Memtable *m = memtable_init(mem, ARENA, (uint64_t) i);
		double f = fill(m), w = walk(m);

		best_fill = f < best_fill ? f : best_fill;
		best_walk = w < best_walk ? w : best_walk;
	}
	printf("random add by %d: %.0f ns an entry; walk: %.0f ns (best of %d)\n", MEMTABLE_BATCH, best_fill, best_walk,
	       ROUNDS);
	free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(speed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
