/*
 * kv.h - libkv, the client library of kvd.
 *
 *	kv_client *c;
 *	if (kv_connect(&c, "kv://127.0.0.1:7400/?timeout=5s", NULL) != KV_OK)
 *		errx(1, "%s", kv_error());
 *	kv_put(c, kv_str("colour"), kv_str("green"), NULL, NULL);
 *	kv_value v = { 0 };
 *	if (kv_get(c, kv_str("colour"), NULL, &v) == KV_OK)
 *		printf("%.*s\n", (int) v.len, (char *) v.data);
 *	kv_value_free(&v);
 *	kv_close(c);
 *
 * Results are codes (enum kv_code; treat numbers that you do not know as errors) and a sentence, kv_error().
 * What is passed in is copied or used up before a call returns. Who frees what comes out stands at each function.
 * Option pointers may be NULL, and structs of zeros mean the defaults.
 *
 * Deadlines. Every call ends within its timeout (5 s unless the URI or the call's options say otherwise),
 * connecting and trying again included. Only the resolution of host names is bounded by the system alone.
 *
 * Trying again. Reads whose connection breaks are asked again, on another host where there is one, while the
 * deadline lasts. With the option retry (the default when the URI names several hosts) writes are too, and are done
 * exactly once: the library opens a session at the server and gives every write a number there, by which a server,
 * the same or the next leader, knows a copy and answers it as the first. A silent host is left for another one in time.
 * KV_OUTCOME_UNKNOWN, it may or may not have happened, is then said only when the deadline passes and no
 * answer to a write came that had been sent. Writes with weak acknowledgement have no number.
 * Without the option writes are sent again only when they certainly were not done: the connection failed
 * before the whole request had left, or the server said that it is not the leader, starting or busy. A write whose
 * connection broke afterwards ends with KV_OUTCOME_UNKNOWN at once.
 *
 * What retry costs: a round trip and a write when the first write opens the session, again every five minutes of
 * writing, and some forty bytes of log with each write.
 *
 * Threads. A handle may be used by several threads; calls on it take turns. Pipelined requests and iterators
 * belong to one thread at a time. The library keeps no global state (the error text is per thread, like errno),
 * installs no signal handlers, raises no SIGPIPE and must not be used across fork() on the same handle.
 */
#ifndef KV_H
#define KV_H

#include <stddef.h>
#include <stdint.h>

#define KV_VERSION "0.1.0"
#define KV_VERSION_NUMBER 100 /* major * 10000 + minor * 100 + patch */

#if defined(__GNUC__)
#define KV_API __attribute__((visibility("default")))
#else
#define KV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Codes below 100 come from the server (doc/protocol.md), the others from this library. Numbers are final. */
enum kv_code {
	KV_OK = 0,
	KV_NOT_FOUND = 1,
	KV_CONDITION_FAILED = 2,
	KV_BAD_REQUEST = 10,
	KV_UNKNOWN_COMMAND = 11,
	KV_BAD_VERSION = 12,
	KV_KEY_TOO_LARGE = 13,
	KV_VALUE_TOO_LARGE = 14,
	KV_BATCH_TOO_LARGE = 15,
	KV_NOT_INTEGER = 16,
	KV_OUT_OF_RANGE = 17,
	KV_SNAPSHOT_GONE = 18,
	KV_BAD_SETTING = 19,
	KV_NOT_LEADER = 20,          /* certainly not applied */
	KV_OUTCOME_UNKNOWN = 21,     /* the write may or may not have happened */
	KV_TIMEOUT = 22,             /* the deadline passed; certainly not applied */
	KV_TOO_MANY_CONNECTIONS = 23,
	KV_SHUTTING_DOWN = 24,
	KV_STARTING = 25,
	KV_NO_SPACE = 26,
	KV_OUT_OF_MEMORY = 27,
	KV_SESSION_EXPIRED = 28,     /* option retry: the server no longer knows our session; certainly not applied */
	KV_IO_ERROR = 40,
	KV_CORRUPT = 41,
	KV_INTERNAL = 42,
	KV_BUSY = 43,
	KV_FOREIGN = 44,
	KV_CANNOT_CONNECT = 100,     /* no host could be reached; certainly not applied */
	KV_CLOSED = 101,             /* the connection broke or was cancelled; nothing was applied */
	KV_PROTOCOL = 102,           /* the peer does not speak this protocol */
	KV_USAGE = 103               /* the call itself is wrong */
};

/* Bytes that someone else owns. data may be NULL when len is 0. */
typedef struct kv_bytes {
	const void *data;
	size_t len;
} kv_bytes;

