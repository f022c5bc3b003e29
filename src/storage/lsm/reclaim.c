/*
 * reclaim.c - space from a full disk, table by table.
 *
 * Compaction worker only. A compaction gives space back when it has ended, and needs room for all that it keeps until
 * then: on a full disk, where the deletes are in shallow tables and what they hide is below, it can't begin. So here
 * one table at a time is written anew without what shallower levels hide (compact.c, rule 2a). What hides it stays
 * where it is: the order of the levels, and what every snapshot sees, are unchanged.
 *
 * Each table is first only read, to see whether it gains. A round looks at each table once, the deepest levels first,
 * where most of the data is; the next round begins when there can be something new to find.
 */
#include <stdlib.h>

#include "lsm_internal.h"

/* Writing a table anew has to give back this much of it, or so many bytes. */
#define GAIN_SHARE 16
#define GAIN_BYTES (1024u * 1024u)

/* Of the compaction worker: the round under way. */
static struct {
	uint64_t visible;   /* entries below this could hide others when it began */
	uint64_t tables;    /* table numbers from here on were made since */
	Buf seen;           /* u64[]: looked at */
} now;

static void
begin_round(const Version *v, uint64_t oldest)
{
	uint64_t visible = oldest < v->flushed ? oldest : v->flushed;

	if (visible == now.visible)
		return;
	now.visible = visible;
	now.tables = lsm_writer.next_number;
	buf_clear(&now.seen);
}

static bool
was_seen(uint64_t number)
{
	const uint64_t *seen = (const uint64_t *) (const void *) now.seen.data;

	for (size_t i = 0; i < now.seen.len / sizeof *seen; i++)
		if (seen[i] == number)
			return true;
	return number >= now.tables;
}

static bool
overlap(const Table *a, const Table *b)
{
	return slice_cmp(a->smallest, b->largest) <= 0 && slice_cmp(b->smallest, a->largest) <= 0;
}

/* How many entries of the tables above t, which is number i of its level, may hide some of t's? */
static uint64_t
entries_above(const Version *v, uint32_t level, uint32_t i, uint64_t oldest)
{
	const Table *t = v->tables[level][i];
	uint64_t entries = 0;

	for (uint32_t l = 0; l <= level; l++) {
		uint32_t n = l < level ? v->ntables[l] : level == 0 ? i : 0;

		for (uint32_t k = 0; k < n; k++)
			if (v->tables[l][k]->info.version_min < oldest && overlap(v->tables[l][k], t))
				entries += v->tables[l][k]->info.entries;
	}
	return entries;
}

static bool
gains(const TableInfo *t, uint64_t bytes)
{
	return bytes >= GAIN_BYTES || bytes >= t->bytes / GAIN_SHARE;
}

/* The next table of the round that may gain. */
static bool
next_table(const Version *v, uint64_t oldest, Pick *p)
{
	for (uint32_t level = LSM_LEVELS; level-- > 0;) {
		for (uint32_t i = v->ntables[level]; i-- > 0;) { /* level 0: the oldest first */
			const TableInfo *t = &v->tables[level][i]->info;
			double entry = (double) (t->bytes + t->value_bytes) / (double) t->entries;
			uint64_t above;

			if (was_seen(t->number))
				continue;
			above = entries_above(v, level, i, oldest);
			if (above == 0 || !gains(t, (uint64_t) ((double) above * entry)))
				continue;
			*p = (Pick){ .any = true, .out_level = level };
			p->first[level] = i;
			p->n[level] = 1;
			return true;
		}
	}
	return false;
}

/* Where a table stands now: flushes between may have put others before it in level 0. */
static void
find_again(Pick *p, uint64_t number)
{
	const Version *v = lsm_writer.current;
	uint32_t level = p->out_level;

	while (p->first[level] < v->ntables[level] && v->tables[level][p->first[level]]->info.number != number)
		p->first[level]++;
}

Status
lsm_reclaim(const LsmCompactOptions *opt, Version **out, bool *more)
{
	uint64_t number, bytes, kept;
	ReclaimPlan plan;
	const TableInfo *t;
	Pick p;

	*out = NULL;
	begin_round(lsm_writer.current, opt->oldest);
	*more = next_table(lsm_writer.current, opt->oldest, &p);
	if (!*more)
		return ST_OK;
	t = &lsm_writer.current->tables[p.out_level][p.first[p.out_level]]->info;
	number = t->number;
	bytes = t->bytes;
	KV_TRY(buf_append(&now.seen, &number, sizeof number));
	KV_TRY(compact_hidden(&p, opt, &plan));
	find_again(&p, number);
	t = &lsm_writer.current->tables[p.out_level][p.first[p.out_level]]->info;
	kept = plan.seen > 0 ? (uint64_t) ((double) plan.kept * (double) bytes / (double) plan.seen) : bytes;
	if (!gains(t, bytes - kept + plan.values) || kept > opt->room)
		return ST_OK;
	KV_TRY(compact_run(&p, opt, true));
	*out = lsm_writer.current;
	return ST_OK;
}
