/*
 * test_codec.c - compressed blocks: what is kept, what is refused, what lies in the cache; older files.
 */
#define CACHE_BYTES CACHE_BYTES_MIN

#include "../../../../storage/sstable/sstable_internal.h"
#include "common/crc32c.h"
#include "table_test.h"

#define BIT(codec) (1u << (codec))

static uint64_t next_number = 1;

static void
fill_noise(uint8_t *p, size_t n, uint64_t seed)
{
	Prng g;

	prng_seed(&g, seed);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t) prng_next(&g);
}

/* One entry for each kind of value: noise or one byte repeated. */
static void
make_model(Model *m, size_t n, size_t value_len, bool noise)
{
	uint8_t *value = malloc(value_len);

	for (size_t i = 0; i < n; i++) {
		char key[16];
		int len = snprintf(key, sizeof(key), "\1%06zu", i);

		if (noise)
			fill_noise(value, value_len, i);
		else
			memset(value, (int) i, value_len);
		model_add(m, key, (size_t) len, i + 1, ENTRY_PUT, 0, value, value_len);
	}
	free(value);
}

static BlockHandle
data_block(const TableInfo *t, uint32_t i)
{
	BlockFile file = table_blocks(t);
	BlockHandle root = { t->root_offset, t->root_size }, h;
	Buf own = { 0 };
	Slice block;
	IndexView v;

	assert_int_equal(t->index_height, 1);
	assert_ok(block_read(&file, root, &own, &block));
	assert_true(index_open(&v, block) && i < v.n && index_child(&v, i, &h));
	buf_free(&own);
	return h;
}

static void
read_file(const TableInfo *t, char *path, char **bytes, size_t *len)
{
	table_path(t->number, path, FS_PATH_MAX);
	assert_ok(fs_read_file(path, 1 << 24, bytes, len));
}

/* Which codecs do the blocks of the file have? One bit each. */
static unsigned
codecs_of(const TableInfo *t, uint32_t nblocks)
{
	char path[FS_PATH_MAX], *bytes;
	unsigned seen = 0;
	size_t len;

	read_file(t, path, &bytes, &len);
	for (uint32_t i = 0; i < nblocks; i++) {
		BlockHandle h = data_block(t, i);

		seen |= BIT((uint8_t) bytes[h.offset + h.size]);
	}
	free(bytes);
	return seen;
}

/* What compresses is compressed, what does not is left alone, and so are blocks of one large entry. */
static void
test_kept_when_it_saves(void **state)
{
	(void) state;
	for (TableCodec codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		Model even = { 0 }, noise = { 0 }, large = { 0 };
		TableInfo t;

		if (!table_codec_built(codec))
			continue;
		make_model(&even, 100, 400, false);
		build_table_as(&even, next_number++, 0, codec, &t);
		assert_int_equal(codecs_of(&t, 3), BIT(codec));
		make_model(&noise, 100, 400, true);
		build_table_as(&noise, next_number++, 0, codec, &t);
		assert_int_equal(codecs_of(&t, 3), BIT(TABLE_CODEC_NONE));
		make_model(&large, 3, 2 * BLOCK_TARGET, false);
		build_table_as(&large, next_number++, 0, codec, &t);
		assert_int_equal(codecs_of(&t, 3), BIT(TABLE_CODEC_NONE));
		model_free(&even);
		model_free(&noise);
		model_free(&large);
	}
}

/* The bound of "saves an eighth", at -1, 0 and +1: content of which `noise` bytes do not compress. */
static void
test_an_eighth(void **state)
{
	uint8_t content[BLOCK_TARGET] = { 0 };
	Buf packed = { 0 }, back = { 0 };
	int kept = 0, refused = 0;

	(void) state;
	for (TableCodec codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		if (!table_codec_built(codec))
			continue;
		for (size_t noise = 3400; noise < 3700; noise++) {
			bool is_packed;

			memset(content, 0, sizeof(content));
			fill_noise(content, noise, noise);
			assert_ok(codec_pack((uint8_t) codec, slice_of(content, sizeof(content)), &packed, &is_packed));
			kept += is_packed;
			refused += !is_packed;
			if (!is_packed)
				continue;
			assert_true(packed.len <= BLOCK_TARGET - BLOCK_TARGET / CODEC_SAVES);
			assert_ok(codec_unpack((uint8_t) codec, slice_buf(&packed), BLOCK_TARGET, &back));
			assert_memory_equal(back.data, content, sizeof(content));
			assert_int_equal(codec_unpack((uint8_t) codec, slice_buf(&packed), BLOCK_TARGET - 1, &back), ST_CORRUPT);
		}
		assert_true(kept > 0 && refused > 0);
	}
	buf_free(&packed);
	buf_free(&back);
}

