/*
 * test_apart.c - large values apart from their keys: what goes there, when a file goes, what a failure leaves.
 */
#include "letters.h"

#include "common/coding.h"
#include "common/crc32c.h"

#define FOOTER 64 /* of both kinds of files; format version at 48, checksum of the rest at 52 */


static void
start(void)
{
	fresh_directory();
	config_init();
	config.memtable_size = 64; /* no file is small */
	ok(lsm_create(1));
	reopen();
}

static void
compact_all(void)
{
	LsmCompactOptions opt = { .oldest = UINT64_MAX };
	Version *v;

	ok(lsm_compact_all(&opt, &v));
	publish_and_collect(v);
}

static int
files(void)
{
	int n = 0;

	ok(fs_list(VALUE_DIR, count_name, &n));
	return n;
}

static void
expect(const char *key, uint64_t version, size_t len)
{
	Entry e;

	epoch_pin(0);
	ok(lsm_get(published, slice_of(key, 1), UINT64_MAX, &e));
	assert_int_equal(e.kind, ENTRY_PUT);
	assert_int_equal(e.value.len, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(e.value.data[i], version & 0xff);
	epoch_unpin();
}

static void
test_threshold(void **state)
{
	(void) state;
	for (int64_t threshold = 0; threshold <= 1024; threshold += 1024) {
		for (size_t len = 1023; len <= 1025; len++) {
			start();
			config.blob_threshold = threshold;
			ok(flush_letters("a", 10, len));
			assert_int_equal(files(), threshold > 0 && len >= 1024);
			assert_int_equal(published->nvalues, files());
			expect("a", 10, len);
			reopen();
			expect("a", 10, len);
		}
	}
}

/* Keys are written anew, values are not, until less than half of a file is live; exactly half stays. */
static void
test_victims(void **state)
{
	uint64_t id;

	(void) state;
	start();
	ok(flush_letters("abcd", 10, 2000));
	id = published->values[0].file->info.file_id;
	ok(flush_letters("ab", 40, 2000));
	compact_all();
	assert_true(lsm_version_has(published, id));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 0);
	assert_int_equal(published->nvalues, 2);
	ok(flush_letters("c", 70, 2000));
	compact_all();
	for (int i = 0; i < 4; i++) { /* its table has been marked: rewritten when nothing else is due */
		LsmCompactOptions opt = { .oldest = UINT64_MAX };
		Version *v;

		ok(lsm_compact(&opt, &v));
		if (v != NULL)
			publish_and_collect(v);
	}
	assert_false(lsm_version_has(published, id));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 2000);
	assert_int_equal(files(), published->nvalues);
	expect("a", 40, 2000);
	expect("b", 40, 2000);
	expect("c", 70, 2000);
	expect("d", 10, 2000);
}

static Status
compact_within(uint64_t room)
{
	LsmCompactOptions opt = { .oldest = UINT64_MAX, .room = room };
	Version *v = NULL;
	Status st = lsm_compact(&opt, &v);

	if (st == ST_OK && v != NULL)
		publish_and_collect(v);
	return st;
}

/* Values are copied where all that is live in their file fits beside the table; a merge does without. */
static void
test_room(void **state)
{
	uint64_t keys, live[2];
	LsmCompactOptions merge;
	Version *v;

	(void) state;
	start();
	ok(flush_letters("abcd", 10, 20000));
	ok(flush_letters("efgh", 40, 30000));
	ok(flush_letters("abcefg", 70, 20000));
	compact_all();
	assert_int_equal(published->nvalues, 3);
	keys = lsm_bytes(published);
	assert_true(published->tables[LSM_LEVELS - 1][0]->rewrite);
	for (int i = 0, n = 0; i < 3; i++)
		if (values_are_few(&published->values[i]))
			live[n++] = published->values[i].bytes;
	assert_int_equal(live[0] + live[1], 50000);
	assert_int_equal(compact_within(keys + 20000 - 1), ST_NO_SPACE);
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 0);
	ok(compact_within(keys + live[0]));
	assert_true(atomic_load(&lsm_shared->relocated_bytes) == live[0]);
	assert_int_equal(published->nvalues, 3);
	keys = lsm_bytes(published);
	assert_int_equal(compact_within(keys + live[1] - 1), ST_NO_SPACE);
	ok(flush_letters("a", 100, 20000)); /* a merge has its keys to write */
	merge = (LsmCompactOptions){ .oldest = UINT64_MAX, .room = lsm_bytes(published) };
	ok(lsm_compact_all(&merge, &v));
	publish_and_collect(v);
	assert_true(atomic_load(&lsm_shared->relocated_bytes) == live[0]);
	ok(compact_within(lsm_bytes(published) + live[1]));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 50000);
	assert_int_equal(files(), published->nvalues);
	expect("d", 10, 20000);
	expect("h", 40, 30000);
	reopen();
	expect("a", 100, 20000);
	expect("d", 10, 20000);
}

