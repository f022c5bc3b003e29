/*
 * background.c - one step of the compaction worker's and of the WAL writer's work.
 *
 * The compaction worker turns frozen memtables into tables before anything else, also in the middle of a long
 * compaction; it is the only process that makes Versions. The WAL writer keeps the path of a commit short: it
 * flushes what nobody waits for, makes log files ahead, syncs the durable mark, retires old log.
 */
#include <stdlib.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"
#include "port/clock.h"
#include "port/fs.h"

#define RETRY_US 1000          /* a publication waits for readers to let go: pins last a request */
#define PUBLISH_TRIES 60000    /* a minute of them, then something holds a pin for ever: stop */
#define COMPACT_WAIT_MS 1000   /* after a compaction without space, then twice as long each time, */
#define COMPACT_WAIT_MAX_MS 10000 /* up to this */
#define TELL_MS 60000          /* it is said so often at most */
#define FLUSH_WAIT_NS UINT64_C(250000000) /* after a flush without space: purge, reclaim and others come in between */
#define WALWRITER_LONG_MS 1000 /* sleep when idle; whoever commits wakes us */
#define WALWRITER_OTHERS_MS 1  /* somebody else is flushing, or still copying what could be flushed */
#define WALWRITER_SHORT_MS                                                                                   \
	20 /* sleep after work: bounds how far the durable mark is behind (rule L6: 50 ms) */

/* ---- compaction worker ------------------------------------------------ */

static const Version *newest; /* compaction worker: the one that readers have */

Status
kvstore_compactor_open(void)
{
	union {
		const Version *in;
		Version *out;
	} v = { superversion_version() };

	newest = v.out;
	return lsm_writer_open(v.out);
}

/* Smallest snapshot anyone may still ask for. */
static Lsn
oldest_snapshot(void)
{
	Lsn floor = atomic_load(&kvs->history_floor);
	Lsn applied = kvstore_applied();

	return epoch_min_version(floor < applied ? floor : applied);
}

/* Readers switch to v; the Version before it is let go. */
static Status
publish(Version *v, bool flushed)
{
	union {
		const Version *in;
		Version *out;
	} old = { superversion_version() };

	for (int i = 0; superversion_publish(v, flushed) == ST_BUSY; i++) {
		if (i == PUBLISH_TRIES)
			return status_fail(ST_INTERNAL, "all %d superversions are pinned for a minute", SUPERVERSIONS);
		procslot_sleep(procslot_prepare_sleep(), RETRY_US);
	}
	newest = v;
	throttle_level0(v);
	lsm_retire(old.out);
	return ST_OK;
}

static void
unstall(void)
{
	if (atomic_exchange(&kvs->stalled, 0) != 0) {
		procslot_wake(PROC_REPLAY);
		commit_wake_all();
	}
}

