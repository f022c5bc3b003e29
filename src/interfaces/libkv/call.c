/*
 * call.c - one request and its answer, with retries. And the codes, text and small parts of the interface.
 *
 * Runs in the client's threads. Rules for what may be sent twice (kv.h, "Trying again"):
 *  1. A read: always.
 *  2. A write: only if some of its bytes never reached the kernel, or the server answered that it did not do it. With a
 *     stamp (session.c): always.
 *  3. An answer with type 128 and id 0 refuses the connection, not the request: a write that had left is in doubt.
 */
#include <stdio.h>
#include <stdlib.h>

#include "libkv_internal.h"
#include "port/clock.h"

#define IDLE_CHECK_NS 10000000 /* look whether the server has gone before using a connection that rested so long */
#define BROKEN_MAX 3           /* connections that one request may lose: it may be what kills them */
#define RETRY_FIRST_MS 5
#define RETRY_MAX_MS 200
#define TRY_PARTS 3            /* of several hosts one may be silent for this part of the time that is left */
#define TRY_MIN_MS 100
#define ANSWER_MARGIN_MS 100   /* the server's deadline ends before ours, so that its definite answer still arrives */

#define SAME_NUMBER(name, number, text) _Static_assert((int) KV_##name == (int) ST_##name, "kv.h: KV_" #name);
STATUS_LIST(SAME_NUMBER)
#undef SAME_NUMBER

Status
call_again(kv_client *c)
{
	size_t at;

	c->out_sent = 0;
	buf_clear(&c->out);
	return proto_begin(&c->out, &at);
}

Status
call_begin(kv_client *c)
{
	Status st;

	pthread_mutex_lock(&c->lock);
	c->cancelled = false;
	if (c->pending_count > 0)
		st = status_fail(ST_USAGE, "replies are outstanding on this handle: take them with kv_get_reply() first");
	else
		st = call_again(c);
	if (st != ST_OK)
		pthread_mutex_unlock(&c->lock);
	return st;
}

int
call_end(kv_client *c, Status st)
{
	c->out_sent = 0;
	buf_clear(&c->out);
	if (c->out.cap > KV_BUFFER_KEEP)
		buf_free(&c->out);
	if (c->in_pos == c->in.len && c->in.cap > KV_BUFFER_KEEP) {
		buf_free(&c->in);
		c->in_pos = 0;
	}
	pthread_mutex_unlock(&c->lock);
	return st;
}

Status
call_error(uint16_t status, Slice payload, uint64_t *detail, Slice *text)
{
	Slice t = payload.len > 8 ? slice_of(payload.data + 8, payload.len - 8) : slice_of(NULL, 0);

	if (detail != NULL)
		*detail = payload.len >= 8 ? get_u64(payload.data) : 0;
	if (text != NULL)
		*text = t;
	if (t.len == 0)
		return status_fail((Status) status, "%s", status_text(status));
	return status_fail((Status) status, "%.*s", (int) (t.len < STATUS_DETAIL_MAX ? t.len : STATUS_DETAIL_MAX),
		(const char *) t.data);
}

Status
call_short_answer(kv_client *c, ProtoCommand command)
{
	io_close(c);
	return status_fail(ST_PROTOCOL, "the answer of %s:%u to %s is shorter than it must be", c->at.name, c->at.port,
		proto_command_name(command));
}

uint32_t
call_next_id(kv_client *c)
{
	/* 0 marks answers to no request. */
	c->last_id = c->last_id == UINT32_MAX ? 1 : c->last_id + 1;
	return c->last_id;
}

uint64_t
call_try_deadline(const kv_client *c, uint64_t deadline_ns)
{
	int ms = deadline_left_ms(deadline_ns) / TRY_PARTS;
	uint64_t part = deadline_in(ms > TRY_MIN_MS ? ms : TRY_MIN_MS);

	return c->options.host_count > 1 && part < deadline_ns ? part : deadline_ns;
}

/* Write deadline, id and CRC into the frame and forget what was sent of it. */
static void
finish_frame(kv_client *c, const Call *call, uint64_t deadline_ns)
{
	int ms = deadline_left_ms(deadline_ns);
	int margin = ms / 10 < ANSWER_MARGIN_MS ? ms / 10 : ANSWER_MARGIN_MS;

	if (call->deadline_at >= 0)
		put_u32(c->out.data + PROTO_HEADER_SIZE + call->deadline_at, (uint32_t) (ms - margin > 0 ? ms - margin : 1));
	c->out_sent = 0;
	proto_finish(&c->out, 0, call_next_id(c), (uint8_t) call->command, 0);
}

