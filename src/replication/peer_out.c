/*
 * peer_out.c - connections to other nodes: connect, greet, send; again and again.
 *
 * Consensus worker (or a blank node's waiting process). Nothing waits, but for the lookup of a name that is
 * no number.
 *
 * Invariant: the user hears UP and DOWN in turn, beginning with UP; and UP again when a node becomes a member
 * while the connection to it stands.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "peer_internal.h"
#include "port/clock.h"
#include "replication/address.h"

static PeerOut outs[PEERS_OUT_MAX];
static int high;   /* places from here on were never used: nobody looks at them */
static int polled; /* places that stood in the last poll */

static bool
has_fd(const PeerOut *o)
{
	return o->state == OUT_CONNECTING || o->state == OUT_GREETING || o->state == OUT_UP ||
		   o->state == OUT_FORMING;
}

static void
enter(PeerOut *o, PeerOutState state)
{
	o->state = state;
	o->began_ns = o->moved_ns = clock_mono_ns();
}

PeerOut *
peer_out_find(uint64_t id)
{
	for (int i = 0; id != 0 && i < high; i++)
		if (outs[i].purpose == PEER_MEMBER && outs[i].id == id)
			return &outs[i];
	return NULL;
}

static PeerOut *
new_out(PeerPurpose purpose, uint64_t id)
{
	for (int i = 0; i < PEERS_OUT_MAX; i++) {
		PeerOut *o = &outs[i];

		if (o->purpose != 0)
			continue;
		*o = (PeerOut){ .id = id, .purpose = purpose, .fd = -1, .pause_ms = PEERS_PAUSE_MIN_MS,
			            .down_ns = clock_mono_ns() };
		high = i < high ? high : i + 1;
		return o;
	}
	return NULL;
}

/* ---- the end of a connection */

static void
disconnect(PeerOut *o)
{
	if (has_fd(o))
		net_close(o->fd);
	o->fd = -1;
	peer_queue_clear(o);
	o->answer_len = 0;
	o->ev_up = false;
	if (o->was_up)
		o->ev_down = true;
	o->was_up = false;
	enter(o, OUT_IDLE);
}

/* Try again later; the pause doubles, and is drawn from [1/2, 1) of itself so that two nodes do not stay in step. */
static void
give_up(PeerOut *o, const char *why)
{
	bool stood = o->state == OUT_UP, formed = o->state == OUT_FORMING;

	disconnect(o);
	if (stood || formed)
		o->down_ns = o->began_ns;
	else
		o->to_next++;
	if (o->purpose == PEER_IDENTIFY && o->to_next < (unsigned) o->nto)
		return; /* not tried everywhere yet: at once */
	o->retry_ns =
		o->began_ns + peers_ms(o->pause_ms / 2) + prng_below(&peer_self.prng, peers_ms(o->pause_ms / 2) + 1);
	o->pause_ms = o->pause_ms * 2 < PEERS_PAUSE_MAX_MS ? o->pause_ms * 2 : PEERS_PAUSE_MAX_MS;
	snprintf(o->trouble, sizeof o->trouble, "%s", why);
	/* Nodes that start together miss each other a little at first: that is no news. */
	if (o->purpose != PEER_MEMBER || (!stood && (strcmp(o->trouble, o->logged) == 0 ||
	                                             o->began_ns - o->down_ns < peers_ms(PEERS_QUIET_MS))))
		return;
	memcpy(o->logged, o->trouble, sizeof o->logged);
	elog(LOG_LEVEL_LOG, "no connection to node %s at %s: %s", o->name, o->address, o->trouble);
}

void
peer_out_free(PeerOut *o)
{
	disconnect(o);
	buf_free(&o->queue);
	*o = (PeerOut){ .fd = -1 };
}

void
peer_out_close_all(void)
{
	for (int i = 0; i < high; i++)
		if (outs[i].purpose != 0)
			peer_out_free(&outs[i]);
}

/* ---- who the others are */

static void
set_address(PeerOut *o, const char *name, const char *address)
{
	snprintf(o->name, sizeof o->name, "%s", name);
	if (strcmp(o->address, address) == 0)
		return;
	snprintf(o->address, sizeof o->address, "%s", address);
	o->resolved_ns = 0;
}

