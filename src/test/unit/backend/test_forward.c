/*
 * test_forward.c - a follower passes requests on: answers in order, nothing twice, deadlines, a leader that
 * is lost in every way. The leader is a child of the test that does what its script says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../backend/session.h"
#include "../../../storage/kvstore_internal.h"
#include "../../../storage/wal/wal_internal.h"
#include "backend/backend.h"
#include "common/config.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/net.h"
#include "port/proc.h"
#include "replication/replstate.h"

#define SLOTS 16
#define PIECE 1048576
#define LEADERS 2

static char *mem;
static int listener[LEADERS];
static char address[LEADERS][64];
static Session s;

static void
publish(int leader)
{
	ReplView v = {
		.self = 9, .leader = leader < 0 ? 0 : (uint64_t) leader + 1, .n = LEADERS, .election_ms = 100
	};

	for (int i = 0; i < LEADERS; i++) {
		v.peer[i].id = (uint64_t) i + 1;
		snprintf(v.peer[i].client_address, sizeof v.peer[i].client_address, "%s", address[i]);
	}
	replstate_publish(&v);
}

static int
setup(void **state)
{
	void *p;

	(void) state;
	assert_int_equal(proc_shm_map(5 * PIECE, &p), ST_OK);
	mem = p;
	procslot_shmem_init(mem, SLOTS);
	replstate_shmem_init(mem + PIECE, SLOTS);
	wal_sh = (WalShared *) (void *) (mem + 2 * PIECE);
	kvs = (KvShared *) (void *) (mem + 3 * PIECE);
	assert_true(backend_shmem_size(SLOTS) < PIECE);
	backend_shmem_init(mem + 4 * PIECE, SLOTS);
	config_init();
	config.follower_requests = 1;
	atomic_store(&wal_sh->reserve, wal_word(8, 8192)); /* even: closed */
	procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
	for (int i = 0; i < LEADERS; i++) {
		uint16_t port;
		int n;

		assert_int_equal(net_listen("127.0.0.1", 0, 8, &listener[i], 1, &n, &port), ST_OK);
		snprintf(address[i], sizeof address[i], "127.0.0.1:%u", port);
	}
	publish(0);
	s = (Session){ .hello_done = true };
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	forward_end(&s.forward);
	buf_free(&s.out);
	for (int i = 0; i < LEADERS; i++)
		net_close(listener[i]);
	my_slot = NULL;
	my_slot_no = -1;
	proc_shm_unmap(mem, 5 * PIECE);
	return 0;
}

/* ---- the leader ----------------------------------------------------------- */

/*
 * One letter for each request: o answers OK with version 1000 + its number, n NOT_LEADER, b an answer of 1
 * MiB,
 * - none, x closes the connection, N: the view names leader 1 now, and NOT_LEADER. At the end of the script
 * it waits.
 */
static void
read_whole(int fd, void *to, size_t n)
{
	if (n > 0 && recv(fd, to, n, MSG_WAITALL) != (ssize_t) n)
		_exit(2);
}

static void
answer(int fd, const ProtoHeader *h, char letter, int number)
{
	static uint8_t big[1048576];
	Buf b = { 0 };
	size_t at;

	if (letter == 'n' || letter == 'N') {
		if (proto_error(&b, h->id, h->type | PROTO_ANSWER, ST_NOT_LEADER, 0, "") != ST_OK)
			_exit(3);
	} else {
		put_u64(big, 1000 + (uint64_t) number);
		if (proto_begin(&b, &at) != ST_OK || buf_append(&b, big, letter == 'b' ? sizeof big : 8) != ST_OK)
			_exit(3);
		proto_finish(&b, at, h->id, h->type | PROTO_ANSWER, ST_OK);
	}
	for (size_t done = 0; done < b.len;) {
		ssize_t n = send(fd, b.data + done, b.len - done, MSG_NOSIGNAL);

		if (n <= 0 && h->type == PROTO_HELLO)
			break; /* it came too late */
		if (n <= 0)
			_exit(4);
		done += (size_t) n;
	}
	buf_free(&b);
}

static pid_t
leader(int which, const char *script)
{
	static uint8_t payload[2 * 1048576];
	bool asked = false; /* anything but hello, on this connection */
	pid_t pid = fork();
	int fd = -1;

	if (pid != 0)
		return pid;
	alarm(120);
	for (int number = -1; number < 0 || script[number] != '\0';) {
		uint8_t head[PROTO_HEADER_SIZE];
		ProtoHeader h;

		while (fd < 0)
			if (net_accept(listener[which], &fd) != ST_OK || fd < 0)
				child_poll(NULL, NULL, 0, 1);
		/* The follower waits a second for the answer to its hello, then it connects anew. */
		if (!asked && recv(fd, head, 1, MSG_PEEK) <= 0) {
			net_close(fd);
			fd = -1;
			continue;
		}
		read_whole(fd, head, sizeof head);
		proto_get_header(head, &h);
		read_whole(fd, payload, h.length);
		if (h.type == PROTO_HELLO) {
			if ((payload[6] & PROTO_HELLO_FORWARDED) == 0)
				_exit(5);
			number = number < 0 ? 0 : number;
			answer(fd, &h, 'o', 0);
			continue;
		}
		asked = true;
		if (script[number] == 'N')
			publish(1);
		if (script[number] == 'x') {
			(void) shutdown(fd, SHUT_WR); /* closing would take back what was answered before */
			fd = -1;
			asked = false;
		} else if (script[number] != '-') {
			answer(fd, &h, script[number], number);
		}
		number++;
	}
	if (fd >= 0 && recv(fd, payload, 1, 0) > 0)
		_exit(6); /* more than the script has */
	_exit(0);
}

