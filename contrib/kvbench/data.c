/*
 * data.c - keys and values that can be recognised again.
 *
 * Pure. A key is "key:" (when there is room, from 16 bytes on) and a decimal number with leading zeros, so
 * that the order of numbers is the order of keys. A value:
 *
 *   offset size
 *        0    8  mix of key number and value size: a value of another key or a shortened one is told
 *        8    8  version: a number that no other write of this run has
 *       16    .  bytes of a fixed pseudorandom pattern, from a place that depends on number and version
 *
 * Values shorter than that are cut off.
 */
#include <stdlib.h>
#include <string.h>

#include "common/coding.h"
#include "common/hash.h"
#include "common/limits.h"
#include "kvbench.h"

#define PREFIX "key:"
#define PREFIX_FROM 16            /* shorter keys are digits only */
#define DIGITS_MAX 20             /* of a 64-bit number */
#define PLACES 65536              /* different starts within the pattern */
#define PATTERN_SEED 7            /* fixed: values of one run are recognised by the next */

static uint64_t
mark_of(uint64_t index, size_t size)
{
	return hash_mix(index + 1) ^ size;
}

static size_t
place_of(uint64_t index, uint64_t version)
{
	return hash_mix(index ^ version << 32) % PLACES;
}

Status
data_init(Data *d, const Options *o)
{
	uint32_t digits = o->key_size >= PREFIX_FROM ? o->key_size - (uint32_t) strlen(PREFIX) : o->key_size;
	Prng g;

	memset(d, 0, sizeof *d);
	d->key_size = o->key_size;
	d->index_limit = 1;
	for (uint32_t i = 0; i < digits && d->index_limit < UINT64_MAX / 10; i++)
		d->index_limit *= 10;
	if (o->keyspace >= d->index_limit)
		return status_fail(ST_USAGE, "keys of %u bytes can't tell %llu keys apart: raise -k or lower -r",
			o->key_size, (unsigned long long) o->keyspace);
	d->digits_from = o->key_size - (digits < DIGITS_MAX ? digits : DIGITS_MAX);
	d->pattern_size = PLACES + KV_VALUE_MAX + 8; /* +8: written in whole words */
	d->template = malloc(o->key_size);
	d->pattern = malloc(d->pattern_size);
	if (d->template == NULL || d->pattern == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the values' pattern");
	memset(d->template, '0', o->key_size);
	if (o->key_size >= PREFIX_FROM)
		memcpy(d->template, PREFIX, strlen(PREFIX));
	prng_seed(&g, PATTERN_SEED);
	/* Whole, whatever -d says: values of earlier runs may be larger and are checked too. */
	for (size_t i = 0; i + 8 <= d->pattern_size; i += 8)
		put_u64(d->pattern + i, prng_next(&g));
	return ST_OK;
}

void
data_free(Data *d)
{
	free(d->template);
	free(d->pattern);
}

uint8_t *
data_put_key(const Data *d, uint8_t *p, uint64_t index, bool missing)
{
	uint8_t *end = p + d->key_size;

	memcpy(p, d->template, d->key_size);
	for (uint8_t *at = end; index > 0; index /= 10)
		*--at = (uint8_t) ('0' + index % 10);
	if (missing)
		*end++ = '!';
	return end;
}

bool
data_key_index(const Data *d, Slice key, uint64_t *index)
{
	uint64_t v = 0;

	if (key.len != d->key_size || memcmp(key.data, d->template, d->digits_from) != 0)
		return false;
	for (uint32_t i = d->digits_from; i < d->key_size; i++) {
		unsigned digit = (unsigned) (key.data[i] - '0');

		if (digit > 9) {
			/* The prefix of keys with less than 20 digits. */
			if (key.data[i] != d->template[i])
				return false;
			continue;
		}
		v = v * 10 + digit;
	}
	*index = v;
	return true;
}

uint8_t *
data_put_value(const Data *d, uint8_t *p, uint64_t index, uint64_t version, uint32_t size)
{
	uint8_t head[16];

	put_u64(head, mark_of(index, size));
	put_u64(head + 8, version);
	if (size <= sizeof head) {
		memcpy(p, head, size);
		return p + size;
	}
	memcpy(p, head, sizeof head);
	memcpy(p + sizeof head, d->pattern + place_of(index, version), size - sizeof head);
	return p + size;
}

bool
data_value_ok(const Data *d, Slice value, uint64_t index)
{
	uint8_t mark[8];

	put_u64(mark, mark_of(index, value.len));
	if (memcmp(value.data, mark, value.len < sizeof mark ? value.len : sizeof mark) != 0)
		return false;
	if (value.len <= 16)
		return true;
	if (value.len > KV_VALUE_MAX)
		return false;
	return memcmp(value.data + 16, d->pattern + place_of(index, get_u64(value.data + 8)),
		value.len - 16) == 0;
}
