/*
 * lsm_get.c - point reads: one key, or a batch of keys whose cache misses overlap.
 *
 * Any process, under an epoch pin; no locks, memory private to the process.
 *
 * A key is looked for in one table after the other, newest data first: the tables of level 0 in their
 * order, then one of each deeper level. The first that has it ends the search (version.c says why). In a
 * batch up to IN_FLIGHT searches take turns, a step each (table_lookup_step()): what one waits for arrives
 * while the others go on. More in flight would push each other's lines out of the nearest cache.
 */
#include "common/kv_assert.h"
#include "lsm_internal.h"
#include "common/process_local.h"
#include "storage/cache.h"

#define IN_FLIGHT 16
#define READS_COUNTED 64 /* figures of reads are that coarse, for each process */

typedef struct Search {
	TableLookup lookup;
	ValueLookup value;  /* once the table has given a reference */
	bool resolving;
	uint32_t next0;     /* next table of level 0 to ask */
	int level;          /* next deeper level to ask */
	int key;            /* place in the batch */
} Search;

static PROCESS_LOCAL Search single;                /* lsm_get()'s: its buffer may hold a value given out */
static PROCESS_LOCAL Search searches[IN_FLIGHT];   /* between batches their buffers are empty */
static PROCESS_LOCAL Buf kept[LSM_BATCH_MAX];      /* values of the last batch that the cache did not take */
static PROCESS_LOCAL int nkept;
static PROCESS_LOCAL size_t kept_bytes;

/* Figures: many of them are given to the shared ones at once, which all processes write. */
static void
count_read(uint32_t level)
{
	static PROCESS_LOCAL uint32_t reads[LSM_LEVELS];

	if (++reads[level] < READS_COUNTED)
		return;
	reads[level] = 0;
	atomic_fetch_add_explicit(&lsm_shared->level_reads[level], READS_COUNTED, memory_order_relaxed);
}

/* The next table to ask, NULL: none is left. */
static const Table *
next_table(Search *s, const Version *v, Slice key, uint64_t snapshot)
{
	while (s->next0 < v->ntables[0]) {
		const Table *t = v->tables[0][s->next0++];

		if (t->info.version_min < snapshot && table_covers(t, key)) {
			count_read(0);
			return t;
		}
	}
	while (s->level < LSM_LEVELS) {
		int level = s->level++;
		uint32_t i = version_find(v->tables[level], v->ntables[level], key);
		const Table *t;

		if (i == v->ntables[level])
			continue;
		t = v->tables[level][i];
		if (slice_cmp(t->smallest, key) <= 0 && t->info.version_min < snapshot) {
			count_read((uint32_t) level);
			return t;
		}
	}
	return NULL;
}

static bool
ask_next(Search *s, const Version *v, Slice key, uint64_t hash, uint64_t snapshot)
{
	const Table *t = next_table(s, v, key, snapshot);

	if (t == NULL) {
		s->lookup.status = ST_NOT_FOUND;
		return false;
	}
	table_lookup_begin(&s->lookup, &t->info, key, hash, snapshot);
	return true;
}

/* False: at the end; the result is in the lookup. */
static bool
search_begin(Search *s, const Version *v, Slice key, uint64_t snapshot)
{
	s->next0 = 0;
	s->level = 1;
	s->resolving = false;
	return ask_next(s, v, key, table_key_hash(key), snapshot);
}

/* The newest version there is. Its value may have to be fetched from a value file. */
static bool
found(Search *s, const Version *v)
{
	TableLookup *l = &s->lookup;

	if (v->ranges != NULL)
		lsm_hide(v, l->version + 1, &l->entry);
	s->resolving = l->entry.kind == ENTRY_VALUE_REF;
	if (s->resolving)
		value_lookup_begin(&s->value, l->entry.value);
	return s->resolving;
}

static bool
resolve_step(Search *s)
{
	TableLookup *l = &s->lookup;

	if (value_lookup_step(&s->value))
		return true;
	l->status = s->value.status;
	l->entry.kind = ENTRY_PUT;
	l->entry.value = s->value.value;
	return false;
}

