/* test_membership.c - stories: one member at a time (thesis 4.1, the erratum, 4.2). */
#include <stddef.h>

#include "trace.h"

static void
a_learner_comes_and_is_promoted(void)
{
	RaftConfig c;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	write_records(1, 10);
	c = with_learner(1, 4);
	CHECK(propose(1, &c) == RAFT_ACCEPTED && out(1)->append_config);
	CHECK(node(1)->config.n == 4 && !raft_is_voter(&node(1)->config, 4));
	settle();
	pass(5 * HEARTBEAT);
	CHECK(same_log(1, 4) && raft_is_voter(&node(1)->config, 4) && raft_voters(&node(4)->config) == 4);
	CHECK(node(1)->commit == log_end(1) && raft_is_voter(&node(2)->config, 4));
}

static void
one_that_is_behind_is_not_promoted(void)
{
	RaftConfig c;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	write_records(1, 4);
	isolate(4);
	c = with_learner(1, 4);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	pass(3 * ELECTION);
	rejoin(4);
	slow_disk(4);
	pass(3 * ELECTION);
	c = with_voter(1, 4);
	CHECK(propose(1, &c) == RAFT_NOT_CAUGHT_UP);
	sync_disk(4); /* the round took long; the next does not */
	CHECK(!raft_peer(node(1), 4)->caught_up);
	pass(3 * HEARTBEAT);
	CHECK(raft_is_voter(&node(1)->config, 4));
}

static void
refused_with_the_reason(void)
{
	RaftConfig c;

	nodes(3, 0);
	c = with_learner(1, 4);
	CHECK(propose(1, &c) == RAFT_NOT_LEADER);
	elect(1);
	pass(HEARTBEAT);
	c = with_voter(1, 4);
	CHECK(propose(1, &c) == RAFT_TOO_MUCH); /* was no learner */
	c = with_learner(1, 4);
	c.member[c.n++] = (RaftMember){ .id = 5 };
	CHECK(propose(1, &c) == RAFT_TOO_MUCH);
	c = without(1, 3);
	c.member[c.n++] = (RaftMember){ .id = 5 };
	CHECK(propose(1, &c) == RAFT_TOO_MUCH);
	c = node(1)->config;
	c.member[1].voter = false;
	CHECK(propose(1, &c) == RAFT_TOO_MUCH);
	c = node(1)->config;
	c.member[1].id = 1;
	CHECK(propose(1, &c) == RAFT_TOO_MUCH); /* twice the same */
	c = without(1, 3);
	c.n = RAFT_NODES_MAX + 1;
	CHECK(propose(1, &c) == RAFT_TOO_MUCH);
	CHECK(!out(1)->append_config && !node(1)->config_pending);
}

static void
a_change_that_leaves_no_majority_is_refused(void)
{
	RaftConfig c;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	isolate(3);
	pass(2 * ELECTION);
	c = without(1, 2);
	CHECK(propose(1, &c) == RAFT_NO_QUORUM); /* 3 does not answer */
	c = without(1, 3);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
}

static void
one_change_at_a_time(void)
{
	RaftConfig c;

	nodes(4, 0);
	elect(1);
	pass(HEARTBEAT);
	for (int id = 1; id <= 4; id++)
		slow_disk(id);
	c = without(1, 4);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	settle();
	c = without(1, 3);
	CHECK(propose(1, &c) == RAFT_NOT_YET);
	sync_disk(1);
	sync_disk(2);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
}

/* The erratum: a leader that has committed nothing in its term may not know of another's change. */
static void
none_before_a_commit_of_the_own_term(void)
{
	RaftConfig c;

	nodes(4, 0);
	elect(1);
	isolate(1);
	for (int id = 2; id <= 4; id++)
		slow_disk(id);
	elect(2);
	pass(HEARTBEAT);
	c = without(2, 1);
	CHECK(leads(2) && propose(2, &c) == RAFT_NOT_YET);
	for (int id = 2; id <= 4; id++)
		sync_disk(id);
	CHECK(propose(2, &c) == RAFT_ACCEPTED);
}

static void
a_truncated_one_is_undone(void)
{
	RaftConfig c;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	isolate(1);
	c = with_learner(1, 4);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	CHECK(node(1)->config.n == 4);
	elect(2);
	rejoin(1);
	pass(3 * HEARTBEAT);
	CHECK(same_log(1, 2) && node(1)->config.n == 3 && node(1)->npeers == 2);
}

static void
a_removed_leader_does_not_count_itself(void)
{
	RaftConfig c;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	slow_disk(3);
	c = without(1, 1);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	settle();
	pass(HEARTBEAT);
	CHECK(leads(1) && node(1)->commit == AT(1)); /* of 2 and 3, 2 has it */
	sync_disk(3);
	CHECK(!leads(1) && !gate_open(1) && node(1)->commit == AT(2));
	CHECK(node(2)->commit == AT(2)); /* was told */
	pass(4 * ELECTION);
	CHECK(leads(2) || leads(3));
	CHECK(!leads(1) && term(1) <= term(2));
}

