/*
 * compact.c - merging tables into the next level: what is kept, where outputs are cut.
 *
 * Compaction worker only, without an epoch pin: its iterators read past the cache, its tables are in its own
 * newest Version. While it runs, opt->between may flush: current changes, but only by tables added to level
 * 0, newer than every input.
 *
 * Rules, each with a test in test_compact.c:
 *   1. Versions >= oldest are kept, and the newest one below oldest; a version older than that is dropped.
 *   2. The newest one below oldest, if it is a tombstone or has expired, is dropped when no table outside the
 *      inputs may hold an older version of the key: no older table of level 0, no table of the levels from
 *      the shallowest input level down. Otherwise an expired entry becomes a tombstone (its value is dead
 *      weight).
 *   2a. On a full disk (compact_hidden()) the newest one below oldest goes, too, where a shallower level has a newer
 *      one below oldest: that one hides it from everybody, and stays, being no input.
 *   3. Values in value files stay where they are, but for those of value_gc.c.
 *   4. Versions of one key go into one output table; all that comes out into level 0 goes into one, which
 *      has the place of its only input there.
 */
#include <stdlib.h>

#include "common/config.h"
#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "lsm_internal.h"
#include "port/fs.h"

/*
 * Bytes merged between two calls of opt->between: some milliseconds. An output that was synced calls it, too.
 */
#define BETWEEN_BYTES (1024 * 1024)

typedef struct Compaction {
	const Pick *pick;
	const LsmCompactOptions *opt;
	const Version *base;
	KeepRule rule;
	Edit edit;
	TableBuilder *builder;
	OutputCut cut;
	uint32_t asked[LSM_LEVELS]; /* tables before these lie before the key */
	ValueGc values;
	uint64_t expected;        /* entries of an output, a guess */
	uint64_t merged;          /* bytes since the last call of between */
	uint64_t read, to_read;   /* bytes of keys and values */
	uint64_t from_above;      /* file bytes of inputs not of the output's level */
	bool above;               /* rule 2a: look into shallower levels */
	bool dry;                 /* write nothing, count what would be */
	ReclaimPlan plan;         /* dry: what comes of it */
	uint32_t tables_in;
	uint64_t bytes_in, bytes_out;
} Compaction;

static bool
is_input(const Pick *p, uint32_t level, uint32_t i)
{
	return i >= p->first[level] && i - p->first[level] < p->n[level];
}

static bool
may_have_older(const Table *t, Slice key, uint64_t version)
{
	return t->info.version_min < version && table_covers(t, key);
}

/*
 * Rule 2: may a table outside the inputs hold a version of key older than `version`? Keys come in order: in each
 * sorted level the table to ask is the last one asked or a later one.
 */
static bool
older_elsewhere(Compaction *c, Slice key, uint64_t version)
{
	const Version *v = c->base;
	uint32_t level = 0;

	while (c->pick->n[level] == 0)
		level++;
	if (level == 0) {
		for (uint32_t i = 0; i < v->ntables[0]; i++)
			if (!is_input(c->pick, 0, i) && may_have_older(v->tables[0][i], key, version))
				return true;
		level = 1;
	}
	for (; level < LSM_LEVELS; level++) {
		uint32_t *i = &c->asked[level];

		while (*i < v->ntables[level] && slice_cmp(v->tables[level][*i]->largest, key) < 0)
			++*i;
		if (*i < v->ntables[level] && !is_input(c->pick, level, *i) &&
		    may_have_older(v->tables[level][*i], key, version))
			return true;
	}
	return false;
}

/* Has this table a version of key above `version` that every snapshot >= oldest sees? */
static Status
newer_in(const Compaction *c, const Table *t, Slice key, uint64_t hash, uint64_t version, bool *found)
{
	Entry e;
	Status st;

	if (t->info.version_max <= version || !table_covers(t, key) || !table_may_contain(&t->info, key, hash))
		return ST_OK;
	st = table_get(&t->info, key, c->opt->oldest, &e);
	*found = st == ST_OK && e.version > version;
	return st == ST_NOT_FOUND ? ST_OK : st;
}

