/*
 * snapshot.c - our tables as another node reads them.
 *
 * Backends; each has its own directory, whose name says whose it is, so no locks. Sweeping looks at the
 * slots: a directory of a slot that is not live in that generation is nobody's.
 */
#include "replication/snapshot.h"

#include <stdio.h>

#include "common/elog.h"
#include "ipc/procslot.h"
#include "port/fs.h"
#include "storage/kvstore.h"

#define HOLD_TRIES 5 /* log retired between the list and our hold on it: take a newer list */

static char dir[64]; /* "": nothing open */
static unsigned opened;
static int file = -1;
static uint64_t file_number;

static void
close_file(void)
{
	if (file >= 0 && fs_close(file) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail()); /* only read through it */
	file = -1;
}

void
snapshot_close(void)
{
	close_file();
	if (dir[0] == '\0')
		return;
	if (fs_remove_dir(dir) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s stays for now: %s", dir, status_detail());
	dir[0] = '\0';
	kvstore_release_log();
}

Status
snapshot_open(TransferSum *out)
{
	snapshot_close();
	KV_TRY(fs_mkdir(FETCH_SNAPSHOTS));
	for (int i = 0; i < HOLD_TRIES; i++) {
		char name[sizeof dir];

		snprintf(name, sizeof name, FETCH_SNAPSHOTS "/%d-%u-%u", my_slot_no,
				 atomic_load(&my_slot->generation), opened++);
		KV_TRY(transfer_export(name, out));
		snprintf(dir, sizeof dir, "%s", name);
		if (kvstore_hold_log(out->flushed))
			return ST_OK;
		snapshot_close();
	}
	return status_fail(ST_BUSY, "tables change faster than they can be listed");
}

Status
snapshot_read(uint64_t number, uint64_t offset, size_t length, Buf *out)
{
	char path[FS_PATH_MAX];
	size_t got;
	Status st;

	if (dir[0] == '\0')
		return status_fail(ST_NOT_FOUND, "no snapshot is open on this connection");
	if (file < 0 || file_number != number) {
		close_file();
		transfer_path(dir, number, path, sizeof path);
		KV_TRY(fs_open(path, FS_READ, &file));
		file_number = number;
	}
	KV_TRY(buf_reserve(out, length));
	st = fs_pread(file, out->data + out->len, length, offset, &got);
	if (st == ST_OK)
		out->len += got;
	return st;
}

/* ---- house-keeping */
typedef struct Sweep {
	bool all;
	Buf names; /* NUL-terminated, one after another */
} Sweep;

static bool
is_alive(int slot, unsigned generation)
{
	ProcSlot *s;

	if (slot < 0 || slot >= procslot_count())
		return false;
	s = procslot_get(slot);
	return atomic_load(&s->state) == PROC_LIVE && atomic_load(&s->generation) == generation;
}

static Status
note_dead(void *arg, const char *name)
{
	Sweep *s = arg;
	int slot;
	unsigned generation;

	if (!s->all && sscanf(name, "%d-%u-", &slot, &generation) == 2 && is_alive(slot, generation))
		return ST_OK;
	return buf_append(&s->names, name, strlen(name) + 1);
}

static Status
remove_dead(bool all)
{
	Sweep s = { .all = all };
	Status st = fs_list(FETCH_SNAPSHOTS, note_dead, &s);

	for (size_t at = 0; st == ST_OK && at < s.names.len;) {
		const char *name = (const char *) s.names.data + at;
		char path[FS_PATH_MAX];

		snprintf(path, sizeof path, FETCH_SNAPSHOTS "/%s", name);
		st = fs_remove_dir(path);
		at += strlen(name) + 1;
	}
	buf_free(&s.names);
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
snapshot_sweep(void)
{
	return remove_dead(false);
}

Status
snapshot_remove_all(void)
{
	return remove_dead(true);
}
