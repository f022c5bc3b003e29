/*
 * value_verify.c - checking all of a value file.
 *
 * Offline tools, and whoever adopts a file it did not write. Reads past the cache: what counts is the disk.
 */
#include "port/fs.h"
#include "value_internal.h"

typedef struct Check {
	const ValueFileInfo *said;
	ValueFooter seen;
	uint64_t at;
	Buf own;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
} Check;

static Status
check_block(Check *c)
{
	uint64_t end = c->said->bytes - FOOTER_BYTES, left = end - c->at;
	BlockFile f = value_blocks(c->said->file_id);
	uint8_t prefix[VALUE_PREFIX];
	uint32_t size;
	Slice block;
	size_t got;
	int fd;

	KV_TRY(block_file(&f, &fd));
	KV_TRY(fs_pread(fd, prefix, sizeof(prefix), c->at, &got));
	size = got == sizeof(prefix) ? get_u32(prefix) : 0;
	if (size == 0 || size > KV_VALUE_MAX || left < VALUE_PREFIX + (uint64_t) size + BLOCK_TRAILER)
		return block_damaged(&f, c->at, "impossible size");
	KV_TRY(value_block_read(c->said->file_id, c->at + VALUE_PREFIX, size, &c->own, &block));
	c->at += VALUE_PREFIX + (uint64_t) size + BLOCK_TRAILER;
	c->seen.blocks++;
	c->seen.value_bytes += block.len;
	if (c->progress != NULL)
		c->progress(c->arg, c->at);
	return ST_OK;
}

static Status
check_all(Check *c)
{
	BlockFile f = value_blocks(c->said->file_id);
	char path[FS_PATH_MAX];
	ValueFooter footer;
	uint64_t bytes;
	int fd;

	value_path(c->said->file_id, path, sizeof(path));
	KV_TRY(value_file_check(c->said));
	KV_TRY(block_file(&f, &fd));
	KV_TRY(value_footer_read(fd, c->said->file_id, path, &bytes, &footer));
	while (c->at < bytes - FOOTER_BYTES)
		KV_TRY(check_block(c));
	if (c->seen.blocks != footer.blocks || c->seen.value_bytes != footer.value_bytes)
		return status_fail(ST_CORRUPT, "%s: its blocks are not those its footer counts", path);
	return ST_OK;
}

Status
value_file_verify(const ValueFileInfo *said, void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	Check c = { .said = said, .progress = progress, .arg = arg };
	Status st = check_all(&c);

	buf_free(&c.own);
	return st;
}
