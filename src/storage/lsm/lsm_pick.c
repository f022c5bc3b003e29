/*
 * lsm_pick.c - which tables to compact next. Pure: a function of the list of tables and the settings.
 *
 * The deepest level holds nearly everything, so what lies above it is little: each level's target is that
 * of the level below it divided by level_ratio, from the real size of the largest upwards, until what is
 * left is small enough to be merged with level 0 (the base level). Levels between 0 and the base are empty;
 * level 0 goes straight to the base.
 *
 * Level 0 is judged by its number of tables (each is looked at by every read) and goes first; deeper levels
 * by their bytes against their targets. Tombstones count as what they will free, so space that was deleted
 * comes back somewhat earlier.
 */
#include "common/config.h"
#include "lsm_internal.h"

/*
 * The base level's target is at most this many times what a compaction of level 0 brings. One level more
 * writes each byte once more, which pays only for what is larger (test_growth.c tries it).
 */
#define BASE_BATCHES 2
/*
 * Deeper levels wait for level 0, until one of them is this many times its target: then level 0 would only
 * feed it.
 */
#define PATIENCE 2.0
/*
 * Level 0 waits until it has so many times l0_trigger tables while its bytes are less than this part of what it
 * would be merged with: fewer merges, of more each, write less (a sixth when all is overwritten at random).
 */
#define LEVEL0_WAITS 1.5
#define LEVEL0_PART 2
/* Tables' worth of bytes that are taken from level 0 at once: seconds of work, not minutes. */
#define L0_TABLES 16
/* Tables' worth of bytes of the last level that are written anew at once. */
#define ANEW_TABLES 4
/*
 * A table with more tombstones than one in so many entries is not moved to where they hide nothing, but
 * rewritten.
 */
#define MOVE_TOMBSTONES 16

PickConfig
pick_config(void)
{
	PickConfig c = {
		.l0_trigger = (uint64_t) config.l0_trigger,
		.level_ratio = (uint64_t) config.level_ratio,
		.level_base = (uint64_t) (config.memtable_size * config.l0_trigger),
		.table_size = (uint64_t) config.table_size,
	};

	c.l0_bytes = c.table_size * L0_TABLES;
	if (c.l0_bytes < 2 * c.level_base)
		c.l0_bytes = 2 * c.level_base;
	return c;
}

void
pick_levels(const PickConfig *c, const Version *v, LevelPlan *out)
{
	double target = 0, live = 0, entries = 0;
	uint32_t base = LSM_LEVELS - 1;

	memset(out, 0, sizeof *out);
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		if (level > 0 && (double) v->bytes[level] > target)
			target = (double) v->bytes[level];
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const TableInfo *t = &v->tables[level][i]->info;

			live += (double) t->bytes;
			entries += (double) (t->entries - t->tombstones);
		}
	}
	out->entry_bytes = entries > 0 ? live / entries : 0;
	out->target[base] = target;
	while (base > 1 && target > (double) c->level_base * BASE_BATCHES) {
		target /= (double) c->level_ratio;
		out->target[--base] = target;
	}
	out->base = base;
}

/* Bytes, and what its tombstones will free. */
static double
weight(const LevelPlan *plan, const Table *t)
{
	return (double) t->info.bytes + (double) t->info.tombstones * plan->entry_bytes;
}

static double
score(const PickConfig *c, const LevelPlan *plan, const Version *v, uint32_t level)
{
	double bytes = 0;

	if (level == 0)
		return (double) lsm_level0_depth(v) / (double) c->l0_trigger;
	if (level == LSM_LEVELS - 1 || v->ntables[level] == 0)
		return 0; /* nowhere to go, or nothing */
	for (uint32_t i = 0; i < v->ntables[level]; i++)
		bytes += weight(plan, v->tables[level][i]);
	if (level < plan->base) /* has to be emptied */
		return PATIENCE + bytes / (double) c->level_base;
	return bytes / plan->target[level];
}

double
pick_score(const PickConfig *c, const Version *v, uint32_t level)
{
	LevelPlan plan;

	pick_levels(c, v, &plan);
	return score(c, &plan, v, level);
}

