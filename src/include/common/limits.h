/*
 * limits.h - protocol constants: the bounds that every node and client agrees on.
 *
 * They are part of the protocol (doc/protocol.md), sent in the hello answer. Changing one
 * is a new protocol version.
 */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

/* Longest key a client may use, bytes. Fits the 16-bit lengths many tools assume, plus one. */
#define KV_KEY_MAX 65536
/* Longest value, bytes. Larger ones would hold the log, and every other client, for too long. */
#define KV_VALUE_MAX 16777216
/* Most operations in one batch: bounds the index overhead one record brings to a memtable. */
#define KV_BATCH_OPS_MAX 65536
/* Most range deletions in one batch: reads go through those of a memtable one by one. */
#define KV_BATCH_RANGES_MAX 64
/*
 * Largest log record with header and padding: one largest key and value and room for what describes
 * them. The ring must hold four (a writer never waits for more than three others), a memtable one.
 */
#define KV_RECORD_MAX (KV_VALUE_MAX + 262144)
/* Largest frame payload, bytes: a batch that fills a record. */
#define KV_FRAME_MAX KV_RECORD_MAX

#endif
