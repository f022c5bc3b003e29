/*
 * throttle.c - writers are slowed to what the compaction worker gets done, before they would have to stop.
 *
 * A write pays for its bytes at a rate that follows from two things that grow and shrink without jumps: the
 * tables in level 0, less what the compaction under way has done of them, and the room left in memtables.
 * Below their limits nothing is paid. The schedule is one word in shared memory: the moment up to which
 * what was admitted is paid for. Each writer moves it on by what its bytes cost and sleeps until then, but not for long
 * if little of that is its own; no lock is held.
 *
 * Written by: the compaction worker (level 0, both measured rates), holders of SUPERVERSION (free memtables),
 * holders of APPLY (room in the active one), writers (schedule, figures).
 */
#include "common/process_local.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"
#include "port/clock.h"

#define SECOND_NS UINT64_C(1000000000)
/* Before anything was measured: what a slow disk does. */
#define RATE_DEFAULT 16e6
/* However far behind the worker is, some progress is made. */
#define RATE_MIN 1e6
/* At the limit writers may still be this much faster than the worker; a quarter over it they are as fast. */
#define LEVEL0_AT_LIMIT 1.5
#define LEVEL0_SLOPE 2.0
#define LEVEL0_LEAST 0.1
/* With a whole memtable left they may be so much faster than flush, in the end at this part of its rate. */
#define ROOM_AT_LIMIT 1.2
#define ROOM_LEAST 0.2
/* Shorter sleeps cost more than they bring; longer ones would be stops. */
#define PAUSE_MIN_NS UINT64_C(1000000)
#define PAUSE_MAX_NS UINT64_C(50000000)
/* But for a record that costs more than that. */
#define PAUSE_LARGE_NS SECOND_NS
/*
 * A writer pauses for so many times what its own writes cost, until the schedule is as far ahead as it may be: who
 * writes little does not wait for who writes much.
 */
#define OWN_PART 2
/* A new sample counts for a quarter. */
#define SAMPLE_PART 4
/* Of a memtable: what is written out has to be this part of it to be a sample. */
#define SAMPLE_LEAST 8

/* The compaction worker's memory. */
static struct {
	uint64_t since_ns;       /* it has been at work since then, or since level 0 last became smaller */
	uint64_t level0_out;     /* bytes that had left level 0 by then */
	uint64_t log, tables;    /* bytes of log that became bytes of tables */
} worker;

double
throttle_rate(const ThrottleState *s)
{
	double rate = 0;

	if (s->level0 >= s->slowdown) {
		double part = LEVEL0_AT_LIMIT - LEVEL0_SLOPE * (s->level0 - s->slowdown) / s->slowdown;

		rate = (s->drained > 0 ? s->drained : RATE_DEFAULT) * (part > LEVEL0_LEAST ? part : LEVEL0_LEAST);
	}
	if (s->room < s->memtable) {
		double left = s->room > 0 ? s->room / s->memtable : 0;
		double by_room = (s->flushed > 0 ? s->flushed : RATE_DEFAULT) *
			(ROOM_LEAST + (ROOM_AT_LIMIT - ROOM_LEAST) * left);

		if (rate == 0 || by_room < rate)
			rate = by_room;
	}
	return rate > 0 && rate < RATE_MIN ? RATE_MIN : rate;
}

static double
cost_ns(uint64_t bytes, double rate)
{
	return (double) bytes * (double) SECOND_NS / rate;
}

uint64_t
throttle_pay(uint64_t paid_ns, uint64_t now_ns, uint64_t bytes, double rate)
{
	uint64_t start = paid_ns > now_ns ? paid_ns : now_ns, most = now_ns + PAUSE_MAX_NS;
	double cost = cost_ns(bytes, rate);

	/* A large record is slowed by what it costs, or many of them would come as fast as small ones. */
	if (cost > (double) PAUSE_MAX_NS)
		most = now_ns + (cost < (double) PAUSE_LARGE_NS ? (uint64_t) cost : PAUSE_LARGE_NS);
	if (start >= most)
		return start < now_ns + PAUSE_LARGE_NS ? start : now_ns + PAUSE_LARGE_NS;
	return cost >= (double) (most - start) ? most : start + (uint64_t) cost;
}

uint64_t
throttle_pause(uint64_t ahead_ns, uint64_t own_ns)
{
	uint64_t most = OWN_PART * own_ns;

	if (ahead_ns >= PAUSE_MAX_NS && most < PAUSE_MAX_NS)
		most = PAUSE_MAX_NS;
	if (ahead_ns > most)
		ahead_ns = most;
	return ahead_ns < PAUSE_MIN_NS ? 0 : ahead_ns;
}

uint64_t
throttle_sample(uint64_t before, uint64_t bytes, uint64_t ns)
{
	double rate = (double) bytes * (double) SECOND_NS / (double) (ns + 1);

	if (before != 0)
		rate = ((double) before * (SAMPLE_PART - 1) + rate) / SAMPLE_PART;
	return rate < (double) UINT32_MAX * 1024 ? (uint64_t) rate : (uint64_t) UINT32_MAX * 1024;
}

