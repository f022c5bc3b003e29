/*
 * peer_proto.h - the peer protocol: bytes on connections between nodes. Format: doc/peer-protocol.md.
 *
 * Pure: nothing here knows sockets. What comes from a socket is not trusted: decoders check all of it.
 */
#ifndef PEER_PROTO_H
#define PEER_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "replication/membership.h"
#include "replication/peers.h"
#include "replication/raft.h"

#define PEER_VERSION 1        /* newest spoken here */
#define PEER_VERSION_OLDEST 1 /* oldest spoken here */
#define PEER_PRELUDE 16       /* of hello and answer: the same in all versions */
#define PEER_HELLO_MAX 1024   /* longest hello or answer; version 1 needs half: later ones may say more */
#define PEER_TEXT_MAX 191     /* longest sentence of an answer */

typedef enum PeerPurpose {
	PEER_MEMBER = 1,  /* messages follow */
	PEER_IDENTIFY = 2 /* tell who you are; nothing follows */
} PeerPurpose;

typedef struct PeerHello {
	uint16_t newest, oldest; /* versions the sender speaks */
	uint8_t purpose;
	uint8_t cluster_id[16];
	uint64_t self, expected; /* incarnations; expected 0: whoever is there (IDENTIFY) */
	uint64_t config_at;      /* LSN of the configuration that the sender goes by */
	char name[MEMBERSHIP_NAME_MAX + 1];
	char peer_address[MEMBERSHIP_ADDRESS_MAX + 1];
} PeerHello;

typedef struct PeerAnswer {
	uint16_t version; /* both speak this one from here on; 0: refused */
	Status code;      /* OK, BAD_VERSION, FOREIGN, NOT_FOUND, BUSY */
	bool blank;       /* belongs to no cluster yet */
	uint64_t self;
	char name[MEMBERSHIP_NAME_MAX + 1];
	char client_address[MEMBERSHIP_ADDRESS_MAX + 1];
	char text[PEER_TEXT_MAX + 1]; /* why not */
} PeerAnswer;

/* Length of the bytes. */
size_t peer_hello_encode(const PeerHello *h, uint8_t out[PEER_HELLO_MAX]);
size_t peer_answer_encode(const PeerAnswer *a, uint8_t out[PEER_HELLO_MAX]);
/*
 * From the front of `in`; *used: its bytes. NOT_FOUND: not all there yet. PROTOCOL: malformed. BAD_VERSION
 * (hello): the sender speaks newer versions only; nothing but newest and oldest is known.
 */
KV_CHECK Status peer_hello_decode(Slice in, PeerHello *h, size_t *used);
KV_CHECK Status peer_answer_decode(Slice in, PeerAnswer *a, size_t *used);

/* ---- frames, after the hello */
#define PEER_FRAME_HEAD 12
#define PEER_MESSAGE_FIXED 64
#define PEER_MESSAGE_MAX (PEER_MESSAGE_FIXED + RAFT_TAIL_MAX * 16)
#define PEER_FORM_MAX 8192 /* 40 bytes and the largest configuration: 16 x 329 + 8 */
#define PEER_FRAME_MAX (PEER_FRAME_HEAD + PEER_MESSAGE_MAX + PEERS_CHUNK)

typedef enum PeerFrameType {
	PEER_FRAME_MESSAGE = 1, /* a RaftMsg; bytes of the log behind it */
	PEER_FRAME_FORM = 2     /* to a blank node: the cluster's identity and members */
} PeerFrameType;

typedef struct PeerFrame {
	uint8_t type;
	Slice head;  /* the message or form */
	Slice bytes; /* of the log */
} PeerFrame;

typedef struct PeerForm {
	uint8_t cluster_id[16];
	uint64_t crc_seed;
	uint32_t wal_segment_size; /* where the log begins depends on it: the same on all nodes */
	Lsn at;                    /* of the configuration */
	Membership members;
} PeerForm;

/* Append header and message of a frame that `bytes_len` bytes of the log will follow. */
KV_CHECK Status peer_message_encode(const RaftMsg *m, size_t bytes_len, Buf *out);
KV_CHECK Status peer_form_encode(const PeerForm *f, Buf *out);
/* NOT_FOUND: not all there yet. PROTOCOL: no frame of this protocol. The slices point into `in`. */
KV_CHECK Status peer_frame_decode(Slice in, PeerFrame *out, size_t *used);
/* Would peer_frame_decode() not answer NOT_FOUND? Cheap. */
bool peer_frame_waits(Slice in);
/* from and to are not on the wire: the connection says who. PROTOCOL. */
KV_CHECK Status peer_message_decode(Slice head, RaftMsg *m);
KV_CHECK Status peer_form_decode(Slice head, PeerForm *f);

#endif
