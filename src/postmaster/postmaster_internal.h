/*
 * postmaster_internal.h - what the files of this room share.
 */
#ifndef POSTMASTER_INTERNAL_H
#define POSTMASTER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"
#include "ipc/procslot.h"
#include "replication/bootstrap.h"
#include "storage/control.h"

/* ---- initdir.c: in the data directory */
/* FOREIGN: there are files here, but not ours. *empty: nothing is here yet, or what a cut-off start left. */
KV_CHECK Status initdir_look(const char *shown, bool *empty);
/*
 * Make everything; blank: but for what only a cluster can tell; keep_settings: those of a node with others are put
 * into kvd.auto.conf. REQUIRES the lock.
 */
KV_CHECK Status initdir_make(bool blank, bool keep_settings);
/* A blank directory becomes that of a member; can be cut off anywhere and done again. REQUIRES the lock. */
KV_CHECK Status initdir_form(const Bootstrap *b);
/* In a complete directory: the mark of an unfinished one must not stay. REQUIRES the lock. */
KV_CHECK Status initdir_tidy(void);
/* An empty file, synced with its name: something was begun here that is not to be left half done. */
KV_CHECK Status initdir_make_marker(const char *name);

/*
 * ---- check_dir.c: kvd --check, of the directory this process is in; shown as `dir`. Findings and a summary on
 * standard output, progress on standard error. Gives the exit code: 0 no damage.
 */
#define EXIT_CHECK_UNREADABLE 1 /* something could not be read, or it is no data directory; no damage found beside it */
#define EXIT_CHECK_DAMAGE 3
#define EXIT_CHECK_IN_USE 4     /* a server runs on it */
int check_directory(const char *dir);

/* ---- lock.c */
/* Interlock of rule P3; keeps it until the process ends. BUSY: another server, or a child of one, is alive. */
KV_CHECK Status lock_take(const char *shown);
/* Child: attached ones keep the FIFO's read end. */
void lock_close_in_child(bool attached);

/* ---- blank.c: wait until a blank directory belongs to a cluster; *control is the new one. TIMEOUT: told to stop. */
KV_CHECK Status blank_wait(const char *dir, Control *control);

/* ---- recover_alone.c */
/* BUSY: one was begun and cut off. */
KV_CHECK Status recover_alone_pending(void);
/* Says on standard output what it does and what may be lost. USAGE: nothing done without `yes`. */
KV_CHECK Status recover_alone(const Control *control, bool yes);

/* ---- pidfile.c: postmaster.pid, for kvctl. Lines: pid, port, start (ms since 1970), directory, state, addresses */
#define PIDFILE "postmaster.pid"
#define PIDFILE_WAITING "waiting" /* state of a blank node */
KV_CHECK Status pidfile_write(const char *dir, uint64_t started_ms, int port, const char *state);
void pidfile_remove(void);

/* ---- memory.c */
/* Most that may be mapped now, and who says so; UINT64_MAX: nobody knows of a bound. */
uint64_t memory_limit(const char **what);
/* BAD_SETTING with the sum of the settings if that is less. */
KV_CHECK Status memory_check(uint64_t bytes);
/* The failure of mapping them, with the sum. */
Status memory_failed(Status st, uint64_t bytes);
void memory_log(uint64_t bytes);

/* ---- shmem.c */
/* Slots: the fixed children, then regular backends, then reserved ones. Some more of each than may be used
 * at once: a dead backend's slot is free only after the WAL writer has cleared it. */
#define SLOTS_SPARE 64
#define SLOTS_SPARE_RESERVED 8
int shmem_slots(void);
int shmem_first_reserved(void);
/* Map (the first time) or zero it, and initialise. No child may be alive. */
KV_CHECK Status shmem_create(const Control *control);

/* ---- launch.c */
typedef struct LaunchPipes {
	int death[2];   /* write end only in the postmaster (rule P4) */
	int report[2];  /* children write how far the start is */
} LaunchPipes;
extern LaunchPipes launch_pipes;
KV_CHECK Status launch_make_pipes(void);
const char *launch_name(ProcKind kind);
/* Fork a child of this kind into this slot. in_child closes what the postmaster alone uses. */
KV_CHECK Status launch_child(ProcKind kind, int slot, int client_fd, void (*in_child)(void), pid_t *pid);

/* ---- worker.c: the loop all auxiliary children share */
/*
 * Step and sleep on the slot until the stop signal. The step sets *nap_us: 0 there is more to do now. A failed step:
 * NO_SPACE, OUT_OF_MEMORY and BUSY are tried again after a second, everything else stops the node. `what` is for
 * messages.
 */
void worker_loop(const char *what, Status (*step)(uint64_t *nap_us));
/*
 * For a worker whose steps may be long and leave nothing that the next start would not clean up or go on with: the stop
 * signal ends it at once, or, inside a critical section, after the step.
 */
void worker_stops_anywhere(void);
/* Where log lines of this process and its children go; put the settings about logging in force. */
void worker_log_fd(int fd);
void worker_apply_log_settings(void);
/* After child_reload: read the settings again. */
void worker_reload(void);
/* End the node: CORRUPT and failed I/O on what we own. */
_Noreturn void worker_failed(const char *what);

_Noreturn void replay_main(void);
_Noreturn void walwriter_main(void);
_Noreturn void compactor_main(void);
_Noreturn void consensus_main(void);
_Noreturn void fetcher_main(void);
_Noreturn void checker_main(void);

/* ---- clients.c: listening sockets, accepting, refusing */
#define LISTEN_MAX 16 /* sockets; more addresses than that are a mistake in listen_addresses */
KV_CHECK Status clients_listen(int *port);
/* Descriptors to poll; 0 of them while accepting pauses. */
int clients_poll_fds(int *fds, int max);
/* Handle those that are ready. */
void clients_ready(const int *fds, const bool *ready, int n);
/* Milliseconds until something is to be done without an event; at most `most`. */
int clients_timeout(int most);
void clients_tick(void);
void clients_close_in_child(void);

/* ---- postmaster.c */
/* What clients.c asks for: where would the next client go? */
typedef struct ClientPlace {
	enum { PLACE_SERVE, PLACE_REFUSE, PLACE_WAIT } what;
	int slot;            /* SERVE */
	Status code;         /* REFUSE */
	char text[160];
} ClientPlace;
void postmaster_place(ClientPlace *out);
/* Fork a backend; on failure the caller refuses the client. */
KV_CHECK Status postmaster_serve(int slot, int client_fd);
/* Runs the server in the current directory until it stops; returns the exit code. */
int postmaster_run(const Control *control, const char *dir);

#endif
