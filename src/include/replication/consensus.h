/*
 * consensus.h - who leads, in which term: what the consensus worker does.
 */
#ifndef REPLICATION_CONSENSUS_H
#define REPLICATION_CONSENSUS_H

#include <stdbool.h>

#include "common/status.h"
#include "storage/control.h"

/*
 * After replay. A node alone leads on return, and serves. One among others listens and will vote, follow or
 * be elected in its turns. CORRUPT: both copies of the vote file are bad.
 */
KV_CHECK Status consensus_start(const Control *control);
/* Sleep until there is something to do (at most a moment), do it. */
void consensus_turn(void);
/* Hand leadership over if there is somebody, close the gate: nothing is inserted afterwards. */
void consensus_stop(void);

/* ---- replay process, between kvstore_recover() and kvstore_replay() */
/* Is the node a cluster of one, by the newest configuration in log, tables or file? */
KV_CHECK Status consensus_is_alone(const Control *control, bool *alone);
/*
 * The log is damaged below its durable mark: may it be cut there, because other nodes have what was in it?
 * If so that is noted beside the vote first: no vote and no acknowledgement of this node counts until it
 * has all back (rule L5). CORRUPT (the caller's detail stays): a node alone.
 */
KV_CHECK Status consensus_may_cut(const Control *control);

#endif
