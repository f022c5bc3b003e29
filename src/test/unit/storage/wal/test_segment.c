/* The log's files: made ahead, made by a flusher, recycled, removed, found again; a full disk. */
#include "wal_test.h"

#include <sys/stat.h>

static bool
exists(uint64_t segment)
{
	char name[WAL_NAME_SIZE];

	wal_segment_name(segment, name);
	return wal_test_exists(name);
}

/* Exactly the files first .. last are there. */
static void
check_files(uint64_t first, uint64_t last)
{
	for (uint64_t k = 1; k < last + 10; k++)
		if (exists(k) != (k >= first && k <= last))
			fail_msg("segment %llu: %d", (unsigned long long) k, exists(k));
	assert_int_equal(atomic_load(&wal_sh->first_segment), first);
	assert_int_equal(atomic_load(&wal_sh->last_segment), last);
}

/* As the WAL writer does: one at a time, until none is missing. want: one was. */
static void
prepare(int spare, bool want)
{
	bool did, more;

	assert_ok(wal_prepare_segments(spare, &did));
	assert_int_equal(did, want);
	for (more = did; more;)
		assert_ok(wal_prepare_segments(spare, &more));
}

/* Go on until the log's end is in this segment. */
static void
write_to_segment(uint64_t k)
{
	while (wal_segment_of(wal_inserted() - 1) < k) {
		wal_test_insert(1, 200);
		wal_test_flush();
	}
}

static WalStats
stats(void)
{
	WalStats s;

	wal_stats(&s);
	return s;
}

static void
test_prepare(void **state)
{
	WalRecovery rec;
	struct stat st;
	bool did;
	uint8_t *data;
	size_t len;

	(void) state;
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_prepare_segments(3, &did)); /* not before recovery */
	assert_false(did);
	wal_test_start(&rec);
	prepare(0, true);
	check_files(1, 1);
	prepare(3, true);
	prepare(3, false);
	check_files(1, 4);
	data = wal_test_load("wal/0000000000000004.kvw", &len);
	assert_int_equal(len, TEST_SEGMENT);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(data[i], 0);
	free(data);
	assert_int_equal(stat("wal/0000000000000004.kvw", &st), 0);
	assert_true(st.st_blocks * 512 >= TEST_SEGMENT); /* written, not a hole */
	assert_int_equal(stats().segments_inline, 0);
	assert_int_equal(stats().segments_created, 4);
}

static void
test_flusher_makes_what_is_missing(void **state)
{
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	for (int i = 0; i < 60; i++)
		wal_test_insert(1, 200); /* one flush over four segments */
	assert_true(wal_flush());
	check_files(1, 4);
	assert_int_equal(stats().segments_inline, 4);
	assert_int_equal(wal_durable(), wal_inserted());
	assert_int_equal(stats().flushes, 2);
	assert_int_equal(stats().records, 61);
	assert_int_equal(stats().bytes, wal_inserted() - TEST_SEGMENT);
	assert_int_equal(stats().flush_bytes, stats().bytes);
	assert_true(stats().flush_ns >= stats().flush_ns_max && stats().flush_ns_max > 0);
}

static void
test_retire(void **state)
{
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	prepare(1, true);
	write_to_segment(6);
	assert_ok(wal_retire_segments(3 * TEST_SEGMENT - 1, 0)); /* one byte of 2 is needed */
	check_files(2, 6);
	assert_ok(wal_retire_segments(3 * TEST_SEGMENT, 0));
	check_files(3, 6);
	assert_ok(wal_retire_segments(3 * TEST_SEGMENT + 1, 0));
	check_files(3, 6);
	assert_ok(wal_retire_segments(5 * TEST_SEGMENT, 1)); /* 3 becomes 7, 4 goes */
	check_files(5, 7);
	assert_int_equal(stats().segments_recycled, 1);
	assert_ok(wal_retire_segments(UINT64_MAX, 5)); /* never the one being written */
	check_files(6, 8);
	wal_test_flush();
	write_to_segment(8);
}

/*
 * Records of the running term, at offset 0 of the file where the log goes on: only their positions tell
 * them.
 */
static void
test_recycled_is_not_read(void **state)
{
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	wal_test_insert(0, 4096 % 256 + 256 - 48 - WAL_HEADER_SIZE); /* from here on 16 records fill a segment */
	while (wal_inserted() < 5 * TEST_SEGMENT)
		wal_test_insert(1, 256 - WAL_HEADER_SIZE);
	assert_int_equal(wal_inserted(), 5 * TEST_SEGMENT);
	wal_test_flush();
	assert_ok(wal_retire_segments(3 * TEST_SEGMENT, 0)); /* 1 becomes 5, 2 goes */
	assert_ok(wal_retire_segments(4 * TEST_SEGMENT, 1)); /* 3 becomes 6 */
	check_files(4, 6);
	assert_ok(fs_rename("wal/0000000000000006.kvw", "wal/0000000000000005.kvw"));
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_recover(4 * TEST_SEGMENT, 1, &rec));
	assert_int_equal(rec.end, 5 * TEST_SEGMENT);
	assert_int_equal(rec.torn_bytes, 0);
}

