/*
 * export.c - the tables and value files of a Version as another node is to get them (rule C5): links, and a list.
 *
 * Any process, under the pin that keeps the Version's files where they are. No locks. The links keep the
 * content when the worker removes the files, so the pin ends as soon as the directory is made. The list is a
 * manifest: same format, same checksums, another name.
 */
#include <stdio.h>

#include "lsm_internal.h"
#include "port/fs.h"

void
lsm_exported_path(const char *dir, uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "%s/%016llx.%s", dir, (unsigned long long) number,
	         (number & VALUE_ID_BIT) != 0 ? "kvv" : "kvt");
}

static Status
link_file(const char *from, uint64_t number, uint64_t bytes, const char *dir, LsmSum *sum)
{
	char to[FS_PATH_MAX];

	lsm_exported_path(dir, number, to, sizeof to);
	sum->files++;
	sum->file_bytes += bytes;
	return fs_link(from, to);
}

static Status
write_list_file(const Version *v, const char *dir, uint64_t next_number, uint64_t *bytes)
{
	char path[FS_PATH_MAX];
	Manifest m;
	Status st, closed;

	snprintf(path, sizeof path, "%s/" LSM_LIST, dir);
	st = manifest_write(&m, path, LSM_LIST_NUMBER, v, next_number);
	closed = manifest_close(&m);
	KV_TRY(st);
	*bytes = m.length;
	return closed;
}

Status
lsm_export(const Version *v, const char *dir, LsmSum *out)
{
	uint64_t next_number = 1;
	char from[FS_PATH_MAX];

	*out = (LsmSum){ .state = { v->flushed, v->flushed_term, v->flushed_time } };
	for (int level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const TableInfo *t = &v->tables[level][i]->info;

			table_path(t->number, from, sizeof from);
			KV_TRY(link_file(from, t->number, t->bytes, dir, out));
			if (t->number >= next_number)
				next_number = t->number + 1;
		}
	}
	for (uint32_t i = 0; i < v->nvalues; i++) {
		const ValueFileInfo *f = &v->values[i].file->info;

		value_path(f->file_id, from, sizeof from);
		KV_TRY(link_file(from, f->file_id, f->bytes, dir, out));
	}
	return write_list_file(v, dir, next_number, &out->list_bytes);
}
