/*
 * scan.c - walk the live entries of a key range at one snapshot, forward or backward.
 *
 * Run by a process inside a read. Over a merge of memtables and tables, which gives every version of every
 * key (newest first); this picks the newest below the snapshot and drops tombstones and the expired.
 *
 * A walk holds its read's pin, so what it may do within one is bounded, however little there is to answer: keys looked
 * at, and time. A key costs a few steps and seeks, however many versions it has. Whoever is told BUSY ends the read,
 * and begins another walk behind kvstore_scan_last().
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "kvstore_internal.h"
#include "port/clock.h"

/* Versions of one key skipped one by one before seeking past them. */
#define SKIP_BY_STEPS 8
/* The clock is looked at once for so many keys: a small part of what they cost, and a fraction of SCAN_MS_MAX. */
#define KEYS_PER_LOOK 64

_Static_assert((SCAN_KEYS_MAX - SCAN_KEYS_SURE) % KEYS_PER_LOOK == 0, "there is a look behind SCAN_KEYS_MAX");

struct Scan {
	Snapshot *snapshot;
	Iter *it;
	Buf start, end;
	bool unbounded, reverse, positioned, keys_only, fill_cache;
	/* forward: key whose further versions are to be skipped; reverse: the entry being answered */
	Buf key, value;
	ValueReader large;      /* the value of the entry being answered, if it lies in a value file */
	/* What range deletions hide; has_ranges false: nothing. */
	bool has_ranges;
	SuperversionRanges ranges;
	Cover cover;
	uint32_t keys, look_at; /* keys looked at; from how many on spent() looks closer */
	uint32_t keys_max;
	uint64_t until_ns;
};

/* What comes into the memtable that is written to may be newer than what hides the rest: it is walked through. */
static Iter *
frozen_iter(const Superversion *sv, int i, const RangeView *view)
{
	Iter *it = memtable_iter(sv->frozen[i]);

	return view == NULL ? it : iter_through(it, sv->frozen_end[i], view);
}

/* view: what is hidden, NULL nothing. */
static Status
open_sources(const Superversion *sv, const RangeView *view, bool fill_cache, Iter **out)
{
	Iter *sources[MEMTABLES_MAX + 2];
	int n = 0;
	Iter *it = memtable_iter(sv->active);

	for (int i = 0; it != NULL; i++) {
		sources[n++] = it;
		if (i >= sv->nfrozen)
			break;
		it = frozen_iter(sv, i, view);
	}
	if (it != NULL)
		it = lsm_iter_through(sv->version, (TableIterOptions){ .fill_cache = fill_cache }, view);
	if (it == NULL) {
		while (n > 0)
			iter_close(sources[--n]);
		return status_fail(ST_OUT_OF_MEMORY, "out of memory opening a scan");
	}
	sources[n++] = it;
	*out = iter_merge(sources, n);
	return *out != NULL ? ST_OK : status_fail(ST_OUT_OF_MEMORY, "out of memory opening a scan");
}

