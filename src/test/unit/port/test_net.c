/* test_net.c - listening, connecting and accepting on the loopback, and how each fails. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/clock.h"
#include "port/net.h"

static int
listen_any(uint16_t *port)
{
	int fd, n;

	assert_int_equal(net_listen("127.0.0.1", 0, 8, &fd, 1, &n, port), ST_OK);
	assert_int_equal(n, 1);
	assert_true(*port != 0);
	return fd;
}

static void
await_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, 10000), 1);
}

static int
accept_one(int listen_fd)
{
	int fd;

	await_readable(listen_fd);
	assert_int_equal(net_accept(listen_fd, &fd), ST_OK);
	assert_true(fd >= 0);
	return fd;
}

static int
int_option(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof value;

	assert_int_equal(getsockopt(fd, level, option, &value, &len), 0);
	return value;
}

static void
bytes_go_both_ways(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	int client, server;
	char buf[8];

	(void) state;
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	server = accept_one(listen_fd);
	assert_int_equal(write(client, "ping", 4), 4);
	assert_int_equal(read(server, buf, 4), 4);
	assert_int_equal(write(server, "pong", 4), 4);
	assert_int_equal(read(client, buf, 4), 4);
	assert_memory_equal(buf, "pong", 4);
	close(client);
	close(server);
	close(listen_fd);
}

static void
sockets_are_set_up(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	int client, server;

	(void) state;
	assert_int_equal(net_connect("localhost", port, 5000, &client), ST_OK);
	server = accept_one(listen_fd);
	assert_true((fcntl(listen_fd, F_GETFL) & O_NONBLOCK) != 0);
	assert_true((fcntl(client, F_GETFL) & O_NONBLOCK) == 0);
	assert_true((fcntl(server, F_GETFL) & O_NONBLOCK) == 0);
	assert_true((fcntl(listen_fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(client, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(server, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true(int_option(client, IPPROTO_TCP, TCP_NODELAY) != 0);
	assert_true(int_option(server, IPPROTO_TCP, TCP_NODELAY) != 0);
	assert_true(int_option(server, SOL_SOCKET, SO_KEEPALIVE) != 0);
	close(client);
	close(server);
	close(listen_fd);
}

static void
nobody_waits(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	int fd = 0;

	(void) state;
	assert_int_equal(net_accept(listen_fd, &fd), ST_OK);
	assert_int_equal(fd, -1);
	close(listen_fd);
	assert_int_equal(net_accept(listen_fd, &fd), ST_IO_ERROR);
	assert_int_equal(fd, -1);
}

static void
a_taken_port_is_refused(void **state)
{
	uint16_t port, bound;
	int listen_fd = listen_any(&port);
	char want[64];
	int client, fd, n;

	(void) state;
	assert_int_equal(net_listen("127.0.0.1", port, 8, &fd, 1, &n, &bound), ST_CANNOT_CONNECT);
	assert_int_equal(n, 0);
	snprintf(want, sizeof want, "cannot listen on 127.0.0.1 port %u: Address already in use", port);
	assert_string_equal(status_detail(), want);
	/* And is free again at once, though a connection that this side closed first still lingers there. */
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	close(accept_one(listen_fd));
	close(listen_fd);
	close(client);
	assert_int_equal(net_listen("127.0.0.1", port, 8, &fd, 1, &n, &bound), ST_OK);
	assert_int_equal(bound, port);
	close(fd);
}

static void
all_addresses_share_one_port(void **state)
{
	int fds[8], client, n;
	uint16_t port = 0;

	(void) state;
	/* Bound to every address, but only reached through the loopback. */
	assert_int_equal(net_listen("*", 0, 8, fds, 8, &n, &port), ST_OK);
	assert_true(n >= 1);
	assert_true(port != 0);
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	close(client);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	assert_int_equal(net_listen("*", 0, 8, fds, 1, &n, &port), ST_OK);
	assert_int_equal(n, 1);
	close(fds[0]);
}

static void
connecting_fails_with_a_reason(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	char want[64];
	int fd = 0;

	(void) state;
	close(listen_fd);
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &fd), ST_CANNOT_CONNECT);
	assert_int_equal(fd, -1);
	snprintf(want, sizeof want, "cannot connect to 127.0.0.1 port %u: Connection refused", port);
	assert_string_equal(status_detail(), want);
	assert_int_equal(net_connect("no such host", 1, 100, &fd), ST_CANNOT_CONNECT);
	assert_non_null(strstr(status_detail(), "cannot resolve \"no such host\": "));
	assert_int_equal(net_listen("no such host", 1, 1, &fd, 1, &(int){ 0 }, &port), ST_CANNOT_CONNECT);
}

static void
a_full_backlog_times_out(void **state)
{
	enum { TRIES = 64 };
	uint16_t port;
	int listen_fd, n, fds[TRIES], made = 0;
	Status s = ST_OK;
	uint64_t start = clock_mono_ns();

	(void) state;
	/* Nobody accepts: once the queue is full the next connection hangs, until its deadline. */
	assert_int_equal(net_listen("127.0.0.1", 0, 1, &listen_fd, 1, &n, &port), ST_OK);
	while (s == ST_OK && made < TRIES)
		s = net_connect("127.0.0.1", port, 200, &fds[made++]);
	assert_int_equal(s, ST_TIMEOUT);
	assert_non_null(strstr(status_detail(), "within 200 ms"));
	assert_int_equal(fds[--made], -1);
	assert_true(clock_mono_ns() - start >= 200 * 1000000);
	while (made > 0)
		close(fds[--made]);
	close(listen_fd);
}

