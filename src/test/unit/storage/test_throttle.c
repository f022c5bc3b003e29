/*
 * test_throttle.c - how much writers are slowed, as stories of the pure functions, and a worker and writers
 * in a model of both: they settle, and nobody stops. Then the engine: who pauses and who does not.
 */
#include "engine_test.h"

#include "../../../storage/lsm/lsm_internal.h"

#define MS UINT64_C(1000000)

static ThrottleState
calm(void)
{
	return (ThrottleState){ .level0 = 0, .slowdown = 12, .room = 200e6, .memtable = 64e6, .drained = 40e6,
		                .flushed = 100e6 };
}

static void
by_level0(void **state)
{
	ThrottleState s = calm();
	double before = 1e18;

	(void) state;
	assert_true(throttle_rate(&s) == 0);
	s.level0 = 11.9;
	assert_true(throttle_rate(&s) == 0);
	/* At the limit still faster than the worker, a quarter over it as fast, then slower. */
	s.level0 = 12;
	assert_true(throttle_rate(&s) == 60e6);
	s.level0 = 15;
	assert_true(throttle_rate(&s) == 40e6);
	s.level0 = 18;
	assert_true(throttle_rate(&s) == 20e6);
	for (s.level0 = 12; s.level0 < 100; s.level0 += 0.125) {
		double rate = throttle_rate(&s);

		assert_true(rate <= before && (before > 1e17 || before - rate < 2e6)); /* no jumps */
		assert_true(rate >= 4e6);
		before = rate;
	}
	/* Nothing measured yet: slow. A worker that got nowhere: not nothing. */
	s.level0 = 12;
	s.drained = 0;
	assert_true(throttle_rate(&s) == 24e6);
	s.drained = 1;
	assert_true(throttle_rate(&s) == 1e6);
}

static void
by_room(void **state)
{
	ThrottleState s = calm();

	(void) state;
	s.room = 64e6;
	assert_true(throttle_rate(&s) == 0);
	s.room = 63.99e6;
	assert_true(throttle_rate(&s) > 119e6 && throttle_rate(&s) < 120e6);
	s.room = 32e6;
	assert_true(throttle_rate(&s) == 70e6);
	s.room = 0;
	assert_true(throttle_rate(&s) == 20e6);
	s.room = -50e6;
	assert_true(throttle_rate(&s) == 20e6);
	/* Whatever is less. */
	s.level0 = 18;
	assert_true(throttle_rate(&s) == 20e6);
	s.room = 32e6;
	s.level0 = 12;
	assert_true(throttle_rate(&s) == 60e6);
}

static void
pay(void **state)
{
	(void) state;
	/* 1 MB at 100 MB/s: 10 ms. What was not used is not saved. */
	assert_int_equal(throttle_pay(0, 1000 * MS, 1000000, 100e6), 1010 * MS);
	assert_int_equal(throttle_pay(999 * MS, 1000 * MS, 1000000, 100e6), 1010 * MS);
	/* One after the other. */
	assert_int_equal(throttle_pay(1010 * MS, 1000 * MS, 1000000, 100e6), 1020 * MS);
	/* Slowed, never stopped. */
	assert_int_equal(throttle_pay(1045 * MS, 1000 * MS, 1000000, 100e6), 1050 * MS);
	/* But for records that cost more by themselves; others leave their debt as it is. */
	assert_int_equal(throttle_pay(0, 1000 * MS, 5000000, 100e6), 1050 * MS);
	assert_int_equal(throttle_pay(0, 1000 * MS, 5100000, 100e6), 1051 * MS);
	assert_int_equal(throttle_pay(1040 * MS, 1000 * MS, 40000000, 100e6), 1400 * MS);
	assert_int_equal(throttle_pay(1400 * MS, 1000 * MS, 1, 100e6), 1400 * MS);
	assert_int_equal(throttle_pay(0, 1000 * MS, UINT64_MAX, 1e6), 2000 * MS);
	assert_int_equal(throttle_pay(UINT64_MAX, 1000 * MS, 1, 1e6), 2000 * MS);
}

