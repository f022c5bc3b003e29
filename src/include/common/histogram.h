/*
 * histogram.h - latency histogram: log-linear buckets, relative error below 1/64.
 *
 * Values are unsigned (any unit); 0 .. 2^40-1 are told apart, larger ones count as the
 * largest. A Histogram is plain memory: merge by histogram_merge().
 */
#ifndef COMMON_HISTOGRAM_H
#define COMMON_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6 /* 64 buckets for each power of two */
#define HISTOGRAM_MAX_BITS 40
#define HISTOGRAM_BUCKETS ((HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

typedef struct Histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t min; /* UINT64_MAX while empty */
	uint64_t bucket[HISTOGRAM_BUCKETS];
} Histogram;

void histogram_init(Histogram *h);
void histogram_add(Histogram *h, uint64_t value);
/* Index of the bucket that counts a value: for histograms kept elsewhere. */
unsigned histogram_bucket(uint64_t value);
void histogram_merge(Histogram *into, const Histogram *from);
/* Value at quantile q in [0, 1] (upper edge of its bucket, at most max); 0 when empty. */
uint64_t histogram_quantile(const Histogram *h, double q);

#endif
