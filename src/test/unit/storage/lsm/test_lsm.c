/*
 * test_lsm.c - the tree against a model: random flushes, compactions, restarts and crashes, at all snapshots
 * that may still be read.
 */
#include "lsm_test.h"

#define KEYS 40
#define HISTORY 4000
#define VALUE_ROOM 4400

typedef struct Put {
	int key;
	uint64_t version, expire;
	bool deleted;
} Put;

/* Everything ever written, in version order; what is flushed is a prefix (the memtables are `pending`). */
typedef struct Model {
	Put put[HISTORY];
	int n, flushed;
	uint64_t next_version, oldest, now;
} Model;

static Model *mo;
static Prng rng;
static uint64_t last_seed;
static int betweens, nested;
static uint64_t relocated, apart; /* bytes that compactions copied; references that were met */

static Slice
key_of(int k, uint8_t *buf)
{
	int len = snprintf((char *) buf, 32, "%ckey%.*s%02d", k % 7 == 0 ? '\0' : '\1', k % 5, "ppppp", k);

	return slice_of(buf, (size_t) len);
}

static Slice
value_of(const Put *p, uint8_t *buf)
{
	size_t len = p->deleted ? 0 : (size_t) (p->version * 7 % 90);

	if (len > 85) /* more than a block that is shared */
		len = VALUE_ROOM - len;
	memset(buf, (int) (p->version & 0xff), len);
	return slice_of(buf, len);
}

/* What a reader at `snapshot` sees of key k: NULL if it is absent, deleted or expired. */
static const Put *
model_get(int k, uint64_t snapshot, int upto)
{
	for (int i = upto - 1; i >= 0; i--)
		if (mo->put[i].key == k && mo->put[i].version < snapshot)
			return mo->put[i].deleted || (mo->put[i].expire != 0 && mo->put[i].expire <= mo->now) ? NULL
			       : &mo->put[i];
	return NULL;
}

static bool
visible(const Entry *e)
{
	return e->kind != ENTRY_DELETE && (e->expire_ms == 0 || e->expire_ms > mo->now);
}

static void
expect_put(const Entry *e, const Put *p)
{
	static ValueReader reader;
	uint8_t kb[32], vb[VALUE_ROOM];
	Slice value = e->value;

	if (e->kind == ENTRY_VALUE_REF) { /* from an iterator */
		ok(value_read(&reader, e->value, (TableIterOptions){ .fill_cache = apart++ % 2 }, &value));
		reader.offset = 0; /* the file may go before the next one is asked for */
	}
	assert_true(slice_eq(e->key, key_of(p->key, kb)));
	assert_int_equal(e->version, p->version);
	assert_int_equal(e->expire_ms, p->expire);
	assert_true(slice_eq(value, value_of(p, vb)));
}

static void
check_get(const Version *v, int k, uint64_t snapshot)
{
	const Put *want = model_get(k, snapshot, mo->flushed);
	uint8_t kb[32];
	Entry e;
	Status st = lsm_get(v, key_of(k, kb), snapshot, &e);

	if (st != ST_NOT_FOUND)
		ok(st);
	assert_true(st != ST_OK || e.kind != ENTRY_VALUE_REF);
	assert_int_equal(st == ST_OK && visible(&e), want != NULL);
	if (want != NULL)
		expect_put(&e, want);
}

