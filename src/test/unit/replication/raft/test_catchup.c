/* test_catchup.c - stories: a peer that lacks more than the ring holds; term histories and their bounds. */
#include <stddef.h>

#include "raft_internal.h"
#include "trace.h"

/* Node 3 was away: 1 and 2 have 20 records more, and the leader's ring begins at AT(15). */
static void
one_was_away(void)
{
	nodes(3, 0);
	elect(1);
	isolate(3);
	write_records(1, 20);
	log_start(1, AT(15), FIRST);
	rejoin(3);
}

static void
it_fetches_from_files(void)
{
	one_was_away();
	connect_again(1, 3);
	settle();
	CHECK(fetching(3) && !fetching_tables(3) && out(3)->fetch_from == AT(1) && out(3)->fetch_id == 1);
	CHECK(out(3)->fetch_until == AT(21) && raft_peer(node(1), 3)->mode == RAFT_CATCHUP);
	fetched(3, 1, AT(10));
	CHECK(node(3)->matched == AT(10) && node(3)->commit == AT(10));
	pass(3 * HEARTBEAT);
	CHECK(fetching(3) && raft_peer(node(1), 3)->mode == RAFT_CATCHUP && raft_needed(node(1)) == AT(10));
	fetched(3, 1, AT(16));
	settle();
	CHECK(raft_peer(node(1), 3)->mode == RAFT_STREAM && same_log(1, 3) && !fetching(3));
	pass(HEARTBEAT);
	CHECK(node(3)->commit == AT(21));
}

static void
a_fetch_that_ended_early_is_asked_for_again(void)
{
	one_was_away();
	connect_again(1, 3);
	settle();
	fetched(3, 1, AT(10));
	fetch_ended(3);
	CHECK(!fetching(3));
	pass(3 * HEARTBEAT);
	CHECK(fetching(3) && log_end(3) == AT(10));
}

static void
what_is_fetched_need_not_be_durable_to_be_streamed(void)
{
	one_was_away();
	connect_again(1, 3);
	settle();
	slow_disk(3);
	fetched(3, 1, AT(16));
	pass(3 * HEARTBEAT);
	CHECK(raft_peer(node(1), 3)->mode == RAFT_STREAM && raft_peer(node(1), 3)->acked == AT(1));
}

static void
below_the_files_it_gets_tables(void)
{
	one_was_away();
	log_start(1, AT(15), AT(4));
	connect_again(1, 3);
	settle();
	CHECK(fetching_tables(3) && raft_peer(node(1), 3)->mode == RAFT_INSTALL);
	CHECK(last_sent(RAFT_CATCH_UP, 1, 3)->flags & RAFT_SNAPSHOT);
}

static void
at_the_bounds_of_ring_and_files(void)
{
	static const struct {
		uint64_t stream, fetch;
		RaftPeerMode mode;
	} want[] = {
		{ AT(0), FIRST, RAFT_STREAM },   { AT(1), FIRST, RAFT_STREAM },   { AT(2), FIRST, RAFT_CATCHUP },
		{ AT(15), AT(1), RAFT_CATCHUP }, { AT(15), AT(2), RAFT_INSTALL },
	};

	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		one_was_away(); /* has AT(1) */
		log_start(1, want[i].stream, want[i].fetch);
		connect_again(1, 3);
		settle();
		CHECK(raft_peer(node(1), 3)->mode == want[i].mode);
	}
}

static void
it_is_told_at_the_pace_of_heartbeats(void)
{
	int before;

	one_was_away();
	connect_again(1, 3);
	settle();
	before = sent_count(RAFT_CATCH_UP, 1, 3);
	pass(10 * HEARTBEAT);
	CHECK(sent_count(RAFT_CATCH_UP, 1, 3) - before <= 11 && node(3)->leader == 1 && leads(1));
}

static void
the_ring_passes_a_slow_one(void)
{
	nodes(3, 0);
	elect(1);
	slow_disk(3);
	write_records(1, 40); /* its window is full */
	log_start(1, AT(30), FIRST);
	pass(3 * HEARTBEAT);
	CHECK(raft_peer(node(1), 3)->mode == RAFT_CATCHUP && fetching(3));
	CHECK(log_end(3) == AT(17)); /* and keeps what it has */
}

