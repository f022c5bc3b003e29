/*
 * test_replstate.c - what the consensus worker publishes: views are whole, reads are answered only when
 * they may be, no ticket is lost, the mailbox survives who uses it. Writers and readers are processes, as
 * in the server.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../storage/kvstore_internal.h"
#include "../../../storage/wal/wal_internal.h"
#include "common/config.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/proc.h"
#include "replication/replstate.h"

#define SLOTS 16
#define FIRST PROC_AUX_COUNT /* slot of the first backend */
#define READERS 4
#define ELECTION_MS 200

#define PIECE 1048576 /* more than each of them needs */

static char *mem;
static _Atomic uint32_t
	*word; /* shared by the test and its children: [0] and [1] for messages, [2] ... counters */

/* The log and the engine as far as reads look at them: a gate and a position. */
static int
setup(void **state)
{
	void *p;

	(void) state;
	assert_true(replstate_shmem_size(SLOTS) < PIECE && sizeof(WalShared) < PIECE &&
				sizeof(KvShared) + SLOTS * 8 < PIECE);
	assert_int_equal(proc_shm_map(5 * PIECE, &p), ST_OK);
	mem = p;
	procslot_shmem_init(mem, SLOTS);
	replstate_shmem_init(mem + PIECE, SLOTS);
	wal_sh = (WalShared *) (void *) (mem + 2 * PIECE);
	kvs = (KvShared *) (void *) (mem + 3 * PIECE);
	word = (_Atomic uint32_t *) (void *) (mem + 4 * PIECE);
	config_init();
	atomic_store(&wal_sh->reserve, wal_word(7, 8192)); /* odd: open */
	atomic_store(&kvs->applied, 1000);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	my_slot = NULL;
	my_slot_no = -1;
	proc_shm_unmap(mem, 5 * PIECE);
	return 0;
}

static void
close_gate(void)
{
	atomic_store(&wal_sh->reserve, wal_word(8, 8192));
}

/* A child in slot i that does `act`; its exit code is what `act` gives. */
static pid_t
child(int i, int (*act)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(300);
		procslot_attach(i, i < PROC_AUX_COUNT ? (ProcKind) i : PROC_BACKEND);
		_exit(act());
	}
	return pid;
}

static int
end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* ---- the view ------------------------------------------------------------- */

static void
fill(ReplView *v, uint64_t i)
{
	memset(v, 0, sizeof *v);
	v->term = v->commit = v->elections = v->hash = i;
	v->election_ms = ELECTION_MS;
	v->n = MEMBERSHIP_NODES_MAX;
	for (int k = 0; k < v->n; k++) {
		v->peer[k].id = i + (uint64_t) k;
		v->peer[k].acked = i;
		snprintf(v->peer[k].name, sizeof v->peer[k].name, "node-%d-%llu", k, (unsigned long long) i);
		memset(v->peer[k].trouble, 'a' + (int) (i % 26), sizeof v->peer[k].trouble - 1);
	}
	snprintf(v->alarm_text, sizeof v->alarm_text, "%llu", (unsigned long long) i);
}

#define VIEWS 20000

static int
publish_many(void)
{
	ReplView v;

	for (uint64_t i = 1; i <= VIEWS; i++) {
		fill(&v, i);
		replstate_publish(&v);
	}
	return 0;
}

static int
read_many(void)
{
	ReplView got, want;
	uint64_t last = 0;

	do {
		replstate_view(&got);
		if (got.term == 0)
			continue;
		fill(&want, got.term);
		if (memcmp(&got, &want, sizeof got) != 0 || got.term < last)
			return 1;
		last = got.term;
	} while (last < VIEWS);
	return 0;
}

static void
views_are_whole(void **state)
{
	pid_t readers[READERS], writer;

	(void) state;
	for (int i = 0; i < READERS; i++)
		readers[i] = child(FIRST + i, read_many);
	writer = child(PROC_CONSENSUS, publish_many);
	assert_int_equal(end_of(writer), 0);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(end_of(readers[i]), 0);
}

static void
the_leader_is_named(void **state)
{
	char address[MEMBERSHIP_ADDRESS_MAX + 1];
	ReplView v = { .self = 1, .n = 2, .election_ms = ELECTION_MS };

	(void) state;
	replstate_leader_address(address);
	assert_string_equal(address, ""); /* nothing published yet */
	v.peer[0].id = 1;
	v.peer[1].id = 2;
	snprintf(v.peer[0].client_address, sizeof v.peer[0].client_address, "me:1");
	snprintf(v.peer[1].client_address, sizeof v.peer[1].client_address, "other:2");
	replstate_publish(&v);
	replstate_leader_address(address);
	assert_string_equal(address, "");
	v.leader = 2;
	replstate_publish(&v);
	replstate_leader_address(address);
	assert_string_equal(address, "other:2");
	assert_int_equal(replstate_not_leader(), ST_NOT_LEADER);
	assert_string_equal(status_detail(), "other:2");
	/* Told to come back to where it was refused, a client would go in circles. */
	v.leader = 1;
	replstate_publish(&v);
	assert_int_equal(replstate_not_leader(), ST_NOT_LEADER);
	assert_string_equal(status_detail(), "");
}

