/*
 * session.h - one client's session: what the files of the backend share. Private to the room.
 *
 * A drained batch of requests is cut into runs (rule A7): consecutive writes become one log record, consecutive reads
 * share one snapshot. Answers gather in `out` in the order of the requests and leave in one send.
 */
#ifndef BACKEND_SESSION_H
#define BACKEND_SESSION_H

#include "common/proto.h"
#include "replication/membership.h"
#include "storage/kvstore.h"
#include "storage/op.h"

/* Output gathered before it is sent although requests are left: bounds memory and how long a pin is kept. */
#define OUT_FLUSH_BYTES 262144
/* A run of writes is committed at this size although more writes follow: bounds the log record of small ones. */
#define WRITE_RUN_BYTES (1024 * 1024)

/* One request waiting for its write run to be committed. */
typedef struct Pending {
	uint32_t id;
	uint8_t command;
	bool conditional;     /* its outcome has to be looked up */
	bool stamped;         /* a stamp stands before its operations: the outcome is in the session's slot */
	uint32_t first, count;/* its operations in the run */
	uint32_t ranges;      /* how many of these delete a range, with how many bytes of keys */
	size_t range_bytes;
	uint64_t session, serial; /* stamped */
	size_t body_at;       /* where they begin in the run's body */
} Pending;

typedef struct WriteRun {
	Buf body;             /* encoded operations */
	Buf pending;          /* Pending[] */
	uint32_t ops, ranges; /* ranges: how many of them are range deletions, with how many bytes of keys */
	size_t range_bytes;
	Ack ack;
	int timeout_ms;
	bool conditional, deletes_only;
} WriteRun;

typedef struct Request {
	ProtoHeader header;
	uint8_t *payload;     /* in the session's input buffer; handlers may overwrite what they have decoded */
} Request;

/* Requests on their way to the leader: forward.c. */
typedef struct Forward {
	bool open;
	int fd;               /* of the connection to `address`, if open */
	char address[MEMBERSHIP_ADDRESS_MAX + 1];
	Buf items;            /* ForwardItem[] */
	Buf frames, answers;
	Buf in;               /* received, from in_at on not yet looked at */
	size_t in_at;
	int timeout_ms;       /* the longest of the deadlines asked for */
} Forward;

typedef struct Session {
	int fd;
	bool hello_done, closing, reserved_slot;
	bool forwarded;       /* the client is a follower: its requests go no further */
	Buf in;               /* received, from in_at on not yet handled */
	size_t in_at;
	uint64_t discard;     /* bytes still to come of a request that was refused for its size */
	uint64_t frame_since_ns; /* when the first byte of an incomplete frame came; 0 none */
	Buf out;
	WriteRun run;
	Forward forward;
	bool reading;         /* inside kvstore_begin_read() */
	bool shared_read;     /* its snapshot is of now: following reads may use it */
	uint8_t read_freshness;
	uint32_t read_lag_ms; /* of a read that tells it */
	Snapshot snapshot;
	Lsn own_version;      /* of the last write with a weak ack: later reads of this connection see it (rule A7) */
	uint64_t now;         /* log clock when this batch arrived; 0 not asked for yet */
	Buf key;              /* scratch for internal keys that can't be made in place */
} Session;

/* ---- session_io.c: bytes in and out. CLOSED: the client is gone or too slow. */
KV_CHECK Status session_receive(Session *s);
KV_CHECK Status session_send(Session *s);
void session_shrink(Session *s);

/* ---- dispatch.c */
/* Handle every complete request in the input. Not OK: close the connection (after sending what is in `out`). */
KV_CHECK Status session_handle(Session *s);
/* Answer one write or read at once, whatever else is in the input. REQUIRES no write run and no read under way. */
KV_CHECK Status dispatch_here(Session *s, const Request *r);
/* Append an answer's error with the last status detail as text. */
KV_CHECK Status answer_error(Session *s, const Request *r, Status code, uint64_t detail);
/* Begin an answer with status OK; *at for answer_end(). */
KV_CHECK Status answer_begin(Session *s, size_t *at);
void answer_end(Session *s, const Request *r, size_t at);
KV_CHECK Status end_read(Session *s);
/* As answer_begin(), of a read that is open: with what its freshness puts in front. */
KV_CHECK Status answer_begin_read(Session *s, size_t *at);
/* Where the command's own part of an answer that was begun so at `at` stands. */
uint8_t *answer_at(const Session *s, size_t at);
/* Start a read with freshness and at_least of the prefix at the start of the payload. */
KV_CHECK Status begin_read(Session *s, const Request *r, Lsn at);
typedef struct ReadPrefix ReadPrefix;
/* A read of now; goes on with the one this batch has open if that serves. */
KV_CHECK Status begin_plain_read(Session *s, const ReadPrefix *p);

