/*
 * test_pick.c - stories of what is compacted next. Tables are made up: a letter range and a size in MB.
 */
#include "lsm_test.h"

static Table tables[64];
static Table *lists[LSM_LEVELS][64];
static Version version;
static int ntables;

static const PickConfig settings = { .l0_trigger = 4, .level_ratio = 10, .level_base = 100,
	                             .table_size = 10 };

static void
empty(void)
{
	ntables = 0;
	memset(&version, 0, sizeof version);
	for (int i = 0; i < LSM_LEVELS; i++)
		version.tables[i] = lists[i];
}

/* Levels are given in order; level 0 newest first. "ac" = from a to c. */
static void
have(int level, const char *range, uint64_t bytes)
{
	Table *t = &tables[ntables++];

	assert_true(ntables <= 64);
	memset(t, 0, sizeof *t);
	t->info.number = (uint64_t) ntables;
	t->info.bytes = bytes;
	t->info.version_min = t->info.version_max = 1000 - (uint64_t) ntables;
	t->smallest = slice_of(range, 1);
	t->largest = slice_of(range + 1, 1);
	lists[level][version.ntables[level]++] = t;
	version.bytes[level] += bytes;
}

/* "0:0-3 1:2-2 >1" = inputs first-last of each level, output level; "move" if trivial; "" nothing. */
static const char *
picked(Pick p)
{
	static char text[128];
	size_t len = 0;

	text[0] = 0;
	if (!p.any)
		return text;
	for (int i = 0; i < LSM_LEVELS; i++)
		if (p.n[i] > 0)
			len += (size_t) snprintf(text + len, sizeof text - len, "%d:%u-%u ", i, p.first[i],
			                        p.first[i] + p.n[i] - 1);
	snprintf(text + len, sizeof text - len, ">%u%s", p.out_level, p.trivial ? " move" : "");
	return text;
}

static const char *
next(void)
{
	ok(version_check(&version));
	return picked(pick_compaction(&settings, &version));
}

static void
test_nothing(void **state)
{
	(void) state;
	empty();
	assert_string_equal(next(), "");
	assert_string_equal(picked(pick_all(&settings, &version)), "");
	/* Everywhere one below its trigger. */
	for (int i = 0; i < 3; i++)
		have(0, "az", 25);
	have(1, "az", 99);
	have(2, "az", 999);
	have(6, "az", 1u << 30);
	assert_string_equal(next(), "");
}

static void
test_level0_by_count(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "bk", 1);
	have(1, "aa", 10);
	have(1, "be", 10);
	have(1, "gh", 10);
	have(1, "kk", 10);
	have(1, "mz", 10);
	/* All four, with all of level 1 that they overlap: not a, not m to z. */
	assert_string_equal(next(), "0:0-3 1:1-3 >1");
	have(0, "yz", 1);
	/* A fifth, elsewhere: the whole range counts, since older ones must not stay above newer ones. */
	assert_string_equal(next(), "0:0-4 1:1-4 >1");
}

static void
test_oldest_of_level0_moves(void **state)
{
	(void) state;
	/* An ascending load: nothing overlaps, tables sink without being rewritten. */
	empty();
	have(0, "gh", 25);
	have(0, "ef", 25);
	have(0, "cd", 25);
	have(0, "ab", 25);
	assert_string_equal(next(), "0:3-3 >1 move");
	/* It would land on a key in level 1: merged after all. */
	have(1, "bb", 1);
	assert_string_equal(next(), "0:0-3 1:0-0 >1");
	/*
	 * Nothing in level 1, but a hundred tables' worth below it in level 2: merging it later would cost too
	 * much.
	 */
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 25);
	have(2, "az", 101);
	assert_string_equal(next(), "0:0-3 >1");
	version.tables[2][0]->info.bytes = 100;
	assert_string_equal(next(), "0:3-3 >1 move");
}

static void
test_level_by_size(void **state)
{
	(void) state;
	empty();
	have(1, "ab", 50);
	have(1, "cd", 50);
	have(2, "aa", 500);
	have(2, "bb", 400);
	have(2, "cc", 90);
	/* At its target: the table that rewrites least below for its size goes. */
	assert_string_equal(next(), "1:1-1 2:2-2 >2");
	/* Cost counts for each byte brought down: 900/500 is less than 90/40. */
	empty();
	have(1, "ab", 500);
	have(1, "cd", 40);
	have(2, "aa", 500);
	have(2, "bb", 400);
	have(2, "cc", 90);
	assert_string_equal(next(), "1:0-0 2:0-1 >2");
}

