/*
 * output_table.c - the format for people: columns aligned, or with \x one line a field.
 *
 * The first OUTPUT_TABLE_ROWS rows are held until their widths are known; those behind them are printed as they come.
 */
#include <inttypes.h>

#include "common/escape.h"
#include "fe_utils/output.h"

#define RULE_MAX 200 /* a line under a column of long values need not be as long as they are */

size_t
text_width(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += (s[i] & 0xc0) != 0x80;
	return n;
}

static Status
cell_append(Buf *b, const Cell *c)
{
	switch (c->kind) {
	case CELL_NONE:
		break;
	case CELL_BYTES:
		KV_TRY(escape_text(b, c->bytes));
		break;
	case CELL_UNSIGNED:
		KV_TRY(buf_printf(b, "%" PRIu64, c->u));
		break;
	case CELL_SIGNED:
		KV_TRY(buf_printf(b, "%" PRId64, c->i));
		break;
	}
	return buf_append(b, "", 1);
}

static void
print_padded(FILE *f, const char *text, size_t width, bool last)
{
	size_t have = text_width(text, strlen(text));

	fputs(text, f);
	if (!last)
		for (; have < width; have++)
			fputc(' ', f);
}

/* A row whose texts stand one behind the other at `text`; returns what is behind them. */
static const char *
print_row(Output *o, const char *text)
{
	for (int i = 0; i < o->column_count; i++) {
		if (i > 0)
			fputs(" | ", o->file);
		print_padded(o->file, text, o->width[i], i == o->column_count - 1);
		text += strlen(text) + 1;
	}
	fputc('\n', o->file);
	return text;
}

static const char *
print_expanded(Output *o, const char *text)
{
	size_t width = 0;

	fprintf(o->file, "-[ %" PRIu64 " ]-\n", o->rows);
	for (int i = 0; i < o->column_count; i++)
		width = strlen(o->columns[i]) > width ? strlen(o->columns[i]) : width;
	for (int i = 0; i < o->column_count; i++) {
		print_padded(o->file, o->columns[i], width, false);
		fprintf(o->file, " | %s\n", text);
		text += strlen(text) + 1;
	}
	return text;
}

static void
print_held(Output *o)
{
	const char *text = (const char *) o->held.data;

	o->widths_fixed = true;
	for (int i = 0; i < o->column_count; i++) {
		if (i > 0)
			fputs(" | ", o->file);
		print_padded(o->file, o->columns[i], o->width[i], i == o->column_count - 1);
	}
	fputc('\n', o->file);
	for (int i = 0; i < o->column_count; i++) {
		if (i > 0)
			fputs("-+-", o->file);
		for (size_t k = 0; k < o->width[i] && k < RULE_MAX; k++)
			fputc('-', o->file);
	}
	fputc('\n', o->file);
	for (size_t r = 0; r < o->held_rows; r++)
		text = print_row(o, text);
	o->held_rows = 0;
	buf_clear(&o->held);
}

void
table_row(Output *o, const Cell *cells)
{
	size_t at = o->held.len;
	const char *text;

	for (int i = 0; i < o->column_count; i++) {
		if (cell_append(&o->held, &cells[i]) != ST_OK) {
			fprintf(stderr, "a row could not be shown: %s\n", status_detail());
			o->held.len = at;
			return;
		}
	}
	text = (const char *) o->held.data + at;
	if (o->expanded) {
		print_expanded(o, text);
		buf_clear(&o->held);
	} else if (o->widths_fixed) {
		print_row(o, text);
		buf_clear(&o->held);
	} else {
		for (int i = 0; i < o->column_count; i++) {
			size_t width = text_width(text, strlen(text));

			o->width[i] = width > o->width[i] ? width : o->width[i];
			text += strlen(text) + 1;
		}
		if (++o->held_rows == OUTPUT_TABLE_ROWS)
			print_held(o);
	}
}

void
table_end(Output *o)
{
	if (!o->expanded && !o->widths_fixed)
		print_held(o);
}
