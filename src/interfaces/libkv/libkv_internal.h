/*
 * libkv_internal.h - the handle and what the files of libkv share.
 *
 * Layers, upper ones call lower ones:
 *	write.c read.c scan.c admin.c    the calls: encode, call, decode
 *	pipeline.c pipeline_resume.c     append and get_reply
 *	call.c                           one request with retries
 *	session.c                        what makes writes safe to send again
 *	connect.c                        hosts, hello
 *	io.c                             buffers and the socket
 *	uri.c encode.c                   text to options; operations to bytes
 * A function that ends in _locked, and everything that is not in kv.h, wants c->lock held.
 */
#ifndef LIBKV_INTERNAL_H
#define LIBKV_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/proto.h"
#include "kv.h"

#define KV_DEFAULT_PORT 7400
#define KV_TIMEOUT_DEFAULT_MS 5000
#define KV_HOST_NAME_MAX 255        /* longest host name of the DNS */
#define KV_HOSTS_MAX 32             /* a URI with more is a mistake */
#define KV_ANSWERS_MAX (16u << 20)  /* answers kept for a pipelining client before it must take some */
#define KV_QUEUE_SEND (256u << 10)  /* an append sends when so much is queued */
#define KV_OUTSTANDING_MAX 65536    /* requests in flight: bounds the list of what they were */
#define KV_REQUESTS_MAX (16u << 20) /* requests kept to be sent again before some replies must be taken */
#define KV_BUFFER_KEEP (1u << 20)   /* larger buffers are given back after a call */

typedef struct Host {
	char name[KV_HOST_NAME_MAX + 1];
	uint16_t port;
} Host;

typedef struct Options {
	Host hosts[KV_HOSTS_MAX];
	int host_count;
	int timeout_ms;
	uint8_t ack;  /* as in the protocol: 0 quorum, 1 local, 2 none */
	uint8_t read; /* 0 linearizable, 1 local */
	bool admin;
	bool retry;   /* writes are stamped, so that they may be sent again */
	char name[PROTO_NAME_MAX + 1];
} Options;

/* A request that was appended and whose reply was not taken. */
typedef struct Pending {
	uint64_t end; /* place in the stream of this connection behind its last byte */
	uint32_t size; /* of its frame */
	uint32_t id;
	uint8_t command;
	bool write, stamped;
	bool doubt;   /* session.c */
	bool refused; /* its last copy was certainly not done */
	bool gone;    /* will not be sent again */
} Pending;

/* Access to all fields is controlled by `lock`, except the two atomics. */
struct kv_client {
	pthread_mutex_t lock;
	Options options;
	_Atomic int fd;             /* -1: not connected; kv_cancel() reads it from a signal handler */
	_Atomic bool cancelled;
	int host;                   /* place in options.hosts of the last one tried */
	Host leader;                /* where a NOT_LEADER answer pointed to; name "" = nowhere */
	Host at;                    /* the host of the connection */
	bool was_connected;
	uint64_t used_ns;           /* when the connection last carried something */
	kv_info info;

	Buf out;                    /* requests; those before out_sent have left */
	size_t out_sent;
	uint64_t stream_start;      /* place in the stream of out.data[0] */
	Buf in;                     /* answers; those before in_pos have been taken */
	size_t in_pos;
	bool eof;                   /* nothing more will come: fd is closed, `broken` says why */
	Status broken;
	char broken_text[STATUS_DETAIL_MAX];

	/* What writes are stamped with (session.c); id 0: there is none now. */
	uint64_t session, next_serial;
	uint64_t session_until_ns;  /* then it is renewed */
	uint8_t session_cluster[16];

	uint32_t last_id;           /* of the newest request */
	Pending *pending;           /* ring of KV_OUTSTANDING_MAX, made at the first append */
	size_t pending_head, pending_count;
	size_t pending_stamped;     /* of them */
};

/* --- uri.c --- */
/* Parse uri (NULL or "": environment) over the defaults. USAGE names what is wrong. */
KV_CHECK Status options_parse(const char *uri, Options *o);
/* "host:port", "[::1]:7400", "host"; len bytes. */
KV_CHECK Status host_parse(const char *text, size_t len, uint16_t default_port, Host *out);

/* --- io.c --- */
uint64_t deadline_in(int timeout_ms);
/* ms left until the deadline, rounded up; 0 when it has passed. */
int deadline_left_ms(uint64_t deadline_ns);
/* Take over a connected socket. */
KV_CHECK Status io_attach(kv_client *c, int fd);
/* Close and forget the connection and what it brought; requests in `out` stay. */
void io_close(kv_client *c);
/* Has the other side closed, or sent something unasked? */
bool io_is_stale(kv_client *c);
/*
 * Wait until the socket takes or gives something, and move it, in both directions. TIMEOUT at the deadline. When
 * the connection breaks, c->eof is set and ST_OK returned: answers that came before are still there.
 */
KV_CHECK Status io_step(kv_client *c, uint64_t deadline_ns);
/* Send without waiting as much as the socket takes. */
void io_send_some(kv_client *c);
size_t io_unsent(const kv_client *c);
size_t io_answers(const kv_client *c);
/*
 * The next whole answer: *have tells. PROTOCOL: not a frame, or its CRC is wrong. The payload is valid until the next
 * io_step() or io_close().
 */
KV_CHECK Status io_take_frame(kv_client *c, ProtoHeader *h, Slice *payload, bool *have);
/*
 * Send a small frame and wait for its answer; requests in c->out stay unsent meanwhile. c->eof tells that the
 * connection broke; TIMEOUT at the deadline.
 */
