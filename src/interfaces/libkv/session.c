/*
 * session.c - writes that may be sent again: the session at the server, and what its answers mean (doc/protocol.md,
 * SESSION).
 *
 * Runs in the client's threads. A session is opened when the first write needs one, renewed after half of its life
 * when nothing is under way, and left to end by itself: closing it would cost every short program a write.
 *
 * Invariants:
 *  1. A serial is used for one write only; copies of it are byte for byte the same but for the deadline.
 *  2. `doubt`: a copy has left whole, and no answer came that says that it was not done. As long as there is none
 *     the write was not done, whatever else went wrong.
 */
#include <stdio.h>

#include "libkv_internal.h"
#include "port/clock.h"

#define SESSION_REQUEST 16
#define OPEN_PAUSE_FIRST_MS 5
#define OPEN_PAUSE_MAX_MS 200
/* A session outlives the calls that use it by so much; less, and a slow call could meet its end. */
#define TTL_TIMEOUTS 4

bool
session_stands(const kv_client *c)
{
	return c->session != 0 && memcmp(c->session_cluster, c->info.cluster_id, sizeof c->session_cluster) == 0;
}

bool
session_usable(const kv_client *c)
{
	return session_stands(c) && clock_mono_ns() < c->session_until_ns;
}

/* REQUIRES a connection on which nothing is outstanding. */
static Status
open_session(kv_client *c, uint64_t deadline_ns)
{
	uint8_t frame[PROTO_HEADER_SIZE + SESSION_REQUEST] = { 0 };
	uint64_t now = clock_mono_ns();
	uint64_t ttl = (uint64_t) c->options.timeout_ms * TTL_TIMEOUTS;
	ProtoHeader h;
	Slice answer;
	Status st;

	ttl = ttl < PROTO_SESSION_TTL ? PROTO_SESSION_TTL : ttl > PROTO_SESSION_TTL_MAX ? PROTO_SESSION_TTL_MAX : ttl;
	frame[PROTO_HEADER_SIZE] = PROTO_SESSION_OPEN;
	put_u32(frame + PROTO_HEADER_SIZE + 4, (uint32_t) deadline_left_ms(deadline_ns));
	put_u64(frame + PROTO_HEADER_SIZE + 8, ttl);
	proto_put_header(frame, SESSION_REQUEST, call_next_id(c), PROTO_SESSION, 0);
	st = io_ask(c, frame, sizeof frame, call_try_deadline(c, deadline_ns), &h, &answer);
	if (st == ST_OK && h.id != 0 && h.id != c->last_id)
		st = status_fail(ST_PROTOCOL, "%s:%u gave an answer that belongs to no request", c->at.name, c->at.port);
	if (st == ST_OK && h.status != ST_OK) {
		Slice text;

		st = call_error(h.status, answer, NULL, &text);
		if (st == ST_NOT_LEADER)
			connect_follow(c, text);
	} else if (st == ST_OK && answer.len < 16)
		st = call_short_answer(c, PROTO_SESSION);
	if (st != ST_OK)
		return st;
	c->session = get_u64(answer.data);
	c->session_until_ns = now + get_u64(answer.data + 8) / 2 * 1000000;
	memcpy(c->session_cluster, c->info.cluster_id, sizeof c->session_cluster);
	c->next_serial = 1;
	return ST_OK;
}

Status
session_ready(kv_client *c, uint64_t deadline_ns)
{
	int pause_ms = OPEN_PAUSE_FIRST_MS;

	for (;;) {
		Status st = connect_ensure(c, deadline_ns);

		if (st != ST_OK || session_usable(c))
			return st;
		c->session = 0;
		st = open_session(c, deadline_ns);
		if (st == ST_OK)
			return ST_OK;
		if (st != ST_BUSY) {
			io_close(c);
			if (st != ST_NOT_LEADER)
				c->host = (c->host + 1) % c->options.host_count;
		}
		/* Nothing has been written: a session that was opened and not heard of ends by itself. */
		if (!(session_may_repeat(st) || st == ST_CLOSED) || !connect_pause(c, pause_ms, deadline_ns))
			return st == ST_OUTCOME_UNKNOWN
				? status_fail(ST_TIMEOUT, "no session could be opened in time, nothing was written") : st;
		pause_ms = pause_ms * 2 < OPEN_PAUSE_MAX_MS ? pause_ms * 2 : OPEN_PAUSE_MAX_MS;
	}
}

void
session_stamp(kv_client *c, uint8_t *stamp, uint64_t confirmed)
{
	put_u64(stamp, c->session);
	put_u64(stamp + 8, c->next_serial++);
	put_u64(stamp + 16, confirmed);
}

bool
session_may_repeat(Status st)
{
	return st == ST_NOT_LEADER || st == ST_STARTING || st == ST_SHUTTING_DOWN || st == ST_BUSY || st == ST_TIMEOUT ||
		st == ST_OUTCOME_UNKNOWN;
}

/* Answers that the session keeps: what they say is true of all copies. */
static bool
is_kept(Status st)
{
	return st == ST_OK || st == ST_NOT_FOUND || st == ST_CONDITION_FAILED || st == ST_NOT_INTEGER ||
		st == ST_OUT_OF_RANGE;
}

Status
session_verdict(Status st, bool doubt, ProtoCommand command)
{
	char why[STATUS_DETAIL_MAX];

	if (!doubt || is_kept(st))
		return st;
	snprintf(why, sizeof why, "%s", status_detail());
	return status_fail(ST_OUTCOME_UNKNOWN, "the %s was sent, and what became of it could not be learned in time: %s",
		proto_command_name(command), why);
}
