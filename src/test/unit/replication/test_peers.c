/*
 * test_peers.c - the transport: two nodes, strangers, wrong identities, a ring that passes.
 *
 * Each node is a process of its own (the transport is one per process) on a port of the test. The log's
 * ring is a fake: byte i of the stream is a function of i, and the test moves its floor.
 */
#include "peer_test.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/net.h"
#include "port/proc.h"
#include "storage/wal.h"

#define WAIT_NS UINT64_C(20000000000) /* longest for anything that must happen */
#define RING (1 << 20)

/* ---- the fake ring */

static uint8_t ring[RING];
static Lsn ring_floor_now;
static int floor_passes_in; /* as soon as pieces were handed out so many times; 0 never */

int
wal_ring_pieces(Lsn from, Lsn to, struct iovec iov[2])
{
	size_t at = from % RING, first = RING - at < to - from ? RING - at : to - from;

	if (from < ring_floor_now)
		return 0;
	if (floor_passes_in > 0 && --floor_passes_in == 0)
		ring_floor_now = to;
	iov[0] = (struct iovec){ ring + at, first };
	if (first == to - from)
		return 1;
	iov[1] = (struct iovec){ ring, to - from - first };
	return 2;
}

Lsn
wal_ring_floor(void)
{
	return ring_floor_now;
}

/* ---- nodes */

static int held[4]; /* sockets that keep port_of[] */

static Control
control_of(int node)
{
	Control c = { .node_incarnation = id_of(node), .crc_seed = 77, .wal_segment_size = 1 << 20 };

	memset(c.cluster_id, 0xc1, sizeof c.cluster_id);
	return c;
}

/*
 * A port of our own for the whole test: bound and not listened on, so the system gives it to nobody else and who
 * connects is refused, until a node binds it by its number and listens.
 */
