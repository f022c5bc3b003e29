/* test_hash.c - published answers of XXH64, which filters on disk rely on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "common/hash.h"

static void
known_answers(void **state)
{
	(void) state;
	assert_true(hash64("", 0, 0) == UINT64_C(0xef46db3751d8e999));
	assert_true(hash64("a", 1, 0) == UINT64_C(0xd24ec4f1a98c6e5b));
	assert_true(hash64("abc", 3, 0) == UINT64_C(0x44bc2cf5ad770999));
	/* 39 bytes: a stripe and every kind of tail. */
	assert_true(hash64("Nobody inspects the spammish repetition", 39, 0) == UINT64_C(0xfbcea83c8a378bf1));
}

static void
official_sanity_buffer(void **state)
{
	uint8_t b[222];
	uint64_t gen = UINT64_C(2654435761);

	(void) state;
	for (size_t i = 0; i < sizeof b; i++) {
		b[i] = (uint8_t) (gen >> 56);
		gen *= UINT64_C(11400714785074694797);
	}
	assert_true(hash64(b, 0, 2654435761u) == UINT64_C(0xac75fda2929b17ef));
	assert_true(hash64(b, 1, 0) == UINT64_C(0xe934a84adb052768));
	assert_true(hash64(b, 1, 2654435761u) == UINT64_C(0x5014607643a9b4c3));
	assert_true(hash64(b, 14, 0) == UINT64_C(0x8282dcc4994e35c8));
	assert_true(hash64(b, 222, 0) == UINT64_C(0xb641ae8cb691c174));
	assert_true(hash64(b, 222, 2654435761u) == UINT64_C(0x20cb8ab7ae10c14a));
}

static void
neither_length_nor_alignment_is_read_over(void **state)
{
	uint8_t b[80];

	(void) state;
	memset(b, 7, sizeof b);
	for (size_t len = 0; len < 64; len++) {
		uint64_t h = hash64(b, len, 5);

		b[len] ^= 0xff; /* the byte after the end does not count */
		assert_true(hash64(b, len, 5) == h);
		b[len] ^= 0xff;
		if (len > 0) {
			b[len - 1] ^= 1; /* the last one does */
			assert_true(hash64(b, len, 5) != h);
			b[len - 1] ^= 1;
		}
		for (size_t off = 1; off < 8; off++)
			assert_true(hash64(b + off, len, 5) == h);
	}
}

static void
mix_is_splitmix64(void **state)
{
	(void) state;
	assert_true(hash_mix(0) == 0);
	/* First output of splitmix64 seeded with 0 (Vigna's reference code). */
	assert_true(hash_mix(UINT64_C(0x9e3779b97f4a7c15)) == UINT64_C(0xe220a8397b1dcdaf));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(official_sanity_buffer),
		cmocka_unit_test(neither_length_nor_alignment_is_read_over),
		cmocka_unit_test(mix_is_splitmix64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
