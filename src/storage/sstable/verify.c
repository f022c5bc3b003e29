/*
 * verify.c - whole-file checks: what a file says of itself, and that every byte of it holds.
 *
 * Offline tools, scrubbing, and whoever adopts a file it did not write. Reads past the cache: what counts
 * is the disk. Memory: the filter, and one block a level of the index.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "data_block_internal.h"
#include "port/fs.h"

/* ---- properties */

static Status
read_properties(int fd, const char *path, uint64_t size, const Footer *f, Buf *buf)
{
	size_t want = (size_t) f->props_size + BLOCK_TRAILER, got;
	const uint8_t *end;

	if (f->props_size > PROPERTIES_MAX || f->props_offset > size - FOOTER_BYTES ||
		size - FOOTER_BYTES - f->props_offset != want)
		return status_fail(ST_CORRUPT, "%s: footer names impossible properties", path);
	KV_TRY(buf_reserve(buf, want));
	KV_TRY(fs_pread(fd, buf->data, want, f->props_offset, &got));
	end = buf->data + f->props_size;
	if (got != want || *end != TABLE_CODEC_NONE ||
		get_u32(end + 1) != block_crc(f->file_id, f->props_offset, buf->data, f->props_size, *end))
		return status_fail(ST_CORRUPT, "%s: damaged block at byte %llu (properties)", path,
		                   (unsigned long long) f->props_offset);
	buf->len = f->props_size;
	return ST_OK;
}

/* The properties of an open file, in buf. */
static Status
read_info(int fd, const char *path, Properties *p, Buf *buf)
{
	const TableInfo *t = &p->info;
	uint8_t raw[FOOTER_BYTES];
	uint64_t size;
	size_t got;
	Footer f;

	KV_TRY(fs_size(fd, &size));
	if (size < FOOTER_BYTES)
		return status_fail(ST_CORRUPT, "%s has %llu bytes, too few for a table: it is cut", path,
		                   (unsigned long long) size);
	KV_TRY(fs_pread(fd, raw, sizeof(raw), size - FOOTER_BYTES, &got));
	if (got != sizeof(raw))
		return status_fail(ST_CORRUPT, "%s is shorter than its size says", path);
	KV_TRY(footer_decode(raw, path, &f));
	KV_TRY(read_properties(fd, path, size, &f, buf));
	if (!properties_decode(slice_buf(buf), p) ||
		t->file_id != f.file_id || t->bytes != size ||
		t->root_offset != f.root_offset || t->root_size != f.root_size || t->index_height != f.index_height ||
		t->index_height == 0 || t->index_height > TABLE_HEIGHT_MAX || t->entries == 0)
		return status_fail(ST_CORRUPT, "%s: its properties and its footer contradict each other", path);
	return ST_OK;
}

/* The same of a file that is not open. */
static Status
read_properties_of(uint64_t number, Properties *p, Buf *buf)
{
	char path[FS_PATH_MAX];
	Status st, closed;
	int fd;

	table_path(number, path, sizeof(path));
	KV_TRY(fs_open(path, FS_READ, &fd));
	st = read_info(fd, path, p, buf);
	p->info.number = number; /* a copy from another node has the number it got here */
	closed = fs_close(fd);
	return st != ST_OK ? st : closed;
}

Status
table_read_info(uint64_t number, TableInfo *info, Buf *smallest, Buf *largest)
{
	Properties p = { 0 };
	Buf buf = { 0 };
	Status st = read_properties_of(number, &p, &buf);

	if (st == ST_OK)
		st = buf_append_slice(smallest, p.smallest);
	if (st == ST_OK)
		st = buf_append_slice(largest, p.largest);
	*info = p.info;
	buf_free(&buf);
	return st;
}

Status
table_read_shares(uint64_t number, Buf *out)
{
	char path[FS_PATH_MAX];
	Properties p = { 0 };
	Buf buf = { 0 };
	Status st = read_properties_of(number, &p, &buf);

	if (st == ST_OK) {
		st = value_shares_decode(p.shares.data, p.info.value_files, out);
		table_path(number, path, sizeof(path));
		if (st == ST_CORRUPT)
			st = status_fail(ST_CORRUPT, "%s: malformed list of value files", path);
	}
	buf_free(&buf);
	return st;
}

/* ---- verify */

typedef struct Check {
	const TableInfo *t;
	BlockFile file;
	TableInfo seen;           /* counted */
	Buf shares;               /* ValueShare[], counted */
	uint64_t bytes;           /* of all blocks seen */
	uint64_t next_offset;     /* blocks of the tree may not overlap nor go back */
	Buf filter;               /* all pages */
	Buf last, smallest;       /* keys: last entry seen, first one */
	uint64_t last_version;
	Buf sep;                  /* separator of the last data block; empty before the first */
	uint64_t sep_version;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
} Check;

