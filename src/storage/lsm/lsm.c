/*
 * lsm.c - start, and a Version from the manifest; the iterator over all tables, figures.
 *
 * Start is run by the replay process (or a tool), reading by any process under an epoch pin; no locks.
 */
#include "storage/lsm.h"

#include <stdlib.h>

#include "ipc/shheap.h"
#include "lsm_internal.h"
#include "port/fs.h"

LsmShared *lsm_shared;

size_t
lsm_shmem_size(void)
{
	return sizeof(LsmShared);
}

void
lsm_shmem_init(void *mem)
{
	lsm_shared = mem;
	memset(mem, 0, sizeof(LsmShared));
}

Status
lsm_create(uint64_t first_lsn)
{
	Version empty = { .number = 1, .flushed = first_lsn };
	Manifest m;

	KV_TRY(fs_mkdir(LSM_TABLES_DIR));
	KV_TRY(fs_mkdir(VALUE_DIR));
	KV_TRY(manifest_create(&m, 1, &empty, 1));
	return manifest_close(&m);
}

static void
free_table(Table *t)
{
	shheap_free(t);
}

static void
free_value_file(ValueFile *f)
{
	shheap_free(f);
}

static Status
build_table(const ManifestTable *mt, Edit *e)
{
	Buf shares = { 0 };
	Table *t;
	Status st;

	/* A missing file, or another one, would show as missing keys: refused now, not at the first read of it. */
	KV_TRY(table_file_check(&mt->info));
	st = value_shares_decode(mt->shares, mt->info.value_files, &shares);
	if (st == ST_OK)
		st = version_table(&mt->info, mt->smallest, mt->largest, (const ValueShare *) (const void *) shares.data, &t);
	buf_free(&shares);
	KV_TRY(st);
	st = edit_add(e, mt->level, t);
	if (st != ST_OK)
		free_table(t);
	return st;
}

static Status
build_value_file(const ValueFileInfo *info, Edit *e)
{
	ValueFile *f;
	Status st;

	KV_TRY(value_file_check(info));
	KV_TRY(version_value_file(info, &f));
	st = edit_add_values(e, f);
	if (st != ST_OK)
		free_value_file(f);
	return st;
}

static void
free_edit_files(const Edit *e)
{
	size_t n;
	const EditAdd *adds = edit_adds(e, &n);
	ValueFile *const *values;

	for (size_t i = 0; i < n; i++)
		free_table(adds[i].table);
	values = edit_values(e, &n);
	for (size_t i = 0; i < n; i++)
		free_value_file(values[i]);
}

/* Tables, value files and Version of an image; on failure nothing stays in the heap. */
static Status
build(const ManifestImage *img, Version **out)
{
	Edit e = { .has_state = true, .state = img->state };
	Status st = ST_OK;

	if (st == ST_OK && img->nranges > 0)
		st = buf_append(&e.range_adds, img->ranges, img->nranges * sizeof *img->ranges);
	for (size_t i = 0; i < img->nvalues && st == ST_OK; i++)
		st = build_value_file(&img->values[i], &e);
	for (size_t i = 0; i < img->ntables && st == ST_OK; i++)
		st = build_table(&img->tables[i], &e);
	if (st == ST_OK)
		st = version_make(NULL, &e, out);
	if (st != ST_OK) {
		free_edit_files(&e);
	} else {
		st = version_check(*out);
		if (st != ST_OK) {
			st = status_prefix(st, "manifest");
			version_drop(*out, free_table, free_value_file);
		}
	}
	edit_free(&e);
	return st;
}

Status
lsm_open(Version **out)
{
	ManifestImage img;
	Status st;

	KV_TRY(manifest_read(&img));
	st = build(&img, out);
	lsm_shared->next_number = img.next_number;
	lsm_shared->manifest_number = img.number;
	manifest_image_free(&img);
	return st;
}

/* ---- reading; point reads are in lsm_get.c */
static Iter *
table_iter_through(const Table *t, TableIterOptions opt, const RangeView *view)
{
	Iter *it = table_iter(&t->info, opt);

	return it == NULL || view == NULL ? it : iter_through(it, t->info.version_max + 1, view);
}

Iter *
lsm_iter(const Version *v, TableIterOptions opt)
{
	return lsm_iter_through(v, opt, NULL);
}

Iter *
lsm_iter_through(const Version *v, TableIterOptions opt, const RangeView *view)
{
	Iter **sources = malloc((v->ntables[0] + LSM_LEVELS) * sizeof *sources);
	Iter *merged = NULL;
	int n = 0;
	bool failed = false;

	if (sources == NULL) {
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory for an iterator over %u tables", v->ntables[0]);
		return NULL;
	}
	for (uint32_t i = 0; i < v->ntables[0] && !failed; i++) {
		if (view != NULL && table_hidden(v->tables[0][i], view))
			continue;
		sources[n] = table_iter_through(v->tables[0][i], opt, view);
		failed = sources[n] == NULL;
		n += !failed;
	}
	for (int level = 1; level < LSM_LEVELS && !failed; level++) {
		if (v->ntables[level] == 0)
			continue;
		sources[n] = level_iter_through(v->tables[level], v->ntables[level], opt, view);
		failed = sources[n] == NULL;
		n += !failed;
	}
	if (!failed)
		merged = iter_merge(sources, n);
	else
		for (int i = 0; i < n; i++)
			iter_close(sources[i]);
	free(sources);
	return merged;
}

void
lsm_stats(LsmStats *out)
{
	const LsmShared *s = lsm_shared;

	*out = (LsmStats){
		.flushes = atomic_load(&s->flushes),
		.flush_bytes = atomic_load(&s->flush_bytes),
		.compactions = atomic_load(&s->compactions),
		.compact_bytes_in = atomic_load(&s->bytes_in),
		.compact_bytes_out = atomic_load(&s->bytes_out),
		.trivial_moves = atomic_load(&s->trivial_moves),
		.rewrites = atomic_load(&s->rewrites),
		.files_deleted = atomic_load(&s->files_deleted),
		.range_tables = atomic_load(&s->range_tables),
		.range_bytes = atomic_load(&s->range_bytes),
		.range_entries = atomic_load(&s->range_entries),
		.ranges_retired = atomic_load(&s->ranges_retired),
		.relocated_bytes = atomic_load(&s->relocated_bytes),
		.level0_out = atomic_load(&s->level0_out),
	};
	for (int i = 0; i < LSM_LEVELS; i++) {
		out->level_in[i] = atomic_load(&s->level_in[i]);
		out->level_reads[i] = atomic_load(&s->level_reads[i]);
		out->level_written[i] = atomic_load(&s->level_written[i]);
	}
}

void
lsm_running(LsmRunning *out)
{
	const LsmShared *s = lsm_shared;

	*out = (LsmRunning){
		.total = atomic_load_explicit(&s->running_total, memory_order_acquire),
		.done = atomic_load_explicit(&s->running_done, memory_order_relaxed),
		.out = atomic_load_explicit(&s->running_out, memory_order_relaxed),
		.level = atomic_load_explicit(&s->running_level, memory_order_relaxed),
		.level0 = atomic_load_explicit(&s->running_level0, memory_order_relaxed),
	};
	if (out->done > out->total)
		out->done = out->total;
}
