/*
 * latency.c - shared histograms. Any process adds, with relaxed atomic additions; no locks.
 */
#include "ipc/latency.h"

#include <stdatomic.h>
#include <string.h>

typedef struct SharedHistogram {
	_Alignas(64) _Atomic uint64_t sum;
	_Atomic uint64_t max;
	_Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
} SharedHistogram;

static SharedHistogram *shared;

size_t
latency_shmem_size(void)
{
	return LATENCY_KINDS * sizeof(SharedHistogram);
}

void
latency_shmem_init(void *mem)
{
	shared = mem;
	memset(mem, 0, latency_shmem_size());
}

void
latency_add(LatencyKind kind, uint64_t ns)
{
	SharedHistogram *h;
	uint64_t max;

	if (shared == NULL)
		return;
	h = &shared[kind];
	atomic_fetch_add_explicit(&h->bucket[histogram_bucket(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum, ns, memory_order_relaxed);
	max = atomic_load_explicit(&h->max, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak_explicit(&h->max, &max, ns, memory_order_relaxed,
															  memory_order_relaxed))
		;
}

void
latency_read(LatencyKind kind, Histogram *out)
{
	const SharedHistogram *h = &shared[kind];

	histogram_init(out);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		out->bucket[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
		out->count += out->bucket[i];
	}
	out->sum = atomic_load_explicit(&h->sum, memory_order_relaxed);
	out->max = atomic_load_explicit(&h->max, memory_order_relaxed);
}
