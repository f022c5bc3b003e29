/*
 * consensus.h - who leads, in which term: what the consensus worker does. Here as a cluster of one.
 */
#ifndef REPLICATION_CONSENSUS_H
#define REPLICATION_CONSENSUS_H

#include "common/status.h"
#include "storage/control.h"

/*
 * After replay: raise the term, persist it (rule L8), begin it in the log, name the configuration if the log
 * names none, open the gate. On return the node serves. CORRUPT: both copies of the vote file are bad.
 */
KV_CHECK Status consensus_start(const Control *control);
/* Every LOGCLOCK_TICK_MS. */
void consensus_tick(void);
/* Close the gate: nothing is inserted afterwards. */
void consensus_stop(void);

#endif
