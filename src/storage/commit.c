/*
 * commit.c - a write's way through the log: insert, flush, apply, wake.
 *
 * Run by backends (and the WAL writer for work nobody waits for). The waiting process does the work itself,
 * for all who wait: whoever finds the flush free writes and syncs everything inserted, whoever finds
 * APPLY free applies
 * everything committed; the others sleep and are woken when their position is reached. No timer.
 *
 * No lost wake-up (rule A2): a waiter stores want[] before it tries the locks, and before sleeping looks once
 * more whether its position is reached or a lock it needs is free. Who gives a lock back scans want[]
 * after that, and
 * wakes whoever is satisfied and, if work is left, one of those who are not. Every sleep ends within a second.
 *
 * In a cluster commit is the consensus worker's: it is woken by every insertion (to send) and by every flush (to
 * count, or to acknowledge), and calls kvstore_commit_moved(). Until then a waiter whose bytes are durable has
 * nothing to do and sleeps. What nobody waits for is applied by the replay process there.
 */
#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"
#include "port/clock.h"

#define SLEEP_US UINT64_C(1000000) /* rule P2: every sleep re-checks within a second */
#define STALL_SLEEP_US                                                                                       \
	UINT64_C(2000) /* waiting for a memtable or ring room, which nobody signals to us alone */
/* Waiting for the log to be less far ahead: some hundred kilobytes' work of others. */
#define UNWAITED_SLEEP_US UINT64_C(1000)
/* With the longest pause that throttle.c has for small writes still no stop that anybody would notice. */
#define UNWAITED_PAUSE_NS UINT64_C(20000000)
/* For a process that was preempted while it copied its record: going round would only keep the CPU from it. */
#define STRAGGLER_US UINT64_C(100)
/* How long the WAL writer serves delegated replies before it looks after its other duties (rule L6: 50 ms). */
#define DELEGATED_NS UINT64_C(20000000)
#define TIME_WAIT_MS 5000 /* for a TIME record: ring room, which may be of the reserve, then a majority */

/* Has the position been reached that this want word stands for? */
static bool
want_reached(uint64_t want)
{
	if (want & WANT_LOCAL)
		return wal_durable() >= (want & ~WANT_FLAGS);
	return atomic_load_explicit(&kvs->applied, memory_order_acquire) >= (want & ~WANT_FLAGS);
}

/* Is there something committed to apply, and could anybody do it? */
static bool
apply_free(void)
{
	return kvstore_applied() < wal_commit() && atomic_load(&kvs->stalled) == 0 &&
		   !lwlock_held(LWLOCK_APPLY, 0) && !apply_below_ring();
}

/* Could this process do something for its position right now? Asked between preparing to sleep and sleeping. */
static bool
work_free(Lsn end)
{
	if (wal_durable() < end) {
		if (!wal_out_of_space() && !lwlock_held(LWLOCK_WAL_FLUSH, 0))
			return true;
		if (wal_alone())
			return false; /* nothing is committed that the flusher does not apply next */
	}
	return apply_free();
}

void
commit_wake(void)
{
	int next = -1, high = procslot_high_water();

	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0; i < high; i++) {
		uint64_t want = atomic_load_explicit(&kvs->want[i], memory_order_relaxed);

		if (want == 0 || i == my_slot_no)
			continue;
		if (want_reached(want))
			procslot_wake(i);
		else if (next < 0 && !(want & WANT_WATCH) && work_free(want & ~WANT_FLAGS))
			next = i;
	}
	if (next >= 0)
		procslot_wake(next);
	else if (!wal_alone() && my_slot_no != PROC_REPLAY && apply_free())
		procslot_wake(PROC_REPLAY); /* it may have found the lock held (rule A2) */
}

void
commit_wake_all(void)
{
	int high = procslot_high_water();

	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0; i < high; i++)
		if (atomic_load_explicit(&kvs->want[i], memory_order_relaxed) != 0)
			procslot_wake(i);
}

