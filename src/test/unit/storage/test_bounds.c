/*
 * test_bounds.c - the engine at bounds that nobody meets by chance: as many memtables as there may be, a log as far
 * ahead of the tables as it may be, as many keys as one walk may look at.
 */
#include "common/config.h"

#define MEMTABLES_SETTING 16 /* bound of memtable_count */

static int many_memtables; /* 0: as many as the setting says */

static void
settings(void)
{
	config_init();
	if (many_memtables > 0)
		config.memtable_count = many_memtables;
}

#define config_init() settings() /* prepare_engine() begins with it */
#include "engine_test.h"

static void
put(uint32_t n)
{
	uint8_t key[5];

	write_op(&(Op){ .kind = OP_PUT, .key = number_key(n, key), .value = slice_str("value") });
}

static int
frozen(void)
{
	return atomic_load(&kvs->current)->nfrozen;
}

/* Keys [0, n) are there, one by one and in a walk. */
static void
check_keys(uint32_t n)
{
	static const uint8_t first = KEYSPACE_USER;
	uint8_t key[5];
	Snapshot s;
	Scan *sc;
	Entry e;

	kvstore_begin_read(&s, 0);
	MUST(kvstore_scan_open(&s, slice_of(&first, 1), slice_of(NULL, 0), true, false, true, &sc));
	for (uint32_t i = 0; i < n; i++) {
		MUST(kvstore_scan_next(sc, &e));
		CHECK(slice_eq(e.key, number_key(i, key)));
		MUST(kvstore_get(&s, number_key(i, key), &e));
		CHECK(slice_eq(e.value, slice_str("value")));
	}
	CHECK(kvstore_scan_next(sc, &e) == ST_NOT_FOUND);
	kvstore_scan_close(sc);
	kvstore_end_read();
}

/* Each memtable has a key, and nobody writes them out. */
static void
fill_all(void)
{
	uint32_t n = 0;

	start_engine();
	CHECK(kvs->nmem == many_memtables);
	while (frozen() < many_memtables - 1) {
		int before = frozen();

		put(n++);
		ask_for_flush();
		CHECK(frozen() == before + 1);
		check_keys(n);
	}
	put(n++);
	ask_for_flush(); /* there is none left to go on with */
	CHECK(frozen() == many_memtables - 1 && n == (uint32_t) many_memtables);
	check_keys(n);
	run_compactor();
	ask_for_flush();
	run_compactor();
	CHECK(frozen() == 0);
	check_keys(n);
}

static void
as_many_memtables_as_there_may_be(void **state)
{
	(void) state;
	for (many_memtables = MEMTABLES_SETTING - 1; many_memtables <= MEMTABLES_SETTING; many_memtables++) {
		enter_new_dir();
		run_child(fill_all);
		leave_dir();
	}
	many_memtables = 0;
}

/* Nothing comes, so it is only looked at how far the log is: it is said to be so far. */
static void
log_ahead(void)
{
	uint64_t bound, flushed;
	bool moved;

	start_engine();
	bound = (uint64_t) config.memtable_size * LOG_AHEAD_MEMTABLES;
	put(0);
	flushed = atomic_load(&kvs->flushed);
	for (uint64_t ahead = bound - 1; ahead <= bound + 1; ahead++) {
		atomic_store(&kvs->flushed, kvstore_applied() - ahead);
		CHECK(apply_committed(&moved));
		CHECK(frozen() == (ahead > bound));
	}
	/* One at a time: the worker has not written that one out. */
	put(1);
	CHECK(apply_committed(&moved) && frozen() == 1);
	atomic_store(&kvs->flushed, flushed);
	run_compactor();
	CHECK(frozen() == 0);
	check_keys(2);
}

static void
a_log_far_ahead_of_the_tables_is_flushed(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(log_ahead);
	leave_dir();
}

/* ---- a walk */
static void
put_many(uint32_t n)
{
	Buf body = { 0 };

	for (uint32_t i = 0; i < n;) {
		uint32_t m = n - i < KV_BATCH_OPS_MAX ? n - i : KV_BATCH_OPS_MAX;
		uint64_t version;
		uint8_t key[5];

		buf_clear(&body);
		for (uint32_t end = i + m; i < end; i++)
			MUST(op_encode(&body, &(Op){ .kind = OP_PUT, .key = number_key(i, key), .value = slice_str("v") }));
		MUST(kvstore_write(wal_generation(), &body, m, ACK_QUORUM, 1000, false, &version));
	}
	buf_free(&body);
}

static void
walk(uint32_t keys, bool reverse)
{
	uint32_t n = 0;
	uint8_t from[5], to[5];
	Snapshot s;
	Status st;
	Scan *sc;
	Entry e;

	kvstore_begin_read(&s, 0);
	MUST(kvstore_scan_open(&s, number_key(0, from), number_key(keys, to), false, reverse, true, &sc));
	scan_bound(sc, SCAN_KEYS_MAX, UINT32_MAX); /* as it is opened with, but for the time */
	while ((st = kvstore_scan_next(sc, &e)) == ST_OK)
		n++;
	CHECK(n == (keys < SCAN_KEYS_MAX ? keys : SCAN_KEYS_MAX));
	CHECK(st == (keys <= SCAN_KEYS_MAX ? ST_NOT_FOUND : ST_BUSY));
	kvstore_scan_close(sc);
	kvstore_end_read();
}

static void
walks(void)
{
	start_engine();
	put_many(SCAN_KEYS_MAX + 1);
	for (uint32_t keys = SCAN_KEYS_MAX - 1; keys <= SCAN_KEYS_MAX + 1; keys++) {
		walk(keys, false);
		walk(keys, true);
	}
}

static void
one_walk_looks_at_so_many_keys(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(walks);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_many_memtables_as_there_may_be),
		cmocka_unit_test(a_log_far_ahead_of_the_tables_is_flushed),
		cmocka_unit_test(one_walk_looks_at_so_many_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
