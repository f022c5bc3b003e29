/*
 * check.c - the invariants, judged by ghost state that no node can see.
 *
 * Each is looked at where it could break, not everywhere: what a node accepts, sends, commits, applies,
 * answers, recovers. Since records are a tree, "equal logs up to here" is one comparison. Names and sources:
 * README.md.
 */
#include <stdarg.h>
#include <stdio.h>

#include "sim.h"

#define LLU(x) ((unsigned long long) (x))

void
sim_fail(const char *invariant, const char *format, ...)
{
	va_list ap;

	snprintf(W.invariant, sizeof W.invariant, "%s", invariant);
	va_start(ap, format);
	vsnprintf(W.detail, sizeof W.detail, format, ap);
	va_end(ap);
	TRACE("VIOLATED %s: %s", W.invariant, W.detail);
	longjmp(W.failed, 1);
}

/* ---- the core's own state ------------------------------------------------------- */

void
check_step(Node *n, const RaftOut *out, const RaftEvent *e)
{
	const Raft *r = &n->raft;

	if (r->commit < n->last_commit)
		sim_fail("commit falls", "node %d: from %llu to %llu", n->slot, LLU(n->last_commit), LLU(r->commit));
	n->last_commit = r->commit;
	if (r->vote.term < n->disk.vote.term)
		sim_fail("term falls", "node %d: from %llu to %llu", n->slot, LLU(n->disk.vote.term),
				 LLU(r->vote.term));
	if (r->role == RAFT_LEADER && (out->accept || out->truncate))
		sim_fail("leader append-only", "node %d, event %d", n->slot, e->kind);
	if (r->role != RAFT_FOLLOWER && r->vote.recovering)
		sim_fail("damaged node campaigns", "node %d is %s", n->slot, raft_role_name(r->role));
	if (e->kind == RAFT_EV_APPEND && e->append->head.term < n->disk.vote.term &&
		(out->accept || out->truncate))
		sim_fail("bytes of a leader whose time is over", "node %d: term %llu, its own is %llu", n->slot,
				 LLU(e->append->head.term), LLU(n->disk.vote.term));
	if (out->nmessages > RAFT_OUT_MESSAGES)
		sim_fail("bounded queues", "node %d: %d messages", n->slot, out->nmessages);
	if (r->commit > r->end)
		sim_fail("commit past the end", "node %d: %llu of %llu", n->slot, LLU(r->commit), LLU(r->end));
}

/* ---- what leaves a node ---------------------------------------------------------- */

static void
check_vote(Node *n, uint64_t term, uint64_t candidate)
{
	const RaftVote *d = &n->disk.vote_synced;

	if (n->disk.vote.recovering)
		sim_fail("damaged node votes", "node %d for %llu", n->slot, LLU(candidate));
	if (term < n->ghost_term || (term == n->ghost_term && candidate != n->ghost_voted))
		sim_fail("one vote per term", "node %d votes for %llu in term %llu, had voted for %llu in %llu",
				 n->slot, LLU(candidate), LLU(term), LLU(n->ghost_voted), LLU(n->ghost_term));
	if (!HBUG(VOTE_FILE_NOT_SYNCED) && (d->term != term || d->voted_for != candidate))
		sim_fail("vote leaves before it is durable", "node %d for %llu in term %llu", n->slot, LLU(candidate),
				 LLU(term));
	n->ghost_term = term;
	n->ghost_voted = candidate;
	if (term >= TERMS_MAX)
		sim_fail("simulator", "more than %d terms", TERMS_MAX);
	W.ballot[term][n->slot] = (Ballot){ .voter = n->id, .candidate = candidate };
	if (term > W.max_voted)
		W.max_voted = term;
}

/* A candidate's own vote is in no message. */
void
check_own_vote(Node *n)
{
	if (n->raft.vote.voted_for == n->id)
		check_vote(n, n->raft.vote.term, n->id);
}

