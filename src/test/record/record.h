/*
 * record.h - clients on libkv that write down what they ask and what they are told.
 *
 *	kvrecord.c  options, threads, the report
 *	client.c    one client's operations, into a history (format: doc/testing.md)
 *	journal.c   acknowledged writes into a list, and whether all of a list are there
 *
 * One thread a client, each with a handle of its own; the output and the counters below are shared, under a mutex.
 */
#ifndef RECORD_H
#define RECORD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/prng.h"
#include "kv.h"

#define CLIENTS_MAX 1000
#define KEYS_MAX 100000
#define WORD_MAX 64       /* of what is written: keys and values are short */
#define CODES 128         /* enum kv_code */
#define RETRY_PAUSE_MS 10 /* after a failure: a client without a server must not spin */

typedef enum RecordKind {
	REC_GET,
	REC_LGET,
	REC_PUT,
	REC_DELETE,
	REC_CAS,
	REC_CASV,
	REC_INCR,
	REC_KINDS
} RecordKind;

typedef struct Record {
	const char *uri, *prefix;
	int clients, keys;
	uint64_t operations;  /* 0: until the time is up */
	double seconds, rate; /* rate: operations a second of all; 0 as fast as it goes */
	uint64_t seed;
	unsigned weight[REC_KINDS];
	bool journal;
	int first_process;

	pthread_mutex_t lock; /* for what follows */
	FILE *out;
	uint64_t begun, ok, failed, unknown;
	uint64_t codes[CODES];                    /* of operations that were not ok */
	uint64_t last_ack_ns, gap_ns, slowest_ns; /* acknowledged writes: longest time without one */
} Record;

typedef struct Client {
	Record *r;
	int number;
	kv_client *kv;
	Prng prng;
	uint64_t serial;
	struct Seen {
		char value[WORD_MAX]; /* "-" absent */
		uint64_t version;
	} * seen; /* by key: what this client last knew, for conditions */
	pthread_t thread;
} Client;

extern const char *const record_kinds[REC_KINDS];

/* Does the code say that a write was certainly not applied? */
bool record_not_applied(int code);
void record_sleep_ns(uint64_t ns);
/* Another operation? Counts it; false: enough, or it is time to stop. */
bool record_begin(Record *r);
/* One has ended: for the report. write: its acknowledgement counts for the longest gap. */
void record_end(Record *r, uint64_t from_ns, uint64_t to_ns, int code, bool write, bool ok);
/* A whole line, by whichever thread. */
void record_line(Record *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- client.c */
void client_operation(Client *c);
/* ---- journal.c */
void journal_operation(Client *c);
/* Are all of the list there? The number that is missing or different; -1: could not be found out. */
long journal_verify(const char *uri, const char *path);

#endif