static int
hold_port(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	assert_true(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void
be(int node)
{
	config.peer_port = port_of[node];
	snprintf(config.node_name, sizeof config.node_name, "n%d", node);
}

static void
open_node(int node, int n, Lsn at)
{
	Control c = control_of(node);
	Membership m = members(n);

	be(node);
	assert_int_equal(peers_open(&c), ST_OK);
	peers_set_members(&m, at);
}

static pid_t
start(int node, void (*run)(int node))
{
	pid_t parent = getpid(), pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (!proc_die_with_parent(parent))
			_exit(9);
		alarm(300);
		run(node);
		_exit(0);
	}
	return pid;
}

static int
end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
stop(pid_t pid)
{
	kill(pid, SIGKILL);
	end_of(pid);
}

/* The next event; fails after WAIT_NS. */
static PeerEvent
next_event(void)
{
	uint64_t until = clock_mono_ns() + WAIT_NS;
	PeerEvent e;

	while (!peers_next(&e)) {
		assert_true(clock_mono_ns() < until);
		peers_wait(clock_mono_ns() + 100000000);
	}
	return e;
}

static PeerEvent
wait_kind(PeerEventKind kind)
{
	for (;;) {
		PeerEvent e = next_event();

		if (e.kind == kind)
			return e;
	}
}

/* Answers each message by the same one, with a checksum of its bytes and where they stood. */
static void
echo_node(int node)
{
	open_node(node, 2, 1);
	for (;;) {
		PeerEvent e;

		peers_wait(clock_mono_ns() + 1000000000);
		while (peers_next(&e)) {
			RaftMsg m = e.msg;

			if (e.kind != PEER_EV_MESSAGE)
				continue;
			m.to = e.id;
			m.clock_ms = e.bytes.len > 0 ? crc32c(0, e.bytes.data, e.bytes.len) : m.clock_ms;
			peers_send(&m);
		}
		peers_flush();
	}
}

static int
setup(void **state)
{
	(void) state;
	for (int i = 0; i < 4; i++)
		held[i] = hold_port(&port_of[i]);
	ring_floor_now = 0;
	floor_passes_in = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	for (int i = 0; i < 4; i++)
		net_close(held[i]);
	peers_close();
	return 0;
}

/* ---- two nodes */

#define PING 41

/* Until both directions stand: what is sent before the other has its connection to us is not answered. */
static void
meet(void)
{
	uint64_t until = clock_mono_ns() + WAIT_NS;
	PeerEvent e = { 0 };

	while (e.kind != PEER_EV_MESSAGE) {
		RaftMsg ping = { .kind = PING, .to = id_of(1) };

		peers_send(&ping);
		peers_flush();
		peers_wait(clock_mono_ns() + 20000000);
		(void) peers_next(&e);
		assert_true(clock_mono_ns() < until);
	}
}

static void
exchange(void)
{
	Prng g;

	meet();
	prng_seed(&g, seed + 2);
	for (int i = 0; i < 300; i++) {
		RaftMsg m = some_message(&g), back;
		PeerEvent e;

		m.to = id_of(1);
		m.kind = m.kind == PING ? PING + 1 : m.kind;
		peers_send(&m);
		do
			e = wait_kind(PEER_EV_MESSAGE);
		while (e.msg.kind == PING);
		back = e.msg;
		assert_true(e.id == id_of(1) && back.from == id_of(1) && back.to == id_of(0));
		back.from = m.from;
		back.to = m.to;
		assert_memory_equal(&m, &back, sizeof m);
	}
}

/* Ranges of every kind of length with a message behind each: all come, whole and in order. */
static void
exchange_ranges(void)
{
	Lsn pos = 4096, end = pos + 8 * PEERS_CHUNK;
	int sent = 0, heard = 0;
	uint64_t until = clock_mono_ns() + WAIT_NS;
	Prng g;

	prng_seed(&g, seed + 3);
	while (pos < end || heard < sent) {
		PeerEvent e;

		if (pos < end && peers_ready(id_of(1))) {
			RaftMsg m = { .kind = RAFT_APPEND, .to = id_of(1), .pos = pos },
					poke = { .kind = 40, .to = id_of(1) };
			Lsn want = sent == 0   ? pos + 1
					   : sent == 2 ? pos + 2 * PEERS_CHUNK
								   : pos + 1 + prng_below(&g, PEERS_CHUNK);
			Lsn to = peers_send_range(&m, want);

			assert_true(to == (want < pos + PEERS_CHUNK ? want : pos + PEERS_CHUNK));
			peers_send(&poke);
			pos = to;
			sent += 2;
		}
		peers_flush();
		peers_wait(clock_mono_ns() + 50000000);
		while (peers_next(&e)) {
			uint32_t crc = 0;

			if (e.msg.kind == PING)
				continue;
			assert_int_equal(e.kind, PEER_EV_MESSAGE);
			assert_int_equal(e.msg.kind, heard % 2 == 0 ? RAFT_APPEND : 40);
			for (Lsn at = e.msg.pos; e.msg.kind == RAFT_APPEND && at < e.msg.end; at++)
				crc = crc32c(crc, &ring[at % RING], 1);
			assert_int_equal(e.msg.clock_ms, crc);
			heard++;
		}
		assert_true(clock_mono_ns() < until);
	}
}

static void
two_nodes_exchange_everything_also_after_a_kill(void **state)
{
	pid_t pid = start(1, echo_node);
	PeerEvent e;

	(void) state;
	open_node(0, 2, 1);
	assert_true(wait_kind(PEER_EV_UP).id == id_of(1)); /* who is slow at first is given up and dialled again */
	assert_string_equal(peers_trouble(id_of(1)), "");
	exchange();
	exchange_ranges();
	for (int i = 0; i < 2; i++) {
		bool down = false, lost = false;

		stop(pid);
		while (!down || !lost) {
			e = next_event();
			assert_int_equal(e.id, id_of(1));
			down = down || e.kind == PEER_EV_DOWN;
			lost = lost || e.kind == PEER_EV_LOST;
		}
		assert_true(strlen(peers_trouble(id_of(1))) > 0);
		pid = start(1, echo_node);
		wait_kind(PEER_EV_UP);
		exchange();
	}
	stop(pid);
}

static void
a_range_that_leaves_the_ring_ends_the_connection(void **state)
{
	pid_t pid = start(1, echo_node);
	RaftMsg m = { .kind = RAFT_APPEND, .to = id_of(1), .pos = 100 };

	(void) state;
	open_node(0, 2, 1);
	wait_kind(PEER_EV_UP);
	ring_floor_now = 200;
	assert_int_equal(peers_send_range(&m, 300), 100); /* gone already: not even begun */
	assert_true(peers_ready(id_of(1)));
	ring_floor_now = 0;
	floor_passes_in = 2; /* looked at before, and while it is being sent */
	assert_int_equal(peers_send_range(&m, 300), 300);
	assert_int_equal(wait_kind(PEER_EV_DOWN).id, id_of(1));
	ring_floor_now = 0;
	wait_kind(PEER_EV_UP);
	exchange();
	stop(pid);
}

/* ---- strangers */

static PeerHello
hello_of(int node)
{
	PeerHello h = {
		.newest = 1, .oldest = 1, .purpose = PEER_MEMBER, .self = id_of(node), .expected = id_of(1)
	};

	memset(h.cluster_id, 0xc1, sizeof h.cluster_id);
	snprintf(h.name, sizeof h.name, "n%d", node);
	snprintf(h.peer_address, sizeof h.peer_address, "127.0.0.1:%u", port_of[node]);
	return h;
}

static int
connect_to(int node)
{
	uint64_t until = clock_mono_ns() + WAIT_NS;
	int fd;

	while (net_connect("127.0.0.1", port_of[node], 2000, &fd) != ST_OK)
		assert_true(clock_mono_ns() < until);
	net_set_timeouts(fd, 10000, 10000);
	return fd;
}

static PeerAnswer
say(int fd, const void *bytes, size_t len)
{
	uint8_t in[PEER_HELLO_MAX];
	size_t have = 0, used;
	PeerAnswer a = { 0 };
	Status st = ST_NOT_FOUND;

	assert_int_equal(write(fd, bytes, len), len);
	while (st == ST_NOT_FOUND) {
		ssize_t n = read(fd, in + have, sizeof in - have);

		assert_true(n > 0);
		have += (size_t) n;
		st = peer_answer_decode(slice_of(in, have), &a, &used);
	}
	assert_int_equal(st, ST_OK);
	return a;
}

static PeerAnswer
greet_with(PeerHello h, int *keep)
{
	uint8_t bytes[PEER_HELLO_MAX];
	int fd = connect_to(1);
	PeerAnswer a = say(fd, bytes, peer_hello_encode(&h, bytes));

	if (keep != NULL)
		*keep = fd;
	else
		net_close(fd);
	return a;
}

static void
wrong_identities_are_refused_and_told_why(void **state)
{
	pid_t pid = start(1, echo_node);
	PeerHello h = hello_of(0);
	PeerAnswer a = greet_with(h, NULL);
	uint8_t bytes[PEER_HELLO_MAX];
	int fd;

	(void) state;
	assert_int_equal(a.code, ST_OK);
	assert_int_equal(a.self, id_of(1));
	assert_string_equal(a.name, "n1");
	h.cluster_id[3] ^= 1;
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_non_null(strstr(a.text, "another cluster"));
	h = hello_of(0);
	h.expected++;
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_non_null(strstr(a.text, "kvctl cluster replace n1"));
	h = hello_of(0);
	h.self = 5; /* the disk of n0 was lost, and this is what came back */
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_NOT_FOUND);
	assert_non_null(strstr(a.text, "replaced"));
	a = greet_with(hello_of(3), NULL);
	assert_int_equal(a.code, ST_NOT_FOUND);
	assert_non_null(strstr(a.text, "removed, or not added yet"));
	h = hello_of(1);
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_non_null(strstr(a.text, "copied"));
	h.expected++; /* it dials the member whose place and address it has taken */
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_non_null(strstr(a.text, "this node itself"));
	snprintf(h.peer_address, sizeof h.peer_address, "127.0.0.1:%u", port_of[0]);
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_non_null(strstr(a.text, "copied"));
	h = hello_of(0);
	h.newest = h.oldest = 9;
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_BAD_VERSION);
	h = (PeerHello){ .newest = 1, .oldest = 1, .purpose = PEER_IDENTIFY, .self = 5 };
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_OK);
	assert_false(a.blank);
	/* Byte by byte is as good as at once. */
	fd = connect_to(1);
	h = hello_of(0);
	for (size_t i = 0, len = peer_hello_encode(&h, bytes); i < len; i++) {
		if (i + 1 == len)
			assert_int_equal(say(fd, bytes + i, 1).code, ST_OK);
		else
			assert_int_equal(write(fd, bytes + i, 1), 1);
	}
	net_close(fd);
	stop(pid);
}