void
commit_poke_walwriter(void)
{
	/* In one order with the reservation before it: the WAL writer raises the flag, then looks at what is reserved. */
	if (atomic_load(&kvs->walwriter_idle) == 0)
		return;
	if (atomic_exchange(&kvs->walwriter_idle, 0) != 0)
		procslot_wake(PROC_WALWRITER);
}

/* Flush if `end` is not durable yet. True: something was; then commit_wake() has to follow. */
static bool
flush_up_to(Lsn end)
{
	if (wal_durable() >= end || !wal_flush())
		return false;
	if (!wal_alone())
		procslot_wake(PROC_CONSENSUS);
	atomic_thread_fence(memory_order_seq_cst); /* it raises the flag, then looks at durable (rule L9) */
	if (atomic_load_explicit(&kvs->flush_waits, memory_order_relaxed) != 0 &&
		atomic_exchange(&kvs->flush_waits, 0) != 0)
		procslot_wake(PROC_COMPACTOR);
	return true;
}

bool
commit_flush(Lsn end)
{
	bool flushed = flush_up_to(end);

	if (flushed)
		commit_wake();
	return flushed;
}

bool
commit_work(Lsn end)
{
	bool flushed = flush_up_to(end), held = false, moved = false;

	if (atomic_load_explicit(&kvs->applied, memory_order_acquire) < wal_commit())
		held = apply_committed(&moved);
	if (flushed || held)
		commit_wake();
	return flushed || moved;
}

typedef struct Wait {
	uint64_t want;
	Lsn start;           /* of the record, */
	uint64_t term;       /* its term, */
	uint32_t generation; /* and the gate's when it was inserted */
	uint64_t until_ns;   /* for others to agree; 0 not bounded: the own disk is all that is waited for */
	uint64_t after_ms;   /* so long at most once the gate has closed */
	bool closed;         /* it was seen to have closed: until_ns says how long to go on */
} Wait;

/*
 * Rule G3: what becomes of a record whose gate has closed is up to the next leader, and as a rule that has it and
 * commits it soon. So a strong wait goes on while the record is in the log; once it is cut off here, waiting tells
 * nothing. What is committed is only still to be applied.
 */
static bool
hopeless(Wait *w)
{
	Lsn end = w->want & ~WANT_FLAGS;
	uint64_t now;

	if (!w->closed && wal_generation() == w->generation && w->until_ns == 0)
		return false;
	now = clock_mono_ns();
	if (!w->closed && wal_generation() != w->generation) {
		w->closed = true;
		if (w->until_ns == 0 || w->until_ns > now + w->after_ms * 1000000)
			w->until_ns = now + w->after_ms * 1000000;
	}
	if (wal_commit() >= end)
		return false;
	if (w->closed && ((w->want & WANT_LOCAL) || wal_inserted() < end || wal_term_at(w->start) != w->term))
		return true;
	return now >= w->until_ns;
}

static Status
outcome_unknown(const Wait *w)
{
	return status_fail(ST_OUTCOME_UNKNOWN, w->closed ? "leadership changed while the write was under way"
													 : "no majority has the write within the request's time");
}

/* Until something happens, or time is over. */
static uint64_t
nap_of(const Wait *w)
{
	uint64_t most = atomic_load(&kvs->stalled) ? STALL_SLEEP_US : SLEEP_US, now;

	if (w->until_ns == 0)
		return most;
	now = clock_mono_ns();
	if (now >= w->until_ns)
		return most; /* it is committed, or hopeless() had said so */
	return (w->until_ns - now) / 1000 + 1 < most ? (w->until_ns - now) / 1000 + 1 : most;
}

/* Nobody flushes, since the record before what could be flushed is still being copied. */
static bool
straggler(Lsn end)
{
	return wal_durable() < end && wal_inserted() == wal_durable() && !apply_free();
}

