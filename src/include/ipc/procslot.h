/*
 * procslot.h - one slot in shared memory for each process that is attached to it.
 *
 * A slot is what other processes may know of a process: that it lives, whether it is inside a critical
 * section, what it has pinned, and how to wake it. Slot numbers 0 .. PROC_AUX_COUNT-1 belong to the
 * fixed children (their ProcKind is their number), the rest to backends.
 *
 * Life of a slot (rule P2): FREE -> LIVE (child, first thing) -> DEAD (postmaster, after waitpid) ->
 * FREE (WAL writer, after clearing what the dead left: pins, waits; generation rises). The
 * postmaster forks a backend only into a slot that is FREE. It only loads `critical` and
 * stores `state`: nothing a mad child wrote here can hurt it.
 */
#ifndef IPC_PROCSLOT_H
#define IPC_PROCSLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/process_local.h"
#include "common/status.h"
#include "port/clock.h"

typedef enum ProcKind {
	PROC_REPLAY,
	PROC_CONSENSUS,
	PROC_WALWRITER,
	PROC_COMPACTOR,
	PROC_FETCHER, /* these two only where there are other nodes */
	PROC_CHECKER,
	PROC_AUX_COUNT,
	PROC_BACKEND = PROC_AUX_COUNT
} ProcKind;

typedef enum ProcState { PROC_FREE, PROC_LIVE, PROC_DEAD } ProcState;

#define PROC_NO_PIN UINT64_MAX /* in pin_epoch, pin_version: nothing pinned */

typedef struct ProcSlot {
	/* -- line 1: life and sleep. Owner writes unless said otherwise. */
	_Alignas(64) _Atomic uint32_t state;      /* ProcState; see above for who writes which */
	_Atomic uint32_t generation;              /* WAL writer raises it when it frees the slot */
	_Atomic uint32_t pid;                     /* for people (STATS); never signal it */
	_Atomic uint32_t kind;                    /* ProcKind */
	_Atomic uint32_t critical;                /* depth of critical sections; >0: shared state may be half changed */
	_Atomic uint32_t wake;                    /* anyone adds 1 to wake the owner, who parks on it */
	_Atomic uint32_t sleeping;                /* owner: 1 while it is parked or about to; others may skip unpark at 0 */
	_Atomic uint64_t critical_since_ns;       /* monotonic; set when critical leaves 0 */
	_Atomic uint32_t syncing;                 /* 1: waiting for the disk, where being killed helps nobody */
	_Atomic uint32_t piped;                   /* 1: the owner waits for the pipe below, not for `wake` */
	/* -- line 2: pins (rule A5). Stale reads only make others keep things longer. */
	_Alignas(64) _Atomic uint64_t pin_epoch;  /* PROC_NO_PIN or an epoch (ipc/epoch.h) */
	_Atomic uint64_t pin_version;             /* PROC_NO_PIN or the snapshot: versions < it may be read */
	_Atomic uint64_t pin_since_ns;            /* when the pin was taken, for the view of old pins */
} ProcSlot;

/* Shared memory for n slots; init once, by the postmaster, before any fork. */
size_t procslot_shmem_size(int n);
void procslot_shmem_init(void *mem, int n);
int procslot_count(void);
ProcSlot *procslot_get(int i);

/* This process: number (-1 before attach) and slot (NULL before). Never inherited: a child attaches anew. */
extern PROCESS_LOCAL int my_slot_no;
extern PROCESS_LOCAL ProcSlot *my_slot;

/* First thing in a child: make slot i mine. Asserts that it is FREE. */
void procslot_attach(int i, ProcKind kind);
/* Clean exit of a child (nothing held): clears pins. The postmaster still marks it dead after waitpid. */
void procslot_detach(void);

/* Postmaster, after waitpid: was the dead process inside a critical section? */
bool procslot_was_critical(int i);
void procslot_mark_dead(int i);
bool procslot_is_free(int i);
/* WAL writer: clear and free every DEAD slot; calls `cleared` (may be NULL) for each first. Returns how many. */
int procslot_reap(void (*cleared)(int slot));
/* Slots in use are all below this; grows only. For scans. */
int procslot_high_water(void);

/*
 * A stretch in which shared state may be half changed. Nests. Being killed inside costs a restart
 * of the node, outside only this process. Keep them short; no sleeping inside except for locks and I/O of
 * the log.
 */
void critical_enter(void);
void critical_leave(void);
/* Inside of one: it goes on, nobody is stuck. For work that has no bound in time, like reads of a slow disk. */
void critical_progress(void);
/* Around a sync inside a critical section: it may take as long as a bad disk does (stuck_timeout is longer then). */
void critical_sync_begin(void);
void critical_sync_end(void);

/*
 * Sleep until somebody calls procslot_wake() on my slot, at most timeout_us (<= 1 s: rule P2, every sleep
 * re-checks). The correct loop:
 *   for (;;) { uint32_t t = procslot_prepare_sleep(); if (condition) { procslot_cancel_sleep(); break; }
 *              procslot_sleep(t, us); }
 * procslot_prepare_sleep() sets `sleeping` with a full fence, so that a waker that changes the condition
 * and then looks at `sleeping` either sees it or is seen.
 */
uint32_t procslot_prepare_sleep(void);
void procslot_cancel_sleep(void);
void procslot_sleep(uint32_t token, uint64_t timeout_us);
/* The same to a time of clock_mono_ns(), at most 1 s; when that is past it does not sleep. */
static inline void
procslot_sleep_until(uint32_t token, uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns();

	if (now < deadline_ns)
		procslot_sleep(token, (deadline_ns - now) / 1000 + 1);
	else
		procslot_cancel_sleep();
}
/* Wake slot i; no system call unless it sleeps. Async-signal-safe. */
void procslot_wake(int i);

/*
 * A process that sleeps in poll(), because it waits for sockets too, is woken by a byte in a pipe. There is
 * one pipe, made before the first fork and inherited by all; the process that uses it is the consensus
 * worker.
 */
KV_CHECK Status procslot_make_pipe(void);
/* Owner, after procslot_attach(): from now on I sleep on this descriptor (returned; readable means woken). */
int procslot_use_pipe(void);
/*
 * Instead of prepare and sleep:
 *   for (;;) { look at everything; wait_ms = procslot_prepare_pipe_sleep(&seen) ? some : 0; poll();
 *              procslot_end_pipe_sleep(&seen, the descriptor is readable); }
 * seen: wakes known about, 0 at first. False: there was one since.
 */
bool procslot_prepare_pipe_sleep(const uint32_t *seen);
void procslot_end_pipe_sleep(uint32_t *seen, bool readable);

#endif