static void
leader_ends(pid_t pid, int code)
{
	int status;

	forward_end(&s.forward);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

/* ---- requests and answers ------------------------------------------------- */

/* w write, s stamped write, r read, with a deadline and an id. */
static void
add(char kind, uint32_t id, uint32_t ms)
{
	uint8_t frame[PROTO_HEADER_SIZE + 64] = { 0 };
	Request r = { .payload = frame + PROTO_HEADER_SIZE };

	put_u32(r.payload + 4, ms);
	r.payload[1] = kind == 's';
	proto_put_header(frame, 64, id, kind == 'r' ? PROTO_GET : PROTO_PUT, 0);
	proto_get_header(frame, &r.header);
	assert_true(forward_wanted(&s, &r));
	assert_int_equal(forward_add(&s, &r), ST_OK);
}

static void
add_all(const char *kinds, uint32_t ms)
{
	for (uint32_t i = 0; kinds[i] != '\0'; i++)
		add(kinds[i], i + 1, ms);
}

/* The answers in `out` have the ids 1, 2, ... and these codes. */
static void
expect(const int *codes, int n)
{
	size_t at = 0;

	for (int i = 0; i < n; i++) {
		ProtoHeader h;

		assert_true(s.out.len - at >= PROTO_HEADER_SIZE);
		proto_get_header(s.out.data + at, &h);
		assert_true(proto_crc_ok(s.out.data + at, &h));
		assert_int_equal(h.id, i + 1);
		assert_int_equal(h.status, codes[i]);
		at += PROTO_HEADER_SIZE + h.length;
	}
	assert_int_equal(at, s.out.len);
	buf_clear(&s.out);
}

#define EXPECT(...)                                                                                          \
	expect((const int[]){ __VA_ARGS__ }, (int) (sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int)))

static void
what_is_for_the_leader_is_passed_on(void **state)
{
	uint8_t payload[16] = { 0 };
	Request r = { .payload = payload, .header = { .type = PROTO_GET, .length = 16 } };

	(void) state;
	assert_true(forward_wanted(&s, &r));
	payload[0] = READ_LOCAL;
	assert_false(forward_wanted(&s, &r));
	payload[0] = 0;
	s.forwarded = true; /* no ball games */
	assert_false(forward_wanted(&s, &r));
	s.forwarded = false;
	config.follower_requests = 0;
	assert_false(forward_wanted(&s, &r));
	config.follower_requests = 1;
	r.header.type = PROTO_CLUSTER;
	assert_false(forward_wanted(&s, &r));
	payload[0] = PROTO_CLUSTER_CHECK;
	assert_true(forward_wanted(&s, &r));
	r.header.type = PROTO_STATS;
	assert_false(forward_wanted(&s, &r));
	r.header.type = PROTO_PUT;
	assert_true(forward_wanted(&s, &r));
	atomic_store(&wal_sh->reserve, wal_word(9, 8192)); /* this node leads */
	assert_false(forward_wanted(&s, &r));
}

static void
answers_come_in_order(void **state)
{
	pid_t pid = leader(0, "ooobob");

	(void) state;
	add_all("wrw", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK, ST_OK, ST_OK);
	assert_int_equal(s.own_version, 1002); /* later reads here wait for it */
	add_all("rrr", 20000);                  /* on the same connection; answers larger than a socket holds */
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK, ST_OK, ST_OK);
	assert_int_equal(forward_commit(&s), ST_OK); /* nothing there */
	assert_int_equal(s.out.len, 0);
	leader_ends(pid, 0);
}

static void
a_lost_write_is_in_doubt_and_never_sent_again(void **state)
{
	pid_t pid = leader(0, "oxooo");

	(void) state;
	/* All have left: the second write is lost, and the plain one behind it; reads and stamped writes go again. */
	add_all("wwrws", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK, ST_OUTCOME_UNKNOWN, ST_OK, ST_OUTCOME_UNKNOWN, ST_OK);
	add_all("w", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK);
	leader_ends(pid, 0);
}

static void
a_new_leader_gets_what_the_old_one_refused(void **state)
{
	pid_t old = leader(0, "oNn"), new = leader(1, "oo");

	(void) state;
	add_all("www", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK, ST_OK, ST_OK);
	leader_ends(new, 0);
	leader_ends(old, 0);
}

static void
order_comes_before_success(void **state)
{
	pid_t pid = leader(0, "noo");

	(void) state;
	/* The second was done: the first may not be done behind it. */
	add_all("ww", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_NOT_LEADER, ST_OK);
	add_all("w", 20000);
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK);
	leader_ends(pid, 0);
}

static void
deadlines_are_kept(void **state)
{
	uint64_t began = clock_mono_ns();
	pid_t pid;

	(void) state;
	publish(-1);
	add_all("wr", 50); /* nobody leads: certainly not done */
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_TIMEOUT, ST_TIMEOUT);
	publish(0);
	pid = leader(0, "o--");
	add_all("w", 20000); /* the connection stands */
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OK);
	add_all("wr", 50); /* the leader says nothing */
	assert_int_equal(forward_commit(&s), ST_OK);
	EXPECT(ST_OUTCOME_UNKNOWN, ST_TIMEOUT);
	assert_true(clock_mono_ns() - began >= UINT64_C(100000000));
	leader_ends(pid, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_for_the_leader_is_passed_on, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_come_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lost_write_is_in_doubt_and_never_sent_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_leader_gets_what_the_old_one_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(order_comes_before_success, setup, teardown),
		cmocka_unit_test_setup_teardown(deadlines_are_kept, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