/* The newest leader may be one that this node has not heard of: it goes by a newer configuration. */
static void
a_member_that_is_not_known_yet_is_heard_and_answered(void **state)
{
	pid_t pid = start(1, echo_node);
	Membership m = members(4);
	Control c = control_of(3);

	(void) state;
	be(3);
	assert_int_equal(peers_open(&c), ST_OK);
	m.node[0].peer_address[0] = m.node[2].peer_address[0] = '\0';
	peers_set_members(&m, 2); /* the others go by the one at 1 */
	wait_kind(PEER_EV_UP);
	{
		RaftMsg msg = { .kind = 33, .to = id_of(1), .term = 5 };
		uint64_t until = clock_mono_ns() + WAIT_NS;
		PeerEvent e = { 0 };

		while (e.kind != PEER_EV_MESSAGE) { /* its way back is being made */
			peers_send(&msg);
			peers_flush();
			peers_wait(clock_mono_ns() + 20000000);
			(void) peers_next(&e);
			assert_true(clock_mono_ns() < until);
		}
		assert_int_equal(e.msg.term, 5);
	}
	stop(pid);
}

static void
noise_ends_its_own_connection_only(void **state)
{
	pid_t pid = start(1, echo_node);
	uint8_t bytes[PEER_HELLO_MAX];
	Prng g;

	(void) state;
	prng_seed(&g, seed + 4);
	open_node(0, 2, 1);
	wait_kind(PEER_EV_UP);
	for (int i = 0; i < 200; i++) {
		PeerHello h = hello_of(0);
		size_t len = prng_below(&g, sizeof bytes);
		int fd = connect_to(1);

		for (size_t k = 0; k < len; k++)
			bytes[k] = (uint8_t) prng_next(&g);
		if (i % 4 == 0) {
			size_t real = peer_hello_encode(&h, bytes);

			bytes[prng_below(&g, real)] ^= 1;
		}
		(void) !write(fd, bytes, len);
		net_close(fd);
	}
	exchange();
	/* A frame that is none, on a connection that was accepted: it takes the place of ours and ends. */
	{
		int fd;

		assert_int_equal(greet_with(hello_of(0), &fd).code, ST_OK);
		memset(bytes, 0xee, sizeof bytes);
		(void) !write(fd, bytes, sizeof bytes);
		assert_true(read(fd, bytes, 1) <= 0);
		net_close(fd);
	}
	wait_kind(PEER_EV_DOWN);
	wait_kind(PEER_EV_UP);
	exchange();
	stop(pid);
}

