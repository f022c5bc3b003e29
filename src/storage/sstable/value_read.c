/*
 * value_read.c - reading values by their references.
 *
 * Any process, under an epoch pin where the cache is used; no locks, memory private to the process. A lookup stops
 * where it would wait for memory, as those in get.c do:
 *
 *   WORD (the cache's index word is on its way) -> BLOCK (its bytes are) -> DONE        a shared block
 *   FILE -> DONE                                                                       a value alone in its block
 */
#include <stdio.h>

#include "port/fs.h"
#include "value_internal.h"

#define VALUE_FETCH 256 /* bytes of a value that are asked for ahead; the processor sees the rest coming */

typedef enum Stage { STAGE_WORD, STAGE_BLOCK, STAGE_FILE, STAGE_DONE } Stage;

static const char *values_dir = VALUE_DIR;

/* ---- files */

void
value_path(uint64_t file_id, char *out, size_t size)
{
	snprintf(out, size, "%s/%016llx.kvv", values_dir, (unsigned long long) file_id);
}

void
value_files_dir(const char *dir)
{
	table_files_close_all();
	values_dir = dir;
}

Status
value_footer_read(int fd, uint64_t file_id, const char *path, uint64_t *bytes, ValueFooter *f)
{
	uint8_t raw[FOOTER_BYTES];
	size_t got;

	KV_TRY(fs_size(fd, bytes));
	if (*bytes < FOOTER_BYTES)
		return status_fail(ST_CORRUPT, "%s has %llu bytes, too few for a value file: it is cut", path,
		                   (unsigned long long) *bytes);
	KV_TRY(fs_pread(fd, raw, sizeof(raw), *bytes - FOOTER_BYTES, &got));
	if (got != sizeof(raw))
		return status_fail(ST_CORRUPT, "%s is shorter than its size says", path);
	KV_TRY(value_footer_decode(raw, path, f));
	if (f->file_id != file_id)
		return status_fail(ST_CORRUPT, "%s is not the value file that is meant: restore the right one", path);
	return ST_OK;
}

static Status
check_value_file(const BlockFile *file, int fd, const char *path)
{
	const ValueFileInfo *said = file->more;
	uint64_t bytes;
	ValueFooter f;

	KV_TRY(value_footer_read(fd, file->file_id, path, &bytes, &f));
	if (said != NULL && (bytes != said->bytes || f.values != said->values || f.value_bytes != said->value_bytes))
		return status_fail(ST_CORRUPT, "%s is not what the manifest says of it: restore the right file", path);
	return ST_OK;
}

Status
value_file_check(const ValueFileInfo *said)
{
	BlockFile f = value_blocks(said->file_id);

	f.more = said;
	return block_file_check(&f);
}

const BlockKind value_kind = { value_path, check_value_file, VALUE_BLOCK_TARGET };

/* ---- blocks */

Status
value_block_read(uint64_t file_id, uint64_t offset, uint32_t most, Buf *own, Slice *out)
{
	BlockFile f = value_blocks(file_id);
	size_t want = VALUE_PREFIX + (size_t) most + BLOCK_TRAILER, got;
	uint32_t size;
	int fd;

	own->len = 0;
	KV_TRY(buf_reserve(own, want));
	KV_TRY(block_file(&f, &fd));
	KV_TRY(fs_pread(fd, own->data, want, offset - VALUE_PREFIX, &got));
	size = got < VALUE_PREFIX ? 0 : get_u32(own->data);
	if (size == 0 || size > most || got < VALUE_PREFIX + (size_t) size + BLOCK_TRAILER)
		return block_damaged(&f, offset, "impossible size");
	own->len = got;
	return block_take(&f, (BlockHandle){ offset, size }, VALUE_PREFIX, own, out);
}

static uint32_t
block_most(const ValueRef *ref)
{
	return ref->length > VALUE_BLOCK_TARGET ? ref->length : VALUE_BLOCK_TARGET;
}

