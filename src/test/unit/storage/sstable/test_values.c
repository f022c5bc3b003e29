/*
 * test_values.c - value files: packing, references at their bounds, damage, and tables that refer to them.
 */
#define CACHE_BYTES CACHE_BYTES_MIN

#include "../../../../storage/sstable/value_internal.h"
#include "common/crc32c.h"
#include "table_test.h"

static const TableIterOptions past = { .read_ahead = true }, look = { 0 }, fill = { .fill_cache = true };
static uint64_t next_id = VALUE_ID_BIT;

static Status
test_unlink_value(void *arg, const char *name)
{
	char path[FS_PATH_MAX];

	(void) arg;
	snprintf(path, sizeof(path), VALUE_DIR "/%s", name);
	return fs_unlink(path);
}

typedef struct Values {
	ValueFileInfo info;
	size_t n;
	Slice value[64];
	ValueRef ref[64];
	Buf bytes[64];
} Values;

static void
fill_value(Buf *b, size_t len, uint64_t seed)
{
	Prng g;

	prng_seed(&g, seed);
	b->len = 0;
	assert_ok(buf_reserve(b, len + 1));
	for (size_t i = 0; i < len; i++)
		b->data[i] = (uint8_t) (seed % 2 ? prng_next(&g) : prng_below(&g, 3));
	b->len = len;
}

static void
build(Values *v, const size_t *lens, size_t n, TableCodec codec)
{
	ValueBuilder *b;

	memset(v, 0, sizeof(*v));
	assert_ok(value_builder_open(++next_id, codec, &b));
	for (v->n = 0; v->n < n; v->n++) {
		fill_value(&v->bytes[v->n], lens[v->n], v->n);
		v->value[v->n] = slice_buf(&v->bytes[v->n]);
		assert_ok(value_builder_add(b, v->value[v->n], &v->ref[v->n]));
	}
	assert_ok(value_builder_finish(b, &v->info));
	assert_int_equal(v->info.file_id, next_id);
	assert_int_equal(v->info.values, n);
}

static void
free_values(Values *v)
{
	for (size_t i = 0; i < v->n; i++)
		buf_free(&v->bytes[i]);
}

static Slice
encoded(const ValueRef *ref)
{
	static uint8_t bytes[VALUE_REF_MAX];

	return slice_of(bytes, value_ref_encode(ref, bytes));
}

static Status
look_up(ValueLookup *l, const ValueRef *ref, Slice *out)
{
	value_lookup_begin(l, encoded(ref));
	while (value_lookup_step(l))
		;
	*out = l->value;
	return l->status;
}

/* By all ways, each from the file, then from the cache. */
static void
check_values(const Values *v)
{
	const TableIterOptions *ways[] = { &past, &look, &fill, &past, &look, &fill };
	ValueReader r = { 0 };
	ValueLookup l = { 0 };
	Slice got;

	for (size_t i = 0; i < v->n; i++) {
		for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
			assert_ok(value_read(&r, encoded(&v->ref[i]), *ways[w], &got));
			assert_true(slice_eq(got, v->value[i]));
		}
		for (int twice = 0; twice < 2; twice++) {
			assert_ok(look_up(&l, &v->ref[i], &got));
			assert_true(slice_eq(got, v->value[i]));
			assert_int_equal(l.in_own, got.len > VALUE_BLOCK_TARGET);
		}
	}
	assert_ok(value_file_verify(&v->info, NULL, NULL));
	buf_free(&r.own);
	value_lookup_end(&l);
}

/* ---- what is written where */
static void
test_sizes(void **state)
{
	static const size_t lens[] = { 1, 1023, 1024, 1025, 4095, 4096, 4097, 1, 100000, 262143, 262144, 300000, 2, 3 };
	Values v;

	(void) state;
	for (TableCodec c = TABLE_CODEC_NONE; c <= TABLE_CODEC_ZSTD; c++) {
		if (!table_codec_built(c))
			continue;
		build(&v, lens, sizeof(lens) / sizeof(lens[0]), c);
		check_values(&v);
		free_values(&v);
	}
}