KV_CHECK Status io_ask(kv_client *c, const uint8_t *frame, size_t len, uint64_t deadline_ns, ProtoHeader *h,
                       Slice *payload);
/* Note why the connection is gone, and close the socket; `in` stays. */
void io_break(kv_client *c, Status st);

/* --- connect.c --- */
/* Connected afterwards, or an error: hosts in turn, more than once where that can help, until the deadline. */
KV_CHECK Status connect_ensure(kv_client *c, uint64_t deadline_ns);
/* The answer was NOT_LEADER: remember where it pointed to (text: host:port or nothing), leave this host. */
void connect_follow(kv_client *c, Slice text);
/* Sleep, unless cancelled or the deadline comes first. False: do not try again. */
bool connect_pause(kv_client *c, int ms, uint64_t deadline_ns);

/* --- call.c --- */
/* An id for the next request. */
uint32_t call_next_id(kv_client *c);
/* Lock, refuse when replies are outstanding, start a frame in c->out. Not OK: not locked. */
KV_CHECK Status call_begin(kv_client *c);
/* As call_begin(), for the second and later requests of one call: the lock is held already. */
KV_CHECK Status call_again(kv_client *c);
/*
 * How long one host may be waited for: with several of them not to the end, so that a silent one leaves time for the
 * others. For requests that may be sent twice.
 */
uint64_t call_try_deadline(const kv_client *c, uint64_t deadline_ns);
typedef struct Call {
	ProtoCommand command;
	bool write;
	bool stamped;         /* call_run()'s own, like the next two */
	bool doubt;
	uint64_t session;
	int deadline_at;      /* where in the payload the u32 deadline stands, -1 none */
	int timeout_ms;       /* 0 = the handle's */
	Slice answer;         /* out: payload, valid until the lock is released */
	uint64_t detail;      /* out: of an error */
} Call;
/* Finish the frame, send it, wait for the answer, retry as kv.h says. Returns the answer's code or the failure. */
KV_CHECK Status call_run(kv_client *c, Call *call);
/* Unlock, give large buffers back. Returns st. */
int call_end(kv_client *c, Status st);
/* The answer was shorter than it must be: give the connection up. */
Status call_short_answer(kv_client *c, ProtoCommand command);
/* Split an error payload into detail and text; the text becomes status_detail(). Returns the code. */
Status call_error(uint16_t status, Slice payload, uint64_t *detail, Slice *text);

/* --- pipeline_resume.c --- */
/* c->eof: connect again, and make everything unsent that may be sent again. */
KV_CHECK Status pipeline_resume(kv_client *c, uint64_t deadline_ns);
/* c->eof: all outstanding replies are as for a broken connection. */
void pipeline_give_up(kv_client *c);

/* --- session.c --- */
/* Is there a session, and of the cluster that is connected? */
bool session_stands(const kv_client *c);
/* The same, and is it not to be renewed? */
bool session_usable(const kv_client *c);
/*
 * Connected, and with a usable session, afterwards. Nothing may be outstanding. After a failure certainly nothing is
 * written.
 */
KV_CHECK Status session_ready(kv_client *c, uint64_t deadline_ns);
/* Fill in a stamp (PROTO_STAMP bytes) with the next serial; confirmed: all below it are. */
void session_stamp(kv_client *c, uint8_t *stamp, uint64_t confirmed);
/* After this answer another copy may be sent, and may do better. */
bool session_may_repeat(Status st);
/* What a stamped write ends with, when the last that came is st. */
Status session_verdict(Status st, bool doubt, ProtoCommand command);

/* --- encode.c --- */
typedef struct kv_write_options WriteOptions;
typedef struct kv_read_options ReadOptions;
/* Will a write with these options have a stamp? */
bool encode_is_stamped(const kv_client *c, const WriteOptions *o, bool conditional);
/* The prefix and, if it is to be stamped, room for the stamp. */
KV_CHECK Status encode_write_prefix(const kv_client *c, Buf *b, const WriteOptions *o, bool conditional);
KV_CHECK Status encode_read_prefix(const kv_client *c, Buf *b, const ReadOptions *o);
/* kind: 1 put, 2 delete, 3 increment. Checks what can be checked here (key and value sizes, options). */
KV_CHECK Status encode_op(Buf *b, int kind, kv_bytes key, kv_bytes value, const WriteOptions *o);
KV_CHECK Status encode_u32(Buf *b, uint32_t v);
KV_CHECK Status encode_u64(Buf *b, uint64_t v);
/* A kv_range as the protocol wants it. */
typedef struct Range {
	Buf start, end;
	bool unbounded;
	bool empty;      /* no key can be in it */
} Range;
/* Free with range_free(), after failures too. */
KV_CHECK Status range_of(const kv_range *r, Range *out);
/* What of the options deleting it heeds. */
static inline WriteOptions
drop_options(const WriteOptions *o)
{
	return o == NULL ? (WriteOptions){ 0 } : (WriteOptions){ .ack = o->ack, .timeout_ms = o->timeout_ms };
}
/* The operation that deletes it. USAGE: it is empty. */
KV_CHECK Status encode_drop(Buf *b, const kv_range *r);
void range_free(Range *r);

/* --- write.c --- */
struct kv_batch {
	Buf ops;
	uint32_t count, ranges;
	bool conditional; /* holds a condition or an increment */
};
/* What PUT, DELETE, INCR and BATCH carry behind the write prefix. */
KV_CHECK Status encode_batch(Buf *b, const kv_batch *batch);

/* Copy into a kv_value. */
KV_CHECK Status value_set(kv_value *v, Slice s);

#endif
