/*
 * test_pick.c - stories of what is compacted next. Tables are made up: a letter range and a size in MB.
 */
#include "lsm_test.h"

static Table tables[64];
static Table *lists[LSM_LEVELS][64];
static Version version;
static int ntables;

static const PickConfig settings = { .l0_trigger = 4, .level_ratio = 10, .level_base = 100,
	                             .table_size = 10, .l0_bytes = 200 };

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
	return picked(pick_compaction(&settings, &version, 0));
}

/*
 * "6", or "5:20 6:201": the base level and the targets from there on; that of the last is left out if it is
 * alone.
 */
static const char *
plan(void)
{
	static char text[128];
	size_t len = 0;
	LevelPlan p;

	pick_levels(&settings, &version, &p);
	for (uint32_t i = 0; i < LSM_LEVELS; i++)
		assert_true(i < p.base ? p.target[i] == 0 : true);
	for (uint32_t i = p.base; i < LSM_LEVELS; i++)
		len += (size_t) snprintf(text + len, sizeof text - len, "%s%u:%.0f", len ? " " : "", i,
		                        p.target[i]);
	return text;
}

static void
test_nothing(void **state)
{
	(void) state;
	empty();
	assert_string_equal(next(), "");
	assert_string_equal(picked(pick_all(&version)), "");
	/* Everywhere one below its trigger. The last level is never a source, however large. */
	for (int i = 0; i < 3; i++)
		have(0, "az", 25);
	have(4, "az", 99);
	have(5, "az", 999);
	have(6, "az", 10000);
	assert_string_equal(next(), "");
}

/* ---- level sizes */
static void
test_levels_follow_the_last(void **state)
{
	(void) state;
	/* A small database has one level. */
	empty();
	assert_string_equal(plan(), "6:0");
	have(6, "az", 200);
	assert_string_equal(plan(), "6:200");
	/* Twice what level 0 brings, and more: one above it. */
	version.bytes[6] = 201;
	assert_string_equal(plan(), "5:20 6:201");
	version.bytes[6] = 2000;
	assert_string_equal(plan(), "5:200 6:2000");
	version.bytes[6] = 2001;
	assert_string_equal(plan(), "4:20 5:200 6:2001");
	/* As many as there are; the first one has to take what it gets then. */
	version.bytes[6] = UINT64_C(20000000);
	assert_string_equal(plan(), "1:200 2:2000 3:20000 4:200000 5:2000000 6:20000000");
	version.bytes[6] = UINT64_C(200000000);
	assert_string_equal(plan(), "1:2000 2:20000 3:200000 4:2000000 5:20000000 6:200000000");
	/* It is the largest level that counts, if the last is not (yet). */
	version.bytes[6] = 10;
	version.bytes[5] = 300;
	assert_string_equal(plan(), "5:30 6:300");
}

static void
test_level0_goes_to_the_base(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "bk", 10);
	have(6, "aa", 10);
	have(6, "be", 10);
	have(6, "gh", 10);
	have(6, "kk", 10);
	have(6, "mz", 10);
	/* All four, with all of the level that they overlap: not a, not m to z. */
	assert_string_equal(next(), "0:0-3 6:1-3 >6");
	/* A fifth, elsewhere: the whole range counts, since older ones must not stay above newer ones. */
	have(0, "yz", 1);
	assert_string_equal(next(), "0:0-4 6:1-4 >6");
	/* The database has grown: level 5, empty as yet. */
	have(6, "~~", 200);
	assert_string_equal(next(), "0:3-4 >5 move");
	have(5, "cc", 10);
	have(5, "zz", 10);
	assert_string_equal(next(), "0:0-4 5:0-1 >5");
}

/*
 * A database that was large, or was made when level 1 was filled first: what lies above the base goes down
 * first.
 */
