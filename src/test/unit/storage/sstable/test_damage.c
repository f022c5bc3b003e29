/*
 * test_damage.c - damaged files: never a wrong value, never "not found", never a step outside the bytes.
 *
 * Every byte of a small table is changed, the file is cut at every length, and blocks are changed at random
 * with their checksums made right again, as no disk would do, to reach the decoders.
 */
#define CACHE_BYTES CACHE_BYTES_MIN

#include "../../../../storage/sstable/sstable_internal.h"
#include "common/crc32c.h"
#include "table_test.h"

static uint64_t next_number = 1;

/* Two levels of index, versions that span blocks, tombstones, expiry. */
static void
make_model(Model *m, uint64_t seed, size_t n)
{
	Prng g;

	prng_seed(&g, seed);
	for (size_t i = 0; i < n; i++) {
		uint8_t key[300], value[200];
		size_t klen = 1 + prng_below(&g, prng_below(&g, 10) == 0 ? sizeof(key) : 8);
		bool del = prng_below(&g, 6) == 0;

		for (size_t j = 0; j < klen; j++)
			key[j] = (uint8_t) prng_below(&g, 3);
		memset(value, (int) i, sizeof(value));
		model_add(m, key, klen, 1 + prng_below(&g, 100000), del ? ENTRY_DELETE : ENTRY_PUT,
		          prng_below(&g, 4) == 0 ? prng_next(&g) : 0, value, del ? 0 : prng_below(&g, sizeof(value)));
	}
	model_sort(m);
}

typedef struct File {
	char path[FS_PATH_MAX];
	char *bytes;
	size_t len;
} File;

static File
read_table(const TableInfo *t)
{
	File f;

	table_path(t->number, f.path, sizeof(f.path));
	assert_ok(fs_read_file(f.path, 1 << 24, &f.bytes, &f.len));
	return f;
}

/* Put changed bytes into the table, under a new number, so that nothing of it is open or cached. */
static void
write_table(File *f, TableInfo *t, const void *bytes, size_t len)
{
	int fd;

	table_files_close_all();
	assert_ok(fs_unlink(f->path));
	t->number = next_number++;
	table_path(t->number, f->path, sizeof(f->path));
	assert_ok(fs_open(f->path, FS_CREATE_NEW, &fd));
	assert_ok(fs_pwrite(fd, bytes, len, 0));
	assert_ok(fs_close(fd));
}

static bool
damage(Status st)
{
	return st == ST_CORRUPT || st == ST_FOREIGN;
}

/* Every answer is right or says CORRUPT, with the file's name. Returns how many said so. */
static int
check_answers(const Model *m, const TableInfo *t)
{
	int refused = 0;

	for (size_t i = 0; i < m->n; i++) {
		Entry out;
		Status st = table_get(t, m->e[i].key, m->e[i].version + 1, &out);

		assert_true(table_may_contain(t, m->e[i].key, table_key_hash(m->e[i].key)));
		if (st == ST_OK)
			assert_true(same_entry(&out, &m->e[i]));
		else
			assert_true(damage(st) && strstr(status_detail(), "tables/") != NULL);
		refused += st != ST_OK;
	}
	for (int mode = 0; mode < 2; mode++) {
		Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = mode == 0, .read_ahead = mode == 1 });
		size_t i = 0;

		assert_non_null(it);
		for (iter_seek_first(it); it->valid; iter_next(it), i++)
			assert_true(i < m->n && same_entry(&it->entry, &m->e[i]));
		assert_true(it->status == ST_OK ? i == m->n : damage(it->status));
		refused += it->status != ST_OK;
		i = m->n;
		for (iter_seek_last(it); it->valid; iter_prev(it), i--)
			assert_true(i > 0 && same_entry(&it->entry, &m->e[i - 1]));
		assert_true(it->status == ST_OK ? i == 0 : damage(it->status));
		refused += it->status != ST_OK;
		iter_close(it);
	}
	return refused;
}

