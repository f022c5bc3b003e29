/* test_election.c - stories: pre-vote, vote, what may be counted, R1, persistence. */
#include <stddef.h>

#include "trace.h"

static RaftMsg
vote_request(RaftKind kind, int from, int to, uint64_t t, uint64_t last_term, uint64_t end)
{
	RaftMsg m = message(kind, from, to, t);

	m.pos = end;
	m.pos_term = last_term;
	return m;
}

static bool
granted(int id, RaftKind kind)
{
	const RaftOut *o = out(id);

	for (int i = 0; i < o->nmessages; i++)
		if (o->message[i].kind == kind)
			return o->message[i].flags & RAFT_GRANTED;
	return false;
}

static RaftMsg
vote(int from, int to, uint64_t t)
{
	RaftMsg m = message(RAFT_VOTE_REPLY, from, to, t);

	m.flags = RAFT_GRANTED;
	return m;
}

static void
three_elect_a_leader(void)
{
	nodes(3, 0);
	pass(3 * ELECTION);
	CHECK(leads(1) + leads(2) + leads(3) == 1);
	for (int id = 1; id <= 3; id++) {
		CHECK(term(id) == 1 && log_end(id) == AT(1) && node(id)->commit == AT(1));
		CHECK(gate_open(id) == leads(id) && node(id)->leader == node(1)->leader);
	}
	pass(20 * ELECTION);
	CHECK(term(1) == 1); /* heartbeats keep everybody quiet */
}

static void
alone_it_leads_in_one_step(void)
{
	nodes(1, 1);
	CHECK(raft_deadline_us(node(1)) <= now_us());
	tick(1);
	CHECK(leads(1) && gate_open(1) && disk_term(1) == 1 && disk_vote(1) == 1);
	CHECK(node(1)->commit == AT(1) && raft_lease_us(node(1)) == UINT64_MAX &&
		  raft_serve_from(node(1)) == AT(1));
}

static void
a_minority_elects_nobody(void)
{
	nodes(5, 0);
	for (int a = 1; a <= 2; a++)
		for (int b = 3; b <= 5; b++)
			cut(a, b);
	for (int b = 3; b <= 5; b++)
		crash(b);
	pass(20 * ELECTION);
	CHECK(!leads(1) && !leads(2));
	CHECK(term(1) == 0 && term(2) == 0); /* pre-vote: nobody is disturbed when they come back (thesis 9.6) */
}

static void
a_candidate_needs_a_majority(void)
{
	nodes(4, 0);
	wait_blind(3 * ELECTION);
	crash(3);
	crash(4);
	tick(1);
	settle();
	CHECK(!leads(1)); /* two of four */
}

static void
an_older_log_gets_no_vote(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	write_records(1, 3);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 3, 2, 5, 1, AT(3)); /* shorter */
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY) && term(2) == 5 && disk_term(2) == 5);
	m = vote_request(RAFT_VOTE, 3, 2, 6, 0, AT(9)); /* longer, of an older term */
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY));
	m = vote_request(RAFT_PREVOTE, 3, 2, 9, 1, AT(3));
	give(&m);
	CHECK(!granted(2, RAFT_PREVOTE_REPLY) && term(2) == 6); /* its term is a wish, not a fact */
	m = vote_request(RAFT_VOTE, 3, 2, 7, 1, AT(4));
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY));
}

static void
one_vote_a_term(void)
{
	RaftMsg m;

	nodes(3, 0);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 1, 2, 4, 0, FIRST);
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY));
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY)); /* the same again: the answer was lost */
	m = vote_request(RAFT_VOTE, 3, 2, 4, 0, FIRST);
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY));
}

static void
a_vote_is_on_disk_first(void)
{
	RaftMsg m;

	nodes(3, 0);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 1, 2, 4, 0, FIRST);
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY) && out(2)->persist && disk_vote(2) == 1 && disk_term(2) == 4);
	crash(2);
	restart(2);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 3, 2, 4, 0, FIRST);
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY));
}

static void
a_vote_at_a_known_term_is_on_disk_first(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 3, 2, 4, 0, FIRST); /* refused, and yet its term is ours now */
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY) && disk_term(2) == 4 && disk_vote(2) == 0);
	m = vote_request(RAFT_VOTE, 1, 2, 4, 1, AT(1));
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY) && disk_vote(2) == 1);
}

static void
a_term_is_on_disk_before_it_is_used(void)
{
	RaftMsg m = { 0 };

	nodes(3, 0);
	m = message(RAFT_APPEND, 1, 2, 7);
	give(&m);
	CHECK(term(2) == 7 && disk_term(2) == 7);
	crash(2);
	restart(2);
	wait_blind(3 * ELECTION);
	m = vote_request(RAFT_VOTE, 3, 2, 7, 0, FIRST);
	give(&m);
	CHECK(disk_term(2) == 7);
	m = message(RAFT_APPEND, 3, 2, 6);
	give(&m);
	CHECK(term(2) == 7);
}

