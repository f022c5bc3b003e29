/* test_prng.c - the published sequence, bounds and evenness. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/prng.h"

static void
published_sequence(void **state)
{
	/* xoshiro256** from state {1, 2, 3, 4}, the authors' C code. */
	const uint64_t want[] = { 11520, 0, 1509978240, UINT64_C(1215971899390074240) };
	Prng g = { { 1, 2, 3, 4 } };

	(void) state;
	for (int i = 0; i < 4; i++)
		assert_true(prng_next(&g) == want[i]);
}

static void
seed_decides(void **state)
{
	Prng a, b, c;

	(void) state;
	prng_seed(&a, 0);
	prng_seed(&b, 0);
	prng_seed(&c, 1);
	/* splitmix64 seeded with 0 */
	assert_true(a.s[0] == UINT64_C(0xe220a8397b1dcdaf));
	assert_true(a.s[1] == UINT64_C(0x6e789e6aa1b965f4));
	for (int i = 0; i < 100; i++) {
		uint64_t v = prng_next(&a);

		assert_true(v == prng_next(&b));
		assert_true(v != prng_next(&c));
	}
}

static void
below_stays_below(void **state)
{
	const uint64_t bounds[] = { 1, 2, 3, 7, 64, 1000, UINT64_C(1) << 63, (UINT64_C(1) << 63) + 1, UINT64_MAX };
	Prng g;

	(void) state;
	prng_seed(&g, 3);
	for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
		for (int k = 0; k < 1000; k++)
			assert_true(prng_below(&g, bounds[i]) < bounds[i]);
}

static void
below_is_even(void **state)
{
	/* 3 * 2^62 shows the bias of a plain modulo: its low third would come up twice as often. */
	const uint64_t n = UINT64_C(3) << 62;
	unsigned third[3] = { 0, 0, 0 };
	Prng g;

	(void) state;
	prng_seed(&g, 4);
	for (int i = 0; i < 30000; i++)
		third[prng_below(&g, n) >> 62]++;
	for (int i = 0; i < 3; i++) {
		assert_true(third[i] > 9500);
		assert_true(third[i] < 10500);
	}
}

static void
doubles_are_in_the_unit_interval(void **state)
{
	double sum = 0;
	Prng g;

	(void) state;
	prng_seed(&g, 5);
	for (int i = 0; i < 10000; i++) {
		double d = prng_double(&g);

		assert_true(d >= 0 && d < 1);
		sum += d;
	}
	assert_true(sum > 4900 && sum < 5100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_sequence),
		cmocka_unit_test(seed_decides),
		cmocka_unit_test(below_stays_below),
		cmocka_unit_test(below_is_even),
		cmocka_unit_test(doubles_are_in_the_unit_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
