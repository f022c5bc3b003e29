/*
 * trace.c - the world of the stories (trace.h): hosts as simple as they can be.
 *
 * A host does what RaftOut says, in its order, and answers before the next event. Checked in passing: a leader's term
 * has one leader, commit never falls, and no two nodes ever commit different records.
 */
#include "trace.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS 1024
#define PACKETS 4096
#define TERMS 2048

typedef struct Record {
	uint64_t term;
	bool begins_term, is_config;
	RaftConfig config;
} Record;

typedef struct Node {
	Raft raft;
	RaftOut out;
	bool up, gate, slow_disk, slow_cut, cutting;
	int n; /* records; record i is at FIRST + i * RECORD */
	Record log[RECORDS];
	RaftVote disk;
	uint64_t durable, commit;
	uint64_t reads_until, reads_index;
	uint64_t config_seen; /* start of the newest of whose members it was told who is connected */
	bool fetching, fetch_tables;
	uint64_t fetch_from, fetch_commit;
} Node;

typedef struct Packet {
	RaftMsg msg;
	bool bytes;
	int n;
	Record *log;
} Packet;

static struct {
	int n, voters;
	uint64_t now;
	int steps;
	Node node[NODES + 1];
	bool cut[NODES + 1][NODES + 1];
	Packet queue[PACKETS], held[PACKETS];
	int queued, nheld;
	bool hold[RAFT_KINDS];
	RaftMsg last[RAFT_KINDS][NODES + 1][NODES + 1];
	int count[RAFT_KINDS][NODES + 1][NODES + 1];
	Record agreed[RECORDS];
	int nagreed;
	int leader_of[TERMS];
} w;

/* ---- logs ------------------------------------------------------------------ */

static uint64_t
end_of(const Node *d)
{
	return FIRST + (uint64_t) d->n * RECORD;
}

static int
index_of(uint64_t pos)
{
	return (int) ((pos - FIRST) / RECORD);
}

static bool
same_record(const Record *a, const Record *b)
{
	return a->term == b->term && a->begins_term == b->begins_term && a->is_config == b->is_config;
}

static void
put(Node *d, const Record *rec)
{
	CHECK(d->n < RECORDS);
	d->log[d->n++] = *rec;
}

static void
describe(const Record *log, uint64_t pos, int n, RaftAppend *a)
{
	a->nterms = 0;
	a->has_config = false;
	for (int i = 0; i < n; i++) {
		uint64_t start = pos + (uint64_t) i * RECORD;

		if (log[i].begins_term && a->nterms < RAFT_APPEND_TERMS)
			a->terms[a->nterms++] = (RaftTerm){ .term = log[i].term, .start = start };
		if (log[i].is_config) {
			a->has_config = true;
			a->config = log[i].config;
		}
	}
}

static void
note_commit(Node *d)
{
	int n = index_of(d->raft.commit);

	CHECK(d->raft.commit >= d->commit);
	CHECK(d->raft.commit <= end_of(d));
	d->commit = d->raft.commit;
	for (int i = 0; i < n; i++) {
		if (i < w.nagreed)
			CHECK(same_record(&d->log[i], &w.agreed[i]));
		else
			w.agreed[w.nagreed++] = d->log[i];
	}
}

/* ---- messages ---------------------------------------------------------------- */

static void
send(const Packet *p)
{
	const RaftMsg *m = &p->msg;

	if (m->from > NODES || m->to > NODES)
		return;
	w.last[m->kind][m->from][m->to] = *m;
	w.count[m->kind][m->from][m->to]++;
	if (w.cut[m->from][m->to]) {
		free(p->log);
		return;
	}
	if (w.hold[m->kind] && !(m->kind == RAFT_APPEND && !p->bytes)) {
		CHECK(w.nheld < PACKETS);
		w.held[w.nheld++] = *p;
		return;
	}
	CHECK(w.queued < PACKETS);
	w.queue[w.queued++] = *p;
}

static void step(Node *d, RaftEvent *e);
static void tell_connected(Node *d);

