/*
 * test_block_out.c - in what pieces a file is written, and that each full one is sent to the disk at once: a file that
 * is written fast must not fill the disk's queue before its sync.
 */
#define CACHE_BYTES CACHE_BYTES_MIN

#include "../../../../storage/sstable/value_internal.h"
#include "table_test.h"

#define PIECE BLOCK_OUT_BUFFER
#define CALLS_MAX 64

/* What was asked of the file system, in order. */
typedef enum What { WRITE = 1, WRITEBACK, SYNC, RENAME } What;
static struct {
	What what;
	uint64_t off, len;
} call[CALLS_MAX];
static int calls, fail_at; /* the how-manyeth writeback fails; 0: none */
static int writebacks;
static FsOps watching;

static void
note(What what, uint64_t off, uint64_t len)
{
	assert_true(calls < CALLS_MAX);
	call[calls].what = what;
	call[calls].off = off;
	call[calls++].len = len;
}

static Status
w_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	note(WRITE, off, len);
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
w_writeback(int fd, uint64_t off, uint64_t len)
{
	note(WRITEBACK, off, len);
	if (++writebacks == fail_at)
		return status_fail(ST_IO_ERROR, "on order");
	return fs_posix.writeback(fd, off, len);
}

static Status
w_sync(int fd)
{
	(void) fd;
	note(SYNC, 0, 0);
	return ST_OK;
}

static Status
w_rename(const char *from, const char *to)
{
	note(RENAME, 0, 0);
	return fs_posix.rename(from, to);
}

static void
watch(int fail)
{
	watching = fs_posix;
	watching.pwrite = w_pwrite;
	watching.writeback = w_writeback;
	watching.sync = w_sync;
	watching.rename = w_rename;
	calls = writebacks = 0;
	fail_at = fail;
	fs = &watching;
}

/* The calls are: pieces without a hole, those that are full sent at once, then sync and rename. The pieces sent. */
static int
check_calls(uint64_t bytes)
{
	uint64_t at = 0;
	int sent = 0, i = 0;

	while (i < calls && call[i].what == WRITE) {
		assert_int_equal(call[i].off, at);
		if (call[i].len >= PIECE) {
			assert_true(i + 1 < calls && call[i + 1].what == WRITEBACK);
			assert_int_equal(call[i + 1].off, at);
			assert_int_equal(call[i + 1].len, call[i].len);
			sent++;
		}
		at += call[i].len;
		i += call[i].len >= PIECE ? 2 : 1;
	}
	assert_int_equal(at, bytes);
	assert_int_equal(calls, i + 2);
	assert_int_equal(call[i].what, SYNC);
	assert_int_equal(call[i + 1].what, RENAME);
	assert_int_equal(writebacks, sent);
	return sent;
}

static void
write_bytes(BlockOut *o, size_t bytes, size_t step)
{
	static const uint8_t some[2 * PIECE];

	for (size_t n; bytes > 0; bytes -= n) {
		n = bytes < step ? bytes : step;
		assert_ok(block_out_bytes(o, some, n));
	}
}

static void
test_each_full_piece_is_sent_at_once(void **state)
{
	static const struct { size_t bytes, step; int sent; } cases[] = {
		{ 1, 1, 0 },
		{ PIECE - 1, 1000, 0 },
		{ PIECE, 1024, 1 },
		{ PIECE + 1, 1024, 1 },
		{ 5 * PIECE, 4096, 5 },
		{ 5 * PIECE + 4096, 4096, 5 },
		{ 4 * PIECE, 2 * PIECE, 2 }, /* larger pieces are sent whole */
		{ 10 * PIECE, 4097, 9 },     /* each is a little more than full */
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		BlockOut o;

		watch(0);
		assert_ok(block_out_open(&o, "tables/x", 1));
		write_bytes(&o, cases[i].bytes, cases[i].step);
		assert_ok(block_out_finish(&o));
		assert_int_equal(check_calls(cases[i].bytes), cases[i].sent);
		fs = &fs_posix;
	}
}

