/*
 * inspect.c - what offline tools ask of a table that nobody else does.
 */
#include "port/fs.h"
#include "sstable_internal.h"

_Static_assert(TABLE_CODECS == TABLE_CODEC_ZSTD + 1, "one count for each codec");

static Status
count_data(const BlockFile *f, BlockHandle h, uint64_t blocks[TABLE_CODECS])
{
	uint8_t codec;
	size_t got;
	int fd;

	KV_TRY(block_file(f, &fd));
	KV_TRY(fs_pread(fd, &codec, 1, h.offset + h.size, &got));
	if (got != 1 || codec >= TABLE_CODECS)
		return block_damaged(f, h.offset, "unknown codec");
	blocks[codec]++;
	return ST_OK;
}

/* Blocks of a table, counted in the order of its keys. */
typedef struct Count {
	const TableInfo *t;
	BlockFile file;
	uint64_t next;             /* data blocks lie behind those before: none is counted twice, whatever the bytes say */
	uint64_t *blocks;
} Count;

static Status
count_leaf(Count *c, BlockHandle parent, BlockHandle h)
{
	if (h.offset < c->next)
		return block_damaged(&c->file, parent.offset, "index out of order");
	c->next = h.offset + h.size + BLOCK_TRAILER;
	return count_data(&c->file, h, c->blocks);
}

/* An index block of this height, 1: its children are data blocks. */
static Status
count_index(Count *c, BlockHandle h, uint32_t height)
{
	Buf own = { 0 };
	IndexView v;
	Slice block;
	Status st = block_read(&c->file, h, &own, &block);

	if (st == ST_OK && !index_open(&v, block))
		st = block_damaged(&c->file, h.offset, "malformed index");
	for (uint32_t i = 0; st == ST_OK && i < v.n; i++) {
		BlockHandle child;

		if (!index_child(&v, i, &child))
			st = block_damaged(&c->file, h.offset, "malformed index");
		else if ((st = block_child_check(c->t, h, child)) == ST_OK)
			st = height == 1 ? count_leaf(c, h, child) : count_index(c, child, height - 1);
	}
	buf_free(&own);
	return st;
}

Status
table_count_codecs(const TableInfo *t, uint64_t blocks[TABLE_CODECS])
{
	Count c = { .t = t, .file = table_blocks(t), .blocks = blocks };
	BlockHandle root = { t->root_offset, t->root_size };

	memset(blocks, 0, TABLE_CODECS * sizeof *blocks);
	return count_index(&c, root, t->index_height);
}
