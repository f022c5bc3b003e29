/*
 * test_get_many.c - a batch of point reads says for each key what a read of it alone says: random trees with
 * tombstones, old snapshots, values past the cache, blocks that are damaged; all values together stay as they are.
 */
#include "lsm_test.h"

#define KEYS 600
#define ABSENT 100           /* numbers from KEYS on that no table has */
#define LARGE (6 * 1048576)

static Prng rng;
static Version *now;
static uint64_t next_version;

static Slice
key_of(uint64_t k, uint8_t *buf)
{
	return slice_of(buf, (size_t) snprintf((char *) buf, 32, "\1key%05llu%s", (unsigned long long) k * 37 % 10007,
	                                       k % 3 == 0 ? "-tail" : ""));
}

static int
by_order(const void *a, const void *b)
{
	return entry_order(a, b);
}

/* A level 0 table of n entries: values of all kinds, of random keys; or (len > 0) keys `first` and following. */
static void
flush(int n, uint64_t first, size_t len)
{
	uint8_t (*kb)[32] = calloc((size_t) n, 32);
	Entry *e = calloc((size_t) n, sizeof *e);
	LsmState state;
	Version *v;
	Iter *it;

	for (int i = 0; i < n; i++) {
		size_t vlen = len ? len : prng_below(&rng, prng_below(&rng, 30) == 0 ? 40000 : 120);
		uint8_t *value = malloc(vlen + 1);
		bool dead = len == 0 && prng_below(&rng, 5) == 0;

		memset(value, (int) (next_version & 0xff), vlen);
		e[i] = (Entry){ key_of(len ? first + (uint64_t) i : prng_below(&rng, KEYS), kb[i]),
		                slice_of(value, dead ? 0 : vlen), next_version++, 0, dead ? ENTRY_DELETE : ENTRY_PUT };
	}
	qsort(e, (size_t) n, sizeof *e, by_order);
	state = (LsmState){ next_version, 1, 1 };
	it = array_iter(e, n);
	ok(lsm_flush(it, &state, 1, &v));
	iter_close(it);
	lsm_retire(now);
	now = v;
	for (int i = 0; i < n; i++)
		free((void *) (uintptr_t) e[i].value.data);
	free(e);
	free(kb);
}

static void
fresh_tree(void)
{
	fresh_directory();
	fresh_memory(TEST_HEAP);
	config.table_size = 200000;
	config.memtable_size = 100000;
	config.l0_trigger = 3;
	config.level_ratio = 4;
	next_version = 1;
	ok(lsm_create(1));
	ok(lsm_open(&now));
	ok(lsm_writer_open(now));
}

static bool
same(const Entry *a, const Entry *b)
{
	return slice_eq(a->key, b->key) && slice_eq(a->value, b->value) && a->version == b->version &&
	       a->expire_ms == b->expire_ms && a->kind == b->kind;
}

/* A batch of n random keys at a snapshot, and each key alone. */
static void
compare(int n, uint64_t snapshot, int counts[3])
{
	static uint8_t kb[LSM_BATCH_MAX][32];
	Slice keys[LSM_BATCH_MAX + 1];
	Entry out[LSM_BATCH_MAX], alone;
	Status st[LSM_BATCH_MAX];

	for (int i = 0; i < n; i++)
		keys[i] = key_of(prng_below(&rng, KEYS + ABSENT), kb[i]);
	epoch_pin(0);
	assert_int_equal(lsm_get_many(now, keys, n, snapshot, out, st), n);
	for (int i = 0; i < n; i++) {
		Status want = lsm_get(now, keys[i], snapshot, &alone);

		assert_int_equal(st[i], want);
		if (want == ST_OK)
			assert_true(same(&out[i], &alone));
		counts[want == ST_OK ? 0 : want == ST_NOT_FOUND ? 1 : 2]++;
	}
	epoch_unpin();
}

static void
test_as_alone(void **state)
{
	static const int sizes[] = { 0, 1, 2, 15, 16, 17, 63, LSM_BATCH_MAX };
	int counts[3] = { 0 };

	(void) state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		prng_seed(&rng, seed);
		fresh_tree();
		for (int round = 0; round < 8; round++) {
			LsmCompactOptions opt = { .oldest = 1 };
			Version *v = NULL;

			flush(1 + (int) prng_below(&rng, 300), 0, 0);
			if (prng_below(&rng, 2)) {
				ok(lsm_compact(&opt, &v));
				if (v != NULL) {
					lsm_retire(now);
					now = v;
				}
			}
			for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
				compare(sizes[i], prng_below(&rng, 3) == 0 ? prng_below(&rng, next_version) : UINT64_MAX, counts);
		}
		ok(lsm_collect());
	}
	printf("%d found, %d not\n", counts[0], counts[1]);
	assert_true(counts[0] > 1000 && counts[1] > 1000 && counts[2] == 0);
}

