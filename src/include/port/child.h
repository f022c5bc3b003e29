/*
 * child.h - what a postmaster and its children need from the system: fork, wait, signals, pipes, the
 * interlock of a data directory.
 */
#ifndef PORT_CHILD_H
#define PORT_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/status.h"

/* ---- processes */
pid_t child_self(void);
pid_t child_parent(void);
/*
 * fork() with all signals blocked: the parent gets its mask back at once, the child calls
 * child_unblock_signals(). A failure has the reason in its detail.
 */
KV_CHECK Status child_fork(pid_t *pid);
void child_unblock_signals(void);
typedef struct ChildEnd {
	pid_t pid;
	int code;    /* exit code, when signal is 0 */
	int signal;  /* that ended it; 0 none */
} ChildEnd;
/* The next child that has ended; false: none. Never waits. */
bool child_reap(ChildEnd *out);
/* kill(). A process that is gone is no error. */
void child_signal(pid_t pid, int signo);
_Noreturn void child_exit(int code); /* _exit(): nothing of the parent's is flushed twice */

/* ---- pipes and waiting */
/* CLOEXEC, both ends non-blocking. */
KV_CHECK Status child_pipe(int fds[2]);
/* One byte into a pipe; a full pipe drops it (the reader has enough to wake up for). Async-signal-safe. */
void child_pipe_put(int fd, char c);
/* Up to n bytes; 0: nothing there; -1: the other end is closed. */
int child_pipe_get(int fd, char *out, int n);
/* Wait until one of fds is readable (or closed) or timeout_ms has passed or a signal came; ready[i] tells. */
void child_poll(const int *fds, bool *ready, int n, int timeout_ms);

/* ---- the data directory */
/* umask 077: everything made from here on is the user's alone. */
void child_private_umask(void);
/* chdir; abs: the absolute name. NOT_FOUND when it does not exist. */
KV_CHECK Status child_enter_dir(const char *dir, char *abs, size_t size);
/*
 * fcntl lock on the whole of `path` (made if missing). BUSY: *holder has it. The descriptor must stay open and
 * no other of this file may ever be closed in this process: that would drop the lock.
 */
KV_CHECK Status child_lock_file(const char *path, int *fd, pid_t *holder);
/* Is there a process with the read end of this FIFO open? The FIFO is made if missing. */
KV_CHECK Status child_fifo_has_reader(const char *path, bool *has);
/* Open the read end: children inherit it. */
KV_CHECK Status child_fifo_open_reader(const char *path, int *fd);
/* For log files: made if missing, every write at the end. */
KV_CHECK Status child_open_append(const char *path, int *fd);

#endif
