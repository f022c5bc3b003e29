/*
 * memtable.c - new entries in shared memory: a skiplist for order, a hash index for point reads.
 *
 * Written by whoever holds the APPLY lock (one at a time), read by any process under an epoch pin without
 * locks. A process killed inside memtable_add() costs a restart of the node with fresh memory: no half-made
 * change is ever looked at, so none has to be repaired.
 *
 * Memory: header (with the head tower), hash buckets, nodes. Links are 32-bit offsets from the header in
 * units of 16 bytes, which reaches 64 GiB; 0 is "none". A node is 28 bytes, its tower, 8 bytes of expiry if
 * there is one, key, value. Nodes never move or go away before memtable_init().
 *
 * Invariants:
 *   1. Level l holds a subset of level l-1, all in entry order (key ascending, version descending).
 *   2. A bucket's chain holds one node for each key that hashes there: its newest.
 *   3. Every node of the index is in level 0; the older versions of its key follow it there directly.
 *
 * Publish order, and why readers need nothing else. A node is complete, with all its forward links, before
 * the first release store that makes it reachable; readers follow links with acquire loads, so whatever
 * they reach is complete. Levels are linked from 0 upward, the index last: thus 1 and 3 hold at every moment.
 * A link is only ever changed to a node that itself leads to the old target, so a reader that took the old
 * link misses at most the new node. May it? Its snapshot comes from `applied`, published after memtable_add()
 * returned: a version below the snapshot was linked before the reader loaded anything (release on
 * applied, acquire by the reader). In a hash chain a newest node replaces its predecessor in place: a reader
 * that stands on a replaced node A sees in A.chain what was there when A was replaced; a later change further
 * down happened after that, and a reader that must see that change also sees the replacement of A.
 */
#include "common/kv_assert.h"
#include "memtable_internal.h"

/* One bucket for the least node there can be: a chain is about one node long even then. */
#define BYTES_PER_BUCKET 48
/* An ascending run is looked for this many levels up (4^levels nodes ahead) before searching from the top. */
#define HINT_LEVELS 4
/* Newer versions a point read steps over before it searches. */
#define WALK_MAX 8
#define BRANCH_BITS 2 /* one node in 4 reaches the next level */

/*
 * Last node strictly before t (0: none), starting at `from` (strictly before t) on `level`. path, when not
 * NULL, gets the last node before t of each level from `level` down.
 */
static Link
search(const Memtable *m, const Target *t, Link from, int level, Link *path)
{
	Link at = from;
	Link known_after = 0;

	for (; level >= 0; level--) {
		for (;;) {
			Link next = next_of(m, at, level);

			/* A node that ended the level above need not be compared again. */
			if (next == 0 || next == known_after)
				break;
			/* Most likely looked at next: one level down from here. */
			if (level > 0)
				__builtin_prefetch(node_at(m, next_of(m, at, level - 1)));
			if (!node_before(node_at(m, next), t)) {
				known_after = next;
				break;
			}
			at = next;
		}
		if (path != NULL)
			path[level] = at;
	}
	return at;
}

Link
memtable_search(const Memtable *m, const Target *t, Link *path)
{
	return search(m, t, 0, (int) atomic_load_explicit(&m->height, memory_order_relaxed) - 1, path);
}

Memtable *
memtable_init(void *mem, size_t bytes, uint64_t seed)
{
	Memtable *m = mem;
	uint64_t nodes_at;

	KV_ASSERT(bytes >= MEMTABLE_BYTES_MIN && (uintptr_t) mem % 64 == 0);
	memset(m, 0, sizeof *m);
	if (bytes / UNIT > UINT32_MAX)
		bytes = (size_t) UINT32_MAX * UNIT; /* what links reach: 64 GiB less one unit */
	m->bytes = bytes & ~(uint64_t) (UNIT - 1);
	m->seed = hash_mix(seed);
	m->random = hash_mix(seed + 1) | 1;
	m->buckets_at = (sizeof *m + 63) & ~(uint64_t) 63;
	m->nbuckets = (uint32_t) (m->bytes / BYTES_PER_BUCKET);
	memset((uint8_t *) mem + m->buckets_at, 0, (size_t) m->nbuckets * sizeof(Link));
	nodes_at = (m->buckets_at + (uint64_t) m->nbuckets * sizeof(Link) + 63) & ~(uint64_t) 63;
	atomic_init(&m->used, nodes_at);
	atomic_init(&m->height, 1);
	return m;
}