static bool
search_step(Search *s, const Version *v)
{
	TableLookup *l = &s->lookup;

	if (s->resolving)
		return resolve_step(s);
	if (table_lookup_step(l))
		return true;
	if (l->status == ST_OK)
		return found(s, v);
	return l->status == ST_NOT_FOUND && ask_next(s, v, l->key, l->hash, l->version + 1);
}

Status
lsm_get(const Version *v, Slice key, uint64_t snapshot, Entry *out)
{
	Search *s = &single;
	bool more;

	if (s->lookup.own.cap > 2 * CACHE_BLOCK_MAX) /* held a larger block */
		table_lookup_end(&s->lookup);
	if (s->value.own.cap > 2 * CACHE_BLOCK_MAX)
		value_lookup_end(&s->value);
	for (more = search_begin(s, v, key, snapshot); more;)
		more = search_step(s, v);
	if (s->lookup.status != ST_OK)
		return s->lookup.status;
	*out = s->lookup.entry;
	return ST_OK;
}

void
lsm_batch_end(void)
{
	while (nkept > 0)
		buf_free(&kept[--nkept]);
	kept_bytes = 0;
}

static void
search_result(Search *s, Entry *out, Status *st)
{
	TableLookup *l = &s->lookup;

	st[s->key] = l->status;
	if (l->status != ST_OK)
		return;
	out[s->key] = l->entry;
	if (s->resolving ? s->value.in_own : l->in_own) { /* must outlive the next search in this place */
		Buf *own = s->resolving ? &s->value.own : &l->own;

		kept[nkept++] = *own;
		kept_bytes += own->cap;
		*own = (Buf){ 0 };
	}
}

/* May the search read what it is about to? The first key always may, so each batch gets somewhere. */
static bool
affordable(const Search *s)
{
	uint32_t past = s->resolving ? s->value.past : s->lookup.past;

	return past == 0 || s->key == 0 || kept_bytes + past <= LSM_BATCH_BYTES;
}

typedef struct Batch {
	const Version *v;
	const Slice *keys;
	uint64_t snapshot;
	Entry *out;
	Status *st;
	int begun;          /* keys */
	int limit;          /* keys before this one will be answered */
	int flying;
	Search *order[IN_FLIGHT]; /* the first `flying` are under way */
} Batch;

/* Begin searches while there is room; a key that no table can have is answered at once. */
static void
fill_up(Batch *b)
{
	while (b->flying < IN_FLIGHT && b->begun < b->limit) {
		Search *s = b->order[b->flying];

		s->key = b->begun++;
		if (search_begin(s, b->v, b->keys[s->key], b->snapshot))
			b->flying++;
		else
			search_result(s, b->out, b->st);
	}
}

/* One step. False: the search is over, answered or given up. */
static bool
turn(Batch *b, Search *s)
{
	if (!affordable(s)) {
		if (s->key < b->limit)
			b->limit = s->key;
		return false;
	}
	if (search_step(s, b->v))
		return true;
	search_result(s, b->out, b->st);
	return false;
}

int
lsm_get_many(const Version *v, const Slice *keys, int n, uint64_t snapshot, Entry *out, Status *st)
{
	Batch b = { .v = v, .keys = keys, .snapshot = snapshot, .out = out, .st = st, .limit = n };

	KV_ASSERT(n >= 0 && n <= LSM_BATCH_MAX);
	lsm_batch_end();
	for (int i = 0; i < IN_FLIGHT; i++)
		b.order[i] = &searches[i];
	for (fill_up(&b); b.flying > 0; fill_up(&b)) {
		for (int i = 0; i < b.flying;) {
			Search *s = b.order[i];

			if (turn(&b, s))
				i++;
			else { /* its place goes to the last one */
				b.order[i] = b.order[--b.flying];
				b.order[b.flying] = s;
			}
		}
	}
	for (int i = 0; i < IN_FLIGHT; i++) {
		table_lookup_end(&searches[i].lookup);
		value_lookup_end(&searches[i].value);
	}
	return b.limit;
}
