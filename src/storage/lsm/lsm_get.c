/*
 * lsm_get.c - point reads: one key, or a batch of keys whose cache misses overlap.
 *
 * Any process, under an epoch pin; no locks, memory private to the process.
 *
 * A key is looked for in one table after the other, newest data first: the tables of level 0 in their
 * order, then one of each deeper level. The first that has it ends the search (version.c says why). In a
 * batch up to IN_FLIGHT searches take turns, a step each (table_lookup_step()): what one waits for arrives
 * while the others go on. More in flight would push each other's lines out of the nearest cache.
 * A single key has only itself to wait for: it lets the filters of LSM_GET_AHEAD tables come at once, since most
 * of them will say no.
 */
#include "common/kv_assert.h"
#include "lsm_internal.h"
#include "common/process_local.h"
#include "storage/cache.h"

#define IN_FLIGHT 16
#define READS_COUNTED 64 /* figures of reads are that coarse, for each process */

/* How far a search has come in the order of the tables. */
typedef struct Place {
	uint32_t next0;     /* next table of level 0 to ask */
	uint32_t level;     /* next deeper level to ask */
} Place;

typedef struct Search {
	TableLookup lookup;
	ValueLookup value;  /* once the table has given a reference */
	bool resolving;
	Place place;
	int key;            /* place in the batch */
} Search;

/* lsm_get()'s: their buffers may hold a value given out */
static PROCESS_LOCAL TableLookup ahead[LSM_GET_AHEAD];
static PROCESS_LOCAL ValueLookup value_of_one;
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

/* The next table to ask, and of which level it is; NULL: none is left. */
static const Table *
next_table(Place *at, const Version *v, Slice key, uint64_t snapshot, uint32_t *level)
{
	while (at->next0 < v->ntables[0]) {
		const Table *t = v->tables[0][at->next0++];

		*level = 0;
		if (t->info.version_min < snapshot && table_covers(t, key))
			return t;
	}
	while (at->level < LSM_LEVELS) {
		const Table *t;
		uint32_t i;

		*level = at->level++;
		i = version_find(v->tables[*level], v->ntables[*level], key);
		if (i == v->ntables[*level])
			continue;
		t = v->tables[*level][i];
		if (slice_cmp(t->smallest, key) <= 0 && t->info.version_min < snapshot)
			return t;
	}
	return NULL;
}

static bool
ask_next(Search *s, const Version *v, Slice key, uint64_t hash, uint64_t snapshot)
{
	uint32_t level;
	const Table *t = next_table(&s->place, v, key, snapshot, &level);

	if (t == NULL) {
		s->lookup.status = ST_NOT_FOUND;
		return false;
	}
	count_read(level);
	table_lookup_begin(&s->lookup, &t->info, key, hash, snapshot);
	return true;
}

/* False: at the end; the result is in the lookup. */
static bool
search_begin(Search *s, const Version *v, Slice key, uint64_t snapshot)
{
	s->place = (Place){ 0, 1 };
	s->resolving = false;
	return ask_next(s, v, key, table_key_hash(key), snapshot);
}

/* The newest version there is: `l` found it. True: its value has to be fetched from a value file. */
static bool
found(TableLookup *l, ValueLookup *value, const Version *v)
{
	if (v->ranges != NULL)
		lsm_hide(v, l->version + 1, &l->entry);
	if (l->entry.kind != ENTRY_VALUE_REF)
		return false;
	value_lookup_begin(value, l->entry.value);
	return true;
}

/* On the way to the value of what `l` found. */
static bool
resolve_step(TableLookup *l, ValueLookup *value)
{
	if (value_lookup_step(value))
		return true;
	l->status = value->status;
	l->entry.kind = ENTRY_PUT;
	l->entry.value = value->value;
	return false;
}

static bool
search_step(Search *s, const Version *v)
{
	TableLookup *l = &s->lookup;

	if (s->resolving)
		return resolve_step(l, &s->value);
	if (table_lookup_step(l))
		return true;
	if (l->status == ST_OK)
		return s->resolving = found(l, &s->value, v);
	return l->status == ST_NOT_FOUND && ask_next(s, v, l->key, l->hash, l->version + 1);
}

/* ---- one key */

/* Buffers that held a larger block are given back. */
static void
shrink_buffers(void)
{
	for (int i = 0; i < LSM_GET_AHEAD; i++)
		if (ahead[i].own.cap > 2 * CACHE_BLOCK_MAX)
			table_lookup_end(&ahead[i]);
	if (value_of_one.own.cap > 2 * CACHE_BLOCK_MAX)
		value_lookup_end(&value_of_one);
}

/* The lookup that ended the search; NULL: no table has the key. */
static TableLookup *
search_one(const Version *v, Slice key, uint64_t snapshot)
{
	uint64_t hash = table_key_hash(key);
	Place place = { 0, 1 };
	uint32_t level[LSM_GET_AHEAD];
	const Table *t;
	int n;

	do {
		for (n = 0; n < LSM_GET_AHEAD && (t = next_table(&place, v, key, snapshot, &level[n])) != NULL; n++)
			table_lookup_begin(&ahead[n], &t->info, key, hash, snapshot);
		/* The first step asks for lines of memory, and reads nothing. */
		for (int i = 0; i < n; i++)
			(void) table_lookup_step(&ahead[i]);
		for (int i = 0; i < n; i++) {
			count_read(level[i]);
			while (table_lookup_step(&ahead[i]))
				;
			if (ahead[i].status != ST_NOT_FOUND)
				return &ahead[i];
		}
	} while (n == LSM_GET_AHEAD);
	return NULL;
}

Status
lsm_get(const Version *v, Slice key, uint64_t snapshot, Entry *out)
{
	TableLookup *l;

	shrink_buffers();
	l = search_one(v, key, snapshot);
	if (l == NULL)
		return ST_NOT_FOUND;
	if (l->status == ST_OK && found(l, &value_of_one, v))
		while (resolve_step(l, &value_of_one))
			;
	if (l->status == ST_OK)
		*out = l->entry;
	return l->status;
}

/* ---- a batch */

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
