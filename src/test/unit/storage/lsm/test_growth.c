/*
 * test_growth.c - databases grow step by step in a toy of the tree: what is written for each byte, and how
 * much room it takes.
 *
 * The real picking and the real cutting, over tables that are arrays of numbers: a key of the toy stands
 * for a hundred entries of 16 B + 100 B. Deterministic; the worker does so many bytes of compaction for
 * each byte flushed.
 */
#include "lsm_test.h"

#define KEY_BYTES 11600u                 /* what a key of the toy stands for */
#define KEYS 100000u                     /* ten million entries */
#define MEMTABLE_KEYS 4000u              /* a memtable of 64 MB has 46 MB of entries */
#define TABLES_MAX 4096

typedef struct Toy {
	Table t;
	uint8_t ends[2][4];              /* smallest and largest key, big-endian */
	uint32_t n;
	uint32_t keys[];
} Toy;

typedef struct Tree {
	PickConfig c;
	Version v;
	Table *lists[LSM_LEVELS][TABLES_MAX];
	uint64_t versions;               /* given out so far */
	double flushed, written, moved;  /* bytes */
	double budget;                   /* bytes the worker may still write */
	uint32_t l0_most;
	double longest;                  /* input of a compaction */
	double space;                    /* most bytes at once, with outputs beside inputs */
} Tree;

static Tree tree;

static void
tree_free(void)
{
	for (int level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < tree.v.ntables[level]; i++)
			free(tree.lists[level][i]);
	memset(&tree, 0, sizeof tree);
}

static void
tree_start(void)
{
	tree_free();
	config_init();
	tree.c = pick_config();
	for (int level = 0; level < LSM_LEVELS; level++)
		tree.v.tables[level] = tree.lists[level];
}

static void
put_key(uint8_t *at, uint32_t key)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t) (key >> (24 - 8 * i));
}

static Toy *
toy_table(const uint32_t *keys, uint32_t n)
{
	Toy *y = calloc(1, sizeof *y + n * sizeof *keys);

	assert_non_null(y);
	assert_true(n > 0);
	memcpy(y->keys, keys, n * sizeof *keys);
	y->n = n;
	put_key(y->ends[0], keys[0]);
	put_key(y->ends[1], keys[n - 1]);
	y->t.smallest = slice_of(y->ends[0], 4);
	y->t.largest = slice_of(y->ends[1], 4);
	y->t.info.number = ++tree.versions;
	y->t.info.bytes = (uint64_t) n * KEY_BYTES;
	y->t.info.entries = n;
	y->t.info.version_min = y->t.info.version_max = tree.versions;
	return y;
}

static void
insert_at(uint32_t level, uint32_t at, Table *t)
{
	Table **list = tree.lists[level];

	assert_true(tree.v.ntables[level] < TABLES_MAX);
	memmove(&list[at + 1], &list[at], (tree.v.ntables[level] - at) * sizeof *list);
	list[at] = t;
	tree.v.ntables[level]++;
	tree.v.bytes[level] += t->info.bytes;
}

static void
insert_sorted(uint32_t level, Table *t)
{
	insert_at(level, version_find(tree.lists[level], tree.v.ntables[level], t->smallest), t);
}

/* Tables that leave a level, in *out; the caller has them now. */
static uint32_t
take_run(uint32_t level, uint32_t first, uint32_t n, Table **out)
{
	Table **list = tree.lists[level];

	memcpy(out, &list[first], n * sizeof *out);
	memmove(&list[first], &list[first + n], (tree.v.ntables[level] - first - n) * sizeof *list);
	tree.v.ntables[level] -= n;
	for (uint32_t i = 0; i < n; i++)
		tree.v.bytes[level] -= out[i]->info.bytes;
	return n;
}

static int
key_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

/* Sort, each key once. */
static uint32_t
distinct(uint32_t *keys, uint32_t n)
{
	uint32_t left = 0;

	qsort(keys, n, sizeof *keys, key_order);
	for (uint32_t i = 0; i < n; i++)
		if (left == 0 || keys[left - 1] != keys[i])
			keys[left++] = keys[i];
	return left;
}

static double
tree_bytes(void)
{
	double bytes = 0;

	for (int level = 0; level < LSM_LEVELS; level++)
		bytes += (double) tree.v.bytes[level];
	return bytes;
}

static void
write_outputs(const uint32_t *keys, uint32_t n, uint32_t level)
{
	OutputCut cut = output_cut(&tree.c, &tree.v, level);
	uint32_t begin = 0;
	uint8_t key[4];

	for (uint32_t i = 0; i <= n; i++) {
		put_key(key, i < n ? keys[i] : 0);
		if (i == n || output_ends(&cut, slice_of(key, 4), (uint64_t) (i - begin) * KEY_BYTES)) {
			insert_sorted(level, &toy_table(keys + begin, i - begin)->t);
			begin = i;
		}
	}
}

