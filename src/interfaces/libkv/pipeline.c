/*
 * pipeline.c - many requests under way on one connection.
 *
 * Runs in the client's threads. c->out holds whole frames from stream_start on; `pending` lists what was appended,
 * in order, with the place in the stream where each ends: so after a break it is known which ones had left.
 *
 * With the option retry frames stay in `out` until their reply is taken, and after a break pipeline_resume.c sends
 * those again that were not answered.
 *
 * Invariants:
 *  1. Every append is followed by exactly one reply.
 *  2. A frame is in `out` only while its entry is in `pending`.
 */
#include <stdlib.h>

#include "libkv_internal.h"
#include "port/clock.h"

#define RESUME_FIRST_MS 5
#define RESUME_MAX_MS 200

enum { KIND_PUT = 1, KIND_DELETE = 2, KIND_INCR = 3 };

/* Drop what is not needed any more from the front of `out`, when that is cheap. */
static void
trim_out(kv_client *c)
{
	size_t done = c->out_sent;

	for (size_t i = 0; c->options.retry && i < c->pending_count; i++) {
		const Pending *oldest = &c->pending[(c->pending_head + i) % KV_OUTSTANDING_MAX];

		if (oldest->gone)
			continue;
		if (oldest->end - oldest->size - c->stream_start < done)
			done = (size_t) (oldest->end - oldest->size - c->stream_start);
		break;
	}
	if (done == 0 || (done < c->out.len && done < c->out.len / 2))
		return;
	memmove(c->out.data, c->out.data + done, c->out.len - done);
	c->stream_start += done;
	c->out.len -= done;
	c->out_sent -= done;
}

/* Send until little is left in the queue, taking answers meanwhile. BUSY: so many that they must be collected first. */
static Status
drain(kv_client *c, size_t until, uint64_t deadline_ns)
{
	io_send_some(c);
	while (!c->eof && io_unsent(c) > until) {
		if (io_answers(c) >= KV_ANSWERS_MAX)
			return status_fail(ST_BUSY, "%u MB of answers are waiting: take replies first", KV_ANSWERS_MAX >> 20);
		KV_TRY(io_step(c, deadline_ns));
	}
	trim_out(c);
	return ST_OK;
}

/* The first of a pipeline: connected, and with a session if it is to be stamped. */
static Status
begin_pipeline(kv_client *c, bool stamped, uint64_t deadline)
{
	c->cancelled = false;
	c->out_sent = 0;
	buf_clear(&c->out);
	c->stream_start = 0;
	c->pending_stamped = 0;
	if (c->fd >= 0 && io_is_stale(c))
		io_close(c);
	return stamped ? session_ready(c, deadline) : connect_ensure(c, deadline);
}

/* One more behind others. BUSY: only when some replies have been taken. */
static Status
extend_pipeline(kv_client *c, bool stamped, uint64_t deadline)
{
	if (c->eof && !c->options.retry)
		return status_fail(ST_CLOSED, "the connection broke (%s): take the replies first", c->broken_text);
	if (stamped && (!session_usable(c) || c->pending_stamped == PROTO_SESSION_WINDOW))
		return status_fail(ST_BUSY, c->pending_stamped == PROTO_SESSION_WINDOW
			? "%zu writes that may be sent again are outstanding: take replies first"
			: "%zu writes are outstanding in a session that is at its end: take all replies first",
			c->pending_stamped);
	trim_out(c);
	if (c->options.retry && c->out.len >= KV_REQUESTS_MAX)
		return status_fail(ST_BUSY, "%u MB of requests are outstanding: take replies first", KV_REQUESTS_MAX >> 20);
	/* What is broken is mended when replies are taken. */
	return c->eof || io_unsent(c) < KV_QUEUE_SEND ? ST_OK : drain(c, KV_QUEUE_SEND / 2, deadline);
}

