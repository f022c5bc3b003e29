/*
 * nodestate.h - what the whole node knows of itself: one struct in shared memory.
 *
 * A stale read is harmless everywhere: the fields are for STATS, for messages and for waits that look again.
 * What decides about data is the gate (storage/wal.h), never this.
 */
#ifndef IPC_NODESTATE_H
#define IPC_NODESTATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum NodePhase { NODE_STARTING, NODE_RUNNING, NODE_STOPPING } NodePhase;
typedef enum NodeRole { NODE_FOLLOWER, NODE_CANDIDATE, NODE_LEADER } NodeRole;

typedef struct NodeState {
	/* written by the postmaster, before it forks the first child of this run */
	uint64_t started_ms;             /* wall clock of the server's start, kept over restarts of the node */
	uint32_t restarts;               /* times the node was restarted after a crash since then */
	uint32_t port;                   /* the real one when `port` is 0 */
	uint32_t postmaster_pid;
	uint64_t memory_mapped;          /* bytes of shared memory */
	uint64_t memory_limit;           /* most that could have been had then */
	/* written by the replay process; never fall back */
	_Alignas(64) _Atomic uint32_t manifest_open; /* 1: tables are known: the compaction worker may work */
	_Atomic uint32_t replayed;       /* 1: the log has been read and all that is certain applied */
	/* written by the consensus worker */
	_Alignas(64) _Atomic uint32_t phase; /* NodePhase */
	_Atomic uint32_t role;           /* NodeRole */
	_Atomic uint64_t term;
	_Atomic uint32_t gate_open;      /* 1 after the gate opened in this term, 0 before it closes */
} NodeState;

size_t nodestate_shmem_size(void);
void nodestate_shmem_init(void *mem);
NodeState *nodestate(void);

#endif
