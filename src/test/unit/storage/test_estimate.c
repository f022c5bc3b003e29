/*
 * test_estimate.c - what is told of ranges without reading them, beside what is there.
 *
 * The engine in a forked child: keys of one size, a value of 100 bytes each, tombstones of every tenth. So entries are
 * spread evenly, and an estimate is wrong by the blocks at the range's ends (in tables) and by the sampling (in
 * memtables) alone.
 */
#include "engine_test.h"

#define KEYS 40000
#define KEY_SIZE 13
#define VALUE_SIZE 100
/* Entries of a data block, generously: what a cut may be wrong by. */
#define PER_BLOCK (4096 / (VALUE_SIZE + 2) + 1)

static char value[VALUE_SIZE];

static Slice
key_of(uint32_t n, char buf[KEY_SIZE + 1])
{
	buf[0] = KEYSPACE_USER;
	snprintf(buf + 1, KEY_SIZE, "%012u", n);
	return slice_of(buf, KEY_SIZE);
}

/* Keys [from, to) that are `rest` modulo `of`. */
static void
write_keys(OpKind kind, uint32_t from, uint32_t to, uint32_t of, uint32_t rest)
{
	Buf body = { 0 };
	uint64_t version;
	uint32_t n = 0;

	for (uint32_t i = from; i < to; i++) {
		char key[KEY_SIZE + 1];
		Op op = { .kind = kind, .key = key_of(i, key) };

		if (i % of != rest)
			continue;
		if (kind == OP_PUT)
			op.value = slice_of(value, sizeof value);
		MUST(op_encode(&body, &op));
		n++;
	}
	MUST(kvstore_write(wal_generation(), &body, n, ACK_QUORUM, 1000, kind == OP_DELETE, &version));
	buf_free(&body);
}

static void
flush_all(void)
{
	ask_for_flush();
	run_compactor();
}

static EntrySum
estimate(uint32_t from, uint32_t to, uint32_t *cuts)
{
	char first[KEY_SIZE + 1], last[KEY_SIZE + 1];
	Snapshot s;
	EntrySum sum;

	kvstore_begin_read(&s, 0);
	MUST(kvstore_estimate(key_of(from, first), key_of(to, last), false, &sum, cuts));
	kvstore_end_read();
	return sum;
}

static bool
about(uint64_t got, uint64_t there, double factor, uint64_t slack)
{
	return (double) got <= (double) there * factor + (double) slack &&
	       (double) got >= (double) there / factor - (double) slack;
}

/* Random ranges, each of whose keys has so many entries. */
static void
check_ranges(uint64_t seed, uint32_t versions, double factor)
{
	Prng g;

	prng_seed(&g, seed);
	for (int i = 0; i < 200; i++) {
		uint32_t from = (uint32_t) prng_below(&g, KEYS), to = from + (uint32_t) prng_below(&g, KEYS - from) + 1, cuts;
		EntrySum sum = estimate(from, to, &cuts);
		uint64_t there = (uint64_t) (to - from) * versions;

		if (!about(sum.entries, there, factor, cuts * PER_BLOCK) ||
		    !about(sum.bytes, there * (KEY_SIZE - 1 + VALUE_SIZE), factor, cuts * UINT64_C(4096) + cuts)) {
			fprintf(stderr, "seed %llu: [%u, %u): %llu entries, %llu bytes, %u cuts\n", (unsigned long long) seed, from,
			        to, (unsigned long long) sum.entries, (unsigned long long) sum.bytes, cuts);
			abort();
		}
	}
}

static void
in_memory(void)
{
	uint32_t cuts;
	EntrySum sum;

	start_engine();
	sum = estimate(0, KEYS, &cuts);
	CHECK(sum.entries == 0 && sum.bytes == 0 && cuts == 0);
	write_keys(OP_PUT, 0, KEYS, 1, 0);
	check_ranges(1, 1, 1.5);
	/* few are counted */
	for (uint32_t n = 0; n < 64; n++) {
		sum = estimate(1000, 1000 + n, &cuts);
		CHECK(sum.entries == n && sum.bytes == n * (uint64_t) (KEY_SIZE - 1 + VALUE_SIZE) && sum.disk_bytes == 0);
	}
	sum = estimate(10, 9, &cuts);
	CHECK(sum.entries == 0);
	write_keys(OP_DELETE, 0, KEYS, 10, 3);
	sum = estimate(0, KEYS, &cuts);
	/* about sixty tombstones in the sample */
	CHECK(about(sum.tombstones, KEYS / 10, 3, 0) && about(sum.entries, KEYS + KEYS / 10, 1.5, 0));
}

