/*
 * lsm_pick.c - which tables to compact next. Pure: a function of the list of tables and the settings.
 *
 * Level 0 is judged by its number of tables (each is looked at by every read), deeper levels by their bytes
 * against a target: level 1 as large as the memtables that make a level-0 compaction, each next one
 * level_ratio times larger. The level furthest above its target goes first.
 */
#include "common/config.h"
#include "lsm_internal.h"

/*
 * A table that is only moved may overlap at most this many tables' worth of bytes two levels below: what
 * it costs to compact it further is bounded by that.
 */
#define GRANDPARENT_TABLES 10

PickConfig
pick_config(void)
{
	return (PickConfig){
		.l0_trigger = (uint64_t) config.l0_trigger,
		.level_ratio = (uint64_t) config.level_ratio,
		.level_base = (uint64_t) (config.memtable_size * config.l0_trigger),
		.table_size = (uint64_t) config.table_size,
	};
}

static double
level_target(const PickConfig *c, int level)
{
	double target = (double) c->level_base;

	for (int i = 1; i < level; i++)
		target *= (double) c->level_ratio;
	return target;
}

double
pick_score(const PickConfig *c, const Version *v, int level)
{
	if (level == 0)
		return (double) v->ntables[0] / (double) c->l0_trigger;
	if (level == LSM_LEVELS - 1)
		return 0; /* nowhere to go */
	return (double) v->bytes[level] / level_target(c, level);
}

/*
 * Tables of a sorted level that share keys with [smallest, largest]: [*first, *first + *n). Returns their
 * bytes.
 */
static uint64_t
overlap(const Version *v, uint32_t level, Slice smallest, Slice largest, uint32_t *first, uint32_t *n)
{
	uint64_t bytes = 0;
	uint32_t i;

	*first = 0;
	*n = 0;
	if (level >= LSM_LEVELS)
		return 0;
	*first = i = version_find(v->tables[level], v->ntables[level], smallest);
	for (; i < v->ntables[level] && slice_cmp(v->tables[level][i]->smallest, largest) <= 0; i++)
		bytes += v->tables[level][i]->info.bytes;
	*n = i - *first;
	return bytes;
}

static bool
may_move(const PickConfig *c, const Version *v, const Table *t, uint32_t level)
{
	uint32_t first, n;

	if (overlap(v, level + 1, t->smallest, t->largest, &first, &n) > 0 || n > 0)
		return false;
	return overlap(v, level + 2, t->smallest, t->largest, &first, &n) <= GRANDPARENT_TABLES * c->table_size;
}

static Pick
pick_one(uint32_t level, uint32_t i)
{
	Pick p = { .any = true, .out_level = level + 1 };

	p.first[level] = i;
	p.n[level] = 1;
	return p;
}

/*
 * All of level 0 at once: its tables mostly overlap, and older ones must not stay above newer ones. But the
 * oldest alone may be moved when nothing in level 1 shares keys with it: an ascending load is never
 * rewritten.
 */
static Pick
pick_l0(const PickConfig *c, const Version *v)
{
	uint32_t n = v->ntables[0];
	Slice smallest = v->tables[0][0]->smallest, largest = v->tables[0][0]->largest;
	Pick p;

	if (may_move(c, v, v->tables[0][n - 1], 0)) {
		p = pick_one(0, n - 1);
		p.trivial = true;
		return p;
	}
	p = pick_one(0, 0);
	p.n[0] = n;
	for (uint32_t i = 1; i < n; i++) {
		if (slice_cmp(v->tables[0][i]->smallest, smallest) < 0)
			smallest = v->tables[0][i]->smallest;
		if (slice_cmp(v->tables[0][i]->largest, largest) > 0)
			largest = v->tables[0][i]->largest;
	}
	(void) overlap(v, 1, smallest, largest, &p.first[1], &p.n[1]);
	return p;
}

/* The table that rewrites least below for what it brings down. */
static Pick
pick_level(const PickConfig *c, const Version *v, uint32_t level)
{
	uint32_t best = 0;
	double best_cost = 0;
	Pick p;

	for (uint32_t i = 0; i < v->ntables[level]; i++) {
		const Table *t = v->tables[level][i];
		uint32_t first, n;
		double below = (double) overlap(v, level + 1, t->smallest, t->largest, &first, &n);
		double cost = below / (double) (t->info.bytes + 1);

		if (i == 0 || cost < best_cost) {
			best = i;
			best_cost = cost;
		}
	}
	p = pick_one(level, best);
	(void) overlap(v, level + 1, v->tables[level][best]->smallest, v->tables[level][best]->largest,
	               &p.first[level + 1], &p.n[level + 1]);
	p.trivial = may_move(c, v, v->tables[level][best], level);
	return p;
}

/* Written anew where it is; in level 0 it keeps its place, since its versions stay within what they were. */
static Pick
pick_rewrite(const Version *v)
{
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			if (v->tables[level][i]->rewrite) {
				Pick p = pick_one(level, i);

				p.out_level = level;
				return p;
			}
		}
	}
	return (Pick){ .any = false };
}

Pick
pick_compaction(const PickConfig *c, const Version *v)
{
	double best = 0;
	int level = 0;

	for (int i = 0; i < LSM_LEVELS; i++) {
		double score = pick_score(c, v, i);

		if (score > best) {
			best = score;
			level = i;
		}
	}
	if (best < 1.0)
		return pick_rewrite(v);
	return level == 0 ? pick_l0(c, v) : pick_level(c, v, (uint32_t) level);
}

Pick
pick_all(const PickConfig *c, const Version *v)
{
	Pick p = { .any = false, .out_level = 1 };
	double bytes = 0;

	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		p.n[level] = v->ntables[level];
		if (p.n[level] == 0)
			continue;
		p.any = true;
		bytes += (double) v->bytes[level];
		if (level > p.out_level)
			p.out_level = level;
	}
	while (p.out_level < LSM_LEVELS - 1 && bytes > level_target(c, (int) p.out_level))
		p.out_level++;
	return p;
}

double
lsm_pressure(const Version *v)
{
	PickConfig c = pick_config();
	double most = 0;

	for (int i = 0; i < LSM_LEVELS; i++) {
		double score = pick_score(&c, v, i);

		if (score > most)
			most = score;
	}
	return most;
}
