/*
 * test_scan.c - walks over much that is gone: each ends after a bounded piece of work, and goes on where it was; a read
 * that is renewed keeps its position and nothing else.
 *
 * The engine in a forked child. What is walked lies in the memtable or, after a flush, in a table; both directions.
 */
#include <dirent.h>
#include <limits.h>

#include "engine_test.h"

#define NARROW (SCAN_KEYS_SURE + 128) /* keys of one walk here: what is checked does not depend on how many there are */
#define RANGE 10000           /* numbers of keys apart, for each walk's own */
#define FOREVER 600000

static uint32_t
number_of(Slice key)
{
	CHECK(key.len == 5);
	return (uint32_t) key.data[1] << 24 | (uint32_t) key.data[2] << 16 | (uint32_t) key.data[3] << 8 | key.data[4];
}

/* One record of operations of a kind on keys [from, to), or on one key again and again. Version of the last. */
static uint64_t
write_keys(OpKind kind, uint32_t from, uint32_t to, bool same)
{
	Buf body = { 0 };
	uint64_t version;
	uint8_t key[5];

	for (uint32_t i = from; i < to; i++) {
		Op op = { .kind = kind, .key = number_key(same ? from : i, key) };

		if (kind == OP_PUT)
			op.value = slice_str("value");
		MUST(op_encode(&body, &op));
	}
	MUST(kvstore_write(wal_generation(), &body, to - from, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
	return version + (to - from) - 1;
}

static void
flush_all(void)
{
	ask_for_flush();
	run_compactor();
}

typedef struct Walk {
	uint32_t from, to;       /* numbers of keys */
	bool reverse;
	uint32_t keys_max, ms;   /* of each part */
	uint32_t parts, found;
	uint32_t first, last;    /* numbers of keys found */
} Walk;

/* The whole range in parts, each a read of its own at the same position, as a client's pages are. */
static void
walk(Walk *w)
{
	uint8_t key[5];
	Buf start = { 0 }, end = { 0 };
	Lsn at = kvstore_applied();
	Status st = ST_BUSY;

	w->parts = w->found = 0;
	MUST(buf_set(&start, number_key(w->from, key)));
	MUST(buf_set(&end, number_key(w->to, key)));
	for (; st == ST_BUSY; w->parts++) {
		Snapshot s;
		Scan *sc;
		Entry e;

		MUST(kvstore_begin_read_at(&s, 0, at));
		MUST(kvstore_scan_open(&s, slice_buf(&start), slice_buf(&end), false, w->reverse, true, &sc));
		scan_bound(sc, w->keys_max, w->ms);
		while ((st = kvstore_scan_next(sc, &e)) == ST_OK) {
			CHECK(slice_eq(kvstore_scan_last(sc), e.key));
			w->last = number_of(e.key);
			w->first = w->found++ == 0 ? w->last : w->first;
		}
		if (st == ST_BUSY) {
			Slice last = kvstore_scan_last(sc);

			CHECK(kvstore_scan_next(sc, &e) == ST_BUSY && slice_eq(kvstore_scan_last(sc), last));
			MUST(buf_set(w->reverse ? &end : &start, last));
			if (!w->reverse)
				MUST(buf_append(&start, "", 1));
		}
		kvstore_scan_close(sc);
		kvstore_end_read();
	}
	CHECK(st == ST_NOT_FOUND);
	buf_free(&start);
	buf_free(&end);
}

static void
bounded_by_keys(void)
{
	start_engine();
	kvstore_hold(); /* no tombstone is dropped */
	for (int tables = 0; tables < 2; tables++) {
		for (uint32_t n = NARROW - 1; n <= NARROW + 1; n++) {
			uint32_t from = n * RANGE, to = from + n - 1;

			if (!tables) {
				(void) write_keys(OP_PUT, from, from + 1, false);
				(void) write_keys(OP_DELETE, from + 1, to, false);
				(void) write_keys(OP_PUT, to, to + 1, false);
			}
			for (int reverse = 0; reverse < 2; reverse++) {
				Walk w = { .from = from, .to = from + RANGE, .reverse = reverse, .keys_max = NARROW, .ms = FOREVER };

				walk(&w);
				CHECK(w.found == 2 && w.first == (reverse ? to : from) && w.last == (reverse ? from : to));
				CHECK(w.parts == (n > NARROW ? 2 : 1));
			}
		}
		kvstore_hold();
		flush_all();
	}
}

static void
wait_ms(uint64_t ms)
{
	for (uint64_t until = clock_mono_ns() + ms * 1000000; clock_mono_ns() <= until;)
		;
}

/* Time that is up is noticed, but not before the first keys are looked at. */
static void
bounded_by_time(void)
{
	static const uint8_t first = KEYSPACE_USER;
	Snapshot s;
	Scan *sc;
	Entry e;

	start_engine();
	for (int part = 0; part < 4; part++) {
		for (uint32_t n = SCAN_KEYS_SURE - 1; n <= SCAN_KEYS_SURE + 1; n++) {
			Walk w = { .from = n * RANGE, .to = (n + 1) * RANGE, .reverse = part % 2, .keys_max = SCAN_KEYS_MAX };

			if (part == 0)
				(void) write_keys(OP_PUT, w.from, w.from + n, false);
			walk(&w);
			CHECK(w.found == n && w.parts == (n > SCAN_KEYS_SURE ? 2 : 1));
		}
		if (part == 1)
			flush_all();
	}
	kvstore_begin_read(&s, 0);
	MUST(kvstore_scan_open(&s, slice_of(&first, 1), slice_of(NULL, 0), true, false, true, &sc));
	for (int i = 0; i < SCAN_KEYS_SURE; i++)
		MUST(kvstore_scan_next(sc, &e));
	wait_ms(SCAN_MS_MAX);
	CHECK(kvstore_scan_next(sc, &e) == ST_BUSY);
	kvstore_scan_close(sc);
	kvstore_end_read();
}

/* More of them than are passed one by one, before and after the snapshot. */
static void
versions_of_one_key(void)
{
	static const uint8_t first = KEYSPACE_USER, past = KEYSPACE_USER + 1;
	uint64_t newest[3];
	Lsn before;

	start_engine();
	kvstore_hold(); /* nothing is dropped */
	for (uint32_t k = 0; k < 3; k++)
		newest[k] = write_keys(OP_PUT, k, k + 20, true);
	before = kvstore_applied();
	(void) write_keys(OP_DELETE, 1, 21, true);
	for (int tables = 0; tables < 2; tables++) {
		for (int reverse = 0; reverse < 2; reverse++) {
			for (int old = 0; old < 2; old++) {
				uint32_t expect[2][3] = { { 0, 2, 9 }, { 0, 1, 2 } };
				Snapshot s;
				Scan *sc;
				Entry e;

				MUST(kvstore_begin_read_at(&s, 0, old ? before : kvstore_applied()));
				MUST(kvstore_scan_open(&s, slice_of(&first, 1), slice_of(&past, 1), false, reverse, true, &sc));
				for (int i = 0, n = old ? 3 : 2; i < n; i++) {
					MUST(kvstore_scan_next(sc, &e));
					CHECK(number_of(e.key) == expect[old][reverse ? n - 1 - i : i]);
					CHECK(slice_eq(e.value, slice_str("value")) && e.version == newest[number_of(e.key)]);
				}
				CHECK(kvstore_scan_next(sc, &e) == ST_NOT_FOUND);
				kvstore_scan_close(sc);
				kvstore_end_read();
				kvstore_hold();
			}
		}
		flush_all();
	}
}

/* Tables in the directory; *first: the smallest number of them. */
static int
tables_there(unsigned *first)
{
	DIR *d = opendir("tables");
	int n = 0;

	CHECK(d != NULL);
	*first = UINT_MAX;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		unsigned number;

		if (sscanf(e->d_name, "%x.kvt", &number) != 1)
			continue;
		n++;
		*first = number < *first ? number : *first;
	}
	closedir(d);
	return n;
}

static void
renewed_read(void)
{
	uint8_t key[5];
	unsigned old, left;
	uint64_t version;
	Snapshot s;
	Entry e;

	start_engine();
	version = write_keys(OP_PUT, 0, 10, false);
	flush_all();
	CHECK(tables_there(&old) == 1);
	kvstore_begin_read(&s, 0);
	(void) write_keys(OP_PUT, 0, 10, false);
	ask_for_flush();
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	(void) tables_there(&left);
	CHECK(left == old); /* held */
	kvstore_renew_read(&s);
	run_compactor();
	(void) tables_there(&left);
	CHECK(left > old);
	MUST(kvstore_get(&s, number_key(9, key), &e));
	CHECK(e.version == version);
	kvstore_end_read();
	kvstore_begin_read(&s, 0);
	MUST(kvstore_get(&s, number_key(9, key), &e));
	CHECK(e.version > version);
	kvstore_end_read();
}

static void
each_walk_is_bounded_by_keys(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(bounded_by_keys);
	leave_dir();
}

static void
each_walk_is_bounded_by_time(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(bounded_by_time);
	leave_dir();
}

static void
many_versions_make_no_long_walk(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(versions_of_one_key);
	leave_dir();
}

static void
a_renewed_read_lets_go_of_files(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(renewed_read);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_walk_is_bounded_by_keys),
		cmocka_unit_test(each_walk_is_bounded_by_time),
		cmocka_unit_test(many_versions_make_no_long_walk),
		cmocka_unit_test(a_renewed_read_lets_go_of_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