static void
set_member(PeerOut *o, bool member)
{
	/* When the connection came up, before this, the user had nothing to remember it by. */
	if (member && !o->member && o->was_up)
		o->ev_up = true;
	if (member)
		o->gone_ns = 0;
	else if (o->gone_ns == 0)
		o->gone_ns = clock_mono_ns() + peers_ms(PEERS_LINGER_MS);
	o->member = member;
}

void
peer_out_members(const Membership *m)
{
	for (int i = 0; i < m->n; i++) {
		const Member *node = &m->node[i];
		PeerOut *o = peer_out_find(node->incarnation);

		if (node->incarnation == peer_self.control.node_incarnation)
			continue;
		if (o == NULL)
			o = new_out(PEER_MEMBER, node->incarnation);
		if (o == NULL)
			continue; /* places of nodes that left are free again in a moment; see peer_out_poll() */
		set_address(o, node->name, node->peer_address);
	}
	for (int i = 0; i < high; i++)
		if (outs[i].purpose == PEER_MEMBER)
			set_member(&outs[i], membership_find(m, outs[i].id) != NULL);
}

void
peer_out_guest(const PeerHello *h)
{
	PeerOut *o = peer_out_find(h->self);

	if (o == NULL)
		o = new_out(PEER_MEMBER, h->self);
	if (o == NULL || o->member)
		return;
	o->gone_ns = clock_mono_ns() + peers_ms(PEERS_LINGER_MS);
	set_address(o, h->name, h->peer_address);
}

PeerOut *
peer_out_ask(const char *address)
{
	PeerOut *o;

	for (int i = 0; i < high; i++)
		if (outs[i].purpose == PEER_IDENTIFY && strcmp(outs[i].address, address) == 0)
			return &outs[i];
	o = new_out(PEER_IDENTIFY, 0);
	if (o != NULL)
		set_address(o, address, address);
	return o;
}

/* ---- sending */

static void
push(PeerOut *o)
{
	const char *why = peer_queue_push(o);

	if (why != NULL)
		give_up(o, why);
}

void
peer_out_flush(void)
{
	for (int i = 0; i < high; i++)
		if (outs[i].state == OUT_UP || outs[i].state == OUT_FORMING || outs[i].state == OUT_GREETING)
			push(&outs[i]);
}

void
peer_out_send(PeerOut *o, const RaftMsg *m)
{
	if (o->state == OUT_UP)
		peer_queue_message(o, m);
}

bool
peer_out_ready(const PeerOut *o)
{
	return o->state == OUT_UP && peer_queue_ready(o);
}

uint64_t
peer_out_send_range(PeerOut *o, const RaftMsg *head, uint64_t to)
{
	uint64_t end = o->state == OUT_UP ? peer_queue_range(o, head, to) : head->pos;

	if (end > head->pos)
		push(o);
	return end;
}

/* ---- connecting */

/* For tests: KVD_TEST_PEERS="ADDRESS=INSTEAD ..." puts a proxy between this node and those at ADDRESS. */
static const char *
dialled(const char *address, char instead[MEMBERSHIP_ADDRESS_MAX + 1])
{
	const char *list = getenv("KVD_TEST_PEERS");
	size_t len = strlen(address);

	for (const char *at = list; at != NULL && *at != '\0'; at += strspn(at, " ")) {
		size_t n = strcspn(at, " ");

		if (n > len + 1 && n - len - 1 <= MEMBERSHIP_ADDRESS_MAX && memcmp(at, address, len) == 0 && at[len] == '=') {
			snprintf(instead, MEMBERSHIP_ADDRESS_MAX + 1, "%.*s", (int) (n - len - 1), at + len + 1);
			return instead;
		}
		at += n;
	}
	return address;
}

