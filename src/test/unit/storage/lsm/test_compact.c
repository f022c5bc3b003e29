/*
 * test_compact.c - each rule of compaction by an example, and what surrounds it: nested flushes, retiring
 * under a pin, full shared heap, orphans.
 */
#include "lsm_story.h"

/* ---- rule 1 */
static void
test_versions_kept(void **state)
{
	(void) state;
	start();
	flush("a@10 a@20 a@30 a@40 b@15 b@25");
	/* Oldest 31: a@40 is above, a@30 what that snapshot sees. */
	compact(pick_of(0, 0, 1, 0, 0), 31, 0);
	assert_string_equal(contents(), "1: a@40 a@30 b@25");
	/* A version equal to oldest is not seen by it, so the one below stays. */
	start();
	flush("a@10 a@20 a@30");
	compact(pick_of(0, 0, 1, 0, 0), 20, 0);
	assert_string_equal(contents(), "1: a@30 a@20 a@10");
	start();
	flush("a@10 a@20 a@30");
	compact(pick_of(0, 0, 1, 0, 0), 21, 0);
	assert_string_equal(contents(), "1: a@30 a@20");
	/* The same in a flush. */
	start();
	flush_keeping("a@10 a@20 a@30 -b@5 b@4", 21);
	assert_string_equal(contents(), "0: a@30 a@20 -b@5");
}

/* ---- rule 2 */
static void
test_tombstone_at_the_bottom(void **state)
{
	(void) state;
	start();
	flush("-a@10 b@11");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "1: b@11");
	/* Not below oldest: kept, a reader may need to see it (and what it hides is kept, too). */
	start();
	flush("-a@10 a@9 b@11");
	compact(pick_of(0, 0, 1, 0, 0), 10, 0);
	assert_string_equal(contents(), "1: -a@10 a@9 b@11");
	/* What it hides goes with it. */
	start();
	flush("-a@10 a@9 a@8 b@11");
	compact(pick_of(0, 0, 1, 0, 0), 11, 0);
	assert_string_equal(contents(), "1: b@11");
	/* Hidden tombstones go everywhere. */
	start();
	flush("-a@10 a@12");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "1: a@12");
}

static void
test_tombstone_above_deeper_level(void **state)
{
	(void) state;
	start();
	flush("a@1 c@1");
	push_down(3);
	/* Level 3 may hold the key by its range (b) or does (a): kept. d is outside: dropped. */
	flush("-a@10 -b@11 -d@12 e@13");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "1: -a@10 -b@11 e@13 3: a@1 c@1");
	/* Arrived at that level, together with what they hide, they go. */
	compact(pick_of(1, 0, 1, 0, 0), 100, 0);
	compact(pick_of(2, 0, 1, 0, 1), 100, 0);
	assert_string_equal(contents(), "3: c@1 e@13");
}

/* Many tombstones over many tables of several levels: each is judged by the table that may hold its key. */
static void
test_tombstones_over_many_tables(void **state)
{
	(void) state;
	start();
	config.table_size = 1;
	flush("b@1 d@1 f@1 h@1 j@1 l@1");
	compact(pick_of(0, 0, 1, 0, 0), 0, 0);
	for (uint32_t level = 1; level < 5; level++) {
		Pick p = { .any = true, .out_level = level + 1 };

		p.n[level] = published->ntables[level];
		compact(p, 0, 0);
	}
	flush("c@2 h@3 i@2 k@2");
	compact(pick_of(0, 0, 1, 0, 0), 0, 0);
	for (uint32_t level = 1; level < 3; level++) {
		Pick p = { .any = true, .out_level = level + 1 };

		p.n[level] = published->ntables[level];
		compact(p, 0, 0);
	}
	assert_string_equal(contents(),
	                    "3: c@2 3: h@3 3: i@2 3: k@2 5: b@1 5: d@1 5: f@1 5: h@1 5: j@1 5: l@1");
	config.table_size = 1 << 20;
	flush("-a@10 -b@11 -c@12 -d@13 -e@14 -h@15 -i@16 -j@17 -k@18 -l@19 -m@20");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "1: -b@11 -c@12 -d@13 -h@15 -i@16 -j@17 -k@18 -l@19 "
	                    "3: c@2 3: h@3 3: i@2 3: k@2 5: b@1 5: d@1 5: f@1 5: h@1 5: j@1 5: l@1");
}

