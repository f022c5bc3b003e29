/*
 * bytes.h - a view of bytes (Slice) and a growing buffer of bytes (Buf).
 *
 * A Slice owns nothing. A Buf owns `data`; zero-initialise it, free with buf_free().
 */
#ifndef COMMON_BYTES_H
#define COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/status.h"

typedef struct Slice {
	const uint8_t *data; /* may be NULL when len is 0 */
	size_t len;
} Slice;

typedef struct Buf {
	uint8_t *data;
	size_t len;
	size_t cap;
} Buf;

static inline Slice
slice_of(const void *data, size_t len)
{
	return (Slice){ (const uint8_t *) data, len };
}

static inline Slice
slice_str(const char *s)
{
	return slice_of(s, strlen(s));
}

static inline Slice
slice_buf(const Buf *b)
{
	return slice_of(b->data, b->len);
}

/* Order of unsigned bytes; a proper prefix comes first. */
static inline int
slice_cmp(Slice a, Slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int c = n == 0 ? 0 : memcmp(a.data, b.data, n);

	if (c != 0)
		return c;
	return (a.len > b.len) - (a.len < b.len);
}

static inline bool
slice_eq(Slice a, Slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
slice_has_prefix(Slice s, Slice prefix)
{
	return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

/* Make room for `more` further bytes (capacity at least doubles). OUT_OF_MEMORY leaves it unchanged. */
KV_CHECK Status buf_reserve(Buf *b, size_t more);
KV_CHECK Status buf_append(Buf *b, const void *data, size_t len);
KV_CHECK Status buf_append_slice(Buf *b, Slice s);
/* Replace the content by `s` (which may lie inside `b`). */
KV_CHECK Status buf_set(Buf *b, Slice s);
KV_CHECK Status buf_printf(Buf *b, const char *fmt, ...) KV_PRINTF(2, 3);
static inline void
buf_clear(Buf *b)
{
	b->len = 0;
}
void buf_free(Buf *b);

/*
 * The smallest key greater than every key that begins with `prefix`: last byte that is not
 * 0xff incremented, the rest cut. Written to `out`; *unbounded = true (and out empty) when
 * there is none (prefix empty or all 0xff).
 */
KV_CHECK Status slice_prefix_end(Slice prefix, Buf *out, bool *unbounded);

#endif
