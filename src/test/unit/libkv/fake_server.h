/*
 * fake_server.h - a server for tests of libkv, that misbehaves on order.
 *
 * One thread serves one connection after the other on a loopback port of the system's choice. What it does on its
 * n-th connection is told by a function of the test; fake_polite() answers as doc/protocol.md says, from a fixed
 * set of keys "k00" to "k09" with values "v00" to "v09".
 */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/proto.h"
#include "kv.h"
#include "port/net.h"

#define FAKE_KEYS 10
#define FAKE_PAGE 3 /* entries in a page, keys in a step */

typedef struct Fake Fake;
/* Serve connection number n (from 0); the socket is closed afterwards. */
typedef void (*FakeFn)(Fake *f, int fd, int n);

struct Fake {
	FakeFn serve;
	int listen_fd;
	uint16_t port;
	pthread_t thread;
	_Atomic int connections;
	_Atomic int closed;         /* connections that the server has closed */
	_Atomic int requests;       /* hello not counted */
	_Atomic bool stop;
	char other[64];             /* "host:port" for NOT_LEADER answers */
	uint8_t cluster;            /* its id: so many bytes of this value */
	bool sparse;                /* of three keys two are gone, and two are looked at for a page */
	_Atomic int sessions;       /* opened; not counted as requests */
	Buf last;                   /* payload of the last request; the test reads it when the server has answered */
	pthread_mutex_t lock;       /* of what stands from here on */
	int current;                /* socket being served, -1 none: fake_stop() wakes it */
};

static __attribute__((unused)) bool
fake_read(int fd, void *out, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, (char *) out + got, len - got, 0);

		if (n <= 0)
			return false;
		got += (size_t) n;
	}
	return true;
}

