/*
 * test_delegate.c - replies left to the WAL writer: order of the hand-over, slow clients, slots that change hands.
 *
 * The test is the WAL writer; backends are children. A client is one end of a socket pair.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/delegate.h"
#include "ipc/procslot.h"
#include "port/net.h"
#include "port/proc.h"

#define SLOTS (PROC_AUX_COUNT + 4)
#define FIRST PROC_AUX_COUNT
#define GENERATION 1
#define PATIENT_MS 60000

static void *mem;
static size_t bytes, slots_bytes;
static int client[2], server[2]; /* of the backends in FIRST and FIRST + 1 */

static size_t
line(size_t n)
{
	return (n + 63) & ~(size_t) 63;
}

static int
setup(void **state)
{
	(void) state;
	slots_bytes = line(procslot_shmem_size(SLOTS));
	bytes = slots_bytes + delegate_shmem_size(SLOTS);
	assert_int_equal(proc_shm_map(bytes, &mem), ST_OK);
	procslot_shmem_init(mem, SLOTS);
	assert_int_equal(delegate_shmem_init((char *) mem + slots_bytes, SLOTS), ST_OK);
	procslot_attach(PROC_WALWRITER, PROC_WALWRITER);
	delegate_collect(); /* nothing: a new WAL writer begins its count with the new memory's */
	for (int i = 0; i < 2; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		net_set_timeouts(pair[0], 5000, 5000); /* a missing answer fails the test */
		client[i] = pair[0];
		server[i] = pair[1];
	}
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	for (int i = 0; i < SLOTS; i++)
		delegate_forget(i); /* sockets are this process's, the memory goes */
	for (int i = 0; i < 2; i++) {
		close(client[i]);
		close(server[i]);
	}
	procslot_detach();
	proc_shm_unmap(mem, bytes);
	return 0;
}

/* A backend in slot FIRST + i: waits until it is registered, leaves `reply` for `want`, then waits for its death. */
static pid_t
backend(int i, const char *reply, uint64_t want)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	alarm(300); /* should the test be gone */
	my_slot = NULL;
	procslot_attach(FIRST + i, PROC_BACKEND);
	while (!delegate_ready(server[i]))
		procslot_sleep(procslot_prepare_sleep(), 500);
	memcpy(delegate_buffer(), reply, strlen(reply));
	delegate_offer(strlen(reply), want, GENERATION);
	delegate_wait();
	for (;;)
		procslot_sleep(procslot_prepare_sleep(), 1000000);
}

