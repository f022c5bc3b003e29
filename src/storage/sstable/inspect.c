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

/* An index block of this height, 1: its children are data blocks. */
static Status
count_index(const TableInfo *t, BlockHandle h, uint32_t height, uint64_t blocks[TABLE_CODECS])
{
	BlockFile f = table_blocks(t);
	Buf own = { 0 };
	IndexView v;
	Slice block;
	Status st = block_read(&f, h, &own, &block);

	if (st == ST_OK && !index_open(&v, block))
		st = block_damaged(&f, h.offset, "malformed index");
	for (uint32_t i = 0; st == ST_OK && i < v.n; i++) {
		BlockHandle child;

		if (!index_child(&v, i, &child))
			st = block_damaged(&f, h.offset, "malformed index");
		else if ((st = block_child_check(t, h, child)) == ST_OK)
			st = height == 1 ? count_data(&f, child, blocks) : count_index(t, child, height - 1, blocks);
	}
	buf_free(&own);
	return st;
}

Status
table_count_codecs(const TableInfo *t, uint64_t blocks[TABLE_CODECS])
{
	BlockHandle root = { t->root_offset, t->root_size };

	memset(blocks, 0, TABLE_CODECS * sizeof *blocks);
	return count_index(t, root, t->index_height, blocks);
}
