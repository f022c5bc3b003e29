/*
 * builder.c - writing a table file from entries in order.
 *
 * Compaction worker (and replay at start); memory private to the builder. Index blocks go to the file as soon as they
 * are full, after all they name, so memory is one block a level, the keys' hashes, and a write buffer.
 *
 * The first failure sticks: later calls return it and finish removes the file. A failed sync is an
 * IO_ERROR for the caller to stop the node on; it is not retried here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/kv_assert.h"
#include "port/fs.h"
#include "sstable_internal.h"

struct TableBuilder {
	TableInfo info;
	uint32_t filter_bits;
	uint8_t codec;
	Status failed;                   /* sticky */
	char failed_detail[STATUS_DETAIL_MAX];
	BlockOut out;
	DataBuilder data;
	IndexBuilder *levels[TABLE_HEIGHT_MAX]; /* [0] names data blocks; made when needed */
	uint32_t nlevels;
	Buf hashes;                      /* uint64_t of each key, once */
	Buf smallest, separator;
	Buf shares;                      /* ValueShare[] */
};

/* ---- output */

static Status
write_plain(TableBuilder *b, Slice content, BlockHandle *h)
{
	return block_out_write(&b->out, content, TABLE_CODEC_NONE, h);
}

/* ---- index */

static Status
level_open(TableBuilder *b, uint32_t level)
{
	if (level < b->nlevels)
		return ST_OK;
	KV_ASSERT(level < TABLE_HEIGHT_MAX);
	b->levels[level] = calloc(1, sizeof(IndexBuilder));
	if (b->levels[level] == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "building %s: no memory for its index", b->out.tmp);
	b->nlevels = level + 1;
	return ST_OK;
}

/*
 * Add an item at `level`; a block that would become too large is written first, and its last separator goes
 * one level up. A block takes two items however large, so each level at least halves the number of blocks.
 */
static Status
index_put(TableBuilder *b, uint32_t level, Slice key, uint64_t version, BlockHandle child)
{
	IndexBuilder *ib;
	BlockHandle written;
	Buf up = { 0 };
	uint64_t up_version;
	Status st;

	KV_TRY(level_open(b, level));
	ib = b->levels[level];
	if (ib->n < 2 || index_builder_size_with(ib, key, version, child) <= BLOCK_TARGET)
		return index_builder_add(ib, key, version, child);
	KV_TRY(index_builder_finish(ib));
	KV_TRY(write_plain(b, slice_buf(&ib->content), &written));
	KV_TRY(buf_set(&up, index_builder_last(ib, &up_version)));
	index_builder_reset(ib);
	st = index_builder_add(ib, key, version, child);
	if (st == ST_OK)
		st = index_put(b, level + 1, slice_buf(&up), up_version, written);
	buf_free(&up);
	return st;
}

/* Write what is left of each level; the topmost block is the root. */
static Status
index_finish(TableBuilder *b)
{
	for (uint32_t level = 0;; level++) {
		IndexBuilder *ib = b->levels[level];
		BlockHandle h;
		uint64_t version;
		Slice last;

		KV_TRY(index_builder_finish(ib));
		KV_TRY(write_plain(b, slice_buf(&ib->content), &h));
		if (level + 1 == b->nlevels) {
			b->info.root_offset = h.offset;
			b->info.root_size = h.size;
			b->info.index_height = level + 1;
			return ST_OK;
		}
		last = index_builder_last(ib, &version);
		KV_TRY(index_put(b, level + 1, last, version, h));
	}
}

/* ---- data */

/* Write the data block; `next` is the first entry after it, NULL at the end. */
static Status
data_flush(TableBuilder *b, const Entry *next)
{
	Slice last = slice_buf(&b->data.last_key);
	uint64_t version = 0;
	BlockHandle h;

	KV_TRY(data_builder_finish(&b->data));
	KV_TRY(block_out_pack(&b->out, slice_buf(&b->data.content), b->codec, &h));
	b->separator.len = 0;
	if (next == NULL)
		KV_TRY(buf_append_slice(&b->separator, last));
	else if (slice_eq(last, next->key)) { /* versions of one key on both sides */
		KV_TRY(buf_append_slice(&b->separator, last));
		version = b->data.last_version;
	} else
		KV_TRY(index_separator(last, next->key, &b->separator));
	data_builder_reset(&b->data);
	if (b->data.content.cap > BLOCK_OUT_BUFFER) { /* was a huge entry */
		buf_free(&b->data.content);
		buf_free(&b->data.values);
	}
	return index_put(b, 0, slice_buf(&b->separator), version, h);
}

