/*
 * host.c - what the server's consensus worker and WAL writer do around a core, in the order that RaftOut
 * names.
 *
 * Everything of one step happens at one virtual time, but messages leave only when the vote file's sync has
 * ended, and until then the node takes no other event. node_crash_point() stands wherever a crash would find
 * something half done.
 */
#include <string.h>

#include "sim.h"

static RaftOut out;

static uint64_t
durable_pos(const Node *n)
{
	return W.rec[n->log[n->synced]].end;
}

static uint64_t
sync_time(void)
{
	Chance *c = &W.chance;

	if (perhaps(c, W.p.slow_sync_ppm))
		return between(c, W.p.sync_max, W.p.slow_sync_us);
	return between(c, W.p.sync_min, W.p.sync_max);
}

/* ---- the WAL writer ------------------------------------------------------ */

static void
publish_durable(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_DURABLE, .end = durable_pos(n) };

	if (durable_pos(n) > W.durable_of[n->id / SLOTS] && !n->raft.vote.recovering)
		W.durable_of[n->id / SLOTS] = durable_pos(n);
	host_event(n, &e);
}

void
host_start_sync(Node *n)
{
	if (n->sync_busy || n->truncating || n->disk.nops == 0)
		return;
	n->sync_busy = true;
	n->sync_to = n->last;
	n->sync_ops = n->disk.nops;
	push(W.now + sync_time(), EV_SYNCED, n->slot, ++n->sync_number);
	if (HBUG(DURABLE_WHEN_WRITTEN) && n->synced < n->last) {
		n->synced = n->last;
		publish_durable(n);
	}
}

void
host_sync_done(Node *n, uint32_t number)
{
	if (!n->sync_busy || n->sync_number != number)
		return;
	n->sync_busy = false;
	disk_sync_done(n, n->sync_ops);
	if (n->sync_to > n->synced)
		n->synced = n->sync_to < n->last ? n->sync_to : n->last;
	TRACE("%d durable %llu", n->slot, (unsigned long long) durable_pos(n));
	if (below(&W.chance, 4) == 0 || n->disk.nops == 0) { /* L6: the mark, behind */
		n->disk.mark = durable_pos(n);
		n->disk.mark_commit = n->raft.commit;
	}
	publish_durable(n);
	if (n->up && n->truncating)
		host_truncate(n);
	if (n->up)
		host_start_sync(n);
}

/* L3: mark first, then the positions, then whatever is written there next. */
void
host_truncate(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_TRUNCATED };
	uint32_t at;

	if (!n->truncating || (n->sync_busy && !HBUG(DURABLE_OF_OLD_SYNC)))
		return; /* again when the sync is done */
	if (n->disk.mark > n->truncate_to)
		n->disk.mark = n->truncate_to;
	if (node_crash_point(n))
		return;
	at = log_find_end(n, n->truncate_to);
	if (at == UINT32_MAX)
		sim_fail("host: truncation", "node %d: no record ends at %llu", n->slot,
				 (unsigned long long) n->truncate_to);
	check_truncate(n, n->truncate_to);
	log_cut(n, at);
	n->truncating = false;
	check_cut_done(n);
	if (below(&W.chance, 4) == 0) /* while stale records are still behind the end */
		fault_crash_soon(n, ELECTION_US / 5);
	memset(n->partial, 0, sizeof n->partial);
	W.truncations++;
	TRACE("%d log cut to %llu", n->slot, (unsigned long long) n->truncate_to);
	publish_durable(n);
	if (!n->up || n->truncating)
		return;
	e.pos = e.end = n->truncate_to;
	host_event(n, &e);
	clients_look(n);
	if (n->up)
		host_start_sync(n);
}

/* ---- one step -------------------------------------------------------------- */

static void
send_all(Node *n)
{
	uint64_t leaves = n->busy_until > W.now ? n->busy_until : W.now;

	for (int i = 0; i < out.nmessages; i++) {
		check_message(n, &out.message[i]);
		net_send(n, &out.message[i], 0, 0, leaves);
	}
}

static bool
persist(Node *n)
{
	Disk *d = &n->disk;

	if (node_crash_point(n))
		return false;
	if (d->vote.recovering && !n->raft.vote.recovering) {
		check_recovered(n);
		W.durable_of[n->id / SLOTS] = durable_pos(n);
	}
	d->vote = n->raft.vote;
	if (!HBUG(VOTE_FILE_NOT_SYNCED))
		d->vote_synced = d->vote;
	TRACE("%d persists term %llu vote %llu%s", n->slot, (unsigned long long) d->vote.term,
		  (unsigned long long) d->vote.voted_for, d->vote.recovering ? " recovering" : "");
	check_own_vote(n);
	n->busy_until = W.now + sync_time() / 2;
	return !node_crash_point(n);
}

