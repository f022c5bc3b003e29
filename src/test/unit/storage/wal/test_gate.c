/* The gate, truncation, and many processes at once: inserters, flushers, an owner that closes and cuts. */
#include "wal_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "common/prng.h"
#include "port/park.h"

static int
setup(void **state)
{
	(void) state;
	wal_test_dir(TEST_SEGMENT * 16);
	return 0;
}

static void
close_gate(void)
{
	int stuck = -1;

	if (!wal_close_gate(60000, &stuck))
		fail_msg("slot %d is stuck", stuck);
}

/* ---- the mark of an insertion under way */

static void
test_insertion_under_way(void **state)
{
	uint32_t g;
	Lsn end, low;
	int stuck = -1;
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	procslot_detach();
	procslot_attach(7, PROC_BACKEND);
	g = wal_test_open();
	low = wal_inserted();
	/* Slot 5 has reserved [low, low + 80) and not copied yet. */
	atomic_store(&wal_sh->insert_from[5], wal_word(g, low));
	atomic_store(&wal_sh->reserve, wal_word(g, low + 80));
	end = wal_test_insert(1, 10);
	assert_int_equal(wal_inserted(), low);
	assert_false(wal_flush());
	assert_int_equal(wal_durable(), low);
	assert_false(wal_close_gate(5, &stuck)); /* G2 */
	assert_int_equal(stuck, 5);
	assert_false(wal_generation_open(wal_generation()));
	assert_int_equal(wal_inserted(), low); /* its mark still counts while the gate closes */
	assert_false(wal_close_gate(5, &stuck));
	atomic_store(&wal_sh->insert_from[5], 0);
	close_gate();
	assert_int_equal(wal_inserted(), end);
}

/* Somebody slept between loading the word and reserving, through a close, a truncation and an open. */
static void
test_stale_mark_means_nothing(void **state)
{
	uint32_t g;
	Lsn old, keep;
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	procslot_detach();
	procslot_attach(7, PROC_BACKEND);
	wal_set_alone_limit(0);
	g = wal_test_open();
	keep = wal_inserted();
	old = wal_test_insert(1, 10);
	close_gate();
	assert_ok(wal_truncate(keep));
	assert_int_equal(wal_inserted(), keep);
	atomic_store(&wal_sh->insert_from[5], wal_word(g, old));
	assert_ok(wal_test_begin(9, 1, &old)); /* `old` of before lies within or beside it */
	assert_int_equal(wal_inserted(), old);
	wal_open_gate();
	old = wal_test_insert(2, 400);
	assert_int_equal(wal_inserted(), old);
	close_gate(); /* and it does not hold up a close */
	atomic_store(&wal_sh->insert_from[5], 0);
}

/* The same through a close alone: who marks after it will not reserve, so the new term need not wait for him. */
static void
test_late_mark_means_nothing(void **state)
{
	Lsn old, end;
	WalRecovery rec;
	uint32_t g;

	(void) state;
	wal_test_start(&rec);
	procslot_detach();
	procslot_attach(7, PROC_BACKEND); /* slot 5 is below the highest used */
	g = wal_test_open();
	old = wal_test_insert(1, 10);
	end = wal_test_insert(2, 10);
	close_gate();
	atomic_store(&wal_sh->insert_from[5], wal_word(g, old));
	assert_true(wal_inserting_slot() < 0);
	assert_int_equal(wal_inserted(), end);
	close_gate();
	assert_ok(wal_test_begin(9, 1, &end));
	wal_open_gate();
	assert_int_equal(wal_inserted(), end);
	atomic_store(&wal_sh->insert_from[5], 0);
}

static void
test_generations_wrap(void **state)
{
	WalRecovery rec;
	uint32_t g = 0;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	for (int i = 0; i < 40000; i++) {
		close_gate();
		wal_open_gate();
		g = wal_generation();
		assert_true(wal_generation_open(g) && g <= 0xffff);
	}
	wal_test_insert(1, 1);
	wal_test_flush();
}

/* ---- truncation */

static void
test_truncate(void **state)
{
	WalRecovery rec;
	Lsn bound[12], term_end;
	WalMark m;
	WalStats before, after;
	Buf scratch = { 0 };
	WalRecord r;
	bool did;
	int slot;

	(void) state;
	wal_test_start(&rec);
	wal_set_alone_limit(0);
	wal_test_open();
	for (uint32_t i = 0; i < 10; i++)
		bound[i] = wal_test_insert(i, 100 + i);
	wal_test_flush();
	close_gate();
	assert_ok(wal_test_begin(4, 1, &term_end));
	wal_set_commit(bound[3]);
	assert_int_equal(wal_commit(), bound[3]);
	wal_sh->mark_ns = 0; /* 50 ms later */
	assert_ok(wal_update_mark(&did));
	assert_true(did);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, term_end);
	wal_stats(&before);
	wal_release_ring(bound[3]);
	assert_ok(wal_truncate(bound[5]));
	wal_stats(&after);
	assert_int_equal(before.bytes, after.bytes);
	assert_int_equal(wal_inserted(), bound[5]);
	assert_int_equal(wal_written(), bound[5]);
	assert_int_equal(wal_durable(), bound[5]);
	assert_int_equal(wal_commit(), bound[3]);
	assert_int_equal(wal_term(), 1);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, bound[5]);
	assert_int_equal(m.epoch, 2);

	assert_ok(wal_test_recover(&rec)); /* a crash right after it: nothing comes back */
	assert_int_equal(rec.end, bound[5]);
	assert_int_equal(rec.commit_hint, bound[3]);
	assert_ok(wal_truncate(bound[4])); /* below what this run's ring ever held */
	assert_ok(wal_test_begin(5, 1, &term_end));
	wal_open_gate();
	bound[5] = wal_test_insert(50, 300);
	wal_test_flush();
	assert_ok(wal_ring_read(bound[4], &scratch, &r));
	assert_int_equal(r.header.term, 5);
	buf_free(&scratch);
	wal_test_start(&rec);
	assert_int_equal(rec.end, bound[5]);
	assert_int_equal(rec.last_term, 5);
}