/* Walk over all versions; the newest of each key below the snapshot is what is seen. */
static void
check_scan(const Version *v, uint64_t snapshot)
{
	Iter *it = lsm_iter(v, (TableIterOptions){ .fill_cache = prng_below(&rng, 2) });
	Entry last = { .version = 0 };
	uint8_t last_key[32], kb[32];
	int seen = 0, want = 0, forward = 0, back = 0;
	bool found = false;

	assert_non_null(it);
	for (iter_seek_first(it); it->valid; iter_next(it)) {
		bool same = last.version != 0 && slice_eq(last.key, it->entry.key);

		forward++;
		if (last.version != 0)
			assert_true(entry_cmp(last.key, last.version, it->entry.key, it->entry.version) < 0);
		if (!same)
			found = false;
		if (!found && it->entry.version < snapshot) {
			found = true;
			seen += visible(&it->entry);
		}
		memcpy(last_key, it->entry.key.data, it->entry.key.len);
		last = it->entry;
		last.key.data = last_key;
	}
	ok(it->status);
	for (iter_seek_last(it); it->valid; iter_prev(it))
		back++;
	ok(it->status);
	assert_int_equal(forward, back);
	for (int k = 0; k < KEYS; k++) {
		const Put *p = model_get(k, snapshot, mo->flushed);

		want += p != NULL;
		iter_seek(it, key_of(k, kb), snapshot - 1);
		ok(it->status);
		if (p != NULL) {
			assert_true(it->valid);
			expect_put(&it->entry, p);
		}
	}
	assert_int_equal(seen, want);
	iter_close(it);
}

static uint64_t
some_snapshot(void)
{
	return mo->oldest + prng_below(&rng, mo->next_version + 2 - mo->oldest);
}

/* What a Version says of its value files is what its tables add up to. */
static void
check_values(const Version *v)
{
	uint64_t values = 0, bytes = 0, listed = 0, in_files = 0;

	for (int level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < v->ntables[level]; i++)
			for (uint32_t s = 0; s < v->tables[level][i]->info.value_files; s++) {
				const ValueShare *share = &v->tables[level][i]->values[s];

				assert_true(lsm_version_has(v, share->file_id));
				values += share->values;
				bytes += share->bytes;
			}
	for (uint32_t i = 0; i < v->nvalues; i++) {
		const LiveValues *l = &v->values[i];

		assert_true(l->values > 0 && l->values <= l->file->info.values && l->bytes <= l->file->info.value_bytes);
		listed += l->values;
		in_files += l->bytes;
		if (prng_below(&rng, 50) == 0)
			ok(value_file_verify(&l->file->info, NULL, NULL));
	}
	assert_int_equal(values, listed);
	assert_int_equal(bytes, in_files);
}

static void
check_all(const Version *v)
{
	check_values(v);
	epoch_pin(0);
	for (int i = 0; i < 12; i++)
		check_get(v, (int) prng_below(&rng, KEYS), some_snapshot());
	check_get(v, (int) prng_below(&rng, KEYS), UINT64_MAX);
	check_scan(v, some_snapshot());
	epoch_unpin();
}

static void
restart(size_t heap)
{
	fresh_memory(heap);
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	assert_int_equal(published->flushed, mo->flushed == 0 ? 1 : mo->put[mo->flushed - 1].version + 1);
	assert_int_equal(published->flushed_term, published->flushed / 100);
}

static void
write_some(int n)
{
	for (int i = 0; i < n && mo->n < HISTORY; i++) {
		Put *p = &mo->put[mo->n++];

		mo->next_version += 1 + prng_below(&rng, 9);
		*p = (Put){ .key = (int) prng_below(&rng, KEYS), .version = mo->next_version,
			    .deleted = prng_below(&rng, 4) == 0 };
		if (!p->deleted && prng_below(&rng, 5) == 0)
			p->expire = 1 + prng_below(&rng, mo->now + 50);
		mo->next_version++;
	}
}

static void
flush(void)
{
	static uint8_t kb[HISTORY][32], vb[HISTORY][VALUE_ROOM];
	Entry *e = calloc((size_t) (mo->n - mo->flushed) + 1, sizeof *e);
	uint64_t end = mo->n == 0 ? 1 : mo->put[mo->n - 1].version + 1;
	LsmState state = { end, end / 100, end / 10 };
	int n = 0;
	Version *v;
	Iter *it;

	for (int i = mo->flushed; i < mo->n; i++, n++) {
		const Put *p = &mo->put[i];

		e[n] = (Entry){ key_of(p->key, kb[n]), value_of(p, vb[n]), p->version, p->expire,
			        p->deleted ? ENTRY_DELETE : ENTRY_PUT };
	}
	qsort(e, (size_t) n, sizeof *e, entry_order);
	it = array_iter(e, n);
	ok(lsm_flush(it, &state, mo->oldest, &v));
	iter_close(it);
	free(e);
	mo->flushed = mo->n;
	publish(v);
}

