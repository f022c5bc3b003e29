/*
 * test_moves.c - compactions that are not a merge of two levels: tables written anew where they are, tables moved,
 * everything into the last level step by step.
 */
#include "lsm_story.h"

/* ---- a table written anew in its own level */
static Pick
in_place(uint32_t level, uint32_t i)
{
	Pick p = { .any = true, .out_level = level };

	p.first[level] = i;
	p.n[level] = 1;
	return p;
}

static void
rewrite(uint32_t level, uint32_t i, uint64_t oldest)
{
	LsmCompactOptions opt = { .oldest = oldest };
	Version *v;

	published->tables[level][i]->rewrite = true;
	ok(lsm_compact(&opt, &v));
	assert_non_null(v);
	publish(v);
	ok(lsm_compact(&opt, &v));
	assert_null(v);
}

static void
test_rewrite_in_level0(void **state)
{
	LsmStats s;

	(void) state;
	start();
	config.l0_trigger = 10;
	config.table_size = 1; /* yet what comes out is one table: level 0 has one for each range of versions */
	flush("a@1 b@2 -c@3");
	flush("-a@10 -c@11 d@12 d@13 f@14");
	flush("a@20");
	flush("b@30");
	/* Its tombstones hide what the older table has; newer tables do not matter. */
	rewrite(0, 2, 1000);
	assert_string_equal(contents(), "0: b@30 0: a@20 0: -a@10 -c@11 d@13 f@14 0: a@1 b@2 -c@3");
	rewrite(0, 3, 1000);
	assert_string_equal(contents(), "0: b@30 0: a@20 0: -a@10 -c@11 d@13 f@14 0: a@1 b@2");
	reopen();
	assert_string_equal(contents(), "0: b@30 0: a@20 0: -a@10 -c@11 d@13 f@14 0: a@1 b@2");
	/* Deeper levels count, too. */
	start();
	flush("a@1 c@1");
	push_down(6);
	flush("-a@10 -d@11 e@12");
	rewrite(0, 0, 1000);
	assert_string_equal(contents(), "0: -a@10 e@12 6: a@1 c@1");
	lsm_stats(&s);
	assert_int_equal(s.rewrites, 1);
}

static void
test_rewrite_in_a_level(void **state)
{
	(void) state;
	start();
	flush("a@1 c@1");
	push_down(3);
	flush("-a@10 b@11 -e@12 f@13 f@14");
	compact(pick_of(0, 0, 1, 0, 0), 0, 0);
	flush("b@20 e@20");
	assert_string_equal(contents(), "0: b@20 e@20 1: -a@10 b@11 -e@12 f@14 f@13 3: a@1 c@1");
	/* Level 0 has only newer versions; level 3 is hidden by a's tombstone. It is cut as any other output. */
	config.table_size = 1;
	compact(in_place(1, 0), 1000, 0);
	assert_string_equal(contents(), "0: b@20 e@20 1: -a@10 1: b@11 1: f@14 3: a@1 c@1");
	/* Nothing is left of it. */
	start();
	flush("-a@1");
	push_down(2);
	compact(in_place(2, 0), 1000, 0);
	assert_string_equal(contents(), "");
}

/* Deleted while a snapshot could see it: space comes back when that has gone, though nothing is written any more. */
static void
test_deleted_space_comes_back(void **state)
{
	LsmCompactOptions opt = { .oldest = 5 };
	Version *v;

	(void) state;
	start();
	flush("a@1 b@2 c@3");
	push_down(6);
	flush("-a@10 -b@11 -c@12 d@13");
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	assert_string_equal(contents(), "6: -a@10 a@1 -b@11 b@2 -c@12 c@3 d@13");
	opt.oldest = 13;
	ok(lsm_compact(&opt, &v));
	assert_null(v);
	opt.oldest = 14;
	ok(lsm_compact(&opt, &v));
	publish(v);
	assert_string_equal(contents(), "6: d@13");
	ok(lsm_compact(&opt, &v));
	assert_null(v);
}

