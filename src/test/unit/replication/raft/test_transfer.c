/* test_transfer.c - stories: leadership is handed over (thesis 3.10). */
#include <stddef.h>

#include "trace.h"

static void
it_goes_to_whom_it_was_promised(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	CHECK(transfer(1, 3) == RAFT_ACCEPTED && out(1)->close_gate && out(1)->lease_moved);
	CHECK(raft_lease_us(node(1)) == 0 && !gate_open(1) && node(1)->transferring);
	CHECK(raft_deadline_us(node(1)) <= now_us());
	pass(MS);
	CHECK(leads(3) && gate_open(3) && term(3) == 2 && !leads(1));
	pass(HEARTBEAT);
	CHECK(node(1)->leader == 3 && node(2)->leader == 3 && same_log(1, 3));
}

static void
it_waits_until_the_target_has_everything(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	slow_disk(3);
	write_records(1, 3);
	CHECK(transfer(1, 3) == RAFT_ACCEPTED);
	append_quietly(1, 1); /* came in before the gate was closed */
	write_records(1, 0);
	pass(ELECTION / 2);
	CHECK(leads(1) && sent_count(RAFT_TIMEOUT_NOW, 1, 3) == 0);
	sync_disk(3);
	pass(MS);
	CHECK(leads(3) && log_end(3) == AT(6));
}

static void
the_furthest_is_chosen(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	slow_disk(2);
	write_records(1, 3);
	CHECK(transfer(1, 0) == RAFT_ACCEPTED && node(1)->transfer_to == 3);
}

static void
it_is_given_up(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	slow_disk(3);
	write_records(1, 1);
	CHECK(transfer(1, 3) == RAFT_ACCEPTED);
	CHECK(transfer(1, 2) == RAFT_NOT_YET);
	pass(ELECTION + MS);
	CHECK(leads(1) && gate_open(1) && !node(1)->transferring);
	CHECK(raft_lease_us(node(1)) > now_us()); /* nobody was told to campaign */
}

/* TIMEOUT_NOW is late: leader 1 has given up, and would serve reads by its lease when 3 is elected against R1. */
static void
no_lease_while_the_word_may_be_on_its_way(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	hold(RAFT_TIMEOUT_NOW);
	CHECK(transfer(1, 3) == RAFT_ACCEPTED);
	tick(1);
	CHECK(sent_count(RAFT_TIMEOUT_NOW, 1, 3) == 1);
	cut_one_way(1, 3);
	pass(ELECTION + MS);
	CHECK(leads(1) && gate_open(1) && raft_lease_us(node(1)) == 0);
	mend(1, 3);
	release();
	settle();
	CHECK(leads(3) && !leads(1)); /* it would have been a stale read */
}

static void
a_late_word_is_ignored(void)
{
	nodes(3, 0);
	elect(1);
	pass(HEARTBEAT);
	hold(RAFT_TIMEOUT_NOW);
	CHECK(transfer(1, 3) == RAFT_ACCEPTED);
	pass(ELECTION + 2 * HEARTBEAT);
	CHECK(leads(1) && raft_lease_us(node(1)) > now_us()); /* 3 has answered something newer */
	release();
	settle();
	CHECK(leads(1) && term(3) == 1);
}

static void
refused_with_the_reason(void)
{
	nodes(3, 1);
	CHECK(transfer(1, 2) == RAFT_NOT_LEADER);
	elect(1);
	pass(HEARTBEAT);
	CHECK(transfer(1, 6) == RAFT_UNKNOWN_NODE);
	isolate(2);
	isolate(3);
	pass(ELECTION / 2);
	wait_blind(ELECTION);
	CHECK(transfer(1, 2) == RAFT_NOT_CAUGHT_UP);
	CHECK(transfer(1, 0) == RAFT_NO_QUORUM);
	CHECK(leads(1) && gate_open(1) && !out(1)->close_gate);
	CHECK(raft_proposal_text(out(1)->proposal) != NULL);
}

static void
to_nobody(void)
{
	nodes(3, 0);
	elect(1);
	CHECK(transfer(1, 1) == RAFT_ACCEPTED && !leads(1) && !gate_open(1) && out(1)->close_gate);
}

static void
strangers_give_no_word(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	m = message(RAFT_TIMEOUT_NOW, 2, 3, 1);
	give(&m);
	CHECK(node(3)->role == RAFT_FOLLOWER && term(3) == 1);
	m = message(RAFT_TIMEOUT_NOW, 1, 3, 0);
	give(&m);
	CHECK(node(3)->role == RAFT_FOLLOWER && term(3) == 1);
}

static const Story stories[] = {
	{ "it goes to whom it was promised", it_goes_to_whom_it_was_promised, { BUG_LEASE_KEPT_IN_TRANSFER } },
	{ "it waits until the target has everything", it_waits_until_the_target_has_everything, { BUG_NONE } },
	{ "the furthest is chosen", the_furthest_is_chosen, { BUG_NONE } },
	{ "it is given up", it_is_given_up, { BUG_NONE } },
	{ "no lease while the word may be on its way",
	  no_lease_while_the_word_may_be_on_its_way,
	  { BUG_LEASE_AFTER_TRANSFER } },
	{ "a late word is ignored", a_late_word_is_ignored, { BUG_NONE } },
	{ "refused with the reason", refused_with_the_reason, { BUG_NONE } },
	{ "to nobody: steps down", to_nobody, { BUG_NONE } },
	{ "strangers give no word", strangers_give_no_word, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
