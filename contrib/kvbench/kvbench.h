/*
 * kvbench.h - the parts of the benchmark: options, keys and values, one connection, one run.
 *
 * One process, one thread. main.c reads options, run.c drives the connections, conn.c speaks the protocol,
 * data.c makes keys and values and recognises them again, workload.c says what is done how often,
 * dist.c which key is next, poller.c waits, report.c prints.
 */
#ifndef KVBENCH_H
#define KVBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/histogram.h"
#include "common/prng.h"
#include "common/status.h"

#define CONNECT_TIMEOUT_MS 5000
#define SILENCE_MS 60000              /* the server owes an answer and says nothing for so long: give up */
#define CONNECTIONS_MAX 60000         /* what one address pair has ports for, roughly */
#define PIPELINE_MAX 65536
#define BURST_BYTES_MAX (1024u << 20) /* pipeline x frame: what one connection may have built at once */
#define CODES 128                     /* status codes that are counted apart; larger ones share the last */

/* --- what is asked for ------------------------------------------------------------------ */

typedef enum OpClass { CLASS_READ, CLASS_UPDATE, CLASS_INSERT, CLASS_RMW, CLASS_SCAN, CLASS_COUNT } OpClass;
typedef enum DistKind { DIST_DEFAULT, DIST_UNIFORM, DIST_ZIPFIAN, DIST_LATEST } DistKind;

/* How the keys of a workload are found. */
typedef enum KeyOrder {
	KEYS_RANDOM,   /* by the distribution */
	KEYS_SEQUENCE, /* 0, 1, 2, ... once each */
	KEYS_SHUFFLED, /* once each, in random order */
	KEYS_MISSING,  /* by the distribution, but keys that lie between the stored ones */
	KEYS_PAGES     /* whole keyspace by paged scans; each connection takes its part */
} KeyOrder;

typedef struct Workload {
	const char *name;
	const char *help;
	KeyOrder order;
	DistKind dist;             /* unless --dist says otherwise */
	int percent[CLASS_COUNT];  /* share of each class, together 100 */
	int scan_max;              /* entries per SCAN: 1 .. scan_max at random; 0: exactly --scan */
} Workload;

/* NULL if there is none of that name. */
const Workload *workload_find(const char *name);
void workload_print_list(void);

typedef struct Options {
	const char *host;
	uint16_t port;
	uint32_t connections;
	uint32_t pipeline;
	uint64_t count;            /* operations; 0: as the workload needs, or until `seconds` */
	double seconds;            /* 0: until `count` */
	uint32_t key_size;
	uint32_t value_size;
	uint64_t keyspace;
	DistKind dist;
	uint8_t ack, freshness;    /* as in the protocol */
	double rate;               /* operations per second over all connections; 0: closed loop */
	uint64_t seed;
	uint32_t scan;             /* entries per SCAN of seekrandom */
	int read_percent;          /* of `mixed` */
	bool json, verify_crc, use_poll;
} Options;

/* --- keys and values -------------------------------------------------------------------- */

typedef struct Data {
	uint32_t key_size;
	uint32_t digits_from;      /* key = template up to here, then a decimal number */
	uint64_t index_limit;      /* first index that does not fit */
	uint8_t *template;         /* key_size bytes */
	uint8_t *pattern;          /* DATA_PATTERN + KV_VALUE_MAX-sized tail, see data.c */
	size_t pattern_size;
} Data;

KV_CHECK Status data_init(Data *d, const Options *o);
void data_free(Data *d);
/* Write key number `index`; `missing` appends one byte, so that the key sorts between two stored ones. */
uint8_t *data_put_key(const Data *d, uint8_t *p, uint64_t index, bool missing);
static inline uint32_t
data_key_size(const Data *d, bool missing)
{
	return d->key_size + missing;
}
/* Index of a key that data_put_key() made; false for a stranger. */
bool data_key_index(const Data *d, Slice key, uint64_t *index);
/* Write a value of `size` bytes for the key; `version` makes one differ from the next. */
uint8_t *data_put_value(const Data *d, uint8_t *p, uint64_t index, uint64_t version, uint32_t size);
/* Is this a whole value that was once written for that key? */
bool data_value_ok(const Data *d, Slice value, uint64_t index);

/* --- which key is next ------------------------------------------------------------------ */

typedef struct Dist {
	DistKind kind;
	uint64_t n;
	double theta, zetan, alpha, eta, half_pow;
} Dist;

void dist_init(Dist *d, DistKind kind, uint64_t n);
/* A key number below `end`, which is n or, when keys were inserted, more. */
uint64_t dist_next(const Dist *d, Prng *g, uint64_t end);
/* Bijection of [0, n) onto itself. */
uint64_t dist_shuffle(uint64_t i, uint64_t n, uint64_t seed);

