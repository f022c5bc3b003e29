/*
 * write_run.c - consecutive writes of a drained batch become one log record, one wait, one set of answers.
 *
 * Plain writes need nothing but the record's LSN for their answers. Conditional ones look up, at their own
 * version, what the apply made of them (rule A8); versions from before the insertion on are held meanwhile. So do
 * stamped ones, whose outcome is in a slot of their session (storage/session.h).
 */
#include <stdlib.h>

#include "common/config.h"
#include "common/kv_assert.h"
#include "ipc/delegate.h"
#include "ipc/latency.h"
#include "port/clock.h"
#include "replication/replstate.h"
#include "session.h"
#include "storage/range.h"
#include "storage/session.h"

/* Header and padding of the record around the run's body. */
#define RUN_BODY_MAX (KV_RECORD_MAX - WAL_HEADER_SIZE - 8)
/* An operation grows by its keyspace bytes, one or two, when it enters the run. */
#define OP_GROWTH 2

/*
 * An operation's internal key without a copy: the byte before the key is the end of the operation's
 * header, decoded by
 * now, and becomes the keyspace.
 */
static Slice
internal_key_in_place(Slice key)
{
	union {
		const uint8_t *in;
		uint8_t *out;
	} p = { key.data - 1 };

	*p.out = KEYSPACE_USER;
	return slice_of(p.out, key.len + 1);
}

