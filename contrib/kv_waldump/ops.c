/*
 * ops.c - the operations of a record as rows: one each, and one for a record that has none.
 */
#include <inttypes.h>

#include "common/coding.h"
#include "common/escape.h"
#include "kv_waldump.h"
#include "storage/entry.h"
#include "storage/op.h"

enum { C_VERSION, C_TERM, C_OP, C_SPACE, C_KEY, C_VALUE, C_BYTES, C_CONDITION, C_TTL, C_GROUP, COLUMNS };

static const char *const columns[COLUMNS] = { "version", "term", "op", "space", "key", "value", "value_bytes",
	"condition", "ttl_ms", "group" };

static const char *
op_name(OpKind kind)
{
	switch (kind) {
	case OP_PUT: return "put";
	case OP_DELETE: return "delete";
	case OP_INCR: return "incr";
	case OP_STAMP: return "stamp";
	case OP_SESSION_OPEN: return "session_open";
	case OP_SESSION_CLOSE: return "session_close";
	case OP_DELETE_RANGE: return "delete_range";
	}
	return "?";
}

/* A value, cut unless all of it is wanted; who sees fewer bytes than value_bytes says knows that it is. */
static Slice
shown(Slice value, bool full)
{
	return full || value.len <= SHOWN_BYTES ? value : slice_of(value.data, SHOWN_BYTES);
}

static Cell
value_cell(const Op *op, bool full)
{
	if (op->kind == OP_INCR)
		return CELL_OF_I64((int64_t) get_u64(op->value.data));
	if (op->kind == OP_DELETE_RANGE && op->value.len > 1)
		return CELL_OF_BYTES(slice_of(op->value.data + 1, op->value.len - 1)); /* the end; else there is none */
	if (op->kind != OP_PUT && op->kind != OP_STAMP)
		return (Cell){ .kind = CELL_NONE };
	return CELL_OF_BYTES(shown(op->value, full));
}

static Status
condition_text(const Op *op, bool full, Buf *out)
{
	switch (op->condition) {
	case COND_NONE:
		return ST_OK;
	case COND_ABSENT:
		return buf_printf(out, "absent");
	case COND_PRESENT:
		return buf_printf(out, "present");
	case COND_VERSION:
		return buf_printf(out, "version=%" PRIu64, get_u64(op->expected.data));
	case COND_VALUE:
		KV_TRY(buf_printf(out, "value="));
		return escape_text(out, shown(op->expected, full));
	}
	return ST_OK;
}

static Status
op_row(Output *o, uint64_t version, uint64_t term, const Op *op, bool full, Buf *text)
{
	Cell c[COLUMNS] = { [C_VERSION] = CELL_OF_U64(version), [C_TERM] = CELL_OF_U64(term),
		[C_OP] = CELL_OF_STR(op_name(op->kind)), [C_VALUE] = value_cell(op, full),
		[C_BYTES] = CELL_OF_U64(op->value.len) };
	Slice key = slice_of(op->key.data + 1, op->key.len - 1); /* op_decode(): never empty */

	buf_clear(text);
	KV_TRY(condition_text(op, full, text));
	c[C_SPACE] = CELL_OF_STR(op->key.data[0] == KEYSPACE_USER ? "user" : "system");
	c[C_KEY] = CELL_OF_BYTES(key);
	if (text->len > 0)
		c[C_CONDITION] = CELL_OF_BYTES(slice_buf(text));
	if ((op->flags & OP_TTL) != 0)
		c[C_TTL] = CELL_OF_U64(op->ttl_ms);
	else if ((op->flags & OP_KEEP_TTL) != 0)
		c[C_TTL] = CELL_OF_STR("keep");
	if ((op->flags & OP_GROUPED) != 0)
		c[C_GROUP] = CELL_OF_STR("+"); /* together with the one before */
	output_row(o, c);
	return ST_OK;
}

/* A record without operations. */
static void
record_row(Output *o, const WalRecord *r)
{
	Cell c[COLUMNS] = { [C_VERSION] = CELL_OF_U64(r->header.lsn), [C_TERM] = CELL_OF_U64(r->header.term),
		[C_OP] = CELL_OF_STR(kind_name(r->header.kind)), [C_BYTES] = CELL_OF_U64(r->body.len) };
	char text[64];

	if (r->header.kind == WAL_TERM) {
		snprintf(text, sizeof text, "after term %" PRIu64, get_u64(r->body.data));
		c[C_VALUE] = CELL_OF_STR(text);
	}
	output_row(o, c);
}

void
ops_begin(Output *o)
{
	output_begin(o, COLUMNS, columns);
}

Status
ops_rows(Output *o, const WalRecord *r, bool full)
{
	Reader in = reader_of(r->body.data, r->body.len);
	Buf text = { 0 };
	Status st = ST_OK;

	if (r->header.kind != WAL_WRITE) {
		record_row(o, r);
		return ST_OK;
	}
	for (uint32_t i = 0; i < r->header.count && st == ST_OK; i++) {
		Op op;

		st = op_decode(&in, &op);
		if (st == ST_OK)
			st = op_row(o, r->header.lsn + i, r->header.term, &op, full, &text);
		else
			st = status_prefix(st, "record at position %" PRIu64 ", operation %u, whose checksum is right",
			                   r->header.lsn, (unsigned) i);
	}
	buf_free(&text);
	return st;
}