static void
flip_every_byte(TableCodec codec)
{
	Model m = { 0 };
	TableInfo t;
	File f;

	make_model(&m, 1, 60);
	build_table_as(&m, next_number++, 10, codec, &t);
	f = read_table(&t);
	assert_true(f.len == t.bytes && t.entries > 40);
	for (size_t i = 0; i < f.len; i++) {
		char was = f.bytes[i];

		f.bytes[i] = (char) (was ^ (1 << (i % 8)));
		write_table(&f, &t, f.bytes, f.len);
		(void) check_answers(&m, &t);
		if (!damage(table_verify(&t, NULL, NULL)))
			fail_msg("byte %zu changed and verify found nothing", i);
		f.bytes[i] = was;
	}
	write_table(&f, &t, f.bytes, f.len);
	assert_int_equal(check_answers(&m, &t), 0);
	assert_ok(table_verify(&t, NULL, NULL));
	free(f.bytes);
	model_free(&m);
}

static void
test_every_byte_flipped(void **state)
{
	(void) state;
	for (TableCodec codec = TABLE_CODEC_NONE; codec <= TABLE_CODEC_ZSTD; codec++)
		if (table_codec_built(codec))
			flip_every_byte(codec);
}

static void
test_every_length(void **state)
{
	Model m = { 0 };
	TableInfo t, read;
	File f;

	(void) state;
	make_model(&m, 2, 60);
	build_table(&m, next_number++, 10, &t);
	f = read_table(&t);
	for (size_t len = 0; len < f.len; len++) {
		Buf small = { 0 }, large = { 0 };
		Entry out;

		write_table(&f, &t, f.bytes, len);
		assert_int_equal(table_read_info(t.number, &read, &small, &large), ST_CORRUPT);
		assert_int_equal(table_verify(&t, NULL, NULL), ST_CORRUPT);
		assert_int_equal(table_get(&t, m.e[0].key, UINT64_MAX, &out), ST_CORRUPT);
		assert_int_equal(table_get(&t, slice_str("absent"), UINT64_MAX, &out), ST_CORRUPT);
		buf_free(&small);
		buf_free(&large);
	}
	table_files_close_all();
	assert_ok(fs_unlink(f.path));
	assert_int_equal(table_get(&t, m.e[0].key, UINT64_MAX, &(Entry){ 0 }), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "missing"));
	free(f.bytes);
	model_free(&m);
}

/* Blocks of a file, found by following the index. */
typedef struct Blocks {
	BlockHandle h[4096];
	size_t n;
} Blocks;

static void
find_blocks(const TableInfo *t, BlockHandle h, uint32_t level, Blocks *out)
{
	BlockFile file = table_blocks(t);
	Buf own = { 0 };
	Slice block;
	IndexView v;

	out->h[out->n++] = h;
	if (level > 0) {
		assert_ok(block_read(&file, h, &own, &block));
		assert_true(index_open(&v, block));
		for (uint32_t i = 0; i < v.n; i++) {
			BlockHandle child;

			assert_true(index_child(&v, i, &child));
			find_blocks(t, child, level - 1, out);
		}
	}
	buf_free(&own);
}

