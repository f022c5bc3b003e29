/* The log from end to end in one process: insert, flush, recover, read. */
#include "wal_test.h"

#include <stdlib.h>

#include "ipc/procslot.h"

static void
test_empty(void **state)
{
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	assert_int_equal(rec.end, TEST_SEGMENT);
	assert_int_equal(rec.last_term, 0);
	assert_int_equal(wal_inserted(), TEST_SEGMENT);
	assert_int_equal(wal_durable(), TEST_SEGMENT);
	assert_false(wal_generation_open(wal_generation()));
	assert_false(wal_flush());
}

static void
test_insert_flush_recover(void **state)
{
	WalRecovery rec;
	WalReader *reader;
	WalRecord r;
	Lsn end = 0, commit;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	for (uint32_t i = 0; i < 200; i++) {
		end = wal_test_insert(i, i * 3 % 200);
		if (i % 7 == 0)
			wal_test_flush();
	}
	assert_int_equal(wal_inserted(), end);
	wal_test_flush();
	assert_int_equal(wal_durable(), end);
	assert_int_equal(wal_commit(), end);
	commit = wal_commit();

	wal_test_start(&rec); /* as after kill -9: nothing was shut down */
	assert_int_equal(rec.end, end);
	assert_int_equal(rec.last_term, 1);
	assert_int_equal(rec.torn_bytes, 0);
	assert_int_equal(rec.last_time, 1000 + 199);
	assert_true(rec.commit_hint <= commit);
	assert_ok(wal_reader_open(wal_first_lsn(&wal_test_control), rec.end, &reader));
	assert_ok(wal_reader_next(reader, &r));
	assert_int_equal(r.header.kind, WAL_TERM);
	for (uint32_t i = 0; i < 200; i++) {
		assert_ok(wal_reader_next(reader, &r));
		assert_true(wal_test_is(&r, i, i * 3 % 200));
	}
	assert_status(wal_reader_next(reader, &r), ST_NOT_FOUND);
	wal_reader_close(reader);
}

static void
test_gate(void **state)
{
	uint32_t g;
	Lsn a, b;
	int stuck = -1;
	Slice part = slice_str("x");
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	assert_status(wal_insert(wal_generation(), WAL_WRITE, 1, 1, &part, 1, &a, &b), ST_NOT_LEADER);
	g = wal_test_open();
	assert_status(wal_insert(g + 2, WAL_WRITE, 1, 1, &part, 1, &a, &b), ST_NOT_LEADER);
	assert_ok(wal_insert(g, WAL_WRITE, 1, 1, &part, 1, &a, &b));
	assert_true(wal_close_gate(100, &stuck));
	assert_int_not_equal(wal_generation(), g);
	assert_status(wal_insert(g, WAL_WRITE, 1, 1, &part, 1, &a, &b), ST_NOT_LEADER);
	assert_int_not_equal(wal_test_open(), g);
	assert_status(wal_insert(g, WAL_WRITE, 1, 1, &part, 1, &a, &b), ST_NOT_LEADER);
	assert_int_equal(wal_term_at(wal_durable() - 1), 2);
	assert_int_equal(atomic_load(&my_slot->critical), 0);
}

static void
test_alone_limit(void **state)
{
	WalRecovery rec;
	Lsn limit, end;
	int stuck;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	limit = wal_test_insert(1, 10);
	wal_test_flush();
	assert_int_equal(wal_commit(), limit);
	assert_true(wal_close_gate(100, &stuck));
	wal_set_alone_limit(limit);
	wal_open_gate();
	end = wal_test_insert(2, 10);
	wal_test_flush();
	assert_int_equal(wal_durable(), end);
	assert_int_equal(wal_commit(), limit);
	wal_set_commit(end + 800);
	assert_int_equal(wal_commit(), end);
	wal_set_commit(limit);
	assert_int_equal(wal_commit(), end);
}

static void
test_create_again_finds_mark(void **state)
{
	WalMark m;
	int slot;

	(void) state;
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.epoch, 1);
	assert_int_equal(m.durable, TEST_SEGMENT);
	assert_int_equal(slot, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_insert_flush_recover, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_gate, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_alone_limit, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_create_again_finds_mark, wal_test_setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
