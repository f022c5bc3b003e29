/*
 * records_tsv.c - KEY TAB VALUE, one line a record, with C escapes (escape.c). Spends its time in memchr.
 */
#include "kvctl.h"

/* A field without escapes is used where it stands. */
static Status
field(const char *text, size_t len, Buf *memory, kv_bytes *out)
{
	*out = (kv_bytes){ text, len };
	if (memchr(text, '\\', len) == NULL)
		return ST_OK;
	buf_clear(memory);
	KV_TRY(unescape(memory, text, len));
	*out = (kv_bytes){ memory->data, memory->len };
	return ST_OK;
}

Status
tsv_parse(const char *line, size_t len, RecordBuf *memory, Record *out)
{
	const char *tab = memchr(line, '\t', len);
	size_t key_len = tab != NULL ? (size_t) (tab - line) : 0;

	*out = (Record){ 0 };
	if (tab == NULL)
		return status_fail(ST_USAGE, "no TAB between key and value");
	if (memchr(tab + 1, '\t', len - key_len - 1) != NULL)
		return status_fail(ST_USAGE, "more than one TAB; within a key or value write \\t");
	if (key_len == 0)
		return status_fail(ST_USAGE, "the key is empty");
	KV_TRY(field(line, key_len, &memory->key, &out->key));
	return field(tab + 1, len - key_len - 1, &memory->value, &out->value);
}

Status
tsv_write(Buf *out, const Record *r)
{
	KV_TRY(escape_tsv(out, slice_kv(r->key)));
	KV_TRY(buf_append(out, "\t", 1));
	KV_TRY(escape_tsv(out, slice_kv(r->value)));
	return buf_append(out, "\n", 1);
}