/* Walk everything, whatever it says; answers may be wrong, the walk must end inside the bytes. */
static void
survive(const Model *m, const TableInfo *t, Prng *g)
{
	for (size_t i = 0; i < 20; i++) {
		const Entry *e = &m->e[prng_below(g, m->n)];
		Entry out;
		Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = i % 2 == 0, .read_ahead = i % 3 == 0 });
		uint64_t sum = 0, steps = 0;

		if (table_get(t, e->key, e->version + 1, &out) == ST_OK)
			for (size_t j = 0; j < out.value.len; j++)
				sum += out.value.data[j];
		(void) table_may_contain(t, e->key, table_key_hash(e->key));
		assert_non_null(it);
		for (iter_seek(it, e->key, e->version); it->valid && steps < 50; iter_next(it), steps++)
			for (size_t j = 0; j < it->entry.value.len; j++)
				sum += it->entry.value.data[j];
		for (iter_seek_before(it, e->key, e->version); it->valid && steps < 100; iter_prev(it), steps++)
			for (size_t j = 0; j < it->entry.key.len; j++)
				sum += it->entry.key.data[j];
		if (i == 0) {
			for (steps = 0, iter_seek_first(it); it->valid; iter_next(it))
				assert_true(++steps < 1000000);
			for (steps = 0, iter_seek_last(it); it->valid; iter_prev(it))
				assert_true(++steps < 1000000);
		}
		iter_close(it);
		if (sum == UINT64_MAX)
			print_message("unlikely\n"); /* the sums are used */
	}
	(void) !table_verify(t, NULL, NULL);
}

static void
forge_blocks(TableCodec codec)
{
	static Blocks blocks;
	Model m = { 0 };
	TableInfo t;
	File f;
	Prng g;

	print_message("seed 77\n");
	prng_seed(&g, 77);
	make_model(&m, 3, 9000);
	build_table_as(&m, next_number++, 10, codec, &t);
	assert_true(t.index_height >= 2);
	f = read_table(&t);
	blocks.n = 0;
	find_blocks(&t, (BlockHandle){ t.root_offset, t.root_size }, t.index_height, &blocks);
	for (int round = 0; round < 300; round++) {
		char *copy = malloc(f.len);
		/* indexes come first and are few: half of the rounds change the root or what it names first */
		BlockHandle h = blocks.h[prng_below(&g, round % 2 == 0 ? 3 : blocks.n)];
		uint8_t *p;

		memcpy(copy, f.bytes, f.len);
		p = (uint8_t *) copy + h.offset;
		for (uint64_t n = 1 + prng_below(&g, 4); n > 0; n--) {
			size_t at = prng_below(&g, prng_below(&g, 2) == 0 && h.size > 40 ? 40 : h.size);

			p[at] = prng_below(&g, 3) == 0 ? 0xff : (uint8_t) prng_next(&g);
		}
		put_u32(p + h.size + 1, block_crc(t.file_id, h.offset, p, h.size, p[h.size]));
		write_table(&f, &t, copy, f.len);
		survive(&m, &t, &g);
		free(copy);
	}
	free(f.bytes);
	model_free(&m);
}

static void
test_forged_blocks(void **state)
{
	(void) state;
	for (TableCodec codec = TABLE_CODEC_NONE; codec <= TABLE_CODEC_ZSTD; codec++)
		if (table_codec_built(codec))
			forge_blocks(codec);
}

/*
 * Write a table again with another root: the blocks before it, the forged root, a footer. Enough to read
 * from.
 */
static void
forge_root(File *f, TableInfo *t, IndexBuilder *b, uint32_t height)
{
	Footer foot = { .file_id = t->file_id, .root_offset = t->root_offset, .index_height = height };
	uint8_t trailer[BLOCK_TRAILER] = { TABLE_CODEC_NONE }, raw[FOOTER_BYTES];
	Buf out = { 0 };

	assert_ok(index_builder_finish(b));
	foot.root_size = t->root_size = (uint32_t) b->content.len;
	t->index_height = height;
	put_u32(trailer + 1, block_crc(t->file_id, t->root_offset, b->content.data, b->content.len, TABLE_CODEC_NONE));
	footer_encode(&foot, raw);
	assert_ok(buf_append(&out, f->bytes, (size_t) t->root_offset));
	assert_ok(buf_append_slice(&out, slice_buf(&b->content)));
	assert_ok(buf_append(&out, trailer, sizeof(trailer)));
	assert_ok(buf_append(&out, raw, sizeof(raw)));
	t->bytes = out.len;
	write_table(f, t, out.data, out.len);
	buf_free(&out);
}

