/*
 * writer.c - making Versions: taking over, flush, retiring and collecting old ones.
 *
 * Compaction worker only; its memory is the Writer. Takes the HEAP lock inside the shared heap.
 *
 * Order of a change: table files synced and renamed, directory "tables" synced, Version made in the shared
 * heap, edit in the manifest synced, then the Version is the newest. A failure before the manifest leaves
 * nothing but files that no Version names (removed here, or at the next start).
 *
 * Invariants:
 *   1. current is what the manifest says.
 *   2. Each Version but current is with the caller (published, until lsm_retire) or in `retired`: every
 *      public function that makes one gives it out.
 *   3. A table file exists as long as a Version that names it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/config.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "ipc/shheap.h"
#include "lsm_internal.h"
#include "port/fs.h"
#include "port/proc.h"

Writer lsm_writer = { .manifest = { .fd = -1 } };

/* ---- files that go */
void
writer_remove_file(const char *path)
{
	Status st = fs_unlink(path);

	/* It costs space until the next start removes it as an orphan; nothing else depends on it. */
	if (st != ST_OK && st != ST_NOT_FOUND)
		elog(LOG_LEVEL_WARNING, "%s stays until the next start: %s", path, status_detail());
}

static void
remove_table(Table *t)
{
	char path[FS_PATH_MAX];

	table_path(t->info.number, path, sizeof path);
	writer_remove_file(path);
	figure_add(&lsm_shared->files_deleted, 1);
	shheap_free(t);
}

static void
remove_values(ValueFile *f)
{
	char path[FS_PATH_MAX];

	value_path(f->info.file_id, path, sizeof path);
	writer_remove_file(path);
	figure_add(&lsm_shared->files_deleted, 1);
	shheap_free(f);
}

typedef struct Orphans {
	const Version *v;      /* NULL: manifests */
	bool values;           /* value files, else tables */
	Buf names;             /* NUL-terminated, one after another */
	uint64_t keep;         /* manifest number */
	uint64_t highest;      /* table number seen */
} Orphans;

static Status
note_orphan(void *arg, const char *name)
{
	Orphans *o = arg;
	unsigned long long n;
	char tail[16], ours[FS_PATH_MAX];

	/* Exactly the names we give: anything else in the directory is not ours to remove. */
	if (o->v == NULL) {
		if (sscanf(name, "MANIFEST-%16llx", &n) != 1 || n == o->keep)
			return ST_OK;
		manifest_path(n, ours, sizeof ours);
	} else {
		const char *kind = o->values ? ".kvv" : ".kvt";

		if (sscanf(name, "%16llx%15s", &n, tail) != 2 || strncmp(tail, kind, 4) != 0 ||
			(tail[4] != '\0' && strcmp(tail + 4, ".tmp") != 0))
			return ST_OK;
		if (n > o->highest)
			o->highest = n;
		if (tail[4] == '\0' && lsm_version_has(o->v, n))
			return ST_OK;
		snprintf(ours, sizeof ours, "%016llx%s", n, tail);
	}
	return strcmp(ours, name) == 0 ? buf_append(&o->names, name, strlen(name) + 1) : ST_OK;
}

/*
 * Names first, then removal: a directory is not changed while it is listed. prefix: of the names, "" or
 * "dir/".
 */
static Status
remove_orphans(const char *dir, const char *prefix, Orphans *o)
{
	Status st = fs_list(dir, note_orphan, o);

	for (size_t at = 0; st == ST_OK && at < o->names.len;) {
		const char *name = (const char *) o->names.data + at;
		char path[FS_PATH_MAX];

		snprintf(path, sizeof path, "%s%s", prefix, name);
		elog(LOG_LEVEL_INFO, "removing %s, which nothing names", path);
		writer_remove_file(path);
		at += strlen(name) + 1;
	}
	buf_free(&o->names);
	return st;
}

