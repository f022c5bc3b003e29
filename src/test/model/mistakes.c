/*
 * mistakes.c - known mistakes, switched on one at a time: each has to be noticed within a number of seeds.
 *
 * Made either in the file system (something is not synced) or in functions that are replaced at link time, so
 * that the engine's own code knows nothing of them. __typeof__ ties each replacement to what it replaces.
 */
#include <stdlib.h>
#include <string.h>

#include "../../storage/kvstore_internal.h"
#include "../../storage/lsm/lsm_internal.h"
#include "../../storage/wal/wal_internal.h"
#include "common/elog.h"
#include "faultfs.h"
#include "ipc/epoch.h"
#include "model.h"

typedef enum Mistake {
	NONE,
	LOG_RETIRED_EARLY,
	TAIL_NOT_REWRITTEN,
	TORN_RECORD_TAKEN,
	TORN_EDIT_TAKEN,
	FLUSHED_TOO_FAR,
	FLUSH_FORGETS_HISTORY,
	COMPACTION_FORGETS_HISTORY,
	EXPIRED_TOO_EARLY,
	TOMBSTONE_DROPPED,
	LEVEL0_OLDEST_FIRST,
	FREED_UNDER_READERS,
	SNAPSHOT_IGNORED,
	READ_ERROR_IS_ABSENT,
	SYNC_ERROR_IGNORED,
	IN_FS
} Mistake;

static const struct {
	const char *name, *what;
	Mistake mistake;
	uint32_t kinds;   /* IN_FS: calls that do nothing, */
	const char *path; /* there */
} list[] = {
	{ "LOG_NOT_SYNCED", "a write is acknowledged before its log is synced", IN_FS, FAULT_SYNC, "wal/0" },
	{ "LOG_DIR_NOT_SYNCED", "a log file's name is not synced", IN_FS, FAULT_SYNC_DIR, "wal" },
	{ "TABLE_NOT_SYNCED", "a table is in the manifest before it is synced", IN_FS, FAULT_SYNC, "tables/" },
	{ "TABLES_DIR_NOT_SYNCED", "a table's name is not synced", IN_FS, FAULT_SYNC_DIR, "tables" },
	{ "VALUES_NOT_SYNCED", "a value file is in the manifest before it is synced", IN_FS, FAULT_SYNC, "values/" },
	{ "VALUES_DIR_NOT_SYNCED", "a value file's name is not synced", IN_FS, FAULT_SYNC_DIR, "values" },
	{ "MANIFEST_NOT_SYNCED", "an edit counts before it is synced", IN_FS, FAULT_SYNC, "MANIFEST" },
	{ "CURRENT_NOT_SYNCED", "CURRENT is renamed before its content is synced", IN_FS, FAULT_SYNC, "CURRENT" },
	{ "ROOT_DIR_NOT_SYNCED", "the names of manifest and CURRENT are not synced", IN_FS, FAULT_SYNC_DIR, "." },
	{ "LOG_RETIRED_EARLY", "log is removed before tables have it", LOG_RETIRED_EARLY, 0, NULL },
	{ "TAIL_NOT_REWRITTEN", "a start trusts the page cache (rule L7)", TAIL_NOT_REWRITTEN, 0, NULL },
	{ "TORN_RECORD_TAKEN", "a log record's checksum is not looked at", TORN_RECORD_TAKEN, 0, NULL },
	{ "TORN_EDIT_TAKEN", "an edit's checksum is not looked at", TORN_EDIT_TAKEN, 0, NULL },
	{ "FLUSHED_TOO_FAR", "tables are said to hold more of the log than they do", FLUSHED_TOO_FAR, 0, NULL },
	{ "FLUSH_FORGETS_HISTORY", "a flush drops versions that a snapshot needs", FLUSH_FORGETS_HISTORY, 0,
	  NULL },
	{ "COMPACTION_FORGETS_HISTORY", "so does a compaction", COMPACTION_FORGETS_HISTORY, 0, NULL },
	{ "EXPIRED_TOO_EARLY", "compaction takes for expired what is not", EXPIRED_TOO_EARLY, 0, NULL },
	{ "TOMBSTONE_DROPPED", "compaction drops tombstones above older versions", TOMBSTONE_DROPPED, 0, NULL },
	{ "LEVEL0_OLDEST_FIRST", "level 0 is searched in the wrong order", LEVEL0_OLDEST_FIRST, 0, NULL },
	{ "FREED_UNDER_READERS", "memtables, lists and files go while somebody reads them", FREED_UNDER_READERS,
	  0, NULL },
	{ "SNAPSHOT_IGNORED", "memtables answer with the newest version", SNAPSHOT_IGNORED, 0, NULL },
	{ "READ_ERROR_IS_ABSENT", "a failed read is taken for an absent key", READ_ERROR_IS_ABSENT, 0, NULL },
	{ "SYNC_ERROR_IGNORED", "a failed sync of the log is ignored", SYNC_ERROR_IGNORED, 0, NULL },
};
#define MISTAKES ((int) (sizeof list / sizeof list[0]))