static void
end_backend(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Until a position is pending that is not held up. */
static uint64_t
await_offer(uint64_t not)
{
	uint64_t oldest;
	bool slow;

	do {
		delegate_collect();
		procslot_sleep(procslot_prepare_sleep(), 500);
		oldest = delegate_oldest(&slow);
	} while (oldest == 0 || oldest == not);
	return oldest;
}

static void
assert_received(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(recv(fd, got, sizeof got, 0), (int) strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

static void
assert_silent(int fd)
{
	char got[64];

	assert_int_equal(recv(fd, got, sizeof got, MSG_DONTWAIT), -1);
}

static void
a_reply_is_sent_when_its_position_is_applied(void **state)
{
	pid_t pid = backend(0, "answer", 160);
	bool slow;

	(void) state;
	assert_int_equal(await_offer(0), 160);
	delegate_send(159, 160, GENERATION, PATIENT_MS);
	assert_silent(client[0]);
	assert_int_equal(delegate_oldest(&slow), 160);
	delegate_send(160, 160, GENERATION + 2, PATIENT_MS); /* agreed: what the gate does since is no matter */
	assert_received(client[0], "answer");
	assert_int_equal(delegate_oldest(&slow), 0);
	assert_false(slow);
	end_backend(pid);
}

static void
another_generation_ends_the_connection(void **state)
{
	pid_t pid = backend(0, "answer", 160);
	char byte;
	bool slow;

	(void) state;
	await_offer(0);
	delegate_send(80, 80, GENERATION, PATIENT_MS);
	assert_silent(client[0]);
	delegate_send(80, 80, GENERATION + 1, PATIENT_MS);
	assert_int_equal(recv(client[0], &byte, 1, 0), 0); /* the outcome is unknown, and no answer says otherwise */
	assert_int_equal(delegate_oldest(&slow), 0);
	end_backend(pid);
}

static void
fill(int fd)
{
	char junk[4096] = { 0 };

	while (send(fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
	while (send(fd, junk, 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}

static void
nobody_waits_behind_a_client_that_does_not_read(void **state)
{
	pid_t deaf, other;
	char byte;
	bool slow;

	(void) state;
	fill(server[0]);
	deaf = backend(0, "answer", 80);
	await_offer(0);
	delegate_send(80, 80, GENERATION, PATIENT_MS);
	assert_int_equal(delegate_oldest(&slow), 0);
	assert_true(slow);
	other = backend(1, "other", 160);
	assert_int_equal(await_offer(0), 160); /* what has to be flushed next, not what has met a full socket */
	delegate_send(160, 160, GENERATION, PATIENT_MS);
	assert_received(client[1], "other");
	/* Patience ends: the connection is shut down, the box is free again. */
	delegate_send(160, 160, GENERATION, 0);
	assert_int_equal(delegate_oldest(&slow), 0);
	assert_false(slow);
	while (recv(client[0], &byte, 1, 0) > 0)
		;
	end_backend(deaf);
	end_backend(other);
}

static void
a_late_reader_gets_the_rest(void **state)
{
	char junk[65536];
	ssize_t n;
	bool slow;
	pid_t pid;

	(void) state;
	fill(server[0]);
	pid = backend(0, "answer", 80);
	await_offer(0);
	delegate_send(80, 80, GENERATION, PATIENT_MS);
	while ((n = recv(client[0], junk, sizeof junk, MSG_DONTWAIT)) > 0)
		;
	delegate_send(80, 80, GENERATION, PATIENT_MS);
	assert_received(client[0], "answer");
	assert_int_equal(delegate_oldest(&slow), 0);
	assert_false(slow);
	end_backend(pid);
}

static void
forget(int slot)
{
	delegate_forget(slot);
}

static void
reap(int slot)
{
	procslot_mark_dead(slot);
	assert_int_equal(procslot_reap(forget), 1);
}

static void
a_slot_begins_anew(void **state)
{
	pid_t pid = backend(0, "answer", 160);
	char byte;
	bool slow;

	(void) state;
	await_offer(0);
	end_backend(pid); /* with its reply pending */
	reap(FIRST);
	assert_int_equal(delegate_oldest(&slow), 0);
	assert_int_equal(recv(client[0], &byte, 1, 0), 0);
	/* The next owner of the slot has another client. */
	close(server[0]);
	server[0] = dup(server[1]);
	pid = backend(0, "next", 240);
	assert_int_equal(await_offer(0), 240);
	delegate_send(240, 240, GENERATION, PATIENT_MS);
	assert_received(client[1], "next");
	end_backend(pid);
}

/* It handed its socket over and died before it counted the offer: the WAL writer was not told to look. */
static void
an_offer_of_the_dead_is_not_the_next_owners(void **state)
{
	struct {
		int slots, pair[2];
	} head; /* the beginning of the shared part; checked by what follows */
	pid_t pid, other;
	bool slow;

	(void) state;
	memcpy(&head, (char *) mem + slots_bytes, sizeof head);
	assert_int_equal(head.slots, SLOTS);
	assert_true(net_pass_fd(head.pair[0], server[0], FIRST));
	reap(FIRST);
	/* Somebody else's offer makes the WAL writer look: the dead one's socket must be gone by then. */
	other = backend(1, "other", 160);
	await_offer(0);
	delegate_send(160, 160, GENERATION, PATIENT_MS);
	assert_received(client[1], "other");
	close(server[0]);
	server[0] = dup(server[1]);
	pid = backend(0, "next", 240);
	await_offer(0);
	delegate_send(240, 240, GENERATION, PATIENT_MS);
	assert_received(client[1], "next");
	assert_int_equal(delegate_oldest(&slow), 0);
	end_backend(pid);
	end_backend(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_reply_is_sent_when_its_position_is_applied),
		TEST(another_generation_ends_the_connection),
		TEST(nobody_waits_behind_a_client_that_does_not_read),
		TEST(a_late_reader_gets_the_rest),
		TEST(a_slot_begins_anew),
		TEST(an_offer_of_the_dead_is_not_the_next_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
