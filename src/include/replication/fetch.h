/*
 * fetch.h - a follower that is far behind fetches by itself: committed log from the leader's files, or
 * tables.
 *
 * The consensus worker orders, the fetcher process (one auxiliary child) does it, as a client of the
 * leader's client port: LOG_READ, SNAPSHOT_OPEN and SNAPSHOT_READ (doc/protocol.md). Only committed log is
 * fetched, which never changes, so a change of leader does no harm. Shared memory; who writes what:
 * fetch.c.
 *
 * Appending to a follower's log is done by one process at a time: the fetcher while an order stands, else
 * the consensus worker. The order's number, checked under the lock APPEND, decides.
 */
#ifndef REPLICATION_FETCH_H
#define REPLICATION_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "replication/membership.h"
#include "replication/raft.h"
#include "storage/control.h"

size_t fetch_shmem_size(void);
void fetch_shmem_init(void *mem);

/* ---- consensus worker */
typedef struct FetchOrder {
	char address[MEMBERSHIP_ADDRESS_MAX + 1]; /* client address of the node to fetch from */
	Lsn from;          /* our log ends here, equal to the leader's below */
	Lsn until;         /* what the leader had committed; it may have more by then */
	bool snapshot;     /* tables first: the log at `from` is gone there */
	bool repair;       /* with snapshot: they replace ours even if these hold more (rule C7). VOTE_RECOVERING is set */
} FetchOrder;
/*
 * Replaces an order that stands. A piece that was appended for that one is still to be had, and must be
 * taken.
 */
void fetch_order(const FetchOrder *o);
/*
 * After it returns nothing of an order is appended any more; what was appended before and not yet taken
 * fetch_piece() still gives. Cheap when there is none.
 */
void fetch_stop(void);
/* Is there an order that has not ended? */
bool fetch_active(void);
/*
 * A piece has been appended: pos .. end, its TERM records, its CONFIG record's body and place if it holds
 * one. The fetcher appends no other until fetch_taken(). False: none.
 */
typedef struct FetchPiece {
	Lsn pos, end;
	uint32_t nterms;
	RaftTerm terms[RAFT_APPEND_TERMS];
	bool has_config;
	Lsn config_start, config_end;
	Membership config;
} FetchPiece;
bool fetch_piece(FetchPiece *out);
void fetch_taken(void);

/* ---- fetcher process */
/*
 * One turn: a request and what it brings, or a whole snapshot; ends the process (EXIT_INSTALL) when that is
 * complete.
 */
KV_CHECK Status fetch_step(uint64_t *nap_us);

/* ---- start: replay process, before kvstore_open() */
/*
 * Tables that were fetched whole take the place of what is here (rule C5). *did. Can be cut off anywhere
 * and done again. Also removes what readers of our own tables left in FETCH_SNAPSHOTS.
 */
#define FETCH_INCOMING "incoming"
KV_CHECK Status fetch_install(bool *did);

/*
 * kvd --check: was a start cut off between the switch to fetched tables and the end of step 4? Then *flushed is where
 * they end, *term of the record that ends there, 0 for a repair, which keeps no log. *flushed 0: no. Else as the next
 * start would fail.
 */
KV_CHECK Status fetch_cut_off(const Control *self, Lsn *flushed, uint64_t *term);

#endif