/* Where a level's tables go: the next one that is to have or has tables, never past one that has. */
static uint32_t
level_below(const LevelPlan *plan, const Version *v, uint32_t level)
{
	do
		level++;
	while (level < plan->base && v->ntables[level] == 0);
	return level;
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
may_move(const PickConfig *c, const Version *v, const Table *t, uint32_t to)
{
	uint32_t first, n;
	bool last = true;

	if (overlap(v, to, t->smallest, t->largest, &first, &n) > 0 || n > 0)
		return false;
	for (uint32_t level = to + 1; level < LSM_LEVELS; level++) {
		uint64_t bytes = overlap(v, level, t->smallest, t->largest, &first, &n);

		if (level == to + 1 && bytes > GRANDPARENT_TABLES * c->table_size)
			return false;
		last = last && n == 0;
	}
	return !last || t->info.tombstones <= t->info.entries / MOVE_TOMBSTONES;
}

static Pick
pick_run(uint32_t level, uint32_t first, uint32_t n, uint32_t to)
{
	Pick p = { .any = true, .out_level = to };

	p.first[level] = first;
	p.n[level] = n;
	return p;
}

/* May this table of level 0 be moved as it is, past the older ones? */
static bool
may_move_l0(const PickConfig *c, const Version *v, uint32_t i, uint32_t to)
{
	for (uint32_t older = i + 1; older < v->ntables[0]; older++)
		if (tables_share_keys(v->tables[0][older], v->tables[0][i]))
			return false;
	return may_move(c, v, v->tables[0][i], to);
}

/* The oldest run of tables of level 0 that can be moved: an ascending load is never rewritten. *n 0: none. */
static uint32_t
movable_l0(const PickConfig *c, const Version *v, uint32_t to, uint32_t *n)
{
	uint32_t i = v->ntables[0];

	for (*n = 0; i > 0; i--) {
		if (may_move_l0(c, v, i - 1, to))
			++*n;
		else if (*n > 0)
			break;
	}
	return i;
}

/*
 * The oldest tables of level 0, older ones must not stay above newer ones, and all that they overlap in
 * `to`.
 */
static Pick
pick_l0(const PickConfig *c, const LevelPlan *plan, const Version *v)
{
	uint32_t to = level_below(plan, v, 0), i = v->ntables[0] - 1, n, first = movable_l0(c, v, to, &n);
	Slice smallest = v->tables[0][i]->smallest, largest = v->tables[0][i]->largest;
	uint64_t bytes = v->tables[0][i]->info.bytes;
	Pick p;

	if (n > 0) {
		p = pick_run(0, first, n, to);
		p.trivial = true;
		return p;
	}
	for (; i > 0; i--) {
		const Table *t = v->tables[0][i - 1];

		if (v->ntables[0] - i >= c->l0_trigger && bytes + t->info.bytes > c->l0_bytes)
			break;
		bytes += t->info.bytes;
		if (slice_cmp(t->smallest, smallest) < 0)
			smallest = t->smallest;
		if (slice_cmp(t->largest, largest) > 0)
			largest = t->largest;
	}
	p = pick_run(0, i, v->ntables[0] - i, to);
	(void) overlap(v, to, smallest, largest, &p.first[to], &p.n[to]);
	return p;
}

/* The table that rewrites least below for what it brings down, moved ones first of all. */
static uint32_t
cheapest(const PickConfig *c, const LevelPlan *plan, const Version *v, uint32_t level, uint32_t to,
         bool *move)
{
	uint32_t best = 0;
	double best_cost = 0;

	*move = false;
	for (uint32_t i = 0; i < v->ntables[level]; i++) {
		const Table *t = v->tables[level][i];
		uint32_t first, n;
		uint64_t below = overlap(v, to, t->smallest, t->largest, &first, &n);
		double cost = (double) below / (weight(plan, t) + 1);

		if (n == 0 && may_move(c, v, t, to)) {
			*move = true;
			return i;
		}
		if (i == 0 || cost < best_cost) {
			best = i;
			best_cost = cost;
		}
	}
	return best;
}

/*
 * One table, the cheapest (runs of several write more: their neighbours are dearer). But many are moved at
 * once.
 */
static Pick
pick_level(const PickConfig *c, const LevelPlan *plan, const Version *v, uint32_t level)
{
	uint32_t to = level_below(plan, v, level), first, n = 1;
	double excess = (double) v->bytes[level] - plan->target[level];
	const Table *t;
	Pick p;

	first = cheapest(c, plan, v, level, to, &p.trivial);
	t = v->tables[level][first];
	if (!p.trivial) {
		p = pick_run(level, first, 1, to);
		(void) overlap(v, to, t->smallest, t->largest, &p.first[to], &p.n[to]);
		return p;
	}
	for (; first + n < v->ntables[level]; n++) {
		excess -= (double) t->info.bytes;
		t = v->tables[level][first + n];
		if (excess <= 0 || !may_move(c, v, t, to))
			break;
	}
	p = pick_run(level, first, n, to);
	p.trivial = true;
	return p;
}

/* Written anew where it is; in level 0 it keeps its place, since its versions stay within what they were. */
static Pick
pick_rewrite(const Version *v, uint32_t *skip)
{
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const Table *t = v->tables[level][i];
			Pick p;

			if (!t->rewrite || (*skip)-- > 0)
				continue;
			p = pick_run(level, i, 1, level);
			p.for_values = !t->rewrite_ranges;
			return p;
		}
	}
	return (Pick){ .any = false };
}

/*
 * Tombstones that came down while somebody could still see what they hide stay in the last level, with
 * that. Once all of a table is older than any snapshot they hide nothing: without them it is smaller, and
 * nobody else would come by.
 */
