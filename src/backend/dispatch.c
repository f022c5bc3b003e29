/*
 * dispatch.c - from bytes to commands: frames are checked, the batch is cut into runs, handlers are called.
 *
 * Order of answers = order of requests: a run of writes is committed, and its answers appended, before any other
 * command is looked at; a read ends (unpins) before a write is committed or anything is sent (rule A7).
 */
#include "common/config.h"
#include "common/elog.h"
#include "ipc/delegate.h"
#include "ipc/logclock.h"
#include "ipc/nodestate.h"
#include "port/clock.h"
#include "replication/replstate.h"
#include "cmd_cluster_data.h"
#include "session.h"

typedef enum CommandClass { CLASS_WRITE, CLASS_READ, CLASS_OTHER } CommandClass;

/* One line a command. Writes have no handler: they join the run. */
static const struct {
	CommandClass class;
	CommandFn handle;
} commands[PROTO_COMMANDS] = {
	[PROTO_HELLO] = { CLASS_OTHER, cmd_hello },
	[PROTO_PING] = { CLASS_OTHER, cmd_ping },
	[PROTO_PUT] = { CLASS_WRITE, NULL },
	[PROTO_GET] = { CLASS_READ, cmd_get },
	[PROTO_MGET] = { CLASS_READ, cmd_mget },
	[PROTO_DELETE] = { CLASS_WRITE, NULL },
	[PROTO_DELETE_RANGE] = { CLASS_OTHER, cmd_delete_range },
	[PROTO_SCAN] = { CLASS_OTHER, cmd_scan },
	[PROTO_COUNT] = { CLASS_OTHER, cmd_count },
	[PROTO_BATCH] = { CLASS_WRITE, NULL },
	[PROTO_INCR] = { CLASS_WRITE, NULL },
	[PROTO_STATS] = { CLASS_OTHER, cmd_stats },
	[PROTO_CONFIG] = { CLASS_OTHER, cmd_config },
	[PROTO_CHECKPOINT] = { CLASS_OTHER, cmd_checkpoint },
	[PROTO_SESSION] = { CLASS_OTHER, cmd_session },
	[PROTO_CLUSTER] = { CLASS_OTHER, cmd_cluster },
	[PROTO_LOG_READ] = { CLASS_OTHER, cmd_log_read },
	[PROTO_SNAPSHOT_OPEN] = { CLASS_OTHER, cmd_snapshot_open },
	[PROTO_SNAPSHOT_READ] = { CLASS_OTHER, cmd_snapshot_read },
	[PROTO_ESTIMATE] = { CLASS_OTHER, cmd_estimate },
};

/* Longest first request that is waited for: a stranger gets no large buffer. HELLO with its name is shorter. */
#define HELLO_LENGTH_MAX 1024
/* Where doc/protocol.md puts the sizes inside an operation. */
enum { AT_OP_KEY = 4, AT_OP_VALUE = 8 };

Status
answer_error(Session *s, const Request *r, Status code, uint64_t detail)
{
	count_error(code);
	if (code == ST_NOT_LEADER)
		(void) replstate_not_leader(); /* its text says where to go */
	if (code == ST_CORRUPT || code == ST_IO_ERROR)
		elog(LOG_LEVEL_ERROR, "%s failed: %s", proto_command_name(r->header.type), status_detail());
	return proto_error(&s->out, r->header.id, r->header.type | PROTO_ANSWER, code, detail, status_detail());
}

Status
answer_begin(Session *s, size_t *at)
{
	return proto_begin(&s->out, at);
}

void
answer_end(Session *s, const Request *r, size_t at)
{
	proto_finish(&s->out, at, r->header.id, r->header.type | PROTO_ANSWER, ST_OK);
}

