/*
 * encode.c - the parts that requests are made of (doc/protocol.md): prefixes, operations, ranges.
 *
 * Pure functions on the caller's memory. What the server would refuse by size is refused here already, so
 * that a large value need not travel for that.
 */
#include "libkv_internal.h"

enum { OP_FLAG_TTL = 1, OP_FLAG_KEEP_TTL = 4, KIND_PUT = 1 };

Status
encode_u32(Buf *b, uint32_t v)
{
	uint8_t bytes[4];

	put_u32(bytes, v);
	return buf_append(b, bytes, sizeof bytes);
}

Status
encode_u64(Buf *b, uint64_t v)
{
	uint8_t bytes[8];

	put_u64(bytes, v);
	return buf_append(b, bytes, sizeof bytes);
}

bool
encode_is_stamped(const kv_client *c, const WriteOptions *o, bool conditional)
{
	bool weak = o != NULL && o->ack != KV_ACK_DEFAULT ? o->ack != KV_ACK_QUORUM : c->options.ack != 0;

	return c->options.retry && (conditional || !weak);
}

Status
encode_write_prefix(const kv_client *c, Buf *b, const WriteOptions *o, bool conditional)
{
	static const uint8_t stamp[PROTO_STAMP];
	bool stamped = encode_is_stamped(c, o, conditional);
	uint8_t ack = c->options.ack;

	if (o != NULL && o->ack != KV_ACK_DEFAULT) {
		if (o->ack < KV_ACK_QUORUM || o->ack > KV_ACK_NONE)
			return status_fail(ST_USAGE, "ack %d is not one of enum kv_ack", o->ack);
		ack = (uint8_t) (o->ack - KV_ACK_QUORUM);
		if (conditional && ack != 0)
			return status_fail(ST_USAGE, "conditions and increments need ack=quorum: their outcome is known only then");
	}
	/* A handle set to weak acknowledgement still does conditional writes, the only way they can be done. */
	if (conditional)
		ack = 0;
	KV_TRY(encode_u32(b, ack | (stamped ? (uint32_t) PROTO_WRITE_STAMPED << 8 : 0)));
	/* Of pipelined requests; call_run() writes what is left into the others. */
	KV_TRY(encode_u32(b, o != NULL && o->timeout_ms > 0 ? (uint32_t) o->timeout_ms : PROTO_DEADLINE_MS));
	return stamped ? buf_append(b, stamp, sizeof stamp) : ST_OK;
}

Status
encode_read_prefix(const kv_client *c, Buf *b, const ReadOptions *o)
{
	uint8_t read = c->options.read;

	if (o != NULL && o->read != KV_READ_DEFAULT) {
		if (o->read < KV_READ_LINEARIZABLE || o->read > KV_READ_LOCAL)
			return status_fail(ST_USAGE, "read %d is not one of enum kv_read", o->read);
		read = (uint8_t) (o->read - KV_READ_LINEARIZABLE);
	}
	KV_TRY(encode_u32(b, read));
	KV_TRY(encode_u32(b, o != NULL && o->timeout_ms > 0 ? (uint32_t) o->timeout_ms : PROTO_DEADLINE_MS));
	return encode_u64(b, o != NULL ? o->at_least : 0);
}

static Status
check_op(int kind, kv_bytes key, kv_bytes value, const WriteOptions *o)
{
	if (key.len == 0)
		return status_fail(ST_USAGE, "a key has at least one byte");
	if (key.len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "the key has %zu bytes; at most %d are allowed", key.len, KV_KEY_MAX);
	if (value.len > KV_VALUE_MAX)
		return status_fail(ST_VALUE_TOO_LARGE, "the value has %zu bytes; at most %d are allowed", value.len,
			KV_VALUE_MAX);
	if (o == NULL)
		return ST_OK;
	if (o->condition < KV_IF_ALWAYS || o->condition > KV_IF_VALUE)
		return status_fail(ST_USAGE, "condition %d is not one of enum kv_condition", o->condition);
	if (o->condition == KV_IF_VALUE && o->if_value.len > KV_VALUE_MAX)
		return status_fail(ST_VALUE_TOO_LARGE, "the expected value has %zu bytes; at most %d are allowed",
			o->if_value.len, KV_VALUE_MAX);
	if (o->ttl_ms > PROTO_TTL_MAX)
		return status_fail(ST_USAGE, "the TTL is longer than 2^53 ms");
	if (o->keep_ttl && (kind != KIND_PUT || o->ttl_ms > 0))
		return status_fail(ST_USAGE, "keep_ttl is for a put without a TTL of its own");
	return ST_OK;
}

