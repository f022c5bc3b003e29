/*
 * block_out.c - writing a file of blocks, front to back.
 *
 * Compaction worker (and replay at start); memory private to the caller. The file is written under a name of its
 * own with .tmp behind it, synced and renamed. What a crash left under that name is written over.
 */
#include <stdio.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "port/fs.h"
#include "sstable_internal.h"

#define WRITE_BYTES BLOCK_OUT_BUFFER /* one pwrite is at least this, but for the last */

/*
 * Each piece is sent to the disk at once, and the one before must have arrived: the log's syncs wait behind no more
 * than two pieces of a table, however far the disk is behind.
 */
static Status
write_out(BlockOut *o, const uint8_t *data, size_t len)
{
	KV_TRY(fs_pwrite(o->fd, data, len, o->written));
	o->written += len;
	return len < WRITE_BYTES ? ST_OK : fs_writeback(o->fd, o->written - len, len);
}

static Status
flush(BlockOut *o)
{
	KV_TRY(write_out(o, o->buffer.data, o->buffer.len));
	o->buffer.len = 0;
	return ST_OK;
}

Status
block_out_open(BlockOut *o, const char *path, uint64_t file_id)
{
	Status st;

	*o = (BlockOut){ .file_id = file_id, .fd = -1 };
	snprintf(o->path, sizeof(o->path), "%s", path);
	snprintf(o->tmp, sizeof(o->tmp), "%.*s.tmp", (int) sizeof(o->tmp) - 5, path);
	KV_TRY(fs_open(o->tmp, FS_CREATE, &o->fd));
	st = fs_truncate(o->fd, 0);
	if (st == ST_OK)
		st = buf_reserve(&o->buffer, WRITE_BYTES + BLOCK_TARGET + BLOCK_TRAILER);
	if (st != ST_OK)
		block_out_abandon(o);
	return st;
}

Status
block_out_bytes(BlockOut *o, const void *bytes, size_t len)
{
	KV_TRY(buf_append(&o->buffer, bytes, len));
	return o->buffer.len >= WRITE_BYTES ? flush(o) : ST_OK;
}

Status
block_out_write(BlockOut *o, Slice content, uint8_t codec, BlockHandle *h)
{
	uint8_t trailer[BLOCK_TRAILER];

	KV_ASSERT(content.len > 0 && content.len <= BLOCK_BYTES_MAX);
	h->offset = block_out_length(o);
	h->size = (uint32_t) content.len;
	trailer[0] = codec;
	put_u32(trailer + 1, block_crc(o->file_id, h->offset, content.data, content.len, codec));
	if (content.len >= WRITE_BYTES) { /* one huge entry: not copied */
		if (o->buffer.len > 0)
			KV_TRY(flush(o));
		KV_TRY(write_out(o, content.data, content.len));
	} else
		KV_TRY(buf_append_slice(&o->buffer, content));
	return block_out_bytes(o, trailer, sizeof(trailer));
}

Status
block_out_pack(BlockOut *o, Slice content, uint8_t codec, BlockHandle *h)
{
	bool packed = false;

	if (codec != TABLE_CODEC_NONE && content.len <= BLOCK_TARGET)
		KV_TRY(codec_pack(codec, content, &o->packed, &packed));
	return packed ? block_out_write(o, slice_buf(&o->packed), codec, h)
	              : block_out_write(o, content, TABLE_CODEC_NONE, h);
}

static void
release(BlockOut *o)
{
	buf_free(&o->buffer);
	buf_free(&o->packed);
}

Status
block_out_finish(BlockOut *o)
{
	int fd = o->fd;

	if (o->buffer.len > 0)
		KV_TRY(flush(o));
	KV_TRY(fs_sync(fd));
	o->fd = -1;
	KV_TRY(fs_close(fd));
	KV_TRY(fs_rename(o->tmp, o->path));
	release(o);
	return ST_OK;
}

void
block_out_abandon(BlockOut *o)
{
	Status st = o->fd >= 0 ? fs_close(o->fd) : ST_OK;

	/* the failure that led here matters more than these; start removes what stays */
	if (st != ST_OK || fs_unlink(o->tmp) != ST_OK)
		elog(LOG_LEVEL_WARNING, "removing %s: %s", o->tmp, status_detail());
	o->fd = -1;
	release(o);
}