static Status
check_filter_load(Check *c)
{
	Buf page = { 0 };
	Slice content;
	Status st = ST_OK;

	for (uint32_t i = 0; i < c->t->filter_pages && st == ST_OK; i++) {
		BlockHandle h = { c->t->filter_offset + (uint64_t) i * FILTER_STRIDE, FILTER_PAGE };

		st = block_read(&c->file, h, &page, &content);
		if (st == ST_OK)
			st = buf_append_slice(&c->filter, content);
	}
	c->bytes += (uint64_t) c->t->filter_pages * FILTER_STRIDE;
	buf_free(&page);
	return st;
}

static Status
check_value(Check *c, const Entry *e, uint64_t offset)
{
	ValueRef ref;

	c->seen.value_bytes += e->kind == ENTRY_VALUE_REF ? 0 : e->value.len;
	if (e->kind != ENTRY_VALUE_REF)
		return ST_OK;
	if (!value_ref_decode(e->value, &ref))
		return table_damaged(c->t, offset, "malformed reference to a value");
	c->seen.value_bytes += ref.length;
	return value_shares_count(&c->shares, &ref);
}

static Status
check_entry(Check *c, const Entry *e, uint64_t offset)
{
	TableInfo *s = &c->seen;

	if (s->entries > 0 && entry_cmp(slice_buf(&c->last), c->last_version, e->key, e->version) >= 0)
		return table_damaged(c->t, offset, "entries out of order");
	if (c->sep.len > 0 && entry_cmp(slice_buf(&c->sep), c->sep_version, e->key, e->version) >= 0)
		return table_damaged(c->t, offset, "an entry is not after the separator before its block");
	if (e->version == 0)
		return table_damaged(c->t, offset, "an entry has version 0");
	if (c->t->filter_pages > 0) {
		uint64_t hash = table_key_hash(e->key);
		uint32_t page = filter_page_of(c->t->filter_pages, hash);

		if (!filter_probe(c->filter.data + (size_t) page * FILTER_PAGE, c->t->filter_pages, hash))
			return table_damaged(c->t, offset, "the filter lacks one of its keys");
	}
	if (s->entries == 0)
		KV_TRY(buf_set(&c->smallest, e->key));
	KV_TRY(buf_set(&c->last, e->key));
	c->last_version = e->version;
	s->version_min = s->entries == 0 || e->version < s->version_min ? e->version : s->version_min;
	s->version_max = e->version > s->version_max ? e->version : s->version_max;
	s->entries++;
	s->tombstones += e->kind == ENTRY_DELETE;
	s->expiring += e->expire_ms != 0;
	s->key_bytes += e->key.len;
	return check_value(c, e, offset);
}

static size_t
common_prefix(Slice a, Slice b)
{
	size_t n = 0;

	while (n < a.len && n < b.len && a.data[n] == b.data[n])
		n++;
	return n;
}

/*
 * What point reads rely on and a walk does not see: where restarts are, and that each other key is cut by all that it
 * has in common with the one before. The current entry is number i of its block.
 */
static bool
is_cut_right(const DataCursor *cur, uint32_t i, Slice before)
{
	const DataView *v = &cur->view;
	const uint8_t *p = v->base + cur->at;
	uint32_t value_at;
	EntryView e;

	if (!data_entry(v, p, &e))
		return false;
	if (i % RESTART_INTERVAL != 0)
		return e.shared == common_prefix(before, cur->entry.key);
	return i / RESTART_INTERVAL < v->nrestarts && data_restart(v, i / RESTART_INTERVAL, &value_at) == p &&
		   value_at == cur->value_next - e.value_len && (i > 0 || (cur->at == 0 && value_at == 0)) && e.shared == 0;
}

static Status
check_data(Check *c, BlockHandle h)
{
	DataCursor cur = { 0 };
	Buf own = { 0 };
	Slice block;
	uint32_t n = 0;
	Status st = block_read(&c->file, h, &own, &block);

	if (st == ST_OK && (!data_cursor_open(&cur, block) || !data_cursor_first(&cur)))
		st = table_damaged(c->t, h.offset, "malformed entries");
	while (st == ST_OK && data_cursor_valid(&cur)) {
		if (!is_cut_right(&cur, n++, slice_buf(&c->last)))
			st = table_damaged(c->t, h.offset, "a restart is misplaced, or a key not cut as far as it can be");
		else
			st = check_entry(c, &cur.entry, h.offset);
		if (st == ST_OK && !data_cursor_next(&cur))
			st = table_damaged(c->t, h.offset, "malformed entries");
	}
	if (st == ST_OK && cur.view.nrestarts != (n + RESTART_INTERVAL - 1) / RESTART_INTERVAL)
		st = table_damaged(c->t, h.offset, "too many restarts");
	if (st != ST_OK && cur.out_of_memory)
		st = status_fail(ST_OUT_OF_MEMORY, "no memory to check a table entry");
	data_cursor_free(&cur);
	buf_free(&own);
	return st;
}

static Status check_index(Check *c, BlockHandle h, uint32_t level);

