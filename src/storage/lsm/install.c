/*
 * install.c - tables from another node take the place of all there are (rule C5).
 *
 * The list is read and the files are checked by the process that fetches them; they are installed by the
 * replay process before anything is open. No locks, no shared memory.
 *
 * The switch is that of CURRENT from one manifest to another, so there are the old tables or the new ones,
 * never a mixture. Before it the new files are moved to numbers that the old manifest does not know: to it
 * they are files that nothing names. After it the old files are, and the compaction worker removes them
 * when it starts. Each step asks what is there, so all of it may be done again: a file that has been moved
 * is found at its place.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lsm_internal.h"
#include "port/fs.h"

struct LsmList {
	ManifestImage img;
	LsmSum sum;
	Table *tables; /* of img, in the order of `version` */
	Table **slots;
	Buf *shares;         /* ValueShare[] of each */
	ValueFile *files;    /* of img, in its order */
	LiveValues *values;  /* the same as the list in `version` */
	RangeSet ranges; /* only its list is used */
	Version version; /* so here */
};

void
lsm_fetched_path(const char *dir, const LsmFile *f, char *out, size_t size)
{
	snprintf(out, size, "%s/%016llx.%s", dir, (unsigned long long) f->file_id,
	         (f->number & VALUE_ID_BIT) != 0 ? "kvv" : "kvt");
}

/* ---- the list */

/* As in a Version: by level; level 0 newest first, the others by key. */
static int
table_order(const void *a, const void *b)
{
	const ManifestTable *x = a, *y = b;

	if (x->level != y->level)
		return x->level < y->level ? -1 : 1;
	if (x->level == 0)
		return (x->info.version_max < y->info.version_max) - (x->info.version_max > y->info.version_max);
	return slice_cmp(x->smallest, y->smallest);
}

static int
id_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