/* One handle: hosts, options and at most one connection. */
typedef struct kv_client kv_client;

/* --- information ----------------------------------------------------------------------------- */

/* Version of the library that runs, e.g. "0.1.0". Static. */
KV_API const char *kv_version(void);
/*
 * What went wrong in the last call of this thread that failed; never NULL. Valid until the next kv_ call in this
 * thread.
 */
KV_API const char *kv_error(void);
/* "NOT_FOUND", "key not found" for a code. Static, never NULL. */
KV_API const char *kv_code_name(int code);
KV_API const char *kv_code_text(int code);
/* A view of a C string, without its NUL; NULL gives no bytes. */
KV_API kv_bytes kv_str(const char *s);

/* --- connecting ------------------------------------------------------------------------------ */

/*
 * Make a handle and connect it: the hosts of the URI are tried in turn.
 *
 *	kv://host:port,host:port/?option=value&option=value
 *
 * A host without port means 7400; IPv6 addresses stand in brackets. "%xx" is decoded. Options:
 *	timeout=5s        time limit of every call (us ms s min h; a bare number is milliseconds)
 *	ack=quorum        when writes are answered: quorum (default), local, none
 *	read=linearizable how fresh reads are: linearizable (default), local
 *	retry=yes         writes may be sent again and are done once (above); default: yes with several hosts, else no
 *	name=app          the client's name for the server's log and views, at most 64 bytes
 *	admin=yes         may use a reserved connection when the others are used up
 * uri NULL or "": the hosts of the environment variable KVD_HOST ("host", "host:port" or a list with commas), the port
 * KVD_PORT; without them 127.0.0.1:7400.
 *
 * name (may be NULL) is used when the URI has none. Free with kv_close(). On failure *out is NULL.
 * KV_USAGE: bad URI or environment. KV_CANNOT_CONNECT: nobody listens there (told at once), nobody answers, or the
 * connection was closed unanswered three times. KV_TOO_MANY_CONNECTIONS and others that the server answers. Of several
 * hosts the last one that was tried tells; while one is starting, all are tried again until the timeout.
 */
KV_API int kv_connect(kv_client **out, const char *uri, const char *name);
/* The same without connecting yet: the first call does. */
KV_API int kv_open(kv_client **out, const char *uri, const char *name);
/* Connect now if not connected. */
KV_API int kv_reconnect(kv_client *c);
/* Close the connection and free the handle and what it owns (iterators must be freed before). NULL is allowed. */
KV_API void kv_close(kv_client *c);
/* Change the time limit of calls, in ms; 0 = 5,000. */
KV_API void kv_set_timeout(kv_client *c, int timeout_ms);
/* The option retry, 1 or 0; not while replies are outstanding. */
KV_API void kv_set_retry(kv_client *c, int retry);
/*
 * Make the call under way in this thread end soon, as if its connection had broken (KV_CLOSED for reads,
 * KV_OUTCOME_UNKNOWN for writes that have left). For signal handlers that run in the thread which makes the calls.
 */
KV_API void kv_cancel(kv_client *c);

enum kv_role { KV_ROLE_NONE, KV_ROLE_LEADER, KV_ROLE_FOLLOWER, KV_ROLE_LEARNER };

typedef struct kv_info {
	int connected;             /* 0: not connected at the moment; what follows is from the last connection */
	char host[256];            /* of the connection, or the next one to try */
	uint16_t port;
	char server_version[64];
	int role;                  /* enum kv_role */
	uint64_t term;
	uint64_t incarnation;
	uint8_t cluster_id[16];
	uint32_t key_max, value_max, frame_max, batch_ops_max;
	int timeout_ms;
} kv_info;

/* Fills *info; never touches the network, except that it looks whether the server has closed the connection. */
KV_API void kv_get_info(kv_client *c, kv_info *info);

/* --- options --------------------------------------------------------------------------------- */

enum kv_ack { KV_ACK_DEFAULT, KV_ACK_QUORUM, KV_ACK_LOCAL, KV_ACK_NONE };
enum kv_read { KV_READ_DEFAULT, KV_READ_LINEARIZABLE, KV_READ_LOCAL };
enum kv_condition { KV_IF_ALWAYS, KV_IF_ABSENT, KV_IF_PRESENT, KV_IF_VERSION, KV_IF_VALUE };

typedef struct kv_write_options {
	int condition;             /* enum kv_condition; needs quorum acknowledgement */
	uint64_t if_version;       /* KV_IF_VERSION */
	kv_bytes if_value;         /* KV_IF_VALUE */
	uint64_t ttl_ms;           /* put, incr: the key expires after this time; 0 = never */
	int keep_ttl;              /* put: the TTL that the key has stays */
	int ack;                   /* enum kv_ack; in a batch: of the whole batch */
	int timeout_ms;            /* of this call; 0 = the handle's */
} kv_write_options;

