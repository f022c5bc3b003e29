/*
 * test_limits.c - the largest and the many: sizes at their bounds, versions over many blocks, a million
 * entries, open files, and what happens when the disk fails while a table is written.
 */
#define CACHE_BYTES (16 * 1024 * 1024)

#include "common/limits.h"
#include "table_test.h"

static uint64_t next_number = 1;
static uint8_t big[KV_VALUE_MAX];

static void
expect_all(const Model *m, const TableInfo *t)
{
	for (int mode = 0; mode < 3; mode++) {
		Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = mode == 0, .read_ahead = mode == 2 });
		size_t i = 0;

		for (iter_seek_first(it); it->valid; iter_next(it), i++)
			assert_true(same_entry(&it->entry, &m->e[i]));
		assert_ok(it->status);
		assert_int_equal(i, m->n);
		for (iter_seek_last(it); it->valid; iter_prev(it), i--)
			assert_true(same_entry(&it->entry, &m->e[i - 1]));
		assert_ok(it->status);
		assert_int_equal(i, 0);
		iter_close(it);
	}
	for (size_t i = 0; i < m->n; i++) {
		Entry out;

		assert_ok(table_get(t, m->e[i].key, m->e[i].version + 1, &out));
		assert_true(same_entry(&out, &m->e[i]));
	}
	assert_ok(table_verify(t, NULL, NULL));
}

/* Blocks of every size around the cache's bound: beside small entries, and alone. */
static void
test_block_bound(void **state)
{
	CacheStats before, after;
	uint64_t bypassed = 0;

	(void) state;
	for (size_t vlen = 4096 - 40; vlen <= 4096 + 10; vlen++) {
		Model m = { 0 };
		TableInfo t;

		model_add(&m, "a", 1, 9, ENTRY_PUT, 0, "small", 5);
		model_add(&m, "b", 1, 9, ENTRY_PUT, 0, big, vlen);
		model_add(&m, "c", 1, 9, ENTRY_PUT, 0, "small", 5);
		build_table(&m, next_number++, 10, &t);
		cache_stats(&before);
		expect_all(&m, &t);
		cache_stats(&after);
		bypassed += after.bypassed > before.bypassed;
		/* header 6, restart 4, lengths 1 + 1 + 2, flags 1, version 1, key 1: 17 bytes beside the value */
		assert_int_equal(after.bypassed > before.bypassed, vlen + 17 > CACHE_BLOCK_MAX);
		model_free(&m);
	}
	assert_true(bypassed > 0);
}

static void
test_largest_entries(void **state)
{
	Model m = { 0 };
	TableInfo t;
	uint8_t *key = malloc(INTERNAL_KEY_MAX);
	Entry out;

	(void) state;
	memset(key, 'k', INTERNAL_KEY_MAX);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t) (i * 7 + i / 251);
	model_add(&m, "a", 1, 3, ENTRY_PUT, 1, "x", 1);
	model_add(&m, key, INTERNAL_KEY_MAX - 1, 9, ENTRY_PUT, 0, big, KV_VALUE_MAX - 1);
	model_add(&m, key, INTERNAL_KEY_MAX, UINT64_MAX - 1, ENTRY_PUT, UINT64_MAX, big, KV_VALUE_MAX);
	model_add(&m, key, INTERNAL_KEY_MAX, 8, ENTRY_DELETE, 0, NULL, 0);
	model_add(&m, key, INTERNAL_KEY_MAX, 1, ENTRY_PUT, 0, big, 70000);
	key[INTERNAL_KEY_MAX - 1]++;
	model_add(&m, key, INTERNAL_KEY_MAX, 5, ENTRY_PUT, 0, "y", 1);
	model_add(&m, "z", 1, 3, ENTRY_PUT, 0, NULL, 0);
	build_table(&m, next_number++, 10, &t);
	expect_all(&m, &t);
	assert_ok(table_get(&t, slice_of(key, INTERNAL_KEY_MAX), UINT64_MAX, &out));
	assert_int_equal(out.version, 5);
	assert_int_equal(table_get(&t, slice_of(key, INTERNAL_KEY_MAX - 2), UINT64_MAX, &out), ST_NOT_FOUND);
	free(key);
	model_free(&m);
}

