/*
 * test_stats.c - the figures of each level, for people: after a flush, a merge and reads they are the bytes that the
 * list of tables has.
 */
#include "engine_test.h"

#define KEYS 100
#define READS_COUNTED 64 /* reads are told in such steps, for each process */

typedef struct Wanted {
	const char *name;
	uint64_t value;
	bool found;
} Wanted;

static Status
take(void *arg, const char *name, uint64_t value)
{
	Wanted *w = arg;

	if (strcmp(name, w->name) == 0) {
		w->value = value;
		w->found = true;
	}
	return ST_OK;
}

static uint64_t
figure(const char *name)
{
	Wanted w = { .name = name };

	MUST(kvstore_stats(take, &w));
	CHECK(w.found);
	return w.value;
}

static uint64_t
of_level(uint32_t level, const char *what)
{
	char name[64];

	snprintf(name, sizeof name, "level.%u.%s", level, what);
	return figure(name);
}

static Slice
key_of(char kind, int n, char buf[16])
{
	buf[0] = KEYSPACE_USER;
	return slice_of(buf, 1 + (size_t) snprintf(buf + 1, 15, "%c%05d", kind, n));
}

static void
put_keys(char kind)
{
	char key[16];

	for (int i = 0; i < KEYS; i++)
		write_op(&(Op){ .kind = OP_PUT, .key = key_of(kind, i, key), .value = slice_str("value") });
}

static void
get_keys(char kind, int n)
{
	char key[16];
	Snapshot s;
	Entry e;

	kvstore_begin_read(&s, 0);
	for (int i = 0; i < n; i++)
		MUST(kvstore_get(&s, key_of(kind, i % KEYS, key), &e));
	kvstore_end_read();
}

static void
flush(void)
{
	ask_for_flush();
	run_compactor();
}

static void
compact(void)
{
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
}

/* All of a level's figures that count bytes. */
static void
check_level(uint32_t level, uint64_t in, uint64_t written)
{
	CHECK(of_level(level, "in") == in && of_level(level, "written") == written);
	CHECK(of_level(level, "write_amplification") == (in > 0 ? written * 100 / in : 0));
}

static void
levels(void)
{
	const uint32_t last = LSM_LEVELS - 1;
	uint64_t first, both, merged;

	start_engine();
	for (uint32_t i = 0; i < LSM_LEVELS; i++)
		check_level(i, 0, 0);
	put_keys('a');
	flush();
	first = of_level(0, "bytes");
	CHECK(first > 0 && of_level(0, "tables") == 1 && first == figure("flush.bytes"));
	check_level(0, first, first);

	get_keys('a', READS_COUNTED - 1);
	CHECK(of_level(0, "reads") == 0);
	get_keys('a', 1);
	CHECK(of_level(0, "reads") == READS_COUNTED);

	put_keys('a');
	flush();
	both = of_level(0, "bytes");
	CHECK(of_level(0, "tables") == 2 && both > first);
	check_level(0, both, both);
	compact();
	merged = of_level(last, "bytes");
	CHECK(of_level(0, "tables") == 0 && of_level(0, "bytes") == 0 && of_level(last, "tables") == 1);
	CHECK(merged > 0 && merged < both);
	check_level(0, both, both);
	check_level(last, both, merged);
	CHECK(figure("compaction.bytes_in") == both && figure("compaction.bytes_out") == merged);

	get_keys('a', 2 * READS_COUNTED);
	CHECK(of_level(0, "reads") == READS_COUNTED && of_level(last, "reads") == 2 * READS_COUNTED);
	for (uint32_t i = 1; i < last; i++)
		check_level(i, 0, 0);
}

static void
flushes_merges_and_reads_are_counted_by_level(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(levels);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flushes_merges_and_reads_are_counted_by_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
