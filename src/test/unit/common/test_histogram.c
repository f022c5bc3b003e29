/* test_histogram.c - the promised error, quantiles, merging. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/histogram.h"
#include "common/prng.h"

static Histogram h; /* too large for the stack's taste */

/* What the histogram makes of one value among larger ones. */
static uint64_t
seen_as(uint64_t v)
{
	histogram_init(&h);
	histogram_add(&h, v);
	histogram_add(&h, UINT64_MAX);
	return histogram_quantile(&h, 0.5);
}

static void
check_error(uint64_t v)
{
	uint64_t got = seen_as(v);

	assert_true(got >= v);
	assert_true(v == 0 ? got == 0 : got - v < (v + 63) / 64);
}

static void
error_is_below_one_in_64(void **state)
{
	Prng g;

	(void) state;
	for (uint64_t v = 0; v < 128; v++)
		assert_true(seen_as(v) == v);
	for (unsigned bit = 6; bit < HISTOGRAM_MAX_BITS; bit++) {
		check_error((UINT64_C(1) << bit) - 1);
		check_error(UINT64_C(1) << bit);
		check_error((UINT64_C(1) << bit) + 1);
	}
	check_error((UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1);
	prng_seed(&g, 6);
	for (int i = 0; i < 5000; i++)
		check_error(prng_next(&g) >> (24 + prng_below(&g, 40)));
}

static void
larger_values_count_as_the_largest(void **state)
{
	uint64_t top = (UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1;

	(void) state;
	assert_true(seen_as(top) == top);
	assert_true(seen_as(top + 1) == top);
	assert_true(seen_as(UINT64_MAX) == top);
	assert_true(h.max == UINT64_MAX);
}

static void
empty_one(void **state)
{
	(void) state;
	histogram_init(&h);
	assert_true(histogram_quantile(&h, 0) == 0);
	assert_true(histogram_quantile(&h, 1) == 0);
	assert_true(h.min == UINT64_MAX);
	assert_true(h.max == 0);
}

static void
quantiles_by_rank(void **state)
{
	(void) state;
	histogram_init(&h);
	for (uint64_t v = 1; v <= 100; v++)
		histogram_add(&h, v % 50 + 1); /* 1..50, twice each */
	assert_true(histogram_quantile(&h, 0) == 1);
	assert_true(histogram_quantile(&h, 0.01) == 1);
	assert_true(histogram_quantile(&h, 0.02) == 1);
	assert_true(histogram_quantile(&h, 0.03) == 2);
	assert_true(histogram_quantile(&h, 0.5) == 25);
	assert_true(histogram_quantile(&h, 0.99) == 50);
	assert_true(histogram_quantile(&h, 1) == 50);
	assert_true(h.count == 100);
	assert_true(h.sum == 2 * 1275);
	assert_true(h.min == 1);
	/* Half of three is two of them. */
	histogram_init(&h);
	for (uint64_t v = 1; v <= 3; v++)
		histogram_add(&h, v);
	assert_true(histogram_quantile(&h, 0.5) == 2);
	assert_true(histogram_quantile(&h, 0.99) == 3);
}

static void
never_above_the_maximum(void **state)
{
	(void) state;
	histogram_init(&h);
	histogram_add(&h, 1000001);
	assert_true(histogram_quantile(&h, 0.5) == 1000001);
	assert_true(histogram_quantile(&h, 1) == 1000001);
}

static void
merging_is_adding(void **state)
{
	static Histogram a, b, both;
	Prng g;

	(void) state;
	prng_seed(&g, 7);
	histogram_init(&a);
	histogram_init(&b);
	histogram_init(&both);
	for (int i = 0; i < 1000; i++) {
		uint64_t v = prng_next(&g) >> 30;

		histogram_add(i % 3 == 0 ? &a : &b, v);
		histogram_add(&both, v);
	}
	histogram_merge(&a, &b);
	assert_memory_equal(&a, &both, sizeof a);
	histogram_init(&b);
	histogram_merge(&a, &b);
	assert_memory_equal(&a, &both, sizeof a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_is_below_one_in_64),
		cmocka_unit_test(larger_values_count_as_the_largest),
		cmocka_unit_test(empty_one),
		cmocka_unit_test(quantiles_by_rank),
		cmocka_unit_test(never_above_the_maximum),
		cmocka_unit_test(merging_is_adding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
