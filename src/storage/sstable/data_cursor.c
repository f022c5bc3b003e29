/*
 * data_cursor.c - moving through a data block entry by entry, both ways, with whole keys.
 *
 * Any process, private memory. The cursor owns the bytes of the current key.
 */
#include "data_block_internal.h"

static DataView
view_of(const DataCursor *c)
{
	return (DataView){ c->block.data, c->block.data + c->limit, c->nrestarts };
}

/* Make the entry at offset `at` current; c->key holds the key before it (or at is a restart). */
static bool
load(DataCursor *c, uint32_t at)
{
	DataView v = view_of(c);
	EntryView e;

	if (!data_entry(&v, v.base + at, &e) || e.shared > c->key.len || !data_entry_fill(&e, &c->entry))
		return false;
	if (e.shared + e.unshared == 0)
		return false;
	c->key.len = e.shared;
	if (buf_append(&c->key, e.delta, e.unshared) != ST_OK) {
		c->out_of_memory = true;
		return false;
	}
	c->at = at;
	c->next = (uint32_t) (e.value + e.value_len - v.base);
	c->entry.key = slice_buf(&c->key);
	return true;
}

static bool
load_restart(DataCursor *c, const uint8_t *p)
{
	if (p >= c->block.data + c->limit)
		return false;
	c->key.len = 0;
	return load(c, (uint32_t) (p - c->block.data));
}

bool
data_cursor_open(DataCursor *c, Slice block)
{
	DataView v;

	c->out_of_memory = false;
	if (!data_view(&v, block))
		return false;
	c->block = block;
	c->limit = (uint32_t) (v.limit - v.base);
	c->nrestarts = v.nrestarts;
	c->at = c->next = c->limit;
	return true;
}

bool
data_cursor_first(DataCursor *c)
{
	return load_restart(c, c->block.data);
}

bool
data_cursor_next(DataCursor *c)
{
	if (c->next >= c->limit) {
		c->at = c->limit;
		return true;
	}
	return load(c, c->next);
}

/* From restart `p` to the last entry before offset `stop`. */
static bool
walk_to(DataCursor *c, const uint8_t *p, uint32_t stop)
{
	if (!load_restart(c, p))
		return false;
	while (c->next < stop)
		if (!load(c, c->next))
			return false;
	return true;
}

bool
data_cursor_last(DataCursor *c)
{
	DataView v = view_of(c);

	return walk_to(c, data_restart(&v, c->nrestarts - 1), c->limit);
}

bool
data_cursor_seek(DataCursor *c, Slice key, uint64_t version)
{
	DataView v = view_of(c);
	const uint8_t *p;

	if (!data_restart_find(&v, key, version, &p) || !load_restart(c, p))
		return false;
	while (data_cursor_valid(c) && entry_cmp(c->entry.key, c->entry.version, key, version) < 0)
		if (!data_cursor_next(c))
			return false;
	return true;
}

bool
data_cursor_prev(DataCursor *c)
{
	DataView v = view_of(c);
	const uint8_t *at = v.base + c->at;
	uint32_t lo = 0, hi = c->nrestarts;

	if (c->at == 0) {
		c->at = c->limit;
		return true;
	}
	while (hi - lo > 1) { /* last restart before the current entry */
		uint32_t mid = lo + (hi - lo) / 2;

		if (data_restart(&v, mid) < at)
			lo = mid;
		else
			hi = mid;
	}
	if (data_restart(&v, lo) >= at) /* the first restart is not at 0 */
		return false;
	return walk_to(c, data_restart(&v, lo), c->at);
}

void
data_cursor_free(DataCursor *c)
{
	buf_free(&c->key);
}