/* At the byte that `arg` says, or (NULL) a third of the file. */
static Status
damage(void *arg, const char *name)
{
	const uint64_t *at = arg;
	char path[FS_PATH_MAX];
	uint64_t size;
	int fd;

	snprintf(path, sizeof path, "tables/%s", name);
	ok(fs_open(path, FS_WRITE, &fd));
	ok(fs_size(fd, &size));
	ok(fs_pwrite(fd, "damage", 6, at != NULL ? *at : size / 3)); /* in a data block */
	return fs_close(fd);
}

static void
test_damage_stays_with_its_keys(void **state)
{
	int counts[3] = { 0 };

	(void) state;
	prng_seed(&rng, 99);
	fresh_tree();
	for (int i = 0; i < 4; i++)
		flush(500, 0, 0);
	table_files_close_all();
	ok(fs_list("tables", damage, NULL));
	for (int i = 0; i < 40; i++)
		compare(LSM_BATCH_MAX, UINT64_MAX, counts);
	printf("%d found, %d not, %d damaged\n", counts[0], counts[1], counts[2]);
	assert_true(counts[0] > 500 && counts[1] > 200 && counts[2] > 0);
}

/*
 * Values that together are more than a batch may keep come in several parts, each of at least one: the first
 * key's is read last, its table being older than the one that covers it, too.
 */
static void
test_large_values(void **state)
{
	enum { N = 7 };
	uint8_t kb[N][32];
	Slice keys[N];
	Entry out[N], alone;
	Status st[N];
	int parts = 0;

	(void) state;
	prng_seed(&rng, 7);
	fresh_tree();
	flush(1, 272, LARGE); /* between keys 1 and 2 */
	flush(N - 1, 1, LARGE);
	for (int i = 0; i < N; i++)
		keys[i] = key_of(i == 0 ? 272 : (uint64_t) i, kb[i]);
	epoch_pin(0);
	for (int at = 0; at < N; parts++) {
		int n = lsm_get_many(now, keys + at, N - at, UINT64_MAX, out, st);

		assert_true(n >= 1 && n <= N - at);
		assert_true((size_t) (n - 1) * LARGE <= LSM_BATCH_BYTES);
		for (int i = 0; i < n; i++) {
			ok(st[i]);
			ok(lsm_get(now, keys[at + i], UINT64_MAX, &alone));
			assert_true(same(&out[i], &alone) && alone.value.len == LARGE);
		}
		at += n;
	}
	lsm_batch_end();
	epoch_unpin();
	assert_true(parts > 1 && parts < N);
}

/* Tables that cover the key without having it, around as many as a read looks at together, and then the one with it. */
static void
test_behind_many_tables(void **state)
{
	uint8_t kb[32], other[32];
	Slice key = key_of(272, kb); /* between keys 1 and 2 */
	uint64_t written, value_at = 50;
	Entry e;

	(void) state;
	for (int n = LSM_GET_AHEAD - 1; n <= 2 * LSM_GET_AHEAD + 1; n++) {
		prng_seed(&rng, 1);
		fresh_tree();
		written = next_version;
		flush(1, 272, 100);
		if (n % 2 == 0) {
			table_files_close_all();
			ok(fs_list("tables", damage, &value_at));
		}
		for (int i = 0; i < n; i++)
			flush(2, 1, 100);
		epoch_pin(0);
		assert_int_equal(lsm_get(now, key_of(1, other), UINT64_MAX, &e), ST_OK); /* nobody asks the damaged one */
		assert_int_equal(e.version, next_version - 2);
		assert_int_equal(lsm_get(now, key, UINT64_MAX, &e), n % 2 == 0 ? ST_CORRUPT : ST_OK);
		if (n % 2 != 0)
			assert_int_equal(e.version, written);
		assert_int_equal(lsm_get(now, key, written, &e), ST_NOT_FOUND);
		assert_int_equal(lsm_get(now, key_of(543, other), UINT64_MAX, &e), ST_NOT_FOUND); /* 2 < 543 < 272 * 3 */
		epoch_unpin();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_alone),
		cmocka_unit_test(test_damage_stays_with_its_keys),
		cmocka_unit_test(test_large_values),
		cmocka_unit_test(test_behind_many_tables),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
