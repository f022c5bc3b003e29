/*
 * letters.h - tables whose keys are letters, with values of any length: for the tests of values apart from their keys.
 */
#ifndef LETTERS_H
#define LETTERS_H

#include "lsm_test.h"

#define LETTERS_MAX 16

static uint8_t bytes[KV_VALUE_MAX];

/* A table of the keys `keys`, a letter each, with values of `len` bytes. */
static inline Status
flush_letters(const char *keys, uint64_t version, size_t len)
{
	Entry e[LETTERS_MAX];
	int n = (int) strlen(keys);
	LsmState state = { version + LETTERS_MAX, 1, 1 };
	Status st;

	memset(bytes, (int) version, len);
	for (int i = 0; i < n; i++)
		e[i] = (Entry){ slice_of(keys + i, 1), slice_of(bytes, len), version + (uint64_t) i, 0, ENTRY_PUT };
	st = flush_array(e, n, &state);
	if (st == ST_OK)
		ok(lsm_collect());
	return st;
}

#endif
