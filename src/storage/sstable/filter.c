/*
 * filter.c - blocked bloom filter: one cache line a key (Putze, Sanders, Singler, "Cache-, hash- and
 * space-efficient bloom filters", 2007).
 *
 * Pure; any process. The high half of the key's hash chooses the line among all lines of all pages, a mix
 * of the whole hash gives six 9-bit places in it. At 10 bits a key a line has 51.2 keys on average (Poisson); the mean
 * over lines of (part of the bits that are set)^6 is 0.0096: 1 in 104 absent keys passes. test_limits.c counts.
 */
#include "common/hash.h"
#include "sstable_internal.h"

#define HASH_SEED UINT64_C(0x6b76645f626c6f6f) /* on disk: never change */

_Static_assert(FILTER_LINE * 8 == 512 && FILTER_PROBES * 9 <= 64, "places of nine bits from one word");

uint64_t
table_key_hash(Slice key)
{
	return hash64(key.data, key.len, HASH_SEED);
}

uint32_t
filter_pages_for(uint64_t keys, uint32_t bits_per_key)
{
	uint64_t pages = (keys * bits_per_key + FILTER_PAGE * 8 - 1) / (FILTER_PAGE * 8);

	if (bits_per_key == 0 || keys == 0)
		return 0;
	/* lines are chosen by 32 bits of the hash */
	return pages > UINT32_MAX / FILTER_PAGE_LINES ? UINT32_MAX / FILTER_PAGE_LINES : (uint32_t) pages;
}

static inline uint64_t
line_of(uint32_t npages, uint64_t hash)
{
	return (hash >> 32) * ((uint64_t) npages * FILTER_PAGE_LINES) >> 32;
}

uint32_t
filter_page_of(uint32_t npages, uint64_t hash)
{
	return (uint32_t) (line_of(npages, hash) / FILTER_PAGE_LINES);
}

void
filter_add(uint8_t *pages, uint32_t npages, uint64_t hash)
{
	uint8_t *line = pages + line_of(npages, hash) * FILTER_LINE;
	uint64_t bits = hash_mix(hash);

	for (int i = 0; i < FILTER_PROBES; i++, bits >>= 9)
		line[(bits & 511) >> 3] |= (uint8_t) (1 << (bits & 7));
}

uint32_t
filter_line_at(uint32_t npages, uint64_t hash)
{
	return (uint32_t) (line_of(npages, hash) % FILTER_PAGE_LINES * FILTER_LINE);
}

bool
filter_probe(const uint8_t *page, uint32_t npages, uint64_t hash)
{
	const uint8_t *line = page + filter_line_at(npages, hash);
	uint64_t bits = hash_mix(hash);
	unsigned all = 1;

	for (int i = 0; i < FILTER_PROBES; i++, bits >>= 9)
		all &= (unsigned) line[(bits & 511) >> 3] >> (bits & 7);
	return all != 0;
}
