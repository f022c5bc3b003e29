/* test_append.c - stories: log matching, truncation (L4), what is acknowledged (L2), recovery of a damaged log (L5). */
#include <stddef.h>

#include "trace.h"

/*
 * Node 1 led term 1 and wrote three records that reached nobody (TERM 1 did); node 2 leads term 2. Node 3 is the third.
 * Left: 1 has 4 records, 2 and 3 have TERM 1, TERM 2 and two more.
 */
static void
two_logs_that_part(void)
{
	nodes(3, 0);
	elect(1);
	isolate(1);
	write_records(1, 3);
	elect(2);
	write_records(2, 2);
	CHECK(log_end(1) == AT(4) && log_end(2) == AT(4) && same_log(2, 3));
	CHECK(node(2)->commit == AT(4));
	tick(1);
	CHECK(!leads(1) && !gate_open(1)); /* nobody has answered */
}

static void
a_tail_nobody_has_is_replaced(void)
{
	two_logs_that_part();
	rejoin(1);
	pass(3 * HEARTBEAT);
	CHECK(!leads(1) && !gate_open(1) && leads(2));
	CHECK(same_log(1, 2) && node(1)->commit == AT(4));
	write_records(2, 1);
	CHECK(log_end(1) == AT(5) && node(2)->peer[0].acked == AT(5));
}

static void
it_is_found_in_one_trip(void)
{
	int before;

	two_logs_that_part();
	rejoin(1);
	before = sent_count(RAFT_APPEND, 2, 1);
	connect_again(2, 1);
	settle();
	CHECK(same_log(
		1, 2)); /* no time has passed: a refusal with the history, a question at the fork, the bytes */
	CHECK(sent_count(RAFT_APPEND, 2, 1) - before <= 5);
}

static void
nothing_is_taken_while_the_tail_is_cut(void)
{
	int before;

	two_logs_that_part();
	slow_cut(1);
	rejoin(1);
	pass(3 * HEARTBEAT);
	CHECK(log_end(1) == AT(4) && node(1)->end == AT(1) && node(1)->truncating);
	before = sent_count(RAFT_APPEND, 2, 1);
	pass(10 * HEARTBEAT);
	CHECK(sent_count(RAFT_APPEND, 2, 1) <= before + 12); /* asked again at the pace of heartbeats */
	CHECK(leads(2) && node(1)->leader == 2 && log_end(1) == AT(4));
	finish_cut(1);
	settle();
	CHECK(same_log(1, 2)); /* at once */
}

static void
what_is_before_it_must_be_equal(void)
{
	two_logs_that_part();
	give_bytes(2, 2, 1, 2, AT(3), AT(4)); /* a gap would do no harm here: length is equal, terms are not */
	CHECK(log_end(1) == AT(4) && !out(1)->accept && answer(1, RAFT_APPEND_REPLY)->flags & RAFT_REFUSED);
	CHECK(node(1)->matched == 0);
	CHECK(answer(1, RAFT_APPEND_REPLY)->nterms == 1 && answer(1, RAFT_APPEND_REPLY)->terms[0].term == 1);
}

static void
a_gap_is_refused(void)
{
	nodes(3, 0);
	elect(1);
	isolate(3);
	write_records(1, 4);
	give_bytes(1, 1, 3, 1, AT(3), AT(5));
	CHECK(log_end(3) == AT(1) && answer(3, RAFT_APPEND_REPLY)->flags & RAFT_REFUSED);
	CHECK(answer(3, RAFT_APPEND_REPLY)->end == AT(1));
}

static void
a_short_or_late_append_shortens_nothing(void)
{
	nodes(3, 0);
	elect(1);
	write_records(1, 6);
	CHECK(log_end(2) == AT(7));
	give_bytes(1, 1, 2, 1, AT(1), AT(3));
	CHECK(log_end(2) == AT(7) && node(2)->end == AT(7) && !out(2)->truncate);
	slow_disk(1);
	slow_disk(3);
	write_records(1, 4); /* not committed */
	give_bytes(1, 1, 2, 1, AT(7), AT(8));
	CHECK(log_end(2) == AT(11) && !out(2)->truncate && !out(2)->accept);
	give_bytes(1, 1, 2, 1, FIRST, AT(11)); /* all of it once more */
	CHECK(log_end(2) == AT(11) && !out(2)->truncate && !out(2)->accept);
}