Status
encode_op(Buf *b, int kind, kv_bytes key, kv_bytes value, const WriteOptions *o)
{
	static const WriteOptions none;
	uint8_t header[PROTO_OP_HEADER + 8];
	uint8_t version[8];
	size_t header_len = PROTO_OP_HEADER;
	Slice expected = slice_of(NULL, 0);

	KV_TRY(check_op(kind, key, value, o));
	if (o == NULL)
		o = &none;
	if (o->condition == KV_IF_VALUE)
		expected = slice_of(o->if_value.data, o->if_value.len);
	if (o->condition == KV_IF_VERSION) {
		put_u64(version, o->if_version);
		expected = slice_of(version, sizeof version);
	}
	header[0] = (uint8_t) kind;
	header[1] = (uint8_t) o->condition;
	header[2] = (uint8_t) ((o->ttl_ms > 0 ? OP_FLAG_TTL : 0) | (o->keep_ttl ? OP_FLAG_KEEP_TTL : 0));
	header[3] = 0;
	put_u32(header + 4, (uint32_t) key.len);
	put_u32(header + 8, (uint32_t) value.len);
	put_u32(header + 12, (uint32_t) expected.len);
	if (o->ttl_ms > 0) {
		put_u64(header + 16, o->ttl_ms);
		header_len += 8;
	}
	KV_TRY(buf_reserve(b, header_len + key.len + value.len + expected.len));
	KV_TRY(buf_append(b, header, header_len));
	KV_TRY(buf_append(b, key.data, key.len));
	KV_TRY(buf_append(b, value.data, value.len));
	return buf_append_slice(b, expected);
}

Status
encode_batch(Buf *b, const kv_batch *batch)
{
	if (batch->count == 0)
		return status_fail(ST_USAGE, "the batch is empty");
	KV_TRY(encode_u32(b, batch->count));
	KV_TRY(encode_u32(b, 0));
	return buf_append_slice(b, slice_buf(&batch->ops));
}

Status
range_of(const kv_range *r, Range *out)
{
	Slice prefix = slice_of(r->prefix.data, r->prefix.len);
	Slice start = slice_of(r->start.data, r->start.len);
	Slice end = slice_of(r->end.data, r->end.len);

	*out = (Range){ 0 };
	if (start.len > KV_KEY_MAX || end.len > KV_KEY_MAX || prefix.len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "an end of the range is longer than the longest key (%d bytes)",
			KV_KEY_MAX);
	KV_TRY(buf_set(&out->start, slice_cmp(start, prefix) < 0 ? prefix : start));
	KV_TRY(slice_prefix_end(prefix, &out->end, &out->unbounded));
	if (r->end.data != NULL && (out->unbounded || slice_cmp(end, slice_buf(&out->end)) < 0)) {
		KV_TRY(buf_set(&out->end, end));
		out->unbounded = false;
	}
	out->empty = !out->unbounded && slice_cmp(slice_buf(&out->start), slice_buf(&out->end)) >= 0;
	return ST_OK;
}

Status
encode_drop(Buf *b, const kv_range *r)
{
	uint8_t header[PROTO_OP_HEADER] = { PROTO_OP_DELETE_RANGE };
	Range range;
	Status st = range_of(r, &range);

	if (st == ST_OK && range.empty)
		st = status_fail(ST_USAGE, "no key can be in the range");
	put_u32(header + 4, (uint32_t) range.start.len);
	put_u32(header + 8, range.unbounded ? 0 : (uint32_t) range.end.len);
	if (st == ST_OK)
		st = buf_append(b, header, sizeof header);
	if (st == ST_OK)
		st = buf_append_slice(b, slice_buf(&range.start));
	if (st == ST_OK && !range.unbounded)
		st = buf_append_slice(b, slice_buf(&range.end));
	range_free(&range);
	return st;
}

void
range_free(Range *r)
{
	buf_free(&r->start);
	buf_free(&r->end);
}