/* The rest of a range deletion, whose header is at p: key is the start, value the end, none if it is empty. */
static Status
decode_range(Reader *r, const uint8_t *p, Op *op)
{
	static uint8_t end[INTERNAL_KEY_MAX]; /* until the operation is in the run */
	uint32_t start_len = get_u32(p + 4), end_len = get_u32(p + 8);
	Slice start, given;

	if (p[1] != COND_NONE || p[2] != 0 || p[3] != 0 || get_u32(p + 12) != 0)
		return status_fail(ST_BAD_REQUEST, "a range is deleted without condition and flags");
	if (start_len > KV_KEY_MAX || end_len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes", KV_KEY_MAX);
	start = read_bytes(r, start_len);
	given = read_bytes(r, end_len);
	if (!reader_ok(r))
		return status_fail(ST_BAD_REQUEST, "request ends inside an operation");
	if (end_len > 0 && slice_cmp(start, given) >= 0)
		return status_fail(ST_BAD_REQUEST, "the start of a range lies before its end");
	*op = (Op){ .kind = OP_DELETE_RANGE, .value = range_user_end() };
	if (end_len > 0) {
		end[0] = KEYSPACE_USER;
		memcpy(end + 1, given.data, end_len);
		op->value = slice_of(end, end_len + 1);
	}
	op->key = internal_key_in_place(start);
	return ST_OK;
}

/* One operation off the wire; the key becomes internal in place. */
static Status
decode_op(Reader *r, OpKind want, Op *op)
{
	const uint8_t *p = reader_take(r, PROTO_OP_HEADER);

	if (p == NULL)
		return status_fail(ST_BAD_REQUEST, "request ends inside an operation");
	if (p[0] == PROTO_OP_DELETE_RANGE && (want == 0 || want == OP_DELETE))
		return decode_range(r, p, op);
	if (p[0] < OP_PUT || p[0] > OP_INCR || (want != 0 && p[0] != want) || p[1] > COND_VALUE || p[3] != 0)
		return status_fail(ST_BAD_REQUEST, "bad operation: kind %u, condition %u", p[0], p[1]);
	op->kind = (OpKind) p[0];
	op->condition = (OpCondition) p[1];
	op->flags = p[2];
	if ((op->flags & ~(OP_TTL | OP_KEEP_TTL)) != 0 || op->flags == (OP_TTL | OP_KEEP_TTL) ||
		(op->flags != 0 && op->kind == OP_DELETE) || (op->flags == OP_KEEP_TTL && op->kind != OP_PUT))
		return status_fail(ST_BAD_REQUEST, "bad flags %u of an operation", op->flags);
	op->ttl_ms = (op->flags & OP_TTL) ? read_u64(r) : 0;
	if ((op->flags & OP_TTL) && (op->ttl_ms == 0 || op->ttl_ms > PROTO_TTL_MAX))
		return status_fail(ST_BAD_REQUEST, "a TTL is 1 to 2^53 ms");
	op->key = read_bytes(r, get_u32(p + 4));
	if (get_u32(p + 4) == 0 || get_u32(p + 4) > KV_KEY_MAX)
		return check_key(slice_of(NULL, get_u32(p + 4)));
	if (get_u32(p + 8) > (uint64_t) config.max_value_size)
		return status_fail(ST_VALUE_TOO_LARGE, "a value has at most %lld bytes (max_value_size), this one %u",
						   (long long) config.max_value_size, get_u32(p + 8));
	op->value = read_bytes(r, get_u32(p + 8));
	op->expected = read_bytes(r, get_u32(p + 12));
	if (!reader_ok(r))
		return status_fail(ST_BAD_REQUEST, "request ends inside an operation");
	if ((op->kind == OP_DELETE && op->value.len != 0) || (op->kind == OP_INCR && op->value.len != 8) ||
		(op->condition == COND_VERSION && op->expected.len != 8) ||
		(op->condition < COND_VERSION && op->expected.len != 0))
		return status_fail(ST_BAD_REQUEST, "sizes do not fit the kind and condition of an operation");
	op->key = internal_key_in_place(op->key);
	return ST_OK;
}

static bool
op_is_conditional(const Op *op)
{
	return op->condition != COND_NONE || op->kind == OP_INCR;
}

/* How many operations the payload says it holds. */
static Status
decode_count(const Request *r, Reader *reader, uint32_t *count)
{
	*count = 1;
	if (r->header.type != PROTO_BATCH)
		return ST_OK;
	*count = read_u32(reader);
	if (read_u32(reader) != 0 || !reader_ok(reader) || *count == 0)
		return status_fail(ST_BAD_REQUEST,
						   "a batch begins with its count of operations, at least 1, and four zero bytes");
	if (*count > KV_BATCH_OPS_MAX)
		return status_fail(ST_BATCH_TOO_LARGE, "a batch has at most %d operations, this one %u",
						   KV_BATCH_OPS_MAX, *count);
	return ST_OK;
}

/* May the request delete so many ranges? */
static Status
check_ranges(const WriteRun *run, const Pending *p)
{
	if (p->ranges > KV_BATCH_RANGES_MAX)
		return status_fail(ST_BATCH_TOO_LARGE, "a batch deletes at most %d ranges, this one %u", KV_BATCH_RANGES_MAX,
						   p->ranges);
	return kvstore_admit_ranges(run->ranges + p->ranges, run->range_bytes + p->range_bytes);
}

/* Append the request's operations, behind their stamp if they have one, to the run's body. */
static Status
encode_ops(WriteRun *run, const Request *r, Reader *reader, uint32_t count, Pending *p, bool *deletes_only)
{
	static const OpKind kinds[PROTO_COMMANDS] = {
		[PROTO_PUT] = OP_PUT, [PROTO_DELETE] = OP_DELETE, [PROTO_INCR] = OP_INCR
	};
	Op op;

	if (p->stamped)
		KV_TRY(session_encode_stamp(&run->body, p->session, p->serial, slice_of(NULL, 0)));
	p->body_at = run->body.len;
	for (uint32_t i = 0; i < count; i++) {
		KV_TRY(decode_op(reader, kinds[r->header.type], &op));
		if (i > 0 || p->stamped)
			op.flags |= OP_GROUPED;
		p->conditional |= op_is_conditional(&op);
		*deletes_only &= op.kind == OP_DELETE || op.kind == OP_DELETE_RANGE;
		if (op.kind == OP_DELETE_RANGE) {
			p->ranges++;
			p->range_bytes += op.key.len + op.value.len;
		}
		KV_TRY(op_encode(&run->body, &op));
	}
	if (p->ranges > 0)
		KV_TRY(check_ranges(run, p));
	return reader_left(reader) == 0 ? ST_OK
									: status_fail(ST_BAD_REQUEST, "bytes left over after the last operation");
}

static void
run_reset(WriteRun *run)
{
	buf_clear(&run->body);
	buf_clear(&run->pending);
	run->ops = run->ranges = 0;
	run->range_bytes = 0;
	run->conditional = false;
	run->deletes_only = true;
}

/* Decode the request into the run. *too_full: it does not fit beside what is there. */
static Status
add_request(WriteRun *run, const Request *r, bool *too_full)
{
	Reader reader = reader_of(r->payload, r->header.length);
	Pending p = { .id = r->header.id, .command = r->header.type };
	size_t body_at = run->body.len;
	bool deletes_only = true;
	WritePrefix prefix;
	uint32_t ops;
	Status st;

	*too_full = false;
	if (r->header.flags != 0 || r->header.status != 0)
		return status_fail(ST_BAD_REQUEST, "flags and status of a request must be 0");
	KV_TRY(decode_write_prefix(&reader, &prefix));
	KV_TRY(decode_count(r, &reader, &p.count));
	p.stamped = prefix.stamped;
	p.session = prefix.session;
	p.serial = prefix.serial;
	p.first = run->ops + p.stamped;
	ops = p.count + p.stamped;
	if (run->ops > 0 && (run->ack != prefix.ack || run->ops + ops > OP_RECORD_MAX ||
						 run->ranges > OP_RANGES_MAX - KV_BATCH_RANGES_MAX ||
						 run->body.len + r->header.length + (size_t) ops * OP_GROWTH > WRITE_RUN_BYTES)) {
		*too_full = true;
		return ST_OK;
	}
	st = encode_ops(run, r, &reader, p.count, &p, &deletes_only);
	if (st == ST_OK && p.conditional && prefix.ack != ACK_QUORUM)
		st = status_fail(ST_BAD_REQUEST, "conditions and increments need ack 0 (quorum)");
	if (st == ST_OK && run->body.len > RUN_BODY_MAX)
		st = status_fail(ST_BATCH_TOO_LARGE, "the operations take %zu bytes of log, more than %d",
						 run->body.len, (int) RUN_BODY_MAX);
	if (st == ST_OK)
		st = buf_append(&run->pending, &p, sizeof p);
	if (st != ST_OK) {
		run->body.len = body_at;
		return st;
	}
	if (run->ops == 0 || prefix.timeout_ms > run->timeout_ms)
		run->timeout_ms = prefix.timeout_ms;
	run->ack = prefix.ack;
	run->ops += ops;
	run->ranges += p.ranges;
	run->range_bytes += p.range_bytes;
	run->conditional |= p.conditional || p.stamped;
	run->deletes_only = run->deletes_only && deletes_only;
	return ST_OK;
}

Status
write_run_add(Session *s, const Request *r)
{
	bool too_full;
	Status st;

	if (s->run.ops == 0)
		run_reset(&s->run);
	st = add_request(&s->run, r, &too_full);
	if (st == ST_OK && too_full) {
		KV_TRY(write_run_commit(s, false));
		st = add_request(&s->run, r, &too_full);
	}
	if (st == ST_OK)
		return ST_OK;
	/* Answers keep their order: those before this one first. Keep the detail over the commit. */
	char detail[STATUS_DETAIL_MAX];

	memcpy(detail, status_detail(), strlen(status_detail()) + 1);
	KV_TRY(write_run_commit(s, false));
	(void) status_fail(st, "%s", detail);
	return answer_error(s, r, st, 0);
}

/* ---- answers -------------------------------------------------------------- */

/* Which operation of a group that did not take effect failed first, and why. */
static Status
find_reason(const WriteRun *run, const Pending *p, uint64_t version, uint64_t *detail)
{
	Reader reader = reader_of(run->body.data + p->body_at, run->body.len - p->body_at);
	Status reason = ST_CONDITION_FAILED;
	uint64_t key_version = 0;
	uint32_t i;
	Op op;

	for (i = 0; i < p->count; i++) {
		Status st;

		KV_TRY(op_decode(&reader, &op));
		kvstore_judge(&op, version, &st, &key_version);
		if (st != ST_OK) {
			reason = st;
			break;
		}
	}
	*detail = p->command == PROTO_BATCH ? (i < p->count ? i : 0) : key_version;
	return reason;
}

const char *
reason_text(Status st)
{
	switch (st) {
	case ST_NOT_INTEGER:
		return "the value is not a decimal 64-bit integer";
	case ST_OUT_OF_RANGE:
		return "the result would leave the range of 64-bit integers";
	case ST_NOT_FOUND:
		return "no such key";
	default:
		return "the condition did not hold, nothing was changed";
	}
}

/* REQUIRES a read. Answer of one conditional request whose first operation has `version`. */
static Status
answer_conditional(Session *s, const Pending *p, uint64_t version)
{
	Reader reader = reader_of(s->run.body.data + p->body_at, s->run.body.len - p->body_at);
	uint8_t payload[16];
	uint64_t detail = 0;
	size_t at;
	Entry e;
	Op op;
	Status st;

	KV_TRY(op_decode(&reader, &op));
	st = kvstore_outcome(op.key, version, &e);
	if (st == ST_OK) {
		KV_TRY(answer_begin(s, &at));
		put_u64(payload, version);
		if (p->command == PROTO_INCR) {
			char text[24] = { 0 };

			KV_ASSERT(e.value.len < sizeof text);
			memcpy(text, e.value.data, e.value.len);
			put_u64(payload + 8, (uint64_t) strtoll(text, NULL, 10));
		}
		KV_TRY(buf_append(&s->out, payload, p->command == PROTO_INCR ? 16 : 8));
		proto_finish(&s->out, at, p->id, p->command | PROTO_ANSWER, ST_OK);
		return ST_OK;
	}
	if (st != ST_NOT_FOUND) {
		/* It is applied, but what became of it cannot be read. */
		st = status_prefix(ST_OUTCOME_UNKNOWN, "cannot read the outcome");
	} else {
		st = find_reason(&s->run, p, version, &detail);
		(void) status_fail(st, "%s", reason_text(st));
	}
	count_error(st);
	return proto_error(&s->out, p->id, p->command | PROTO_ANSWER, st, detail, status_detail());
}

static Status
answer_plain(Session *s, const Pending *p, uint64_t version)
{
	size_t at = s->out.len;

	KV_TRY(buf_reserve(&s->out, PROTO_HEADER_SIZE + 8));
	put_u64(s->out.data + at + PROTO_HEADER_SIZE, s->run.ack == ACK_QUORUM ? version : 0);
	s->out.len += PROTO_HEADER_SIZE + 8;
	proto_finish(&s->out, at, p->id, p->command | PROTO_ANSWER, ST_OK);
	return ST_OK;
}

static Status
answer_run(Session *s, Status st, uint64_t version)
{
	const Pending *all = (const Pending *) (const void *) s->run.pending.data;
	size_t n = s->run.pending.len / sizeof *all;
	bool read = s->run.conditional && st == ST_OK;
	Snapshot snapshot;
	Status result = ST_OK;

	if (st == ST_NOT_LEADER)
		(void) replstate_not_leader(); /* its text says where to go */
	if (read)
		kvstore_begin_own_read(&snapshot);
	for (size_t i = 0; i < n && result == ST_OK; i++) {
		if (st != ST_OK) {
			count_error(st);
			result = proto_error(&s->out, all[i].id, all[i].command | PROTO_ANSWER, st, 0, status_detail());
		} else if (all[i].stamped) {
			result = answer_stamped(s, &all[i], version + all[i].first);
		} else if (all[i].conditional) {
			result = answer_conditional(s, &all[i], version + all[i].first);
		} else {
			result = answer_plain(s, &all[i], version + all[i].first);
		}
	}
	if (read)
		kvstore_end_read();
	return result;
}

/* Read before insertion what applying this operation will read. IO_ERROR: it can't be read. */
static Status
warm_up_op(Snapshot *snapshot, const Op *op)
{
	uint8_t key[SESSION_KEY_SIZE];
	Entry e;
	Status st;

	if (op->kind != OP_STAMP && !op_is_conditional(op))
		return ST_OK;
	st = kvstore_get(snapshot, op->key, &e);
	if (op->kind == OP_STAMP && st != ST_IO_ERROR)
		st = kvstore_get(snapshot, session_key(session_of_slot(op->key), key), &e);
	return st == ST_IO_ERROR ? st : ST_OK;
}

#define WARM_UP_RENEW 256

/*
 * Read the keys of conditional operations, and the slots of stamps, before they enter the log, so that applying
 * them rarely waits for the disk.
 */
static void
warm_up(const WriteRun *run)
{
	Reader reader = reader_of(run->body.data, run->body.len);
	Snapshot snapshot;
	Op op;

	kvstore_begin_read(&snapshot, 0);
	for (uint32_t n = 1; reader_left(&reader) > 0 && op_decode(&reader, &op) == ST_OK; n++) {
		if (warm_up_op(&snapshot, &op) != ST_OK)
			break; /* the apply will meet it, and say so */
		if (n % WARM_UP_RENEW != 0)
			continue;
		kvstore_end_read(); /* no pin lasts as long as a slow disk takes for all of them */
		kvstore_begin_read(&snapshot, 0);
	}
	kvstore_end_read();
}

/*
 * Many clients: somebody is flushing already. Insert, leave the answers to the WAL writer, go back to the socket.
 * *done false: not possible here, nothing has happened.
 */
static Status
delegate_run(Session *s, uint32_t generation, bool *done)
{
	const Pending *all = (const Pending *) (const void *) s->run.pending.data;
	size_t n = s->run.pending.len / sizeof *all;
	Lsn start, end;
	Status st;

	*done = false;
	/* Among others what was inserted may be cut off, and another leader's record applied at its position (rule P5). */
	if (!wal_alone())
		return ST_OK;
	if (s->run.conditional || s->run.ack != ACK_QUORUM || s->out.len > 0 ||
		n * (PROTO_HEADER_SIZE + 8) > DELEGATE_REPLY_MAX || !kvstore_flush_busy() || !delegate_ready(s->fd))
		return ST_OK;
	st = kvstore_insert(generation, &s->run.body, s->run.ops, s->run.timeout_ms, s->run.deletes_only, &start,
						&end);
	*done = true;
	if (st != ST_OK)
		return answer_run(s, st, 0);
	KV_TRY(answer_run(s, ST_OK, start));
	memcpy(delegate_buffer(), s->out.data, s->out.len);
	delegate_offer(s->out.len, end, generation);
	count_bytes(0, s->out.len);
	buf_clear(&s->out);
	return ST_OK;
}

Status
write_run_commit(Session *s, bool last)
{
	static unsigned measured;
	uint32_t generation;
	uint64_t version = 0, began = 0;
	bool done = false;
	Status st;

	if (s->run.ops == 0)
		return ST_OK;
	generation = wal_generation();
	if (!replstate_may_lead()) {
		st = answer_run(s, ST_NOT_LEADER, 0);
		run_reset(&s->run);
		return st;
	}
	if (last)
		KV_TRY(delegate_run(s, generation, &done));
	if (done) {
		run_reset(&s->run);
		return ST_OK;
	}
	if (s->run.conditional) {
		warm_up(&s->run);
		kvstore_hold();
	}
	if (s->run.ack == ACK_QUORUM && measured++ % LATENCY_COMMIT_SAMPLE == 0)
		began = clock_mono_ns();
	st = kvstore_write(generation, &s->run.body, s->run.ops, s->run.ack, s->run.timeout_ms,
					   s->run.deletes_only, &version);
	if (began != 0 && st == ST_OK)
		latency_add(LATENCY_COMMIT, clock_mono_ns() - began);
	if (st == ST_OK && s->run.ack != ACK_QUORUM)
		s->own_version = version;
	st = answer_run(s, st, version);
	kvstore_release();
	run_reset(&s->run);
	return st;
}

void
write_run_free(WriteRun *run)
{
	buf_free(&run->body);
	buf_free(&run->pending);
}
