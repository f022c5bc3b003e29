/*
 * conn.c - one connection: frames out, answers in.
 *
 * Requests are built in place at the end of `out`, many into one send. Answers are read where recv put
 * them. Both sides of a burst may be larger than the socket buffers, so sending never waits: what does
 * not fit is sent when the poller says so, and answers are taken in meanwhile.
 *
 * The server answers in order, so pending requests are a ring and the id only proves that nothing is lost.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/coding.h"
#include "common/limits.h"
#include "common/proto.h"
#include "kvbench.h"
#include "port/clock.h"
#include "port/net.h"

#define CLIENT_NAME "kvbench"
#define HELLO_SIZE (10 + sizeof CLIENT_NAME - 1)
#define IN_MIN 65536  /* receive buffer: one recv takes a usual burst of answers */
#define IN_MAX (1u << 20) /* to begin with; a larger frame makes it grow */
#define SCAN_FIXED 44 /* payload of SCAN without its keys */
#define SCAN_ANSWER 16
#define SCAN_ENTRY 24

/* --- requests --------------------------------------------------------------------------- */

/* Room for a request of `payload` bytes at the end of out; NULL: no memory. */
static uint8_t *
begin(Conn *c, size_t payload)
{
	size_t need = PROTO_HEADER_SIZE + payload;

	if (c->out.cap - c->out.len < need && buf_reserve(&c->out, need) != ST_OK)
		return NULL;
	return c->out.data + c->out.len + PROTO_HEADER_SIZE;
}

static void
finish(Run *r, Conn *c, size_t payload, ProtoCommand command, Pending p)
{
	p.command = (uint8_t) command;
	proto_put_header(c->out.data + c->out.len, (uint32_t) payload, c->next_id++, (uint8_t) command, 0);
	c->out.len += PROTO_HEADER_SIZE + payload;
	c->pending[c->tail++ & r->mask] = p;
	r->in_flight++;
}

static uint8_t *
put_read_prefix(const Run *r, uint8_t *p)
{
	memset(p, 0, PROTO_READ_PREFIX);
	p[0] = r->o->freshness;
	return p + PROTO_READ_PREFIX;
}

Status
conn_get(Run *r, Conn *c, Pending p, bool missing)
{
	size_t payload = PROTO_READ_PREFIX + data_key_size(&r->data, missing);
	uint8_t *at = begin(c, payload);

	if (at == NULL)
		return ST_OUT_OF_MEMORY;
	at = put_read_prefix(r, at);
	data_put_key(&r->data, at, p.index, missing);
	finish(r, c, payload, PROTO_GET, p);
	return ST_OK;
}

Status
conn_put(Run *r, Conn *c, Pending p)
{
	uint32_t key = data_key_size(&r->data, false), value = r->o->value_size;
	size_t payload = PROTO_WRITE_PREFIX + PROTO_OP_HEADER + (size_t) key + value;
	uint8_t *at = begin(c, payload);

	if (at == NULL)
		return ST_OUT_OF_MEMORY;
	memset(at, 0, PROTO_WRITE_PREFIX + PROTO_OP_HEADER);
	at[0] = r->o->ack;
	at += PROTO_WRITE_PREFIX;
	at[0] = 1; /* put */
	put_u32(at + 4, key);
	put_u32(at + 8, value);
	at = data_put_key(&r->data, at + PROTO_OP_HEADER, p.index, false);
	data_put_value(&r->data, at, p.index, ++r->version, value);
	finish(r, c, payload, PROTO_PUT, p);
	return ST_OK;
}

