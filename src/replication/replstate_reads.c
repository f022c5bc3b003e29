/*
 * replstate_reads.c - the gate of freshness: may a linearizable read be answered here and now?
 *
 * Raft thesis 6.4 (ReadIndex) and 6.4.1 (lease). Readers are backends; the lease and the rounds are the
 * consensus worker's.
 *
 * With a valid lease a read costs a look at the gate, the lease and the clock; alone, whose lease never
 * ends, not even the clock. Without one the reader draws a ticket and wakes the consensus worker. A round
 * that begins takes all tickets drawn by then, so whoever holds one of them came before the round was sent
 * (rule R4). When a majority has answered, the worker publishes the tickets' end and the position that was
 * committed when the round began.
 *
 * The index is stored before the ticket that makes it count. A reader that finds the index of a later round
 * than its own waits for a little more than it has to; one that finds "not the leader" of a later round is
 * refused without need. Neither is wrong.
 *
 * No lost wake-up: a reader stores its ticket in its own line before it looks at `confirmed` and sleeps;
 * the worker stores `confirmed` before it looks at the lines; a fence stands between on both sides. The
 * ticket of a reader that was killed stays in its line until a round passes it: one needless wake-up.
 */
#include "common/config.h"
#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "replstate_internal.h"
#include "storage/kvstore.h"

/* Such was committed at that time. One is remembered until it is applied here; then the newest takes its place. */
static void
note_commit(Lsn commit, uint64_t at_ns)
{
	uint64_t said = atomic_load_explicit(&repl_sh->heard_commit, memory_order_relaxed);
	uint64_t when = atomic_load_explicit(&repl_sh->heard_ns, memory_order_relaxed);

	if (when != 0 && kvstore_applied() < said)
		return;
	atomic_store_explicit(&repl_sh->fresh_ns, when, memory_order_relaxed);
	atomic_store(&repl_sh->heard_commit, UINT64_MAX);
	atomic_store(&repl_sh->heard_ns, at_ns);
	atomic_store(&repl_sh->heard_commit, commit);
}

void
replstate_set_lease(uint64_t until_ns, Lsn serve_from)
{
	uint64_t before = atomic_load_explicit(&repl_sh->lease_until_ns, memory_order_relaxed);

	/* While it had the lease nobody else committed anything: so it knows how old it is when it leads no more. */
	if (until_ns == 0 && before != 0 && before != UINT64_MAX) {
		uint64_t now = clock_mono_ns();

		note_commit(wal_commit(), before < now ? before : now);
	}
	atomic_store_explicit(&repl_sh->serve_from, serve_from, memory_order_relaxed);
	atomic_store_explicit(&repl_sh->lease_until_ns, until_ns, memory_order_release);
}

Status
replstate_not_leader(void)
{
	const ReplPeer *leader = NULL;
	ReplView v;

	replstate_view(&v);
	if (v.leader != 0 && v.leader != v.self)
		leader = replview_peer(&v, v.leader);
	return status_fail(ST_NOT_LEADER, "%s", leader != NULL ? leader->client_address : "");
}

/* Rule G5: the worker, which closes the gate, was not heard of for too long. No lease at all says nothing. */
static bool
lease_long_over(uint64_t until_ns, uint64_t now_ns)
{
	uint64_t election_ns = atomic_load_explicit(&repl_sh->election_ns, memory_order_relaxed);

	return until_ns != 0 && until_ns != UINT64_MAX && now_ns > until_ns && now_ns - until_ns > election_ns;
}

bool
replstate_may_lead(void)
{
	uint64_t until = atomic_load_explicit(&repl_sh->lease_until_ns, memory_order_acquire);

	if (!wal_generation_open(wal_generation()))
		return false;
	return until == UINT64_MAX || until == 0 || !lease_long_over(until, clock_mono_ns());
}

/* The slot's own line. */
static void
count(_Atomic uint64_t *c)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + 1, memory_order_relaxed);
}

static int
ms_left(uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns();

	return now >= deadline_ns ? 0 : (int) ((deadline_ns - now) / 1000000) + 1;
}

/* Until everything below `index` is applied here. */
static Status
wait_applied(Lsn index, uint64_t deadline_ns)
{
	return kvstore_applied() >= index ? ST_OK : kvstore_wait_applied(index - 1, ms_left(deadline_ns));
}

/* What became of the ticket: *done, and the status and index if so. */
static Status
look(uint64_t ticket, uint32_t generation, uint64_t give_up_ns, Lsn *index, bool *done)
{
	*done = true;
	if (atomic_load_explicit(&repl_sh->confirmed, memory_order_acquire) >= ticket) {
		*index = atomic_load_explicit(&repl_sh->confirmed_index, memory_order_relaxed);
		return *index == 0 ? replstate_not_leader() : ST_OK;
	}
	if (wal_generation() != generation)
		return replstate_not_leader();
	/* The worker may be stopped: whoever asks the other nodes is served sooner. */
	if (clock_mono_ns() >= give_up_ns && !replstate_may_lead())
		return replstate_not_leader();
	*done = false;
	return ST_OK;
}

