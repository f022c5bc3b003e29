/*
 * peers.c - the transport's face: set up, wait for sockets and wakes, what happened, what to send.
 *
 * Consensus worker only (bootstrap.c in a blank node's waiting process). Connections that we made are in
 * peer_out.c, those that we accepted in peer_in.c, their bytes in peer_proto.c. Messages travel on the
 * former and come on the latter.
 */
#include "replication/peers.h"

#include <stdio.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/procslot.h"
#include "peer_internal.h"
#include "port/clock.h"
#include "port/proc.h"
#include "replication/address.h"

#define STALL_TIMEOUTS 2 /* election timeouts; see PEERS_STALL_MS */
#define COMPLAINTS 8     /* different ones remembered */

_Static_assert(1 + PEERS_LISTEN_MAX + PEERS_IN_MAX + PEERS_OUT_MAX <= NET_POLL_MAX, "all fit into one poll");

PeerSelf peer_self;

static int wake_fd = -1;
static uint32_t wakes_seen;

static struct {
	char text[PEER_TEXT_MAX + 1];
	uint64_t at_ns;
} complaints[COMPLAINTS];

void
peers_complain(const char *who, const char *text)
{
	uint64_t now = clock_mono_ns();
	int oldest = 0;

	for (int i = 0; i < COMPLAINTS; i++) {
		if (complaints[i].at_ns != 0 && now - complaints[i].at_ns < peers_ms(PEERS_COMPLAIN_MS) &&
			strncmp(complaints[i].text, text, PEER_TEXT_MAX) == 0)
			return;
		if (complaints[i].at_ns < complaints[oldest].at_ns)
			oldest = i;
	}
	snprintf(complaints[oldest].text, sizeof complaints[oldest].text, "%s", text);
	complaints[oldest].at_ns = now;
	elog(LOG_LEVEL_WARNING, "connection from %s ended: %s", who, text);
}

static Status
open_as(const Control *control, bool blank)
{
	uint64_t seed = control->node_incarnation;

	peer_self = (PeerSelf){ .control = *control, .blank = blank, .stall_ms = PEERS_STALL_MS,
		                    .greet_ms = PEERS_GREET_MS };
	KV_TRY(proc_random(&seed, sizeof seed));
	prng_seed(&peer_self.prng, seed);
	snprintf(peer_self.name, sizeof peer_self.name, "%.*s", MEMBERSHIP_NAME_MAX, config.node_name);
	KV_TRY(address_of_self(peer_self.peer_address, peer_self.client_address));
	wake_fd = my_slot != NULL ? procslot_use_pipe() : -1;
	return config.peer_port == 0 ? ST_OK : peer_in_listen();
}

Status
peers_open(const Control *control)
{
	return open_as(control, false);
}

Status
peers_open_blank(const Control *control)
{
	return open_as(control, true);
}

void
peers_close(void)
{
	peer_out_close_all();
	peer_in_close_all();
}

void
peers_set_members(const Membership *m, Lsn at)
{
	const Member *self = membership_find(m, peer_self.control.node_incarnation);
	uint32_t timeouts = m->election_ms * STALL_TIMEOUTS;

	peer_self.members = *m;
	peer_self.at = at;
	peer_self.stall_ms = timeouts > PEERS_STALL_MS ? timeouts : PEERS_STALL_MS;
	peer_self.greet_ms = timeouts < PEERS_GREET_MIN_MS ? PEERS_GREET_MIN_MS
		: timeouts < PEERS_GREET_MS                    ? timeouts
	                                                   : PEERS_GREET_MS;
	if (self != NULL)
		snprintf(peer_self.name, sizeof peer_self.name, "%s", self->name);
	peer_out_members(m);
}

void
peers_wait(uint64_t until_ns)
{
	NetPoll p[NET_POLL_MAX];
	NetPoll *ins = p + 1, *outs;
	int n = 1;

	p[0] = (NetPoll){ .fd = wake_fd, .read = true };
	n += peer_in_poll(ins, &until_ns);
	outs = p + n;
	n += peer_out_poll(outs, &until_ns);
	if (peer_in_event_waits() || peer_out_event_waits())
		until_ns = 0;
	if (wake_fd >= 0 && !procslot_prepare_pipe_sleep(&wakes_seen))
		until_ns = 0;
	net_poll(p, n, until_ns);
	if (wake_fd >= 0)
		procslot_end_pipe_sleep(&wakes_seen, p[0].readable);
	peer_in_polled(ins);
	peer_out_polled(outs);
}

bool
peers_next(PeerEvent *out)
{
	return peer_out_event(out) || peer_in_event(out);
}

void
peers_send(const RaftMsg *m)
{
	PeerOut *o = peer_out_find(m->to);

	if (o != NULL)
		peer_out_send(o, m);
}

bool
peers_ready(uint64_t id)
{
	PeerOut *o = peer_out_find(id);

	return o != NULL && peer_out_ready(o);
}

uint64_t
peers_send_range(const RaftMsg *head, uint64_t to)
{
	PeerOut *o = peer_out_find(head->to);

	return o != NULL ? peer_out_send_range(o, head, to) : head->pos;
}

void
peers_flush(void)
{
	peer_out_flush();
}

const char *
peers_trouble(uint64_t id)
{
	PeerOut *o = peer_out_find(id);

	if (o == NULL)
		return "it is not known where it is";
	if (o->state == OUT_UP)
		return "";
	if (o->address[0] == '\0')
		return "it has no address for other nodes (peer_port)";
	return o->trouble[0] != '\0' ? o->trouble : "connecting";
}

Status
peers_identify(const char *address, uint64_t *incarnation, char name[MEMBERSHIP_NAME_MAX + 1],
			   char client_address[MEMBERSHIP_ADDRESS_MAX + 1])
{
	PeerOut *o = peer_out_ask(address);
	Status st = ST_OK;

	if (o == NULL)
		return status_fail(ST_CANNOT_CONNECT, "too many nodes are being asked at once");
	if (o->state != OUT_ANSWERED && o->trouble[0] == '\0')
		return ST_BUSY;
	if (o->state != OUT_ANSWERED)
		st = status_fail(ST_CANNOT_CONNECT, "%s: %s", address, o->trouble);
	else if (o->said.code != ST_OK)
		st = status_fail(o->said.code == ST_BAD_VERSION ? ST_BAD_VERSION : ST_FOREIGN, "%s: %s", address,
						 o->said.text);
	else if (!o->said.blank)
		st = status_fail(ST_FOREIGN, "node %s at %s belongs to a cluster already", o->said.name, address);
	*incarnation = o->said.self;
	memcpy(name, o->said.name, sizeof o->said.name);
	memcpy(client_address, o->said.client_address, sizeof o->said.client_address);
	peer_out_free(o);
	return st;
}
