/*
 * proto.h - frames and numbers of the client protocol (doc/protocol.md), both ends.
 */
#ifndef COMMON_PROTO_H
#define COMMON_PROTO_H

#include "common/coding.h"
#include "common/limits.h"

#define PROTO_VERSION 1
#define PROTO_MAGIC "KVD1"
#define PROTO_HEADER_SIZE 16
#define PROTO_ANSWER 128       /* added to the command in an answer */
#define PROTO_NAME_MAX 64      /* client's name in HELLO */
#define PROTO_PING_MAX 4096
#define PROTO_DEADLINE_MS 30000
/* Longer deadlines are cut to this: who waits keeps a connection's process, also when the client has gone. */
#define PROTO_DEADLINE_MAX_MS 600000
#define PROTO_TTL_MAX (UINT64_C(1) << 53)
#define PROTO_DELETE_STEP 1000
#define PROTO_COUNT_STEP 1000000
#define PROTO_PAGE_DEFAULT 262144
#define PROTO_PAGE_MAX 4194304

/* X(name, number, word): order and numbers are final. */
#define PROTO_COMMAND_LIST(X) \
	X(HELLO, 1, "hello") \
	X(PING, 2, "ping") \
	X(PUT, 3, "put") \
	X(GET, 4, "get") \
	X(MGET, 5, "mget") \
	X(DELETE, 6, "delete") \
	X(DELETE_RANGE, 7, "delete_range") \
	X(SCAN, 8, "scan") \
	X(COUNT, 9, "count") \
	X(BATCH, 10, "batch") \
	X(INCR, 11, "incr") \
	X(STATS, 12, "stats") \
	X(CONFIG, 13, "config") \
	X(CHECKPOINT, 14, "checkpoint") \
	X(SESSION, 15, "session") \
	X(CLUSTER, 16, "cluster") \
	X(LOG_READ, 17, "log_read") \
	X(SNAPSHOT_OPEN, 18, "snapshot_open") \
	X(SNAPSHOT_READ, 19, "snapshot_read") \
	X(ESTIMATE, 20, "estimate")

typedef enum ProtoCommand {
#define PROTO_ENUM(name, number, word) PROTO_##name = number,
	PROTO_COMMAND_LIST(PROTO_ENUM)
#undef PROTO_ENUM
	PROTO_COMMANDS /* one past the last */
} ProtoCommand;

/* Flags of SCAN, COUNT, DELETE_RANGE; of HELLO; actions of CONFIG; flags of CHECKPOINT. */
#define PROTO_SCAN_REVERSE 1
#define PROTO_SCAN_KEYS_ONLY 2
#define PROTO_RANGE_UNBOUNDED 4
#define PROTO_RANGE_AFTER_START 8
/* In an answer to SCAN: there is more behind its last entry; behind the key that follows the entries. */
#define PROTO_MORE 1
#define PROTO_MORE_BEHIND 2
/* Kind of an operation, of DELETE and BATCH: its key is the start of a range, its value the end (empty: none). */
#define PROTO_OP_DELETE_RANGE 4
#define PROTO_HELLO_ADMIN 1
#define PROTO_HELLO_FORWARDED 2 /* a follower passes its clients' requests on: they go no further */
#define PROTO_CHECKPOINT_COMPACT 1
typedef enum ProtoConfigAction {
	PROTO_CONFIG_LIST,
	PROTO_CONFIG_SET,
	PROTO_CONFIG_RESET,
	PROTO_CONFIG_RELOAD
} ProtoConfigAction;

#define PROTO_CLUSTER_DRY_RUN 1 /* flag of CLUSTER */
typedef enum ProtoClusterAction {
	PROTO_CLUSTER_STATUS,
	PROTO_CLUSTER_ADD,
	PROTO_CLUSTER_REMOVE,
	PROTO_CLUSTER_PROMOTE,
	PROTO_CLUSTER_TRANSFER,
	PROTO_CLUSTER_REPLACE,
	PROTO_CLUSTER_CHECK,
	PROTO_CLUSTER_REPAIR
} ProtoClusterAction;

#define PROTO_WRITE_PREFIX 8
/* Flag of a write prefix: PROTO_STAMP bytes follow it, that make sending the request again safe. */
#define PROTO_WRITE_STAMPED 1
#define PROTO_STAMP 24         /* session, serial, confirmed */
/*
 * Serials of a session that a client may have under way: what the server keeps of a session is bounded by it, and
 * it covers deep pipelines.
 */
#define PROTO_SESSION_WINDOW 1024
/* Life of a session, ms. Longer ones only keep what nobody asks for any more; a shorter one no retry could use. */
#define PROTO_SESSION_TTL_MIN 1000
#define PROTO_SESSION_TTL 600000
#define PROTO_SESSION_TTL_MAX 86400000
typedef enum ProtoSessionAction { PROTO_SESSION_OPEN, PROTO_SESSION_CLOSE } ProtoSessionAction;
#define PROTO_READ_PREFIX 16
#define PROTO_OP_HEADER 16

typedef struct ProtoHeader {
	uint32_t length;
	uint32_t crc;
	uint32_t id;
	uint8_t type;
	uint8_t flags;
	uint16_t status;
} ProtoHeader;

/* p: PROTO_HEADER_SIZE bytes. */
void proto_get_header(const uint8_t *p, ProtoHeader *h);
/* Fill the header in front of a payload that stands at p + PROTO_HEADER_SIZE, CRC included. */
void proto_put_header(uint8_t *p, uint32_t length, uint32_t id, uint8_t type, uint16_t status);
/* Does the CRC of a whole frame (header and h->length bytes of payload behind it) fit? */
bool proto_crc_ok(const uint8_t *p, const ProtoHeader *h);
/* Start a frame at the end of `b`: reserves the header, *at = its place. Then append the payload and finish. */
KV_CHECK Status proto_begin(Buf *b, size_t *at);
void proto_finish(Buf *b, size_t at, uint32_t id, uint8_t type, uint16_t status);
/* A whole error answer. */
KV_CHECK Status proto_error(Buf *b, uint32_t id, uint8_t type, Status code, uint64_t detail, const char *text);
/* "put" for PROTO_PUT; "?" for unknown numbers. */
const char *proto_command_name(int command);

#endif