/* An ascending load: four tables of level 0 become tables of the last level, and no entry is touched. */
static void
test_moved_together(void **state)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	uint64_t number;
	LsmStats s;
	Version *v;

	(void) state;
	start();
	flush("a@1 b@2");
	number = published->tables[0][0]->info.number;
	flush("c@3 d@4");
	flush("e@5 f@6");
	flush("g@7 g@8 h@9");
	ok(lsm_compact(&opt, &v));
	publish(v);
	ok(lsm_collect());
	assert_string_equal(contents(), "6: a@1 b@2 6: c@3 d@4 6: e@5 f@6 6: g@8 g@7 h@9");
	assert_int_equal(published->tables[6][0]->info.number, number);
	lsm_stats(&s);
	assert_int_equal(s.trivial_moves, 4);
	assert_int_equal(s.compactions + s.files_deleted, 0);
	ok(lsm_compact(&opt, &v));
	assert_null(v);
	reopen();
	assert_string_equal(contents(), "6: a@1 b@2 6: c@3 d@4 6: e@5 f@6 6: g@8 g@7 h@9");
}

/* One memtable of a load: a session slot, written again and again, and a key of its own. */
static void
flush_both(char letter, uint64_t version)
{
	Entry e[] = { { .key = slice_of("\0slot", 5), .value = slice_str("x"), .version = version },
		          { .key = slice_of(&letter, 1), .value = slice_str("x"), .version = version + 1 } };
	LsmState state = { version + 2, 1, 1 };
	Iter *it = array_iter(e, 2);
	Version *v;

	ok(lsm_flush(it, &state, version, &v));
	iter_close(it);
	publish(v);
}

/* The slots are merged, among themselves; the load is moved. */
static void
test_session_slots_apart(void **state)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	LsmStats s;
	Version *v;

	(void) state;
	start();
	for (int i = 0; i < 8; i++) {
		flush_both((char) ('a' + i), 10 * (uint64_t) i + 1);
		assert_int_equal(lsm_level0_depth(published) * 2, published->ntables[0]);
		do {
			ok(lsm_compact(&opt, &v));
			if (v != NULL)
				publish(v);
		} while (v != NULL && lsm_level0_depth(published) >= 4);
	}
	lsm_stats(&s);
	assert_true(s.trivial_moves >= 5);
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	assert_int_equal(published->ntables[6], 2);
	assert_int_equal(published->tables[6][0]->info.entries, 1);
	assert_int_equal(published->tables[6][1]->info.entries, 8);
}

/* Step by step: the same in the end, and it ends although new tables come. */
static int
down_steps(const LsmDown *down, bool flush_between)
{
	LsmCompactOptions opt = { .oldest = UINT64_MAX };
	char text[32];
	Version *v;
	int n = 0;

	for (;; n++) {
		ok(lsm_compact_down(&opt, down, &v));
		if (v == NULL)
			return n;
		publish(v);
		assert_true(n < 50);
		snprintf(text, sizeof text, "n%d@%d", n % 3, 1000 + n);
		if (flush_between)
			flush(text);
	}
}

static void
test_down(void **state)
{
	LsmDown down;
	uint64_t number;

	(void) state;
	start();
	down = lsm_down_begin();
	assert_int_equal(down_steps(&down, false), 0);
	for (int between = 0; between < 2; between++) {
		start();
		flush("a@1 b@2 c@3 -x@4");
		push_down(6);
		flush("-a@10 b@11 y@12");
		push_down(3);
		flush("c@20");
		flush("d@30 e@31");
		down = lsm_down_begin();
		assert_true(down_steps(&down, between) >= 2);
		if (!between)
			assert_string_equal(contents(), "6: b@11 c@20 d@30 e@31 y@12");
		for (int level = 1; level < LSM_LEVELS - 1; level++)
			assert_int_equal(published->ntables[level], 0);
		for (uint32_t i = 0; i < published->ntables[6]; i++)
			assert_true(published->tables[6][i]->info.number >= down.number);
	}
	/* What is in the last level is written anew, some tables at a time, once. */
	start();
	flush("a@1 -b@2 c@3 d@4 -e@5 f@6");
	push_down(6);
	flush("g@7 h@8 -i@9");
	push_down(6);
	number = lsm_writer.next_number;
	down = lsm_down_begin();
	assert_int_equal(down_steps(&down, false), 1);
	assert_string_equal(contents(), "6: a@1 c@3 d@4 f@6 g@7 h@8");
	assert_int_equal(published->tables[6][0]->info.number, number);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewrite_in_level0),
		cmocka_unit_test(test_rewrite_in_a_level),
		cmocka_unit_test(test_deleted_space_comes_back),
		cmocka_unit_test(test_moved_together),
		cmocka_unit_test(test_session_slots_apart),
		cmocka_unit_test(test_down),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
