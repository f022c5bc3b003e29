/*
 * manifest_read.c - reading the manifest at start and offline; format in doc/formats-manifest.md.
 *
 * Replay process (or a tool), before anyone writes. A record at the end that is cut off or fails its
 * checksum was never synced, so the Version it would have made was never used: it is dropped. Damage
 * anywhere else is refused. The two are told apart by what follows (a damaged length may seem to reach past
 * the end): checksums cover number and offset, so a good record found anywhere behind a bad one was written
 * there by us.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/coding.h"
#include "common/elog.h"
#include "lsm_internal.h"
#include "port/fs.h"

/* One operation on a table, in file order. */
typedef struct TableOp {
	uint64_t number;
	uint64_t offset;  /* of its record: order, and for messages */
	size_t place;     /* in the order of operations */
	uint32_t level;
	bool add;
	ManifestTable table;
} TableOp;

typedef struct Loader {
	ManifestImage *img;
	char path[FS_PATH_MAX];
	size_t length;
	uint32_t format;
	Buf ops;          /* TableOp[] */
	Buf ranges;       /* RangeDelete[], by version */
	Buf values;       /* ValueFileInfo[] */
	bool has_state;
	void (*see)(void *arg, const ManifestEdit *e); /* NULL: nobody looks */
	void *arg;
} Loader;

static Status
damaged(const Loader *l, uint64_t offset, const char *what)
{
	return status_fail(ST_CORRUPT, "%s: %s at offset %llu: restore it from a backup or another node",
	                   l->path, what, (unsigned long long) offset);
}

/* ---- files */
Status
manifest_current(uint64_t *number)
{
	char *text = NULL, want[64], path[FS_PATH_MAX];
	size_t len;
	unsigned long long n = 0;
	bool good;
	Status st = fs_read_file(LSM_CURRENT, 4096, &text, &len);

	if (st == ST_NOT_FOUND)
		return status_fail(ST_CORRUPT, "%s is missing: this is no data directory, or it is damaged",
		                   LSM_CURRENT);
	if (st == ST_OUT_OF_RANGE)
		return status_fail(ST_CORRUPT, "%s is too long to name a manifest: restore it", LSM_CURRENT);
	KV_TRY(st);
	good = sscanf(text, "MANIFEST-%16llx", &n) == 1;
	manifest_path(n, path, sizeof path);
	snprintf(want, sizeof want, "%.60s\n", path);
	good = good && len == strlen(want) && memcmp(text, want, len) == 0;
	free(text);
	*number = n;
	return good ? ST_OK : status_fail(ST_CORRUPT, "%s does not name a manifest: restore it", LSM_CURRENT);
}