static void
order_fetch(Node *n)
{
	if (out.stop_fetch || out.fetch) {
		n->fetch.active = false;
		n->fetch.number++;
	}
	if (!out.fetch)
		return;
	n->fetch.active = true;
	n->fetch.snapshot = out.fetch_snapshot;
	n->fetch.id = out.fetch_id;
	n->fetch.until = out.fetch_until;
	TRACE("%d fetches %s from %llu", n->slot, out.fetch_snapshot ? "tables" : "log",
		  (unsigned long long) out.fetch_from);
	push(W.now + random_time(W.p.delay_max * 2 + 1000), EV_FETCH, n->slot, n->fetch.number);
}

static void
close_gate(Node *n, bool *was_open)
{
	*was_open = n->gate;
	if (n->gate && below(&W.chance, 4) == 0)
		clients_insert_more(n); /* between the core's decision and the gate's closing */
	if (!HBUG(GATE_LEFT_OPEN))
		n->gate = false;
	clients_end_reads(n);
	if (HBUG(LEASE_NOT_PUBLISHED))
		return;
	n->lease = 0;
	n->serve_from = NEVER;
}

static void accept_bytes(Node *n);

/* Actions 1 to 12. False: the node crashed meanwhile. */
static bool
act(Node *n, bool *closed)
{
	if (out.close_gate)
		close_gate(n, closed);
	if (HBUG(MESSAGES_BEFORE_PERSIST) && out.persist)
		send_all(n);
	if (out.persist && !persist(n))
		return false;
	if (out.accept)
		accept_bytes(n);
	if (out.truncate) {
		n->truncating = true;
		n->truncate_to = out.truncate_to;
		check_truncate(n, out.truncate_to);
		push(W.now + between(&W.chance, 0, W.p.sync_max), EV_TRUNCATE, n->slot, 0);
	}
	order_fetch(n);
	if (out.open_gate) {
		n->gate = true;
		n->serve_from = raft_serve_from(&n->raft);
	}
	if (out.commit_moved) {
		check_committed(n);
		n->published_commit = n->raft.commit;
	}
	if (out.lease_moved && !(HBUG(LEASE_NOT_PUBLISHED) && raft_lease_us(&n->raft) < n->lease)) {
		n->lease = raft_lease_us(&n->raft);
		n->serve_from = raft_serve_from(&n->raft);
		check_leases();
	}
	if (out.reads_moved)
		clients_reads_moved(n, out.reads_until_us, out.reads_index);
	if (node_crash_point(n))
		return false;
	if (!(HBUG(MESSAGES_BEFORE_PERSIST) && out.persist))
		send_all(n);
	return true;
}

static void
step(Node *n, RaftEvent *e)
{
	e->now_us = local_now(n);
	n->led = n->raft.role == RAFT_LEADER;
	raft_step(&n->raft, e, &out);
	W.steps++;
	if (out.note != NULL)
		TRACE("%d core: %s", n->slot, out.note);
	check_step(n, &out, e);
}

static void
begin_term(Node *n)
{
	uint32_t rec = rec_new(n->log[n->last], REC_TERM, n->raft.vote.term, 48);
	RaftEvent e = { .kind = RAFT_EV_TERM_BEGUN, .pos = W.rec[rec].start, .end = W.rec[rec].end };

	check_elected(n, rec);
	log_append(n, rec);
	W.elections++;
	TRACE("%d LEADS term %llu from %llu", n->slot, (unsigned long long) n->raft.vote.term,
		  (unsigned long long) e.pos);
	host_event(n, &e);
}

static void
append_config(Node *n, RaftConfig *config)
{
	RaftEvent e = { .kind = RAFT_EV_CONFIG_FAILED };
	uint32_t rec;

	if (!perhaps(&W.chance, W.p.no_space_ppm) && W.nconfig < CONFIGS_MAX) {
		check_config(n, config);
		rec = rec_new(n->log[n->last], REC_CONFIG, n->raft.vote.term, 128);
		config->start = W.rec[rec].start;
		config->end = W.rec[rec].end;
		W.rec[rec].config = (uint16_t) W.nconfig;
		W.config[W.nconfig++] = *config;
		log_append(n, rec);
		W.changes++;
		e.kind = RAFT_EV_CONFIG_APPENDED;
		e.config = config;
		TRACE("%d configuration of %d at %llu", n->slot, config->n, (unsigned long long) config->start);
	}
	host_event(n, &e);
}