static void
connect_now(PeerOut *o)
{
	char host[MEMBERSHIP_ADDRESS_MAX + 1], instead[MEMBERSHIP_ADDRESS_MAX + 1];
	uint64_t now = clock_mono_ns();
	uint16_t port;
	Status st = ST_OK;

	if (o->resolved_ns == 0 || (o->named && now - o->resolved_ns > peers_ms(PEERS_RESOLVE_MS))) {
		st = address_split(dialled(o->address, instead), 0, host, &port);
		if (st == ST_OK)
			st = net_resolve(host, port, o->to, PEERS_ADDRESSES_MAX, &o->nto, &o->named);
		o->resolved_ns = st == ST_OK ? clock_mono_ns() : 0;
	}
	if (st == ST_OK)
		st = net_connect_begin(&o->to[o->to_next % (unsigned) o->nto], &o->fd);
	if (st != ST_OK) {
		if (o->resolved_ns == 0)
			o->pause_ms = PEERS_PAUSE_MAX_MS; /* looking up a name is dear */
		give_up(o, status_detail());
		return;
	}
	enter(o, OUT_CONNECTING);
}

static void
greet(PeerOut *o)
{
	PeerHello h = { .newest = PEER_VERSION,
					.oldest = PEER_VERSION_OLDEST,
					.purpose = (uint8_t) o->purpose,
					.self = peer_self.control.node_incarnation,
					.expected = o->id,
					.config_at = peer_self.at };
	uint8_t bytes[PEER_HELLO_MAX];
	size_t len;

	if (net_connect_end(o->fd) != ST_OK) {
		give_up(o, status_detail());
		return;
	}
	net_tune(o->fd, PEERS_SEND_BUFFER, (int) peer_self.stall_ms);
	memcpy(h.cluster_id, peer_self.control.cluster_id, sizeof h.cluster_id);
	snprintf(h.name, sizeof h.name, "%s", peer_self.name);
	snprintf(h.peer_address, sizeof h.peer_address, "%s", peer_self.peer_address);
	len = peer_hello_encode(&h, bytes);
	if (buf_append(&o->queue, bytes, len) != ST_OK) {
		give_up(o, status_detail());
		return;
	}
	enter(o, OUT_GREETING);
	push(o);
}

static void
form(PeerOut *o)
{
	PeerForm f = { .crc_seed = peer_self.control.crc_seed,
				   .wal_segment_size = peer_self.control.wal_segment_size,
				   .at = peer_self.at,
				   .members = peer_self.members };

	memcpy(f.cluster_id, peer_self.control.cluster_id, sizeof f.cluster_id);
	if (peer_form_encode(&f, &o->queue) != ST_OK) {
		give_up(o, status_detail());
		return;
	}
	elog(LOG_LEVEL_LOG,
		 "node %s at %s is blank and named in the configuration: giving it the cluster's identity", o->name,
		 o->address);
	enter(o, OUT_FORMING);
	push(o);
}

static void
answered(PeerOut *o, const PeerAnswer *a)
{
	if (o->purpose == PEER_IDENTIFY) {
		o->said = *a;
		disconnect(o);
		o->state = OUT_ANSWERED;
		return;
	}
	if (a->code != ST_OK) {
		char why[PEER_TEXT_MAX + 1];

		snprintf(why, sizeof why, "%s", a->text[0] != '\0' ? a->text : status_text((int) a->code));
		give_up(o, why);
	} else if (a->self != o->id) {
		give_up(o, "another node answers there");
	} else if (a->blank) {
		form(o);
	} else {
		enter(o, OUT_UP);
		o->pause_ms = PEERS_PAUSE_MIN_MS;
		o->trouble[0] = o->logged[0] = '\0';
		o->ev_up = true;
		elog(LOG_LEVEL_LOG, "connected to node %s at %s", o->name, o->address);
	}
}

/* Nothing but the answer to our hello comes back on these connections. */
static void
receive(PeerOut *o)
{
	ssize_t n = net_recv_some(o->fd, o->answer + o->answer_len, sizeof o->answer - o->answer_len);
	PeerAnswer a;
	size_t used;
	Status st;

	if (n < 0) {
		give_up(o, o->state == OUT_GREETING  ? "it ended the connection without an answer"
				   : o->state == OUT_FORMING ? "it has been told what it belongs to, and starts"
											 : "it ended the connection");
		return;
	}
	if (n == 0)
		return;
	o->answer_len += (size_t) n;
	st = o->state == OUT_GREETING ? peer_answer_decode(slice_of(o->answer, o->answer_len), &a, &used)
								  : ST_PROTOCOL;
	if (st == ST_NOT_FOUND && o->answer_len < sizeof o->answer)
		return;
	if (st != ST_OK || used != o->answer_len) {
		give_up(o, "what answers there does not speak the peer protocol");
		return;
	}
	o->answer_len = 0;
	answered(o, &a);
}