static __attribute__((unused)) bool
fake_write(int fd, const void *data, size_t len)
{
	for (size_t sent = 0; sent < len;) {
		ssize_t n = send(fd, (const char *) data + sent, len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		sent += (size_t) n;
	}
	return true;
}

/* The next request into f->last. */
static __attribute__((unused)) bool
fake_request(Fake *f, int fd, ProtoHeader *h)
{
	uint8_t header[PROTO_HEADER_SIZE];

	if (!fake_read(fd, header, sizeof header))
		return false;
	proto_get_header(header, h);
	buf_clear(&f->last);
	if (buf_reserve(&f->last, PROTO_HEADER_SIZE + h->length) != ST_OK)
		abort();
	memcpy(f->last.data, header, sizeof header);
	if (!fake_read(fd, f->last.data + PROTO_HEADER_SIZE, h->length))
		return false;
	if (!proto_crc_ok(f->last.data, h))
		abort();
	memmove(f->last.data, f->last.data + PROTO_HEADER_SIZE, h->length);
	f->last.len = h->length;
	if (h->type == PROTO_SESSION)
		f->sessions++;
	else if (h->type != PROTO_HELLO)
		f->requests++;
	return true;
}

/* A frame around a payload. */
static __attribute__((unused)) bool
fake_frame(int fd, const ProtoHeader *h, uint16_t status, const void *payload, size_t len)
{
	Buf b = { 0 };
	size_t at;
	bool ok;

	if (proto_begin(&b, &at) != ST_OK || buf_append(&b, payload, len) != ST_OK)
		abort();
	proto_finish(&b, at, h->id, (uint8_t) (h->type | PROTO_ANSWER), status);
	ok = fake_write(fd, b.data, b.len);
	buf_free(&b);
	return ok;
}

static __attribute__((unused)) bool
fake_error(int fd, const ProtoHeader *h, Status code, uint64_t detail, const char *text)
{
	Buf b = { 0 };
	bool ok;

	if (proto_error(&b, h->id, (uint8_t) (h->type | PROTO_ANSWER), code, detail, text) != ST_OK)
		abort();
	ok = fake_write(fd, b.data, b.len);
	buf_free(&b);
	return ok;
}

static __attribute__((unused)) bool
fake_hello(Fake *f, int fd)
{
	uint8_t p[58 + 5] = { 0 };
	ProtoHeader h;

	if (!fake_request(f, fd, &h) || h.type != PROTO_HELLO)
		return false;
	put_u16(p, 1);
	put_u16(p + 2, 1);
	put_u32(p + 4, KV_KEY_MAX);
	put_u32(p + 8, KV_VALUE_MAX);
	put_u32(p + 12, KV_FRAME_MAX);
	put_u32(p + 16, KV_BATCH_OPS_MAX);
	p[20] = 1;
	put_u64(p + 24, 7);
	memset(p + 32, f->cluster, 16);
	put_u16(p + 56, 5);
	memcpy(p + 58, "0.1.0", 5);
	return fake_frame(fd, &h, 0, p, sizeof p);
}

static inline void
fake_append(Buf *b, const void *data, size_t len)
{
	if (buf_append(b, data, len) != ST_OK)
		abort();
}

static inline void
fake_u64(Buf *b, uint64_t v)
{
	uint8_t p[8];

	put_u64(p, v);
	fake_append(b, p, 8);
}

/* Is key i in the range of the request? */
static inline bool
fake_in(int i, Slice start, Slice end, uint32_t flags, char key[4])
{
	memcpy(key, "k00", 4);
	key[2] = (char) ('0' + i);
	if (slice_cmp(slice_str(key), start) < 0 || ((flags & PROTO_RANGE_AFTER_START) != 0 &&
		slice_eq(slice_str(key), start)))
		return false;
	return (flags & PROTO_RANGE_UNBOUNDED) != 0 || slice_cmp(slice_str(key), end) < 0;
}

/* SCAN and COUNT, FAKE_PAGE keys at a time. */
static inline void
fake_scan(Fake *f, int fd, const ProtoHeader *h)
{
	Reader r = reader_of(f->last.data + 24, f->last.len - 24);
	uint32_t limit = read_u32(&r), flags, s, n, count = 0, looked = 0;
	Slice start, end;
	uint8_t more = 0;
	Buf b = { 0 }, answer = { 0 };
	char key[4], last[4] = "";

	(void) read_u32(&r);
	flags = read_u32(&r);
	s = read_u32(&r);
	n = read_u32(&r);
	start = read_bytes(&r, s);
	end = read_bytes(&r, n);
	limit = limit == 0 || limit > FAKE_PAGE ? FAKE_PAGE : limit;
	fake_u64(&answer, 4711);
	for (int i = 0; i < FAKE_KEYS; i++) {
		bool reverse = (flags & PROTO_SCAN_REVERSE) != 0;
		uint8_t lengths[8];

		if (!fake_in(reverse ? FAKE_KEYS - 1 - i : i, start, end, flags, key))
			continue;
		if (count == limit || (f->sparse && looked == 2)) {
			more = f->sparse && looked == 2 ? PROTO_MORE_BEHIND : PROTO_MORE;
			break;
		}
		looked++;
		memcpy(last, key, 4);
		if (f->sparse && key[2] % 3 != 0)
			continue;
		count++;
		put_u32(lengths, 3);
		put_u32(lengths + 4, (flags & PROTO_SCAN_KEYS_ONLY) != 0 ? 0 : 3);
		fake_append(&b, lengths, 8);
		fake_u64(&b, 100);
		fake_u64(&b, 0);
		fake_append(&b, key, 3);
		key[0] = 'v';
		if ((flags & PROTO_SCAN_KEYS_ONLY) == 0)
			fake_append(&b, key, 3);
	}
	if (h->type == PROTO_COUNT) {
		fake_u64(&answer, count);
		fake_u64(&answer, more != 0);
	} else {
		fake_u64(&answer, (uint64_t) count | (uint64_t) more << 32);
		fake_append(&answer, b.data, b.len);
	}
	if (more == PROTO_MORE_BEHIND || (more != 0 && h->type == PROTO_COUNT))
		fake_append(&answer, last, 3);
	fake_frame(fd, h, 0, answer.data, answer.len);
	buf_free(&b);
	buf_free(&answer);
}

/* DELETE_RANGE: nothing is deleted, steps of FAKE_PAGE keys are told. */
static inline void
fake_delete_range(Fake *f, int fd, const ProtoHeader *h)
{
	Reader r = reader_of(f->last.data + 12, f->last.len - 12);
	uint32_t flags = read_u32(&r), s = read_u32(&r), n = read_u32(&r);
	Slice start = read_bytes(&r, s), end = read_bytes(&r, n);
	Buf b = { 0 };
	uint64_t count = 0;
	char key[4], next[4] = "";

	for (int i = 0; i < FAKE_KEYS && next[0] == '\0'; i++) {
		if (!fake_in(i, start, end, flags, key))
			continue;
		if (count == FAKE_PAGE)
			memcpy(next, key, 4);
		else
			count++;
	}
	fake_u64(&b, 55);
	fake_u64(&b, count);
	fake_u64(&b, next[0] != '\0');
	fake_append(&b, next, strlen(next));
	fake_frame(fd, h, 0, b.data, b.len);
	buf_free(&b);
}

/* Two keys an answer, so that the client has to ask again. */
static inline void
fake_mget(Fake *f, int fd, const ProtoHeader *h)
{
	Reader r = reader_of(f->last.data + PROTO_READ_PREFIX, f->last.len - PROTO_READ_PREFIX);
	uint32_t n = read_u32(&r);
	Buf b = { 0 };

	(void) read_u32(&r);
	n = n > 2 ? 2 : n;
	fake_u64(&b, 99);
	fake_u64(&b, n);
	for (uint32_t i = 0; i < n; i++) {
		Slice key = read_bytes(&r, read_u32(&r));
		bool found = key.len == 3 && key.data[0] == 'k';
		uint8_t head[8] = { found };

		put_u32(head + 4, found ? 3 : 0);
		fake_append(&b, head, 8);
		fake_u64(&b, found ? 100 : 0);
		fake_u64(&b, 0);
		if (found) {
			fake_append(&b, "v", 1);
			fake_append(&b, key.data + 1, 2);
		}
	}
	fake_frame(fd, h, 0, b.data, b.len);
	buf_free(&b);
}

/* One request, answered well. */
static __attribute__((unused)) bool
fake_answer(Fake *f, int fd, const ProtoHeader *h)
{
	uint8_t p[32 + 3] = { 0 };

	put_u64(p, 100);
	put_u64(p + 8, 0);
	switch (h->type) {
	case PROTO_GET:
		if (f->last.len != PROTO_READ_PREFIX + 3 || f->last.data[PROTO_READ_PREFIX] != 'k')
			return fake_error(fd, h, ST_NOT_FOUND, f->last.data[0] == 2 ? 4711 : 0, "no such key");
		if (f->last.data[0] == 2) { /* position and lag in front */
			put_u64(p, 4712);
			put_u32(p + 8, 13);
			p[32] = 'v';
			memcpy(p + 33, f->last.data + PROTO_READ_PREFIX + 1, 2);
			return fake_frame(fd, h, 0, p, 35);
		}
		p[16] = 'v';
		memcpy(p + 17, f->last.data + PROTO_READ_PREFIX + 1, 2);
		return fake_frame(fd, h, 0, p, 19);
	case PROTO_PUT:
	case PROTO_DELETE:
	case PROTO_BATCH:
	case PROTO_CHECKPOINT:
		return fake_frame(fd, h, 0, p, 8);
	case PROTO_INCR:
		put_u64(p + 8, get_u64(f->last.data + f->last.len - 8) + 1);
		return fake_frame(fd, h, 0, p, 16);
	case PROTO_SESSION:
		put_u64(p, 1000 + (uint64_t) f->sessions);
		put_u64(p + 8, get_u64(f->last.data + 8));
		return fake_frame(fd, h, 0, p, 16);
	case PROTO_PING:
	case PROTO_STATS:
	case PROTO_CONFIG:
		return fake_frame(fd, h, 0, f->last.data, f->last.len);
	case PROTO_SCAN:
	case PROTO_COUNT:
		fake_scan(f, fd, h);
		return true;
	case PROTO_MGET:
		fake_mget(f, fd, h);
		return true;
	case PROTO_DELETE_RANGE:
		fake_delete_range(f, fd, h);
		return true;
	default:
		return fake_error(fd, h, ST_UNKNOWN_COMMAND, 0, "what?");
	}
}

static __attribute__((unused)) void
fake_polite(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h) && fake_answer(f, fd, &h))
		;
}

