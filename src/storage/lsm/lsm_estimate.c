/*
 * lsm_estimate.c - about how much of a Version's tables lies in a range of keys, or is hidden by range deletions.
 *
 * Any process, under a pin. A table that lies in the range wholly counts as its properties say. Of one that the range
 * cuts, the index tells which of its blocks do; the entries are taken to be spread over the blocks evenly. Data is not
 * read, only index blocks, which are mostly in the cache. Looking up one place takes some microseconds, more where the
 * disk is asked: all is under one pin, so one call looks up at most ESTIMATE_LOOKUPS. Tables that it has none left for
 * count wholly.
 */
#include "lsm_internal.h"

#define PIECE_LOOKUPS 2 /* both ends of a piece of a table */

uint32_t estimate_lookups_max = ESTIMATE_LOOKUPS;

static bool
may_look_up(uint32_t cuts, uint32_t more)
{
	return cuts + more <= estimate_lookups_max;
}

/* Where the data blocks end, about: index blocks lie among them. */
static uint64_t
data_end(const TableInfo *t)
{
	return t->filter_pages > 0 ? t->filter_offset : t->root_offset;
}

typedef struct Keys {
	Slice start, end;
	bool unbounded; /* from start on */
} Keys;

/* The part of the table's data that lies in the range, 0 to 1. */
static Status
part_of(const Table *t, const Keys *k, uint32_t *cuts, double *part)
{
	uint64_t from = 0, to = data_end(&t->info);

	*part = 1;
	if (!may_look_up(*cuts, PIECE_LOOKUPS))
		return ST_OK;
	if (slice_cmp(t->smallest, k->start) < 0) {
		KV_TRY(table_offset_of(&t->info, k->start, &from));
		++*cuts;
	}
	if (!k->unbounded && slice_cmp(t->largest, k->end) >= 0) {
		uint64_t at;

		KV_TRY(table_offset_of(&t->info, k->end, &at));
		to = at < to ? at : to;
		++*cuts;
	}
	*part = to > from ? (double) (to - from) / (double) data_end(&t->info) : 0;
	return ST_OK;
}

static Status
add_part(const Table *t, const Keys *k, uint32_t *cuts, double *part)
{
	double more;

	KV_TRY(part_of(t, k, cuts, &more));
	*part += more;
	return ST_OK;
}

/*
 * The same of what the view shows; entries of the table newer than a range deletion make that hide nothing of it. Each
 * stretch that is shown is a piece; the last one, for which lookups are kept, goes on to the end of the range.
 */
static Status
shown_part(const Table *t, const Keys *k, const RangeView *view, uint32_t *cuts, double *part)
{
	Slice at = slice_cmp(t->smallest, k->start) < 0 ? k->start : t->smallest;
	Keys shown = { .start = at };
	bool open = false, last = false;
	Cover c = { .known = false };

	*part = 0;
	if (!may_look_up(*cuts, 2 * PIECE_LOOKUPS)) {
		*part = table_hidden(t, view) ? 0 : 1;
		return ST_OK;
	}
	for (; !last; at = c.to) {
		bool hidden = range_view_at(view, at, &c) > t->info.version_max;

		last = c.to.len == 0 || slice_cmp(c.to, t->largest) > 0 || (!k->unbounded && slice_cmp(c.to, k->end) >= 0);
		if (hidden && open) {
			shown.end = at;
			KV_TRY(add_part(t, &shown, cuts, part));
		} else if (!hidden && !open)
			shown.start = at;
		open = !hidden;
		if (open && !may_look_up(*cuts, 2 * PIECE_LOOKUPS))
			break;
	}
	shown.end = k->end;
	shown.unbounded = k->unbounded;
	return open ? add_part(t, &shown, cuts, part) : ST_OK;
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
lsm_estimate(const Version *v, Slice start, Slice end, bool unbounded, const RangeView *view, EntrySum *sum,
			 uint32_t *cuts)
{
	Keys k = { start, end, unbounded };

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
			KV_TRY(view == NULL ? part_of(t, &k, cuts, &part) : shown_part(t, &k, view, cuts, &part));
			add(sum, t, part);
		}
	}
	return ST_OK;
}

uint64_t
lsm_hidden_bytes(const Version *v, const RangeView *view)
{
	Keys all = { .unbounded = true };
	uint64_t bytes = 0;
	uint32_t cuts = 0;
	double part;

	for (int level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const Table *t = v->tables[level][i];

			if (shown_part(t, &all, view, &cuts, &part) == ST_OK && part < 1)
				bytes += (uint64_t) ((double) table_bytes(t) * (1 - part));
		}
	return bytes;
}
