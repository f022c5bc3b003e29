/*
 * cmd_range.c - DELETE_RANGE: one bounded step.
 *
 * A step reads the keys that are there, and deletes them in one record. Keys put into the range meanwhile stay:
 * the step deletes what it found. Applying it reads nothing.
 */
#include "common/config.h"
#include "replication/replstate.h"
#include "session.h"

typedef struct Step {
	Ack ack;
	int timeout_ms;
	uint32_t limit, flags;
	Slice start, end;
} Step;

static Status
decode_step(const Request *r, Step *step)
{
	Reader reader = reader_of(r->payload, r->header.length);
	uint32_t start_len, end_len;

	KV_TRY(decode_write_prefix(&reader, &step->ack, &step->timeout_ms));
	step->limit = read_u32(&reader);
	step->flags = read_u32(&reader);
	start_len = read_u32(&reader);
	end_len = read_u32(&reader);
	step->start = read_bytes(&reader, start_len);
	step->end = read_bytes(&reader, end_len);
	if (!reader_ok(&reader) || reader_left(&reader) != 0)
		return status_fail(ST_BAD_REQUEST, "the sizes of start and end do not fit the request");
	if ((step->flags & ~(uint32_t) PROTO_RANGE_UNBOUNDED) != 0 || (step->flags != 0 && end_len != 0))
		return status_fail(ST_BAD_REQUEST, "bad flags %u of a range", step->flags);
	if (start_len > KV_KEY_MAX || end_len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes", KV_KEY_MAX);
	if (step->limit == 0 || step->limit > PROTO_DELETE_STEP)
		step->limit = PROTO_DELETE_STEP;
	return ST_OK;
}

/* Encode a delete for each key found, up to the limit; *next gets the first key left over, if any. */
static Status
collect_deletes(Scan *sc, uint32_t limit, Buf *body, uint32_t *count, Buf *next)
{
	Entry e;
	Status st;

	for (*count = 0; (st = kvstore_scan_next(sc, &e)) == ST_OK;) {
		Op op = { .kind = OP_DELETE, .key = e.key };

		if (*count == limit || body->len + op_encoded_size(&op) > KV_RECORD_MAX - WAL_HEADER_SIZE - 8)
			return buf_set(next, slice_of(e.key.data + 1, e.key.len - 1));
		if (*count > 0)
			op.flags = OP_GROUPED;
		KV_TRY(op_encode(body, &op));
		(*count)++;
	}
	return st == ST_NOT_FOUND ? ST_OK : st;
}

static Status
collect_step(Session *s, const Step *step, Buf *body, uint32_t *count, Buf *next)
{
	static const uint8_t user = KEYSPACE_USER, past_user = KEYSPACE_USER + 1;
	Buf first = { 0 }, last = { 0 };
	bool unbounded = (step->flags & PROTO_RANGE_UNBOUNDED) != 0;
	Scan *sc = NULL;
	Status st = buf_append(&first, &user, 1);

	if (st == ST_OK)
		st = buf_append_slice(&first, step->start);
	if (st == ST_OK)
		st = buf_append(&last, unbounded ? &past_user : &user, 1);
	if (st == ST_OK)
		st = buf_append_slice(&last, step->end);
	if (st == ST_OK) {
		kvstore_begin_read(&s->snapshot, 0);
		st = kvstore_scan_open(&s->snapshot, slice_buf(&first), slice_buf(&last), false, false, true, &sc);
		if (st == ST_OK)
			st = collect_deletes(sc, step->limit, body, count, next);
		if (sc != NULL)
			kvstore_scan_close(sc);
		kvstore_end_read();
	}
	buf_free(&first);
	buf_free(&last);
	return st;
}

static Status
answer_step(Session *s, const Request *r, uint64_t version, uint32_t count, const Buf *next)
{
	uint8_t head[24] = { 0 };
	size_t at;

	put_u64(head, version);
	put_u64(head + 8, count);
	head[16] = next->len > 0;
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	KV_TRY(buf_append_slice(&s->out, slice_buf(next)));
	answer_end(s, r, at);
	return ST_OK;
}

Status
cmd_delete_range(Session *s, const Request *r)
{
	uint32_t generation = wal_generation(), count = 0;
	Buf body = { 0 }, next = { 0 };
	uint64_t version = 0;
	Step step;
	Status st = decode_step(r, &step);

	if (st == ST_OK && !replstate_may_lead())
		st = ST_NOT_LEADER;
	if (st == ST_OK)
		st = collect_step(s, &step, &body, &count, &next);
	if (st == ST_OK && count > 0)
		st = kvstore_write(generation, &body, count, step.ack, step.timeout_ms, true, &version);
	if (st == ST_OK && step.ack != ACK_QUORUM)
		s->own_version = version;
	if (st == ST_OK)
		st = answer_step(s, r, step.ack == ACK_QUORUM ? version : 0, count, &next);
	else
		st = answer_error(s, r, st, 0);
	buf_free(&body);
	buf_free(&next);
	return st;
}
