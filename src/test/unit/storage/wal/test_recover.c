/*
 * Recovery against every cut and every flipped byte, stale bytes behind the end, and a log that lacks files.
 */
#include "wal_test.h"

#include "common/coding.h"
#include "common/crc32c.h"

#define RECORDS 30

static Lsn bounds[RECORDS + 3]; /* record boundaries of the small log, ascending; the last is its end */
static int nbounds;

static size_t
length_of(uint32_t tag)
{
	return 60 + tag * 37 % 150;
}

/*
 * Two segments and a bit, two terms; `durable` in the mark becomes the boundary number `mark` (-1: the log's
 * start).
 */
static void
make_log(int mark)
{
	WalRecovery rec;
	int stuck;

	wal_test_start(&rec);
	bounds[0] = TEST_SEGMENT;
	nbounds = 1;
	wal_test_open();
	bounds[nbounds++] = wal_inserted();
	for (uint32_t i = 0; i < RECORDS; i++) {
		if (i == RECORDS / 2) {
			assert_true(wal_close_gate(1000, &stuck));
			wal_test_open();
			bounds[nbounds++] = wal_inserted();
		}
		bounds[nbounds++] = wal_test_insert(i, length_of(i));
	}
	wal_test_flush();
	if (mark >= 0) {
		WalMark m = { 1, bounds[mark], bounds[mark], bounds[0] };

		assert_ok(wal_mark_write(&m));
	}
	wal_test_memory_free();
}

/* Is this end a boundary, and does the log hold exactly the right records below it? */
static void
check_prefix(Lsn end)
{
	WalReader *reader;
	WalRecord r;
	uint32_t tag = 0;
	Status s;
	int i = 0;

	while (i < nbounds && bounds[i] != end)
		i++;
	assert_true(i < nbounds);
	assert_ok(wal_reader_open(TEST_SEGMENT, end, &reader));
	while ((s = wal_reader_next(reader, &r)) == ST_OK)
		if (r.header.kind == WAL_WRITE) {
			assert_true(wal_test_is(&r, tag, length_of(tag)));
			tag++;
		}
	assert_status(s, ST_NOT_FOUND);
	wal_reader_close(reader);
}

static int
last_bound_at(Lsn pos)
{
	int i = 0;

	while (i + 1 < nbounds && bounds[i + 1] <= pos)
		i++;
	return i;
}

/* Recover once; then the node must be able to go on, and be found again with what was added. */
static void
go_on(Lsn end)
{
	WalRecovery rec;
	Lsn more;

	wal_set_alone_limit(UINT64_MAX);
	assert_ok(wal_test_begin(3, 1, &more)); /* not wal_term() + 1: no term is used twice */
	wal_open_gate();
	more = wal_test_insert(77, 20);
	wal_test_flush();
	wal_test_start(&rec);
	assert_int_equal(rec.end, more);
	assert_int_equal(more, end + 48 + wal_record_size(20));
}

/* Change the record at bounds[i]: this byte of its header, and its checksum. */
static void
forge(int i, size_t offset, uint8_t value)
{
	size_t len, size = (size_t) (bounds[i + 1] - bounds[i]);
	uint8_t raw[TEST_RECORD_MAX + 64];
	char name[WAL_NAME_SIZE];
	uint8_t *file;
	WalHeader h;

	assert_int_equal(bounds[i] / TEST_SEGMENT, (bounds[i + 1] - 1) / TEST_SEGMENT);
	wal_segment_name(bounds[i] / TEST_SEGMENT, name);
	file = wal_test_load(name, &len);
	memcpy(raw, file + bounds[i] % TEST_SEGMENT, size);
	raw[offset] = value;
	wal_header_decode(raw, &h);
	put_u32(raw, wal_record_crc(crc32c(wal_sh->crc_seed, raw + WAL_HEADER_SIZE, h.length - WAL_HEADER_SIZE), raw));
	memcpy(file + bounds[i] % TEST_SEGMENT, raw, size);
	wal_test_store(name, file, len);
	free(file);
}

/* A newer kvd's record is refused, above the mark and below it; but not one that a truncation left behind. */
static void
test_later_format(void **state)
{
	static const struct { size_t offset; uint8_t value; } unknown[] = { { 32, WAL_KIND_MAX + 1 }, { 32, 255 },
		{ 33, 1 }, { 34, 1 }, { 35, 128 } };

	(void) state;
	for (int mark = -1; mark <= 4; mark += 5)
		for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
			WalRecovery rec;

			wal_test_dir_remove();
			wal_test_dir(TEST_SEGMENT);
			make_log(mark);
			assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
			forge(3, unknown[i].offset, unknown[i].value);
			assert_status(wal_test_recover(&rec), ST_FOREIGN);
			assert_non_null(strstr(status_detail(), "use a newer kvd"));
			wal_test_memory_free();
			if (mark >= 0)
				continue;
			assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
			forge(3, 16, 9); /* of another term */
			assert_ok(wal_test_recover(&rec));
			assert_int_equal(rec.end, bounds[3]);
			wal_test_memory_free();
		}
}

