/*
 * level_iter.c - iterator over a sorted run of tables with disjoint keys, one open at a time.
 *
 * Any process, under a pin, or the compaction worker, whose newest Version keeps the tables. All versions of
 * a key are in one table (asserted when a Version is made), so a seek looks at one table and at most its
 * neighbour.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "lsm_internal.h"

typedef struct LevelIter {
	Iter base;
	Table *const *tables;
	uint32_t n;
	uint32_t open;      /* table of `table`; n: none */
	TableIterOptions opt;
	const RangeView *view; /* NULL: every entry is shown */
	Iter *table;
} LevelIter;

bool
table_hidden(const Table *t, const RangeView *view)
{
	Cover c = { .known = false };
	Slice at = t->smallest;

	while (range_view_at(view, at, &c) > t->info.version_max) {
		if (c.to.len == 0 || slice_cmp(c.to, t->largest) > 0)
			return true;
		at = c.to;
	}
	return false;
}

static bool
open_table(LevelIter *it, uint32_t i)
{
	if (it->open == i)
		return true;
	iter_close(it->table);
	it->open = it->n;
	it->table = table_iter(&it->tables[i]->info, it->opt);
	if (it->table != NULL && it->view != NULL)
		it->table = iter_through(it->table, it->tables[i]->info.version_max + 1, it->view);
	if (it->table == NULL) {
		it->base.valid = false;
		it->base.status = ST_OUT_OF_MEMORY;
		return false;
	}
	it->open = i;
	return true;
}

/* The next table of the direction that shows anything. */
static bool
next_table(const LevelIter *it, bool back, uint32_t *i)
{
	*i = it->open;
	do {
		if (back ? *i == 0 : *i + 1 == it->n)
			return false;
		*i = back ? *i - 1 : *i + 1;
	} while (it->view != NULL && table_hidden(it->tables[*i], it->view));
	return true;
}

/* Take over what the open table shows; at its end go on in the next one of the direction. */
static void
settle(LevelIter *it, bool back)
{
	uint32_t next;

	while (!it->table->valid) {
		it->base.valid = false;
		it->base.status = it->table->status;
		if (it->table->status != ST_OK || !next_table(it, back, &next) || !open_table(it, next))
			return;
		if (back)
			iter_seek_last(it->table);
		else
			iter_seek_first(it->table);
	}
	it->base.valid = true;
	it->base.status = ST_OK;
	it->base.entry = it->table->entry;
}

static bool
start(LevelIter *it, uint32_t i)
{
	it->base.valid = false;
	it->base.status = ST_OK;
	return i < it->n && open_table(it, i);
}

static void
op_seek_first(Iter *base)
{
	LevelIter *it = (LevelIter *) base;

	if (!start(it, 0))
		return;
	iter_seek_first(it->table);
	settle(it, false);
}

static void
op_seek_last(Iter *base)
{
	LevelIter *it = (LevelIter *) base;

	if (!start(it, it->n - 1))
		return;
	iter_seek_last(it->table);
	settle(it, true);
}

static void
op_seek(Iter *base, Slice key, uint64_t version)
{
	LevelIter *it = (LevelIter *) base;

	if (!start(it, version_find(it->tables, it->n, key)))
		return;
	iter_seek(it->table, key, version);
	settle(it, false);
}

static void
op_seek_before(Iter *base, Slice key, uint64_t version)
{
	LevelIter *it = (LevelIter *) base;
	uint32_t i = version_find(it->tables, it->n, key);

	if (i == it->n) {
		op_seek_last(base);
		return;
	}
	if (!start(it, i))
		return;
	iter_seek_before(it->table, key, version);
	settle(it, true);
}

static void
op_next(Iter *base)
{
	LevelIter *it = (LevelIter *) base;

	KV_ASSERT(base->valid);
	iter_next(it->table);
	settle(it, false);
}

static void
op_prev(Iter *base)
{
	LevelIter *it = (LevelIter *) base;

	KV_ASSERT(base->valid);
	iter_prev(it->table);
	settle(it, true);
}

static void
op_close(Iter *base)
{
	LevelIter *it = (LevelIter *) base;

	iter_close(it->table);
	free(it);
}

static const IterOps level_ops = {
	.seek_first = op_seek_first,
	.seek_last = op_seek_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.close = op_close,
};

Iter *
level_iter(Table *const *tables, uint32_t n, TableIterOptions opt)
{
	return level_iter_through(tables, n, opt, NULL);
}

Iter *
level_iter_through(Table *const *tables, uint32_t n, TableIterOptions opt, const RangeView *view)
{
	LevelIter *it = calloc(1, sizeof *it);

	if (it == NULL) {
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory for an iterator over a level");
		return NULL;
	}
	it->base.ops = &level_ops;
	it->tables = tables;
	it->n = n;
	it->open = n;
	it->opt = opt;
	it->view = view;
	return &it->base;
}
