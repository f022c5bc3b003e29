/*
 * fuzz_op.c - operations of a log record's body (storage/op.h), and the slots of sessions.
 */
#include "fuzz.h"
#include "storage/op.h"
#include "storage/range.h"
#include "storage/session.h"

static void
look_at(const Op *op)
{
	Buf again = { 0 };
	Reader r;
	Op same;

	fuzz_touch(op->key);
	fuzz_touch(op->value);
	fuzz_touch(op->expected);
	if (op->kind == OP_DELETE_RANGE)
		FUZZ_CHECK(range_is_sound(op->key, op->value));
	/* What was decoded can be encoded, and means the same. */
	FUZZ_MUST(op_encode(&again, op));
	FUZZ_CHECK(again.len == op_encoded_size(op));
	r = reader_of(again.data, again.len);
	FUZZ_MUST(op_decode(&r, &same));
	FUZZ_CHECK(same.kind == op->kind && slice_eq(same.key, op->key) && slice_eq(same.value, op->value));
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Reader r = reader_of(data, size);
	SlotValue slot;
	Op op;

	while (reader_left(&r) > 0 && op_decode(&r, &op) == ST_OK)
		look_at(&op);
	if (session_get_slot(slice_of(data, size), &slot) == ST_OK)
		fuzz_touch(slot.answer);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	static const uint8_t number[8] = { 5 };
	uint8_t room[SLOT_VALUE_SIZE + 16];
	SlotValue slot = {
		.serial = 9, .status = ST_CONDITION_FAILED, .place = 1, .detail = 4, .answer = slice_str("so far")
	};
	Slice key = slice_of("\1key", 4);
	Op ops[] = {
		{ .kind = OP_PUT, .key = key, .value = slice_str("value"), .flags = OP_TTL, .ttl_ms = 1000 },
		{ .kind = OP_PUT,
		  .key = key,
		  .value = slice_str(""),
		  .condition = COND_VALUE,
		  .expected = slice_str("old") },
		{ .kind = OP_DELETE, .key = key, .condition = COND_PRESENT, .flags = OP_GROUPED },
		{ .kind = OP_DELETE_RANGE, .key = slice_of("\1a", 2), .value = slice_of("\1b", 2) },
		{ .kind = OP_INCR,
		  .key = key,
		  .value = slice_of(number, 8),
		  .condition = COND_VERSION,
		  .expected = slice_of(number, 8) },
	};
	Buf b = { 0 };
	Slice s;

	FUZZ_MUST(session_encode_stamp(&b, 77, 3, slice_str("answer")));
	for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
		FUZZ_MUST(op_encode(&b, &ops[i]));
	FUZZ_MUST(session_encode_open(&b, 60000));
	FUZZ_MUST(session_encode_close(&b, 77));
	add(b.data, b.len);
	buf_free(&b);
	s = session_put_slot(&slot, room);
	add(s.data, s.len);
}
