/*
 * fetch_internal.h - what the files of fetching share: the order in shared memory, the client, the incoming directory.
 */
#ifndef REPLICATION_FETCH_INTERNAL_H
#define REPLICATION_FETCH_INTERNAL_H

#include <stdatomic.h>

#include "common/bytes.h"
#include "replication/fetch.h"
#include "storage/control.h"
#include "storage/transfer.h"

/* Bytes asked for at once: large enough for a disk, small enough that others get their turn. */
#define FETCH_CHUNK 1048576
/* Appended at once: as much as a leader sends at once. */
#define FETCH_PIECE 262144

/* ---- fetch_client.c: one connection to another node's client port. Fetcher process. */
typedef struct FetchClient {
	int fd; /* -1: none */
	uint32_t id;
	Buf out, in;
	uint64_t took_us; /* the last request, from sending it to its whole answer */
} FetchClient;
/* "host:port" or "[v6]:port". Greets, and makes sure that it is of our cluster. CANNOT_CONNECT, TIMEOUT, FOREIGN. */
KV_CHECK Status fetch_client_open(FetchClient *c, const char *address, const Control *self);
void fetch_client_close(FetchClient *c);
/*
 * One request and its answer's payload, valid until the next call. NOT_FOUND and CONDITION_FAILED are the other
 * node's; its other failures are CLOSED here, with its words. Whatever leaves the connection in the middle of something
 * closes it.
 */
KV_CHECK Status fetch_client_call(FetchClient *c, int command, Slice payload, Slice *answer);
/*
 * After a request: rest, as long as the last one took, if that was long. The other node, or this machine, is busy then
 * with those whom it serves; one that has time is asked without a pause.
 */
uint64_t fetch_client_rest_us(const FetchClient *c);
static inline bool
fetch_client_is_open(const FetchClient *c)
{
	return c->fd >= 0;
}

/* ---- fetch.c: the order */
typedef struct FetchJob {
	uint64_t no; /* of the order */
	FetchOrder order;
} FetchJob;
/* Does the order still stand? */
bool fetch_stands(const FetchJob *job);
/* BUSY, for a job whose order does not stand. */
Status fetch_not_ordered(void);
/* The order is done, unless there is another one by now. */
void fetch_end(const FetchJob *job);
/* Sleep, but not past the end of the order. */
void fetch_nap(const FetchJob *job, uint64_t us);

/* ---- fetch_log.c */
/* One LOG_READ and what it brings. *done: there is no more. NOT_FOUND: the log here is gone there. */
KV_CHECK Status fetch_log(const FetchJob *job, FetchClient *c, bool *done);
/* Append a range of whole records at our end, piece by piece. BUSY: the order does not stand any more. */
KV_CHECK Status fetch_append(const FetchJob *job, Slice records, Lsn at);

/* ---- fetch_snapshot.c */
/* All tables into FETCH_INCOMING, checked and marked complete. CONDITION_FAILED: they hold no more than we have. */
KV_CHECK Status fetch_snapshot(const FetchJob *job, FetchClient *c);

/* ---- fetch_incoming.c: files of FETCH_INCOMING that are not tables. Format: doc/formats-manifest.md */
typedef struct FetchComplete {
	Lsn flushed;
	uint64_t term, log_time;
	bool repair;
} FetchComplete;
/* Everything is there and synced; after this the next start installs it. */
KV_CHECK Status fetch_mark_complete(const FetchComplete *c, const Control *self);
/* NOT_FOUND, CORRUPT. */
KV_CHECK Status fetch_read_complete(FetchComplete *out, const Control *self);
KV_CHECK Status fetch_write_plan(const TransferPlan *plan);
KV_CHECK Status fetch_read_plan(TransferPlan *out);
/* All of it at once, for good; what takes its time is done under another name, at the next start if need be. */
KV_CHECK Status fetch_remove_incoming(void);
KV_CHECK Status fetch_remove_gone(void);

#endif