Status
answer_begin_read(Session *s, size_t *at)
{
	uint8_t head[FRESHNESS_HEAD] = { 0 };

	KV_TRY(proto_begin(&s->out, at));
	if (s->read_freshness != READ_LOCAL_TOLD)
		return ST_OK;
	put_u64(head, s->snapshot.at);
	put_u32(head + 8, s->read_lag_ms);
	return buf_append(&s->out, head, sizeof head);
}

Status
end_read(Session *s)
{
	if (s->reading)
		kvstore_end_read();
	s->reading = false;
	return ST_OK;
}

/* Wait for what the prefix asks: be the leader, have applied at_least and this connection's own writes. */
static Status
check_freshness(const Session *s, const ReadPrefix *p)
{
	Lsn at_least = p->at_least > s->own_version ? p->at_least : s->own_version;

	if (p->freshness == READ_LINEARIZABLE)
		KV_TRY(replstate_read_barrier(p->timeout_ms));
	if (at_least == 0 || kvstore_applied() > at_least)
		return ST_OK;
	return kvstore_wait_applied(at_least, p->timeout_ms);
}

static Status
start_read(Session *s, const ReadPrefix *p, Lsn at)
{
	uint32_t generation = wal_generation();
	uint64_t now = 0;

	KV_TRY(end_read(s));
	KV_TRY(check_freshness(s, p));
	if (p->freshness == READ_LINEARIZABLE) {
		if (s->now == 0)
			s->now = logclock_now();
		now = s->now;
	}
	/* Before the snapshot, which then holds at least what the lag is told of. An older one: not known. */
	if (p->freshness == READ_LOCAL_TOLD)
		s->read_lag_ms = at == 0 ? replstate_lag_ms() : UINT32_MAX;
	if (at == 0)
		kvstore_begin_read(&s->snapshot, now);
	else
		KV_TRY(kvstore_begin_read_at(&s->snapshot, now, at));
	s->reading = true;
	/*
	 * Deposed between the barrier and the snapshot, this node may have applied what the new leader has not yet:
	 * who reads there next would see an older state than we answer.
	 */
	if (p->freshness == READ_LINEARIZABLE && wal_generation() != generation) {
		KV_TRY(end_read(s));
		return replstate_not_leader();
	}
	/* Only a read of now may serve the requests behind it, and only those that ask for the same freshness. */
	s->shared_read = at == 0;
	s->read_freshness = p->freshness;
	return ST_OK;
}

/*
 * All requests of a batch were received before the first of them was looked at, so before the barrier that the
 * open read went through (rule R4). Its snapshot was taken after that and before any of them is answered: it is
 * a linearizable answer to each of them, also if the lease has ended since.
 */
Status
begin_plain_read(Session *s, const ReadPrefix *p)
{
	if (s->reading && s->shared_read && s->read_freshness == p->freshness && p->at_least < s->snapshot.at &&
		s->own_version < s->snapshot.at)
		return ST_OK;
	return start_read(s, p, 0);
}

Status
begin_read(Session *s, const Request *r, Lsn at)
{
	Reader reader = reader_of(r->payload, r->header.length);
	ReadPrefix p;

	KV_TRY(decode_read_prefix(&reader, &p));
	return at == 0 ? begin_plain_read(s, &p) : start_read(s, &p, at);
}

/*
 * Answer a read; when it met an entry that the leader's clock, but not yet the log's, holds for expired,
 * move the log's time on and answer it anew.
 */
static Status
answer_read(Session *s, const Request *r, CommandFn handle)
{
	size_t mark = s->out.len;
	Status st;

	KV_TRY(handle(s, r));
	if (!s->reading || !s->snapshot.time_behind)
		return ST_OK;
	s->out.len = mark;
	KV_TRY(end_read(s));
	st = kvstore_advance_time(s->now);
	if (st != ST_OK)
		return answer_error(s, r, st == ST_NOT_LEADER ? st : ST_BUSY, 0);
	return handle(s, r);
}