Status
lsm_writer_open(Version *v)
{
	Writer *w = &lsm_writer;
	Orphans tables = { .v = v }, manifests = { .keep = lsm_shared->manifest_number };
	Orphans values = { .v = v, .values = true };
	Orphans old = { .keep = lsm_shared->manifest_number + 1 };
	Status st;

	KV_TRY(manifest_close(&w->manifest));
	*w = (Writer){ .manifest = { .fd = -1 } };
	KV_TRY(fs_mkdir(VALUE_DIR)); /* of a directory of an earlier version */
	/* The CURRENT that was read may have been in the page cache alone, and the one on disk name what goes here. */
	KV_TRY(fs_sync_dir("."));
	KV_TRY(remove_orphans(".", "", &manifests));
	st = fs_list(LSM_TABLES_DIR, note_orphan, &tables); /* for the highest number */
	buf_free(&tables.names);
	KV_TRY(st);
	w->next_number = lsm_shared->next_number > tables.highest ? lsm_shared->next_number : tables.highest + 1;
	KV_TRY(manifest_create(&w->manifest, lsm_shared->manifest_number + 1, v, w->next_number));
	lsm_shared->manifest_number++;
	w->current = v;
	/*
	 * Only now: the last edit that was read may have been in the page cache alone. Had the power failed before this
	 * list was synced, the one before the edit would have been in effect, and named them.
	 */
	KV_TRY(remove_orphans(LSM_TABLES_DIR, LSM_TABLES_DIR "/", &tables));
	KV_TRY(remove_orphans(VALUE_DIR, VALUE_DIR "/", &values));
	return remove_orphans(".", "", &old);
}

/* ---- a change */
/* The manifest has outgrown its list: go on in a new one. A full disk or memory leaves the old one in use. */
static Status
rotate(void)
{
	Writer *w = &lsm_writer;
	Manifest next;
	uint64_t number = w->manifest.number + 1, named;
	char path[FS_PATH_MAX];
	Status st = manifest_create(&next, number, w->current, w->next_number);

	manifest_path(st == ST_OK ? w->manifest.number : number, path, sizeof path);
	if (st == ST_OK) {
		KV_TRY(manifest_close(&w->manifest));
		w->manifest = next;
		lsm_shared->manifest_number = number;
	} else if ((st != ST_NO_SPACE && st != ST_OUT_OF_MEMORY) || manifest_current(&named) != ST_OK ||
			   named != w->manifest.number) {
		w->manifest.broken = true; /* which of the two is in effect is in doubt */
		return st;
	}
	writer_remove_file(path);
	return ST_OK;
}

static Status
make_durable(const Edit *e)
{
	Writer *w = &lsm_writer;
	uint64_t edits = w->manifest.length - w->manifest.base;

	if (edits > MANIFEST_ROTATE_BYTES && edits > w->manifest.base)
		KV_TRY(rotate());
	return manifest_append(&w->manifest, e, w->next_number);
}

/* A Version that did not come about: what only it names goes on belonging to the edit. */
static void
keep_table(Table *t)
{
	(void) t;
}

static void
keep_values(ValueFile *f)
{
	(void) f;
}

/* Whoever is to raise metadata_size is told in time; and again when it has been half empty in between. */
static void
tell_heap(void)
{
	static bool told;
	size_t used = shheap_used(), total = shheap_total();

	told = told && used >= total / 2;
	if (told || used < total / 4 * 3)
		return;
	told = true;
	elog(LOG_LEVEL_WARNING, "the list of tables takes %zu of %zu bytes of its shared memory: raise metadata_size and "
	     "restart before it is full, which stops writing", used, total);
}

Status
writer_install(const Edit *e)
{
	Writer *w = &lsm_writer;
	Version *v;
	Status st;

	KV_ASSERT(w->current != NULL);
	KV_TRY(version_make(w->current, e, &v));
	if (version_check(v) != ST_OK) {
		elog(LOG_LEVEL_ERROR, "%s", status_detail());
		KV_ASSERT(!"a new Version breaks the order of its tables");
	}
	st = make_durable(e);
	if (st != ST_OK) {
		version_drop(v, keep_table, keep_values);
		return st;
	}
	w->current = v;
	tell_heap();
	return ST_OK;
}

Status
writer_builder(uint32_t level, uint64_t expected_entries, TableBuilder **out)
{
	/* what level 0 holds is soon written again, and flushing is what writers wait for */
	TableBuildOptions o = { .number = lsm_writer.next_number, .filter_bits_per_key = LSM_FILTER_BITS,
		                .expected_entries = expected_entries,
		                .codec = level > 0 ? (TableCodec) config.compression : TABLE_CODEC_NONE };

	KV_TRY(proc_random(&o.file_id, sizeof o.file_id));
	lsm_writer.next_number++;
	return table_builder_open(&o, out);
}