/* Rule 2a, for a compaction of one table alone. */
static Status
newer_above(const Compaction *c, Slice key, uint64_t version, bool *found)
{
	const Version *v = c->base;
	uint64_t hash = table_key_hash(key);
	uint32_t n = c->pick->out_level == 0 ? c->pick->first[0] : v->ntables[0];
	Status st = ST_OK;

	epoch_enter(); /* its blocks come through the cache; no longer than this look */
	for (uint32_t i = 0; i < n && st == ST_OK && !*found; i++)
		st = newer_in(c, v->tables[0][i], key, hash, version, found);
	for (uint32_t level = 1; level < c->pick->out_level && st == ST_OK && !*found; level++) {
		uint32_t i = version_find(v->tables[level], v->ntables[level], key);

		if (i < v->ntables[level])
			st = newer_in(c, v->tables[level][i], key, hash, version, found);
	}
	epoch_leave();
	return st;
}

/* Rules 1 and 2. Changes *e when it is to be written differently. */
static Status
judge(Compaction *c, Entry *e, bool *keep, bool *new_key)
{
	bool hidden = false;
	Keep k;
	bool expired = e->kind != ENTRY_DELETE && e->expire_ms != 0 && e->expire_ms <= c->opt->now_ms;

	KV_TRY(keep_rule(&c->rule, e, &k, new_key));
	if (k == KEEP_NEWEST_BELOW && c->above)
		KV_TRY(newer_above(c, e->key, e->version, &hidden));
	*keep = k != DROP && !hidden;
	if (hidden)
		return ST_OK;
	if (k != KEEP_NEWEST_BELOW || (e->kind != ENTRY_DELETE && !expired))
		return ST_OK;
	if (!older_elsewhere(c, e->key, e->version)) {
		*keep = false;
		return ST_OK;
	}
	e->kind = ENTRY_DELETE;
	e->value = slice_of(NULL, 0);
	e->expire_ms = 0;
	return ST_OK;
}

static Status
finish_output(Compaction *c)
{
	TableBuilder *b = c->builder;
	uint64_t bytes;

	c->builder = NULL;
	KV_TRY(writer_finish(b, &c->edit, c->pick->out_level, &bytes));
	c->bytes_out += bytes;
	c->merged = BETWEEN_BYTES; /* the sync took a while */
	return ST_OK;
}

/* Is the output to end before this key, a new one? */
static bool
full(Compaction *c, Slice key)
{
	uint64_t bytes = c->builder != NULL ? table_builder_bytes(c->builder) : 0;

	if (c->pick->out_level == 0)
		return false;
	if (output_ends(&c->cut, key, bytes))
		return c->builder != NULL;
	if (c->builder == NULL || !value_gc_full(c->builder))
		return false;
	c->cut.overlapped = 0;
	return true;
}

static Status
count_dry(Compaction *c, const Entry *e, bool keep)
{
	uint64_t bytes = e->key.len + e->value.len + sizeof(uint64_t);
	ValueRef ref;

	c->plan.seen += bytes;
	if (keep)
		c->plan.kept += bytes;
	else if (e->kind == ENTRY_VALUE_REF && value_ref_decode(e->value, &ref))
		c->plan.values += ref.length;
	return ST_OK;
}

static Status
take(Compaction *c, Entry *e)
{
	bool keep, new_key;
	uint64_t relocated;

	KV_TRY(judge(c, e, &keep, &new_key));
	if (c->dry)
		return count_dry(c, e, keep);
	/* Rule 4: also when the first versions of the key are dropped, this is where it begins. */
	if (new_key && full(c, e->key))
		KV_TRY(finish_output(c));
	if (!keep)
		return ST_OK;
	if (c->builder == NULL)
		KV_TRY(writer_builder(c->pick->out_level, c->expected, &c->builder));
	relocated = c->values.relocated;
	KV_TRY(value_gc_entry(&c->values, c->builder, e));
	c->merged += c->values.relocated - relocated;
	return table_builder_add(c->builder, e);
}

