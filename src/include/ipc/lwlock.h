/*
 * lwlock.h - exclusive locks between processes, in one ranked list.
 *
 * Holding one is a critical section: a process killed with a lock held costs a restart of the node, so
 * no lock ever has to be recovered. Acquire in rank order (rank = place in the list): asserted.
 */
#ifndef IPC_LWLOCK_H
#define IPC_LWLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LWLOCK_CACHE_SHARDS 16 /* more than the cores this is tuned for; power of two */

/* X(name, how many, what it guards). First = outermost. */
#define LWLOCK_LIST(X) \
	X(APPLY, 1, "applying committed records to the memtable") \
	X(SUPERVERSION, 1, "changing the current superversion") \
	X(WAL_APPEND, 1, "appending what another node wrote: consensus worker or fetcher") \
	X(WAL_FLUSH, 1, "flush ownership: writing and syncing the log") \
	X(WAL_SEGMENT, 1, "making, recycling and retiring log files") \
	X(HEAP, 1, "the shared heap's free lists") \
	X(CACHE, LWLOCK_CACHE_SHARDS, "changing one shard of the block cache")

typedef enum LwLockName {
#define LWLOCK_ENUM(name, n, what) LWLOCK_##name,
	LWLOCK_LIST(LWLOCK_ENUM)
#undef LWLOCK_ENUM
	LWLOCK_NAMES
} LwLockName;

size_t lwlock_shmem_size(void);
void lwlock_shmem_init(void *mem);

/* `which` is 0 .. how many - 1. acquire spins briefly, then sleeps (re-checking every second). */
void lwlock_acquire(LwLockName name, unsigned which);
bool lwlock_try(LwLockName name, unsigned which);
void lwlock_release(LwLockName name, unsigned which);
/* Is it held by this process? For asserts. */
bool lwlock_mine(LwLockName name, unsigned which);
/* Is it held by anyone? A hint. */
bool lwlock_held(LwLockName name, unsigned which);

#endif
