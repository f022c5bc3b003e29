/* test_arena.c - alignment, large requests, reuse after a reset. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/arena.h"

/* Under AddressSanitizer an impossible malloc shall return NULL, as it does without. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void
allocations_are_aligned_and_apart(void **state)
{
	Arena a = { 0 };
	uint8_t *p[300];

	(void) state;
	for (size_t i = 0; i < 300; i++) {
		p[i] = arena_alloc(&a, i);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t) p[i] % 8, 0);
		memset(p[i], (int) i, i);
	}
	for (size_t i = 0; i < 300; i++)
		for (size_t k = 0; k < i; k++)
			assert_int_equal(p[i][k], (uint8_t) i);
	arena_free(&a);
	assert_null(a.blocks);
}

static void
around_the_size_of_a_block(void **state)
{
	Arena a = { .block_size = 256 };

	(void) state;
	for (size_t n = 255; n <= 257; n++) {
		uint8_t *p = arena_alloc(&a, n);

		assert_non_null(p);
		memset(p, 1, n);
	}
	arena_free(&a);
}

static void
no_memory(void **state)
{
	Arena a = { 0 };

	(void) state;
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 7));
	assert_null(arena_alloc(&a, SIZE_MAX / 2));
	assert_non_null(arena_alloc(&a, 1));
	arena_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations_are_aligned_and_apart),
		cmocka_unit_test(around_the_size_of_a_block),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
