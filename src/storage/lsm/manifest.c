/*
 * manifest.c - writing the manifest: the list of tables as a log of edits.
 *
 * Run by the compaction worker, and once by whoever makes a data directory; the format is in
 * doc/formats-manifest.md. No locks: the worker is alone.
 *
 * An edit is synced before the Version it makes is used. A manifest is whole (list of tables, synced) before
 * CURRENT names it.
 */
#include <stdio.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/kv_assert.h"
#include "lsm_internal.h"
#include "port/fs.h"

/* Written in pieces of about this size when the whole list is written. */
#define WRITE_BYTES (256 * 1024)

void
manifest_path(uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "MANIFEST-%016llx", (unsigned long long) number);
}

uint32_t
manifest_crc(uint64_t number, uint64_t offset, Slice body)
{
	uint8_t place[20];

	put_u64(place, number);
	put_u64(place + 8, offset);
	put_u32(place + 16, (uint32_t) body.len);
	return crc32c(crc32c(0, place, sizeof place), body.data, body.len);
}

uint32_t
manifest_header_crc(const uint8_t header[MANIFEST_HEADER])
{
	return crc32c(0, header, MANIFEST_HEADER - 4);
}

/* ---- operations */
static Status
put_table(Buf *b, uint32_t level, const Table *t)
{
	const TableInfo *i = &t->info;
	const uint64_t u64[] = { i->number, i->file_id, i->bytes, i->root_offset, i->filter_offset, i->entries,
		                 i->tombstones, i->expiring, i->key_bytes, i->value_bytes, i->version_min,
		                 i->version_max, i->ranges_applied };
	uint8_t fixed[2 + sizeof u64 + 6 * 4];
	uint8_t *p = fixed;

	*p++ = MANIFEST_ADD;
	*p++ = (uint8_t) level;
	for (size_t n = 0; n < sizeof u64 / sizeof u64[0]; n++, p += 8)
		put_u64(p, u64[n]);
	put_u32(p, i->root_size);
	put_u32(p + 4, i->index_height);
	put_u32(p + 8, i->filter_pages);
	put_u32(p + 12, (uint32_t) t->smallest.len);
	put_u32(p + 16, (uint32_t) t->largest.len);
	put_u32(p + 20, i->value_files);
	KV_TRY(buf_append(b, fixed, sizeof fixed));
	KV_TRY(buf_append_slice(b, t->smallest));
	KV_TRY(buf_append_slice(b, t->largest));
	for (uint32_t n = 0; n < i->value_files; n++) {
		uint8_t share[VALUE_SHARE_BYTES];

		value_share_encode(&t->values[n], share);
		KV_TRY(buf_append(b, share, sizeof share));
	}
	return ST_OK;
}

static Status
put_values(Buf *b, const ValueFileInfo *f)
{
	uint8_t p[33];

	p[0] = MANIFEST_VALUES;
	put_u64(p + 1, f->file_id);
	put_u64(p + 9, f->bytes);
	put_u64(p + 17, f->values);
	put_u64(p + 25, f->value_bytes);
	return buf_append(b, p, sizeof p);
}

static Status
put_state(Buf *b, const LsmState *s)
{
	uint8_t p[25];

	p[0] = MANIFEST_STATE;
	put_u64(p + 1, s->flushed);
	put_u64(p + 9, s->flushed_term);
	put_u64(p + 17, s->flushed_time);
	return buf_append(b, p, sizeof p);
}

/* NEXT, RANGE_DROP: an operation that is one number. */
static Status
put_number(Buf *b, ManifestOp op, uint64_t number)
{
	uint8_t p[9];

	p[0] = (uint8_t) op;
	put_u64(p + 1, number);
	return buf_append(b, p, sizeof p);
}

static Status
put_delete(Buf *b, const EditDelete *d)
{
	uint8_t p[10];

	p[0] = MANIFEST_DELETE;
	p[1] = (uint8_t) d->level;
	put_u64(p + 2, d->number);
	return buf_append(b, p, sizeof p);
}

static Status
put_range(Buf *b, const RangeDelete *r)
{
	uint8_t p[17];

	p[0] = MANIFEST_RANGE;
	put_u64(p + 1, r->version);
	put_u32(p + 9, (uint32_t) r->start.len);
	put_u32(p + 13, (uint32_t) r->end.len);
	KV_TRY(buf_append(b, p, sizeof p));
	KV_TRY(buf_append_slice(b, r->start));
	return buf_append_slice(b, r->end);
}

static Status
put_range_changes(Buf *b, const Edit *e)
{
	const uint64_t *drops = (const uint64_t *) (const void *) e->range_drops.data;
	const RangeDelete *adds = (const RangeDelete *) (const void *) e->range_adds.data;

	for (size_t i = 0; i < e->range_drops.len / sizeof *drops; i++)
		KV_TRY(put_number(b, MANIFEST_RANGE_DROP, drops[i]));
	for (size_t i = 0; i < e->range_adds.len / sizeof *adds; i++)
		KV_TRY(put_range(b, &adds[i]));
	return ST_OK;
}

/* ---- records: between begin and end the body is appended */
static Status
record_begin(Buf *b, size_t *at)
{
	static const uint8_t header[MANIFEST_RECORD_HEADER];

	*at = b->len;
	return buf_append(b, header, sizeof header);
}

static void
record_end(Buf *b, size_t at, uint64_t number, uint64_t offset)
{
	Slice body = slice_of(b->data + at + MANIFEST_RECORD_HEADER, b->len - at - MANIFEST_RECORD_HEADER);

	KV_ASSERT(body.len <= UINT32_MAX);
	put_u32(b->data + at, manifest_crc(number, offset, body));
	put_u32(b->data + at + 4, (uint32_t) body.len);
}