static Pick
pick_emptied(const Version *v, uint64_t oldest, uint32_t *skip)
{
	uint32_t last = LSM_LEVELS - 1;

	for (uint32_t i = 0; i < v->ntables[last]; i++) {
		const TableInfo *t = &v->tables[last][i]->info;

		if (t->version_max < oldest && t->tombstones > t->entries / MOVE_TOMBSTONES && (*skip)-- == 0)
			return pick_run(last, i, 1, last);
	}
	return (Pick){ .any = false };
}

Pick
pick_idle(const Version *v, uint64_t oldest, uint32_t skip)
{
	uint32_t left = skip;
	Pick p = pick_rewrite(v, &left);

	if (!p.any)
		p = pick_emptied(v, oldest, &left);
	p.idle = p.any ? skip + 1 : 0;
	return p;
}

/* Is what level 0 brings worth the merge? Moving it always is. */
static bool
level0_worth(const PickConfig *c, const LevelPlan *plan, const Version *v, double level0_score)
{
	uint32_t to = level_below(plan, v, 0), n;

	if (level0_score >= LEVEL0_WAITS || v->bytes[0] >= v->bytes[to] / LEVEL0_PART)
		return true;
	(void) movable_l0(c, v, to, &n);
	return n > 0;
}

Pick
pick_compaction(const PickConfig *c, const Version *v, uint64_t oldest)
{
	LevelPlan plan;
	double best = 0, first;
	uint32_t level = 0;

	pick_levels(c, v, &plan);
	first = score(c, &plan, v, 0);
	if (first >= 1.0 && !level0_worth(c, &plan, v, first))
		first = 0;
	for (uint32_t i = 1; i < LSM_LEVELS; i++) {
		double s = score(c, &plan, v, i);

		if (s > best) {
			best = s;
			level = i;
		}
	}
	if (first >= 1.0 && (best < PATIENCE || best < first))
		return pick_l0(c, &plan, v);
	if (best >= 1.0)
		return pick_level(c, &plan, v, level);
	return pick_idle(v, oldest, 0);
}

/* Tables of the last level, one or several beside each other, that were there when it began. */
static Pick
pick_anew(const PickConfig *c, const Version *v, uint64_t number)
{
	uint32_t last = LSM_LEVELS - 1, i = 0, n = 0;
	Table *const *t = v->tables[last];
	uint64_t bytes = 0;

	while (i < v->ntables[last] && t[i]->info.number >= number)
		i++;
	for (; i + n < v->ntables[last] && t[i + n]->info.number < number; n++) {
		bytes += t[i + n]->info.bytes;
		if (n > 0 && bytes > ANEW_TABLES * c->table_size)
			break;
	}
	return n > 0 ? pick_run(last, i, n, last) : (Pick){ .any = false };
}

Pick
pick_down(const PickConfig *c, const Version *v, const LsmDown *down)
{
	LevelPlan plan;
	Pick p;

	pick_levels(c, v, &plan);
	if (v->ntables[0] > 0 && v->tables[0][v->ntables[0] - 1]->info.version_min < down->flushed)
		return pick_l0(c, &plan, v);
	for (uint32_t level = 1; level < LSM_LEVELS - 1; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const Table *t = v->tables[level][i];
			uint32_t to = level_below(&plan, v, level);

			if (t->info.version_min >= down->flushed)
				continue;
			p = pick_run(level, i, 1, to);
			(void) overlap(v, to, t->smallest, t->largest, &p.first[to], &p.n[to]);
			p.trivial = may_move(c, v, t, to);
			return p;
		}
	}
	return pick_anew(c, v, down->number);
}

Pick
pick_all(const Version *v)
{
	Pick p = { .any = false, .out_level = LSM_LEVELS - 1 };

	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		p.n[level] = v->ntables[level];
		p.any = p.any || p.n[level] > 0;
	}
	return p;
}

bool
lsm_due(const Version *v)
{
	PickConfig c = pick_config();

	return pick_compaction(&c, v, 0).any;
}

double
lsm_score(const Version *v, uint32_t level)
{
	PickConfig c = pick_config();

	return pick_score(&c, v, level);
}

uint64_t
lsm_pending_bytes(const Version *v)
{
	PickConfig c = pick_config();
	LevelPlan plan;
	double pending = 0, comes = 0;

	pick_levels(&c, v, &plan);
	if (lsm_level0_depth(v) >= c.l0_trigger) {
		comes = (double) v->bytes[0];
		pending = comes + (double) v->bytes[level_below(&plan, v, 0)];
	}
	for (uint32_t level = 1; level + 1 < LSM_LEVELS; level++) {
		double bytes = (double) v->bytes[level] + (level >= plan.base ? comes : 0);
		double excess = bytes - plan.target[level];

		if (excess <= 0) {
			comes = level >= plan.base ? 0 : comes;
			continue;
		}
		pending += excess * (1 + (double) v->bytes[level_below(&plan, v, level)] / bytes);
		comes = level >= plan.base ? excess : comes + excess;
	}
	return (uint64_t) pending;
}
