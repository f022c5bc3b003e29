/*
 * version_values.c - which value files a Version's tables refer to, and how much of each.
 *
 * Run by whoever makes Versions: the replay process at start, then the compaction worker. A file is in the list as
 * long as a table of the Version refers to a value in it; when the last Version that names it is freed, the file goes.
 * The list is made from that of the Version before and what the edit changes, so its cost is that of the edit.
 */
#include "common/kv_assert.h"
#include "lsm_internal.h"

size_t
version_values_room(const Version *base, const Edit *e)
{
	size_t n;

	(void) edit_values(e, &n);
	return n + (base != NULL ? base->nvalues : 0);
}

static uint32_t
place_of(const LiveValues *list, uint32_t n, uint64_t file_id)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (list[mid].file->info.file_id < file_id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const LiveValues *
version_values_find(const Version *v, uint64_t file_id)
{
	uint32_t i = place_of(v->values, v->nvalues, file_id);

	return i < v->nvalues && v->values[i].file->info.file_id == file_id ? &v->values[i] : NULL;
}

uint64_t
table_bytes(const Table *t)
{
	uint64_t bytes = t->info.bytes;

	for (uint32_t i = 0; i < t->info.value_files; i++)
		bytes += t->values[i].bytes;
	return bytes;
}

static void
insert(Version *v, ValueFile *f)
{
	uint32_t at = place_of(v->values, v->nvalues, f->info.file_id);

	memmove(&v->values[at + 1], &v->values[at], (v->nvalues - at) * sizeof *v->values);
	v->values[at] = (LiveValues){ .file = f };
	v->nvalues++;
}

/* Count what t refers to; both lists are in the order of ids. */
static void
count(Version *v, const Table *t, bool add)
{
	for (uint32_t i = 0; i < t->info.value_files; i++) {
		const ValueShare *s = &t->values[i];
		uint32_t at = place_of(v->values, v->nvalues, s->file_id);
		LiveValues *l = &v->values[at];

		KV_ASSERT(at < v->nvalues && l->file->info.file_id == s->file_id);
		KV_ASSERT(add || (l->values >= s->values && l->bytes >= s->bytes));
		l->values += add ? s->values : (uint64_t) 0 - s->values;
		l->bytes += add ? s->bytes : (uint64_t) 0 - s->bytes;
	}
}

static const Table *
table_numbered(const Version *v, uint32_t level, uint64_t number)
{
	for (uint32_t i = 0; i < v->ntables[level]; i++)
		if (v->tables[level][i]->info.number == number)
			return v->tables[level][i];
	return NULL;
}

/* Only what is referred to stays in the list. */
static void
settle(Version *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->nvalues; i++) {
		if (v->values[i].values == 0)
			continue;
		v->values[n++] = v->values[i];
		atomic_fetch_add_explicit(&v->values[i].file->refs, 1, memory_order_relaxed);
	}
	v->nvalues = n;
}

/*
 * Bytes in value files that would come back if t were rewritten: its part of what is dead in each file of which few are
 * live. The file goes when the last such part is copied.
 */
static double
worth_of(const Version *v, const Table *t)
{
	double worth = 0;
	uint32_t at = 0;

	for (uint32_t i = 0; i < t->info.value_files; i++) {
		const LiveValues *l;

		while (v->values[at].file->info.file_id < t->values[i].file_id)
			at++;
		l = &v->values[at];
		if (values_are_few(l))
			worth += (double) (l->file->info.value_bytes - l->bytes) *
				((double) t->values[i].bytes / (double) l->bytes);
	}
	return worth;
}

/*
 * Rewriting a table writes its keys, and copies what it refers to in those files. It is due when at least as much
 * comes back as its keys take, so the cost of collecting values is bounded by what it gains; and what is not collected
 * for that reason is less than the tables themselves. The mark only ever comes true: nothing makes values live again.
 */
static void
mark(Version *v)
{
	bool few = false;

	for (uint32_t i = 0; i < v->nvalues; i++)
		few = few || values_are_few(&v->values[i]);
	for (int level = 0; level < LSM_LEVELS && few; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			Table *t = v->tables[level][i];
			double worth = worth_of(v, t);

			if (worth > 0 && worth >= (double) t->info.bytes)
				t->rewrite = true;
		}
	}
}

void
version_values_fill(Version *v, const Version *base, const Edit *e, LiveValues *room)
{
	size_t nvalues, ndeletes, nadds;
	ValueFile *const *values = edit_values(e, &nvalues);
	const EditDelete *deletes = edit_deletes(e, &ndeletes);
	const EditAdd *adds = edit_adds(e, &nadds);

	v->values = room;
	v->nvalues = base != NULL ? base->nvalues : 0;
	if (v->nvalues > 0)
		memcpy(room, base->values, v->nvalues * sizeof *room);
	for (size_t i = 0; i < nvalues; i++)
		insert(v, values[i]);
	for (size_t i = 0; i < nadds; i++)
		count(v, adds[i].table, true);
	for (size_t i = 0; i < ndeletes; i++) {
		const Table *t = table_numbered(base, deletes[i].level, deletes[i].number);

		KV_ASSERT(t != NULL);
		count(v, t, false);
	}
	settle(v);
	mark(v);
}

void
lsm_value_stats(const Version *v, LsmValueStats *out)
{
	*out = (LsmValueStats){ .files = v->nvalues };
	for (uint32_t i = 0; i < v->nvalues; i++) {
		out->bytes += v->values[i].file->info.bytes;
		out->live_bytes += v->values[i].bytes;
	}
}