static void
an_older_leader_is_told(void)
{
	RaftMsg m;

	two_logs_that_part();
	wait_blind(2 * ELECTION);
	m = message(RAFT_VOTE, 6, 3, 5); /* in vain, but 3 has no leader now */
	give(&m);
	CHECK(term(3) == 5 && node(3)->leader == 0);
	give_bytes(1, 1, 3, 1, AT(1), AT(4));
	CHECK(same_log(2, 3) && node(3)->leader == 0 && answer(3, RAFT_APPEND_REPLY)->term == 5);
	mend(1, 3);
	give(answer(3, RAFT_APPEND_REPLY));
	CHECK(term(1) == 5 && disk_term(1) == 5);
}

static void
acknowledged_is_what_was_matched(void)
{
	RaftMsg m;

	two_logs_that_part();
	/* Node 1 hears of leader 2, with nothing claimed: its tail is durable, but not the leader's. */
	m = message(RAFT_APPEND, 2, 1, 2);
	m.commit = AT(4);
	give(&m);
	CHECK(answer(1, RAFT_APPEND_REPLY)->pos == 0 && node(1)->commit <= AT(1));
	CHECK(answer(1, RAFT_APPEND_REPLY)->end == AT(4));
	m.pos = AT(1);
	m.pos_term = 1;
	give(&m);
	CHECK(answer(1, RAFT_APPEND_REPLY)->pos == AT(1) && node(1)->commit == AT(1));
}

static void
matched_begins_anew_with_each_term(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	cut(1, 3);
	slow_disk(1); /* 2 has it all, but it is not committed */
	write_records(1, 3);
	CHECK(node(2)->matched == AT(4) && node(1)->commit == AT(1));
	m = message(RAFT_APPEND, 3, 2, 5);
	m.commit = AT(3);
	give(&m);
	CHECK(node(2)->matched == 0 && node(2)->commit == AT(1));
	CHECK(answer(2, RAFT_APPEND_REPLY)->pos == 0 && answer(2, RAFT_APPEND_REPLY)->term == 5);
}

static void
acknowledged_is_what_is_durable(void)
{
	nodes(3, 0);
	elect(1);
	slow_disk(2);
	slow_disk(3);
	write_records(1, 3);
	CHECK(log_end(2) == AT(4) && node(2)->matched == AT(4));
	CHECK(last_sent(RAFT_APPEND_REPLY, 2, 1)->pos == AT(1) && node(1)->commit == AT(1));
	sync_disk(2); /* by itself it tells */
	CHECK(last_sent(RAFT_APPEND_REPLY, 2, 1)->pos == AT(4) && node(1)->commit == AT(4));
}

static void
commit_never_falls(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	write_records(1, 3);
	pass(HEARTBEAT);
	CHECK(node(2)->commit == AT(4));
	m = message(RAFT_APPEND, 1, 2, 1);
	m.commit = AT(2);
	give(&m);
	CHECK(node(2)->commit == AT(4) && !out(2)->commit_moved);
}

static void
terms_of_an_append_ascend(void)
{
	RaftAppend a = { .nterms = 1, .terms = { { .term = 1, .start = AT(2) } } };
	RaftEvent e = { .kind = RAFT_EV_APPEND, .append = &a };
	RaftOut o;

	nodes(3, 0);
	elect(1);
	e.now_us = now_us();
	a.head = message(RAFT_APPEND, 1, 2, 1);
	a.head.pos = AT(1);
	a.head.pos_term = 1;
	a.head.end = AT(3);
	raft_step(node(2), &e, &o); /* L1: term 1 begins again */
	CHECK(!o.accept && o.nmessages == 0 && node(2)->end == AT(1));
	a.terms[0].term = 4; /* newer than the leader's */
	raft_step(node(2), &e, &o);
	CHECK(!o.accept && node(2)->end == AT(1));
}

