/*
 * checks.c - reads, each compared with the model: single, in batches, scans both ways, at old snapshots.
 */
#include <string.h>

#include "../../storage/kvstore_internal.h"
#include "ipc/procslot.h"
#include "model.h"

static const uint8_t user_first = KEYSPACE_USER, user_end = KEYSPACE_USER + 1;

static void
compare(const Model *m, int key, Status st, const Entry *e, const char *how)
{
	const ModelEntry *want = &m->entry[key];
	bool live = model_live(want, kvstore_applied_time());

	if (st != ST_OK && st != ST_NOT_FOUND && ordered(st)) {
		world->refused++;
		return;
	}
	if (st != ST_OK && st != ST_NOT_FOUND)
		failed("%s of key %d: %s (%s)", how, key, status_name(st), status_detail());
	if ((st == ST_OK) != live)
		failed("%s of key %d: %s, but the model %s it (version %llu)", how, key,
			   st == ST_OK ? "found" : "not found", live ? "has" : "does not have",
			   (unsigned long long) (st == ST_OK ? e->version : want->version));
	if (st != ST_OK)
		return;
	if (e->version != want->version)
		failed("%s of key %d: version %llu, not %llu", how, key, (unsigned long long) e->version,
			   (unsigned long long) want->version);
	if (!slice_eq(e->value, value_text(&want->value)))
		failed("%s of key %d: a wrong value of %zu bytes", how, key, e->value.len);
	if (e->expire_ms != want->expire_ms)
		failed("%s of key %d: expires at %llu, not %llu", how, key, (unsigned long long) e->expire_ms,
			   (unsigned long long) want->expire_ms);
}

void
check_get(int key)
{
	Snapshot s;
	Entry e;
	Status st;

	kvstore_begin_read(&s, 0);
	st = kvstore_get(&s, key_text[key], &e);
	compare(&model, key, st, &e, "get");
	kvstore_end_read();
	world->reads++;
}

/* n keys from a random one on, some twice. Within a read. */
static void
compare_many(const Model *m, Snapshot *s, Prng *g, int n)
{
	Slice key[KVSTORE_BATCH_MAX];
	int index[KVSTORE_BATCH_MAX];
	Entry e[KVSTORE_BATCH_MAX];
	Status st[KVSTORE_BATCH_MAX];
	int done = 0;

	for (int i = 0; i < n; i++) {
		index[i] = (int) prng_below(g, (uint64_t) world->set.keys);
		key[i] = key_text[index[i]];
	}
	while (done < n) {
		int got = kvstore_get_many(s, key + done, n - done, e, st);

		CHECK(got > 0 && got <= n - done);
		for (int i = 0; i < got; i++)
			compare(m, index[done + i], st[i], &e[i], "get_many");
		done += got;
	}
	world->reads += (uint64_t) n;
}

/* Places [from, to) of the order of keys. */
typedef struct Range {
	int from, to;
	bool reverse;
} Range;

static Range
draw_range(Prng *g)
{
	int n = world->set.keys, a = (int) prng_below(g, (uint64_t) n + 1),
		b = (int) prng_below(g, (uint64_t) n + 1);

	if (prng_below(g, 3) == 0)
		return (Range){ 0, n, prng_below(g, 2) == 0 };
	return (Range){ a < b ? a : b, a < b ? b : a, prng_below(g, 2) == 0 };
}

static Slice
bound(int place)
{
	if (place == world->set.keys)
		return slice_of(&user_end, 1);
	return place == 0 ? slice_of(&user_first, 1) : key_text[key_order[place]];
}

/* False: it failed, as ordered. */
static bool
open_range(Snapshot *s, const Range *r, Scan **sc)
{
	Status st = kvstore_scan_open(s, bound(r->from), bound(r->to), false, r->reverse, true, sc);

	if (st != ST_OK && !ordered(st))
		failed("opening a scan: %s (%s)", status_name(st), status_detail());
	return st == ST_OK;
}

/* Next key from *place on that the model has; false: none is left. */
static bool
next_expected(const Model *m, const Range *r, int *place)
{
	for (; r->reverse ? *place >= r->from : *place < r->to; *place += r->reverse ? -1 : 1)
		if (model_live(&m->entry[key_order[*place]], kvstore_applied_time()))
			return true;
	return false;
}

