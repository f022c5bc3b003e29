/*
 * iter_merge.c - one ordered iterator over several: a binary heap of sources.
 *
 * Any process; memory private to it. A (key, version) pair exists once, so there are no ties. All sources
 * stand on the same side of the current entry: at or after it going forward, at or before it going back;
 * a change of direction seeks all but the current one anew. The failure of any source ends the merge: leaving
 * it out would show older versions as the newest.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "storage/lsm.h"

typedef struct MergeIter {
	Iter base;
	int nsources;
	int nheap;        /* valid sources, heap order; [0] has the current entry */
	int second;       /* better child of the top, 0 unknown: a run from one source costs one comparison */
	bool back;
	Iter **heap;
	Iter *sources[];  /* [nsources], then the heap's room */
} MergeIter;

static inline bool
before(const MergeIter *m, const Iter *a, const Iter *b)
{
	int c = entry_cmp(a->entry.key, a->entry.version, b->entry.key, b->entry.version);

	return m->back ? c > 0 : c < 0;
}

static void
sift_down(MergeIter *m, int i)
{
	Iter *it = m->heap[i];

	for (;;) {
		int child = 2 * i + 1;

		if (child >= m->nheap)
			break;
		if (child + 1 < m->nheap && before(m, m->heap[child + 1], m->heap[child]))
			child++;
		if (before(m, it, m->heap[child]))
			break;
		m->heap[i] = m->heap[child];
		i = child;
	}
	m->heap[i] = it;
}

static void
show_top(MergeIter *m)
{
	m->base.valid = m->nheap > 0;
	if (m->nheap > 0)
		m->base.entry = m->heap[0]->entry;
}

static void
fail(MergeIter *m, Status st)
{
	m->base.valid = false;
	m->base.status = st;
	m->nheap = 0;
}

/* All sources have been positioned for the direction `back`. */
static void
rebuild(MergeIter *m, bool back)
{
	m->back = back;
	m->second = 0;
	m->nheap = 0;
	m->base.status = ST_OK;
	for (int i = 0; i < m->nsources; i++) {
		if (m->sources[i]->valid)
			m->heap[m->nheap++] = m->sources[i];
		else if (m->sources[i]->status != ST_OK) {
			fail(m, m->sources[i]->status);
			return;
		}
	}
	for (int i = m->nheap / 2 - 1; i >= 0; i--)
		sift_down(m, i);
	show_top(m);
}

/* The top source has moved. */
static void
settle_top(MergeIter *m)
{
	Iter *top = m->heap[0];

	if (!top->valid) {
		if (top->status != ST_OK) {
			fail(m, top->status);
			return;
		}
		m->heap[0] = m->heap[--m->nheap];
		m->second = 0;
		if (m->nheap > 0)
			sift_down(m, 0);
		show_top(m);
		return;
	}
	if (m->nheap > 1) {
		if (m->second == 0)
			m->second = m->nheap > 2 && before(m, m->heap[2], m->heap[1]) ? 2 : 1;
		if (!before(m, top, m->heap[m->second])) {
			m->heap[0] = m->heap[m->second];
			m->heap[m->second] = top;
			sift_down(m, m->second);
			m->second = 0;
		}
	}
	show_top(m);
}

static void
turn(MergeIter *m, bool back)
{
	Iter *top = m->heap[0];
	Slice key = top->entry.key;
	uint64_t version = top->entry.version;

	/* The key lies in the top source: that one moves last. */
	for (int i = 0; i < m->nsources; i++) {
		if (m->sources[i] == top)
			continue;
		if (back)
			iter_seek_before(m->sources[i], key, version);
		else
			iter_seek(m->sources[i], key, version);
	}
	if (back)
		iter_prev(top);
	else
		iter_next(top);
	rebuild(m, back);
}

static void
op_seek_first(Iter *base)
{
	MergeIter *m = (MergeIter *) base;

	for (int i = 0; i < m->nsources; i++)
		iter_seek_first(m->sources[i]);
	rebuild(m, false);
}

static void
op_seek_last(Iter *base)
{
	MergeIter *m = (MergeIter *) base;

	for (int i = 0; i < m->nsources; i++)
		iter_seek_last(m->sources[i]);
	rebuild(m, true);
}

static void
op_seek(Iter *base, Slice key, uint64_t version)
{
	MergeIter *m = (MergeIter *) base;

	for (int i = 0; i < m->nsources; i++)
		iter_seek(m->sources[i], key, version);
	rebuild(m, false);
}

static void
op_seek_before(Iter *base, Slice key, uint64_t version)
{
	MergeIter *m = (MergeIter *) base;

	for (int i = 0; i < m->nsources; i++)
		iter_seek_before(m->sources[i], key, version);
	rebuild(m, true);
}

static void
op_next(Iter *base)
{
	MergeIter *m = (MergeIter *) base;

	KV_ASSERT(base->valid);
	if (m->back) {
		turn(m, false);
		return;
	}
	iter_next(m->heap[0]);
	settle_top(m);
}

static void
op_prev(Iter *base)
{
	MergeIter *m = (MergeIter *) base;

	KV_ASSERT(base->valid);
	if (!m->back) {
		turn(m, true);
		return;
	}
	iter_prev(m->heap[0]);
	settle_top(m);
}

static void
op_close(Iter *base)
{
	MergeIter *m = (MergeIter *) base;

	for (int i = 0; i < m->nsources; i++)
		iter_close(m->sources[i]);
	free(m);
}

static const IterOps merge_ops = {
	.seek_first = op_seek_first,
	.seek_last = op_seek_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.close = op_close,
};

Iter *
iter_merge(Iter **sources, int n)
{
	MergeIter *m;

	KV_ASSERT(n >= 0);
	if (n == 1)
		return sources[0];
	m = calloc(1, sizeof *m + 2 * (size_t) n * sizeof(Iter *));
	if (m == NULL) {
		for (int i = 0; i < n; i++)
			iter_close(sources[i]);
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory for an iterator over %d sources", n);
		return NULL;
	}
	m->base.ops = &merge_ops;
	m->nsources = n;
	m->heap = m->sources + n;
	if (n > 0)
		memcpy(m->sources, sources, (size_t) n * sizeof(Iter *));
	return &m->base;
}
