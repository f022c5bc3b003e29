/*
 * membership.h - who is in the cluster: the body of a CONFIG record, and the file that remembers it.
 *
 * Formats: doc/formats-vote.md.
 */
#ifndef REPLICATION_MEMBERSHIP_H
#define REPLICATION_MEMBERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "storage/wal.h"

#define MEMBERSHIP_FORMAT 2
#define MEMBERSHIP_NAME_MAX 63     /* bytes: a DNS label */
#define MEMBERSHIP_ADDRESS_MAX 127 /* bytes of "host:port" */
#define MEMBERSHIP_NODES_MAX 16    /* more replicas only cost; leaves room for learners */
#define MEMBERSHIP_FILE "kvd.members"
#define MEMBERSHIP_ELECTION_MS 1000 /* what format 1, which does not name it, stands for */

typedef struct Member {
	char name[MEMBERSHIP_NAME_MAX + 1];
	uint64_t incarnation; /* rule C1 */
	bool voter;           /* else a learner */
	char peer_address[MEMBERSHIP_ADDRESS_MAX + 1];   /* where other nodes reach it; "": it never had any */
	char client_address[MEMBERSHIP_ADDRESS_MAX + 1]; /* what clients are redirected to */
} Member;

typedef struct Membership {
	uint32_t election_ms; /* smallest election timeout: agreed on, not a local setting (rule R2) */
	int n;
	Member node[MEMBERSHIP_NODES_MAX];
} Membership;

/* Appends the body. OUT_OF_RANGE: no or too many nodes, empty or too long name or address, two of the same. */
KV_CHECK Status membership_encode(const Membership *m, Buf *out);
/* CORRUPT, or BAD_VERSION for a newer format. */
KV_CHECK Status membership_decode(Slice body, Membership *out);
/* Letters, digits, dots, dashes, underscores; 1 to MEMBERSHIP_NAME_MAX: people write it in front of addresses. */
bool membership_name_ok(const char *name, size_t len);
/* NULL: not in it. */
const Member *membership_find(const Membership *m, uint64_t incarnation);
const Member *membership_named(const Membership *m, const char *name);
int membership_voters(const Membership *m);
/* Is self the only member? */
bool membership_alone(const Membership *m, uint64_t self);

/* A CONFIG record into the log, of the generation that is open. As membership_encode() and wal_insert() fail. */
KV_CHECK Status membership_insert(const Membership *m, Lsn *start, Lsn *end);

/*
 * MEMBERSHIP_FILE: the configuration this node last knew, with the LSN of its record (0: from before the
 * log). It is what a node starts from whose log and tables name none yet, and tells before the log is read
 * whether there are others (rule L5). Replaced as a whole, synced.
 */
KV_CHECK Status membership_file_write(const Membership *m, Lsn at);
/* NOT_FOUND: a node that never had others. CORRUPT. */
KV_CHECK Status membership_file_read(Membership *m, Lsn *at);
/*
 * The configuration in force at start and the one before it (previous->n 0: none), after kvstore_recover():
 * the newest CONFIG records of the log, else of the tables, else the file. *start, *end of the record (0,
 * 0: file). NOT_FOUND: a new node alone. Replay process and consensus worker, at start.
 */
typedef struct MembershipAt {
	Membership members;
	Lsn start, end;
} MembershipAt;
KV_CHECK Status membership_at_start(MembershipAt *current, MembershipAt *previous);

#endif
