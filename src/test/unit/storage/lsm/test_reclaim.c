/*
 * test_reclaim.c - space from a full disk: what shallower levels hide is left out of a table, nothing else changes.
 */
#include "lsm_test.h"

#define OLD_KEYS 2000
#define VALUE_BYTES 1000

/* Keys 0 .. n - 1 whose number is `rest` modulo `step`, versions from `first` on. */
static void
flush(int n, int step, int rest, uint64_t first, bool deletes)
{
	static char keys[OLD_KEYS][8], value[VALUE_BYTES];
	Entry *e = calloc((size_t) n, sizeof *e);
	LsmState state = { first + (uint64_t) n, 1, 1 };
	Version *v;
	Iter *it;
	int m = 0;

	assert_non_null(e);
	memset(value, 'x', sizeof value);
	for (int i = rest; i < n; i += step, m++) {
		snprintf(keys[i], sizeof keys[i], "k%05d", i);
		e[m] = (Entry){ .key = slice_of(keys[i], 6), .version = first + (uint64_t) i,
			.kind = deletes ? ENTRY_DELETE : ENTRY_PUT };
		if (!deletes)
			e[m].value = slice_of(value, sizeof value);
	}
	it = array_iter(e, m);
	ok(lsm_flush(it, &state, 0, &v));
	iter_close(it);
	free(e);
	publish(v);
}

/* All keys in the last level, of each second one a tombstone above. */
static void
start(void)
{
	LsmCompactOptions opt = { .oldest = 0 };
	Version *v = NULL;

	fresh_directory();
	fresh_memory(TEST_HEAP);
	config_init();
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	flush(OLD_KEYS, 1, 0, 1, false);
	ok(lsm_compact_all(&opt, &v));
	if (v != NULL)
		publish(v);
	assert_int_equal(published->ntables[0], 0);
	flush(OLD_KEYS, 2, 0, 10000, true);
}

/* One round; how many tables changed. */
static int
reclaim(uint64_t oldest, uint64_t room)
{
	LsmCompactOptions opt = { .oldest = oldest, .room = room };
	int changed = 0;
	bool more;

	do {
		Version *v;

		ok(lsm_reclaim(&opt, &v, &more));
		if (v != NULL) {
			publish(v);
			changed++;
		}
	} while (more);
	return changed;
}

static uint64_t
entries_in(int level)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < published->ntables[level]; i++)
		n += published->tables[level][i]->info.entries;
	return n;
}

/* The newest version < snapshot, 0: none or a tombstone. */
static uint64_t
seen(int key, uint64_t snapshot)
{
	char text[16];
	Entry e;
	Status st;

	snprintf(text, sizeof text, "k%05d", key);
	epoch_pin(0);
	st = lsm_get(published, slice_of(text, 6), snapshot, &e);
	epoch_unpin();
	if (st == ST_NOT_FOUND || (st == ST_OK && e.kind == ENTRY_DELETE))
		return 0;
	ok(st);
	return e.version;
}

static void
expect_view(uint64_t snapshot, bool deleted)
{
	for (int i = 0; i < OLD_KEYS; i += 37)
		assert_int_equal(seen(i, snapshot), deleted && i % 2 == 0 ? 0 : (uint64_t) i + 1);
}

static void
test_hidden_goes(void **state)
{
	uint64_t before;

	(void) state;
	start();
	before = lsm_bytes(published);
	assert_true(reclaim(20000, 1 << 30) > 0);
	assert_int_equal(entries_in(6), OLD_KEYS / 2);
	assert_int_equal(entries_in(0), OLD_KEYS / 2); /* what hides stays where it is */
	assert_true(lsm_bytes(published) < before * 6 / 10);
	expect_view(20000, true);
	assert_int_equal(reclaim(20000, 1 << 30), 0); /* nothing new: the round is over */
	/* And it survives. */
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	expect_view(20000, true);
}

/* A snapshot that is older than the tombstones keeps all; one in between keeps what it sees. */
static void
test_snapshots(void **state)
{
	(void) state;
	start();
	assert_int_equal(reclaim(5000, 1 << 30), 0);
	assert_int_equal(entries_in(6), OLD_KEYS);
	expect_view(5000, false);
	assert_true(reclaim(10000 + OLD_KEYS / 2, 1 << 30) > 0); /* the first half of the tombstones counts */
	assert_int_equal(entries_in(6), OLD_KEYS * 3 / 4);
	expect_view(20000, true);
	for (int i = OLD_KEYS / 2; i < OLD_KEYS; i += 38)
		assert_int_equal(seen(i, 10000 + OLD_KEYS / 2), (uint64_t) i + 1);
	assert_true(reclaim(20000, 1 << 30) > 0); /* later, the rest */
	assert_int_equal(entries_in(6), OLD_KEYS / 2);
}

/* No room for a result: only what leaves none may go. */
static void
test_room(void **state)
{
	(void) state;
	start();
	assert_int_equal(reclaim(20000, 1), 0);
	assert_int_equal(entries_in(6), OLD_KEYS);
	flush(OLD_KEYS, 2, 1, 20000, true); /* now all are deleted */
	assert_true(reclaim(30000, 1) > 0);
	assert_int_equal(entries_in(6), 0);
	assert_int_equal(seen(1, 30000), 0);
	assert_int_equal(seen(2, 30000), 0);
}

static bool
give_up(void *arg)
{
	(void) arg;
	return true;
}

/* The same round: what found no room is looked at again when there is enough, and what was given up in any case. */
static void
test_again(void **state)
{
	LsmCompactOptions opt = { .oldest = 20000, .room = 1 << 30, .between = give_up };
	uint64_t half;
	Version *v;
	bool more;

	(void) state;
	start();
	half = lsm_bytes(published) / 2;
	assert_int_equal(lsm_reclaim(&opt, &v, &more), ST_BUSY);
	assert_int_equal(reclaim(20000, half / 2), 0);
	assert_int_equal(reclaim(20000, half / 2), 0);
	assert_int_equal(reclaim(20000, half + half / 4), 1);
	assert_int_equal(entries_in(6), OLD_KEYS / 2);
}

/* In level 0 the newer tables are what is above. Too little to gain: left alone. */
static void
test_level_0(void **state)
{
	(void) state;
	fresh_directory();
	fresh_memory(TEST_HEAP);
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	flush(OLD_KEYS, 1, 0, 1, false);
	flush(OLD_KEYS, 100, 0, 10000, true);
	assert_int_equal(reclaim(20000, 1 << 30), 0);
	flush(OLD_KEYS, 4, 0, 20000, false);
	assert_int_equal(reclaim(30000, 1 << 30), 2); /* of the tombstones nothing is left */
	assert_int_equal(published->ntables[0], 2);
	assert_int_equal(published->tables[0][1]->info.entries, OLD_KEYS * 3 / 4);
	assert_int_equal(seen(4, 30000), 20004);
	assert_int_equal(seen(5, 30000), 6);
	ok(version_check(published));
}

/* What a compaction may use is asked before it begins. */
static void
test_compaction_without_room(void **state)
{
	LsmCompactOptions opt = { .oldest = 20000, .room = 1000, .between = give_up };
	Version *v;

	(void) state;
	start();
	assert_int_equal(lsm_compact_all(&opt, &v), ST_NO_SPACE);
	opt.room = lsm_bytes(published) - 1;
	assert_int_equal(lsm_compact_all(&opt, &v), ST_NO_SPACE);
	opt.room++;
	assert_int_equal(lsm_compact_all(&opt, &v), ST_BUSY); /* it began */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hidden_goes),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_level_0),
		cmocka_unit_test(test_compaction_without_room),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