/* Sleep until the wait is worth another look. False: it is hopeless. */
static bool
sleep_on(Wait *w)
{
	uint32_t token = procslot_prepare_sleep();
	bool lost = false, look = want_reached(w->want);

	/* All that ends the wait is looked at between preparing and sleeping; with a closed gate others do the work. */
	if (!look) {
		lost = hopeless(w);
		look = lost || (!w->closed && work_free(w->want & ~WANT_FLAGS));
	}
	if (look && !lost && straggler(w->want & ~WANT_FLAGS) && !want_reached(w->want))
		procslot_sleep(token, STRAGGLER_US);
	else if (look)
		procslot_cancel_sleep();
	else
		procslot_sleep(token, nap_of(w));
	return !lost;
}

/* Wait until w->want is reached. OUTCOME_UNKNOWN: that cannot be told, or not in time. */
static Status
wait_for(Wait *w)
{
	bool lost = false;

	atomic_store(&kvs->want[my_slot_no], w->want);
	while (!want_reached(w->want) && !lost) {
		lost = hopeless(w);
		if (!lost && !commit_work(w->want & ~WANT_FLAGS))
			lost = !sleep_on(w);
	}
	atomic_store(&kvs->want[my_slot_no], 0);
	if (lost) {
		commit_wake(); /* it may have been this one's turn to go on */
		return outcome_unknown(w);
	}
	w->closed = w->closed || wal_generation() != w->generation;
	/*
	 * A weak wait read only durable, which may have been cut and grown again; a strong one checks whose record
	 * it is.
	 */
	if (w->closed && ((w->want & WANT_LOCAL) || wal_term_at(w->start) != w->term))
		return outcome_unknown(w);
	return ST_OK;
}

/*
 * For the ring, which is full: apply, if that is what it waits for, and only else sync, which may take as long as the
 * disk likes. False: nothing moved on.
 */
static bool
make_room(void)
{
	return commit_work(kvstore_applied() < wal_commit() ? 0 : wal_inserted());
}

/* Insert, helping to make room in the ring while it is full (rule L11). */
static Status
insert_record(uint32_t generation, WalKind kind, const Buf *body, uint32_t count, uint64_t log_time,
			  int timeout_ms, Lsn *start, Lsn *end)
{
	uint64_t deadline = 0;
	Slice part = slice_buf(body);

	for (;;) {
		Status st = wal_insert(generation, kind, count, log_time, &part, 1, start, end);

		if (st == ST_OK && !wal_alone())
			procslot_wake(PROC_CONSENSUS); /* it sends while we sync */
		if (st != ST_BUSY)
			return st;
		if (deadline == 0)
			deadline = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;
		else if (clock_mono_ns() > deadline)
			return status_fail(ST_TIMEOUT, "no room in the log's buffer within %d ms", timeout_ms);
		if (wal_out_of_space())
			return status_fail(ST_NO_SPACE, "no space for the log; free some, writes go on by themselves");
		if (!make_room())
			procslot_sleep(procslot_prepare_sleep(), STALL_SLEEP_US);
	}
}

Status
kvstore_insert(uint32_t generation, const Buf *body, uint32_t count, int timeout_ms, bool deletes_only,
			   Lsn *start, Lsn *end)
{
	KV_ASSERT(count > 0 && count <= OP_RECORD_MAX);
	if (deletes_only ? wal_out_of_space() : kvstore_no_space()) {
		atomic_fetch_add_explicit(&kvs->refused, 1, memory_order_relaxed);
		kvstore_release_files(); /* a client that only writes would keep the space it waits for */
		return status_fail(ST_NO_SPACE, "the data directory's file system is nearly full (disk_reserve): free space "
						   "there, or delete keys; writes then go on by themselves");
	}
	/* Deletes on a full disk bring the space back that writers wait for. */
	if (!deletes_only || !kvstore_no_space())
		throttle_write(body->len + WAL_HEADER_SIZE);
	return insert_record(generation, WAL_WRITE, body, count, logclock_now(), timeout_ms, start, end);
}

/* The WAL writer and the replay process do what nobody waits for; they may be napping. */
static void
wake_helpers(void)
{
	if (wal_durable() < wal_inserted() && !lwlock_held(LWLOCK_WAL_FLUSH, 0))
		procslot_wake(PROC_WALWRITER);
	if (apply_free())
		procslot_wake(PROC_REPLAY);
}