/* ---- the gate of freshness ------------------------------------------------ */

static void
attach_self(void)
{
	procslot_attach(FIRST, PROC_BACKEND);
}

static void
publish_leader(uint64_t leader)
{
	ReplView v = { .self = 1, .leader = leader, .n = 2, .election_ms = ELECTION_MS };

	v.peer[0].id = 1;
	v.peer[1].id = 2;
	snprintf(v.peer[1].client_address, sizeof v.peer[1].client_address, "other:2");
	replstate_publish(&v);
}

static void
a_lease_answers_at_once(void **state)
{
	ReplReads n;

	(void) state;
	attach_self();
	publish_leader(1);
	replstate_set_lease(UINT64_MAX, 0);
	assert_int_equal(replstate_read_barrier(1), ST_OK);
	config.lease_reads = 0; /* nobody to ask */
	assert_int_equal(replstate_read_barrier(1), ST_OK);
	config.lease_reads = 1;
	replstate_set_lease(clock_mono_ns() + UINT64_C(60000000000), 1000);
	assert_int_equal(replstate_read_barrier(1), ST_OK);
	replstate_set_lease(clock_mono_ns() + UINT64_C(60000000000), 1001); /* not applied yet */
	assert_int_equal(replstate_read_barrier(30), ST_TIMEOUT);
	replstate_reads(&n);
	assert_true(n.by_lease == 4 && n.by_round == 0 && n.rounds == 0);
}

static void
a_lease_that_is_over_serves_nobody(void **state)
{
	uint64_t ticket;

	(void) state;
	attach_self();
	publish_leader(1);
	replstate_set_lease(clock_mono_ns() - 1, 0);
	assert_true(replstate_may_lead());
	assert_int_equal(replstate_read_barrier(20), ST_TIMEOUT); /* sooner than the election timeout */
	assert_true(replstate_reads_wanted(&ticket));
	replstate_set_lease(0, 0);
	assert_true(replstate_may_lead()); /* no lease at all: the worker knows why */
	assert_int_equal(replstate_read_barrier(20), ST_TIMEOUT);
	/* Rule G5: long over, the worker may be stopped. It is asked, but not for the whole of the deadline. */
	replstate_set_lease(clock_mono_ns() - UINT64_C(1000000) * (ELECTION_MS + 1), 0);
	assert_false(replstate_may_lead());
	assert_int_equal(replstate_read_barrier(20), ST_TIMEOUT);
	assert_int_equal(replstate_read_barrier(60000), ST_NOT_LEADER);
	close_gate();
	replstate_set_lease(UINT64_MAX, 0);
	assert_false(replstate_may_lead());
	publish_leader(2);
	assert_int_equal(replstate_read_barrier(20), ST_NOT_LEADER);
	assert_string_equal(status_detail(), "other:2");
}

static void
who_led_knows_how_old_it_is(void **state)
{
	uint64_t second = UINT64_C(1000000000);

	(void) state;
	attach_self();
	replstate_set_lease(0, UINT64_MAX);
	assert_true(replstate_lag_ms() == UINT32_MAX); /* it never led, nor heard of a leader */
	replstate_set_lease(UINT64_MAX, 0); /* a node alone */
	assert_true(replstate_lag_ms() == 0);
	replstate_set_lease(clock_mono_ns() - 5 * second, 0);
	replstate_set_lease(0, UINT64_MAX);
	assert_in_range(replstate_lag_ms(), 5000, 4000000);
	replstate_set_lease(clock_mono_ns() + 3600 * second, 0);
	assert_true(replstate_lag_ms() == 0);
	replstate_set_lease(0, UINT64_MAX); /* deposed before its end: from now on */
	child_poll(NULL, NULL, 0, 2);
	assert_in_range(replstate_lag_ms(), 2, 4999);
}

static int
read_once(void)
{
	atomic_fetch_add(&word[0], 1);
	return (int) replstate_read_barrier(20000);
}

static int
read_without_lease(void)
{
	config.lease_reads = 0;
	return read_once();
}

