/*
 * session.h - exactly-once writes: clients' sessions as replicated state (rule C6; Raft thesis, 6.3).
 *
 * A client registers a session and gives each of its writes a serial of its own; sending a write again with the same
 * serial does it at most once and answers as the first time. All of it is decided at apply, in log order, from
 * log and state alone (rule A4), so that every replica, and every later leader, decides alike.
 *
 * State, in the system keyspace (integers of keys big-endian, of values little-endian; also in doc/formats-ops.md):
 *
 *   session   key 0 's' id:8          no value. id = version of the registering operation. Gone at its deadline.
 *   slot      key 0 'o' id:8 slot:2   value: serial:8 status:2 0:2 place:4 detail:8 answer
 *                                     of the newest serial done with serial % PROTO_SESSION_WINDOW = slot
 *
 * A session lives for the time it was registered with; use does not prolong it. So its slots can have its deadline,
 * all expires together without anybody to clean up, and a slot is never gone while its session lives. A client that
 * wants to go on registers its next session in time.
 *
 * A client has at most PROTO_SESSION_WINDOW serials under way (it says below which one all are confirmed), so that a
 * slot is only taken over from a serial nobody will ask for. The slot knows whether a serial is new (slot empty, or
 * of a smaller one), done (the same) or too old (a larger one): no list, nothing to delete.
 *
 * Operations: OP_STAMP begins the group that it makes unrepeatable. Key: the slot's; value: serial:8, then the
 * answer that the slot shall keep beside what apply finds out (DELETE_RANGE: how far it came). OP_SESSION_OPEN: key 0
 * 's', with OP_TTL. OP_SESSION_CLOSE: key: the session's.
 */
#ifndef STORAGE_SESSION_H
#define STORAGE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/proto.h"
#include "storage/entry.h"
#include "storage/op.h"

#define SESSION_KEY_SIZE 10
#define SLOT_KEY_SIZE 12
#define SLOT_VALUE_SIZE 24
/* Longest answer kept in a slot: a position in a range, which is a key, and figures. */
#define SLOT_ANSWER_MAX (KV_KEY_MAX + 64)

/* What became of a group; a slot's value. */
typedef struct SlotValue {
	uint64_t serial;
	Status status;   /* OK, or of the first operation that failed: NOT_FOUND, CONDITION_FAILED, NOT_INTEGER, ... */
	uint32_t place;  /* of that operation in the group, from 0 */
	uint64_t detail; /* OK: new number of an increment that is the first operation; else the failed key's version */
	Slice answer;    /* as the stamp gave it */
} SlotValue;

/* out: SESSION_KEY_SIZE bytes. */
Slice session_key(uint64_t id, uint8_t *out);
/* out: SLOT_KEY_SIZE bytes. */
Slice session_slot_key(uint64_t id, uint64_t serial, uint8_t *out);
/* The session a slot's key belongs to. */
uint64_t session_of_slot(Slice slot_key);

/* Append the operation to a record's body. */
KV_CHECK Status session_encode_open(Buf *body, uint64_t ttl_ms);
KV_CHECK Status session_encode_close(Buf *body, uint64_t id);
KV_CHECK Status session_encode_stamp(Buf *body, uint64_t id, uint64_t serial, Slice answer);
/* For op_decode(). */
bool session_op_is_sound(const Op *op);

/* out: SLOT_VALUE_SIZE + answer.len bytes. */
Slice session_put_slot(const SlotValue *v, uint8_t *out);
/* CORRUPT. The answer points into the value. */
KV_CHECK Status session_get_slot(Slice value, SlotValue *out);

#endif
