/*
 * wal_flush.c - flush ownership: ring to files, sync, and truncation, which must not happen beside a sync.
 *
 * Runs in whoever waits for a position (PostgreSQL's XLogFlush): one process at a time holds WAL_FLUSH and
 * does it for all; no timers. A process that dies with it restarts the node, so written equals durable
 * whenever the lock is free, and taking over starts at durable (L7).
 *
 * 1. Only the holder of WAL_FLUSH publishes written and durable (L3).
 * 2. durable is published after fdatasync() of every segment that holds bytes below it. Any failure there is
 *    a panic: after a failed sync nobody knows what is on disk, and a second one would lie.
 * 3. Only making a segment may fail for lack of space; it is tried before anything is written.
 */
#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/latency.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/park.h"
#include "wal_internal.h"

/*
 * Rounds of waiting for inserters that are copying, when nothing could be written otherwise: some
 * microseconds.
 */
#define STRAGGLER_SPINS 200

static void
store_release(_Atomic uint64_t *p, uint64_t v)
{
	atomic_store_explicit(p, v, memory_order_release);
}

/* End of what is complete; if that is nothing new while somebody is inserting, wait a moment for it. */
static Lsn
flush_target(Lsn written)
{
	Lsn target = wal_inserted();

	for (int i = 0; i < STRAGGLER_SPINS && target == written; i++) {
		if (wal_reserved() == written)
			break;
		park_relax();
		target = wal_inserted();
	}
	return target;
}

/* End of the record at `at`, which is complete in the ring. */
static Lsn
record_end(Lsn at)
{
	uint8_t raw[WAL_HEADER_SIZE];
	WalHeader h;

	wal_ring_copy_out(at, raw, sizeof raw);
	wal_header_decode(raw, &h);
	KV_ASSERT(h.lsn == at);
	return at + wal_record_size(h.length - WAL_HEADER_SIZE);
}

/* Last record boundary in [from, to] that is at most `limit`; records there are complete in the ring. */
static Lsn
boundary_below(Lsn from, Lsn to, Lsn limit)
{
	while (from < to) {
		Lsn end = record_end(from);

		if (end > limit)
			break;
		from = end;
	}
	return from;
}

/* Files for [from, to): makes what is missing. No space: as far as there are files. */
static Lsn
flush_limit(Lsn from, Lsn to)
{
	uint64_t segment = wal_segment_of(to - 1);
	Status s = wal_segment_ensure(segment);

	if (s == ST_OK)
		return to;
	if (s != ST_NO_SPACE)
		elog_panic("the log cannot go on: %s", status_detail());
	return boundary_below(from, to, (atomic_load(&wal_sh->last_segment) + 1) * wal_sh->segment_size);
}

/* The part of [from, to) in from's segment, to its file. Returns where the part ends. */
static Lsn
write_part(Lsn from, Lsn to)
{
	Lsn end = (wal_segment_of(from) + 1) * wal_sh->segment_size;
	struct iovec iov[2];
	int fd, n;

	if (end > to)
		end = to;
	n = wal_ring_iov(from, end, iov);
	if (wal_segment_fd(wal_segment_of(from), &fd) != ST_OK ||
		fs_pwritev(fd, iov, n, from % wal_sh->segment_size) != ST_OK)
		elog_panic("cannot write the log at position %llu: %s", (unsigned long long) from, status_detail());
	return end;
}

static void
sync_part(Lsn from, Lsn to)
{
	if (wal_segment_sync(from, to) != ST_OK)
		elog_panic("cannot sync the log at position %llu: %s", (unsigned long long) from, status_detail());
}

static void
count_flush(uint64_t began, uint64_t bytes)
{
	uint64_t now = clock_mono_ns(), took = now - began;
	WalShared *s = wal_sh;

	/* One writer at a time, the lock's holder. */
	store_release(&s->last_flush_ns, now);
	store_release(&s->flushes, atomic_load_explicit(&s->flushes, memory_order_relaxed) + 1);
	store_release(&s->flush_bytes, atomic_load_explicit(&s->flush_bytes, memory_order_relaxed) + bytes);
	store_release(&s->flush_ns, atomic_load_explicit(&s->flush_ns, memory_order_relaxed) + took);
	if (took > atomic_load_explicit(&s->flush_ns_max, memory_order_relaxed))
		store_release(&s->flush_ns_max, took);
	latency_add(LATENCY_LOG_SYNC, took);
}

static void
commit_alone(void)
{
	Lsn limit = atomic_load(&wal_sh->alone_limit), durable = wal_durable();

	wal_raise_commit(durable < limit ? durable : limit); /* limit 0 raises nothing */
}

/* Of a long backlog the first piece (wal.h). */
static Lsn
flush_piece(Lsn from, Lsn to)
{
	Lsn end;

	if (to - from <= WAL_FLUSH_PIECE)
		return to;
	end = boundary_below(from, to, from + WAL_FLUSH_PIECE);
	return end > from ? end : record_end(from);
}