/* Where things stand. False: nothing is near its limit. */
static bool
state_now(ThrottleState *s)
{
	const Throttle *t = &kvs->throttle;
	double level0 = (double) atomic_load_explicit(&t->level0, memory_order_relaxed) / THROTTLE_TABLE;
	uint32_t spare = atomic_load_explicit(&t->free_memtables, memory_order_relaxed);
	Lsn end = atomic_load_explicit(&t->room_end, memory_order_relaxed);

	if (level0 < (double) config.l0_slowdown && (spare > 1 || end == 0))
		return false;
	s->level0 = level0;
	s->slowdown = (double) config.l0_slowdown;
	s->memtable = (double) config.memtable_size;
	/* What is not committed may wait in the log for long: it is for the ring to say stop. */
	s->room = end == 0 ? s->memtable : (double) spare * s->memtable + (double) end - (double) wal_commit();
	s->drained = (double) atomic_load_explicit(&t->drain_rate, memory_order_relaxed);
	s->flushed = (double) atomic_load_explicit(&t->flush_rate, memory_order_relaxed);
	return true;
}

double
throttle_now(void)
{
	ThrottleState s;

	return state_now(&s) ? throttle_rate(&s) : 0;
}

void
throttle_count(uint64_t us)
{
	Throttle *t = &kvs->throttle;
	uint64_t most = atomic_load_explicit(&t->slowed_us_max, memory_order_relaxed);

	atomic_fetch_add_explicit(&t->slowed, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&t->slowed_us, us, memory_order_relaxed);
	while (us > most && !atomic_compare_exchange_weak(&t->slowed_us_max, &most, us))
		;
}

void
throttle_write(uint64_t bytes)
{
	static PROCESS_LOCAL uint64_t own_ns; /* what this process's writes cost since it last paused */
	Throttle *t = &kvs->throttle;
	double rate = throttle_now();
	uint64_t now, paid, next, pause;

	if (rate == 0) {
		own_ns = 0;
		return;
	}
	now = clock_mono_ns();
	paid = atomic_load_explicit(&t->paid_ns, memory_order_relaxed);
	do
		next = throttle_pay(paid, now, bytes, rate);
	while (!atomic_compare_exchange_weak(&t->paid_ns, &paid, next));
	own_ns += (uint64_t) cost_ns(bytes, rate);
	pause = throttle_pause(next - now, own_ns);
	if (pause == 0)
		return;
	own_ns = 0;
	procslot_sleep(procslot_prepare_sleep(), pause / 1000);
	throttle_count((clock_mono_ns() - now) / 1000);
}

/* ---- compaction worker */
void
throttle_flushed(Lsn from, Lsn to, uint64_t ns)
{
	Throttle *t = &kvs->throttle;
	LsmStats lsm;
	uint64_t before = atomic_load_explicit(&t->flush_rate, memory_order_relaxed);

	lsm_stats(&lsm);
	worker.log += to - from;
	worker.tables = lsm.flush_bytes;
	if (to - from < (uint64_t) config.memtable_size / SAMPLE_LEAST && before != 0)
		return; /* mostly the syncs of a table: it says nothing of how fast a full memtable goes */
	atomic_store_explicit(&t->flush_rate, throttle_sample(before, to - from, ns), memory_order_relaxed);
}

void
throttle_level0(const Version *v)
{
	LsmRunning r;
	uint64_t tables = (uint64_t) lsm_level0_depth(v) * THROTTLE_TABLE, done = 0;

	lsm_running(&r);
	if (r.total > 0)
		done = (uint64_t) ((double) r.level0 * THROTTLE_TABLE * (double) r.done / (double) r.total);
	atomic_store_explicit(&kvs->throttle.level0, tables > done ? tables - done : 0, memory_order_relaxed);
}

void
throttle_drained(bool idle)
{
	Throttle *t = &kvs->throttle;
	uint64_t now = clock_mono_ns(), before = atomic_load_explicit(&t->drain_rate, memory_order_relaxed);
	double log_part = worker.tables > 0 ? (double) worker.log / (double) worker.tables : 1;
	LsmStats lsm;

	lsm_stats(&lsm);
	if (lsm.level0_out == worker.level0_out && !idle)
		return; /* of deeper levels: its time counts for what comes next from level 0 */
	if (!idle && worker.since_ns != 0) {
		uint64_t bytes = (uint64_t) ((double) (lsm.level0_out - worker.level0_out) * log_part);

		atomic_store_explicit(&t->drain_rate, throttle_sample(before, bytes, now - worker.since_ns),
		                      memory_order_relaxed);
	}
	worker.level0_out = lsm.level0_out;
	worker.since_ns = now;
}
