/*
 * fetch_client.c - a small client of the client protocol (doc/protocol.md): one request, one answer.
 *
 * Fetcher process. It waits in poll(), bounded by FETCH_ANSWER_MS without a byte; no locks, no shared memory.
 */
#include <stdio.h>
#include <string.h>

#include "common/proto.h"
#include "fetch_internal.h"
#include "port/clock.h"
#include "port/net.h"
#include "replication/address.h"

#define FETCH_CONNECT_MS 3000
#define FETCH_ANSWER_MS 10000 /* without a byte: a leader's disk may be slow */
#define FETCH_CALM_US 2000    /* a megabyte from the page cache over loopback or a fast network */
#define FETCH_REST_MAX_US 50000
#define FETCH_NAME "kvd fetcher"
/* HELLO's answer, doc/protocol.md */
#define HELLO_HEAD 58
#define AT_CLUSTER_ID 32

static Status
broken(const char *what)
{
	return status_fail(ST_CLOSED, "the connection to the other node %s", what);
}

/* Wait until it can be read or written; TIMEOUT at the deadline. */
static Status
wait_for(const FetchClient *c, bool write, uint64_t until_ns)
{
	NetPoll p = { .fd = c->fd, .read = !write, .write = write };

	net_poll(&p, 1, until_ns);
	if (p.readable || p.writable || p.broken)
		return ST_OK;
	if (clock_mono_ns() >= until_ns)
		return status_fail(ST_TIMEOUT, "the other node did not answer within %d ms", FETCH_ANSWER_MS);
	return ST_OK; /* a signal */
}

static uint64_t
deadline(void)
{
	return clock_mono_ns() + UINT64_C(1000000) * FETCH_ANSWER_MS;
}

static Status
send_all(const FetchClient *c)
{
	uint64_t until = deadline();

	for (size_t at = 0; at < c->out.len;) {
		int n = net_send_some(c->fd, c->out.data + at, c->out.len - at);

		if (n < 0)
			return broken("was lost");
		if (n == 0)
			KV_TRY(wait_for(c, true, until));
		else
			until = deadline();
		at += (size_t) n;
	}
	return ST_OK;
}

/* Until `in` holds `want` bytes. */
static Status
receive(FetchClient *c, size_t want)
{
	uint64_t until = deadline();

	KV_TRY(buf_reserve(&c->in, want - (want < c->in.len ? want : c->in.len)));
	while (c->in.len < want) {
		ssize_t n = net_recv_some(c->fd, c->in.data + c->in.len, want - c->in.len);

		if (n < 0)
			return broken("was lost");
		if (n == 0)
			KV_TRY(wait_for(c, false, until));
		else
			until = deadline();
		c->in.len += (size_t) n;
	}
	return ST_OK;
}

/*
 * What it says instead of an answer. Its troubles are not ours: only what a caller asks about keeps its
 * code.
 */
static Status
told(const ProtoHeader *h, const uint8_t *payload)
{
	int len = h->length > 8 ? (int) (h->length - 8) : 0;
	const char *text = len > 0 ? (const char *) payload + 8 : "";

	if (h->status == ST_NOT_FOUND || h->status == ST_CONDITION_FAILED)
		return status_fail((Status) h->status, "%.*s", len, text);
	return status_fail(ST_CLOSED, "the other node says %s: %.*s", status_name(h->status), len, text);
}

static Status
call(FetchClient *c, int command, Slice payload, Slice *answer, bool *in_step)
{
	ProtoHeader h;
	size_t at;

	*in_step = false;
	c->out.len = c->in.len = 0;
	KV_TRY(proto_begin(&c->out, &at));
	KV_TRY(buf_append_slice(&c->out, payload));
	proto_finish(&c->out, at, ++c->id, (uint8_t) command, 0);
	KV_TRY(send_all(c));
	KV_TRY(receive(c, PROTO_HEADER_SIZE));
	proto_get_header(c->in.data, &h);
	if (h.length > KV_FRAME_MAX)
		return broken("is out of step");
	KV_TRY(receive(c, PROTO_HEADER_SIZE + (size_t) h.length));
	if (!proto_crc_ok(c->in.data, &h))
		return broken("brought a damaged answer");
	*in_step = h.id == c->id && h.type == (command | PROTO_ANSWER);
	if (h.status != ST_OK)
		return told(&h, c->in.data + PROTO_HEADER_SIZE);
	if (!*in_step)
		return broken("is out of step");
	*answer = slice_of(c->in.data + PROTO_HEADER_SIZE, h.length);
	return ST_OK;
}

Status
fetch_client_call(FetchClient *c, int command, Slice payload, Slice *answer)
{
	bool in_step;
	uint64_t begun_ns = clock_mono_ns();
	Status st = call(c, command, payload, answer, &in_step);

	c->took_us = (clock_mono_ns() - begun_ns) / 1000;

	if (!in_step)
		fetch_client_close(c);
	return st;
}

uint64_t
fetch_client_rest_us(const FetchClient *c)
{
	if (c->took_us < FETCH_CALM_US)
		return 0;
	return c->took_us < FETCH_REST_MAX_US ? c->took_us : FETCH_REST_MAX_US;
}

static Status
greet(FetchClient *c, const Control *self)
{
	uint8_t hello[10 + sizeof FETCH_NAME - 1] = { 0 };
	Slice answer;

	memcpy(hello, PROTO_MAGIC, 4);
	put_u16(hello + 4, PROTO_VERSION);
	put_u16(hello + 6, PROTO_HELLO_ADMIN); /* a follower that catches up must not wait for clients to leave */
	put_u16(hello + 8, sizeof FETCH_NAME - 1);
	memcpy(hello + 10, FETCH_NAME, sizeof FETCH_NAME - 1);
	KV_TRY(fetch_client_call(c, PROTO_HELLO, slice_of(hello, sizeof hello), &answer));
	if (answer.len < HELLO_HEAD)
		return broken("is out of step");
	if (memcmp(answer.data + AT_CLUSTER_ID, self->cluster_id, sizeof self->cluster_id) != 0)
		return status_fail(ST_FOREIGN, "a node of another cluster answered");
	return ST_OK;
}

Status
fetch_client_open(FetchClient *c, const char *address, const Control *self)
{
	char host[MEMBERSHIP_ADDRESS_MAX + 1];
	uint16_t port;
	Status st;

	fetch_client_close(c);
	KV_TRY(address_split(address, 0, host, &port));
	KV_TRY(net_connect(host, port, FETCH_CONNECT_MS, &c->fd));
	net_tune(c->fd, 0, FETCH_ANSWER_MS);
	st = greet(c, self);
	if (st != ST_OK)
		fetch_client_close(c);
	return st;
}

void
fetch_client_close(FetchClient *c)
{
	if (c->fd >= 0)
		net_close(c->fd);
	c->fd = -1;
	buf_free(&c->out);
	buf_free(&c->in);
}
