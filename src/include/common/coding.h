/*
 * coding.h - little-endian fixed and LEB128 variable-length integers, and a checked reader.
 *
 * put_* write without a check: the caller has made room (fixed: 2, 4, 8 bytes; varint:
 * CODING_VARINT32_MAX / CODING_VARINT64_MAX). A Reader never reads past its end: after the
 * first failure every further read gives zero and reader_ok() is false, so a decoder
 * checks once, at its end.
 */
#ifndef COMMON_CODING_H
#define COMMON_CODING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/bytes.h"

#define CODING_VARINT32_MAX 5
#define CODING_VARINT64_MAX 10

static inline void
put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t) v;
	p[1] = (uint8_t) (v >> 8);
}

static inline void
put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) v;
	p[1] = (uint8_t) (v >> 8);
	p[2] = (uint8_t) (v >> 16);
	p[3] = (uint8_t) (v >> 24);
}

static inline void
put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t) v);
	put_u32(p + 4, (uint32_t) (v >> 32));
}

static inline uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static inline uint64_t
get_u64(const uint8_t *p)
{
	return (uint64_t) get_u32(p) | (uint64_t) get_u32(p + 4) << 32;
}

/* Returns the byte after the written varint. */
static inline uint8_t *
put_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t) v;
	return p;
}

/*
 * Returns the byte after the varint, or NULL when it is cut off by `end`, longer than 10
 * bytes or does not fit 64 bits.
 */
static inline const uint8_t *
get_varint(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
	uint64_t r = 0;

	for (int shift = 0; shift < 64; shift += 7) {
		if (p >= end)
			return NULL;
		uint8_t byte = *p++;
		if (shift == 63 && byte > 1)
			return NULL;
		r |= (uint64_t) (byte & 0x7f) << shift;
		if (byte < 0x80) {
			*v = r;
			return p;
		}
	}
	return NULL;
}

static inline size_t
varint_len(uint64_t v)
{
	size_t n = 1;

	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

typedef struct Reader {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
} Reader;

static inline Reader
reader_of(const void *data, size_t len)
{
	return (Reader){ (const uint8_t *) data, (const uint8_t *) data + len, false };
}

static inline bool
reader_ok(const Reader *r)
{
	return !r->failed;
}

static inline size_t
reader_left(const Reader *r)
{
	return (size_t) (r->end - r->p);
}

static inline const uint8_t *
reader_take(Reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->failed || reader_left(r) < n) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static inline uint8_t
read_u8(Reader *r)
{
	const uint8_t *p = reader_take(r, 1);

	return p ? *p : 0;
}

static inline uint16_t
read_u16(Reader *r)
{
	const uint8_t *p = reader_take(r, 2);

	return p ? get_u16(p) : 0;
}

static inline uint32_t
read_u32(Reader *r)
{
	const uint8_t *p = reader_take(r, 4);

	return p ? get_u32(p) : 0;
}

static inline uint64_t
read_u64(Reader *r)
{
	const uint8_t *p = reader_take(r, 8);

	return p ? get_u64(p) : 0;
}

static inline uint64_t
read_varint(Reader *r)
{
	uint64_t v = 0;
	const uint8_t *p = r->failed ? NULL : get_varint(r->p, r->end, &v);

	if (p == NULL) {
		r->failed = true;
		return 0;
	}
	r->p = p;
	return v;
}

/* `len` raw bytes, as a view into the source. */
static inline Slice
read_bytes(Reader *r, size_t len)
{
	const uint8_t *p = reader_take(r, len);

	return p ? slice_of(p, len) : slice_of(NULL, 0);
}

#endif