static int chosen = -1;

static bool
on(Mistake m)
{
	return chosen >= 0 && list[chosen].mistake == m;
}

void
mistake_set(int i)
{
	chosen = i;
}

void
mistake_fs(void)
{
	if (on(IN_FS))
		fault_forget(list[chosen].kinds, list[chosen].path);
}

/* ---- replaced functions */
__typeof__(wal_retire_segments) __wrap_wal_retire_segments, __real_wal_retire_segments;
__typeof__(wal_segment_sync) __wrap_wal_segment_sync, __real_wal_segment_sync;
__typeof__(wal_segment_write) __wrap_wal_segment_write, __real_wal_segment_write;
__typeof__(wal_record_check) __wrap_wal_record_check, __real_wal_record_check;
__typeof__(manifest_crc) __wrap_manifest_crc, __real_manifest_crc;
__typeof__(lsm_flush_ranges) __wrap_lsm_flush_ranges, __real_lsm_flush_ranges;
__typeof__(lsm_compact) __wrap_lsm_compact, __real_lsm_compact;
__typeof__(lsm_compact_down) __wrap_lsm_compact_down, __real_lsm_compact_down;
__typeof__(keep_rule) __wrap_keep_rule, __real_keep_rule;
__typeof__(lsm_get) __wrap_lsm_get, __real_lsm_get;
__typeof__(epoch_min) __wrap_epoch_min, __real_epoch_min;
__typeof__(epoch_safe) __wrap_epoch_safe, __real_epoch_safe;
__typeof__(memtable_get) __wrap_memtable_get, __real_memtable_get;

Status
__wrap_wal_retire_segments(Lsn below, int spare)
{
	return __real_wal_retire_segments(on(LOG_RETIRED_EARLY) ? wal_durable() : below, spare);
}

Status
__wrap_wal_segment_sync(Lsn from, Lsn to)
{
	Status st = __real_wal_segment_sync(from, to);

	return on(SYNC_ERROR_IGNORED) ? ST_OK : st;
}

Status
__wrap_wal_segment_write(Lsn at, Slice data)
{
	return on(TAIL_NOT_REWRITTEN) ? ST_OK : __real_wal_segment_write(at, data);
}

const char *
__wrap_wal_record_check(const uint8_t *raw, const WalHeader *h, uint64_t previous_term, uint32_t seed)
{
	return on(TORN_RECORD_TAKEN) ? NULL : __real_wal_record_check(raw, h, previous_term, seed);
}

uint32_t
__wrap_manifest_crc(uint64_t number, uint64_t offset, Slice body)
{
	return on(TORN_EDIT_TAKEN) ? 1 : __real_manifest_crc(number, offset, body);
}

Status
__wrap_lsm_flush_ranges(Iter *src, const RangeDelete *ranges, uint32_t n, const LsmState *state,
						uint64_t oldest, Version **out)
{
	LsmState s = *state;

	if (on(FLUSHED_TOO_FAR))
		s.flushed = kvstore_applied();
	return __real_lsm_flush_ranges(src, ranges, n, &s, on(FLUSH_FORGETS_HISTORY) ? UINT64_MAX : oldest, out);
}

