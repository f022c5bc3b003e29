/*
 * machine.c - lives and deaths of a node: start with recovery, crash, wiped disk, pause, tables written and
 * installed.
 */
#include <string.h>

#include "sim.h"

void
node_init(Node *n, int slot, bool initial)
{
	uint32_t *log = n->log, *image = n->disk.image;
	uint32_t boot = n->boot;

	memset(n, 0, offsetof(Node, raft));
	memset(&n->disk, 0, offsetof(Disk, op));
	memset((char *) &n->disk + offsetof(Disk, mark), 0, sizeof n->disk - offsetof(Disk, mark));
	memset((char *) n + offsetof(Node, log), 0, sizeof *n - offsetof(Node, log));
	n->log = log;
	n->disk.image = image;
	n->boot = boot + 1;
	n->slot = slot;
	n->initial = initial;
	n->id = (uint64_t) ++W.incarnations * SLOTS + (uint64_t) slot;
	n->disk.mark = n->disk.mark_commit = FIRST_POS;
	n->clock_offset = 1000000 + chance_next(&W.chance) % 1000000000;
	n->clock_rate = 1.0 + (double) below(&W.chance, 2 * W.p.skew_permille + 1) / 1000.0 -
					(double) W.p.skew_permille / 1000.0;
}

/* The log from `floor` on, of which recovery reads only what is not in tables. */
static void
keep_older(Node *n)
{
	while (n->base > n->disk.floor) {
		uint32_t before = W.rec[n->log[n->base]].prev;

		if (W.rec[n->log[n->base]].index != n->base)
			break;
		n->log[--n->base] = before;
	}
	n->log_start = n->base;
}

/*
 * The ring never begins above commit: what is not committed could not be fetched, and would never be
 * committed.
 */
static void
draw_ring(Node *n, uint64_t commit)
{
	uint32_t at = n->base;

	while (at < n->last && W.rec[n->log[at + 1]].end <= commit)
		at++;
	n->ring_start = n->base + below(&W.chance, at - n->base + 1);
}

/* C2: configurations count from append on, so they are read from the whole log. */
static void
find_configs(const Node *n, RaftStart *s)
{
	uint32_t low = HBUG(CONFIG_FORGOTTEN) ? n->disk.tables.index : 0;
	int found = 0;

	for (uint32_t r = n->log[n->last]; W.rec[r].index > low && found < 2; r = W.rec[r].prev) {
		if (W.rec[r].kind != REC_CONFIG)
			continue;
		*(found == 0 ? &s->config : &s->previous) = W.config[W.rec[r].config];
		found++;
	}
	if (found < 2 && (n->initial || n->disk.tables.index > 0))
		*(found == 0 ? &s->config : &s->previous) = W.first_config;
}

static uint32_t
find_terms(const Node *n, RaftTerm *terms)
{
	static RaftTerm newest[RAFT_TERMS_MAX];
	uint32_t k = 0;

	for (uint32_t r = n->log[n->last]; W.rec[r].index > 0 && k < RAFT_TERMS_MAX; r = W.rec[r].prev)
		if (W.rec[r].kind == REC_TERM)
			newest[k++] = (RaftTerm){ .term = W.rec[r].term, .start = W.rec[r].start };
	for (uint32_t i = 0; i < k; i++)
		terms[i] = newest[k - 1 - i];
	return k;
}

static void
recover(Node *n)
{
	Disk *d = &n->disk;

	if (!disk_recover(n)) {
		W.damages++;
		if (!HBUG(DAMAGE_IS_TORN_TAIL)) /* L5: before anything is cut */
			d->vote.recovering = d->vote_synced.recovering = true;
	}
	d->mark = log_end(n);
	if (d->mark_commit > d->mark)
		d->mark_commit = d->mark;
	keep_older(n);
	check_recovered(n);
}

void
node_start(Node *n)
{
	static RaftTerm terms[RAFT_TERMS_MAX];
	RaftStart s = { .self = n->id, .seed = chance_next(&W.chance), .first = FIRST_POS };
	uint64_t flushed;

	if (n->up)
		return;
	recover(n);
	n->damaged = false;
	n->state = n->disk.tables;
	flushed = W.rec[n->state.rec].end;
	s.now_us = local_now(n);
	s.vote = n->disk.vote;
	s.timing = (RaftTiming){ .election_us = ELECTION_US,
							 .heartbeat_us = W.p.heartbeat_us,
							 .commit_delay_us = W.p.commit_delay_us,
							 .window = W.p.window };
	s.end = log_end(n);
	s.durable = W.rec[n->log[n->synced]].end;
	s.commit = n->disk.mark_commit > flushed ? n->disk.mark_commit : flushed;
	if (HBUG(REPLAY_ALL))
		s.commit = s.end;
	draw_ring(n, s.commit);
	s.terms = terms;
	s.nterms = find_terms(n, terms);
	find_configs(n, &s);
	raft_init(&n->raft, &s);
	n->disk.vote = n->disk.vote_synced = n->raft.vote; /* the log may know a newer term than the vote file */
	n->up = true;
	n->pause = RUNS;
	n->gate = n->sync_busy = n->truncating = n->apply_due = false;
	n->fetch.active = false;
	n->lease = 0;
	n->serve_from = NEVER;
	n->timer_at = NEVER;
	n->busy_until = 0;
	n->last_commit = n->published_commit = s.commit;
	n->config_seen = NEVER;
	if (s.durable > W.durable_of[n->id / SLOTS] && !s.vote.recovering)
		W.durable_of[n->id / SLOTS] = s.durable;
	TRACE("%d starts as %llu: log [%llu, %llu), commit %llu, term %llu%s", n->slot,
		  (unsigned long long) n->id, (unsigned long long) W.rec[n->log[n->base]].end,
		  (unsigned long long) s.end, (unsigned long long) s.commit, (unsigned long long) s.vote.term,
		  s.vote.recovering ? ", recovering" : "");
	apply_up_to(n);
	host_log_start(n);
	for (int i = 0; i < SLOTS; i++)
		if (i != n->slot && n->up)
			net_connect(n->slot, i);
	if (W.p.flush_us != 0)
		push(W.now + random_time(W.p.flush_us), EV_FLUSH, n->slot, 0);
}