/* Send and wait for the answer's header. Not OK: the connection is of no more use; it is closed. */
static Status
exchange(kv_client *c, const Call *call, uint64_t deadline_ns, ProtoHeader *h, Slice *payload)
{
	bool have = false;
	Status st = ST_OK;

	io_send_some(c);
	for (;;) {
		st = io_take_frame(c, h, payload, &have);
		if (st != ST_OK || have)
			break;
		if (c->eof) {
			st = status_fail(c->broken, "%s", c->broken_text);
			break;
		}
		st = io_step(c, deadline_ns);
		if (st != ST_OK)
			break;
	}
	if (st == ST_OK && h->id == 0 && h->type == PROTO_ANSWER && h->status != ST_OK)
		st = call_error(h->status, *payload, NULL, NULL);
	else if (st == ST_OK && (h->id != c->last_id || h->type != (call->command | PROTO_ANSWER)))
		st = status_fail(ST_PROTOCOL, "%s:%u gave an answer that belongs to no request", c->at.name, c->at.port);
	if (st != ST_OK)
		io_close(c);
	return st;
}

/* An answer after which the same request may be asked again, of this or of another server. */
static bool
answer_invites_retry(uint16_t status)
{
	return status == ST_NOT_LEADER || status == ST_STARTING || status == ST_SHUTTING_DOWN || status == ST_BUSY;
}

/* What the caller is told after the connection failed with st. */
static Status
broken_outcome(const Call *call, bool left, Status st)
{
	const char *what = call->command == PROTO_CLUSTER ? "change" : proto_command_name(call->command);

	if (!call->write || !left || call->stamped)
		return st;
	if (st == ST_TIMEOUT)
		return status_fail(ST_OUTCOME_UNKNOWN, "no answer came in time; the %s may or may not have happened", what);
	return status_fail(ST_OUTCOME_UNKNOWN, "the connection was lost before the answer came (%s); the %s may or may not "
		"have happened", status_text(st), what);
}

/* Requests that are answered at once or not at all, and may be asked of another host as well. */
static bool
may_leave_silent(const Call *call)
{
	return call->stamped || call->command == PROTO_GET || call->command == PROTO_MGET;
}

/* May the request be sent again whose connection was lost with st? left: it may have arrived. */
static bool
broken_invites_retry(const kv_client *c, const Call *call, bool left, uint64_t deadline_ns, Status st)
{
	if (c->cancelled || st == ST_PROTOCOL || (call->write && left && !call->stamped))
		return false;
	return st != ST_TIMEOUT || deadline_left_ms(deadline_ns) > 0;
}

/* One try on a connection that stands. *again: a further try is allowed. */
static Status
try_once(kv_client *c, Call *call, uint64_t deadline_ns, bool *again)
{
	ProtoHeader h;
	Slice text;
	Status st;
	bool left;

	finish_frame(c, call, deadline_ns);
	st = exchange(c, call, may_leave_silent(call) ? call_try_deadline(c, deadline_ns) : deadline_ns, &h,
		&call->answer);
	if (st != ST_OK) {
		left = io_unsent(c) == 0;
		call->doubt |= call->stamped && left;
		*again = broken_invites_retry(c, call, left, deadline_ns, st);
		/* Whoever did not answer is not asked first again. */
		c->host = (c->host + 1) % c->options.host_count;
		return broken_outcome(call, left, st);
	}
	c->used_ns = clock_mono_ns();
	if (h.status == ST_OK)
		return ST_OK;
	st = call_error(h.status, call->answer, &call->detail, &text);
	*again = answer_invites_retry(h.status) || (call->stamped && session_may_repeat(st));
	call->doubt |= call->stamped && st == ST_OUTCOME_UNKNOWN;
	if (h.status == ST_NOT_LEADER) {
		connect_follow(c, text);
		(void) call_error(h.status, call->answer, NULL, NULL);
	}
	if (*again && h.status != ST_BUSY)
		io_close(c);
	if (call->stamped && st == ST_SESSION_EXPIRED) {
		c->session = 0;
		*again = !call->doubt; /* else nobody can tell any more */
	}
	return st;
}

/*
 * A stamp of the session in force, unless the request has one. With copies in doubt it must stay the same: then the
 * end of the session is the end of the call.
 */