static void
test_levels_above_the_base_are_emptied(void **state)
{
	(void) state;
	empty();
	have(3, "ac", 10);
	have(3, "gh", 10);
	have(6, "bd", 100);
	/* Overlaps the last level: merged. The other one is moved, past the empty levels, and first. */
	assert_string_equal(next(), "3:1-1 >6 move");
	version.tables[3][1]->smallest = slice_str("d");
	assert_string_equal(next(), "3:0-0 6:0-0 >6");
	/* Level 0 never jumps over what is older. */
	for (int i = 0; i < 12; i++)
		have(0, "az", 1);
	assert_string_equal(next(), "0:0-11 3:0-1 >3");
	/* Several in a row are moved together. */
	empty();
	have(1, "ab", 10);
	have(1, "cd", 10);
	have(1, "ef", 10);
	assert_string_equal(next(), "1:0-2 >6 move");
	have(4, "ee", 10);
	assert_string_equal(next(), "1:0-1 >4 move");
}

static void
test_level0_in_parts(void **state)
{
	(void) state;
	/* Far behind: the oldest ones, as many as are about 200 bytes; the newer ones stay above them. */
	empty();
	for (int i = 0; i < 12; i++)
		have(0, "az", 25);
	have(6, "az", 100);
	assert_string_equal(next(), "0:4-11 6:0-0 >6");
	/* Four at least, however large. */
	empty();
	for (int i = 0; i < 6; i++)
		have(0, "az", 100);
	have(6, "az", 100);
	assert_string_equal(next(), "0:2-5 6:0-0 >6");
}

/* A little against much: a merge would write mostly what is there already. */
static void
test_level0_waits_to_be_worth_it(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 10);
	have(6, "az", 82);
	assert_string_equal(next(), "");
	have(0, "az", 1);
	assert_string_equal(next(), "0:0-4 6:0-0 >6");
	version.bytes[6] = 100;
	assert_string_equal(next(), "");
	/* But not longer than until there are half as many again. */
	have(0, "az", 1);
	assert_string_equal(next(), "0:0-5 6:0-0 >6");
	/* To move costs nothing. */
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 1);
	have(6, "~~", 200);
	assert_string_equal(next(), "0:3-3 >6 move");
}

/* ---- moving */
static void
test_ascending_load_is_never_rewritten(void **state)
{
	(void) state;
	/* Nothing overlaps: all of them sink at once. */
	empty();
	have(0, "gh", 25);
	have(0, "ef", 25);
	have(0, "cd", 25);
	have(0, "ab", 25);
	assert_string_equal(next(), "0:0-3 >6 move");
	/* A newer one shares keys with an older one: it has to wait. */
	version.tables[0][1]->smallest = slice_str("d");
	assert_string_equal(next(), "0:2-3 >6 move");
	/* The oldest would land on a key below: newer ones that share none with it pass it. */
	have(6, "bb", 1);
	assert_string_equal(next(), "0:2-2 >6 move");
	version.tables[0][2]->smallest = slice_str("b");
	assert_string_equal(next(), "0:0-0 >6 move");
	/* Until none can: merged after all. */
	version.tables[0][0]->smallest = slice_str("b");
	assert_string_equal(next(), "0:0-3 6:0-0 >6");
}

/* Each flush of a load also has session slots, in a table of their own. */
static void
test_session_slots_hold_up_no_load(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 4; i++) {
		have(0, (const char *[]){ "gh", "ef", "cd", "ab" }[i], 25);
		have(0, "\0\0", 1);
	}
	assert_int_equal(lsm_level0_depth(&version), 4);
	assert_string_equal(next(), "0:6-7 >6 move");
	/* Slots are there: those wait, the load passes them. */
	have(6, "\0\0", 1);
	assert_string_equal(next(), "0:6-6 >6 move");
	version.tables[0][6]->smallest = version.tables[0][6]->largest = slice_str("\0");
	/* A table of both, of an earlier version, counts in both. */
	version.tables[0][7]->largest = slice_str("a");
	assert_int_equal(lsm_level0_depth(&version), 5);
}

static void
test_moved_only_if_cheap_later(void **state)
{
	(void) state;
	/*
	 * Nothing in level 5, but more than ten tables' worth below it: merging it later would cost too
	 * much.
	 */
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 25);
	have(6, "az", 101);
	have(6, "~~", 200);
	assert_string_equal(next(), "0:0-3 >5");
	version.tables[6][0]->info.bytes = 100;
	assert_string_equal(next(), "0:3-3 >5 move");
}

