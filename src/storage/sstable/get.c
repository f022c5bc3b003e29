/*
 * get.c - point reads: filter, index, data block.
 *
 * Any process, under an epoch pin. With everything cached: no lock, no allocation, no copied key.
 *
 * A lookup is a small machine that stops wherever it would wait for memory: each step asks for the next lines
 * and returns, so that a caller with many lookups goes round and their cache misses overlap.
 *
 *   FILTER_WORD -> FILTER -> (root) ITEM -> BLOCK_WORD -> BLOCK -> (index) ITEM -> ... (data) DONE
 *
 * In X_WORD the cache's index word of a block is on its way, in X the parts of the block that will be looked
 * at; in ITEM the item of an index block that names its child. After a filter the root is not waited for: every
 * lookup in its table looks at it, so it is near. Blocks the cache does not take are read, without another
 * stop, into the lookup's own buffer, one at a time.
 */
#include "sstable_internal.h"
#include "common/process_local.h"

#define SPARE_BYTES (256 * 1024) /* a buffer that held a larger block is given back at the next call */
/* What a search looks at: of an index block the first half of its heads, of a data block its keys. */
#define INDEX_FETCH 512
#define DATA_FETCH 512
#define VALUE_FETCH 256

typedef enum Stage {
	STAGE_FILTER_WORD, STAGE_FILTER, STAGE_BLOCK_WORD, STAGE_BLOCK, STAGE_ITEM, STAGE_DONE
} Stage;

/* table_get()'s: a value given out may lie in its buffer until the next call */
static PROCESS_LOCAL TableLookup single;
static PROCESS_LOCAL TableLookup aside; /* for questions that leave that value alone */

static bool
done(TableLookup *l, Status st)
{
	l->status = st;
	l->stage = STAGE_DONE;
	l->past = 0;
	return false;
}

static void
begin_block(TableLookup *l, BlockHandle h, Stage stage)
{
	l->offset = h.offset;
	l->size = h.size;
	l->stage = (uint8_t) stage;
	l->past = h.size > CACHE_BLOCK_MAX ? h.size : 0;
	if (l->past == 0)
		cache_probe_begin(&l->probe, l->info->number, h.offset);
}

static void
begin_index(TableLookup *l)
{
	l->level = l->info->index_height;
	begin_block(l, (BlockHandle){ l->info->root_offset, l->info->root_size }, STAGE_BLOCK_WORD);
}

static void
lookup_set(TableLookup *l, const TableInfo *t, Slice key, uint64_t hash, uint64_t version)
{
	l->info = t;
	l->key = key;
	l->hash = hash;
	l->version = version;
	l->in_own = false;
}

static BlockHandle
filter_block(const TableInfo *t, uint64_t hash)
{
	return (BlockHandle){
		t->filter_offset + (uint64_t) filter_page_of(t->filter_pages, hash) * FILTER_STRIDE, FILTER_PAGE
	};
}

void
table_lookup_begin(TableLookup *l, const TableInfo *t, Slice key, uint64_t hash, uint64_t snapshot)
{
	lookup_set(l, t, key, hash, snapshot - 1);
	if (snapshot == 0)
		(void) done(l, ST_NOT_FOUND);
	else if (t->filter_pages > 0)
		begin_block(l, filter_block(t, hash), STAGE_FILTER_WORD);
	else
		begin_index(l);
}

static Status
load(TableLookup *l, Slice *out)
{
	BlockHandle h = { l->offset, l->size };
	BlockUse use = l->stage == STAGE_FILTER || l->level > 0 ? BLOCK_STAY : BLOCK_KEEP;
	BlockFile f;

	if (l->past == 0 && cache_probe_get(&l->probe, block_cache_use(use), out)) {
		if (out->len == h.size)
			out->len = h.size; /* known before the frame's header is loaded: decoding need not wait for it */
		return block_size_fits(*out, h) ? ST_OK : table_damaged(l->info, h.offset, "its size differs from the index");
	}
	f = table_blocks(l->info);
	return block_fetch(&f, h, use, &l->own, out);
}

static bool step_block(TableLookup *l);

static bool
step_filter(TableLookup *l)
{
	Slice page;

	/* a page that can't be read says maybe: reading the table will tell what is wrong, or find the key */
	if (load(l, &page) == ST_OK && !filter_probe(page.data, l->info->filter_pages, l->hash))
		return done(l, ST_NOT_FOUND);
	begin_index(l);
	return step_block(l);
}