/* Keys so long that an index block has room for few: a tall tree. */
static void
test_tall_index(void **state)
{
	Model m = { 0 };
	TableInfo t;
	uint8_t key[20000];

	(void) state;
	memset(key, 'k', sizeof(key));
	for (int i = 0; i < 100; i++) {
		/* neighbours differ only at the end, and all in the middle: separators stay long, prefixes short */
		key[100 + i] = 'l';
		key[sizeof(key) - 1] = 'a';
		model_add(&m, key, sizeof(key), 7, ENTRY_PUT, 0, "v", 1);
		key[sizeof(key) - 1] = 'b';
		model_add(&m, key, sizeof(key), 7, ENTRY_PUT, 0, "w", 1);
	}
	model_sort(&m);
	build_table(&m, next_number++, 10, &t);
	print_message("height %u\n", t.index_height);
	assert_true(t.index_height >= 3);
	expect_all(&m, &t);
	model_free(&m);
}

/* One key's versions fill many blocks and index blocks, others before and after it. */
static void
test_many_versions(void **state)
{
	Model m = { 0 };
	TableInfo t;
	uint8_t value[40] = { 0 };
	Entry out;
	Iter *it;

	(void) state;
	model_add(&m, "j", 1, 77, ENTRY_PUT, 0, "before", 6);
	for (uint64_t v = 60000; v > 0; v--) {
		memcpy(value, &v, sizeof(v));
		model_add(&m, "k", 1, v * 10, v % 3 == 0 ? ENTRY_DELETE : ENTRY_PUT, 0, value,
		          v % 3 == 0 ? 0 : sizeof(value));
	}
	model_add(&m, "k\0", 2, 99, ENTRY_PUT, 0, "after", 5);
	build_table(&m, next_number++, 10, &t);
	assert_true(t.index_height >= 2);
	it = table_iter(&t, (TableIterOptions){ .fill_cache = true });
	for (uint64_t s = 0; s <= 600011; s += s < 100 || s > 599900 ? 1 : 37) {
		size_t want = s == 0 ? m.n : model_seek(&m, slice_str("k"), s - 1);
		bool there = want < m.n - 1;

		assert_int_equal(table_get(&t, slice_str("k"), s, &out), there ? ST_OK : ST_NOT_FOUND);
		if (there)
			assert_true(same_entry(&out, &m.e[want]));
		iter_seek(it, slice_str("k"), s);
		assert_true(it->valid && same_entry(&it->entry, &m.e[model_seek(&m, slice_str("k"), s)]));
		iter_seek_before(it, slice_str("k"), s);
		assert_true(it->valid && same_entry(&it->entry, &m.e[model_seek(&m, slice_str("k"), s) - 1]));
	}
	iter_close(it);
	model_free(&m);
}