/* Who writes little does not wait for who writes much, until the schedule is as far ahead as it may be. */
static void
pauses(void **state)
{
	(void) state;
	assert_int_equal(throttle_pause(0, 0), 0);
	assert_int_equal(throttle_pause(30 * MS, 0), 0);
	assert_int_equal(throttle_pause(30 * MS, MS / 2 - 1), 0);
	assert_int_equal(throttle_pause(30 * MS, MS / 2), MS);
	assert_int_equal(throttle_pause(30 * MS, 14 * MS), 28 * MS);
	assert_int_equal(throttle_pause(30 * MS, 16 * MS), 30 * MS);
	assert_int_equal(throttle_pause(MS - 1, 16 * MS), 0);
	assert_int_equal(throttle_pause(50 * MS - 1, 1000), 0);
	assert_int_equal(throttle_pause(50 * MS, 1000), 50 * MS);
	assert_int_equal(throttle_pause(400 * MS, 1000), 50 * MS);
	assert_int_equal(throttle_pause(400 * MS, 400 * MS), 400 * MS);
}

static void
sample(void **state)
{
	(void) state;
	assert_true(throttle_sample(0, 1000000, 1000 * MS - 1) == 1000000);
	assert_true(throttle_sample(1000000, 2000000, 1000 * MS - 1) == 1250000);
	assert_true(throttle_sample(1000, 0, 1000 * MS) == 750);
	assert_true(throttle_sample(0, UINT64_MAX, 0) <= UINT64_C(1) << 42);
}

/* ---- a model of both, a millisecond a step */
#define RECORD 10000
#define WANTED 20 /* records a millisecond: 200 MB/s */

typedef struct Node {
	ThrottleState s;
	uint64_t paid;
	double active, admitted;          /* bytes in the memtable; in all */
	int frozen, tables, batch;        /* memtables; in level 0; of them being merged */
	double flushing, merged;          /* bytes done of the oldest frozen one; of the batch */
	int most;
	uint64_t longest;
} Node;

static void
writers(Node *n, uint64_t now)
{
	for (int i = 0; i < WANTED; i++) {
		double rate;
		uint64_t next = now;

		n->s.room = 2 * n->s.memtable - n->frozen * n->s.memtable + (n->s.memtable - n->active);
		n->s.level0 = n->tables - n->merged / n->s.memtable;
		rate = throttle_rate(&n->s);
		if (rate > 0)
			next = throttle_pay(n->paid, now, RECORD, rate);
		if (next - now > MS)
			return; /* it sleeps: none has come when the next step begins */
		if (next - now > n->longest)
			n->longest = next - now;
		n->paid = next;
		n->active += RECORD;
		n->admitted += RECORD;
	}
}

/* Flush goes first; a batch is all of level 0, and gone all at once. */
static void
worker(Node *n)
{
	if (n->active >= n->s.memtable && n->frozen < 2) {
		n->active -= n->s.memtable;
		n->frozen++;
	}
	if (n->frozen > 0) {
		n->flushing += n->s.flushed / 1000;
		if (n->flushing >= n->s.memtable) {
			n->flushing = 0;
			n->frozen--;
			n->tables++;
		}
		return;
	}
	if (n->batch == 0 && n->tables >= 4)
		n->batch = n->tables;
	if (n->batch > 0)
		n->merged += n->s.drained / 1000;
	if (n->batch > 0 && n->merged >= n->batch * n->s.memtable) {
		n->tables -= n->batch;
		n->batch = 0;
		n->merged = 0;
	}
	n->most = n->tables > n->most ? n->tables : n->most;
}

/* Five minutes of writers who want five times what the worker can do. */
static void
writers_and_worker_settle(void **state)
{
	Node n = { .s = calm() };
	double before = 0;

	(void) state;
	for (uint64_t ms = 0; ms < 300000; ms++) {
		writers(&n, ms * MS);
		assert_true(n.active <= n.s.memtable + WANTED * RECORD || n.frozen < 2); /* never without room */
		worker(&n);
		/* In no second after the first ones nobody gets on. */
		if (ms % 1000 == 999) {
			assert_true(n.admitted - before > 4e6);
			before = n.admitted;
		}
	}
	print_message("%.1f MB/s, at most %d tables\n", n.admitted / 300e6, n.most);
	assert_true(n.longest <= MS);
	assert_true(n.most <= 36);
	/* The worker does both: 1 / (1 / 40 + 1 / 100) = 28.6 MB/s. */
	assert_true(n.admitted / 300 > 25e6 && n.admitted / 300 < 36e6);
}

