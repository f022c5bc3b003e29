/*
 * data_block_internal.h - decoding one entry of a data block, bounds checked; for data_block.c and
 * data_cursor.c.
 */
#ifndef DATA_BLOCK_INTERNAL_H
#define DATA_BLOCK_INTERNAL_H

#include "sstable_internal.h"

typedef struct EntryView {
	const uint8_t *version_at;     /* version and expire lie in [version_at, delta) */
	const uint8_t *delta, *next;   /* unshared key bytes; the following entry */
	uint32_t shared, unshared, value_len;
	uint8_t flags;
} EntryView;

static inline bool
data_view(DataView *v, Slice block)
{
	size_t entries, fixed;

	if (block.len < DATA_HEADER || block.len > BLOCK_BYTES_MAX)
		return false;
	entries = get_u32(block.data);
	v->nrestarts = get_u16(block.data + 4);
	fixed = DATA_HEADER + (size_t) v->nrestarts * RESTART_BYTES;
	if (v->nrestarts == 0 || entries == 0 || block.len < fixed || block.len - fixed < entries)
		return false;
	v->restarts = block.data + DATA_HEADER;
	v->base = block.data + fixed;
	v->limit = v->base + entries;
	v->end = block.data + block.len;
	return true;
}

/* Entry of a restart (limit if it lies outside); if asked for, where its value begins among the values. */
static inline const uint8_t *
data_restart(const DataView *v, uint32_t i, uint32_t *value_at)
{
	const uint8_t *p = v->restarts + (size_t) i * RESTART_BYTES;
	size_t at = get_u16(p);

	if (value_at != NULL)
		*value_at = get_u16(p + 2);
	return at < (size_t) (v->limit - v->base) ? v->base + at : v->limit;
}

/* Byte after a varint that must end before `end`; NULL if it does not. The value is not looked at. */
static inline const uint8_t *
varint_skip(const uint8_t *p, const uint8_t *end)
{
	while (p < end)
		if (*p++ < 0x80)
			return p;
	return NULL;
}

/* Three lengths; most often each is one byte. */
static inline const uint8_t *
entry_lengths(const uint8_t *p, const uint8_t *end, EntryView *e)
{
	uint64_t shared, unshared, value_len;

	if (end - p >= 3 && ((p[0] | p[1] | p[2]) & 0x80) == 0) {
		e->shared = p[0];
		e->unshared = p[1];
		e->value_len = p[2];
		return p + 3;
	}
	if ((p = get_varint(p, end, &shared)) == NULL || (p = get_varint(p, end, &unshared)) == NULL ||
		(p = get_varint(p, end, &value_len)) == NULL)
		return NULL;
	if (shared > INTERNAL_KEY_MAX || unshared > INTERNAL_KEY_MAX - shared || value_len > BLOCK_BYTES_MAX)
		return NULL;
	e->shared = (uint32_t) shared;
	e->unshared = (uint32_t) unshared;
	e->value_len = (uint32_t) value_len;
	return p;
}

/* Up to the version, whose first byte *e then names. NULL: malformed. */
static inline const uint8_t *
entry_head(const DataView *v, const uint8_t *p, EntryView *e)
{
	if ((p = entry_lengths(p, v->limit, e)) == NULL || p == v->limit)
		return NULL;
	e->flags = *p++;
	e->version_at = p;
	return (e->flags & ~(ENTRY_KIND_MASK | ENTRY_FLAG_EXPIRE)) != 0 || (e->flags & ENTRY_KIND_MASK) > ENTRY_KIND_MAX
		? NULL : p;
}

/* The rest of *e, from its key bytes on. */
static inline bool
entry_tail(const DataView *v, const uint8_t *p, EntryView *e)
{
	e->delta = p;
	e->next = p + e->unshared;
	return (size_t) (v->limit - p) >= e->unshared;
}

/* All of *e but the value lies inside the entries when this is true. */
static inline bool
data_entry(const DataView *v, const uint8_t *p, EntryView *e)
{
	if ((p = entry_head(v, p, e)) == NULL || (p = varint_skip(p, v->limit)) == NULL)
		return false;
	if ((e->flags & ENTRY_FLAG_EXPIRE) != 0 && (p = varint_skip(p, v->limit)) == NULL)
		return false;
	return entry_tail(v, p, e);
}

/*
 * As get_varint(), without a loop for up to eight bytes with as many to read: the seven-bit groups are moved together
 * in pairs, then pairs of pairs, then the halves.
 */
static inline const uint8_t *
version_get(const uint8_t *p, const uint8_t *end, uint64_t *v)
{
	uint64_t x, last;

	if (end - p < 8)
		return get_varint(p, end, v);
	x = get_u64(p);
	last = ~x & UINT64_C(0x8080808080808080); /* the lowest of these bits is in the last byte */
	if (last == 0)
		return get_varint(p, end, v);
	x &= (last ^ (last - 1)) & UINT64_C(0x7f7f7f7f7f7f7f7f);
	x = (x & UINT64_C(0x007f007f007f007f)) | (x & UINT64_C(0x7f007f007f007f00)) >> 1;
	x = (x & UINT64_C(0x00003fff00003fff)) | (x & UINT64_C(0x3fff00003fff0000)) >> 2;
	*v = (x & UINT64_C(0x0fffffff)) | (x & UINT64_C(0x0fffffff00000000)) >> 4;
	return p + __builtin_ctzll(last) / 8 + 1;
}

/* Version and deadline of an entry with a good head; NULL: malformed. */
static inline const uint8_t *
entry_times(const EntryView *e, const uint8_t *end, Entry *out)
{
	const uint8_t *p = version_get(e->version_at, end, &out->version);

	out->expire_ms = 0;
	return p != NULL && (e->flags & ENTRY_FLAG_EXPIRE) != 0 ? get_varint(p, end, &out->expire_ms) : p;
}

static inline bool
entry_value(const DataView *v, const EntryView *e, uint32_t value_at, Entry *out)
{
	size_t values = (size_t) (v->end - v->limit);

	out->kind = (EntryKind) (e->flags & ENTRY_KIND_MASK);
	out->value = slice_of(v->limit + value_at, e->value_len);
	return value_at <= values && values - value_at >= e->value_len;
}

/* All but the key; the value begins at `value_at` among the values. */
static inline bool
data_entry_fill(const DataView *v, const EntryView *e, uint32_t value_at, Entry *out)
{
	return entry_times(e, e->delta, out) != NULL && entry_value(v, e, value_at, out);
}

/* data_entry() and data_entry_fill() of an entry that is wanted for certain. */
static inline bool
data_entry_whole(const DataView *v, const uint8_t *p, uint32_t value_at, EntryView *e, Entry *out)
{
	return entry_head(v, p, e) != NULL && (p = entry_times(e, v->limit, out)) != NULL && entry_tail(v, p, e) &&
	       entry_value(v, e, value_at, out);
}

/* See data_block.c. False: malformed. */
bool data_restart_find(const DataView *v, Slice key, uint64_t version, uint32_t *restart);

#endif