size_t
memtable_cost(size_t key_len, size_t value_len)
{
	return node_size(key_len, value_len, HEIGHT_MAX, true);
}

size_t
memtable_room(const Memtable *m)
{
	return m->bytes - atomic_load_explicit(&m->used, memory_order_relaxed);
}

size_t
memtable_used(const Memtable *m)
{
	return atomic_load_explicit(&m->used, memory_order_relaxed);
}

uint64_t
memtable_count(const Memtable *m)
{
	return atomic_load_explicit(&m->count, memory_order_relaxed);
}

static unsigned
random_height(uint64_t *random)
{
	uint64_t x = *random;
	unsigned zeros;

	x ^= x << 13; /* xorshift64 (Marsaglia 2003): never 0 */
	x ^= x >> 7;
	x ^= x << 17;
	*random = x;
	zeros = (unsigned) __builtin_ctzll(x);
	return 1 + (zeros / BRANCH_BITS < HEIGHT_MAX - 1 ? zeros / BRANCH_BITS : HEIGHT_MAX - 1);
}

/*
 * Put into path the last node before t on every level. In an ascending run the hint is still before t,
 * and a few levels up its successor is not: everything above is right as it stands.
 */
static void
find_place(Memtable *m, const Target *t, Link *path)
{
	int height = (int) atomic_load_explicit(&m->height, memory_order_relaxed);
	int top = height < HINT_LEVELS ? height : HINT_LEVELS;

	if (m->hint_valid && node_before(node_at(m, path[0]), t)) {
		for (int level = 0; level < top; level++) {
			Link next = next_of(m, path[level], level);

			if (next == 0 || !node_before(node_at(m, next), t)) {
				if (level > 0)
					search(m, t, path[level], level - 1, path);
				return;
			}
		}
	}
	memtable_search(m, t, path);
}

/* Make n the index's node of its key (invariant 2). */
static void
index_put(Memtable *m, Link link, const Target *t)
{
	Node *n = node_at(m, link);
	_Atomic Link *at = bucket_of(m, t->key);
	Link head = atomic_load_explicit(at, memory_order_relaxed);

	for (_Atomic Link *p = at;;) {
		Link old = atomic_load_explicit(p, memory_order_relaxed);

		if (old == 0)
			break;
		if (node_has_key(node_at(m, old), t)) {
			Link rest = atomic_load_explicit(&node_at(m, old)->chain, memory_order_relaxed);

			KV_ASSERT(node_at(m, old)->version < n->version);
			atomic_store_explicit(&n->chain, rest, memory_order_relaxed);
			atomic_store_explicit(p, link, memory_order_release);
			return;
		}
		p = &node_at(m, old)->chain;
	}
	atomic_store_explicit(&n->chain, head, memory_order_relaxed);
	atomic_store_explicit(at, link, memory_order_release);
}

static void
node_fill(Node *n, const Entry *e, const Target *t, unsigned height)
{
	uint8_t *p;

	n->prefix = t->prefix;
	n->version = e->version;
	n->value_len = (uint32_t) e->value.len;
	n->key_len = (uint32_t) e->key.len & 0x1ffff;
	n->height = height & 0x1f;
	n->kind = e->kind == ENTRY_DELETE;
	n->expires = e->expire_ms != 0;
	atomic_init(&n->chain, 0);
	p = (uint8_t *) n + offsetof(Node, next) + height * sizeof(Link);
	if (n->expires) {
		memcpy(p, &e->expire_ms, 8);
		p += 8;
	}
	memcpy(p, e->key.data, e->key.len);
	if (e->value.len > 0)
		memcpy(p + e->key.len, e->value.data, e->value.len);
}

/*
 * Link a new node for e behind path[level] on each of its levels (path[level] is the last node before t there),
 * then into the index. There is room. path moves on to the new node.
 */
static void
insert_behind(Memtable *m, const Entry *e, const Target *t, unsigned height, Link *path)
{
	uint64_t used = atomic_load_explicit(&m->used, memory_order_relaxed);
	Link link = (Link) (used / UNIT);
	Node *n = node_at(m, link);

	if (height > atomic_load_explicit(&m->height, memory_order_relaxed))
		atomic_store_explicit(&m->height, height, memory_order_relaxed);
	node_fill(n, e, t, height);
	for (unsigned level = 0; level < height; level++)
		atomic_init(&n->next[level], next_of(m, path[level], (int) level));
	used += node_size(e->key.len, e->value.len, height, e->expire_ms != 0);
	atomic_store_explicit(&m->used, used, memory_order_relaxed);
	for (unsigned level = 0; level < height; level++) {
		atomic_store_explicit(&tower(m, path[level])[level], link, memory_order_release);
		path[level] = link;
	}
	index_put(m, link, t);
	atomic_store_explicit(&m->count, memtable_count(m) + 1, memory_order_relaxed);
}

