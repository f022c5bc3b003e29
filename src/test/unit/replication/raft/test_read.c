/* test_read.c - stories: lease (R2) and ReadIndex (R4). */
#include <stddef.h>

#include "trace.h"

static void
the_lease_runs_from_when_the_majority_was_asked(void)
{
	uint64_t asked;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	asked = raft_deadline_us(node(1));
	wait_blind(asked - now_us());
	hold(RAFT_APPEND_REPLY);
	tick(1);
	settle();
	wait_blind(HEARTBEAT / 2);
	release();
	settle();
	CHECK(raft_lease_us(node(1)) == asked + ELECTION / 10 * 9);
	CHECK(raft_lease_us(node(2)) == 0);
}

static void
a_minority_gives_no_lease(void)
{
	uint64_t lease;

	nodes(5, 0);
	elect(1);
	pass(ELECTION);
	for (int id = 3; id <= 5; id++)
		isolate(id);
	lease = raft_lease_us(node(1));
	pass(5 * HEARTBEAT);
	CHECK(raft_lease_us(node(1)) <= lease + HEARTBEAT && raft_lease_us(node(1)) > 0);
	CHECK(raft_peer(node(1), 2)->echo_us > lease - ELECTION / 10 * 9);
}

/* The lease ends before anybody else can be elected, also by clocks that run a few percent faster. */
static void
nobody_is_elected_while_it_lasts(void)
{
	uint64_t lease;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	isolate(1);
	lease = raft_lease_us(node(1));
	for (int i = 0; i < 1000; i++) {
		if (leads(2) || leads(3))
			break;
		pass(10 * MS);
	}
	CHECK(leads(2) || leads(3));
	CHECK(now_us() > lease + ELECTION / 20);
	CHECK(raft_lease_us(node(1)) == 0); /* and by then it has stepped down */
}

static void
no_lease_before_a_commit_of_the_own_term(void)
{
	nodes(3, 0);
	elect(1);
	isolate(1);
	slow_disk(2);
	slow_disk(3);
	elect(2);
	pass(HEARTBEAT);
	CHECK(leads(2) && node(2)->commit < AT(2) && raft_lease_us(node(2)) == 0);
	ask_to_read(2);
	settle();
	CHECK(reads_until(2) == 0); /* nor an answer to reads */
	sync_disk(3);
	CHECK(node(2)->commit < AT(2));
	sync_disk(2);
	CHECK(node(2)->commit == AT(2) && raft_lease_us(node(2)) > now_us());
	CHECK(reads_until(2) > 0 && reads_index(2) == AT(2));
}

static void
a_read_waits_for_a_round_of_its_own(void)
{
	uint64_t first, second;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	hold(RAFT_APPEND_REPLY);
	pass(HEARTBEAT + MS); /* a round is under way */
	wait_blind(MS);
	first = now_us();
	ask_to_read(1);
	wait_blind(MS);
	second = now_us();
	ask_to_read(1); /* too late for the round of the first */
	settle();
	release();
	hold(RAFT_APPEND_REPLY);
	settle();
	CHECK(reads_until(1) > first && reads_until(1) <= second);
	CHECK(reads_index(1) == node(1)->commit);
	release();
	settle();
	CHECK(reads_until(1) > second);
}

static void
an_answer_to_an_earlier_round_confirms_nothing(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	m = message(RAFT_APPEND_REPLY, 2, 1, 1); /* to a heartbeat of before the read */
	m.pos = m.end = AT(1);
	wait_blind(MS);
	isolate(1);
	ask_to_read(1);
	give(&m);
	CHECK(reads_until(1) == 0);
	m.stamp_us = now_us() + 1;
	give(&m);
	CHECK(reads_until(1) > now_us());
}

static void
many_reads_share_a_round(void)
{
	int before;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	before = sent_count(RAFT_APPEND, 1, 2);
	for (int i = 0; i < 1000; i++) {
		ask_to_read(1);
		wait_blind(1);
	}
	settle();
	CHECK(sent_count(RAFT_APPEND, 1, 2) - before <= 3 && reads_until(1) >= now_us());
}

static void
a_deposed_leader_confirms_nothing(void)
{
	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	isolate(1);
	elect(2);
	write_records(2, 1);
	ask_to_read(1);
	rejoin(1);
	settle();
	pass(2 * HEARTBEAT);
	CHECK(reads_until(1) == 0 && raft_lease_us(node(1)) == 0 && !leads(1));
	ask_to_read(1);
	settle();
	CHECK(reads_until(1) == 0 && raft_serve_from(node(1)) == UINT64_MAX);
}

static void
alone_reads_need_nobody(void)
{
	nodes(1, 0);
	tick(1);
	ask_to_read(1);
	CHECK(reads_until(1) > now_us() && reads_index(1) == AT(1));
}

static void
learners_do_not_lengthen_it(void)
{
	uint64_t lease;

	nodes(3, 2);
	crash(4);
	crash(5);
	elect(1);
	isolate(1);
	lease = raft_lease_us(node(1));
	wait_blind(HEARTBEAT);
	for (int id = 4; id <= 5; id++) {
		RaftMsg m = message(RAFT_APPEND_REPLY, id, 1, 1);

		give(&m);
	}
	CHECK(lease != 0 && raft_lease_us(node(1)) == lease);
}

static const Story stories[] = {
	{ "the lease runs from when the majority was asked",
	  the_lease_runs_from_when_the_majority_was_asked,
	  { BUG_LEASE_FROM_RECEIVE } },
	{ "a minority gives no lease", a_minority_gives_no_lease, { BUG_MAJORITY_OFF_BY_ONE } },
	{ "nobody is elected while it lasts", nobody_is_elected_while_it_lasts, { BUG_NONE } },
	{ "no lease before a commit of the own term",
	  no_lease_before_a_commit_of_the_own_term,
	  { BUG_LEASE_BEFORE_TERM_COMMIT, BUG_READ_BEFORE_TERM_COMMIT } },
	{ "a read waits for a round of its own", a_read_waits_for_a_round_of_its_own, { BUG_READ_INDEX_REUSED } },
	{ "an answer to an earlier round confirms nothing",
	  an_answer_to_an_earlier_round_confirms_nothing,
	  { BUG_READ_INDEX_REUSED } },
	{ "many reads share a round", many_reads_share_a_round, { BUG_NONE } },
	{ "a deposed leader confirms nothing", a_deposed_leader_confirms_nothing, { BUG_NONE } },
	{ "alone reads need nobody", alone_reads_need_nobody, { BUG_NONE } },
	{ "learners do not lengthen it", learners_do_not_lengthen_it, { BUG_LEARNER_COUNTS } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