/* In an index block: which item names the child that holds the first entry at or after (key, version). */
static bool
step_index(TableLookup *l, Slice block)
{
	IndexView v;

	if (!index_open(&v, block) || !index_seek(&v, l->key, l->version, &l->item))
		return done(l, table_damaged(l->info, l->offset, "malformed index"));
	if (l->item == v.n)
		return done(l, ST_NOT_FOUND); /* all entries are before */
	index_prefetch(&v, l->item);
	l->block = block;
	l->stage = STAGE_ITEM;
	return true;
}

static bool
step_item(TableLookup *l)
{
	BlockHandle h = { l->offset, l->size }, child;
	IndexView v;
	Status st;

	if (!index_open(&v, l->block) || !index_child(&v, l->item, &child))
		return done(l, table_damaged(l->info, h.offset, "malformed index"));
	st = block_child_check(l->info, h, child);
	if (st != ST_OK)
		return done(l, st);
	l->level--;
	begin_block(l, child, STAGE_BLOCK_WORD);
	return true;
}

static bool
step_block(TableLookup *l)
{
	Slice block;
	Status st = load(l, &block);

	if (st != ST_OK)
		return done(l, st);
	if (l->level > 0)
		return step_index(l, block);
	/* a separator lies beyond its block's last entry only where the key changes: the next block has another */
	st = data_get(block, l->key, l->version, &l->entry);
	if (st == ST_CORRUPT)
		st = table_damaged(l->info, l->offset, "malformed entries");
	if (st == ST_OK) {
		l->in_own = block.data == l->own.data;
		for (size_t at = 0; at < l->entry.value.len && at < VALUE_FETCH; at += 64)
			__builtin_prefetch(l->entry.value.data + at);
	}
	return done(l, st);
}

static uint32_t
at_most(uint32_t n, uint32_t max)
{
	return n < max ? n : max;
}

bool
table_lookup_step(TableLookup *l)
{
	switch ((Stage) l->stage) {
	case STAGE_FILTER_WORD:
		cache_probe_fetch(&l->probe, filter_line_at(l->info->filter_pages, l->hash), FILTER_LINE);
		l->stage = STAGE_FILTER;
		return true;
	case STAGE_FILTER:
		return step_filter(l);
	case STAGE_BLOCK_WORD:
		if (l->past == 0)
			cache_probe_fetch(&l->probe, 0, at_most(l->size, l->level > 0 ? INDEX_FETCH : DATA_FETCH));
		l->stage = STAGE_BLOCK;
		return true;
	case STAGE_BLOCK:
		return step_block(l);
	case STAGE_ITEM:
		return step_item(l);
	case STAGE_DONE:
		break;
	}
	return false;
}

void
table_lookup_end(TableLookup *l)
{
	buf_free(&l->own);
}

static void
spare_check(Buf *b)
{
	if (b->cap > SPARE_BYTES)
		buf_free(b);
}

Status
table_get(const TableInfo *t, Slice key, uint64_t snapshot, Entry *out)
{
	TableLookup *l = &single;

	spare_check(&l->own);
	if (snapshot == 0)
		return ST_NOT_FOUND;
	lookup_set(l, t, key, 0, snapshot - 1);
	begin_index(l);
	while (table_lookup_step(l))
		;
	if (l->status == ST_OK)
		*out = l->entry;
	return l->status;
}

bool
table_may_contain(const TableInfo *t, Slice key, uint64_t key_hash)
{
	BlockFile f = table_blocks(t);
	Slice page;

	(void) key;
	if (t->filter_pages == 0)
		return true;
	if (block_load(&f, filter_block(t, key_hash), BLOCK_STAY, &aside.own, &page) != ST_OK)
		return true;
	return filter_probe(page.data, t->filter_pages, key_hash);
}

Status
table_offset_of(const TableInfo *t, Slice key, uint64_t *offset)
{
	TableLookup *l = &aside;

	lookup_set(l, t, key, 0, UINT64_MAX);
	begin_index(l);
	while (l->level > 0 && table_lookup_step(l))
		;
	*offset = l->level == 0 ? l->offset : t->bytes;
	return l->level == 0 || l->status == ST_NOT_FOUND ? ST_OK : l->status;
}
