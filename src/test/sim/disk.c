/*
 * disk.c - what a disk holds: a durable image and ordered writes that were not synced.
 *
 * The image is a list of whole records by position. A truncation writes nothing: what was cut stays behind the
 * end and is overwritten later, so that recovery meets stale records as it does on recycled log files (rule
 * L1). A torn write destroys what it was written over. Recovery is that of storage: from the tables' position
 * on, each record where the last one ended, terms changing only at TERM records that name the term before
 * them.
 */
#include <string.h>

#include "sim.h"

/* First place in the image whose record ends above pos. */
static uint32_t
image_place(const Disk *d, uint64_t pos)
{
	uint32_t lo = 0, hi = d->nimage;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (W.rec[d->image[mid]].end <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Whatever lies in [start, end) is gone; `put` (0: nothing) takes its place. */
static void
image_replace(Disk *d, uint64_t start, uint64_t end, uint32_t put)
{
	uint32_t at =
		d->nimage > 0 && W.rec[d->image[d->nimage - 1]].end <= start ? d->nimage : image_place(d, start);
	uint32_t to = at;
	uint32_t add = put != 0;

	while (to < d->nimage && W.rec[d->image[to]].start < end)
		to++;
	if (to - at != add && to < d->nimage)
		memmove(&d->image[at + add], &d->image[to], (d->nimage - to) * sizeof *d->image);
	if (put != 0)
		d->image[at] = put;
	d->nimage += add;
	d->nimage -= to - at;
}

static void
image_write(Disk *d, uint32_t rec)
{
	image_replace(d, W.rec[rec].start, W.rec[rec].end, rec);
}

static void
image_tear(Disk *d, uint32_t rec)
{
	image_replace(d, W.rec[rec].start, W.rec[rec].start + 8, 0);
}

void
disk_write(Node *n, uint32_t rec)
{
	Disk *d = &n->disk;

	if (d->nops == UNSYNCED_MAX) { /* the kernel writes out old pages by itself */
		for (uint32_t i = 0; i < UNSYNCED_MAX / 2; i++)
			image_write(d, d->op[i].rec);
		memmove(d->op, d->op + UNSYNCED_MAX / 2, UNSYNCED_MAX / 2 * sizeof *d->op);
		d->nops = UNSYNCED_MAX / 2;
		n->sync_ops -= n->sync_ops < UNSYNCED_MAX / 2 ? n->sync_ops : UNSYNCED_MAX / 2;
	}
	d->op[d->nops++].rec = rec;
}

void
disk_sync_done(Node *n, uint32_t nops)
{
	Disk *d = &n->disk;

	for (uint32_t i = 0; i < nops; i++)
		image_write(d, d->op[i].rec);
	memmove(d->op, d->op + nops, (d->nops - nops) * sizeof *d->op);
	d->nops -= nops;
}

/*
 * Mostly a prefix survives, sometimes any subset; the one at the cut, or those missing in between, may be
 * torn.
 */
void
disk_power_loss(Node *n)
{
	Disk *d = &n->disk;
	Chance *c = &W.chance;
	bool subset = below(c, 3) == 0;
	uint32_t kept = d->nops == 0 ? 0 : below(c, d->nops + 1);
	uint32_t keep_ppm = below(c, 1000001);

	for (uint32_t i = 0; i < d->nops; i++) {
		if (subset ? perhaps(c, keep_ppm) : i < kept)
			image_write(d, d->op[i].rec);
		else if (subset ? below(c, 4) == 0 : i == kept)
			image_tear(d, d->op[i].rec);
	}
	d->nops = 0;
	d->vote = d->vote_synced;
}

/*
 * A record of those that recovery will read is spoiled. Below the mark: what is damaged above it, together
 * with a crash, cannot be told from a torn tail (L6 states this exposure).
 */
void
disk_damage(Node *n)
{
	Disk *d = &n->disk;
	uint64_t from = W.rec[d->tables.rec].end;
	uint32_t lo = image_place(d, from), hi = image_place(d, d->mark), i;

	if (lo >= hi)
		return;
	i = lo + below(&W.chance, hi - lo);
	if (below(&W.chance, 2) == 0 && hi - lo > 8)
		i = hi - 1 - below(&W.chance, 8);
	image_tear(d, d->image[i]);
}

bool
disk_holds(const Node *n, uint32_t rec)
{
	const Disk *d = &n->disk;
	uint32_t at;

	if (W.rec[rec].index <= d->tables.index)
		return true; /* the tables' own check is equal hashes */
	at = image_place(d, W.rec[rec].start);
	return at < d->nimage && d->image[at] == rec;
}

static bool
follows(uint32_t rec, uint64_t term)
{
	const Rec *r = &W.rec[rec];

	if (HBUG(TERMS_NEVER_DECREASE))
		return r->term >= term;
	return r->kind == REC_TERM ? r->prev_term == term && r->term > term : r->term == term;
}

bool
disk_recover(Node *n)
{
	Disk *d = &n->disk;
	uint64_t pos = W.rec[d->tables.rec].end, term = W.rec[d->tables.rec].term;
	uint32_t at;

	if (!HBUG(CACHE_TRUSTED)) { /* L7: written again and synced before anything counts on it */
		disk_sync_done(n, d->nops);
	}
	n->base = d->tables.index;
	n->last = n->base;
	n->log[n->base] = d->tables.rec;
	for (at = image_place(d, pos); at < d->nimage; at++) {
		uint32_t rec = d->image[at];

		if (W.rec[rec].start != pos || !follows(rec, term))
			break;
		n->log[++n->last] = rec;
		pos = W.rec[rec].end;
		term = W.rec[rec].term;
	}
	n->synced = n->last;
	for (uint32_t i = 0; i < d->nops; i++) { /* only with CACHE_TRUSTED */
		if (W.rec[d->op[i].rec].start == pos && follows(d->op[i].rec, term)) {
			n->log[++n->last] = d->op[i].rec;
			pos = W.rec[d->op[i].rec].end;
			term = W.rec[d->op[i].rec].term;
		}
	}
	n->synced = n->last;
	return pos >= d->mark;
}
