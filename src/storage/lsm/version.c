/*
 * version.c - Versions: immutable lists of tables in the shared heap.
 *
 * Made by the replay process at start and by the compaction worker afterwards, read by anyone under a pin.
 * The HEAP lock is taken inside the heap only.
 *
 * Invariants (version_check):
 *   1. Level 0 is ordered newest first, and the ranges of versions of its tables do not overlap: each holds
 *      what one memtable held. So the first table in that order that has a version < snapshot has the newest.
 *   2. Deeper levels are ordered by key, and no key is in two tables of a level.
 *   3. Of one key, a shallower level holds only newer versions than a deeper one. (By construction:
 *      compaction takes all older versions of its keys' ranges along; cannot be seen from the list.)
 */
#include "common/kv_assert.h"
#include "ipc/shheap.h"
#include "lsm_internal.h"

Status
edit_add(Edit *e, uint32_t level, Table *t)
{
	EditAdd a = { level, t };

	KV_ASSERT(level < LSM_LEVELS);
	return buf_append(&e->adds, &a, sizeof a);
}

Status
edit_delete(Edit *e, uint32_t level, uint64_t number)
{
	EditDelete d = { level, number };

	KV_ASSERT(level < LSM_LEVELS);
	return buf_append(&e->deletes, &d, sizeof d);
}

Status
edit_add_values(Edit *e, ValueFile *f)
{
	return buf_append(&e->values, &f, sizeof f);
}

void
edit_free(Edit *e)
{
	buf_free(&e->values);
	buf_free(&e->adds);
	buf_free(&e->deletes);
	buf_free(&e->range_adds);
	buf_free(&e->range_drops);
}

Status
heap_full(void)
{
	return status_fail(ST_NO_SPACE, "the list of tables does not fit its shared memory (%zu of %zu bytes in "
	                   "use): raise metadata_size and restart", shheap_used(), shheap_total());
}

Status
version_table(const TableInfo *info, Slice smallest, Slice largest, const ValueShare *shares, Table **out)
{
	size_t list = info->value_files * sizeof *shares;
	Table *t = shheap_alloc(sizeof *t + list + smallest.len + largest.len);
	uint8_t *keys;

	if (t == NULL)
		return heap_full();
	if (list > 0)
		memcpy(t + 1, shares, list);
	t->values = (const ValueShare *) (t + 1);
	keys = (uint8_t *) (t + 1) + list;
	memcpy(keys, smallest.data, smallest.len);
	memcpy(keys + smallest.len, largest.data, largest.len);
	t->info = *info;
	t->smallest = slice_of(keys, smallest.len);
	t->largest = slice_of(keys + smallest.len, largest.len);
	atomic_init(&t->refs, 0);
	t->rewrite = t->rewrite_ranges = false;
	*out = t;
	return ST_OK;
}

Status
version_value_file(const ValueFileInfo *info, ValueFile **out)
{
	ValueFile *f = shheap_alloc(sizeof *f);

	if (f == NULL)
		return heap_full();
	f->info = *info;
	atomic_init(&f->refs, 0);
	*out = f;
	return ST_OK;
}

static bool
is_deleted(const Edit *e, uint32_t level, uint64_t number)
{
	size_t n;
	const EditDelete *d = edit_deletes(e, &n);

	for (size_t i = 0; i < n; i++)
		if (d[i].level == level && d[i].number == number)
			return true;
	return false;
}

/* Where t goes among `n` tables of its level. */
static uint32_t
place_of(Table *const *tables, uint32_t n, uint32_t level, const Table *t)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		bool before = level == 0 ? tables[mid]->info.version_max > t->info.version_max
		                         : slice_cmp(tables[mid]->smallest, t->smallest) < 0;

		if (before)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void
fill_level(Version *v, const Version *base, const Edit *e, uint32_t level)
{
	uint32_t n = 0, before = base != NULL ? base->ntables[level] : 0;
	size_t nadds;
	const EditAdd *adds = edit_adds(e, &nadds);

	for (uint32_t i = 0; i < before; i++)
		if (!is_deleted(e, level, base->tables[level][i]->info.number))
			v->tables[level][n++] = base->tables[level][i];
	for (size_t i = 0; i < nadds; i++) {
		uint32_t at;

		if (adds[i].level != level)
			continue;
		at = place_of(v->tables[level], n, level, adds[i].table);
		memmove(&v->tables[level][at + 1], &v->tables[level][at], (n - at) * sizeof(Table *));
		v->tables[level][at] = adds[i].table;
		n++;
	}
	v->ntables[level] = n;
	for (uint32_t i = 0; i < n; i++) {
		Table *t = v->tables[level][i];

		v->bytes[level] += t->info.bytes;
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	}
}

static bool
is_dropped(const Edit *e, uint64_t version)
{
	const uint64_t *drops = (const uint64_t *) (const void *) e->range_drops.data;

	for (size_t i = 0; i < e->range_drops.len / sizeof *drops; i++)
		if (drops[i] == version)
			return true;
	return false;
}

