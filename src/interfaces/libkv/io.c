/*
 * io.c - the socket and its two buffers.
 *
 * Runs in the client's threads, with the handle's lock held.
 *
 * Invariants:
 *  1. The socket never blocks; whoever waits does it in io_step(), which takes what can be read whenever
 *     requests wait to be sent. So a server that stops reading until its answers are taken can't stall us.
 *  2. c->eof: the socket is closed; what it brought is still in c->in.
 *  3. c->in holds less than KV_ANSWERS_MAX plus one frame and one read.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libkv_internal.h"
#include "port/clock.h"

#define READ_SIZE 65536 /* a read asks for at least so much: one system call for many small answers */

uint64_t
deadline_in(int timeout_ms)
{
	return clock_mono_ns() + (uint64_t) timeout_ms * 1000000;
}

int
deadline_left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns();

	return now >= deadline_ns ? 0 : (int) ((deadline_ns - now + 999999) / 1000000);
}

Status
io_attach(kv_client *c, int fd)
{
	if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
		Status st = status_fail_errno(ST_IO_ERROR, "cannot prepare the socket");

		close(fd);
		return st;
	}
	c->fd = fd;
	c->eof = false;
	c->broken = ST_OK;
	c->in_pos = 0;
	buf_clear(&c->in);
	c->used_ns = clock_mono_ns();
	return ST_OK;
}

static void
close_socket(kv_client *c)
{
	int fd = atomic_exchange(&c->fd, -1);

	/* Nothing depends on how the close of a socket ends. */
	if (fd >= 0)
		(void) close(fd);
}

void
io_close(kv_client *c)
{
	close_socket(c);
	c->eof = false;
	c->broken = ST_OK;
	c->in_pos = 0;
	buf_clear(&c->in);
}

void
io_break(kv_client *c, Status st)
{
	close_socket(c);
	c->eof = true;
	c->broken = st;
	memcpy(c->broken_text, status_detail(), strlen(status_detail()) + 1);
}

