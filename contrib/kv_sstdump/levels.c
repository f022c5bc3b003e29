/*
 * levels.c - what the manifest says: the tables by level, its edits; and whether the files agree.
 */
#include <stdlib.h>
#include <string.h>

#include "kv_sstdump.h"

/* The cells that list, manifest and verify show of a table. `text` keeps what they point to. */
typedef struct TableText {
	char number[32];
	Buf smallest, largest;
} TableText;

static Status
table_text(const ManifestTable *t, TableText *out)
{
	snprintf(out->number, sizeof out->number, "%016llx", (unsigned long long) t->info.number);
	buf_clear(&out->smallest);
	buf_clear(&out->largest);
	KV_TRY(key_text(&out->smallest, t->smallest));
	return key_text(&out->largest, t->largest);
}

static void
table_text_free(TableText *t)
{
	buf_free(&t->smallest);
	buf_free(&t->largest);
}

static int
open_manifest(char **names, int n, ManifestImage *img)
{
	Status st;

	if (n != 1)
		offline_usage(&dump.tool, "this command takes one data directory", "");
	enter_directory(names[0]);
	st = read_manifest(img);
	return st == ST_OK ? OFFLINE_WHOLE : offline_failed(&dump.tool, st);
}

/* ---- list */

static Status
list_row(const ManifestTable *t, TableText *text)
{
	const TableInfo *i = &t->info;

	KV_TRY(table_text(t, text));
	output_row(&dump.tool.out, (Cell[]){ CELL_OF_U64(t->level), CELL_OF_STR(text->number), CELL_OF_U64(i->bytes),
		CELL_OF_U64(i->entries), CELL_OF_U64(i->tombstones), CELL_OF_U64(i->version_min), CELL_OF_U64(i->version_max),
		CELL_OF_BYTES(slice_buf(&text->smallest)), CELL_OF_BYTES(slice_buf(&text->largest)) });
	return ST_OK;
}

int
run_list(char **names, int n)
{
	static const char *const columns[] = { "level", "table", "bytes", "entries", "tombstones", "version_min",
		"version_max", "smallest", "largest" };
	TableText text = { .number = "" };
	ManifestImage img;
	Status st = ST_OK;
	int code = open_manifest(names, n, &img);

	if (code != OFFLINE_WHOLE)
		return code;
	output_begin(&dump.tool.out, 9, columns);
	for (size_t i = 0; i < img.ntables && st == ST_OK; i++)
		st = list_row(&img.tables[i], &text);
	output_end(&dump.tool.out, false);
	table_text_free(&text);
	manifest_image_free(&img);
	return st == ST_OK ? OFFLINE_WHOLE : offline_failed(&dump.tool, st);
}

/* ---- manifest */

enum { C_OFFSET, C_EDIT, C_LEVEL, C_TABLE, C_BYTES, C_ENTRIES, C_SMALLEST, C_LARGEST, C_VERSION, C_FLUSHED, C_TERM,
	C_TIME, COLUMNS };

static const char *const edit_names[] = { [MANIFEST_ADD] = "add", [MANIFEST_DELETE] = "delete",
	[MANIFEST_STATE] = "state", [MANIFEST_NEXT] = "next", [MANIFEST_RANGE] = "range",
	[MANIFEST_RANGE_DROP] = "range_drop", [MANIFEST_VALUES] = "values" };

static bool
known(ManifestOp op)
{
	return (size_t) op < sizeof edit_names / sizeof *edit_names && edit_names[op] != NULL;
}

/* A range deletion comes, or goes. */
static Status
range_cells(const ManifestEdit *e, Cell *c, TableText *text)
{
	c[C_VERSION] = CELL_OF_U64(e->range.version);
	if (e->op == MANIFEST_RANGE_DROP)
		return ST_OK;
	buf_clear(&text->smallest);
	buf_clear(&text->largest);
	KV_TRY(key_text(&text->smallest, e->range.start));
	KV_TRY(key_text(&text->largest, e->range.end));
	c[C_SMALLEST] = CELL_OF_BYTES(slice_buf(&text->smallest));
	c[C_LARGEST] = CELL_OF_BYTES(slice_buf(&text->largest));
	return ST_OK;
}

static void
edit_row(void *arg, const ManifestEdit *e)
{
	TableText *text = arg;
	Cell c[COLUMNS] = { [C_OFFSET] = CELL_OF_U64(e->offset),
		[C_EDIT] = CELL_OF_STR(known(e->op) ? edit_names[e->op] : "?") };

	if (e->op == MANIFEST_ADD || e->op == MANIFEST_DELETE)
		c[C_LEVEL] = CELL_OF_U64(e->level);
	if (e->op == MANIFEST_RANGE || e->op == MANIFEST_RANGE_DROP)
		(void) !range_cells(e, c, text); /* out of memory: a row without keys */
	if (e->op == MANIFEST_ADD || e->op == MANIFEST_DELETE || e->op == MANIFEST_NEXT) {
		snprintf(text->number, sizeof text->number, "%016llx", (unsigned long long) e->number);
		c[C_TABLE] = CELL_OF_STR(text->number);
	}
	if (e->op == MANIFEST_VALUES) {
		snprintf(text->number, sizeof text->number, "%016llx", (unsigned long long) e->values->file_id);
		c[C_TABLE] = CELL_OF_STR(text->number);
		c[C_BYTES] = CELL_OF_U64(e->values->bytes);
		c[C_ENTRIES] = CELL_OF_U64(e->values->values);
	}
	if (e->table != NULL && table_text(e->table, text) == ST_OK) {
		c[C_BYTES] = CELL_OF_U64(e->table->info.bytes);
		c[C_ENTRIES] = CELL_OF_U64(e->table->info.entries);
		c[C_SMALLEST] = CELL_OF_BYTES(slice_buf(&text->smallest));
		c[C_LARGEST] = CELL_OF_BYTES(slice_buf(&text->largest));
	}
	if (e->op == MANIFEST_STATE) {
		c[C_FLUSHED] = CELL_OF_U64(e->state.flushed);
		c[C_TERM] = CELL_OF_U64(e->state.flushed_term);
		c[C_TIME] = CELL_OF_U64(e->state.flushed_time);
	}
	output_row(&dump.tool.out, c);
}