static LsmCompactOptions
options(const LsmCompactOptions *opt)
{
	LsmCompactOptions o = *opt;

	if (on(COMPACTION_FORGETS_HISTORY))
		o.oldest = UINT64_MAX;
	if (on(EXPIRED_TOO_EARLY))
		o.now_ms = UINT64_MAX;
	return o;
}

Status
__wrap_lsm_compact(const LsmCompactOptions *opt, Version **out)
{
	LsmCompactOptions o = options(opt);

	return __real_lsm_compact(&o, out);
}

Status
__wrap_lsm_compact_down(const LsmCompactOptions *opt, const LsmDown *down, Version **out)
{
	LsmCompactOptions o = options(opt);

	return __real_lsm_compact_down(&o, down, out);
}

Status
__wrap_keep_rule(KeepRule *r, const Entry *e, Keep *out, bool *new_key)
{
	KV_TRY(__real_keep_rule(r, e, out, new_key));
	if (on(TOMBSTONE_DROPPED) && *out == KEEP_NEWEST_BELOW && e->kind == ENTRY_DELETE)
		*out = DROP;
	return ST_OK;
}

Status
__wrap_lsm_get(const Version *v, Slice key, uint64_t snapshot, Entry *out)
{
	Table *turned[256];
	Version w = *v;
	Status st;

	if (on(LEVEL0_OLDEST_FIRST) && v->ntables[0] <= 256) {
		for (uint32_t i = 0; i < v->ntables[0]; i++)
			turned[i] = v->tables[0][v->ntables[0] - 1 - i];
		w.tables[0] = turned;
	}
	st = __real_lsm_get(&w, key, snapshot, out);
	return on(READ_ERROR_IS_ABSENT) && st != ST_OK ? ST_NOT_FOUND : st;
}

uint64_t
__wrap_epoch_min(void)
{
	return on(FREED_UNDER_READERS) ? UINT64_MAX : __real_epoch_min();
}

bool
__wrap_epoch_safe(uint64_t r)
{
	return on(FREED_UNDER_READERS) || __real_epoch_safe(r);
}

bool
__wrap_memtable_get(const Memtable *m, Slice key, uint64_t snapshot, Entry *out)
{
	return __real_memtable_get(m, key, on(SNAPSHOT_IGNORED) ? UINT64_MAX : snapshot, out);
}

/* ---- is each noticed? */
static bool
in_faults(int i)
{
	Mistake m = list[i].mistake;

	return m == TAIL_NOT_REWRITTEN || m == READ_ERROR_IS_ABSENT || m == SYNC_ERROR_IGNORED;
}

static bool
noticed(int i, const RunOptions *o)
{
	mistake_set(i);
	for (uint64_t k = 0; k < o->seeds; k++) {
		bool power = k % 2 == 0;

		if (in_faults(i) ? !io_faults_seed(o->first + k) : !run_seed(o->first + k, power)) {
			printf("  %-27s noticed at seed %llu: %.60s\n", list[i].name, (unsigned long long) (o->first + k),
				   world->why);
			return true;
		}
	}
	printf("  %-27s NOT NOTICED in %llu seeds: %s\n", list[i].name, (unsigned long long) o->seeds,
		   list[i].what);
	return false;
}

int
mistakes(const RunOptions *options_given)
{
	RunOptions o = *options_given;
	double began = run_now();
	int found = 0;

	if (o.seeds == UINT64_MAX)
		o.seeds = 400;
	if (!o.verbose)
		elog_setup(-1, LOG_LEVEL_PANIC, false);
	for (int i = 0; i < MISTAKES; i++)
		found += noticed(i, &o);
	printf("mistakes: %d of %d noticed, %.1f s\n", found, MISTAKES, run_now() - began);
	return found == MISTAKES ? 0 : 1;
}
