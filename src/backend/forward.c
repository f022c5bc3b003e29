/*
 * forward.c - a follower passes requests on to the leader (follower_requests = forward).
 *
 * Run by backends. Consecutive requests of a batch that need the leader gather in the session and go out
 * together on one connection, which the backend keeps. Frames pass unchanged in both directions, and
 * answers keep the order of the requests. The leader is told in HELLO that these are forwarded: a node
 * never forwards what was forwarded to it, so that two nodes that take each other for the leader cannot
 * play ball.
 *
 * What may be sent again:
 *  1. A read, a stamped write, opening a session, and whatever has not left at all: always, until the deadline.
 *  2. What was answered NOT_LEADER, if nothing behind it in the batch was done: the order of writes is kept.
 *  3. Any other write that has left and got no answer: never; its outcome is unknown.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "common/config.h"
#include "ipc/childsig.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/net.h"
#include "replication/address.h"
#include "replication/replstate.h"
#include "session.h"

#define REQUESTS_FORWARD 1        /* of the setting follower_requests */
#define QUEUE_BYTES (1024 * 1024) /* sent when so much has gathered, ... */
#define QUEUE_REQUESTS 1024       /* ... or so many: bounds the memory that answers take */
#define CONNECT_MS 1000           /* to the leader, which is near; a dead one is another soon */
#define PAUSE_US 20000 /* between tries while there is no leader: an election takes a few of these */
#define GRACE_MS 1000  /* the leader's own answer to a deadline that has passed is waited for */
#define STOP_MS 1000   /* what is under way may end when the server stops */
#define RECEIVE_BYTES 65536

typedef enum ItemState { ITEM_TODO, ITEM_DONE, ITEM_REFUSED, ITEM_LOST } ItemState;

typedef struct ForwardItem {
	uint32_t id;
	uint8_t command;
	bool once;   /* must not be sent again after it has left */
	bool quorum; /* the answer begins with the version that the write made */
	ItemState state;
	size_t at, len;               /* its frame in Forward.frames */
	size_t answer_at, answer_len; /* and the answer's in Forward.answers */
} ForwardItem;

static ForwardItem *
items(const Forward *f)
{
	return (ForwardItem *) (void *) f->items.data;
}

static int
item_count(const Forward *f)
{
	return (int) (f->items.len / sizeof(ForwardItem));
}

/* ---- which requests ------------------------------------------------------- */

static bool
is_write(const Request *r)
{
	switch (r->header.type) {
	case PROTO_PUT:
	case PROTO_DELETE:
	case PROTO_DELETE_RANGE:
	case PROTO_BATCH:
	case PROTO_INCR:
	case PROTO_SESSION:
		return true;
	case PROTO_CLUSTER:
		return r->header.length > 0 && r->payload[0] != PROTO_CLUSTER_STATUS;
	default:
		return false;
	}
}

static bool
is_linearizable_read(const Request *r)
{
	switch (r->header.type) {
	case PROTO_GET:
	case PROTO_MGET:
	case PROTO_SCAN:
	case PROTO_COUNT:
	case PROTO_ESTIMATE:
		return r->header.length > 0 && r->payload[0] == READ_LINEARIZABLE;
	default:
		return false;
	}
}

/* Is it done at most once however often it comes, or does it do no harm? */
static bool
is_repeatable(const Request *r)
{
	if (!is_write(r) || r->header.type == PROTO_SESSION)
		return true;
	return r->header.type != PROTO_CLUSTER && r->header.length > 1 &&
		   (r->payload[1] & PROTO_WRITE_STAMPED) != 0;
}

bool
forward_wanted(const Session *s, const Request *r)
{
	return config.follower_requests == REQUESTS_FORWARD && !s->forwarded &&
		   !wal_generation_open(wal_generation()) && r->header.flags == 0 && r->header.status == 0 &&
		   (is_write(r) || is_linearizable_read(r));
}

Status
forward_add(Session *s, const Request *r)
{
	Forward *f = &s->forward;
	ForwardItem item = { .id = r->header.id, .command = r->header.type, .at = f->frames.len };
	int ms = PROTO_DEADLINE_MS;

	if (r->header.length >= 8) /* prefixes and CLUSTER have their deadline at the same place */
		ms = deadline_of(get_u32(r->payload + 4));
	if (item_count(f) == 0 || ms > f->timeout_ms)
		f->timeout_ms = ms;
	item.len = PROTO_HEADER_SIZE + (size_t) r->header.length;
	item.once = !is_repeatable(r);
	item.quorum = is_write(r) && r->header.length > 0 && r->payload[0] == ACK_QUORUM &&
				  r->header.type != PROTO_SESSION && r->header.type != PROTO_CLUSTER;
	KV_TRY(buf_append(&f->frames, r->payload - PROTO_HEADER_SIZE, item.len));
	KV_TRY(buf_append(&f->items, &item, sizeof item));
	if (f->frames.len >= QUEUE_BYTES || item_count(f) >= QUEUE_REQUESTS)
		return forward_commit(s);
	return ST_OK;
}

/* ---- the connection ------------------------------------------------------- */