/* A block as large as a piece is not copied, but sent all the same; what was gathered before it goes first. */
static void
test_a_large_block_is_sent_at_once(void **state)
{
	static const uint8_t some[3 * PIECE];

	(void) state;
	for (size_t len = PIECE - 1; len <= PIECE + 1; len++) {
		BlockOut o;
		BlockHandle h;

		watch(0);
		assert_ok(block_out_open(&o, "tables/x", 1));
		assert_ok(block_out_bytes(&o, some, 100));
		assert_ok(block_out_write(&o, slice_of(some, len), TABLE_CODEC_NONE, &h));
		assert_int_equal(h.offset, 100);
		assert_ok(block_out_finish(&o));
		assert_int_equal(check_calls(100 + len + BLOCK_TRAILER), 1);
		assert_int_equal(call[0].len, len < PIECE ? 100 + len + BLOCK_TRAILER : 100);
		fs = &fs_posix;
	}
}

static Status
any_name(void *arg, const char *name)
{
	(void) name;
	*(int *) arg += 1;
	return ST_OK;
}

static int
files(const char *dir)
{
	int n = 0;

	assert_ok(fs_list(dir, any_name, &n));
	return n;
}

/* A table of `n` values of 100,000 bytes; it stays at the first failure. */
static Status
write_table(int n)
{
	static uint8_t value[100000];
	TableBuildOptions opt = { 9, 99, 0, (uint64_t) n, TABLE_CODEC_NONE };
	Buf small = { 0 }, large = { 0 };
	TableBuilder *b;
	TableInfo info;
	Status st = ST_OK;

	assert_ok(table_builder_open(&opt, &b));
	for (int i = 0; i < n && st == ST_OK; i++) {
		uint8_t key = (uint8_t) i;
		Entry e = { slice_of(&key, 1), slice_of(value, sizeof(value)), 1, 0, ENTRY_PUT };

		st = table_builder_add(b, &e);
	}
	if (st == ST_OK)
		st = table_builder_finish(b, &info, &small, &large);
	else
		table_builder_abandon(b);
	buf_free(&small);
	buf_free(&large);
	return st;
}

static Status
write_values(int n)
{
	static uint8_t value[100000];
	ValueFileInfo info;
	ValueBuilder *b;
	ValueRef ref;
	Status st = ST_OK;

	assert_ok(value_builder_open(VALUE_ID_BIT | 5, TABLE_CODEC_NONE, &b));
	for (int i = 0; i < n && st == ST_OK; i++)
		st = value_builder_add(b, slice_of(value, sizeof(value)), &ref);
	if (st == ST_OK)
		return value_builder_finish(b, &info);
	value_builder_abandon(b);
	return st;
}

/* What could not be written is no file: the failure comes from the entry that filled the piece, or from the end. */
static void
test_a_failed_piece_fails_the_file(void **state)
{
	static const struct { Status (*write)(int n); const char *dir; } kinds[] = {
		{ write_table, "tables" }, { write_values, VALUE_DIR }
	};

	(void) state;
	assert_ok(fs_list("tables", test_unlink, NULL));
	for (size_t k = 0; k < 2; k++) {
		int fail = 1;

		for (;; fail++) {
			Status st;

			watch(fail);
			st = kinds[k].write(20);
			fs = &fs_posix;
			if (st == ST_OK)
				break;
			assert_int_equal(st, ST_IO_ERROR);
			assert_int_equal(writebacks, fail); /* nothing more is sent */
			assert_int_equal(files(kinds[k].dir), 0);
		}
		assert_int_equal(fail, 2000000 / (3 * 100000) + 1); /* three values fill a piece */
		assert_int_equal(files(kinds[k].dir), 1);
	}
	assert_ok(fs_unlink(VALUE_DIR "/8000000000000005.kvv"));
	assert_ok(fs_rmdir(VALUE_DIR));
}

static int
setup(void **state)
{
	int rc = test_setup(state);

	assert_ok(fs_mkdir(VALUE_DIR));
	return rc;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_full_piece_is_sent_at_once),
		cmocka_unit_test(test_a_large_block_is_sent_at_once),
		cmocka_unit_test(test_a_failed_piece_fails_the_file),
	};

	return cmocka_run_group_tests(tests, setup, test_teardown);
}