static void
only_a_tail_that_differs_is_cut(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	slow_disk(1);
	cut(1, 3);
	write_records(1, 5); /* 2 has acknowledged them; who knows who counts on it */
	m = message(RAFT_CATCH_UP, 3, 2, 4);
	m.pos = AT(1);
	m.pos_term = 1;
	m.commit = AT(9);
	give(&m);
	CHECK(log_end(2) == AT(6) && !out(2)->truncate && !out(2)->fetch);
	CHECK(answer(2, RAFT_APPEND_REPLY)->flags & RAFT_REFUSED && answer(2, RAFT_APPEND_REPLY)->pos == AT(6));
	m.pos_term = 3; /* the leader's record there is another one */
	give(&m);
	CHECK(out(2)->truncate && log_end(2) == AT(1) && !fetching(2));
	give(&m);
	CHECK(fetching(2) && out(2)->fetch_from == AT(1));
}

static void
nothing_committed_is_cut(void)
{
	RaftMsg m;

	nodes(3, 0);
	elect(1);
	write_records(1, 5);
	pass(HEARTBEAT);
	CHECK(node(2)->commit == AT(6));
	m = message(RAFT_CATCH_UP, 3, 2, 4);
	m.pos = AT(2);
	m.pos_term = 3;
	m.commit = AT(9);
	give(&m);
	CHECK(log_end(2) == AT(6) && !out(2)->truncate);
}

static void
a_fetch_ends_with_its_leader(void)
{
	RaftMsg m;

	one_was_away();
	connect_again(1, 3);
	settle();
	m = message(RAFT_APPEND, 2, 3, 2);
	give(&m);
	CHECK(out(3)->stop_fetch && !fetching(3) && node(3)->leader == 2);
}

/* Node 1 has `n` terms of its own that nobody else has; 2 leads with a log of one term more. */
static void
many_terms_apart(int n)
{
	nodes(3, 0);
	elect(1);
	isolate(1);
	elect(2);
	write_records(2, 1);
	for (int i = 0; i < n; i++) {
		/* Terms nobody else has: as if it had been given them by leaders that are gone. */
		RaftAppend a = { .nterms = 1 };
		RaftEvent e = { .kind = RAFT_EV_APPEND, .append = &a, .now_us = now_us() };
		RaftOut o;
		uint64_t pos = node(1)->end;

		a.head = message(RAFT_APPEND, 3, 1, (uint64_t) i + 10);
		a.head.pos = pos;
		a.head.pos_term = raft_term_before(node(1), pos);
		a.head.end = pos + RECORD;
		a.terms[0] = (RaftTerm){ .term = (uint64_t) i + 10, .start = pos };
		raft_step(node(1), &e, &o);
		if (o.close_gate) /* led term 1 until now */
			raft_step(node(1), &e, &o);
		CHECK(o.accept);
	}
}

static void
histories_longer_than_a_message(void)
{
	RaftMsg m;
	RaftTerm tail[RAFT_TAIL_MAX];
	bool exact;

	many_terms_apart(3 * RAFT_TAIL_MAX);
	write_records(2, 100);
	m = message(RAFT_APPEND, 2, 1, 1000);
	m.pos = node(1)->end + RECORD;
	m.pos_term = 999;
	for (int round = 1; round <= 3; round++) { /* 48 terms are 3 answers */
		RaftEvent e = { .kind = RAFT_EV_MESSAGE, .msg = &m, .now_us = now_us() };
		RaftOut o;
		uint64_t end;

		raft_step(node(1), &e, &o);
		CHECK(o.nmessages == 1 && (o.message[0].flags & RAFT_REFUSED) &&
			  o.message[0].nterms == RAFT_TAIL_MAX);
		end = o.message[0].pos < o.message[0].end ? o.message[0].pos : o.message[0].end;
		m.pos = raft_history_fork(node(2), end, o.message[0].terms, o.message[0].nterms, &exact);
		CHECK(!exact && m.pos == AT(1 + 48 - 16 * round));
	}
	CHECK(raft_history_tail(node(1), node(1)->end, tail) == RAFT_TAIL_MAX && tail[0].term == 57);
}