/* ---- polling */

/* When something is to be done without an event from the socket; 0 never. */
static uint64_t
due(const PeerOut *o)
{
	uint64_t stall = peer_queue_waits(o) ? o->moved_ns + peers_ms(peer_self.stall_ms) : 0;

	switch (o->state) {
	case OUT_IDLE:
		return o->retry_ns > 0 ? o->retry_ns : 1;
	case OUT_CONNECTING:
	case OUT_GREETING:
	case OUT_FORMING:
		return o->began_ns + peers_ms(peer_self.greet_ms);
	default:
		return stall;
	}
}

static void
on_time(PeerOut *o, uint64_t now)
{
	/* Nobody came back for the answer. */
	if (o->purpose == PEER_IDENTIFY && (o->state == OUT_ANSWERED || o->trouble[0] != '\0')) {
		if (now - o->began_ns > peers_ms(PEERS_LINGER_MS))
			peer_out_free(o);
		return;
	}
	/* One that we do not know yet lasts as long as it is connected to us. */
	if (o->purpose == PEER_MEMBER && !o->member && now >= o->gone_ns) {
		if (!peer_in_ahead(o->id)) {
			peer_out_free(o);
			return;
		}
		o->gone_ns = now + peers_ms(PEERS_LINGER_MS);
	}
	if (o->address[0] == '\0' || due(o) == 0 || now < due(o))
		return;
	if (o->state == OUT_IDLE)
		connect_now(o);
	else
		give_up(o, o->state == OUT_UP ? "it takes nothing any more" : "no answer in time");
}

int
peer_out_poll(NetPoll *p, uint64_t *until_ns)
{
	uint64_t now = clock_mono_ns();

	for (int i = 0; i < high; i++) {
		PeerOut *o = &outs[i];

		if (o->purpose != 0)
			on_time(o, now);
		p[i] = (NetPoll){ .fd = -1 };
		if (o->purpose == 0)
			continue;
		if (has_fd(o))
			p[i] = (NetPoll){ .fd = o->fd,
							  .read = o->state != OUT_CONNECTING,
							  .write = o->state == OUT_CONNECTING || peer_queue_waits(o) };
		if (o->address[0] != '\0' && o->state != OUT_ANSWERED && due(o) != 0 && due(o) < *until_ns)
			*until_ns = due(o);
	}
	polled = high;
	return high;
}

void
peer_out_polled(const NetPoll *p)
{
	for (int i = 0; i < polled; i++) {
		PeerOut *o = &outs[i];

		if (p[i].fd < 0 || !has_fd(o) || o->fd != p[i].fd)
			continue;
		if (o->state == OUT_CONNECTING) {
			if (p[i].writable || p[i].broken)
				greet(o);
			continue;
		}
		if (p[i].readable || p[i].broken)
			receive(o);
		if (has_fd(o) && o->state != OUT_CONNECTING && p[i].writable)
			push(o);
	}
}

bool
peer_out_event_waits(void)
{
	for (int i = 0; i < high; i++)
		if (outs[i].ev_down || outs[i].ev_up)
			return true;
	return false;
}

bool
peer_out_event(PeerEvent *out)
{
	for (int i = 0; i < high; i++) {
		PeerOut *o = &outs[i];

		if (!o->ev_down && !o->ev_up)
			continue;
		*out = (PeerEvent){ .kind = o->ev_down ? PEER_EV_DOWN : PEER_EV_UP, .id = o->id };
		if (o->ev_down) {
			o->ev_down = false;
		} else {
			o->ev_up = false;
			o->was_up = true;
		}
		return true;
	}
	return false;
}