static void
test_settle(void **state)
{
	WalRecovery rec;
	uint8_t junk[100] = { 1 };
	size_t len;
	int fd;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	prepare(5, true);
	write_to_segment(2);
	check_files(1, 6);
	wal_test_store("wal/spare-3.tmp", junk, 100); /* a crash while one was made */
	wal_test_store("wal/spare-12.tmp", junk, 0);
	wal_test_store("wal/0000000000000004.kvw", junk, 100); /* a crash while one was removed */
	wal_test_start(&rec);
	assert_false(wal_test_exists("wal/spare-3.tmp") || wal_test_exists("wal/spare-12.tmp"));
	check_files(1, 3); /* the hole's other side is no use */
	prepare(2, true);
	check_files(1, 4);
	wal_test_open();
	write_to_segment(4);
	/* The file the log ends in is short: it gets its size, before a write into it could run out of space. */
	wal_test_memory_free();
	assert_ok(fs_open("wal/0000000000000004.kvw", FS_WRITE, &fd));
	assert_ok(fs_truncate(fd, 3000));
	assert_ok(fs_close(fd));
	wal_test_start(&rec);
	free(wal_test_load("wal/0000000000000004.kvw", &len));
	assert_int_equal(len, TEST_SEGMENT);
}

/* ---- a full disk */

static uint64_t room;
static int refuse_writes;

static Status
little_space(const char *path, uint64_t *bytes)
{
	(void) path;
	*bytes = room;
	return ST_OK;
}

static Status
full_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	if (refuse_writes)
		return status_fail(ST_NO_SPACE, "full");
	return fs_posix.pwritev(fd, iov, n, off);
}

static void
test_full_disk(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;
	Lsn before, end;

	(void) state;
	ops.free_space = little_space;
	ops.pwritev = full_pwritev;
	room = UINT64_MAX;
	wal_test_start(&rec);
	wal_test_open();
	prepare(1, true);
	fs = &ops;
	refuse_writes = 1; /* it fails half-way: nothing is left of the spare */
	prepare(2, false);
	assert_false(wal_test_exists("wal/spare-0.tmp"));
	assert_false(wal_out_of_space()); /* there is still one ready */
	refuse_writes = 0;
	write_to_segment(2);
	room = TEST_SEGMENT - 1;
	prepare(1, false);
	assert_true(wal_out_of_space());
	before = wal_durable();
	while (wal_segment_of(wal_inserted()) < 4)
		end = wal_test_insert(1, 200);
	/* What fits is written, to a record's end; then no progress, and no panic. */
	assert_true(wal_flush());
	assert_true(wal_durable() > before && wal_durable() <= 3 * TEST_SEGMENT);
	assert_true(wal_durable() + wal_record_size(200) > 3 * TEST_SEGMENT);
	assert_int_equal(wal_written(), wal_durable());
	assert_false(wal_flush());
	assert_true(wal_out_of_space());
	/* Space again: it goes on by itself. */
	room = TEST_SEGMENT;
	assert_true(wal_flush());
	assert_int_equal(wal_durable(), end);
	assert_false(wal_out_of_space());
	fs = &fs_posix;
	wal_test_start(&rec);
	assert_int_equal(rec.end, end);
}

static void
test_full_disk_and_a_new_term(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;
	Lsn end;
	int stuck;

	(void) state;
	ops.free_space = little_space;
	wal_test_start(&rec);
	wal_test_open();
	while (wal_inserted() + 48 <= 2 * TEST_SEGMENT)
		wal_test_insert(0, 0); /* 40 each: less than a TERM record is left */
	wal_test_flush();
	assert_true(wal_close_gate(10, &stuck));
	room = 0;
	fs = &ops;
	prepare(1, false);
	assert_true(wal_out_of_space());
	assert_status(wal_test_begin(2, 1, &end), ST_NO_SPACE);
	assert_int_equal(wal_term(), 1);
	assert_int_equal(wal_inserted(), wal_durable());
	room = UINT64_MAX;
	prepare(1, true);
	assert_ok(wal_test_begin(2, 1, &end));
	assert_int_equal(wal_durable(), end);
}

static void
test_recycling_ends_the_shortage(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;

	(void) state;
	ops.free_space = little_space;
	room = 0;
	wal_test_start(&rec);
	wal_test_open();
	write_to_segment(3);
	fs = &ops;
	prepare(1, false);
	assert_true(wal_out_of_space());
	assert_ok(wal_retire_segments(2 * TEST_SEGMENT, 1));
	assert_false(wal_out_of_space());
	check_files(2, 4);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_prepare, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_flusher_makes_what_is_missing, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_retire, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_recycled_is_not_read, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_settle, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_full_disk_and_a_new_term, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_recycling_ends_the_shortage, wal_test_setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
