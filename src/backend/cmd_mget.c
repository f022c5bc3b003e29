/*
 * cmd_mget.c - MGET: many keys at one snapshot.
 *
 * Keys are looked up together (kvstore_get_many()), in the order of the request: sorted they were no faster, neighbours
 * find each other's blocks in the cache (doc/benchmarks.md). Inside one read of the session, which is begun anew at the
 * same position every now and then, so that memory, tables and files are not held for tens of thousands of keys.
 */
#include "common/kv_assert.h"
#include "session.h"

#define MGET_HEAD 16   /* snapshot, count, zero */
#define MGET_ITEM 24   /* found, zero, length, version, ttl */
#define RENEW_KEYS 1024 /* within one pin: as many as a walk looks at for certain (SCAN_KEYS_SURE) */

typedef struct Mget {
	Reader reader;     /* keys that are left */
	uint32_t left, answered;
	size_t at;         /* where the answer begins */
	bool full;         /* the next item would not fit */
	int n;
	Slice key[KVSTORE_BATCH_MAX]; /* internal: the byte before each, of its length, is borrowed for the keyspace */
} Mget;

/* The next keys. A length that fits ends in a byte 0, which end_batch() puts back: the request may come again. */
static Status
next_batch(Mget *m)
{
	for (m->n = 0; m->n < KVSTORE_BATCH_MAX && m->left > 0; m->left--) {
		uint32_t len = read_u32(&m->reader);
		Slice key = read_bytes(&m->reader, len);
		uint8_t *before;

		if (!reader_ok(&m->reader))
			return status_fail(ST_BAD_REQUEST, "request ends inside a key");
		KV_TRY(check_key(key));
		before = (uint8_t *) (uintptr_t) key.data - 1;
		KV_DEBUG_ASSERT(*before == 0);
		*before = KEYSPACE_USER;
		m->key[m->n++] = slice_of(before, key.len + 1);
	}
	return ST_OK;
}

static void
end_batch(Mget *m)
{
	while (m->n > 0)
		*(uint8_t *) (uintptr_t) m->key[--m->n].data = 0;
}

/* Append one key's part of the answer, if it fits. */
static Status
answer_item(Session *s, Mget *m, const Entry *e)
{
	uint8_t item[MGET_ITEM] = { 0 };
	Slice value = e != NULL ? e->value : slice_of(NULL, 0);

	m->full = s->out.len - m->at - PROTO_HEADER_SIZE + MGET_ITEM + value.len > KV_FRAME_MAX;
	if (m->full)
		return ST_OK;
	if (e != NULL) {
		item[0] = 1;
		put_u32(item + 4, (uint32_t) value.len);
		put_u64(item + 8, e->version);
		put_u64(item + 16, ttl_left(s, e->expire_ms));
	}
	m->answered++;
	KV_TRY(buf_append(&s->out, item, sizeof item));
	return buf_append_slice(&s->out, value);
}

/* Look up key[from..n) and answer those that were found out; *done tells how many from the batch's start. */
static Status
answer_some(Session *s, Mget *m, int from, int *done)
{
	Entry entry[KVSTORE_BATCH_MAX];
	Status found[KVSTORE_BATCH_MAX];
	int n = kvstore_get_many(&s->snapshot, m->key + from, m->n - from, entry, found);

	*done = from + n;
	for (int i = 0; i < n && !m->full; i++) {
		if (found[i] != ST_OK && found[i] != ST_NOT_FOUND)
			found[i] = kvstore_get(&s->snapshot, m->key[from + i], &entry[i]); /* for its own words */
		if (found[i] != ST_OK && found[i] != ST_NOT_FOUND)
			return found[i];
		KV_TRY(answer_item(s, m, found[i] == ST_OK ? &entry[i] : NULL));
	}
	return ST_OK;
}

static Status
answer_batch(Session *s, Mget *m)
{
	Status st = next_batch(m);

	for (int done = 0; st == ST_OK && done < m->n && !m->full;)
		st = answer_some(s, m, done, &done);
	end_batch(m);
	return st;
}

static Status
answer_keys(Session *s, Mget *m)
{
	uint32_t renewed = 0;

	while (m->left > 0 && !m->full) {
		if (m->answered - renewed >= RENEW_KEYS) {
			renewed = m->answered;
			kvstore_renew_read(&s->snapshot);
		}
		KV_TRY(answer_batch(s, m));
	}
	if (!m->full && reader_left(&m->reader) != 0)
		return status_fail(ST_BAD_REQUEST, "bytes left over after the last key");
	return ST_OK;
}

static Status
decode_mget(const Request *r, Mget *m)
{
	*m = (Mget){ .reader = reader_of(r->payload, r->header.length) };
	(void) reader_take(&m->reader, PROTO_READ_PREFIX);
	m->left = read_u32(&m->reader);
	if (read_u32(&m->reader) != 0 || !reader_ok(&m->reader) || m->left == 0)
		return status_fail(ST_BAD_REQUEST, "MGET begins with its count of keys, at least 1, and four zero bytes");
	if (m->left > KV_BATCH_OPS_MAX)
		return status_fail(ST_BATCH_TOO_LARGE, "MGET has at most %d keys, this one %u", KV_BATCH_OPS_MAX, m->left);
	return ST_OK;
}

Status
cmd_mget(Session *s, const Request *r)
{
	uint8_t head[MGET_HEAD] = { 0 };
	Mget m;
	Status st = begin_read(s, r, 0);

	if (st == ST_OK)
		st = decode_mget(r, &m);
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	KV_TRY(answer_begin_read(s, &m.at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	st = answer_keys(s, &m);
	if (st != ST_OK) {
		s->out.len = m.at;
		return answer_error(s, r, st, 0);
	}
	put_u64(answer_at(s, m.at), s->snapshot.at);
	put_u32(answer_at(s, m.at) + 8, m.answered);
	answer_end(s, r, m.at);
	return ST_OK;
}
