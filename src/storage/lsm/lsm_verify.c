/*
 * lsm_verify.c - is what the manifest names there, whole, and in order? For kvd --check and tools.
 *
 * Works on what manifest_read() gave, without shared memory. Reads only, past all caches: what counts is the disk.
 */
#include <stdlib.h>

#include "lsm_internal.h"
#include "port/fs.h"

/* As in a Version: level 0 newest first, deeper levels by key. */
static int
by_place(const void *a, const void *b)
{
	const ManifestTable *x = a, *y = b;

	if (x->level != y->level)
		return x->level < y->level ? -1 : 1;
	if (x->level == 0)
		return (x->info.version_max < y->info.version_max) - (x->info.version_max > y->info.version_max);
	return slice_cmp(x->smallest, y->smallest);
}

void
manifest_sort(ManifestImage *img)
{
	if (img->ntables > 0)
		qsort(img->tables, img->ntables, sizeof *img->tables, by_place);
}

Status
manifest_check_order(const ManifestTable *a, const ManifestTable *b)
{
	Table x = { .info = a->info, .smallest = a->smallest, .largest = a->largest };
	Table y = { .info = b->info, .smallest = b->smallest, .largest = b->largest };

	return a->level == b->level ? version_check_order(a->level, &x, &y) : ST_OK;
}

/* What it refers to, by the manifest and by its own properties. */
static Status
check_shares(const ManifestTable *t, const char *path)
{
	Buf said = { 0 }, has = { 0 };
	Status st = value_shares_decode(t->shares, t->info.value_files, &said);

	if (st == ST_OK)
		st = table_read_shares(t->info.number, &has);
	if (st == ST_OK && !slice_eq(slice_buf(&said), slice_buf(&has)))
		st = status_fail(ST_CORRUPT, "%s: the manifest and the file refer to different values: restore the file or "
		                 "this node's data", path);
	buf_free(&said);
	buf_free(&has);
	return st;
}

Status
manifest_check_table(const ManifestTable *t, void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	Buf smallest = { 0 }, largest = { 0 };
	char path[FS_PATH_MAX];
	TableInfo info;
	Status st = table_read_info(t->info.number, &info, &smallest, &largest);

	table_path(t->info.number, path, sizeof path);
	if (st == ST_NOT_FOUND)
		st = status_fail(ST_CORRUPT, "%s is in the manifest but missing: restore it or this node's data", path);
	if (st == ST_OK && (!slice_eq(t->smallest, slice_buf(&smallest)) || !slice_eq(t->largest, slice_buf(&largest))))
		st = status_fail(ST_CORRUPT, "%s: the manifest and the file have different key ranges: restore the file or "
		                 "this node's data", path);
	if (st == ST_OK)
		st = table_verify(&t->info, progress, arg);
	if (st == ST_OK)
		st = check_shares(t, path);
	buf_free(&smallest);
	buf_free(&largest);
	return st;
}
