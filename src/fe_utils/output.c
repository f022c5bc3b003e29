/*
 * output.c - results to text, in five formats (fe_utils/output.h).
 *
 * A failing write to the file is kept by stdio and found where the file is flushed: ctl's end, \o.
 */
#include <inttypes.h>

#include "common/escape.h"
#include "fe_utils/output.h"

static const char *const format_names[] = { "auto", "table", "json", "csv", "tsv", "raw" };

Status
format_parse(const char *name, Format *out)
{
	for (int i = 0; i <= FORMAT_RAW; i++) {
		if (strcmp(name, format_names[i]) == 0) {
			*out = (Format) i;
			return ST_OK;
		}
	}
	return status_fail(ST_USAGE, "format \"%s\" is not known; use " OUTPUT_FORMATS, name);
}

const char *
format_name(Format f)
{
	return format_names[f];
}

static Format
format_now(const Output *o, Format elsewhere)
{
	if (o->format != FORMAT_AUTO)
		return o->format;
	return o->tty ? FORMAT_TABLE : elsewhere;
}

/* Text of a cell as this format wants it, at the end of `b`. */
static Status
cell_text(Buf *b, Format f, const Cell *c)
{
	bool quote;

	switch (c->kind) {
	case CELL_NONE:
		return f == FORMAT_JSON ? buf_append(b, "null", 4) : ST_OK;
	case CELL_UNSIGNED:
		return buf_printf(b, "%" PRIu64, c->u);
	case CELL_SIGNED:
		return buf_printf(b, "%" PRId64, c->i);
	case CELL_BYTES:
		break;
	}
	if (f == FORMAT_JSON)
		return escape_json(b, c->bytes);
	if (f == FORMAT_TSV)
		return escape_tsv(b, c->bytes);
	if (f != FORMAT_CSV)
		return buf_append(b, c->bytes.data, c->bytes.len);
	quote = c->bytes.len == 0;
	for (size_t i = 0; i < c->bytes.len && !quote; i++)
		quote = strchr(",\"\r\n", ((const char *) c->bytes.data)[i]) != NULL; /* NUL too */
	if (!quote)
		return buf_append(b, c->bytes.data, c->bytes.len);
	KV_TRY(buf_append(b, "\"", 1));
	for (size_t i = 0; i < c->bytes.len; i++) {
		const char *p = (const char *) c->bytes.data + i;

		KV_TRY(*p == '"' ? buf_append(b, "\"\"", 2) : buf_append(b, p, 1));
	}
	return buf_append(b, "\"", 1);
}

static Status
row_text(Output *o, Buf *b, const Cell *cells)
{
	const char *between = o->now == FORMAT_TSV || o->now == FORMAT_RAW ? "\t" : ",";

	if (o->now == FORMAT_JSON)
		KV_TRY(buf_append(b, "{", 1));
	for (int i = 0; i < o->column_count; i++) {
		if (i > 0)
			KV_TRY(buf_append(b, between, 1));
		if (o->now == FORMAT_JSON) {
			KV_TRY(escape_json(b, slice_str(o->columns[i])));
			KV_TRY(buf_append(b, ":", 1));
		}
		KV_TRY(cell_text(b, o->now, &cells[i]));
	}
	if (o->now == FORMAT_JSON)
		KV_TRY(buf_append(b, "}", 1));
	return buf_append(b, "\n", 1);
}

/* Print what is in o->line. A result too large for memory can't be shown at all. */
static void
print_line(Output *o, Status st)
{
	if (st != ST_OK)
		fprintf(stderr, "a result could not be shown: %s\n", status_detail());
	else
		fwrite(o->line.data, 1, o->line.len, o->file);
	buf_clear(&o->line);
}

void
output_begin(Output *o, int n, const char *const *columns)
{
	Cell heads[OUTPUT_COLUMNS_MAX];

	o->now = format_now(o, FORMAT_TSV);
	o->rows = 0;
	o->column_count = n;
	o->widths_fixed = false;
	o->held_rows = 0;
	buf_clear(&o->held);
	for (int i = 0; i < n; i++) {
		o->columns[i] = columns[i];
		o->width[i] = strlen(columns[i]);
		heads[i] = CELL_OF_STR(columns[i]);
	}
	if (o->now == FORMAT_CSV)
		print_line(o, row_text(o, &o->line, heads));
}

void
output_row(Output *o, const Cell *cells)
{
	o->rows++;
	if (o->now == FORMAT_TABLE)
		table_row(o, cells);
	else
		print_line(o, row_text(o, &o->line, cells));
}

void
output_end(Output *o, bool footer)
{
	if (o->now != FORMAT_TABLE)
		return;
	table_end(o);
	if (footer && o->tty)
		fprintf(o->file, "(%" PRIu64 " row%s)\n", o->rows, o->rows == 1 ? "" : "s");
}

void
output_fact(Output *o, const char *name, Cell cell, const char *shown)
{
	if (format_now(o, FORMAT_TSV) == FORMAT_TABLE && shown != NULL) {
		fprintf(o->file, "%s\n", shown);
		return;
	}
	output_begin(o, 1, &name);
	if (o->now == FORMAT_TABLE) {
		print_line(o, cell.kind == CELL_BYTES ? escape_text(&o->line, cell.bytes)
			: cell_text(&o->line, FORMAT_TABLE, &cell));
		fputc('\n', o->file);
		return;
	}
	output_row(o, &cell);
}

void
output_value(Output *o, Slice key, Slice value)
{
	static const char *const columns[] = { "key", "value" };
	Cell cells[2] = { CELL_OF_BYTES(key), CELL_OF_BYTES(value) };
	Format f = format_now(o, FORMAT_RAW);

	if (f == FORMAT_TABLE) {
		output_fact(o, "value", cells[1], NULL);
	} else if (f == FORMAT_RAW) {
		fwrite(value.data, 1, value.len, o->file);
		if (o->tty || o->session)
			fputc('\n', o->file);
	} else if (f == FORMAT_TSV) {
		output_fact(o, "value", cells[1], NULL);
	} else {
		output_begin(o, 2, columns);
		output_row(o, cells);
		output_end(o, false);
	}
}

void
output_free(Output *o)
{
	buf_free(&o->held);
	buf_free(&o->line);
}
