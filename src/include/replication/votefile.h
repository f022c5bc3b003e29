/*
 * votefile.h - term and vote of this node, on disk in two copies (rule L8). Format: doc/formats-vote.md.
 */
#ifndef REPLICATION_VOTEFILE_H
#define REPLICATION_VOTEFILE_H

#include <stdint.h>

#include "common/status.h"

#define VOTEFILE_0 "vote.0"
#define VOTEFILE_1 "vote.1"
#define VOTEFILE_SIZE 64 /* fits one sector of any disk */
#define VOTEFILE_FORMAT 1

#define VOTE_RECOVERING 1u /* rule L5: damage below the durable mark was cut; no vote, no counted ack */

typedef struct Vote {
	uint64_t term;
	uint64_t voted_for;  /* incarnation of the node that got our vote in this term; 0 none yet */
	uint32_t flags;      /* VOTE_* */
} Vote;

/* Both copies, for a new data directory; the caller syncs the directory. */
KV_CHECK Status votefile_create(uint64_t incarnation);
/*
 * The newest good copy; one bad copy is no failure (it is written anew by the next votefile_write()).
 * CORRUPT: both are bad: this node has forgotten its vote and must not take part as it was.
 * FOREIGN: they belong to another data directory or a newer kvd.
 */
KV_CHECK Status votefile_read(uint64_t incarnation, Vote *out);
/* Is copy 0 or 1 whole, and this node's? The failure names it. A node starts with one bad copy, not with two. */
KV_CHECK Status votefile_check(int copy, uint64_t incarnation);
/*
 * Both copies written and synced, one after the other, the good one last. REQUIRES votefile_read() or
 * votefile_create() before. After a failure the vote is in doubt: stop.
 */
KV_CHECK Status votefile_write(const Vote *v);

#endif