/* Up to `most` entries of the scan. False: it has ended. */
static bool
compare_scan(const Model *m, Scan *sc, const Range *r, int *place, int most)
{
	for (int i = 0; i < most; i++) {
		Entry e;
		Status st = kvstore_scan_next(sc, &e);
		bool more = next_expected(m, r, place);

		if (st != ST_OK && st != ST_NOT_FOUND && ordered(st)) {
			world->refused++;
			return false;
		}
		if (st != ST_OK && st != ST_NOT_FOUND)
			failed("scan: %s (%s)", status_name(st), status_detail());
		if ((st == ST_OK) != more)
			failed("scan %s [%d, %d): %s, the model has %s key %d there", r->reverse ? "back" : "on", r->from,
				   r->to, st == ST_OK ? "an entry too many" : "an entry is missing", more ? "" : "no",
				   more ? key_order[*place] : -1);
		if (!more)
			return false;
		if (!slice_eq(e.key, key_text[key_order[*place]]))
			failed("scan: a wrong key where %d is expected", key_order[*place]);
		compare(m, key_order[*place], st, &e, "scan");
		*place += r->reverse ? -1 : 1;
	}
	return true;
}

static void
compare_range(const Model *m, Snapshot *s, const Range *r, int most)
{
	int place = r->reverse ? r->to - 1 : r->from;
	Scan *sc;

	if (!open_range(s, r, &sc))
		return;
	(void) compare_scan(m, sc, r, &place, most);
	kvstore_scan_close(sc);
	world->scans++;
}

void
check_all(void)
{
	Range all = { 0, world->set.keys, false };
	Snapshot s;

	if (kvstore_applied_time() != model.time)
		failed("log time is %llu, not %llu", (unsigned long long) kvstore_applied_time(),
			   (unsigned long long) model.time);
	for (int i = 0; i < world->set.keys; i++)
		check_get(i);
	for (int back = 0; back < 2; back++) {
		all.reverse = back;
		kvstore_begin_read(&s, 0);
		compare_range(&model, &s, &all, KEYS_MAX + 1);
		kvstore_end_read();
	}
	world->checked++;
}

void
check_some(Prng *g)
{
	Range r = draw_range(g);
	Snapshot s;

	kvstore_begin_read(&s, 0);
	if (prng_below(g, 2) == 0)
		compare_many(&model, &s, g, 1 + (int) prng_below(g, KVSTORE_BATCH_MAX));
	else
		compare_range(&model, &s, &r, prng_below(g, 2) == 0 ? KEYS_MAX + 1 : 1 + (int) prng_below(g, 10));
	kvstore_end_read();
}

/* ---- old states */
static struct {
	Lsn at;
	Model model;
} held[HELD_MAX];

void
check_hold(Prng *g)
{
	int i = (int) prng_below(g, HELD_MAX);

	held[i].at = kvstore_applied();
	held[i].model = model;
}

void
check_held(Prng *g)
{
	int i = (int) prng_below(g, HELD_MAX);
	Range r = draw_range(g);
	Snapshot s;
	Status st;

	if (held[i].at == 0)
		return;
	st = kvstore_begin_read_at(&s, 0, held[i].at);
	if (st == ST_SNAPSHOT_GONE) {
		CHECK(held[i].at < atomic_load(&kvs->history_floor));
		held[i].at = 0;
		world->gone++;
		return;
	}
	MUST(st);
	compare_many(&held[i].model, &s, g, 1 + (int) prng_below(g, 16));
	compare_range(&held[i].model, &s, &r, KEYS_MAX + 1);
	kvstore_end_read();
}

void
check_scan_during_work(Prng *g)
{
	Range r = draw_range(g);
	int place = r.reverse ? r.to - 1 : r.from;
	bool did = true, more = true;
	Snapshot s;
	Scan *sc;

	engine_freeze();
	kvstore_begin_read(&s, 0);
	more = open_range(&s, &r, &sc);
	while (more) {
		more = compare_scan(&model, sc, &r, &place, 1 + (int) prng_below(g, 8));
		if (did && more)
			engine_work(&did);
		if (!more)
			kvstore_scan_close(sc);
	}
	kvstore_end_read();
	world->scans++;
}