/* A SCAN from a key on, up to `end_index` (UINT64_MAX: no upper end). */
static Status
scan_from(Run *r, Conn *c, Pending p, Slice start, bool after, uint64_t end_index, uint32_t limit,
	uint64_t snapshot)
{
	bool bounded = end_index != UINT64_MAX;
	size_t end_len = bounded ? data_key_size(&r->data, false) : 0;
	size_t payload = SCAN_FIXED + start.len + end_len;
	uint8_t *at = begin(c, payload);

	if (at == NULL)
		return ST_OUT_OF_MEMORY;
	at = put_read_prefix(r, at);
	put_u64(at, snapshot);
	put_u32(at + 8, limit);
	put_u32(at + 12, 0);
	put_u32(at + 16, (bounded ? 0 : PROTO_RANGE_UNBOUNDED) | (after ? PROTO_RANGE_AFTER_START : 0));
	put_u32(at + 20, (uint32_t) start.len);
	put_u32(at + 24, (uint32_t) end_len);
	memcpy(at + 28, start.data, start.len);
	if (bounded)
		data_put_key(&r->data, at + 28 + start.len, end_index, false);
	finish(r, c, payload, PROTO_SCAN, p);
	return ST_OK;
}

Status
conn_scan(Run *r, Conn *c, Pending p, uint32_t limit)
{
	c->cursor.len = 0;
	KV_TRY(buf_reserve(&c->cursor, data_key_size(&r->data, false)));
	data_put_key(&r->data, c->cursor.data, p.index, false);
	return scan_from(r, c, p, slice_of(c->cursor.data, r->data.key_size), false, UINT64_MAX, limit, 0);
}

Status
conn_page(Run *r, Conn *c, Pending p)
{
	return scan_from(r, c, p, slice_buf(&c->cursor), c->after_cursor, c->part_end, 0, c->snapshot);
}

/* --- opening ---------------------------------------------------------------------------- */

static Status
lost(const Conn *c, const char *what)
{
	return status_fail(ST_CLOSED, "connection %u of this run: %s", c->no, what);
}

static Status
recv_exactly(const Conn *c, uint8_t *p, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(c->fd, p + got, len - got, 0);

		if (n == 0)
			return lost(c, "closed by the server");
		if (n < 0 && errno != EINTR)
			return status_fail_errno(ST_CLOSED, "connection %u of this run", c->no);
		got += n > 0 ? (size_t) n : 0;
	}
	return ST_OK;
}

/* An error answer, as a Status of ours with the server's sentence. */
static Status
refused(const Conn *c, const ProtoHeader *h, const uint8_t *payload)
{
	size_t len = h->length > 8 ? h->length - 8 : 0;

	return status_fail(ST_CLOSED, "connection %u of this run: %s: %.*s", c->no, status_name(h->status),
		(int) (len < 300 ? len : 300), len > 0 ? (const char *) payload + 8 : "");
}

static Status
hello(Run *r, Conn *c)
{
	uint8_t frame[PROTO_HEADER_SIZE + HELLO_SIZE];
	uint8_t *p = frame + PROTO_HEADER_SIZE;
	ProtoHeader h;

	memcpy(p, PROTO_MAGIC, 4);
	put_u16(p + 4, PROTO_VERSION);
	put_u16(p + 6, 0);
	put_u16(p + 8, sizeof CLIENT_NAME - 1);
	memcpy(p + 10, CLIENT_NAME, sizeof CLIENT_NAME - 1);
	proto_put_header(frame, HELLO_SIZE, c->next_id++, PROTO_HELLO, 0);
	if (send(c->fd, frame, sizeof frame, MSG_NOSIGNAL) != (ssize_t) sizeof frame)
		return status_fail_errno(ST_CLOSED, "connection %u of this run", c->no);
	KV_TRY(recv_exactly(c, c->in, PROTO_HEADER_SIZE));
	proto_get_header(c->in, &h);
	if (h.length > c->in_cap - PROTO_HEADER_SIZE)
		return lost(c, "answer to HELLO is too long; not a kvd server?");
	KV_TRY(recv_exactly(c, c->in + PROTO_HEADER_SIZE, h.length));
	if (!proto_crc_ok(c->in, &h))
		return lost(c, "answer to HELLO is damaged; not a kvd server?");
	if (h.status != ST_OK)
		return refused(c, &h, c->in + PROTO_HEADER_SIZE);
	if (h.type != (PROTO_HELLO | PROTO_ANSWER) || h.length < 58)
		return lost(c, "answer to HELLO does not follow the protocol");
	if (r->o->value_size > get_u32(c->in + PROTO_HEADER_SIZE + 8))
		return status_fail(ST_USAGE, "-d %u: the server takes values up to %u bytes", r->o->value_size,
			get_u32(c->in + PROTO_HEADER_SIZE + 8));
	return ST_OK;
}