/* Join the next round; *index to be applied. */
static Status
ask_others(uint32_t generation, uint64_t deadline_ns, Lsn *index)
{
	ReplReader *me = &repl_sh->reader[my_slot_no];
	uint64_t ticket = atomic_fetch_add(&repl_sh->tickets, 1) + 1;
	uint64_t give_up = clock_mono_ns() + atomic_load_explicit(&repl_sh->election_ns, memory_order_relaxed);
	bool done = false;
	Status st = ST_OK;

	procslot_wake(PROC_CONSENSUS);
	while (!done) {
		uint64_t now = clock_mono_ns(), until = deadline_ns;
		uint32_t token;

		if (now >= deadline_ns) {
			st = status_fail(ST_TIMEOUT, "no majority has confirmed in time that this node leads");
			break;
		}
		if (give_up > now && give_up < until)
			until = give_up;
		atomic_store(&me->ticket, ticket);
		token = procslot_prepare_sleep();
		st = look(ticket, generation, give_up, index, &done);
		if (done)
			procslot_cancel_sleep();
		else
			procslot_sleep_until(token, until);
	}
	atomic_store(&me->ticket, 0);
	return st;
}

Status
replstate_read_barrier(int timeout_ms)
{
	uint32_t generation = wal_generation();
	uint64_t until = atomic_load_explicit(&repl_sh->lease_until_ns, memory_order_acquire);
	uint64_t deadline;
	Lsn index;

	if (!wal_generation_open(generation))
		return replstate_not_leader();
	/* Alone (whatever lease_reads says), or under a lease: looked at after the request came (rule R4). */
	if (until == UINT64_MAX || (config.lease_reads && until != 0 && clock_mono_ns() < until)) {
		index = atomic_load_explicit(&repl_sh->serve_from, memory_order_relaxed);
		if (index == UINT64_MAX)
			return replstate_not_leader(); /* the lease has just been taken away */
		count(&repl_sh->reader[my_slot_no].by_lease);
		if (kvstore_applied() >= index)
			return ST_OK;
		return wait_applied(index, clock_mono_ns() + (uint64_t) timeout_ms * 1000000);
	}
	deadline = clock_mono_ns() + (uint64_t) timeout_ms * 1000000;
	count(&repl_sh->reader[my_slot_no].by_round);
	KV_TRY(ask_others(generation, deadline, &index));
	return wait_applied(index, deadline);
}

bool
replstate_reads_wanted(uint64_t *ticket)
{
	uint64_t drawn = atomic_load(&repl_sh->tickets);

	if (drawn == atomic_load_explicit(&repl_sh->begun, memory_order_relaxed))
		return false;
	atomic_store_explicit(&repl_sh->begun, drawn, memory_order_relaxed);
	*ticket = drawn;
	return true;
}

void
replstate_reads_confirmed(uint64_t ticket, Lsn index)
{
	if (ticket <= atomic_load_explicit(&repl_sh->confirmed, memory_order_relaxed))
		return;
	KV_ASSERT(ticket <= atomic_load_explicit(&repl_sh->begun, memory_order_relaxed));
	atomic_store_explicit(&repl_sh->confirmed_index, index, memory_order_relaxed);
	atomic_store(&repl_sh->confirmed, ticket);
	if (index != 0)
		count(&repl_sh->rounds);
	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0, high = procslot_high_water(); i < high; i++) {
		uint64_t t = atomic_load_explicit(&repl_sh->reader[i].ticket, memory_order_relaxed);

		/* Exchanged, not stored: the slot may draw a new one in this moment. */
		if (t != 0 && t <= ticket && atomic_compare_exchange_strong(&repl_sh->reader[i].ticket, &t, 0))
			procslot_wake(i);
	}
}

void
replstate_reads(ReplReads *out)
{
	*out = (ReplReads){ .rounds = atomic_load_explicit(&repl_sh->rounds, memory_order_relaxed) };
	for (int i = 0; i < repl_sh->slots; i++) {
		out->by_lease += atomic_load_explicit(&repl_sh->reader[i].by_lease, memory_order_relaxed);
		out->by_round += atomic_load_explicit(&repl_sh->reader[i].by_round, memory_order_relaxed);
	}
}

void
replstate_leader_said(Lsn commit)
{
	note_commit(commit, clock_mono_ns());
}

uint32_t
replstate_lag_ms(void)
{
	uint64_t lease = atomic_load(&repl_sh->lease_until_ns);
	uint64_t said = atomic_load(&repl_sh->heard_commit), heard = atomic_load(&repl_sh->heard_ns);
	uint64_t since = atomic_load(&repl_sh->fresh_ns), now, ms;

	if (lease == UINT64_MAX)
		return 0;
	if (kvstore_applied() >= said && atomic_load(&repl_sh->heard_commit) == said && heard > since)
		since = heard;
	if (lease > since)
		since = lease;
	now = clock_mono_ns();
	if (since == 0)
		return UINT32_MAX;
	ms = since < now ? (now - since) / 1000000 : 0;
	return ms < UINT32_MAX ? (uint32_t) ms : UINT32_MAX;
}