typedef struct kv_read_options {
	int read;                  /* enum kv_read */
	uint64_t at_least;         /* answer only from a state that includes this version; 0 = any */
	int timeout_ms;            /* of this call (scan: of each page); 0 = the handle's */
} kv_read_options;

/* Keys from start (included) to end (not included) that begin with prefix. end.data == NULL: no upper end. */
typedef struct kv_range {
	kv_bytes prefix, start, end;
} kv_range;

/*
 * A value that came out. Start with zeros; may be used for any number of calls, which reuse its memory; then
 * kv_value_free().
 */
typedef struct kv_value {
	void *data;                /* len bytes and a NUL behind them */
	size_t len;
	uint64_t version;
	uint64_t ttl_ms;           /* what is left; 0 = does not expire */
	size_t capacity;           /* the library's own */
} kv_value;

KV_API void kv_value_free(kv_value *v);

/* --- calls ----------------------------------------------------------------------------------- */

/*
 * Store a value. *version (may be NULL): the new version (0 unless ack is quorum); with KV_CONDITION_FAILED the key's
 * version at that moment, 0 if it is absent. KV_NOT_FOUND: KV_IF_PRESENT failed.
 */
KV_API int kv_put(kv_client *c, kv_bytes key, kv_bytes value, const kv_write_options *o, uint64_t *version);
/* Delete. Without a condition KV_OK whether or not the key exists; with KV_IF_PRESENT, KV_NOT_FOUND tells. */
KV_API int kv_delete(kv_client *c, kv_bytes key, const kv_write_options *o, uint64_t *version);
/* Add step to a decimal number; an absent key counts as 0. KV_NOT_INTEGER, KV_OUT_OF_RANGE. */
KV_API int kv_incr(kv_client *c, kv_bytes key, int64_t step, const kv_write_options *o, int64_t *result,
	uint64_t *version);
/*
 * Delete a range at once, as one write, however many keys are in it: the server does not look at them, and does not
 * count them. Only ack and timeout_ms of the options count. KV_BUSY: the server keeps so many range deletions that it
 * takes no more for the moment. KV_USAGE: no key can be in the range.
 */
KV_API int kv_drop_range(kv_client *c, const kv_range *r, const kv_write_options *o, uint64_t *version);
/*
 * Delete a range and count: key by key, in steps of which each is atomic; the time limit is that of one step. *deleted:
 * how many are gone for certain, after failures too. Only ack and timeout_ms of the options count.
 */
KV_API int kv_delete_range(kv_client *c, const kv_range *r, const kv_write_options *o, uint64_t *deleted);

/* Read one value. KV_NOT_FOUND leaves *out alone. */
KV_API int kv_get(kv_client *c, kv_bytes key, const kv_read_options *o, kv_value *out);

/* How old an answer of the node this is connected to may be (doc/consistency.md). */
#define KV_LAG_UNKNOWN 0xffffffffu
typedef struct kv_age {
	uint64_t position;         /* all versions below it were seen; elsewhere, at_least = position - 1: none older */
	uint32_t lag_ms;           /* it had all that was committed so long ago; KV_LAG_UNKNOWN also when absent */
} kv_age;
/* kv_get() with KV_READ_LOCAL (o->read does not count), and how old that is. *age is filled when absent too. */
KV_API int kv_get_local(kv_client *c, kv_bytes key, const kv_read_options *o, kv_value *out, kv_age *age);

typedef struct kv_item {
	int found;                 /* kv_mget only */
	kv_bytes key, value;
	uint64_t version, ttl_ms;
} kv_item;

/* n items in the order of the keys; their keys point to what the caller passed, their values into memory. */
typedef struct kv_items {
	kv_item *items;
	size_t n;
	void *memory;              /* the library's own */
} kv_items;

/*
 * Read n keys at one snapshot (when an answer would pass 16 MB: several, none older than the first). KV_OK also
 * when some are absent. Free with kv_items_free().
 */
KV_API int kv_mget(kv_client *c, const kv_bytes *keys, size_t n, const kv_read_options *o, kv_items *out);
KV_API void kv_items_free(kv_items *items);

/* Count the keys of a range at one snapshot, in steps; the time limit is that of one step. */
KV_API int kv_count(kv_client *c, const kv_range *r, const kv_read_options *o, uint64_t *count);

/*
 * About how much a range holds. What is overwritten, deleted or expired counts until it is merged away; what a range
 * deletion hides of files older than itself does not.
 */