static void
test_level_moves(void **state)
{
	(void) state;
	empty();
	have(1, "ab", 50);
	have(1, "cd", 60);
	have(2, "bb", 10);
	assert_string_equal(next(), "1:1-1 >2 move");
	have(3, "cd", 101);
	assert_string_equal(next(), "1:1-1 >2");
}

static void
test_most_urgent_first(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 5; i++)
		have(0, "az", 1);
	have(1, "az", 140);
	have(2, "az", 1200);
	/* Scores 1.25, 1.4, 1.2. */
	assert_string_equal(next(), "1:0-0 2:0-0 >2");
	have(0, "az", 1);
	/* 1.5: level 0 now. */
	assert_string_equal(next(), "0:0-5 1:0-0 >1");
	/* The last level has nowhere to go. */
	empty();
	have(6, "az", UINT64_MAX / 2);
	assert_string_equal(next(), "");
	have(5, "az", 1000 * 1000);
	assert_string_equal(next(), "5:0-0 6:0-0 >6");
}

/* A table that holds something dead is written anew where it is, alone, when nothing else is due. */
static void
test_rewrite_in_place(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 3; i++)
		have(0, "az", 1);
	have(1, "ab", 50);
	have(1, "cd", 49);
	have(6, "az", 1u << 30);
	version.tables[1][1]->rewrite = true;
	assert_string_equal(next(), "1:1-1 >1");
	version.tables[6][0]->rewrite = true;
	assert_string_equal(next(), "1:1-1 >1");
	version.tables[1][1]->rewrite = false;
	assert_string_equal(next(), "6:0-0 >6");
	/* Also one of level 0 in the middle. */
	version.tables[0][1]->rewrite = true;
	assert_string_equal(next(), "0:1-1 >0");
	/* Anything else first. */
	have(1, "ee", 1);
	assert_string_equal(next(), "1:0-0 >2 move");
	have(0, "az", 1);
	have(0, "az", 1);
	assert_string_equal(next(), "0:0-4 1:0-2 >1");
}

static void
test_all(void **state)
{
	(void) state;
	/* Into the deepest level that has tables ... */
	empty();
	have(0, "az", 1);
	have(0, "az", 1);
	have(2, "aa", 1);
	have(2, "bb", 1);
	assert_string_equal(picked(pick_all(&settings, &version)), "0:0-1 2:0-1 >2");
	/* ... from level 0 alone into level 1 ... */
	empty();
	have(0, "az", 100);
	assert_string_equal(picked(pick_all(&settings, &version)), "0:0-0 >1");
	/* ... or as deep as its size asks for. */
	have(0, "az", 1);
	assert_string_equal(picked(pick_all(&settings, &version)), "0:0-1 >2");
	empty();
	have(6, "az", UINT64_MAX / 2);
	assert_string_equal(picked(pick_all(&settings, &version)), "6:0-0 >6");
}

/* What the worker asks: 1.0 exactly where a compaction is picked. */
static void
test_pressure(void **state)
{
	(void) state;
	config_init();
	empty();
	assert_true(lsm_pressure(&version) == 0);
	for (int64_t i = 0; i < config.l0_trigger; i++) {
		PickConfig c = pick_config();

		assert_true(lsm_pressure(&version) < 1.0);
		assert_false(pick_compaction(&c, &version).any);
		have(0, "az", 1);
	}
	assert_true(lsm_pressure(&version) == 1.0);
	empty();
	have(1, "az", (uint64_t) (config.memtable_size * config.l0_trigger) - 1);
	assert_true(lsm_pressure(&version) < 1.0);
	empty();
	have(1, "az", (uint64_t) (config.memtable_size * config.l0_trigger));
	assert_true(lsm_pressure(&version) == 1.0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_level0_by_count),
		cmocka_unit_test(test_oldest_of_level0_moves),
		cmocka_unit_test(test_level_by_size),
		cmocka_unit_test(test_level_moves),
		cmocka_unit_test(test_most_urgent_first),
		cmocka_unit_test(test_rewrite_in_place),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_pressure),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
