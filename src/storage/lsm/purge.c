/*
 * purge.c - what range deletions make superfluous: whole tables, and in the end the range deletions themselves.
 *
 * Compaction worker only. Only range deletions older than every snapshot count here: then what they hide is hidden
 * from everybody, for ever.
 *
 *   1. A table of which a range deletion newer than all of it hides everything goes, without being read. What deeper
 *      levels hold of its keys is older still, so hidden by the same one.
 *   2. A range deletion goes that lies within a newer one: that one hides all it hides.
 *   3. A range deletion goes when no table that shares keys with it may hold anything older: the table is newer, or
 *      was written when the range deletion had been applied (TableInfo.ranges_applied). All entries older than a
 *      range deletion of the list are in tables, since they left their memtables before it or with it.
 *   4. Tables that keep it from going are those at its ends, and those with newer entries. Rewriting them ends that.
 */
#include <stdlib.h>

#include "lsm_internal.h"

typedef struct Purge {
	const Version *v;
	uint64_t oldest;
	bool edges;
	Edit edit;
	uint64_t tables, bytes, ranges;
} Purge;

/* ---- what everybody sees of the list: a view as of `oldest` */
typedef struct OldestView {
	RangeView base;
	const Purge *p;
} OldestView;

static void
look(const RangeView *base, Slice key, Cover *out)
{
	const Purge *p = ((const OldestView *) base)->p;

	*out = COVER_ALL;
	range_set_cover(p->v->ranges, key, p->oldest, out);
}

/* ---- rule 1 */
static bool
goes(const Purge *p, const Table *t)
{
	OldestView view = { { look }, p };

	return t->info.version_max < p->oldest && table_hidden(t, &view.base);
}

static Status
drop_tables(Purge *p)
{
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < p->v->ntables[level]; i++) {
			const Table *t = p->v->tables[level][i];

			if (!goes(p, t))
				continue;
			KV_TRY(edit_delete(&p->edit, level, t->info.number));
			p->tables++;
			p->bytes += table_bytes(t);
		}
	}
	return ST_OK;
}

/* ---- rules 2 to 4 */
static bool
within_newer(const Purge *p, uint32_t i)
{
	const RangeDelete *list = p->v->ranges->list, *r = &list[i];

	for (uint32_t k = i + 1; k < p->v->ranges->n && list[k].version < p->oldest; k++)
		if (slice_cmp(list[k].start, r->start) <= 0 && slice_cmp(r->end, list[k].end) <= 0)
			return true;
	return false;
}

/* Does the table keep the range deletion from going? Then it is marked, if that is wanted. */
static bool
table_needs(const Purge *p, Table *t, const RangeDelete *r)
{
	if (slice_cmp(t->largest, r->start) < 0 || slice_cmp(t->smallest, r->end) >= 0)
		return false;
	if (t->info.version_min > r->version || t->info.ranges_applied > r->version || goes(p, t))
		return false;
	t->rewrite |= p->edges;
	t->rewrite_ranges |= p->edges;
	return true;
}

static bool
still_needed(const Purge *p, const RangeDelete *r)
{
	const Version *v = p->v;
	bool needed = false;

	for (uint32_t i = 0; i < v->ntables[0] && (p->edges || !needed); i++)
		needed |= table_needs(p, v->tables[0][i], r);
	for (uint32_t level = 1; level < LSM_LEVELS; level++) {
		uint32_t i = version_find(v->tables[level], v->ntables[level], r->start);

		for (; i < v->ntables[level] && (p->edges || !needed); i++) {
			if (slice_cmp(v->tables[level][i]->smallest, r->end) >= 0)
				break;
			needed |= table_needs(p, v->tables[level][i], r);
		}
	}
	return needed;
}

static Status
drop_ranges(Purge *p)
{
	const RangeSet *s = p->v->ranges;

	for (uint32_t i = 0; i < s->n && s->list[i].version < p->oldest; i++) {
		if (!within_newer(p, i) && still_needed(p, &s->list[i]))
			continue;
		KV_TRY(buf_append(&p->edit.range_drops, &s->list[i].version, sizeof s->list[i].version));
		p->ranges++;
	}
	return ST_OK;
}

Status
lsm_purge(uint64_t oldest, bool edges, Version **out)
{
	Purge p = { .v = lsm_writer.current, .oldest = oldest, .edges = edges, .edit.oldest = oldest };
	Status st = ST_OK;

	*out = NULL;
	if (p.v->ranges == NULL || p.v->ranges->list[0].version >= oldest)
		return ST_OK;
	st = drop_tables(&p);
	if (st == ST_OK)
		st = drop_ranges(&p);
	if (st == ST_OK && p.tables + p.ranges > 0)
		st = writer_install(&p.edit);
	edit_free(&p.edit);
	KV_TRY(st);
	figure_add(&lsm_shared->range_tables, p.tables);
	figure_add(&lsm_shared->range_bytes, p.bytes);
	figure_add(&lsm_shared->ranges_retired, p.ranges);
	if (p.tables + p.ranges > 0)
		*out = lsm_writer.current;
	return ST_OK;
}