static void
count_entry(TableInfo *t, const Entry *e)
{
	t->entries++;
	t->tombstones += e->kind == ENTRY_DELETE;
	t->expiring += e->expire_ms != 0;
	t->key_bytes += e->key.len;
	if (e->kind != ENTRY_VALUE_REF)
		t->value_bytes += e->value.len;
	if (e->version < t->version_min)
		t->version_min = e->version;
	if (e->version > t->version_max)
		t->version_max = e->version;
}

static Status
count_value(TableBuilder *b, Slice bytes)
{
	ValueRef ref;
	bool good = value_ref_decode(bytes, &ref);

	KV_ASSERT(good);
	KV_TRY(value_shares_count(&b->shares, &ref));
	b->info.value_files = (uint32_t) (b->shares.len / sizeof(ValueShare));
	KV_ASSERT(b->info.value_files <= VALUE_SHARES_MAX);
	b->info.value_bytes += ref.length;
	return ST_OK;
}

/* Is `e` after (last, version), `common` being what the keys begin with in common? */
static bool
is_after(Slice last, uint64_t version, const Entry *e, size_t common)
{
	if (common < last.len)
		return common < e->key.len && e->key.data[common] > last.data[common];
	return common < e->key.len || e->version < version;
}

static Status
add_entry(TableBuilder *b, const Entry *e)
{
	Slice last = slice_buf(&b->data.last_key);
	size_t common = data_builder_common(&b->data, e->key);
	bool new_key = b->info.entries == 0 || common < last.len || common < e->key.len;

	KV_ASSERT(b->info.entries == 0 || is_after(last, b->data.last_version, e, common));
	if (b->info.entries == 0)
		KV_TRY(buf_set(&b->smallest, e->key));
	if (new_key && b->filter_bits > 0) {
		uint64_t hash = table_key_hash(e->key);

		KV_TRY(buf_append(&b->hashes, &hash, sizeof(hash)));
	}
	if (data_builder_full(&b->data, e, common))
		KV_TRY(data_flush(b, e));
	KV_TRY(data_builder_add(&b->data, e, common));
	count_entry(&b->info, e);
	return e->kind == ENTRY_VALUE_REF ? count_value(b, e->value) : ST_OK;
}

/* ---- the end of the file */

static Status
filter_write(TableBuilder *b)
{
	uint64_t n = b->hashes.len / sizeof(uint64_t);
	uint32_t npages = filter_pages_for(n, b->filter_bits);
	uint8_t *pages;
	Status st = ST_OK;

	if (npages == 0)
		return ST_OK;
	pages = calloc(npages, FILTER_PAGE);
	if (pages == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "building %s: no memory for its filter", b->out.tmp);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t hash;

		memcpy(&hash, b->hashes.data + i * sizeof(hash), sizeof(hash));
		filter_add(pages, npages, hash);
	}
	for (uint32_t i = 0; i < npages && st == ST_OK; i++) {
		BlockHandle h;

		st = write_plain(b, slice_of(pages + (size_t) i * FILTER_PAGE, FILTER_PAGE), &h);
		if (st == ST_OK && i == 0)
			b->info.filter_offset = h.offset;
	}
	b->info.filter_pages = npages;
	free(pages);
	return st;
}

static Status
tail_write(TableBuilder *b, Slice largest)
{
	Footer f = { .file_id = b->info.file_id };
	uint8_t raw[FOOTER_BYTES];
	BlockHandle h;
	Buf props = { 0 };
	Status st;

	KV_TRY(index_finish(b));
	b->info.bytes = block_out_length(&b->out) + PROPERTIES_FIXED + b->smallest.len + largest.len +
		b->info.value_files * (uint64_t) VALUE_SHARE_BYTES + BLOCK_TRAILER + FOOTER_BYTES;
	st = properties_encode(&(Properties){ .info = b->info, .smallest = slice_buf(&b->smallest), .largest = largest },
	                       (const ValueShare *) (const void *) b->shares.data, &props);
	if (st == ST_OK)
		st = write_plain(b, slice_buf(&props), &h);
	buf_free(&props);
	KV_TRY(st);
	f.root_offset = b->info.root_offset;
	f.root_size = b->info.root_size;
	f.index_height = b->info.index_height;
	f.props_offset = h.offset;
	f.props_size = h.size;
	footer_encode(&f, raw);
	KV_TRY(block_out_bytes(&b->out, raw, sizeof(raw)));
	KV_ASSERT(block_out_length(&b->out) == b->info.bytes);
	return ST_OK;
}

