/*
 * cmd_range.c - DELETE_RANGE: one bounded step.
 *
 * A step reads the keys that are there, and deletes them in one record. Keys put into the range meanwhile stay:
 * the step deletes what it found. Applying it reads nothing of the range.
 *
 * The answer tells how many keys went and where to go on, which a repeated step, meeting an emptier range, could not
 * know. So a stamped step puts its answer into the session's slot (storage/session.h), and is answered from there.
 */
#include "common/config.h"
#include "replication/replstate.h"
#include "session.h"
#include "storage/session.h"

/* Operations of a step: the record has room for the stamp and its answer too. */
#define STEP_BODY_MAX (KV_RECORD_MAX - WAL_HEADER_SIZE - 8 - OP_HEADER_SIZE - SLOT_KEY_SIZE - 8 - SLOT_ANSWER_MAX)
/* An answer without its version: u64 deleted, u8 more, 7 bytes 0, start of the next step. */
#define ANSWER_HEAD 16

typedef struct Step {
	WritePrefix prefix;
	uint32_t limit, flags;
	Slice start, end;
} Step;

static Status
decode_step(const Request *r, Step *step)
{
	Reader reader = reader_of(r->payload, r->header.length);
	uint32_t start_len, end_len;

	KV_TRY(decode_write_prefix(&reader, &step->prefix));
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

/*
 * Encode a delete for each key found, up to the limit; the first key left over, if any, goes behind the answer, or the
 * last one looked at when the walk has done what it may.
 */
static Status
collect_deletes(Scan *sc, const Step *step, Buf *ops, uint32_t *count, Buf *answer)
{
	Entry e;
	Status st;

	kvstore_scan_keys_only(sc);
	for (*count = 0; (st = kvstore_scan_next(sc, &e)) == ST_OK;) {
		Op op = { .kind = OP_DELETE, .key = e.key };

		if (*count == step->limit || ops->len + op_encoded_size(&op) > STEP_BODY_MAX)
			return buf_append(answer, e.key.data + 1, e.key.len - 1);
		if (*count > 0 || step->prefix.stamped)
			op.flags = OP_GROUPED;
		KV_TRY(op_encode(ops, &op));
		(*count)++;
	}
	if (st == ST_BUSY) {
		Slice last = kvstore_scan_last(sc);

		return buf_append(answer, last.data + 1, last.len - 1);
	}
	return st == ST_NOT_FOUND ? ST_OK : st;
}

static Status
collect_step(Session *s, const Step *step, Buf *ops, uint32_t *count, Buf *answer)
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
			st = collect_deletes(sc, step, ops, count, answer);
		if (sc != NULL)
			kvstore_scan_close(sc);
		kvstore_end_read();
	}
	buf_free(&first);
	buf_free(&last);
	return st;
}

/* The operations of one step, and the answer to it as far as it is known before. */
static Status
make_step(Session *s, const Step *step, Buf *ops, uint32_t *count, Buf *answer)
{
	uint8_t head[ANSWER_HEAD] = { 0 };

	KV_TRY(buf_append(answer, head, sizeof head));
	KV_TRY(collect_step(s, step, ops, count, answer));
	put_u64(answer->data, *count);
	answer->data[8] = answer->len > ANSWER_HEAD;
	return ST_OK;
}

static Status
answer_step(Session *s, const Request *r, uint64_t version, Slice answer)
{
	uint8_t head[8];
	size_t at;

	put_u64(head, version);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	KV_TRY(buf_append_slice(&s->out, answer));
	answer_end(s, r, at);
	return ST_OK;
}

static Status
write_step(Session *s, const Request *r, const Step *step, uint32_t generation)
{
	Buf ops = { 0 }, answer = { 0 };
	uint32_t count = 0;
	uint64_t version = 0;
	bool quorum = step->prefix.ack == ACK_QUORUM;
	Status st = make_step(s, step, &ops, &count, &answer);

	if (st == ST_OK && count > 0)
		st = kvstore_write(generation, &ops, count, step->prefix.ack, step->prefix.timeout_ms, true, &version);
	if (st == ST_OK && !quorum)
		s->own_version = version;
	if (st == ST_OK)
		st = answer_step(s, r, quorum ? version : 0, slice_buf(&answer));
	buf_free(&ops);
	buf_free(&answer);
	return st;
}

/* The answer that the slot keeps: of this step, or of the same one when it was done before. */
static Status
answer_from_slot(Session *s, const Request *r, const Step *step, uint64_t version)
{
	Snapshot snapshot;
	SlotValue slot;
	uint64_t done;
	Status st;

	kvstore_begin_own_read(&snapshot);
	st = kvstore_stamp_outcome(step->prefix.session, step->prefix.serial, version, &slot, &done);
	if (st == ST_OK && slot.answer.len < ANSWER_HEAD)
		st = status_fail(ST_BAD_REQUEST, "serial %llu was that of another command",
						 (unsigned long long) step->prefix.serial);
	else if (st != ST_OK && st != ST_SESSION_EXPIRED)
		st = status_prefix(ST_OUTCOME_UNKNOWN, "cannot read the outcome");
	if (st == ST_OK)
		st = answer_step(s, r, get_u64(slot.answer.data) > 0 ? done + 1 : 0, slot.answer);
	kvstore_end_read();
	return st;
}

/* A stamped step is written also when it deletes nothing: the one it may repeat did. */
static Status
write_stamped_step(Session *s, const Request *r, const Step *step, uint32_t generation)
{
	Buf body = { 0 }, ops = { 0 }, answer = { 0 };
	uint32_t count = 0;
	uint64_t version = 0;
	Status st = make_step(s, step, &ops, &count, &answer);

	if (st == ST_OK)
		st = session_encode_stamp(&body, step->prefix.session, step->prefix.serial, slice_buf(&answer));
	if (st == ST_OK)
		st = buf_append_slice(&body, slice_buf(&ops));
	if (st == ST_OK) {
		kvstore_hold();
		st = kvstore_write(generation, &body, count + 1, ACK_QUORUM, step->prefix.timeout_ms, true, &version);
		if (st == ST_OK)
			st = answer_from_slot(s, r, step, version);
		kvstore_release();
	}
	buf_free(&body);
	buf_free(&ops);
	buf_free(&answer);
	return st;
}

Status
cmd_delete_range(Session *s, const Request *r)
{
	uint32_t generation = wal_generation();
	Step step;
	Status st = decode_step(r, &step);

	if (st == ST_OK && !replstate_may_lead())
		st = ST_NOT_LEADER;
	if (st == ST_OK)
		st = step.prefix.stamped ? write_stamped_step(s, r, &step, generation)
								 : write_step(s, r, &step, generation);
	return st == ST_OK ? ST_OK : answer_error(s, r, st, 0);
}
