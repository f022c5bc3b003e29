/*
 * Much log that is not synced or not applied yet is dealt with in pieces, so that nobody waits for all of it: not who
 * wants room in the ring, not who waits for a record in the middle.
 */
#include "engine_test.h"

#define VALUE 4000
#define LARGE ((size_t) 5 * 1024 * 1024) /* more than a piece of either kind */

static uint8_t value[LARGE];

/* Insert one PUT, not waited for. Returns where its record ends. */
static Lsn
insert(int k, size_t value_len)
{
	char key[32];
	Buf body = { 0 };
	Op op = { .kind = OP_PUT, .value = slice_of(value, value_len) };
	Lsn start, end;

	key[0] = KEYSPACE_USER;
	op.key = slice_of(key, 1 + (size_t) snprintf(key + 1, sizeof key - 1, "%06d", k));
	MUST(op_encode(&body, &op));
	MUST(kvstore_insert(wal_generation(), &body, 1, 10000, false, &start, &end));
	buf_free(&body);
	return end;
}

/* So much log, from key k on; the next key. */
static int
insert_bytes(int k, uint64_t bytes)
{
	Lsn from = wal_inserted();

	while (wal_inserted() < from + bytes)
		(void) insert(k++, VALUE);
	return k;
}

static void
flush_all(void)
{
	while (wal_durable() < wal_inserted())
		CHECK(wal_flush());
}

static void
child_flushes_in_pieces(void)
{
	Lsn before, ends[3];

	start_engine();
	(void) insert_bytes(0, 2 * WAL_FLUSH_PIECE + WAL_FLUSH_PIECE / 2);
	for (int i = 0; i < 3; i++) {
		before = wal_durable();
		CHECK(wal_flush());
		CHECK(wal_durable() - before <= WAL_FLUSH_PIECE);
		CHECK(i == 2 || wal_durable() - before > WAL_FLUSH_PIECE - 2 * VALUE);
	}
	CHECK(wal_durable() == wal_inserted());
	/* a record that is larger goes alone */
	ends[0] = insert(1, VALUE);
	ends[1] = insert(2, LARGE);
	ends[2] = insert(3, VALUE);
	for (int i = 0; i < 3; i++) {
		CHECK(wal_flush());
		CHECK(wal_durable() == ends[i]);
	}
}

static void
flushes_in_pieces(void **state)
{
	(void) state;
	run_child(child_flushes_in_pieces);
}

static void
child_applies_in_pieces(void)
{
	bool moved;
	Lsn before, end;
	int n;

	start_engine();
	n = insert_bytes(0, 3 * APPLY_PIECE);
	end = insert(n, LARGE);
	flush_all();
	CHECK(wal_commit() == end);
	for (int i = 0; i < 2; i++) {
		before = kvstore_applied();
		CHECK(apply_committed(&moved) && moved);
		CHECK(kvstore_applied() < end);
		CHECK(kvstore_applied() - before >= APPLY_PIECE);
		CHECK(kvstore_applied() - before < APPLY_PIECE + 2 * VALUE);
	}
	while (kvstore_applied() < end)
		CHECK(apply_committed(&moved) && moved);
	CHECK(apply_committed(&moved) && !moved);
}

static void
applies_in_pieces(void **state)
{
	(void) state;
	run_child(child_applies_in_pieces);
}

/*
 * Who waits for nothing does not leave more behind than who comes next can wait for: it goes on at once up to one
 * bound, is slowed by each write up to the other, and there does the work itself.
 */
static void
child_leaves_little_unapplied(void)
{
	char key[2] = { KEYSPACE_USER, 'k' };
	Op op = { .kind = OP_PUT, .key = slice_of(key, 2), .value = slice_of(value, APPLY_PIECE / 2) };
	uint64_t most = 0, before, slowed = 0, version;
	Buf body = { 0 };

	start_engine();
	MUST(op_encode(&body, &op));
	for (uint64_t bytes = 0; bytes < 2 * UNWAITED_MAX; bytes += body.len) {
		before = wal_inserted() - kvstore_applied();
		slowed += before > UNWAITED_SOFT ? 1 : 0;
		MUST(kvstore_write(wal_generation(), &body, 1, ACK_NONE, 1000, false, &version));
		CHECK(atomic_load(&kvs->throttle.slowed) == slowed);
		if (before <= UNWAITED_MAX)
			CHECK(wal_inserted() - kvstore_applied() == before + wal_record_size(body.len));
		else
			CHECK(wal_inserted() - kvstore_applied() <= before);
		most = before > most ? before : most;
	}
	CHECK(most > UNWAITED_MAX && most <= UNWAITED_MAX + wal_record_size(body.len));
	buf_free(&body);
}

