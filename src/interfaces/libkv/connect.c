/*
 * connect.c - the handle, the hosts it knows, and the hello.
 *
 * Runs in the client's threads. Every connection attempt gets a fair part of the time that is left, so that
 * one host that swallows packets leaves time for the others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "libkv_internal.h"
#include "port/clock.h"
#include "port/net.h"

#define PAUSE_FIRST_MS 5   /* between two rounds over the hosts, doubled each time */
#define PAUSE_MAX_MS 200
#define PAUSE_SLICE_MS 20  /* how soon a cancelled pause ends */
#define HELLO_CUTS_MAX 3   /* on the first connection: a server whose processes start over cuts it off once or twice */

/* The answer to HELLO, doc/protocol.md. */
static Status
read_hello(kv_client *c, Slice answer)
{
	Reader r = reader_of(answer.data, answer.len);
	kv_info *i = &c->info;
	uint16_t version, m;
	Slice id, text;

	version = read_u16(&r);
	(void) read_u16(&r);
	i->key_max = read_u32(&r);
	i->value_max = read_u32(&r);
	i->frame_max = read_u32(&r);
	i->batch_ops_max = read_u32(&r);
	i->role = read_u8(&r);
	(void) read_bytes(&r, 3);
	i->term = read_u64(&r);
	id = read_bytes(&r, sizeof i->cluster_id);
	i->incarnation = read_u64(&r);
	m = read_u16(&r);
	text = read_bytes(&r, m);
	if (!reader_ok(&r) || version != PROTO_VERSION)
		return status_fail(ST_PROTOCOL, "%s:%u answered the hello in a way that is not kvd's", c->at.name, c->at.port);
	memcpy(i->cluster_id, id.data, id.len);
	snprintf(i->server_version, sizeof i->server_version, "%.*s", (int) text.len, (const char *) text.data);
	return ST_OK;
}

static Status
say_hello(kv_client *c, uint64_t deadline_ns)
{
	uint8_t frame[PROTO_HEADER_SIZE + 10 + PROTO_NAME_MAX];
	uint8_t *p = frame + PROTO_HEADER_SIZE;
	size_t n = strlen(c->options.name);
	ProtoHeader h;
	Slice answer;
	Status st;

	memcpy(p, PROTO_MAGIC, 4);
	put_u16(p + 4, PROTO_VERSION);
	put_u16(p + 6, c->options.admin ? PROTO_HELLO_ADMIN : 0);
	put_u16(p + 8, (uint16_t) n);
	memcpy(p + 10, c->options.name, n);
	proto_put_header(frame, (uint32_t) (10 + n), 0, PROTO_HELLO, 0);
	st = io_ask(c, frame, PROTO_HEADER_SIZE + 10 + n, deadline_ns, &h, &answer);
	if (st == ST_TIMEOUT)
		return status_fail(ST_CANNOT_CONNECT,
			"%s:%u accepts connections but does not answer: no kvd server, or one that is stopped",
			c->at.name, c->at.port);
	KV_TRY(st);
	if (h.status != ST_OK)
		return call_error(h.status, answer, NULL, NULL);
	return read_hello(c, answer);
}

/* Connect to one host within ms. ST_CLOSED: it took the connection, and cut it off before its answer. */
static Status
connect_one(kv_client *c, const Host *host, int ms)
{
	uint64_t deadline = deadline_in(ms);
	int fd;
	Status st;

	c->at = *host;
	st = net_connect(host->name, host->port, ms, &fd);
	if (st != ST_OK)
		return st == ST_TIMEOUT ? ST_CANNOT_CONNECT : st;
	KV_TRY(io_attach(c, fd));
	st = say_hello(c, deadline);
	if (st != ST_OK)
		io_close(c);
	return st;
}

/* What one round over the hosts met, whichever was the last. */
typedef struct Round {
	bool starting; /* one is going to be ready, or to have time */
	bool cut;      /* one cut the hello off */
} Round;

static Status
try_host(kv_client *c, const Host *host, int ms, Round *r)
{
	Status st = connect_one(c, host, ms);

	r->starting |= st == ST_STARTING || st == ST_BUSY;
	r->cut |= st == ST_CLOSED;
	return st;
}

/*
 * Every host once, the leader that was pointed to first, then the one after the last tried. Not OK: how the last one
 * failed.
 */
static Status
connect_round(kv_client *c, uint64_t deadline_ns, Round *r)
{
	int n = c->options.host_count;
	Status st = ST_CANNOT_CONNECT;

	if (c->leader.name[0] != '\0') {
		Host leader = c->leader;

		c->leader.name[0] = '\0';
		st = try_host(c, &leader, deadline_left_ms(deadline_ns) / (n + 1) + 1, r);
		if (st == ST_OK)
			return ST_OK;
	}
	for (int i = 0; i < n && !c->cancelled; i++) {
		int left = deadline_left_ms(deadline_ns);

		if (left == 0)
			return st != ST_OK ? st : status_fail(ST_CANNOT_CONNECT, "no time left to connect");
		st = try_host(c, &c->options.hosts[c->host], left / (n - i) + 1, r);
		if (st == ST_OK)
			return ST_OK;
		c->host = (c->host + 1) % n;
	}
	if (c->cancelled)
		return status_fail(ST_CLOSED, "cancelled");
	return st;
}