/* Draw the height of e's node. BUSY: it does not fit, and nothing has changed. */
static Status
draw_height(Memtable *m, const Entry *e, unsigned *height)
{
	uint64_t random = m->random;
	size_t size;

	KV_ASSERT(e->key.len >= 1 && e->key.len <= INTERNAL_KEY_MAX && e->value.len <= KV_VALUE_MAX);
	KV_ASSERT(e->version != 0);
	*height = random_height(&random);
	size = node_size(e->key.len, e->value.len, *height, e->expire_ms != 0);
	if (size > memtable_room(m))
		return status_fail(ST_BUSY, "memtable is full: %zu bytes wanted, %zu left", size, memtable_room(m));
	m->random = random;
	return ST_OK;
}

Status
memtable_add(Memtable *m, const Entry *e)
{
	Target t = target_of(e->key, e->version);
	unsigned height;

	KV_TRY(draw_height(m, e, &height));
	find_place(m, &t, m->hint); /* the hint of a level never used is the head */
	insert_behind(m, e, &t, height, m->hint);
	m->hint_valid = 1;
	return ST_OK;
}

/* One of several searches that take turns. */
typedef struct Walk {
	Target t;
	Link at, next, known_after;
	int level; /* -1: done */
	Link path[HEIGHT_MAX];
} Walk;

static void
walk_aim(const Memtable *m, Walk *w)
{
	w->next = next_of(m, w->at, w->level);
	__builtin_prefetch(node_at(m, w->next));
	__builtin_prefetch((const uint8_t *) node_at(m, w->next) + 48); /* tower and key may lie on the next line */
}

static void
walk_start(const Memtable *m, Walk *w, const Entry *e)
{
	memset(w->path, 0, sizeof w->path);
	w->t = target_of(e->key, e->version);
	w->at = w->known_after = 0;
	w->level = (int) atomic_load_explicit(&m->height, memory_order_relaxed) - 1;
	__builtin_prefetch(bucket_of(m, e->key));
	walk_aim(m, w);
}

/* Go on until a node has to be fetched (then false) or the search is over. */
static bool
walk_step(const Memtable *m, Walk *w)
{
	if (w->next != 0 && w->next != w->known_after && node_before(node_at(m, w->next), &w->t)) {
		w->at = w->next;
		walk_aim(m, w);
		return false;
	}
	do {
		w->known_after = w->next;
		w->path[w->level] = w->at;
		if (--w->level < 0)
			return true;
		w->next = next_of(m, w->at, w->level);
	} while (w->next == 0 || w->next == w->known_after);
	walk_aim(m, w);
	return false;
}

/* Searches of a batch take turns, so that their cache misses overlap. */
static void
walk_all(const Memtable *m, Walk *w, int n)
{
	bool busy = true;

	while (busy) {
		busy = false;
		for (int i = 0; i < n; i++)
			if (w[i].level >= 0 && !walk_step(m, &w[i]))
				busy = true;
	}
}

/* The walk's path may be behind what the batch itself has inserted since: move on on the levels that matter. */
static void
walk_catch_up(const Memtable *m, Walk *w, unsigned height)
{
	for (unsigned level = 0; level < height; level++)
		for (;;) {
			Link next = next_of(m, w->path[level], (int) level);

			if (next == 0 || !node_before(node_at(m, next), &w->t))
				break;
			w->path[level] = next;
		}
}

/* Does e continue an ascending run right behind the last insertion? Then searching is not what costs. */
static bool
continues_run(const Memtable *m, const Entry *e)
{
	Target t = target_of(e->key, e->version);
	Link next;

	if (!m->hint_valid || m->hint[0] == 0 || !node_before(node_at(m, m->hint[0]), &t))
		return false;
	next = next_of(m, m->hint[0], 0);
	return next == 0 || !node_before(node_at(m, next), &t);
}