static void
peers_have_names(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	char name[64], want[64];
	int client, server;

	(void) state;
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	server = accept_one(listen_fd);
	net_peer_name(client, name, sizeof name);
	snprintf(want, sizeof want, "127.0.0.1:%u", port);
	assert_string_equal(name, want);
	net_peer_name(listen_fd, name, sizeof name);
	assert_string_equal(name, "unknown");
	net_peer_name(client, name, 6);
	assert_string_equal(name, "127.0");
	close(client);
	close(server);
	close(listen_fd);
}

static void
ipv6_names_have_brackets(void **state)
{
	uint16_t port;
	char name[64], want[64];
	int listen_fd, client, n;

	(void) state;
	if (net_listen("::1", 0, 8, &listen_fd, 1, &n, &port) != ST_OK)
		skip(); /* a machine without IPv6 */
	assert_int_equal(net_connect("::1", port, 5000, &client), ST_OK);
	net_peer_name(client, name, sizeof name);
	snprintf(want, sizeof want, "[::1]:%u", port);
	assert_string_equal(name, want);
	close(client);
	close(listen_fd);
}

static void
reading_times_out(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	int client;
	char byte;
	uint64_t start = clock_mono_ns();

	(void) state;
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	net_set_timeouts(client, 1500, 2500);
	net_set_timeouts(client, 30, 0);
	assert_int_equal(read(client, &byte, 1), -1);
	assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
	assert_true(clock_mono_ns() - start >= 25 * 1000000);
	close(client);
	close(listen_fd);
}

static void
no_descriptors_is_busy(void **state)
{
	uint16_t port;
	int listen_fd = listen_any(&port);
	struct rlimit old, none;
	int client, fd;
	Status s;

	(void) state;
	assert_int_equal(net_connect("127.0.0.1", port, 5000, &client), ST_OK);
	await_readable(listen_fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	s = net_accept(listen_fd, &fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(s, ST_BUSY);
	assert_int_equal(fd, -1);
	close(accept_one(listen_fd)); /* the client still waits */
	close(client);
	close(listen_fd);
}

static void
names_and_numbers_are_told_apart(void **state)
{
	NetAddress a[2];
	bool named;
	int n;

	(void) state;
	assert_int_equal(net_resolve("127.0.0.1", 1, a, 2, &n, &named), ST_OK);
	assert_true(n == 1 && !named);
	assert_int_equal(net_resolve("::1", 1, a, 2, &n, &named), ST_OK);
	assert_true(n == 1 && !named);
	assert_int_equal(net_resolve("localhost", 1, a, 2, &n, &named), ST_OK);
	assert_true(n >= 1 && n <= 2 && named);
	assert_int_equal(net_resolve("no host!", 1, a, 2, &n, &named), ST_CANNOT_CONNECT);
}

/* Wait for one descriptor, at most 10 s. */
static NetPoll
await(int fd, bool read, bool write)
{
	NetPoll p[2] = { { .fd = -1, .read = true }, { .fd = fd, .read = read, .write = write } };

	net_poll(p, 2, clock_mono_ns() + UINT64_C(10000000000));
	assert_false(p[0].readable);
	return p[1];
}

static void
a_connection_nobody_waits_for(void **state)
{
	NetAddress a;
	bool named;
	int listening, n, out, in;
	uint16_t port;
	char text[8];
	uint64_t begun;
	NetPoll idle;

	(void) state;
	assert_int_equal(net_listen("127.0.0.1", 0, 4, &listening, 1, &n, &port), ST_OK);
	assert_int_equal(net_resolve("127.0.0.1", port, &a, 1, &n, &named), ST_OK);
	assert_int_equal(net_connect_begin(&a, &out), ST_OK);
	assert_true(await(out, false, true).writable);
	assert_int_equal(net_connect_end(out), ST_OK);
	net_tune(out, 65536, 3000);
	await(listening, true, false);
	assert_int_equal(net_accept(listening, &in), ST_OK);
	assert_true(in >= 0);
	net_tune(in, 0, 3000);
	assert_int_equal(net_recv_some(in, text, sizeof text), 0);
	idle = (NetPoll){ .fd = in, .read = true };
	begun = clock_mono_ns();
	net_poll(&idle, 1, begun + 20000000);
	assert_false(idle.readable);
	assert_true(clock_mono_ns() - begun >= 20000000);
	{
		struct iovec iov[2] = { { "ab", 2 }, { "cd", 2 } };

		assert_int_equal(net_sendv_some(out, iov, 2), 4);
	}
	assert_true(await(in, true, false).readable);
	assert_int_equal(net_recv_some(in, text, sizeof text), 4);
	assert_memory_equal(text, "abcd", 4);
	net_close(out);
	await(in, true, false);
	assert_int_equal(net_recv_some(in, text, sizeof text), -1);
	net_close(in);
	net_close(listening);
	/* Nobody listens any more. */
	if (net_connect_begin(&a, &out) == ST_OK) {
		await(out, false, true);
		assert_int_equal(net_connect_end(out), ST_CANNOT_CONNECT);
		net_close(out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_numbers_are_told_apart),
		cmocka_unit_test(a_connection_nobody_waits_for),
		cmocka_unit_test(bytes_go_both_ways),
		cmocka_unit_test(sockets_are_set_up),
		cmocka_unit_test(nobody_waits),
		cmocka_unit_test(a_taken_port_is_refused),
		cmocka_unit_test(all_addresses_share_one_port),
		cmocka_unit_test(connecting_fails_with_a_reason),
		cmocka_unit_test(a_full_backlog_times_out),
		cmocka_unit_test(peers_have_names),
		cmocka_unit_test(ipv6_names_have_brackets),
		cmocka_unit_test(reading_times_out),
		cmocka_unit_test(no_descriptors_is_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