static void
test_tombstones_are_not_moved_to_the_bottom(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 25);
	version.tables[0][3]->info.entries = 160;
	version.tables[0][3]->info.tombstones = 10;
	assert_string_equal(next(), "0:3-3 >6 move");
	/* They hide nothing there and would stay for good: rewritten. */
	version.tables[0][3]->info.tombstones = 11;
	assert_string_equal(next(), "0:0-3 >6");
	/* Above older data they may be moved. */
	have(6, "zz", 50);
	have(6, "~~", 200);
	assert_string_equal(next(), "0:3-3 >5 move");
}

/* ---- deeper levels */
static void
test_cheapest_table_first(void **state)
{
	(void) state;
	empty();
	have(5, "ab", 50);
	have(5, "cd", 50);
	have(6, "aa", 500);
	have(6, "bb", 400);
	have(6, "cc", 90);
	/* At its target: the table that rewrites least below for its size goes. */
	version.bytes[6] = 1000;
	assert_string_equal(next(), "5:1-1 6:2-2 >6");
	version.bytes[6] = 1001;
	assert_string_equal(next(), "");
	/* Cost counts for each byte brought down: 900/500 is less than 90/40. */
	version.tables[5][0]->info.bytes = 500;
	version.tables[5][1]->info.bytes = 40;
	assert_string_equal(next(), "5:0-0 6:0-1 >6");
}

/* Space that was deleted comes back somewhat earlier. */
static void
test_tombstones_weigh_more(void **state)
{
	(void) state;
	empty();
	have(5, "ab", 40);
	have(5, "cd", 40);
	have(6, "az", 990);
	version.tables[6][0]->info.entries = 107; /* 1070 bytes, 107 entries that are no tombstones */
	version.tables[5][1]->info.entries = 1;
	version.tables[5][1]->info.tombstones = 1;
	assert_string_equal(next(), "");
	/*
	 * Two tombstones will free about 20 bytes: 80 + 20 of 99. Of the two tables the one with them goes.
	 */
	version.tables[5][1]->info.entries = version.tables[5][1]->info.tombstones = 2;
	assert_string_equal(next(), "5:1-1 6:0-0 >6");
}

static void
test_several_are_moved(void **state)
{
	(void) state;
	empty();
	have(5, "aa", 50);
	have(5, "bb", 50);
	have(5, "cc", 50);
	have(5, "dd", 50);
	have(5, "ee", 50);
	have(6, "aa", 500);
	have(6, "gg", 500);
	/* 150 too much: three; what is neither in the way nor too much stays. */
	assert_string_equal(next(), "5:1-3 >6 move");
	version.tables[6][1]->smallest = slice_str("d");
	version.tables[6][1]->largest = slice_str("z");
	assert_string_equal(next(), "5:1-2 >6 move");
}

/* ---- order */
static void
test_level0_first(void **state)
{
	(void) state;
	/*
	 * Full, while the level below is over its target: level 0 all the same, reads suffer from that
	 * most.
	 */
	empty();
	for (int i = 0; i < 4; i++)
		have(0, "az", 25);
	have(5, "az", 199);
	have(6, "az", 1000);
	assert_string_equal(next(), "0:0-3 5:0-0 >5");
	/* Twice its target: to merge level 0 with so much is too dear. */
	version.bytes[5] = version.tables[5][0]->info.bytes = 200;
	assert_string_equal(next(), "5:0-0 6:0-0 >6");
	/* Unless level 0 is the one that is further behind. */
	for (int i = 0; i < 5; i++)
		have(0, "az", 1);
	assert_string_equal(next(), "0:0-8 5:0-0 >5");
	/* Of deeper ones that which is furthest over its target. */
	empty();
	have(4, "az", 30);
	have(5, "az", 250);
	have(6, "az", 2500);
	assert_string_equal(next(), "4:0-0 5:0-0 >5");
	version.bytes[5] = version.tables[5][0]->info.bytes = 301;
	assert_string_equal(next(), "5:0-0 6:0-0 >6");
}