/* To every boundary of a log over several segments, then on, then a start. */
static void
test_truncate_anywhere(void **state)
{
	WalRecovery rec;
	Lsn bound[32], end;

	(void) state;
	wal_test_no_sync();
	wal_test_control.wal_segment_size = TEST_SEGMENT;
	assert_ok(wal_create(&wal_test_control));
	for (int cut = 0; cut < 30; cut++) {
		wal_test_remove("wal");
		assert_ok(wal_create(&wal_test_control));
		assert_ok(wal_test_recover(&rec));
		bound[0] = wal_inserted();
		assert_ok(wal_test_begin(1, 1, &bound[1]));
		wal_open_gate();
		for (uint32_t i = 2; i < 32; i++)
			bound[i] = wal_test_insert(i, i * 97 % 800);
		if (cut % 2 == 0)
			wal_test_flush();
		close_gate();
		assert_ok(wal_truncate(bound[cut]));
		if (cut % 3 == 0) {
			assert_ok(wal_test_recover(&rec));
			assert_int_equal(rec.end, cut % 2 == 0 ? bound[cut] : bound[cut < 1 ? cut : 1]);
		}
		end = wal_inserted();
		assert_ok(wal_test_begin(2, 1, &end));
		wal_test_start(&rec);
		assert_int_equal(rec.end, end);
		assert_int_equal(rec.last_term, 2);
	}
}

/* ---- processes */

#define WRITERS 3
#define ROUNDS 12

typedef struct Plan {
	_Atomic uint32_t stop;
	_Atomic uint64_t inserted[TEST_SLOTS]; /* records that wal_insert() took, by slot */
	_Atomic uint64_t refused;
} Plan;

static Plan *plan;

/* A backend: inserts what fits, flushes as a waiting one does, checks that what it waited for is durable. */
static void
run_writer(int slot)
{
	Prng prng;
	uint32_t i = 0;

	alarm(300);      /* should the test be gone */
	my_slot = NULL; /* never inherited */
	my_slot_no = -1;
	procslot_attach(slot, PROC_BACKEND);
	prng_seed(&prng, (uint64_t) slot);
	while (atomic_load(&plan->stop) == 0) {
		uint8_t body[400];
		size_t len = 8 + (size_t) prng_below(&prng, 390);
		uint32_t tag = (uint32_t) slot << 24 | i, g = wal_generation();
		Slice part = slice_of(body, len);
		Lsn start, end;
		Status s;

		wal_test_body(tag, len, body);
		s = wal_insert(g, WAL_WRITE, tag, 1, &part, 1, &start, &end);
		if (s == ST_OK) {
			i++;
			atomic_fetch_add(&plan->inserted[slot], 1);
		} else if (s == ST_NOT_LEADER)
			atomic_fetch_add(&plan->refused, 1);
		if (s == ST_BUSY || prng_below(&prng, 4) == 0)
			while (s == ST_OK && wal_durable() < end && wal_generation() == g)
				if (!wal_flush())
					park_relax();
		if (s == ST_BUSY)
			(void) wal_flush();
	}
	_exit(atomic_load(&my_slot->critical) == 0 ? 0 : 9);
}

/*
 * Applies to the end of what is committed; counts records of each slot and checks their bytes and order of
 * terms.
 */
static Lsn
check_applied(Lsn at, Lsn to, uint64_t count[TEST_SLOTS], uint64_t *term)
{
	Buf scratch = { 0 };

	while (at < to) {
		uint8_t body[400];
		WalRecord r;

		assert_ok(wal_ring_read(at, &scratch, &r));
		assert_true(r.header.kind == WAL_TERM ? r.header.term > *term : r.header.term == *term); /* G1 */
		*term = r.header.term;
		if (r.header.kind == WAL_WRITE) {
			wal_test_body(r.header.count, r.body.len, body);
			assert_true(slice_eq(r.body, slice_of(body, r.body.len)));
			count[r.header.count >> 24]++;
		}
		at = r.end;
		wal_release_ring(at);
	}
	buf_free(&scratch);
	return at;
}