/* ---- between: now and then a nested flush, a crash whose copy is looked at later, or giving up */
typedef struct Between {
	int calls, give_up_at;
	bool crash;
	int copies;
	int copy_flushed[4];
} Between;

typedef struct Copy {
	const char *from, *to; /* prefixes of the names */
} Copy;

static Status
copy_file(void *arg, const char *name)
{
	const Copy *c = arg;
	char from[FS_PATH_MAX], to[FS_PATH_MAX], *data;
	size_t len;
	int fd;

	if (strcmp(name, "tables") == 0 || strcmp(name, VALUE_DIR) == 0)
		return ST_OK;
	snprintf(from, sizeof from, "%s%s", c->from, name);
	snprintf(to, sizeof to, "%s%s", c->to, name);
	ok(fs_read_file(from, 1 << 24, &data, &len));
	ok(fs_open(to, FS_CREATE_NEW, &fd));
	ok(fs_pwrite(fd, data, len, 0));
	ok(fs_close(fd));
	free(data);
	return ST_OK;
}

static void
copy_directory(int i)
{
	char dir[32], top[40], tables[48], values[48];
	Copy c = { "", top };

	snprintf(dir, sizeof dir, "../copy%d", i);
	snprintf(top, sizeof top, "%s/", dir);
	snprintf(tables, sizeof tables, "%s/tables/", dir);
	snprintf(values, sizeof values, "%s/" VALUE_DIR "/", dir);
	remove_tree(dir);
	ok(fs_mkdir(dir));
	ok(fs_mkdir(tables));
	ok(fs_mkdir(values));
	ok(fs_list(".", copy_file, &c));
	c = (Copy){ "tables/", tables };
	ok(fs_list("tables", copy_file, &c));
	c = (Copy){ VALUE_DIR "/", values };
	ok(fs_list(VALUE_DIR, copy_file, &c));
}

static bool
between(void *arg)
{
	Between *b = arg;

	b->calls++;
	betweens++;
	if (prng_below(&rng, 3) == 0) {
		write_some((int) prng_below(&rng, 20));
		if (mo->n > mo->flushed) {
			flush();
			nested++;
		}
		check_all(published);
	}
	if (b->crash && b->copies < 2) {
		b->copy_flushed[b->copies] = mo->flushed;
		copy_directory(b->copies++);
	}
	return b->calls == b->give_up_at;
}

static void
compact(bool all, Between *b)
{
	LsmCompactOptions opt = { .oldest = mo->oldest, .now_ms = mo->now, .between = between, .between_arg = b };
	Version *v = NULL;
	Status st = all ? lsm_compact_all(&opt, &v) : lsm_compact(&opt, &v);

	if (st == ST_BUSY) {
		assert_true(b->calls == b->give_up_at);
		return;
	}
	ok(st);
	if (v != NULL)
		publish(v);
}

/* Every file in "tables" and "values" is named by the newest Version: nothing is left behind. */
static void
check_no_leaks(void)
{
	int files = 0, tables = 0, values = 0;

	ok(lsm_collect());
	for (int l = 0; l < LSM_LEVELS; l++)
		tables += (int) published->ntables[l];
	ok(fs_list("tables", count_name, &files));
	assert_int_equal(files, tables);
	ok(fs_list(VALUE_DIR, count_name, &values));
	assert_int_equal(values, published->nvalues);
}

static void
look_at_copies(const Between *b)
{
	int flushed = mo->flushed;

	for (int i = 0; i < b->copies; i++) {
		char dir[32];

		snprintf(dir, sizeof dir, "../copy%d", i);
		assert_int_equal(chdir(dir), 0);
		mo->flushed = b->copy_flushed[i];
		restart(TEST_HEAP);
		check_all(published);
		check_no_leaks();
		assert_int_equal(chdir("../d"), 0);
	}
	mo->flushed = flushed;
	if (b->copies > 0)
		restart(TEST_HEAP);
}

