/*
 * wal_restart.c - after tables came from another node: does the log here go on behind them, or is it begun anew?
 *
 * Runs in the replay process, once, before wal_recover(); no locks. The tables hold everything below `from`, which
 * is committed; the record that ends there is of from_term.
 *
 * 1. The log is kept if a record of from_term ends at `from`: then it equals the leader's up to there (log
 *    matching). Records are read from the mark's commit position on, a record boundary, which is below `from` (C5).
 * 2. Else nothing here is of use: all files go, then the mark says that the log starts, durable and committed, at
 *    `from`. Cut off in between, it finds no record at the old commit position and does the same again.
 */
#include "common/kv_assert.h"
#include "port/fs.h"
#include "wal_internal.h"

/* Does a record of from_term end at `from`? at: a record boundary below. */
static Status
ends_there(Lsn at, Lsn from, uint64_t from_term, bool *found)
{
	Status s = ST_OK;
	WalScan scan;
	WalRecord r;
	Slice raw;

	KV_TRY(wal_scan_open(&scan, at, UINT64_MAX, UINT64_MAX));
	while (s == ST_OK && scan.pos < from)
		s = wal_scan_next(&scan, &r, &raw);
	*found = s == ST_OK && scan.pos == from && scan.term == from_term;
	wal_scan_close(&scan);
	return s == ST_NOT_FOUND ? ST_OK : s;
}

/* Is the file that holds this position? */
static Status
is_here(Lsn at, bool *found)
{
	char name[WAL_NAME_SIZE];
	Status s;
	int fd;

	wal_segment_name(wal_segment_of(at), name);
	s = fs_open(name, FS_READ, &fd);
	*found = s == ST_OK;
	if (s == ST_OK)
		return fs_close(fd);
	return s == ST_NOT_FOUND ? ST_OK : s;
}

/* Nothing below or above is here any more. */
static Status
begin_at(Lsn from)
{
	WalMark m = { wal_sh->mark.epoch + 1, from, from, from };

	KV_TRY(wal_segment_forget());
	return wal_mark_write(&m);
}

static Status
goes_on(const WalMark *m, Lsn from, uint64_t from_term, bool *kept)
{
	*kept = m->commit >= from; /* committed here, so equal; or done already */
	if (m->commit > from)
		return is_here(from, kept);
	return *kept ? ST_OK : ends_there(m->commit, from, from_term, kept);
}

Status
wal_restart_at(Lsn from, uint64_t from_term, bool *kept)
{
	WalMark m;

	KV_ASSERT(atomic_load(&wal_sh->recovered) == 0 && from % 8 == 0 && from >= wal_sh->first_lsn);
	wal_files_close();
	KV_TRY(wal_mark_read(&m, &wal_sh->mark_slot));
	wal_mark_set(&m);
	KV_TRY(goes_on(&m, from, from_term, kept));
	return *kept ? ST_OK : begin_at(from);
}

Status
wal_offline_goes_on(Lsn from, uint64_t from_term, bool *kept)
{
	WalMark m;
	int slot;

	KV_TRY(wal_mark_read(&m, &slot));
	return goes_on(&m, from, from_term, kept);
}

Status
wal_restart_without(Lsn from)
{
	KV_ASSERT(atomic_load(&wal_sh->recovered) == 0 && from % 8 == 0 && from >= wal_sh->first_lsn);
	wal_files_close();
	KV_TRY(wal_mark_read(&wal_sh->mark, &wal_sh->mark_slot));
	return begin_at(from);
}