static void
test_largest_value(void **state)
{
	static const size_t lens[] = { KV_VALUE_MAX, 10, KV_VALUE_MAX };
	Values v;

	(void) state;
	build(&v, lens, 3, TABLE_CODEC_NONE);
	check_values(&v);
	free_values(&v);
}

static void
test_packing(void **state)
{
	static const size_t lens[] = { 1000, 3096, 1000, 3095, 2, 4097, 1, 4095, 4096, 5 };
	Values v;
	const ValueRef *r = v.ref;

	(void) state;
	build(&v, lens, sizeof(lens) / sizeof(lens[0]), TABLE_CODEC_NONE);
	/* Exactly full: one block. */
	assert_int_equal(r[0].offset, VALUE_PREFIX);
	assert_int_equal(r[0].at, 0);
	assert_int_equal(r[1].offset, r[0].offset);
	assert_int_equal(r[1].at, 1000);
	assert_int_equal(r[2].offset, r[0].offset + 4096 + BLOCK_TRAILER + VALUE_PREFIX);
	/* One byte to spare is not enough for two. */
	assert_int_equal(r[3].offset, r[2].offset);
	assert_int_equal(r[4].offset, r[2].offset + 4095 + BLOCK_TRAILER + VALUE_PREFIX);
	assert_int_equal(r[4].at, 0);
	/* Over the target: alone, and it ends the block before it. */
	assert_int_equal(r[5].offset, r[4].offset + 2 + BLOCK_TRAILER + VALUE_PREFIX);
	assert_int_equal(r[5].at, 0);
	assert_int_equal(r[6].offset, r[5].offset + 4097 + BLOCK_TRAILER + VALUE_PREFIX);
	assert_int_equal(r[7].offset, r[6].offset);
	assert_int_equal(r[7].at, 1);
	assert_int_equal(r[8].at, 0);
	assert_true(r[9].offset > r[8].offset);
	assert_int_equal(v.info.bytes, r[9].offset + 5 + BLOCK_TRAILER + FOOTER_BYTES);
	check_values(&v);
	free_values(&v);
}

/* ---- references */
static bool
accepted(uint64_t id, uint64_t offset, uint32_t at, uint32_t length)
{
	ValueRef ref = { id, offset, at, length }, back;
	bool good = value_ref_decode(encoded(&ref), &back);

	if (good)
		assert_memory_equal(&ref, &back, sizeof(ref));
	return good;
}

static void
test_references(void **state)
{
	const uint64_t id = VALUE_ID_BIT | 5;
	ValueRef ref = { id, VALUE_PREFIX, 0, 1 };
	Slice whole;
	uint8_t longer[VALUE_REF_MAX + 1] = { 0 };

	(void) state;
	assert_true(accepted(id, VALUE_PREFIX, 0, 1));
	assert_false(accepted(id & ~VALUE_ID_BIT, VALUE_PREFIX, 0, 1));
	assert_false(accepted(id, VALUE_PREFIX - 1, 0, 1));
	assert_true(accepted(id, VALUE_OFFSET_MAX, 0, 1));
	assert_false(accepted(id, VALUE_OFFSET_MAX + 1, 0, 1));
	assert_false(accepted(id, VALUE_PREFIX, 0, 0));
	assert_true(accepted(id, VALUE_PREFIX, 4095, 1));
	assert_false(accepted(id, VALUE_PREFIX, 4096, 1));
	assert_true(accepted(id, VALUE_PREFIX, 0, 4096));
	assert_false(accepted(id, VALUE_PREFIX, 1, 4096));
	assert_true(accepted(id, VALUE_PREFIX, 0, 4097));
	assert_false(accepted(id, VALUE_PREFIX, 1, 4097));
	assert_true(accepted(id, VALUE_PREFIX, 0, KV_VALUE_MAX));
	assert_false(accepted(id, VALUE_PREFIX, 0, KV_VALUE_MAX + 1));
	whole = encoded(&ref);
	for (size_t cut = 0; cut < whole.len; cut++)
		assert_false(value_ref_decode(slice_of(whole.data, cut), &ref));
	memcpy(longer, whole.data, whole.len);
	assert_false(value_ref_decode(slice_of(longer, whole.len + 1), &ref));
}