/* A table that holds something dead is written anew where it is, alone, when nothing else is due. */
static void
test_rewrite_in_place(void **state)
{
	(void) state;
	empty();
	for (int i = 0; i < 3; i++)
		have(0, "az", 25);
	have(5, "ab", 50);
	have(5, "cd", 49);
	have(6, "ad", 1000);
	version.tables[5][1]->rewrite = true;
	assert_string_equal(next(), "5:1-1 >5");
	version.tables[6][0]->rewrite = true;
	assert_string_equal(next(), "5:1-1 >5");
	version.tables[5][1]->rewrite = false;
	assert_string_equal(next(), "6:0-0 >6");
	/* Also one of level 0 in the middle. */
	version.tables[0][1]->rewrite = true;
	assert_string_equal(next(), "0:1-1 >0");
	/* Anything else first. */
	have(5, "ee", 1);
	assert_string_equal(next(), "5:2-2 >6 move");
	have(0, "az", 1);
	assert_string_equal(next(), "0:0-3 5:0-2 >5");
}

/* Where the first finds no room: the others, then those with tombstones (test_apart.c has it done). */
static void
test_rewrite_of_others(void **state)
{
	(void) state;
	empty();
	have(5, "ab", 50);
	have(5, "cd", 49);
	have(6, "ac", 1000);
	have(6, "dd", 10);
	version.tables[5][1]->rewrite = version.tables[6][0]->rewrite = true;
	version.tables[6][0]->rewrite_ranges = true;
	version.tables[6][1]->info.entries = version.tables[6][1]->info.tombstones = 1;
	assert_string_equal(picked(pick_idle(&version, 2000, 0)), "5:1-1 >5");
	assert_string_equal(picked(pick_idle(&version, 2000, 1)), "6:0-0 >6");
	assert_string_equal(picked(pick_idle(&version, 2000, 2)), "6:1-1 >6");
	assert_string_equal(picked(pick_idle(&version, 2000, 3)), "");
	assert_true(pick_idle(&version, 2000, 0).for_values);
	assert_false(pick_idle(&version, 2000, 1).for_values);
	assert_false(pick_idle(&version, 2000, 2).for_values);
	assert_int_equal(pick_idle(&version, 2000, 2).idle, 3);
}

static void
test_all(void **state)
{
	(void) state;
	empty();
	have(0, "az", 1);
	have(0, "az", 1);
	have(2, "aa", 1);
	have(2, "bb", 1);
	assert_string_equal(picked(pick_all(&version)), "0:0-1 2:0-1 >6");
	empty();
	have(6, "az", UINT64_MAX / 2);
	assert_string_equal(picked(pick_all(&version)), "6:0-0 >6");
}

/* What was deleted while somebody could still see it is let go of when nobody can. */
static void
test_tombstones_in_the_last_level(void **state)
{
	(void) state;
	empty();
	have(6, "ab", 50);
	have(6, "cd", 50);
	have(5, "ab", 1);
	version.tables[6][1]->info.entries = 160;
	version.tables[6][1]->info.tombstones = 11;
	version.tables[6][1]->info.version_max = 500;
	version.tables[5][0]->info.entries = version.tables[5][0]->info.tombstones = 1;
	version.bytes[6] = 1000;
	assert_string_equal(picked(pick_compaction(&settings, &version, 500)), "");
	assert_string_equal(picked(pick_compaction(&settings, &version, 501)), "6:1-1 >6");
	/* Too few to be worth it. */
	version.tables[6][1]->info.tombstones = 10;
	assert_string_equal(picked(pick_compaction(&settings, &version, 501)), "");
	/* Anything else first. */
	version.tables[6][1]->info.tombstones = 160;
	version.tables[6][0]->rewrite = true;
	assert_string_equal(picked(pick_compaction(&settings, &version, 501)), "6:0-0 >6");
}

/* On request: level 0, then what lies above the last level, then that itself, of what was there. */
static void
test_down(void **state)
{
	const LsmDown down = { .flushed = 995, .number = 100 };

	(void) state;
	empty();
	for (int i = 0; i < 8; i++)
		have(0, "az", 10);
	have(5, "bb", 10);
	have(5, "cc", 10);
	have(6, "aa", 25);
	have(6, "bb", 10);
	have(6, "dd", 10);
	have(6, "~~", 210);
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "0:0-7 5:0-1 >5");
	/* Those of level 0 are newer than what it is about: left where they are. */
	version.ntables[0] = 5;
	assert_int_equal(version.tables[0][4]->info.version_min, 995);
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "5:0-0 6:1-1 >6");
	version.tables[5][0]->info.version_min = 995;
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "5:1-1 >6 move");
	version.tables[5][1]->info.version_min = 996;
	/* Four tables' worth at once, one at least; those made since are left out. */
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "6:0-1 >6");
	version.tables[6][0]->info.number = version.tables[6][1]->info.number = 100;
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "6:2-2 >6");
	version.tables[6][2]->info.number = 101;
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "6:3-3 >6");
	version.tables[6][3]->info.number = 102;
	assert_string_equal(picked(pick_down(&settings, &version, &down)), "");
}