/* Keys are appended to the Bufs; room for them is made first: once it is renamed the file is not to be given up. */
static Status
finish_file(TableBuilder *b, Buf *smallest, Buf *largest)
{
	KV_TRY(buf_reserve(smallest, b->smallest.len));
	KV_TRY(buf_reserve(largest, b->data.last_key.len));
	KV_TRY(data_flush(b, NULL));
	KV_TRY(filter_write(b));
	KV_TRY(tail_write(b, slice_buf(&b->data.last_key)));
	KV_TRY(block_out_finish(&b->out));
	KV_TRY(buf_append_slice(smallest, slice_buf(&b->smallest)));
	return buf_append_slice(largest, slice_buf(&b->data.last_key));
}

/* ---- for everybody */

static void
builder_free(TableBuilder *b)
{
	for (uint32_t i = 0; i < b->nlevels; i++) {
		index_builder_free(b->levels[i]);
		free(b->levels[i]);
	}
	data_builder_free(&b->data);
	buf_free(&b->hashes);
	buf_free(&b->smallest);
	buf_free(&b->separator);
	buf_free(&b->shares);
	free(b);
}

Status
table_builder_open(const TableBuildOptions *opt, TableBuilder **out)
{
	TableBuilder *b = calloc(1, sizeof(*b));
	char path[FS_PATH_MAX];
	Status st;

	if (b == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory to build a table");
	b->info.number = opt->number;
	b->info.file_id = opt->file_id;
	b->info.version_min = UINT64_MAX;
	b->filter_bits = opt->filter_bits_per_key;
	b->codec = (uint8_t) opt->codec;
	table_path(opt->number, path, sizeof(path));
	st = block_out_open(&b->out, path, opt->file_id);
	if (st != ST_OK) {
		builder_free(b);
		return st;
	}
	if (b->filter_bits > 0)
		st = buf_reserve(&b->hashes, opt->expected_entries * sizeof(uint64_t));
	if (st != ST_OK) {
		table_builder_abandon(b);
		return st;
	}
	*out = b;
	return ST_OK;
}

Status
table_builder_add(TableBuilder *b, const Entry *e)
{
	Status st;

	if (b->failed != ST_OK)
		return status_fail(b->failed, "%s", b->failed_detail);
	KV_ASSERT(e->key.len >= 1 && e->key.len <= INTERNAL_KEY_MAX);
	KV_ASSERT(e->value.len <= KV_VALUE_MAX && e->version > 0);
	st = add_entry(b, e);
	if (st != ST_OK) {
		b->failed = st;
		snprintf(b->failed_detail, sizeof(b->failed_detail), "%s", status_detail());
	}
	return st;
}

uint64_t
table_builder_bytes(const TableBuilder *b)
{
	return block_out_length(&b->out) + b->data.keys.len + b->data.values.len;
}

const ValueShare *
table_builder_shares(const TableBuilder *b, uint32_t *n)
{
	*n = b->info.value_files;
	return (const ValueShare *) (const void *) b->shares.data;
}

Status
table_builder_finish(TableBuilder *b, TableInfo *info, Buf *smallest, Buf *largest)
{
	Status st;

	if (b->failed != ST_OK)
		st = status_fail(b->failed, "%s", b->failed_detail);
	else if (b->info.entries == 0)
		st = status_fail(ST_INTERNAL, "%s: a table without entries is not written", b->out.path);
	else
		st = finish_file(b, smallest, largest);
	if (st != ST_OK) {
		table_builder_abandon(b);
		return st;
	}
	*info = b->info;
	builder_free(b);
	return ST_OK;
}

void
table_builder_abandon(TableBuilder *b)
{
	block_out_abandon(&b->out);
	builder_free(b);
}