/* The set of base, or another one when the edit changes it. */
static Status
make_ranges(const Version *base, const Edit *e, RangeSet **out)
{
	RangeSet *before = base != NULL ? base->ranges : NULL;
	Buf list = { 0 };
	Status st = ST_OK;

	*out = before;
	if (e->range_adds.len == 0 && e->range_drops.len == 0) {
		if (before != NULL)
			before->refs++;
		return ST_OK;
	}
	for (uint32_t i = 0; before != NULL && i < before->n && st == ST_OK; i++)
		if (!is_dropped(e, before->list[i].version))
			st = buf_append(&list, &before->list[i], sizeof before->list[i]);
	if (st == ST_OK)
		st = buf_append_slice(&list, slice_buf(&e->range_adds));
	if (st == ST_OK)
		st = range_set_make((const RangeDelete *) (const void *) list.data,
		                    (uint32_t) (list.len / sizeof(RangeDelete)), e->oldest, out);
	buf_free(&list);
	return st;
}

Status
version_make(const Version *base, const Edit *e, Version **out)
{
	size_t room = e->adds.len / sizeof(EditAdd);
	RangeSet *ranges;
	Version *v;
	Table **slots;

	for (int level = 0; level < LSM_LEVELS && base != NULL; level++)
		room += base->ntables[level];
	KV_TRY(make_ranges(base, e, &ranges));
	v = shheap_alloc(sizeof *v + room * sizeof(Table *) + version_values_room(base, e) * sizeof(LiveValues));
	if (v == NULL) {
		range_set_drop(ranges);
		return heap_full();
	}
	memset(v, 0, sizeof *v);
	v->ranges = ranges;
	slots = (Table **) (v + 1);
	v->number = base != NULL ? base->number + 1 : 1;
	if (base != NULL) {
		v->flushed = base->flushed;
		v->flushed_term = base->flushed_term;
		v->flushed_time = base->flushed_time;
	}
	if (e->has_state) {
		v->flushed = e->state.flushed;
		v->flushed_term = e->state.flushed_term;
		v->flushed_time = e->state.flushed_time;
	}
	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		v->tables[level] = slots;
		fill_level(v, base, e, level);
		slots += v->ntables[level];
	}
	version_values_fill(v, base, e, (LiveValues *) (void *) slots);
	*out = v;
	return ST_OK;
}

Status
version_check_order(uint32_t level, const Table *a, const Table *b)
{
	bool good;

	if (level == 0)
		good = b->info.version_max < (tables_share_keys(a, b) ? a->info.version_min : a->info.version_max);
	else
		good = slice_cmp(a->largest, b->smallest) < 0;
	if (good)
		return ST_OK;
	return status_fail(ST_CORRUPT, "level %u: tables %llx and %llx overlap in %s", (unsigned) level,
	                   (unsigned long long) a->info.number, (unsigned long long) b->info.number,
	                   level == 0 ? "versions" : "keys");
}

uint32_t
lsm_level0_depth(const Version *v)
{
	return version_level0_depth(v, 0, v->ntables[0]);
}

uint32_t
version_level0_depth(const Version *v, uint32_t first, uint32_t n)
{
	uint32_t system = 0, user = 0;

	for (uint32_t i = first; i < first + n; i++) {
		system += is_system_key(v->tables[0][i]->smallest);
		user += !is_system_key(v->tables[0][i]->largest);
	}
	return system > user ? system : user;
}

Status
version_check(const Version *v)
{
	for (uint32_t level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 1; i < v->ntables[level]; i++)
			KV_TRY(version_check_order(level, v->tables[level][i - 1], v->tables[level][i]));
	return ST_OK;
}

uint64_t
lsm_bytes(const Version *v)
{
	uint64_t bytes = 0;

	for (int level = 0; level < LSM_LEVELS; level++)
		bytes += v->bytes[level];
	return bytes;
}

void
version_drop(Version *v, void (*dead)(Table *t), void (*dead_values)(ValueFile *f))
{
	for (int level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			Table *t = v->tables[level][i];

			if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_relaxed) == 1)
				dead(t);
		}
	}
	range_set_drop(v->ranges);
	for (uint32_t i = 0; i < v->nvalues; i++) {
		ValueFile *f = v->values[i].file;

		if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_relaxed) == 1)
			dead_values(f);
	}
	shheap_free(v);
}

uint32_t
version_find(Table *const *tables, uint32_t n, Slice key)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (slice_cmp(tables[mid]->largest, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool
lsm_version_has(const Version *v, uint64_t number)
{
	if ((number & VALUE_ID_BIT) != 0)
		return version_values_find(v, number) != NULL;
	for (int level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < v->ntables[level]; i++)
			if (v->tables[level][i]->info.number == number)
				return true;
	return false;
}