/* ---- the engine */
static void
put_plain(const char *key, bool deletes_only)
{
	Op op = { .kind = deletes_only ? OP_DELETE : OP_PUT, .key = slice_str(key),
		  .value = slice_str(deletes_only ? "" : "value") };
	Buf body = { 0 };
	uint64_t version;

	MUST(op_encode(&body, &op));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, deletes_only, &version));
	buf_free(&body);
}

static void
slowed_writes_are_counted(void)
{
	Throttle *t;
	uint64_t before;

	start_engine();
	t = &kvs->throttle;
	put_plain("\1a", false);
	CHECK(atomic_load(&t->slowed) == 0 && throttle_now() == 0);
	/* Far too many tables: the schedule is full at once, each write sleeps, but not long. */
	atomic_store(&t->level0, 1000 * THROTTLE_TABLE);
	atomic_store(&t->drain_rate, 1);
	atomic_store(&t->paid_ns, UINT64_MAX);
	CHECK(throttle_now() == 1e6);
	before = clock_mono_ns();
	put_plain("\1b", false);
	CHECK(atomic_load(&t->slowed) == 1);
	CHECK(atomic_load(&t->slowed_us) == atomic_load(&t->slowed_us_max));
	CHECK(atomic_load(&t->slowed_us) * 1000 <= clock_mono_ns() - before);
	/* Log time goes on without delay; so do deletes when the disk is full. */
	atomic_store(&t->paid_ns, UINT64_MAX);
	MUST(kvstore_advance_time(kvstore_applied_time() + 1));
	CHECK(atomic_load(&t->slowed) == 1);
	atomic_store(&kvs->no_space, 1);
	put_plain("\1a", true);
	CHECK(atomic_load(&t->slowed) == 1);
	atomic_store(&kvs->no_space, 0);
	atomic_store(&t->paid_ns, UINT64_MAX);
	put_plain("\1a", true);
	CHECK(atomic_load(&t->slowed) == 2);
	/* The worker finds level 0 nearly empty. */
	ask_for_flush();
	run_compactor();
	CHECK(throttle_now() == 0 && atomic_load(&t->flush_rate) > 0);
	put_plain("\1c", false);
	CHECK(atomic_load(&t->slowed) == 2);
}

/* Twelve tables, eight of them three quarters merged: six are left. */
static void
progress_counts(void)
{
	Table table = { .smallest = slice_of("\1a", 2), .largest = slice_of("\1z", 2) };
	Table *twelve[12];
	Version v = { .ntables = { 12 }, .tables = { twelve } };

	for (int i = 0; i < 12; i++)
		twelve[i] = &table;
	start_engine();
	throttle_level0(&v);
	CHECK(atomic_load(&kvs->throttle.level0) == 12 * THROTTLE_TABLE);
	atomic_store(&lsm_shared->running_level0, 8);
	atomic_store(&lsm_shared->running_done, 750);
	atomic_store(&lsm_shared->running_total, 1000);
	throttle_level0(&v);
	CHECK(atomic_load(&kvs->throttle.level0) == 6 * THROTTLE_TABLE);
	/* Never below none, whatever the one and the other say. */
	v.ntables[0] = 2;
	atomic_store(&lsm_shared->running_done, 5000);
	throttle_level0(&v);
	CHECK(atomic_load(&kvs->throttle.level0) == 0);
	atomic_store(&lsm_shared->running_total, 0);
	throttle_level0(&v);
	CHECK(atomic_load(&kvs->throttle.level0) == 2 * THROTTLE_TABLE);
}

static void
compaction_under_way(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(progress_counts);
	leave_dir();
}

static void
who_pauses(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(slowed_writes_are_counted);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_level0), cmocka_unit_test(by_room), cmocka_unit_test(pay), cmocka_unit_test(pauses),
		cmocka_unit_test(sample),
		cmocka_unit_test(writers_and_worker_settle), cmocka_unit_test(who_pauses),
		cmocka_unit_test(compaction_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
