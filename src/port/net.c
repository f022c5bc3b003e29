/*
 * net.c - TCP sockets.
 *
 * The postmaster listens and accepts; clients (libkv, kvbench) connect. No locks.
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
#include <sys/time.h>
#include <unistd.h>

#include "port/clock.h"

#define PORT_ZERO_TRIES 20 /* a port the system chose for one family may be taken in the other: ask again */

static void
set_int(int fd, int level, int option, int value)
{
	/* Failure costs speed or tidiness, not correctness; after accept it also happens when the peer has gone already. */
	(void) setsockopt(fd, level, option, &value, sizeof value);
}

static Status
resolve(const char *host, uint16_t port, int flags, struct addrinfo **list)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags };
	char service[8];
	int rc;

	snprintf(service, sizeof service, "%u", port);
	rc = getaddrinfo(host, service, &hints, list);
	if (rc != 0)
		return status_fail(ST_CANNOT_CONNECT, "cannot resolve \"%s\": %s", host != NULL ? host : "*",
			rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	return ST_OK;
}

/* A socket with CLOEXEC, and O_NONBLOCK when asked; -1 with errno. */
static int
new_socket(int family, bool nonblocking)
{
#ifdef __linux__
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
#else
	int fd = socket(family, SOCK_STREAM, 0);

	if (fd >= 0) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		if (nonblocking)
			fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	return fd;
#endif
}

static void
set_port(struct sockaddr *a, uint16_t port)
{
	if (a->sa_family == AF_INET6)
		((struct sockaddr_in6 *) (void *) a)->sin6_port = htons(port);
	else
		((struct sockaddr_in *) (void *) a)->sin_port = htons(port);
}

static uint16_t
local_port(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;

	if (getsockname(fd, (struct sockaddr *) &a, &len) != 0)
		return 0;
	if (a.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *) &a)->sin6_port);
	return ntohs(((struct sockaddr_in *) &a)->sin_port);
}

/* One listening socket; -1 with errno. */
static int
listen_one(const struct addrinfo *ai, int backlog)
{
	int fd = new_socket(ai->ai_family, true);
	int saved_errno;

	if (fd < 0)
		return -1;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ai->ai_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1); /* IPv4 has a socket of its own */
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, backlog) == 0)
		return fd;
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return -1;
}

static bool
family_is_missing(int err)
{
	return err == EAFNOSUPPORT || err == EADDRNOTAVAIL || err == EPROTONOSUPPORT;
}

/*
 * Listen on every address of the list. Those of a family the machine does not have are passed over while
 * another one works; any other failure closes what was opened. 0, or errno.
 */
static int
listen_all(const struct addrinfo *list, int backlog, int *fds, int max, int *n, uint16_t *port)
{
	int missing = 0;
	int saved_errno;

	*n = 0;
	for (const struct addrinfo *ai = list; ai != NULL && *n < max; ai = ai->ai_next) {
		int fd;

		set_port(ai->ai_addr, *port);
		fd = listen_one(ai, backlog);
		if (fd < 0) {
			saved_errno = errno;
			if (family_is_missing(saved_errno)) {
				missing = saved_errno;
				continue;
			}
			while (*n > 0)
				close(fds[--*n]);
			return saved_errno;
		}
		fds[(*n)++] = fd;
		*port = local_port(fd);
	}
	return *n > 0 ? 0 : missing;
}

Status
net_listen(const char *host, uint16_t port, int backlog, int *fds, int max, int *n, uint16_t *bound_port)
{
	struct addrinfo *list;
	int err = 0;

	*n = 0;
	KV_TRY(resolve(strcmp(host, "*") == 0 ? NULL : host, port, AI_PASSIVE, &list));
	for (int try = 0; try < PORT_ZERO_TRIES; try++) {
		*bound_port = port;
		err = listen_all(list, backlog, fds, max, n, bound_port);
		if (err != EADDRINUSE || port != 0)
			break;
	}
	freeaddrinfo(list);
	if (err == 0)
		return ST_OK;
	errno = err;
	return status_fail_errno(ST_CANNOT_CONNECT, "cannot listen on %s port %u", host, port);
}

