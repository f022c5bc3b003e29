/*
 * op.c - encode and decode the operations of a log record (format in storage/op.h).
 */
#include "storage/op.h"

#include "common/kv_assert.h"
#include "storage/range.h"
#include "storage/session.h"

enum { AT_KIND = 0, AT_CONDITION = 1, AT_FLAGS = 2, AT_ZERO = 3, AT_KEY = 4, AT_VALUE = 8, AT_EXPECTED = 12 };

size_t
op_encoded_size(const Op *op)
{
	return OP_HEADER_SIZE + ((op->flags & OP_TTL) ? 8 : 0) + op->key.len + op->value.len + op->expected.len;
}

Status
op_encode(Buf *body, const Op *op)
{
	uint8_t *p;

	KV_TRY(buf_reserve(body, op_encoded_size(op)));
	p = body->data + body->len;
	p[AT_KIND] = (uint8_t) op->kind;
	p[AT_CONDITION] = (uint8_t) op->condition;
	p[AT_FLAGS] = op->flags;
	p[AT_ZERO] = 0;
	put_u32(p + AT_KEY, (uint32_t) op->key.len);
	put_u32(p + AT_VALUE, (uint32_t) op->value.len);
	put_u32(p + AT_EXPECTED, (uint32_t) op->expected.len);
	p += OP_HEADER_SIZE;
	if (op->flags & OP_TTL) {
		put_u64(p, op->ttl_ms);
		p += 8;
	}
	memcpy(p, op->key.data, op->key.len);
	p += op->key.len;
	if (op->value.len > 0)
		memcpy(p, op->value.data, op->value.len);
	p += op->value.len;
	if (op->expected.len > 0)
		memcpy(p, op->expected.data, op->expected.len);
	body->len += op_encoded_size(op);
	return ST_OK;
}

static bool
op_is_sound(const Op *op, uint8_t zero)
{
	if (zero != 0 || (op->flags & ~OP_FLAGS_ALL) != 0 || op->key.len == 0 || op->key.len > INTERNAL_KEY_MAX)
		return false;
	if (op->condition > COND_VALUE || (op->condition == COND_VERSION && op->expected.len != 8))
		return false;
	if (op->condition < COND_VERSION && op->expected.len != 0)
		return false;
	switch (op->kind) {
	case OP_PUT:
		return op->value.len <= KV_VALUE_MAX;
	case OP_DELETE:
		return op->value.len == 0;
	case OP_INCR:
		return op->value.len == 8;
	case OP_DELETE_RANGE:
		return op->condition == COND_NONE && (op->flags & ~OP_GROUPED) == 0 && range_is_sound(op->key, op->value);
	case OP_STAMP:
	case OP_SESSION_OPEN:
	case OP_SESSION_CLOSE:
		return session_op_is_sound(op);
	default:
		return false;
	}
}

Status
op_decode(Reader *r, Op *op)
{
	const uint8_t *p = reader_take(r, OP_HEADER_SIZE);

	if (p == NULL)
		return status_fail(ST_CORRUPT, "log record ends inside an operation");
	op->kind = (OpKind) p[AT_KIND];
	op->condition = (OpCondition) p[AT_CONDITION];
	op->flags = p[AT_FLAGS];
	op->ttl_ms = (op->flags & OP_TTL) ? read_u64(r) : 0;
	op->key = read_bytes(r, get_u32(p + AT_KEY));
	op->value = read_bytes(r, get_u32(p + AT_VALUE));
	op->expected = read_bytes(r, get_u32(p + AT_EXPECTED));
	if (!reader_ok(r) || !op_is_sound(op, p[AT_ZERO]))
		return status_fail(ST_CORRUPT, "log record holds an impossible operation (kind %d)", (int) op->kind);
	return ST_OK;
}
