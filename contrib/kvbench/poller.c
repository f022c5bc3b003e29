/*
 * poller.c - wait for many sockets: epoll on Linux, poll elsewhere (and with --poll).
 *
 * poll costs a look at each connection on every call; with few hundred connections that is felt.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "kvbench.h"

#define BATCH 256 /* events fetched from the kernel at once */

struct Poller {
	int epoll_fd; /* -1: poll */
	uint32_t max;
	uint32_t n;
	PollerEvent *events;
	struct pollfd *fds; /* poll: by connection */
#ifdef __linux__
	struct epoll_event ready[BATCH];
#endif
};

Status
poller_new(Poller **out, uint32_t max, bool use_poll)
{
	Poller *p = calloc(1, sizeof *p);

	if (p == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory to wait for %u connections", max);
	p->epoll_fd = -1;
	p->max = max;
#ifdef __linux__
	if (!use_poll)
		p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
#else
	(void) use_poll;
#endif
	p->events = calloc(p->epoll_fd >= 0 ? BATCH : max, sizeof *p->events);
	p->fds = p->epoll_fd >= 0 ? NULL : calloc(max, sizeof *p->fds);
	if (p->events == NULL || (p->epoll_fd < 0 && p->fds == NULL)) {
		poller_free(p);
		return status_fail(ST_OUT_OF_MEMORY, "no memory to wait for %u connections", max);
	}
	*out = p;
	return ST_OK;
}

void
poller_free(Poller *p)
{
	if (p == NULL)
		return;
	if (p->epoll_fd >= 0)
		close(p->epoll_fd);
	free(p->events);
	free(p->fds);
	free(p);
}

#ifdef __linux__
static Status
control(Poller *p, int op, int fd, uint32_t no, bool want_write)
{
	struct epoll_event e = { .events = EPOLLIN | (want_write ? EPOLLOUT : 0u), .data.u32 = no };

	if (epoll_ctl(p->epoll_fd, op, fd, &e) != 0)
		return status_fail_errno(ST_IO_ERROR, "epoll_ctl");
	return ST_OK;
}
#endif

Status
poller_add(Poller *p, int fd, uint32_t no)
{
#ifdef __linux__
	if (p->epoll_fd >= 0)
		return control(p, EPOLL_CTL_ADD, fd, no, false);
#endif
	p->fds[no] = (struct pollfd){ .fd = fd, .events = POLLIN };
	p->n = no >= p->n ? no + 1 : p->n;
	return ST_OK;
}

Status
poller_want_write(Poller *p, int fd, uint32_t no, bool want)
{
#ifdef __linux__
	if (p->epoll_fd >= 0)
		return control(p, EPOLL_CTL_MOD, fd, no, want);
#endif
	(void) fd;
	p->fds[no].events = (short) (POLLIN | (want ? POLLOUT : 0));
	return ST_OK;
}

#ifdef __linux__
/*
 * epoll counts milliseconds, too coarse for an open loop. The epoll descriptor can itself be waited for, and
 * pselect counts nanoseconds. One more system call, so only for short waits.
 */
static void
wait_precisely(int fd, uint64_t ns)
{
	struct timespec t = { (time_t) (ns / 1000000000), (long) (ns % 1000000000) };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	(void) pselect(fd + 1, &set, NULL, NULL, &t, NULL);
}

static Status
wait_epoll(Poller *p, uint64_t timeout_ns, uint32_t *n)
{
	int ms = timeout_ns >= 20000000 ? (int) (timeout_ns / 1000000) : 0;
	int rc;

	if (timeout_ns > 0 && ms == 0)
		wait_precisely(p->epoll_fd, timeout_ns);
	rc = epoll_wait(p->epoll_fd, p->ready, BATCH, ms);
	if (rc < 0 && errno != EINTR)
		return status_fail_errno(ST_IO_ERROR, "epoll_wait");
	*n = rc > 0 ? (uint32_t) rc : 0;
	for (uint32_t i = 0; i < *n; i++)
		p->events[i] = (PollerEvent){ .no = p->ready[i].data.u32,
			.readable = (p->ready[i].events & ~(uint32_t) EPOLLOUT) != 0,
			.writable = (p->ready[i].events & EPOLLOUT) != 0 };
	return ST_OK;
}
#endif

static Status
wait_poll(Poller *p, uint64_t timeout_ns, uint32_t *n)
{
	int rc = poll(p->fds, p->n, (int) (timeout_ns / 1000000));

	*n = 0;
	if (rc < 0 && errno != EINTR)
		return status_fail_errno(ST_IO_ERROR, "poll");
	for (uint32_t i = 0; rc > 0 && i < p->n; i++) {
		if (p->fds[i].revents == 0)
			continue;
		p->events[(*n)++] = (PollerEvent){ .no = i, .readable = (p->fds[i].revents & ~POLLOUT) != 0,
			.writable = (p->fds[i].revents & POLLOUT) != 0 };
	}
	return ST_OK;
}

Status
poller_wait(Poller *p, uint64_t timeout_ns, PollerEvent **events, uint32_t *n)
{
	*events = p->events;
#ifdef __linux__
	if (p->epoll_fd >= 0)
		return wait_epoll(p, timeout_ns, n);
#endif
	return wait_poll(p, timeout_ns, n);
}