/* REQUIRES WAL_FLUSH. False: nothing was written. */
static bool
flush_locked(void)
{
	Lsn from = wal_durable(), to = flush_piece(from, flush_target(from)), at = from, part = from;
	uint64_t began;

	KV_ASSERT(wal_written() == from);
	if (to == from)
		return false;
	to = flush_limit(from, to);
	if (to == from)
		return false;
	wal_mark_keep_near(to);
	began = clock_mono_ns();
	while (at < to) {
		if (part < at)
			sync_part(part, at); /* leaving a segment */
		part = at;
		at = write_part(at, to);
	}
	store_release(&wal_sh->written, to);
	sync_part(part, to);
	store_release(&wal_sh->durable, to);
	commit_alone();
	count_flush(began, to - from);
	return true;
}

bool
wal_flush(void)
{
	bool did;

	if (!lwlock_try(LWLOCK_WAL_FLUSH, 0))
		return false;
	did = flush_locked();
	lwlock_release(LWLOCK_WAL_FLUSH, 0);
	return did;
}

bool
wal_alone(void)
{
	return atomic_load_explicit(&wal_sh->alone_limit, memory_order_relaxed) == UINT64_MAX;
}

void
wal_set_alone_limit(Lsn limit)
{
	lwlock_acquire(LWLOCK_WAL_FLUSH, 0); /* no flusher is between reading the old limit and raising commit */
	KV_ASSERT(!wal_generation_open(wal_generation()));
	atomic_store(&wal_sh->alone_limit, limit);
	commit_alone();
	lwlock_release(LWLOCK_WAL_FLUSH, 0);
}

/* ---- truncation (L3) */

/*
 * Make sure that a scan ends at `to`: zero the header that was there. (Without it the old records would
 * come back if the node went down before new ones are written over them. That would be safe, they are
 * truncated again, but it is needless.)
 */
static void
erase_header(Lsn to, Lsn old_end)
{
	static const uint8_t zero[WAL_HEADER_SIZE];
	uint64_t len = old_end - to < WAL_HEADER_SIZE ? old_end - to : WAL_HEADER_SIZE;

	if (len == 0)
		return;
	if (wal_segment_write(to, slice_of(zero, (size_t) len)) != ST_OK)
		elog_panic("cannot cut the log at position %llu: %s", (unsigned long long) to, status_detail());
	sync_part(to, to + len);
}

static void
check_truncate(Lsn to)
{
	Lsn end = wal_reserved();
	Buf scratch = { 0 };
	WalRecord r;

	KV_ASSERT(!wal_generation_open(wal_generation()) && wal_inserting_slot() < 0);
	KV_ASSERT(to >= atomic_load(&wal_sh->released)); /* applied <= commit */
	KV_ASSERT(to % 8 == 0 && to >= wal_commit() && to <= end && to >= wal_sh->first_lsn);
	if (to < end && wal_ring_read(to, &scratch, &r) == ST_OK)
		KV_ASSERT(r.header.lsn == to); /* a record boundary */
	buf_free(&scratch);
}

/* REQUIRES WAL_FLUSH and WAL_SEGMENT. */
static Status
truncate_locked(Lsn to)
{
	WalShared *s = wal_sh;
	WalMark m = s->mark;
	Lsn old_written = wal_written(), base = atomic_load(&s->ring_base);
	uint64_t w = atomic_load(&s->reserve);
	Lsn pos = wal_word_pos(w);

	m.epoch++;
	if (m.durable > to)
		m.durable = to;
	KV_TRY(wal_mark_write(&m));
	/* What is overwritten stays so when the position falls; by the rule of room all of it is applied. */
	if (pos > s->ring_bytes && base < pos - s->ring_bytes)
		atomic_store(&s->ring_base, base = pos - s->ring_bytes);
	/* A generation of its own: marks of inserters that never reserved do not count any more (wal_ring.c). */
	atomic_fetch_add(&s->bytes_cut, pos - to);
	KV_ASSERT(atomic_compare_exchange_strong(&s->reserve, &w, wal_word(wal_word_generation(w) + 2, to)));
	if (base > to)
		atomic_store(&s->ring_base, to);
	if (old_written > to) {
		store_release(&s->durable, to); /* durable <= written at every moment */
		store_release(&s->written, to);
		erase_header(to, old_written);
	}
	wal_terms_cut(to);
	return ST_OK;
}

Status
wal_truncate(Lsn to)
{
	Status s;

	lwlock_acquire(LWLOCK_WAL_FLUSH, 0);
	check_truncate(to);
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0);
	s = truncate_locked(to);
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
	lwlock_release(LWLOCK_WAL_FLUSH, 0);
	return s;
}

void
wal_request_truncate(Lsn to)
{
	uint64_t none = 0;

	KV_ASSERT(!wal_generation_open(wal_generation()) && to >= wal_commit());
	KV_ASSERT(atomic_compare_exchange_strong(&wal_sh->truncate_to, &none, to)); /* one at a time */
	procslot_wake(PROC_WALWRITER);
}

bool
wal_truncate_pending(void)
{
	return atomic_load(&wal_sh->truncate_to) != 0;
}

Status
wal_serve_truncate(bool *did)
{
	Lsn to = atomic_load(&wal_sh->truncate_to);

	*did = false;
	if (to == 0)
		return ST_OK;
	KV_TRY(wal_truncate(to));
	atomic_store(&wal_sh->truncate_to, 0);
	*did = true;
	return ST_OK;
}