/* Of tables that wait to be written anew the first that fits is; one with another reason does not wait for values. */
static void
test_room_for_some(void **state)
{
	Table *const *t;
	uint64_t keys;

	(void) state;
	start();
	config.table_size = 1; /* each key has a table of its own */
	ok(flush_letters("abcd", 10, 30000));
	ok(flush_letters("efgh", 40, 20000));
	ok(flush_letters("abcefg", 70, 20000));
	compact_all();
	t = published->tables[LSM_LEVELS - 1];
	assert_true(t[3]->rewrite && t[7]->rewrite);
	keys = t[7]->info.bytes;
	assert_int_equal(compact_within(keys + 20000 - 1), ST_NO_SPACE);
	ok(compact_within(keys + 20000));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 20000);
	expect("h", 40, 20000);
	/* What is left of d's file does not fit. */
	assert_int_equal(compact_within(keys + 20000), ST_NO_SPACE);
	t = published->tables[LSM_LEVELS - 1];
	assert_true(t[3]->rewrite);
	t[3]->rewrite_ranges = true;
	ok(compact_within(keys + 20000));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 20000);
	assert_int_equal(compact_within(keys + 20000), ST_NO_SPACE);
	ok(compact_within(keys + 30000));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 50000);
	expect("d", 10, 30000);
}

/* One compaction copies so much, but one file's in any case; the next goes on where it ended. */
static void
test_copied_at_once(void **state)
{
	(void) state;
	start();
	ok(flush_letters("abcd", 10, 20000));
	ok(flush_letters("efgh", 40, 20000));
	ok(flush_letters("abcefg", 70, 20000));
	compact_all();
	value_gc_copy_max = 1;
	ok(compact_within(0));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 20000);
	ok(compact_within(0));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 40000);
	value_gc_copy_max = VALUE_COPY_BYTES;
	ok(compact_within(0));
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 40000);
	expect("d", 10, 20000);
	expect("h", 40, 20000);
}

/* A table refers to at most so many files: what would be one more is copied. */
static void
test_shares_bound(void **state)
{
	(void) state;
	for (uint32_t most = 2; most <= 4; most++) {
		start();
		value_gc_shares_max = most;
		ok(flush_letters("a", 10, 2000));
		ok(flush_letters("b", 40, 2000));
		ok(flush_letters("c", 70, 2000));
		compact_all();
		assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), most < 3 ? 2000 : 0);
		assert_int_equal(published->nvalues, 3);
		expect("a", 10, 2000);
		expect("c", 70, 2000);
	}
	value_gc_shares_max = VALUE_SHARES_MAX - VALUE_SHARES_OWN;
}

/* An output whose own files fill the room that is left for them ends at the next key. */
static void
test_shares_end(void **state)
{
	const Table *t;

	(void) state;
	start();
	value_gc_shares_max = 2;
	value_gc_shares_end = 3;
	for (int i = 0; i < 5; i++)
		ok(flush_letters((const char *[]){ "a", "b", "c", "d", "e" }[i], 10 + 30 * (uint64_t) i, 2000));
	compact_all();
	value_gc_shares_max = VALUE_SHARES_MAX - VALUE_SHARES_OWN;
	value_gc_shares_end = VALUE_SHARES_MAX - VALUE_SHARES_OWN / 2;
	assert_int_equal(published->ntables[LSM_LEVELS - 1], 2);
	t = published->tables[LSM_LEVELS - 1][0];
	assert_int_equal(t->info.entries, 3);
	assert_int_equal(t->info.value_files, 3);
	assert_int_equal(atomic_load(&lsm_shared->relocated_bytes), 2000);
	for (int i = 0; i < 5; i++)
		expect((const char *[]){ "a", "b", "c", "d", "e" }[i], 10 + 30 * (uint64_t) i, 2000);
	reopen();
	expect("e", 130, 2000);
}

/* ---- failures */
static FsOps failing;
static int writes_left;

static Status
write_or_full(int fd, const void *buf, size_t len, uint64_t off)
{
	return writes_left-- > 0 ? fs_posix.pwrite(fd, buf, len, off) : status_fail(ST_NO_SPACE, "full");
}

