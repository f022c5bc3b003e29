/*
 * fault.c - what goes wrong in the first phase, at random times; the seed's profile weighs the kinds.
 */
#include "sim.h"

static Node *
any_up(void)
{
	int start = (int) below(&W.chance, SLOTS);

	if (below(&W.chance, 3) == 0) /* leaders are where it hurts */
		for (int i = 0; i < SLOTS; i++)
			if (W.node[i].up && W.node[i].raft.role == RAFT_LEADER)
				return &W.node[i];
	for (int i = 0; i < SLOTS; i++)
		if (W.node[(start + i) % SLOTS].up)
			return &W.node[(start + i) % SLOTS];
	return NULL;
}

static uint64_t
downtime(void)
{
	return below(&W.chance, 4) == 0 ? random_time(5 * ELECTION_US) : random_time(ELECTION_US / 2);
}

static void
block_some(uint32_t mask, bool both, uint64_t until)
{
	W.partitions++;
	TRACE("PARTITION %02x%s", mask, both ? "" : " one way");
	for (int a = 0; a < SLOTS; a++) {
		for (int b = 0; b < SLOTS; b++) {
			if (!(mask & 1u << a) || (mask & 1u << b))
				continue;
			net_block(a, b, until);
			if (both)
				net_block(b, a, until);
		}
	}
}

/* Two halves that meet in one node only. */
static void
bridge(uint64_t until)
{
	uint32_t mask = below(&W.chance, 1u << SLOTS);
	int between_them = (int) below(&W.chance, SLOTS);

	W.partitions++;
	TRACE("PARTITION %02x bridged by %d", mask, between_them);
	for (int a = 0; a < SLOTS; a++)
		for (int b = 0; b < SLOTS; b++)
			if (a != between_them && b != between_them && (mask >> a & 1) != (mask >> b & 1))
				net_block(a, b, until);
}

static void
damage(Node *n)
{
	if (!operator_may_lose(n) || raft_voters(&n->raft.config) < 2)
		return;
	TRACE("%d: its disk is damaged", n->slot);
	node_stop(n, below(&W.chance, 2) == 0);
	if (below(&W.chance, 2) == 0)
		disk_sync_done(n, n->disk.nops);
	disk_damage(n);
	n->damaged = true;
	n->ack_term = n->ack_pos = 0;
	push(W.now + downtime(), EV_START, n->slot, 0);
}

static void
wipe(Node *n)
{
	if (!operator_may_lose(n))
		return;
	node_wipe(n);
	push(W.now + downtime(), EV_START, n->slot, 0);
}

static void
reset_connection(void)
{
	int a = (int) below(&W.chance, SLOTS), b = (int) below(&W.chance, SLOTS);

	if (a != b)
		net_break(a, b);
}

/* One direction, short and again and again: each outage begins when the last one may have just ended. */
static void
flap(void)
{
	int a = (int) below(&W.chance, SLOTS), b = (int) below(&W.chance, SLOTS);

	if (a == b)
		return;
	net_block(a, b, W.now + random_time(ELECTION_US / 2));
	if (below(&W.chance, 8) != 0)
		push_aux(W.now + random_time(ELECTION_US), EV_FAULT, 0, 1, 0);
}

/*
 * What leases fear: a voter that has long heard nothing of the leader, and then, while the leader's lease
 * runs, everybody who had promised to wait starts anew, or the leader is cut off, or stopped. Meanwhile nobody
 * writes, so that the voter's log stays as new as the others' and it can be elected.
 */
static void
attack(void)
{
	Node *leader = NULL;
	int victim = (int) below(&W.chance, SLOTS);

	for (int i = 0; i < SLOTS; i++)
		if (W.node[i].up && W.node[i].raft.role == RAFT_LEADER)
			leader = &W.node[i];
	if (leader == NULL || leader->slot == victim)
		return;
	TRACE("ATTACK on the lease of %d by %d", leader->slot, victim);
	W.lull_until = W.now + ELECTION_US / 4 + ELECTION_US + random_time(ELECTION_US);
	push_aux(W.now + ELECTION_US / 4, EV_FAULT, leader->slot, 6, victim);
	push(W.lull_until, EV_FAULT, leader->slot, 2 + below(&W.chance, 3));
}