/* Log that is not applied yet. */
static uint64_t
unapplied(void)
{
	/* In this order: others may insert and apply in between, which must not make it look like less than nothing. */
	Lsn applied = kvstore_applied();
	Lsn inserted = wal_inserted();

	/* What a majority has committed is applied here even while a mark still makes the position look lower. */
	return inserted > applied ? inserted - applied : 0;
}

uint64_t
commit_unwaited_ns(uint64_t ahead, int timeout_ms)
{
	uint64_t all = (uint64_t) timeout_ms * 1000000;

	if (ahead <= UNWAITED_SOFT)
		return 0;
	return ahead <= UNWAITED_MAX && all > UNWAITED_PAUSE_NS ? UNWAITED_PAUSE_NS : all;
}

/*
 * Writes that nobody waits for must not fill the ring: who does wait, for a write behind them, would wait for all.
 * Up to UNWAITED_MAX a writer is only slowed until others have caught up: a sync by itself may take as long as the disk
 * likes, and in applying, a process that rarely does maps one page of a memtable after the other.
 */
static void
bound_unwaited(uint32_t generation, int timeout_ms, bool deletes_only)
{
	uint64_t began = 0, now, ahead;

	/* What will be refused does not wait first. */
	while ((ahead = unapplied()) > UNWAITED_SOFT && wal_generation() == generation &&
		   !(deletes_only ? wal_out_of_space() : kvstore_no_space())) {
		now = clock_mono_ns();
		if (began == 0)
			began = now;
		if (now - began >= commit_unwaited_ns(ahead, timeout_ms))
			break; /* if nothing moves at all it is for the ring to say stop */
		if (ahead > UNWAITED_MAX && make_room())
			continue;
		wake_helpers();
		procslot_sleep(procslot_prepare_sleep(), UNWAITED_SLEEP_US);
	}
	if (began != 0)
		throttle_count((clock_mono_ns() - began) / 1000);
}

bool
kvstore_no_space(void)
{
	return wal_out_of_space() || atomic_load_explicit(&kvs->no_space, memory_order_relaxed) != 0;
}

bool
kvstore_flush_busy(void)
{
	return lwlock_held(LWLOCK_WAL_FLUSH, 0);
}

Status
kvstore_write(uint32_t generation, const Buf *body, uint32_t count, Ack ack, int timeout_ms,
			  bool deletes_only, uint64_t *version)
{
	Wait w = { .term = wal_term(), .generation = generation, .after_ms = (uint64_t) config.election_timeout };
	Lsn end;

	if (ack == ACK_NONE)
		bound_unwaited(generation, timeout_ms, deletes_only);
	if (ack == ACK_QUORUM && !wal_alone())
		w.until_ns = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;
	KV_TRY(kvstore_insert(generation, body, count, timeout_ms, deletes_only, version, &end));
	w.want = ack == ACK_LOCAL ? end | WANT_LOCAL : end;
	w.start = *version;
	if (ack != ACK_NONE)
		KV_TRY(wait_for(&w));
	commit_poke_walwriter();
	return ST_OK;
}

bool
commit_serve_delegated(void)
{
	uint64_t until = clock_mono_ns() + DELEGATED_NS;
	bool any = false, slow;

	do {
		uint64_t oldest;
		uint32_t token;

		delegate_send(kvstore_applied(), wal_commit(), wal_generation(), (uint64_t) config.client_timeout);
		oldest = delegate_oldest(&slow);
		if (oldest == 0)
			break;
		any = true;
		if (oldest <= kvstore_applied() || commit_work(oldest))
			continue;
		/* Somebody else is flushing or applying: be one of those who wait for it. */
		atomic_store(&kvs->want[my_slot_no], oldest);
		token = procslot_prepare_sleep();
		if (want_reached(oldest) || (work_free(oldest) && !straggler(oldest)))
			procslot_cancel_sleep();
		else
			procslot_sleep(token, straggler(oldest) ? STRAGGLER_US : STALL_SLEEP_US);
		atomic_store(&kvs->want[my_slot_no], 0);
	} while (clock_mono_ns() < until);
	if (any)
		commit_wake(); /* it may have been this one's turn to go on */
	return any;
}