/* --- waiting for sockets ---------------------------------------------------------------- */

typedef struct Poller Poller;

typedef struct PollerEvent {
	uint32_t no;               /* which connection */
	bool readable, writable;
} PollerEvent;

KV_CHECK Status poller_new(Poller **out, uint32_t max, bool use_poll);
void poller_free(Poller *p);
/* Watch fd for reading. `no` is below max and used once. */
KV_CHECK Status poller_add(Poller *p, int fd, uint32_t no);
/* Watch for writing too, or no longer. */
KV_CHECK Status poller_want_write(Poller *p, int fd, uint32_t no, bool want);
/* Wait at most timeout_ns; *n events in *events, valid until the next call. */
KV_CHECK Status poller_wait(Poller *p, uint64_t timeout_ns, PollerEvent **events, uint32_t *n);

/* --- one run ---------------------------------------------------------------------------- */

typedef struct Totals {
	Histogram latency[CLASS_COUNT]; /* nanoseconds */
	uint64_t errors[CODES];
	uint64_t not_found;        /* reads that found no key */
	uint64_t wrong;            /* values that were never written for that key, scans out of order */
	uint64_t late;             /* --rate: operations due at the end and never begun */
	uint64_t entries;          /* answered by scans */
	uint64_t bytes_out, bytes_in;
	double seconds;
	double cpu_seconds;        /* of this process */
} Totals;

typedef struct Pending {
	uint64_t start_ns;         /* sent, or with --rate the moment it should have been sent */
	uint64_t index;
	uint8_t class;
	uint8_t command;
	bool write_follows;        /* read-modify-write: this is the read */
} Pending;

typedef struct Conn {
	int fd;
	uint32_t no;
	uint32_t next_id;          /* of the next request; answers come in the same order */
	uint32_t head, tail;       /* pending[head & mask] .. tail: requests without an answer */
	Pending *pending;
	Pending *follow;           /* writes of read-modify-writes whose read was answered */
	uint32_t followers;
	Buf out;
	size_t out_sent;
	bool writing;              /* the poller watches for room to send */
	uint8_t *in;
	size_t in_len, in_cap;
	uint64_t due, started;     /* --rate: operations due and started on this connection */
	Buf cursor;                /* paged scan: where the next page starts */
	uint64_t snapshot, part_end;
	bool after_cursor, pages_done;
} Conn;

typedef struct Run {
	const Options *o;
	const Workload *w;
	Data data;
	Dist dist;
	Prng prng;
	Poller *poller;
	Conn *conns;
	uint32_t mask;             /* of the rings of pending requests */
	uint64_t issued, target;   /* operations begun; to begin (UINT64_MAX: until the deadline) */
	uint64_t handed;           /* --rate: operations that have come due */
	uint64_t next_key;         /* of the next insert */
	uint64_t inserting;        /* inserts without an answer: their keys are not read yet */
	uint64_t version;          /* of the last value made */
	uint64_t start_ns, deadline_ns;
	uint64_t in_flight;
	bool stopped;              /* begin nothing new */
	Totals t;
	bool told[CODES];
} Run;

/* Connects, runs the workload, disconnects. Failure: connection lost or server silent. */
KV_CHECK Status run_workload(const Options *o, const Workload *w, Totals *out);

/* Put the next operations into c->out; how many were added. */
KV_CHECK Status workload_fill(Run *r, Conn *c, uint32_t most, uint64_t now, uint32_t *added);

KV_CHECK Status conn_open(Run *r, Conn *c, uint32_t no);
void conn_close(Conn *c);
static inline uint32_t
conn_pending(const Conn *c)
{
	return c->tail - c->head;
}
/* Append requests to c->out; room for them in `pending` is the caller's care. */
KV_CHECK Status conn_get(Run *r, Conn *c, Pending p, bool missing);
KV_CHECK Status conn_put(Run *r, Conn *c, Pending p);
KV_CHECK Status conn_scan(Run *r, Conn *c, Pending p, uint32_t limit);
/* The next page of this connection's part of the keyspace. */
KV_CHECK Status conn_page(Run *r, Conn *c, Pending p);
/* Send what is there without waiting. */
KV_CHECK Status conn_send(Run *r, Conn *c);
/* Take in what is there (wait for it if `block`) and settle the answers. */
KV_CHECK Status conn_receive(Run *r, Conn *c, bool block);

const char *class_name(OpClass c);
void report(const Options *o, const Workload *w, const Totals *t);

#endif
