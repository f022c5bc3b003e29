/*
 * peer_in.c - connections from other nodes: listen, accept, check the hello, take frames apart.
 *
 * Consensus worker (or a blank node's waiting process). Nothing waits. Whoever connects is a stranger until
 * its hello was accepted (rule C1), and gets little memory and little time for that.
 *
 * Invariants:
 * 1. At most one accepted connection of each node; a newer one takes the place of the older, whose LOST is
 *    told first.
 * 2. Malformed bytes end their own connection and nothing else.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/config.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "peer_internal.h"
#include "port/clock.h"

#define BACKLOG 64 /* connections that wait to be accepted: more than a cluster has nodes */

typedef struct PeerIn {
	int fd; /* -1 with used: ended, what was read is still given out */
	bool used;
	bool lost;   /* LOST is to be told, then the place is free */
	uint64_t id; /* 0: no hello yet */
	uint64_t config_at;
	uint64_t began_ns;
	uint8_t *data; /* [start, end) of `room` bytes */
	size_t room, start, end;
	size_t given; /* bytes of the frame that was given out last: free at the next call */
} PeerIn;

static PeerIn ins[PEERS_IN_MAX];
static int high;       /* places from here on were never used: nobody looks at them */
static int polled;     /* places that stood in the last poll */
static int listen_fds[PEERS_LISTEN_MAX], nlisten;
static int turn;      /* whose frames come first */
static PeerForm form; /* what a blank node was given */
static bool form_given;

static void
shut(PeerIn *in)
{
	if (in->fd >= 0)
		net_close(in->fd);
	in->fd = -1;
}

static void
release(PeerIn *in)
{
	shut(in);
	free(in->data);
	*in = (PeerIn){ .fd = -1 };
}

/* Over, and what is not given out yet is dropped. */
static void
lose(PeerIn *in)
{
	shut(in);
	if (in->id == 0) {
		release(in);
		return;
	}
	in->start = in->end = in->given = 0;
	in->lost = true;
}

void
peer_in_close_all(void)
{
	for (int i = 0; i < high; i++)
		if (ins[i].used)
			release(&ins[i]);
	while (nlisten > 0)
		net_close(listen_fds[--nlisten]);
}

Status
peer_in_listen(void)
{
	char hosts[sizeof config.peer_listen_addresses], *save = NULL;

	nlisten = 0;
	snprintf(hosts, sizeof hosts, "%s", config.peer_listen_addresses);
	for (char *host = strtok_r(hosts, ", ", &save); host != NULL; host = strtok_r(NULL, ", ", &save)) {
		uint16_t bound;
		int n = 0;
		Status st = net_listen(host, (uint16_t) config.peer_port, BACKLOG, listen_fds + nlisten,
							   PEERS_LISTEN_MAX - nlisten, &n, &bound);

		if (st != ST_OK) {
			peer_in_close_all();
			return status_prefix(st, "for other nodes (peer_listen_addresses, peer_port)");
		}
		nlisten += n;
	}
	return nlisten > 0 ? ST_OK
					   : status_fail(ST_BAD_SETTING, "peer_listen_addresses names no address to listen on");
}

bool
peer_in_ahead(uint64_t id)
{
	for (int i = 0; i < high; i++)
		if (ins[i].used && ins[i].id == id && ins[i].fd >= 0 && ins[i].config_at > peer_self.at)
			return true;
	return false;
}

/* ---- the hello */

static Status
refuse_unknown(const PeerHello *h)
{
	const Member *same_name = membership_named(&peer_self.members, h->name);

	if (same_name != NULL)
		return status_fail(ST_NOT_FOUND, "node %s is another one by now: it was replaced", h->name);
	return status_fail(ST_NOT_FOUND,
					   "node %s is not a member of the cluster: it was removed, or not added yet", h->name);
}

/* Rule C1. OK, or why not. */
static Status
check_hello(const PeerHello *h)
{
	uint64_t self = peer_self.control.node_incarnation;

	if (h->purpose == PEER_IDENTIFY)
		return h->expected == 0 || h->expected == self ? ST_OK : status_fail(ST_FOREIGN, "I am another node");
	/* It does not know yet that it has taken a lost node's place, and dials that one, at its own address. */
	if (h->self == self && h->expected != self && strcmp(h->peer_address, peer_self.peer_address) == 0)
		return status_fail(ST_FOREIGN, "it came from this node itself, which has the address of an older member");
	if (h->self == self)
		return status_fail(ST_FOREIGN, "two nodes have the same identity: was a data directory copied?");
	if (!peer_self.blank && memcmp(h->cluster_id, peer_self.control.cluster_id, sizeof h->cluster_id) != 0)
		return status_fail(ST_FOREIGN, "node %s belongs to another cluster", peer_self.name);
	if (h->expected != self)
		return status_fail(ST_FOREIGN,
						   "node %s has lost its data directory and is a new one now; if that is meant: "
						   "kvctl cluster replace %s %s",
						   peer_self.name, peer_self.name, peer_self.peer_address);
	/* Who goes by a newer configuration knows better who is a member; one that was removed goes by an older one. */
	if (peer_self.blank || membership_find(&peer_self.members, h->self) != NULL ||
		h->config_at > peer_self.at)
		return ST_OK;
	return refuse_unknown(h);
}