static Status
stamp_call(kv_client *c, Call *call, uint64_t deadline_ns)
{
	if (call->session != 0 && call->doubt)
		return c->session == call->session && session_stands(c) ? ST_OK
			: status_fail(ST_SESSION_EXPIRED, "the session ended");
	if (call->session != 0 && call->session == c->session && session_usable(c))
		return ST_OK;
	KV_TRY(session_ready(c, deadline_ns));
	/* Calls take turns: what came before is over, answered or given up. */
	session_stamp(c, c->out.data + PROTO_HEADER_SIZE + PROTO_WRITE_PREFIX, c->next_serial);
	call->session = c->session;
	return ST_OK;
}

/*
 * Connected, or why not. A request that lost its connection (`first`, with the text `why`) has that as the cause, not
 * that the server, gone by now, can't be reached again. However long the request may take, connecting takes the
 * handle's timeout at most.
 */
static Status
connect_for(kv_client *c, uint64_t deadline_ns, Status first, const char *why)
{
	uint64_t connect_ns = deadline_in(c->options.timeout_ms);
	Status st = connect_ensure(c, connect_ns < deadline_ns ? connect_ns : deadline_ns);

	if (st == ST_OK || first == ST_OK || c->cancelled)
		return st;
	return status_fail(first, "%s while the request was under way, and connecting again failed", why);
}

/* Try until there is an answer or the deadline. */
static Status
run_until(kv_client *c, Call *call, uint64_t deadline)
{
	char why[STATUS_DETAIL_MAX] = "";
	Status first = ST_OK; /* how the last connection was lost */
	int pause_ms = RETRY_FIRST_MS;
	int broken = 0;

	for (;;) {
		bool again = false;
		bool follow;
		Status st;

		KV_TRY(connect_for(c, deadline, first, why));
		if (call->stamped)
			KV_TRY(stamp_call(c, call, deadline));
		st = try_once(c, call, deadline, &again);
		if (st == ST_OK || !again)
			return st;
		first = answer_invites_retry((uint16_t) st) ? ST_OK : st;
		if (first != ST_OK && ++broken == BROKEN_MAX && !call->stamped)
			return st;
		snprintf(why, sizeof why, "%s", status_detail());
		/* A first hint to the leader is followed at once; a second one may be two servers that point at each other. */
		follow = st == ST_NOT_LEADER && c->leader.name[0] != '\0' && pause_ms == RETRY_FIRST_MS;
		if (!follow && !connect_pause(c, pause_ms, deadline))
			return st;
		pause_ms = pause_ms * 2 < RETRY_MAX_MS ? pause_ms * 2 : RETRY_MAX_MS;
	}
}

Status
call_run(kv_client *c, Call *call)
{
	uint64_t deadline = deadline_in(call->timeout_ms > 0 ? call->timeout_ms : c->options.timeout_ms);
	Status st;

	if (c->out.len - PROTO_HEADER_SIZE > KV_FRAME_MAX)
		return status_fail(ST_BATCH_TOO_LARGE, "the request has %zu bytes; at most %d fit",
			c->out.len - PROTO_HEADER_SIZE, KV_FRAME_MAX);
	if (c->fd >= 0 && clock_mono_ns() - c->used_ns > IDLE_CHECK_NS && io_is_stale(c))
		io_close(c);
	call->stamped = call->write && (c->out.data[PROTO_HEADER_SIZE + 1] & PROTO_WRITE_STAMPED) != 0;
	st = run_until(c, call, deadline);
	return call->stamped ? session_verdict(st, call->doubt, call->command) : st;
}

Status
value_set(kv_value *v, Slice s)
{
	if (v->capacity < s.len + 1) {
		void *data = realloc(v->data, s.len + 1);

		if (data == NULL)
			return status_fail(ST_OUT_OF_MEMORY, "out of memory for a value of %zu bytes", s.len);
		v->data = data;
		v->capacity = s.len + 1;
	}
	if (s.len > 0)
		memcpy(v->data, s.data, s.len);
	((char *) v->data)[s.len] = '\0';
	v->len = s.len;
	return ST_OK;
}

void
kv_value_free(kv_value *v)
{
	free(v->data);
	*v = (kv_value){ 0 };
}

const char *
kv_version(void)
{
	return KV_VERSION;
}

const char *
kv_error(void)
{
	return status_detail();
}

const char *
kv_code_name(int code)
{
	return status_name(code);
}

const char *
kv_code_text(int code)
{
	return status_text(code);
}

kv_bytes
kv_str(const char *s)
{
	return (kv_bytes){ s, s != NULL ? strlen(s) : 0 };
}
