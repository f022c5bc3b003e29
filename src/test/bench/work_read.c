/*
 * work_read.c - workloads that read, and commands.
 *
 * Each GET and each seek takes a snapshot of its own, as a call of RocksDB's does.
 */
#include <inttypes.h>

#include "../../storage/kvstore_internal.h"
#include "bench.h"
#include "ipc/epoch.h"
#include "ipc/procslot.h"

#define COMMAND_MS 3600000
#define SETTLE_NAP_US 2000

/* A store that gives back something else would be fast, too. */
static void
check_value(Slice value)
{
	if (value.len == (size_t) opt.value_size)
		return;
	(void) status_fail(ST_CORRUPT, "value of %zu bytes", value.len);
	die("a wrong value was read");
}

static void
get_random(Worker *w, size_t extra)
{
	uint64_t n = worker_reads();

	worker_begin(w);
	for (uint64_t i = 0; i < n && worker_in_time(w); i++) {
		Slice key = data_key(&w->key, prng_below(&w->random, (uint64_t) opt.num), extra);
		Snapshot s;
		Entry e;
		Status st;

		kvstore_begin_read(&s, 0);
		st = kvstore_get(&s, key, &e);
		if (st != ST_OK && st != ST_NOT_FOUND)
			die("a read failed");
		if (st == ST_OK)
			check_value(e.value);
		w->r->found += st == ST_OK;
		worker_done(w, st == ST_OK ? key.len - 1 + e.value.len : 0);
		kvstore_end_read();
	}
	worker_end(w);
}

void
work_read_random(Worker *w)
{
	get_random(w, 0);
}

void
work_read_missing(Worker *w)
{
	get_random(w, 1); /* longer than any key there is */
}

/*
 * A walk through the user's keyspace, as a backend does it: what one read may not do (kvstore_scan_next()) is gone on
 * with in the next one.
 */
typedef struct Walk {
	Snapshot snapshot;
	Scan *scan;
	bool reverse;
	Buf start, end;
} Walk;

static void
open_scan(Walk *k)
{
	kvstore_begin_read(&k->snapshot, 0);
	MUST(kvstore_scan_open(&k->snapshot, slice_buf(&k->start), slice_buf(&k->end), false, k->reverse, true, &k->scan));
}

static void
close_scan(Walk *k)
{
	kvstore_scan_close(k->scan);
	kvstore_end_read();
}

static void
walk_begin(Walk *k, Slice start, bool reverse)
{
	static const uint8_t above = KEYSPACE_USER + 1;

	k->reverse = reverse;
	MUST(buf_set(&k->start, start));
	MUST(buf_set(&k->end, slice_of(&above, 1)));
	open_scan(k);
}

static void
go_on(Walk *k)
{
	Buf *bound = k->reverse ? &k->end : &k->start;

	MUST(buf_set(bound, kvstore_scan_last(k->scan)));
	if (!k->reverse)
		MUST(buf_append(bound, "", 1)); /* the next key there can be */
	close_scan(k);
	open_scan(k);
}

static bool
walk_next(Walk *k, Entry *e)
{
	Status st;

	while ((st = kvstore_scan_next(k->scan, e)) == ST_BUSY)
		go_on(k);
	if (st != ST_OK && st != ST_NOT_FOUND)
		die("a scan failed");
	if (st == ST_OK)
		check_value(e->value);
	return st == ST_OK;
}

static Slice
first_key(void)
{
	static const uint8_t first = KEYSPACE_USER;

	return slice_of(&first, 1);
}

static void
walk_all(Worker *w, bool reverse)
{
	uint64_t n = worker_reads();
	Walk k = { 0 };
	Entry e;

	worker_begin(w);
	walk_begin(&k, first_key(), reverse);
	for (uint64_t i = 0; i < n && worker_in_time(w) && walk_next(&k, &e); i++)
		worker_done(w, e.key.len - 1 + e.value.len);
	close_scan(&k);
	w->r->found = w->r->ops;
	worker_end(w);
}

void
work_read_seq(Worker *w)
{
	walk_all(w, false);
}

void
work_read_reverse(Worker *w)
{
	walk_all(w, true);
}

void
work_seek_random(Worker *w)
{
	uint64_t n = worker_reads();
	Walk walk = { 0 };

	worker_begin(w);
	for (uint64_t i = 0; i < n && worker_in_time(w); i++) {
		uint64_t bytes = 0;
		Entry e;

		walk_begin(&walk, data_key(&w->key, prng_below(&w->random, (uint64_t) opt.num), 0), false);
		/* the seek itself gives an entry, then so many more */
		for (int64_t k = 0; k <= opt.seek_nexts && walk_next(&walk, &e); k++) {
			w->r->entries++;
			w->r->found += k == 0;
			bytes += e.key.len - 1 + e.value.len;
		}
		close_scan(&walk);
		worker_done(w, bytes);
	}
	worker_end(w);
}

/* ---- commands */

void
work_flush(Worker *w)
{
	worker_begin(w);
	MUST(kvstore_checkpoint(COMMAND_MS));
	worker_end(w);
}

void
work_compact(Worker *w)
{
	worker_begin(w);
	MUST(kvstore_checkpoint(COMMAND_MS));
	MUST(kvstore_compact(COMMAND_MS));
	worker_end(w);
}

/* Is there nothing left for the compaction worker? */
static bool
settled(void)
{
	const Superversion *sv;
	bool done;

	epoch_enter();
	sv = atomic_load(&kvs->current);
	done = sv->nfrozen == 0 && !lsm_due(sv->version);
	epoch_leave();
	return done;
}

void
work_settle(Worker *w)
{
	worker_begin(w);
	while (!settled())
		procslot_sleep(procslot_prepare_sleep(), SETTLE_NAP_US);
	worker_end(w);
}

static Status
print_stat(void *arg, const char *name, uint64_t value)
{
	(void) arg;
	printf("  %-28s %" PRIu64 "\n", name, value);
	return ST_OK;
}

void
work_stats(Worker *w)
{
	worker_begin(w);
	MUST(kvstore_stats(print_stat, NULL));
	fflush(stdout);
	worker_end(w);
}

void
work_count(Worker *w)
{
	uint64_t entries = 0, bytes = 0;
	Walk k = { 0 };
	Entry e;

	worker_begin(w);
	walk_begin(&k, first_key(), false);
	while (walk_next(&k, &e)) {
		entries++;
		bytes += e.key.len - 1 + e.value.len;
	}
	close_scan(&k);
	atomic_store(&shared->live_entries, entries);
	atomic_store(&shared->live_bytes, bytes);
	worker_end(w);
}
