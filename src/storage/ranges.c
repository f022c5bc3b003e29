/*
 * ranges.c - range deletions as one snapshot sees them: those of all memtables and those beside the tables.
 *
 * Run by any process inside a read. Point reads need none of this: each memtable, and the list of tables, applies its
 * own (memtable_get(), lsm_get()), and whatever hides an entry is where the entry is or in something newer.
 */
#include "ipc/epoch.h"
#include "kvstore_internal.h"

uint32_t
superversion_ranges(const Superversion *sv)
{
	uint32_t n = memtable_ranges(sv->active) + lsm_ranges(sv->version);

	for (int i = 0; i < sv->nfrozen; i++)
		n += memtable_ranges(sv->frozen[i]);
	return n;
}

static size_t
superversion_range_bytes(const Superversion *sv)
{
	size_t bytes = lsm_range_key_bytes(sv->version) + memtable_range_bytes(sv->active);

	for (int i = 0; i < sv->nfrozen; i++)
		bytes += memtable_range_bytes(sv->frozen[i]);
	return bytes;
}

static void
look(const RangeView *base, Slice key, Cover *out)
{
	const SuperversionRanges *v = (const SuperversionRanges *) base;

	*out = COVER_ALL;
	memtable_cover(v->sv->active, key, v->at, out);
	for (int i = 0; i < v->sv->nfrozen; i++)
		memtable_cover(v->sv->frozen[i], key, v->at, out);
	lsm_cover(v->sv->version, key, v->at, out);
}

void
superversion_ranges_view(SuperversionRanges *v, const Superversion *sv, Lsn at)
{
	*v = (SuperversionRanges){ { look }, sv, at };
}

/*
 * Beside the tables, n range deletions that all share keys take 8 bytes for each pair of them: that may be a quarter of
 * metadata_size, their keys an eighth. Two lists may be there at a time, the old and the new.
 */
uint32_t
kvstore_ranges_max(void)
{
	uint32_t n = KVSTORE_RANGES_MAX;

	while ((uint64_t) n * n * sizeof(uint64_t) > (uint64_t) config.metadata_size / 4)
		n--;
	return n;
}

size_t
kvstore_range_bytes_max(void)
{
	return (size_t) config.metadata_size / 8;
}

Status
kvstore_admit_ranges(uint32_t n, size_t key_bytes)
{
	bool pin = !epoch_pinned();
	const Superversion *sv;
	uint32_t there;
	size_t bytes;

	if (pin)
		epoch_enter();
	sv = atomic_load_explicit(&kvs->current, memory_order_acquire);
	there = superversion_ranges(sv);
	bytes = superversion_range_bytes(sv);
	if (pin)
		epoch_leave();
	if (there + n <= kvstore_ranges_max() && bytes + key_bytes <= kvstore_range_bytes_max())
		return ST_OK;
	return status_fail(ST_BUSY, "%u range deletions, with %zu bytes of keys, have not been worked off yet: try again",
					   there, bytes);
}