/* Ids name the files here: no two may be the same. */
static Status
check_ids(const LsmList *l)
{
	size_t n = l->img.ntables;
	uint64_t *ids;
	bool twice = false;

	if (n == 0)
		return ST_OK;
	ids = malloc(n * sizeof *ids);
	if (ids == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the list of %zu tables", n);
	for (size_t i = 0; i < n; i++)
		ids[i] = l->img.tables[i].info.file_id;
	qsort(ids, n, sizeof *ids, id_order);
	for (size_t i = 1; i < n; i++)
		twice = twice || ids[i] == ids[i - 1];
	free(ids);
	return twice ? status_fail(ST_CORRUPT, "a table is named twice in the list of tables") : ST_OK;
}

static Status
build_table(LsmList *l, size_t i)
{
	const ManifestTable *t = &l->img.tables[i];

	KV_TRY(value_shares_decode(t->shares, t->info.value_files, &l->shares[i])); /* sound: the manifest was read */
	l->tables[i].info = t->info;
	l->tables[i].smallest = t->smallest;
	l->tables[i].largest = t->largest;
	l->tables[i].values = (const ValueShare *) (const void *) l->shares[i].data;
	l->slots[i] = &l->tables[i];
	if (l->version.ntables[t->level]++ == 0)
		l->version.tables[t->level] = &l->slots[i];
	l->sum.file_bytes += t->info.bytes;
	return ST_OK;
}

static void
build_values(LsmList *l)
{
	for (size_t i = 0; i < l->img.nvalues; i++) {
		l->files[i].info = l->img.values[i];
		l->values[i].file = &l->files[i];
		l->sum.file_bytes += l->img.values[i].bytes;
	}
	l->version.values = l->values;
	l->version.nvalues = (uint32_t) l->img.nvalues;
}

static Status
build_version(LsmList *l)
{
	size_t n = l->img.ntables;
	Status st;

	l->tables = calloc(n + 1, sizeof *l->tables);
	l->slots = calloc(n + 1, sizeof(Table *));
	l->shares = calloc(n + 1, sizeof *l->shares);
	l->files = calloc(l->img.nvalues + 1, sizeof *l->files);
	l->values = calloc(l->img.nvalues + 1, sizeof *l->values);
	if (l->tables == NULL || l->slots == NULL || l->shares == NULL || l->files == NULL || l->values == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the list of %zu tables", n);
	if (n > 0)
		qsort(l->img.tables, n, sizeof *l->img.tables, table_order);
	l->version.flushed = l->img.state.flushed;
	l->version.flushed_term = l->img.state.flushed_term;
	l->version.flushed_time = l->img.state.flushed_time;
	for (size_t i = 0; i < n; i++)
		KV_TRY(build_table(l, i));
	build_values(l);
	if (l->img.nranges > 0) {
		l->ranges = (RangeSet){ .n = (uint32_t) l->img.nranges, .list = l->img.ranges };
		l->version.ranges = &l->ranges;
	}
	KV_TRY(check_ids(l));
	st = version_check(&l->version);
	return st == ST_OK ? ST_OK : status_prefix(st, "list of tables");
}

/* ---- reading it */
static Status
file_bytes(const char *path, uint64_t *bytes)
{
	Status st, closed;
	int fd;

	KV_TRY(fs_open(path, FS_READ, &fd));
	st = fs_size(fd, bytes);
	closed = fs_close(fd);
	return st != ST_OK ? st : closed;
}

Status
lsm_list_read(const char *path, LsmList **out)
{
	LsmList *l = calloc(1, sizeof *l);
	Status st;

	if (l == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for a list of tables");
	st = manifest_read_file(path, LSM_LIST_NUMBER, &l->img);
	if (st == ST_OK)
		st = file_bytes(path, &l->sum.list_bytes);
	if (st == ST_OK)
		st = build_version(l);
	if (st != ST_OK) {
		lsm_list_free(l);
		return st;
	}
	l->sum.state = l->img.state;
	l->sum.files = l->img.ntables + l->img.nvalues;
	*out = l;
	return ST_OK;
}

void
lsm_list_free(LsmList *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; l->shares != NULL && i < l->img.ntables; i++)
		buf_free(&l->shares[i]);
	manifest_image_free(&l->img);
	free(l->tables);
	free(l->slots);
	free(l->shares);
	free(l->files);
	free(l->values);
	free(l);
}

const LsmSum *
lsm_list_sum(const LsmList *l)
{
	return &l->sum;
}

LsmFile
lsm_list_file(const LsmList *l, uint64_t i)
{
	size_t n = l->img.ntables;

	if (i < n) {
		const TableInfo *t = &l->img.tables[i].info;

		return (LsmFile){ t->number, t->file_id, t->bytes };
	}
	return (LsmFile){ l->img.values[i - n].file_id, l->img.values[i - n].file_id, l->img.values[i - n].bytes };
}

static Status
verify_table(const LsmList *l, uint64_t i, void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	ManifestTable t = l->img.tables[i];

	t.info.number = t.info.file_id;
	return manifest_check_table(&t, progress, arg);
}

Status
lsm_list_verify(const LsmList *l, uint64_t i, const char *dir, void (*progress)(void *arg, uint64_t bytes),
				void *arg)
{
	Status st;

	table_files_dir(dir);
	value_files_dir(dir);
	st = i < l->img.ntables ? verify_table(l, i, progress, arg)
	                        : value_file_verify(&l->img.values[i - l->img.ntables], progress, arg);
	table_files_dir(TABLE_DIR);
	value_files_dir(VALUE_DIR);
	return st;
}

/* ---- installing */
typedef struct Highest {
	bool manifests;
	uint64_t number;
} Highest;

static Status
note_highest(void *arg, const char *name)
{
	Highest *h = arg;
	unsigned long long n;

	if (sscanf(name, h->manifests ? "MANIFEST-%16llx" : "%16llx", &n) == 1 && n > h->number)
		h->number = n;
	return ST_OK;
}

Status
lsm_install_plan(LsmPlan *out)
{
	Highest manifest = { .manifests = true }, table = { 0 };
	ManifestImage img;

	KV_TRY(manifest_read(&img));
	manifest.number = img.number;
	table.number = img.next_number - 1;
	manifest_image_free(&img);
	KV_TRY(fs_list(".", note_highest, &manifest));
	KV_TRY(fs_list(LSM_TABLES_DIR, note_highest, &table));
	*out = (LsmPlan){ manifest.number + 1, table.number + 1 };
	return ST_OK;
}

/* A file of this size there? Not being able to tell is no answer: on "no" all that was fetched is thrown away. */
static Status
is_there(const char *path, uint64_t bytes, bool *there)
{
	uint64_t size = 0;
	Status st = file_bytes(path, &size);

	*there = st == ST_OK && size == bytes;
	return st == ST_NOT_FOUND ? ST_OK : st;
}

static Status
move_file(const char *dir, const LsmFile *f, const char *to)
{
	char from[FS_PATH_MAX];
	bool moved;
	Status st;

	lsm_fetched_path(dir, f, from, sizeof from);
	st = fs_rename(from, to);
	if (st != ST_NOT_FOUND)
		return st;
	KV_TRY(is_there(to, f->bytes, &moved)); /* before */
	return moved ? ST_OK : status_fail(ST_CORRUPT, "%s, a file that was fetched, is missing", from);
}

/* A value file keeps its name: one that is here under it already, from an earlier fetch, has the same content. */
static Status
move_all(const LsmPlan *plan, const LsmList *l, const char *dir)
{
	KV_TRY(fs_mkdir(VALUE_DIR));
	for (uint64_t i = 0; i < l->sum.files; i++) {
		LsmFile f = lsm_list_file(l, i);
		char to[FS_PATH_MAX];

		if (i < l->img.ntables)
			table_path(plan->first_table + i, to, sizeof to);
		else
			value_path(f.file_id, to, sizeof to);
		KV_TRY(move_file(dir, &f, to));
	}
	KV_TRY(fs_sync_dir(VALUE_DIR));
	return fs_sync_dir(LSM_TABLES_DIR);
}

/* The list as it is called here. */
static Status
write_manifest(const LsmPlan *plan, const LsmList *l)
{
	char path[FS_PATH_MAX];
	Manifest m;
	Status st;

	for (size_t i = 0; i < l->img.ntables; i++)
		l->tables[i].info.number = plan->first_table + i;
	/* What an attempt that was cut off left; CURRENT does not name it. */
	manifest_path(plan->manifest, path, sizeof path);
	st = fs_unlink(path);
	if (st != ST_NOT_FOUND)
		KV_TRY(st);
	KV_TRY(manifest_create(&m, plan->manifest, &l->version, plan->first_table + l->img.ntables));
	return manifest_close(&m);
}

Status
lsm_installed(const LsmPlan *plan, bool *done)
{
	uint64_t now;

	KV_TRY(manifest_current(&now));
	*done = now == plan->manifest;
	return ST_OK;
}

Status
lsm_install(const LsmPlan *plan, const LsmList *l, const char *dir)
{
	bool done;

	KV_TRY(lsm_installed(plan, &done));
	if (done)
		return ST_OK;
	KV_TRY(move_all(plan, l, dir));
	return write_manifest(plan, l);
}

Status
lsm_state_now(LsmState *out)
{
	ManifestImage img;

	KV_TRY(manifest_read(&img));
	*out = img.state;
	manifest_image_free(&img);
	return ST_OK;
}
