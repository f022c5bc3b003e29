/*
 * read.c - reads without a log entry: lease and ReadIndex (thesis 6.4, 6.4.1; rules R2, R4).
 *
 * Each APPEND carries the leader's clock, its answer carries it back. If a majority has answered a stamp t,
 * then that majority knew this leader at t or later, and refuses its vote until an election timeout after
 * that (R1). So up to t + 9/10 of it nobody else leads (the lease; the tenth is for clocks that run at
 * different speed), and every read that arrived before t sees the commit position of now. A round for reads
 * is stamped one microsecond after the event.
 */
#include "bug.h"
#include "raft_internal.h"

static uint64_t
echoed(const RaftPeer *p)
{
	return p->echo_us;
}

uint64_t
raft_lease_us(const Raft *r)
{
	uint64_t since;

	if (r->role != RAFT_LEADER || r->term_end == 0)
		return 0;
	if (!raft_own_committed(r) && !BUG(LEASE_BEFORE_TERM_COMMIT))
		return 0;
	if (r->transferring && !BUG(LEASE_KEPT_IN_TRANSFER))
		return 0;
	if (raft_transfer_in_flight(r) && !BUG(LEASE_AFTER_TRANSFER) && !BUG(LEASE_KEPT_IN_TRANSFER))
		return 0;
	if (raft_only_voter(r))
		return r->config_pending ? 0 : UINT64_MAX; /* G7: ends before it may become one of two */
	since = raft_majority_of(r, echoed, UINT64_MAX);
	if (since == 0 || since == UINT64_MAX)
		return 0;
	return since + r->timing.election_us / 10 * 9;
}

uint64_t
raft_serve_from(const Raft *r)
{
	return r->role == RAFT_LEADER && r->term_end != 0 ? r->term_end : UINT64_MAX;
}

static void
begin_round(Step *s)
{
	Raft *r = s->r;

	r->read_round_us = s->now + 1;
	for (int i = 0; i < r->npeers; i++)
		r->peer[i].poke = true;
}

void
raft_on_read(Step *s)
{
	Raft *r = s->r;

	if (r->role != RAFT_LEADER)
		return;
	r->read_us = s->now;
	if (r->read_round_us == 0)
		begin_round(s);
}

void
raft_answer_reads(Step *s)
{
	Raft *r = s->r;
	uint64_t until;

	if (r->read_us == 0 || (!raft_own_committed(r) && !BUG(READ_BEFORE_TERM_COMMIT)))
		return;
	until = raft_majority_of(r, echoed, s->now + 1);
	if (until < r->read_round_us && !BUG(READ_INDEX_REUSED))
		return;
	if (BUG(READ_INDEX_REUSED))
		until = r->read_us + 1;
	s->out->reads_moved = true;
	s->out->reads_until_us = until;
	s->out->reads_index = r->commit;
	r->read_round_us = 0;
	if (r->read_us < until)
		r->read_us = 0;
	else
		begin_round(s); /* for those that came while it was under way */
}
