/*
 * data.c - keys and values as RocksDB's db_bench makes them, so that both sides store the same.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define POOL_BYTES (1024 * 1024)
#define PIECE 100 /* this much random text is repeated to reach the ratio */

Slice
data_key(Buf *buf, uint64_t number, size_t extra)
{
	size_t len = (size_t) opt.key_size + extra;

	buf_clear(buf);
	MUST(buf_reserve(buf, 1 + 8 + len));
	buf->data[0] = KEYSPACE_USER;
	for (int i = 0; i < 8; i++)
		buf->data[1 + i] = (uint8_t) (number >> (56 - 8 * i));
	if (len > 8)
		memset(buf->data + 9, '0', len - 8);
	buf->len = 1 + len;
	return slice_buf(buf);
}

void
values_init(ValueSource *v, Prng *random)
{
	size_t bytes = POOL_BYTES + (size_t) opt.value_size;
	size_t raw = (size_t) (PIECE * opt.compression_ratio);

	if (raw < 1)
		raw = 1;
	v->at = 0;
	v->pool = malloc(bytes);
	if (v->pool == NULL)
		die("out of memory");
	for (size_t at = 0; at < bytes; at++)
		v->pool[at] = at % PIECE < raw ? (uint8_t) (' ' + prng_below(random, 95)) : v->pool[at - raw];
}

Slice
values_next(ValueSource *v)
{
	Slice s = slice_of(v->pool + v->at, (size_t) opt.value_size);

	v->at += (size_t) opt.value_size;
	if (v->at > POOL_BYTES)
		v->at = 0;
	return s;
}
