/*
 * childsig.h - signals as a child process sees them, and whether its postmaster still lives.
 *
 * childsig_setup() is called for every child before its main function:
 *   SIGTERM  backends: finish and go: child_stop. Others ignore it: whoever shuts a machine or a service down sends it
 *            to all processes at once, and they still have work to do for those who are leaving.
 *   SIGUSR2  the others: finish and go: child_stop. From the postmaster only.
 *   SIGHUP   re-read settings: child_reload
 *   SIGQUIT  _exit(2) at once
 *   SIGUSR1  nothing but an interruption of a sleep
 *   SIGINT, SIGPIPE ignored (a ^C at a terminal is the postmaster's to handle)
 * The handlers wake the process's own slot, so procslot_prepare_sleep(), look at the flags, procslot_sleep() loses
 * nothing. Someone who blocks elsewhere (recv) gets EINTR, or, if the signal came a moment before, the
 * next one: the postmaster repeats the signal until the child is gone.
 */
#ifndef IPC_CHILDSIG_H
#define IPC_CHILDSIG_H

#include <signal.h>
#include <stdbool.h>

#define CHILDSIG_STOP_BACKEND SIGTERM
#define CHILDSIG_STOP_WORKER SIGUSR2

extern volatile sig_atomic_t child_stop;
extern volatile sig_atomic_t child_reload; /* set by the handler, cleared by whoever reloads */

/* death_fd: read end of the pipe whose write end only the postmaster has. report_fd: see child_report(), -1 none.
 * stop_signal: one of CHILDSIG_STOP_*. */
void childsig_setup(int death_fd, int report_fd, int stop_signal);
/* False once the postmaster is gone: exit at once (Linux kills us anyway). A system call: not in hot loops. */
bool child_postmaster_lives(void);

/* Tell the postmaster how far the start is. Dropped in processes that have no report pipe. */
#define REPORT_MANIFEST_OPEN 'm' /* replay process: the compaction worker may start */
#define REPORT_REPLAYED 'r'      /* replay process: WAL writer and consensus worker may start */
#define REPORT_READY 'g'         /* consensus worker: the gate is open */
void child_report(char what);

#endif