/* They go with the builder. */
static Status
copy_shares(const TableBuilder *b, Buf *out)
{
	uint32_t n;
	const ValueShare *shares = table_builder_shares(b, &n);

	return n > 0 ? buf_append(out, shares, n * sizeof *shares) : ST_OK;
}

Status
writer_finish(TableBuilder *b, Edit *e, uint32_t level, uint64_t *bytes)
{
	TableInfo info;
	Buf smallest = { 0 }, largest = { 0 }, shares = { 0 };
	Table *t = NULL;
	char path[FS_PATH_MAX];
	Status st = copy_shares(b, &shares);

	if (st == ST_OK)
		st = table_builder_finish(b, &info, &smallest, &largest);
	else
		table_builder_abandon(b);

	info.ranges_applied = e->ranges_applied;
	if (st == ST_OK) {
		st = version_table(&info, slice_buf(&smallest), slice_buf(&largest),
		                   (const ValueShare *) (const void *) shares.data, &t);
		if (st == ST_OK)
			st = edit_add(e, level, t);
		if (st != ST_OK) {
			shheap_free(t);
			table_path(info.number, path, sizeof path);
			writer_remove_file(path);
		} else
			*bytes = info.bytes;
	}
	buf_free(&smallest);
	buf_free(&largest);
	buf_free(&shares);
	return st;
}

void
writer_abandon(Edit *e)
{
	size_t n;
	const EditAdd *adds = edit_adds(e, &n);
	ValueFile *const *values;

	/*
	 * When the manifest is in doubt the edit may be in effect after a restart: then its files must stay.
	 * They are removed as orphans by the next start if it is not.
	 */
	for (size_t i = 0; i < n; i++) {
		if (lsm_writer.manifest.broken)
			shheap_free(adds[i].table);
		else
			remove_table(adds[i].table);
	}
	values = edit_values(e, &n);
	for (size_t i = 0; i < n; i++) {
		if (lsm_writer.manifest.broken)
			shheap_free(values[i]);
		else
			remove_values(values[i]);
	}
}

/* ---- flush */
static bool
hidden_from_all(KeepRule *r, const Entry *e)
{
	if (!cover_holds(&r->cover, e->key)) {
		r->cover = COVER_ALL;
		range_set_cover(r->ranges, e->key, r->oldest, &r->cover);
	}
	return e->version < r->cover.version;
}

Status
keep_rule(KeepRule *r, const Entry *e, Keep *out, bool *new_key)
{
	*new_key = !r->started || !slice_eq(slice_buf(&r->key), e->key);
	if (*new_key) {
		KV_TRY(buf_set(&r->key, e->key));
		r->started = true;
		r->covered = false;
	}
	*out = e->version >= r->oldest ? KEEP : r->covered ? DROP : KEEP_NEWEST_BELOW;
	if (*out == KEEP_NEWEST_BELOW)
		r->covered = true;
	if (r->ranges != NULL && *out != DROP && hidden_from_all(r, e)) {
		r->hidden++;
		*out = DROP;
	}
	return ST_OK;
}

static bool
belongs_apart(const Entry *e)
{
	return config.blob_threshold > 0 && e->kind == ENTRY_PUT && e->value.len >= (uint64_t) config.blob_threshold;
}

typedef struct Flush {
	Edit *edit;
	KeepRule rule;
	ValueWriter values;
	TableBuilder *builder; /* NULL: no entry yet, or none behind the system's */
	bool system;           /* the builder's entries are the system's */
	uint64_t bytes;
} Flush;

static Status
finish_flush_table(Flush *f)
{
	TableBuilder *b = f->builder;
	uint64_t bytes;

	if (b == NULL)
		return ST_OK;
	f->builder = NULL;
	KV_TRY(writer_finish(b, f->edit, 0, &bytes));
	f->bytes += bytes;
	return ST_OK;
}

