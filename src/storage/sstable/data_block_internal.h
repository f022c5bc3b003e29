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

/* All of *e but the value lies inside the entries when this is true. */
static inline bool
data_entry(const DataView *v, const uint8_t *p, EntryView *e)
{
	const uint8_t *end = v->limit;

	if ((p = entry_lengths(p, end, e)) == NULL || p == end)
		return false;
	e->flags = *p++;
	e->version_at = p;
	if ((e->flags & ~(ENTRY_KIND_MASK | ENTRY_FLAG_EXPIRE)) != 0 || (e->flags & ENTRY_KIND_MASK) > ENTRY_KIND_MAX ||
		(p = varint_skip(p, end)) == NULL)
		return false;
	if ((e->flags & ENTRY_FLAG_EXPIRE) != 0 && (p = varint_skip(p, end)) == NULL)
		return false;
	if ((size_t) (end - p) < e->unshared)
		return false;
	e->delta = p;
	e->next = p + e->unshared;
	return true;
}

/* All but the key; the value begins at `value_at` among the values. */
static inline bool
data_entry_fill(const DataView *v, const EntryView *e, uint32_t value_at, Entry *out)
{
	const uint8_t *p = get_varint(e->version_at, e->delta, &out->version);
	size_t values = (size_t) (v->end - v->limit);

	out->expire_ms = 0;
	if (p == NULL || ((e->flags & ENTRY_FLAG_EXPIRE) != 0 && get_varint(p, e->delta, &out->expire_ms) == NULL))
		return false;
	if (value_at > values || values - value_at < e->value_len)
		return false;
	out->kind = (EntryKind) (e->flags & ENTRY_KIND_MASK);
	out->value = slice_of(v->limit + value_at, e->value_len);
	return true;
}

/* See data_block.c. False: malformed. */
bool data_restart_find(const DataView *v, Slice key, uint64_t version, uint32_t *restart);

#endif