Status
kvstore_scan_open(Snapshot *s, Slice start, Slice end, bool unbounded, bool reverse, bool fill_cache,
				  Scan **out)
{
	Scan *sc = calloc(1, sizeof *sc);
	Status st;

	if (sc == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory opening a scan");
	sc->snapshot = s;
	sc->unbounded = unbounded;
	sc->reverse = reverse;
	sc->fill_cache = fill_cache;
	sc->has_ranges = superversion_ranges(read_superversion()) > 0;
	superversion_ranges_view(&sc->ranges, read_superversion(), s->at);
	scan_bound(sc, SCAN_KEYS_MAX, SCAN_MS_MAX);
	st = buf_append_slice(&sc->start, start);
	if (st == ST_OK)
		st = buf_append_slice(&sc->end, end);
	if (st == ST_OK)
		st = open_sources(read_superversion(), sc->has_ranges ? &sc->ranges.base : NULL, fill_cache, &sc->it);
	if (st != ST_OK) {
		kvstore_scan_close(sc);
		return st;
	}
	*out = sc;
	return ST_OK;
}

void
kvstore_scan_close(Scan *sc)
{
	iter_close(sc->it);
	buf_free(&sc->start);
	buf_free(&sc->end);
	buf_free(&sc->key);
	buf_free(&sc->value);
	buf_free(&sc->large.own);
	free(sc);
}

void
kvstore_scan_keys_only(Scan *sc)
{
	sc->keys_only = true;
}

void
scan_bound(Scan *sc, uint32_t keys, uint32_t ms)
{
	sc->keys_max = keys;
	sc->until_ns = clock_mono_ns() + ms * UINT64_C(1000000);
	sc->look_at = sc->keys + SCAN_KEYS_SURE + 1;
}

static bool
look_closer(Scan *sc)
{
	sc->look_at = sc->keys + KEYS_PER_LOOK;
	if (sc->keys <= sc->keys_max && clock_mono_ns() <= sc->until_ns)
		return false;
	sc->look_at = sc->keys--; /* and so it stays */
	return true;
}

/* Asked before each key that is looked at: has this walk done what it may within one read? */
static inline bool
spent(Scan *sc)
{
	return ++sc->keys >= sc->look_at && look_closer(sc);
}

/* Of the newest version that the snapshot sees of a key. */
static bool
is_live(Scan *sc, const Entry *e)
{
	if (sc->has_ranges && range_view_at(&sc->ranges.base, e->key, &sc->cover) > e->version)
		return false;
	return read_entry_live(sc->snapshot, e);
}

static bool
at_key(const Scan *sc)
{
	return sc->it->valid && slice_eq(sc->it->entry.key, slice_buf(&sc->key));
}

/* Forward, past the versions of the key from `version` on. */
static void
skip_versions(Scan *sc, uint64_t version)
{
	for (int steps = 0; at_key(sc) && sc->it->entry.version >= version; steps++) {
		if (steps < SKIP_BY_STEPS) {
			iter_next(sc->it);
		} else {
			iter_seek(sc->it, slice_buf(&sc->key), version - 1); /* 0 is no version: behind all of them */
			return;
		}
	}
}

static Status
next_forward(Scan *sc, Entry *out)
{
	Iter *it = sc->it;
	Lsn at = sc->snapshot->at;

	if (!sc->positioned) {
		sc->positioned = true;
		iter_seek(it, slice_buf(&sc->start), UINT64_MAX);
	} else if (sc->key.len > 0) {
		skip_versions(sc, 1);
	}
	while (it->valid) {
		if (!sc->unbounded && slice_cmp(it->entry.key, slice_buf(&sc->end)) >= 0)
			return ST_NOT_FOUND;
		if (spent(sc))
			return status_fail(ST_BUSY, "a walk has done what it may within one read");
		KV_TRY(buf_set(&sc->key, it->entry.key));
		if (it->entry.version >= at) {
			skip_versions(sc, at);
			if (!at_key(sc))
				continue;
		}
		if (is_live(sc, &it->entry)) {
			*out = it->entry;
			return ST_OK;
		}
		skip_versions(sc, 1);
	}
	return it->status != ST_OK ? it->status : ST_NOT_FOUND;
}

/* Keep what the iterator shows as the newest version met so far, a copy: the iterator is going to move on. */
static Status
keep(Scan *sc, Entry *best)
{
	*best = sc->it->entry;
	return buf_set(&sc->value, sc->it->entry.value);
}

/*
 * Backward, the versions of a key come oldest first: to the newest visible one, step by step, then by a seek, and
 * past the key. best->version 0: none is visible. The key of best is not set.
 */
static Status
pass_key_back(Scan *sc, Entry *best)
{
	Iter *it = sc->it;
	Lsn at = sc->snapshot->at;

	KV_TRY(buf_set(&sc->key, it->entry.key));
	for (int steps = 0; at_key(sc); steps++) {
		if (steps == SKIP_BY_STEPS) {
			iter_seek(it, slice_buf(&sc->key), at - 1);
			if (at_key(sc))
				KV_TRY(keep(sc, best));
			if (it->status == ST_OK)
				iter_seek_before(it, slice_buf(&sc->key), UINT64_MAX);
			break;
		}
		if (it->entry.version < at)
			KV_TRY(keep(sc, best));
		iter_prev(it);
	}
	return it->valid ? ST_OK : it->status;
}

static Status
next_reverse(Scan *sc, Entry *out)
{
	Iter *it = sc->it;

	if (!sc->positioned) {
		sc->positioned = true;
		if (sc->unbounded)
			iter_seek_last(it);
		else
			iter_seek_before(it, slice_buf(&sc->end), UINT64_MAX);
	}
	while (it->valid && slice_cmp(it->entry.key, slice_buf(&sc->start)) >= 0) {
		Entry best = { 0 };

		if (spent(sc))
			return status_fail(ST_BUSY, "a walk has done what it may within one read");
		KV_TRY(pass_key_back(sc, &best));
		best.key = slice_buf(&sc->key);
		best.value = slice_buf(&sc->value);
		if (best.version != 0 && is_live(sc, &best)) {
			*out = best;
			return ST_OK;
		}
	}
	return !it->valid && it->status != ST_OK ? it->status : ST_NOT_FOUND;
}

Status
kvstore_scan_next(Scan *sc, Entry *out)
{
	KV_TRY(sc->reverse ? next_reverse(sc, out) : next_forward(sc, out));
	if (out->kind != ENTRY_VALUE_REF)
		return ST_OK;
	out->kind = ENTRY_PUT;
	if (!sc->keys_only)
		return value_read(&sc->large, out->value, (TableIterOptions){ .fill_cache = sc->fill_cache }, &out->value);
	out->value = slice_of(NULL, 0);
	return ST_OK;
}

Slice
kvstore_scan_last(const Scan *sc)
{
	return slice_buf(&sc->key);
}
