/*
 * lsm_cut.c - where the outputs of a compaction end. Pure.
 *
 * An output ends when it is as large as a table should be; before it overlaps too much of the level below,
 * which it will be merged with one day; and, once it is half full, where a table of that level ends, so
 * that fewer of its tables reach into a table below that they share with a neighbour. And where users' keys
 * begin (is_system_key()).
 */
#include "lsm_internal.h"

OutputCut
output_cut(const PickConfig *c, const Version *v, uint32_t out_level)
{
	OutputCut o = { .table_size = c->table_size };

	for (uint32_t level = out_level + 1; level < LSM_LEVELS && o.n == 0; level++) {
		o.below = v->tables[level];
		o.n = v->ntables[level];
	}
	return o;
}

bool
output_ends(OutputCut *o, Slice key, uint64_t bytes)
{
	bool crossed = false, cut = o->system && !is_system_key(key);

	o->system = is_system_key(key);
	while (o->i < o->n && slice_cmp(o->below[o->i]->largest, key) < 0) {
		o->overlapped += o->below[o->i]->info.bytes;
		o->i++;
		crossed = true;
	}
	cut = cut || bytes >= o->table_size || (crossed && bytes >= o->table_size / 2) ||
	      (crossed && o->overlapped > GRANDPARENT_TABLES * o->table_size);
	if (cut || bytes == 0)
		o->overlapped = 0;
	return cut && bytes > 0;
}
