/*
 * space.c - a disk that is nearly full: when writes are refused, and what is done so that they need not be.
 *
 * space_check() is the WAL writer's, space_room() and space_reclaimed() the compaction worker's.
 *
 * Writes need room twice: for the log now, for a table when their memtable is written out. So they are refused while
 * the file system has less free than disk_reserve and what is still to be written out, which is before anything
 * fails. In this state
 *   - memtables are written out and all log below them is let go: what deletes need stays;
 *   - what is deleted goes to a table soon, not when its memtable is full, and old snapshots are given up: only then
 *     can what it hides go;
 *   - tables are written anew without what is hidden in them, one at a time (lsm_reclaim()): that takes little room,
 *     which the reserve has.
 * It ends by itself, with a quarter of a memtable to spare, so that it does not flicker.
 */
#include "common/elog.h"
#include "ipc/epoch.h"
#include "kvstore_internal.h"
#include "port/clock.h"
#include "port/fs.h"

#define CHECK_MS 250   /* how often free space is asked for */
#define HYSTERESIS 4   /* 1/4 of a memtable more than needed ends the state */
#define QUIET_MS 1000  /* no write for so long: those who delete wait for the space */
#define FREEZE_SHARE 4 /* or so much of a memtable has come */
#define PILED_STEPS 5  /* with many tables in level 0: 2 s to the next one, twice that for each more, up to 32 s */

static uint64_t
unflushed(void)
{
	Lsn flushed = atomic_load(&kvs->flushed), applied = kvstore_applied();

	return applied > flushed ? applied - flushed : 0;
}

/* ---- WAL writer */

static void
tell(bool full, uint64_t left, uint64_t needed)
{
	if (full)
		elog(LOG_LEVEL_WARNING,
			 "%llu MB free on the data directory's file system, %llu MB needed (disk_reserve and memtables): writes "
			 "are refused, deletes and reads go on",
			 (unsigned long long) (left / (uint64_t) MB), (unsigned long long) (needed / (uint64_t) MB));
	else
		elog(LOG_LEVEL_LOG, "%llu MB free again: writes go on", (unsigned long long) (left / (uint64_t) MB));
}

static uint32_t
level0_tables(void)
{
	uint32_t n;

	epoch_enter();
	n = atomic_load(&kvs->current)->version->ntables[0];
	epoch_leave();
	return n;
}

/*
 * How long after the last table: reads look at each, and those that pile up cannot be merged while there is no room.
 * But what is deleted in memory brings no space back before it is in one, so it never waits for good.
 */
static uint64_t
table_every_ms(void)
{
	uint32_t n = level0_tables(), many = (uint32_t) config.l0_slowdown, steps = n - many + 1;

	if (n < many)
		return 0;
	return QUIET_MS << (steps < PILED_STEPS ? steps : PILED_STEPS);
}

/* Should what is in memory go to a table now? Not over and over in small ones. */
static bool
want_table(uint64_t now_ms, bool just_full)
{
	static Lsn applied_before;
	static uint64_t quiet_since, last;
	Lsn applied = kvstore_applied();
	uint64_t every = table_every_ms();
	bool due;

	if (applied != applied_before) {
		applied_before = applied;
		quiet_since = now_ms;
	}
	due = just_full || now_ms - quiet_since >= QUIET_MS ||
		unflushed() >= (uint64_t) config.memtable_size / FREEZE_SHARE || (every > 0 && now_ms - last >= 2 * every);
	if (unflushed() == 0 || !due || (!just_full && now_ms - last < every))
		return false;
	last = now_ms;
	return true;
}

void
space_check(uint64_t now_ms)
{
	static uint64_t next;
	bool was = atomic_load(&kvs->no_space) != 0, full;
	uint64_t left, needed = (uint64_t) config.disk_reserve + unflushed();

	if (now_ms < next)
		return;
	next = now_ms + CHECK_MS;
	if (fs_free_space(".", &left) != ST_OK) {
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
		return;
	}
	full = left < needed + (was ? (uint64_t) config.memtable_size / HYSTERESIS : 0);
	atomic_store(&kvs->space_free, left);
	atomic_store(&kvs->space_needed, needed);
	if (full != was) {
		tell(full, left, needed);
		atomic_store(&kvs->full_since_ms, full ? clock_wall_ms() : 0);
	}
	if (full && want_table(now_ms, !was))
		atomic_store(&kvs->freeze_wanted, 1);
	atomic_store(&kvs->no_space, full);
}

/* ---- compaction worker */

uint64_t
space_room(void)
{
	bool full = atomic_load(&kvs->no_space) != 0;
	uint64_t segment = kvs->control.wal_segment_size, keep = segment + unflushed(), left;

	if (fs_free_space(".", &left) != ST_OK)
		return 0;
	/*
	 * The reserve is for what gives space back; before it is needed, half of it is left alone. The log's spare files
	 * are there by then, and those that are let go come back as new ones: one is kept room for.
	 */
	if (!full)
		keep += (uint64_t) config.wal_spare_segments * segment + (uint64_t) config.disk_reserve / 2;
	return left > keep ? left - keep : 1;
}

void
space_reclaimed(uint64_t before, uint64_t after)
{
	atomic_fetch_add(&kvs->reclaims, 1);
	if (before > after)
		atomic_fetch_add(&kvs->reclaimed_bytes, before - after);
}
