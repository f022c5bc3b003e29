/*
 * entry.h - one version of one key: what memtables and tables hold, and the iterator over them.
 *
 * Order everywhere: key ascending (unsigned bytes), then version DESCENDING (newest first). A (key,
 * version) pair exists once. Keys here are internal keys: one byte of keyspace, then the user's key.
 */
#ifndef STORAGE_ENTRY_H
#define STORAGE_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/limits.h"

/* On disk and in the log: never renumber. */
typedef enum EntryKind {
	ENTRY_PUT = 0,
	ENTRY_DELETE = 1,
	/*
	 * A put whose value lies in a value file; the entry's value is a reference to it (storage/value_file.h). Not in the
	 * log, not in memtables: iterators over tables give it, point reads and scans resolve it.
	 */
	ENTRY_VALUE_REF = 2
} EntryKind;

/*
 * First byte of an internal key. SYSTEM holds replicated state that users do not see (sessions, users, ...).
 */
typedef enum Keyspace { KEYSPACE_SYSTEM = 0, KEYSPACE_USER = 1 } Keyspace;

#define INTERNAL_KEY_MAX (KV_KEY_MAX + 1)

typedef struct Entry {
	Slice key;          /* internal key, 1 .. INTERNAL_KEY_MAX bytes */
	Slice value;        /* empty for a tombstone */
	uint64_t version;   /* LSN of the record + place of the operation in it; never 0 */
	uint64_t expire_ms; /* log time at which it is gone; 0 = never */
	EntryKind kind;
} Entry;

/* Of a range of keys, estimates: entries of all versions, tombstones among them, bytes of their keys and values. */
typedef struct EntrySum {
	uint64_t entries, tombstones, bytes;
	uint64_t disk_bytes; /* of the files that they take */
} EntrySum;

/* Order of (key, version) pairs as above. */
static inline int
entry_cmp(Slice ak, uint64_t av, Slice bk, uint64_t bv)
{
	int c = slice_cmp(ak, bk);

	return c != 0 ? c : (av < bv) - (av > bv);
}

/*
 * Iterator over entries of one or many sources. Not positioned after creation.
 *   REQUIRES valid(): next, prev, entry.
 * The entry's slices stay valid until the iterator moves or is closed (and no longer than the pin
 * of the process). After a failed read valid() is false and status() says why: "not valid" alone is
 * never the end of the data, ask status().
 */
typedef struct Iter Iter;
typedef struct IterOps {
	void (*seek_first)(Iter *it);
	void (*seek_last)(Iter *it);
	/* First entry at or after (key, version) in iterator order. version UINT64_MAX = before all of key. */
	void (*seek)(Iter *it, Slice key, uint64_t version);
	/* Last entry strictly before (key, version) in iterator order. */
	void (*seek_before)(Iter *it, Slice key, uint64_t version);
	void (*next)(Iter *it);
	void (*prev)(Iter *it);
	void (*close)(Iter *it); /* frees the iterator itself too */
} IterOps;

struct Iter {
	const IterOps *ops;
	bool valid;       /* maintained by the implementation */
	Status status;    /* first failure; sticky until the next seek */
	Entry entry;      /* current entry while valid */
};

static inline void iter_seek_first(Iter *it) { it->ops->seek_first(it); }
static inline void iter_seek_last(Iter *it) { it->ops->seek_last(it); }
static inline void iter_seek(Iter *it, Slice key, uint64_t version) { it->ops->seek(it, key, version); }
static inline void
iter_seek_before(Iter *it, Slice key, uint64_t version)
{
	it->ops->seek_before(it, key, version);
}

static inline void iter_next(Iter *it) { it->ops->next(it); }
static inline void iter_prev(Iter *it) { it->ops->prev(it); }
static inline void iter_close(Iter *it) { if (it) it->ops->close(it); }

#endif