static void
check_ack(Node *n, const RaftMsg *m)
{
	const Node *leader = node_of(m->to);
	uint32_t at, theirs;

	if (n->raft.vote.recovering)
		sim_fail("damaged node acknowledges", "node %d: %llu", n->slot, LLU(m->pos));
	if (m->term != n->ack_term || m->pos > n->ack_pos)
		n->ack_pos = m->pos;
	n->ack_term = m->term;
	if (m->pos <= W.rec[n->log[n->base]].end)
		return;
	at = log_find_end(n, m->pos);
	if (at == UINT32_MAX)
		sim_fail("acknowledged inside a record", "node %d: %llu", n->slot, LLU(m->pos));
	if (!disk_holds(n, n->log[at]))
		sim_fail("acknowledged before durable", "node %d: %llu, durable %llu", n->slot, LLU(m->pos),
				 LLU(W.rec[n->log[n->synced]].end));
	if (leader == NULL || !leader->up || leader->raft.role != RAFT_LEADER ||
		leader->raft.vote.term != m->term || m->pos <= W.rec[leader->log[leader->base]].end)
		return;
	theirs = log_find_end(leader, m->pos);
	if (theirs == UINT32_MAX || leader->log[theirs] != n->log[at])
		sim_fail("acknowledged what does not match", "node %d to its leader %d: %llu", n->slot, leader->slot,
				 LLU(m->pos));
}

void
check_message(Node *n, const RaftMsg *m)
{
	bool granted = m->flags & RAFT_GRANTED;

	if (m->kind == RAFT_PREVOTE || (m->kind == RAFT_PREVOTE_REPLY && granted)) {
		if (n->disk.vote.recovering)
			sim_fail("damaged node votes", "node %d, pre-vote", n->slot);
		return;
	}
	if (m->term > n->disk.vote_synced.term && !HBUG(VOTE_FILE_NOT_SYNCED))
		sim_fail("term leaves before it is durable",
				 "node %d: term %llu in a message of kind %d, %llu on disk", n->slot, LLU(m->term), m->kind,
				 LLU(n->disk.vote_synced.term));
	if (m->kind == RAFT_VOTE)
		check_vote(n, m->term, n->id);
	else if (m->kind == RAFT_VOTE_REPLY && granted)
		check_vote(n, m->term, m->to);
	else if (m->kind == RAFT_APPEND_REPLY && !(m->flags & (RAFT_REFUSED | RAFT_RECOVERING)))
		check_ack(n, m);
}

/* ---- logs ------------------------------------------------------------------------- */

void
check_append(const Node *n, uint32_t rec)
{
	if (W.rec[rec].prev != n->log[n->last])
		sim_fail("log matching",
				 "node %d puts a record of term %llu at %llu behind another one than its writer did", n->slot,
				 LLU(W.rec[rec].term), LLU(W.rec[rec].start));
}

void
check_truncate(const Node *n, uint64_t to)
{
	uint32_t at = log_find_end(n, to);

	if (n->raft.role == RAFT_LEADER)
		sim_fail("leader append-only", "node %d cuts its log", n->slot);
	if (to < n->raft.commit || at == UINT32_MAX)
		sim_fail("cut below commit", "node %d cuts to %llu, commit %llu", n->slot, LLU(to),
				 LLU(n->raft.commit));
	if (at < n->last && at < W.ncommitted && W.committed[at + 1] == n->log[at + 1])
		sim_fail("committed record is cut away", "node %d cuts to %llu", n->slot, LLU(to));
}

/* Whatever this node has helped to commit it still has (or says that it does not know). */
static void
check_holds(const Node *n, const char *when)
{
	uint32_t at = (uint32_t) n->helped;

	if (at > n->last || (at >= n->base && n->log[at] != W.committed[at]))
		sim_fail("committed record lost", "node %d %s without record %u, which it helped to commit", n->slot,
				 when, at);
}

void
check_recovered(Node *n)
{
	if (n->up) {
		check_holds(n, "leaves recovery");
		return;
	}
	for (uint32_t i = n->disk.tables.index + 1; i <= n->last; i++)
		if (W.rec[n->log[i]].prev != n->log[i - 1])
			sim_fail("log matching", "node %d recovers a log that nobody has written: record at %llu",
					 n->slot, LLU(W.rec[n->log[i]].start));
	if (!n->disk.vote.recovering)
		check_holds(n, "starts");
}