static size_t
in_size(const Options *o)
{
	uint64_t want = (uint64_t) o->pipeline * (o->value_size + 64);

	return want < IN_MIN ? IN_MIN : want > IN_MAX ? IN_MAX : (size_t) want;
}

Status
conn_open(Run *r, Conn *c, uint32_t no)
{
	*c = (Conn){ .fd = -1, .no = no, .in_cap = in_size(r->o) };
	c->in = malloc(c->in_cap);
	c->pending = malloc((r->mask + (size_t) 1) * sizeof *c->pending);
	c->follow = malloc(r->o->pipeline * sizeof *c->follow);
	if (c->in == NULL || c->pending == NULL || c->follow == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for connection %u", no);
	KV_TRY(net_connect(r->o->host, r->o->port, CONNECT_TIMEOUT_MS, &c->fd));
	net_set_timeouts(c->fd, SILENCE_MS, SILENCE_MS);
	return hello(r, c);
}

void
conn_close(Conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->in);
	free(c->pending);
	free(c->follow);
	buf_free(&c->out);
	buf_free(&c->cursor);
}

/* --- sending ---------------------------------------------------------------------------- */

Status
conn_send(Run *r, Conn *c)
{
	while (c->out_sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			c->out_sent += (size_t) n;
			r->t.bytes_out += (uint64_t) n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return status_fail_errno(ST_CLOSED, "connection %u of this run", c->no);
		if (!c->writing)
			KV_TRY(poller_want_write(r->poller, c->fd, c->no, true));
		c->writing = true;
		return ST_OK;
	}
	buf_clear(&c->out);
	c->out_sent = 0;
	if (c->writing)
		KV_TRY(poller_want_write(r->poller, c->fd, c->no, false));
	c->writing = false;
	return ST_OK;
}

/* --- answers ---------------------------------------------------------------------------- */

static void
wrong(Run *r, const char *what, Slice key)
{
	if (r->t.wrong++ == 0)
		fprintf(stderr, "kvbench: %s, key %.*s\n", what, (int) (key.len < 100 ? key.len : 100),
			(const char *) key.data);
}

static void
wrong_index(Run *r, const char *what, uint64_t index)
{
	char text[24];

	snprintf(text, sizeof text, "number %llu", (unsigned long long) index);
	wrong(r, what, slice_str(text));
}

static void
failed(Run *r, const ProtoHeader *h, const uint8_t *payload)
{
	unsigned code = h->status < CODES ? h->status : CODES - 1;

	r->t.errors[code]++;
	if (!r->told[code])
		fprintf(stderr, "kvbench: first %s: %.*s\n", status_name(h->status),
			h->length > 8 ? (int) (h->length - 8) : 0, (const char *) payload + 8);
	r->told[code] = true;
}

static void
check_get(Run *r, const Pending *p, const uint8_t *payload, uint32_t len)
{
	if (r->w->order == KEYS_MISSING)
		wrong_index(r, "found a key that was never stored", p->index);
	else if (len < 16 || !data_value_ok(&r->data, slice_of(payload + 16, len - 16), p->index))
		wrong_index(r, "wrong value", p->index);
}

/* Entries must ascend and hold their keys' values; strangers' keys are passed over. */
static Status
check_scan(Run *r, Conn *c, const uint8_t *payload, uint32_t len)
{
	Reader in = reader_of(payload, len);
	uint64_t snapshot = read_u64(&in);
	uint32_t count = read_u32(&in);
	bool more = (read_u32(&in) & 0xff) != 0;
	Slice last = slice_of(NULL, 0);

	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *fixed = reader_take(&in, SCAN_ENTRY);
		Slice key = read_bytes(&in, fixed != NULL ? get_u32(fixed) : 0);
		Slice value = read_bytes(&in, fixed != NULL ? get_u32(fixed + 4) : 0);
		uint64_t index;

		if (!reader_ok(&in))
			return lost(c, "answer to SCAN is shorter than its count says");
		if (i > 0 && slice_cmp(last, key) >= 0)
			wrong(r, "scan out of order", key);
		if (data_key_index(&r->data, key, &index) && !data_value_ok(&r->data, value, index))
			wrong(r, "wrong value in a scan", key);
		last = key;
	}
	if (!reader_ok(&in))
		return lost(c, "answer to SCAN is too short");
	r->t.entries += count;
	if (r->w->order != KEYS_PAGES)
		return ST_OK;
	c->snapshot = snapshot;
	c->pages_done = !more;
	c->after_cursor = true;
	return count > 0 ? buf_set(&c->cursor, last) : ST_OK;
}