static void
answer(PeerIn *in, const PeerHello *h, Status st)
{
	PeerAnswer a = { .version = h->newest < PEER_VERSION ? h->newest : PEER_VERSION,
					 .code = st,
					 .blank = peer_self.blank,
					 .self = peer_self.control.node_incarnation };
	uint8_t bytes[PEER_HELLO_MAX];
	size_t len;

	snprintf(a.name, sizeof a.name, "%s", peer_self.name);
	snprintf(a.client_address, sizeof a.client_address, "%s", peer_self.client_address);
	if (st != ST_OK) {
		a.version = 0;
		snprintf(a.text, sizeof a.text, "%s", status_detail());
	}
	len = peer_answer_encode(&a, bytes);
	/* The first bytes on a new connection: they fit, or it is broken. */
	if (net_send_some(in->fd, bytes, len) != (int) len)
		lose(in);
}

static void
replace_older(const PeerIn *in)
{
	for (int i = 0; i < high; i++)
		if (&ins[i] != in && ins[i].used && ins[i].id == in->id && !ins[i].lost)
			lose(&ins[i]);
}

static void
complain_about(const PeerIn *in, const char *text)
{
	char who[128];

	net_peer_name(in->fd, who, sizeof who);
	peers_complain(who, text);
}

static void
welcome(PeerIn *in, const PeerHello *h)
{
	uint8_t *larger = realloc(in->data, PEERS_IN_BUFFER);

	if (larger == NULL) {
		(void) status_fail(ST_BUSY, "no memory for another connection");
		answer(in, h, ST_BUSY);
		lose(in);
		return;
	}
	in->data = larger;
	in->room = PEERS_IN_BUFFER;
	in->id = h->self;
	in->config_at = h->config_at;
	replace_older(in);
	if (!peer_self.blank && membership_find(&peer_self.members, h->self) == NULL)
		peer_out_guest(h);
	answer(in, h, ST_OK);
}

static void
greet(PeerIn *in)
{
	PeerHello h;
	size_t used = 0;
	Status st = peer_hello_decode(slice_of(in->data, in->end), &h, &used);

	if (st == ST_NOT_FOUND)
		return;
	if (st == ST_PROTOCOL || used != in->end) {
		complain_about(in, "what connects does not speak the peer protocol");
		lose(in);
		return;
	}
	if (st == ST_OK)
		st = check_hello(&h);
	if (st != ST_OK) {
		complain_about(in, status_detail());
		answer(in, &h, st);
		lose(in);
		return;
	}
	in->end = 0;
	if (h.purpose == PEER_MEMBER) {
		welcome(in, &h);
		return;
	}
	answer(in, &h, ST_OK);
	lose(in);
}

/* ---- reading */

/* Bytes at the front that were given out are free; the rest moves there when the room behind it gets short. */
static void
make_room(PeerIn *in)
{
	if (in->given > 0)
		return; /* somebody still looks at them */
	if (in->start == in->end)
		in->start = in->end = 0;
	if (in->start == 0 || in->room - in->end >= PEER_FRAME_MAX)
		return;
	memmove(in->data, in->data + in->start, in->end - in->start);
	in->end -= in->start;
	in->start = 0;
}

static bool
wants_bytes(PeerIn *in)
{
	make_room(in);
	return in->fd >= 0 && in->end < in->room;
}

static void
read_some(PeerIn *in)
{
	ssize_t n;

	if (!wants_bytes(in))
		return;
	n = net_recv_some(in->fd, in->data + in->end, in->room - in->end);
	if (n < 0) {
		shut(in);
		if (in->id == 0)
			release(in);
		return;
	}
	in->end += (size_t) n;
	if (n > 0 && in->id == 0)
		greet(in);
}

/* What is read and not given out. */
static Slice
unread(const PeerIn *in)
{
	size_t at = in->start + in->given;

	return slice_of(in->data + at, in->end - at);
}

bool
peer_in_event_waits(void)
{
	for (int i = 0; i < high; i++) {
		const PeerIn *in = &ins[i];

		if (in->used && (in->lost || (in->id != 0 && (in->fd < 0 || peer_frame_waits(unread(in))))))
			return true;
	}
	return false;
}

static void
take_form(PeerIn *in, const PeerFrame *f)
{
	if (!peer_self.blank || form_given)
		return; /* late: another member was faster */
	if (peer_form_decode(f->head, &form) != ST_OK ||
		membership_find(&form.members, peer_self.control.node_incarnation) == NULL) {
		complain_about(in, "it wants this node in a cluster, but does not name it");
		lose(in);
		return;
	}
	form_given = true;
}

bool
peer_in_form(PeerForm *out)
{
	if (!form_given)
		return false;
	*out = form;
	form_given = false;
	return true;
}

