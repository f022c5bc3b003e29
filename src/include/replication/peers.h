/*
 * peers.h - connections between the nodes of a cluster: the consensus worker's only way to the others.
 *
 * Each node keeps one connection to each other member and sends its messages on that one; what the other
 * has to say comes on the connection that it made. So a message travels in one direction only, and a broken
 * direction breaks nothing else. Non-blocking; one process (consensus worker), no locks, no shared memory
 * but the log's ring, which is only read. Format: doc/peer-protocol.md.
 *
 * A connection is used after a hello that names cluster, both nodes' incarnations and the protocol's
 * version; anyone else is refused, and told why (rule C1). A peer that cannot be reached is tried again
 * with growing pauses. What cannot be sent is dropped: messages are not reliable, their users repeat.
 */
#ifndef REPLICATION_PEERS_H
#define REPLICATION_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "replication/membership.h"
#include "replication/raft.h"
#include "storage/control.h"

/* Most log bytes in one frame (rule C3): heartbeats go between. */
#define PEERS_CHUNK 262144

typedef enum PeerEventKind {
	PEER_EV_UP = 1,   /* our connection to it stands (again), or stood already when it became a member */
	PEER_EV_DOWN,     /* and is gone */
	PEER_EV_MESSAGE,  /* `msg`, and `bytes` of the log that stand at msg.pos (APPEND), a piece of the stream at
	                     most PEERS_CHUNK long that may begin and end inside records */
	PEER_EV_LOST      /* its connection to us ended: what was begun there does not go on */
} PeerEventKind;

typedef struct PeerEvent {
	PeerEventKind kind;
	uint64_t id;
	RaftMsg msg;
	Slice bytes;      /* valid until the next peers_next() */
} PeerEvent;

/* Listen on peer_listen_addresses, peer_port. Once, at start. Nothing to do for a node without peer_port. */
KV_CHECK Status peers_open(const Control *control);
void peers_close(void);
/*
 * Who the others are: connections to those that are new begin, to those that are gone end. A member that
 * answers as a blank node with the incarnation named here is given `m` and the cluster's identity, and
 * joins.
 */
void peers_set_members(const Membership *m, Lsn at);
/*
 * Sleep until something may be received or sent, procslot_wake() was called for this process, or until_ns
 * (monotonic) has come. Does what can be done with sockets: connects, receives, sends what is queued.
 */
void peers_wait(uint64_t until_ns);
/* The next thing that happened; false: nothing more now. */
bool peers_next(PeerEvent *out);
/* Queue a message; dropped without a connection or when its queue (PEERS_QUEUE_MAX) is full. */
void peers_send(const RaftMsg *m);
/* Could a range be sent to it at once? Connected, and hardly anything queued. */
bool peers_ready(uint64_t id);
/*
 * head (an APPEND, its pos and to) with log bytes [head->pos, to) straight from the ring, cut to
 * PEERS_CHUNK. Returns where it ends, head->pos if nothing could be sent: not ready, or no longer in the
 * ring.
 */
uint64_t peers_send_range(const RaftMsg *head, uint64_t to);
/* Send what is queued without waiting. At the end of each turn. */
void peers_flush(void);
/* For views: why there is no connection to it ("" if there is one). */
const char *peers_trouble(uint64_t id);
/*
 * Ask a node, before it is a member, who it is: blank, and under which incarnation. Not blocking: call
 * again until it is not BUSY. FOREIGN: it belongs to a cluster already. CANNOT_CONNECT, TIMEOUT. For `kvctl
 * cluster add`.
 */
KV_CHECK Status peers_identify(const char *address, uint64_t *incarnation, char name[MEMBERSHIP_NAME_MAX + 1],
                               char client_address[MEMBERSHIP_ADDRESS_MAX + 1]);

#endif
