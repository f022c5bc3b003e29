/*
 * session_io.c - a session's bytes: receive what is there, send what has gathered.
 *
 * Buffers start small, grow with what really arrives and are given back after large requests, so that an
 * idle connection costs little. A client that stalls inside a request, or does not take its answers,
 * is left after client_timeout; one that is silent between requests after idle_timeout. After client_timeout
 * of silence the process lets go of deleted files.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/childsig.h"
#include "port/clock.h"
#include "session.h"

#define IN_START_BYTES 16384
/* More than this is given back when the buffer is empty. */
#define KEEP_BYTES 65536
/* A request that takes longer than client_timeout must keep at least this pace: large values over slow lines. */
#define SLOWEST_BYTES_PER_SECOND 16384

/* Make room: move what is left to the front, grow when full. */
static Status
make_room(Session *s)
{
	size_t left = s->in.len - s->in_at;

	if (s->in_at > 0) {
		memmove(s->in.data, s->in.data + s->in_at, left);
		s->in.len = left;
		s->in_at = 0;
	}
	if (s->in.cap == s->in.len)
		return buf_reserve(&s->in, s->in.cap == 0 ? IN_START_BYTES : s->in.cap);
	return ST_OK;
}

/* Is an incomplete request taking too long? */
static bool
too_slow(const Session *s)
{
	uint64_t bytes = s->in.len - s->in_at;
	uint64_t allowed_ms = (uint64_t) config.client_timeout + bytes * 1000 / SLOWEST_BYTES_PER_SECOND;

	return s->frame_since_ns != 0 && clock_mono_ns() - s->frame_since_ns > allowed_ms * 1000000;
}

static Status
wait_over(Session *s, uint64_t idle_since_ns)
{
	if (too_slow(s) || s->discard > 0)
		return status_fail(ST_CLOSED, "client stalled inside a request");
	if (s->frame_since_ns == 0 && config.idle_timeout > 0 &&
		clock_mono_ns() - idle_since_ns > (uint64_t) config.idle_timeout * 1000000)
		return status_fail(ST_CLOSED, "client idle for longer than idle_timeout");
	return ST_OK;
}

Status
session_receive(Session *s)
{
	uint64_t idle_since_ns = config.idle_timeout > 0 ? clock_mono_ns() : 0;

	KV_TRY(make_room(s));
	for (;;) {
		ssize_t n = recv(s->fd, s->in.data + s->in.len, s->in.cap - s->in.len, 0);

		if (n > 0) {
			s->in.len += (size_t) n;
			s->now = 0;
			count_bytes((uint64_t) n, 0);
			return too_slow(s) ? status_fail(ST_CLOSED, "client sends a request too slowly") : ST_OK;
		}
		if (n == 0)
			return status_fail(ST_CLOSED, "client closed the connection");
		if (errno == EAGAIN || errno == EWOULDBLOCK) {
			KV_TRY(wait_over(s, idle_since_ns));
			kvstore_release_files();
		} else if (errno != EINTR)
			return status_fail_errno(ST_CLOSED, "cannot receive from the client");
		if (child_reload)
			return ST_OK;
	}
}

Status
session_send(Session *s)
{
	size_t done = 0;

	while (done < s->out.len) {
		ssize_t n = send(s->fd, s->out.data + done, s->out.len - done, MSG_NOSIGNAL);

		if (n >= 0)
			done += (size_t) n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return status_fail(ST_CLOSED, "client does not take its answers");
		else if (errno != EINTR)
			return status_fail_errno(ST_CLOSED, "cannot send to the client");
	}
	count_bytes(0, done);
	buf_clear(&s->out);
	return ST_OK;
}

void
session_shrink(Session *s)
{
	if (s->out.cap > KEEP_BYTES)
		buf_free(&s->out);
	if (s->in.cap > KEEP_BYTES && s->in_at == s->in.len) {
		buf_free(&s->in);
		s->in_at = 0;
	}
	if (s->run.body.cap > KEEP_BYTES || s->run.pending.cap > KEEP_BYTES)
		write_run_free(&s->run);
	if (s->key.cap > KEEP_BYTES)
		buf_free(&s->key);
	forward_shrink(&s->forward, KEEP_BYTES);
}
