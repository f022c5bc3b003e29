/*
 * test_chaos.c - stories that nobody thought of: random faults, then peace.
 *
 * The world watches that there is one leader a term and that what is committed stays; here also that a lease is held
 * only while nobody newer has committed, that reads see what was committed when they came, and that peace brings
 * agreement. A failing seed is printed; the same seed tells the same story.
 */
#include <stddef.h>
#include <stdio.h>

#include "common/prng.h"
#include "trace.h"

#define SEEDS 300
#define STEPS 300

static Prng dice;
static int voters;
static uint64_t asked_us[NODES + 1], asked_index[NODES + 1];
static bool down[NODES + 1];
static uint64_t committed; /* anywhere, so far */

static int
roll(int n)
{
	return (int) prng_below(&dice, (uint64_t) n);
}

static int
anybody(void)
{
	return 1 + roll(NODES);
}

static void
look(void)
{
	for (int x = 1; x <= NODES; x++) {
		if (!down[x] && node(x)->commit > committed)
			committed = node(x)->commit;
		if (asked_us[x] != 0 && reads_until(x) > asked_us[x]) {
			CHECK(reads_index(x) >= asked_index[x]);
			asked_us[x] = 0;
		}
	}
	for (int x = 1; x <= NODES; x++) {
		if (down[x] || raft_lease_us(node(x)) <= now_us())
			continue;
		for (int y = 1; y <= NODES; y++)
			CHECK(down[y] || !leads(y) || term(y) <= term(x) || node(y)->commit < node(y)->term_end);
		CHECK(node(x)->commit == committed);
	}
}

static void
one_network_fault(void)
{
	int a = anybody(), b = anybody();

	switch (roll(6)) {
	case 0:
		isolate(a);
		break;
	case 1:
		rejoin(a);
		break;
	case 2:
		if (a != b)
			cut_one_way(a, b);
		break;
	case 3:
		hold((RaftKind) (RAFT_PREVOTE + roll(RAFT_KINDS - RAFT_PREVOTE)));
		break;
	default:
		release();
		break;
	}
}

static void
one_node_fault(void)
{
	int a = anybody();

	switch (roll(8)) {
	case 0:
		if (!down[a]) {
			crash(a);
			down[a] = true;
			asked_us[a] = 0;
		}
		break;
	case 1:
	case 2:
		if (down[a]) {
			down[a] = false;
			restart(a);
		}
		break;
	case 3:
		slow_disk(a);
		break;
	case 4:
	case 5:
		sync_disk(a);
		break;
	case 6:
		slow_cut(a);
		break;
	default:
		finish_cut(a);
		break;
	}
}

static bool
somebody_is_damaged(void)
{
	for (int id = 1; id <= NODES; id++)
		if (node(id)->vote.recovering)
			return true;
	return false;
}

static void
one_damage(void)
{
	int a = anybody();
	uint64_t end;

	/* One of three or more, and one at a time: what a majority has lost is lost. */
	for (int id = 1; id <= NODES; id++)
		if (raft_voters(&node(id)->config) < 3)
			return;
	if (somebody_is_damaged())
		return;
	if (node(a)->durable <= FIRST || !raft_is_voter(&node(a)->config, a))
		return;
	end = FIRST + (uint64_t) roll((int) ((node(a)->durable - FIRST) / RECORD) + 1) * RECORD;
	crash(a);
	down[a] = false;
	asked_us[a] = 0;
	restart_damaged(a, end);
}

static void
one_wish(int leader)
{
	RaftConfig c;

	switch (roll(6)) {
	case 0:
		(void) transfer(leader, roll(3) == 0 ? 0 : anybody());
		break;
	case 1:
		if (node(leader)->config.n < NODES) {
			c = with_learner(leader, anybody());
			(void) propose(leader, &c);
		}
		break;
	case 2:
		c = without(leader, anybody());
		if (raft_voters(&c) >= (somebody_is_damaged() ? NODES : 2)) /* none while one is damaged */
			(void) propose(leader, &c);
		break;
	default:
		if (asked_us[leader] == 0) {
			asked_us[leader] = now_us();
			asked_index[leader] = committed;
		}
		ask_to_read(leader);
		break;
	}
}

static void
one_step(void)
{
	int a = anybody();

	switch (roll(10)) {
	case 0:
	case 1:
		one_network_fault();
		break;
	case 2:
		one_node_fault();
		break;
	case 3:
		if (roll(10) == 0)
			one_damage();
		break;
	case 4:
	case 5:
	case 6:
		if (leads(a) && gate_open(a)) {
			if (roll(3) == 0)
				one_wish(a);
			else
				write_records(a, 1 + roll(3));
		}
		break;
	default:
		pass((uint64_t) (1 + roll(400)) * MS);
		break;
	}
	look();
}

static void
peace(void)
{
	int leader = 0;
	RaftConfig c;

	release();
	for (int id = 1; id <= NODES; id++) {
		rejoin(id);
		if (down[id]) {
			down[id] = false;
			restart(id);
		}
		finish_cut(id);
		sync_disk(id);
	}
	pass(20 * ELECTION);
	look();
	for (int id = 1; id <= NODES; id++) {
		if (leads(id)) {
			CHECK(leader == 0);
			leader = id;
		}
	}
	CHECK(leader != 0);
	write_records(leader, 1);
	pass(5 * HEARTBEAT);
	CHECK(node(leader)->commit == log_end(leader));
	c = node(leader)->config;
	for (int i = 0; i < c.n; i++) {
		CHECK(same_log((int) c.member[i].id, leader));
		CHECK(!node((int) c.member[i].id)->vote.recovering &&
			  node((int) c.member[i].id)->commit == committed + RECORD);
	}
}

static void
chaos(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		char line[32];

		snprintf(line, sizeof line, "seed %llu", (unsigned long long) seed);
		story_says(line);
		prng_seed(&dice, seed);
		voters = 2 + roll(4);
		nodes(voters, roll(2));
		committed = FIRST;
		for (int id = 1; id <= NODES; id++) {
			down[id] = false;
			asked_us[id] = 0;
		}
		for (int i = 0; i < STEPS; i++)
			one_step();
		peace();
	}
}

static const Story stories[] = {
	{ "chaos, then peace", chaos, { BUG_NONE } },
};

int
main(void)
{
	return STORIES_RUN(stories);
}