/* A request that was to be passed on, now that this node leads. By itself: what follows in the input comes later. */
Status
dispatch_here(Session *s, const Request *r)
{
	if (commands[r->header.type].class == CLASS_WRITE) {
		KV_TRY(write_run_add(s, r));
		return write_run_commit(s, false);
	}
	KV_TRY(answer_read(s, r, commands[r->header.type].handle));
	return end_read(s);
}

static Status
dispatch(Session *s, const Request *r)
{
	int command = r->header.type;
	bool known = command > 0 && command < PROTO_COMMANDS;

	count_command(known ? command : 0);
	if (!s->hello_done && command != PROTO_HELLO) {
		s->closing = true;
		(void) status_fail(ST_BAD_REQUEST, "the first request must be HELLO");
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	if (forward_wanted(s, r)) {
		KV_TRY(write_run_commit(s, false));
		KV_TRY(end_read(s));
		return forward_add(s, r);
	}
	if (s->forward.items.len > 0)
		KV_TRY(forward_commit(s));
	if (known && commands[command].class == CLASS_WRITE) {
		KV_TRY(end_read(s));
		return write_run_add(s, r);
	}
	KV_TRY(write_run_commit(s, false));
	if (!known || commands[command].handle == NULL) {
		(void) status_fail(ST_UNKNOWN_COMMAND, "no command has the number %d", command);
		return answer_error(s, r, ST_UNKNOWN_COMMAND, 0);
	}
	if (r->header.flags != 0 || r->header.status != 0) {
		(void) status_fail(ST_BAD_REQUEST, "flags and status of a request must be 0");
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	if (command == PROTO_GET) {
		bool taken;

		KV_TRY(get_run(s, r, &taken));
		if (taken)
			return ST_OK;
	}
	if (commands[command].class == CLASS_READ)
		return answer_read(s, r, commands[command].handle);
	KV_TRY(end_read(s));
	return answer_read(s, r, commands[command].handle);
}

Status
early_size_check(const ProtoHeader *h, const uint8_t *payload, size_t have)
{
	bool single = h->type == PROTO_PUT || h->type == PROTO_DELETE || h->type == PROTO_INCR;
	const uint8_t *op = payload + PROTO_WRITE_PREFIX;

	if (h->type == PROTO_GET && h->length > PROTO_READ_PREFIX + KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes", KV_KEY_MAX);
	if (!single || have < PROTO_WRITE_PREFIX)
		return ST_OK;
	op += (payload[1] & PROTO_WRITE_STAMPED) != 0 ? PROTO_STAMP : 0;
	if (have < (size_t) (op - payload) + PROTO_OP_HEADER)
		return ST_OK;
	if (get_u32(op + AT_OP_KEY) > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes, this one %u", KV_KEY_MAX,
						   get_u32(op + AT_OP_KEY));
	if (op[0] == PROTO_OP_DELETE_RANGE) /* its value is the end, a key */
		return get_u32(op + AT_OP_VALUE) <= KV_KEY_MAX
				   ? ST_OK
				   : status_fail(ST_KEY_TOO_LARGE, "a key has at most %d bytes, this one %u", KV_KEY_MAX,
								 get_u32(op + AT_OP_VALUE));
	if (get_u32(op + AT_OP_VALUE) > (uint64_t) config.max_value_size)
		return status_fail(ST_VALUE_TOO_LARGE, "a value has at most %lld bytes (max_value_size), this one %u",
						   (long long) config.max_value_size, get_u32(op + AT_OP_VALUE));
	return ST_OK;
}

/* Throw away input of a refused request. True when all of it has come. */
static bool
discard_input(Session *s)
{
	size_t have = s->in.len - s->in_at;
	size_t n = s->discard < have ? (size_t) s->discard : have;

	s->in_at += n;
	s->discard -= n;
	return s->discard == 0;
}

/* The frame can't be served: answer, then read its payload away or, when its length can't be trusted, close. */
static Status
refuse_frame(Session *s, const ProtoHeader *h, Status code, bool close_after)
{
	Request r = { .header = *h };
	char detail[STATUS_DETAIL_MAX];

	memcpy(detail, status_detail(), strlen(status_detail()) + 1);
	KV_TRY(write_run_commit(s, false)); /* it may fail with a detail of its own */
	KV_TRY(forward_commit(s));
	(void) status_fail(code, "%s", detail);
	KV_TRY(end_read(s));
	KV_TRY(answer_error(s, &r, code, 0));
	s->closing = close_after;
	s->discard = (uint64_t) PROTO_HEADER_SIZE + h->length;
	s->frame_since_ns = 0;
	(void) discard_input(s);
	return ST_OK;
}

/* Not all of a request is here: refuse it already if its sizes say so, else wait for the rest. */
static Status
frame_incomplete(Session *s, const ProtoHeader *h, const uint8_t *payload, size_t have)
{
	Status st = s->hello_done ? early_size_check(h, payload, have) : ST_OK;

	if (st != ST_OK)
		return refuse_frame(s, h, st, false);
	if (s->frame_since_ns == 0)
		s->frame_since_ns = clock_mono_ns();
	return ST_OK;
}

/* The next complete frame, if any. *got false: wait for more (or closing). */
static Status
next_frame(Session *s, Request *r, bool *got)
{
	uint8_t *p;
	size_t have;

	*got = false;
	if (!discard_input(s) || s->closing || s->in.len == s->in_at)
		return ST_OK;
	p = s->in.data + s->in_at;
	have = s->in.len - s->in_at;
	if (have < PROTO_HEADER_SIZE) {
		if (s->frame_since_ns == 0)
			s->frame_since_ns = clock_mono_ns();
		return ST_OK;
	}
	proto_get_header(p, &r->header);
	if (r->header.length > KV_FRAME_MAX) {
		(void) status_fail(ST_BATCH_TOO_LARGE, "a frame has at most %d bytes of payload, this one %u",
						   KV_FRAME_MAX, r->header.length);
		return refuse_frame(s, &r->header, ST_BATCH_TOO_LARGE, true);
	}
	if (!s->hello_done && r->header.length > HELLO_LENGTH_MAX) {
		(void) status_fail(ST_BAD_REQUEST, "the first request must be HELLO");
		return refuse_frame(s, &r->header, ST_BAD_REQUEST, true);
	}
	if (have - PROTO_HEADER_SIZE < r->header.length)
		return frame_incomplete(s, &r->header, p + PROTO_HEADER_SIZE, have - PROTO_HEADER_SIZE);
	if (!proto_crc_ok(p, &r->header)) {
		(void) status_fail(ST_BAD_REQUEST, "wrong checksum: the connection can't be trusted any more");
		return refuse_frame(s, &r->header, ST_BAD_REQUEST, true);
	}
	s->frame_since_ns = 0;
	r->payload = p + PROTO_HEADER_SIZE;
	s->in_at += PROTO_HEADER_SIZE + (size_t) r->header.length;
	*got = true;
	return ST_OK;
}

/* Send what has gathered although requests are left. Nothing may be pinned while a client takes its time. */
static Status
flush_answers(Session *s)
{
	KV_TRY(write_run_commit(s, false));
	KV_TRY(end_read(s));
	KV_TRY(forward_commit(s));
	return session_send(s);
}

Status
session_handle(Session *s)
{
	Request r;
	bool got = true;
	Status st = ST_OK;

	delegate_wait(); /* answers keep their order */
	while (st == ST_OK && !s->closing) {
		st = next_frame(s, &r, &got);
		if (st != ST_OK || !got)
			break;
		st = dispatch(s, &r);
		if (st == ST_OK && s->out.len >= OUT_FLUSH_BYTES)
			st = flush_answers(s);
	}
	if (st == ST_OK)
		st = forward_commit(s);
	if (st == ST_OK)
		st = write_run_commit(s, true);
	KV_TRY(end_read(s));
	return st;
}
