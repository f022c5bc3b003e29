/*
 * record.c - records and logs.
 *
 * A record never changes and knows the one before it, so the records of a run are a tree and every log is a
 * path from its root: log[i] is the path's i-th record. The Log Matching Property (paper 5.3) is then one
 * comparison at each append.
 */
#include "sim.h"

uint32_t
rec_new(uint32_t prev, RecKind kind, uint64_t term, uint64_t size)
{
	uint32_t id = W.nrec;
	Rec *r = &W.rec[id];
	const Rec *before = &W.rec[prev];

	if (id + 64 >= RECORDS_MAX)
		W.overflow = true; /* the run ends soon; it is no failure */
	if (id + 1 >= RECORDS_MAX)
		sim_fail("simulator", "no more records");
	W.nrec++;
	*r = (Rec){ .start = before->end,
				.end = before->end + size,
				.term = term,
				.prev_term = before->term,
				.prev = prev,
				.index = before->index + 1,
				.kind = (uint8_t) kind };
	return id;
}

uint32_t
rec_ancestor(uint32_t rec, uint32_t index)
{
	while (W.rec[rec].index > index)
		rec = W.rec[rec].prev;
	return rec;
}

uint64_t
log_end(const Node *n)
{
	return W.rec[n->log[n->last]].end;
}

uint32_t
log_find_end(const Node *n, uint64_t pos)
{
	uint32_t lo = n->base, hi = n->last;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (W.rec[n->log[mid]].end < pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return W.rec[n->log[lo]].end == pos ? lo : UINT32_MAX;
}

void
log_append(Node *n, uint32_t rec)
{
	check_append(n, rec);
	n->log[++n->last] = rec;
	disk_write(n, rec);
}

void
log_cut(Node *n, uint32_t last)
{
	n->last = last;
	if (n->synced > last)
		n->synced = last;
}