static void
expect_refused(const TableInfo *t, const char *why, uint64_t steps_max)
{
	for (int back = 0; back < 2; back++) {
		Iter *it = table_iter(t, (TableIterOptions){ .fill_cache = true });
		uint64_t steps = 0;

		for (back ? iter_seek_last(it) : iter_seek_first(it); it->valid; back ? iter_prev(it) : iter_next(it))
			assert_true(++steps <= steps_max);
		assert_int_equal(it->status, ST_CORRUPT);
		assert_non_null(strstr(status_detail(), why));
		iter_close(it);
	}
}

/* A tree that leads back, or into itself, is refused: walks end. */
static void
test_forged_tree(void **state)
{
	Model m = { 0 };
	TableInfo t;
	BlockHandle first, root;
	IndexBuilder b = { 0 };
	BlockFile file;
	IndexView v;
	Buf own = { 0 };
	Slice block;
	Entry out;
	File f;
	uint64_t codecs[TABLE_CODECS];

	(void) state;
	make_model(&m, 6, 300);
	build_table(&m, next_number++, 0, &t);
	assert_int_equal(t.index_height, 1);
	f = read_table(&t);
	root = (BlockHandle){ t.root_offset, t.root_size };
	file = table_blocks(&t);
	assert_ok(block_read(&file, root, &own, &block));
	assert_true(index_open(&v, block) && index_child(&v, 0, &first));
	for (int i = 0; i < 3; i++)
		assert_ok(index_builder_add(&b, slice_of(&"\3abc"[i], 1), 0, first));
	forge_root(&f, &t, &b, 1);
	expect_refused(&t, "out of order", m.n);
	assert_int_equal(table_count_codecs(&t, codecs), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "out of order"));
	index_builder_reset(&b);
	assert_ok(index_builder_add(&b, slice_str("\3"), 0, root));
	forge_root(&f, &t, &b, 2);
	expect_refused(&t, "not before it", 0);
	assert_int_equal(table_get(&t, m.e[0].key, UINT64_MAX, &out), ST_CORRUPT);
	index_builder_free(&b);
	buf_free(&own);
	free(f.bytes);
	model_free(&m);
}

static bool
inside(Slice part, Slice whole)
{
	return part.data >= whole.data && part.data + part.len <= whole.data + whole.len;
}

/* Decoders alone, on bytes in a buffer of exactly their size (so that a sanitizer sees one byte too far). */
static void
test_forged_decoding(void **state)
{
	Prng g;

	(void) state;
	print_message("seed 99\n");
	prng_seed(&g, 99);
	for (int round = 0; round < 60000; round++) {
		size_t len = prng_below(&g, 120);
		uint8_t *p = malloc(len + 1), *exact = malloc(len == 0 ? 1 : len);
		Slice block = slice_of(exact, len), key = slice_of("\1\2\3", 3), suffix;
		DataCursor c = { 0 };
		uint64_t version;
		BlockHandle child;
		Properties props;
		IndexView v;
		uint32_t i;
		Entry out;

		for (size_t j = 0; j < len; j++)
			p[j] = (uint8_t) (prng_below(&g, 4) == 0 ? prng_next(&g) : prng_below(&g, 6));
		if (round % 2 == 0 && len > 20) { /* a data block's header that holds: one restart, some entries */
			memset(p, 0, 10);
			p[0] = (uint8_t) (1 + prng_below(&g, len - 10));
			p[4] = 1;
			p[8] = (uint8_t) prng_below(&g, 20);
			p[10] = 0;
			p[13] &= ENTRY_KIND_MASK | ENTRY_FLAG_EXPIRE;
		}
		memcpy(exact, p, len);
		if (data_get(block, key, 5, &out) == ST_OK)
			assert_true(inside(out.value, block));
		if (data_cursor_open(&c, block)) {
			if (data_cursor_seek(&c, key, 5) && data_cursor_valid(&c))
				(void) data_cursor_prev(&c);
			for (bool ok = data_cursor_first(&c); ok && data_cursor_valid(&c); ok = data_cursor_next(&c))
				assert_true(inside(c.entry.value, block));
			for (bool ok = data_cursor_last(&c); ok && data_cursor_valid(&c); ok = data_cursor_prev(&c))
				assert_true(c.entry.key.len <= len * 128);
		}
		if (index_open(&v, block) && index_seek(&v, key, 5, &i) && i < v.n)
			if (index_item(&v, i, &suffix, &version, &child))
				assert_true(inside(suffix, block));
		if (properties_decode(block, &props))
			assert_true(inside(props.smallest, block) && inside(props.largest, block) && inside(props.shares, block));
		data_cursor_free(&c);
		free(exact);
		free(p);
	}
}

