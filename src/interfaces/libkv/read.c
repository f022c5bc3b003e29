/*
 * read.c - get, mget, count, estimate.
 *
 * Runs in the client's threads.
 */
#include <stdlib.h>

#include "libkv_internal.h"

#define READ_LOCAL_TOLD 2 /* freshness: local, and the answer tells its age */

static int
timeout_of(const ReadOptions *o)
{
	return o != NULL ? o->timeout_ms : 0;
}

static Status
check_key(kv_bytes key)
{
	if (key.len == 0)
		return status_fail(ST_USAGE, "a key has at least one byte");
	if (key.len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "the key has %zu bytes; at most %d are allowed", key.len, KV_KEY_MAX);
	return ST_OK;
}

/* With an age: what the node has, and how old it is (freshness 2 of the protocol). */
static Status
get(kv_client *c, kv_bytes key, const ReadOptions *o, kv_value *out, kv_age *age)
{
	Call call = { .command = PROTO_GET, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	Reader r;
	uint64_t version, ttl;
	Status st;

	KV_TRY(check_key(key));
	KV_TRY(encode_read_prefix(c, &c->out, o));
	if (age != NULL)
		c->out.data[PROTO_HEADER_SIZE] = READ_LOCAL_TOLD;
	KV_TRY(buf_append(&c->out, key.data, key.len));
	st = call_run(c, &call);
	if (age != NULL && st == ST_NOT_FOUND)
		*age = (kv_age){ .position = call.detail, .lag_ms = KV_LAG_UNKNOWN };
	KV_TRY(st);
	r = reader_of(call.answer.data, call.answer.len);
	if (age != NULL) {
		age->position = read_u64(&r);
		age->lag_ms = read_u32(&r);
		(void) read_u32(&r);
	}
	version = read_u64(&r);
	ttl = read_u64(&r);
	if (!reader_ok(&r))
		return call_short_answer(c, PROTO_GET);
	KV_TRY(value_set(out, slice_of(r.p, reader_left(&r))));
	out->version = version;
	out->ttl_ms = ttl;
	return ST_OK;
}

int
kv_get(kv_client *c, kv_bytes key, const kv_read_options *o, kv_value *out)
{
	KV_TRY(call_begin(c));
	return call_end(c, get(c, key, o, out, NULL));
}

int
kv_get_local(kv_client *c, kv_bytes key, const kv_read_options *o, kv_value *out, kv_age *age)
{
	kv_age ignored;

	KV_TRY(call_begin(c));
	return call_end(c, get(c, key, o, out, age != NULL ? age : &ignored));
}

/* Values of all answers, one behind the other; items hold offsets into it until the end. */
typedef struct Gathered {
	Buf bytes;
	size_t *offset;
} Gathered;

/* Append the request for the keys from `from` on, as many as fit; *asked tells. */
static Status
encode_mget(kv_client *c, const kv_bytes *keys, size_t from, size_t n, const ReadOptions *o, size_t *asked)
{
	size_t count_at;

	KV_TRY(encode_read_prefix(c, &c->out, o));
	count_at = c->out.len;
	KV_TRY(encode_u64(&c->out, 0));
	for (*asked = 0; from + *asked < n && *asked < KV_BATCH_OPS_MAX; ++*asked) {
		kv_bytes key = keys[from + *asked];

		KV_TRY(check_key(key));
		if (c->out.len - PROTO_HEADER_SIZE + 4 + key.len > KV_FRAME_MAX)
			break;
		KV_TRY(encode_u32(&c->out, (uint32_t) key.len));
		KV_TRY(buf_append(&c->out, key.data, key.len));
	}
	put_u32(c->out.data + count_at, (uint32_t) *asked);
	return ST_OK;
}

static Status
decode_mget(kv_client *c, Slice answer, size_t asked, kv_item *items, Gathered *g, size_t *offset, uint64_t *snapshot,
            size_t *got)
{
	Reader r = reader_of(answer.data, answer.len);

	*snapshot = read_u64(&r);
	*got = read_u32(&r);
	(void) read_u32(&r);
	if (!reader_ok(&r) || *got == 0 || *got > asked)
		return call_short_answer(c, PROTO_MGET);
	for (size_t i = 0; i < *got; i++) {
		uint32_t len;
		Slice value;

		items[i].found = read_u8(&r);
		(void) read_bytes(&r, 3);
		len = read_u32(&r);
		items[i].version = read_u64(&r);
		items[i].ttl_ms = read_u64(&r);
		value = read_bytes(&r, len);
		if (!reader_ok(&r))
			return call_short_answer(c, PROTO_MGET);
		offset[i] = g->bytes.len;
		items[i].value.len = value.len;
		KV_TRY(buf_append_slice(&g->bytes, value));
	}
	return ST_OK;
}

static Status
mget(kv_client *c, const kv_bytes *keys, size_t n, const ReadOptions *o, kv_items *out, Gathered *g)
{
	ReadOptions options = o != NULL ? *o : (ReadOptions){ 0 };
	size_t done = 0;

	while (done < n) {
		Call call = { .command = PROTO_MGET, .deadline_at = 4, .timeout_ms = timeout_of(o) };
		size_t asked, got;
		uint64_t snapshot;

		KV_TRY(call_again(c));
		KV_TRY(encode_mget(c, keys, done, n, &options, &asked));
		KV_TRY(call_run(c, &call));
		KV_TRY(decode_mget(c, call.answer, asked, out->items + done, g, g->offset + done, &snapshot, &got));
		done += got;
		/* A snapshot reads versions below it: the rest may not be older than that. */
		if (snapshot > 0 && options.at_least < snapshot - 1)
			options.at_least = snapshot - 1;
	}
	for (size_t i = 0; i < n; i++) {
		out->items[i].key = keys[i];
		out->items[i].value.data = g->bytes.data != NULL ? g->bytes.data + g->offset[i] : NULL;
	}
	return ST_OK;
}

int
kv_mget(kv_client *c, const kv_bytes *keys, size_t n, const kv_read_options *o, kv_items *out)
{
	Gathered g = { 0 };
	Status st;

	*out = (kv_items){ 0 };
	KV_TRY(call_begin(c));
	out->items = calloc(n + 1, sizeof *out->items);
	g.offset = calloc(n + 1, sizeof *g.offset);
	if (out->items == NULL || g.offset == NULL)
		st = status_fail(ST_OUT_OF_MEMORY, "out of memory for %zu items", n);
	else
		st = mget(c, keys, n, o, out, &g);
	out->n = n;
	out->memory = g.bytes.data;
	free(g.offset);
	if (st != ST_OK)
		kv_items_free(out);
	return call_end(c, st);
}

void
kv_items_free(kv_items *items)
{
	free(items->items);
	free(items->memory);
	*items = (kv_items){ 0 };
}

/* What COUNT and ESTIMATE carry: no limit of their own, no page size. */
static Status
encode_count(kv_client *c, const Range *range, const ReadOptions *o, uint64_t snapshot, bool after)
{
	KV_TRY(encode_read_prefix(c, &c->out, o));
	KV_TRY(encode_u64(&c->out, snapshot));
	KV_TRY(encode_u64(&c->out, 0));
	KV_TRY(encode_u32(&c->out, (range->unbounded ? PROTO_RANGE_UNBOUNDED : 0) | (after ? PROTO_RANGE_AFTER_START : 0)));
	KV_TRY(encode_u32(&c->out, (uint32_t) range->start.len));
	KV_TRY(encode_u32(&c->out, (uint32_t) range->end.len));
	KV_TRY(buf_append_slice(&c->out, slice_buf(&range->start)));
	return buf_append_slice(&c->out, slice_buf(&range->end));
}

/* One step of COUNT; range->start moves on to the last key counted. */
static Status
count_step(kv_client *c, Range *range, const ReadOptions *o, uint64_t *snapshot, uint64_t *count, bool *after,
	bool *more)
{
	Call call = { .command = PROTO_COUNT, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	Reader r;
	uint64_t n;

	KV_TRY(call_again(c));
	KV_TRY(encode_count(c, range, o, *snapshot, *after));
	KV_TRY(call_run(c, &call));
	r = reader_of(call.answer.data, call.answer.len);
	*snapshot = read_u64(&r);
	n = read_u64(&r);
	*more = read_u8(&r) == 1;
	(void) read_bytes(&r, 7);
	if (!reader_ok(&r))
		return call_short_answer(c, PROTO_COUNT);
	*count += n;
	*after = true;
	if (*more && slice_cmp(slice_of(r.p, reader_left(&r)), slice_buf(&range->start)) < 0)
		return status_fail(ST_PROTOCOL, "the server went backwards while counting");
	return *more ? buf_set(&range->start, slice_of(r.p, reader_left(&r))) : ST_OK;
}

int
kv_count(kv_client *c, const kv_range *r, const kv_read_options *o, uint64_t *count)
{
	Range range;
	uint64_t n = 0, snapshot = 0;
	bool more = true, after = false;
	Status st;

	KV_TRY(call_begin(c));
	st = range_of(r, &range);
	if (st == ST_OK && range.empty)
		more = false;
	while (st == ST_OK && more)
		st = c->cancelled ? status_fail(ST_CLOSED, "cancelled")
			: count_step(c, &range, o, &snapshot, &n, &after, &more);
	range_free(&range);
	if (st == ST_OK)
		*count = n;
	return call_end(c, st);
}

static Status
estimate(kv_client *c, const Range *range, const ReadOptions *o, kv_size *out)
{
	Call call = { .command = PROTO_ESTIMATE, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	kv_size size = { 0 };
	Reader r;

	KV_TRY(encode_count(c, range, o, 0, false));
	KV_TRY(call_run(c, &call));
	r = reader_of(call.answer.data, call.answer.len);
	size.keys = read_u64(&r);
	size.entries = read_u64(&r);
	size.tombstones = read_u64(&r);
	size.bytes = read_u64(&r);
	size.disk_bytes = read_u64(&r);
	size.cuts = read_u32(&r);
	if (!reader_ok(&r))
		return call_short_answer(c, PROTO_ESTIMATE);
	*out = size;
	return ST_OK;
}

int
kv_estimate(kv_client *c, const kv_range *r, const kv_read_options *o, kv_size *out)
{
	Range range;
	Status st;

	KV_TRY(call_begin(c));
	st = range_of(r, &range);
	if (st == ST_OK && range.empty)
		*out = (kv_size){ 0 };
	else if (st == ST_OK)
		st = estimate(c, &range, o, out);
	range_free(&range);
	return call_end(c, st);
}
