/*
 * export.c - the tables of a Version as another node is to get them (rule C5): links, and a list.
 *
 * Any process, under the pin that keeps the Version's files where they are. No locks. The links keep the
 * content when the worker removes the files, so the pin ends as soon as the directory is made. The list is a
 * manifest: same format, same checksums, another name.
 */
#include <stdio.h>

#include "lsm_internal.h"
#include "port/fs.h"

static Status
link_table(const TableInfo *t, const char *dir)
{
	char from[FS_PATH_MAX], to[FS_PATH_MAX];

	table_path(t->number, from, sizeof from);
	snprintf(to, sizeof to, "%s/%016llx.kvt", dir, (unsigned long long) t->number);
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

	*out = (LsmSum){ .state = { v->flushed, v->flushed_term, v->flushed_time } };
	for (int level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < v->ntables[level]; i++) {
			const TableInfo *t = &v->tables[level][i]->info;

			KV_TRY(link_table(t, dir));
			out->tables++;
			out->table_bytes += t->bytes;
			if (t->number >= next_number)
				next_number = t->number + 1;
		}
	}
	return write_list_file(v, dir, next_number, &out->list_bytes);
}
