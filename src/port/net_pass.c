/*
 * net_pass.c - hand a socket to another process, send without blocking.
 *
 * Descriptors travel as SCM_RIGHTS (POSIX 2008 TC1 names it) over a local datagram pair, one a message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/net.h"

#ifndef MSG_CMSG_CLOEXEC
#define MSG_CMSG_CLOEXEC 0
#endif

typedef union Control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int))];
} Control;

static bool
set_flags(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

Status
net_socket_pair(int pair[2])
{
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) != 0)
		return status_fail_errno(ST_INTERNAL, "cannot make a pair of local sockets");
	if (set_flags(pair[0]) && set_flags(pair[1]))
		return ST_OK;
	(void) status_fail_errno(ST_INTERNAL, "cannot set up a pair of local sockets");
	net_close_pair(pair);
	return ST_INTERNAL;
}

void
net_close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++) {
		if (pair[i] >= 0)
			(void) close(pair[i]);
		pair[i] = -1;
	}
}

bool
net_pass_fd(int pair_end, int fd, uint32_t number)
{
	struct iovec iov = { &number, sizeof number };
	Control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room };
	struct cmsghdr *c;

	msg.msg_controllen = sizeof control.room;
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(pair_end, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) sizeof number;
}

bool
net_take_fd(int pair_end, int *fd, uint32_t *number)
{
	for (;;) {
		struct iovec iov = { number, sizeof *number };
		Control control = { 0 };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room };
		struct cmsghdr *c;

		msg.msg_controllen = sizeof control.room;
		if (recvmsg(pair_end, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t) sizeof *number) {
			if (errno == EINTR)
				continue;
			return false;
		}
		c = CMSG_FIRSTHDR(&msg);
		/* Out of descriptors here: the message comes without one. Its sender does without. */
		if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fd, CMSG_DATA(c), sizeof *fd);
		return true;
	}
}

int
net_send_some(int fd, const void *data, size_t len)
{
	for (;;) {
		ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0)
			return (int) n;
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

void
net_shutdown(int fd)
{
	(void) shutdown(fd, SHUT_RDWR); /* fails only when the connection is gone, which is what is wanted */
}

void
net_close(int fd)
{
	(void) close(fd); /* a socket: no data of ours depends on the result */
}