/* A reference to what is no block, or not that long a one. */
static void
test_wrong_references(void **state)
{
	static const size_t lens[] = { 100, 200, 5000 };
	ValueReader r = { 0 };
	Values v;
	Slice got;

	(void) state;
	build(&v, lens, 3, TABLE_CODEC_NONE);
	for (uint64_t offset = VALUE_PREFIX; offset < v.info.bytes + 10; offset++) {
		ValueRef ref = { v.info.file_id, offset, 0, 100 };
		Status st = value_read(&r, encoded(&ref), past, &got);

		if (offset == v.ref[0].offset)
			assert_ok(st);
		else
			assert_int_equal(st, ST_CORRUPT);
	}
	v.ref[1].length = 201; /* the block has 300 bytes, and it begins at 100 */
	assert_int_equal(value_read(&r, encoded(&v.ref[1]), look, &got), ST_CORRUPT);
	v.ref[2].length = 4999;
	assert_int_equal(value_read(&r, encoded(&v.ref[2]), look, &got), ST_CORRUPT);
	v.ref[2].length = 5001;
	assert_int_equal(value_read(&r, encoded(&v.ref[2]), look, &got), ST_CORRUPT);
	v.ref[0].file_id++;
	assert_int_equal(value_read(&r, encoded(&v.ref[0]), past, &got), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "missing"));
	buf_free(&r.own);
	free_values(&v);
}

/* ---- damage */
static void
write_file(const ValueFileInfo *info, const void *bytes, size_t len)
{
	char path[FS_PATH_MAX];
	int fd;

	table_files_close_all();
	value_path(info->file_id, path, sizeof(path));
	assert_ok(fs_unlink(path));
	assert_ok(fs_open(path, FS_CREATE_NEW, &fd));
	assert_ok(fs_pwrite(fd, bytes, len, 0));
	assert_ok(fs_close(fd));
}

static int
wrong_or_refused(const Values *v)
{
	ValueReader r = { 0 };
	int refused = 0;

	for (size_t i = 0; i < v->n; i++) {
		Slice got;
		Status st = value_read(&r, encoded(&v->ref[i]), past, &got);

		refused += st != ST_OK;
		if (st == ST_OK)
			assert_true(slice_eq(got, v->value[i]));
		else
			assert_true(st == ST_CORRUPT || st == ST_FOREIGN);
	}
	buf_free(&r.own);
	return refused;
}

static void
test_every_byte(void **state)
{
	static const size_t lens[] = { 40, 50, 4097, 30 };
	char path[FS_PATH_MAX], *bytes;
	size_t len;
	Values v;

	(void) state;
	build(&v, lens, 4, TABLE_CODEC_NONE);
	value_path(v.info.file_id, path, sizeof(path));
	assert_ok(fs_read_file(path, 1 << 20, &bytes, &len));
	assert_int_equal(len, v.info.bytes);
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit += 7) {
			Status st;

			bytes[i] ^= (char) (1 << bit);
			write_file(&v.info, bytes, len);
			(void) wrong_or_refused(&v);
			st = value_file_verify(&v.info, NULL, NULL);
			assert_true(st == ST_CORRUPT || st == ST_FOREIGN);
			bytes[i] ^= (char) (1 << bit);
		}
	}
	for (size_t cut = 0; cut < len; cut++) {
		write_file(&v.info, bytes, cut);
		assert_int_equal(wrong_or_refused(&v), 4);
		assert_int_equal(value_file_verify(&v.info, NULL, NULL), ST_CORRUPT);
	}
	write_file(&v.info, bytes, len);
	check_values(&v);
	free(bytes);
	free_values(&v);
}

/* The bytes of another file under this one's name; a footer that says this one's id does not help. */
static void
test_another_file(void **state)
{
	static const size_t lens[] = { 1000, 1000, 5000 };
	char path[FS_PATH_MAX], *bytes;
	Values a, b;
	size_t len;
	ValueFooter f;

	(void) state;
	build(&a, lens, 3, TABLE_CODEC_NONE);
	build(&b, lens, 3, TABLE_CODEC_NONE);
	value_path(a.info.file_id, path, sizeof(path));
	assert_ok(fs_read_file(path, 1 << 20, &bytes, &len));
	write_file(&b.info, bytes, len);
	assert_int_equal(wrong_or_refused(&b), 3);
	assert_ok(value_footer_decode((uint8_t *) bytes + len - FOOTER_BYTES, path, &f));
	f.file_id = b.info.file_id;
	value_footer_encode(&f, (uint8_t *) bytes + len - FOOTER_BYTES);
	write_file(&b.info, bytes, len);
	assert_int_equal(wrong_or_refused(&b), 3);
	free(bytes);
	free_values(&a);
	free_values(&b);
}

