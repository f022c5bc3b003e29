/*
 * replstate_internal.h - the shared memory behind replication/replstate.h; for the replstate files only.
 */
#ifndef REPLICATION_REPLSTATE_INTERNAL_H
#define REPLICATION_REPLSTATE_INTERNAL_H

#include <stdatomic.h>

#include "replication/replstate.h"

#define REPL_VIEW_WORDS ((sizeof(ReplView) + 7) / 8)
#define REPL_TEXT_MAX 1024 /* of an answer: a few sentences, cut if longer */

/* A reader's line; writer: the slot's process, but for `ticket`, which the consensus worker takes away. */
typedef struct ReplReader {
	_Alignas(64) _Atomic uint64_t ticket; /* that it sleeps for; 0 none */
	_Atomic uint64_t by_lease, by_round;  /* counters; the slot's next process counts on */
} ReplReader;

typedef struct ReplShared {
	/* -- the lease. Writer: consensus worker (election_ns when it publishes a view) */
	_Alignas(64) _Atomic uint64_t lease_until_ns;
	_Atomic uint64_t serve_from;
	_Atomic uint64_t election_ns;
	/* -- what was committed when, by the leader's word; writer: consensus worker. UINT64_MAX while heard_ns changes */
	_Atomic uint64_t heard_commit, heard_ns;
	_Atomic uint64_t fresh_ns;              /* all that was said to be committed by then is applied; 0 never */
	/* -- tickets */
	_Alignas(64) _Atomic uint64_t tickets; /* drawn; readers add */
	_Alignas(64) _Atomic uint64_t begun;   /* all up to this one came before the newest round; worker */
	_Atomic uint64_t confirmed;            /* all up to this one may go on ... ; worker */
	_Atomic uint64_t confirmed_index;      /* ... when this is applied; 0: not the leader */
	_Atomic uint64_t rounds;
	/* -- the mailbox: replstate_mail.c */
	_Alignas(64) _Atomic uint64_t mail; /* state, slot and generation of who asks */
	ReplRequest request;
	uint32_t answer; /* Status */
	char text[REPL_TEXT_MAX];
	/* -- the view; writer: consensus worker */
	_Alignas(64) _Atomic uint64_t view_seq; /* copy view_seq & 1 is the newest */
	_Atomic uint64_t view[2][REPL_VIEW_WORDS];
	/* -- one for each slot */
	int slots;
	ReplReader reader[];
} ReplShared;

extern ReplShared *repl_sh;

#endif