/*
 * A table of one data block whose key `which` has `less` fewer bytes in common with the one before than it could: sound
 * for a walk, but point reads take "longest" for granted.
 */
static void
build_by_hand(const Model *m, size_t which, size_t less, TableInfo *t)
{
	DataBuilder d = { 0 };
	IndexBuilder ib = { 0 };
	Slice small = m->e[0].key, large = m->e[m->n - 1].key;
	char path[FS_PATH_MAX];
	uint8_t raw[FOOTER_BYTES];
	Buf props = { 0 };
	BlockHandle h;
	BlockOut o;

	*t = (TableInfo){ .number = next_number++, .file_id = 77, .index_height = 1, .version_min = UINT64_MAX };
	table_path(t->number, path, sizeof(path));
	assert_ok(block_out_open(&o, path, t->file_id));
	for (size_t i = 0; i < m->n; i++) {
		const Entry *e = &m->e[i];

		assert_ok(data_builder_add(&d, e, data_builder_common(&d, e->key) - (i == which ? less : 0)));
		t->entries++;
		t->key_bytes += e->key.len;
		t->value_bytes += e->value.len;
		t->version_min = e->version < t->version_min ? e->version : t->version_min;
		t->version_max = e->version > t->version_max ? e->version : t->version_max;
	}
	assert_ok(data_builder_finish(&d));
	assert_ok(block_out_write(&o, slice_buf(&d.content), TABLE_CODEC_NONE, &h));
	assert_ok(index_builder_add(&ib, large, 0, h));
	assert_ok(index_builder_finish(&ib));
	assert_ok(block_out_write(&o, slice_buf(&ib.content), TABLE_CODEC_NONE, &h));
	t->root_offset = h.offset;
	t->root_size = h.size;
	t->bytes = block_out_length(&o) + PROPERTIES_FIXED + small.len + large.len + BLOCK_TRAILER + FOOTER_BYTES;
	assert_ok(properties_encode(&(Properties){ .info = *t, .smallest = small, .largest = large }, NULL, &props));
	assert_ok(block_out_write(&o, slice_buf(&props), TABLE_CODEC_NONE, &h));
	footer_encode(&(Footer){ t->file_id, t->root_offset, h.offset, t->root_size, 1, h.size }, raw);
	assert_ok(block_out_bytes(&o, raw, sizeof(raw)));
	assert_ok(block_out_finish(&o));
	data_builder_free(&d);
	index_builder_free(&ib);
	buf_free(&props);
}

static void
test_keys_cut_too_little(void **state)
{
	Model m = { 0 };
	TableInfo t;

	(void) state;
	for (int i = 0; i < 20; i++) {
		char key[8];

		snprintf(key, sizeof(key), "key%02d", i);
		model_add(&m, key, 5, 5, ENTRY_PUT, 0, "v", 1);
	}
	build_by_hand(&m, 0, 0, &t);
	assert_ok(table_verify(&t, NULL, NULL));
	for (size_t which = 1; which < 20; which++) {
		build_by_hand(&m, which, 1, &t);
		if (which == 16) { /* a restart: not cut at all */
			assert_ok(table_verify(&t, NULL, NULL));
			continue;
		}
		assert_int_equal(table_verify(&t, NULL, NULL), ST_CORRUPT);
		assert_non_null(strstr(status_detail(), "not cut as far"));
	}
	model_free(&m);
}

