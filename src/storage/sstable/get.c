/*
 * get.c - point reads: filter, index, data block.
 *
 * Any process, under an epoch pin. With everything cached: no lock, no allocation, no copied key. Blocks the
 * cache does not take are read into buffers of the process, which the next call reuses.
 */
#include "sstable_internal.h"

#define SPARE_BYTES (256 * 1024) /* a buffer that held a larger block is given back at the next call */

static Buf data_buf;  /* a value given out may lie here until the next table_get() */
static Buf index_buf; /* index blocks and filter pages: used and done with inside one call */

static void
spare_check(Buf *b)
{
	if (b->cap > SPARE_BYTES)
		buf_free(b);
}

/* The data block that holds the first entry at or after (key, version); NOT_FOUND: all entries are before. */
static Status
find_data(const TableInfo *t, Slice key, uint64_t version, BlockHandle *h)
{
	*h = (BlockHandle){ t->root_offset, t->root_size };
	for (uint32_t level = t->index_height; level > 0; level--) {
		BlockHandle child;
		IndexView v;
		Slice block;
		uint32_t i;

		KV_TRY(block_load(t, *h, BLOCK_KEEP, &index_buf, &block));
		if (!index_open(&v, block) || !index_seek(&v, key, version, &i))
			return block_damaged(t, h->offset, "malformed index");
		if (i == v.n)
			return ST_NOT_FOUND;
		if (!index_child(&v, i, &child))
			return block_damaged(t, h->offset, "malformed index");
		KV_TRY(block_child_check(t, *h, child));
		*h = child;
	}
	return ST_OK;
}

Status
table_get(const TableInfo *t, Slice key, uint64_t snapshot, Entry *out)
{
	BlockHandle h;
	Slice block;
	Status st;

	spare_check(&data_buf);
	if (snapshot == 0)
		return ST_NOT_FOUND;
	KV_TRY(find_data(t, key, snapshot - 1, &h));
	KV_TRY(block_load(t, h, BLOCK_KEEP, &data_buf, &block));
	/* a separator lies beyond its block's last entry only where the key changes: the next block has another */
	st = data_get(block, key, snapshot - 1, out);
	return st == ST_CORRUPT ? block_damaged(t, h.offset, "malformed entries") : st;
}

bool
table_may_contain(const TableInfo *t, Slice key, uint64_t key_hash)
{
	BlockHandle h = { 0, FILTER_PAGE };
	Slice page;

	(void) key;
	if (t->filter_pages == 0)
		return true;
	h.offset = t->filter_offset + (uint64_t) filter_page_of(t->filter_pages, key_hash) * FILTER_STRIDE;
	if (block_load(t, h, BLOCK_KEEP, &index_buf, &page) != ST_OK)
		return true;
	return filter_probe(page.data, t->filter_pages, key_hash);
}

Status
table_offset_of(const TableInfo *t, Slice key, uint64_t *offset)
{
	BlockHandle h;
	Status st = find_data(t, key, UINT64_MAX, &h);

	*offset = st == ST_OK ? h.offset : t->bytes;
	return st == ST_NOT_FOUND ? ST_OK : st;
}
