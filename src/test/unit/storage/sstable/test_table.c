/*
 * test_table.c - a table gives back what was put in, by key, by snapshot, and in both directions.
 */
#define CACHE_BYTES (4 * 1024 * 1024)

#include "table_test.h"

static uint64_t next_number = 1;

/* Every key at several snapshots, against the model. */
static void
check_gets(const Model *m, const TableInfo *t)
{
	for (size_t i = 0; i < m->n; i++) {
		const Entry *e = &m->e[i];
		uint64_t snapshots[] = { e->version + 1, e->version, UINT64_MAX, 0 };

		assert_true(table_may_contain(t, e->key, table_key_hash(e->key)));
		for (size_t s = 0; s < sizeof(snapshots) / sizeof(snapshots[0]); s++) {
			uint64_t snapshot = snapshots[s];
			size_t want = snapshot == 0 ? m->n : model_seek(m, e->key, snapshot - 1);
			Entry out;
			Status st = table_get(t, e->key, snapshot, &out);

			if (want < m->n && slice_eq(m->e[want].key, e->key)) {
				assert_ok(st);
				assert_true(same_entry(&out, &m->e[want]));
			} else
				assert_int_equal(st, ST_NOT_FOUND);
		}
	}
}

static void
check_scans(const Model *m, const TableInfo *t, TableIterOptions opt)
{
	Iter *it = table_iter(t, opt);
	size_t i = 0;

	assert_non_null(it);
	assert_false(it->valid);
	for (iter_seek_first(it); it->valid; iter_next(it), i++)
		assert_true(i < m->n && same_entry(&it->entry, &m->e[i]));
	assert_ok(it->status);
	assert_int_equal(i, m->n);
	for (iter_seek_last(it); it->valid; iter_prev(it), i--)
		assert_true(i > 0 && same_entry(&it->entry, &m->e[i - 1]));
	assert_ok(it->status);
	assert_int_equal(i, 0);
	iter_close(it);
}

static void
expect_at(const Model *m, Iter *it, size_t i)
{
	assert_ok(it->status);
	assert_int_equal(it->valid, i < m->n);
	if (i < m->n)
		assert_true(same_entry(&it->entry, &m->e[i]));
}

/* seek and seek_before at (key, version), then one step each way. */
static void
check_seek(const Model *m, Iter *it, Slice key, uint64_t version)
{
	size_t want = model_seek(m, key, version);

	iter_seek(it, key, version);
	expect_at(m, it, want);
	if (it->valid) {
		iter_next(it);
		expect_at(m, it, want + 1);
	}
	iter_seek_before(it, key, version);
	expect_at(m, it, want == 0 ? m->n : want - 1);
	if (it->valid) {
		iter_prev(it);
		expect_at(m, it, want == 1 ? m->n : want - 2);
	}
}

static void
check_seeks(const Model *m, const TableInfo *t, TableIterOptions opt, uint64_t seed)
{
	Iter *it = table_iter(t, opt);
	Prng g;

	assert_non_null(it);
	prng_seed(&g, seed);
	for (size_t i = 0; i < m->n; i += 1 + m->n / 2000) {
		const Entry *e = &m->e[i];
		uint8_t near[64];
		size_t len = e->key.len < sizeof(near) - 1 ? e->key.len : sizeof(near) - 1;

		check_seek(m, it, e->key, e->version);
		check_seek(m, it, e->key, e->version - 1);
		check_seek(m, it, e->key, e->version + 1);
		check_seek(m, it, e->key, UINT64_MAX);
		check_seek(m, it, e->key, 0);
		memcpy(near, e->key.data, len);
		near[len] = (uint8_t) prng_next(&g);
		check_seek(m, it, slice_of(near, len + 1), prng_next(&g));
		near[prng_below(&g, len)] ^= (uint8_t) (1 << prng_below(&g, 8));
		check_seek(m, it, slice_of(near, len), prng_next(&g));
		check_seek(m, it, slice_of(near, prng_below(&g, len) + 1), UINT64_MAX);
	}
	iter_close(it);
}

static void
check_info(const Model *m, const TableInfo *t)
{
	TableInfo read;
	Buf small = { 0 }, large = { 0 };
	uint64_t tombstones = 0;

	assert_ok(table_read_info(t->number, &read, &small, &large));
	assert_memory_equal(&read, t, sizeof(read));
	assert_true(slice_eq(slice_buf(&small), m->e[0].key));
	assert_true(slice_eq(slice_buf(&large), m->e[m->n - 1].key));
	for (size_t i = 0; i < m->n; i++)
		tombstones += m->e[i].kind == ENTRY_DELETE;
	assert_int_equal(t->entries, m->n);
	assert_int_equal(t->tombstones, tombstones);
	assert_ok(table_verify(t, NULL, NULL));
	buf_free(&small);
	buf_free(&large);
}

static void
check_table(const Model *m, uint32_t bits, TableCodec codec, TableInfo *info)
{
	build_table_as(m, next_number++, bits, codec, info);
	check_info(m, info);
	check_gets(m, info);
	check_scans(m, info, (TableIterOptions){ .fill_cache = true });
	check_scans(m, info, (TableIterOptions){ .fill_cache = false });
	check_scans(m, info, (TableIterOptions){ .read_ahead = true });
	check_seeks(m, info, (TableIterOptions){ .fill_cache = true }, info->number);
	check_seeks(m, info, (TableIterOptions){ .read_ahead = true }, info->number);
}

static void
test_one_entry(void **state)
{
	Model m = { 0 };
	TableInfo t;

	(void) state;
	model_add(&m, "k", 1, 1, ENTRY_PUT, 0, "v", 1);
	check_table(&m, 10, TABLE_CODEC_NONE, &t);
	assert_int_equal(t.index_height, 1);
	assert_int_equal(t.filter_pages, 1);
	model_free(&m);
}

static void
test_random_models(void **state)
{
	(void) state;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		Model m = { 0 };
		TableInfo t;
		Prng g;
		size_t n = 1 + (size_t) (seed % 3 == 0 ? 5000 : seed * 20);
		uint64_t alphabet = seed % 4 == 0 ? 2 : 256, key_max = seed % 5 == 0 ? 3 : seed % 7 == 0 ? 2000 : 24;
		uint64_t value_max = seed % 6 == 0 ? 6000 : 120;

		print_message("seed %llu\n", (unsigned long long) seed);
		prng_seed(&g, seed);
		for (size_t i = 0; i < n; i++) {
			uint8_t key[2048], value[6000];
			size_t klen = 1 + prng_below(&g, key_max), vlen = prng_below(&g, value_max);
			bool del = prng_below(&g, 5) == 0;

			for (size_t j = 0; j < klen; j++)
				key[j] = (uint8_t) prng_below(&g, alphabet);
			memset(value, (int) i, vlen);
			model_add(&m, key, klen, 1 + (prng_next(&g) >> 1 >> prng_below(&g, 63)), del ? ENTRY_DELETE : ENTRY_PUT,
			          prng_below(&g, 4) == 0 ? prng_next(&g) : 0, value, del ? 0 : vlen);
		}
		model_sort(&m);
		check_table(&m, seed % 2 == 0 ? 10 : 0, TABLE_CODEC_NONE, &t);
		for (TableCodec codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
			uint64_t plain = t.bytes;

			if (!table_codec_built(codec) || seed % 3 == 1)
				continue;
			check_table(&m, seed % 2 == 0 ? 10 : 0, codec, &t);
			assert_true(t.bytes <= plain);
		}
		model_free(&m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_entry),
		cmocka_unit_test(test_random_models),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
