/*
 * latency.h - how long things take: histograms in shared memory that every process adds to.
 *
 * Counters only, added up without a lock: a reader may miss the last moment.
 */
#ifndef IPC_LATENCY_H
#define IPC_LATENCY_H

#include <stddef.h>
#include <stdint.h>

#include "common/histogram.h"

typedef enum LatencyKind {
	LATENCY_LOG_SYNC, /* one write and sync of the log; every one, by the flush owner */
	LATENCY_COMMIT,   /* a write, from its insertion until it is applied; a sample of those that are waited for */
	LATENCY_KINDS
} LatencyKind;

/* Of the writes, one in so many is measured: reading the clock twice costs as much as a read of a key. */
#define LATENCY_COMMIT_SAMPLE 16

size_t latency_shmem_size(void);
void latency_shmem_init(void *mem);
/* Any process. Nothing happens without shared memory (tools). */
void latency_add(LatencyKind kind, uint64_t ns);
/* Everything since the node's start. */
void latency_read(LatencyKind kind, Histogram *out);

#endif
