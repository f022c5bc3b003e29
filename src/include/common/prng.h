/*
 * prng.h - a small seeded generator (xoshiro256**, Blackman & Vigna 2018). Not for secrets.
 */
#ifndef COMMON_PRNG_H
#define COMMON_PRNG_H

#include <stdint.h>

typedef struct Prng {
	uint64_t s[4];
} Prng;

/* Same seed, same sequence, on every machine. */
void prng_seed(Prng *g, uint64_t seed);
uint64_t prng_next(Prng *g);
/* Uniform in [0, n), n > 0, without modulo bias. */
uint64_t prng_below(Prng *g, uint64_t n);
/* Uniform in [0, 1). */
double prng_double(Prng *g);

#endif