/* ---- where outputs end */
static void
test_outputs_end_where_the_next_level_does(void **state)
{
	OutputCut o;

	(void) state;
	empty();
	have(5, "ac", 30);
	have(5, "eg", 30);
	have(6, "az", 300);
	/* Below level 3 it is level 5 that counts. A table is 10. */
	o = output_cut(&settings, &version, 3);
	assert_false(output_ends(&o, slice_str("a"), 0));
	assert_false(output_ends(&o, slice_str("b"), 9));
	assert_true(output_ends(&o, slice_str("c"), 10));
	/* Where a table ends, if half full. */
	assert_false(output_ends(&o, slice_str("c1"), 4));
	assert_false(output_ends(&o, slice_str("d"), 5));
	assert_false(output_ends(&o, slice_str("e"), 6));
	assert_true(output_ends(&o, slice_str("h"), 6));
	/* Nothing to end yet, and below the last level there is none. */
	o = output_cut(&settings, &version, 3);
	assert_false(output_ends(&o, slice_str("z"), 0));
	assert_false(output_ends(&o, slice_str("z"), 9));
	o = output_cut(&settings, &version, 6);
	assert_false(output_ends(&o, slice_str("z"), 9));
	assert_true(output_ends(&o, slice_str("z"), 10));
}

/* No table holds keys of both keyspaces. */
static void
test_outputs_end_where_users_keys_begin(void **state)
{
	OutputCut o;

	(void) state;
	empty();
	o = output_cut(&settings, &version, 6);
	assert_false(output_ends(&o, slice_of("\0a", 2), 0));
	assert_false(output_ends(&o, slice_of("\0b", 2), 1));
	assert_true(output_ends(&o, slice_str("a"), 2));
	assert_false(output_ends(&o, slice_str("b"), 1));
}

static void
test_outputs_overlap_little(void **state)
{
	OutputCut o;

	(void) state;
	empty();
	have(6, "aa", 50);
	have(6, "bb", 50);
	have(6, "cc", 1);
	have(6, "dd", 100);
	o = output_cut(&settings, &version, 5);
	assert_false(output_ends(&o, slice_str("a"), 1));
	assert_false(output_ends(&o, slice_str("c"), 1)); /* past 100 bytes: ten tables' worth */
	assert_true(output_ends(&o, slice_str("d"), 1));  /* past 101 */
	assert_false(output_ends(&o, slice_str("e"), 1)); /* counted anew */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_levels_follow_the_last),
		cmocka_unit_test(test_level0_goes_to_the_base),
		cmocka_unit_test(test_levels_above_the_base_are_emptied),
		cmocka_unit_test(test_level0_in_parts),
		cmocka_unit_test(test_level0_waits_to_be_worth_it),
		cmocka_unit_test(test_ascending_load_is_never_rewritten),
		cmocka_unit_test(test_session_slots_hold_up_no_load),
		cmocka_unit_test(test_moved_only_if_cheap_later),
		cmocka_unit_test(test_tombstones_are_not_moved_to_the_bottom),
		cmocka_unit_test(test_cheapest_table_first),
		cmocka_unit_test(test_tombstones_weigh_more),
		cmocka_unit_test(test_several_are_moved),
		cmocka_unit_test(test_level0_first),
		cmocka_unit_test(test_rewrite_in_place),
		cmocka_unit_test(test_rewrite_of_others),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_tombstones_in_the_last_level),
		cmocka_unit_test(test_down),
		cmocka_unit_test(test_outputs_end_where_the_next_level_does),
		cmocka_unit_test(test_outputs_overlap_little),
		cmocka_unit_test(test_outputs_end_where_users_keys_begin),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
