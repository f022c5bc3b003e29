/*
 * replstate.h - what the consensus worker tells the other processes, and what they ask of it. Shared memory.
 *
 * Three parts: a view (for people and redirects), the gate of freshness (may a read be answered here and
 * now?), and a mailbox for requests that only the consensus worker can do. Stale views are harmless.
 */
#ifndef REPLICATION_REPLSTATE_H
#define REPLICATION_REPLSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "replication/membership.h"
#include "storage/wal.h"

/* Postmaster, before fork. slots: procslot_count(). */
size_t replstate_shmem_size(int slots);
void replstate_shmem_init(void *mem, int slots);

/*
 * ---- the view: writer consensus worker; readers anybody, without a lock. Two copies under a sequence
 * number: a writer that stands still in the middle holds nobody up.
 */
typedef enum ReplPeerState { REPL_SELF, REPL_DOWN, REPL_PROBE, REPL_STREAM, REPL_CATCHUP, REPL_INSTALL } ReplPeerState;

typedef struct ReplPeer {
	uint64_t id;
	char name[MEMBERSHIP_NAME_MAX + 1];
	char peer_address[MEMBERSHIP_ADDRESS_MAX + 1];
	char client_address[MEMBERSHIP_ADDRESS_MAX + 1];
	bool voter;
	ReplPeerState state;     /* as this node sees it; positions only where this node leads */
	Lsn sent, acked;
	uint64_t heard_ms;       /* monotonic ms of its newest message; 0 never */
	uint64_t lag_ms;         /* age of the oldest byte it has not acknowledged; 0 none */
	char trouble[96];        /* why there is no connection */
} ReplPeer;

typedef enum ReplAlarm { REPL_NO_ALARM, REPL_ALARM_DIFFERS } ReplAlarm; /* rule C7 */

typedef struct ReplView {
	uint64_t term, self, leader;      /* ids; leader 0: not known */
	uint32_t role;                    /* NodeRole of ipc/nodestate.h */
	bool voter, recovering, fetching, transferring;
	Lsn commit, end, durable;
	uint64_t elections, terms_led;    /* begun and won by this node since its start */
	uint64_t config_lsn;
	uint32_t election_ms;
	int n;
	ReplPeer peer[MEMBERSHIP_NODES_MAX]; /* members, self among them */
	/* contents, the newest comparison */
	Lsn hash_lsn;
	uint64_t hash_ms;                 /* wall clock when it ended; 0 never */
	uint64_t hash, hash_entries;      /* of this node */
	int hash_agree, hash_asked;       /* on the leader: replicas that said the same, and that were asked */
	ReplAlarm alarm;
	char alarm_text[160];             /* which node differs since when */
} ReplView;

void replstate_publish(const ReplView *v);
void replstate_view(ReplView *out);
/* Client address of the leader, "" if there is none or it is not known. */
void replstate_leader_address(char out[MEMBERSHIP_ADDRESS_MAX + 1]);
/* Of a view: the member with this id, NULL if there is none. */
const ReplPeer *replview_peer(const ReplView *v, uint64_t id);

/* ---- freshness (rules R2, R4, G5) */
/*
 * Consensus worker. until_ns: monotonic; 0 none, UINT64_MAX without end. What is applied must reach serve_from
 * (UINT64_MAX: nothing is served). When there is none any more, replstate_lag_ms() counts from the end of the last one.
 */
void replstate_set_lease(uint64_t until_ns, Lsn serve_from);
/*
 * Backend, with the gate's generation as read after the request came: may a linearizable read be answered
 * from what is applied now? Returns at once under a valid lease; else (no lease, lease_reads off) joins the
 * next ReadIndex round and waits for it to be applied. NOT_LEADER with the leader's client address as text,
 * TIMEOUT.
 */
KV_CHECK Status replstate_read_barrier(int timeout_ms);
/*
 * Backend, before a write: may this node be the leader? False when the gate is closed or the lease ended
 * more than an election timeout ago (rule G5). Two loads for a node alone.
 */
bool replstate_may_lead(void);
/* NOT_LEADER with the leader's client address as text, "" if it is not known or this node's own. */
Status replstate_not_leader(void);
/*
 * Consensus worker of a follower, for each message of the leader: what it said is committed. From it
 * follows how far behind this node's contents are.
 */
void replstate_leader_said(Lsn commit);
/*
 * This node has applied everything that was committed this many ms ago, as far as it knows: 0 under a valid
 * lease, on a follower since a message of its leader, on one that led since its lease. UINT32_MAX: never so far.
 */
uint32_t replstate_lag_ms(void);
/* Consensus worker: are there readers that came since the last round began? Takes their ticket. */
bool replstate_reads_wanted(uint64_t *ticket);
/* Readers up to this ticket may read once `index` is applied; wakes them. index 0: not the leader any more. */
void replstate_reads_confirmed(uint64_t ticket, Lsn index);
/* Since the start: linearizable reads by lease and by asking the others, rounds that answered the latter. */
typedef struct ReplReads {
	uint64_t by_lease, by_round, rounds;
} ReplReads;
void replstate_reads(ReplReads *out);

/* ---- requests to the consensus worker, one at a time */
typedef enum ReplAction {
	REPL_ADD = 1,    /* address: host:port of a blank node */
	REPL_REMOVE,     /* name */
	REPL_PROMOTE,    /* name */
	REPL_TRANSFER,   /* name, "" whoever is furthest */
	REPL_REPLACE,    /* name; address of the blank node that takes its place */
	REPL_CHECK,      /* compare contents now */
	REPL_REPAIR      /* name: re-install it from the majority */
} ReplAction;

typedef struct ReplRequest {
	ReplAction action;
	bool dry_run;    /* say what would be done, or why not */
	char name[MEMBERSHIP_NAME_MAX + 1];
	char address[MEMBERSHIP_ADDRESS_MAX + 1];
} ReplRequest;

/*
 * Backend: ask and wait. The answer's text, a sentence, is appended to *text, also of a refusal. NOT_LEADER
 * (text: the leader's address), BAD_REQUEST (refused, with the reason), TIMEOUT (it may still be done),
 * BUSY (another is under way).
 */
KV_CHECK Status replstate_request(const ReplRequest *r, int timeout_ms, Buf *text);
/* Consensus worker: the request that waits for an answer; false none. The same until it is answered. */
bool replstate_pending(ReplRequest *out);
void replstate_answer(Status st, const char *text);

#endif