static void
test_newer_format(void **state)
{
	ValueFooter f = { VALUE_ID_BIT | 1, 1, 1, 1 }, back;
	uint8_t raw[FOOTER_BYTES];

	(void) state;
	value_footer_encode(&f, raw);
	assert_ok(value_footer_decode(raw, "x", &back));
	assert_memory_equal(&f, &back, sizeof(f));
	put_u32(raw + 48, VALUE_FORMAT_VERSION + 1);
	assert_int_equal(value_footer_decode(raw, "x", &back), ST_CORRUPT); /* its checksum is not right */
	put_u32(raw + 52, crc32c(crc32c(0, raw, 52), raw + 56, 8));
	assert_int_equal(value_footer_decode(raw, "x", &back), ST_FOREIGN);
}

/* ---- disk full at each write */
static FsOps failing;
static int writes_left;

static Status
write_or_full(int fd, const void *buf, size_t len, uint64_t off)
{
	return writes_left-- > 0 ? fs_posix.pwrite(fd, buf, len, off) : status_fail(ST_NO_SPACE, "full");
}

static Status
write_some(uint64_t id, ValueFileInfo *info)
{
	ValueBuilder *b;
	Buf value = { 0 };
	Status st;

	assert_ok(value_builder_open(id, TABLE_CODEC_NONE, &b));
	fill_value(&value, 100000, 1);
	for (int i = 0; i < 12; i++) {
		ValueRef ref;

		st = value_builder_add(b, slice_buf(&value), &ref);
		if (st != ST_OK)
			break;
	}
	if (st == ST_OK)
		st = value_builder_finish(b, info);
	else
		value_builder_abandon(b);
	buf_free(&value);
	return st;
}

static Status
no_file(void *arg, const char *name)
{
	(void) name;
	*(int *) arg += 1;
	return ST_OK;
}

static void
test_full_disk(void **state)
{
	int failures = 0, files = 0;
	ValueFileInfo info;

	(void) state;
	assert_ok(fs_list(VALUE_DIR, test_unlink_value, NULL));
	failing = fs_posix;
	failing.pwrite = write_or_full;
	fs = &failing;
	for (;; failures++) {
		writes_left = failures;
		if (write_some(++next_id, &info) == ST_OK)
			break;
		assert_ok(fs_list(VALUE_DIR, no_file, &files));
		assert_int_equal(files, 0);
	}
	fs = &fs_posix;
	assert_true(failures > 3);
	assert_ok(value_file_verify(&info, NULL, NULL));
}

/* ---- shares */
static void
test_shares(void **state)
{
	uint8_t raw[3 * VALUE_SHARE_BYTES];
	const ValueShare good[] = { { VALUE_ID_BIT, 1, 1 }, { VALUE_ID_BIT + 1, 2, 30 }, { UINT64_MAX, 1, 9 } };
	Buf out = { 0 };

	(void) state;
	for (int i = 0; i < 3; i++)
		value_share_encode(&good[i], raw + i * VALUE_SHARE_BYTES);
	assert_ok(value_shares_decode(raw, 3, &out));
	assert_memory_equal(out.data, good, sizeof(good));
	put_u64(raw + VALUE_SHARE_BYTES, VALUE_ID_BIT); /* twice */
	assert_int_equal(value_shares_decode(raw, 3, &out), ST_CORRUPT);
	put_u64(raw + VALUE_SHARE_BYTES, 7); /* a table's number */
	assert_int_equal(value_shares_decode(raw, 3, &out), ST_CORRUPT);
	put_u64(raw + 8, 0); /* none of it */
	assert_int_equal(value_shares_decode(raw, 1, &out), ST_CORRUPT);
	buf_free(&out);
}