/* Settle the oldest pending request. */
static Status
settle(Run *r, Conn *c, const uint8_t *frame, const ProtoHeader *h, uint64_t now)
{
	const uint8_t *payload = frame + PROTO_HEADER_SIZE;
	Pending p;

	if (h->type == PROTO_ANSWER)
		return refused(c, h, payload);
	if (conn_pending(c) == 0)
		return lost(c, "an answer that nothing was asked for");
	p = c->pending[c->head & r->mask];
	if (h->id != c->next_id - conn_pending(c) || h->type != (p.command | PROTO_ANSWER))
		return lost(c, "answers are not in the order of the requests");
	c->head++;
	r->in_flight--;
	if (p.class == CLASS_INSERT && r->w->order == KEYS_RANDOM)
		r->inserting--;
	if (h->status == ST_NOT_FOUND && p.command == PROTO_GET)
		r->t.not_found++;
	else if (h->status != ST_OK) {
		failed(r, h, payload);
		c->pages_done = r->w->order == KEYS_PAGES; /* where would the next page start? */
		return ST_OK;
	} else if (p.command == PROTO_GET)
		check_get(r, &p, payload, h->length);
	else if (p.command == PROTO_SCAN)
		KV_TRY(check_scan(r, c, payload, h->length));
	if (p.write_follows) {
		p.write_follows = false;
		c->follow[c->followers++] = p;
		return ST_OK;
	}
	histogram_add(&r->t.latency[p.class], now > p.start_ns ? now - p.start_ns : 0);
	return ST_OK;
}

/* Settle all whole frames; the rest moves to the front. */
static Status
settle_all(Run *r, Conn *c)
{
	uint64_t now = clock_mono_ns();
	size_t at = 0;

	while (c->in_len - at >= PROTO_HEADER_SIZE) {
		ProtoHeader h;

		proto_get_header(c->in + at, &h);
		if (h.length > KV_FRAME_MAX)
			return lost(c, "answer with an impossible length");
		if (c->in_len - at < PROTO_HEADER_SIZE + (size_t) h.length) {
			if (PROTO_HEADER_SIZE + (size_t) h.length > c->in_cap) {
				uint8_t *larger = realloc(c->in, PROTO_HEADER_SIZE + (size_t) h.length);

				if (larger == NULL)
					return status_fail(ST_OUT_OF_MEMORY, "no memory for an answer of %u bytes", h.length);
				c->in = larger;
				c->in_cap = PROTO_HEADER_SIZE + (size_t) h.length;
			}
			break;
		}
		if (r->o->verify_crc && !proto_crc_ok(c->in + at, &h))
			return lost(c, "answer with a wrong CRC");
		KV_TRY(settle(r, c, c->in + at, &h, now));
		at += PROTO_HEADER_SIZE + h.length;
	}
	c->in_len -= at;
	if (at > 0 && c->in_len > 0)
		memmove(c->in, c->in + at, c->in_len);
	return ST_OK;
}

Status
conn_receive(Run *r, Conn *c, bool block)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, block ? 0 : MSG_DONTWAIT);

	if (n == 0)
		return lost(c, "closed by the server");
	if (n < 0) {
		if (errno == EINTR || (!block && (errno == EAGAIN || errno == EWOULDBLOCK)))
			return ST_OK;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return lost(c, "the server owes an answer and keeps silent");
		return status_fail_errno(ST_CLOSED, "connection %u of this run", c->no);
	}
	c->in_len += (size_t) n;
	r->t.bytes_in += (uint64_t) n;
	return settle_all(r, c);
}