static void
pump(Node *d)
{
	for (int to = 1; to <= w.n; to++) {
		Packet p = { .bytes = true };
		uint64_t until;

		while (raft_next_send(&d->raft, (uint64_t) to, w.now, &p.msg, &until)) {
			const Record *from = &d->log[index_of(p.msg.pos)];
			int n = index_of(until) - index_of(p.msg.pos);

			/* As many as one event may hold. */
			for (int i = 0, terms = 0, configs = 0; i < n; i++) {
				terms += from[i].begins_term;
				configs += from[i].is_config;
				if (terms > RAFT_APPEND_TERMS || configs > 1)
					n = i;
			}
			CHECK(n > 0);
			p.n = n;
			p.msg.end = p.msg.pos + (uint64_t) n * RECORD;
			p.log = malloc((size_t) n * sizeof *p.log);
			memcpy(p.log, from, (size_t) n * sizeof *p.log);
			raft_sent(&d->raft, (uint64_t) to, w.now, p.msg.end);
			send(&p);
		}
	}
}

static void
synced(Node *d)
{
	if (d->slow_disk || d->durable == end_of(d))
		return;
	d->durable = end_of(d);
	step(d, &(RaftEvent){ .kind = RAFT_EV_DURABLE, .end = d->durable });
}

static void
cut_now(Node *d, uint64_t at)
{
	d->cutting = false;
	d->n = index_of(at);
	if (d->durable > at)
		d->durable = at;
	step(d, &(RaftEvent){ .kind = RAFT_EV_TRUNCATED, .end = at });
}

/* Positions 1 .. 5 of RaftOut. */
static void
do_storage(Node *d, const RaftOut *o, const RaftEvent *e, const Record *log)
{
	if (o->close_gate)
		d->gate = false;
	if (o->persist)
		d->disk = d->raft.vote;
	if (o->accept) {
		CHECK(o->accept_from == end_of(d) && !d->cutting);
		for (uint64_t pos = o->accept_from; pos < o->accept_to; pos += RECORD)
			put(d, &log[index_of(pos) - index_of(e->append->head.pos)]);
	}
	if (o->truncate) {
		CHECK(o->truncate_to >= d->commit);
		d->cutting = true;
	}
	if (o->stop_fetch)
		d->fetching = false;
	if (o->fetch) {
		d->fetching = true;
		d->fetch_tables = o->fetch_snapshot;
		d->fetch_from = o->fetch_from;
		d->fetch_commit = o->fetch_until;
	}
}

static void
do_records(Node *d, bool begin_term, bool append_config, const RaftConfig *c)
{
	Record rec = { .term = d->raft.vote.term };
	uint64_t at = end_of(d);

	if (begin_term) {
		rec.begins_term = true;
		put(d, &rec);
		step(d, &(RaftEvent){ .kind = RAFT_EV_TERM_BEGUN, .pos = at, .end = end_of(d) });
	}
	if (append_config) {
		rec.is_config = true;
		rec.config = *c;
		rec.config.start = at;
		rec.config.end = at + RECORD;
		put(d, &rec);
		step(d, &(RaftEvent){ .kind = RAFT_EV_CONFIG_APPENDED, .config = &rec.config });
	}
}

static void
watch(Node *d)
{
	uint64_t t = d->raft.vote.term;

	if (d->raft.role == RAFT_LEADER && t < TERMS) {
		CHECK(w.leader_of[t] == 0 || w.leader_of[t] == (int) d->raft.self);
		w.leader_of[t] = (int) d->raft.self;
	}
	CHECK(d->raft.end == end_of(d) || d->cutting || d->raft.role == RAFT_LEADER);
	CHECK(d->raft.matched <= d->raft.end);
	note_commit(d);
}

static void
step_with(Node *d, RaftEvent *e, const Record *log)
{
	static RaftOut o;
	bool term, config;
	RaftConfig c;

	if (!d->up)
		return;
	e->now_us = w.now;
	w.steps++;
	raft_step(&d->raft, e, &o);
	d->out = o;
	do_storage(d, &o, e, log);
	if (o.open_gate)
		d->gate = true;
	if (o.reads_moved) {
		d->reads_until = o.reads_until_us;
		d->reads_index = o.reads_index;
	}
	watch(d);
	term = o.begin_term;
	config = o.append_config;
	c = o.config;
	if (term || config)
		do_records(d, term, config, &c);
	for (int i = 0; i < d->out.nmessages; i++)
		send(&(Packet){ .msg = d->out.message[i] });
	if (d->cutting && !d->slow_cut)
		cut_now(d, d->raft.truncate_to);
	synced(d);
	if (d->raft.config.start != d->config_seen)
		tell_connected(d);
	pump(d);
}