static void
who_takes_nothing_is_dropped_and_memory_stays_bounded(void **state)
{
	RaftMsg m = { .kind = RAFT_APPEND, .to = id_of(1), .pos = 4096 };
	int listening, n, newer, fd = -1;
	uint8_t bytes[PEER_HELLO_MAX];
	PeerAnswer a = { .version = 1, .code = ST_OK, .self = id_of(1), .name = "n1" };
	uint64_t begun, until = clock_mono_ns() + WAIT_NS;
	PeerEvent e = { 0 };

	(void) state;
	assert_int_equal(net_listen("127.0.0.1", port_of[1], 4, &listening, 1, &n, &port_of[1]), ST_OK);
	open_node(0, 2, 1);
	for (bool answered = false; e.kind != PEER_EV_UP;) {
		peers_wait(clock_mono_ns() + 20000000);
		assert_int_equal(net_accept(listening, &newer), ST_OK);
		if (newer >= 0) { /* the first, or the one before was answered too late */
			if (fd >= 0)
				net_close(fd);
			fd = newer;
			answered = false;
		}
		if (fd >= 0 && !answered) {
			answered = true;
			(void) !write(fd, bytes, peer_answer_encode(&a, bytes)); /* given up already: there is a newer one */
		}
		(void) peers_next(&e);
		assert_true(clock_mono_ns() < until);
	}
	begun = clock_mono_ns();
	while (e.kind != PEER_EV_DOWN) {
		for (int i = 0; i < 50; i++) {
			RaftMsg poke = { .kind = 40, .to = id_of(1), .nterms = RAFT_TAIL_MAX };

			m.pos = peers_send_range(&m, m.pos + PEERS_CHUNK);
			peers_send(&poke);
		}
		assert_true(peer_out_find(id_of(1))->queue.len <= 2 * PEERS_QUEUE_MAX);
		peers_wait(clock_mono_ns() + 20000000);
		(void) peers_next(&e);
		assert_true(clock_mono_ns() < begun + WAIT_NS);
	}
	assert_true(clock_mono_ns() - begun >= peers_ms(PEERS_STALL_MS));
	net_close(fd);
	net_close(listening);
}

