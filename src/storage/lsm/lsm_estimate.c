/*
 * lsm_estimate.c - about how much of a Version's tables lies in a range of keys.
 *
 * Any process, under a pin. A table that lies in the range wholly counts as its properties say. Of one that the range
 * cuts, the index tells which of its blocks do; the entries are taken to be spread over the blocks evenly. Data is not
 * read, only index blocks, which are mostly in the cache.
 */
#include "lsm_internal.h"

/* Where the data blocks end, about: index blocks lie among them. */
static uint64_t
data_end(const TableInfo *t)
{
	return t->filter_pages > 0 ? t->filter_offset : t->root_offset;
}

/* The part of the table's data that lies in the range, 0 to 1. */
static Status
part_of(const Table *t, Slice start, Slice end, bool unbounded, uint32_t *cuts, double *part)
{
	uint64_t from = 0, to = data_end(&t->info);

	if (slice_cmp(t->smallest, start) < 0) {
		KV_TRY(table_offset_of(&t->info, start, &from));
		++*cuts;
	}
	if (!unbounded && slice_cmp(t->largest, end) >= 0) {
		uint64_t at;

		KV_TRY(table_offset_of(&t->info, end, &at));
		to = at < to ? at : to;
		++*cuts;
	}
	*part = to > from ? (double) (to - from) / (double) data_end(&t->info) : 0;
	return ST_OK;
}

static void
add(EntrySum *sum, const Table *t, double part)
{
	const TableInfo *info = &t->info;

	/* All of it: exactly. A double has no room for every 64-bit number. */
	if (part >= 1) {
		sum->entries += info->entries;
		sum->tombstones += info->tombstones;
		sum->bytes += info->key_bytes + info->value_bytes;
		sum->disk_bytes += table_bytes(t);
		return;
	}
	sum->entries += (uint64_t) ((double) info->entries * part);
	sum->tombstones += (uint64_t) ((double) info->tombstones * part);
	sum->bytes += (uint64_t) ((double) (info->key_bytes + info->value_bytes) * part);
	sum->disk_bytes += (uint64_t) ((double) table_bytes(t) * part);
}

Status
lsm_estimate(const Version *v, Slice start, Slice end, bool unbounded, EntrySum *sum, uint32_t *cuts)
{
	*sum = (EntrySum){ 0 };
	*cuts = 0;
	for (int level = 0; level < LSM_LEVELS; level++) {
		uint32_t i = level == 0 ? 0 : version_find(v->tables[level], v->ntables[level], start);

		for (; i < v->ntables[level]; i++) {
			const Table *t = v->tables[level][i];
			double part;

			if (!unbounded && slice_cmp(t->smallest, end) >= 0) {
				if (level > 0)
					break;
				continue;
			}
			if (slice_cmp(t->largest, start) < 0)
				continue;
			KV_TRY(part_of(t, start, end, unbounded, cuts, &part));
			add(sum, t, part);
		}
	}
	return ST_OK;
}