/* One of those who wait for what is committed. */
static bool
wake_applier(void)
{
	Lsn applied = kvstore_applied(), commit = wal_commit();
	int high = procslot_high_water();

	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0; i < high; i++) {
		uint64_t want = atomic_load_explicit(&kvs->want[i], memory_order_relaxed);

		if ((want & WANT_FLAGS) == 0 && want > applied && want <= commit) {
			procslot_wake(i);
			return true;
		}
	}
	return false;
}

void
kvstore_commit_moved(void)
{
	static uint32_t seen; /* of the consensus worker */
	uint32_t generation = wal_generation();

	if (generation != seen) {
		seen = generation;
		commit_wake_all(); /* who waits for what will not come has to go (rule G3) */
	}
	if (kvstore_applied() >= wal_commit())
		return;
	if (apply_below_ring() || !wake_applier())
		procslot_wake(PROC_REPLAY);
}

/*
 * Positions are multiples of 8 below 2^51: end and generation in one word. A position of another
 * generation may have been cut off and never be reached again.
 */
static uint64_t
pending_word(Lsn end, uint32_t generation)
{
	return (uint64_t) generation << 48 | end >> 3;
}

static Lsn
pending_end(uint64_t word)
{
	return (word & ((UINT64_C(1) << 48) - 1)) << 3;
}

Status
kvstore_advance_time(uint64_t now_ms)
{
	static const Buf empty;
	uint32_t generation = wal_generation();
	uint64_t pending;
	Wait w = { .term = wal_term(), .generation = generation };
	Lsn end;

	if (kvstore_applied_time() >= now_ms)
		return ST_OK;
	if (!wal_alone())
		w.until_ns = clock_mono_ns() + TIME_WAIT_MS * UINT64_C(1000000);
	/* Join the one under way if it reaches far enough; a late view only makes a second record. */
	pending = atomic_load(&kvs->pending_time) >= now_ms ? atomic_load(&kvs->pending_time_end) : 0;
	end = pending_end(pending);
	if (end != 0 && pending == pending_word(end, generation)) {
		w.want = end;
		w.start = end - WAL_HEADER_SIZE;
		KV_TRY(wait_for(&w));
		if (kvstore_applied_time() >= now_ms)
			return ST_OK;
	}
	KV_TRY(insert_record(generation, WAL_TIME, &empty, 0, now_ms, TIME_WAIT_MS, &w.start, &end));
	atomic_store(&kvs->pending_time_end, pending_word(end, generation));
	atomic_store(&kvs->pending_time, now_ms);
	w.want = end;
	return wait_for(&w);
}

Status
kvstore_wait_applied(Lsn at_least, int timeout_ms)
{
	uint64_t deadline = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;

	while (kvstore_applied() <= at_least) {
		uint32_t token;

		if (clock_mono_ns() >= deadline)
			return status_fail(ST_TIMEOUT, "version %llu is not here yet, applied are those below %llu",
							   (unsigned long long) at_least, (unsigned long long) kvstore_applied());
		atomic_store(&kvs->want[my_slot_no], ((at_least & ~WANT_FLAGS) + 8) | WANT_WATCH);
		token = procslot_prepare_sleep();
		if (kvstore_applied() > at_least)
			procslot_cancel_sleep();
		else
			procslot_sleep_until(token, deadline);
		atomic_store(&kvs->want[my_slot_no], 0);
	}
	return ST_OK;
}

void
kvstore_slot_cleared(int slot)
{
	atomic_store(&kvs->want[slot], 0);
	atomic_store(&kvs->hold[slot], 0);
	atomic_store(&kvs->hashing[slot], 0);
	delegate_forget(slot);
	/* It may have been woken to flush next: pass that on. */
	commit_wake();
}