/* Finished or not. */
static uint64_t
written_so_far(const Compaction *c)
{
	return c->bytes_out + c->values.out.bytes + (c->builder != NULL ? table_builder_bytes(c->builder) : 0) +
		(c->values.out.builder != NULL ? value_builder_bytes(c->values.out.builder) : 0);
}

static Status
pause_for_others(Compaction *c, const Entry *e)
{
	c->read += e->key.len + e->value.len;
	c->merged += e->key.len + e->value.len + sizeof(uint64_t);
	if (c->merged < BETWEEN_BYTES || c->opt->between == NULL)
		return ST_OK;
	c->merged = 0;
	atomic_store_explicit(&lsm_shared->running_done, c->read, memory_order_relaxed);
	atomic_store_explicit(&lsm_shared->running_out, written_so_far(c), memory_order_relaxed);
	if (c->opt->between(c->opt->between_arg))
		return status_fail(ST_BUSY, "compaction was given up for more urgent work");
	return ST_OK;
}

static Status
merge(Compaction *c, Iter *it)
{
	for (iter_seek_first(it); it->valid; iter_next(it)) {
		Entry e = it->entry;

		KV_TRY(take(c, &e));
		KV_TRY(pause_for_others(c, &it->entry));
	}
	KV_TRY(it->status);
	KV_TRY(value_gc_finish(&c->values));
	return c->builder != NULL ? finish_output(c) : ST_OK;
}

/* NULL with a detail. */
static Iter *
open_inputs(const Compaction *c)
{
	const Pick *p = c->pick;
	TableIterOptions opt = { .read_ahead = true };
	Iter **sources = malloc((p->n[0] + LSM_LEVELS) * sizeof *sources);
	Iter *merged = NULL;
	bool failed = sources == NULL;
	int n = 0;

	if (failed)
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory to compact %u tables", p->n[0]);
	for (uint32_t i = 0; i < p->n[0] && !failed; i++) {
		sources[n] = table_iter(&c->base->tables[0][p->first[0] + i]->info, opt);
		failed = sources[n] == NULL;
		n += !failed;
	}
	for (uint32_t level = 1; level < LSM_LEVELS && !failed; level++) {
		if (p->n[level] == 0)
			continue;
		sources[n] = level_iter(c->base->tables[level] + p->first[level], p->n[level], opt);
		failed = sources[n] == NULL;
		n += !failed;
	}
	if (!failed)
		merged = iter_merge(sources, n);
	for (int i = 0; i < n && failed; i++)
		iter_close(sources[i]);
	free(sources);
	return merged;
}

static Status
edit_inputs(Compaction *c)
{
	uint64_t entries = 0;

	c->edit.oldest = c->opt->oldest;
	c->edit.ranges_applied = ranges_applied_by(c->opt->oldest, c->base->flushed);
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < c->pick->n[level]; i++) {
			const TableInfo *t = &c->base->tables[level][c->pick->first[level] + i]->info;

			KV_TRY(edit_delete(&c->edit, level, t->number));
			c->tables_in++;
			c->bytes_in += t->bytes;
			c->from_above += level < c->pick->out_level ? t->bytes : 0;
			c->to_read += t->key_bytes + t->value_bytes;
			entries += t->entries;
		}
	}
	c->expected = entries;
	if (c->pick->out_level > 0 && c->bytes_in > (uint64_t) config.table_size)
		c->expected = (uint64_t) ((double) entries * (double) config.table_size / (double) c->bytes_in);
	return ST_OK;
}

/* Figures of the compaction under way; NULL: it has ended. */
static void
show_running(const Compaction *c)
{
	LsmShared *s = lsm_shared;

	atomic_store_explicit(&s->running_done, 0, memory_order_relaxed);
	atomic_store_explicit(&s->running_out, 0, memory_order_relaxed);
	atomic_store_explicit(&s->running_level, c != NULL ? c->pick->out_level : 0, memory_order_relaxed);
	atomic_store_explicit(&s->running_level0,
	                      c != NULL ? version_level0_depth(c->base, c->pick->first[0], c->pick->n[0]) : 0,
	                      memory_order_relaxed);
	atomic_store_explicit(&s->running_total, c != NULL ? c->to_read : 0, memory_order_release);
}