/* A full disk at any write of a flush: nothing has changed, nothing stays. */
static void
test_full_disk(void **state)
{
	const FsOps *quick = fs;
	int n = 0;
	Status st;

	(void) state;
	start();
	ok(flush_letters("ab", 10, 3000));
	failing = *quick;
	failing.pwrite = write_or_full;
	do {
		writes_left = n++;
		fs = &failing;
		st = flush_letters("ab", 40, 300000);
		fs = quick;
		if (st != ST_OK) {
			assert_int_equal(st, ST_NO_SPACE);
			assert_int_equal(files(), 1);
			expect("a", 10, 3000);
		}
	} while (st != ST_OK);
	assert_true(n > 3);
	expect("a", 40, 300000);
	reopen();
	expect("b", 40, 300000);
}

/* What a crash before the edit leaves goes at the next start; a file that is named and missing is refused. */
static void
test_files_at_start(void **state)
{
	char path[FS_PATH_MAX];
	int fd;
	Version *v;

	(void) state;
	start();
	ok(flush_letters("a", 10, 3000));
	value_path(VALUE_ID_BIT | 99, path, sizeof path);
	ok(fs_open(path, FS_CREATE_NEW, &fd));
	ok(fs_close(fd));
	ok(fs_open(VALUE_DIR "/8000000000000001.kvv.tmp", FS_CREATE_NEW, &fd));
	ok(fs_close(fd));
	assert_int_equal(files(), 3);
	reopen();
	assert_int_equal(files(), 1);
	expect("a", 10, 3000);
	value_path(published->values[0].file->info.file_id, path, sizeof path);
	ok(fs_unlink(path));
	fresh_memory(TEST_HEAP);
	assert_int_equal(lsm_open(&v), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), path));
}

/* What a start says of the file with one byte of its footer changed, and the footer's checksum right. */
static Status
open_changed(const char *path, size_t at)
{
	uint8_t *footer;
	char *file;
	size_t len;
	Version *v;
	Status st;
	int fd;

	ok(fs_read_file(path, 1 << 20, &file, &len));
	ok(fs_open(path, FS_WRITE, &fd));
	footer = (uint8_t *) file + len - FOOTER;
	footer[at]++;
	put_u32(footer + 52, crc32c(crc32c(0, footer, 52), footer + 56, 8));
	ok(fs_pwrite(fd, footer, FOOTER, len - FOOTER));
	fresh_memory(TEST_HEAP);
	st = lsm_open(&v);
	footer[at]--;
	put_u32(footer + 52, crc32c(crc32c(0, footer, 52), footer + 56, 8));
	ok(fs_pwrite(fd, footer, FOOTER, len - FOOTER));
	ok(fs_close(fd));
	free(file);
	if (st != ST_OK)
		assert_non_null(strstr(status_detail(), path));
	return st;
}

/* A newer kvd's file is not taken for damage, nor one of the same size that is another for what it is not. */
static void
test_other_files_at_start(void **state)
{
	char path[2][FS_PATH_MAX];

	(void) state;
	start();
	ok(flush_letters("a", 10, 3000));
	table_path(published->tables[0][0]->info.number, path[0], sizeof path[0]);
	value_path(published->values[0].file->info.file_id, path[1], sizeof path[1]);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(open_changed(path[i], 48), ST_FOREIGN);
		assert_int_equal(open_changed(path[i], 0), ST_CORRUPT); /* id */
		assert_int_equal(open_changed(path[i], 8), ST_CORRUPT); /* root; values */
	}
	reopen();
	expect("a", 10, 3000);
}

/* A batch keeps at most LSM_BATCH_BYTES of values outside the cache, and one more; the rest is asked for again. */
static void
test_batch_bytes(void **state)
{
	Slice keys[3] = { slice_of("a", 1), slice_of("b", 1), slice_of("c", 1) };
	Entry out[3];
	Status st[3];
	int n;

	(void) state;
	start();
	ok(flush_letters("abc", 10, KV_VALUE_MAX));
	epoch_pin(0);
	n = lsm_get_many(published, keys, 3, UINT64_MAX, out, st);
	assert_true(n == 1 || n == 2);
	assert_int_equal(lsm_get_many(published, keys + 2, 1, UINT64_MAX, out, st), 1);
	assert_int_equal(out[0].value.len, KV_VALUE_MAX);
	lsm_batch_end();
	epoch_unpin();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threshold),
		cmocka_unit_test(test_victims),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_room_for_some),
		cmocka_unit_test(test_copied_at_once),
		cmocka_unit_test(test_shares_bound),
		cmocka_unit_test(test_shares_end),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_files_at_start),
		cmocka_unit_test(test_other_files_at_start),
		cmocka_unit_test(test_batch_bytes),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
