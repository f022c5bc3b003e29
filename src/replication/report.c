/*
 * report.c - what the consensus worker shows to others: the view (replication/replstate.h).
 *
 * Consensus worker only. Published when something that people wait for has changed, and every REPORT_US.
 * Lag in time comes from samples of where the log's end was when.
 */
#include <stdio.h>
#include <string.h>

#include "consensus_internal.h"
#include "ipc/nodestate.h"
#include "storage/wal.h"

#define REPORT_US 100000
#define SAMPLE_US 20000
#define SAMPLES 512 /* ten seconds; more lag than that is told as its age so far */

static struct {
	uint64_t us;
	Lsn end;
} samples[SAMPLES];
static unsigned nsamples; /* ever taken */

/* Note where the log's end was, for lag in time. */
static void
sample(uint64_t us)
{
	if (nsamples > 0 && us - samples[(nsamples - 1) % SAMPLES].us < SAMPLE_US)
		return;
	samples[nsamples % SAMPLES].us = us;
	samples[nsamples % SAMPLES].end = cons.end_told;
	nsamples++;
}

/* Age of the oldest byte at or above `acked`. */
static uint64_t
lag_ms(Lsn acked, uint64_t us)
{
	unsigned n = nsamples < SAMPLES ? nsamples : SAMPLES;

	if (acked >= cons.end_told)
		return 0;
	for (unsigned i = 0; i < n; i++) { /* oldest first */
		unsigned at = (nsamples - n + i) % SAMPLES;

		if (samples[at].end > acked)
			return (us - samples[at].us) / 1000;
	}
	return 0;
}

static struct {
	uint64_t id, us;
} heard[MEMBERSHIP_NODES_MAX]; /* by place in the configuration when it came; another's is overwritten */

void
report_heard(uint64_t id)
{
	const Membership *m = &cons.current.members;

	for (int i = 0; i < m->n; i++)
		if (m->node[i].incarnation == id) {
			heard[i].id = id;
			heard[i].us = now_us();
		}
}

static uint64_t
heard_us(uint64_t id)
{
	uint64_t newest = 0;

	for (int i = 0; i < MEMBERSHIP_NODES_MAX; i++) /* it may have had another place in an earlier configuration */
		if (heard[i].id == id && heard[i].us > newest)
			newest = heard[i].us;
	return newest;
}

static ReplPeerState
state_of(const RaftPeer *p)
{
	if (p == NULL || !p->up)
		return REPL_DOWN;
	switch (p->mode) {
	case RAFT_PROBE:
		return REPL_PROBE;
	case RAFT_CATCHUP:
		return REPL_CATCHUP;
	case RAFT_INSTALL:
		return REPL_INSTALL;
	case RAFT_STREAM:
		break;
	}
	return REPL_STREAM;
}

static void
show_peer(const Member *m, uint64_t us, ReplPeer *out)
{
	const RaftPeer *p = raft_peer(&cons.raft, m->incarnation);
	bool leading = cons.raft.role == RAFT_LEADER;

	*out = (ReplPeer){ .id = m->incarnation, .voter = m->voter, .state = state_of(p) };
	memcpy(out->name, m->name, sizeof out->name);
	memcpy(out->peer_address, m->peer_address, sizeof out->peer_address);
	memcpy(out->client_address, m->client_address, sizeof out->client_address);
	if (m->incarnation == cons.raft.self) {
		out->state = REPL_SELF;
		out->sent = cons.end_told;
		out->acked = cons.durable_told;
		out->heard_ms = us / 1000;
		return;
	}
	snprintf(out->trouble, sizeof out->trouble, "%s", peers_trouble(m->incarnation));
	/* It became a member while the connection stood already; raft is told of that in the next turn. */
	if (out->state == REPL_DOWN && out->trouble[0] == '\0')
		out->state = REPL_PROBE;
	if (p == NULL)
		return;
	out->heard_ms = heard_us(m->incarnation) / 1000;
	if (leading) {
		out->sent = p->next;
		out->acked = p->seen;
		out->lag_ms = lag_ms(p->seen, us);
	}
}

static void
publish(uint64_t us)
{
	static ReplView v;
	const Raft *r = &cons.raft;

	v.term = r->vote.term;
	v.self = r->self;
	v.leader = r->leader;
	v.role = atomic_load(&nodestate()->role);
	v.voter = raft_is_voter(&r->config, r->self);
	v.recovering = r->vote.recovering;
	v.fetching = fetch_active();
	v.transferring = r->transferring;
	v.commit = r->commit;
	v.end = cons.end_told;
	v.durable = cons.durable_told;
	v.elections = cons.elections;
	v.terms_led = cons.terms_led;
	v.config_lsn = cons.current.start;
	v.election_ms = cons.current.members.election_ms;
	v.n = cons.current.members.n;
	for (int i = 0; i < v.n; i++)
		show_peer(&cons.current.members.node[i], us, &v.peer[i]);
	compare_show(&v);
	replstate_publish(&v);
}

void
report_turn(uint64_t us)
{
	static uint64_t next_us, term, leader, config;
	const Raft *r = &cons.raft;

	sample(us);
	if (us < next_us && term == r->vote.term && leader == r->leader && config == cons.current.start)
		return;
	next_us = us + REPORT_US;
	term = r->vote.term;
	leader = r->leader;
	config = cons.current.start;
	publish(us);
}
