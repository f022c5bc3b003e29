/*
 * block_io.c - bringing blocks into memory: from the cache, or from the file with their checksums verified.
 *
 * Any process, under an epoch pin (cached blocks). What is in the cache was verified when it came from the
 * file.
 */
#include <stdio.h>

#include "common/process_local.h"
#include "port/fs.h"
#include "sstable_internal.h"

Status
block_damaged(const BlockFile *f, uint64_t offset, const char *what)
{
	char path[FS_PATH_MAX];

	f->kind->path(f->number, path, sizeof(path));
	return status_fail(ST_CORRUPT, "%s: damaged block at byte %llu (%s): restore the file or this node's data",
	                   path, (unsigned long long) offset, what);
}

Status
table_damaged(const TableInfo *t, uint64_t offset, const char *what)
{
	BlockFile f = table_blocks(t);

	return block_damaged(&f, offset, what);
}

/* A failure of codec_unpack() gets the name of the file. */
static Status
unpack_failed(const BlockFile *f, BlockHandle h, Status st)
{
	char path[FS_PATH_MAX], what[STATUS_DETAIL_MAX];

	if (st == ST_OUT_OF_MEMORY)
		return st;
	snprintf(what, sizeof(what), "%s", status_detail());
	if (st == ST_CORRUPT)
		return block_damaged(f, h.offset, what);
	f->kind->path(f->number, path, sizeof(path));
	return status_fail(st, "%s: block at byte %llu: %s", path, (unsigned long long) h.offset, what);
}

Status
block_open(const BlockFile *f, BlockHandle h, const uint8_t *raw, Buf *own, Slice *out)
{
	uint8_t codec = raw[h.size];
	Status st;

	if (get_u32(raw + h.size + 1) != block_crc(f->file_id, h.offset, raw, h.size, codec))
		return block_damaged(f, h.offset, "checksum");
	*out = slice_of(raw, h.size);
	if (codec == TABLE_CODEC_NONE)
		return ST_OK;
	st = codec_unpack(codec, *out, f->kind->unpacked_max, own);
	*out = slice_buf(own);
	return st == ST_OK ? ST_OK : unpack_failed(f, h, st);
}

Status
block_take(const BlockFile *f, BlockHandle h, size_t at, Buf *own, Slice *out)
{
	static PROCESS_LOCAL Buf unpacked; /* changes places with `own` when it is used, so that nothing is copied */

	KV_TRY(block_open(f, h, own->data + at, &unpacked, out));
	if (out->data == unpacked.data) {
		Buf packed = *own;

		*own = unpacked;
		unpacked = packed;
	}
	return ST_OK;
}

Status
block_read(const BlockFile *f, BlockHandle h, Buf *own, Slice *out)
{
	size_t got, want = (size_t) h.size + BLOCK_TRAILER;
	int fd;

	if (h.size > BLOCK_BYTES_MAX || h.offset > f->bytes || f->bytes - h.offset < want)
		return block_damaged(f, h.offset, "it would lie outside the file");
	own->len = 0;
	KV_TRY(buf_reserve(own, want));
	KV_TRY(block_file(f, &fd));
	KV_TRY(fs_pread(fd, own->data, want, h.offset, &got));
	if (got != want)
		return block_damaged(f, h.offset, "the file ends within it");
	own->len = want;
	return block_take(f, h, 0, own, out);
}

Status
block_fetch(const BlockFile *f, BlockHandle h, BlockUse use, Buf *own, Slice *out)
{
	KV_TRY(block_read(f, h, own, out));
	if (use != BLOCK_PAST)
		(void) cache_insert(f->number, h.offset, *out, block_cache_use(use), out);
	return ST_OK;
}

Status
block_load(const BlockFile *f, BlockHandle h, BlockUse use, Buf *own, Slice *out)
{
	if (use != BLOCK_PAST && h.size <= CACHE_BLOCK_MAX &&
		cache_lookup(f->number, h.offset, block_cache_use(use), out))
		return block_size_fits(*out, h) ? ST_OK : block_damaged(f, h.offset, "its size differs from the index");
	return block_fetch(f, h, use, own, out);
}

Status
block_child_check(const TableInfo *t, BlockHandle parent, BlockHandle child)
{
	if (child.offset > parent.offset || parent.offset - child.offset < (uint64_t) child.size + BLOCK_TRAILER)
		return table_damaged(t, parent.offset, "it names a block that is not before it");
	return ST_OK;
}
