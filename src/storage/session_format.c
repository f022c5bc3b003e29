/*
 * session_format.c - keys, values and operations of sessions (format in storage/session.h). Pure.
 */
#include "storage/session.h"

#include "common/kv_assert.h"

enum { TAG_SESSION = 's', TAG_SLOT = 'o' };
enum { AT_SERIAL = 0, AT_STATUS = 8, AT_ZERO = 10, AT_PLACE = 12, AT_DETAIL = 16 };
/* Keys: keyspace, tag, id, slot. */
enum { AT_TAG = 1, AT_ID = 2, AT_SLOT = 10 };

_Static_assert(PROTO_SESSION_WINDOW <= 65536, "a slot's number has two bytes");

/* Big-endian, so that the order of keys is the order of ids. */
static void
put_id(uint8_t *p, uint64_t id)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t) (id >> (56 - 8 * i));
}

static uint64_t
get_id(const uint8_t *p)
{
	uint64_t id = 0;

	for (int i = 0; i < 8; i++)
		id = id << 8 | p[i];
	return id;
}

Slice
session_key(uint64_t id, uint8_t *out)
{
	out[0] = KEYSPACE_SYSTEM;
	out[AT_TAG] = TAG_SESSION;
	put_id(out + AT_ID, id);
	return slice_of(out, SESSION_KEY_SIZE);
}

Slice
session_slot_key(uint64_t id, uint64_t serial, uint8_t *out)
{
	uint64_t slot = serial % PROTO_SESSION_WINDOW;

	out[0] = KEYSPACE_SYSTEM;
	out[AT_TAG] = TAG_SLOT;
	put_id(out + AT_ID, id);
	out[AT_SLOT] = (uint8_t) (slot >> 8);
	out[AT_SLOT + 1] = (uint8_t) slot;
	return slice_of(out, SLOT_KEY_SIZE);
}

uint64_t
session_of_slot(Slice slot_key)
{
	KV_ASSERT(slot_key.len == SLOT_KEY_SIZE);
	return get_id(slot_key.data + AT_ID);
}

Status
session_encode_open(Buf *body, uint64_t ttl_ms)
{
	static const uint8_t key[] = { KEYSPACE_SYSTEM, TAG_SESSION };
	Op op = { .kind = OP_SESSION_OPEN, .flags = OP_TTL, .ttl_ms = ttl_ms, .key = slice_of(key, sizeof key) };

	return op_encode(body, &op);
}

Status
session_encode_close(Buf *body, uint64_t id)
{
	uint8_t key[SESSION_KEY_SIZE];
	Op op = { .kind = OP_SESSION_CLOSE, .key = session_key(id, key) };

	return op_encode(body, &op);
}

Status
session_encode_stamp(Buf *body, uint64_t id, uint64_t serial, Slice answer)
{
	uint8_t key[SLOT_KEY_SIZE], value[8];
	Op op = { .kind = OP_STAMP, .key = session_slot_key(id, serial, key), .value = slice_of(value, sizeof value) };
	Buf both = { 0 };
	Status st = ST_OK;

	KV_ASSERT(answer.len <= SLOT_ANSWER_MAX);
	put_u64(value, serial);
	if (answer.len > 0) {
		st = buf_append(&both, value, sizeof value);
		if (st == ST_OK)
			st = buf_append_slice(&both, answer);
		op.value = slice_buf(&both);
	}
	if (st == ST_OK)
		st = op_encode(body, &op);
	buf_free(&both);
	return st;
}

static bool
has_tag(Slice key, size_t len, uint8_t tag)
{
	return key.len == len && key.data[0] == KEYSPACE_SYSTEM && key.data[AT_TAG] == tag;
}

static bool
stamp_is_sound(const Op *op)
{
	uint64_t slot;

	if (!has_tag(op->key, SLOT_KEY_SIZE, TAG_SLOT) || op->value.len < 8 || op->value.len > 8 + SLOT_ANSWER_MAX)
		return false;
	slot = (uint64_t) op->key.data[AT_SLOT] << 8 | op->key.data[AT_SLOT + 1];
	return get_u64(op->value.data) % PROTO_SESSION_WINDOW == slot;
}

bool
session_op_is_sound(const Op *op)
{
	if (op->condition != COND_NONE || op->flags != (op->kind == OP_SESSION_OPEN ? OP_TTL : 0))
		return false;
	switch (op->kind) {
	case OP_STAMP:
		return stamp_is_sound(op);
	case OP_SESSION_OPEN:
		return has_tag(op->key, AT_ID, TAG_SESSION) && op->value.len == 0;
	case OP_SESSION_CLOSE:
		return has_tag(op->key, SESSION_KEY_SIZE, TAG_SESSION) && op->value.len == 0;
	default:
		return false;
	}
}

Slice
session_put_slot(const SlotValue *v, uint8_t *out)
{
	put_u64(out + AT_SERIAL, v->serial);
	put_u16(out + AT_STATUS, (uint16_t) v->status);
	put_u16(out + AT_ZERO, 0);
	put_u32(out + AT_PLACE, v->place);
	put_u64(out + AT_DETAIL, v->detail);
	if (v->answer.len > 0)
		memcpy(out + SLOT_VALUE_SIZE, v->answer.data, v->answer.len);
	return slice_of(out, SLOT_VALUE_SIZE + v->answer.len);
}

Status
session_get_slot(Slice value, SlotValue *out)
{
	if (value.len < SLOT_VALUE_SIZE || get_u16(value.data + AT_ZERO) != 0)
		return status_fail(ST_CORRUPT, "a session's slot of %zu bytes is none", value.len);
	out->serial = get_u64(value.data + AT_SERIAL);
	out->status = (Status) get_u16(value.data + AT_STATUS);
	out->place = get_u32(value.data + AT_PLACE);
	out->detail = get_u64(value.data + AT_DETAIL);
	out->answer = slice_of(value.data + SLOT_VALUE_SIZE, value.len - SLOT_VALUE_SIZE);
	return ST_OK;
}