Status
memtable_add_many(Memtable *m, const Entry *e, int n)
{
	Walk walks[MEMTABLE_BATCH];
	unsigned height;
	int i = 0;

	KV_ASSERT(n >= 0 && n <= MEMTABLE_BATCH);
	if (n > 1 && !continues_run(m, &e[0])) {
		for (int k = 0; k < n; k++)
			walk_start(m, &walks[k], &e[k]);
		walk_all(m, walks, n);
		for (int k = 0; k < n; k++)
			memtable_prefetch(m, e[k].key);
		m->hint_valid = 0; /* paths of upper levels are not kept exact; the last one below restores it */
		for (; i < n - 1; i++) {
			KV_TRY(draw_height(m, &e[i], &height));
			walk_catch_up(m, &walks[i], height);
			insert_behind(m, &e[i], &walks[i].t, height, walks[i].path);
		}
	}
	for (; i < n; i++)
		KV_TRY(memtable_add(m, &e[i]));
	return ST_OK;
}

void
memtable_node_entry(const Node *n, Entry *out)
{
	const uint8_t *p = node_payload(n);

	out->version = n->version;
	out->kind = n->kind ? ENTRY_DELETE : ENTRY_PUT;
	out->expire_ms = 0;
	if (n->expires) {
		memcpy(&out->expire_ms, p, 8);
		p += 8;
	}
	out->key = slice_of(p, n->key_len);
	out->value = slice_of(p + n->key_len, n->value_len);
}

/* memtable_get() from its bucket on. */
static bool
bucket_get(const Memtable *m, const _Atomic Link *bucket, Slice key, uint64_t snapshot, Entry *out)
{
	Target t = target_of(key, 0);
	Link link = atomic_load_explicit(bucket, memory_order_acquire);

	while (link != 0 && !node_has_key(node_at(m, link), &t))
		link = atomic_load_explicit(&node_at(m, link)->chain, memory_order_acquire);
	if (link == 0)
		return false;
	/* Older versions follow. A hot key may have very many newer ones: after some steps, search. */
	for (int steps = 0; node_at(m, link)->version >= snapshot; steps++) {
		if (snapshot == 0)
			return false;
		t.version = snapshot - 1;
		link = steps < WALK_MAX ? next_of(m, link, 0) : next_of(m, memtable_search(m, &t, NULL), 0);
		if (link == 0 || !node_has_key(node_at(m, link), &t))
			return false;
	}
	memtable_node_entry(node_at(m, link), out);
	return true;
}

bool
memtable_get(const Memtable *m, Slice key, uint64_t snapshot, Entry *out)
{
	uint32_t nranges = ranges_now(m);
	bool found = bucket_get(m, bucket_of(m, key), key, snapshot, out);

	return nranges == 0 ? found : memtable_hide(m, nranges, key, snapshot, found, out);
}

static void
prefetch_node(const Memtable *m, const _Atomic Link *bucket)
{
	/* The load of the bucket is itself a miss, but those of a batch overlap: nothing here waits for it. */
	const uint8_t *n = (const uint8_t *) node_at(m, atomic_load_explicit(bucket, memory_order_relaxed));

	__builtin_prefetch(n);
	__builtin_prefetch(n + 64);
}

void
memtable_prefetch(const Memtable *m, Slice key)
{
	prefetch_node(m, bucket_of(m, key));
}

void
memtable_get_many(const Memtable *m, const Slice *keys, int n, uint64_t snapshot, Entry *out, bool *found)
{
	const _Atomic Link *bucket[MEMTABLE_BATCH_MAX];
	uint32_t nranges = ranges_now(m);

	KV_ASSERT(n >= 0 && n <= MEMTABLE_BATCH_MAX);
	/* what the snapshot sees was counted before the reader had its snapshot */
	if (memtable_count(m) == 0 && nranges == 0)
		return;
	for (int i = 0; i < n; i++) {
		if (found[i])
			continue;
		bucket[i] = bucket_of(m, keys[i]);
		__builtin_prefetch((const void *) (uintptr_t) bucket[i]);
	}
	for (int i = 0; i < n; i++)
		if (!found[i])
			prefetch_node(m, bucket[i]);
	for (int i = 0; i < n; i++)
		if (!found[i])
			found[i] = bucket_get(m, bucket[i], keys[i], snapshot, &out[i]);
	for (int i = 0; i < n && nranges > 0; i++)
		found[i] = memtable_hide(m, nranges, keys[i], snapshot, found[i], &out[i]);
}
