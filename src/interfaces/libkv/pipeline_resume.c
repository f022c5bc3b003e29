/*
 * pipeline_resume.c - a pipeline whose connection broke goes on over another one.
 *
 * Runs in the client's threads, with the handle's lock held, when the option retry is set: then the frames of all
 * requests whose replies were not taken are still in c->out. Reads and stamped writes (session.c) are sent again, in
 * their order; writes with a weak acknowledgement, which have no stamp, only if they had not left.
 */
#include "libkv_internal.h"

static Pending *
nth(kv_client *c, size_t i)
{
	return &c->pending[(c->pending_head + i) % KV_OUTSTANDING_MAX];
}

/* What the break means for each. The oldest one may have been refused by an answer: then this copy is in no doubt. */
static void
judge_break(kv_client *c)
{
	uint64_t left = c->stream_start + c->out_sent;

	for (size_t i = 0; i < c->pending_count; i++) {
		Pending *p = nth(c, i);

		if (p->gone || p->end > left || !p->write)
			continue;
		p->gone = !p->stamped;
		p->doubt |= !p->refused;
	}
}

/* The session is over, or another cluster answers at this address: its stamps say nothing there. */
static void
leave_session(kv_client *c)
{
	for (size_t i = 0; i < c->pending_count; i++)
		nth(c, i)->gone |= nth(c, i)->stamped;
}

/* Frames that are still wanted move together; all of them are unsent. */
static void
rewind_stream(kv_client *c)
{
	size_t at = 0;

	for (size_t i = 0; i < c->pending_count; i++) {
		Pending *p = nth(c, i);

		if (p->gone)
			continue;
		memmove(c->out.data + at, c->out.data + (p->end - p->size - c->stream_start), p->size);
		p->refused = false;
		at += p->size;
	}
	/* Only now: the places above are those of the old stream. */
	c->out.len = at;
	c->out_sent = 0;
	c->stream_start = 0;
	at = 0;
	for (size_t i = 0; i < c->pending_count; i++) {
		Pending *p = nth(c, i);

		if (!p->gone)
			p->end = at += p->size;
	}
}

void
pipeline_give_up(kv_client *c)
{
	judge_break(c);
	for (size_t i = 0; i < c->pending_count; i++)
		nth(c, i)->gone = true;
}

Status
pipeline_resume(kv_client *c, uint64_t deadline_ns)
{
	Status why = c->broken;
	char text[STATUS_DETAIL_MAX];
	Status st;

	memcpy(text, c->broken_text, sizeof text);
	judge_break(c);
	st = connect_ensure(c, deadline_ns);
	if (st == ST_OK) {
		if (!session_stands(c))
			leave_session(c);
		rewind_stream(c);
		return ST_OK;
	}
	(void) status_fail(why, "%s, and connecting again failed", text);
	io_break(c, why);
	return st;
}
