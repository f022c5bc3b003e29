/* test_commit.c - stories: what is committed, and how the others hear of it; what is sent, and when. */
#include <stddef.h>

#include "trace.h"

static void
a_majority_has_it_durable(void)
{
	nodes(5, 0);
	elect(1);
	for (int id = 1; id <= 5; id++)
		slow_disk(id);
	write_records(1, 2);
	CHECK(log_end(5) == AT(3) && node(1)->commit == AT(1));
	sync_disk(5);
	sync_disk(4);
	CHECK(node(1)->commit == AT(1)); /* the leader's own disk counts like any other */
	sync_disk(2);
	CHECK(node(1)->commit == AT(3)); /* and is not needed (L9) */
	CHECK(node(1)->durable == AT(1));
}

/* Paper, figure 8: (c), and that (d) is not lost because (c) committed too early. */
static void
a_new_leader_commits_nothing_before_its_own_record(void)
{
	nodes(3, 0);
	elect(1);
	isolate(1);
	cut(1, 2);
	mend(1, 2);
	slow_disk(1);
	slow_disk(2);
	write_records(1, 2); /* 2 has it, not durable; nobody commits */
	isolate(1);
	CHECK(log_end(2) == AT(3) && node(2)->commit == AT(1));
	slow_disk(3);
	elect(2);
	CHECK(log_end(3) == AT(4) && raft_serve_from(node(2)) == AT(4));
	{
		/* Both tell that what is before the TERM record is durable: a majority, of a record of term 1. */
		RaftMsg m = message(RAFT_APPEND_REPLY, 3, 2, term(2));
		RaftEvent e = { .kind = RAFT_EV_DURABLE, .now_us = now_us(), .end = AT(3) };
		RaftOut o;

		m.pos = AT(3);
		m.end = AT(4);
		give(&m);
		raft_step(node(2), &e, &o);
		CHECK(node(2)->commit == AT(1));
	}
	sync_disk(2);
	CHECK(node(2)->commit == AT(1));
	sync_disk(3);
	CHECK(node(2)->commit == AT(4)); /* along with the own */
}

static void
an_idle_leader_tells_soon(void)
{
	int before;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	write_records(1, 1);
	CHECK(node(1)->commit == AT(2) && node(2)->commit == AT(1));
	pass(COMMIT_DELAY);
	CHECK(node(2)->commit == AT(2) && node(3)->commit == AT(2));
	before = sent_count(RAFT_APPEND, 1, 2);
	pass(10 * HEARTBEAT);
	CHECK(sent_count(RAFT_APPEND, 1, 2) - before <= 10);
}

static void
a_window_is_not_exceeded(void)
{
	nodes(3, 0);
	elect(1);
	slow_disk(2);
	write_records(1, 40);
	CHECK(log_end(3) == AT(41) && node(1)->commit == AT(41)); /* one slow node holds up nobody */
	CHECK(log_end(2) == AT(1) + WINDOW);
	pass(5 * ELECTION);
	CHECK(log_end(2) == AT(1) + WINDOW && leads(1));
	sync_disk(2);
	pass(HEARTBEAT);
	CHECK(same_log(1, 2));
}

static void
what_was_lost_is_sent_again(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	cut_one_way(1, 2);
	write_records(1, 3);
	mend(1, 2);
	CHECK(log_end(2) == AT(1));
	pass(2 * HEARTBEAT);
	CHECK(same_log(1, 2));
}

static void
a_lost_window_is_sent_again(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	cut_one_way(1, 2);
	write_records(1, 40);
	mend(1, 2);
	CHECK(log_end(2) == AT(1));
	pass(ELECTION + 3 * HEARTBEAT);
	CHECK(same_log(1, 2));
}

static void
a_lost_answer_does_not_matter(void)
{
	nodes(3, 0);
	elect(1);
	cut_one_way(2, 1);
	cut_one_way(3, 1);
	write_records(1, 3);
	CHECK(node(1)->commit == AT(1));
	mend(1, 2);
	mend(1, 3);
	pass(2 * HEARTBEAT);
	CHECK(node(1)->commit == AT(4));
}

static void
nobody_spins(void)
{
	int before;

	nodes(3, 2);
	elect(1);
	pass(ELECTION);
	crash(5);
	crash(3);
	before = steps();
	pass(10 * HEARTBEAT);
	CHECK(steps() - before < 10 * (4 * 3 + 4));
	crash(2); /* no majority any more */
	pass(5 * ELECTION);
	before = steps();
	pass(10 * ELECTION);
	CHECK(!leads(1) && steps() - before < 400);
}

static void
the_smallest_position_needed(void)
{
	nodes(3, 0);
	elect(1);
	slow_disk(2);
	write_records(1, 3);
	CHECK(raft_needed(node(1)) == AT(1));
	sync_disk(2);
	CHECK(raft_needed(node(1)) == AT(4) && raft_needed(node(2)) == log_end(2));
}

static const Story stories[] = {
	{ "a majority has it durable",
	  a_majority_has_it_durable,
	  { BUG_OWN_NOT_DURABLE, BUG_MAJORITY_OFF_BY_ONE, BUG_ACK_NOT_DURABLE } },
	{ "a new leader commits nothing before its own record",
	  a_new_leader_commits_nothing_before_its_own_record,
	  { BUG_COUNT_OLD_TERM } },
	{ "an idle leader tells soon", an_idle_leader_tells_soon, { BUG_NONE } },
	{ "a window is not exceeded", a_window_is_not_exceeded, { BUG_NONE } },
	{ "what was lost is sent again", what_was_lost_is_sent_again, { BUG_NONE } },
	{ "a lost window is sent again", a_lost_window_is_sent_again, { BUG_NONE } },
	{ "a lost answer does not matter", a_lost_answer_does_not_matter, { BUG_NONE } },
	{ "nobody spins", nobody_spins, { BUG_NONE } },
	{ "the smallest position needed", the_smallest_position_needed, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
