/*
 * data_block.c - writing data blocks, and finding one entry in them.
 *
 * Pure; any process. A block:  header  restart...  entry...  value...
 *   header:  bytes of all entries (u32), number of restarts (u16)
 *   restart: offset of the entry among the entries (u16), of its value among the values (u16)
 *   entry:   shared, unshared, value length (varints); kind and flags (u8); version (varint);
 *            expire (varint, if flagged); unshared key bytes
 * Values lie apart from the entries, in the same order, so that a search through the keys reads few cache
 * lines. Every 16th entry is a restart: shared = 0. Otherwise shared is the longest prefix in common with the
 * key before; data_get() relies on "longest". 16 bits suffice: a block over 4096 bytes has one entry.
 */
#include "common/kv_assert.h"
#include "data_block_internal.h"

/* ---- writing */

size_t
data_builder_common(const DataBuilder *b, Slice key)
{
	const uint8_t *x = b->last_key.data, *y = key.data;
	size_t n = key.len < b->last_key.len ? key.len : b->last_key.len, i = 0;

	for (; i + 8 <= n; i += 8) {
		uint64_t differ = get_u64(x + i) ^ get_u64(y + i);

		if (differ != 0)
			return i + (size_t) __builtin_ctzll(differ) / 8;
	}
	while (i < n && x[i] == y[i])
		i++;
	return i;
}

/* Room for `more` bytes; inlined for the common case that there is. */
static inline Status
make_room(Buf *b, size_t more)
{
	return b->cap - b->len >= more ? ST_OK : buf_reserve(b, more);
}

bool
data_builder_full(const DataBuilder *b, const Entry *e, size_t common)
{
	bool restart = b->entries % RESTART_INTERVAL == 0;
	size_t shared = restart ? 0 : common, unshared = e->key.len - shared;
	size_t restarts = b->nrestarts + restart;
	size_t entry = varint_len(shared) + varint_len(unshared) + varint_len(e->value.len) + 1 +
		varint_len(e->version) + (e->expire_ms != 0 ? varint_len(e->expire_ms) : 0) + unshared;

	return b->entries > 0 && b->keys.len + entry + b->values.len + e->value.len + restarts * RESTART_BYTES +
		DATA_HEADER > BLOCK_TARGET;
}

Status
data_builder_add(DataBuilder *b, const Entry *e, size_t common)
{
	bool restart = b->entries % RESTART_INTERVAL == 0;
	size_t shared = restart ? 0 : common, unshared = e->key.len - shared;
	uint8_t *p;

	KV_TRY(make_room(&b->keys, ENTRY_HEADER_MAX + unshared));
	KV_TRY(make_room(&b->values, e->value.len));
	b->last_key.len = common;
	KV_TRY(make_room(&b->last_key, e->key.len - common));
	if (restart) {
		KV_ASSERT(b->nrestarts < RESTARTS_MAX && b->keys.len <= UINT16_MAX && b->values.len <= UINT16_MAX);
		b->restarts[b->nrestarts].entry = (uint16_t) b->keys.len;
		b->restarts[b->nrestarts++].value = (uint16_t) b->values.len;
	}
	p = b->keys.data + b->keys.len;
	p = put_varint(p, shared);
	p = put_varint(p, unshared);
	p = put_varint(p, e->value.len);
	*p++ = (uint8_t) e->kind | (e->expire_ms != 0 ? ENTRY_FLAG_EXPIRE : 0);
	p = put_varint(p, e->version);
	if (e->expire_ms != 0)
		p = put_varint(p, e->expire_ms);
	if (unshared > 0)
		memcpy(p, e->key.data + shared, unshared);
	b->keys.len = (size_t) (p + unshared - b->keys.data);
	if (e->key.len > common)
		memcpy(b->last_key.data + common, e->key.data + common, e->key.len - common);
	b->last_key.len = e->key.len;
	if (e->value.len > 0)
		memcpy(b->values.data + b->values.len, e->value.data, e->value.len);
	b->values.len += e->value.len;
	b->last_version = e->version;
	b->entries++;
	return ST_OK;
}