static void
what_is_forgotten_is_not_claimed(void)
{
	many_terms_apart(RAFT_TERMS_MAX - 1);
	CHECK(node(1)->nterms == RAFT_TERMS_MAX && node(1)->forgotten == 0 &&
		  raft_term_before(node(1), AT(1)) == 1);
	many_terms_apart(RAFT_TERMS_MAX);
	CHECK(node(1)->nterms == RAFT_TERMS_MAX && node(1)->forgotten == AT(1));
	CHECK(raft_term_before(node(1), AT(1)) == 0 && !raft_history_knows(node(1), AT(1)));
	CHECK(raft_term_before(node(1), AT(2)) == 10 && raft_term_at(node(1), AT(1)) == 10);
}

/*
 * Node 3 started from its tables: of its first term it knows that it is one, not where that began. What it
 * had acknowledged ends below its log, and all of that below the leader's ring.
 */
static void
one_that_knows_its_history_from_its_tables_on_is_found(void)
{
	nodes(3, 0);
	elect(1);
	write_records(1, 6);
	cut_one_way(3, 1);
	write_records(1, 4);
	CHECK(log_end(3) == AT(11) && raft_peer(node(1), 3)->seen == AT(7));
	isolate(3);
	write_records(1, 20);
	log_start(1, AT(25), FIRST);
	restart(3);
	node(3)->terms[0].start = node(3)->forgotten = AT(4);
	rejoin(3);
	connect_again(1, 3);
	pass(5 * HEARTBEAT);
	CHECK(fetching(3) && !fetching_tables(3) && raft_peer(node(1), 3)->mode == RAFT_CATCHUP);
	fetched(3, 1, AT(26));
	pass(3 * HEARTBEAT);
	CHECK(same_log(1, 3) && raft_peer(node(1), 3)->mode == RAFT_STREAM);
}

static void
terms_at_their_edges(void)
{
	nodes(3, 0);
	CHECK(raft_term_before(node(1), 0) == 0 && raft_term_before(node(1), FIRST) == 0);
	elect(1);
	isolate(1);
	elect(2);
	CHECK(raft_term_at(node(2), FIRST) == 1 && raft_term_before(node(2), AT(1)) == 1);
	CHECK(raft_term_at(node(2), AT(1)) == 2 && raft_term_before(node(2), AT(2)) == 2);
	CHECK(raft_term_at(node(2), AT(2)) == 0 && raft_term_before(node(2), AT(3)) == 0);
	CHECK(raft_term_at(node(2), FIRST - 1) == 0);
}

static const Story stories[] = {
	{ "it fetches from files", it_fetches_from_files, { BUG_NONE } },
	{ "a fetch that ended early is asked for again",
	  a_fetch_that_ended_early_is_asked_for_again,
	  { BUG_NONE } },
	{ "what is fetched need not be durable to be streamed",
	  what_is_fetched_need_not_be_durable_to_be_streamed,
	  { BUG_NONE } },
	{ "below the files it gets tables", below_the_files_it_gets_tables, { BUG_NONE } },
	{ "at the bounds of ring and files", at_the_bounds_of_ring_and_files, { BUG_NONE } },
	{ "it is told at the pace of heartbeats", it_is_told_at_the_pace_of_heartbeats, { BUG_NONE } },
	{ "the ring passes a slow one", the_ring_passes_a_slow_one, { BUG_NONE } },
	{ "only a tail that differs is cut", only_a_tail_that_differs_is_cut, { BUG_TRUNCATE_BELOW_COMMIT } },
	{ "nothing committed is cut", nothing_committed_is_cut, { BUG_TRUNCATE_BELOW_COMMIT } },
	{ "a fetch ends with its leader", a_fetch_ends_with_its_leader, { BUG_NONE } },
	{ "histories longer than a message", histories_longer_than_a_message, { BUG_NONE } },
	{ "one that knows its history from its tables on is found",
	  one_that_knows_its_history_from_its_tables_on_is_found,
	  { BUG_NONE } },
	{ "what is forgotten is not claimed", what_is_forgotten_is_not_claimed, { BUG_NONE } },
	{ "terms at their edges", terms_at_their_edges, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