static void
compact(const Pick *p)
{
	static Table *in[TABLES_MAX];
	double before = tree_bytes();
	uint32_t ntables = 0, n = 0, *keys;

	for (uint32_t level = 0; level < LSM_LEVELS; level++)
		ntables += take_run(level, p->first[level], p->n[level], in + ntables);
	for (uint32_t i = 0; i < ntables && p->trivial; i++) {
		insert_sorted(p->out_level, in[i]);
		tree.moved += (double) in[i]->info.bytes;
	}
	if (p->trivial)
		return;
	for (uint32_t i = 0; i < ntables; i++)
		n += ((Toy *) in[i])->n;
	keys = malloc(n * sizeof *keys);
	assert_non_null(keys);
	n = 0;
	for (uint32_t i = 0; i < ntables; i++) {
		Toy *y = (Toy *) in[i];

		memcpy(keys + n, y->keys, y->n * sizeof *keys);
		n += y->n;
		free(y);
	}
	if ((double) n * KEY_BYTES > tree.longest)
		tree.longest = (double) n * KEY_BYTES;
	n = distinct(keys, n);
	write_outputs(keys, n, p->out_level);
	free(keys);
	tree.written += (double) n * KEY_BYTES;
	tree.budget -= (double) n * KEY_BYTES;
	if (before + (double) n * KEY_BYTES > tree.space)
		tree.space = before + (double) n * KEY_BYTES;
}

/* False: nothing to do. */
static bool
step(void)
{
	Pick p = pick_compaction(&tree.c, &tree.v, 0);

	ok(version_check(&tree.v));
	if (p.any)
		compact(&p);
	return p.any;
}

static void
settle(void)
{
	while (step())
		;
}

/* A memtable's worth of keys becomes a table; `speed` bytes are compacted meanwhile for each of its bytes. */
static void
flush(uint32_t *keys, uint32_t n, double speed)
{
	Toy *y;

	n = distinct(keys, n);
	y = toy_table(keys, n);
	insert_at(0, 0, &y->t);
	tree.flushed += (double) y->t.info.bytes;
	if (tree.v.ntables[0] > tree.l0_most)
		tree.l0_most = tree.v.ntables[0];
	tree.budget += (double) y->t.info.bytes * speed;
	while (tree.budget > 0 && step())
		;
	while (tree.v.ntables[0] >= (uint32_t) config.l0_slowdown && step())
		; /* writers are held back */
	if (tree.budget > 0)
		tree.budget = 0; /* idle time is not saved */
}

static void
fill_random(Prng *rng, uint32_t space, uint32_t writes, double speed)
{
	uint32_t keys[MEMTABLE_KEYS];

	for (uint32_t done = 0; done < writes; done += MEMTABLE_KEYS) {
		for (uint32_t i = 0; i < MEMTABLE_KEYS; i++)
			keys[i] = (uint32_t) prng_below(rng, space);
		flush(keys, MEMTABLE_KEYS, speed);
	}
}

static void
fill_sequential(uint32_t first, uint32_t n, double speed)
{
	uint32_t keys[MEMTABLE_KEYS];

	for (uint32_t done = 0; done < n; done += MEMTABLE_KEYS) {
		for (uint32_t i = 0; i < MEMTABLE_KEYS; i++)
			keys[i] = first + done + i;
		flush(keys, MEMTABLE_KEYS, speed);
	}
}

/* Bytes of what a scan would find. */
static double
live_bytes(void)
{
	uint32_t n = 0, *keys = malloc((size_t) (tree_bytes() / KEY_BYTES + 1) * sizeof *keys);

	assert_non_null(keys);
	for (int level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < tree.v.ntables[level]; i++) {
			Toy *y = (Toy *) tree.lists[level][i];

			memcpy(keys + n, y->keys, y->n * sizeof *keys);
			n += y->n;
		}
	}
	n = distinct(keys, n);
	free(keys);
	return (double) n * KEY_BYTES;
}

static void
report(const char *what)
{
	printf("%s: write amplification %.2f (moved %.2f), space %.2f (at most %.2f), level 0 up to %u, "
	       "longest %.0f MB; MB:", what, tree.written / tree.flushed, tree.moved / tree.flushed,
	       tree_bytes() / live_bytes(), tree.space / live_bytes(), tree.l0_most, tree.longest / 1e6);
	for (int level = 0; level < LSM_LEVELS; level++)
		printf(" %.0f", (double) tree.v.bytes[level] / 1e6);
	printf("\n");
}

static void
restart_figures(void)
{
	tree.flushed = tree.written = tree.moved = tree.longest = tree.space = 0;
	tree.l0_most = 0;
}

static double
amplification(void)
{
	return tree.written / tree.flushed;
}

