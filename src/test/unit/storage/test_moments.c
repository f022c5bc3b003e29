/*
 * test_moments.c - what belongs to one moment stays together: the position and the log time of a snapshot, the answer
 * that is kept with a serial, the end of the tables and its term.
 */
#include "engine_test.h"

#include "../../../storage/lsm/lsm_internal.h"
#include "storage/session.h"

#define HOUR_MS UINT64_C(3600000)
#define LONG_ANSWER 20000 /* outside the cache, and more than a look-up keeps room for */

static void
put(const char *key)
{
	char internal[32] = { KEYSPACE_USER };
	Op op = { .kind = OP_PUT, .value = slice_str("v") };

	op.key = slice_of(internal, 1 + (size_t) snprintf(internal + 1, sizeof internal - 1, "%s", key));
	write_op(&op);
}

/* The applier has stored the new time, and not yet the position: a reader gets neither. */
static void
child_snapshots(void)
{
	Snapshot s;
	Lsn applied;
	uint64_t time, n;

	start_engine();
	put("a");
	applied = kvstore_applied();
	time = kvstore_applied_time();
	n = atomic_load(&kvs->moments);
	atomic_store(&kvs->applied_time, time + HOUR_MS);
	/* And is about to replace the moment before the last. */
	atomic_store(&kvs->moment[(n + 1) & 1].at, applied + 8);
	atomic_store(&kvs->moment[(n + 1) & 1].time, time + HOUR_MS);
	kvstore_begin_read(&s, 0);
	CHECK(s.at == applied && s.log_time == time);
	kvstore_end_read();
	kvstore_begin_own_read(&s);
	CHECK(s.at == applied && s.log_time == time);
	kvstore_end_read();
	/* Then the new one is there as a whole, an instant before `applied`; a page as of it is of this server's past. */
	atomic_store(&kvs->moments, n + 1);
	kvstore_begin_read(&s, 0);
	CHECK(s.at == applied + 8 && s.log_time == time + HOUR_MS);
	kvstore_end_read();
	CHECK(kvstore_applied() == applied);
	MUST(kvstore_begin_read_at(&s, 0, applied + 8));
	kvstore_end_read();
	CHECK(kvstore_begin_read_at(&s, 0, applied + 16) == ST_SNAPSHOT_GONE);
}

static void
a_snapshot_is_of_one_moment(void **state)
{
	(void) state;
	run_child(child_snapshots);
}

static uint64_t
write_stamp(uint64_t session, Slice answer)
{
	Buf body = { 0 };
	uint64_t version;

	MUST(session_encode_stamp(&body, session, 1, answer));
	kvstore_hold();
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
	return version;
}

/* What a repeated serial is answered, from memory or from tables. */
static void
check_repeat(uint64_t session, uint64_t first, Slice answer)
{
	uint64_t version = write_stamp(session, slice_of(NULL, 0)), done;
	SlotValue slot;
	Snapshot s;

	kvstore_begin_own_read(&s);
	MUST(kvstore_stamp_outcome(session, 1, version, &slot, &done));
	CHECK(done == first && slot.serial == 1 && slice_eq(slot.answer, answer));
	kvstore_end_read();
}

static int64_t threshold;

static void
child_long_answer(void)
{
	static uint8_t bytes[LONG_ANSWER];
	Slice answer = slice_of(bytes, sizeof bytes);
	uint64_t session, first;
	Buf body = { 0 };

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t) (i * 7 + i / 256);
	start_engine();
	config.blob_threshold = threshold;
	MUST(session_encode_open(&body, HOUR_MS));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, true, &session));
	first = write_stamp(session, answer);
	check_repeat(session, first, answer);
	ask_for_flush();
	run_compactor();
	check_repeat(session, first, answer);
	buf_free(&body);
}

static void
a_long_answer_outlives_the_look_at_its_session(void **state)
{
	(void) state;
	for (threshold = 0; threshold <= 1024; threshold += 1024)
		run_child(child_long_answer); /* in the table, in a value file */
}

static void
child_all_in_tables(void)
{
	LsmState in_tables;

	start_engine();
	put("a");
	ask_for_flush();
	run_compactor();
	MUST(lsm_state_now(&in_tables));
	CHECK(in_tables.flushed == kvstore_applied() && in_tables.flushed_term == wal_term());
}

/* Started with nothing in the log above the tables, and frozen as it is (a full disk asks for that). */
static void
child_freezes_nothing(void)
{
	LsmState before, after;

	open_engine();
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	MUST(lsm_state_now(&before));
	CHECK(kvstore_applied() == before.flushed && before.flushed_term != 0);
	ask_for_flush();
	run_compactor();
	MUST(lsm_state_now(&after));
	CHECK(after.flushed == before.flushed && after.flushed_term == before.flushed_term);
}

static void
an_empty_memtable_ends_where_the_tables_end(void **state)
{
	(void) state;
	run_child(child_all_in_tables);
	run_child(child_freezes_nothing);
	run_child(child_freezes_nothing);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, engine_test_setup, engine_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_snapshot_is_of_one_moment),
		TEST(a_long_answer_outlives_the_look_at_its_session),
		TEST(an_empty_memtable_ends_where_the_tables_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
