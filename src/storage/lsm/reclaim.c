/*
 * reclaim.c - space from a full disk, table by table.
 *
 * Compaction worker only. A compaction gives space back when it has ended, and needs room for all that it keeps until
 * then: on a full disk, where the deletes are in shallow tables and what they hide is below, it can't begin. So here
 * one table at a time is written anew without what shallower levels hide (compact.c, rule 2a). What hides it stays
 * where it is: the order of the levels, and what every snapshot sees, are unchanged.
 *
 * Each table is first only read, to see whether it gains. A round looks at each table once, the deepest levels first,
 * where most of the data is; the next round begins when there can be something new to find. A table whose result
 * found no room is looked at again in the round when there is enough, since others have made some.
 */
#include <stdlib.h>

#include "lsm_internal.h"

/* Writing a table anew has to give back this much of it, or so many bytes. */
#define GAIN_SHARE 16
#define GAIN_BYTES (1024u * 1024u)

/* A table that was looked at. */
typedef struct Seen {
	uint64_t number;
	uint64_t room;      /* it gains once there is so much; UINT64_MAX: it does not */
} Seen;

/* Of the compaction worker: the round under way. */
static struct {
	uint64_t visible;   /* entries below this could hide others when it began */
	uint64_t tables;    /* table numbers from here on were made since */
	Buf seen;           /* Seen[] */
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

/* NULL: not looked at. */
static Seen *
find_seen(uint64_t number)
{
	Seen *seen = (Seen *) (void *) now.seen.data;

	for (size_t i = 0; i < now.seen.len / sizeof *seen; i++)
		if (seen[i].number == number)
			return &seen[i];
	return NULL;
}

static bool
is_done(uint64_t number, uint64_t room)
{
	const Seen *s = find_seen(number);

	return number >= now.tables || (s != NULL && s->room > room);
}

static Status
note_seen(uint64_t number, uint64_t room)
{
	Seen *s = find_seen(number);

	if (s == NULL)
		return buf_append(&now.seen, &(Seen){ number, room }, sizeof *s);
	s->room = room;
	return ST_OK;
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
next_table(const Version *v, const LsmCompactOptions *opt, Pick *p)
{
	for (uint32_t level = LSM_LEVELS; level-- > 0;) {
		for (uint32_t i = v->ntables[level]; i-- > 0;) { /* level 0: the oldest first */
			const TableInfo *t = &v->tables[level][i]->info;
			double entry = (double) (t->bytes + t->value_bytes) / (double) t->entries;
			uint64_t above;

			if (is_done(t->number, opt->room))
				continue;
			above = entries_above(v, level, i, opt->oldest);
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

/*
 * What was given up for other work, or for want of memory, is looked at again; what found no space although there
 * should have been some waits for more. A table that can't be read does not keep the round from the others.
 */
static Status
note_failure(uint64_t number, const LsmCompactOptions *opt, Status st)
{
	if (st == ST_BUSY || st == ST_OUT_OF_MEMORY)
		return st;
	return note_seen(number, st == ST_NO_SPACE ? opt->room + 1 : UINT64_MAX) == ST_OK ? st : ST_OUT_OF_MEMORY;
}

Status
lsm_reclaim(const LsmCompactOptions *opt, Version **out, bool *more)
{
	uint64_t number, bytes, kept;
	ReclaimPlan plan;
	const TableInfo *t;
	Status st;
	Pick p;

	*out = NULL;
	begin_round(lsm_writer.current, opt->oldest);
	*more = next_table(lsm_writer.current, opt, &p);
	if (!*more)
		return ST_OK;
	t = &lsm_writer.current->tables[p.out_level][p.first[p.out_level]]->info;
	number = t->number;
	bytes = t->bytes;
	st = compact_hidden(&p, opt, &plan);
	if (st != ST_OK)
		return note_failure(number, opt, st);
	find_again(&p, number);
	t = &lsm_writer.current->tables[p.out_level][p.first[p.out_level]]->info;
	kept = plan.seen > 0 ? (uint64_t) ((double) plan.kept * (double) bytes / (double) plan.seen) : bytes;
	if (!gains(t, bytes - kept + plan.values))
		return note_seen(number, UINT64_MAX);
	if (kept > opt->room)
		return note_seen(number, kept);
	st = compact_run(&p, opt, true);
	if (st != ST_OK)
		return note_failure(number, opt, st);
	*out = lsm_writer.current;
	return ST_OK;
}
