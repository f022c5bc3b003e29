/*
 * fuzz_data_block.c - a data block whose checksum was right: every way through it stays inside.
 */
#include <stdio.h>

#include "../../storage/sstable/sstable_internal.h"
#include "fuzz.h"

#define STEPS_MAX 20000 /* more entries than bytes are none */

static void
look_at(const Entry *e)
{
	fuzz_touch(e->key);
	fuzz_touch(e->value);
}

static void
walk(DataCursor *c, bool (*first)(DataCursor *c), bool (*next)(DataCursor *c))
{
	int steps = 0;

	if (!first(c))
		return;
	while (data_cursor_valid(c)) {
		look_at(&c->entry);
		FUZZ_CHECK(++steps < STEPS_MAX);
		if (!next(c))
			return;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Slice block = slice_of(data, size), key = slice_of("\1key-0005", 9);
	DataCursor c = { 0 };
	Entry e;

	if (size > BLOCK_TARGET)
		return 0;
	if (data_cursor_open(&c, block)) {
		walk(&c, data_cursor_first, data_cursor_next);
		walk(&c, data_cursor_last, data_cursor_prev);
		if (data_cursor_seek(&c, key, 3) && data_cursor_valid(&c))
			look_at(&c.entry);
	}
	if (data_get(block, key, UINT64_MAX, &e) == ST_OK)
		look_at(&e);
	data_cursor_free(&c);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	for (int n = 1; n <= 64; n *= 4) {
		DataBuilder b = { 0 };

		for (int i = 0; i < n; i++) {
			char key[32];
			Entry e = { .version = (uint64_t) (100 - i % 3),
						.expire_ms = i % 5 == 0 ? 1000 : 0,
						.kind = i % 7 == 3 ? ENTRY_DELETE : ENTRY_PUT };

			e.key = slice_of(key, (size_t) snprintf(key, sizeof key, "\1key-%04d", i / 3));
			e.value = e.kind == ENTRY_PUT ? slice_str("some value") : slice_of(NULL, 0);
			FUZZ_MUST(data_builder_add(&b, &e, data_builder_common(&b, e.key)));
		}
		FUZZ_MUST(data_builder_finish(&b));
		add(b.content.data, b.content.len);
		data_builder_free(&b);
	}
}