static Status
read_whole(Loader *l)
{
	uint64_t bytes;
	size_t got;
	int fd;
	Status st = fs_open(l->path, FS_READ, &fd);

	if (st == ST_NOT_FOUND)
		return status_fail(ST_CORRUPT, "%s, a list of tables, is missing: restore it", l->path);
	KV_TRY(st);
	st = fs_size(fd, &bytes);
	if (st == ST_OK && (l->img->file = malloc((size_t) bytes + 1)) == NULL)
		st = status_fail(ST_OUT_OF_MEMORY, "no memory to read %s (%llu bytes)", l->path,
		                 (unsigned long long) bytes);
	if (st == ST_OK)
		st = fs_pread(fd, l->img->file, (size_t) bytes, 0, &got);
	if (st == ST_OK)
		l->length = got;
	if (st == ST_OK)
		st = fs_close(fd);
	else if (fs_close(fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "closing %s: %s", l->path, status_detail());
	return st;
}

static Status
read_header(Loader *l, uint64_t *base)
{
	const uint8_t *h = l->img->file;

	if (l->length < MANIFEST_HEADER)
		return damaged(l, l->length, "the header is cut off");
	if (memcmp(h, MANIFEST_MAGIC, 8) != 0)
		return damaged(l, 0, "no magic of a manifest of kvd");
	/* The header's 40 bytes and their checksum are the same in every format. */
	if (get_u32(h + MANIFEST_HEADER - 4) != manifest_header_crc(h))
		return damaged(l, 0, "damaged header");
	l->format = get_u32(h + 8);
	if (l->format == 0 || l->format > MANIFEST_FORMAT)
		return status_fail(ST_FOREIGN, "%s has format %u, this kvd reads 1 to %u: use a newer kvd",
		                   l->path, (unsigned) l->format, MANIFEST_FORMAT);
	if (get_u64(h + 16) != l->img->number)
		return damaged(l, 16, "it belongs to another manifest");
	*base = get_u64(h + 24);
	if (*base < MANIFEST_HEADER || *base > l->length)
		return damaged(l, l->length, "it is cut off within the list of tables");
	return ST_OK;
}

/* ---- operations */
static Status
read_table(Loader *l, Reader *r, TableOp *op)
{
	TableInfo *i = &op->table.info;
	uint64_t *u64[] = { &i->number, &i->file_id, &i->bytes, &i->root_offset, &i->filter_offset, &i->entries,
		            &i->tombstones, &i->expiring, &i->key_bytes, &i->value_bytes, &i->version_min,
		            &i->version_max };
	uint32_t smallest, largest;
	size_t shares;

	memset(i, 0, sizeof *i);
	op->level = op->table.level = read_u8(r);
	for (size_t n = 0; n < sizeof u64 / sizeof u64[0]; n++)
		*u64[n] = read_u64(r);
	i->ranges_applied = l->format >= 2 ? read_u64(r) : 0; /* format 1 has no range deletions */
	i->root_size = read_u32(r);
	i->index_height = read_u32(r);
	i->filter_pages = read_u32(r);
	smallest = read_u32(r);
	largest = read_u32(r);
	i->value_files = l->format >= 2 ? read_u32(r) : 0;
	shares = i->value_files <= VALUE_SHARES_MAX ? (size_t) i->value_files * VALUE_SHARE_BYTES : SIZE_MAX;
	op->table.smallest = read_bytes(r, smallest);
	op->table.largest = read_bytes(r, largest);
	op->table.shares = read_bytes(r, shares).data;
	op->number = i->number;
	op->add = true;
	if (!reader_ok(r) || op->level >= LSM_LEVELS || smallest == 0 || largest == 0 ||
	    slice_cmp(op->table.smallest, op->table.largest) > 0)
		return damaged(l, op->offset, "malformed table");
	return ST_OK;
}

static Status
note_table_op(Loader *l, const TableOp *op)
{
	ManifestEdit e = { .offset = op->offset, .op = op->add ? MANIFEST_ADD : MANIFEST_DELETE, .level = op->level,
		.number = op->number, .table = op->add ? &op->table : NULL };

	if (l->see != NULL)
		l->see(l->arg, &e);
	return buf_append(&l->ops, op, sizeof *op);
}

static Status
read_state(Loader *l, Reader *r, uint64_t offset)
{
	ManifestEdit e = { .offset = offset, .op = MANIFEST_STATE };

	e.state.flushed = read_u64(r);
	e.state.flushed_term = read_u64(r);
	e.state.flushed_time = read_u64(r);
	l->img->state = e.state;
	l->has_state = true;
	if (l->see != NULL && reader_ok(r))
		l->see(l->arg, &e);
	return ST_OK;
}

static Status
read_next(Loader *l, Reader *r, uint64_t offset)
{
	ManifestEdit e = { .offset = offset, .op = MANIFEST_NEXT, .number = read_u64(r) };

	l->img->next_number = e.number;
	if (l->see != NULL && reader_ok(r))
		l->see(l->arg, &e);
	return ST_OK;
}

/* They come and go in the order of the log: a new one is newer than those there. */
static Status
read_range(Loader *l, Reader *r, uint64_t offset)
{
	ManifestEdit e = { .offset = offset, .op = MANIFEST_RANGE, .range.version = read_u64(r) };
	const RangeDelete *list = (const RangeDelete *) (const void *) l->ranges.data;
	size_t n = l->ranges.len / sizeof *list;
	uint32_t start = read_u32(r), end = read_u32(r);

	e.range.start = read_bytes(r, start);
	e.range.end = read_bytes(r, end);
	if (!reader_ok(r) || !range_is_sound(e.range.start, e.range.end))
		return damaged(l, offset, "malformed range deletion");
	if (e.range.version <= (n > 0 ? list[n - 1].version : 0))
		return damaged(l, offset, "a range deletion out of order");
	if (l->see != NULL)
		l->see(l->arg, &e);
	return buf_append(&l->ranges, &e.range, sizeof e.range);
}

static Status
read_range_drop(Loader *l, Reader *r, uint64_t offset)
{
	ManifestEdit e = { .offset = offset, .op = MANIFEST_RANGE_DROP, .range.version = read_u64(r) };
	RangeDelete *list = (RangeDelete *) (void *) l->ranges.data;
	size_t n = l->ranges.len / sizeof *list, i = 0;

	while (i < n && list[i].version != e.range.version)
		i++;
	if (i == n)
		return damaged(l, offset, "an edit that does not fit those before it");
	memmove(&list[i], &list[i + 1], (n - i - 1) * sizeof *list);
	l->ranges.len -= sizeof *list;
	if (l->see != NULL)
		l->see(l->arg, &e);
	return ST_OK;
}

static Status
read_values(Loader *l, Reader *r, uint64_t offset)
{
	ValueFileInfo f;
	ManifestEdit e = { .offset = offset, .op = MANIFEST_VALUES, .values = &f };

	f.file_id = read_u64(r);
	f.bytes = read_u64(r);
	f.values = read_u64(r);
	f.value_bytes = read_u64(r);
	if (!reader_ok(r) || (f.file_id & VALUE_ID_BIT) == 0)
		return damaged(l, offset, "malformed value file");
	if (l->see != NULL)
		l->see(l->arg, &e);
	return buf_append(&l->values, &f, sizeof f);
}

static Status
read_op(Loader *l, Reader *r, uint64_t offset)
{
	TableOp op = { .offset = offset, .place = l->ops.len / sizeof op };

	switch (read_u8(r)) {
	case MANIFEST_ADD:
		KV_TRY(read_table(l, r, &op));
		return note_table_op(l, &op);
	case MANIFEST_DELETE:
		op.level = read_u8(r);
		op.number = read_u64(r);
		return note_table_op(l, &op);
	case MANIFEST_STATE:
		return read_state(l, r, offset);
	case MANIFEST_NEXT:
		return read_next(l, r, offset);
	case MANIFEST_RANGE:
		return read_range(l, r, offset);
	case MANIFEST_RANGE_DROP:
		return read_range_drop(l, r, offset);
	case MANIFEST_VALUES:
		return read_values(l, r, offset);
	default:
		return damaged(l, offset, "unknown operation");
	}
}

/* Is there a good record at `offset`? */
static bool
record_at(const Loader *l, uint64_t offset, Slice *body)
{
	const uint8_t *p = l->img->file + offset;
	uint32_t len;

	if (l->length - offset < MANIFEST_RECORD_HEADER)
		return false;
	len = get_u32(p + 4);
	if (len == 0 || len > l->length - offset - MANIFEST_RECORD_HEADER)
		return false;
	*body = slice_of(p + MANIFEST_RECORD_HEADER, len);
	return get_u32(p) == manifest_crc(l->img->number, offset, *body);
}

/* The bad record at `offset`: the torn end of the file (then *end), or damage? */
static Status
judge_bad(const Loader *l, uint64_t offset, uint64_t base)
{
	Slice body;

	if (offset < base)
		return damaged(l, offset, "damaged record");
	for (uint64_t at = offset + 1; at < l->length; at++)
		if (record_at(l, at, &body))
			return damaged(l, offset, "damaged record");
	elog(LOG_LEVEL_LOG, "%s: %llu bytes of an edit that did not take effect are dropped at offset %llu",
	     l->path, (unsigned long long) (l->length - offset), (unsigned long long) offset);
	return ST_OK;
}

static Status
read_records(Loader *l, uint64_t base)
{
	uint64_t at = MANIFEST_HEADER;

	while (at < l->length) {
		Slice body;
		Reader r;

		if (!record_at(l, at, &body))
			return judge_bad(l, at, base);
		r = reader_of(body.data, body.len);
		while (reader_left(&r) > 0) {
			KV_TRY(read_op(l, &r, at));
			if (!reader_ok(&r))
				return damaged(l, at, "malformed operation");
		}
		at += MANIFEST_RECORD_HEADER + body.len;
	}
	return ST_OK;
}

/* ---- what is left in the end */
static int
op_order(const void *a, const void *b)
{
	const TableOp *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (x->place > y->place) - (x->place < y->place);
}

/* The operations on one number must be add, delete of the same level, add, ...; a last add is a table. */
static Status
fold(Loader *l)
{
	TableOp *ops = (TableOp *) (void *) l->ops.data;
	size_t n = l->ops.len / sizeof *ops;

	if (n == 0)
		return ST_OK;
	qsort(ops, n, sizeof *ops, op_order);
	l->img->tables = malloc(n * sizeof *l->img->tables);
	if (l->img->tables == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the list of %zu tables", n);
	for (size_t i = 0; i < n; i++) {
		bool first = i == 0 || ops[i - 1].number != ops[i].number;
		bool there = !first && ops[i - 1].add;

		if (ops[i].add ? there : !there || ops[i - 1].level != ops[i].level)
			return damaged(l, ops[i].offset, "an edit that does not fit those before it");
		if (ops[i].number >= l->img->next_number)
			return damaged(l, ops[i].offset, "a table number out of range");
		if (ops[i].add && (i + 1 == n || ops[i + 1].number != ops[i].number))
			l->img->tables[l->img->ntables++] = ops[i].table;
	}
	return ST_OK;
}

/* What the tables hold is below `flushed`, and so is all that was deleted from them. */
static Status
take_ranges(Loader *l)
{
	ManifestImage *img = l->img;
	size_t n = l->ranges.len / sizeof *img->ranges;

	for (size_t i = 0; i < img->ntables; i++)
		if (img->tables[i].info.ranges_applied > img->state.flushed)
			return damaged(l, MANIFEST_HEADER, "a table with range deletions that are not in the list");
	if (n == 0)
		return ST_OK;
	img->ranges = malloc(l->ranges.len);
	if (img->ranges == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the list of %zu range deletions", n);
	memcpy(img->ranges, l->ranges.data, l->ranges.len);
	img->nranges = n;
	return img->ranges[n - 1].version < img->state.flushed
			   ? ST_OK : damaged(l, MANIFEST_HEADER, "a range deletion newer than the list");
}

static Status
load(Loader *l)
{
	uint64_t base = 0;
	Status st;

	KV_TRY(read_whole(l));
	KV_TRY(read_header(l, &base));
	KV_TRY(read_records(l, base));
	if (!l->has_state)
		return damaged(l, MANIFEST_HEADER, "no list of tables");
	KV_TRY(fold(l));
	KV_TRY(take_ranges(l));
	st = manifest_values_settle(l->img, &l->values);
	return st == ST_CORRUPT ? damaged(l, MANIFEST_HEADER, "tables refer to values that are not in the list") : st;
}

static Status
read_file(const char *path, uint64_t number, Loader *l)
{
	Status st;

	*l->img = (ManifestImage){ .number = number };
	snprintf(l->path, sizeof l->path, "%s", path);
	st = load(l);
	buf_free(&l->ops);
	buf_free(&l->ranges);
	buf_free(&l->values);
	if (st != ST_OK)
		manifest_image_free(l->img);
	return st;
}

Status
manifest_read_edits(ManifestImage *out, void (*see)(void *arg, const ManifestEdit *e), void *arg)
{
	Loader l = { .img = out, .see = see, .arg = arg };
	char path[FS_PATH_MAX];
	uint64_t number;

	*out = (ManifestImage){ 0 };
	KV_TRY(manifest_current(&number));
	manifest_path(number, path, sizeof path);
	return read_file(path, number, &l);
}

Status
manifest_read(ManifestImage *out)
{
	return manifest_read_edits(out, NULL, NULL);
}

Status
manifest_read_file(const char *path, uint64_t number, ManifestImage *out)
{
	Loader l = { .img = out };

	return read_file(path, number, &l);
}

void
manifest_image_free(ManifestImage *img)
{
	free(img->tables);
	free(img->ranges);
	free(img->values);
	free(img->file);
	img->tables = NULL;
	img->ranges = NULL;
	img->values = NULL;
	img->file = NULL;
}