/* What has to follow a step before any other event. */
static void
follow_up(Node *n, bool begin, bool change, RaftConfig *config, bool closed)
{
	if (closed && log_end(n) != n->raft.end && !n->truncating && !HBUG(GATE_LEFT_OPEN)) {
		RaftEvent e = { .kind = RAFT_EV_APPENDED, .end = log_end(n) };

		host_event(n, &e);
	}
	if (n->up && begin)
		begin_term(n);
	if (n->up && change)
		append_config(n, config);
}

void
host_fed(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_APPENDED, .end = log_end(n) };
	bool closed = false;

	if (n->raft.role != RAFT_LEADER || e.end <= n->raft.end)
		return;
	step(n, &e);
	(void) (act(n, &closed) && (stream_out(n), true));
}

void
host_event(Node *n, RaftEvent *e)
{
	uint32_t boot = n->boot;
	bool closed = false, begin, change;
	RaftConfig config;

	if (e->kind != RAFT_EV_APPENDED && e->kind != RAFT_EV_TERM_BEGUN && e->kind != RAFT_EV_CONFIG_APPENDED)
		host_fed(n);
	if (!n->up || n->boot != boot)
		return;
	step(n, e);
	begin = out.begin_term;
	change = out.append_config;
	if (change)
		config = out.config;
	if (!act(n, &closed))
		return;
	if (begin || change || closed)
		follow_up(n, begin, change, &config, closed);
	if (!n->up || n->boot != boot)
		return;
	if (n->raft.commit > W.rec[n->state.rec].end)
		apply_soon(n);
	if (n->raft.config.start != n->config_seen)
		net_tell_new_peers(n);
	if (n->raft.role == RAFT_LEADER)
		stream_out(n);
	if (n->raft.role != RAFT_LEADER && !n->truncating && n->raft.end != log_end(n))
		sim_fail("core: end", "node %d: its core believes in %llu, its log ends at %llu", n->slot,
				 (unsigned long long) n->raft.end, (unsigned long long) log_end(n));
	host_start_sync(n);
}

/* ---- events ---------------------------------------------------------------- */

void
host_arm(Node *n)
{
	uint64_t at = global_time(n, raft_deadline_us(&n->raft));

	if (at <= W.now)
		at = W.now + 1 + below(&W.chance, 200);
	if (at < n->timer_at) {
		n->timer_at = at;
		push(at, EV_TIMER, n->slot, 0);
	}
}

void
host_timer(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_TICK };

	n->timer_at = NEVER;
	if (local_now(n) >= raft_deadline_us(&n->raft))
		host_event(n, &e);
}

void
host_log_start(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_LOG_START,
					.pos = W.rec[n->log[n->ring_start]].end,
					.end = W.rec[n->log[n->log_start]].end };

	host_event(n, &e);
}

/* The records of the event under way. */
static const uint32_t *batch;
static uint32_t nbatch;

static void
accept_bytes(Node *n)
{
	uint64_t pos = out.accept_from;

	if (pos != log_end(n) || n->truncating)
		sim_fail("core: accept", "node %d accepts at %llu, its log ends at %llu%s", n->slot,
				 (unsigned long long) pos, (unsigned long long) log_end(n),
				 n->truncating ? " (being cut)" : "");
	for (uint32_t i = 0; i < nbatch; i++) {
		if (W.rec[batch[i]].start != pos || W.rec[batch[i]].end > out.accept_to)
			continue;
		log_append(n, batch[i]);
		pos = W.rec[batch[i]].end;
	}
	if (pos != out.accept_to)
		sim_fail("core: accept", "node %d accepts to %llu, no record ends there", n->slot,
				 (unsigned long long) out.accept_to);
}

void
host_records(Node *n, RaftAppend *a, const uint32_t *rec, uint32_t count, RaftEventKind kind)
{
	RaftEvent e = { .kind = kind, .append = a };

	a->nterms = 0;
	a->has_config = false;
	a->head.pos = W.rec[rec[0]].start;
	a->head.pos_term = W.rec[W.rec[rec[0]].prev].term;
	a->head.end = W.rec[rec[count - 1]].end;
	for (uint32_t i = 0; i < count; i++) {
		const Rec *r = &W.rec[rec[i]];

		if (r->kind == REC_TERM)
			a->terms[a->nterms++] = (RaftTerm){ .term = r->term, .start = r->start };
		if (r->kind == REC_CONFIG) {
			a->has_config = true;
			a->config = W.config[r->config];
		}
	}
	batch = rec;
	nbatch = count;
	host_event(n, &e);
}

void
host_message(Node *n, const Letter *l)
{
	RaftEvent e = { .kind = RAFT_EV_MESSAGE, .msg = &l->msg };

	if (l->last != 0)
		stream_in(n, l);
	else
		host_event(n, &e);
}
