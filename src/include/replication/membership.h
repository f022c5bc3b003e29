/*
 * membership.h - the body of a CONFIG record: who is in the cluster. Format: doc/formats-vote.md.
 */
#ifndef REPLICATION_MEMBERSHIP_H
#define REPLICATION_MEMBERSHIP_H

#include <stdint.h>

#include "common/bytes.h"

#define MEMBERSHIP_FORMAT 1
#define MEMBERSHIP_NAME_MAX 63 /* bytes: a DNS label */
#define MEMBERSHIP_NODES_MAX 16 /* more replicas only cost; leaves room for learners */

typedef struct Member {
	char name[MEMBERSHIP_NAME_MAX + 1];
	uint64_t incarnation; /* rule C1 */
} Member;

typedef struct Membership {
	int n;
	Member node[MEMBERSHIP_NODES_MAX];
} Membership;

/* Appends the body. OUT_OF_RANGE: no or too many nodes, empty or too long name. */
KV_CHECK Status membership_encode(const Membership *m, Buf *out);
/* CORRUPT, or BAD_VERSION for a newer format. */
KV_CHECK Status membership_decode(Slice body, Membership *out);

#endif
