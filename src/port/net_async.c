/*
 * net_async.c - connections that never make their process wait: begin, finish, send and receive what goes,
 * poll many.
 *
 * The consensus worker's connections to other nodes (replication/peers.c). No locks. One exception: a host
 * that is no number is looked up when a connection is begun, which takes as long as the name service does.
 */
#define _GNU_SOURCE
#include "port/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/kv_assert.h"
#include "port/clock.h"

/* An idle connection to a node that is gone is noticed after about 5 + 3 * 2 s. */
#define KEEPALIVE_IDLE_S 5
#define KEEPALIVE_INTERVAL_S 2
#define KEEPALIVE_PROBES 3

static void
set_int(int fd, int level, int option, int value)
{
	(void) setsockopt(fd, level, option, &value, sizeof value); /* costs speed or tidiness, not correctness */
}

Status
net_resolve(const char *host, uint16_t port, NetAddress *out, int max, int *n, bool *named)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *list;
	char service[8];
	int rc;

	*n = 0;
	snprintf(service, sizeof service, "%u", port);
	rc = getaddrinfo(host, service, &hints, &list);
	*named = rc == EAI_NONAME;
	if (*named) {
		hints.ai_flags = 0;
		rc = getaddrinfo(host, service, &hints, &list);
	}
	if (rc != 0)
		return status_fail(ST_CANNOT_CONNECT, "cannot resolve \"%s\": %s", host,
						   rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	_Static_assert(sizeof out->bytes >= sizeof(struct sockaddr_in6), "room for any TCP address");
	for (const struct addrinfo *ai = list; ai != NULL && *n < max; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof out->bytes)
			continue;
		memcpy(out[*n].bytes, ai->ai_addr, ai->ai_addrlen);
		out[(*n)++].len = (uint32_t) ai->ai_addrlen;
	}
	freeaddrinfo(list);
	return *n > 0 ? ST_OK : status_fail(ST_CANNOT_CONNECT, "\"%s\" has no address for TCP", host);
}

Status
net_connect_begin(const NetAddress *to, int *out)
{
	struct sockaddr_storage a = { 0 };
	int fd;

	*out = -1;
	memcpy(&a, to->bytes, to->len);
	fd = socket(a.ss_family, SOCK_STREAM, 0);
	if (fd < 0)
		return status_fail_errno(ST_CANNOT_CONNECT, "cannot make a socket");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 ||
		(connect(fd, (struct sockaddr *) &a, (socklen_t) to->len) != 0 && errno != EINPROGRESS &&
		 errno != EINTR)) {
		int saved_errno = errno;

		close(fd);
		errno = saved_errno;
		return status_fail_errno(ST_CANNOT_CONNECT, "cannot connect");
	}
	*out = fd;
	return ST_OK;
}

Status
net_connect_end(int fd)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err == 0)
		return ST_OK;
	errno = err;
	return status_fail_errno(ST_CANNOT_CONNECT, "cannot connect");
}

void
net_tune(int fd, int send_buffer, int stall_ms)
{
	(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (send_buffer > 0)
		set_int(fd, SOL_SOCKET, SO_SNDBUF, send_buffer);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef __linux__
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	if (stall_ms > 0)
		set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, stall_ms);
#else
	(void) stall_ms;
#endif
}

static bool
would_block(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

ssize_t
net_recv_some(int fd, void *out, size_t len)
{
	ssize_t n = recv(fd, out, len, MSG_DONTWAIT);

	if (n > 0)
		return n;
	return n < 0 && would_block(errno) ? 0 : -1;
}

ssize_t
net_sendv_some(int fd, const struct iovec *iov, int n)
{
	struct msghdr m = { .msg_iov = (struct iovec *) iov, .msg_iovlen = (size_t) n };
	ssize_t sent = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0)
		return sent;
	return would_block(errno) ? 0 : -1;
}

void
net_poll(NetPoll *list, int n, uint64_t until_ns)
{
	struct pollfd p[NET_POLL_MAX];
	int at[NET_POLL_MAX], used = 0; /* where entry i stands in p; -1: nowhere */
	uint64_t now = clock_mono_ns(), wait = until_ns > now ? until_ns - now : 0;
	int rc;

	KV_ASSERT(n <= NET_POLL_MAX);
	for (int i = 0; i < n; i++) {
		short events = (short) ((list[i].read ? POLLIN : 0) | (list[i].write ? POLLOUT : 0));

		at[i] = list[i].fd >= 0 ? used++ : -1;
		if (at[i] >= 0)
			p[at[i]] = (struct pollfd){ list[i].fd, events, 0 };
	}
	if (wait > NET_POLL_NS_MAX)
		wait = NET_POLL_NS_MAX;
#ifdef __linux__
	rc = ppoll(p, (nfds_t) used, &(struct timespec){ (time_t) (wait / 1000000000), (long) (wait % 1000000000) },
			   NULL);
#else
	rc = poll(p, (nfds_t) used, (int) ((wait + 999999) / 1000000));
#endif
	for (int i = 0; i < n; i++) {
		int got = rc > 0 && at[i] >= 0 ? p[at[i]].revents : 0;

		/* An end or an error is found by whoever reads or writes next. */
		list[i].readable = list[i].read && (got & (POLLIN | POLLERR | POLLHUP)) != 0;
		list[i].writable = list[i].write && (got & (POLLOUT | POLLERR | POLLHUP)) != 0;
		list[i].broken = (got & (POLLERR | POLLHUP | POLLNVAL)) != 0;
	}
}