static void
count_shares(Buf *shares, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		ValueRef ref = { VALUE_ID_BIT | (i * 2654435761u % 65536u), VALUE_PREFIX, 0, 10 };

		assert_ok(value_shares_count(shares, &ref));
	}
}

static void
test_shares_bound(void **state)
{
	static uint8_t raw[(VALUE_SHARES_MAX + 1) * VALUE_SHARE_BYTES];
	Buf shares = { 0 }, out = { 0 };
	const ValueShare *s;

	(void) state;
	count_shares(&shares, VALUE_SHARES_MAX + 1);
	s = (const ValueShare *) (const void *) shares.data;
	assert_int_equal(shares.len, (VALUE_SHARES_MAX + 1) * sizeof(*s));
	for (uint32_t i = 0; i <= VALUE_SHARES_MAX; i++)
		value_share_encode(&s[i], raw + i * VALUE_SHARE_BYTES);
	assert_ok(value_shares_decode(raw, VALUE_SHARES_MAX - 1, &out));
	out.len = 0;
	assert_ok(value_shares_decode(raw, VALUE_SHARES_MAX, &out));
	assert_memory_equal(out.data, s, VALUE_SHARES_MAX * sizeof(*s));
	assert_int_equal(value_shares_decode(raw, VALUE_SHARES_MAX + 1, &out), ST_CORRUPT);
	buf_free(&shares);
	buf_free(&out);
}

/* ---- tables that refer to values */
static void
test_table_of_references(void **state)
{
	static const size_t lens[] = { 1000, 2000, 3000, 5000, 1024 };
	Values v[2];
	Model m = { 0 };
	TableInfo t;
	Buf shares = { 0 };
	const ValueShare *s;
	Iter *it;
	size_t i = 0;

	(void) state;
	build(&v[0], lens, 5, TABLE_CODEC_NONE);
	build(&v[1], lens, 3, TABLE_CODEC_NONE);
	for (size_t f = 0; f < 2; f++) {
		for (size_t n = 0; n < v[f].n; n++) {
			char key[32];
			Slice ref = encoded(&v[f].ref[n]);
			int len = snprintf(key, sizeof(key), "k%zu-%zu", n, f);

			model_add(&m, key, (size_t) len, 10 + n, ENTRY_VALUE_REF, n == 2 ? 99 : 0, ref.data, ref.len);
		}
	}
	model_add(&m, "plain", 5, 1, ENTRY_PUT, 0, "abc", 3);
	model_sort(&m);
	build_table(&m, 1, 10, &t);
	assert_int_equal(t.value_files, 2);
	assert_int_equal(t.value_bytes, 1000 + 2000 + 3000 + 5000 + 1024 + 6000 + 3);
	assert_ok(table_read_shares(1, &shares));
	s = (const ValueShare *) (const void *) shares.data;
	assert_int_equal(shares.len, 2 * sizeof(*s));
	assert_true(s[0].file_id == v[0].info.file_id && s[0].values == 5 && s[0].bytes == 12024);
	assert_true(s[1].file_id == v[1].info.file_id && s[1].values == 3 && s[1].bytes == 6000);
	assert_ok(table_verify(&t, NULL, NULL));
	it = table_iter(&t, look);
	for (iter_seek_first(it); it->valid; iter_next(it), i++)
		assert_true(same_entry(&it->entry, &m.e[i]));
	assert_ok(it->status);
	assert_int_equal(i, m.n);
	iter_close(it);
	buf_free(&shares);
	model_free(&m);
	free_values(&v[0]);
	free_values(&v[1]);
}

static int
setup(void **state)
{
	(void) state;
	test_start(CACHE_BYTES);
	assert_ok(fs_mkdir(VALUE_DIR));
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	table_files_close_all();
	assert_ok(fs_list(VALUE_DIR, test_unlink_value, NULL));
	assert_ok(fs_rmdir(VALUE_DIR));
	test_end();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_largest_value),
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_wrong_references),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_another_file),
		cmocka_unit_test(test_newer_format),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_shares_bound),
		cmocka_unit_test(test_table_of_references),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