/* Five nodes; 5's log was damaged down to AT(2) after it had acknowledged AT(4). */
static void
a_damaged_node(void)
{
	nodes(5, 0);
	elect(1);
	write_records(1, 3);
	pass(HEARTBEAT);
	CHECK(node(5)->commit == AT(4));
	crash(5);
	isolate(5);
	restart_damaged(5, AT(2));
}

static void
a_damaged_node_does_not_vote(void)
{
	RaftMsg m;

	a_damaged_node();
	wait_blind(3 * ELECTION);
	m = message(RAFT_VOTE, 4, 5, 7);
	m.pos = AT(2);
	m.pos_term = 1;
	give(&m);
	CHECK(!(answer(5, RAFT_VOTE_REPLY)->flags & RAFT_GRANTED));
	m.kind = RAFT_PREVOTE;
	m.term = 9;
	give(&m);
	CHECK(!(answer(5, RAFT_PREVOTE_REPLY)->flags & RAFT_GRANTED));
	tick(5);
	CHECK(node(5)->role == RAFT_FOLLOWER && raft_deadline_us(node(5)) > now_us());
}

static void
a_damaged_node_does_not_count(void)
{
	a_damaged_node();
	rejoin(5);
	for (int id = 2; id <= 5; id++)
		hold(RAFT_APPEND);
	crash(2);
	crash(3);
	connect_again(1, 5);
	slow_disk(5); /* so that it stays as it is */
	pass(HEARTBEAT);
	write_records(1, 1);
	release();
	settle();
	CHECK(node(5)->vote.recovering && raft_peer(node(1), 5)->acked == 0 &&
		  raft_peer(node(1), 5)->seen == AT(2));
	CHECK(raft_peer(node(1), 5)->heard_us == now_us());
	CHECK(node(1)->commit == AT(4)); /* 1 and 4 have AT(5) */
}

static void
a_damaged_nodes_answers_are_no_acknowledgement(void)
{
	RaftMsg m;

	a_damaged_node();
	isolate(2);
	isolate(3);
	write_records(1, 1);
	CHECK(node(1)->commit == AT(4)); /* 1 and 4 have it */
	m = message(RAFT_APPEND_REPLY, 5, 1, 1);
	m.pos = m.end = AT(5);
	m.flags = RAFT_RECOVERING;
	give(&m);
	CHECK(node(1)->commit == AT(4) && raft_peer(node(1), 5)->echo_us < now_us());
	m.flags = 0;
	give(&m);
	CHECK(node(1)->commit == AT(5));
}

static void
it_is_whole_again_at_the_leaders_commit(void)
{
	a_damaged_node();
	slow_disk(5);
	rejoin(5);
	connect_again(1, 5);
	settle();
	CHECK(log_end(5) == AT(4) && node(5)->vote.recovering); /* all there, not durable */
	sync_disk(5);
	CHECK(!node(5)->vote.recovering && raft_peer(node(1), 5)->acked == AT(4));
}

static void
only_a_commit_of_the_own_term_makes_it_whole(void)
{
	RaftMsg m;

	a_damaged_node();
	m = message(RAFT_APPEND, 2, 5, 8); /* a new leader, that does not know yet what is committed */
	m.pos = m.commit = AT(2);
	m.pos_term = 1;
	give(&m);
	CHECK(node(5)->vote.recovering && node(5)->commit == AT(2));
	CHECK(answer(5, RAFT_APPEND_REPLY)->flags & RAFT_RECOVERING);
	m.flags = RAFT_OWN_TERM;
	give(&m);
	CHECK(!node(5)->vote.recovering && out(5)->persist);
	CHECK(!(answer(5, RAFT_APPEND_REPLY)->flags & RAFT_RECOVERING));
}

