/*
 * cache.h - the block cache: table blocks of at most CACHE_BLOCK_MAX bytes in shared memory.
 *
 * Open-addressed index over fixed frames, clock replacement, one lock a shard for changes. A hit takes no
 * lock and writes nothing shared (but a clock count that is not as high as its use): the caller's epoch pin keeps
 * the frame from being reused (ipc/epoch.h).
 */
#ifndef STORAGE_CACHE_H
#define STORAGE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

#define CACHE_BLOCK_MAX 4096 /* larger blocks (one huge entry) are read past the cache */
#define CACHE_BYTES_MIN 1048576 /* smallest cache: enough frames for one process's reads under one pin */

/*
 * How long a block stays when it is not asked for: rounds of the clock. A use raises a block to its own, never
 * lowers it.
 */
typedef enum CacheUse {
	CACHE_SCAN = 0,      /* a scan's: first to be replaced; a scan's hit changes nothing */
	CACHE_POINT = 1,     /* data of a point read */
	CACHE_STAY = 3       /* index and filters: few, and each stands for a hundred data blocks */
} CacheUse;

typedef struct CacheStats {
	uint64_t hits, misses, inserts, evictions, bypassed; /* bypassed: no frame could be freed, or too large */
	uint64_t frames_used, frames_total;
} CacheStats;

/* cache_bytes (>= CACHE_BYTES_MIN, asserted) is all of it: index and headers are taken from it. */
size_t cache_shmem_size(size_t cache_bytes);
/* Any memory: what has to be zero is cleared. Before fork: children use the cache at the same address. */
void cache_shmem_init(void *mem, size_t cache_bytes);

/* REQUIRES an epoch pin. The bytes stay valid until the pin ends. False: not there. */
bool cache_lookup(uint64_t file, uint64_t offset, CacheUse use, Slice *out);
/*
 * The same in three steps, for a process that has other lookups to go on with while memory answers: begin and
 * fetch only start loads; get is cache_lookup(). All under the same pin; fetch may be left out.
 */
typedef struct CacheProbe {
	uint64_t file, offset, hash;
	struct Frame *frame;   /* found by fetch; NULL: not known */
} CacheProbe;
/* Starts loading the index. */
void cache_probe_begin(CacheProbe *p, uint64_t file, uint64_t offset);
/* Starts loading the frame's header, and bytes [from, from + bytes) of the block, if it is there. */
void cache_probe_fetch(CacheProbe *p, uint32_t from, uint32_t bytes);
bool cache_probe_get(const CacheProbe *p, CacheUse use, Slice *out);
/*
 * REQUIRES an epoch pin. Copy a block in (<= CACHE_BLOCK_MAX bytes); *out is the cached copy, also when
 * another process was faster. False: no frame free (all pinned): use your own copy.
 */
bool cache_insert(uint64_t file, uint64_t offset, Slice block, CacheUse use, Slice *out);
/*
 * There is no call to forget a deleted file's blocks: nobody asks for them again (neither numbers nor ids of files are
 * reused), and the clock replaces them. Without cache_shmem_init() (offline tools) every lookup misses, every insert is
 * refused, and all figures are 0.
 */
/* Anyone, without locks. Counts of hits and misses of other processes lag by a few hundred each. */
void cache_stats(CacheStats *out);

#endif