/* What a host does by itself is no step of the story: out() stays what the story caused. */
static void
step_quietly(Node *d, RaftEvent *e)
{
	RaftOut *kept = malloc(sizeof *kept);

	*kept = d->out;
	step_with(d, e, NULL);
	d->out = *kept;
	free(kept);
}

static void
step(Node *d, RaftEvent *e)
{
	if (e->kind == RAFT_EV_DURABLE || e->kind == RAFT_EV_TRUNCATED || e->kind == RAFT_EV_TERM_BEGUN ||
		e->kind == RAFT_EV_CONFIG_APPENDED)
		step_quietly(d, e);
	else
		step_with(d, e, NULL);
}

/* Connections stand: those to members that are new to the core are told to it. */
static void
tell_connected(Node *d)
{
	RaftConfig c = d->raft.config;

	d->config_seen = c.start;
	for (int i = 0; i < c.n; i++) {
		const RaftPeer *p = raft_peer(&d->raft, c.member[i].id);

		if (p != NULL && !p->up && !w.cut[d->raft.self][p->id])
			step_quietly(d, &(RaftEvent){ .kind = RAFT_EV_PEER_UP, .id = p->id });
	}
}

static void
deliver(const Packet *p)
{
	Node *d = &w.node[p->msg.to];
	RaftAppend a = { .head = p->msg };

	if (!p->bytes) {
		step(d, &(RaftEvent){ .kind = RAFT_EV_MESSAGE, .msg = &p->msg });
		return;
	}
	describe(p->log, p->msg.pos, p->n, &a);
	step_with(d, &(RaftEvent){ .kind = RAFT_EV_APPEND, .append = &a }, p->log);
}

void
settle(void)
{
	int limit = 20000;

	while (w.queued > 0) {
		Packet p = w.queue[0];

		memmove(w.queue, w.queue + 1, (size_t) --w.queued * sizeof w.queue[0]);
		if (!w.cut[p.msg.from][p.msg.to])
			deliver(&p);
		free(p.log);
		CHECK(--limit > 0); /* messages that make messages for ever */
	}
}

/* ---- the world ------------------------------------------------------------------ */

static void
start(Node *d, int id, uint64_t end, const RaftConfig *base)
{
	RaftTerm terms[RAFT_TERMS_MAX];
	RaftStart s = {
		.self = (uint64_t) id, .seed = (uint64_t) id, .now_us = w.now, .vote = d->disk, .first = FIRST
	};

	s.timing = (RaftTiming){ ELECTION, HEARTBEAT, COMMIT_DELAY, WINDOW };
	s.config = *base;
	d->n = index_of(end);
	for (int i = 0; i < d->n; i++) {
		if (d->log[i].begins_term && s.nterms < RAFT_TERMS_MAX)
			terms[s.nterms++] = (RaftTerm){ .term = d->log[i].term, .start = FIRST + (uint64_t) i * RECORD };
		if (d->log[i].is_config) {
			s.previous = s.config;
			s.config = d->log[i].config;
		}
	}
	s.terms = terms;
	s.end = s.durable = d->durable = end;
	d->commit = 0;
	d->gate = d->cutting = d->fetching = false;
	d->up = true;
	raft_init(&d->raft, &s);
	tell_connected(d);
}

static RaftConfig base_config;

void
nodes(int voters, int learners)
{
	for (int i = 0; i < w.queued; i++)
		free(w.queue[i].log);
	for (int i = 0; i < w.nheld; i++)
		free(w.held[i].log);
	memset(&w, 0, sizeof w);
	w.now = 3600 * 1000 * MS;
	w.n = voters + learners;
	base_config = (RaftConfig){ .n = w.n };
	for (int i = 0; i < w.n; i++)
		base_config.member[i] = (RaftMember){ .id = (uint64_t) i + 1, .voter = i < voters };
	w.n = NODES; /* the others are there, but no members */
	for (int id = 1; id <= NODES; id++)
		start(&w.node[id], id, FIRST, &base_config);
}

Raft *
node(int id)
{
	return &w.node[id].raft;
}

uint64_t
now_us(void)
{
	return w.now;
}

int
steps(void)
{
	return w.steps;
}

void
wait_blind(uint64_t us)
{
	w.now += us;
}

void
tick(int id)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_TICK });
}