/* ---- a whole manifest */
static Status
write_out(Manifest *m, Buf *b)
{
	KV_TRY(fs_pwrite(m->fd, b->data, b->len, m->length));
	m->length += b->len;
	b->len = 0;
	return ST_OK;
}

/* One record a file: memory stays small however long the list is. */
static Status
write_list(Manifest *m, Buf *b, const Version *v, uint64_t next_number)
{
	LsmState state = { v->flushed, v->flushed_term, v->flushed_time };
	size_t at;

	KV_TRY(record_begin(b, &at));
	KV_TRY(put_state(b, &state));
	KV_TRY(put_number(b, MANIFEST_NEXT, next_number));
	record_end(b, at, m->number, m->length + at);
	for (uint32_t i = 0; i < v->nvalues; i++) {
		KV_TRY(record_begin(b, &at));
		KV_TRY(put_values(b, &v->values[i].file->info));
		record_end(b, at, m->number, m->length + at);
		if (b->len >= WRITE_BYTES)
			KV_TRY(write_out(m, b));
	}
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			KV_TRY(record_begin(b, &at));
			KV_TRY(put_table(b, level, v->tables[level][i]));
			record_end(b, at, m->number, m->length + at);
			if (b->len >= WRITE_BYTES)
				KV_TRY(write_out(m, b));
		}
	}
	for (uint32_t i = 0; i < lsm_ranges(v); i++) {
		KV_TRY(record_begin(b, &at));
		KV_TRY(put_range(b, &v->ranges->list[i]));
		record_end(b, at, m->number, m->length + at);
		if (b->len >= WRITE_BYTES)
			KV_TRY(write_out(m, b));
	}
	return write_out(m, b);
}

static Status
write_header(Manifest *m)
{
	uint8_t h[MANIFEST_HEADER] = { 0 };

	memcpy(h, MANIFEST_MAGIC, 8);
	put_u32(h + 8, MANIFEST_FORMAT);
	put_u64(h + 16, m->number);
	put_u64(h + 24, m->base);
	put_u32(h + MANIFEST_HEADER - 4, manifest_header_crc(h));
	return fs_pwrite(m->fd, h, sizeof h, 0);
}

static Status
name_current(uint64_t number)
{
	char name[64], text[72];
	int len;

	manifest_path(number, name, sizeof name);
	len = snprintf(text, sizeof text, "%s\n", name);
	return fs_replace_file(LSM_CURRENT, text, (size_t) len);
}

Status
manifest_write(Manifest *m, const char *path, uint64_t number, const Version *v, uint64_t next_number)
{
	Buf b = { 0 };
	Status st;

	*m = (Manifest){ .fd = -1, .number = number, .length = MANIFEST_HEADER };
	KV_TRY(fs_open(path, FS_CREATE_NEW, &m->fd));
	st = write_list(m, &b, v, next_number);
	buf_free(&b);
	m->base = m->length;
	if (st == ST_OK)
		st = write_header(m);
	return st;
}

Status
manifest_create(Manifest *m, uint64_t number, const Version *v, uint64_t next_number)
{
	char path[FS_PATH_MAX];
	Status st;

	manifest_path(number, path, sizeof path);
	st = manifest_write(m, path, number, v, next_number);
	if (st == ST_OK)
		st = fs_sync(m->fd);
	/* The manifest's name first: the two names need not reach the disk in their order. */
	if (st == ST_OK)
		st = fs_sync_dir(".");
	if (st == ST_OK)
		st = name_current(number);
	if (st != ST_OK && m->fd >= 0) {
		/* The first failure is what is told. CURRENT may name the file by now, so it stays. */
		if (fs_close(m->fd) != ST_OK)
			m->broken = true;
		m->fd = -1;
	}
	return st;
}

static Status
encode_edit(Buf *b, const Edit *e, uint64_t next_number)
{
	size_t n;
	const EditDelete *deletes = edit_deletes(e, &n);
	const EditAdd *adds;
	ValueFile *const *values;

	for (size_t i = 0; i < n; i++)
		KV_TRY(put_delete(b, &deletes[i]));
	values = edit_values(e, &n);
	for (size_t i = 0; i < n; i++)
		KV_TRY(put_values(b, &values[i]->info));
	adds = edit_adds(e, &n);
	for (size_t i = 0; i < n; i++)
		KV_TRY(put_table(b, adds[i].level, adds[i].table));
	KV_TRY(put_range_changes(b, e));
	if (e->has_state)
		KV_TRY(put_state(b, &e->state));
	return put_number(b, MANIFEST_NEXT, next_number);
}

static Status
append_synced(Manifest *m, const Buf *b)
{
	Status st = fs_pwrite(m->fd, b->data, b->len, m->length);

	if (st != ST_OK) {
		/* Nothing was synced, and part of a record reads as a torn end: a full disk does not end the node. */
		m->broken = st != ST_NO_SPACE;
		return st;
	}
	st = fs_datasync(m->fd);
	m->broken = st != ST_OK; /* a sync is not tried again */
	if (st == ST_OK)
		m->length += b->len;
	return st;
}

Status
manifest_append(Manifest *m, const Edit *e, uint64_t next_number)
{
	Buf b = { 0 };
	size_t at;
	Status st;

	if (m->broken)
		return status_fail(ST_IO_ERROR, "the manifest is in doubt after a failed write: restart the node");
	st = record_begin(&b, &at);
	if (st == ST_OK)
		st = encode_edit(&b, e, next_number);
	if (st == ST_OK) {
		record_end(&b, at, m->number, m->length);
		st = append_synced(m, &b);
	}
	buf_free(&b);
	return st;
}

Status
manifest_close(Manifest *m)
{
	int fd = m->fd;

	m->fd = -1;
	return fd >= 0 ? fs_close(fd) : ST_OK;
}