/* Lock, make sure that one more request is allowed, start its frame. Not OK: not locked. */
static Status
append_begin(kv_client *c, size_t *at, bool stamped)
{
	uint64_t deadline;
	Status st = ST_OK;

	pthread_mutex_lock(&c->lock);
	deadline = deadline_in(c->options.timeout_ms);
	if (c->pending == NULL && (c->pending = malloc(KV_OUTSTANDING_MAX * sizeof *c->pending)) == NULL)
		st = status_fail(ST_OUT_OF_MEMORY, "out of memory for a pipeline");
	else if (c->pending_count == KV_OUTSTANDING_MAX)
		st = status_fail(ST_BUSY, "%d requests are outstanding: take replies first", KV_OUTSTANDING_MAX);
	else if (c->pending_count == 0)
		st = begin_pipeline(c, stamped, deadline);
	else
		st = extend_pipeline(c, stamped, deadline);
	if (st == ST_OK)
		st = proto_begin(&c->out, at);
	if (st != ST_OK)
		pthread_mutex_unlock(&c->lock);
	return st;
}

/* Note the whole frame at `at` as outstanding. */
static void
add_pending(kv_client *c, size_t at, ProtoCommand command, bool write, bool stamped)
{
	uint8_t *payload = c->out.data + at + PROTO_HEADER_SIZE;

	if (stamped)
		session_stamp(c, payload + PROTO_WRITE_PREFIX, c->next_serial - c->pending_stamped++);
	proto_finish(&c->out, at, call_next_id(c), (uint8_t) command, 0);
	c->pending[(c->pending_head + c->pending_count++) % KV_OUTSTANDING_MAX] = (Pending){
		.end = c->stream_start + c->out.len, .size = (uint32_t) (c->out.len - at), .id = c->last_id,
		.command = (uint8_t) command, .write = write, .stamped = stamped };
}

/* The frame that begins at `at` is complete, if st is OK; else undo it. Unlocks. */
static int
append_end(kv_client *c, size_t at, Status st, ProtoCommand command, bool write, bool stamped)
{
	if (st == ST_OK && c->out.len - at - PROTO_HEADER_SIZE > KV_FRAME_MAX)
		st = status_fail(ST_BATCH_TOO_LARGE, "the request has %zu bytes; at most %d fit",
			c->out.len - at - PROTO_HEADER_SIZE, KV_FRAME_MAX);
	if (st == ST_OK)
		add_pending(c, at, command, write, stamped);
	else
		c->out.len = at;
	pthread_mutex_unlock(&c->lock);
	return st;
}

static int
append_op(kv_client *c, ProtoCommand command, int kind, kv_bytes key, kv_bytes value, const WriteOptions *o)
{
	bool conditional = kind == KIND_INCR || (o != NULL && o->condition != KV_IF_ALWAYS);
	bool stamped = encode_is_stamped(c, o, conditional);
	size_t at;
	Status st;

	KV_TRY(append_begin(c, &at, stamped));
	st = encode_write_prefix(c, &c->out, o, conditional);
	if (st == ST_OK)
		st = encode_op(&c->out, kind, key, value, o);
	return append_end(c, at, st, command, true, stamped);
}

int
kv_append_put(kv_client *c, kv_bytes key, kv_bytes value, const kv_write_options *o)
{
	return append_op(c, PROTO_PUT, KIND_PUT, key, value, o);
}

int
kv_append_delete(kv_client *c, kv_bytes key, const kv_write_options *o)
{
	return append_op(c, PROTO_DELETE, KIND_DELETE, key, (kv_bytes){ NULL, 0 }, o);
}

int
kv_append_drop_range(kv_client *c, const kv_range *r, const kv_write_options *o)
{
	WriteOptions options = drop_options(o);
	bool stamped = encode_is_stamped(c, &options, false);
	size_t at;
	Status st;

	KV_TRY(append_begin(c, &at, stamped));
	st = encode_write_prefix(c, &c->out, &options, false);
	if (st == ST_OK)
		st = encode_drop(&c->out, r);
	return append_end(c, at, st, PROTO_DELETE, true, stamped);
}

