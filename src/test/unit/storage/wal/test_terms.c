/* The term history: bounds, lookups, cutting, readers beside a writer. */
#include "wal_test.h"

#include <pthread.h>

static int
setup(void **state)
{
	(void) state;
	wal_test_dir(TEST_SEGMENT);
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	return 0;
}

static void
test_empty(void **state)
{
	WalTerm t;

	(void) state;
	assert_int_equal(wal_term(), 0);
	assert_int_equal(wal_term_at(5000), 0);
	assert_int_equal(wal_term_history(&t, 1), 0);
}

/* Term i starts at 1000 * i. */
static void
add(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		wal_terms_add(i, 1000 * i);
}

static void
test_around_the_bound(void **state)
{
	(void) state;
	for (uint64_t n = WAL_TERMS_MAX - 1; n <= WAL_TERMS_MAX + 1; n++) {
		uint64_t oldest = n > WAL_TERMS_MAX ? n - WAL_TERMS_MAX + 1 : 1;

		wal_terms_reset();
		add(1, n);
		assert_int_equal(wal_term(), n);
		for (uint64_t i = 1; i <= n; i++) {
			assert_int_equal(wal_term_at(1000 * i), i >= oldest ? i : 0);
			assert_int_equal(wal_term_at(1000 * i + 999), i >= oldest ? i : 0);
			assert_int_equal(wal_term_at(1000 * i - 1), i > oldest ? i - 1 : 0);
		}
	}
	add(WAL_TERMS_MAX + 2, 5 * WAL_TERMS_MAX / 2); /* round and round */
	assert_int_equal(wal_term_at(UINT64_MAX), 5 * WAL_TERMS_MAX / 2);
	assert_int_equal(wal_term_at(1000 * (3 * WAL_TERMS_MAX / 2)), 0);
	assert_int_equal(wal_term_at(1000 * (3 * WAL_TERMS_MAX / 2 + 1)), 3 * WAL_TERMS_MAX / 2 + 1);
}

static void
test_history_and_cut(void **state)
{
	WalTerm t[4];

	(void) state;
	add(1, WAL_TERMS_MAX + 10);
	assert_int_equal(wal_term_history(t, 4), 4);
	assert_int_equal(t[0].term, WAL_TERMS_MAX + 10);
	assert_int_equal(t[3].term, WAL_TERMS_MAX + 7);
	assert_int_equal(t[3].start, 1000 * (WAL_TERMS_MAX + 7));
	wal_terms_cut(1000 * (WAL_TERMS_MAX + 7) + 8); /* inside it: it stays */
	assert_int_equal(wal_term(), WAL_TERMS_MAX + 7);
	wal_terms_cut(1000 * (WAL_TERMS_MAX + 7)); /* at its start: it goes */
	assert_int_equal(wal_term(), WAL_TERMS_MAX + 6);
	wal_terms_cut(1000 * 13);
	assert_int_equal(wal_term_history(t, 4), 2);
	assert_int_equal(t[1].term, 11);
	wal_terms_cut(0);
	assert_int_equal(wal_term(), 0);
}

/* More terms than are remembered, through the log itself: as many starts of a node alone. */
static void
test_real_log(void **state)
{
	WalRecovery rec;
	Lsn end;

	(void) state;
	wal_test_no_sync();
	wal_test_start(&rec);
	for (uint64_t i = 1; i <= WAL_TERMS_MAX + 5; i++) {
		assert_ok(wal_test_begin(i, i, &end));
		wal_release_ring(end);
	}
	wal_test_start(&rec);
	assert_int_equal(rec.end, end);
	assert_int_equal(rec.last_term, WAL_TERMS_MAX + 5);
	assert_int_equal(wal_term_at(TEST_SEGMENT), 0);
	assert_int_equal(wal_term_at(TEST_SEGMENT + 48 * 4), 0);
	assert_int_equal(wal_term_at(TEST_SEGMENT + 48 * 5), 6);
	assert_int_equal(wal_term_at(end - 1), WAL_TERMS_MAX + 5);
}

static _Atomic int done;

static void *
reader(void *arg)
{
	uint64_t last = 0, wrong = 0;

	while (atomic_load(&done) == 0) {
		WalTerm t[2];
		int n = wal_term_history(t, 2);
		uint64_t term = wal_term();

		wrong += n == 2 && (t[0].term != t[1].term + 1 || t[0].start != 1000 * t[0].term);
		wrong += wal_term_at(1000 * term) != term && wal_term_at(1000 * term) != 0;
		wrong += term < last;
		last = term;
	}
	*(uint64_t *) arg = wrong;
	return NULL;
}

static void
test_reader_beside_writer(void **state)
{
	uint64_t wrong = 0;
	pthread_t thread;

	(void) state;
	atomic_store(&done, 0);
	assert_int_equal(pthread_create(&thread, NULL, reader, &wrong), 0);
	add(1, 20 * WAL_TERMS_MAX);
	atomic_store(&done, 1);
	pthread_join(thread, NULL);
	assert_int_equal(wrong, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_around_the_bound, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_history_and_cut, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_real_log, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_reader_beside_writer, setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