static Status
write_out(const MemSlot *m, Version **v)
{
	LsmState state = { m->end, m->end_term, m->end_time };
	RangeDelete ranges[MEMTABLE_RANGES_MAX];
	uint32_t n = memtable_ranges(m->table);
	Iter *it = memtable_iter(m->table);
	Status st;

	if (it == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory writing a memtable out");
	for (uint32_t i = 0; i < n; i++)
		memtable_range(m->table, i, &ranges[i]);
	st = lsm_flush_ranges(it, ranges, n, &state, oldest_snapshot(), v);
	iter_close(it);
	return st;
}

/*
 * Oldest frozen memtable -> table. *did false: there is none. One that found no space is not tried again at once,
 * however often those who wait for it wake us.
 */
static Status
flush_oldest(bool *did)
{
	static uint64_t not_before_ns;
	MemSlot m;
	uint64_t began;
	Version *v;
	Status st;

	*did = superversion_oldest_frozen(&m);
	if (!*did)
		return ST_OK;
	if (not_before_ns != 0 && clock_mono_ns() < not_before_ns) {
		*did = false;
		return ST_OK;
	}
	/* Rule L9: tables never run ahead of what is durable here. Alone it always is; else the flusher wakes us. */
	if (wal_durable() < m.end) {
		atomic_store(&kvs->flush_waits, 1);
		atomic_thread_fence(memory_order_seq_cst);
		*did = wal_durable() >= m.end;
		if (!*did)
			return ST_OK;
	}
	began = clock_mono_ns();
	st = write_out(&m, &v);
	not_before_ns = st == ST_NO_SPACE ? clock_mono_ns() + FLUSH_WAIT_NS : 0;
	KV_TRY(st);
	KV_TRY(publish(v, true));
	throttle_flushed(atomic_load(&kvs->flushed), m.end, clock_mono_ns() - began);
	atomic_store(&kvs->flushed_term, m.end_term);
	atomic_store(&kvs->flushed, m.end);
	superversion_reclaim();
	unstall();
	commit_poke_walwriter(); /* log below may go now */
	return ST_OK;
}

static bool
between_blocks(void *arg)
{
	Status *failed = arg;
	bool did = true;

	while (*failed == ST_OK && did)
		*failed = flush_oldest(&did);
	if (*failed == ST_NO_SPACE)
		*failed = ST_OK; /* what is under way may bring some back */
	/* What the flushes replaced: lists that are not let go during a long compaction could fill the heap. */
	if (*failed == ST_OK)
		*failed = lsm_collect();
	if (superversion_reclaim())
		unstall();
	throttle_level0(newest);
	return *failed != ST_OK;
}

/*
 * Expired is what had expired when the tables end, not what has by now: the log behind them may be replayed, from that
 * time on, and must meet the values that it met before (rule A4). Nor what had not when the replicas are to be compared
 * as of an earlier moment: the flushed time is taken before looking for that, so a later one has a later time.
 */
static uint64_t
expired_by(void)
{
	uint64_t flushed = superversion_version()->flushed_time, hash;
	Lsn lsn;

	return kvstore_hash_wanted(&lsn, &hash) && hash < flushed ? hash : flushed;
}

static LsmCompactOptions
compact_options(Status *failed)
{
	return (LsmCompactOptions){ .oldest = oldest_snapshot(), .now_ms = expired_by(), .between = between_blocks,
								.between_arg = failed, .room = space_room() };
}

/* down NULL: what is most urgent. */
static Status
compact(const LsmDown *down, bool *did)
{
	Status failed = ST_OK;
	LsmCompactOptions opt = compact_options(&failed);
	Version *v = NULL;
	Status st = down != NULL ? lsm_compact_down(&opt, down, &v) : lsm_compact(&opt, &v);

	KV_TRY(failed);
	KV_TRY(st);
	*did = v != NULL;
	if (v != NULL)
		KV_TRY(publish(v, false));
	throttle_drained(v == NULL);
	return ST_OK;
}

static Status
purge(bool *did)
{
	Lsn oldest = oldest_snapshot();
	Version *v;

	range_ask_for_flush(oldest);
	KV_TRY(range_purge(oldest, &v));
	*did = v != NULL;
	return v != NULL ? publish(v, false) : ST_OK;
}

/* The disk is full: get back what deletes and overwrites hide, a table at a time. *did: there may be more. */
static Status
reclaim(bool *did)
{
	Status failed = ST_OK;
	LsmCompactOptions opt = compact_options(&failed);
	uint64_t before = lsm_bytes(superversion_version());
	Version *v = NULL;
	Status st = lsm_reclaim(&opt, &v, did);

	KV_TRY(failed);
	KV_TRY(st);
	if (v == NULL)
		return ST_OK;
	space_reclaimed(before, lsm_bytes(v));
	return publish(v, false);
}

/*
 * One that finds no space is not tried again at once, and said once a minute at most: what fits goes on in between,
 * and only space helps.
 */
static Status
compact_if_room(bool *did)
{
	static uint64_t next_ms, wait_ms; /* 0: the last one found room */
	static uint64_t told_ms;
	static bool told;
	uint64_t now_ms = clock_mono_ns() / 1000000;
	Status st;

	*did = false;
	if (now_ms < next_ms)
		return ST_OK;
	st = compact(NULL, did);
	if (st == ST_OK && *did) {
		if (told)
			elog(LOG_LEVEL_LOG, "compaction has space again");
		told = false;
		wait_ms = 0;
	}
	if (st != ST_NO_SPACE)
		return st;
	if (!told && (told_ms == 0 || now_ms - told_ms >= TELL_MS)) {
		elog(LOG_LEVEL_WARNING, "compaction waits for space: %s", status_detail());
		told = true;
		told_ms = now_ms;
	}
	wait_ms = wait_ms == 0 ? COMPACT_WAIT_MS : wait_ms < COMPACT_WAIT_MAX_MS / 2 ? 2 * wait_ms : COMPACT_WAIT_MAX_MS;
	next_ms = now_ms + wait_ms;
	return ST_OK;
}

/*
 * Everything, on request: a step of it, then one of what is due, in turns, so that neither waits for all of the other.
 * Requests that come meanwhile are the next one's.
 */
static Status
compact_on_request(bool *did)
{
	static bool under_way, due_next;
	static uint32_t request;
	static LsmDown down;
	uint32_t wanted = atomic_load(&kvs->compact_wanted);

	*did = false;
	if (!under_way && wanted == atomic_load(&kvs->compact_done))
		return ST_OK;
	if (!under_way) {
		under_way = true;
		request = wanted;
		down = lsm_down_begin();
	}
	due_next = !due_next;
	if (!due_next) {
		KV_TRY(compact_if_room(did));
		if (*did)
			return ST_OK;
	}
	KV_TRY(compact(&down, did));
	if (!*did) {
		under_way = false;
		atomic_store(&kvs->compact_done, request);
		commit_wake_all();
		*did = true;
	}
	return ST_OK;
}

/* What may bring space back, or is otherwise less urgent than a flush. */
static Status
after_flush(bool *did)
{
	KV_TRY(purge(did));
	if (!*did && atomic_load(&kvs->no_space))
		KV_TRY(reclaim(did));
	if (!*did)
		KV_TRY(compact_on_request(did));
	return *did ? ST_OK : compact_if_room(did);
}

Status
kvstore_compactor_step(bool *did)
{
	char why[STATUS_DETAIL_MAX];
	Status flushed;

	if (superversion_reclaim())
		unstall();
	KV_TRY(lsm_collect());
	flushed = flush_oldest(did);
	if (flushed == ST_OK)
		return *did ? ST_OK : after_flush(did);
	*did = false;
	if (flushed != ST_NO_SPACE)
		return flushed;
	snprintf(why, sizeof why, "%s", status_detail());
	KV_TRY(after_flush(did));
	return *did ? ST_OK : status_fail(ST_NO_SPACE, "%s", why);
}

/* ---- WAL writer --------------------------------------------------------- */

/* Snapshots below `to` are gone; but not those below which the replicas are being compared. */
static void
raise_history_floor(Lsn to)
{
	Lsn hash = atomic_load(&kvs->hash_lsn);

	if (hash != 0 && hash < to)
		to = hash;
	if (to > atomic_load(&kvs->history_floor))
		atomic_store(&kvs->history_floor, to);
}

/* Sample (time, applied); the floor is what was applied snapshot_retention ago. */
static void
move_history_floor(uint64_t now_ms)
{
	uint64_t keep = (uint64_t) config.snapshot_retention;
	uint64_t step = keep / (HISTORY_SAMPLES / 2);
	int n = kvs->history_count, old = 0;

	if (atomic_load(&kvs->no_space))
		raise_history_floor(kvstore_applied()); /* what they keep is what the disk lacks (space.c) */
	if (n > 0 && now_ms < kvs->history[n - 1].mono_ms + step)
		return;
	while (old < n && kvs->history[old].mono_ms + keep <= now_ms)
		old++;
	if (old > 0)
		raise_history_floor(kvs->history[old - 1].applied);
	if (n == HISTORY_SAMPLES && old == 0)
		return; /* retention was raised: samples are spaced too densely; wait until the oldest may go */
	memmove(kvs->history, kvs->history + old, (size_t) (n - old) * sizeof kvs->history[0]);
	kvs->history[n - old].mono_ms = now_ms;
	kvs->history[n - old].applied = kvstore_applied();
	kvs->history_count = n - old + 1;
}

/* The log from here on is needed by a process that serves it; at most `limit`. */
static Lsn
oldest_hold(Lsn limit)
{
	for (int i = 0; i < kvs->nslots; i++) {
		Lsn hold = atomic_load(&kvs->hold[i]);

		if (hold != 0 && hold < limit)
			limit = hold;
	}
	return limit;
}

/*
 * The log below this is of no use: tables have it, wal_keep and followers (up to wal_keep_max) don't ask
 * for it. Where the disk is full, followers get tables instead.
 */
static Lsn
retire_target(void)
{
	Lsn flushed = atomic_load(&kvs->flushed), written = wal_written(), needed = atomic_load(&kvs->keep_log);
	uint64_t keep = (uint64_t) config.wal_keep, most = (uint64_t) config.wal_keep_max;
	Lsn below = flushed > keep ? flushed - keep : 0, least = written > most ? written - most : 0;

	if (atomic_load(&kvs->no_space))
		return oldest_hold(flushed);
	if (needed < least)
		needed = least;
	return oldest_hold(below < needed ? below : needed);
}

/*
 * How many files are kept ahead of the log's end when it lets go of old ones: as many as it lets go of with a memtable,
 * besides the spare ones. To make one costs as much as to write it full. On a full disk none is kept from then on.
 */
static int
files_ahead(void)
{
	uint64_t memtable = (uint64_t) config.memtable_size / kvs->control.wal_segment_size;

	return (int) config.wal_spare_segments + (atomic_load(&kvs->no_space) ? 0 : (int) memtable + 1);
}

static Status
retire_log(void)
{
	uint64_t segment = kvs->control.wal_segment_size;
	Lsn old = atomic_load(&kvs->log_floor), below = retire_target() / segment * segment;

	if (below <= old)
		return ST_OK;
	/* Who wants to hold it from now on sees that it is going; who did so before is seen (kvstore_hold_log()). */
	atomic_store(&kvs->log_floor, below);
	below = oldest_hold(below) / segment * segment;
	if (below < old)
		below = old;
	atomic_store(&kvs->log_floor, below);
	return below > old ? wal_retire_segments(below, files_ahead()) : ST_OK;
}

/* Freezing on request is done by whoever applies: be that one, unless there is one. */
static void
try_freeze(void)
{
	bool moved;

	if (apply_committed(&moved))
		commit_wake();
}

/* Nobody fills the memtable, but the log grows: ask for a flush all the same. */
static void
bound_log(void)
{
	uint64_t ahead = kvstore_applied() - atomic_load(&kvs->flushed);

	if (ahead > (uint64_t) config.memtable_size * LOG_AHEAD_MEMTABLES || atomic_load(&kvs->freeze_wanted))
		try_freeze();
}

/* The consensus worker may not wait for the disk: it asks us to cut the log. */
static Status
serve_truncate(void)
{
	bool did;

	KV_TRY(wal_serve_truncate(&did));
	if (did) {
		procslot_wake(PROC_CONSENSUS);
		commit_wake_all(); /* who waits for a position that is gone (rule G3) */
	}
	return ST_OK;
}

/*
 * What nobody waits for; on a follower all that it was sent, which its acknowledgement waits for. While much of it
 * comes in, the replay process applies it, so that this one can go on writing and syncing.
 */
static bool
flush_unwaited(void)
{
	if (!wal_alone())
		return commit_flush(wal_inserted());
	if (wal_commit() - kvstore_applied() >= APPLY_PIECE)
		procslot_wake(PROC_REPLAY);
	return commit_work(wal_inserted());
}

/* On a follower nobody else flushes: what came while we were busy can't wait for the end of a nap. */
static bool
append_unflushed(void)
{
	return !wal_alone() && !wal_generation_open(wal_generation()) && !wal_out_of_space() &&
		   (wal_durable() < wal_inserted() || wal_truncate_pending());
}

/* Both do a piece at a time: is there more? */
static bool
backlog(void)
{
	Lsn done = wal_alone() ? kvstore_applied() : wal_durable(); /* read first: it never overtakes what is inserted */

	return wal_inserted() >= done + APPLY_PIECE;
}

/* The flag is raised: whoever inserted, or flushed for himself, before he could see it, is looked for once more. */
static uint32_t
idle_nap(Lsn durable_before)
{
	bool slow;

	if (wal_durable() < wal_reserved())
		return kvstore_flush_busy() || wal_inserted() == wal_durable() ? WALWRITER_OTHERS_MS : 0;
	return delegate_oldest(&slow) != 0 || wal_durable() != durable_before ? 0 : WALWRITER_LONG_MS;
}

Status
kvstore_walwriter_step(uint32_t *sleep_ms)
{
	uint64_t now_ms = clock_mono_ns() / 1000000;
	static Lsn durable_before;
	bool prepared, marked, slow, flushed, worked;

	atomic_store(&kvs->walwriter_idle, 0);
	KV_TRY(serve_truncate());
	worked = flushed = flush_unwaited();
	procslot_reap(kvstore_slot_cleared);
	delegate_collect();
	worked |= commit_serve_delegated();
	bound_log();
	replica_drop_unclaimed_hash();
	space_check(now_ms);
	move_history_floor(now_ms);
	KV_TRY(retire_log()); /* what is let go saves making new ones */
	KV_TRY(wal_prepare_segments((int) config.wal_spare_segments, &prepared));
	KV_TRY(wal_update_mark(&marked));
	*sleep_ms = WALWRITER_SHORT_MS;
	/* While others commit, a nap is enough: being woken by each of them would cost them a system call. */
	worked |= durable_before != wal_durable();
	durable_before = wal_durable();
	if (delegate_oldest(&slow) != 0 || append_unflushed() || (flushed && backlog()) || prepared) {
		*sleep_ms = 0;
	} else if (!worked && !prepared && !marked && !slow && !wal_out_of_space()) {
		atomic_store(&kvs->walwriter_idle, 1);
		*sleep_ms = idle_nap(durable_before);
	}
	return ST_OK;
}

/* ---- on command -------------------------------------------------------- */

/* Poll a condition that the compaction worker brings about; it wakes us, the poll is the safety net. */
static Status
wait_compactor(bool (*done)(uint64_t arg), uint64_t arg, int timeout_ms, const char *what)
{
	uint64_t deadline = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;

	while (!done(arg)) {
		if (clock_mono_ns() > deadline)
			return status_fail(ST_TIMEOUT, "%s did not end within %d ms; it goes on", what, timeout_ms);
		procslot_wake(PROC_COMPACTOR);
		procslot_sleep(procslot_prepare_sleep(), RETRY_US);
		if (atomic_load(&kvs->freeze_wanted))
			try_freeze();
	}
	return ST_OK;
}

static bool
is_flushed(uint64_t lsn)
{
	return atomic_load(&kvs->flushed) >= lsn;
}

static bool
is_compacted(uint64_t ticket)
{
	return (int32_t) (atomic_load(&kvs->compact_done) - (uint32_t) ticket) >= 0;
}

Status
kvstore_checkpoint(int timeout_ms)
{
	Lsn target = kvstore_applied();

	if (is_flushed(target))
		return ST_OK;
	atomic_store(&kvs->freeze_wanted, 1);
	try_freeze();
	return wait_compactor(is_flushed, target, timeout_ms, "writing the memtables out");
}

Status
kvstore_compact(int timeout_ms)
{
	uint32_t ticket = atomic_fetch_add(&kvs->compact_wanted, 1) + 1;

	return wait_compactor(is_compacted, ticket, timeout_ms, "compaction");
}
