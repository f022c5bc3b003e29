/*
 * epoch.h - epoch-based reclamation: what a reader may still see is not reused (rule A5).
 *
 * Things readers find by following shared pointers (superversions, versions of the table list, cache frames,
 * memtables, files) are first made unreachable, then given a retire epoch by epoch_retire(), and
 * reused or freed only when epoch_safe(retire epoch) says that every pin is newer.
 *
 * Reader: epoch_pin() stores the current epoch in its own slot, full fence, then it loads pointers.
 * Proof: a thing retired with r was unreachable before r was drawn. A reader whose pin is >= r loaded
 * its pointers after that and cannot hold it. A reader not seen by the scan's fence pinned later still.
 */
#ifndef IPC_EPOCH_H
#define IPC_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t epoch_shmem_size(void);
void epoch_shmem_init(void *mem);

/*
 * Two pins, set and cleared apart: the epoch (memory reachable now is not reused) and the version (compaction keeps
 * versions >= it). Neither nests.
 */
void epoch_enter(void);
void epoch_leave(void);
/* Is an epoch pinned by this process? */
bool epoch_pinned(void);
/* Compaction keeps what a snapshot >= version needs; nobody waits for this process to let go of memory. */
void epoch_hold(uint64_t version);
void epoch_release(void);
/* Both, with one fence: a read. `version` is a lower bound of the snapshot. */
void epoch_pin(uint64_t version);
void epoch_unpin(void);
/* After the thing became unreachable: its retire epoch (> every pin that can hold it). */
uint64_t epoch_retire(void);
/* May things retired with r be reused? Scans the slots; call it once for many things. */
bool epoch_safe(uint64_t r);
/* Smallest pinned epoch, UINT64_MAX if none: r is safe when r <= it. */
uint64_t epoch_min(void);
/* Smallest pinned version, at most `limit`. Full fence before the scan. */
uint64_t epoch_min_version(uint64_t limit);

#endif
