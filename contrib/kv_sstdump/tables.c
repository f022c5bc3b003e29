/*
 * tables.c - what a table says of itself, and its entries.
 */
#include <string.h>

#include "common/escape.h"
#include "kv_sstdump.h"
#include "storage/value_file.h"

Status
key_text(Buf *out, Slice internal)
{
	const char *space = internal.len > 0 && internal.data[0] == KEYSPACE_USER ? "user:" : "system:";

	KV_TRY(buf_append(out, space, strlen(space)));
	return internal.len > 0 ? escape_text(out, slice_of(internal.data + 1, internal.len - 1)) : ST_OK;
}

/* ---- properties */

static Status
codec_text(const TableInfo *t, Buf *out)
{
	static const char *const names[TABLE_CODECS] = { "none", "lz4", "zstd" };
	uint64_t blocks[TABLE_CODECS];

	KV_TRY(table_count_codecs(t, blocks));
	for (int i = 0; i < TABLE_CODECS; i++)
		if (blocks[i] > 0)
			KV_TRY(buf_printf(out, "%s%s %llu", out->len > 0 ? ", " : "", names[i], (unsigned long long) blocks[i]));
	return ST_OK;
}

static Status
show_properties(const TableFile *t)
{
	const TableInfo *i = &t->info;
	Buf smallest = { 0 }, largest = { 0 }, codecs = { 0 };
	char number[32], id[32];
	Status st = key_text(&smallest, slice_buf(&t->smallest));

	if (st == ST_OK)
		st = key_text(&largest, slice_buf(&t->largest));
	if (st == ST_OK)
		st = codec_text(i, &codecs);
	snprintf(number, sizeof number, "%016llx", (unsigned long long) i->number);
	snprintf(id, sizeof id, "%016llx", (unsigned long long) i->file_id);
	if (st == ST_OK)
		output_row(&dump.tool.out, (Cell[]){ CELL_OF_STR(number), CELL_OF_STR(id), CELL_OF_U64(i->bytes),
			CELL_OF_U64(i->entries), CELL_OF_U64(i->tombstones), CELL_OF_U64(i->expiring), CELL_OF_U64(i->key_bytes),
			CELL_OF_U64(i->value_bytes), CELL_OF_U64(i->version_min), CELL_OF_U64(i->version_max),
			CELL_OF_U64(i->index_height), CELL_OF_U64(i->filter_pages), CELL_OF_BYTES(slice_buf(&codecs)),
			CELL_OF_BYTES(slice_buf(&smallest)), CELL_OF_BYTES(slice_buf(&largest)) });
	buf_free(&smallest);
	buf_free(&largest);
	buf_free(&codecs);
	return st;
}

int
run_properties(char **names, int n)
{
	static const char *const columns[] = { "table", "file_id", "bytes", "entries", "tombstones", "expiring",
		"key_bytes", "value_bytes", "version_min", "version_max", "index_height", "filter_pages", "blocks", "smallest",
		"largest" };
	int code;

	dump.tool.out.expanded = true;
	output_begin(&dump.tool.out, 15, columns);
	code = each_table(names, n, show_properties);
	output_end(&dump.tool.out, false);
	return code;
}

/* ---- scan */

enum { C_SPACE, C_KEY, C_VERSION, C_KIND, C_VALUE, C_BYTES, C_EXPIRES, C_PLACE, COLUMNS };

/* A bound as internal key, from its C escapes. NULL: the end of the keyspace, which is where the next begins. */
static Status
bound(const char *text, bool end, Buf *out)
{
	uint8_t space = dump.system ? KEYSPACE_SYSTEM : KEYSPACE_USER;

	if (text == NULL && end)
		space++;
	KV_TRY(buf_append(out, &space, 1));
	return text != NULL ? unescape(out, text, strlen(text)) : ST_OK;
}

/* A value that is kept apart, and where it lies: file:offset:place. */
static Status
show_ref(Slice in, ValueReader *reader, Cell *c, char *place, size_t size, Slice *value)
{
	ValueRef ref = { 0 };

	if (!value_ref_decode(in, &ref))
		return status_fail(ST_CORRUPT, "a reference to a value is malformed");
	snprintf(place, size, "%016llx:%llu:%u", (unsigned long long) ref.file_id, (unsigned long long) ref.offset,
	         (unsigned) ref.at);
	c[C_PLACE] = CELL_OF_STR(place);
	c[C_BYTES] = CELL_OF_U64(ref.length);
	return value_read(reader, in, (TableIterOptions){ .read_ahead = true }, value);
}

static Cell
value_cell(Slice value)
{
	return CELL_OF_BYTES(dump.full || value.len <= SHOWN_BYTES ? value : slice_of(value.data, SHOWN_BYTES));
}

/* A value that cannot be read is left empty; the entry is shown all the same. */
static Status
show_entry(const Entry *e, ValueReader *reader)
{
	static const char *const kinds[] = { [ENTRY_PUT] = "put", [ENTRY_DELETE] = "delete", [ENTRY_VALUE_REF] = "ref" };
	char place[64];
	Slice key = slice_of(e->key.data + 1, e->key.len - 1), value = e->value;
	Cell c[COLUMNS] = { [C_SPACE] = CELL_OF_STR(e->key.data[0] == KEYSPACE_USER ? "user" : "system"),
		[C_KEY] = CELL_OF_BYTES(key), [C_VERSION] = CELL_OF_U64(e->version), [C_KIND] = CELL_OF_STR(kinds[e->kind]) };
	Status st = ST_OK;

	if (e->kind == ENTRY_PUT)
		c[C_BYTES] = CELL_OF_U64(e->value.len);
	else if (e->kind == ENTRY_VALUE_REF)
		st = show_ref(e->value, reader, c, place, sizeof place, &value);
	if (e->kind != ENTRY_DELETE && st == ST_OK)
		c[C_VALUE] = value_cell(value);
	if (e->expire_ms != 0)
		c[C_EXPIRES] = CELL_OF_U64(e->expire_ms);
	output_row(&dump.tool.out, c);
	return st;
}

/* Goes on behind values that cannot be read. */
static Status
scan_table(const TableFile *t, Slice from, Slice to)
{
	Iter *it = table_iter(&t->info, (TableIterOptions){ .read_ahead = true });
	ValueReader reader = { 0 };
	Status st = ST_OK;

	if (it == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory to walk through a table");
	for (iter_seek(it, from, UINT64_MAX); it->valid && dump.limit > 0; iter_next(it)) {
		if (slice_cmp(it->entry.key, to) >= 0)
			break;
		st = show_entry(&it->entry, &reader);
		if (st != ST_OK)
			dump.values_code = worse(dump.values_code, offline_failed(&dump.tool, st));
		dump.limit--;
	}
	st = it->status;
	buf_free(&reader.own);
	iter_close(it);
	return st;
}

static Status
scan_one(const TableFile *t)
{
	Buf from = { 0 }, to = { 0 };
	Status st = bound(dump.from, false, &from);

	if (st == ST_OK)
		st = bound(dump.to, true, &to);
	if (st == ST_OK)
		st = scan_table(t, slice_buf(&from), slice_buf(&to));
	buf_free(&from);
	buf_free(&to);
	return st;
}

int
run_scan(char **names, int n)
{
	static const char *const columns[COLUMNS] = { "space", "key", "version", "kind", "value", "value_bytes",
		"expires", "place" };
	int code;

	output_begin(&dump.tool.out, COLUMNS, columns);
	code = each_table(names, n, scan_one);
	output_end(&dump.tool.out, false);
	return worse(code, dump.values_code);
}