/* Wait until a reader has drawn a ticket that no round has taken, take it. */
static uint64_t
wanted(void)
{
	uint64_t ticket;

	while (!replstate_reads_wanted(&ticket))
		child_poll(NULL, NULL, 0, 1);
	return ticket;
}

static void
a_round_serves_those_who_came_before_it(void **state)
{
	uint64_t first, second, none;
	pid_t a, b;

	(void) state;
	publish_leader(1);
	a = child(FIRST, read_once);
	first = wanted();
	assert_false(replstate_reads_wanted(&none));
	b = child(FIRST + 1, read_once); /* comes while the round is under way */
	second = wanted();
	assert_true(second > first);
	replstate_reads_confirmed(first, 1000);
	assert_int_equal(end_of(a), ST_OK);
	assert_int_equal(waitpid(b, NULL, WNOHANG), 0); /* R4: not by that round */
	procslot_wake(FIRST + 1); /* it looks again */
	child_poll(NULL, NULL, 0, 50);
	assert_int_equal(waitpid(b, NULL, WNOHANG), 0);
	replstate_reads_confirmed(first, 1000); /* again: nothing new */
	assert_int_equal(waitpid(b, NULL, WNOHANG), 0);
	replstate_reads_confirmed(second, 1000);
	assert_int_equal(end_of(b), ST_OK);
}

static void
a_confirmed_read_waits_until_it_is_applied(void **state)
{
	pid_t a;

	(void) state;
	publish_leader(1);
	replstate_set_lease(clock_mono_ns() + UINT64_C(60000000000), 0);
	a = child(FIRST, read_without_lease); /* the lease is good, but not to be used */
	replstate_reads_confirmed(wanted(), 2000);
	child_poll(NULL, NULL, 0, 50);
	assert_int_equal(waitpid(a, NULL, WNOHANG), 0);
	atomic_store(&kvs->applied, 1999);
	procslot_wake(FIRST);
	child_poll(NULL, NULL, 0, 20);
	assert_int_equal(waitpid(a, NULL, WNOHANG), 0);
	atomic_store(&kvs->applied, 2000);
	procslot_wake(FIRST);
	assert_int_equal(end_of(a), ST_OK);
}

static void
a_leader_no_more_refuses_who_waits(void **state)
{
	ReplReads n;
	pid_t a;

	(void) state;
	publish_leader(1);
	a = child(FIRST, read_once);
	replstate_reads_confirmed(wanted(), 0);
	assert_int_equal(end_of(a), ST_NOT_LEADER);
	procslot_mark_dead(FIRST);
	assert_int_equal(procslot_reap(NULL), 1);
	a = child(FIRST, read_once); /* nobody confirms, but the gate closes */
	(void) wanted();
	close_gate();
	assert_int_equal(end_of(a), ST_NOT_LEADER);
	replstate_reads(&n);
	assert_true(n.rounds == 0 && n.by_round == 2);
}

#define READS_EACH 3000

/* Each read must see at least what was committed when it began. */
static int
read_in_turn(void)
{
	for (int i = 0; i < READS_EACH; i++) {
		uint32_t committed = atomic_load(&word[1]);

		if (replstate_read_barrier(30000) != ST_OK)
			return 1;
		if (kvstore_applied() < 1000 + (uint64_t) committed)
			return 2;
	}
	atomic_fetch_add(&word[0], 1);
	return 0;
}

/* Rounds that commit something new each, applied a little later. */
static int
confirm_rounds(void)
{
	uint64_t ticket;

	while (atomic_load(&word[0]) < READERS) {
		uint32_t token = procslot_prepare_sleep();

		if (!replstate_reads_wanted(&ticket)) {
			procslot_sleep(token, 1000000);
			continue;
		}
		procslot_cancel_sleep();
		replstate_reads_confirmed(ticket, 1000 + (uint64_t) atomic_load(&word[1]));
		atomic_fetch_add(&word[1], 8);
		atomic_fetch_add(&kvs->applied, 8);
		commit_wake();
	}
	return 0;
}

static void
no_ticket_is_lost(void **state)
{
	pid_t readers[READERS], worker;
	uint64_t began = clock_mono_ns();
	ReplReads n;

	(void) state;
	publish_leader(1);
	worker = child(PROC_CONSENSUS, confirm_rounds);
	for (int i = 0; i < READERS; i++)
		readers[i] = child(FIRST + i, read_in_turn);
	for (int i = 0; i < READERS; i++)
		assert_int_equal(end_of(readers[i]), 0);
	procslot_wake(PROC_CONSENSUS);
	assert_int_equal(end_of(worker), 0);
	replstate_reads(&n);
	assert_true(n.by_round == READERS * READS_EACH && n.rounds <= n.by_round);
	/* A wake-up that is lost costs its reader a second: some of them show in the sum. */
	print_message("%llu reads in %llu rounds, %llu ms\n", (unsigned long long) n.by_round,
				  (unsigned long long) n.rounds, (unsigned long long) (clock_mono_ns() - began) / 1000000);
}