/* A table below whose versions are all newer cannot hold an older one of the key. */
static void
test_tombstone_above_newer_tables(void **state)
{
	(void) state;
	start();
	flush("a@50 c@51");
	push_down(3);
	flush("a@60 -b@61");
	push_down(1);
	published->tables[3][0]->info.version_min = 61; /* as if written by somebody else later */
	compact(pick_of(1, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "2: a@60 3: a@50 c@51");
	published->tables[3][0]->info.version_min = 60;
	flush("-b@62");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "1: -b@62 2: a@60 3: a@50 c@51");
}

static void
test_tombstone_above_older_level0(void **state)
{
	(void) state;
	/* Only the newer of two tables of level 0 is compacted: the older one would speak again. */
	start();
	flush("a@1 z@2");
	flush("-a@10 b@11");
	compact(pick_of(0, 0, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "0: a@1 z@2 1: -a@10 b@11");
	/* Newer tables of level 0 do not count. */
	start();
	flush("-a@1 b@2");
	flush("a@10 b@11");
	compact(pick_of(0, 1, 1, 0, 0), 100, 0);
	assert_string_equal(contents(), "0: a@10 b@11 1: b@2");
}

static void
test_expired(void **state)
{
	(void) state;
	/* Gone at its time, not before. */
	start();
	flush("a@1!100 b@2!101 c@3");
	compact(pick_of(0, 0, 1, 0, 0), 50, 100);
	assert_string_equal(contents(), "1: b@2!101 c@3");
	/* Above older versions elsewhere it becomes a tombstone: it hides them for ever. */
	start();
	flush("a@1 c@1");
	push_down(2);
	flush("a@10!100");
	compact(pick_of(0, 0, 1, 0, 0), 50, 100);
	assert_string_equal(contents(), "1: -a@10 2: a@1 c@1");
	/* Not below oldest: as it is. */
	start();
	flush("a@10!100 a@5");
	compact(pick_of(0, 0, 1, 0, 0), 10, 100);
	assert_string_equal(contents(), "1: a@10!100 a@5");
	/* An older version that it hides goes. */
	start();
	flush("a@10!100 a@5");
	compact(pick_of(0, 0, 1, 0, 0), 11, 100);
	assert_string_equal(contents(), "");
}

/* ---- rule 3 */
static void
test_versions_stay_together(void **state)
{
	(void) state;
	start();
	config.table_size = 1; /* cut wherever it may be cut */
	flush("a@1 a@2 a@3 b@4 b@5 c@6");
	compact(pick_of(0, 0, 1, 0, 0), 0, 0);
	assert_string_equal(contents(), "1: a@3 a@2 a@1 1: b@5 b@4 1: c@6");
	/* Also where the first version of the next key is dropped. */
	start();
	config.table_size = 1;
	flush("a@1 -b@9 b@8 b@2 c@6");
	compact(pick_of(0, 0, 1, 0, 0), 9, 0);
	assert_string_equal(contents(), "1: a@1 1: -b@9 b@8 1: c@6");
}

static void
test_all_into_one(void **state)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	Version *v;

	(void) state;
	start();
	ok(lsm_compact_all(&opt, &v));
	assert_null(v);
	flush("a@1 b@2 c@3");
	push_down(2);
	flush("-a@10 b@11");
	push_down(1);
	flush("c@20");
	flush("d@30");
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	assert_string_equal(contents(), "6: b@11 c@20 d@30");
	assert_int_equal(lsm_writer.current->number, published->number);
	/* Everything dropped: no table is left. */
	flush("-b@40 -c@41 -d@42");
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	assert_string_equal(contents(), "");
	reopen();
	assert_string_equal(contents(), "");
	assert_int_equal(published->flushed, 43);
}

/* Level 0 is not compressed, what is below is; a setting changed later lets all be read on. */
static void
test_compressed_below_level_0(void **state)
{
	static char value[3000];
	Entry e = { slice_str("k"), slice_of(value, sizeof value), 5, 0, ENTRY_PUT }, out;
	LsmCompactOptions opt = { .oldest = 1000 };
	uint64_t bytes[2];
	Version *v;

	(void) state;
	for (int codec = TABLE_CODEC_NONE; codec <= TABLE_CODEC_ZSTD; codec++) {
		LsmState s = { 6, 1, 1 };
		Iter *it = array_iter(&e, 1);

		if (!table_codec_built((uint32_t) codec))
			continue;
		start();
		config.compression = codec;
		config.blob_threshold = 0;
		ok(lsm_flush(it, &s, 1, &v));
		iter_close(it);
		publish(v);
		bytes[0] = published->tables[0][0]->info.bytes;
		ok(lsm_compact_all(&opt, &v));
		publish(v);
		bytes[1] = published->tables[1][0]->info.bytes;
		assert_int_equal(bytes[1] + 2000 < bytes[0], codec != TABLE_CODEC_NONE);
		config.compression = TABLE_CODEC_NONE;
		epoch_pin(0);
		ok(lsm_get(published, e.key, 1000, &out));
		assert_true(slice_eq(out.value, e.value));
		epoch_unpin();
	}
}

