/*
 * operator.c - who changes the cluster: adds, promotes and removes members, hands leadership over.
 *
 * He is careless about when, and careful about one thing only: he does not bring the cluster to where those
 * who are lost for good, or do not vote, are no minority; from there no algorithm comes back.
 */
#include <string.h>

#include "sim.h"

int
operator_lost(const RaftConfig *c)
{
	int lost = 0;

	for (int i = 0; i < c->n; i++) {
		const Node *n = node_of(c->member[i].id);

		if (c->member[i].voter && (n == NULL || n->disk.vote.recovering || n->damaged))
			lost++;
	}
	return lost;
}

static bool
enough(const RaftConfig *c, int lost)
{
	return lost * 2 < raft_voters(c);
}

static int
member_at(const RaftConfig *c, uint64_t id)
{
	for (int i = 0; i < c->n; i++)
		if (c->member[i].id == id)
			return i;
	return -1;
}

/* In this configuration? A learner may be promoted before anybody notices that it is gone. */
static bool
can_do_without(const RaftConfig *c, const Node *n)
{
	int promoted = member_at(c, n->id) >= 0 && !raft_is_voter(c, n->id);

	if (c->n == 0)
		return true;
	return (operator_lost(c) + (member_at(c, n->id) >= 0)) * 2 < raft_voters(c) + promoted;
}

/* All configurations that any log holds as its newest or the one before. */
bool
operator_may_lose(const Node *n)
{
	for (int i = 0; i < SLOTS; i++)
		if (!can_do_without(&W.node[i].raft.config, n) || !can_do_without(&W.node[i].raft.previous, n))
			return false;
	return true;
}

static bool
add_someone(RaftConfig *c)
{
	int start = (int) below(&W.chance, SLOTS);

	for (int i = 0; i < SLOTS && c->n < RAFT_NODES_MAX; i++) {
		const Node *n = &W.node[(start + i) % SLOTS];

		if (!n->up || member_at(c, n->id) >= 0)
			continue;
		c->member[c->n++] = (RaftMember){ .id = n->id, .voter = below(&W.chance, 8) == 0 };
		return true;
	}
	return false;
}

static void
remove_member(RaftConfig *c, int at)
{
	memmove(&c->member[at], &c->member[at + 1], (size_t) (c->n - at - 1) * sizeof c->member[0]);
	c->n--;
}

/* One change, mostly a sensible one. */
static bool
draw_change(RaftConfig *c)
{
	int at = (int) below(&W.chance, (uint32_t) c->n);

	for (int i = 0; i < c->n; i++) /* who is gone for good is replaced first */
		if (node_of(c->member[i].id) == NULL && below(&W.chance, 2) == 0) {
			remove_member(c, i);
			return true;
		}
	switch (below(&W.chance, 5)) {
	case 0:
	case 1:
		return raft_voters(c) < 5 && add_someone(c);
	case 2:
		c->member[at].voter = !c->member[at].voter;
		return true;
	case 3:
		if (c->n > 1)
			remove_member(c, at);
		return c->n > 0;
	default:
		for (int i = 0; i < c->n; i++)
			if (!c->member[i].voter && raft_voters(c) < 5)
				return c->member[i].voter = true;
		return false;
	}
}

static void
change(Node *n)
{
	RaftConfig c = n->raft.config;
	RaftEvent e = { .kind = RAFT_EV_PROPOSE, .config = &c };

	if (c.n == 0 || !draw_change(&c) || raft_voters(&c) == 0)
		return;
	if (!enough(&c, operator_lost(&c)))
		return;
	host_event(n, &e);
}

void
operator_event(void)
{
	int start = (int) below(&W.chance, SLOTS);
	RaftEvent e = { .kind = RAFT_EV_TRANSFER };

	push(W.now + random_time(W.p.operator_us), EV_OPERATOR, 0, 0);
	if (W.phase != SAFETY)
		return;
	for (int i = 0; i < SLOTS; i++) {
		Node *n = &W.node[(start + i) % SLOTS];

		if (!n->up || n->raft.role != RAFT_LEADER || n->pause != RUNS || n->busy_until > W.now)
			continue;
		if (below(&W.chance, 4) != 0) {
			change(n);
		} else {
			if (below(&W.chance, 2) == 0 && n->raft.config.n > 0)
				e.id = n->raft.config.member[below(&W.chance, (uint32_t) n->raft.config.n)].id;
			host_event(n, &e);
			if (n->up && n->raft.transferring &&
				below(&W.chance, 4) == 0) /* it does not hear who took over */
				for (int k = 0; k < SLOTS; k++)
					if (k != n->slot)
						net_block(k, n->slot, W.now + random_time(ELECTION_US));
		}
		return;
	}
}