/* A data block and the separator `sep` that stands for it. */
static Status
check_leaf_item(Check *c, BlockHandle h, BlockHandle child, Slice sep, uint64_t version)
{
	if (child.offset < c->next_offset)
		return table_damaged(c->t, h.offset, "index out of order");
	KV_TRY(check_data(c, child));
	if (entry_cmp(slice_buf(&c->last), c->last_version, sep, version) > 0)
		return table_damaged(c->t, h.offset, "a separator is before its block's last entry");
	c->next_offset = child.offset + child.size + BLOCK_TRAILER;
	c->bytes += (uint64_t) child.size + BLOCK_TRAILER;
	if (c->progress != NULL)
		c->progress(c->arg, c->bytes);
	c->sep_version = version;
	return buf_set(&c->sep, sep);
}

static Status
check_item(Check *c, BlockHandle h, const IndexView *v, uint32_t i, uint32_t level, Buf *sep)
{
	BlockHandle child;
	uint64_t version;
	uint32_t found;
	Slice suffix;

	if (!index_item(v, i, &suffix, &version, &child))
		return table_damaged(c->t, h.offset, "malformed index");
	KV_TRY(block_child_check(c->t, h, child));
	sep->len = 0;
	KV_TRY(buf_append(sep, v->prefix, v->prefix_len));
	KV_TRY(buf_append_slice(sep, suffix));
	if (!index_seek(v, slice_buf(sep), version, &found) || found != i)
		return table_damaged(c->t, h.offset, "a separator is not found where it is");
	if (level == 1)
		return check_leaf_item(c, h, child, slice_buf(sep), version);
	KV_TRY(check_index(c, child, level - 1));
	if (entry_cmp(slice_buf(&c->sep), c->sep_version, slice_buf(sep), version) != 0)
		return table_damaged(c->t, h.offset, "a separator is not the last one of its block");
	return ST_OK;
}

static Status
check_index(Check *c, BlockHandle h, uint32_t level)
{
	Buf own = { 0 }, sep = { 0 };
	IndexView v;
	Slice block;
	Status st = block_read(&c->file, h, &own, &block);

	if (st == ST_OK && !index_open(&v, block))
		st = table_damaged(c->t, h.offset, "malformed index");
	for (uint32_t i = 0; st == ST_OK && i < v.n; i++)
		st = check_item(c, h, &v, i, level, &sep);
	c->bytes += (uint64_t) h.size + BLOCK_TRAILER;
	buf_free(&own);
	buf_free(&sep);
	return st;
}

/* The list of value files is what the references count. */
static Status
check_shares(const Check *c)
{
	Buf said = { 0 };
	Status st = table_read_shares(c->t->number, &said);

	if (st == ST_OK && !slice_eq(slice_buf(&said), slice_buf(&c->shares)))
		st = table_damaged(c->t, c->t->root_offset, "its references are not those its properties count");
	buf_free(&said);
	return st;
}

static Status
check_totals(const Check *c, const TableInfo *said, Slice smallest, Slice largest)
{
	const TableInfo *s = &c->seen;
	char path[FS_PATH_MAX];

	table_path(said->number, path, sizeof(path));
	if (s->entries != said->entries || s->tombstones != said->tombstones || s->expiring != said->expiring ||
		s->key_bytes != said->key_bytes || s->value_bytes != said->value_bytes ||
		s->version_min != said->version_min || s->version_max != said->version_max)
		return status_fail(ST_CORRUPT, "%s: its entries are not those its properties count", path);
	if (!slice_eq(slice_buf(&c->smallest), smallest) || !slice_eq(slice_buf(&c->last), largest))
		return status_fail(ST_CORRUPT, "%s: its smallest or largest key is not what its properties say", path);
	if (c->bytes + PROPERTIES_FIXED + smallest.len + largest.len + c->shares.len + BLOCK_TRAILER + FOOTER_BYTES !=
		said->bytes)
		return status_fail(ST_CORRUPT, "%s: its blocks do not add up to its size", path);
	return ST_OK;
}

static Status
check_all(Check *c)
{
	BlockHandle root = { c->t->root_offset, c->t->root_size };
	Buf small = { 0 }, large = { 0 };
	TableInfo said;
	Status st = table_read_info(c->t->number, &said, &small, &large);

	if (st == ST_NOT_FOUND)
		st = status_fail(ST_CORRUPT, "table %016llx: its file is missing", (unsigned long long) c->t->number);
	said.ranges_applied = c->t->ranges_applied; /* the file does not know it */
	if (st == ST_OK && memcmp(&said, c->t, sizeof(said)) != 0)
		st = table_damaged(c->t, c->t->root_offset, "the manifest and the file's properties differ");
	if (st == ST_OK)
		st = check_filter_load(c);
	if (st == ST_OK)
		st = check_index(c, root, c->t->index_height);
	if (st == ST_OK)
		st = check_totals(c, &said, slice_buf(&small), slice_buf(&large));
	if (st == ST_OK)
		st = check_shares(c);
	buf_free(&small);
	buf_free(&large);
	return st;
}

Status
table_verify(const TableInfo *t, void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	Check c = { .t = t, .file = table_blocks(t), .progress = progress, .arg = arg };
	Status st = check_all(&c);

	buf_free(&c.filter);
	buf_free(&c.last);
	buf_free(&c.smallest);
	buf_free(&c.sep);
	buf_free(&c.shares);
	return st;
}