static void
one_seed(uint64_t seed, bool crash)
{
	prng_seed(&rng, seed);
	*mo = (Model){ .next_version = 1, .oldest = 1, .now = 1000 };
	config.table_size = 500 + (int64_t) prng_below(&rng, 4000);
	config.memtable_size = seed % 2 ? 1000 : 100000; /* files of values are small below a 64th of it */
	config.blob_threshold = seed % 5 == 0 ? 0 : 1 + (int64_t) prng_below(&rng, 80);
	value_gc_shares_max = seed % 7 == 0 ? 2 : VALUE_SHARES_MAX;
	value_gc_shares_end = seed % 14 == 0 ? 3 : VALUE_SHARES_MAX;
	config.l0_trigger = 2 + (int64_t) prng_below(&rng, 3);
	config.level_ratio = 2 + (int64_t) prng_below(&rng, 3);
	config.compression = (int64_t) (seed % 3);
	if (!table_codec_built((uint32_t) config.compression))
		config.compression = TABLE_CODEC_NONE;
	fresh_directory();
	fresh_memory(TEST_HEAP);
	ok(lsm_create(1));
	restart(TEST_HEAP);
	for (int step = 0; step < 30; step++) {
		Between b = { .give_up_at = prng_below(&rng, 6) == 0 ? 1 : 0, .crash = crash };

		write_some((int) prng_below(&rng, 60));
		mo->now += prng_below(&rng, 30);
		if (prng_below(&rng, 10) == 0)
			config.blob_threshold = (int64_t) prng_below(&rng, 100);
		if (prng_below(&rng, 3) == 0)
			mo->oldest += prng_below(&rng, mo->next_version - mo->oldest + 1);
		switch (prng_below(&rng, 8)) {
		case 0: case 1: case 2:
			flush();
			break;
		case 3: case 4: case 5:
			compact(false, &b);
			break;
		case 6:
			if (prng_below(&rng, 3) == 0)
				compact(true, &b);
			break;
		default:
			restart(TEST_HEAP);
			break;
		}
		if (prng_below(&rng, 2))
			ok(lsm_collect());
		check_all(published);
		look_at_copies(&b);
	}
	flush();
	{
		Between b = { 0 };

		compact(true, &b);
	}
	check_all(published);
	check_no_leaks();
	relocated += atomic_load(&lsm_shared->relocated_bytes);
	restart(TEST_HEAP);
	check_all(published);
}

/* A failing assert leaves by longjmp: the seed is told at the end of the test whatever happened. */
static int
tell_seed(void **state)
{
	(void) state;
	printf("last seed %llu, %d calls between, %d nested flushes, %llu references, %llu bytes relocated\n",
	       (unsigned long long) last_seed, betweens, nested, (unsigned long long) apart,
	       (unsigned long long) relocated);
	return 0;
}

static void
run_seeds(uint64_t from, uint64_t to, bool crash)
{
	const char *one = getenv("KVD_TEST_SEED");

	for (uint64_t seed = from; seed <= to; seed++) {
		if (one != NULL)
			seed = strtoull(one, NULL, 10);
		last_seed = seed;
		one_seed(seed, crash);
		if (one != NULL)
			break;
	}
}

static void
test_model(void **state)
{
	(void) state;
	run_seeds(1, 200, false);
}

/* The directory as it is in the middle of compactions opens to what was flushed then. */
static void
test_crash(void **state)
{
	(void) state;
	run_seeds(1001, 1012, true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_model, tell_seed),
		cmocka_unit_test_teardown(test_crash, tell_seed),
	};
	int failed;

	mo = calloc(1, sizeof *mo);
	failed = cmocka_run_group_tests(tests, group_setup, group_teardown);
	free(mo);
	return failed;
}