/* Its value from the block; what is alone must fill it. */
static Status
cut(const ValueRef *ref, Slice block, Slice *out)
{
	if (block.len < ref->at || block.len - ref->at < ref->length ||
		(ref->length > VALUE_BLOCK_TARGET && block.len != ref->length)) {
		BlockFile f = value_blocks(ref->file_id);

		return block_damaged(&f, ref->offset, "a value would not lie in it");
	}
	*out = slice_of(block.data + ref->at, ref->length);
	return ST_OK;
}

static Status
malformed(void)
{
	return status_fail(ST_CORRUPT, "a table has a malformed reference to a value: restore this node's data");
}

/* ---- in steps */

static bool
done(ValueLookup *l, Status st)
{
	l->status = st;
	l->stage = STAGE_DONE;
	l->past = 0;
	return false;
}

void
value_lookup_begin(ValueLookup *l, Slice ref)
{
	l->in_own = false;
	if (!value_ref_decode(ref, &l->ref)) {
		(void) done(l, malformed());
		return;
	}
	l->stage = l->ref.length > VALUE_BLOCK_TARGET ? STAGE_FILE : STAGE_WORD;
	l->past = l->stage == STAGE_FILE ? l->ref.length : 0;
	if (l->stage == STAGE_WORD)
		cache_probe_begin(&l->probe, l->ref.file_id, l->ref.offset);
}

static bool
step_read(ValueLookup *l)
{
	Slice block;
	Status st = value_block_read(l->ref.file_id, l->ref.offset, block_most(&l->ref), &l->own, &block);

	if (st != ST_OK)
		return done(l, st);
	l->in_own = l->stage == STAGE_FILE ||
		!cache_insert(l->ref.file_id, l->ref.offset, block, CACHE_POINT, &block);
	return done(l, cut(&l->ref, block, &l->value));
}

static bool
step_block(ValueLookup *l)
{
	Slice block;

	if (!cache_probe_get(&l->probe, CACHE_POINT, &block))
		return step_read(l);
	return done(l, cut(&l->ref, block, &l->value));
}

bool
value_lookup_step(ValueLookup *l)
{
	switch ((Stage) l->stage) {
	case STAGE_WORD:
		cache_probe_fetch(&l->probe, l->ref.at, l->ref.length < VALUE_FETCH ? l->ref.length : VALUE_FETCH);
		l->stage = STAGE_BLOCK;
		return true;
	case STAGE_BLOCK:
		return step_block(l);
	case STAGE_FILE:
		return step_read(l);
	case STAGE_DONE:
		break;
	}
	return false;
}

void
value_lookup_end(ValueLookup *l)
{
	buf_free(&l->own);
}

/* ---- one after another */

/* Into r->own, or the cache. */
static Status
load(ValueReader *r, const ValueRef *ref, TableIterOptions opt, Slice *block)
{
	bool shared = ref->length <= VALUE_BLOCK_TARGET && !opt.read_ahead;

	if (r->offset == ref->offset && r->file_id == ref->file_id) {
		*block = r->block;
		return ST_OK;
	}
	if (shared && cache_lookup(ref->file_id, ref->offset, CACHE_SCAN, block))
		return ST_OK;
	r->offset = 0;
	KV_TRY(value_block_read(ref->file_id, ref->offset, block_most(ref), &r->own, block));
	if (shared && opt.fill_cache && cache_insert(ref->file_id, ref->offset, *block, CACHE_SCAN, block))
		return ST_OK;
	r->file_id = ref->file_id;
	r->offset = ref->offset;
	r->block = *block;
	return ST_OK;
}

Status
value_read(ValueReader *r, Slice bytes, TableIterOptions opt, Slice *out)
{
	ValueRef ref;
	Slice block;

	if (!value_ref_decode(bytes, &ref))
		return malformed();
	KV_TRY(load(r, &ref, opt, &block));
	return cut(&ref, block, out);
}
