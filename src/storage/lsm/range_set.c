/*
 * range_set.c - the range deletions of a Version: immutable, in the shared heap, found by binary search.
 *
 * Made by whoever makes Versions, read by anyone under a pin. No locks but HEAP inside the heap.
 *
 * The ends of all of them cut the keys into fragments, within each of which the same ones hold; a fragment lists their
 * versions, newest first. Of those below the oldest snapshot there is, only the newest can ever be the answer.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "ipc/shheap.h"
#include "lsm_internal.h"

/* While one is made: private memory. */
typedef struct Draft {
	const RangeDelete *list;   /* by version */
	uint32_t n;
	uint64_t oldest;
	Slice *bounds;             /* ends of the list's ranges, sorted, each once */
	uint32_t nbounds;
	uint32_t *count;           /* [nbounds] versions of the fragment that begins at the bound */
	bool *closed;              /* [nbounds] it has one below oldest: older ones do not matter */
	size_t key_bytes, nversions;
} Draft;

static int
bound_order(const void *a, const void *b)
{
	return slice_cmp(*(const Slice *) a, *(const Slice *) b);
}

/* Last bound <= key: its fragment; -1 before the first one. */
static int64_t
find_fragment(const Slice *bounds, uint32_t n, Slice key)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (slice_cmp(bounds[mid], key) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (int64_t) lo - 1;
}

static Status
draft_bounds(Draft *d)
{
	uint32_t m = 0;

	d->bounds = malloc(2 * (size_t) d->n * sizeof *d->bounds);
	d->count = calloc(2 * (size_t) d->n, sizeof *d->count);
	d->closed = calloc(2 * (size_t) d->n, sizeof *d->closed);
	if (d->bounds == NULL || d->count == NULL || d->closed == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory to sort %u range deletions", d->n);
	for (uint32_t i = 0; i < d->n; i++) {
		d->bounds[2 * i] = d->list[i].start;
		d->bounds[2 * i + 1] = d->list[i].end;
	}
	qsort(d->bounds, 2 * (size_t) d->n, sizeof *d->bounds, bound_order);
	for (uint32_t i = 0; i < 2 * d->n; i++)
		if (m == 0 || !slice_eq(d->bounds[m - 1], d->bounds[i]))
			d->bounds[m++] = d->bounds[i];
	d->nbounds = m;
	return ST_OK;
}

static void
draft_free(Draft *d)
{
	free(d->bounds);
	free(d->count);
	free(d->closed);
}

/*
 * Newest first, each range into its fragments. With versions NULL they are only counted; else first[] says where a
 * fragment's begin, and count[] starts from zero again.
 */
static void
spread(Draft *d, const uint32_t *first, uint64_t *versions)
{
	memset(d->count, 0, d->nbounds * sizeof *d->count);
	memset(d->closed, 0, d->nbounds * sizeof *d->closed);
	for (uint32_t i = d->n; i-- > 0;) {
		const RangeDelete *r = &d->list[i];
		uint32_t at = (uint32_t) find_fragment(d->bounds, d->nbounds, r->start);

		for (; slice_cmp(d->bounds[at], r->end) < 0; at++) {
			if (d->closed[at])
				continue;
			d->closed[at] = r->version < d->oldest;
			if (versions != NULL)
				versions[first[at] + d->count[at]] = r->version;
			d->count[at]++;
			d->nversions++;
		}
	}
}

/* The set's own copies of all keys. */
static void
copy_list(RangeSet *s, const Draft *d, RangeDelete *list, uint8_t *keys)
{
	for (uint32_t i = 0; i < d->n; i++) {
		const RangeDelete *r = &d->list[i];

		list[i].version = r->version;
		memcpy(keys, r->start.data, r->start.len);
		list[i].start = slice_of(keys, r->start.len);
		keys += r->start.len;
		memcpy(keys, r->end.data, r->end.len);
		list[i].end = slice_of(keys, r->end.len);
		keys += r->end.len;
	}
	s->list = list;
	s->n = d->n;
}

/* A fragment begins where some range begins or ends: with that range's key. */
static void
copy_bounds(RangeSet *s, const Draft *d, Slice *bounds)
{
	for (uint32_t i = 0; i < s->n; i++) {
		bounds[find_fragment(d->bounds, d->nbounds, s->list[i].start)] = s->list[i].start;
		bounds[find_fragment(d->bounds, d->nbounds, s->list[i].end)] = s->list[i].end;
	}
	s->bounds = bounds;
	s->nbounds = d->nbounds;
}

static Status
lay_out(Draft *d, RangeSet **out)
{
	size_t lists = d->n * sizeof(RangeDelete), bounds = d->nbounds * sizeof(Slice);
	size_t versions = d->nversions * sizeof(uint64_t), firsts = (d->nbounds + 1) * sizeof(uint32_t);
	size_t bytes = sizeof(RangeSet) + lists + bounds + versions + firsts + d->key_bytes;
	RangeSet *s = shheap_alloc(bytes);
	uint8_t *p = (uint8_t *) (s + 1);
	uint64_t *v = (uint64_t *) (void *) (p + lists + bounds);
	uint32_t *first = (uint32_t *) (void *) (p + lists + bounds + versions);

	if (s == NULL)
		return heap_full();
	s->refs = 1;
	s->key_bytes = d->key_bytes;
	copy_list(s, d, (RangeDelete *) (void *) p, (uint8_t *) first + firsts);
	copy_bounds(s, d, (Slice *) (void *) (p + lists));
	first[0] = 0;
	for (uint32_t i = 0; i < d->nbounds; i++)
		first[i + 1] = first[i] + d->count[i];
	spread(d, first, v);
	s->first = first;
	s->versions = v;
	*out = s;
	return ST_OK;
}

Status
range_set_make(const RangeDelete *list, uint32_t n, uint64_t oldest, RangeSet **out)
{
	Draft d = { .list = list, .n = n, .oldest = oldest };
	Status st;

	*out = NULL;
	if (n == 0)
		return ST_OK;
	for (uint32_t i = 0; i < n; i++) {
		KV_ASSERT(slice_cmp(list[i].start, list[i].end) < 0 && (i == 0 || list[i - 1].version < list[i].version));
		d.key_bytes += list[i].start.len + list[i].end.len;
	}
	st = draft_bounds(&d);
	if (st == ST_OK) {
		spread(&d, NULL, NULL);
		st = lay_out(&d, out);
	}
	draft_free(&d);
	return st;
}

void
range_set_drop(RangeSet *s)
{
	if (s != NULL && --s->refs == 0)
		shheap_free(s);
}

/* The newest of a fragment's versions below snapshot. */
static uint64_t
newest_below(const uint64_t *versions, uint32_t n, uint64_t snapshot)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (versions[mid] >= snapshot)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n ? versions[lo] : 0;
}