/* Errors of accept() that concern one connection only, which has gone: Linux also hands over its network errors. */
static bool
connection_is_gone(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == ECONNABORTED || err == EINTR || err == EPROTO ||
		err == ENETDOWN || err == ENOPROTOOPT || err == EHOSTDOWN || err == EHOSTUNREACH || err == EOPNOTSUPP ||
		err == ENETUNREACH;
}

Status
net_accept(int listen_fd, int *fd)
{
#ifdef __linux__
	*fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
#else
	*fd = accept(listen_fd, NULL, NULL);
	if (*fd >= 0) {
		fcntl(*fd, F_SETFD, FD_CLOEXEC);
		fcntl(*fd, F_SETFL, 0);
	}
#endif
	if (*fd >= 0) {
		set_int(*fd, IPPROTO_TCP, TCP_NODELAY, 1);
		set_int(*fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		return ST_OK;
	}
	*fd = -1;
	if (connection_is_gone(errno))
		return ST_OK;
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		return status_fail_errno(ST_BUSY, "cannot accept a connection");
	return status_fail_errno(ST_IO_ERROR, "cannot accept a connection");
}

/* Wait until a connection under way is made; 0 or its error. */
static int
await_connected(int fd, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		uint64_t now = clock_mono_ns();
		int ms = now >= deadline_ns ? 0 : (int) ((deadline_ns - now + 999999) / 1000000);
		int rc = poll(&p, 1, ms);
		int err = 0;
		socklen_t len = sizeof err;

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			return errno;
		if (rc == 0) {
			if (ms == 0)
				return ETIMEDOUT;
			continue;
		}
		return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 ? errno : err;
	}
}

/* Connect to one address; 0 with *out, or the error. */
static int
connect_one(const struct addrinfo *ai, uint64_t deadline_ns, int *out)
{
	int fd = new_socket(ai->ai_family, true);
	int err = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) != 0)
		err = errno == EINPROGRESS || errno == EINTR ? await_connected(fd, deadline_ns) : errno;
	if (err == 0 && fcntl(fd, F_SETFL, 0) != 0)
		err = errno;
	if (err != 0) {
		close(fd);
		return err;
	}
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	*out = fd;
	return 0;
}

Status
net_connect(const char *host, uint16_t port, int timeout_ms, int *fd)
{
	uint64_t deadline = clock_mono_ns() + (uint64_t) (timeout_ms > 0 ? timeout_ms : 0) * 1000000;
	struct addrinfo *list;
	int err = 0;

	*fd = -1;
	KV_TRY(resolve(host, port, 0, &list));
	for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
		err = connect_one(ai, deadline, fd);
		if (err == 0 || err == ETIMEDOUT)
			break;
	}
	freeaddrinfo(list);
	if (err == 0)
		return ST_OK;
	if (err == ETIMEDOUT)
		return status_fail(ST_TIMEOUT, "cannot connect to %s port %u within %d ms", host, port, timeout_ms);
	errno = err;
	return status_fail_errno(ST_CANNOT_CONNECT, "cannot connect to %s port %u", host, port);
}

void
net_peer_name(int fd, char *out, size_t size)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	char host[NI_MAXHOST], service[NI_MAXSERV];

	if (getpeername(fd, (struct sockaddr *) &a, &len) != 0 ||
		getnameinfo((struct sockaddr *) &a, len, host, sizeof host, service, sizeof service,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
		snprintf(out, size, "unknown");
		return;
	}
	snprintf(out, size, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, service);
}

static void
set_timeout(int fd, int option, int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };

	(void) setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}

void
net_set_timeouts(int fd, int recv_ms, int send_ms)
{
	set_timeout(fd, SO_RCVTIMEO, recv_ms);
	set_timeout(fd, SO_SNDTIMEO, send_ms);
}
