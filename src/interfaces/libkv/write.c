/*
 * write.c - put, delete, incr, ranges, batch.
 *
 * Each call: lock, encode into c->out, call_run(), decode, unlock. Runs in the client's threads.
 */
#include <stdlib.h>

#include "libkv_internal.h"

enum { KIND_PUT = 1, KIND_DELETE = 2, KIND_INCR = 3 };

static int
timeout_of(const WriteOptions *o)
{
	return o != NULL ? o->timeout_ms : 0;
}

/* PUT, DELETE and INCR: one operation. *result is set for INCR only. */
static Status
one_op(kv_client *c, ProtoCommand command, int kind, kv_bytes key, kv_bytes value, const WriteOptions *o,
       uint64_t *version, int64_t *result)
{
	Call call = { .command = command, .write = true, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	bool conditional = kind == KIND_INCR || (o != NULL && o->condition != KV_IF_ALWAYS);
	Reader r;
	uint64_t v;
	Status st;

	KV_TRY(encode_write_prefix(c, &c->out, o, conditional));
	KV_TRY(encode_op(&c->out, kind, key, value, o));
	st = call_run(c, &call);
	if (version != NULL && st != ST_OK)
		*version = call.detail;
	KV_TRY(st);
	r = reader_of(call.answer.data, call.answer.len);
	v = read_u64(&r);
	if (kind == KIND_INCR)
		*result = (int64_t) read_u64(&r);
	if (!reader_ok(&r))
		return call_short_answer(c, command);
	if (version != NULL)
		*version = v;
	return ST_OK;
}

int
kv_put(kv_client *c, kv_bytes key, kv_bytes value, const kv_write_options *o, uint64_t *version)
{
	KV_TRY(call_begin(c));
	return call_end(c, one_op(c, PROTO_PUT, KIND_PUT, key, value, o, version, NULL));
}

int
kv_delete(kv_client *c, kv_bytes key, const kv_write_options *o, uint64_t *version)
{
	KV_TRY(call_begin(c));
	return call_end(c, one_op(c, PROTO_DELETE, KIND_DELETE, key, (kv_bytes){ NULL, 0 }, o, version, NULL));
}

int
kv_incr(kv_client *c, kv_bytes key, int64_t step, const kv_write_options *o, int64_t *result, uint64_t *version)
{
	uint8_t bytes[8];
	int64_t ignored;

	put_u64(bytes, (uint64_t) step);
	KV_TRY(call_begin(c));
	return call_end(c, one_op(c, PROTO_INCR, KIND_INCR, key, (kv_bytes){ bytes, sizeof bytes }, o, version,
		result != NULL ? result : &ignored));
}

static Status
drop_range(kv_client *c, const kv_range *r, const WriteOptions *o, uint64_t *version)
{
	Call call = { .command = PROTO_DELETE, .write = true, .deadline_at = 4, .timeout_ms = timeout_of(o) };

	KV_TRY(encode_write_prefix(c, &c->out, o, false));
	KV_TRY(encode_drop(&c->out, r));
	KV_TRY(call_run(c, &call));
	if (call.answer.len < 8)
		return call_short_answer(c, PROTO_DELETE);
	if (version != NULL)
		*version = get_u64(call.answer.data);
	return ST_OK;
}

int
kv_drop_range(kv_client *c, const kv_range *r, const kv_write_options *o, uint64_t *version)
{
	WriteOptions options = drop_options(o);

	KV_TRY(call_begin(c));
	return call_end(c, drop_range(c, r, &options, version));
}

/* One step of DELETE_RANGE; range->start moves on. */
static Status
delete_step(kv_client *c, Range *range, const WriteOptions *o, uint64_t *deleted, bool *more)
{
	Call call = { .command = PROTO_DELETE_RANGE, .write = true, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	Reader r;
	uint64_t n;

	KV_TRY(call_again(c));
	KV_TRY(encode_write_prefix(c, &c->out, o, false));
	KV_TRY(encode_u32(&c->out, 0));
	KV_TRY(encode_u32(&c->out, range->unbounded ? PROTO_RANGE_UNBOUNDED : 0));
	KV_TRY(encode_u32(&c->out, (uint32_t) range->start.len));
	KV_TRY(encode_u32(&c->out, (uint32_t) range->end.len));
	KV_TRY(buf_append_slice(&c->out, slice_buf(&range->start)));
	KV_TRY(buf_append_slice(&c->out, slice_buf(&range->end)));
	KV_TRY(call_run(c, &call));
	r = reader_of(call.answer.data, call.answer.len);
	(void) read_u64(&r);
	n = read_u64(&r);
	*more = read_u8(&r) == 1;
	(void) read_bytes(&r, 7);
	if (!reader_ok(&r))
		return call_short_answer(c, PROTO_DELETE_RANGE);
	*deleted += n;
	if (!*more)
		return ST_OK;
	/* A start that does not move would go on for ever. */
	if (slice_cmp(slice_of(r.p, reader_left(&r)), slice_buf(&range->start)) < 0 || (n == 0 && reader_left(&r) == 0))
		return status_fail(ST_PROTOCOL, "the server went backwards while deleting a range");
	return buf_set(&range->start, slice_of(r.p, reader_left(&r)));
}

int
kv_delete_range(kv_client *c, const kv_range *r, const kv_write_options *o, uint64_t *deleted)
{
	Range range;
	uint64_t n = 0;
	bool more = true;
	Status st;

	KV_TRY(call_begin(c));
	st = range_of(r, &range);
	if (st == ST_OK && range.empty)
		more = false;
	while (st == ST_OK && more)
		st = c->cancelled ? status_fail(ST_CLOSED, "cancelled") : delete_step(c, &range, o, &n, &more);
	range_free(&range);
	if (deleted != NULL)
		*deleted = n;
	return call_end(c, st);
}

kv_batch *
kv_batch_new(void)
{
	return calloc(1, sizeof(kv_batch));
}

/* An operation was encoded behind `before`, or st says why not. */
static Status
batch_added(kv_batch *b, size_t before, Status st)
{
	if (st == ST_OK && b->count == KV_BATCH_OPS_MAX)
		st = status_fail(ST_BATCH_TOO_LARGE, "a batch holds at most %d operations", KV_BATCH_OPS_MAX);
	if (st == ST_OK && b->ops.len + PROTO_WRITE_PREFIX + PROTO_STAMP + 8 > KV_FRAME_MAX)
		st = status_fail(ST_BATCH_TOO_LARGE, "a batch holds at most %d bytes", KV_FRAME_MAX);
	if (st != ST_OK) {
		b->ops.len = before;
		return st;
	}
	b->count++;
	return ST_OK;
}

static int
batch_add(kv_batch *b, int kind, kv_bytes key, kv_bytes value, const WriteOptions *o)
{
	size_t before = b->ops.len;

	KV_TRY(batch_added(b, before, encode_op(&b->ops, kind, key, value, o)));
	if (kind == KIND_INCR || (o != NULL && o->condition != KV_IF_ALWAYS))
		b->conditional = true;
	return KV_OK;
}

int
kv_batch_put(kv_batch *b, kv_bytes key, kv_bytes value, const kv_write_options *o)
{
	return batch_add(b, KIND_PUT, key, value, o);
}

int
kv_batch_delete(kv_batch *b, kv_bytes key, const kv_write_options *o)
{
	return batch_add(b, KIND_DELETE, key, (kv_bytes){ NULL, 0 }, o);
}

int
kv_batch_incr(kv_batch *b, kv_bytes key, int64_t step, const kv_write_options *o)
{
	uint8_t bytes[8];

	put_u64(bytes, (uint64_t) step);
	return batch_add(b, KIND_INCR, key, (kv_bytes){ bytes, sizeof bytes }, o);
}

int
kv_batch_drop_range(kv_batch *b, const kv_range *r)
{
	size_t before = b->ops.len;

	if (b->ranges == KV_BATCH_RANGES_MAX)
		return status_fail(ST_BATCH_TOO_LARGE, "a batch deletes at most %d ranges", KV_BATCH_RANGES_MAX);
	KV_TRY(batch_added(b, before, encode_drop(&b->ops, r)));
	b->ranges++;
	return KV_OK;
}

size_t
kv_batch_count(const kv_batch *b)
{
	return b->count;
}

size_t
kv_batch_bytes(const kv_batch *b)
{
	return b->ops.len;
}

void
kv_batch_clear(kv_batch *b)
{
	buf_clear(&b->ops);
	b->count = b->ranges = 0;
	b->conditional = false;
}

void
kv_batch_free(kv_batch *b)
{
	if (b == NULL)
		return;
	buf_free(&b->ops);
	free(b);
}

static Status
batch_write(kv_client *c, const kv_batch *b, const WriteOptions *o, uint64_t *version, uint64_t *failed)
{
	Call call = { .command = PROTO_BATCH, .write = true, .deadline_at = 4, .timeout_ms = timeout_of(o) };
	Status st;

	KV_TRY(encode_write_prefix(c, &c->out, o, b->conditional));
	KV_TRY(encode_batch(&c->out, b));
	st = call_run(c, &call);
	if (st != ST_OK && failed != NULL)
		*failed = call.detail;
	KV_TRY(st);
	if (call.answer.len < 8)
		return call_short_answer(c, PROTO_BATCH);
	if (version != NULL)
		*version = get_u64(call.answer.data);
	return ST_OK;
}

int
kv_batch_write(kv_client *c, const kv_batch *b, const kv_write_options *o, uint64_t *version, uint64_t *failed)
{
	KV_TRY(call_begin(c));
	return call_end(c, batch_write(c, b, o, version, failed));
}