/* Lengths that are forged, content that is cut or changed: refused, within the bound. */
static void
test_forged_content(void **state)
{
	uint8_t content[BLOCK_TARGET];
	Buf packed = { 0 }, back = { 0 };
	Prng g;

	(void) state;
	print_message("seed 7\n");
	prng_seed(&g, 7);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t) (i / 7 * 31 % 11);
	for (TableCodec codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		static const uint32_t lengths[] = { 0, 1, BLOCK_TARGET - 1, BLOCK_TARGET + 1, UINT32_MAX };
		uint8_t *exact;
		bool is_packed;
		Status st;

		if (!table_codec_built(codec))
			continue;
		assert_ok(codec_pack((uint8_t) codec, slice_of(content, sizeof(content)), &packed, &is_packed));
		assert_true(is_packed);
		exact = malloc(packed.len);
		for (size_t len = 0; len < packed.len; len++) { /* cut, in a buffer of exactly that size */
			uint8_t *cut = malloc(len == 0 ? 1 : len);

			memcpy(cut, packed.data, len);
			assert_int_equal(codec_unpack((uint8_t) codec, slice_of(cut, len), BLOCK_TARGET, &back), ST_CORRUPT);
			free(cut);
		}
		memcpy(exact, packed.data, packed.len);
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			put_u32(exact, lengths[i]);
			st = codec_unpack((uint8_t) codec, slice_of(exact, packed.len), BLOCK_TARGET, &back);
			assert_int_equal(st, ST_CORRUPT);
		}
		for (int round = 0; round < 20000; round++) {
			memcpy(exact, packed.data, packed.len);
			for (uint64_t n = 1 + prng_below(&g, 3); n > 0; n--)
				exact[CODEC_HEADER + prng_below(&g, packed.len - CODEC_HEADER)] = (uint8_t) prng_next(&g);
			if (codec_unpack((uint8_t) codec, slice_of(exact, packed.len), BLOCK_TARGET, &back) == ST_OK)
				assert_int_equal(back.len, BLOCK_TARGET);
		}
		assert_true(back.cap <= 2 * BLOCK_TARGET);
		free(exact);
	}
	buf_free(&packed);
	buf_free(&back);
}

/* Give the file other bytes; the same number, nothing of it open or cached before. */
static void
rewrite(const char *path, const char *bytes, size_t len)
{
	int fd;

	table_files_close_all();
	assert_ok(fs_open(path, FS_WRITE, &fd));
	assert_ok(fs_pwrite(fd, bytes, len, 0));
	assert_ok(fs_close(fd));
}

/* A codec that this build lacks, and one that nobody knows: said clearly, and which file and block. */
static void
test_codec_not_here(void **state)
{
	(void) state;
	for (uint8_t codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD + 1; codec++) {
		char path[FS_PATH_MAX], *bytes;
		Model m = { 0 };
		BlockHandle h;
		TableInfo t;
		size_t len;
		Status st;

		make_model(&m, 100, 400, false);
		build_table(&m, next_number++, 0, &t);
		h = data_block(&t, 0);
		read_file(&t, path, &bytes, &len);
		bytes[h.offset + h.size] = (char) codec;
		put_u32((uint8_t *) bytes + h.offset + h.size + 1,
		        block_crc(t.file_id, h.offset, (uint8_t *) bytes + h.offset, h.size, codec));
		rewrite(path, bytes, len);
		st = table_get(&t, m.e[0].key, UINT64_MAX, &(Entry){ 0 });
		assert_non_null(strstr(status_detail(), path));
		if (codec > TABLE_CODEC_ZSTD || table_codec_built(codec))
			assert_int_equal(st, ST_CORRUPT);
		else {
			assert_int_equal(st, ST_FOREIGN);
			assert_non_null(strstr(status_detail(), "built without"));
			assert_int_equal(table_codec_check(codec), ST_BAD_SETTING);
			assert_non_null(strstr(status_detail(), "WITH_"));
		}
		assert_true(table_verify(&t, NULL, NULL) == st);
		free(bytes);
		model_free(&m);
	}
}

/* The cache holds content, not what is in the file: read once, answered without the file. */
static void
test_cached_content(void **state)
{
	(void) state;
	for (TableCodec codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		Model m = { 0 };
		TableInfo t;
		Slice cached;
		Entry out;
		BlockHandle h;
		CacheStats before, after;

		if (!table_codec_built(codec))
			continue;
		make_model(&m, 100, 400, false);
		build_table_as(&m, next_number++, 10, codec, &t);
		assert_ok(table_get(&t, m.e[0].key, UINT64_MAX, &out));
		h = data_block(&t, 0);
		assert_true(cache_lookup(t.number, h.offset, CACHE_POINT, &cached));
		assert_true(cached.len > h.size && cached.len <= BLOCK_TARGET);
		cache_stats(&before);
		assert_ok(table_get(&t, m.e[0].key, UINT64_MAX, &out));
		assert_true(same_entry(&out, &m.e[0]));
		cache_stats(&after);
		assert_int_equal(after.misses, before.misses);
		model_free(&m);
	}
}

/* Format 1 differs only in having no compressed blocks. */
static void
test_format_1(void **state)
{
	char path[FS_PATH_MAX], *bytes;
	uint8_t *footer;
	Model m = { 0 };
	TableInfo t, read;
	Buf small = { 0 }, large = { 0 };
	size_t len;

	(void) state;
	make_model(&m, 1000, 100, true);
	build_table(&m, next_number++, 10, &t);
	read_file(&t, path, &bytes, &len);
	footer = (uint8_t *) bytes + len - FOOTER_BYTES;
	assert_int_equal(get_u32(footer + 48), TABLE_FORMAT_VERSION);
	for (uint32_t version = 0; version <= TABLE_FORMAT_VERSION + 1; version++) {
		bool known = version >= TABLE_FORMAT_OLDEST && version <= TABLE_FORMAT_VERSION;

		put_u32(footer + 48, version);
		put_u32(footer + 52, crc32c(crc32c(0, footer, 52), footer + 56, 8));
		rewrite(path, bytes, len);
		assert_int_equal(table_read_info(t.number, &read, &small, &large), known ? ST_OK : ST_FOREIGN);
		if (known) {
			assert_memory_equal(&read, &t, sizeof(t));
			assert_ok(table_verify(&t, NULL, NULL));
		}
	}
	free(bytes);
	buf_free(&small);
	buf_free(&large);
	model_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_when_it_saves),
		cmocka_unit_test(test_an_eighth),
		cmocka_unit_test(test_forged_content),
		cmocka_unit_test(test_codec_not_here),
		cmocka_unit_test(test_cached_content),
		cmocka_unit_test(test_format_1),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