static void *
fake_main(void *arg)
{
	Fake *f = arg;

	while (!f->stop) {
		int fd = accept(f->listen_fd, NULL, NULL);

		if (fd < 0)
			break;
		pthread_mutex_lock(&f->lock);
		f->current = fd;
		if (f->stop)
			shutdown(fd, SHUT_RDWR);
		pthread_mutex_unlock(&f->lock);
		f->serve(f, fd, f->connections++);
		pthread_mutex_lock(&f->lock);
		f->current = -1;
		close(fd);
		pthread_mutex_unlock(&f->lock);
		f->closed++;
	}
	return NULL;
}

static __attribute__((unused)) void
fake_start(Fake *f, FakeFn serve)
{
	int n, fd;

	*f = (Fake){ .serve = serve, .current = -1 };
	pthread_mutex_init(&f->lock, NULL);
	assert_int_equal(net_listen("127.0.0.1", 0, 16, &f->listen_fd, 1, &n, &f->port), ST_OK);
	/* net_listen() gives non-blocking sockets; this thread has nothing else to do. */
	fd = fcntl(f->listen_fd, F_GETFL);
	assert_int_equal(fcntl(f->listen_fd, F_SETFL, fd & ~O_NONBLOCK), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

static __attribute__((unused)) void
fake_stop(Fake *f)
{
	f->stop = true;
	pthread_mutex_lock(&f->lock);
	if (f->current >= 0)
		shutdown(f->current, SHUT_RDWR);
	pthread_mutex_unlock(&f->lock);
	shutdown(f->listen_fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listen_fd);
	buf_free(&f->last);
	pthread_mutex_destroy(&f->lock);
}

/* A URI of one or two fakes. */
static __attribute__((unused)) const char *
fake_uri(const Fake *a, const Fake *b, const char *options)
{
	static char uri[256];
	char second[32] = "";

	if (b != NULL)
		snprintf(second, sizeof second, ",127.0.0.1:%u", b->port);
	snprintf(uri, sizeof uri, "kv://127.0.0.1:%u%s/%s", a->port, second, options);
	return uri;
}

#endif