static void
votes_of_another_campaign_do_not_count(void)
{
	RaftMsg m;

	nodes(5, 0);
	for (int id = 2; id <= 5; id++)
		crash(id);
	wait_blind(3 * ELECTION);
	tick(1);
	for (int id = 2; id <= 3; id++) { /* two pre-votes and the own: a candidate */
		m = message(RAFT_PREVOTE_REPLY, id, 1, 1);
		m.flags = RAFT_GRANTED;
		give(&m);
	}
	CHECK(node(1)->role == RAFT_CANDIDATE && term(1) == 1 && disk_vote(1) == 1);
	m = message(RAFT_PREVOTE_REPLY, 4, 1, 1); /* late: says nothing about this */
	m.flags = RAFT_GRANTED;
	give(&m);
	m.from = 5;
	give(&m);
	CHECK(node(1)->role == RAFT_CANDIDATE);
	m = vote(2, 1, 1);
	give(&m);
	give(&m); /* twice the same voter */
	CHECK(node(1)->role == RAFT_CANDIDATE);
	m = vote(4, 1, 0);
	give(&m);
	m = vote(5, 1, 0);
	give(&m);
	CHECK(node(1)->role == RAFT_CANDIDATE);
	m = vote(5, 1, 1);
	give(&m);
	CHECK(leads(1));
}

static void
only_voters_count(void)
{
	RaftMsg m;

	nodes(3, 2);
	for (int id = 2; id <= 3; id++)
		crash(id);
	wait_blind(3 * ELECTION);
	tick(1);
	settle();
	CHECK(node(1)->role == RAFT_PRECANDIDATE);
	m = message(RAFT_PREVOTE_REPLY, 2, 1, 1);
	m.flags = RAFT_GRANTED;
	give(&m);
	settle();
	CHECK(node(1)->role == RAFT_CANDIDATE); /* 4 and 5 are learners */
	m = vote(6, 1, 1);                      /* and 6 is nobody (C1) */
	give(&m);
	CHECK(node(1)->role == RAFT_CANDIDATE);
	m = vote(4, 1, 1);
	give(&m);
	m = vote(5, 1, 1);
	give(&m);
	CHECK(node(1)->role == RAFT_CANDIDATE);
	m = vote(3, 1, 1);
	give(&m);
	CHECK(leads(1));
}

static void
learners_and_strangers_never_campaign(void)
{
	nodes(1, 1);
	crash(1);
	pass(20 * ELECTION);
	CHECK(!leads(2) && term(2) == 0 && term(3) == 0);
	CHECK(raft_deadline_us(node(2)) > now_us());
}

static void
no_vote_while_there_may_be_a_leader(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	pass(ELECTION / 2);
	wait_blind(ELECTION - 2 * HEARTBEAT);
	m = vote_request(RAFT_VOTE, 3, 2, 9, 1, AT(5));
	give(&m);
	CHECK(!granted(2, RAFT_VOTE_REPLY) && term(2) == 1); /* not even its term (thesis 4.2.3) */
	m.to = 1;
	give(&m);
	CHECK(leads(1) && term(1) == 1);
	m = vote_request(RAFT_PREVOTE, 3, 2, 9, 1, AT(5));
	give(&m);
	CHECK(!granted(2, RAFT_PREVOTE_REPLY));
	wait_blind(2 * HEARTBEAT);
	give(&m);
	CHECK(granted(2, RAFT_PREVOTE_REPLY));
	m = vote_request(RAFT_VOTE, 3, 2, 9, 1, AT(5));
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY));
}

static void
no_vote_right_after_the_start(void)
{
	RaftMsg m;

	nodes(3, 0);
	m = vote_request(RAFT_VOTE, 3, 2, 9, 1, AT(5));
	wait_blind(ELECTION - 1);
	give(&m); /* may have promised a leader before it stopped */
	CHECK(!granted(2, RAFT_VOTE_REPLY));
	wait_blind(1);
	give(&m);
	CHECK(granted(2, RAFT_VOTE_REPLY));
}

static void
the_own_timeout_is_never_shorter(void)
{
	nodes(3, 0);
	for (int i = 0; i < 200; i++) {
		RaftMsg m = message(RAFT_APPEND, 1, 2, 1);

		wait_blind(HEARTBEAT);
		give(&m);
		CHECK(raft_deadline_us(node(2)) >= now_us() + ELECTION);
		CHECK(raft_deadline_us(node(2)) < now_us() + 2 * ELECTION);
	}
}

static void
an_append_of_the_same_term_ends_a_campaign(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	isolate(3);
	campaign(3);
	m = message(RAFT_PREVOTE_REPLY, 2, 3, 2);
	m.flags = RAFT_GRANTED;
	give(&m);
	CHECK(node(3)->role == RAFT_CANDIDATE && term(3) == 2);
	m = message(RAFT_APPEND, 2, 3, 2);
	give(&m);
	CHECK(node(3)->role == RAFT_FOLLOWER && node(3)->leader == 2);
}