static void
test_million(void **state)
{
	const uint64_t n = 1000000;
	TableBuildOptions opt = { next_number++, 0xfeed, 10, n, TABLE_CODEC_NONE };
	Buf small = { 0 }, large = { 0 };
	uint64_t count = 0, passed = 0, offset, last = 0;
	TableBuilder *b;
	TableInfo t;
	char key[16];
	Entry out;
	Iter *it;

	(void) state;
	assert_ok(table_builder_open(&opt, &b));
	for (uint64_t i = 0; i < n; i++) {
		Entry e = { { (uint8_t *) key, (size_t) snprintf(key, sizeof(key), "%012llu", (unsigned long long) i * 2) },
			        { (uint8_t *) &i, sizeof(i) }, i + 1, 0, ENTRY_PUT };

		assert_ok(table_builder_add(b, &e));
	}
	assert_ok(table_builder_finish(b, &t, &small, &large));
	assert_ok(table_verify(&t, NULL, NULL));
	it = table_iter(&t, (TableIterOptions){ .read_ahead = true });
	for (iter_seek_first(it); it->valid; iter_next(it), count++)
		assert_memory_equal(it->entry.value.data, &count, sizeof(count));
	iter_close(it);
	assert_int_equal(count, n);
	for (uint64_t i = 0; i < n; i += 7) {
		Slice k = { (uint8_t *) key, (size_t) snprintf(key, sizeof(key), "%012llu", (unsigned long long) i * 2) };

		assert_ok(table_get(&t, k, UINT64_MAX, &out));
		assert_int_equal(out.version, i + 1);
		assert_ok(table_offset_of(&t, k, &offset));
		assert_true(offset >= last && offset < t.bytes);
		last = offset;
		key[11]++; /* odd: absent */
		assert_int_equal(table_get(&t, k, UINT64_MAX, &out), ST_NOT_FOUND);
		passed += table_may_contain(&t, k, table_key_hash(k));
		if (i % 2000 == 0) { /* what the cache gave stays only for the pin */
			epoch_unpin();
			epoch_pin(0);
		}
	}
	print_message("filter: %llu of %llu absent keys passed\n", (unsigned long long) passed,
	              (unsigned long long) n / 7);
	assert_true(passed < n / 7 / 50);
	buf_free(&small);
	buf_free(&large);
}

static bool
alive_even(void *arg, uint64_t number)
{
	(void) arg;
	return number % 2 == 0;
}

static int opened, closed;

static Status
count_open(const char *path, FsOpen how, int *fd)
{
	opened++;
	return fs_posix.open(path, how, fd);
}

static Status
count_close(int fd)
{
	closed++;
	return fs_posix.close(fd);
}

static void
read_one(const Model *m, const TableInfo *t)
{
	Iter *it = table_iter(t, (TableIterOptions){ .read_ahead = true });

	iter_seek_first(it);
	assert_true(it->valid && same_entry(&it->entry, &m->e[0]));
	iter_close(it);
}

static void
test_open_files(void **state)
{
	static TableInfo t[TABLE_FILES_MAX + 1];
	FsOps counting = fs_posix;
	Model m = { 0 };

	(void) state;
	table_files_close_all();
	model_add(&m, "k", 1, 1, ENTRY_PUT, 0, "v", 1);
	next_number += next_number % 2; /* table 0 is even */
	for (int i = 0; i <= TABLE_FILES_MAX; i++)
		build_table(&m, next_number++, 0, &t[i]);
	counting.open = count_open;
	counting.close = count_close;
	fs = &counting;
	opened = closed = 0;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < TABLE_FILES_MAX; i++)
			read_one(&m, &t[i]);
	assert_int_equal(opened, TABLE_FILES_MAX);
	assert_int_equal(closed, 0);
	read_one(&m, &t[0]);
	read_one(&m, &t[TABLE_FILES_MAX]); /* the oldest is table 1 */
	assert_int_equal(closed, 1);
	read_one(&m, &t[0]);
	assert_int_equal(opened, TABLE_FILES_MAX + 1);
	read_one(&m, &t[1]);
	assert_int_equal(opened, TABLE_FILES_MAX + 2);
	table_files_sweep(alive_even, NULL);
	assert_int_equal(closed, 2 + TABLE_FILES_MAX / 2);
	table_files_close_all();
	assert_int_equal(closed, opened);
	fs = &fs_posix;
	model_free(&m);
}

/* ---- failing disk */

static int countdown;
static Status failure;

static Status
failing(Status (*real)(void), bool *now)
{
	(void) real;
	*now = --countdown == 0;
	return *now ? status_fail(failure, "injected") : ST_OK;
}

static Status
fail_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	bool now;
	Status st = failing(NULL, &now);

	return now ? st : fs_posix.pwrite(fd, buf, len, off);
}

static Status
fail_sync(int fd)
{
	bool now;
	Status st = failing(NULL, &now);

	return now ? st : fs_posix.sync(fd);
}

