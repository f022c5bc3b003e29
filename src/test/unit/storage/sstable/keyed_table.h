/*
 * keyed_table.h - a table of numbered keys, and GETs from it as the engine does them.
 */
#ifndef KEYED_TABLE_H
#define KEYED_TABLE_H

#include "table_test.h"

#define KEY_BYTES 17
#define VALUE_BYTES 100
#define FIRST_VERSION (UINT64_C(1) << 33) /* as long as they are after some GB of log */

static uint64_t next_number = 1;

static inline Slice
key_of(uint64_t i, uint8_t key[KEY_BYTES])
{
	memset(key, 1, KEY_BYTES);
	for (int b = 0; b < 8; b++)
		key[KEY_BYTES - 1 - b] = (uint8_t) (i >> 8 * b);
	return slice_of(key, KEY_BYTES);
}

/* Keys 0, 2, 4, ... */
static inline void
make_table(uint64_t n, TableInfo *t)
{
	TableBuildOptions opt = { next_number++, 77, 10, n, TABLE_CODEC_NONE };
	uint8_t key[KEY_BYTES], value[VALUE_BYTES] = { 0 };
	Buf small = { 0 }, large = { 0 };
	TableBuilder *b;

	assert_ok(table_builder_open(&opt, &b));
	for (uint64_t i = 0; i < n; i++) {
		Entry e = { key_of(2 * i, key), slice_of(value, sizeof(value)), FIRST_VERSION + i % 100, 0, ENTRY_PUT };

		assert_ok(table_builder_add(b, &e));
	}
	assert_ok(table_builder_finish(b, t, &small, &large));
	buf_free(&small);
	buf_free(&large);
}

/* As lsm_get() does; a pin each, as a backend has. */
static inline Status
get(const TableInfo *t, uint64_t i)
{
	static TableLookup l;
	uint8_t key[KEY_BYTES];
	Slice k = key_of(i, key);

	epoch_unpin();
	epoch_pin(0);
	table_lookup_begin(&l, t, k, table_key_hash(k), UINT64_MAX);
	while (table_lookup_step(&l))
		;
	if (l.in_own) { /* its value is not looked at */
		table_lookup_end(&l);
		l.own = (Buf){ 0 };
	}
	return l.status;
}

#endif