/* C2: a configuration that was cut away is no longer in force. */
void
check_cut_done(const Node *n)
{
	uint32_t rec = n->log[n->last];

	if (n->raft.config.end <= log_end(n) || n->truncating)
		return;
	while (W.rec[rec].index > 0 && W.rec[rec].kind != REC_CONFIG)
		rec = W.rec[rec].prev;
	if (W.rec[rec].index > 0 || n->initial) /* else it has never known another one */
		sim_fail("configuration is the newest in the log",
				 "node %d: its log ends at %llu, configuration at %llu", n->slot, LLU(log_end(n)),
				 LLU(n->raft.config.start));
}

/* ---- leaders ------------------------------------------------------------------------ */

void
check_elected(Node *n, uint32_t rec)
{
	uint64_t term = W.rec[rec].term;
	uint32_t at = W.ncommitted;
	int votes = 0;

	if (W.leader_rec[term] != 0)
		sim_fail("one leader per term", "term %llu: node %d, and %llu before", LLU(term), n->slot,
				 LLU(W.leader_id[term]));
	for (int i = 0; i < n->raft.config.n; i++) {
		const RaftMember *m = &n->raft.config.member[i];
		const Ballot *b = &W.ballot[term][m->id % SLOTS];

		votes += m->voter && b->voter == m->id && b->candidate == n->id;
	}
	if (votes * 2 <= raft_voters(&n->raft.config))
		sim_fail("elected by a majority", "node %d in term %llu: %d of %d voters", n->slot, LLU(term), votes,
				 raft_voters(&n->raft.config));
	W.leader_rec[term] = rec;
	W.leader_id[term] = n->id;
	if (term > W.max_term)
		W.max_term = term;
	while (at > 0 && W.committed_in[at] >= term)
		at--;
	if (at > n->last || (at >= n->base && n->log[at] != W.committed[at]))
		sim_fail("leader completeness",
				 "node %d, leader of term %llu, lacks record %u, committed in term %llu", n->slot, LLU(term),
				 at, LLU(W.committed_in[at]));
}

void
check_config(Node *n, const RaftConfig *c)
{
	const RaftConfig *old = &n->raft.config;
	uint64_t term = n->raft.vote.term;
	int differ = 0;

	if (old->end > n->raft.commit)
		sim_fail("one uncommitted configuration", "node %d: the last one ends at %llu, commit %llu", n->slot,
				 LLU(old->end), LLU(n->raft.commit));
	if (W.leader_rec[term] == 0 || W.rec[W.leader_rec[term]].end > n->raft.commit)
		sim_fail("configuration before a commit in the own term", "node %d, term %llu", n->slot, LLU(term));
	for (int i = 0; i < c->n; i++)
		differ += c->member[i].voter && !raft_is_voter(old, c->member[i].id);
	for (int i = 0; i < old->n; i++)
		differ += old->member[i].voter && !raft_is_voter(c, old->member[i].id);
	if (differ > 1)
		sim_fail("one voter at a time", "node %d: %d voters differ", n->slot, differ);
}

/* ---- commit ---------------------------------------------------------------------------- */

/* An acknowledgement counts in the term, and from the connection, in which it was given. */
static void
check_counted(const Node *n, const Node *m, const RaftPeer *p, uint64_t pos)
{
	bool same = n->seen[m->slot] ==
				W.link[n->slot < m->slot ? n->slot : m->slot][n->slot < m->slot ? m->slot : n->slot].session;

	if (p == NULL || p->acked < pos || !m->up || !same || m->ack_term > n->raft.vote.term ||
		n->raft.role != RAFT_LEADER)
		return;
	if (m->ack_term < n->raft.vote.term || m->ack_pos < p->acked)
		sim_fail("counts what was not acknowledged",
				 "node %d, term %llu: node %d has %llu there, said %llu in %llu", n->slot,
				 LLU(n->raft.vote.term), m->slot, LLU(p->acked), LLU(m->ack_pos), LLU(m->ack_term));
}

/*
 * Durable in the image of a majority. Who lost its disk or knows it is damaged does not vote, so what it had
 * counts.
 */
