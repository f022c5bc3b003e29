/*
 * hash.c - XXH64 (Yann Collet; doc/xxhash_spec.md of the xxHash project), written from its specification.
 *
 * Pure. The result is on disk (bloom filters): test_hash.c pins it by published answers; it must
 * never change.
 */
#include "common/hash.h"

#include "common/coding.h"

#define P1 UINT64_C(0x9E3779B185EBCA87)
#define P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define P3 UINT64_C(0x165667B19E3779F9)
#define P4 UINT64_C(0x85EBCA77C2B2AE63)
#define P5 UINT64_C(0x27D4EB2F165667C5)

static inline uint64_t
rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t
round64(uint64_t acc, uint64_t lane)
{
	return rotl(acc + lane * P2, 31) * P1;
}

static inline uint64_t
merge(uint64_t acc, uint64_t lane_acc)
{
	return (acc ^ round64(0, lane_acc)) * P1 + P4;
}

/* The stripes of 32 bytes; moves *p past them. */
static uint64_t
stripes(const uint8_t **p, size_t len, uint64_t seed)
{
	uint64_t a1 = seed + P1 + P2, a2 = seed + P2, a3 = seed, a4 = seed - P1;
	uint64_t acc;

	for (size_t n = len / 32; n > 0; n--) {
		a1 = round64(a1, get_u64(*p));
		a2 = round64(a2, get_u64(*p + 8));
		a3 = round64(a3, get_u64(*p + 16));
		a4 = round64(a4, get_u64(*p + 24));
		*p += 32;
	}
	acc = rotl(a1, 1) + rotl(a2, 7) + rotl(a3, 12) + rotl(a4, 18);
	return merge(merge(merge(merge(acc, a1), a2), a3), a4);
}

uint64_t
hash64(const void *data, size_t len, uint64_t seed)
{
	const uint8_t *p = data;
	uint64_t h = len >= 32 ? stripes(&p, len, seed) : seed + P5;
	size_t left = len % 32;

	h += len;
	for (; left >= 8; left -= 8, p += 8)
		h = rotl(h ^ round64(0, get_u64(p)), 27) * P1 + P4;
	if (left >= 4) {
		h = rotl(h ^ get_u32(p) * P1, 23) * P2 + P3;
		left -= 4;
		p += 4;
	}
	for (; left > 0; left--, p++)
		h = rotl(h ^ *p * P5, 11) * P1;
	h = (h ^ h >> 33) * P2;
	h = (h ^ h >> 29) * P3;
	return h ^ h >> 32;
}