void
pass(uint64_t us)
{
	uint64_t until = w.now + us;
	int limit = 100000;

	for (;;) {
		uint64_t due = UINT64_MAX;
		int who = 0;

		settle();
		for (int id = 1; id <= NODES; id++) {
			if (w.node[id].up && raft_deadline_us(&w.node[id].raft) < due) {
				due = raft_deadline_us(&w.node[id].raft);
				who = id;
			}
		}
		if (due > until)
			break;
		if (due > w.now)
			w.now = due;
		tick(who);
		CHECK(--limit > 0); /* a deadline that stays in the past: a host would spin */
	}
	w.now = until;
}

void
cut_one_way(int from, int to)
{
	w.cut[from][to] = true;
}

void
cut(int a, int b)
{
	w.cut[a][b] = w.cut[b][a] = true;
}

void
mend(int a, int b)
{
	w.cut[a][b] = w.cut[b][a] = false;
	tell_connected(&w.node[a]);
	tell_connected(&w.node[b]);
}

void
isolate(int id)
{
	for (int other = 1; other <= NODES; other++)
		cut(id, other);
}

void
rejoin(int id)
{
	for (int other = 1; other <= NODES; other++)
		mend(id, other);
}

void
hold(RaftKind kind)
{
	w.hold[kind] = true;
}

void
release(void)
{
	int n = w.nheld;

	memset(w.hold, 0, sizeof w.hold);
	w.nheld = 0;
	for (int i = 0; i < n; i++)
		w.queue[w.queued++] = w.held[i];
}

const RaftMsg *
last_sent(RaftKind kind, int from, int to)
{
	return w.count[kind][from][to] > 0 ? &w.last[kind][from][to] : NULL;
}

int
sent_count(RaftKind kind, int from, int to)
{
	return w.count[kind][from][to];
}

/* ---- events ------------------------------------------------------------------- */

void
campaign(int id)
{
	wait_blind(3 * ELECTION);
	tick(id);
	settle();
}

void
elect(int id)
{
	campaign(id);
	CHECK(leads(id));
}

void
append_quietly(int id, int n)
{
	Node *d = &w.node[id];
	Record rec = { .term = d->raft.vote.term };

	for (int i = 0; i < n; i++)
		put(d, &rec);
}

void
write_records(int id, int n)
{
	append_quietly(id, n);
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_APPENDED, .end = end_of(&w.node[id]) });
	settle();
}

void
slow_disk(int id)
{
	w.node[id].slow_disk = true;
}

void
sync_disk(int id)
{
	w.node[id].slow_disk = false;
	synced(&w.node[id]);
	settle();
}

void
slow_cut(int id)
{
	w.node[id].slow_cut = true;
}

void
finish_cut(int id)
{
	w.node[id].slow_cut = false;
	if (w.node[id].cutting)
		cut_now(&w.node[id], w.node[id].raft.truncate_to);
}

void
crash(int id)
{
	w.node[id].up = false;
}

/* Connections end with the process; what was on its way over them is lost. */
static void
drop_packets(Packet *p, int *n, int id)
{
	int kept = 0;

	for (int i = 0; i < *n; i++) {
		if (p[i].msg.from == (uint64_t) id || p[i].msg.to == (uint64_t) id)
			free(p[i].log);
		else
			p[kept++] = p[i];
	}
	*n = kept;
}

static void
come_back(int id, uint64_t end)
{
	drop_packets(w.queue, &w.queued, id);
	drop_packets(w.held, &w.nheld, id);
	start(&w.node[id], id, end, &base_config);
	for (int other = 1; other <= NODES; other++) {
		if (other != id && !w.cut[id][other]) {
			connect_again(other, id);
			connect_again(id, other);
		}
	}
}

void
restart(int id)
{
	come_back(id, w.node[id].durable);
}

void
restart_damaged(int id, uint64_t end)
{
	w.node[id].disk.recovering = true;
	come_back(id, end);
}

void
connect_again(int leader, int peer)
{
	step(&w.node[leader], &(RaftEvent){ .kind = RAFT_EV_PEER_UP, .id = (uint64_t) peer });
}

void
disconnect(int id, int peer)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_PEER_DOWN, .id = (uint64_t) peer });
}

RaftProposal
transfer(int id, int to)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_TRANSFER, .id = (uint64_t) to });
	return w.node[id].out.proposal;
}

RaftProposal
propose(int id, const RaftConfig *c)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_PROPOSE, .config = c });
	return w.node[id].out.proposal;
}

