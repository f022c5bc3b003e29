/*
 * child.c - fork, wait, signals, pipes and the interlock, for the postmaster and its children.
 *
 * No locks. child_pipe_put() and child_exit() also run in signal handlers.
 */
#define _GNU_SOURCE
#include "port/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/kv_assert.h"

#define POLL_MAX 256 /* descriptors one child_poll() waits for: listeners, pipes and a few refused clients */

static sigset_t mask_before_fork;

pid_t
child_self(void)
{
	return getpid();
}

pid_t
child_parent(void)
{
	return getppid();
}

Status
child_fork(pid_t *pid)
{
	sigset_t all;
	int err;

	fflush(NULL); /* or both processes would write what is buffered */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask_before_fork);
	*pid = fork();
	err = errno;
	if (*pid != 0)
		sigprocmask(SIG_SETMASK, &mask_before_fork, NULL);
	if (*pid >= 0)
		return ST_OK;
	errno = err;
	return status_fail_errno(ST_BUSY, "cannot fork");
}

void
child_unblock_signals(void)
{
	sigprocmask(SIG_SETMASK, &mask_before_fork, NULL);
}

bool
child_reap(ChildEnd *out)
{
	int status;
	pid_t pid = waitpid(-1, &status, WNOHANG);

	if (pid <= 0)
		return false;
	out->pid = pid;
	out->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	out->code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	return true;
}

void
child_signal(pid_t pid, int signo)
{
	KV_ASSERT(pid > 1); /* 0, -1 and init are never what is meant */
	(void) kill(pid, signo);
}

void
child_exit(int code)
{
	_exit(code);
}

static Status
set_flags(int fd)
{
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return status_fail_errno(ST_IO_ERROR, "cannot set flags of a pipe");
	return ST_OK;
}

Status
child_pipe(int fds[2])
{
	Status st;

	if (pipe(fds) != 0)
		return status_fail_errno(ST_IO_ERROR, "cannot make a pipe");
	st = set_flags(fds[0]);
	if (st == ST_OK)
		st = set_flags(fds[1]);
	if (st != ST_OK) {
		close(fds[0]);
		close(fds[1]);
	}
	return st;
}

void
child_pipe_put(int fd, char c)
{
	int saved_errno = errno;
	ssize_t n;

	do
		n = write(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	errno = saved_errno;
}

int
child_pipe_get(int fd, char *out, int n)
{
	ssize_t got;

	do
		got = read(fd, out, (size_t) n);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return 0; /* EAGAIN: nothing there */
	return got == 0 ? -1 : (int) got;
}

void
child_poll(const int *fds, bool *ready, int n, int timeout_ms)
{
	struct pollfd p[POLL_MAX];
	int rc;

	KV_ASSERT(n <= POLL_MAX);
	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	rc = poll(p, (nfds_t) n, timeout_ms);
	for (int i = 0; i < n; i++)
		ready[i] = rc > 0 && p[i].revents != 0;
}

void
child_private_umask(void)
{
	umask(077);
}

Status
child_enter_dir(const char *dir, char *abs, size_t size)
{
	if (chdir(dir) != 0)
		return status_fail_errno(errno == ENOENT ? ST_NOT_FOUND : ST_IO_ERROR,
			"cannot enter the data directory \"%s\"", dir);
	if (getcwd(abs, size) == NULL)
		return status_fail_errno(ST_IO_ERROR, "cannot name the data directory \"%s\"", dir);
	return ST_OK;
}

Status
child_lock_file(const char *path, int *fd, pid_t *holder)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int err;

	*holder = 0;
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*fd < 0)
		return status_fail_errno(ST_IO_ERROR, "cannot open lock file %s", path);
	if (fcntl(*fd, F_SETLK, &lock) == 0)
		return ST_OK;
	err = errno;
	if (err == EACCES || err == EAGAIN) {
		struct flock who = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

		if (fcntl(*fd, F_GETLK, &who) == 0 && who.l_type != F_UNLCK)
			*holder = who.l_pid;
	}
	close(*fd);
	*fd = -1;
	if (err == EACCES || err == EAGAIN)
		return status_fail(ST_BUSY, "%s is locked by process %ld", path, (long) *holder);
	errno = err;
	return status_fail_errno(ST_IO_ERROR, "cannot lock %s", path);
}

Status
child_fifo_has_reader(const char *path, bool *has)
{
	struct stat st;
	int fd;

	*has = false;
	if (mkfifo(path, 0600) != 0 && errno != EEXIST)
		return status_fail_errno(ST_IO_ERROR, "cannot make the FIFO %s", path);
	if (lstat(path, &st) != 0 || !S_ISFIFO(st.st_mode))
		return status_fail(ST_FOREIGN, "%s is not a FIFO", path);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENXIO)
		return ST_OK;
	if (fd < 0)
		return status_fail_errno(ST_IO_ERROR, "cannot open the FIFO %s", path);
	close(fd);
	*has = true;
	return ST_OK;
}

Status
child_fifo_open_reader(const char *path, int *fd)
{
	*fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return *fd >= 0 ? ST_OK : status_fail_errno(ST_IO_ERROR, "cannot open the FIFO %s", path);
}

Status
child_open_append(const char *path, int *fd)
{
	*fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	return *fd >= 0 ? ST_OK : status_fail_errno(ST_IO_ERROR, "cannot open log file %s", path);
}
