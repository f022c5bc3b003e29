/*
 * cmd_read.c - GET, SCAN, COUNT, ESTIMATE.
 *
 * All run inside a read of the session (one snapshot for consecutive GETs; SCAN and COUNT may name an older one). Pages
 * are bounded in bytes, COUNT in keys, both in the work done (kvstore_scan_next()), so that no request keeps a pin for
 * long: what is to be kept for a client that reads slowly is its page, nothing of the engine's.
 */
#include "common/kv_assert.h"
#include "ipc/logclock.h"
#include "session.h"

#define GET_HEAD 16  /* version, ttl */
#define SCAN_HEAD 16 /* snapshot, count, more, zero */
#define SCAN_ITEM 24 /* lengths, version, ttl */

Status
check_key(Slice key)
{
	if (key.len == 0)
		return status_fail(ST_BAD_REQUEST, "a key has at least 1 byte");
	if (key.len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes, this one %zu", KV_KEY_MAX, key.len);
	return ST_OK;
}

Status
internal_key(Session *s, Slice key, Slice *out)
{
	static const uint8_t user = KEYSPACE_USER;

	KV_TRY(check_key(key));
	KV_TRY(buf_set(&s->key, slice_of(&user, 1)));
	KV_TRY(buf_append_slice(&s->key, key));
	*out = slice_buf(&s->key);
	return ST_OK;
}

uint64_t
ttl_left(const Session *s, uint64_t expire_ms)
{
	uint64_t now = s->now > s->snapshot.log_time ? s->now : s->snapshot.log_time;

	if (expire_ms == 0)
		return 0;
	return expire_ms > now ? expire_ms - now : 1;
}

Status
decode_read_prefix(Reader *r, ReadPrefix *p)
{
	const uint8_t *b = reader_take(r, PROTO_READ_PREFIX);
	uint32_t ms;

	if (b == NULL || b[0] > READ_LOCAL_TOLD || b[1] != 0 || b[2] != 0 || b[3] != 0)
		return status_fail(ST_BAD_REQUEST, "bad read prefix: freshness is 0, 1 or 2, the next three bytes 0");
	p->freshness = b[0];
	ms = get_u32(b + 4);
	p->timeout_ms = deadline_of(ms);
	p->at_least = get_u64(b + 8);
	return ST_OK;
}

static Status
answer_value_told(Session *s, const Request *r, const Entry *e)
{
	uint8_t head[GET_HEAD];
	size_t at;

	KV_TRY(answer_begin_read(s, &at));
	put_u64(head, e->version);
	put_u64(head + 8, ttl_left(s, e->expire_ms));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	KV_TRY(buf_append_slice(&s->out, e->value));
	answer_end(s, r, at);
	return ST_OK;
}

Status
answer_value(Session *s, const Request *r, const Entry *e)
{
	size_t at = s->out.len;
	uint8_t *p;

	if (s->read_freshness == READ_LOCAL_TOLD)
		return answer_value_told(s, r, e);
	KV_TRY(buf_reserve(&s->out, PROTO_HEADER_SIZE + GET_HEAD + e->value.len));
	p = s->out.data + at + PROTO_HEADER_SIZE;
	put_u64(p, e->version);
	put_u64(p + 8, ttl_left(s, e->expire_ms));
	if (e->value.len > 0)
		memcpy(p + GET_HEAD, e->value.data, e->value.len);
	s->out.len += PROTO_HEADER_SIZE + GET_HEAD + e->value.len;
	answer_end(s, r, at);
	return ST_OK;
}

Status
cmd_get(Session *s, const Request *r)
{
	Slice key;
	Entry e;
	Status st = begin_read(s, r, 0);

	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	st =
		internal_key(s, slice_of(r->payload + PROTO_READ_PREFIX, r->header.length - PROTO_READ_PREFIX), &key);
	if (st == ST_OK)
		st = kvstore_get(&s->snapshot, key, &e);
	if (st == ST_NOT_FOUND)
		(void) status_fail(ST_NOT_FOUND, "no such key");
	if (st != ST_OK)
		return answer_error(s, r, st, s->read_freshness == READ_LOCAL_TOLD ? s->snapshot.at : 0);
	return answer_value(s, r, &e);
}

uint8_t *
answer_at(const Session *s, size_t at)
{
	return s->out.data + at + PROTO_HEADER_SIZE + (s->read_freshness == READ_LOCAL_TOLD ? FRESHNESS_HEAD : 0);
}

/* ---- ranges --------------------------------------------------------------- */

typedef struct Range {
	uint64_t snapshot;
	uint32_t limit, page_bytes, flags;
	Slice start, end; /* as the client gave them */
	Buf first, last;  /* internal bounds: [first, last) */
} Range;

static void
range_free(Range *g)
{
	buf_free(&g->first);
	buf_free(&g->last);
}

/* Internal bounds. No upper end means the end of the user's keyspace. */
static Status
range_bounds(Range *g)
{
	static const uint8_t user = KEYSPACE_USER, past_user = KEYSPACE_USER + 1, zero = 0;

	KV_TRY(buf_append(&g->first, &user, 1));
	KV_TRY(buf_append_slice(&g->first, g->start));
	if (g->flags & PROTO_RANGE_AFTER_START)
		KV_TRY(buf_append(&g->first, &zero, 1)); /* the next possible key */
	if (g->flags & PROTO_RANGE_UNBOUNDED)
		return buf_append(&g->last, &past_user, 1);
	KV_TRY(buf_append(&g->last, &user, 1));
	return buf_append_slice(&g->last, g->end);
}

static Status
decode_range(const Request *r, uint32_t flags_allowed, Range *g)
{
	Reader reader = reader_of(r->payload, r->header.length);
	uint32_t start_len, end_len;

	*g = (Range){ 0 };
	(void) reader_take(&reader, PROTO_READ_PREFIX);
	g->snapshot = read_u64(&reader);
	g->limit = read_u32(&reader);
	g->page_bytes = read_u32(&reader);
	g->flags = read_u32(&reader);
	start_len = read_u32(&reader);
	end_len = read_u32(&reader);
	g->start = read_bytes(&reader, start_len);
	g->end = read_bytes(&reader, end_len);
	if (!reader_ok(&reader) || reader_left(&reader) != 0)
		return status_fail(ST_BAD_REQUEST, "the sizes of start and end do not fit the request");
	if ((g->flags & ~flags_allowed) != 0 || ((g->flags & PROTO_RANGE_UNBOUNDED) && end_len != 0))
		return status_fail(ST_BAD_REQUEST, "bad flags %u of a range", g->flags);
	if (start_len > KV_KEY_MAX || end_len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes", KV_KEY_MAX);
	return range_bounds(g);
}

static Status
open_range(Session *s, const Request *r, uint32_t flags_allowed, Range *g, Scan **sc)
{
	KV_TRY(decode_range(r, flags_allowed, g));
	KV_TRY(begin_read(s, r, g->snapshot));
	return kvstore_scan_open(&s->snapshot, slice_buf(&g->first), slice_buf(&g->last), false,
							 (g->flags & PROTO_SCAN_REVERSE) != 0, true, sc);
}

static Status
scan_item(Session *s, const Entry *e, bool keys_only)
{
	uint8_t item[SCAN_ITEM];
	Slice key = slice_of(e->key.data + 1, e->key.len - 1);
	Slice value = keys_only ? slice_of(NULL, 0) : e->value;

	put_u32(item, (uint32_t) key.len);
	put_u32(item + 4, (uint32_t) value.len);
	put_u64(item + 8, e->version);
	put_u64(item + 16, ttl_left(s, e->expire_ms));
	KV_TRY(buf_reserve(&s->out, sizeof item + key.len + value.len));
	KV_TRY(buf_append(&s->out, item, sizeof item));
	KV_TRY(buf_append_slice(&s->out, key));
	return buf_append_slice(&s->out, value);
}

/* The user's key of the last one that a walk has looked at. */
static Slice
last_key(const Scan *sc)
{
	Slice key = kvstore_scan_last(sc);

	return slice_of(key.data + 1, key.len - 1);
}

/*
 * Entries until the page is full (*more PROTO_MORE: an entry was left out), or until the walk has done what it may
 * (PROTO_MORE_BEHIND: the last key it has looked at follows the entries).
 */
static Status
scan_page(Session *s, const Range *g, Scan *sc, uint32_t *count, uint8_t *more)
{
	uint32_t page = g->page_bytes == 0 ? PROTO_PAGE_DEFAULT : g->page_bytes;
	bool keys_only = (g->flags & PROTO_SCAN_KEYS_ONLY) != 0;
	size_t from = s->out.len;
	Entry e;
	Status st;

	if (page > PROTO_PAGE_MAX)
		page = PROTO_PAGE_MAX;
	*more = 0;
	if (keys_only)
		kvstore_scan_keys_only(sc);
	for (*count = 0; (st = kvstore_scan_next(sc, &e)) == ST_OK; (*count)++) {
		size_t size = SCAN_ITEM + e.key.len + (keys_only ? 0 : e.value.len);

		if (*count > 0 && (s->out.len - from + size > page || (g->limit != 0 && *count >= g->limit))) {
			*more = PROTO_MORE;
			return ST_OK;
		}
		KV_TRY(scan_item(s, &e, keys_only));
	}
	if (st == ST_BUSY) {
		*more = PROTO_MORE_BEHIND;
		return buf_append_slice(&s->out, last_key(sc));
	}
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
cmd_scan(Session *s, const Request *r)
{
	uint32_t allowed =
		PROTO_SCAN_REVERSE | PROTO_SCAN_KEYS_ONLY | PROTO_RANGE_UNBOUNDED | PROTO_RANGE_AFTER_START;
	uint8_t head[SCAN_HEAD] = { 0 };
	uint32_t count = 0;
	uint8_t more = 0;
	Scan *sc = NULL;
	Range g;
	size_t at = s->out.len;
	Status st = open_range(s, r, allowed, &g, &sc);

	if (st == ST_OK)
		st = answer_begin_read(s, &at);
	if (st == ST_OK)
		st = buf_append(&s->out, head, sizeof head);
	if (st == ST_OK)
		st = scan_page(s, &g, sc, &count, &more);
	if (sc != NULL)
		kvstore_scan_close(sc);
	range_free(&g);
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	put_u64(answer_at(s, at), s->snapshot.at);
	put_u32(answer_at(s, at) + 8, count);
	answer_at(s, at)[12] = more;
	answer_end(s, r, at);
	return ST_OK;
}

/* Count up to `limit` keys, fewer when that takes long; *more: the last one looked at stays in s->key. */
static Status
count_keys(Session *s, Scan *sc, uint32_t limit, uint64_t *count, bool *more)
{
	Entry e;
	Status st;

	*more = false;
	kvstore_scan_keys_only(sc);
	for (*count = 0; (st = kvstore_scan_next(sc, &e)) == ST_OK; (*count)++) {
		*more = *count >= limit;
		if (*more)
			return ST_OK;
		if (*count + 1 == limit)
			KV_TRY(buf_set(&s->key, last_key(sc)));
	}
	*more = st == ST_BUSY;
	if (*more)
		return buf_set(&s->key, last_key(sc));
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
cmd_count(Session *s, const Request *r)
{
	uint8_t head[24] = { 0 };
	uint64_t count = 0;
	uint32_t limit;
	bool more = false;
	Scan *sc = NULL;
	Range g;
	size_t at;
	Status st = open_range(s, r, PROTO_RANGE_UNBOUNDED | PROTO_RANGE_AFTER_START, &g, &sc);

	limit = g.limit == 0 || g.limit > PROTO_COUNT_STEP ? PROTO_COUNT_STEP : g.limit;
	if (st == ST_OK && g.page_bytes != 0)
		st = status_fail(ST_BAD_REQUEST, "COUNT has no page size");
	if (st == ST_OK)
		st = count_keys(s, sc, limit, &count, &more);
	if (sc != NULL)
		kvstore_scan_close(sc);
	range_free(&g);
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	put_u64(head, s->snapshot.at);
	put_u64(head + 8, count);
	head[16] = more;
	KV_TRY(answer_begin_read(s, &at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	if (more)
		KV_TRY(buf_append_slice(&s->out, slice_buf(&s->key)));
	answer_end(s, r, at);
	return ST_OK;
}

#define ESTIMATE_SIZE 48 /* keys, entries, tombstones, bytes, bytes on disk, cuts, zero */

static Status
estimate(Session *s, const Request *r, EntrySum *sum, uint32_t *cuts)
{
	Range g;
	Status st = decode_range(r, PROTO_RANGE_UNBOUNDED | PROTO_RANGE_AFTER_START, &g);

	if (st == ST_OK && (g.snapshot != 0 || g.limit != 0 || g.page_bytes != 0))
		st = status_fail(ST_BAD_REQUEST, "ESTIMATE is of now: snapshot, most entries and page size are 0");
	if (st == ST_OK)
		st = begin_read(s, r, 0);
	if (st == ST_OK)
		st = kvstore_estimate(slice_buf(&g.first), slice_buf(&g.last), false, sum, cuts);
	range_free(&g);
	return st;
}

Status
cmd_estimate(Session *s, const Request *r)
{
	uint8_t answer[ESTIMATE_SIZE] = { 0 };
	EntrySum sum;
	uint32_t cuts;
	size_t at;
	Status st = estimate(s, r, &sum, &cuts);

	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	/* A tombstone is taken to hide one entry. */
	put_u64(answer, sum.entries > 2 * sum.tombstones ? sum.entries - 2 * sum.tombstones : 0);
	put_u64(answer + 8, sum.entries);
	put_u64(answer + 16, sum.tombstones);
	put_u64(answer + 24, sum.bytes);
	put_u64(answer + 32, sum.disk_bytes);
	put_u32(answer + 40, cuts);
	KV_TRY(answer_begin_read(s, &at));
	KV_TRY(buf_append(&s->out, answer, sizeof answer));
	answer_end(s, r, at);
	return ST_OK;
}