/* One frame of this connection; false: there is none now, or it was for us. */
static bool
give_frame(PeerIn *in, PeerEvent *out)
{
	PeerFrame f;
	size_t used;
	Status st = peer_frame_decode(unread(in), &f, &used);

	if (st == ST_NOT_FOUND) {
		if (in->fd < 0)
			lose(in);
		return false;
	}
	*out = (PeerEvent){ .kind = PEER_EV_MESSAGE, .id = in->id, .bytes = f.bytes };
	if (st == ST_OK && f.type == PEER_FRAME_MESSAGE)
		st = peer_message_decode(f.head, &out->msg);
	if (st != ST_OK) {
		complain_about(in, "malformed frame");
		lose(in);
		return false;
	}
	in->given = used;
	if (f.type == PEER_FRAME_FORM) {
		take_form(in, &f);
		return false;
	}
	out->msg.from = in->id;
	out->msg.to = peer_self.control.node_incarnation;
	return true;
}

static void
take_back(PeerIn *in)
{
	in->start += in->given;
	in->given = 0;
}

bool
peer_in_event(PeerEvent *out)
{
	for (int i = 0; i < high; i++)
		take_back(&ins[i]);
	for (int i = 0; i < high; i++) {
		if (!ins[i].lost)
			continue;
		*out = (PeerEvent){ .kind = PEER_EV_LOST, .id = ins[i].id };
		release(&ins[i]);
		return true;
	}
	for (int k = 0; k < high; k++) {
		PeerIn *in = &ins[(turn + k) % high];

		if (!in->used || in->id == 0 || in->lost || !give_frame(in, out))
			continue;
		turn = (turn + k + 1) % high;
		return true;
	}
	return false;
}

/* ---- accepting */

/* A free place; else that of the stranger who has been silent for longest. NULL: all belong to nodes. */
static PeerIn *
place(void)
{
	PeerIn *oldest = NULL;

	for (int i = 0; i < PEERS_IN_MAX; i++) {
		if (!ins[i].used) {
			high = i < high ? high : i + 1;
			return &ins[i];
		}
		if (ins[i].id == 0 && (oldest == NULL || ins[i].began_ns < oldest->began_ns))
			oldest = &ins[i];
	}
	if (oldest != NULL)
		release(oldest);
	return oldest;
}

static void
accept_all(int listen_fd)
{
	for (int k = 0; k < BACKLOG; k++) {
		PeerIn *in;
		int fd;
		Status st = net_accept(listen_fd, &fd);

		if (st != ST_OK)
			peers_complain("peer port", status_detail());
		if (st != ST_OK || fd < 0)
			return;
		in = place();
		net_tune(fd, 0, (int) peer_self.stall_ms);
		if (in != NULL)
			*in = (PeerIn){ .fd = fd,
							.used = true,
							.began_ns = clock_mono_ns(),
							.data = malloc(PEER_HELLO_MAX),
							.room = PEER_HELLO_MAX };
		if (in == NULL || in->data == NULL) {
			peers_complain("peer port", "no place for another connection");
			if (in != NULL)
				release(in);
			else
				net_close(fd);
		}
	}
}

/* ---- polling: listeners, then connections */

static void
on_time(PeerIn *in, uint64_t now, uint64_t *until_ns)
{
	uint64_t end = in->began_ns + peers_ms(PEERS_GREET_MS);

	if (in->id == 0 && now >= end)
		release(in);
	else if (in->id == 0 && end < *until_ns)
		*until_ns = end;
	/* It was a member once, and its time to hear how that ended is over. */
	else if (in->id != 0 && !in->lost && !peer_self.blank && peer_out_find(in->id) == NULL &&
			 membership_find(&peer_self.members, in->id) == NULL && in->config_at <= peer_self.at)
		lose(in);
}

int
peer_in_poll(NetPoll *p, uint64_t *until_ns)
{
	uint64_t now = clock_mono_ns();
	int n = 0;

	for (int i = 0; i < PEERS_LISTEN_MAX; i++)
		p[n++] = (NetPoll){ .fd = i < nlisten ? listen_fds[i] : -1, .read = true };
	polled = high;
	for (int i = 0; i < polled; i++, n++) {
		p[n] = (NetPoll){ .fd = -1 };
		if (ins[i].used)
			on_time(&ins[i], now, until_ns);
		if (ins[i].used && wants_bytes(&ins[i]))
			p[n] = (NetPoll){ .fd = ins[i].fd, .read = true };
	}
	return n;
}

void
peer_in_polled(const NetPoll *p)
{
	for (int i = 0; i < polled; i++) {
		const NetPoll *q = &p[PEERS_LISTEN_MAX + i];

		if (q->fd >= 0 && ins[i].used && ins[i].fd == q->fd && (q->readable || q->broken))
			read_some(&ins[i]);
	}
	for (int i = 0; i < nlisten; i++)
		if (p[i].readable)
			accept_all(listen_fds[i]);
}