int
kv_append_incr(kv_client *c, kv_bytes key, int64_t step, const kv_write_options *o)
{
	uint8_t bytes[8];

	put_u64(bytes, (uint64_t) step);
	return append_op(c, PROTO_INCR, KIND_INCR, key, (kv_bytes){ bytes, sizeof bytes }, o);
}

int
kv_append_batch(kv_client *c, const kv_batch *b, const kv_write_options *o)
{
	bool stamped = encode_is_stamped(c, o, b->conditional);
	size_t at;
	Status st;

	KV_TRY(append_begin(c, &at, stamped));
	st = encode_write_prefix(c, &c->out, o, b->conditional);
	if (st == ST_OK)
		st = encode_batch(&c->out, b);
	return append_end(c, at, st, PROTO_BATCH, true, stamped);
}

int
kv_append_get(kv_client *c, kv_bytes key, const kv_read_options *o)
{
	size_t at;
	Status st;

	if (key.len == 0)
		return status_fail(ST_USAGE, "a key has at least one byte");
	if (key.len > KV_KEY_MAX)
		return status_fail(ST_KEY_TOO_LARGE, "the key has %zu bytes; at most %d are allowed", key.len, KV_KEY_MAX);
	KV_TRY(append_begin(c, &at, false));
	st = encode_read_prefix(c, &c->out, o);
	if (st == ST_OK)
		st = buf_append(&c->out, key.data, key.len);
	return append_end(c, at, st, PROTO_GET, false, false);
}

int
kv_append_ping(kv_client *c)
{
	size_t at;

	KV_TRY(append_begin(c, &at, false));
	return append_end(c, at, ST_OK, PROTO_PING, false, false);
}

size_t
kv_outstanding(kv_client *c)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->pending_count;
	pthread_mutex_unlock(&c->lock);
	return n;
}

int
kv_flush(kv_client *c)
{
	Status st = ST_OK;

	pthread_mutex_lock(&c->lock);
	if (c->pending_count > 0)
		st = drain(c, 0, deadline_in(c->options.timeout_ms));
	pthread_mutex_unlock(&c->lock);
	return st;
}

/* What an answer says, by command. PROTOCOL: too short. */
static Status
decode(const ProtoHeader *h, Slice payload, kv_reply *r)
{
	Reader in = reader_of(payload.data, payload.len);
	Slice text;

	if (h->status != ST_OK) {
		r->code = call_error(h->status, payload, &r->detail, &text);
		r->value = (kv_bytes){ text.data, text.len };
		return ST_OK;
	}
	if (r->command != PROTO_PING)
		r->version = read_u64(&in);
	if (r->command == PROTO_INCR)
		r->integer = (int64_t) read_u64(&in);
	if (r->command == PROTO_GET) {
		r->ttl_ms = read_u64(&in);
		r->value = (kv_bytes){ in.p, reader_left(&in) };
	}
	if (!reader_ok(&in))
		return status_fail(ST_PROTOCOL, "an answer to %s is shorter than it must be", proto_command_name(r->command));
	return ST_OK;
}

/* The reply to a request that will not be answered. */
static void
broken_reply(kv_client *c, const Pending *p, kv_reply *r)
{
	bool left = !p->gone && p->write && p->end <= c->stream_start + c->out_sent;

	r->code = p->doubt || left ? KV_OUTCOME_UNKNOWN : p->refused ? (int) c->broken : KV_CLOSED;
	r->value = (kv_bytes){ c->broken_text, strlen(c->broken_text) };
	(void) status_fail((Status) r->code, "%s", c->broken_text);
}

