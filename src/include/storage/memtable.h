/*
 * memtable.h - new entries in shared memory, sorted: one writer at a time, readers without locks.
 *
 * A memtable lives wholly inside one piece of shared memory given to memtable_init(): a skiplist over an
 * arena, 8 key bytes inlined in each node, and a hash index from key to its newest node for point reads.
 * Writer: whoever holds the APPLY lock. Readers: any process that has pinned an epoch.
 */
#ifndef STORAGE_MEMTABLE_H
#define STORAGE_MEMTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "storage/entry.h"
#include "storage/range.h"

typedef struct Memtable Memtable;

/* Least memory that makes a memtable, and least that holds any one record whatever its operations. */
#define MEMTABLE_BYTES_MIN 65536
#define MEMTABLE_BYTES_ANY_RECORD (32 * 1048576)

/*
 * Make an empty memtable in mem[0..bytes), 64-byte aligned. Also empties a used one. `seed` feeds the tower
 * heights and the hash. Of more than 64 GiB less 16 bytes the rest is not used.
 */
Memtable *memtable_init(void *mem, size_t bytes, uint64_t seed);
/*
 * Add one version. Versions of a key arrive in ascending order. BUSY: no room (nothing changed).
 * The entry becomes visible to readers at once, but only snapshots > its version look at it.
 */
KV_CHECK Status memtable_add(Memtable *m, const Entry *e);
/*
 * The same for several at once, whose searches overlap: a few times faster for random keys. n is 0 to
 * MEMTABLE_BATCH. BUSY may leave some of them added: make sure of the room before.
 * (ns an insertion by batches of 8, 16, 32, 64, 128, random keys: 640, 490, 370, 310, 310.)
 */
#define MEMTABLE_BATCH 64
KV_CHECK Status memtable_add_many(Memtable *m, const Entry *e, int n);
/* memtable_cost(k, v) is at most k + v + this. */
#define MEMTABLE_ENTRY_OVERHEAD 116
/*
 * Upper bound of arena bytes memtable_add() takes for these sizes: sum over a record, compare with
 * memtable_room().
 */
size_t memtable_cost(size_t key_len, size_t value_len);
/* Bytes of the arena that are left. The writer; to others it is a hint. */
size_t memtable_room(const Memtable *m);
/* Bytes in use, its head and hash index included, so that an empty one has some. A hint, as all figures here. */
size_t memtable_used(const Memtable *m);
/* Entries, every version and tombstone; range deletions do not count. */
uint64_t memtable_count(const Memtable *m);
/*
 * Add a range deletion, newer than all that is there; its keys take at most start + end + 16 bytes of the arena.
 * BUSY: no room, or MEMTABLE_RANGES_MAX of them (nothing changed).
 */
#define MEMTABLE_RANGES_MAX 256 /* every point read goes through them */
KV_CHECK Status memtable_add_range(Memtable *m, const RangeDelete *r);
/* How many there are; only rises, and those that were counted are whole. */
uint32_t memtable_ranges(const Memtable *m);
/* Bytes of their keys. */
size_t memtable_range_bytes(const Memtable *m);
/* i < memtable_ranges(): in the order of versions. Slices point into the memtable. */
void memtable_range(const Memtable *m, uint32_t i, RangeDelete *out);
/* What those below snapshot say of key. */
void memtable_cover(const Memtable *m, Slice key, uint64_t snapshot, Cover *narrow);
/*
 * Newest version < snapshot (a tombstone counts). False: none. What a range deletion of this memtable hides, here or in
 * anything older, is given as a tombstone of that one's version. Slices point into the memtable.
 */
bool memtable_get(const Memtable *m, Slice key, uint64_t snapshot, Entry *out);
/* Start fetching the cache lines that memtable_get(key) will want: call for a whole batch first. */
void memtable_prefetch(const Memtable *m, Slice key);
#define MEMTABLE_BATCH_MAX 64
/*
 * memtable_get() of those of keys[0..n), n <= MEMTABLE_BATCH_MAX (asserted), whose found[i] is false; sets
 * it. Their cache misses overlap.
 */
void memtable_get_many(const Memtable *m, const Slice *keys, int n, uint64_t snapshot, Entry *out,
                       bool *found);
/*
 * About what lies in [start, end) (unbounded: from start on): within some 6 % as a rule, exact below 256 entries. Some
 * microseconds. disk_bytes is 0.
 */
void memtable_estimate(const Memtable *m, Slice start, Slice end, bool unbounded, EntrySum *sum);
/*
 * Entries only, whatever range deletions say of them. NULL: out of memory. Sees entries added after its creation too;
 * callers filter by version.
 */
KV_CHECK Iter *memtable_iter(const Memtable *m);

#endif
