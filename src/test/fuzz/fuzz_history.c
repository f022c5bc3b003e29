/*
 * fuzz_history.c - a recorded history (doc/testing.md), as kvlin reads it.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>

#include "fuzz.h"
#include "lin.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[65536];
	char error[200];
	LinHistory h;
	FILE *f;

	if (size == 0 || size > sizeof text)
		return 0;
	memcpy(text, data, size);
	f = fmemopen(text, size, "r");
	FUZZ_CHECK(f != NULL);
	lin_history_init(&h);
	if (!lin_history_read(&h, f, "input", error, sizeof error))
		FUZZ_CHECK(memchr(error, 0, sizeof error) != NULL && error[0] != '\0');
	lin_history_free(&h);
	fclose(f);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	static const char text[] =
		"# a history\n"
		"1000 1 invoke put k a\n1500 2 invoke get k\n1600 2 ok get k a 7\n"
		"2000 1 unknown put k OUTCOME_UNKNOWN\n2100 2 invoke cas k a b\n"
		"2200 2 ok cas k no 5\n2300 3 invoke incr n 1\n2400 3 ok incr n 1 9\n"
		"2500 3 invoke casv k 7 c\n2600 3 ok casv k yes 11\n2700 3 invoke delete k\n"
		"2800 3 fail delete k NOT_LEADER\n2900 3 invoke lget k\n3000 3 ok lget k - 12\n";

	add(text, sizeof text - 1);
}
