/* The durable mark: bytes, two slots, torn ones, when it is written; and I/O errors, which stop the node. */
#include "wal_test.h"

#include <sys/wait.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/elog.h"
#include "port/clock.h"

static void
test_known_bytes(void **state)
{
	static const uint8_t want[4] = { 'K', 'V', 'M', '2' };
	uint8_t *file;
	size_t len;

	(void) state;
	file = wal_test_load("wal/mark", &len);
	assert_int_equal(len, 8192);
	assert_memory_equal(file, want, 4);
	assert_int_equal(get_u32(file + 4), crc32c(0, file + 8, 32));
	assert_int_equal(get_u64(file + 8), 1);
	assert_int_equal(get_u64(file + 16), TEST_SEGMENT);
	assert_int_equal(get_u64(file + 24), TEST_SEGMENT);
	assert_int_equal(get_u64(file + 32), TEST_SEGMENT);
	free(file);
}

/* The form without start: of a log that was never begun anew. */
static void
test_old_form(void **state)
{
	WalRecovery rec;
	uint8_t *file;
	size_t len;
	WalMark m;
	int slot;

	(void) state;
	file = wal_test_load("wal/mark", &len);
	put_u32(file, 0x4b4d564b);
	put_u32(file + 4, crc32c(0, file + 8, 24));
	wal_test_store("wal/mark", file, len);
	free(file);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, TEST_SEGMENT);
	assert_int_equal(m.start, 0);
	wal_test_start(&rec);
	assert_int_equal(wal_files_floor(), TEST_SEGMENT);
}

static void
check(const WalMark *want, int slot)
{
	WalMark m;
	int at;

	assert_ok(wal_mark_read(&m, &at));
	assert_int_equal(at, slot);
	assert_memory_equal(&m, want, sizeof m);
}

/* A mark of a newer kvd in either slot: the other one is older than it, so nothing is begun with it. */
static void
test_later_format(void **state)
{
	WalMark second = { 1, 4800, 8000, 16 };
	WalRecovery rec;
	uint8_t *file;
	size_t len;
	WalMark m;
	int slot;

	(void) state;
	wal_test_start(&rec);
	assert_ok(wal_mark_write(&second));
	for (size_t at = 0; at <= 4096; at += 4096) {
		file = wal_test_load("wal/mark", &len);
		file[at + 3] = '3';
		file[at + 4] ^= 1; /* its checksum is of more bytes */
		wal_test_store("wal/mark", file, len);
		assert_int_equal(wal_mark_read(&m, &slot), ST_FOREIGN);
		assert_non_null(strstr(status_detail(), "use a newer kvd"));
		file[at + 3] = '2';
		file[at + 4] ^= 1;
		wal_test_store("wal/mark", file, len);
		free(file);
	}
	check(&second, 1);
}

/* Epoch before durable before commit; the other slot each time. */
static void
test_newest_wins(void **state)
{
	static const WalMark m[] = {
		{ 1, 8000, 4096, 8 }, { 1, 8000, 4104, 8 }, { 1, 8008, 4104, 8 }, { 2, 5000, 4104, 16 }
	};
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	for (int i = 0; i < 4; i++) {
		assert_ok(wal_mark_write(&m[i]));
		check(&m[i], 1 - i % 2);
	}
}

/* A torn write of the newer leaves the older; never a mixture; both bad is damage. */
static void
test_every_flip(void **state)
{
	WalMark first = { 1, TEST_SEGMENT, TEST_SEGMENT, TEST_SEGMENT }, second = { 1, 4800, 8000, UINT64_MAX };
	WalRecovery rec;
	uint8_t *file;
	size_t len;
	WalMark m;
	int slot;

	(void) state;
	wal_test_start(&rec);
	assert_ok(wal_mark_write(&second));
	file = wal_test_load("wal/mark", &len);
	for (size_t i = 0; i < 40; i++) {
		for (int s = 0; s < 2; s++) {
			file[4096 * s + i] ^= 0x10;
			wal_test_store("wal/mark", file, len);
			check(s == 0 ? &second : &first, 1 - s);
			file[4096 * s + i] ^= 0x10;
		}
		file[i] ^= 1;
		file[4096 + i] ^= 1;
		wal_test_store("wal/mark", file, len);
		assert_status(wal_mark_read(&m, &slot), ST_CORRUPT);
		file[i] ^= 1;
		file[4096 + i] ^= 1;
	}
	for (size_t n = 4096; n < 4096 + 40; n++) {
		wal_test_store("wal/mark", file, n);
		check(&first, 0);
	}
	wal_test_store("wal/mark", file, 17); /* cuts durable */
	assert_status(wal_test_recover(&rec), ST_CORRUPT);
	assert_ok(fs_unlink("wal/mark"));
	assert_status(wal_test_recover(&rec), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "wal/mark"));
	free(file);
	assert_ok(wal_create(&wal_test_control));
}