typedef struct kv_size {
	uint64_t keys;             /* a guess: each tombstone hides one entry */
	uint64_t entries;          /* all versions of all keys, tombstones included */
	uint64_t tombstones;
	uint64_t bytes;            /* of keys and values of all entries */
	uint64_t disk_bytes;       /* of files; what is still in memory has none */
	uint32_t cuts;             /* ends, also of deleted ranges, within a file: up to 4 KiB of error each */
} kv_size;

/* In microseconds, without reading the data. The same for a range of any size. */
KV_API int kv_estimate(kv_client *c, const kv_range *r, const kv_read_options *o, kv_size *out);

typedef struct kv_scan_options {
	kv_range range;
	uint64_t limit;            /* most items; 0 = all */
	int reverse, keys_only;
	uint32_t page_bytes;       /* fetched at a time, at most 4 MiB; 0 = the server's 256 KiB */
	kv_read_options read;
} kv_scan_options;

/* Walks a range at one snapshot; reads page by page and keeps one page in memory. */
typedef struct kv_iter kv_iter;

/* Start (nothing is sent yet). Free with kv_iter_free(), before the client is closed. */
KV_API int kv_scan(kv_client *c, const kv_scan_options *o, kv_iter **out);
/*
 * The next item, valid until the next call with this iterator. KV_NOT_FOUND: there is none. KV_SNAPSHOT_GONE:
 * paused too long.
 */
KV_API int kv_iter_next(kv_iter *it, kv_item *item);
/* The snapshot (a version) that is read; 0 before the first page. */
KV_API uint64_t kv_iter_snapshot(const kv_iter *it);
KV_API void kv_iter_free(kv_iter *it);

/*
 * A list of operations that take effect together or not at all. Belongs to one thread at a time.
 *
 * Bulk load: batches of some 256 KiB, 8 of them outstanding by kv_append_batch(), keys in ascending order. Each becomes
 * one record of the log and goes into the memtable without searching; the tables made of them are moved down, not
 * merged. With the option retry a lost connection costs nothing but time.
 */
typedef struct kv_batch kv_batch;

/* NULL when out of memory. */
KV_API kv_batch *kv_batch_new(void);
/*
 * Add an operation (copied). Conditions judge the state before the batch. KV_BATCH_TOO_LARGE: it does not fit
 * beside the others (65,536 operations, 16 MB); the batch stays as it was.
 */
KV_API int kv_batch_put(kv_batch *b, kv_bytes key, kv_bytes value, const kv_write_options *o);
KV_API int kv_batch_delete(kv_batch *b, kv_bytes key, const kv_write_options *o);
/* As kv_drop_range(): at most 64 in a batch. KV_USAGE: no key can be in the range. */
KV_API int kv_batch_drop_range(kv_batch *b, const kv_range *r);
KV_API int kv_batch_incr(kv_batch *b, kv_bytes key, int64_t step, const kv_write_options *o);
KV_API size_t kv_batch_count(const kv_batch *b);
/* Bytes that it takes in a request. */
KV_API size_t kv_batch_bytes(const kv_batch *b);
KV_API void kv_batch_clear(kv_batch *b);
KV_API void kv_batch_free(kv_batch *b);
/*
 * Do it. *version: of the first operation, the i-th has version + i. When an operation could not be done
 * (KV_CONDITION_FAILED, KV_NOT_FOUND, KV_NOT_INTEGER, KV_OUT_OF_RANGE) *failed is its place, from 0. The batch
 * stays as it is.
 */
KV_API int kv_batch_write(kv_client *c, const kv_batch *b, const kv_write_options *o, uint64_t *version,
	uint64_t *failed);

/* The server answers; *rtt_ns (may be NULL): how long that took. */
KV_API int kv_ping(kv_client *c, uint64_t *rtt_ns);
/* Lines "name value" of the statistics whose names begin with prefix (NULL: all). */
KV_API int kv_stats(kv_client *c, const char *prefix, kv_value *out);
/*
 * Settings. out: lines name TAB value TAB unit TAB source TAB restart TAB default TAB help; of all (name
 * NULL) or of one.
 * kv_config_set() keeps the value over restarts, kv_config_reset() removes it. out may be NULL.
 */
KV_API int kv_config_list(kv_client *c, const char *name, kv_value *out);
KV_API int kv_config_set(kv_client *c, const char *name, const char *value, kv_value *out);
KV_API int kv_config_reset(kv_client *c, const char *name, kv_value *out);
KV_API int kv_config_reload(kv_client *c);
/*
 * Write what is in memory to tables, then (compact) merge all of them. *lsn: all of the log below it is in
 * tables. timeout_ms 0 = 30 s.
 */
