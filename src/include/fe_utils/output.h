/*
 * output.h - results of a program as text: for people, for files, for other programs. kvctl and the offline tools.
 */
#ifndef FE_UTILS_OUTPUT_H
#define FE_UTILS_OUTPUT_H

#include <stdio.h>

#include "common/bytes.h"

#define OUTPUT_FORMATS "table, json, csv, tsv or raw"

typedef enum Format { FORMAT_AUTO, FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV, FORMAT_TSV, FORMAT_RAW } Format;

typedef enum CellKind { CELL_NONE, CELL_BYTES, CELL_UNSIGNED, CELL_SIGNED } CellKind;

typedef struct Cell {
	CellKind kind;
	Slice bytes;
	uint64_t u;
	int64_t i;
} Cell;

/* b: a Slice, or kv_bytes */
#define CELL_OF_BYTES(b) ((Cell){ .kind = CELL_BYTES, .bytes = slice_of((b).data, (b).len) })
#define CELL_OF_STR(s) ((Cell){ .kind = CELL_BYTES, .bytes = slice_str(s) })
#define CELL_OF_U64(n) ((Cell){ .kind = CELL_UNSIGNED, .u = (n) })
#define CELL_OF_I64(n) ((Cell){ .kind = CELL_SIGNED, .i = (n) })

#define OUTPUT_COLUMNS_MAX 16
#define OUTPUT_TABLE_ROWS 1000 /* rows whose widths make the columns of a table; later ones may stick out */

/*
 * Where results go. table: aligned, bytes with C escapes. json: one object a line, see escape_json(). csv: RFC 4180,
 * bytes as they are. tsv: fields with C escapes, no head: unambiguous. raw: bytes as they are, fields between
 * tabs, lines ended by newlines; a single value alone, with a newline only on a terminal and among the results of
 * a script.
 */
typedef struct Output {
	FILE *file;
	bool tty;
	Format format;            /* as asked */
	bool expanded;            /* table: one line a field */
	bool session;             /* one of many results: a raw value is ended by a newline here too */
	/* of the result under way */
	Format now;
	const char *columns[OUTPUT_COLUMNS_MAX];
	int column_count;
	uint64_t rows;
	bool widths_fixed;
	size_t width[OUTPUT_COLUMNS_MAX];
	Buf held;                 /* table: text of the cells of held rows, each ended by NUL */
	size_t held_rows;
	Buf line;
} Output;

/* Rows with these names. Default format: table on a terminal, otherwise tsv. */
void output_begin(Output *o, int n, const char *const *columns);
void output_row(Output *o, const Cell *cells);
/* footer: table on a terminal says how many rows. */
void output_end(Output *o, bool footer);
/* One fact. table: shown (may be NULL: the cell). Default format: table on a terminal, otherwise tsv. */
void output_fact(Output *o, const char *name, Cell cell, const char *shown);
/* One value; default format: table on a terminal, otherwise raw. */
void output_value(Output *o, Slice key, Slice value);
void output_free(Output *o);
KV_CHECK Status format_parse(const char *name, Format *out);
const char *format_name(Format f);
/* Between output.c and output_table.c: */
void table_row(Output *o, const Cell *cells);
void table_end(Output *o);
/* Columns that UTF-8 text takes on a terminal, roughly: its code points. */
size_t text_width(const char *s, size_t len);

#endif