RaftConfig
with_learner(int id, int learner)
{
	RaftConfig c = node(id)->config;

	c.member[c.n++] = (RaftMember){ .id = (uint64_t) learner };
	return c;
}

RaftConfig
with_voter(int id, int voter)
{
	RaftConfig c = node(id)->config;

	for (int i = 0; i < c.n; i++) {
		if (c.member[i].id == (uint64_t) voter) {
			c.member[i].voter = true;
			return c;
		}
	}
	c.member[c.n++] = (RaftMember){ .id = (uint64_t) voter, .voter = true };
	return c;
}

RaftConfig
without(int id, int member)
{
	RaftConfig c = node(id)->config;
	int n = 0;

	for (int i = 0; i < c.n; i++)
		if (c.member[i].id != (uint64_t) member)
			c.member[n++] = c.member[i];
	c.n = n;
	return c;
}

void
ask_to_read(int id)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_READ });
}

void
log_start(int id, uint64_t stream, uint64_t fetch)
{
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_LOG_START, .pos = stream, .end = fetch });
}

void
fetched(int id, int from, uint64_t until)
{
	Node *d = &w.node[id];
	const Node *f = &w.node[from];
	RaftAppend a = { 0 };
	uint64_t pos = end_of(d);

	CHECK(d->fetching && !d->fetch_tables && until <= f->raft.commit);
	a.head = message(RAFT_APPEND, from, id, f->raft.vote.term);
	a.head.pos = pos;
	a.head.end = until;
	a.head.commit = f->raft.commit;
	describe(&f->log[index_of(pos)], pos, index_of(until) - index_of(pos), &a);
	while (end_of(d) < until)
		put(d, &f->log[d->n]);
	step(d, &(RaftEvent){ .kind = RAFT_EV_FETCHED, .append = &a });
}

void
fetch_ended(int id)
{
	w.node[id].fetching = false;
	step(&w.node[id], &(RaftEvent){ .kind = RAFT_EV_FETCH_ENDED });
}

RaftMsg
message(RaftKind kind, int from, int to, uint64_t t)
{
	return (RaftMsg){
		.kind = (uint8_t) kind, .from = (uint64_t) from, .to = (uint64_t) to, .term = t, .stamp_us = w.now
	};
}

void
give(const RaftMsg *m)
{
	RaftMsg copy = *m;

	step(&w.node[m->to], &(RaftEvent){ .kind = RAFT_EV_MESSAGE, .msg = &copy });
}

void
give_bytes(int of, int from, int to, uint64_t t, uint64_t pos, uint64_t end)
{
	Packet p = { .msg = message(RAFT_APPEND, from, to, t), .bytes = true };

	p.msg.pos = pos;
	p.msg.pos_term = raft_term_before(node(of), pos);
	p.msg.end = end;
	p.n = index_of(end) - index_of(pos);
	p.log = &w.node[of].log[index_of(pos)];
	deliver(&p);
}

const RaftOut *
out(int id)
{
	return &w.node[id].out;
}

const RaftMsg *
answer(int id, RaftKind kind)
{
	for (int i = 0; i < w.node[id].out.nmessages; i++)
		if (w.node[id].out.message[i].kind == kind)
			return &w.node[id].out.message[i];
	check_failed("an answer", __FILE__, __LINE__);
	return NULL;
}

/* ---- what can be seen ----------------------------------------------------------- */

bool
leads(int id)
{
	return w.node[id].up && node(id)->role == RAFT_LEADER;
}

bool
gate_open(int id)
{
	return w.node[id].gate;
}

uint64_t
log_end(int id)
{
	return end_of(&w.node[id]);
}

uint64_t
term(int id)
{
	return node(id)->vote.term;
}

uint64_t
disk_term(int id)
{
	return w.node[id].disk.term;
}

uint64_t
disk_vote(int id)
{
	return w.node[id].disk.voted_for;
}

bool
same_log(int a, int b)
{
	if (w.node[a].n != w.node[b].n)
		return false;
	for (int i = 0; i < w.node[a].n; i++)
		if (!same_record(&w.node[a].log[i], &w.node[b].log[i]))
			return false;
	return true;
}

bool
fetching(int id)
{
	return w.node[id].fetching;
}

bool
fetching_tables(int id)
{
	return w.node[id].fetching && w.node[id].fetch_tables;
}

uint64_t
reads_until(int id)
{
	return w.node[id].reads_until;
}

uint64_t
reads_index(int id)
{
	return w.node[id].reads_index;
}