/* The log without everything from `cut` on. */
static void
cut_files(Lsn cut, Lsn end)
{
	for (uint64_t k = cut / TEST_SEGMENT; k <= end / TEST_SEGMENT; k++) {
		char name[WAL_NAME_SIZE];
		int fd;

		wal_segment_name(k, name);
		if (k > cut / TEST_SEGMENT) {
			assert_ok(fs_unlink(name));
			continue;
		}
		assert_ok(fs_open(name, FS_WRITE, &fd));
		assert_ok(fs_truncate(fd, cut % TEST_SEGMENT));
		assert_ok(fs_close(fd));
	}
}

static void
test_cut_at_every_byte(void **state)
{
	WalRecovery rec;
	Lsn end, mark;

	(void) state;
	make_log(12);
	end = bounds[nbounds - 1];
	mark = bounds[12];
	wal_test_copy("wal", "copy");
	wal_test_no_sync();
	for (Lsn cut = TEST_SEGMENT; cut < end; cut++) {
		Status s;

		cut_files(cut, end);
		s = wal_test_recover(&rec);
		if (cut < mark)
			assert_status(s, ST_CORRUPT);
		else {
			assert_ok(s);
			assert_int_equal(rec.end, bounds[last_bound_at(cut)]);
			check_prefix(rec.end);
			if (cut % 64 == 0)
				go_on(rec.end);
		}
		wal_test_copy("copy", "wal");
	}
}

static void
flip(Lsn pos, uint8_t mask)
{
	char name[WAL_NAME_SIZE];
	uint8_t byte;
	size_t got;
	int fd;

	wal_segment_name(pos / TEST_SEGMENT, name);
	assert_ok(fs_open(name, FS_WRITE, &fd));
	assert_ok(fs_pread(fd, &byte, 1, pos % TEST_SEGMENT, &got));
	byte ^= mask;
	assert_ok(fs_pwrite(fd, &byte, 1, pos % TEST_SEGMENT));
	assert_ok(fs_close(fd));
}

static void
test_flip_every_byte(void **state)
{
	WalRecovery rec;
	Lsn end, mark;

	(void) state;
	make_log(14);
	end = bounds[nbounds - 1];
	mark = bounds[14];
	wal_test_copy("wal", "copy");
	wal_test_no_sync();
	for (Lsn pos = TEST_SEGMENT; pos < end; pos++) {
		int bad = last_bound_at(pos);
		char want[64];
		Status s;

		flip(pos, (uint8_t) (1 << pos % 8));
		s = wal_test_recover(&rec);
		if (pos < mark) {
			assert_status(s, ST_CORRUPT);
			snprintf(want, sizeof want, "offset %llu (record at position %llu)",
					 (unsigned long long) bounds[bad] % TEST_SEGMENT, (unsigned long long) bounds[bad]);
			assert_non_null(strstr(status_detail(), want));
			flip(pos, (uint8_t) (1 << pos % 8));
			continue;
		}
		assert_ok(s);
		assert_int_equal(rec.end, bounds[bad]);
		check_prefix(rec.end);
		if (pos % 32 == 0)
			go_on(rec.end);
		wal_test_copy("copy", "wal");
	}
}

static void
test_missing_segment(void **state)
{
	WalRecovery rec;

	(void) state;
	make_log(-1);
	assert_ok(wal_test_recover(&rec));
	/* Recovery has put the mark to the end: now a file below it goes. */
	assert_ok(fs_unlink("wal/0000000000000002.kvw"));
	assert_status(wal_test_recover(&rec), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "0000000000000002.kvw"));
	assert_non_null(strstr(status_detail(), "offset 0"));
}

static void
test_mark_is_not_a_boundary(void **state)
{
	WalRecovery rec;
	WalMark m;

	(void) state;
	make_log(5);
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_mark_read(&m, &wal_sh->mark_slot));
	wal_sh->mark = m;
	m.durable += 8;
	assert_ok(wal_mark_write(&m));
	assert_status(wal_test_recover(&rec), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "boundary"));
}

/*
 * L1. A log of terms 1 and 2; the tail is lost from a point on and new records of term 3 are put over it so
 * that they end just where an old record of term 2, or the old TERM 2 itself, begins. That one must not be
 * taken.
 */
static void
stale_suffix(int cut, uint32_t fill)
{
	WalRecovery rec;
	uint8_t zero[WAL_HEADER_SIZE] = { 0 };
	char name[WAL_NAME_SIZE];
	Lsn end, at = bounds[cut];
	int fd, stuck;

	wal_segment_name(at / TEST_SEGMENT, name);
	assert_ok(fs_open(name, FS_WRITE, &fd));
	assert_ok(fs_pwrite(fd, zero, sizeof zero, at % TEST_SEGMENT));
	assert_ok(fs_close(fd));
	wal_test_start(&rec);
	assert_int_equal(rec.end, at);
	assert_ok(wal_test_begin(3, 1, &end));
	wal_open_gate();
	if (fill > 0)
		end = wal_test_insert(99, fill);
	wal_test_flush();
	assert_true(wal_close_gate(1000, &stuck));
	assert_int_equal(last_bound_at(end), last_bound_at(end - 8) + 1); /* indeed a boundary of the old log */
	assert_ok(wal_test_recover(&rec));
	assert_int_equal(rec.end, end);
	assert_int_equal(rec.last_term, 3);
}