static Status
fail_rename(const char *from, const char *to)
{
	bool now;
	Status st = failing(NULL, &now);

	return now ? st : fs_posix.rename(from, to);
}

static Status
none_left(void *arg, const char *name)
{
	uint64_t number = *(uint64_t *) arg;
	char mine[32];

	snprintf(mine, sizeof(mine), "%016llx", (unsigned long long) number);
	assert_int_not_equal(strncmp(name, mine, 16), 0);
	return ST_OK;
}

static void
test_failing_disk(void **state)
{
	FsOps faulty = fs_posix;
	int failures = 0;

	(void) state;
	faulty.pwrite = fail_pwrite;
	faulty.sync = fail_sync;
	faulty.rename = fail_rename;
	for (int n = 1;; n++) {
		TableBuildOptions opt = { next_number++, 5, 10, 0, TABLE_CODEC_NONE };
		Buf small = { 0 }, large = { 0 };
		TableBuilder *b;
		TableInfo t;
		Status st = ST_OK;

		failure = n % 2 == 0 ? ST_NO_SPACE : ST_IO_ERROR;
		assert_ok(table_builder_open(&opt, &b));
		countdown = n;
		fs = &faulty;
		for (uint32_t i = 0; i < 3000; i++) {
			uint8_t key[4] = { (uint8_t) (i >> 16), (uint8_t) (i >> 8), (uint8_t) i, 0 };
			Entry e = { slice_of(key, 4), slice_of(big, i == 2000 ? 300000 : 300), 1, 0, ENTRY_PUT };
			Status one = table_builder_add(b, &e);

			if (st != ST_OK)
				assert_int_equal(one, st); /* sticky */
			st = one;
		}
		st = table_builder_finish(b, &t, &small, &large);
		fs = &fs_posix;
		buf_free(&small);
		buf_free(&large);
		if (countdown > 0) {
			assert_ok(st);
			break;
		}
		failures++;
		assert_int_equal(st, failure);
		assert_non_null(strstr(status_detail(), "injected"));
		assert_ok(fs_list("tables", none_left, &opt.number));
	}
	assert_true(failures >= 6); /* several writes, the sync, the rename */
}

static void
test_empty_refused(void **state)
{
	TableBuildOptions opt = { next_number++, 5, 10, 0, TABLE_CODEC_NONE };
	Buf small = { 0 }, large = { 0 };
	TableBuilder *b;
	TableInfo t;

	(void) state;
	assert_ok(table_builder_open(&opt, &b));
	assert_int_equal(table_builder_finish(b, &t, &small, &large), ST_INTERNAL);
	assert_ok(fs_list("tables", none_left, &opt.number));
}

/* No memory for the keys that finish gives: no file either. */
static void
test_no_memory_for_keys(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++) {
		TableBuildOptions opt = { next_number++, 5, 10, 0, TABLE_CODEC_NONE };
		Entry e = { slice_str("k"), slice_str("v"), 1, 0, ENTRY_PUT };
		Buf keys = { 0 }, full = { .len = SIZE_MAX, .cap = SIZE_MAX }; /* nothing fits behind it */
		TableBuilder *b;
		TableInfo t;

		assert_ok(table_builder_open(&opt, &b));
		assert_ok(table_builder_add(b, &e));
		assert_int_equal(table_builder_finish(b, &t, i == 0 ? &full : &keys, i == 0 ? &keys : &full), ST_OUT_OF_MEMORY);
		assert_ok(fs_list("tables", none_left, &opt.number));
		buf_free(&keys);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block_bound),
		cmocka_unit_test(test_largest_entries),
		cmocka_unit_test(test_tall_index),
		cmocka_unit_test(test_many_versions),
		cmocka_unit_test(test_million),
		cmocka_unit_test(test_open_files),
		cmocka_unit_test(test_failing_disk),
		cmocka_unit_test(test_empty_refused),
		cmocka_unit_test(test_no_memory_for_keys),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
