/*
 * stream.c - log bytes on the wire: ranges cut anywhere, put together again to whole records, and what is
 * fetched.
 */
#include <string.h>

#include "sim.h"

static RaftAppend event_append;

/* How many of the records fit into one event; now and then fewer. */
static uint32_t
event_size(const uint32_t *rec, uint32_t n)
{
	uint32_t terms = 0, configs = 0, i;
	uint32_t most = n > 1 && perhaps(&W.chance, W.p.cut_ppm) ? 1 + below(&W.chance, n) : n;

	for (i = 0; i < most; i++) {
		if (W.rec[rec[i]].kind == REC_TERM && ++terms > RAFT_APPEND_TERMS)
			break;
		if (W.rec[rec[i]].kind == REC_CONFIG && ++configs > 1)
			break;
	}
	return i;
}

/* Where a range that starts at pos and may go to `to` is cut; *last holds the byte before. */
static uint64_t
cut_range(const Node *n, uint64_t pos, uint64_t to, uint32_t *last)
{
	uint32_t lo = n->base + 1, hi = n->last, i;

	while (lo < hi) { /* the record that holds pos */
		uint32_t mid = lo + (hi - lo) / 2;

		if (W.rec[n->log[mid]].end <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (hi - lo >= CHUNK_MAX)
		hi = lo + CHUNK_MAX - 1;
	if (perhaps(&W.chance, W.p.cut_ppm))
		hi = lo + below(&W.chance, hi - lo + 1);
	for (i = lo; i < hi && W.rec[n->log[i]].end < to; i++)
		;
	*last = n->log[i];
	if (W.rec[*last].end < to)
		to = W.rec[*last].end;
	if (perhaps(&W.chance, W.p.partial_ppm) && to - pos > 1)
		to = between(&W.chance, (W.rec[*last].start > pos ? W.rec[*last].start : pos) + 1, to);
	return to;
}

void
stream_out(Node *n)
{
	const RaftConfig *c = &n->raft.config;
	RaftMsg head;
	uint64_t to;
	uint32_t last;

	for (int i = 0; i < c->n && n->raft.role == RAFT_LEADER; i++) {
		uint64_t id = c->member[i].id;

		for (int k = 0; k < 4 && id != n->raft.self; k++) {
			if (!raft_next_send(&n->raft, id, local_now(n), &head, &to))
				break;
			if (to > log_end(n) || head.pos >= to)
				sim_fail("core: range", "node %d sends [%llu, %llu) of a log to %llu", n->slot,
						 (unsigned long long) head.pos, (unsigned long long) to,
						 (unsigned long long) log_end(n));
			to = cut_range(n, head.pos, to, &last);
			head.end = to;
			check_message(n, &head);
			net_send(n, &head, last, to, n->busy_until > W.now ? n->busy_until : W.now);
			raft_sent(&n->raft, id, local_now(n), to);
		}
	}
}

/* The whole records in l, oldest first, with what an earlier piece began. */
static uint32_t
assemble(Node *n, const Letter *l, uint32_t *rec)
{
	uint32_t count = 0, r;
	Partial *part = &n->partial[l->from];
	Partial had = *part;

	for (r = l->last; r != 0 && W.rec[r].end > l->msg.pos && count < CHUNK_MAX + 2; r = W.rec[r].prev)
		rec[count++] = r;
	for (uint32_t i = 0; i < count / 2; i++) {
		uint32_t swap = rec[i];

		rec[i] = rec[count - 1 - i];
		rec[count - 1 - i] = swap;
	}
	*part = (Partial){ 0, 0 };
	if (count == 0 || (W.rec[rec[0]].start < l->msg.pos && (had.rec != rec[0] || had.upto != l->msg.pos)))
		return 0; /* its beginning never came */
	if (W.rec[rec[count - 1]].end > l->until) {
		*part = (Partial){ .rec = rec[count - 1], .upto = l->until };
		count--;
	}
	return count;
}

void
stream_in(Node *n, const Letter *l)
{
	static uint32_t rec[CHUNK_MAX + 2];
	uint32_t count = assemble(n, l, rec), done = 0, boot = n->boot;

	while (done < count && n->up && n->boot == boot) {
		uint32_t k = event_size(rec + done, count - done);

		event_append.head = l->msg;
		host_records(n, &event_append, rec + done, k, RAFT_EV_APPEND);
		done += k;
	}
}

/* ---- fetching ---------------------------------------------------------------- */

static void
fetch_ended(Node *n)
{
	RaftEvent e = { .kind = RAFT_EV_FETCH_ENDED };

	n->fetch.active = false;
	host_event(n, &e);
}

static void
fetch_tables(Node *n, Node *source)
{
	node_flush(source);
	if (W.rec[source->disk.tables.rec].end <= n->raft.commit) { /* C5 */
		fetch_ended(n);
		return;
	}
	W.installs++;
	node_install(n, &source->disk.tables);
}

void
host_fetch(Node *n, uint32_t number)
{
	static uint32_t rec[CHUNK_MAX];
	Node *source;
	uint32_t at, k = 0, most = 1 + below(&W.chance, 64);

	if (!n->fetch.active || n->fetch.number != number)
		return;
	source = node_of(n->fetch.id);
	if (source == NULL || !source->up || !net_reachable(n->slot, source->slot) || below(&W.chance, 20) == 0) {
		fetch_ended(n);
		return;
	}
	if (n->fetch.snapshot) {
		fetch_tables(n, source);
		return;
	}
	at = log_find_end(source, log_end(n));
	if (at == UINT32_MAX || at < source->log_start) {
		fetch_ended(n);
		return;
	}
	for (; k < most && at + 1 + k <= source->last; k++) {
		if (W.rec[source->log[at + 1 + k]].end > source->raft.commit)
			break;
		rec[k] = source->log[at + 1 + k];
	}
	if (k == 0) {
		fetch_ended(n);
		return;
	}
	k = event_size(rec, k);
	W.fetches++;
	for (uint32_t i = 0; i < k; i++)
		log_append(n, rec[i]);
	memset(&event_append.head, 0, sizeof event_append.head);
	event_append.head.kind = RAFT_APPEND;
	event_append.head.from = n->fetch.id;
	event_append.head.commit = n->fetch.until;
	push(W.now + random_time(W.p.delay_max + 500), EV_FETCH, n->slot, number);
	host_records(n, &event_append, rec, k, RAFT_EV_FETCHED);
}