void
range_set_cover(const RangeSet *s, Slice key, uint64_t snapshot, Cover *narrow)
{
	int64_t at = find_fragment(s->bounds, s->nbounds, key);
	uint64_t version;

	if (at >= 0)
		cover_bound(narrow, key, s->bounds[at]);
	if (at + 1 < s->nbounds)
		cover_bound(narrow, key, s->bounds[at + 1]);
	if (at < 0)
		return;
	version = newest_below(s->versions + s->first[at], s->first[at + 1] - s->first[at], snapshot);
	if (version > narrow->version)
		narrow->version = version;
}

/* ---- what the rest of the engine asks of a Version */
void
lsm_cover(const Version *v, Slice key, uint64_t snapshot, Cover *narrow)
{
	if (v->ranges != NULL)
		range_set_cover(v->ranges, key, snapshot, narrow);
}

uint32_t
lsm_ranges(const Version *v)
{
	return v->ranges != NULL ? v->ranges->n : 0;
}

uint32_t
lsm_ranges_below(const Version *v, uint64_t version)
{
	uint32_t n = 0;

	while (n < lsm_ranges(v) && v->ranges->list[n].version < version)
		n++;
	return n;
}

uint64_t
lsm_newest_range(const Version *v)
{
	return v->ranges != NULL ? v->ranges->list[v->ranges->n - 1].version : 0;
}

size_t
lsm_range_key_bytes(const Version *v)
{
	return v->ranges != NULL ? v->ranges->key_bytes : 0;
}

uint32_t
lsm_range_fragments(const Version *v)
{
	return v->ranges != NULL ? v->ranges->nbounds - 1 : 0;
}

void
lsm_hide(const Version *v, uint64_t snapshot, Entry *e)
{
	Cover c = COVER_ALL;

	range_set_cover(v->ranges, e->key, snapshot, &c);
	if (e->version < c.version)
		entry_hide(e, c.version);
}