/* ---- blank nodes */

static void
blank_node(int node)
{
	Control c = control_of(node);
	PeerForm form;
	PeerEvent e;

	memset(c.cluster_id, 0, sizeof c.cluster_id);
	c.crc_seed = 0;
	be(node);
	if (peers_open_blank(&c) != ST_OK)
		_exit(2);
	for (;;) {
		Control want = control_of(0);

		peers_wait(clock_mono_ns() + 1000000000);
		while (peers_next(&e))
			;
		if (!peer_in_form(&form))
			continue;
		_exit(memcmp(form.cluster_id, want.cluster_id, 16) == 0 && form.crc_seed == want.crc_seed &&
					  form.wal_segment_size == want.wal_segment_size && form.at == 1 && form.members.n == 2
				  ? 0
				  : 3);
	}
}

static void
a_blank_node_says_so_and_takes_what_it_is_given(void **state)
{
	char address[64], name[MEMBERSHIP_NAME_MAX + 1], client[MEMBERSHIP_ADDRESS_MAX + 1];
	uint64_t incarnation, until = clock_mono_ns() + WAIT_NS;
	Membership m = members(1);
	pid_t pid = start(1, blank_node);
	PeerHello h = hello_of(0);
	PeerAnswer a;
	Status st;

	(void) state;
	open_node(0, 1, 1);
	peers_set_members(&m, 1);
	snprintf(address, sizeof address, "127.0.0.1:%u", port_of[1]);
	do {
		peers_wait(clock_mono_ns() + 20000000);
		st = peers_identify(address, &incarnation, name, client);
		assert_true(clock_mono_ns() < until);
	} while (st == ST_BUSY || st == ST_CANNOT_CONNECT); /* it may not listen yet */
	assert_int_equal(st, ST_OK);
	assert_true(incarnation == id_of(1) && strcmp(name, "n1") == 0 && strlen(client) > 0);
	/* Its disk was lost, and the cluster remembers another one. */
	h.expected = id_of(2);
	a = greet_with(h, NULL);
	assert_int_equal(a.code, ST_FOREIGN);
	assert_true(a.blank);
	assert_non_null(strstr(a.text, "cluster replace"));
	m = members(2);
	peers_set_members(&m, 1);
	for (int status = 0; waitpid(pid, &status, WNOHANG) == 0;) {
		peers_wait(clock_mono_ns() + 20000000);
		assert_true(clock_mono_ns() < until);
	}
	assert_true(strlen(peers_trouble(id_of(1))) > 0);
}