/* The answer says that the request was not done, or nobody knows: with the option retry it is to be sent again. */
static bool
to_be_sent_again(kv_client *c, Pending *p, const kv_reply *r)
{
	if (!c->options.retry || c->cancelled || !session_may_repeat((Status) r->code) || (p->write && !p->stamped))
		return false;
	p->doubt |= r->code == KV_OUTCOME_UNKNOWN && p->stamped;
	p->refused = r->code != KV_OUTCOME_UNKNOWN;
	return true;
}

/* A whole answer to the oldest request, if there is one. Breaks the connection when it is wrong. */
static bool
take_reply(kv_client *c, Pending *p, kv_reply *r)
{
	ProtoHeader h;
	Slice payload;
	bool have;
	Status st = io_take_frame(c, &h, &payload, &have);

	if (st == ST_OK && !have)
		return false;
	if (st == ST_OK && h.id == 0 && h.type == PROTO_ANSWER && h.status != ST_OK)
		st = call_error(h.status, payload, NULL, NULL);
	else if (st == ST_OK && (h.id != p->id || h.type != (r->command | PROTO_ANSWER)))
		st = status_fail(ST_PROTOCOL, "%s:%u gave an answer that belongs to no request", c->at.name, c->at.port);
	if (st == ST_OK)
		st = decode(&h, payload, r);
	if (st == ST_OK) {
		c->used_ns = clock_mono_ns();
		if (h.status == ST_NOT_LEADER)
			connect_follow(c, slice_of(r->value.data, r->value.len));
		if (h.status == ST_SESSION_EXPIRED && p->stamped)
			c->session = 0;
		if (!to_be_sent_again(c, p, r)) {
			r->code = p->stamped ? (int) session_verdict((Status) r->code, p->doubt, p->command) : r->code;
			return true;
		}
		/* So are those behind it, in their order. */
		st = (Status) r->code;
		(void) call_error(h.status, payload, NULL, NULL);
		*r = (kv_reply){ .command = p->command };
	}
	/* Nothing behind it can be trusted. */
	io_break(c, st);
	c->in_pos = c->in.len;
	return false;
}

/* Wait for the oldest reply. Broken connections are mended while there is time, where that is wanted. */
static void
await_reply(kv_client *c, Pending *p, kv_reply *r, uint64_t deadline)
{
	int pause_ms = RESUME_FIRST_MS;

	while (!p->gone) {
		Status st;

		if (take_reply(c, p, r))
			return;
		if (!c->eof) {
			st = io_step(c, c->options.retry ? call_try_deadline(c, deadline) : deadline);
			if (st != ST_OK) {
				if (c->options.retry)
					c->host = (c->host + 1) % c->options.host_count;
				io_break(c, st);
			}
			continue;
		}
		if (!c->options.retry)
			break;
		if (!c->cancelled && connect_pause(c, pause_ms, deadline) && pipeline_resume(c, deadline) == ST_OK)
			io_send_some(c);
		else
			pipeline_give_up(c);
		pause_ms = pause_ms * 2 < RESUME_MAX_MS ? pause_ms * 2 : RESUME_MAX_MS;
	}
	broken_reply(c, p, r);
}

int
kv_get_reply(kv_client *c, kv_reply *r)
{
	Pending *p;

	*r = (kv_reply){ 0 };
	pthread_mutex_lock(&c->lock);
	if (c->pending_count == 0) {
		pthread_mutex_unlock(&c->lock);
		return status_fail(ST_NOT_FOUND, "nothing is outstanding");
	}
	p = &c->pending[c->pending_head];
	r->command = p->command;
	if (io_unsent(c) > 0 && io_answers(c) == 0)
		io_send_some(c);
	await_reply(c, p, r, deadline_in(c->options.timeout_ms));
	c->pending_head = (c->pending_head + 1) % KV_OUTSTANDING_MAX;
	c->pending_count--;
	c->pending_stamped -= p->stamped;
	pthread_mutex_unlock(&c->lock);
	return KV_OK;
}
