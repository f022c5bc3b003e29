/*
 * peer_internal.h - what the files of the transport share: peers.c, peer_in.c, peer_out.c,
 * peer_queue.c, bootstrap.c.
 *
 * One process, no locks. Everything is static and bounded.
 */
#ifndef PEER_INTERNAL_H
#define PEER_INTERNAL_H

#include "common/prng.h"
#include "peer_proto.h"
#include "port/net.h"
#include "storage/control.h"

#define PEERS_OUT_MAX 48         /* members; nodes that left or are not known yet; nodes that are asked */
#define PEERS_IN_MAX 64          /* two of each member while one is replaced, and as many strangers */
#define PEERS_ADDRESSES_MAX 4    /* of one name: both families, and another one */
#define PEERS_LISTEN_MAX 8       /* sockets; more addresses than that are a mistake in peer_listen_addresses */
#define PEERS_QUEUE_MAX 65536    /* bytes of messages that wait for a connection to take them; then they are dropped */
#define PEERS_READY_MAX 4096     /* more than this waiting: no log bytes on top */
#define PEERS_SEND_BUFFER 524288 /* in the system: a heartbeat stands behind no more than this and one chunk */
#define PEERS_IN_BUFFER (2 * (PEER_FRAME_MAX)) /* a frame being read while the one before is still looked at */
#define PEERS_GREET_MS 5000      /* connect, hello, answer; where we connect at most two election timeouts */
#define PEERS_GREET_MIN_MS 500   /* though at least this: a line that was bad is tried anew soon */
#define PEERS_STALL_MS 3000      /* at least; bytes wait and none is taken: the connection is made anew */
#define PEERS_PAUSE_MIN_MS 50    /* between attempts, doubling */
#define PEERS_PAUSE_MAX_MS 1000
#define PEERS_QUIET_MS 2000      /* a connection that cannot be made is logged when that lasts this long */
#define PEERS_LINGER_MS 5000     /* a node that left the configuration hears this much longer how that ended */
#define PEERS_RESOLVE_MS 30000   /* a name is looked up at most this often: that stops everything else meanwhile */
#define PEERS_COMPLAIN_MS 60000  /* the same complaint about others is logged this often */

/* Who this node is. */
typedef struct PeerSelf {
	Control control;
	bool blank;           /* no cluster yet: only takes a FORM */
	char name[MEMBERSHIP_NAME_MAX + 1];
	char peer_address[MEMBERSHIP_ADDRESS_MAX + 1];
	char client_address[MEMBERSHIP_ADDRESS_MAX + 1];
	Membership members;
	Lsn at;               /* of `members` */
	uint32_t stall_ms, greet_ms;
	Prng prng;
} PeerSelf;
extern PeerSelf peer_self;

/* As peers_open(), for a node without a cluster: others may ask who it is, and give it one (peer_in_form()). */
KV_CHECK Status peers_open_blank(const Control *control);

static inline uint64_t
peers_ms(uint64_t ms)
{
	return ms * UINT64_C(1000000);
}
/* Has a complaint about `text` not been made for PEERS_COMPLAIN_MS? Then it is made, as a log line. */
void peers_complain(const char *who, const char *text);

/* ---- peer_out.c: connections that we made */
typedef enum PeerOutState {
	OUT_IDLE,       /* waits until retry_ns */
	OUT_CONNECTING,
	OUT_GREETING,   /* our hello is on its way, its answer awaited */
	OUT_UP,
	OUT_FORMING,    /* a blank node is being told what it belongs to */
	OUT_ANSWERED    /* IDENTIFY: the answer is here */
} PeerOutState;

typedef struct PeerOut {
	uint64_t id;       /* its incarnation; 0 with purpose IDENTIFY */
	PeerPurpose purpose; /* 0: the place is free */
	PeerOutState state;
	bool member;
	uint64_t gone_ns;  /* not a member: ends then */
	char name[MEMBERSHIP_NAME_MAX + 1];
	char address[MEMBERSHIP_ADDRESS_MAX + 1];
	NetAddress to[PEERS_ADDRESSES_MAX]; /* in turn, after each failure the next */
	int nto;
	unsigned to_next;
	bool named;        /* they belong to a name, not a number */
	uint64_t resolved_ns; /* 0: not yet */
	int fd;
	uint64_t began_ns; /* this state */
	uint64_t moved_ns; /* bytes were taken, or began to wait */
	uint64_t retry_ns;
	uint64_t down_ns;  /* since when there is no connection */
	uint32_t pause_ms;
	Buf queue;         /* [queue_at, len) waits to be sent */
	size_t queue_at;
	/* log bytes [range_from, range_to) go between queue[.. range_at) and the rest; equal: none */
	Lsn range_from, range_to;
	size_t range_at;
	uint8_t answer[PEER_HELLO_MAX];
	size_t answer_len;
	PeerAnswer said;   /* ANSWERED */
	bool was_up, ev_up, ev_down; /* was_up: the user was told; ev_*: is to be told */
	char trouble[PEER_TEXT_MAX + 1], logged[PEER_TEXT_MAX + 1];
} PeerOut;

PeerOut *peer_out_find(uint64_t id);
/* Members are `m`; others end after PEERS_LINGER_MS. */
void peer_out_members(const Membership *m);
/* A node that we do not know yet, but that knows a newer configuration: answers have to reach it. */
void peer_out_guest(const PeerHello *h);
PeerOut *peer_out_ask(const char *address);
void peer_out_free(PeerOut *o);
/* Adds what to poll; -> number. Earlier *until_ns if something is due before. */
int peer_out_poll(NetPoll *p, uint64_t *until_ns);
/* After the poll, the same entries. */
void peer_out_polled(const NetPoll *p);
void peer_out_flush(void);
void peer_out_send(PeerOut *o, const RaftMsg *m);
bool peer_out_ready(const PeerOut *o);
uint64_t peer_out_send_range(PeerOut *o, const RaftMsg *head, uint64_t to);
bool peer_out_event(PeerEvent *out);
bool peer_out_event_waits(void);
void peer_out_close_all(void);

/* ---- peer_queue.c: what waits to be sent on one of them */
bool peer_queue_waits(const PeerOut *o);
void peer_queue_clear(PeerOut *o);
/* Send what goes now. NULL, or why the connection has to end. */
const char *peer_queue_push(PeerOut *o);
/* Dropped when the queue is full. */
void peer_queue_message(PeerOut *o, const RaftMsg *m);
/* Room for a range? */
bool peer_queue_ready(const PeerOut *o);
/* As peers_send_range(), not yet sent. */
uint64_t peer_queue_range(PeerOut *o, const RaftMsg *head, uint64_t to);

/* ---- peer_in.c: connections that we accepted */
KV_CHECK Status peer_in_listen(void);
int peer_in_poll(NetPoll *p, uint64_t *until_ns);
void peer_in_polled(const NetPoll *p);
bool peer_in_event(PeerEvent *out);
bool peer_in_event_waits(void);
/* Is there a connection from it, and did it name a newer configuration than ours? */
bool peer_in_ahead(uint64_t id);
/* Blank: somebody has given us a cluster. Once. */
bool peer_in_form(PeerForm *out);
void peer_in_close_all(void);

#endif
