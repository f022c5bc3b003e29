/*
 * net.h - TCP sockets. Addresses are "host" and a port; IPv4 and IPv6.
 */
#ifndef PORT_NET_H
#define PORT_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/status.h"

/*
 * Listening non-blocking sockets for every address `host` resolves to ("*" = all). At most `max`
 * are opened; *n tells how many. port 0 lets the system choose; *bound_port tells which.
 */
KV_CHECK Status net_listen(const char *host, uint16_t port, int backlog, int *fds, int max, int *n,
	uint16_t *bound_port);
/*
 * Next connection (blocking, TCP_NODELAY, keepalive, CLOEXEC); *fd = -1 when none is waiting. BUSY: out of
 * descriptors.
 */
KV_CHECK Status net_accept(int listen_fd, int *fd);
/* Connected blocking socket with TCP_NODELAY. Fails within timeout_ms (CANNOT_CONNECT or TIMEOUT). */
KV_CHECK Status net_connect(const char *host, uint16_t port, int timeout_ms, int *fd);
/* "127.0.0.1:54321" of the other end, for logs. */
void net_peer_name(int fd, char *out, size_t size);
/* SO_RCVTIMEO / SO_SNDTIMEO; 0 = none. */
void net_set_timeouts(int fd, int recv_ms, int send_ms);
/* As much as goes without blocking; 0 when the socket is full, -1 when the connection is broken. */
int net_send_some(int fd, const void *data, size_t len);
/* End the connection for every process that has it. */
void net_shutdown(int fd);
void net_close(int fd);

/* ---- connections that nobody waits for */
typedef struct NetAddress {
	uint8_t bytes[32]; /* a socket address of this system */
	uint32_t len;
} NetAddress;
/*
 * A number at once; a name (*named) as fast as the name service answers. At most max addresses, at least one.
 * CANNOT_CONNECT.
 */
KV_CHECK Status net_resolve(const char *host, uint16_t port, NetAddress *out, int max, int *n, bool *named);
/* Non-blocking, CLOEXEC. Once it is writable or broken, net_connect_end() tells what became of it. CANNOT_CONNECT. */
KV_CHECK Status net_connect_begin(const NetAddress *to, int *fd);
KV_CHECK Status net_connect_end(int fd);
/*
 * For a connection between nodes: non-blocking, no delay, keepalive of seconds; at most so many bytes wait
 * in the system (0: its choice); bytes that nobody acknowledges for stall_ms end it where the system can
 * (0: its choice).
 */
void net_tune(int fd, int send_buffer, int stall_ms);
/* What is there, what goes: bytes; 0 nothing now; -1 the connection has ended. */
ssize_t net_recv_some(int fd, void *out, size_t len);
ssize_t net_sendv_some(int fd, const struct iovec *iov, int n);
#define NET_POLL_MAX 160 /* descriptors */
#define NET_POLL_NS_MAX UINT64_C(60000000000) /* longer waits end early */
typedef struct NetPoll {
	int fd;               /* -1: passed over */
	bool read, write;     /* what is waited for */
	bool readable, writable, broken;
} NetPoll;
/* Until one of them can be read or written or is broken, or until_ns (monotonic), or a signal comes. */
void net_poll(NetPoll *list, int n, uint64_t until_ns);

/* ---- handing sockets to another process */
/* A local datagram pair, non-blocking and CLOEXEC. */
KV_CHECK Status net_socket_pair(int pair[2]);
/* -1s are ignored; sets them. */
void net_close_pair(int pair[2]);
/* Send a copy of `fd` with a number. False when the pair is full or broken. */
bool net_pass_fd(int pair_end, int fd, uint32_t number);
/* The next one; false when there is none. The caller owns *fd. */
bool net_take_fd(int pair_end, int *fd, uint32_t *number);

#endif