/* The time is the test's (UNIT_WRAP in the GNUmakefile) where it says so. */
static uint64_t still_ns; /* 0: the real one */

uint64_t __real_clock_mono_ns(void);
uint64_t __wrap_clock_mono_ns(void);

uint64_t
__wrap_clock_mono_ns(void)
{
	return still_ns != 0 ? still_ns : __real_clock_mono_ns();
}

#define INTERVAL_NS 50000000
#define IDLE_NS 10000000
#define FAR_NS 1000000000

static bool
update(void)
{
	bool did;

	assert_ok(wal_update_mark(&did));
	return did;
}

static void
test_when_written(void **state)
{
	WalRecovery rec;
	uint64_t now;
	bool did;

	(void) state;
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_update_mark(&did)); /* not before recovery */
	assert_false(did);
	wal_test_start(&rec);
	assert_false(update()); /* not behind */
	wal_test_open();
	wal_test_insert(1, 100);
	wal_test_flush();
	still_ns = now = clock_mono_ns();
	wal_sh->mark_ns = now - INTERVAL_NS + 1; /* young, and in full flow */
	atomic_store(&wal_sh->last_flush_ns, now + FAR_NS);
	assert_false(update());
	wal_sh->mark_ns = now - INTERVAL_NS; /* old enough */
	assert_true(update());
	assert_int_equal(wal_sh->mark.durable, wal_durable());
	assert_int_equal(wal_sh->mark.commit, wal_commit());
	assert_false(update());
	wal_test_insert(1, 100);
	wal_test_flush();
	wal_sh->mark_ns = now + FAR_NS;
	atomic_store(&wal_sh->last_flush_ns, now - IDLE_NS + 1);
	assert_false(update());
	atomic_store(&wal_sh->last_flush_ns, now - IDLE_NS); /* idle */
	assert_true(update());
	wal_test_insert(1, 100);
	wal_test_flush();
	wal_sh->mark_ns = now + FAR_NS;
	atomic_store(&wal_sh->last_flush_ns, now + FAR_NS);
	assert_ok(wal_finish_mark()); /* young or not: the end */
	still_ns = 0;
	assert_int_equal(wal_sh->mark.durable, wal_durable());
}

/* What the mark says is durable is synced already: its writer never runs ahead of the flusher. */
static void
test_recovery_puts_it_at_the_end(void **state)
{
	WalRecovery rec;
	WalMark m;
	int slot;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	wal_test_insert(1, 100);
	wal_test_flush();
	wal_test_start(&rec);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, rec.end);
}

/* ---- errors */

static Status
failing_datasync(int fd)
{
	(void) fd;
	return status_fail(ST_IO_ERROR, "the disk is gone");
}

static Status
failing_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	/* Segments are made with it, too: fail only what is not zeros. */
	return ((const uint8_t *) iov[0].iov_base)[0] == 0
			   ? fs_posix.pwritev(fd, iov, n, off)
			   : status_fail(ST_NO_SPACE, "no space in a prepared file?");
}

static int
exit_of_flush(const FsOps *ops)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		elog_setup(2, LOG_LEVEL_PANIC, false);
		fs = ops;
		(void) wal_flush();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
test_failed_sync_stops_the_node(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;
	Lsn before;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	before = wal_durable();
	wal_test_insert(1, 100);
	ops.datasync = failing_datasync;
	assert_int_equal(exit_of_flush(&ops), EXIT_STOP_NODE);
	assert_int_equal(wal_durable(), before);
	assert_int_equal(wal_commit(), before);
}

static void
test_failed_write_stops_the_node(void **state)
{
	FsOps ops = fs_posix;
	WalRecovery rec;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	wal_test_insert(1, 100);
	ops.pwritev = failing_pwritev;
	assert_int_equal(exit_of_flush(&ops), EXIT_STOP_NODE);
	assert_true(wal_written() < wal_inserted());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_known_bytes, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_old_form, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_later_format, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_newest_wins, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_every_flip, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_when_written, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_recovery_puts_it_at_the_end, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_failed_sync_stops_the_node, wal_test_setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_failed_write_stops_the_node, wal_test_setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
