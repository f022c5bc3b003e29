/*
 * initdir.c - making a new data directory.
 *
 * One process (kvd, before it becomes the postmaster), in the directory, holding its lock.
 *
 * Invariants:
 * 1. A directory with files that are not ours is never written to, not even by the lock.
 * 2. kvd.control is written last, when everything else is on disk: a directory that has it is complete.
 *    Until then kvd.init stands there, made first in an empty directory; what is found beside it is an
 *    initialisation that was cut off, and it is begun again.
 * 3. A blank directory (no cluster yet) has everything but log, tables and members; they are made when it
 *    gets a cluster, and kvd.control, replaced, says last that it has one.
 */
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "postmaster_internal.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"

#define MARKER "kvd.init"

typedef struct Found {
	bool control, marker, other;
	char example[64]; /* one name that is not ours */
} Found;

/* Names that a lock alone leaves in an empty directory. */
static bool
is_harmless(const char *name)
{
	return strcmp(name, "kvd.lock") == 0 || strcmp(name, "kvd.alive") == 0 || strcmp(name, "lost+found") == 0;
}

static Status
look_at(void *arg, const char *name)
{
	Found *f = arg;

	if (strcmp(name, CONTROL_FILE) == 0) {
		f->control = true;
	} else if (strcmp(name, MARKER) == 0) {
		f->marker = true;
	} else if (!is_harmless(name)) {
		f->other = true;
		snprintf(f->example, sizeof f->example, "%s", name);
	}
	return ST_OK;
}

Status
initdir_look(const char *shown, bool *empty)
{
	Found f = { 0 };

	KV_TRY(fs_list(".", look_at, &f));
	*empty = !f.control;
	if (f.control || f.marker || !f.other)
		return ST_OK;
	return status_fail(ST_FOREIGN, "directory \"%s\" is not empty (\"%s\") and holds no " CONTROL_FILE ": it is not "
	                   "a kvd data directory; name another one", shown, f.example);
}

/* Files of `dir` from an initialisation that was cut off: all, or those whose names begin so. */
typedef struct Sweep {
	const char *dir, *prefix;
} Sweep;

static Status
sweep_one(void *arg, const char *name)
{
	const Sweep *s = arg;
	char path[FS_PATH_MAX];

	if (strncmp(name, s->prefix, strlen(s->prefix)) != 0)
		return ST_OK;
	if ((size_t) snprintf(path, sizeof path, "%s/%s", s->dir, name) >= sizeof path)
		return status_fail(ST_INTERNAL, "path too long: %s/%s", s->dir, name);
	return fs_unlink(path);
}

static Status
sweep(void)
{
	static const Sweep places[] = { { "wal", "" }, { "tables", "" }, { "values", "" }, { ".", "MANIFEST" },
		{ ".", "CURRENT" } };

	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		Sweep s = places[i];
		Status st = fs_list(s.dir, sweep_one, &s);

		if (st != ST_OK && st != ST_NOT_FOUND)
			return st;
	}
	return ST_OK;
}

Status
initdir_make_marker(const char *name)
{
	int fd;

	KV_TRY(fs_open(name, FS_CREATE, &fd));
	KV_TRY(fs_close(fd));
	return fs_sync_dir(".");
}

Status
initdir_tidy(void)
{
	Status st = fs_unlink(MARKER);

	if (st == ST_NOT_FOUND)
		return ST_OK;
	KV_TRY(st);
	return fs_sync_dir(".");
}

static Status
make_identity(bool blank, Control *control)
{
	uint32_t segment_size = (uint32_t) config.wal_segment_size;

	KV_TRY(blank ? control_make_blank(control, segment_size) : control_make(control, segment_size));
	KV_TRY(votefile_create(control->node_incarnation));
	return blank ? ST_OK : kvstore_create(control);
}

Status
initdir_make(bool blank, bool keep_settings)
{
	Control control;

	KV_TRY(initdir_make_marker(MARKER));
	KV_TRY(sweep());
	KV_TRY(config_write_sample_file("."));
	if (keep_settings)
		KV_TRY(bootstrap_keep_settings());
	KV_TRY(make_identity(blank, &control));
	KV_TRY(fs_sync_dir("."));
	KV_TRY(control_write(&control));
	KV_TRY(initdir_tidy());
	elog(LOG_LEVEL_INFO, "made a new data directory");
	return ST_OK;
}

Status
initdir_form(const Bootstrap *b)
{
	KV_TRY(sweep());
	KV_TRY(kvstore_create(&b->control));
	KV_TRY(membership_file_write(&b->members, b->at));
	KV_TRY(fs_sync_dir("."));
	return control_write(&b->control);
}