static uint64_t
level0_bytes(const Pick *p, const Version *v)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < p->n[0] && p->out_level > 0; i++)
		bytes += v->tables[0][p->first[0] + i]->info.bytes;
	return bytes;
}

/* Of all inputs: what the outputs have at most, but for values that are copied. */
static uint64_t
pick_bytes(const Pick *p)
{
	uint64_t bytes = 0;

	for (uint32_t level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < p->n[level]; i++)
			bytes += lsm_writer.current->tables[level][p->first[level] + i]->info.bytes;
	return bytes;
}

/* Of opt->room, what is left for values. */
static uint64_t
values_room(const Pick *p, const LsmCompactOptions *opt)
{
	uint64_t keys = pick_bytes(p);

	return opt->room == 0 ? UINT64_MAX : opt->room > keys ? opt->room - keys : 0;
}

/*
 * A table that is only written anew for values in files of which few is live, or would be again and again, waits until
 * there is room to copy those of one file.
 */
static Status
check_values_room(const Pick *p, const LsmCompactOptions *opt)
{
	uint64_t room = values_room(p, opt);
	ValueGc g = { 0 };
	bool waits;
	Status st;

	if (!p->for_values)
		return ST_OK;
	st = value_gc_begin(&g, lsm_writer.current, p, room, NULL);
	waits = g.left_out && g.victims.len == 0;
	value_gc_free(&g);
	KV_TRY(st);
	if (!waits)
		return ST_OK;
	return status_fail(ST_NO_SPACE, "copying the values that are left in a value file needs more than the %llu MB that "
	                   "may be used", (unsigned long long) (room / MB));
}

static Status
check_room(const Pick *p, const LsmCompactOptions *opt)
{
	uint64_t bytes = pick_bytes(p);

	if (!p->any || p->trivial || opt->room == 0)
		return ST_OK;
	if (bytes > opt->room)
		return status_fail(ST_NO_SPACE, "merging %llu MB needs as much again until it is done, %llu MB may be used",
		                   (unsigned long long) (bytes / MB), (unsigned long long) (opt->room / MB));
	return check_values_room(p, opt);
}

static Status
run(Compaction *c)
{
	Iter *it;
	Status st;

	KV_TRY(edit_inputs(c));
	KV_TRY(value_gc_begin(&c->values, c->base, c->pick, values_room(c->pick, c->opt), &c->edit));
	show_running(c);
	it = open_inputs(c);
	if (it == NULL)
		return status_prefix(ST_OUT_OF_MEMORY, "compaction");
	st = merge(c, it);
	iter_close(it);
	KV_TRY(st);
	if (c->edit.adds.len > 0)
		KV_TRY(fs_sync_dir(LSM_TABLES_DIR));
	return writer_install(&c->edit);
}

Status
compact_hidden(const Pick *p, const LsmCompactOptions *opt, ReclaimPlan *out)
{
	Compaction c = { .pick = p, .opt = opt, .base = lsm_writer.current, .rule = { .oldest = opt->oldest },
		         .above = true, .dry = true };
	Iter *it;
	Status st = ST_OUT_OF_MEMORY;

	c.rule.ranges = c.base->ranges;
	KV_ASSERT(lsm_writer.held == NULL);
	lsm_writer.held = c.base;
	it = open_inputs(&c);
	if (it != NULL) {
		st = merge(&c, it);
		iter_close(it);
	}
	lsm_writer.held = NULL;
	buf_free(&c.rule.key);
	*out = c.plan;
	return st;
}

