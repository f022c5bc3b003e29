/*
 * memtable_internal.h - how a memtable lies in memory, for the files of this room. The rules are in memtable.c.
 */
#ifndef STORAGE_MEMTABLE_INTERNAL_H
#define STORAGE_MEMTABLE_INTERNAL_H

#include <stdatomic.h>

#include "common/hash.h"
#include "storage/memtable.h"

/* 4^16 nodes of the least size fill the largest arena several times. */
#define HEIGHT_MAX 16
#define UNIT 16

typedef uint32_t Link;

typedef struct Node {
	uint64_t prefix;         /* first 8 key bytes, big-endian, zero-padded: most comparisons end here */
	uint64_t version;
	uint32_t value_len;
	uint32_t key_len : 17;
	uint32_t height : 5;
	uint32_t kind : 1;
	uint32_t expires : 1;    /* 8 bytes of expire_ms follow the tower */
	_Atomic Link chain;      /* next node of the hash chain; writer: APPLY holder */
	_Atomic Link next[];     /* [height]; writer: APPLY holder; a stale read misses newer versions only */
} Node;

_Static_assert(offsetof(Node, next) == 28, "node header");
_Static_assert(INTERNAL_KEY_MAX < 1 << 17, "key_len bits");
_Static_assert(offsetof(Node, next) + HEIGHT_MAX * sizeof(Link) + 8 + UNIT - 1 <= MEMTABLE_ENTRY_OVERHEAD,
               "memtable_cost() <= key + value + MEMTABLE_ENTRY_OVERHEAD");

/* A range deletion. Its keys, start and end, lie behind one another at `keys`. */
typedef struct RangeItem {
	uint64_t start_prefix, end_prefix;
	uint64_t version;
	Link keys;
	uint32_t start_len, end_len;
} RangeItem;

struct Memtable {
	/* Set by memtable_init(), constant afterwards. */
	uint64_t bytes;
	uint64_t seed;
	uint64_t buckets_at;     /* offset in bytes */
	uint32_t nbuckets;
	/* Range deletions; the APPLY holder. Here, where it costs readers nothing: seldom written. */
	_Atomic uint32_t nranges;
	/* Written by the APPLY holder. Read by anyone for figures and decisions that a late value only delays. */
	_Atomic uint64_t used;
	_Atomic uint64_t count;
	_Atomic uint32_t height; /* levels in use; readers: a stale value only makes the search start lower */
	/* APPLY holder only. */
	uint32_t hint_valid;
	uint64_t random;
	Link hint[HEIGHT_MAX];   /* last node at or before the last insertion, for each level */
	/* Links as in nodes. The head is a node without key, before all others; its offset is 0. */
	_Atomic Link head[HEIGHT_MAX];
	RangeItem range[MEMTABLE_RANGES_MAX]; /* [nranges], ascending versions; written before nranges */
};

/* The searched key, with what comparisons need prepared. */
typedef struct Target {
	Slice key;
	uint64_t version;
	uint64_t prefix;
} Target;

static inline uint64_t
key_prefix(Slice key)
{
	uint8_t b[8] = { 0 };

	if (key.len >= 8)
		memcpy(b, key.data, 8);
	else if (key.len > 0)
		memcpy(b, key.data, key.len);
	return (uint64_t) b[0] << 56 | (uint64_t) b[1] << 48 | (uint64_t) b[2] << 40 | (uint64_t) b[3] << 32 |
	       (uint64_t) b[4] << 24 | (uint64_t) b[5] << 16 | (uint64_t) b[6] << 8 | (uint64_t) b[7];
}

static inline Target
target_of(Slice key, uint64_t version)
{
	return (Target){ key, version, key_prefix(key) };
}

static inline Node *
node_at(const Memtable *m, Link link)
{
	return (Node *) ((uintptr_t) m + (uint64_t) link * UNIT);
}

static inline _Atomic Link *
tower(const Memtable *m, Link link)
{
	return link == 0 ? (_Atomic Link *) (uintptr_t) m->head : node_at(m, link)->next;
}

static inline Link
next_of(const Memtable *m, Link link, int level)
{
	return atomic_load_explicit(&tower(m, link)[level], memory_order_acquire);
}

static inline const uint8_t *
node_payload(const Node *n)
{
	return (const uint8_t *) n + offsetof(Node, next) + n->height * sizeof(Link);
}

static inline Slice
node_key(const Node *n)
{
	return slice_of(node_payload(n) + (n->expires ? 8 : 0), n->key_len);
}

static inline _Atomic Link *
bucket_of(const Memtable *m, Slice key)
{
	uint64_t h = hash64(key.data, key.len, m->seed) >> 32;

	return (_Atomic Link *) ((uintptr_t) m + m->buckets_at) + (h * m->nbuckets >> 32);
}

/* Bytes of a node, a multiple of UNIT. */
static inline size_t
node_size(size_t key_len, size_t value_len, unsigned height, bool expires)
{
	size_t n = offsetof(Node, next) + height * sizeof(Link) + (expires ? 8 : 0) + key_len + value_len;

	return (n + UNIT - 1) & ~(size_t) (UNIT - 1);
}

/*
 * Order of a node's key against a target's. With equal prefixes the shorter one of two keys of which one has
 * at most 8 bytes is a prefix of the other (padding zeros match real ones), so length decides.
 */
static inline int
key_order(const Node *n, const Target *t)
{
	size_t len;
	int c;

	if (n->prefix != t->prefix)
		return n->prefix < t->prefix ? -1 : 1;
	len = n->key_len < t->key.len ? n->key_len : t->key.len;
	if (len > 8) {
		c = memcmp(node_key(n).data + 8, t->key.data + 8, len - 8);
		if (c != 0)
			return c;
	}
	return (n->key_len > t->key.len) - (n->key_len < t->key.len);
}

/* Is the node strictly before the target in entry order? */
static inline bool
node_before(const Node *n, const Target *t)
{
	int c = key_order(n, t);

	return c < 0 || (c == 0 && n->version > t->version);
}

static inline bool
node_has_key(const Node *n, const Target *t)
{
	return n->prefix == t->prefix && key_order(n, t) == 0;
}

/* Last node strictly before t (0: none). path, when not NULL, gets the last node before t of each level in use. */
Link memtable_search(const Memtable *m, const Target *t, Link *path);
static inline uint32_t
ranges_now(const Memtable *m)
{
	return atomic_load_explicit(&m->nranges, memory_order_acquire);
}

/* What the first n range deletions make of an answer to memtable_get(). */
bool memtable_hide(const Memtable *m, uint32_t n, Slice key, uint64_t snapshot, bool found, Entry *e);
/* The node's entry; slices point into the memtable. */
void memtable_node_entry(const Node *n, Entry *out);

#endif