static void
test_newer_format(void **state)
{
	Model m = { 0 };
	TableInfo t, read;
	Buf small = { 0 }, large = { 0 };
	uint8_t *footer;
	uint32_t crc;
	File f;

	(void) state;
	make_model(&m, 4, 20);
	build_table(&m, next_number++, 10, &t);
	f = read_table(&t);
	footer = (uint8_t *) f.bytes + f.len - FOOTER_BYTES;
	put_u32(footer + 48, TABLE_FORMAT_VERSION + 1);
	write_table(&f, &t, f.bytes, f.len);
	assert_int_equal(table_read_info(t.number, &read, &small, &large), ST_CORRUPT);
	crc = crc32c(crc32c(0, footer, 52), footer + 56, 8);
	put_u32(footer + 52, crc);
	write_table(&f, &t, f.bytes, f.len);
	assert_int_equal(table_read_info(t.number, &read, &small, &large), ST_FOREIGN);
	assert_int_equal(table_get(&t, m.e[0].key, UINT64_MAX, &(Entry){ 0 }), ST_FOREIGN);
	free(f.bytes);
	model_free(&m);
}

/* Two blocks of one size in each other's place, and a block of another file in the same place, are damage. */
static void
test_misplaced_block(void **state)
{
	static Blocks blocks;
	static char kept[BLOCK_TARGET + BLOCK_TRAILER];
	Model m = { 0 };
	TableInfo t, other;
	File f, g;
	int swapped = 0;

	(void) state;
	make_model(&m, 5, 2000);
	build_table(&m, next_number++, 0, &t);
	build_table(&m, next_number++, 0, &other); /* same bytes but for id and checksums */
	assert_int_equal(t.bytes, other.bytes);
	f = read_table(&t);
	g = read_table(&other);
	find_blocks(&t, (BlockHandle){ t.root_offset, t.root_size }, t.index_height, &blocks);
	for (size_t i = 1; i < blocks.n; i++) {
		BlockHandle x = blocks.h[i], y = x;
		size_t all = x.size + BLOCK_TRAILER;

		assert_true(x.size <= BLOCK_TARGET);
		for (size_t j = i + 1; j < blocks.n; j++)
			if (blocks.h[j].size == x.size)
				y = blocks.h[j];
		memcpy(kept, f.bytes + x.offset, all);
		memcpy(f.bytes + x.offset, g.bytes + x.offset, all);
		write_table(&f, &t, f.bytes, f.len);
		assert_true(check_answers(&m, &t) > 0);
		if (x.offset != y.offset) {
			memcpy(f.bytes + x.offset, f.bytes + y.offset, all);
			memcpy(f.bytes + y.offset, kept, all);
			write_table(&f, &t, f.bytes, f.len);
			assert_true(check_answers(&m, &t) > 0);
			memcpy(f.bytes + y.offset, f.bytes + x.offset, all);
			swapped++;
		}
		memcpy(f.bytes + x.offset, kept, all);
	}
	assert_true(swapped > 0);
	write_table(&f, &t, g.bytes, g.len);
	assert_int_equal(table_get(&t, m.e[0].key, UINT64_MAX, &(Entry){ 0 }), ST_CORRUPT);
	free(f.bytes);
	free(g.bytes);
	model_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_byte_flipped),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_forged_blocks),
		cmocka_unit_test(test_forged_tree),
		cmocka_unit_test(test_forged_decoding),
		cmocka_unit_test(test_keys_cut_too_little),
		cmocka_unit_test(test_newer_format),
		cmocka_unit_test(test_misplaced_block),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
