/*
 * fuzz_manifest.c - a manifest, as it is and with its checksums made right; what is read is in order or
 * refused.
 */
#include "../../storage/lsm/lsm_internal.h"
#include "fuzz.h"
#include "port/fs.h"

#define NUMBER 1
#define PATH "MANIFEST-0000000000000001"

static void
use(const ManifestImage *img)
{
	for (size_t i = 0; i < img->ntables; i++) {
		fuzz_touch(img->tables[i].smallest);
		fuzz_touch(img->tables[i].largest);
		FUZZ_CHECK(img->tables[i].level < LSM_LEVELS);
		FUZZ_CHECK(img->tables[i].info.number < img->next_number);
		fuzz_touch(slice_of(img->tables[i].shares, img->tables[i].info.value_files * (size_t) VALUE_SHARE_BYTES));
	}
	for (size_t i = 0; i < img->nranges; i++) {
		fuzz_touch(img->ranges[i].start);
		fuzz_touch(img->ranges[i].end);
		FUZZ_CHECK(img->ranges[i].version < img->state.flushed);
		FUZZ_CHECK(i == 0 || img->ranges[i - 1].version < img->ranges[i].version);
	}
	for (size_t i = 1; i < img->nvalues; i++)
		FUZZ_CHECK(img->values[i - 1].file_id < img->values[i].file_id);
}

static void
read_it(const uint8_t *data, size_t size)
{
	ManifestImage img;

	fuzz_file(PATH, data, size);
	if (manifest_read_file(PATH, NUMBER, &img) != ST_OK)
		return;
	use(&img);
	manifest_sort(&img);
	for (size_t i = 1; i < img.ntables; i++)
		(void) !manifest_check_order(&img.tables[i - 1], &img.tables[i]);
	manifest_image_free(&img);
}

static void
repair(uint8_t *p, size_t size)
{
	size_t at = MANIFEST_HEADER;

	if (size < MANIFEST_HEADER)
		return;
	put_u64(p + 16, NUMBER);
	put_u32(p + MANIFEST_HEADER - 4, manifest_header_crc(p));
	while (size - at >= MANIFEST_RECORD_HEADER) {
		uint32_t len = get_u32(p + at + 4);

		if (len == 0 || len > size - at - MANIFEST_RECORD_HEADER)
			return;
		put_u32(p + at, manifest_crc(NUMBER, at, slice_of(p + at + MANIFEST_RECORD_HEADER, len)));
		at += MANIFEST_RECORD_HEADER + len;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);

	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data, size);
	read_it(copy, size);
	repair(copy, size);
	read_it(copy, size);
	free(copy);
	return 0;
}

static Table
a_table(uint64_t number, const char *smallest, const char *largest)
{
	return (Table){ .info = { .number = number,
							  .file_id = number * 77,
							  .bytes = 9000,
							  .root_offset = 4096,
							  .root_size = 99,
							  .index_height = 1,
							  .entries = 10,
							  .version_min = number,
							  .version_max = number + 5 },
					.smallest = slice_str(smallest),
					.largest = slice_str(largest) };
}

static void
add_manifest(FuzzAdd add, const Version *v, const Edit *e)
{
	ManifestImage img;
	Manifest m;

	fuzz_file("seed", "", 0);
	FUZZ_MUST(fs_unlink("seed"));
	FUZZ_MUST(manifest_write(&m, "seed", NUMBER, v, 9));
	FUZZ_MUST(manifest_append(&m, e, 10));
	FUZZ_MUST(manifest_close(&m));
	FUZZ_MUST(manifest_read_file("seed", NUMBER, &img));
	manifest_image_free(&img);
	fuzz_seed_of_file(add, "seed");
}

/* Values apart from their keys, and range deletions: in the list, coming and going in an edit. */
static void
add_values_and_ranges(FuzzAdd add)
{
	RangeDelete ranges[] = { { slice_str("\1b"), slice_str("\1c"), 50 }, { slice_str("\1a"), range_user_end(), 90 } };
	RangeDelete new_range = { slice_str("\1x"), slice_str("\1y"), 8000 };
	ValueFile files[] = { { .info = { VALUE_ID_BIT | 9, 9000, 4, 8000 } },
						  { .info = { VALUE_ID_BIT | 5, 500000, 2, 400000 } } };
	LiveValues live[] = { { &files[0], 3, 6000 } };
	const ValueShare old = { VALUE_ID_BIT | 9, 3, 6000 };
	const ValueShare both[] = { { VALUE_ID_BIT | 5, 2, 400000 }, { VALUE_ID_BIT | 9, 1, 2000 } };
	Table t = a_table(1, "\1a", "\1f"), more = a_table(4, "\1g", "\1z");
	Table *level1[] = { &t };
	struct RangeSet set = { .n = 2, .list = ranges };
	Version v = { .number = 1, .flushed = 4096, .ntables = { 0, 1 }, .tables = { NULL, level1 }, .ranges = &set,
				  .nvalues = 1, .values = live };
	Edit e = { .has_state = true, .state = { 8192, 3, 1000 } };

	t.info.value_files = 1;
	t.values = &old;
	more.info.value_files = 2;
	more.info.ranges_applied = 51;
	more.values = both;
	FUZZ_MUST(edit_add(&e, 1, &more));
	FUZZ_MUST(edit_add_values(&e, &files[1]));
	FUZZ_MUST(buf_append(&e.range_drops, &ranges[0].version, sizeof ranges[0].version));
	FUZZ_MUST(buf_append(&e.range_adds, &new_range, sizeof new_range));
	add_manifest(add, &v, &e);
	edit_free(&e);
}

void
fuzz_seeds(FuzzAdd add)
{
	Table t[] = { a_table(1, "\1a", "\1f"), a_table(2, "\1g", "\1m"), a_table(3, "\1b", "\1z") };
	Table *level0[] = { &t[2] }, *level1[] = { &t[0], &t[1] };
	Version v = { .number = 1, .flushed = 4096, .ntables = { 1, 2 }, .tables = { level0, level1 } };
	Edit e = { .has_state = true, .state = { 8192, 3, 1000 } };
	Table more = a_table(4, "\1c", "\1d");

	FUZZ_MUST(edit_delete(&e, 0, 3));
	FUZZ_MUST(edit_add(&e, 1, &more));
	add_manifest(add, &v, &e);
	edit_free(&e);
	add_values_and_ranges(add);
}
