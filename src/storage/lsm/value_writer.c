/*
 * value_writer.c - value files that a flush or a compaction writes beside its tables.
 *
 * Compaction worker only. A file is synced and renamed when it is full or all is written, and its directory synced,
 * before the tables that refer to it become part of a Version. Until then nothing names it: it is removed with the
 * edit, or by the next start.
 */
#include "common/config.h"
#include "ipc/shheap.h"
#include "lsm_internal.h"
#include "port/fs.h"
#include "port/proc.h"

uint64_t value_file_bytes = VALUE_FILE_BYTES;

static Status
open_file(ValueWriter *w)
{
	uint64_t id;

	KV_TRY(proc_random(&id, sizeof id));
	return value_builder_open(id | VALUE_ID_BIT, (TableCodec) config.compression, &w->builder);
}

static Status
finish_file(ValueWriter *w)
{
	ValueBuilder *b = w->builder;
	ValueFileInfo info;
	ValueFile *f = NULL;
	char path[FS_PATH_MAX];
	Status st;

	w->builder = NULL;
	KV_TRY(value_builder_finish(b, &info));
	st = version_value_file(&info, &f);
	if (st == ST_OK)
		st = edit_add_values(w->edit, f);
	if (st == ST_OK) {
		w->bytes += info.bytes;
		return ST_OK;
	}
	shheap_free(f);
	value_path(info.file_id, path, sizeof path);
	writer_remove_file(path);
	return st;
}

Status
value_writer_put(ValueWriter *w, Entry *e)
{
	ValueRef ref;

	if (w->builder == NULL)
		KV_TRY(open_file(w));
	KV_TRY(value_builder_add(w->builder, e->value, &ref));
	e->kind = ENTRY_VALUE_REF;
	e->value = slice_of(w->ref, value_ref_encode(&ref, w->ref));
	return value_builder_bytes(w->builder) >= value_file_bytes ? finish_file(w) : ST_OK;
}

Status
value_writer_finish(ValueWriter *w)
{
	if (w->builder != NULL)
		KV_TRY(finish_file(w));
	return w->bytes > 0 ? fs_sync_dir(VALUE_DIR) : ST_OK;
}

void
value_writer_abandon(ValueWriter *w)
{
	if (w->builder != NULL)
		value_builder_abandon(w->builder);
	w->builder = NULL;
}