static void
attack_begins(int leader, int victim)
{
	net_block(leader, victim, W.now + 5 * ELECTION_US);
	if (below(&W.chance, 2) == 0)
		net_block(victim, leader, W.now + 5 * ELECTION_US);
}

static void
attack_ends(int slot, uint32_t how)
{
	Node *leader = &W.node[slot];

	if (how == 2) {
		for (int i = 0; i < SLOTS; i++)
			if (i != slot && W.node[i].up && below(&W.chance, 4) != 0)
				fault_crash_soon(&W.node[i], 1000);
	} else if (how == 3) {
		block_some(1u << slot, true, W.now + random_time(2 * ELECTION_US));
	} else {
		node_pause(leader, below(&W.chance, 2) == 0 ? NODE_STOPPED : WORKER_STOPPED,
				   random_time(2 * ELECTION_US));
	}
}

void
fault_crash_soon(Node *n, uint64_t within)
{
	if (W.phase == SAFETY && !(W.without & 1u << FAULT_CRASH))
		push(W.now + below(&W.chance, (uint32_t) within), EV_FAULT, n->slot, 5);
}

static void
crash_now(Node *n)
{
	if (!n->up)
		return;
	node_stop(n, below(&W.chance, 2) == 0);
	push(W.now + random_time(ELECTION_US / 10), EV_START, n->slot, 0);
}

static void
do_fault(int kind)
{
	Node *n = any_up();
	uint64_t until = W.now + random_time(below(&W.chance, 4) == 0 ? 10 * ELECTION_US : 2 * ELECTION_US);
	uint32_t mask = below(&W.chance, 1u << SLOTS);

	if (n == NULL || (W.without & 1u << kind))
		return;
	switch (kind) {
	case FAULT_CRASH:
	case FAULT_POWER:
		node_stop(n, kind == FAULT_POWER);
		push(W.now + downtime(), EV_START, n->slot, 0);
		break;
	case FAULT_PAUSE:
	case FAULT_PAUSE_WORKER:
		node_pause(n, kind == FAULT_PAUSE ? NODE_STOPPED : WORKER_STOPPED, downtime());
		break;
	case FAULT_SPLIT:
	case FAULT_ONE_WAY:
		block_some(mask, kind == FAULT_SPLIT, until);
		break;
	case FAULT_ISOLATE:
		block_some(1u << n->slot, below(&W.chance, 3) != 0, until);
		break;
	case FAULT_BRIDGE:
		bridge(until);
		break;
	case FAULT_FLAP:
		flap();
		break;
	case FAULT_ATTACK:
		attack();
		break;
	case FAULT_DAMAGE:
		damage(n);
		break;
	case FAULT_WIPE:
		wipe(n);
		break;
	default:
		reset_connection();
		break;
	}
}

/*
 * What an earlier fault has ordered: 1 a flapping link's next outage, 2 to 4 the end of an attack, 5 a
 * crash, 6 an attack.
 */
static void
ordered(uint32_t number, int slot, int aux)
{
	if (number == 1)
		do_fault(FAULT_FLAP);
	else if (number == 5)
		crash_now(&W.node[slot]);
	else if (number == 6)
		attack_begins(slot, aux);
	else
		attack_ends(slot, number);
}

/* number 0: draw one, and the time of the next. */
void
fault_event(uint32_t number, int slot, int aux)
{
	uint32_t total = 0, draw;
	int kind = 0;

	if (W.phase != SAFETY)
		return;
	if (number != 0) {
		ordered(number, slot, aux);
		return;
	}
	push(W.now + random_time(W.p.fault_us), EV_FAULT, 0, 0);
	for (int i = 0; i < FAULT_KINDS; i++)
		total += W.p.weight[i];
	if (total == 0)
		return;
	draw = below(&W.chance, total);
	while (draw >= W.p.weight[kind])
		draw -= W.p.weight[kind++];
	do_fault(kind);
}