static void
a_hello_forgets_what_was_acknowledged(void)
{
	RaftMsg late;

	nodes(3, 0);
	elect(1);
	slow_disk(1);
	isolate(2);
	write_records(1, 3); /* only 3 has it durable */
	late = *last_sent(RAFT_APPEND_REPLY, 3, 1);
	CHECK(raft_peer(node(1), 3)->acked == AT(4) && node(1)->commit == AT(1));
	wait_blind(MS);
	crash(3);
	isolate(3);
	restart_damaged(3, AT(1));
	connect_again(1, 3);
	CHECK(raft_peer(node(1), 3)->acked == 0);
	give(&late); /* of the log it had */
	CHECK(raft_peer(node(1), 3)->acked == 0);
	sync_disk(1);
	CHECK(node(1)->commit == AT(1));
}

static void
an_acknowledgement_of_an_older_term_is_void(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	isolate(1);
	elect(2);
	isolate(3);
	write_records(2, 2);
	m = message(RAFT_APPEND_REPLY, 3, 2, 1);
	m.pos = m.end = AT(4);
	give(&m);
	CHECK(node(2)->commit == AT(2) && raft_peer(node(2), 3)->acked == AT(2));
}

static void
a_late_answer_does_not_bring_a_peer_back(void)
{
	nodes(3, 0);
	elect(1);
	hold(RAFT_APPEND_REPLY);
	write_records(1, 1);
	disconnect(1, 3);
	release();
	settle();
	CHECK(node(1)->commit == AT(2) && raft_peer(node(1), 3)->seen == AT(2)); /* it was read */
	CHECK(!raft_peer(node(1), 3)->up && raft_peer(node(1), 2)->up);
	connect_again(1, 3);
	settle();
	CHECK(raft_peer(node(1), 3)->up);
}

static const Story stories[] = {
	{ "a tail nobody has is replaced", a_tail_nobody_has_is_replaced, { BUG_NO_TRUNCATE } },
	{ "the fork is found in one trip", it_is_found_in_one_trip, { BUG_NONE } },
	{ "nothing is taken while the tail is cut", nothing_is_taken_while_the_tail_is_cut, { BUG_NONE } },
	{ "what is before it must be equal", what_is_before_it_must_be_equal, { BUG_PREV_TERM_NOT_CHECKED } },
	{ "a gap is refused", a_gap_is_refused, { BUG_NONE } },
	{ "a short or late append shortens nothing",
	  a_short_or_late_append_shortens_nothing,
	  { BUG_TRUNCATE_ON_SHORT } },
	{ "an older leader is told", an_older_leader_is_told, { BUG_OLD_LEADER_APPEND } },
	{ "acknowledged is what was matched",
	  acknowledged_is_what_was_matched,
	  { BUG_ACK_NOT_MATCHED, BUG_COMMIT_OVER_MATCHED } },
	{ "matched begins anew with each term", matched_begins_anew_with_each_term, { BUG_MATCHED_KEPT } },
	{ "acknowledged is what is durable", acknowledged_is_what_is_durable, { BUG_ACK_NOT_DURABLE } },
	{ "commit never falls", commit_never_falls, { BUG_NONE } },
	{ "terms of an append ascend", terms_of_an_append_ascend, { BUG_NONE } },
	{ "a damaged node does not vote", a_damaged_node_does_not_vote, { BUG_RECOVERING_VOTES } },
	{ "a damaged node does not count", a_damaged_node_does_not_count, { BUG_RECOVERING_ACKS_COUNT } },
	{ "a damaged node's answers are no acknowledgement",
	  a_damaged_nodes_answers_are_no_acknowledgement,
	  { BUG_RECOVERING_ACKS_COUNT } },
	{ "it is whole again at the leader's commit", it_is_whole_again_at_the_leaders_commit, { BUG_NONE } },
	{ "only a commit of the own term makes it whole",
	  only_a_commit_of_the_own_term_makes_it_whole,
	  { BUG_RECOVERED_TOO_EARLY } },
	{ "a hello forgets what was acknowledged",
	  a_hello_forgets_what_was_acknowledged,
	  { BUG_HELLO_KEEPS_ACKED } },
	{ "a late answer does not bring a peer back",
	  a_late_answer_does_not_bring_a_peer_back,
	  { BUG_LATE_ANSWER_IS_UP } },
	{ "an acknowledgement of an older term is void",
	  an_acknowledgement_of_an_older_term_is_void,
	  { BUG_STALE_ACK_OF_OLD_TERM } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
