/*
 * iter.c - iterator over one table: a cursor in each index level and one in the data block.
 *
 * Any process, under an epoch pin; memory private to the iterator. Blocks it got from the cache stay by
 * the pin, others lie in buffers of the cursors and stay until that cursor moves to another block.
 *
 * Invariant: while valid, path[i] names path[i + 1] (path[0] the root), the last one names the data block.
 * Data blocks follow each other in the file: an index that leads back is damage, so every walk ends.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "sstable_internal.h"

typedef struct IndexCursor {
	BlockHandle at;
	IndexView view;
	uint32_t i;
	Buf own;
} IndexCursor;

typedef struct TableIter {
	Iter base;
	const TableInfo *t;
	BlockFile file;
	bool fill_cache;
	BlockHandle data_at;    /* the block that `data` moves in */
	DataCursor data;
	Buf own;                /* data block unpacked from the window */
	ReadWindow window;      /* data blocks that are not in the cache */
	uint32_t height;
	IndexCursor path[];     /* [0] root .. [height - 1] */
} TableIter;

static void
fail(TableIter *it, Status st)
{
	it->base.valid = false;
	it->base.status = st;
}

/* A data block: from the cache, else from the file with what comes after it. */
static Status
load_data(TableIter *it, BlockHandle h, Slice *out)
{
	bool cacheable = h.size <= CACHE_BLOCK_MAX && !it->window.always;

	if (cacheable && cache_lookup(it->t->number, h.offset, CACHE_SCAN, out)) {
		window_hit(&it->window);
		return block_size_fits(*out, h) ? ST_OK
		                                : table_damaged(it->t, h.offset, "its size differs from the index");
	}
	KV_TRY(window_load(&it->window, &it->file, h, &it->own, out));
	if (cacheable && it->fill_cache)
		(void) cache_insert(it->t->number, h.offset, *out, CACHE_SCAN, out);
	return ST_OK;
}

static Status
open_data(TableIter *it)
{
	IndexCursor *leaf = &it->path[it->height - 1];
	BlockHandle h;
	Slice block;

	if (!index_child(&leaf->view, leaf->i, &h))
		return table_damaged(it->t, leaf->at.offset, "malformed index");
	KV_TRY(block_child_check(it->t, leaf->at, h));
	KV_TRY(load_data(it, h, &block));
	if (!data_cursor_open(&it->data, block))
		return table_damaged(it->t, h.offset, "malformed entries");
	it->data_at = h;
	return ST_OK;
}

/* Load the index block that path[level - 1] names (level 0: the root). */
static Status
open_index(TableIter *it, uint32_t level, BlockUse use)
{
	IndexCursor *c = &it->path[level];
	BlockHandle h = { it->t->root_offset, it->t->root_size };
	Slice block;

	if (level > 0) {
		if (!index_child(&c[-1].view, c[-1].i, &h))
			return table_damaged(it->t, c[-1].at.offset, "malformed index");
		KV_TRY(block_child_check(it->t, c[-1].at, h));
	}
	c->at = h;
	KV_TRY(block_load(&it->file, h, it->window.always ? BLOCK_PAST : use, &c->own, &block));
	return index_open(&c->view, block) ? ST_OK : table_damaged(it->t, h.offset, "malformed index");
}

/* From `level` down at the first or last item of each block, to the data block. */
static Status
descend_edge(TableIter *it, uint32_t level, bool last)
{
	for (; level < it->height; level++) {
		KV_TRY(open_index(it, level, BLOCK_KEEP)); /* a scan comes by each once: no reason for it to stay long */
		it->path[level].i = last ? it->path[level].view.n - 1 : 0;
	}
	return open_data(it);
}

/* Step to the neighbouring data block. *end: there is none. */
static Status
step_block(TableIter *it, bool back, bool *end)
{
	BlockHandle from = it->data_at;
	uint32_t level = it->height;

	*end = false;
	for (;;) {
		IndexCursor *c;

		if (level == 0) {
			*end = true;
			return ST_OK;
		}
		c = &it->path[--level];
		if (back ? c->i > 0 : c->i + 1 < c->view.n) {
			c->i = back ? c->i - 1 : c->i + 1;
			break;
		}
	}
	KV_TRY(descend_edge(it, level + 1, back));
	if (back ? it->data_at.offset >= from.offset : it->data_at.offset <= from.offset)
		return table_damaged(it->t, it->path[it->height - 1].at.offset, "index out of order");
	return ST_OK;
}

