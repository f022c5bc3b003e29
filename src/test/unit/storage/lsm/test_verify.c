/*
 * test_verify.c - what kvd --check and kv_sstdump ask of the manifest's tables: order, and whole files.
 */
#include "lsm_test.h"

/* A level-0 table of one key, its versions from `first` on. */
static void
flush(const char *key, uint64_t first)
{
	LsmState state = { first + 2, 1, 1 };
	Entry e[2] = { { .key = slice_str(key), .value = slice_str("v"), .version = first + 1 },
		{ .key = slice_str(key), .value = slice_str("u"), .version = first } };
	Iter *it = array_iter(e, 2);
	Version *old = published;

	ok(lsm_flush(it, &state, 0, &published));
	iter_close(it);
	lsm_retire(old);
}

/* Three tables: c and b in level 0, newest first, a far below. */
static void
make(ManifestImage *img)
{
	LsmCompactOptions opt = { .oldest = 0 };
	Version *old, *now = NULL;

	fresh_directory();
	fresh_memory(TEST_HEAP);
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	flush("a", 1);
	old = published;
	ok(lsm_compact_all(&opt, &now));
	if (now != NULL) {
		published = now;
		lsm_retire(old);
	}
	flush("b", 10);
	flush("c", 30);
	ok(manifest_read(img));
	manifest_sort(img);
	assert_int_equal(img->ntables, 3);
}

static void
count_bytes(void *arg, uint64_t bytes)
{
	*(uint64_t *) arg = bytes;
}

static void
test_whole(void **state)
{
	ManifestImage img;

	(void) state;
	make(&img);
	for (size_t i = 0; i < img.ntables; i++) {
		uint64_t bytes = 0;

		ok(manifest_check_table(&img.tables[i], count_bytes, &bytes));
		assert_true(bytes > 0 && bytes <= img.tables[i].info.bytes);
	}
	manifest_image_free(&img);
}

static void
test_order(void **state)
{
	ManifestImage img;

	(void) state;
	make(&img);
	assert_int_equal(img.tables[0].info.version_min, 30);
	assert_int_equal(img.tables[1].info.version_min, 10);
	ok(manifest_check_order(&img.tables[0], &img.tables[1]));
	ok(manifest_check_order(&img.tables[1], &img.tables[2])); /* another level */
	assert_int_equal(manifest_check_order(&img.tables[1], &img.tables[0]), ST_CORRUPT); /* older first */
	img.tables[0].level = img.tables[1].level = 2;
	assert_int_equal(manifest_check_order(&img.tables[0], &img.tables[1]), ST_CORRUPT); /* c before b */
	manifest_sort(&img);
	for (size_t i = 1; i < img.ntables; i++)
		ok(manifest_check_order(&img.tables[i - 1], &img.tables[i]));
	manifest_image_free(&img);
}

static void
expect_damage(const ManifestTable *t, const char *said)
{
	table_files_close_all();
	assert_int_equal(manifest_check_table(t, NULL, NULL), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), said));
}

static void
test_damage(void **state)
{
	char path[FS_PATH_MAX];
	ManifestImage img;
	FILE *f;

	(void) state;
	make(&img);
	table_path(img.tables[2].info.number, path, sizeof path);
	f = fopen(path, "r+");
	assert_non_null(f);
	fputc('X', f);
	fclose(f);
	expect_damage(&img.tables[2], path);
	img.tables[1].smallest = slice_str("a"); /* as if the manifest meant another file */
	expect_damage(&img.tables[1], "key ranges");
	img.tables[1].smallest = img.tables[1].largest;
	img.tables[1].info.entries++;
	expect_damage(&img.tables[1], "differ");
	table_path(img.tables[0].info.number, path, sizeof path);
	assert_int_equal(remove(path), 0);
	expect_damage(&img.tables[0], "missing");
	manifest_image_free(&img);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
