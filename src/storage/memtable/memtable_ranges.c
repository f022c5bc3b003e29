/*
 * memtable_ranges.c - range deletions of a memtable: a short list in the order of their versions.
 *
 * Written by whoever holds the APPLY lock, read by any process under an epoch pin without locks. A range deletion is
 * complete, its keys too, before the store (release) of the count that includes it; readers load the count first
 * (acquire). Whoever has a snapshot that sees it sees the count, for the reason given in memtable.c.
 *
 * Each read of the memtable goes through the list, so it is short; the first key bytes inlined decide most comparisons.
 */
#include "common/kv_assert.h"
#include "memtable_internal.h"

static const uint8_t *
range_keys(const Memtable *m, const RangeItem *r)
{
	return (const uint8_t *) node_at(m, r->keys);
}

/* Is key before the bound, given the first bytes of both? */
static inline bool
before(Slice key, uint64_t prefix, Slice bound, uint64_t bound_prefix)
{
	return prefix != bound_prefix ? prefix < bound_prefix : slice_cmp(key, bound) < 0;
}

static bool
covers(const Memtable *m, const RangeItem *r, Slice key, uint64_t prefix)
{
	const uint8_t *keys = range_keys(m, r);

	if (prefix < r->start_prefix || prefix > r->end_prefix)
		return false;
	return !before(key, prefix, slice_of(keys, r->start_len), r->start_prefix) &&
	       before(key, prefix, slice_of(keys + r->start_len, r->end_len), r->end_prefix);
}

uint32_t
memtable_ranges(const Memtable *m)
{
	return ranges_now(m);
}

void
memtable_range(const Memtable *m, uint32_t i, RangeDelete *out)
{
	const RangeItem *r = &m->range[i];
	const uint8_t *keys = range_keys(m, r);

	KV_ASSERT(i < memtable_ranges(m));
	out->version = r->version;
	out->start = slice_of(keys, r->start_len);
	out->end = slice_of(keys + r->start_len, r->end_len);
}

size_t
memtable_range_bytes(const Memtable *m)
{
	size_t bytes = 0;

	for (uint32_t i = 0, n = memtable_ranges(m); i < n; i++)
		bytes += m->range[i].start_len + m->range[i].end_len;
	return bytes;
}

Status
memtable_add_range(Memtable *m, const RangeDelete *r)
{
	uint32_t n = memtable_ranges(m);
	uint64_t used = atomic_load_explicit(&m->used, memory_order_relaxed);
	size_t size = (r->start.len + r->end.len + UNIT - 1) & ~(size_t) (UNIT - 1);
	RangeItem *item = &m->range[n];
	uint8_t *keys;

	KV_ASSERT(range_is_sound(r->start, r->end));
	KV_ASSERT(n == 0 || m->range[n - 1].version < r->version);
	if (n == MEMTABLE_RANGES_MAX || size > memtable_room(m))
		return status_fail(ST_BUSY, "memtable is full: %u range deletions, %zu bytes left", n, memtable_room(m));
	item->keys = (Link) (used / UNIT);
	item->start_len = (uint32_t) r->start.len;
	item->end_len = (uint32_t) r->end.len;
	item->start_prefix = key_prefix(r->start);
	item->end_prefix = key_prefix(r->end);
	item->version = r->version;
	keys = (uint8_t *) node_at(m, item->keys);
	memcpy(keys, r->start.data, r->start.len);
	memcpy(keys + r->start.len, r->end.data, r->end.len);
	atomic_store_explicit(&m->used, used + size, memory_order_relaxed);
	atomic_store_explicit(&m->nranges, n + 1, memory_order_release);
	return ST_OK;
}

bool
memtable_hide(const Memtable *m, uint32_t n, Slice key, uint64_t snapshot, bool found, Entry *e)
{
	uint64_t prefix = key_prefix(key), newer_than = found ? e->version : 0;

	for (uint32_t i = n; i-- > 0;) {
		const RangeItem *r = &m->range[i];

		if (r->version <= newer_than)
			break; /* and so are those before it */
		if (r->version >= snapshot || !covers(m, r, key, prefix))
			continue;
		e->key = key;
		entry_hide(e, r->version);
		return true;
	}
	return found;
}

void
memtable_cover(const Memtable *m, Slice key, uint64_t snapshot, Cover *narrow)
{
	uint32_t n = memtable_ranges(m);
	RangeDelete r;

	for (uint32_t i = 0; i < n && m->range[i].version < snapshot; i++) {
		memtable_range(m, i, &r);
		cover_add(narrow, key, &r);
	}
}
