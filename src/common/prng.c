/*
 * prng.c - xoshiro256** (Blackman & Vigna, "Scrambled linear pseudorandom number generators", 2018).
 *
 * Pure; the state belongs to the caller. Not for secrets: proc_random() is.
 */
#include "common/prng.h"

#include "common/hash.h"
#include "common/kv_assert.h"

static inline uint64_t
rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

void
prng_seed(Prng *g, uint64_t seed)
{
	/* splitmix64, as its authors advise: never gives the all-zero state, from which there is no way out. */
	for (int i = 0; i < 4; i++) {
		seed += UINT64_C(0x9e3779b97f4a7c15);
		g->s[i] = hash_mix(seed);
	}
}

uint64_t
prng_next(Prng *g)
{
	uint64_t *s = g->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t
prng_below(Prng *g, uint64_t n)
{
	uint64_t r;
	uint64_t reject; /* 2^64 mod n: that many values at the low end would come up once too often */

	KV_ASSERT(n > 0);
	reject = -n % n;
	do
		r = prng_next(g);
	while (r < reject);
	return r % n;
}

double
prng_double(Prng *g)
{
	return (double) (prng_next(g) >> 11) * 0x1.0p-53;
}