bool
io_is_stale(kv_client *c)
{
	char byte;
	ssize_t n;

	if (c->fd < 0 || c->eof)
		return true;
	n = recv(c->fd, &byte, 1, MSG_PEEK);
	return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

size_t
io_unsent(const kv_client *c)
{
	return c->out.len - c->out_sent;
}

size_t
io_answers(const kv_client *c)
{
	return c->in.len - c->in_pos;
}

/* Bytes that the frame at the head of `in` still lacks; at least READ_SIZE. */
static size_t
read_want(const kv_client *c)
{
	size_t have = io_answers(c);
	size_t whole;

	if (have < PROTO_HEADER_SIZE)
		return READ_SIZE;
	whole = PROTO_HEADER_SIZE + (size_t) get_u32(c->in.data + c->in_pos);
	if (whole > PROTO_HEADER_SIZE + KV_FRAME_MAX || whole < have + READ_SIZE)
		return READ_SIZE;
	return whole - have;
}

static Status
make_room(kv_client *c, size_t want)
{
	if (c->in_pos > 0 && c->in.cap - c->in.len < want) {
		memmove(c->in.data, c->in.data + c->in_pos, io_answers(c));
		c->in.len -= c->in_pos;
		c->in_pos = 0;
	}
	return buf_reserve(&c->in, want);
}

/* One read. False: nothing is there now, or the connection is over. */
static bool
take_some(kv_client *c)
{
	ssize_t n;
	Status st;

	if (c->in_pos == c->in.len) {
		c->in_pos = 0;
		buf_clear(&c->in);
	}
	st = make_room(c, read_want(c));
	if (st != ST_OK) {
		io_break(c, st);
		return false;
	}
	n = recv(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len, 0);
	if (n > 0) {
		c->in.len += (size_t) n;
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	if (n == 0)
		io_break(c, status_fail(ST_CLOSED, "%s:%u closed the connection", c->at.name, c->at.port));
	else
		io_break(c, status_fail_errno(ST_CLOSED, "connection to %s:%u broke", c->at.name, c->at.port));
	return false;
}

void
io_send_some(kv_client *c)
{
	while (!c->eof && io_unsent(c) > 0) {
		ssize_t n = send(c->fd, c->out.data + c->out_sent, io_unsent(c), MSG_NOSIGNAL);

		if (n >= 0) {
			c->out_sent += (size_t) n;
			continue;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return;
		/* The server may have said why before it closed: take what is there first. */
		(void) status_fail_errno(ST_CLOSED, "connection to %s:%u broke", c->at.name, c->at.port);
		for (int reads = 0; reads < 1000 && take_some(c); reads++)
			;
		if (!c->eof)
			io_break(c, ST_CLOSED);
		return;
	}
}

Status
io_step(kv_client *c, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = c->fd };
	int rc;

	if (c->eof)
		return ST_OK;
	if (c->cancelled) {
		io_break(c, status_fail(ST_CLOSED, "cancelled"));
		return ST_OK;
	}
	/* A frame that is larger than the bound is read to its end all the same. */
	if (io_answers(c) < KV_ANSWERS_MAX || read_want(c) > READ_SIZE)
		p.events = POLLIN;
	if (io_unsent(c) > 0)
		p.events |= POLLOUT;
	rc = poll(&p, 1, deadline_left_ms(deadline_ns));
	if (rc < 0 && errno != EINTR)
		return status_fail_errno(ST_IO_ERROR, "cannot wait for the socket");
	if (rc == 0 && deadline_left_ms(deadline_ns) == 0)
		return status_fail(ST_TIMEOUT, "no answer from %s:%u in time", c->at.name, c->at.port);
	if (rc <= 0)
		return ST_OK;
	if ((p.events & POLLIN) != 0 && (p.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
		(void) take_some(c);
	if (!c->eof && (p.revents & (POLLOUT | POLLERR | POLLHUP)) != 0)
		io_send_some(c);
	return ST_OK;
}

Status
io_ask(kv_client *c, const uint8_t *frame, size_t len, uint64_t deadline_ns, ProtoHeader *h, Slice *payload)
{
	size_t sent = c->out_sent;
	bool have = false;
	Status st = ST_OK;

	/* A socket with nothing under way takes these few bytes at once, or it is broken. */
	if (send(c->fd, frame, len, MSG_NOSIGNAL) != (ssize_t) len) {
		io_break(c, status_fail_errno(ST_CLOSED, "connection to %s:%u broke at once", c->at.name, c->at.port));
		return ST_CLOSED;
	}
	c->out_sent = c->out.len; /* hidden from io_step() */
	while (st == ST_OK && !have) {
		st = io_take_frame(c, h, payload, &have);
		if (st == ST_OK && !have && c->eof)
			st = status_fail(c->broken, "%s", c->broken_text);
		if (st == ST_OK && !have)
			st = io_step(c, deadline_ns);
	}
	c->out_sent = sent;
	return st;
}

Status
io_take_frame(kv_client *c, ProtoHeader *h, Slice *payload, bool *have)
{
	const uint8_t *p = c->in.data + c->in_pos;

	*have = false;
	if (io_answers(c) < PROTO_HEADER_SIZE)
		return ST_OK;
	proto_get_header(p, h);
	if (h->length > KV_FRAME_MAX || (h->type & PROTO_ANSWER) == 0)
		return status_fail(ST_PROTOCOL, "%s:%u does not speak kvd's protocol", c->at.name, c->at.port);
	if (io_answers(c) < PROTO_HEADER_SIZE + (size_t) h->length)
		return ST_OK;
	if (!proto_crc_ok(p, h))
		return status_fail(ST_PROTOCOL, "an answer from %s:%u was damaged on its way (checksum)", c->at.name,
			c->at.port);
	*payload = slice_of(p + PROTO_HEADER_SIZE, h->length);
	c->in_pos += PROTO_HEADER_SIZE + (size_t) h->length;
	*have = true;
	return ST_OK;
}
