/*
 * dist.c - which key is next: uniform, zipfian, latest, or each once in random order.
 *
 * Pure. Zipfian after Gray, Sundaresan, Englert, Baclawski, Weinberger, "Quickly generating billion-record
 * synthetic databases" (SIGMOD 1994), with the constant 0.99 of YCSB; ranks are scattered over the keyspace
 * by a hash, so that hot keys are not neighbours. Latest: the same ranks counted from the newest key down.
 */
#include <math.h>

#include "common/hash.h"
#include "kvbench.h"

#define ZIPF_THETA 0.99
#define FEISTEL_ROUNDS 4 /* enough to look random; nobody attacks it */

void
dist_init(Dist *d, DistKind kind, uint64_t n)
{
	*d = (Dist){ .kind = kind, .n = n, .theta = ZIPF_THETA };
	if (kind != DIST_ZIPFIAN && kind != DIST_LATEST)
		return;
	for (uint64_t i = 1; i <= n; i++)
		d->zetan += pow((double) i, -d->theta);
	d->alpha = 1.0 / (1.0 - d->theta);
	d->half_pow = 1.0 + pow(0.5, d->theta);
	d->eta = (1.0 - pow(2.0 / (double) n, 1.0 - d->theta)) / (1.0 - d->half_pow / d->zetan);
}

static uint64_t
zipf_rank(const Dist *d, Prng *g)
{
	double u = prng_double(g);
	double uz = u * d->zetan;
	uint64_t rank;

	if (uz < 1.0 || d->n < 2)
		return 0;
	if (uz < d->half_pow || d->n < 3)
		return 1;
	rank = (uint64_t) ((double) d->n * pow(d->eta * u - d->eta + 1.0, d->alpha));
	return rank < d->n ? rank : d->n - 1;
}

uint64_t
dist_next(const Dist *d, Prng *g, uint64_t end)
{
	switch (d->kind) {
	case DIST_ZIPFIAN:
		return hash_mix(zipf_rank(d, g) + 1) % d->n;
	case DIST_LATEST:
		return end - 1 - zipf_rank(d, g);
	default:
		return prng_below(g, end);
	}
}

uint64_t
dist_shuffle(uint64_t i, uint64_t n, uint64_t seed)
{
	unsigned half = 1;
	uint64_t mask;

	while (half < 32 && (UINT64_C(1) << (2 * half)) < n)
		half++;
	mask = (UINT64_C(1) << half) - 1;
	/* A Feistel network permutes [0, 4^half), less than 4n numbers; walk on while outside of [0, n). */
	do {
		uint64_t left = i >> half, right = i & mask;

		for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
			uint64_t next = left ^ (hash_mix(right + seed + (round << 40)) & mask);

			left = right;
			right = next;
		}
		i = left << half | right;
	} while (i >= n);
	return i;
}
