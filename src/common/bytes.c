/*
 * bytes.c - the growing buffer.
 *
 * Runs anywhere; no locks. Invariants: len <= cap; data is NULL only while cap is 0; a failed call
 * leaves the buffer as it was.
 */
#include "common/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_CAP_MIN 64 /* the first allocation: below this malloc's own overhead dominates */

Status
buf_reserve(Buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (more <= b->cap - b->len)
		return ST_OK;
	if (more > SIZE_MAX - b->len)
		return status_fail(ST_OUT_OF_MEMORY, "a buffer of %zu and %zu more bytes cannot exist", b->len, more);
	need = b->len + more;
	cap = b->cap > SIZE_MAX / 2 ? need : b->cap * 2;
	if (cap < need)
		cap = need;
	if (cap < BUF_CAP_MIN)
		cap = BUF_CAP_MIN;
	data = realloc(b->data, cap);
	if (data == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory growing a buffer to %zu bytes", cap);
	b->data = data;
	b->cap = cap;
	return ST_OK;
}

Status
buf_append(Buf *b, const void *data, size_t len)
{
	KV_TRY(buf_reserve(b, len));
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	return ST_OK;
}

Status
buf_append_slice(Buf *b, Slice s)
{
	return buf_append(b, s.data, s.len);
}

Status
buf_set(Buf *b, Slice s)
{
	/* A slice inside b is no longer than its content, so growing (which moves data) and overlap exclude each other. */
	if (s.len > b->len)
		KV_TRY(buf_reserve(b, s.len - b->len));
	if (s.len > 0)
		memmove(b->data, s.data, s.len);
	b->len = s.len;
	return ST_OK;
}

Status
buf_printf(Buf *b, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0)
		return status_fail(ST_INTERNAL, "cannot format \"%s\"", fmt);
	/* vsnprintf wants room for a NUL, which is not counted in len. */
	KV_TRY(buf_reserve(b, (size_t) n + 1));
	va_start(args, fmt);
	vsnprintf((char *) b->data + b->len, (size_t) n + 1, fmt, args);
	va_end(args);
	b->len += (size_t) n;
	return ST_OK;
}

void
buf_free(Buf *b)
{
	free(b->data);
	*b = (Buf){ 0 };
}

Status
slice_prefix_end(Slice prefix, Buf *out, bool *unbounded)
{
	while (prefix.len > 0 && prefix.data[prefix.len - 1] == 0xff)
		prefix.len--;
	*unbounded = prefix.len == 0;
	KV_TRY(buf_set(out, prefix));
	if (prefix.len > 0)
		out->data[prefix.len - 1]++;
	return ST_OK;
}
