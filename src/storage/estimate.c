/*
 * estimate.c - about how much lies in a range of keys, without reading it: memtables and tables added up.
 *
 * Run by a process inside a read. What a key has in several of them counts in each: entries of all versions, and
 * tombstones beside what they hide. So what is told of live keys is a guess, good where little was overwritten or
 * deleted since the last merge. Of range deletions it is known what they hide of tables older than they are; what they
 * hide of memtables, and of a table with something newer in it, counts until it is written out or merged.
 */
#include "kvstore_internal.h"

static void
add_memtable(const Memtable *m, Slice start, Slice end, bool unbounded, EntrySum *sum)
{
	EntrySum part;

	memtable_estimate(m, start, end, unbounded, &part);
	sum->entries += part.entries;
	sum->tombstones += part.tombstones;
	sum->bytes += part.bytes;
}

Status
kvstore_estimate(Slice start, Slice end, bool unbounded, EntrySum *sum, uint32_t *cuts)
{
	const Superversion *sv = read_superversion();
	SuperversionRanges ranges;

	*sum = (EntrySum){ 0 };
	*cuts = 0;
	if (!unbounded && slice_cmp(start, end) >= 0)
		return ST_OK;
	superversion_ranges_view(&ranges, sv, UINT64_MAX);
	KV_TRY(lsm_estimate(sv->version, start, end, unbounded, superversion_ranges(sv) > 0 ? &ranges.base : NULL, sum,
						cuts));
	add_memtable(sv->active, start, end, unbounded, sum);
	for (int i = 0; i < sv->nfrozen; i++)
		add_memtable(sv->frozen[i], start, end, unbounded, sum);
	sum->bytes -= sum->bytes < sum->entries ? sum->bytes : sum->entries; /* the keyspace's byte of each key */
	return ST_OK;
}
