/*
 * through_iter.c - an iterator that seeks past what range deletions hide, instead of walking through it.
 *
 * Any process; memory private to it. Over a source all of whose entries are older than one version (a table, a frozen
 * memtable): where a newer range deletion lies over the key, nothing of the source is seen up to where it ends.
 */
#include <stdlib.h>

#include "lsm_internal.h"

typedef struct ThroughIter {
	Iter base;
	Iter *it;
	uint64_t below;
	const RangeView *view;
	Cover cover;
} ThroughIter;

static void
settle(ThroughIter *t, bool back)
{
	Iter *it = t->it;

	while (it->valid && range_view_at(t->view, it->entry.key, &t->cover) >= t->below) {
		if (back)
			iter_seek_before(it, t->cover.from, UINT64_MAX);
		else
			iter_seek(it, t->cover.to, UINT64_MAX);
	}
	t->base.valid = it->valid;
	t->base.status = it->status;
	if (it->valid)
		t->base.entry = it->entry;
}

static void
op_seek_first(Iter *base)
{
	iter_seek_first(((ThroughIter *) base)->it);
	settle((ThroughIter *) base, false);
}

static void
op_seek_last(Iter *base)
{
	iter_seek_last(((ThroughIter *) base)->it);
	settle((ThroughIter *) base, true);
}

static void
op_seek(Iter *base, Slice key, uint64_t version)
{
	iter_seek(((ThroughIter *) base)->it, key, version);
	settle((ThroughIter *) base, false);
}

static void
op_seek_before(Iter *base, Slice key, uint64_t version)
{
	iter_seek_before(((ThroughIter *) base)->it, key, version);
	settle((ThroughIter *) base, true);
}

static void
op_next(Iter *base)
{
	iter_next(((ThroughIter *) base)->it);
	settle((ThroughIter *) base, false);
}

static void
op_prev(Iter *base)
{
	iter_prev(((ThroughIter *) base)->it);
	settle((ThroughIter *) base, true);
}

static void
op_close(Iter *base)
{
	iter_close(((ThroughIter *) base)->it);
	free(base);
}

static const IterOps through_ops = {
	.seek_first = op_seek_first,
	.seek_last = op_seek_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.close = op_close,
};

Iter *
iter_through(Iter *it, uint64_t below, const RangeView *view)
{
	ThroughIter *t;

	if (it == NULL)
		return NULL;
	t = calloc(1, sizeof *t);
	if (t == NULL) {
		iter_close(it);
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory for an iterator");
		return NULL;
	}
	t->base.ops = &through_ops;
	t->it = it;
	t->below = below;
	t->view = view;
	return &t->base;
}
