/*
 * files.c - this process's open files of blocks: at most TABLE_FILES_MAX, least recently used goes.
 *
 * Any process; private to it, no locks. Only reads from the file come here (cache hits do not), so a
 * linear search is cheap beside the read that follows. A file counts as open once its kind has checked that it
 * is the one that is meant: a table by its footer against the list of tables.
 */
#include <stdio.h>

#include "common/elog.h"
#include "common/process_local.h"
#include "port/fs.h"
#include "sstable_internal.h"

typedef struct OpenFile {
	uint64_t number, file_id;
	uint64_t used; /* tick of the last use */
	int fd;
} OpenFile;

static PROCESS_LOCAL OpenFile files[TABLE_FILES_MAX];
static PROCESS_LOCAL int nfiles;
static PROCESS_LOCAL uint64_t tick;
static const char *files_dir = TABLE_DIR;

void
table_path(uint64_t number, char *out, size_t size)
{
	snprintf(out, size, "%s/%016llx.kvt", files_dir, (unsigned long long) number);
}

static void
close_fd(int fd)
{
	if (fs_close(fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "closing a table file: %s", status_detail());
}

static void
forget(int i)
{
	close_fd(files[i].fd);
	files[i] = files[--nfiles];
}

/* The file must be the one the list of tables means: size, id, root. */
static Status
check_table(const BlockFile *file, int fd, const char *path)
{
	const TableInfo *t = file->more;
	uint8_t raw[FOOTER_BYTES];
	uint64_t size;
	size_t got;
	Footer f;

	KV_TRY(fs_size(fd, &size));
	if (size != t->bytes || size < FOOTER_BYTES)
		return status_fail(ST_CORRUPT, "%s has %llu bytes, not %llu: it is cut or not the right file", path,
		                   (unsigned long long) size, (unsigned long long) t->bytes);
	KV_TRY(fs_pread(fd, raw, sizeof(raw), size - FOOTER_BYTES, &got));
	if (got != sizeof(raw))
		return status_fail(ST_CORRUPT, "%s is shorter than its size says", path);
	KV_TRY(footer_decode(raw, path, &f));
	if (f.file_id != t->file_id || f.root_offset != t->root_offset || f.root_size != t->root_size ||
		f.index_height != t->index_height)
		return status_fail(ST_CORRUPT, "%s is not the table that the manifest names: restore the right file", path);
	return ST_OK;
}

const BlockKind table_kind = { table_path, check_table, BLOCK_TARGET };

static Status
open_file(const BlockFile *f, int *fd)
{
	char path[FS_PATH_MAX];
	Status st;

	f->kind->path(f->number, path, sizeof(path));
	st = fs_open(path, FS_READ, fd);
	if (st == ST_NOT_FOUND) /* never to be taken for an absent key */
		return status_fail(ST_CORRUPT, "%s is in the manifest but missing: restore it or this node's data", path);
	KV_TRY(st);
	st = f->kind->check(f, *fd, path);
	if (st != ST_OK)
		close_fd(*fd);
	return st;
}

Status
block_file_check(const BlockFile *f)
{
	int fd;

	KV_TRY(open_file(f, &fd));
	close_fd(fd);
	return ST_OK;
}

Status
table_file_check(const TableInfo *t)
{
	BlockFile f = table_blocks(t);

	return block_file_check(&f);
}

Status
block_file(const BlockFile *f, int *fd)
{
	int oldest = 0;

	tick++;
	for (int i = 0; i < nfiles; i++) {
		if (files[i].number == f->number && files[i].file_id == f->file_id) {
			files[i].used = tick;
			*fd = files[i].fd;
			return ST_OK;
		}
		if (files[i].used < files[oldest].used)
			oldest = i;
	}
	if (nfiles == TABLE_FILES_MAX)
		forget(oldest);
	KV_TRY(open_file(f, fd));
	files[nfiles++] = (OpenFile){ f->number, f->file_id, tick, *fd };
	return ST_OK;
}

void
table_files_sweep(bool (*alive)(void *arg, uint64_t number), void *arg)
{
	for (int i = nfiles - 1; i >= 0; i--)
		if (!alive(arg, files[i].number))
			forget(i);
}

void
table_files_close_all(void)
{
	while (nfiles > 0)
		forget(nfiles - 1);
}

int
table_files_open(void)
{
	return nfiles;
}

void
table_files_dir(const char *dir)
{
	table_files_close_all();
	files_dir = dir;
}