Status
compact_run(const Pick *p, const LsmCompactOptions *opt, bool above)
{
	PickConfig sizes = pick_config();
	Compaction c = { .pick = p, .opt = opt, .base = lsm_writer.current, .rule = { .oldest = opt->oldest },
		         .cut = output_cut(&sizes, lsm_writer.current, p->out_level), .above = above };
	Status st;

	c.rule.ranges = c.base->ranges;
	KV_ASSERT(lsm_writer.held == NULL); /* between() flushes, it does not compact */
	lsm_writer.held = c.base;
	st = run(&c);
	lsm_writer.held = NULL;
	show_running(NULL);
	if (st != ST_OK) {
		if (c.builder != NULL)
			table_builder_abandon(c.builder);
		value_writer_abandon(&c.values.out);
		writer_abandon(&c.edit);
	} else {
		figure_add(&lsm_shared->compactions, 1);
		if (p->n[p->out_level] == 1 && c.tables_in == 1)
			figure_add(&lsm_shared->rewrites, 1);
		figure_add(&lsm_shared->bytes_in, c.bytes_in + c.values.relocated);
		figure_add(&lsm_shared->bytes_out, c.bytes_out + c.values.out.bytes);
		figure_add(&lsm_shared->relocated_bytes, c.values.relocated);
		figure_add(&lsm_shared->level_in[p->out_level], c.from_above);
		figure_add(&lsm_shared->level_written[p->out_level], c.bytes_out);
		figure_add(&lsm_shared->level0_out, level0_bytes(p, c.base));
		figure_add(&lsm_shared->range_entries, c.rule.hidden);
	}
	value_gc_free(&c.values);
	edit_free(&c.edit);
	buf_free(&c.rule.key);
	return st;
}

/* The same tables further down: no data is touched. */
static Status
move(const Pick *p)
{
	Edit e = { 0 };
	Status st = ST_OK;
	uint64_t bytes = 0, level0 = level0_bytes(p, lsm_writer.current);
	uint32_t level = 0;

	while (p->n[level] == 0)
		level++;
	for (uint32_t i = 0; i < p->n[level] && st == ST_OK; i++) {
		Table *t = lsm_writer.current->tables[level][p->first[level] + i];

		bytes += t->info.bytes;
		st = edit_delete(&e, level, t->info.number);
		if (st == ST_OK)
			st = edit_add(&e, p->out_level, t);
	}
	if (st == ST_OK)
		st = writer_install(&e);
	edit_free(&e);
	if (st != ST_OK)
		return st;
	figure_add(&lsm_shared->trivial_moves, p->n[level]);
	figure_add(&lsm_shared->level_in[p->out_level], bytes);
	figure_add(&lsm_shared->level0_out, level0);
	return ST_OK;
}

static Status
compact(const Pick *p, const LsmCompactOptions *opt, Version **out)
{
	*out = NULL;
	if (!p->any)
		return ST_OK;
	KV_TRY(check_room(p, opt));
	KV_TRY(p->trivial ? move(p) : compact_run(p, opt, false));
	*out = lsm_writer.current;
	return ST_OK;
}

Status
lsm_compact(const LsmCompactOptions *opt, Version **out)
{
	const Version *v = lsm_writer.current;
	PickConfig c = pick_config();
	Pick p = pick_compaction(&c, v, opt->oldest);

	/* One that does not fit must not keep the others from giving space back; told is of the last one. */
	while (p.idle > 0 && check_room(&p, opt) == ST_NO_SPACE) {
		Pick next = pick_idle(v, opt->oldest, p.idle);

		if (!next.any)
			break;
		p = next;
	}
	return compact(&p, opt, out);
}

LsmDown
lsm_down_begin(void)
{
	return (LsmDown){ .flushed = lsm_writer.current->flushed, .number = lsm_writer.next_number };
}

Status
lsm_compact_down(const LsmCompactOptions *opt, const LsmDown *down, Version **out)
{
	PickConfig c = pick_config();
	Pick p = pick_down(&c, lsm_writer.current, down);

	return compact(&p, opt, out);
}

Status
lsm_compact_all(const LsmCompactOptions *opt, Version **out)
{
	Pick p = pick_all(lsm_writer.current);

	return compact(&p, opt, out);
}
