/*
 * keys.c - keys of many shapes, and values made from numbers.
 */
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "model.h"
#include "storage/entry.h"

Slice key_text[KEYS_MAX];
int key_order[KEYS_MAX], key_place[KEYS_MAX];

static char text[KEYS_MAX][KEY_LONGEST];

static int
by_text(const void *a, const void *b)
{
	return slice_cmp(key_text[*(const int *) a], key_text[*(const int *) b]);
}

/* Short and long ones, some with much in common, some binary, one empty. */
static size_t
make_key(int i, char *out)
{
	char *p = out + 1;
	size_t n;

	out[0] = KEYSPACE_USER;
	if (i == 0)
		return 1;
	n = (size_t) snprintf(p, KEY_LONGEST - 1, "%s%05d", i % 3 == 0 ? "prefix/that/many/share/" : "k",
						  i * 7919 % 100003);
	if (i % 17 == 0) {
		memset(p + n, 'x', 200);
		n += 200;
	}
	if (i % 5 == 0)
		p[n++] = (char) (i % 2 == 0 ? 0 : 0xff);
	return n + 1;
}

void
keys_make(int n)
{
	for (int i = 0; i < n; i++) {
		key_text[i] = slice_of(text[i], make_key(i, text[i]));
		key_order[i] = i;
	}
	qsort(key_order, (size_t) n, sizeof key_order[0], by_text);
	for (int i = 0; i < n; i++)
		key_place[key_order[i]] = i;
}

/* Half of it repeats, so that it compresses a little. No number: it begins with a letter. */
Slice
value_text(const Value *v)
{
	static char room[4][VALUE_HUGE + 32];
	static int next;
	char *p = room[next = (next + 1) % 4];

	if (v->numeric)
		return slice_of(p, (size_t) snprintf(p, 32, "%lld", (long long) v->id));
	for (uint32_t at = 0; at < v->len; at += 8) {
		uint64_t r = at / 64 % 2 == 0 ? hash_mix(v->id + at) : UINT64_C(0x2020202020202020);

		memcpy(p + at, &r, 8);
	}
	if (v->len > 0)
		p[0] = 'v';
	return slice_of(p, v->len);
}