static void
who_waits_for_nothing_leaves_little(void **state)
{
	(void) state;
	run_child(child_leaves_little_unapplied);
}

static void
waits_by_what_is_ahead(void **state)
{
	(void) state;
	assert_int_equal(commit_unwaited_ns(0, 1000), 0);
	assert_int_equal(commit_unwaited_ns(UNWAITED_SOFT - 1, 1000), 0);
	assert_int_equal(commit_unwaited_ns(UNWAITED_SOFT, 1000), 0);
	assert_int_equal(commit_unwaited_ns(UNWAITED_SOFT + 1, 1000), 20000000);
	assert_int_equal(commit_unwaited_ns(UNWAITED_MAX - 1, 1000), 20000000);
	assert_int_equal(commit_unwaited_ns(UNWAITED_MAX, 1000), 20000000);
	assert_int_equal(commit_unwaited_ns(UNWAITED_MAX + 1, 1000), 1000000000);
	/* a write that may take less long does not pause longer */
	assert_int_equal(commit_unwaited_ns(UNWAITED_MAX, 19), 19000000);
	assert_int_equal(commit_unwaited_ns(UNWAITED_MAX, 21), 20000000);
	assert_int_equal(commit_unwaited_ns(UNWAITED_SOFT, 19), 0);
}

/* The ring is full of what nobody has synced: one more write makes room for itself and not much more. */
static void
child_room_costs_a_piece(void)
{
	uint64_t ring = (uint64_t) config.wal_buffers;
	WalStats stats;
	int n = 0;

	start_engine();
	do {
		(void) insert(n++, VALUE);
		wal_stats(&stats);
	} while (stats.ring_full == 0);
	CHECK(wal_inserted() - kvstore_applied() > ring - ring / 4);
	CHECK(wal_durable() < wal_inserted() - ring / 2);
	CHECK(kvstore_applied() < wal_inserted() - ring / 2);
}

static void
room_costs_a_piece(void **state)
{
	(void) state;
	run_child(child_room_costs_a_piece);
}

/* The same with a ring of which much is synced and not applied: nobody waits for the disk. */
static void
child_room_without_sync(void)
{
	WalStats before, after;
	Lsn applied;
	int n;

	start_engine();
	applied = kvstore_applied();
	n = insert_bytes(0, (uint64_t) config.wal_buffers / 2);
	flush_all();
	CHECK(kvstore_applied() == applied);
	wal_stats(&before);
	do {
		(void) insert(n++, VALUE);
		wal_stats(&after);
	} while (after.ring_full == before.ring_full);
	CHECK(kvstore_applied() > applied);
	CHECK(after.flushes == before.flushes);
}

static void
room_without_sync(void **state)
{
	(void) state;
	run_child(child_room_without_sync);
}

/* What nobody waits for: the WAL writer goes on at once while there is more, and calls the replay process. */
static void
child_walwriter_goes_on(void)
{
	uint32_t sleep_ms, steps = 0, wake;
	Lsn before;

	start_engine();
	wake = atomic_load(&procslot_get(PROC_REPLAY)->wake);
	(void) insert_bytes(0, WAL_FLUSH_PIECE + WAL_FLUSH_PIECE / 2);
	do {
		before = kvstore_applied();
		MUST(kvstore_walwriter_step(&sleep_ms));
		CHECK(kvstore_applied() > before);
		steps++;
	} while (sleep_ms == 0);
	CHECK(steps >= 5);
	CHECK(wal_inserted() - kvstore_applied() < APPLY_PIECE);
	CHECK(atomic_load(&procslot_get(PROC_REPLAY)->wake) != wake);
	do
		MUST(kvstore_walwriter_step(&sleep_ms));
	while (kvstore_applied() < wal_inserted());
	CHECK(sleep_ms > 0);
}

static void
walwriter_goes_on(void **state)
{
	(void) state;
	run_child(child_walwriter_goes_on);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(flushes_in_pieces, engine_test_setup, engine_test_teardown),
		cmocka_unit_test_setup_teardown(applies_in_pieces, engine_test_setup, engine_test_teardown),
		cmocka_unit_test_setup_teardown(room_costs_a_piece, engine_test_setup, engine_test_teardown),
		cmocka_unit_test_setup_teardown(who_waits_for_nothing_leaves_little, engine_test_setup, engine_test_teardown),
		cmocka_unit_test(waits_by_what_is_ahead),
		cmocka_unit_test_setup_teardown(room_without_sync, engine_test_setup, engine_test_teardown),
		cmocka_unit_test_setup_teardown(walwriter_goes_on, engine_test_setup, engine_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