/* ---- levels and reads */
static void
test_get_order(void **state)
{
	Entry e;

	(void) state;
	start();
	flush("a@1 b@1");
	push_down(2);
	flush("a@10");
	push_down(1);
	flush("a@20");
	flush("-a@30");
	epoch_pin(0);
	for (uint64_t snapshot = 0; snapshot < 35; snapshot++) {
		uint64_t want = snapshot > 30 ? 30 : snapshot > 20 ? 20 : snapshot > 10 ? 10 : snapshot > 1 ? 1 : 0;
		Status st = lsm_get(published, slice_str("a"), snapshot, &e);

		if (want == 0)
			assert_int_equal(st, ST_NOT_FOUND);
		else {
			ok(st);
			assert_int_equal(e.version, want);
			assert_int_equal(e.kind, want == 30 ? ENTRY_DELETE : ENTRY_PUT);
		}
	}
	assert_int_equal(lsm_get(published, slice_str("A"), UINT64_MAX, &e), ST_NOT_FOUND);
	assert_int_equal(lsm_get(published, slice_str("c"), UINT64_MAX, &e), ST_NOT_FOUND);
	assert_int_equal(lsm_get(published, slice_str("aa"), UINT64_MAX, &e), ST_NOT_FOUND);
	epoch_unpin();
}

/* A read error is no "absent". */
static void
test_damage_is_told(void **state)
{
	char path[FS_PATH_MAX];
	Entry e;
	Iter *it;

	(void) state;
	start();
	flush("a@1 b@2 c@3");
	push_down(1);
	table_path(published->tables[1][0]->info.number, path, sizeof path);
	table_files_close_all();
	assert_int_equal(unlink(path), 0);
	epoch_pin(0);
	assert_int_equal(lsm_get(published, slice_str("b"), UINT64_MAX, &e), ST_CORRUPT);
	it = lsm_iter(published, (TableIterOptions){ 0 });
	iter_seek_first(it);
	assert_false(it->valid);
	assert_int_equal(it->status, ST_CORRUPT);
	iter_close(it);
	epoch_unpin();
	{
		LsmCompactOptions opt = { .oldest = 1000 };
		Version *v;

		assert_int_equal(lsm_compact_all(&opt, &v), ST_CORRUPT);
		assert_ptr_equal(lsm_writer.current, published);
	}
	fresh_memory(TEST_HEAP);
	assert_int_equal(lsm_open(&published), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), path));
}

/*
 * A damaged table in the middle of a level is not skipped, nor one in level 0 on the way to an older value.
 */
static void
test_damage_is_not_skipped(void **state)
{
	char path[FS_PATH_MAX];
	Entry e;
	Iter *it;

	(void) state;
	start();
	config.table_size = 1;
	flush("a@1 b@2 c@3");
	compact(pick_of(0, 0, 1, 0, 0), 1000, 0);
	flush("a@10");
	assert_string_equal(contents(), "0: a@10 1: a@1 1: b@2 1: c@3");
	table_files_close_all();
	table_path(published->tables[1][1]->info.number, path, sizeof path);
	assert_int_equal(unlink(path), 0);
	epoch_pin(0);
	it = lsm_iter(published, (TableIterOptions){ 0 });
	for (iter_seek_first(it); it->valid; iter_next(it))
		assert_true(it->entry.key.data[0] == 'a');
	assert_int_equal(it->status, ST_CORRUPT);
	for (iter_seek_last(it); it->valid; iter_prev(it))
		assert_true(it->entry.key.data[0] == 'c');
	assert_int_equal(it->status, ST_CORRUPT);
	iter_close(it);
	table_path(published->tables[0][0]->info.number, path, sizeof path);
	table_files_close_all();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(lsm_get(published, slice_str("a"), UINT64_MAX, &e), ST_CORRUPT);
	epoch_unpin();
}

static void
test_wrong_size_refused(void **state)
{
	char path[FS_PATH_MAX];

	(void) state;
	start();
	flush("a@1 b@2 c@3");
	table_path(published->tables[0][0]->info.number, path, sizeof path);
	assert_int_equal(truncate(path, (off_t) published->tables[0][0]->info.bytes - 1), 0);
	fresh_memory(TEST_HEAP);
	assert_int_equal(lsm_open(&published), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), path));
}

