/*
 * block_io.c - bringing blocks into memory: from the cache, or from the file with their checksums verified.
 *
 * Any process, under an epoch pin (cached blocks). What is in the cache was verified when it came from the
 * file.
 */
#include "port/fs.h"
#include "sstable_internal.h"

Status
block_damaged(const TableInfo *t, uint64_t offset, const char *what)
{
	char path[FS_PATH_MAX];

	table_path(t->number, path, sizeof(path));
	return status_fail(ST_CORRUPT, "%s: damaged block at byte %llu (%s): restore the file or this node's data",
	                   path, (unsigned long long) offset, what);
}

Status
block_check(const TableInfo *t, BlockHandle h, const uint8_t *raw)
{
	uint8_t codec = raw[h.size];

	if (get_u32(raw + h.size + 1) != block_crc(t->file_id, h.offset, raw, h.size, codec))
		return block_damaged(t, h.offset, "checksum");
	if (codec != CODEC_NONE)
		return block_damaged(t, h.offset, "unknown codec");
	return ST_OK;
}

Status
block_read(const TableInfo *t, BlockHandle h, Buf *own)
{
	size_t got, want = (size_t) h.size + BLOCK_TRAILER;
	int fd;

	if (h.size > BLOCK_BYTES_MAX || h.offset > t->bytes || t->bytes - h.offset < want)
		return block_damaged(t, h.offset, "it would lie outside the file");
	own->len = 0;
	KV_TRY(buf_reserve(own, want));
	KV_TRY(table_file(t, &fd));
	KV_TRY(fs_pread(fd, own->data, want, h.offset, &got));
	if (got != want)
		return block_damaged(t, h.offset, "the file ends within it");
	own->len = want;
	return block_check(t, h, own->data);
}

Status
block_probe(const TableInfo *t, BlockHandle h, BlockUse use, const CacheProbe *p, Buf *own, Slice *out)
{
	if (use != BLOCK_PAST && h.size <= CACHE_BLOCK_MAX && cache_probe_get(p, out)) {
		if (out->len == h.size) {
			out->len = h.size; /* known before the frame's header is loaded: decoding need not wait for it */
			return ST_OK;
		}
		return block_damaged(t, h.offset, "its size differs from the index");
	}
	KV_TRY(block_read(t, h, own));
	*out = slice_of(own->data, h.size);
	if (use == BLOCK_KEEP || use == BLOCK_SCAN)
		(void) cache_insert(t->number, h.offset, *out, use == BLOCK_SCAN, out);
	return ST_OK;
}

Status
block_load(const TableInfo *t, BlockHandle h, BlockUse use, Buf *own, Slice *out)
{
	CacheProbe p;

	cache_probe_begin(&p, t->number, h.offset);
	return block_probe(t, h, use, &p, own, out);
}

Status
block_child_check(const TableInfo *t, BlockHandle parent, BlockHandle child)
{
	if (child.offset > parent.offset || parent.offset - child.offset < (uint64_t) child.size + BLOCK_TRAILER)
		return block_damaged(t, parent.offset, "it names a block that is not before it");
	return ST_OK;
}