/* ---- the mailbox ---------------------------------------------------------- */

static int
ask(void)
{
	ReplRequest r = { .action = REPL_ADD, .name = "n2", .address = "h:1" };
	Buf text = { 0 };
	Status st;

	st = replstate_request(&r, 20000, &text);
	if (text.len != 8 || memcmp(text.data, "it is so", 8) != 0)
		return 99;
	return (int) st;
}

static int
ask_briefly(void)
{
	ReplRequest r = { .action = REPL_REMOVE, .name = "n3" };
	Buf text = { 0 };

	return (int) replstate_request(&r, 20, &text);
}

static ReplRequest
await_request(void)
{
	ReplRequest r;

	while (!replstate_pending(&r))
		child_poll(NULL, NULL, 0, 1);
	return r;
}

static void
a_request_is_answered(void **state)
{
	ReplRequest r;
	pid_t a;

	(void) state;
	assert_false(replstate_pending(&r));
	a = child(FIRST, ask);
	r = await_request();
	assert_true(r.action == REPL_ADD && !r.dry_run);
	assert_string_equal(r.name, "n2");
	assert_string_equal(r.address, "h:1");
	assert_true(replstate_pending(&r)); /* until it is answered */
	assert_int_equal(end_of(child(FIRST + 1, ask_briefly)), ST_BUSY);
	replstate_answer(ST_BAD_REQUEST, "it is so");
	assert_int_equal(end_of(a), ST_BAD_REQUEST); /* the reason of a refusal too */
	assert_false(replstate_pending(&r));
	a = child(FIRST + 2, ask);
	(void) await_request();
	replstate_answer(ST_OK, "it is so");
	assert_int_equal(end_of(a), ST_OK);
}

static void
a_request_that_is_left_is_done_for_nobody(void **state)
{
	ReplRequest r;
	pid_t a;

	(void) state;
	assert_int_equal(end_of(child(FIRST, ask_briefly)), ST_TIMEOUT);
	assert_true(replstate_pending(&r));
	assert_string_equal(r.name, "n3");
	assert_int_equal(end_of(child(FIRST + 1, ask_briefly)), ST_BUSY);
	replstate_answer(ST_OK, "removed");
	assert_false(replstate_pending(&r));
	a = child(FIRST + 2, ask);
	r = await_request();
	assert_string_equal(r.name, "n2");
	replstate_answer(ST_OK, "it is so"); /* and not what was said to the one before */
	assert_int_equal(end_of(a), ST_OK);
}

static void
the_dead_leave_the_mailbox_usable(void **state)
{
	ReplRequest r;
	pid_t a;

	(void) state;
	a = child(FIRST, ask);
	(void) await_request();
	kill(a, SIGKILL);
	assert_int_equal(waitpid(a, NULL, 0), a);
	procslot_mark_dead(FIRST);
	assert_int_equal(end_of(child(FIRST + 1, ask_briefly)), ST_BUSY); /* it is being done */
	replstate_answer(ST_OK, "for the dead");
	assert_false(replstate_pending(&r));
	a = child(FIRST + 2, ask);
	(void) await_request();
	replstate_answer(ST_OK, "it is so");
	assert_int_equal(end_of(a), ST_OK);
	/* Its slot lives again, in another process. */
	assert_int_equal(procslot_reap(NULL), 1);
	a = child(FIRST, ask);
	(void) await_request();
	kill(a, SIGKILL);
	assert_int_equal(waitpid(a, NULL, 0), a);
	replstate_answer(ST_OK, "for the dead");
	procslot_mark_dead(FIRST);
	assert_int_equal(procslot_reap(NULL), 1);
	a = child(FIRST, ask);
	(void) await_request();
	replstate_answer(ST_OK, "it is so");
	assert_int_equal(end_of(a), ST_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(views_are_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(the_leader_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lease_answers_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lease_that_is_over_serves_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(who_led_knows_how_old_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_round_serves_those_who_came_before_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_confirmed_read_waits_until_it_is_applied, setup, teardown),
		cmocka_unit_test_setup_teardown(a_leader_no_more_refuses_who_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(no_ticket_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(a_request_is_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(a_request_that_is_left_is_done_for_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(the_dead_leave_the_mailbox_usable, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
