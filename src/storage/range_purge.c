/*
 * range_purge.c - when range deletions are worked off: tables they hide go, they go themselves.
 *
 * Run by the compaction worker between flush and compaction. What to do is in lsm/purge.c; here is when.
 */
#include "ipc/epoch.h"
#include "kvstore_internal.h"
#include "port/clock.h"

/*
 * Tables at the ends of range deletions are rewritten when no new one has come for so long, or when there are so many:
 * each rewriting then serves many. Until then all they cost is a few steps of a binary search per read.
 */
#define SETTLE_MS 2000
#define SETTLE_RANGES 64

/* What the last purge saw; with nothing changed there is nothing to do. */
static struct {
	uint64_t version, newest, newest_since_ms;
	uint32_t old;
	bool edges;
} last;

Status
range_purge(Lsn oldest, Version **out)
{
	const Version *v = superversion_version();
	uint32_t old = lsm_ranges_below(v, oldest);
	uint64_t now_ms = clock_mono_ns() / 1000000, newest = lsm_newest_range(v);
	bool edges;

	*out = NULL;
	if (newest != last.newest) {
		last.newest = newest;
		last.newest_since_ms = now_ms;
	}
	edges = old > SETTLE_RANGES || now_ms - last.newest_since_ms >= SETTLE_MS;
	if (old == 0 || (v->number == last.version && old == last.old && edges <= last.edges))
		return ST_OK;
	KV_TRY(lsm_purge(oldest, edges, out));
	last.version = v->number;
	last.old = old;
	last.edges = edges;
	return ST_OK;
}

/* Range deletions of a memtable that every snapshot sees. */
static uint32_t
old_ranges(const Memtable *m, Lsn oldest)
{
	uint32_t n = memtable_ranges(m);
	RangeDelete r;

	while (n > 0) {
		memtable_range(m, n - 1, &r);
		if (r.version < oldest)
			break;
		n--;
	}
	return n;
}

/*
 * The list of tables learns of a range deletion when its memtable is written out. If that is a good bargain, more bytes
 * of tables hidden than are to be written, it is not left until the memtable is full.
 */
void
range_ask_for_flush(Lsn oldest)
{
	static uint32_t asked;
	static uint64_t asked_version;
	const Superversion *sv;
	SuperversionRanges view;
	bool pin = !epoch_pinned();
	uint32_t n;

	if (pin)
		epoch_enter();
	sv = atomic_load(&kvs->current);
	n = old_ranges(sv->active, oldest);
	superversion_ranges_view(&view, sv, oldest);
	/* Looked at again when there are more, or the tables are others. */
	if (n > 0 && (n != asked || sv->version->number != asked_version) &&
		lsm_hidden_bytes(sv->version, &view.base) > memtable_used(sv->active)) {
		atomic_store(&kvs->freeze_wanted, 1);
		commit_poke_walwriter();
	}
	asked = n;
	asked_version = sv->version->number;
	if (pin)
		epoch_leave();
}