static void
check_majority(Node *n, uint32_t index)
{
	const RaftConfig *c = &n->raft.config;
	uint32_t rec = n->log[index];
	int have = 0;

	for (int i = 0; i < c->n; i++) {
		Node *m = node_of(c->member[i].id);
		const RaftPeer *p;

		if (!c->member[i].voter)
			continue;
		if (m == NULL || m->disk.vote.recovering || m->damaged)
			have += W.durable_of[c->member[i].id / SLOTS] >= W.rec[rec].end;
		else
			have += disk_holds(m, rec);
		if (m == NULL)
			continue;
		p = raft_peer(&n->raft, m->id);
		check_counted(n, m, p, W.rec[rec].end);
		if ((m == n ? n->raft.durable : p != NULL ? p->acked : 0) >= W.rec[rec].end && m->helped < index)
			m->helped = index;
	}
	if (have * 2 <= raft_voters(c))
		sim_fail("committed on a durable majority", "node %d commits %llu in term %llu: %d of %d have it",
				 n->slot, LLU(W.rec[rec].end), LLU(n->raft.vote.term), have, raft_voters(c));
}

void
check_committed(Node *n)
{
	uint32_t at = log_find_end(n, n->raft.commit);

	if (at == UINT32_MAX)
		sim_fail("commit inside a record", "node %d: %llu", n->slot, LLU(n->raft.commit));
	if (at <= W.ncommitted) {
		if (W.committed[at] != n->log[at])
			sim_fail("state machine safety", "node %d commits another record %u than was committed", n->slot,
					 at);
		return;
	}
	if (!n->led)
		sim_fail("committed by no leader", "node %d: %llu", n->slot, LLU(n->raft.commit));
	if (W.ncommitted >= n->base && W.committed[W.ncommitted] != n->log[W.ncommitted])
		sim_fail("state machine safety", "node %d: its record %u is not what was committed", n->slot,
				 W.ncommitted);
	check_majority(n, at);
	if (W.rec[n->log[at]].term != n->raft.vote.term) /* paper 5.4.2 */
		sim_fail("commits only in the own term", "node %d in term %llu: a record of term %llu", n->slot,
				 LLU(n->raft.vote.term), LLU(W.rec[n->log[at]].term));
	while (W.ncommitted < at) {
		W.ncommitted++;
		W.committed[W.ncommitted] = n->log[W.ncommitted];
		W.committed_in[W.ncommitted] = n->raft.vote.term;
	}
	for (uint64_t t = n->raft.vote.term + 1; t <= W.max_term; t++)
		if (W.leader_rec[t] != 0 &&
			(W.rec[W.leader_rec[t]].index <= at || rec_ancestor(W.leader_rec[t], at) != n->log[at]))
			sim_fail("leader completeness",
					 "node %d commits record %u in term %llu, the leader of %llu has it not", n->slot, at,
					 LLU(n->raft.vote.term), LLU(t));
}

/* ---- state and answers -------------------------------------------------------------------- */

void
check_applied(const Node *n, uint32_t rec)
{
	uint32_t at = W.rec[rec].index;

	if (at > W.ncommitted || W.committed[at] != rec)
		sim_fail("applied what is not committed", "node %d: record %u", n->slot, at);
	if (W.hash_at[at] == 0)
		W.hash_at[at] = n->state.hash;
	else if (W.hash_at[at] != n->state.hash)
		sim_fail("equal hash per position", "node %d: record %u", n->slot, at);
}

void
check_answer(Node *n, uint32_t rec)
{
	uint32_t at = W.rec[rec].index;

	if (at > W.ncommitted || W.committed[at] != rec)
		sim_fail("answered before committed", "node %d: record %u", n->slot, at);
}

void
check_read(const Node *n, uint32_t floor, const char *how)
{
	if (n->state.index < floor)
		sim_fail("stale read", "node %d, %s: at record %u, %u had been acknowledged before", n->slot, how,
				 n->state.index, floor);
}

void
check_leases(void)
{
	for (int i = 0; i < SLOTS; i++) {
		const Node *n = &W.node[i];

		if (n->up && n->pause != NODE_STOPPED && n->lease > local_now(n) &&
			(W.rec[n->state.rec].end >= n->serve_from || HBUG(LEASE_BEFORE_APPLIED)))
			check_read(n, W.seen_index, "lease");
	}
}