/* After a data cursor call: its result becomes the iterator's. */
static void
settle(TableIter *it, bool ok)
{
	if (!ok) {
		fail(it, it->data.out_of_memory ? status_fail(ST_OUT_OF_MEMORY, "no memory to read a table entry")
		                                : table_damaged(it->t, it->data_at.offset, "malformed entries"));
		return;
	}
	it->base.valid = data_cursor_valid(&it->data);
	it->base.entry = it->data.entry;
}

/* The data cursor ran off its block: go on in the next one or end. */
static void
cross(TableIter *it, bool back)
{
	bool end;
	Status st;

	if (it->base.valid || it->base.status != ST_OK)
		return;
	st = step_block(it, back, &end);
	if (st != ST_OK)
		fail(it, st);
	else if (!end)
		settle(it, back ? data_cursor_last(&it->data) : data_cursor_first(&it->data));
}

static void
seek_edge(Iter *base, bool last)
{
	TableIter *it = (TableIter *) base;
	Status st;

	base->status = ST_OK;
	base->valid = false;
	st = descend_edge(it, 0, last);
	if (st != ST_OK)
		fail(it, st);
	else
		settle(it, last ? data_cursor_last(&it->data) : data_cursor_first(&it->data));
}

static void
op_seek_first(Iter *base)
{
	seek_edge(base, false);
}

static void
op_seek_last(Iter *base)
{
	seek_edge(base, true);
}

/* *beyond: every entry is before (key, version). */
static Status
seek_blocks(TableIter *it, Slice key, uint64_t version, bool *beyond)
{
	*beyond = false;
	for (uint32_t level = 0; level < it->height; level++) {
		IndexCursor *c = &it->path[level];

		KV_TRY(open_index(it, level, BLOCK_STAY));
		if (!index_seek(&c->view, key, version, &c->i))
			return table_damaged(it->t, c->at.offset, "malformed index");
		if (c->i == c->view.n) {
			if (level > 0)
				return table_damaged(it->t, c->at.offset, "index out of order");
			*beyond = true;
			return ST_OK;
		}
	}
	return open_data(it);
}

static void
op_seek(Iter *base, Slice key, uint64_t version)
{
	TableIter *it = (TableIter *) base;
	bool beyond;
	Status st;

	base->status = ST_OK;
	base->valid = false;
	st = seek_blocks(it, key, version, &beyond);
	if (st != ST_OK)
		fail(it, st);
	else if (!beyond) {
		settle(it, data_cursor_seek(&it->data, key, version));
		cross(it, false);
	}
}

static void
op_next(Iter *base)
{
	TableIter *it = (TableIter *) base;

	KV_DEBUG_ASSERT(base->valid);
	settle(it, data_cursor_next(&it->data));
	cross(it, false);
}

static void
op_prev(Iter *base)
{
	TableIter *it = (TableIter *) base;

	KV_DEBUG_ASSERT(base->valid);
	settle(it, data_cursor_prev(&it->data));
	cross(it, true);
}

static void
op_seek_before(Iter *base, Slice key, uint64_t version)
{
	op_seek(base, key, version);
	if (base->valid)
		op_prev(base);
	else if (base->status == ST_OK)
		op_seek_last(base);
}

static void
op_close(Iter *base)
{
	TableIter *it = (TableIter *) base;

	for (uint32_t i = 0; i < it->height; i++)
		buf_free(&it->path[i].own);
	buf_free(&it->own);
	buf_free(&it->window.bytes);
	data_cursor_free(&it->data);
	free(it);
}

static const IterOps ops = {
	.seek_first = op_seek_first,
	.seek_last = op_seek_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.close = op_close,
};

Iter *
table_iter(const TableInfo *t, TableIterOptions opt)
{
	TableIter *it;

	if (t->index_height == 0 || t->index_height > TABLE_HEIGHT_MAX) {
		(void) table_damaged(t, t->root_offset, "impossible index height");
		return NULL;
	}
	it = calloc(1, sizeof(*it) + t->index_height * sizeof(IndexCursor));
	if (it == NULL) {
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory to read a table");
		return NULL;
	}
	it->base.ops = &ops;
	it->t = t;
	it->file = table_blocks(t);
	it->height = t->index_height;
	it->window.always = opt.read_ahead;
	it->fill_cache = opt.fill_cache;
	return &it->base;
}
