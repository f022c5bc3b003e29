/*
 * op.h - the operations in the body of a WAL_WRITE record.
 *
 * They are replicated: what an operation does depends only on the state before it and on the record
 * (rule A4), never on settings or clocks of a node. Format (doc/formats-ops.md has examples), little-endian, operations
 * back to back:
 *
 *   offset size
 *        0    1  kind        OpKind
 *        1    1  condition   OpCondition
 *        2    1  flags       OP_TTL, OP_GROUPED, OP_KEEP_TTL
 *        3    1  0
 *        4    4  key length     (internal key: keyspace byte + user key)
 *        8    4  value length   (PUT: the value; INCR: 8, the signed step; DELETE: 0; DELETE_RANGE: the end)
 *       12    4  expected length (condition VALUE: the expected value; VERSION: 8, the version; else 0)
 *       16    8  ttl ms, only with OP_TTL
 *             .  key, value, expected
 *
 * The i-th operation of a record has version LSN + i. A record holds at most OP_RECORD_MAX.
 * Operations flagged OP_GROUPED join the group of the one before: a group takes effect as a whole or
 * not at all, its conditions judge the state before the group.
 *
 * DELETE_RANGE deletes what older operations have put into [key, value), both internal keys of the user's keyspace
 * (range_is_sound()). It has no condition, and looks at nothing. A record holds at most OP_RANGES_MAX of them.
 *
 * STAMP, SESSION_OPEN and SESSION_CLOSE are described in storage/session.h. A stamp begins a group: the operations
 * behind it, if any, are flagged OP_GROUPED.
 */
#ifndef STORAGE_OP_H
#define STORAGE_OP_H

#include "common/coding.h"

typedef enum OpKind {
	OP_PUT = 1,
	OP_DELETE = 2,
	OP_INCR = 3,
	OP_STAMP = 4,
	OP_SESSION_OPEN = 5,
	OP_SESSION_CLOSE = 6,
	OP_DELETE_RANGE = 7
} OpKind;

/* A client's largest batch and its stamp. */
#define OP_RECORD_MAX (KV_BATCH_OPS_MAX + 1)
/*
 * Most range deletions of a record, which may be of several requests: a memtable has to have room for them all when it
 * is applied.
 */
#define OP_RANGES_MAX (2 * KV_BATCH_RANGES_MAX)

typedef enum OpCondition {
	COND_NONE = 0,
	COND_ABSENT = 1,   /* no live value */
	COND_PRESENT = 2,  /* a live value */
	COND_VERSION = 3,  /* a live value with exactly this version */
	COND_VALUE = 4     /* a live value equal to this one */
} OpCondition;

#define OP_TTL 1
#define OP_GROUPED 2
#define OP_KEEP_TTL 4 /* PUT: the deadline of the value it replaces stays */
#define OP_FLAGS_ALL 7

#define OP_HEADER_SIZE 16

typedef struct Op {
	OpKind kind;
	OpCondition condition;
	uint8_t flags;
	uint64_t ttl_ms;           /* with OP_TTL; from the record's effective log time */
	Slice key, value, expected;
} Op;

/*
 * Append it. OUT_OF_MEMORY, and nothing else: body is as before then, no part of an operation is ever left in it. What
 * op_decode() would refuse is not looked for.
 */
KV_CHECK Status op_encode(Buf *body, const Op *op);
/* Of the operation at p, OP_HEADER_SIZE bytes not looked at by anybody yet. */
static inline uint8_t op_header_kind(const uint8_t *p) { return p[0]; }
/* Does it begin a group that is about sessions? */
static inline bool
op_header_of_session(const uint8_t *p)
{
	return op_header_kind(p) >= OP_STAMP && op_header_kind(p) <= OP_SESSION_CLOSE;
}
static inline uint8_t op_header_flags(const uint8_t *p) { return p[2]; }
/* Bytes op_encode() will add. */
size_t op_encoded_size(const Op *op);
/* Decode the next operation; slices point into the body. CORRUPT: impossible content. */
KV_CHECK Status op_decode(Reader *r, Op *op);

#endif
