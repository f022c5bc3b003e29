/*
 * lin.h - was a recorded history of a key-value store linearizable?
 *
 * After Wing & Gong, "Testing and verifying concurrent objects" (1993), with the memoisation and the partition by key
 * of Lowe, "Testing for linearizability" (2017). Format of a history: doc/testing.md. One process, no locks.
 *
 *	history.c   reads a history into operations
 *	model.c     what a key is: a register with versions
 *	seen.c      configurations that were tried already
 *	search.c    is there an order?
 *	explain.c   the smallest part of a history for which there is none
 */
#ifndef LIN_H
#define LIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LIN_NEVER UINT64_MAX  /* returned: outcome unknown */
#define LIN_WORD_MAX 255      /* bytes of a key or value in a history */
#define LIN_PROCESS_MAX 65535 /* ids in one file */
#define LIN_ABSENT 0u         /* a value: the key is not there */

typedef enum LinKind { LIN_GET, LIN_PUT, LIN_DELETE, LIN_CAS, LIN_CASV, LIN_INCR, LIN_LOCAL_GET } LinKind;

typedef struct LinOp {
	uint64_t invoked, returned; /* ns; LIN_NEVER: it may take effect at any later time, or never */
	uint32_t process;
	uint32_t key;            /* id of a word, as are the values below */
	uint8_t kind;            /* LinKind */
	bool held;               /* cas, casv: the condition was true */
	bool has_seen;           /* cas, casv that did not hold: `seen` was the key's version, 0 for absent */
	bool must;               /* unknown outcome, but it was read: it took effect */
	uint32_t value;          /* written; get and incr: result */
	uint32_t expect;         /* cas */
	int64_t step;            /* incr */
	uint64_t expect_version; /* casv */
	uint64_t version;        /* of the value written or read; 0 not told */
	uint64_t seen;
} LinOp;

/* Words (keys and values) have numbers; LIN_ABSENT is none. */
typedef struct LinWords {
	char **text;
	uint32_t n, room;
	uint32_t *slots; /* hash table of numbers, 0 free */
	uint32_t nslots;
} LinWords;

typedef struct LinHistory {
	LinOp *ops; /* certainly-not-applied ones are not among them */
	size_t n, room;
	size_t failed; /* how many those were */
	LinWords words;
	uint32_t files;
} LinHistory;

/* ---- history.c */
void lin_history_init(LinHistory *h);
void lin_history_free(LinHistory *h);
/*
 * Add a file: the processes of each are others, the clock is one. False: not a history; *error (of `size` bytes) says
 * where and why.
 */
bool lin_history_read(LinHistory *h, FILE *in, const char *name, char *error, size_t size);
/* Add one operation (tests). */
LinOp *lin_history_add(LinHistory *h);
uint32_t lin_word(LinWords *w, const char *text);
const char *lin_text(const LinWords *w, uint32_t word);
/* The number a word stands for; absent counts as 0. */
bool lin_number(const LinWords *w, uint32_t word, int64_t *out);
uint32_t lin_number_word(LinWords *w, int64_t n);
const char *lin_kind_name(LinKind kind);
/* One operation as a sentence for people, times in ms from `zero`. */
void lin_print_op(FILE *out, const LinWords *w, const LinOp *op, uint64_t zero);

/* ---- model.c */
typedef struct LinState {
	uint64_t version; /* of the value; not exact: the value's is above it */
	uint32_t value;
	bool exact;
	bool any; /* nothing is known yet: the first operation that tells decides */
} LinState;

void lin_start(LinState *s, bool any);
/* May op take effect in this state with the result that it had? *s becomes the state after it. */
bool lin_step(LinWords *w, LinState *s, const LinOp *op);

/* ---- search.c */
typedef enum LinVerdict { LIN_LEGAL, LIN_ILLEGAL, LIN_UNDECIDED } LinVerdict;

typedef struct LinLimits {
	uint64_t steps;       /* configurations tried; 0 without end */
	size_t memory;        /* bytes for those that are remembered */
	uint64_t deadline_ns; /* monotonic; 0 none */
} LinLimits;

typedef struct LinResult {
	LinVerdict verdict;
	uint64_t steps;
} LinResult;

/* Operations of one key, sorted by invocation. any: it may have had any value before. */
LinResult lin_search(LinWords *w, const LinOp *ops, size_t n, bool any, const LinLimits *limits);

/* ---- explain.c */
typedef struct LinReport {
	LinVerdict verdict; /* of all keys: one illegal makes it illegal */
	size_t keys, operations, unknown;
	uint64_t steps;
	uint32_t key;  /* the first that is illegal, else that is undecided */
	LinOp *window; /* ILLEGAL: operations that cannot be ordered; owned by the caller */
	size_t nwindow;
	bool from_start; /* the window counts on the key being absent at first */
	char why[160];
} LinReport;

void lin_check(LinHistory *h, const LinLimits *limits, LinReport *r);
void lin_report_print(FILE *out, const LinHistory *h, const LinReport *r);
void lin_report_free(LinReport *r);

/* ---- seen.c: configurations tried before */
typedef struct LinSeen LinSeen;

LinSeen *lin_seen_new(size_t memory, uint32_t optional_words);
void lin_seen_free(LinSeen *t);
/*
 * A configuration: which known operations have been ordered (first = number of the first that has not, bits for those
 * behind it), which optional ones were used, the state. It is worth trying if none was seen with the same known ones,
 * the same state and no more optional ones: that one could do all this one can. Remembers it. -1: out of memory.
 */
int lin_seen_new_one(LinSeen *t, uint64_t first, const uint64_t *bits, uint32_t nbits,
					 const uint64_t *optional, const LinState *state);

#endif
