/*
 * pmstate.h - what the postmaster does next: a pure function of its state and an event.
 */
#ifndef PMSTATE_H
#define PMSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "ipc/procslot.h"

typedef enum PmPhase {
	PM_STARTING,       /* replay runs; clients are told so */
	PM_RUNNING,
	PM_SMART,          /* no new clients; waits for those there are to leave */
	PM_STOP_BACKENDS,  /* then, each after the one before has ended: */
	PM_STOP_CONSENSUS, /* closes the gate; with it go fetcher and checker */
	PM_STOP_ENGINE,    /* replay process and compaction worker */
	PM_STOP_WALWRITER, /* last: flushes the log */
	PM_KILLING,        /* crash or immediate stop: waits until every child is gone */
	PM_DONE
} PmPhase;

typedef enum PmEventKind {
	PM_EV_BEGIN,          /* shared memory is fresh: start */
	PM_EV_MANIFEST_OPEN,
	PM_EV_REPLAYED,
	PM_EV_READY,
	PM_EV_BACKEND,        /* a backend was forked */
	PM_EV_ENDED,          /* a child has ended: kind, signal, code, critical */
	PM_EV_SMART,
	PM_EV_FAST,
	PM_EV_IMMEDIATE,
	PM_EV_FORK_FAILED,    /* an auxiliary child could not be started */
	PM_EV_TICK
} PmEventKind;

typedef struct PmEvent {
	PmEventKind event;
	uint64_t now_ms;   /* monotonic */
	ProcKind kind;     /* ENDED: who */
	int signal, code;  /* ENDED: how */
	bool critical;     /* ENDED: inside a critical section */
} PmEvent;

#define PM_KINDS (PROC_BACKEND + 1)
#define PM_BIT(kind) (1u << (kind))
#define PM_ALL (PM_BIT(PM_KINDS) - 1)

typedef struct PmState {
	PmPhase phase;
	int alive[PM_KINDS];      /* children by kind */
	uint64_t since_ms;        /* when the phase began */
	uint64_t nudged_ms;       /* when the stop signal was last sent */
	bool killed;              /* KILLING: SIGKILL was sent */
	bool restart;             /* KILLING: start anew when all are gone */
	int exit_code;            /* of the postmaster */
	int failed_starts;        /* restarts since the node was last ready */
	bool peers;               /* set after pm_init(): there may be other nodes, so their processes run, too */
	bool planned;             /* KILLING: not after a crash, but to install fetched tables */
} PmState;

/* Masks of PM_BIT(kind). */
typedef struct PmActions {
	unsigned launch;          /* auxiliary children to fork */
	unsigned term, quit, kill;/* children to end: the stop signal of their kind, SIGQUIT, SIGKILL */
	bool fresh;               /* make fresh shared memory, then send PM_EV_BEGIN */
	bool planned;             /* with fresh: nothing has crashed */
	bool ready;               /* the node has just become ready */
	bool exit;                /* end with exit_code */
	bool mark_dead;           /* ENDED: shared memory stays: mark the slot, poke the WAL writer */
	const char *why;          /* for the log; NULL nothing to say */
} PmActions;

#define PM_NUDGE_MS 200          /* the stop signal is repeated: it may come between a check and a blocking call */
#define PM_QUIT_GRACE_MS 100     /* SIGQUIT, then SIGKILL: a restart has to fit into a second */
#define PM_BACKEND_GRACE_MS 5000 /* fast stop: a backend that does not end (a client that takes nothing) is killed */
#define PM_FAILED_STARTS_MAX 5   /* children killed during so many starts in a row: give up */

void pm_init(PmState *s);
PmActions pm_step(PmState *s, const PmEvent *e);
/* May a new client be served? OK, STARTING, SHUTTING_DOWN. */
Status pm_accept(const PmState *s);
/* starting, ready or stopping: what people and kvctl are told. */
const char *pm_state_name(const PmState *s);

#endif