Status
data_builder_finish(DataBuilder *b)
{
	size_t fixed = DATA_HEADER + b->nrestarts * (size_t) RESTART_BYTES;
	uint8_t *p;

	b->content.len = 0;
	KV_TRY(buf_reserve(&b->content, fixed + b->keys.len + b->values.len));
	p = b->content.data;
	put_u32(p, (uint32_t) b->keys.len);
	put_u16(p + 4, (uint16_t) b->nrestarts);
	p += DATA_HEADER;
	for (uint32_t i = 0; i < b->nrestarts; i++, p += RESTART_BYTES) {
		put_u16(p, b->restarts[i].entry);
		put_u16(p + 2, b->restarts[i].value);
	}
	b->content.len = fixed;
	KV_TRY(buf_append_slice(&b->content, slice_buf(&b->keys)));
	KV_TRY(buf_append_slice(&b->content, slice_buf(&b->values)));
	KV_ASSERT(b->content.len <= BLOCK_TARGET || b->entries == 1);
	return ST_OK;
}

void
data_builder_reset(DataBuilder *b)
{
	b->keys.len = b->values.len = 0;
	b->nrestarts = b->entries = 0;
}

void
data_builder_free(DataBuilder *b)
{
	buf_free(&b->content);
	buf_free(&b->keys);
	buf_free(&b->values);
	buf_free(&b->last_key);
}

/* ---- finding */

/*
 * Last restart whose entry is at or before (key, version), or the first one: the answer cannot be before
 * it, nor after the next one.
 */
bool
data_restart_find(const DataView *v, Slice key, uint64_t version, uint32_t *restart)
{
	uint32_t lo = 0, hi = v->nrestarts;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		EntryView e;
		uint64_t found = 0;
		int c;

		if (!data_entry(v, data_restart(v, mid, NULL), &e) || e.shared != 0)
			return false;
		c = slice_cmp(slice_of(e.delta, e.unshared), key);
		if (c == 0) {
			if (get_varint(e.version_at, e.delta, &found) == NULL)
				return false;
			c = (found < version) - (found > version);
		}
		if (c <= 0)
			lo = mid;
		else
			hi = mid;
	}
	*restart = lo;
	return true;
}

/*
 * No key is put together: `matched` counts the bytes of `key` that the entry before has in common with it,
 * and that entry is before the target. Because shared is the longest common prefix of neighbours:
 *   shared > matched: the new key differs from `key` where the old one did: still before;
 *   shared < matched: it is greater than the old one at a place where the old one equals `key`: after.
 * A restart says nothing of the key before it (the next version of the key may be one): compared from its
 * start.
 */
Status
data_get(Slice block, Slice key, uint64_t version, Entry *out)
{
	DataView v;
	const uint8_t *p;
	size_t matched = 0, before_len = 0;
	uint32_t restart, value_at;
	EntryView e;

	if (!data_view(&v, block) || !data_restart_find(&v, key, version, &restart))
		return ST_CORRUPT;
	for (p = data_restart(&v, restart, &value_at); p < v.limit; p = e.next, value_at += e.value_len) {
		size_t n, m = 0;

		if (!data_entry(&v, p, &e) || e.shared > before_len)
			return ST_CORRUPT;
		before_len = (size_t) e.shared + e.unshared;
		if (e.shared == 0)
			matched = 0;
		if (e.shared > matched)
			continue;
		if (e.shared < matched)
			return ST_NOT_FOUND;
		n = key.len - matched < e.unshared ? key.len - matched : e.unshared;
		while (m < n && e.delta[m] == key.data[matched + m])
			m++;
		matched += m;
		if (m == e.unshared && matched == key.len) {
			if (!data_entry_fill(&v, &e, value_at, out))
				return ST_CORRUPT;
			if (out->version > version)
				continue;
			out->key = key;
			return ST_OK;
		}
		if (m < e.unshared && (matched == key.len || e.delta[m] > key.data[matched]))
			return ST_NOT_FOUND;
	}
	return ST_NOT_FOUND;
}