static void
link_close(Forward *f)
{
	if (f->open)
		net_close(f->fd);
	f->open = false;
	buf_clear(&f->in);
	f->in_at = 0;
}

/* Wait for any of `events`. False when the time is over. A stop of the server shortens it. */
static bool
link_wait(Forward *f, short events, uint64_t *deadline_ns)
{
	uint64_t now = clock_mono_ns();
	struct pollfd p = { .fd = f->fd, .events = events };

	if (child_stop && *deadline_ns > now + UINT64_C(1000000) * STOP_MS)
		*deadline_ns = now + UINT64_C(1000000) * STOP_MS;
	if (now >= *deadline_ns)
		return false;
	(void) poll(&p, 1, (int) ((*deadline_ns - now) / 1000000) + 1);
	return true;
}

/* Take in what has come. False: the connection is of no more use. */
static bool
link_receive(Forward *f)
{
	ssize_t n;

	if (f->in_at > 0) {
		f->in.len -= f->in_at;
		memmove(f->in.data, f->in.data + f->in_at, f->in.len);
		f->in_at = 0;
	}
	if (buf_reserve(&f->in, RECEIVE_BYTES) != ST_OK)
		return false;
	n = recv(f->fd, f->in.data + f->in.len, RECEIVE_BYTES, MSG_DONTWAIT);
	if (n > 0)
		f->in.len += (size_t) n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}

/* The whole frame that comes next; *len its length, 0: not whole yet. False: not our protocol. */
static bool
link_frame(const Forward *f, ProtoHeader *h, size_t *len)
{
	const uint8_t *p = f->in.data + f->in_at;
	size_t have = f->in.len - f->in_at;

	*len = 0;
	if (have < PROTO_HEADER_SIZE)
		return true;
	proto_get_header(p, h);
	if (h->length > KV_FRAME_MAX)
		return false;
	if (have < PROTO_HEADER_SIZE + (size_t) h->length)
		return true;
	*len = PROTO_HEADER_SIZE + (size_t) h->length;
	return proto_crc_ok(p, h);
}

static Status
put_hello(Buf *b)
{
	uint8_t head[10] = { 0 };
	size_t at;

	KV_TRY(proto_begin(b, &at));
	memcpy(head, PROTO_MAGIC, 4);
	put_u16(head + 4, PROTO_VERSION);
	put_u16(head + 6, PROTO_HELLO_FORWARDED);
	put_u16(head + 8, (uint16_t) strlen("forward"));
	KV_TRY(buf_append(b, head, sizeof head));
	KV_TRY(buf_append(b, "forward", strlen("forward")));
	proto_finish(b, at, 1, PROTO_HELLO, 0);
	return ST_OK;
}

static bool
say_hello(Forward *f, uint64_t deadline_ns)
{
	Buf hello = { 0 };
	ProtoHeader h;
	size_t len = 0;
	bool ok = put_hello(&hello) == ST_OK &&
			  send(f->fd, hello.data, hello.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) hello.len;

	buf_free(&hello);
	while (ok && len == 0)
		ok = link_wait(f, POLLIN, &deadline_ns) && link_receive(f) && link_frame(f, &h, &len);
	if (!ok || h.status != ST_OK || h.type != (PROTO_HELLO | PROTO_ANSWER))
		return false;
	f->in_at += len;
	return true;
}