static void
who_is_no_blank_node_says_so_too(void **state)
{
	char address[64], name[MEMBERSHIP_NAME_MAX + 1], client[MEMBERSHIP_ADDRESS_MAX + 1];
	uint64_t incarnation, until = clock_mono_ns() + WAIT_NS;
	pid_t pid = start(1, echo_node);
	Status st;

	(void) state;
	open_node(0, 2, 1);
	wait_kind(PEER_EV_UP);
	snprintf(address, sizeof address, "127.0.0.1:%u", port_of[1]);
	/* It may be too slow to answer once. */
	while ((st = peers_identify(address, &incarnation, name, client)) == ST_BUSY || st == ST_CANNOT_CONNECT) {
		peers_wait(clock_mono_ns() + 20000000);
		assert_true(clock_mono_ns() < until);
	}
	assert_int_equal(st, ST_FOREIGN);
	snprintf(address, sizeof address, "127.0.0.1:%u", port_of[2]);
	while ((st = peers_identify(address, &incarnation, name, client)) == ST_BUSY)
		peers_wait(clock_mono_ns() + 20000000);
	assert_int_equal(st, ST_CANNOT_CONNECT);
	stop(pid);
}

/* What was told of a node that nobody knew has been forgotten. */
static void
a_connection_that_stands_is_told_again_when_its_node_becomes_a_member(void **state)
{
	Membership alone = members(1), both = members(2);
	pid_t pid = start(1, echo_node);
	PeerEvent e;

	(void) state;
	open_node(0, 2, 1);
	wait_kind(PEER_EV_UP);
	peers_set_members(&both, 2);
	assert_false(peer_out_event_waits()); /* it was one already */
	peers_set_members(&alone, 3);
	peers_set_members(&both, 4);
	assert_true(peer_out_event(&e));
	assert_int_equal(e.kind, PEER_EV_UP);
	assert_int_equal(e.id, id_of(1));
	assert_false(peer_out_event_waits());
	/* Told or not: what ends is told as ended. */
	peers_set_members(&alone, 5);
	peers_set_members(&both, 6);
	stop(pid);
	assert_int_equal(wait_kind(PEER_EV_DOWN).id, id_of(1));
}

/* What a removed node's connections do: they last a little while, then they end and do not come back. */
static void
a_node_that_leaves_is_let_go(void **state)
{
	Membership m = members(1);
	pid_t pid = start(1, echo_node);
	uint64_t begun;

	(void) state;
	open_node(0, 2, 1);
	wait_kind(PEER_EV_UP);
	exchange();
	begun = clock_mono_ns();
	peers_set_members(&m, 2);
	exchange(); /* it still hears how its removal ends */
	assert_int_equal(wait_kind(PEER_EV_LOST).id, id_of(1));
	assert_true(clock_mono_ns() - begun > peers_ms(PEERS_LINGER_MS / 2));
	assert_null(peer_out_find(id_of(1)));
	stop(pid);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_nodes_exchange_everything_also_after_a_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(a_range_that_leaves_the_ring_ends_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_identities_are_refused_and_told_why, setup, teardown),
		cmocka_unit_test_setup_teardown(a_member_that_is_not_known_yet_is_heard_and_answered, setup,
										teardown),
		cmocka_unit_test_setup_teardown(noise_ends_its_own_connection_only, setup, teardown),
		cmocka_unit_test_setup_teardown(who_takes_nothing_is_dropped_and_memory_stays_bounded, setup,
										teardown),
		cmocka_unit_test_setup_teardown(a_blank_node_says_so_and_takes_what_it_is_given, setup, teardown),
		cmocka_unit_test_setup_teardown(who_is_no_blank_node_says_so_too, setup, teardown),
		cmocka_unit_test_setup_teardown(a_connection_that_stands_is_told_again_when_its_node_becomes_a_member,
										setup, teardown),
		cmocka_unit_test_setup_teardown(a_node_that_leaves_is_let_go, setup, teardown),
	};
	elog_setup(2, getenv("KVD_TEST_LOG") != NULL ? LOG_LEVEL_LOG : LOG_LEVEL_FATAL, false);
	choose_seed();
	config_init();
	for (size_t i = 0; i < RING; i++)
		ring[i] = (uint8_t) (i * 2654435761u >> 13);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
