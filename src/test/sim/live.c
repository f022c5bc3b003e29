/*
 * live.c - the second phase: faults end, a majority is left alone, and within bounded time it has to elect a
 * leader, commit what clients ask for, and bring everybody who can be reached to equal content.
 */
#include "sim.h"

#define PATIENCE_US (UINT64_C(150) * ELECTION_US)
#define ANSWERS 3 /* writes and reads that have to be served before clients rest */

static void
calm(Profile *p)
{
	p->drop_ppm = p->dup_ppm = p->reorder_ppm = p->slow_ppm = p->slow_sync_ppm = p->no_space_ppm = 0;
	p->crash_point_ppm = 0;
	if (p->delay_max > ELECTION_US / 20)
		p->delay_max = ELECTION_US / 20;
	if (p->delay_min > p->delay_max)
		p->delay_min = p->delay_max;
	if (p->sync_max > ELECTION_US / 20)
		p->sync_max = ELECTION_US / 20;
	if (p->sync_min > p->sync_max)
		p->sync_min = p->sync_max;
	if (p->patience_us < 5 * ELECTION_US)
		p->patience_us = 5 * ELECTION_US;
	if (p->client_us > ELECTION_US / 4)
		p->client_us = ELECTION_US / 4;
	if (p->apply_lag_us > ELECTION_US / 10)
		p->apply_lag_us = ELECTION_US / 10;
}

/* Somebody stays away, dead or cut off (often in one direction only), if a majority can do without. */
static void
leave_out(void)
{
	Node *n = &W.node[below(&W.chance, SLOTS)];
	uint32_t how = below(&W.chance, 4);

	if (below(&W.chance, 2) == 0 || !operator_may_lose(n))
		return;
	W.live_mask &= ~(1u << n->slot);
	if (how == 0) {
		node_stop(n, true);
		return;
	}
	for (int i = 0; i < SLOTS; i++) {
		if (i == n->slot)
			continue;
		if (how != 1)
			net_block(n->slot, i, NEVER);
		if (how != 2)
			net_block(i, n->slot, NEVER);
	}
}

void
live_begin(void)
{
	W.phase = LIVENESS;
	W.live_mask = (1u << SLOTS) - 1;
	W.live_answered = 0;
	W.live_until = W.now + PATIENCE_US;
	calm(&W.p);
	TRACE("FAULTS END");
	for (int i = 0; i < SLOTS; i++) {
		W.node[i].pause = RUNS;
		W.node[i].stopped_until = 0;
	}
	net_heal_all();
	leave_out();
	for (int i = 0; i < SLOTS; i++)
		if (W.live_mask & 1u << i)
			push(W.now + random_time(ELECTION_US), EV_START, i, 0);
}

static Node *
leader_now(void)
{
	Node *best = NULL;

	for (int i = 0; i < SLOTS; i++) {
		Node *n = &W.node[i];

		if ((W.live_mask & 1u << i) && n->up && n->gate && n->raft.role == RAFT_LEADER &&
			(best == NULL || n->raft.vote.term > best->raft.vote.term))
			best = n;
	}
	return best;
}

/* The slot of a member that is behind; -1 none. */
static int
who_lags(const Node *leader)
{
	const RaftConfig *c = &leader->raft.config;

	for (int i = 0; i < c->n; i++) {
		const Node *n = node_of(c->member[i].id);

		if (n == NULL || !(W.live_mask & 1u << n->slot))
			continue;
		if (!n->up || n->state.index != leader->state.index || n->state.hash != leader->state.hash ||
			leader->state.index != leader->last || n->disk.vote.recovering)
			return n->slot;
	}
	return -1;
}

/*
 * A long backlog through a small window may take its time, as long as logs grow. It has an end: clients
 * rest.
 */
static bool
still_moving(void)
{
	uint64_t sum = 0;

	if (!W.quiet)
		return false;
	for (int i = 0; i < SLOTS; i++)
		sum += W.node[i].last + W.node[i].state.index;
	if (sum == W.live_sum)
		return false;
	W.live_sum = sum;
	W.live_until = W.now + PATIENCE_US / 10;
	return true;
}

bool
live_check(void)
{
	Node *leader = leader_now();
	int lags;

	if (leader != NULL && W.live_answered >= ANSWERS)
		W.quiet = true;
	lags = leader == NULL ? -1 : who_lags(leader);
	if (W.quiet && leader != NULL && lags < 0)
		return true;
	if (W.now < W.live_until || still_moving())
		return false;
	if (leader == NULL)
		sim_fail("liveness: no leader", "after %d election timeouts without faults, nodes %02x reachable",
				 (int) (PATIENCE_US / ELECTION_US), W.live_mask);
	if (!W.quiet)
		sim_fail("liveness: nothing is answered", "leader %d", leader->slot);
	sim_fail("liveness: not equal", "node %d is not where its leader %d is", lags, leader->slot);
}