KV_API int kv_checkpoint(kv_client *c, int compact, int timeout_ms, uint64_t *lsn);

/* What kv_cluster() shall do. The names are those of nodes. */
typedef enum kv_cluster_action {
	KV_CLUSTER_STATUS,         /* of the node this is connected to */
	KV_CLUSTER_ADD,            /* name, address of its peer_port: a blank node joins as learner, votes later */
	KV_CLUSTER_REMOVE,         /* name */
	KV_CLUSTER_PROMOTE,        /* name: a learner becomes a voter */
	KV_CLUSTER_TRANSFER,       /* name of the next leader; NULL: whoever is furthest */
	KV_CLUSTER_REPLACE,        /* name of a node that is lost, address of a blank one that takes its place */
	KV_CLUSTER_CHECK,          /* the replicas compare their contents */
	KV_CLUSTER_REPAIR          /* name: install it anew from the majority */
} kv_cluster_action;
/*
 * out: for STATUS two tables, an empty line between: lines of fields separated by tabs, names of fields first
 * (doc/protocol.md); for the others a sentence. dry_run: what would be done, or why not, and nothing is done.
 * KV_BAD_REQUEST: refused, kv_error() says why. timeout_ms 0: the handle's for STATUS, 30 s for the others.
 */
KV_API int kv_cluster(kv_client *c, int action, const char *name, const char *address, int dry_run, int timeout_ms,
                      kv_value *out);

/* --- pipelining ------------------------------------------------------------------------------ */

/*
 * kv_append_x() queues a request, kv_get_reply() sends what is queued and gives the answers in the order of the
 * requests: exactly one for each, whatever happens. While some are outstanding, the calls above fail with KV_USAGE.
 *
 * Many appends go out in one send. Buffers are bounded: an append sends when 256 KiB are queued, takes in answers while
 * it does, and fails with KV_BUSY (nothing queued) when 16 MiB of answers or 65,536 requests are outstanding:
 * take replies, then append again. When the connection breaks, outstanding writes that had left end with
 * KV_OUTCOME_UNKNOWN, everything else with KV_CLOSED; appending works again when all their replies have been taken.
 *
 * With the option retry kv_get_reply() connects again instead, within its time limit, and sends again what was not
 * answered (but writes with weak acknowledgement), in the order of the appends; also what a server refused that is no
 * longer the leader. A write may then take effect after a later one, when only the later one was done before the break:
 * let no outstanding write depend on another one's order. Appends fail with KV_BUSY also when 1,024 writes or 16 MiB of
 * requests are outstanding, and every five minutes until all replies have been taken (a new session begins).
 */
typedef struct kv_reply {
	int code;                  /* of this request */
	int command;               /* its number in doc/protocol.md: 2 ping, 3 put, 4 get, 6 delete, 10 batch, 11 incr */
	uint64_t version;          /* get: of the value; writes: as kv_put() gives it */
	uint64_t ttl_ms;           /* get */
	uint64_t detail;           /* failures: the key's version (put, delete, incr), the operation's place (batch) */
	int64_t integer;           /* incr: the new value */
	kv_bytes value;            /* get: the value; failures: the text. Valid until the next call with this handle */
} kv_reply;

KV_API int kv_append_put(kv_client *c, kv_bytes key, kv_bytes value, const kv_write_options *o);
KV_API int kv_append_delete(kv_client *c, kv_bytes key, const kv_write_options *o);
/* As kv_drop_range(); its command in the reply is 6. KV_USAGE: no key can be in the range. */
KV_API int kv_append_drop_range(kv_client *c, const kv_range *r, const kv_write_options *o);
KV_API int kv_append_incr(kv_client *c, kv_bytes key, int64_t step, const kv_write_options *o);
KV_API int kv_append_batch(kv_client *c, const kv_batch *b, const kv_write_options *o);
KV_API int kv_append_get(kv_client *c, kv_bytes key, const kv_read_options *o);
KV_API int kv_append_ping(kv_client *c);
/* Requests whose reply has not been taken. */
KV_API size_t kv_outstanding(kv_client *c);
/* Send what is queued without waiting for answers. */
KV_API int kv_flush(kv_client *c);
/*
 * The next reply, waiting for it at most the handle's time limit. KV_OK: *r is filled, r->code tells about the request.
 * KV_NOT_FOUND: nothing is outstanding. When the time is up the connection is given up: this reply and the others
 * are as for a broken one.
 */
KV_API int kv_get_reply(kv_client *c, kv_reply *r);

#ifdef __cplusplus
}
#endif

#endif