/* A source that fails is no short source: nothing is made of it. */
static void
test_flush_source_fails(void **state)
{
	Entry e[] = { { .key = slice_str("a"), .version = 1 }, { .key = slice_str("b"), .version = 2 } };
	LsmState s = { 3, 1, 1 };
	Version *v;

	(void) state;
	for (int at = 0; at < 2; at++) {
		Iter *it = array_iter(e, 2);

		start();
		((ArrayIter *) it)->fail_at = at;
		assert_int_equal(lsm_flush(it, &s, 0, &v), ST_IO_ERROR);
		iter_close(it);
		assert_ptr_equal(lsm_writer.current, published);
		assert_false(file_exists("tables/0000000000000001.kvt"));
		assert_false(file_exists("tables/0000000000000001.kvt.tmp"));
	}
}

/* ---- nested flush, giving up */
typedef struct Nested {
	int calls;
	bool give_up;
	uint64_t done, out;        /* at the call before */
} Nested;

static bool
nested(void *arg)
{
	Nested *n = arg;
	LsmRunning r;

	/* What is left and what was written can be watched. */
	lsm_running(&r);
	assert_true(r.done > n->done && r.done < r.total && r.out > n->out);
	n->done = r.done;
	n->out = r.out;
	if (n->calls++ == 0) {
		flush("-a@100 z@101");
		/* Nobody pins the Version that the compaction reads, but it must stay. */
		ok(lsm_collect());
		assert_non_null(lsm_writer.held);
		assert_ptr_equal(lsm_writer.retired, lsm_writer.held);
	}
	return n->give_up;
}

static void
test_nested_flush(void **state)
{
	(void) state;
	for (int give_up = 0; give_up < 2; give_up++) {
		Nested n = { .give_up = give_up };
		LsmCompactOptions opt = { .oldest = 50, .between = nested, .between_arg = &n };
		Version *v = NULL;
		LsmRunning r;
		int tables;
		Status st;

		start();
		config.table_size = 1;
		flush("a@1 b@2 c@3");
		flush("a@10 b@12 c@13");
		st = lsm_compact_all(&opt, &v);
		assert_true(n.calls > 0);
		lsm_running(&r);
		assert_true(r.total == 0 && r.done == 0 && r.out == 0);
		if (give_up) {
			assert_int_equal(st, ST_BUSY);
			assert_string_equal(contents(), "0: -a@100 z@101 0: a@10 b@12 c@13 0: a@1 b@2 c@3");
		} else {
			ok(st);
			publish(v);
			assert_string_equal(contents(), "0: -a@100 z@101 6: a@10 6: b@12 6: c@13");
		}
		assert_int_equal(published->flushed, 102);
		ok(lsm_collect());
		/* Outputs of the one given up, inputs of the one done: gone. */
		tables = 0;
		for (uint64_t i = 1; i < lsm_writer.next_number; i++)
			tables += table_exists(i);
		assert_int_equal(tables, give_up ? 3 : 4);
		reopen();
		assert_string_equal(contents(), give_up ? "0: -a@100 z@101 0: a@10 b@12 c@13 0: a@1 b@2 c@3"
		                                        : "0: -a@100 z@101 6: a@10 6: b@12 6: c@13");
	}
}

/* ---- retiring */
static void
test_pinned_version_stays(void **state)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	const Version *old;
	uint64_t number;
	Version *v;
	size_t used;
	Entry e;

	(void) state;
	start();
	flush("a@1");
	flush("a@2");
	ok(lsm_collect());
	used = shheap_used();
	number = published->tables[0][0]->info.number;
	epoch_pin(0);
	old = published;
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	ok(lsm_collect());
	/* Reader with the old Version: it, its tables and their files are there. */
	assert_true(table_exists(number));
	assert_int_equal(old->ntables[0], 2);
	ok(lsm_get(old, slice_str("a"), 2, &e));
	assert_int_equal(e.version, 1);
	epoch_unpin();
	ok(lsm_collect());
	assert_false(table_exists(number));
	assert_true(shheap_used() < used);
	assert_string_equal(contents(), "6: a@2");
	/* A pin taken after the change does not hold the old Version back. */
	flush("a@3");
	epoch_pin(0);
	ok(lsm_collect());
	assert_null(lsm_writer.retired);
	epoch_unpin();
}

/* A table that a later Version still names survives the Version it came with. */
static void
test_shared_tables(void **state)
{
	LsmStats s;

	(void) state;
	start();
	flush("a@1");
	flush("b@2");
	flush("c@3");
	ok(lsm_collect());
	assert_null(lsm_writer.retired);
	for (uint64_t i = 1; i <= 3; i++)
		assert_true(table_exists(i));
	lsm_stats(&s);
	assert_int_equal(s.files_deleted, 0);
	assert_int_equal(s.flushes, 3);
	assert_true(s.flush_bytes > 0);
}

