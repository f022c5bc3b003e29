/*
 * stats.c - the engine's figures, as name and value, for STATS.
 *
 * Run by any backend; reads counters without locks: each is right, together they are a moment apart.
 */
#include <stdio.h>

#include "ipc/epoch.h"
#include "ipc/shheap.h"
#include "kvstore_internal.h"

typedef struct Out {
	Status (*emit)(void *arg, const char *name, uint64_t value);
	void *arg;
} Out;

#define EMIT(o, name, value) KV_TRY((o)->emit((o)->arg, name, (uint64_t) (value)))

static Status
emit_cache(const Out *o)
{
	CacheStats c;

	cache_stats(&c);
	EMIT(o, "cache.bypassed", c.bypassed);
	EMIT(o, "cache.evictions", c.evictions);
	EMIT(o, "cache.frames_total", c.frames_total);
	EMIT(o, "cache.frames_used", c.frames_used);
	EMIT(o, "cache.hits", c.hits);
	EMIT(o, "cache.inserts", c.inserts);
	EMIT(o, "cache.misses", c.misses);
	return ST_OK;
}

/* Ratios times 100: figures are whole numbers. */
static Status
emit_level(const Out *o, const Version *v, const LsmStats *l, uint32_t level)
{
	uint64_t in = l->level_in[level], written = l->level_written[level];
	const struct { const char *name; uint64_t value; } figures[] = {
		{ "bytes", v->bytes[level] },
		{ "in", in },
		{ "reads", l->level_reads[level] },
		{ "score", (uint64_t) (lsm_score(v, level) * 100) },
		{ "tables", v->ntables[level] },
		{ "write_amplification", in > 0 ? (uint64_t) ((double) written * 100 / (double) in) : 0 },
		{ "written", written },
	};
	char name[64];

	for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
		snprintf(name, sizeof name, "level.%u.%s", level, figures[i].name);
		EMIT(o, name, figures[i].value);
	}
	return ST_OK;
}

static Status
emit_tables(const Out *o)
{
	const Version *v = read_superversion()->version;
	LsmStats l;
	LsmRunning r;

	lsm_stats(&l);
	lsm_running(&r);
	EMIT(o, "compaction.bytes_in", l.compact_bytes_in);
	EMIT(o, "compaction.bytes_out", l.compact_bytes_out);
	EMIT(o, "compaction.count", l.compactions);
	EMIT(o, "compaction.files_deleted", l.files_deleted);
	EMIT(o, "compaction.pending_bytes", lsm_pending_bytes(v));
	EMIT(o, "compaction.rewrites", l.rewrites);
	EMIT(o, "compaction.running_done", r.done);
	EMIT(o, "compaction.running_level", r.level);
	EMIT(o, "compaction.running_out", r.out);
	EMIT(o, "compaction.running_total", r.total);
	EMIT(o, "compaction.trivial_moves", l.trivial_moves);
	EMIT(o, "flush.bytes", l.flush_bytes);
	EMIT(o, "flush.count", l.flushes);
	for (uint32_t i = 0; i < LSM_LEVELS; i++)
		KV_TRY(emit_level(o, v, &l, i));
	return ST_OK;
}

static Status
emit_values(const Out *o)
{
	LsmValueStats v;
	LsmStats l;

	lsm_stats(&l);
	lsm_value_stats(read_superversion()->version, &v);
	EMIT(o, "values.bytes", v.bytes);
	EMIT(o, "values.files", v.files);
	EMIT(o, "values.live_bytes", v.live_bytes);
	EMIT(o, "values.relocated_bytes", l.relocated_bytes);
	return ST_OK;
}

static Status
emit_ranges(const Out *o)
{
	const Superversion *sv = read_superversion();
	LsmStats l;

	lsm_stats(&l);
	EMIT(o, "ranges.applied", atomic_load(&kvs->range_deletes));
	EMIT(o, "ranges.bytes_dropped", l.range_bytes);
	EMIT(o, "ranges.entries_dropped", l.range_entries);
	EMIT(o, "ranges.fragments", lsm_range_fragments(sv->version));
	EMIT(o, "ranges.kept", superversion_ranges(sv));
	EMIT(o, "ranges.kept_max", kvstore_ranges_max());
	EMIT(o, "ranges.retired", l.ranges_retired);
	EMIT(o, "ranges.tables_dropped", l.range_tables);
	return ST_OK;
}