static void
test_stale_suffix_plain(void **state)
{
	int cut = RECORDS / 2 + 3;

	(void) state;
	make_log(2);
	while (bounds[cut + 1] - bounds[cut] <= 48 + 40)
		cut++;
	/* TERM 3 and one record fill exactly what the old record took; a record of term 2 is next. */
	stale_suffix(cut, (uint32_t) (bounds[cut + 1] - bounds[cut] - 48 - 40));
}

static void
test_stale_suffix_term(void **state)
{
	int cut = RECORDS / 2; /* boundary of the last record of term 1; then TERM 2 (48 bytes) */

	(void) state;
	make_log(2);
	assert_int_equal(bounds[cut + 2] - bounds[cut + 1], 48);
	/* The record before the old TERM 2 is replaced by TERM 3 and one more: TERM 2 is next. */
	assert_true(bounds[cut + 1] - bounds[cut] > 88);
	stale_suffix(cut, (uint32_t) (bounds[cut + 1] - bounds[cut] - 88));
}

/*
 * An old TERM 3 suffix behind a new TERM 2 record, all of equal length: higher term, good CRC, right LSN
 * (L1).
 */
static void
test_old_higher_term_behind_lower(void **state)
{
	WalRecovery rec;
	Lsn one, two, three;
	uint8_t *data;
	size_t len;
	int fd;

	(void) state;
	wal_test_start(&rec);
	assert_ok(wal_test_begin(1, 1, &one));
	wal_test_copy("wal", "copy");
	assert_ok(wal_test_begin(2, 1, &two));
	assert_ok(wal_test_begin(4, 1, &three)); /* names 2 */
	wal_files_close();
	data = wal_test_load("wal/0000000000000001.kvw", &len);
	wal_test_copy("copy", "wal"); /* a log that never saw terms 2 and 4: TERM 3 takes the place of TERM 2 */
	wal_test_start(&rec);
	assert_ok(wal_test_begin(3, 1, &two));
	wal_test_memory_free();
	assert_ok(fs_open("wal/0000000000000001.kvw", FS_WRITE, &fd));
	assert_ok(fs_pwrite(fd, data + two % TEST_SEGMENT, (size_t) (three - two), two % TEST_SEGMENT));
	assert_ok(fs_close(fd));
	free(data);
	assert_ok(wal_test_recover(&rec));
	assert_int_equal(rec.end, two);
	assert_int_equal(rec.last_term, 3);
}

static void
test_recovery_from_the_middle(void **state)
{
	WalRecovery rec;

	(void) state;
	make_log(8);
	for (int i = 1; i < nbounds - 1; i++) {
		uint64_t term = i > RECORDS / 2 + 1 ? 2 : 1;

		assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
		assert_ok(wal_recover(bounds[i], i % 3 == 0 ? 0 : term, &rec)); /* 0: not known */
		assert_int_equal(rec.end, bounds[nbounds - 1]);
		assert_int_equal(wal_term_at(bounds[i] - 8), 0);
		assert_int_equal(wal_term_at(rec.end - 8), 2);
		assert_int_equal(wal_commit(), bounds[i]);
		/* A wrong term before it: the mark is at the end by now, so this is damage. */
		assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
		assert_status(wal_recover(bounds[i], 3 - term, &rec), ST_CORRUPT);
	}
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_recover(bounds[nbounds - 1], 2, &rec));
	assert_int_equal(rec.end, bounds[nbounds - 1]);
	assert_int_equal(rec.last_term, 2);
	assert_int_equal(wal_term(), 2);
}

/* L7: what lies above the mark is written again, byte for byte, and synced. */
static Lsn rewritten_from, rewritten_to;
static int syncs;

static Status
watch_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	if (len > 100 || off % 8 == 0) {
		rewritten_from = off < rewritten_from ? off : rewritten_from;
		rewritten_to += len;
	}
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
watch_datasync(int fd)
{
	syncs++;
	return fs_posix.datasync(fd);
}

static void
test_tail_is_rewritten(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;

	(void) state;
	make_log(6);
	assert_true(bounds[nbounds - 1] < 3 * TEST_SEGMENT);
	ops.pwrite = watch_pwrite;
	ops.datasync = watch_datasync;
	rewritten_from = UINT64_MAX;
	rewritten_to = 0;
	syncs = 0;
	fs = &ops;
	assert_ok(wal_test_recover(&rec));
	fs = &fs_posix;
	assert_int_equal(rewritten_to, bounds[nbounds - 1] - bounds[6] + 40); /* and the mark */
	assert_int_equal(syncs, 3);                                           /* two segments and the mark */
	check_prefix(rec.end);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cut_at_every_byte, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_flip_every_byte, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_later_format, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_missing_segment, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_mark_is_not_a_boundary, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_stale_suffix_plain, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_stale_suffix_term, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_old_higher_term_behind_lower, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_recovery_from_the_middle, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_tail_is_rewritten, wal_test_setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