static void
a_refused_prevote_tells_the_term(void)
{
	RaftMsg m;

	nodes(3, 0);
	wait_blind(3 * ELECTION);
	isolate(2);
	tick(2);
	m = message(RAFT_PREVOTE_REPLY, 3, 2, 12);
	give(&m);
	CHECK(term(2) == 12 && disk_term(2) == 12 && node(2)->role == RAFT_FOLLOWER);
}

static void
a_leader_nobody_answers_steps_down(void)
{
	uint64_t last;

	nodes(3, 0);
	elect(1);
	pass(ELECTION);
	last = now_us();
	cut_one_way(2, 1);
	cut_one_way(3, 1);
	pass(ELECTION - HEARTBEAT - MS);
	CHECK(leads(1));
	pass(HEARTBEAT + 2 * MS);
	CHECK(!leads(1) && !gate_open(1) && raft_lease_us(node(1)) == 0);
	CHECK(now_us() <= last + ELECTION + 2 * MS);
	pass(10 * ELECTION); /* it hears nobody, they hear it: they lead without it (B19) */
	CHECK(leads(2) + leads(3) == 1);
}

static void
one_that_comes_back_disturbs_nobody(void)
{
	nodes(3, 0);
	elect(1);
	isolate(3);
	pass(30 * ELECTION);
	CHECK(leads(1) && term(3) == 1);
	rejoin(3);
	pass(ELECTION);
	CHECK(leads(1) && term(1) == 1 && node(3)->leader == 1);
}

static void
two_leaders_in_a_term_are_not_believed(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	m = message(RAFT_APPEND, 3, 2, 1);
	give(&m);
	CHECK(node(2)->leader == 1);
	m.to = 1;
	give(&m);
	CHECK(leads(1));
}

static void
the_median_of_the_clocks(void)
{
	RaftMsg m;

	nodes(3, 0);
	CHECK(raft_clock_ms(node(1), 5000) == 5000);
	crash(2);
	crash(3);
	wait_blind(3 * ELECTION);
	tick(1);
	m = message(RAFT_PREVOTE_REPLY, 2, 1, 1);
	m.flags = RAFT_GRANTED;
	give(&m);
	m = vote(2, 1, 1);
	m.clock_ms = 9000;
	give(&m);
	CHECK(leads(1));
	CHECK(raft_clock_ms(node(1), 5000) == 5000); /* of two the earlier */
	CHECK(raft_clock_ms(node(1), 86400000) == 9000);
}

static const Story stories[] = {
	{ "three elect a leader, who stays", three_elect_a_leader, { BUG_NONE } },
	{ "alone it leads in one step", alone_it_leads_in_one_step, { BUG_NONE } },
	{ "a minority elects nobody", a_minority_elects_nobody, { BUG_MAJORITY_OFF_BY_ONE } },
	{ "a candidate needs a majority", a_candidate_needs_a_majority, { BUG_MAJORITY_OFF_BY_ONE } },
	{ "an older log gets no vote", an_older_log_gets_no_vote, { BUG_NO_LOG_CHECK } },
	{ "one vote a term", one_vote_a_term, { BUG_VOTE_TWICE } },
	{ "a vote is on disk first", a_vote_is_on_disk_first, { BUG_VOTE_NOT_PERSISTED } },
	{ "a vote at a known term is on disk first",
	  a_vote_at_a_known_term_is_on_disk_first,
	  { BUG_VOTE_NOT_PERSISTED } },
	{ "a term is on disk before it is used",
	  a_term_is_on_disk_before_it_is_used,
	  { BUG_TERM_NOT_PERSISTED } },
	{ "votes of another campaign do not count",
	  votes_of_another_campaign_do_not_count,
	  { BUG_STALE_VOTE_REPLY, BUG_VOTES_KEPT, BUG_PREVOTE_COUNTS_OLD } },
	{ "only voters count", only_voters_count, { BUG_STRANGER_VOTES, BUG_LEARNER_VOTES } },
	{ "learners and strangers never campaign", learners_and_strangers_never_campaign, { BUG_NONE } },
	{ "no vote while there may be a leader",
	  no_vote_while_there_may_be_a_leader,
	  { BUG_VOTE_AFTER_CONTACT } },
	{ "no vote right after the start", no_vote_right_after_the_start, { BUG_VOTE_AFTER_START } },
	{ "the own timeout is never shorter", the_own_timeout_is_never_shorter, { BUG_NONE } },
	{ "an append of the same term ends a campaign",
	  an_append_of_the_same_term_ends_a_campaign,
	  { BUG_EQUAL_TERM_CANDIDATE } },
	{ "a refused pre-vote tells the term", a_refused_prevote_tells_the_term, { BUG_NONE } },
	{ "a leader nobody answers steps down", a_leader_nobody_answers_steps_down, { BUG_NONE } },
	{ "one that comes back disturbs nobody", one_that_comes_back_disturbs_nobody, { BUG_NONE } },
	{ "two leaders in a term are not believed", two_leaders_in_a_term_are_not_believed, { BUG_NONE } },
	{ "the median of the clocks", the_median_of_the_clocks, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
