/* test_votefile.c - the vote survives damage of either copy and a crash at any point of a write. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/elog.h"
#include "port/fs.h"
#include "replication/votefile.h"

#define ME UINT64_C(0x1122334455667788)

static char dir[256];
static const char *const file[2] = { VOTEFILE_0, VOTEFILE_1 };

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(dir, sizeof dir, "%s/kvd_votefile.XXXXXX", tmp != NULL ? tmp : "/tmp");
	elog_setup(2, LOG_LEVEL_FATAL, false); /* warnings of bad copies are expected here */
	if (mkdtemp(dir) == NULL || chdir(dir) != 0)
		return -1;
	return votefile_create(ME) == ST_OK ? 0 : -1;
}

static int
teardown(void **state)
{
	(void) state;
	unlink(file[0]);
	unlink(file[1]);
	return chdir("/") != 0 || rmdir(dir) != 0 ? -1 : 0;
}

static void
load(int i, uint8_t out[VOTEFILE_SIZE])
{
	char *text;
	size_t len;

	assert_int_equal(fs_read_file(file[i], 4096, &text, &len), ST_OK);
	assert_int_equal(len, VOTEFILE_SIZE);
	memcpy(out, text, VOTEFILE_SIZE);
	free(text);
}

static void
store(int i, const uint8_t *bytes, size_t len)
{
	int fd;

	assert_int_equal(fs_open(file[i], FS_CREATE, &fd), ST_OK);
	assert_int_equal(fs_truncate(fd, 0), ST_OK);
	assert_int_equal(fs_pwrite(fd, bytes, len, 0), ST_OK);
	assert_int_equal(fs_close(fd), ST_OK);
}

static void
write_vote(uint64_t term, uint64_t voted_for, uint32_t flags)
{
	Vote v = { term, voted_for, flags };

	assert_int_equal(votefile_write(&v), ST_OK);
}

static void
assert_vote(uint64_t term, uint64_t voted_for, uint32_t flags)
{
	Vote v;

	assert_int_equal(votefile_read(ME, &v), ST_OK);
	assert_true(v.term == term && v.voted_for == voted_for && v.flags == flags);
}

static void
what_is_written_is_read(void **state)
{
	uint8_t a[VOTEFILE_SIZE], b[VOTEFILE_SIZE];

	(void) state;
	assert_vote(0, 0, 0);
	write_vote(1, ME, 0);
	assert_vote(1, ME, 0);
	write_vote(UINT64_MAX, 7, VOTE_RECOVERING);
	assert_vote(UINT64_MAX, 7, VOTE_RECOVERING);
	load(0, a);
	load(1, b);
	assert_memory_equal(a, b, VOTEFILE_SIZE); /* both copies, always */
}

static void
each_byte_of_either_copy(void **state)
{
	uint8_t good[2][VOTEFILE_SIZE];

	(void) state;
	write_vote(41, 9, 0);
	write_vote(42, 10, 0);
	load(0, good[0]);
	load(1, good[1]);
	for (int i = 0; i < 2; i++)
		for (int at = 0; at < VOTEFILE_SIZE; at++)
			for (int bit = 0; bit < 8; bit++) {
				uint8_t bad[VOTEFILE_SIZE];

				memcpy(bad, good[i], sizeof bad);
				bad[at] ^= (uint8_t) (1 << bit);
				store(i, bad, sizeof bad);
				assert_vote(42, 10, 0);
				store(i, good[i], sizeof bad);
			}
}

static void
each_length_of_either_copy(void **state)
{
	uint8_t good[VOTEFILE_SIZE + 1] = { 0 };

	(void) state;
	write_vote(42, 10, 0);
	load(0, good);
	for (int i = 0; i < 2; i++)
		for (size_t len = 0; len <= VOTEFILE_SIZE + 1; len++) {
			store(i, good, len);
			assert_vote(42, 10, 0);
			store(i, good, VOTEFILE_SIZE);
		}
	assert_int_equal(unlink(file[0]), 0);
	assert_vote(42, 10, 0);
	write_vote(43, 10, 0); /* makes the missing copy again */
	assert_int_equal(unlink(file[1]), 0);
	assert_vote(43, 10, 0);
}