/* Thesis 4.2.2: of four, 2 is away; 1 has removed itself, and only it knows. 3 and 4 alone are no majority. */
static void
a_removed_one_may_still_be_needed(void)
{
	RaftConfig c;

	nodes(4, 0);
	elect(1);
	pass(HEARTBEAT);
	isolate(2);
	crash(2);
	cut(1, 3);
	cut(1, 4);
	c = without(1, 1);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	crash(1);
	mend(1, 3);
	mend(1, 4);
	restart(1);
	pass(10 * ELECTION);
	CHECK(leads(3) || leads(4));
	CHECK(same_log(3, 4) && node(3)->config.n == 3 && node(3)->commit == log_end(3));
	CHECK(!leads(1));
}

static void
a_removed_peer_hears_of_it(void)
{
	RaftConfig c;

	nodes(4, 0);
	elect(1);
	pass(HEARTBEAT);
	c = without(1, 4);
	CHECK(propose(1, &c) == RAFT_ACCEPTED);
	settle();
	CHECK(log_end(4) == AT(2) && node(4)->commit == AT(2) && raft_peer(node(1), 4) == NULL);
	pass(10 * ELECTION);
	CHECK(leads(1) && term(1) == 1); /* and is quiet then */
}

static void
learners_do_not_count(void)
{
	nodes(3, 2);
	crash(4);
	crash(5);
	elect(1);
	isolate(2);
	isolate(3);
	write_records(1, 1);
	for (int id = 4; id <= 5; id++) {
		RaftMsg m = message(RAFT_APPEND_REPLY, id, 1, 1);

		m.pos = m.end = AT(2);
		give(&m);
	}
	CHECK(node(1)->commit == AT(1));
}

static void
what_could_not_be_appended_is_forgotten(void)
{
	RaftConfig c;
	RaftOut o;

	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	c = with_learner(1, 4);
	{
		RaftEvent e = { .kind = RAFT_EV_PROPOSE, .now_us = now_us(), .config = &c };

		raft_step(node(1), &e, &o);
		CHECK(o.proposal == RAFT_ACCEPTED && node(1)->config_pending);
		raft_step(node(1), &e, &o);
		CHECK(o.proposal == RAFT_NOT_YET);
		e.kind = RAFT_EV_CONFIG_FAILED;
		raft_step(node(1), &e, &o);
	}
	CHECK(node(1)->config.n == 3 && propose(1, &c) == RAFT_ACCEPTED);
}

static void
alone_becomes_two(void)
{
	RaftConfig c;

	nodes(1, 0);
	tick(1);
	CHECK(raft_lease_us(node(1)) == UINT64_MAX);
	isolate(2);
	c = with_learner(1, 2);
	CHECK(propose(1, &c) == RAFT_ACCEPTED && node(1)->commit == AT(2));
	CHECK(raft_lease_us(node(1)) == UINT64_MAX);
	rejoin(2);
	pass(2 * HEARTBEAT);
	CHECK(raft_voters(&node(1)->config) == 2 && node(1)->commit == AT(3) && same_log(1, 2));
	CHECK(raft_lease_us(node(1)) < now_us() + ELECTION); /* G7 */
	isolate(2);
	write_records(1, 1);
	CHECK(node(1)->commit == AT(3));
	pass(2 * ELECTION);
	CHECK(!leads(1));
}

static const Story stories[] = {
	{ "a learner comes and is promoted", a_learner_comes_and_is_promoted, { BUG_NONE } },
	{ "one that is behind is not promoted", one_that_is_behind_is_not_promoted, { BUG_NONE } },
	{ "refused with the reason", refused_with_the_reason, { BUG_NONE } },
	{ "a change that leaves no majority is refused",
	  a_change_that_leaves_no_majority_is_refused,
	  { BUG_NONE } },
	{ "one change at a time", one_change_at_a_time, { BUG_TWO_CHANGES } },
	{ "none before a commit of the own term",
	  none_before_a_commit_of_the_own_term,
	  { BUG_CONFIG_BEFORE_OWN_COMMIT } },
	{ "a truncated one is undone", a_truncated_one_is_undone, { BUG_CONFIG_NOT_UNDONE } },
	{ "a removed leader does not count itself",
	  a_removed_leader_does_not_count_itself,
	  { BUG_REMOVED_LEADER_COUNTS } },
	{ "a removed one may still be needed", a_removed_one_may_still_be_needed, { BUG_NONE } },
	{ "a removed peer hears of it", a_removed_peer_hears_of_it, { BUG_NONE } },
	{ "learners do not count", learners_do_not_count, { BUG_LEARNER_COUNTS } },
	{ "what could not be appended is forgotten", what_could_not_be_appended_is_forgotten, { BUG_NONE } },
	{ "alone becomes two", alone_becomes_two, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