/* ---- forward.c */
/* Is it for the leader, elsewhere, and may it be passed on? */
bool forward_wanted(const Session *s, const Request *r);
/* REQUIRES no write run and no read under way: answers keep their order. */
KV_CHECK Status forward_add(Session *s, const Request *r);
/* Send what was added, wait, append the answers. */
KV_CHECK Status forward_commit(Session *s);
void forward_shrink(Forward *f, size_t keep);
void forward_end(Forward *f);

/* ---- get_run.c */
/* r, a GET, and those behind it, answered together. *taken false: r is on its own, nothing has happened. */
KV_CHECK Status get_run(Session *s, const Request *r, bool *taken);

/* ---- write_run.c */
KV_CHECK Status write_run_add(Session *s, const Request *r);
/* last: nothing of this batch comes after it, so its answers may be left to the WAL writer. */
KV_CHECK Status write_run_commit(Session *s, bool last);
void write_run_free(WriteRun *run);

/* Why an operation did not take effect, for people. */
const char *reason_text(Status st);

/* ---- cmd_session.c */
typedef struct WritePrefix {
	Ack ack;
	int timeout_ms;
	bool stamped;
	uint64_t session, serial;
} WritePrefix;
/* The write prefix and the stamp behind it, if there is one. BAD_REQUEST. */
KV_CHECK Status decode_write_prefix(Reader *r, WritePrefix *p);
/* REQUIRES a read of one's own. Answer to the stamped request whose first operation has `version`. */
KV_CHECK Status answer_stamped(Session *s, const Pending *p, uint64_t version);

/* ---- commands: append one answer. A failure that is the client's is an answer too; not OK closes the connection. */
typedef Status (*CommandFn)(Session *s, const Request *r);
KV_CHECK Status cmd_hello(Session *s, const Request *r);
KV_CHECK Status cmd_ping(Session *s, const Request *r);
KV_CHECK Status cmd_get(Session *s, const Request *r);
/* The answer to a GET that found e. */
KV_CHECK Status answer_value(Session *s, const Request *r, const Entry *e);
KV_CHECK Status cmd_mget(Session *s, const Request *r);
KV_CHECK Status cmd_scan(Session *s, const Request *r);
KV_CHECK Status cmd_count(Session *s, const Request *r);
KV_CHECK Status cmd_estimate(Session *s, const Request *r);
KV_CHECK Status cmd_delete_range(Session *s, const Request *r);
KV_CHECK Status cmd_stats(Session *s, const Request *r);
KV_CHECK Status cmd_config(Session *s, const Request *r);
KV_CHECK Status cmd_checkpoint(Session *s, const Request *r);
KV_CHECK Status cmd_session(Session *s, const Request *r);
KV_CHECK Status cmd_cluster(Session *s, const Request *r);

/* Size of a request that may be refused before all of it has come: OK, or the code to refuse it with. */
KV_CHECK Status early_size_check(const ProtoHeader *h, const uint8_t *payload, size_t have);

/* The deadline a client asks for, ms: 0 means the default, too long ones are cut. */
static inline int
deadline_of(uint32_t ms)
{
	if (ms == 0)
		return PROTO_DEADLINE_MS;
	return ms > PROTO_DEADLINE_MAX_MS ? PROTO_DEADLINE_MAX_MS : (int) ms;
}

/* On the wire: how new what a read sees has to be. */
typedef enum ReadFreshness {
	READ_LINEARIZABLE = 0,
	READ_LOCAL = 1,        /* what this node has applied */
	READ_LOCAL_TOLD = 2    /* the same; the answer begins with how old that is (FRESHNESS_HEAD) */
} ReadFreshness;

/* In front of an answer to READ_LOCAL_TOLD: applied position, lag in ms, 4 zero bytes. */
#define FRESHNESS_HEAD 16

/* A prefix of 16 bytes before reads. */
struct ReadPrefix {
	uint8_t freshness;
	int timeout_ms;
	uint64_t at_least;
};
KV_CHECK Status decode_read_prefix(Reader *r, ReadPrefix *p);
/* Key given by a client: BAD_REQUEST when empty, KEY_TOO_LARGE. */
KV_CHECK Status check_key(Slice key);
/* The internal key of a client's key, in the session's scratch until the next call. BAD_REQUEST, KEY_TOO_LARGE. */
KV_CHECK Status internal_key(Session *s, Slice key, Slice *out);
/* What is left of a deadline, ms, at least 1; 0 for none. */
uint64_t ttl_left(const Session *s, uint64_t expire_ms);

/* ---- counters.c */
void count_command(int command);
void count_error(Status code);
void count_bytes(uint64_t in, uint64_t out);
KV_CHECK Status counters_emit(Status (*emit)(void *arg, const char *name, uint64_t value), void *arg);

/* ---- cmd_cluster.c */
KV_CHECK Status replication_emit(Status (*emit)(void *arg, const char *name, uint64_t value), void *arg);

#endif