void
node_stop(Node *n, bool power)
{
	if (!n->up)
		return;
	TRACE("%d %s", n->slot, power ? "LOSES POWER" : "is KILLED");
	n->up = false;
	n->boot++;
	n->gate = false;
	n->lease = 0;
	n->pause = RUNS;
	n->fetch.number++;
	clients_forget(n);
	net_down_all(n);
	W.crashes++;
	if (power)
		disk_power_loss(n);
}

bool
node_crash_point(Node *n)
{
	if (W.phase != SAFETY || !perhaps(&W.chance, W.p.crash_point_ppm) || (W.without & 1u << FAULT_CRASH))
		return false;
	TRACE("%d crashes in between", n->slot);
	node_stop(n, below(&W.chance, 2) == 0);
	push(W.now + random_time(ELECTION_US), EV_START, n->slot, 0);
	return true;
}

/* Another disk: nothing is left, and who comes back is somebody else (C1). */
void
node_wipe(Node *n)
{
	uint64_t id = n->id;
	bool initial = n->initial;
	Node old = { .ghost_term = n->ghost_term, .ghost_voted = n->ghost_voted, .helped = n->helped };

	node_stop(n, true);
	TRACE("%d gets an empty disk", n->slot);
	W.wipes++;
	node_init(n, n->slot, false);
	if (HBUG(WIPED_SAME_IDENTITY)) {
		n->id = id;
		n->initial = initial;
		n->ghost_term = old.ghost_term;
		n->ghost_voted = old.ghost_voted;
	}
}

void
node_pause(Node *n, Pause kind, uint64_t us)
{
	if (!n->up || n->pause != RUNS)
		return;
	n->pause = kind;
	n->stopped_us = W.now;
	n->stopped_until = W.now + us;
	W.pauses++;
	TRACE("%d %s for %llu us", n->slot, kind == NODE_STOPPED ? "STOPS" : "stops its WORKER",
		  (unsigned long long) us);
	push(n->stopped_until, EV_RESUME, n->slot, 0);
}

/* L9: only what is durable here. */
void
node_flush(Node *n)
{
	Disk *d = &n->disk;
	uint32_t keep = W.p.keep == 0 ? 0 : below(&W.chance, W.p.keep);

	if (n->state.index > n->synced || n->state.index <= d->tables.index || n->truncating)
		return;
	d->tables = n->state;
	if (HBUG(SESSIONS_NOT_FLUSHED))
		memset(d->tables.serial, 0, sizeof d->tables.serial);
	if (d->tables.index > keep && d->tables.index - keep > n->log_start)
		n->log_start = d->tables.index - keep;
	n->base = d->floor = n->log_start;
	n->ring_start = n->log_start + below(&W.chance, n->state.index - n->log_start + 1);
	TRACE("%d tables to %llu, log from %llu, ring from %llu", n->slot,
		  (unsigned long long) W.rec[d->tables.rec].end, (unsigned long long) W.rec[n->log[n->log_start]].end,
		  (unsigned long long) W.rec[n->log[n->ring_start]].end);
	host_log_start(n);
}

/* C5: all at once, then the node starts again; the log is kept if a record of that term ends there. */
void
node_install(Node *n, const State *tables)
{
	Disk *d = &n->disk;
	uint64_t pos = W.rec[tables->rec].end;
	uint32_t at = log_find_end(n, pos);
	bool fits = at != UINT32_MAX && W.rec[n->log[at]].term == W.rec[tables->rec].term;

	TRACE("%d INSTALLS tables to %llu, log %s", n->slot, (unsigned long long) pos, fits ? "kept" : "gone");
	push(W.now + random_time(ELECTION_US / 4), EV_START, n->slot, 0);
	if (node_crash_point(n))
		return;                   /* before: the old state */
	if (fits && at > n->synced) { /* kept means synced */
		disk_sync_done(n, d->nops);
		n->synced = n->last;
	}
	if (!fits) {
		d->nimage = d->nops = 0;
		d->mark = pos;
		d->floor = tables->index;
	}
	if (!HBUG(INSTALL_KEEPS_STATE) || below(&W.chance, 2) != 0)
		d->tables = *tables;
	else
		d->mark = W.rec[d->tables.rec].end;
	if (d->mark < pos && !HBUG(INSTALL_KEEPS_STATE))
		d->mark = pos;
	if (d->mark_commit < pos)
		d->mark_commit = pos;
	node_stop(n, below(&W.chance, 2) == 0);
}