/* Has the other side left, or said something nobody asked for, while the connection rested? */
static bool
link_stale(const Forward *f)
{
	uint8_t byte;

	return recv(f->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* Be connected to who leads now. */
static bool
link_open(Forward *f, uint64_t deadline_ns)
{
	char address[MEMBERSHIP_ADDRESS_MAX + 1], host[MEMBERSHIP_ADDRESS_MAX + 1];
	uint64_t until = clock_mono_ns() + UINT64_C(1000000) * CONNECT_MS;
	uint16_t port;

	replstate_leader_address(address);
	if (f->open && (strcmp(address, f->address) != 0 || link_stale(f)))
		link_close(f);
	if (f->open)
		return true;
	if (address[0] == '\0' || address_split(address, 0, host, &port) != ST_OK ||
		net_connect(host, port, CONNECT_MS, &f->fd) != ST_OK)
		return false;
	f->open = true;
	memcpy(f->address, address, sizeof f->address);
	if (say_hello(f, until < deadline_ns ? until : deadline_ns))
		return true;
	link_close(f);
	return false;
}

/* ---- one exchange --------------------------------------------------------- */

/* Store the answers that have come, from item *next on. False: they do not belong to the requests. */
static bool
take_answers(Forward *f, int *next, int end)
{
	ProtoHeader h;
	size_t len;

	while (*next < end) {
		ForwardItem *i = &items(f)[*next];

		if (!link_frame(f, &h, &len))
			return false;
		if (len == 0)
			return true;
		if (h.id != i->id || h.type != (i->command | PROTO_ANSWER))
			return false; /* also a goodbye, which has id 0 */
		i->answer_at = f->answers.len;
		i->answer_len = len;
		if (buf_append(&f->answers, f->in.data + f->in_at, len) != ST_OK)
			return false;
		i->state = h.status == ST_NOT_LEADER ? ITEM_REFUSED : ITEM_DONE;
		f->in_at += len;
		(*next)++;
	}
	return true;
}

/* Send items [first, end) and take their answers, both at once: neither side waits for the other to read. */
static void
exchange(Forward *f, int first, int end, uint64_t deadline_ns)
{
	size_t at = items(f)[first].at, to = items(f)[end - 1].at + items(f)[end - 1].len;
	int next = first;
	bool ok = true;

	while (ok && next < end) {
		ok = link_wait(f, (short) (POLLIN | (at < to ? POLLOUT : 0)), &deadline_ns);
		if (ok && at < to) {
			ssize_t n = send(f->fd, f->frames.data + at, to - at, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (n > 0)
				at += (size_t) n;
			else
				ok = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
		}
		/* What came before the connection ended counts. */
		if (ok) {
			bool lives = link_receive(f);

			ok = take_answers(f, &next, end) && lives;
		}
	}
	if (next < end)
		link_close(f);
	for (int i = next; i < end; i++)
		if (items(f)[i].once && items(f)[i].at < at)
			items(f)[i].state = ITEM_LOST;
}

/* ---- all of them ---------------------------------------------------------- */

/* The next requests to send: [*first, *end). False: none is left. */
static bool
next_range(const Forward *f, int *first, int *end)
{
	int n = item_count(f);

	*first = 0;
	while (*first < n && items(f)[*first].state != ITEM_TODO)
		(*first)++;
	*end = *first;
	while (*end < n && items(f)[*end].state == ITEM_TODO)
		(*end)++;
	return *first < n;
}

/* What was refused at the end of the batch may be asked again; what has something done behind it may not. */
static void
retry_refused(Forward *f)
{
	for (int i = item_count(f) - 1; i >= 0; i--) {
		ForwardItem *item = &items(f)[i];

		if (item->state == ITEM_DONE || item->state == ITEM_LOST)
			return;
		item->state = ITEM_TODO;
	}
}

/* Until all have an answer, their outcome is unknown, the time is over, or this node leads itself. */
static void
settle_all(Forward *f)
{
	uint64_t deadline = clock_mono_ns() + UINT64_C(1000000) * ((uint64_t) f->timeout_ms + GRACE_MS);
	int first, end;

	while (next_range(f, &first, &end)) {
		uint64_t now = clock_mono_ns();

		if (now >= deadline || child_stop || wal_generation_open(wal_generation()))
			return;
		if (link_open(f, deadline)) {
			exchange(f, first, end, deadline);
			retry_refused(f);
			if (!next_range(f, &first, &end))
				return;
		}
		procslot_sleep(procslot_prepare_sleep(), PAUSE_US);
	}
}

static Status
answer_item(Session *s, const ForwardItem *i)
{
	Status code = ST_TIMEOUT;
	const uint8_t *p = s->forward.answers.data + i->answer_at;

	if (i->state == ITEM_DONE || i->state == ITEM_REFUSED) {
		ProtoHeader h;

		proto_get_header(p, &h);
		if (h.status != ST_OK)
			count_error((Status) h.status);
		/* Later reads of this connection see it, here too. */
		if (i->quorum && h.status == ST_OK && h.length >= 8 &&
			get_u64(p + PROTO_HEADER_SIZE) > s->own_version)
			s->own_version = get_u64(p + PROTO_HEADER_SIZE);
		return buf_append(&s->out, p, i->answer_len);
	}
	if (i->state == ITEM_TODO && wal_generation_open(wal_generation())) {
		Request r = { .payload = s->forward.frames.data + i->at + PROTO_HEADER_SIZE };

		proto_get_header(r.payload - PROTO_HEADER_SIZE, &r.header);
		return dispatch_here(s, &r); /* this node was elected meanwhile */
	}
	if (i->state == ITEM_LOST)
		code = status_fail(ST_OUTCOME_UNKNOWN, "the connection to the leader was lost before it answered");
	else
		(void) status_fail(code, "no leader could be reached in time");
	count_error(code);
	return proto_error(&s->out, i->id, i->command | PROTO_ANSWER, code, 0, status_detail());
}

Status
forward_commit(Session *s)
{
	Forward *f = &s->forward;
	Status st = ST_OK;

	if (item_count(f) == 0)
		return ST_OK;
	settle_all(f);
	for (int i = 0; i < item_count(f) && st == ST_OK; i++)
		st = answer_item(s, &items(f)[i]);
	buf_clear(&f->items);
	buf_clear(&f->frames);
	buf_clear(&f->answers);
	return st;
}

void
forward_shrink(Forward *f, size_t keep)
{
	Buf *all[] = { &f->items, &f->frames, &f->answers };

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i]->cap > keep)
			buf_free(all[i]);
	if (f->in.cap > keep && f->in.len == f->in_at) {
		buf_free(&f->in);
		f->in_at = 0;
	}
}

void
forward_end(Forward *f)
{
	link_close(f);
	forward_shrink(f, 0);
}