/* ---- a full shared heap */
static void
test_heap_full(void **state)
{
	size_t used = 0;
	int fitted = 0;
	Status st = ST_OK;

	(void) state;
	fresh_directory();
	fresh_memory(12288);
	config_init();
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	for (int i = 0; st == ST_OK && i < 100; i++) {
		Entry e = { .key = slice_str("a"), .version = (uint64_t) i + 1, .kind = ENTRY_PUT };
		LsmState state_now = { (uint64_t) i + 2, 1, 1 };
		Iter *it = array_iter(&e, 1);
		Version *v;

		used = shheap_used();
		st = lsm_flush(it, &state_now, 0, &v);
		iter_close(it);
		if (st == ST_OK) {
			publish(v);
			ok(lsm_collect());
			fitted++;
		}
	}
	assert_int_equal(st, ST_NO_SPACE);
	assert_non_null(strstr(status_detail(), "metadata_size"));
	assert_true(fitted > 2);
	assert_int_equal(shheap_used(), used);
	assert_ptr_equal(lsm_writer.current, published);
	assert_int_equal(published->ntables[0], fitted);
	assert_true(table_exists((uint64_t) fitted));
	assert_false(table_exists((uint64_t) fitted + 1));
	/* lsm_open in too small a heap: a clear refusal, nothing left in it. */
	fresh_memory(4096);
	used = shheap_used();
	assert_int_equal(lsm_open(&published), ST_NO_SPACE);
	assert_int_equal(shheap_used(), used);
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	assert_int_equal(published->ntables[0], fitted);
}

/* ---- orphans */
static void
touch(const char *path)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fclose(f);
}

static void
test_orphans(void **state)
{
	char path[FS_PATH_MAX];

	(void) state;
	start();
	flush("a@1");
	touch("tables/00000000000000ff.kvt");
	touch("tables/0000000000000001.kvt.tmp");
	touch("tables/notes.kvt");
	touch("tables/ff.kvt");
	touch("MANIFEST-00000000000000aa");
	touch("MANIFEST-notes");
	reopen();
	assert_false(file_exists("tables/00000000000000ff.kvt"));
	assert_false(file_exists("tables/0000000000000001.kvt.tmp"));
	assert_false(file_exists("MANIFEST-00000000000000aa"));
	assert_true(file_exists("tables/notes.kvt"));
	assert_true(file_exists("tables/ff.kvt"));
	assert_true(file_exists("MANIFEST-notes"));
	assert_true(table_exists(1));
	manifest_path(lsm_writer.manifest.number, path, sizeof path);
	assert_true(file_exists(path));
	manifest_path(lsm_writer.manifest.number - 1, path, sizeof path);
	assert_false(file_exists(path));
	/* A number once seen is not used again. */
	flush("b@2");
	assert_int_equal(published->tables[0][0]->info.number, 0x100);
	assert_string_equal(contents(), "0: b@2 0: a@1");
}

/* An empty source only moves the state, and that survives. */
static void
test_empty_flush(void **state)
{
	LsmState s = { 77, 5, 6 };
	Iter *it = array_iter(NULL, 0);
	Version *v;

	(void) state;
	start();
	ok(lsm_flush(it, &s, 0, &v));
	publish(v);
	iter_close(it);
	assert_string_equal(contents(), "");
	assert_int_equal(v->flushed, 77);
	reopen();
	assert_int_equal(published->flushed, 77);
	assert_int_equal(published->flushed_term, 5);
	assert_int_equal(published->flushed_time, 6);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_versions_kept),
		cmocka_unit_test(test_tombstone_at_the_bottom),
		cmocka_unit_test(test_tombstone_above_deeper_level),
		cmocka_unit_test(test_tombstones_over_many_tables),
		cmocka_unit_test(test_tombstone_above_newer_tables),
		cmocka_unit_test(test_tombstone_above_older_level0),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_versions_stay_together),
		cmocka_unit_test(test_all_into_one),
		cmocka_unit_test(test_compressed_below_level_0),
		cmocka_unit_test(test_get_order),
		cmocka_unit_test(test_damage_is_told),
		cmocka_unit_test(test_damage_is_not_skipped),
		cmocka_unit_test(test_wrong_size_refused),
		cmocka_unit_test(test_flush_source_fails),
		cmocka_unit_test(test_nested_flush),
		cmocka_unit_test(test_pinned_version_stays),
		cmocka_unit_test(test_shared_tables),
		cmocka_unit_test(test_heap_full),
		cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_empty_flush),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