bool
connect_pause(kv_client *c, int ms, uint64_t deadline_ns)
{
	if (deadline_left_ms(deadline_ns) <= ms)
		return false;
	while (ms > 0 && !c->cancelled) {
		int slice = ms < PAUSE_SLICE_MS ? ms : PAUSE_SLICE_MS;
		struct timespec t = { 0, slice * 1000000L };

		nanosleep(&t, NULL);
		ms -= slice;
	}
	return !c->cancelled;
}

/*
 * Another round can help while a server starts; and when the servers of a handle that was connected are
 * away for a moment. On the first connection a refusal is final: the address is likely wrong. Who cuts the hello off
 * is a server that just starts over, or a stranger, which the last of HELLO_CUTS_MAX tries tells.
 */
static bool
worth_another_round(const kv_client *c, Status st, const Round *r, int cuts)
{
	if (c->cancelled)
		return false;
	if (r->starting || (r->cut && cuts < HELLO_CUTS_MAX))
		return true;
	return c->was_connected && (st == ST_CANNOT_CONNECT || st == ST_CLOSED || st == ST_SHUTTING_DOWN ||
		st == ST_TOO_MANY_CONNECTIONS);
}

Status
connect_ensure(kv_client *c, uint64_t deadline_ns)
{
	int pause_ms = PAUSE_FIRST_MS;
	int cuts = 0;

	if (c->fd >= 0 && !c->eof)
		return ST_OK;
	io_close(c);
	for (;;) {
		Round r = { 0 };
		Status st = connect_round(c, deadline_ns, &r);

		if (st == ST_OK) {
			c->was_connected = true;
			return ST_OK;
		}
		cuts += r.cut;
		if (!worth_another_round(c, st, &r, cuts) || !connect_pause(c, pause_ms, deadline_ns))
			return st == ST_CLOSED && !c->cancelled ? ST_CANNOT_CONNECT : st;
		pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
	}
}

void
connect_follow(kv_client *c, Slice text)
{
	Host leader;

	if (text.len > 0 && host_parse((const char *) text.data, text.len, KV_DEFAULT_PORT, &leader) == ST_OK)
		c->leader = leader;
	else
		c->host = (c->host + 1) % c->options.host_count;
}

int
kv_open(kv_client **out, const char *uri, const char *name)
{
	kv_client *c = calloc(1, sizeof *c);
	Status st;

	*out = NULL;
	if (c == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for a handle");
	st = options_parse(uri, &c->options);
	if (st == ST_OK && name != NULL && c->options.name[0] == '\0') {
		if (strlen(name) > PROTO_NAME_MAX)
			st = status_fail(ST_USAGE, "the client's name is longer than %d bytes", PROTO_NAME_MAX);
		else
			memcpy(c->options.name, name, strlen(name) + 1);
	}
	if (st == ST_OK && pthread_mutex_init(&c->lock, NULL) != 0)
		st = status_fail(ST_OUT_OF_MEMORY, "cannot make a mutex");
	if (st != ST_OK) {
		free(c);
		return st;
	}
	c->fd = -1;
	*out = c;
	return KV_OK;
}

int
kv_reconnect(kv_client *c)
{
	Status st;

	pthread_mutex_lock(&c->lock);
	c->cancelled = false;
	if (c->pending_count > 0)
		st = status_fail(ST_USAGE, "replies are outstanding on this handle: take them with kv_get_reply() first");
	else {
		if (c->fd >= 0 && io_is_stale(c))
			io_close(c);
		st = connect_ensure(c, deadline_in(c->options.timeout_ms));
	}
	pthread_mutex_unlock(&c->lock);
	return st;
}

int
kv_connect(kv_client **out, const char *uri, const char *name)
{
	int code = kv_open(out, uri, name);

	if (code == KV_OK)
		code = kv_reconnect(*out);
	if (code != KV_OK) {
		kv_close(*out);
		*out = NULL;
	}
	return code;
}

void
kv_close(kv_client *c)
{
	if (c == NULL)
		return;
	io_close(c);
	buf_free(&c->in);
	buf_free(&c->out);
	free(c->pending);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void
kv_set_timeout(kv_client *c, int timeout_ms)
{
	pthread_mutex_lock(&c->lock);
	c->options.timeout_ms = timeout_ms > 0 ? timeout_ms : KV_TIMEOUT_DEFAULT_MS;
	pthread_mutex_unlock(&c->lock);
}

void
kv_set_retry(kv_client *c, int retry)
{
	pthread_mutex_lock(&c->lock);
	c->options.retry = retry != 0;
	pthread_mutex_unlock(&c->lock);
}

void
kv_cancel(kv_client *c)
{
	int fd = c->fd;
	int saved_errno = errno;

	c->cancelled = true;
	/* Wakes the poll(), also when the signal came just before it. */
	if (fd >= 0)
		(void) shutdown(fd, SHUT_RDWR);
	errno = saved_errno;
}

void
kv_get_info(kv_client *c, kv_info *info)
{
	const Host *next;

	pthread_mutex_lock(&c->lock);
	if (c->pending_count == 0 && c->fd >= 0 && io_is_stale(c))
		io_close(c);
	*info = c->info;
	info->connected = c->fd >= 0 && !c->eof;
	next = c->leader.name[0] != '\0' ? &c->leader : &c->options.hosts[c->host];
	if (info->connected)
		next = &c->at;
	memcpy(info->host, next->name, sizeof info->host);
	info->port = next->port;
	info->timeout_ms = c->options.timeout_ms;
	pthread_mutex_unlock(&c->lock);
}