static void
in_tables(void)
{
	uint32_t cuts, ms;
	EntrySum sum;

	start_engine();
	kvstore_hold(); /* nothing is dropped */
	write_keys(OP_PUT, 0, KEYS, 1, 0);
	flush_all();
	sum = estimate(0, KEYS, &cuts);
	CHECK(sum.entries == KEYS && sum.tombstones == 0 && cuts == 0);
	CHECK(sum.bytes == KEYS * (uint64_t) (KEY_SIZE - 1 + VALUE_SIZE) && sum.disk_bytes > sum.bytes / 2);
	check_ranges(2, 1, 1.02);
	sum = estimate(KEYS / 2, KEYS / 2 + 1, &cuts);
	CHECK(sum.entries <= 2 * PER_BLOCK && cuts >= 1);
	/* another table over the first, and tombstones: all of them count */
	write_keys(OP_PUT, 0, KEYS, 1, 0);
	flush_all();
	check_ranges(3, 2, 1.02);
	write_keys(OP_DELETE, 0, KEYS, 10, 3);
	flush_all();
	sum = estimate(0, KEYS, &cuts);
	CHECK(sum.entries == 2 * KEYS + KEYS / 10 && sum.tombstones == KEYS / 10 && cuts == 0);
	/* merged, only what is there counts */
	kvstore_release();
	for (int i = 0; i < 2; i++) /* the history floor moves on, to what the step before saw */
		MUST(kvstore_walwriter_step(&ms));
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	sum = estimate(0, KEYS, &cuts);
	CHECK(sum.entries == KEYS - KEYS / 10 && sum.tombstones == 0);
}

static void
delete_range(uint32_t from, uint32_t to)
{
	char first[KEY_SIZE + 1], last[KEY_SIZE + 1];

	write_op(&(Op){ .kind = OP_DELETE_RANGE, .key = key_of(from, first), .value = key_of(to, last) });
}

/* Estimate of [from, to) where so many are not deleted. */
static void
check_left(uint32_t from, uint32_t to, uint64_t left, uint32_t most_cuts)
{
	uint32_t cuts;
	EntrySum sum = estimate(from, to, &cuts);

	if (cuts > most_cuts || !about(sum.entries, left, 1.02, cuts * PER_BLOCK) ||
	    !about(sum.bytes, left * (KEY_SIZE - 1 + VALUE_SIZE), 1.02, cuts * UINT64_C(4096) + cuts)) {
		fprintf(stderr, "[%u, %u): %llu entries, %llu bytes, %u cuts\n", from, to, (unsigned long long) sum.entries,
		        (unsigned long long) sum.bytes, cuts);
		abort();
	}
}

static void
with_range_deletions(void)
{
	start_engine();
	kvstore_hold(); /* nothing is dropped */
	write_keys(OP_PUT, 0, KEYS, 1, 0);
	flush_all();
	delete_range(KEYS / 4, KEYS / 2);
	for (int place = 0; place < 2; place++) { /* the range deletion in memory, then beside the tables */
		check_left(0, KEYS, KEYS - KEYS / 4, 2 * (LSM_LEVELS + 1));
		check_left(KEYS / 4 - 100, KEYS / 2 + 100, 200, 4 * (LSM_LEVELS + 1));
		check_left(KEYS / 4, KEYS / 2, 0, 0);
		check_left(KEYS / 4 + 100, KEYS / 2 - 100, 0, 0);
		check_left(0, KEYS / 4, KEYS / 4, 4);
		check_left(KEYS / 2, KEYS, KEYS / 2, 4);
		flush_all();
	}
	/* what is newer is not hidden, and a table that holds some counts as if nothing of it were */
	write_keys(OP_PUT, KEYS / 4, KEYS / 2, 1, 0);
	check_left(0, KEYS / 4, KEYS / 4, 4);
	flush_all();
	check_left(KEYS / 4, KEYS / 2, KEYS / 4, 4);
	/* many stretches: behind the first ones all counts */
	delete_range(0, KEYS);
	check_left(0, KEYS, 0, 0);
	write_keys(OP_PUT, 0, KEYS, 1, 0);
	flush_all();
	for (uint32_t i = 0; i < 200; i++)
		delete_range(i * (KEYS / 200), i * (KEYS / 200) + KEYS / 400);
	check_left(0, KEYS / 10, KEYS / 20, 42);
}

static void
range_deletions_hide_what_older_tables_hold(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(with_range_deletions);
	leave_dir();
}

static void
memtables_are_sampled(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(in_memory);
	leave_dir();
}

static void
tables_tell_exactly_but_where_they_are_cut(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(in_tables);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memtables_are_sampled),
		cmocka_unit_test(tables_tell_exactly_but_where_they_are_cut),
		cmocka_unit_test(range_deletions_hide_what_older_tables_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