static double
space(void)
{
	return tree_bytes() / live_bytes();
}

#define AT_ONCE 1e9 /* speed of a worker that is never behind */

/* The benchmark: ten million random keys of as many, then again. */
static void
test_random_fill(void **state)
{
	Prng rng;
	const struct { double speed, fill, overwrite; } runs[] = {
		{ 1.5, 1.6, 3.0 }, { 3, 2.3, 3.5 }, { AT_ONCE, 2.3, 4.3 }
	};

	(void) state;
	for (int i = 0; i < 3; i++) {
		prng_seed(&rng, 1);
		tree_start();
		fill_random(&rng, KEYS, KEYS, runs[i].speed);
		settle();
		report("10 M filled at random");
		assert_true(amplification() <= runs[i].fill);
		assert_true(space() <= 1.2);
		restart_figures();
		fill_random(&rng, KEYS, KEYS, runs[i].speed);
		settle();
		report("and overwritten");
		assert_true(amplification() <= runs[i].overwrite);
		assert_true(space() <= 1.2);
		assert_true(tree.l0_most <= (uint32_t) config.l0_slowdown);
	}
}

/* Ten times as much: one level more, and compactions stay short. */
static void
test_large_database(void **state)
{
	Prng rng;

	(void) state;
	prng_seed(&rng, 2);
	tree_start();
	fill_random(&rng, 10 * KEYS, 10 * KEYS, AT_ONCE);
	report("100 M filled at random");
	assert_true(amplification() <= 8);
	assert_true(space() <= 1.15);
	restart_figures();
	fill_random(&rng, 10 * KEYS, 5 * KEYS, AT_ONCE);
	report("and half overwritten");
	assert_true(amplification() <= 10.5);
	assert_true(space() <= 1.15);
	assert_true(tree.space / live_bytes() <= 1.2);
	assert_true(tree.longest <= 8 * (double) config.table_size);
}

/* The worker can't keep up: level 0 fills, so each byte of it is merged with less, and that holds. */
static void
test_worker_behind(void **state)
{
	Prng rng;

	(void) state;
	prng_seed(&rng, 3);
	tree_start();
	fill_random(&rng, 10 * KEYS, 10 * KEYS, 2);
	restart_figures();
	fill_random(&rng, 10 * KEYS, 10 * KEYS, 2);
	report("100 M overwritten, worker behind");
	assert_true(amplification() <= 6.5);
	assert_true(space() <= 1.35);
	settle();
	report("settled");
	assert_true(space() <= 1.15);
}

/* An ascending load is moved, never rewritten, also one that goes on above what is there, or between. */
static void
test_ascending_load(void **state)
{
	(void) state;
	tree_start();
	fill_sequential(0, 8 * KEYS, AT_ONCE);
	fill_sequential(16 * KEYS, 2 * KEYS, AT_ONCE);
	fill_sequential(12 * KEYS, KEYS, AT_ONCE);
	settle();
	report("ascending");
	assert_true(tree.written == 0);
	assert_true(space() == 1);
}

/* A few keys are written all the time: they stay above. */
static void
test_hot_keys(void **state)
{
	Prng rng;
	uint32_t keys[MEMTABLE_KEYS];

	(void) state;
	prng_seed(&rng, 4);
	tree_start();
	fill_sequential(0, 10 * KEYS, AT_ONCE);
	restart_figures();
	for (int round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < MEMTABLE_KEYS; i++)
			keys[i] = (uint32_t) prng_below(&rng, KEYS / 2);
		flush(keys, MEMTABLE_KEYS, AT_ONCE);
	}
	report("hot keys");
	assert_true(amplification() <= 4);
}

/*
 * A database of the layout before, filled from level 1 on, gets to the new one; level 0 keeps out of its
 * way.
 */
static void
test_from_the_upper_levels(void **state)
{
	Prng rng;
	Pick down;

	(void) state;
	prng_seed(&rng, 5);
	tree_start();
	fill_random(&rng, 10 * KEYS, 10 * KEYS, AT_ONCE);
	for (uint32_t level = 5; level < LSM_LEVELS; level++) { /* levels 5 and 6 become 1 and 2 */
		down = (Pick){ .any = true, .trivial = true, .out_level = level - 4 };
		down.n[level] = tree.v.ntables[level];
		compact(&down);
	}
	restart_figures();
	fill_random(&rng, 10 * KEYS, KEYS, AT_ONCE);
	report("from level 1 and 2");
	for (int level = 1; level < 4; level++)
		assert_int_equal(tree.v.ntables[level], 0);
	assert_true(amplification() <= 15);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_fill),
		cmocka_unit_test(test_large_database),
		cmocka_unit_test(test_worker_behind),
		cmocka_unit_test(test_ascending_load),
		cmocka_unit_test(test_hot_keys),
		cmocka_unit_test(test_from_the_upper_levels),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
