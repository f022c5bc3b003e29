/*
 * disk.h - a file system in memory that loses power: what is synced is kept apart from what is not.
 *
 * It lives in shared memory, so it outlives the process that used it, as a disk does. One process at a time
 * uses it. All that is random comes from the seed: the same calls leave the same disk.
 *
 * What a power failure leaves of what was not synced:
 *   - of each file any subset of the sectors written since, and any of the sizes it had in between;
 *   - of the names any subset of the changes (ordered: the first so many); a rename happens whole or not at
 *   all;
 *   - before that, at any time, any of it may have been written back already.
 * fsync() of a file says nothing about its name, sync_dir() nothing about content: no more than POSIX
 * promises.
 */
#ifndef TEST_LIB_DISK_H
#define TEST_LIB_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "port/fs.h"

typedef struct DiskProfile {
	uint32_t sector; /* 512 or 4096: what is written whole or not at all */
	bool ordered;    /* names: changes survive in their order */
	bool garbage; /* bytes that a file has grown by, but that never were written out, hold anything; else 0 */
	uint32_t writeback; /* one of so many changes writes something back by itself; 0: none */
} DiskProfile;

/* Memory for one disk: what children of this process write stays. */
void disk_make(void);
/* From here on this process writes to a copy of its own. */
void disk_private(void);
/* An empty one. */
void disk_format(const DiskProfile *p, uint64_t seed);
/* Its file operations: fs = &disk_fs. */
extern const FsOps disk_fs;

/*
 * Power fails, and comes back: what survives is what there is. `kept` of 256 is kept of what was not synced.
 */
void disk_power_loss(unsigned kept);
/* Everything is synced. */
void disk_settle(void);
/*
 * Sync of this descriptor fails: its data is clean in the cache from now on and was not written, as Linux has
 * it.
 */
void disk_lose(int fd);
/* For each file, in the order of their making. */
void disk_each(void (*fn)(void *arg, const char *path, uint64_t bytes), void *arg);

#endif
