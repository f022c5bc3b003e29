/*
 * check.h - do the replicas hold the same? (rule C7)
 *
 * The leader inserts a HASH record; each node, when it has applied it, computes the hash of its contents as
 * of there (checker process) and tells the leader, which judges. Three parts: the messages, one round's
 * judgement (pure), and the checker.
 *
 * The consensus worker (compare.c) begins a round on the leader, feeds it with its own and others' reports and
 * publishes the verdict; on a follower it sends check_own() to the leader, repeatedly, for messages may be lost. A
 * node told to repair itself persists VOTE_RECOVERING, then orders a snapshot (FetchOrder.repair).
 */
#ifndef REPLICATION_CHECK_H
#define REPLICATION_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "replication/membership.h"
#include "replication/raft.h"

#define CHECK_REPEAT_MS 2000
#define CHECK_FORGET_MS 600000
/* A round ends after this, with those that have answered: the slowest disk reads its tables meanwhile. */
#define CHECK_ROUND_MS 600000

/* ---- messages (RaftMsg.kind) */
#define CHECK_MSG_REPORT (RAFT_HOST_KINDS + 8)
#define CHECK_MSG_REPAIR (RAFT_HOST_KINDS + 9)

/* What one node found. */
typedef struct CheckReport {
	uint64_t lsn; /* of the HASH record */
	bool failed;  /* it can't tell: versions as of there are gone (it has just installed newer tables) */
	bool damaged; /* it can't read its tables: it differs, whatever was in them */
	uint64_t hash, entries;
} CheckReport;

/* The caller sets from, to and term. */
void check_report_put(const CheckReport *r, RaftMsg *m);
bool check_report_get(const RaftMsg *m, CheckReport *out);
/* Repair yourself: lsn of the round whose verdict named the receiver. */
void check_repair_put(uint64_t lsn, RaftMsg *m);
bool check_repair_get(const RaftMsg *m, uint64_t *lsn);

/* ---- one round, on the leader; pure */
typedef enum CheckOutcome {
	CHECK_NONE, /* no round yet */
	CHECK_WAITING,
	CHECK_AGREE,   /* a majority of the voters says the same, and nobody else anything different */
	CHECK_DIFFERS, /* a majority says the same, `differ` do not or are damaged: alarm, repair is possible */
	CHECK_NO_MAJORITY, /* no content has a majority of the voters: alarm, nobody can be repaired by itself */
	CHECK_UNKNOWN      /* too few have answered */
} CheckOutcome;

typedef struct CheckVerdict {
	CheckOutcome outcome;
	uint64_t lsn;
	int asked, answered, agree; /* nodes */
	int ndiffer;
	uint64_t differ[MEMBERSHIP_NODES_MAX]; /* ids */
	uint64_t hash, entries;                /* of the majority */
} CheckVerdict;

typedef struct CheckRound {
	uint64_t lsn; /* 0: none yet */
	uint64_t begun_ms;
	Membership members;
	bool answered[MEMBERSHIP_NODES_MAX];
	CheckReport report[MEMBERSHIP_NODES_MAX];
} CheckRound;

/* The HASH record is at lsn; those who are members now are asked. Forgets the round before. */
void check_begin(CheckRound *r, uint64_t lsn, const Membership *m, uint64_t now_ms);
/* Reports of other rounds and of strangers are dropped; of several the first counts. */
void check_report(CheckRound *r, uint64_t id, const CheckReport *report);
CheckVerdict check_judge(const CheckRound *r, uint64_t now_ms);
/* A sentence for the log, the alarm and the answer to `kvctl cluster check`. */
void check_text(const CheckVerdict *v, const CheckRound *r, char *out, size_t size);
/*
 * May `name` be repaired, by the newest verdict? The members now and the leader's id are asked for because
 * the cluster may have changed since. OK: *id. BAD_REQUEST with the reason as detail.
 */
KV_CHECK Status check_may_repair(const CheckVerdict *v, const Membership *now, uint64_t leader,
								 const char *name, uint64_t *id);

/* ---- shared memory: what this node's checker process has found. Writer: checker; readers: anyone */
size_t check_shmem_size(void);
void check_shmem_init(void *mem);
/* The newest finding; false: none yet. */
bool check_own(CheckReport *out);
/* Checker process: compute what is wanted, wake the consensus worker. */
KV_CHECK Status check_step(uint64_t *nap_us);

#endif
