/*
 * histogram.c - log-linear buckets: 0..63 exactly, then 64 buckets for each power of two.
 *
 * Pure; the histogram belongs to the caller. A bucket holding v is at most v/64 wide.
 */
#include "common/histogram.h"

#include <string.h>

#define SUB (1u << HISTOGRAM_SUB_BITS)

unsigned
histogram_bucket(uint64_t v)
{
	unsigned shift;

	if (v >= UINT64_C(1) << HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	if (v < SUB)
		return (unsigned) v;
	shift = 63u - (unsigned) __builtin_clzll(v) - HISTOGRAM_SUB_BITS;
	return (shift + 1) * SUB + (unsigned) (v >> shift) - SUB;
}

/* The largest value that falls into bucket i. */
static uint64_t
bucket_top(unsigned i)
{
	unsigned shift;

	if (i < SUB)
		return i;
	shift = i / SUB - 1;
	return ((uint64_t) (i % SUB + SUB + 1) << shift) - 1;
}

void
histogram_init(Histogram *h)
{
	memset(h, 0, sizeof *h);
	h->min = UINT64_MAX;
}

void
histogram_add(Histogram *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value > h->max)
		h->max = value;
	if (value < h->min)
		h->min = value;
	h->bucket[histogram_bucket(value)]++;
}

void
histogram_merge(Histogram *into, const Histogram *from)
{
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
	if (from->min < into->min)
		into->min = from->min;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t
histogram_quantile(const Histogram *h, double q)
{
	double want = q * (double) h->count;
	uint64_t rank, seen = 0;

	if (h->count == 0)
		return 0;
	/* The smallest rank whose share of all values is at least q: 1 .. count. */
	rank = want >= (double) h->count ? h->count : want > 0 ? (uint64_t) want : 0;
	if ((double) rank < want || rank == 0)
		rank++;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= rank)
			return bucket_top(i) < h->max ? bucket_top(i) : h->max;
	}
	return h->max;
}
