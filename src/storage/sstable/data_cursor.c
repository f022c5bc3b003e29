/*
 * data_cursor.c - moving through a data block entry by entry, both ways, with whole keys.
 *
 * Any process, private memory. The cursor owns the bytes of the current key.
 */
#include "data_block_internal.h"

#define KEY_PIECE 16 /* a longer rest of a key is copied by a call */

/* Cut the key to `shared` bytes and append the others, which lie before `end`. */
static bool
extend_key(DataCursor *c, const EntryView *e, const uint8_t *end)
{
	Buf *key = &c->key;

	key->len = e->shared;
	if (key->cap - key->len < e->unshared + KEY_PIECE && buf_reserve(key, e->unshared + KEY_PIECE) != ST_OK) {
		c->out_of_memory = true;
		return false;
	}
	if (e->unshared <= KEY_PIECE && end - e->delta >= KEY_PIECE)
		memcpy(key->data + key->len, e->delta, KEY_PIECE);
	else if (e->unshared > 0)
		memcpy(key->data + key->len, e->delta, e->unshared);
	key->len += e->unshared;
	return true;
}

/* Make the entry at offset `at` current, its value at `value_at`; c->key holds the key before it. */
static bool
load(DataCursor *c, const DataView *v, uint32_t at, uint32_t value_at)
{
	EntryView e;

	if (!data_entry_whole(v, v->base + at, value_at, &e, &c->entry) || e.shared > c->key.len ||
		e.shared + e.unshared == 0 || !extend_key(c, &e, v->end))
		return false;
	c->at = at;
	c->next = (uint32_t) (e.next - v->base);
	c->value_next = value_at + e.value_len;
	c->entry.key = slice_buf(&c->key);
	return true;
}

static bool
load_restart(DataCursor *c, const DataView *v, uint32_t i)
{
	uint32_t value_at;
	const uint8_t *p = data_restart(v, i, &value_at);

	c->key.len = 0;
	return p < v->limit && load(c, v, (uint32_t) (p - v->base), value_at);
}

bool
data_cursor_open(DataCursor *c, Slice block)
{
	c->out_of_memory = false;
	if (!data_view(&c->view, block))
		return false;
	c->limit = (uint32_t) (c->view.limit - c->view.base);
	c->at = c->next = c->limit;
	return true;
}

bool
data_cursor_first(DataCursor *c)
{
	return load_restart(c, &c->view, 0);
}

bool
data_cursor_next(DataCursor *c)
{
	if (c->next >= c->limit) {
		c->at = c->limit;
		return true;
	}
	return load(c, &c->view, c->next, c->value_next);
}

/* From restart `i` to the last entry before offset `stop`. */
static bool
walk_to(DataCursor *c, uint32_t i, uint32_t stop)
{
	if (!load_restart(c, &c->view, i))
		return false;
	while (c->next < stop)
		if (!load(c, &c->view, c->next, c->value_next))
			return false;
	return true;
}

bool
data_cursor_last(DataCursor *c)
{
	return walk_to(c, c->view.nrestarts - 1, c->limit);
}

bool
data_cursor_seek(DataCursor *c, Slice key, uint64_t version)
{
	uint32_t i;

	if (!data_restart_find(&c->view, key, version, &i) || !load_restart(c, &c->view, i))
		return false;
	while (data_cursor_valid(c) && entry_cmp(c->entry.key, c->entry.version, key, version) < 0)
		if (!data_cursor_next(c))
			return false;
	return true;
}

bool
data_cursor_prev(DataCursor *c)
{
	const DataView *v = &c->view;
	const uint8_t *at = v->base + c->at;
	uint32_t lo = 0, hi = v->nrestarts;

	if (c->at == 0) {
		c->at = c->limit;
		return true;
	}
	while (hi - lo > 1) { /* last restart before the current entry */
		uint32_t mid = lo + (hi - lo) / 2;

		if (data_restart(v, mid, NULL) < at)
			lo = mid;
		else
			hi = mid;
	}
	if (data_restart(v, lo, NULL) >= at) /* the first restart is not at 0 */
		return false;
	return walk_to(c, lo, c->at);
}

void
data_cursor_free(DataCursor *c)
{
	buf_free(&c->key);
}