static void
both_bad_is_said_and_nothing_is_guessed(void **state)
{
	uint8_t bytes[VOTEFILE_SIZE];
	Vote v;

	(void) state;
	write_vote(42, 10, 0);
	load(0, bytes);
	bytes[24] ^= 1;
	store(0, bytes, sizeof bytes);
	store(1, bytes, sizeof bytes);
	assert_int_equal(votefile_read(ME, &v), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), VOTEFILE_0));
	unlink(file[0]);
	unlink(file[1]);
	assert_int_equal(votefile_read(ME, &v), ST_CORRUPT);
}

static void
foreign_and_newer_files_are_refused(void **state)
{
	uint8_t bytes[VOTEFILE_SIZE];
	Vote v;

	(void) state;
	assert_int_equal(votefile_read(ME + 1, &v), ST_FOREIGN);
	load(0, bytes);
	put_u32(bytes + 8, VOTEFILE_FORMAT + 1);
	put_u32(bytes + 60, crc32c(0, bytes, 60));
	store(0, bytes, sizeof bytes);
	assert_int_equal(votefile_read(ME, &v), ST_FOREIGN);
}

/* ---- a crash at any point of a write: the operations after number `crash_at` do not happen */

static FsOps faulty;
static int operations, crash_at;
static uint64_t torn; /* of the write at which it crashes, so many bytes arrive */

static Status
faulty_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	if (operations++ < crash_at)
		return fs_posix.pwrite(fd, buf, len, off);
	assert_int_equal(fs_posix.pwrite(fd, buf, torn, off), ST_OK);
	return status_fail(ST_IO_ERROR, "crashed");
}

static Status
faulty_sync(int fd)
{
	return operations++ < crash_at ? fs_posix.sync(fd) : status_fail(ST_IO_ERROR, "crashed");
}

static void
a_crash_at_any_point_of_a_write(void **state)
{
	int whole = 0;

	(void) state;
	faulty = fs_posix;
	faulty.pwrite = faulty_pwrite;
	faulty.sync = faulty_sync;
	for (int first_bad = -1; first_bad < 2; first_bad++) /* with both copies good before, and with one bad */
		for (torn = 0; torn <= VOTEFILE_SIZE; torn += 16)
			for (crash_at = 0; crash_at <= 5; crash_at++) {
				Vote v = { 8, 80, 0 }, got;
				uint8_t junk[VOTEFILE_SIZE] = { 0 };

				assert_int_equal(votefile_create(ME), ST_OK);
				write_vote(7, 70, 0);
				if (first_bad >= 0)
					store(first_bad, junk, sizeof junk);
				assert_vote(7, 70, 0);
				operations = 0;
				fs = &faulty;
				whole += votefile_write(&v) == ST_OK;
				fs = &fs_posix;
				assert_int_equal(votefile_read(ME, &got), ST_OK);
				assert_true((got.term == 7 && got.voted_for == 70) || (got.term == 8 && got.voted_for == 80));
				if (crash_at >= 2)
					assert_int_equal(got.term, 8); /* one copy holds it: it is not forgotten again */
				/* And the next start writes on from there. */
				write_vote(got.term + 1, 90, 0);
				assert_vote(got.term + 1, 90, 0);
			}
	assert_true(whole > 0);
}

/* Rule L8: the answer leaves when both copies are synced, one after the other. */
static void
both_are_synced_one_after_the_other(void **state)
{
	Vote v = { 8, 80, 0 };

	(void) state;
	faulty = fs_posix;
	faulty.pwrite = faulty_pwrite;
	faulty.sync = faulty_sync;
	fs = &faulty;
	for (crash_at = 0; crash_at < 4; crash_at++) { /* write, sync, write, sync */
		operations = 0;
		torn = 0;
		assert_int_equal(votefile_write(&v), ST_IO_ERROR);
	}
	operations = 0;
	assert_int_equal(votefile_write(&v), ST_OK);
	assert_int_equal(operations, 4);
	fs = &fs_posix;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(each_byte_of_either_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(each_length_of_either_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(both_bad_is_said_and_nothing_is_guessed, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_and_newer_files_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_crash_at_any_point_of_a_write, setup, teardown),
		cmocka_unit_test_setup_teardown(both_are_synced_one_after_the_other, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