int
run_manifest(char **names, int n)
{
	static const char *const columns[COLUMNS] = { "offset", "edit", "level", "table", "bytes", "entries", "smallest",
		"largest", "version", "flushed", "flushed_term", "flushed_time" };
	TableText text = { .number = "" };
	ManifestImage img;
	Status st;

	if (n != 1)
		offline_usage(&dump.tool, "this command takes one data directory", "");
	enter_directory(names[0]);
	output_begin(&dump.tool.out, COLUMNS, columns);
	st = manifest_read_edits(&img, edit_row, &text);
	output_end(&dump.tool.out, false);
	table_text_free(&text);
	if (st != ST_OK)
		return offline_failed(&dump.tool, st);
	manifest_image_free(&img);
	return OFFLINE_WHOLE;
}

/* ---- values */

int
run_values(char **names, int n)
{
	static const char *const columns[] = { "file_id", "bytes", "values", "value_bytes" };
	ManifestImage img;
	int code = open_manifest(names, n, &img);

	if (code != OFFLINE_WHOLE)
		return code;
	output_begin(&dump.tool.out, 4, columns);
	for (size_t i = 0; i < img.nvalues; i++) {
		const ValueFileInfo *f = &img.values[i];
		char id[32];

		snprintf(id, sizeof id, "%016llx", (unsigned long long) f->file_id);
		output_row(&dump.tool.out, (Cell[]){ CELL_OF_STR(id), CELL_OF_U64(f->bytes), CELL_OF_U64(f->values),
			CELL_OF_U64(f->value_bytes) });
	}
	output_end(&dump.tool.out, false);
	manifest_image_free(&img);
	return OFFLINE_WHOLE;
}

/* ---- verify */

/* file: a table's number, or a value file's id. */
static void
verdict(uint64_t file, Status st, uint64_t entries)
{
	char name[32];

	snprintf(name, sizeof name, "%016llx", (unsigned long long) file);
	output_row(&dump.tool.out, (Cell[]){ CELL_OF_STR(name), CELL_OF_U64(entries),
		CELL_OF_STR(st == ST_OK ? "whole" : st == ST_CORRUPT ? "damaged" : "unreadable"),
		st == ST_OK ? (Cell){ .kind = CELL_NONE } : CELL_OF_STR(status_detail()) });
}

static Status
verify_file(const TableFile *t)
{
	Status st = table_verify(&t->info, NULL, NULL);

	verdict(t->info.number, st, t->info.entries);
	return st;
}

/* Has a running server let go of the file since its manifest was read? */
static bool
still_named(uint64_t file)
{
	ManifestImage img;
	bool found = false;

	if (read_manifest(&img) != ST_OK)
		return true;
	for (size_t i = 0; i < img.ntables; i++)
		found = found || img.tables[i].info.number == file;
	for (size_t i = 0; i < img.nvalues; i++)
		found = found || img.values[i].file_id == file;
	manifest_image_free(&img);
	return found;
}

/* Gives the worse of both codes. */
static int
judged(uint64_t file, Status st, uint64_t entries, int worst)
{
	table_files_close_all();
	if (st != ST_OK && !still_named(file))
		return worst;
	verdict(file, st, entries);
	return worse(worst, offline_code(st));
}

/* Also: each file is the one that the manifest means, and the levels are in order. */
static int
verify_directory(char **names)
{
	ManifestImage img;
	int worst = open_manifest(names, 1, &img);

	if (worst != OFFLINE_WHOLE)
		return worst;
	for (size_t i = 0; i < img.ntables; i++) {
		const ManifestTable *t = &img.tables[i];
		Status st = i > 0 ? manifest_check_order(t - 1, t) : ST_OK;

		if (st == ST_OK)
			st = manifest_check_table(t, NULL, NULL);
		worst = judged(t->info.number, st, t->info.entries, worst);
	}
	for (size_t i = 0; i < img.nvalues; i++) {
		const ValueFileInfo *f = &img.values[i];

		worst = judged(f->file_id, value_file_verify(f, NULL, NULL), f->values, worst);
	}
	manifest_image_free(&img);
	return worst;
}

int
run_verify(char **names, int n)
{
	static const char *const columns[] = { "table", "entries", "state", "why" };
	char dir[4096];
	uint64_t number;
	int code;

	output_begin(&dump.tool.out, 4, columns);
	code = n == 1 && !offline_file(names[0], ".kvt", &number, dir, sizeof dir) ? verify_directory(names)
		: each_table(names, n, verify_file);
	output_end(&dump.tool.out, false);
	return code;
}