static Status
flush_entries(Flush *f, Iter *src)
{
	for (iter_seek_first(src); src->valid; iter_next(src)) {
		Entry e = src->entry;
		Keep keep;
		bool new_key;

		KV_TRY(keep_rule(&f->rule, &e, &keep, &new_key));
		if (keep == DROP)
			continue;
		if (f->builder != NULL && f->system && !is_system_key(e.key))
			KV_TRY(finish_flush_table(f));
		f->system = is_system_key(e.key);
		if (f->builder == NULL)
			KV_TRY(writer_builder(0, 0, &f->builder));
		if (belongs_apart(&e))
			KV_TRY(value_writer_put(&f->values, &e));
		KV_TRY(table_builder_add(f->builder, &e));
	}
	KV_TRY(src->status);
	return value_writer_finish(&f->values);
}

/* One table for each keyspace, however large the memtable: level 0 then has one of it for each range of versions. */
static Status
flush_tables(Iter *src, const RangeSet *ranges, Edit *e, uint64_t *bytes)
{
	Flush f = { .edit = e, .rule = { .oldest = e->oldest, .ranges = ranges }, .values = { .edit = e } };
	Status st = flush_entries(&f, src);

	buf_free(&f.rule.key);
	figure_add(&lsm_shared->range_entries, f.rule.hidden);
	if (st != ST_OK) {
		value_writer_abandon(&f.values);
		if (f.builder != NULL)
			table_builder_abandon(f.builder);
		return st;
	}
	KV_TRY(finish_flush_table(&f));
	if (f.bytes == 0)
		return ST_OK;
	*bytes = f.bytes + f.values.bytes;
	return fs_sync_dir(LSM_TABLES_DIR);
}

uint64_t
ranges_applied_by(uint64_t oldest, uint64_t flushed)
{
	return oldest < flushed ? oldest : flushed;
}

Status
lsm_flush(Iter *src, const LsmState *state, uint64_t oldest, Version **out)
{
	return lsm_flush_ranges(src, NULL, 0, state, oldest, out);
}

Status
lsm_flush_ranges(Iter *src, const RangeDelete *list, uint32_t n, const LsmState *state, uint64_t oldest, Version **out)
{
	Edit e = { .has_state = true, .state = *state, .oldest = oldest,
		       .ranges_applied = ranges_applied_by(oldest, state->flushed) };
	RangeSet *own = NULL;
	uint64_t bytes = 0;
	Status st;

	KV_ASSERT(lsm_writer.current != NULL && state->flushed >= lsm_writer.current->flushed);
	/* Older range deletions hide nothing in src. */
	st = range_set_make(list, n, oldest, &own);
	if (st == ST_OK && n > 0)
		st = buf_append(&e.range_adds, list, n * sizeof *list);
	if (st == ST_OK)
		st = flush_tables(src, own, &e, &bytes);
	range_set_drop(own);
	if (st == ST_OK)
		st = writer_install(&e);
	if (st != ST_OK)
		writer_abandon(&e);
	edit_free(&e);
	KV_TRY(st);
	figure_add(&lsm_shared->flushes, 1);
	figure_add(&lsm_shared->flush_bytes, bytes);
	figure_add(&lsm_shared->level_in[0], bytes);
	figure_add(&lsm_shared->level_written[0], bytes);
	*out = lsm_writer.current;
	return ST_OK;
}

/* ---- old Versions */
void
lsm_retire(Version *v)
{
	KV_ASSERT(v != lsm_writer.current);
	v->retire_epoch = epoch_retire();
	v->next_retired = lsm_writer.retired;
	lsm_writer.retired = v;
}

static bool
is_current(void *arg, uint64_t number)
{
	(void) arg;
	return lsm_version_has(lsm_writer.current, number);
}

Status
lsm_collect(void)
{
	Writer *w = &lsm_writer;
	uint64_t safe, deleted = atomic_load(&lsm_shared->files_deleted);

	if (w->retired == NULL)
		return ST_OK;
	safe = epoch_min();
	for (Version **p = &w->retired; *p != NULL;) {
		Version *v = *p;

		if (v->retire_epoch > safe || v == w->held) {
			p = &v->next_retired;
			continue;
		}
		*p = v->next_retired;
		version_drop(v, remove_table, remove_values);
	}
	if (deleted != atomic_load(&lsm_shared->files_deleted))
		table_files_sweep(is_current, NULL);
	return ST_OK;
}
