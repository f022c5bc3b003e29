/*
 * fuzz_index.c - an index block whose checksum was right.
 */
#include <stdio.h>

#include "../../storage/sstable/sstable_internal.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const keys[] = { "\1key-00", "\1key-0005x", "\0", "\xff\xff" };
	IndexView v;

	if (!index_open(&v, slice_of(data, size)))
		return 0;
	FUZZ_CHECK(v.n >= 1);
	for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
		uint32_t i;

		if (index_seek(&v, slice_str(keys[k]), 5, &i))
			FUZZ_CHECK(i <= v.n);
	}
	for (uint32_t i = 0; i < v.n; i++) {
		BlockHandle child;
		uint64_t version;
		Slice suffix;

		index_prefetch(&v, i);
		if (index_item(&v, i, &suffix, &version, &child))
			fuzz_touch(suffix);
		(void) index_child(&v, i, &child);
	}
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	for (int n = 1; n <= 64; n *= 4) {
		IndexBuilder b = { 0 };

		for (int i = 0; i < n; i++) {
			char key[32];
			int len = snprintf(key, sizeof key, "\1key-%04d%s", i, i % 3 ? "" : "-and-a-tail");

			FUZZ_MUST(index_builder_add(&b, slice_of(key, (size_t) len), (uint64_t) i,
										(BlockHandle){ (uint64_t) i * 4096, 4000 }));
		}
		FUZZ_MUST(index_builder_finish(&b));
		add(b.content.data, b.content.len);
		index_builder_free(&b);
	}
}
