/*
 * cmd_session.c - SESSION, and the stamps of writes that may be sent again.
 *
 * A session is registered and given back by an operation in the log, as everything replicated. What a stamped write
 * came to is read from the session's slot at the write's own version (rule A8): the same answer whether it was done
 * now or when it came for the first time. storage/session.h has the state and why it is enough.
 */
#include "storage/session.h"

#include "replication/replstate.h"
#include "session.h"

#define SESSION_REQUEST 16 /* u8 action, 3 bytes 0, u32 deadline, u64 argument */

Status
decode_write_prefix(Reader *r, WritePrefix *p)
{
	const uint8_t *b = reader_take(r, PROTO_WRITE_PREFIX);
	uint64_t confirmed;

	if (b == NULL || b[0] > ACK_NONE || (b[1] & ~PROTO_WRITE_STAMPED) != 0 || b[2] != 0 || b[3] != 0)
		return status_fail(ST_BAD_REQUEST, "bad write prefix: ack is 0, 1 or 2, flags 0 or 1, two bytes 0");
	*p = (WritePrefix){ .ack = (Ack) b[0], .timeout_ms = deadline_of(get_u32(b + 4)), .stamped = b[1] != 0 };
	if (!p->stamped)
		return ST_OK;
	p->session = read_u64(r);
	p->serial = read_u64(r);
	confirmed = read_u64(r);
	if (!reader_ok(r))
		return status_fail(ST_BAD_REQUEST, "the request ends inside its stamp");
	if (p->ack != ACK_QUORUM)
		return status_fail(ST_BAD_REQUEST, "stamped writes need ack 0 (quorum)");
	if (confirmed > p->serial || p->serial - confirmed >= PROTO_SESSION_WINDOW)
		return status_fail(ST_BAD_REQUEST,
						   "serial %llu with all below %llu confirmed: a session has at most %d under way",
						   (unsigned long long) p->serial, (unsigned long long) confirmed,
						   PROTO_SESSION_WINDOW);
	return ST_OK;
}

static Status
answer_stamp_error(Session *s, const Pending *p, Status st, uint64_t detail)
{
	count_error(st);
	return proto_error(&s->out, p->id, p->command | PROTO_ANSWER, st, detail, status_detail());
}

Status
answer_stamped(Session *s, const Pending *p, uint64_t version)
{
	uint8_t payload[16];
	SlotValue slot;
	uint64_t done;
	size_t at;
	Status st = kvstore_stamp_outcome(p->session, p->serial, version - 1, &slot, &done);

	if (st != ST_OK && st != ST_SESSION_EXPIRED)
		st = status_prefix(ST_OUTCOME_UNKNOWN, "cannot read the outcome");
	if (st != ST_OK)
		return answer_stamp_error(s, p, st, 0);
	if (slot.status != ST_OK) {
		(void) status_fail(slot.status, "%s", reason_text(slot.status));
		return answer_stamp_error(s, p, slot.status, p->command == PROTO_BATCH ? slot.place : slot.detail);
	}
	put_u64(payload, done + 1);
	put_u64(payload + 8, slot.detail);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, payload, p->command == PROTO_INCR ? 16 : 8));
	proto_finish(&s->out, at, p->id, p->command | PROTO_ANSWER, ST_OK);
	return ST_OK;
}

/* The operation that a request asks for; *ttl_ms is what an opened session gets. */
static Status
encode_request(const Request *r, Buf *body, uint64_t *ttl_ms, int *timeout_ms)
{
	const uint8_t *p = r->payload;
	uint64_t argument;

	if (r->header.length != SESSION_REQUEST || p[0] > PROTO_SESSION_CLOSE || p[1] != 0 || p[2] != 0 || p[3] != 0)
		return status_fail(ST_BAD_REQUEST, "SESSION has an action (0 or 1), three zero bytes, a deadline and a "
										   "number, %d bytes", SESSION_REQUEST);
	*timeout_ms = deadline_of(get_u32(p + 4));
	argument = get_u64(p + 8);
	if (p[0] == PROTO_SESSION_CLOSE)
		return session_encode_close(body, argument);
	*ttl_ms = argument == 0 ? PROTO_SESSION_TTL : argument;
	if (*ttl_ms < PROTO_SESSION_TTL_MIN || *ttl_ms > PROTO_SESSION_TTL_MAX)
		return status_fail(ST_BAD_REQUEST, "a session lives for %d to %d ms", PROTO_SESSION_TTL_MIN,
						   PROTO_SESSION_TTL_MAX);
	return session_encode_open(body, *ttl_ms);
}

Status
cmd_session(Session *s, const Request *r)
{
	uint32_t generation = wal_generation();
	uint64_t version = 0, ttl_ms = 0;
	uint8_t payload[16];
	Buf body = { 0 };
	int timeout_ms = 0;
	size_t at;
	Status st = encode_request(r, &body, &ttl_ms, &timeout_ms);

	if (st == ST_OK && !replstate_may_lead())
		st = ST_NOT_LEADER;
	/* A few bytes that deletes need too: taken also when space is short ("deletes only"). */
	if (st == ST_OK)
		st = kvstore_write(generation, &body, 1, ACK_QUORUM, timeout_ms, true, &version);
	buf_free(&body);
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	put_u64(payload, version);
	put_u64(payload + 8, ttl_ms);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, payload, ttl_ms > 0 ? sizeof payload : 0));
	answer_end(s, r, at);
	return ST_OK;
}