static Status
emit_log(const Out *o)
{
	WalStats w;

	wal_stats(&w);
	EMIT(o, "log.applied", kvstore_applied());
	EMIT(o, "log.applied_ms", kvstore_applied_time());
	EMIT(o, "log.bytes", w.bytes);
	EMIT(o, "log.commit", wal_commit());
	EMIT(o, "log.durable", wal_durable());
	EMIT(o, "log.flush_bytes", w.flush_bytes);
	EMIT(o, "log.flush_ns", w.flush_ns);
	EMIT(o, "log.flush_ns_max", w.flush_ns_max);
	EMIT(o, "log.flushed", atomic_load(&kvs->flushed));
	EMIT(o, "log.flushes", w.flushes);
	EMIT(o, "log.inserted", wal_inserted());
	EMIT(o, "log.records", w.records);
	EMIT(o, "log.ring_full", w.ring_full);
	EMIT(o, "log.segments_created", w.segments_created);
	EMIT(o, "log.segments_inline", w.segments_inline);
	EMIT(o, "log.segments_recycled", w.segments_recycled);
	EMIT(o, "log.written", wal_written());
	return ST_OK;
}

static Status
emit_memtables(const Out *o)
{
	const Superversion *sv = read_superversion();

	EMIT(o, "memtable.active_bytes", memtable_used(sv->active));
	EMIT(o, "memtable.active_entries", memtable_count(sv->active));
	EMIT(o, "memtable.freezes", atomic_load(&kvs->freezes));
	EMIT(o, "memtable.frozen", sv->nfrozen);
	EMIT(o, "memtable.stalls", atomic_load(&kvs->stalls));
	EMIT(o, "metadata.bytes_total", shheap_total());
	EMIT(o, "metadata.bytes_used", shheap_used());
	EMIT(o, "snapshot.floor", atomic_load(&kvs->history_floor));
	EMIT(o, "snapshot.oldest_pin", epoch_min_version(kvstore_applied()));
	EMIT(o, "space.free", atomic_load(&kvs->space_free));
	EMIT(o, "space.full", atomic_load(&kvs->no_space));
	EMIT(o, "space.full_since_ms", atomic_load(&kvs->full_since_ms));
	EMIT(o, "space.needed", atomic_load(&kvs->space_needed));
	EMIT(o, "space.reclaimed_bytes", atomic_load(&kvs->reclaimed_bytes));
	EMIT(o, "space.reclaims", atomic_load(&kvs->reclaims));
	EMIT(o, "space.refused", atomic_load(&kvs->refused));
	EMIT(o, "write.conditions_failed", atomic_load(&kvs->condition_failures));
	EMIT(o, "write.no_space", atomic_load(&kvs->no_space));
	EMIT(o, "write.operations", atomic_load(&kvs->applied_ops));
	EMIT(o, "write.rate_limit", throttle_now());
	EMIT(o, "write.records", atomic_load(&kvs->applied_records));
	EMIT(o, "write.slowed", atomic_load(&kvs->throttle.slowed));
	EMIT(o, "write.slowed_us", atomic_load(&kvs->throttle.slowed_us));
	EMIT(o, "write.slowed_us_max", atomic_load(&kvs->throttle.slowed_us_max));
	return ST_OK;
}

static Status
emit_sessions(const Out *o, Snapshot *s)
{
	uint64_t open;

	KV_TRY(session_count(s, &open));
	EMIT(o, "session.open", open);
	EMIT(o, "session.refusals", atomic_load(&kvs->session_refusals));
	EMIT(o, "session.repeats", atomic_load(&kvs->session_repeats));
	return ST_OK;
}

Status
kvstore_stats(Status (*emit)(void *arg, const char *name, uint64_t value), void *arg)
{
	Out o = { emit, arg };
	Snapshot s;
	Status st;

	kvstore_begin_read(&s, 0);
	st = emit_cache(&o);
	if (st == ST_OK)
		st = emit_tables(&o);
	if (st == ST_OK)
		st = emit_values(&o);
	if (st == ST_OK)
		st = emit_ranges(&o);
	if (st == ST_OK)
		st = emit_log(&o);
	if (st == ST_OK)
		st = emit_memtables(&o);
	if (st == ST_OK)
		st = emit_sessions(&o, &s);
	kvstore_end_read();
	return st;
}