static void
nap(long us)
{
	struct timespec t = { 0, us * 1000 };

	nanosleep(&t, NULL);
}

static void
start_writers(pid_t pid[WRITERS])
{
	plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(plan != MAP_FAILED);
	for (int i = 0; i < WRITERS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			run_writer(PROC_AUX_COUNT + i);
	}
}

static void
end_writers(const pid_t pid[WRITERS])
{
	atomic_store(&plan->stop, 1);
	for (int i = 0; i < WRITERS; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
}

/* Terms come and go while processes insert; nothing is lost, doubled, torn or in the wrong term. */
static void
test_processes_and_gate(void **state)
{
	uint64_t count[TEST_SLOTS] = { 0 }, term = 0;
	pid_t pid[WRITERS];
	WalRecovery rec;
	WalStats stats;
	Lsn at;

	(void) state;
	wal_test_start(&rec);
	at = wal_inserted();
	start_writers(pid);
	for (int i = 0; i < ROUNDS; i++) {
		Lsn target = wal_inserted() + 3 * TEST_RING / 2;

		wal_test_open();
		while (wal_inserted() < target) { /* the ring wraps in each term */
			(void) wal_flush();
			/* Late, so that inserters meet a full ring. */
			if (wal_commit() - at > TEST_RING - WAL_RING_RESERVE - TEST_RECORD_MAX)
				at = check_applied(at, wal_commit(), count, &term);
		}
		close_gate();
		assert_int_equal(wal_inserted(), wal_word_pos(atomic_load(&wal_sh->reserve)));
	}
	while (atomic_load(&plan->refused) == 0)
		nap(1000); /* the gate is closed: whoever comes is refused */
	end_writers(pid);
	while (wal_durable() < wal_inserted())
		(void) wal_flush();
	at = check_applied(at, wal_durable(), count, &term);
	assert_int_equal(at, wal_inserted());
	assert_int_equal(term, ROUNDS);
	for (int i = 0; i < TEST_SLOTS; i++)
		assert_int_equal(count[i], atomic_load(&plan->inserted[i]));
	assert_true(atomic_load(&plan->refused) > 0);
	wal_stats(&stats);
	assert_true(stats.ring_full > 0);
	assert_int_equal(stats.bytes, at - 16 * TEST_SEGMENT);
	munmap(plan, sizeof *plan);
	wal_test_start(&rec);
	assert_int_equal(rec.end, at);
	assert_int_equal(rec.last_term, ROUNDS);
}

/* The same with a part of the log cut off after each close. */
static void
test_processes_and_truncation(void **state)
{
	pid_t pid[WRITERS];
	WalRecovery rec;
	Lsn keep;

	(void) state;
	wal_test_start(&rec);
	wal_set_alone_limit(0);
	start_writers(pid);
	for (uint64_t i = 1; i <= ROUNDS; i++) {
		Lsn end;

		assert_ok(wal_test_begin(i, i, &keep));
		wal_set_commit(keep);
		wal_release_ring(keep);
		wal_open_gate();
		nap(2000);
		close_gate();
		/* All of the term's records go; some were durable, some only inserted. */
		assert_ok(wal_truncate(keep));
		assert_int_equal(wal_inserted(), keep);
		assert_true(wal_durable() <= keep);
		wal_set_alone_limit(0);
		nap(200); /* refused insertions try to spoil it */
		end = wal_inserted();
		assert_int_equal(end, keep);
		assert_int_equal(wal_durable(), keep);
	}
	end_writers(pid);
	munmap(plan, sizeof *plan);
	wal_test_start(&rec);
	assert_int_equal(rec.end, keep);
	assert_int_equal(rec.last_term, ROUNDS);
	assert_int_equal(rec.end, 16 * TEST_SEGMENT + ROUNDS * 48);
}

/* kill -9 of everything while it runs: what was durable is there after the start. */
static void
test_killed_at_any_moment(void **state)
{
	WalRecovery rec;

	(void) state;
	for (int i = 0; i < 8; i++) {
		pid_t pid[WRITERS];
		Lsn durable;

		wal_test_start(&rec);
		start_writers(pid);
		wal_test_open();
		for (int k = 0; k < 20 + 7 * i; k++) {
			bool did;

			(void) wal_flush();
			wal_release_ring(wal_durable());
			wal_sh->mark_ns = 0;
			if (k % 5 == 0)
				assert_ok(wal_update_mark(&did));
		}
		durable = wal_durable();
		for (int k = 0; k < WRITERS; k++)
			kill(pid[k], SIGKILL);
		for (int k = 0; k < WRITERS; k++)
			waitpid(pid[k], NULL, 0);
		munmap(plan, sizeof *plan);
		wal_test_start(&rec);
		assert_true(rec.end >= durable);
		assert_int_equal(rec.last_term, i + 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_insertion_under_way, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_stale_mark_means_nothing, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_late_mark_means_nothing, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_generations_wrap, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_truncate, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_truncate_anywhere, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_processes_and_gate, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_processes_and_truncation, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_killed_at_any_moment, setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
