/*
 * scan.c - walk the live entries of a key range at one snapshot, forward or backward.
 *
 * Run by a process inside a read. Over a merge of memtables and tables, which gives every version of every
 * key (newest first); this picks the newest below the snapshot and drops tombstones and the expired.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "kvstore_internal.h"

/* Versions of one key skipped one by one before seeking past them. */
#define SKIP_BY_STEPS 8

struct Scan {
	Snapshot *snapshot;
	Iter *it;
	Buf start, end;
	bool unbounded, reverse, positioned;
	/* forward: key whose further versions are to be skipped; reverse: the entry being answered */
	Buf key, value;
};

static Status
open_sources(const Superversion *sv, bool fill_cache, Iter **out)
{
	Iter *sources[MEMTABLES_MAX + 2];
	int n = 0;
	Iter *it = memtable_iter(sv->active);

	for (int i = 0; it != NULL; i++) {
		sources[n++] = it;
		if (i >= sv->nfrozen)
			break;
		it = memtable_iter(sv->frozen[i]);
	}
	if (it != NULL)
		it = lsm_iter(sv->version, (TableIterOptions){ .fill_cache = fill_cache });
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
	st = buf_append_slice(&sc->start, start);
	if (st == ST_OK)
		st = buf_append_slice(&sc->end, end);
	if (st == ST_OK)
		st = open_sources(read_superversion(), fill_cache, &sc->it);
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
	free(sc);
}

/* Move past the versions of the key answered or judged last. */
static void
skip_key(Scan *sc)
{
	for (int steps = 0; sc->it->valid && slice_eq(sc->it->entry.key, slice_buf(&sc->key)); steps++) {
		if (steps < SKIP_BY_STEPS) {
			iter_next(sc->it);
		} else {
			iter_seek(sc->it, slice_buf(&sc->key), 0); /* version 0 is none: behind all of them */
			return;
		}
	}
}

static Status
next_forward(Scan *sc, Entry *out)
{
	Iter *it = sc->it;

	if (!sc->positioned) {
		sc->positioned = true;
		iter_seek(it, slice_buf(&sc->start), UINT64_MAX);
	} else if (sc->key.len > 0) {
		skip_key(sc);
	}
	while (it->valid) {
		if (!sc->unbounded && slice_cmp(it->entry.key, slice_buf(&sc->end)) >= 0)
			return ST_NOT_FOUND;
		if (it->entry.version >= sc->snapshot->at) {
			iter_next(it);
			continue;
		}
		KV_TRY(buf_set(&sc->key, it->entry.key));
		if (read_entry_live(sc->snapshot, &it->entry)) {
			*out = it->entry;
			return ST_OK;
		}
		skip_key(sc);
	}
	return it->status != ST_OK ? it->status : ST_NOT_FOUND;
}

/*
 * Backward, the versions of a key come oldest first: remember the newest visible so far, until the key changes. The
 * remembered entry is a copy, since the iterator has moved on when it is answered.
 */
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
		bool found = false;

		KV_TRY(buf_set(&sc->key, it->entry.key));
		for (; it->valid && slice_eq(it->entry.key, slice_buf(&sc->key)); iter_prev(it)) {
			if (it->entry.version >= sc->snapshot->at)
				continue;
			best = it->entry;
			found = true;
			KV_TRY(buf_set(&sc->value, it->entry.value));
		}
		if (!it->valid && it->status != ST_OK)
			return it->status;
		best.key = slice_buf(&sc->key);
		best.value = slice_buf(&sc->value);
		if (found && read_entry_live(sc->snapshot, &best)) {
			*out = best;
			return ST_OK;
		}
	}
	return !it->valid && it->status != ST_OK ? it->status : ST_NOT_FOUND;
}

Status
kvstore_scan_next(Scan *sc, Entry *out)
{
	return sc->reverse ? next_reverse(sc, out) : next_forward(sc, out);
}
