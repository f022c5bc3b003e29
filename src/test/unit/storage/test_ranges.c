/*
 * test_ranges.c - range deletions through the engine: what an operation of the log does, in whatever it lies, and how
 * it is worked off. (Random histories beside a model, with power failures, are kvmodel's.)
 */
#include "engine_test.h"

static Slice
key_of(const char *name, uint8_t *room)
{
	room[0] = KEYSPACE_USER;
	memcpy(room + 1, name, strlen(name));
	return slice_of(room, 1 + strlen(name));
}

/* ---- records: "put a", "del a", "inc a", "new a" (if absent), "ran a-c", "ran a-"; "put+ a": with the one before */
static uint32_t
encode(Buf *body, const char *text)
{
	char words[512], *save, *p = words;
	uint32_t n = 0;

	snprintf(words, sizeof words, "%s", text);
	for (char *verb = strtok_r(p, " ", &save); verb != NULL; verb = strtok_r(NULL, " ", &save), n++) {
		char *key = strtok_r(NULL, " ", &save), *dash = strchr(key, '-');
		uint8_t room[64], end[64], step[8];
		Op op = { .kind = OP_PUT, .flags = verb[3] == '+' ? OP_GROUPED : 0, .value = slice_str("value") };

		if (dash != NULL)
			*dash = '\0';
		op.key = key_of(key, room);
		if (memcmp(verb, "del", 3) == 0)
			op = (Op){ .kind = OP_DELETE, .flags = op.flags, .key = op.key };
		if (memcmp(verb, "new", 3) == 0)
			op.condition = COND_ABSENT;
		if (memcmp(verb, "inc", 3) == 0) {
			put_u64(step, 1);
			op.kind = OP_INCR;
			op.value = slice_of(step, 8);
		}
		if (memcmp(verb, "ran", 3) == 0) {
			op.kind = OP_DELETE_RANGE;
			op.value = dash[1] != '\0' ? key_of(dash + 1, end) : range_user_end();
		}
		MUST(op_encode(body, &op));
	}
	return n;
}

/* Version of the first operation. */
static uint64_t
write_all(const char *text)
{
	Buf body = { 0 };
	uint64_t version;
	uint32_t n = encode(&body, text);

	MUST(kvstore_write(wal_generation(), &body, n, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
	return version;
}

/* Keys and values from a to z: "a c=2 d" at a snapshot; by a walk one way or the other, and by reads. */
static const char *
seen_by_walk(Lsn at, bool back)
{
	static char text[512];
	uint8_t first = KEYSPACE_USER;
	size_t len = 0;
	Snapshot s;
	Scan *sc;
	Entry e;

	text[0] = '\0';
	MUST(kvstore_begin_read_at(&s, 0, at));
	MUST(kvstore_scan_open(&s, slice_of(&first, 1), range_user_end(), false, back, true, &sc));
	while (kvstore_scan_next(sc, &e) == ST_OK) {
		char one[64];
		int n = snprintf(one, sizeof one, "%s%.*s", len > 0 && !back ? " " : "", (int) e.key.len - 1,
						 (const char *) e.key.data + 1);

		if (!slice_eq(e.value, slice_str("value")))
			n += snprintf(one + n, sizeof one - (size_t) n, "=%.*s", (int) e.value.len, (const char *) e.value.data);
		if (back) {
			if (len > 0)
				one[n++] = ' ';
			memmove(text + n, text, len + 1);
			memcpy(text, one, (size_t) n);
		} else
			memcpy(text + len, one, (size_t) n + 1);
		len += (size_t) n;
	}
	kvstore_scan_close(sc);
	kvstore_end_read();
	return text;
}

static const char *
seen_by_reads(Lsn at, bool many)
{
	static char text[512];
	uint8_t room[26][2];
	Slice keys[26];
	Entry e[26];
	Status st[26];
	size_t len = 0;
	Snapshot s;

	text[0] = '\0';
	MUST(kvstore_begin_read_at(&s, 0, at));
	for (int i = 0; i < 26; i++)
		keys[i] = key_of((char[]){ (char) ('a' + i), '\0' }, room[i]);
	if (many)
		CHECK(kvstore_get_many(&s, keys, 26, e, st) == 26);
	for (int i = 0; i < 26; i++) {
		if (!many)
			st[i] = kvstore_get(&s, keys[i], &e[i]);
		if (st[i] == ST_NOT_FOUND)
			continue;
		MUST(st[i]);
		len += (size_t) snprintf(text + len, sizeof text - len, "%s%c", len > 0 ? " " : "", 'a' + i);
		if (!slice_eq(e[i].value, slice_str("value")))
			len += (size_t) snprintf(text + len, sizeof text - len, "=%.*s", (int) e[i].value.len,
									 (const char *) e[i].value.data);
	}
	kvstore_end_read();
	return text;
}

static void
expect_at(Lsn at, const char *want)
{
	const char *got[] = { seen_by_reads(at, false), NULL, NULL, NULL };

	for (int way = 0; way < 4; way++) {
		got[0] = way == 0 ? seen_by_reads(at, false) : way == 1 ? seen_by_reads(at, true) : seen_by_walk(at, way == 3);
		if (strcmp(got[0], want) != 0) {
			fprintf(stderr, "seen (way %d): \"%s\", wanted: \"%s\"\n", way, got[0], want);
			abort();
		}
	}
}

static void
expect(const char *want)
{
	expect_at(kvstore_applied(), want);
}

static void
flush(void)
{
	ask_for_flush();
	run_compactor();
}

static void
compact_all(void)
{
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
}

/* Twice: the history floor is what was applied at the look before. */
static void
forget_history(void)
{
	uint32_t ms;

	for (int i = 0; i < 2; i++)
		MUST(kvstore_walwriter_step(&ms));
}

/* ---- what an operation does */
static void
one_record(void)
{
	uint64_t v;

	start_engine();
	write_all("put a put b put c put d put e");
	write_all("put b ran b-d put c"); /* what comes later wins */
	expect("a c d e");
	v = write_all("inc x ran a-z inc x inc x"); /* each judged by what stands before it */
	expect("x=2");
	write_all("inc x ran+ a-z inc+ x"); /* one group: judged by the state before the group */
	expect("x=3");
	write_all("put a new a"); /* does not hold */
	write_all("ran a- new a");
	expect("a");
	write_all("put b new a ran+ a- put+ c"); /* the group fails, and its range deletion with it */
	expect("a b");
	CHECK(v > 0);
}

/* A condition's outcome is looked up at its own version, whatever deleted the key behind it. */
static void
outcomes(void)
{
	uint8_t room[8];
	Snapshot s;
	uint64_t v;
	Entry e;

	start_engine();
	write_all("put a");
	kvstore_hold();
	v = write_all("new b ran a-z new a new a del a");
	kvstore_begin_own_read(&s);
	MUST(kvstore_outcome(key_of("b", room), v, &e));
	MUST(kvstore_outcome(key_of("a", room), v + 2, &e));
	CHECK(kvstore_outcome(key_of("a", room), v + 3, &e) == ST_NOT_FOUND);
	MUST(kvstore_outcome(key_of("a", room), v + 4, &e));
	kvstore_end_read();
}

/* The same picture from the memtable written to, from a frozen one, from tables, after a start. */
static void
places(void)
{
	Lsn before;

	start_engine();
	config.snapshot_retention = 600000;
	write_all("put a put b put c put d");
	flush();
	write_all("put e put c");
	before = kvstore_applied();
	write_all("ran b-d put f");
	write_all("put b");
	for (int place = 0; place < 3; place++) {
		expect("a b d e f");
		expect_at(before, "a b c d e"); /* an old snapshot sees what it saw */
		if (place == 0)
			ask_for_flush(); /* frozen; what comes now is newer */
		if (place == 1)
			run_compactor();
	}
	compact_all();
	expect("a b d e f");
	expect_at(before, "a b c d e");
	write_all("ran a-");
	expect("");
	expect_at(before, "a b c d e");
}

static void
after_start(void)
{
	start_engine(); /* the last one is only in the log */
	expect("");
	write_all("put b");
	flush();
	expect("b");
}

static void
after_second_start(void)
{
	start_engine();
	expect("b");
}

/* Compaction and purge have let go of everything when no snapshot needs it. */
static void
worked_off(void)
{
	start_engine();
	write_all("put a put b put c put d");
	flush();
	write_all("ran b-d put c");
	flush();
	forget_history();
	compact_all();
	run_compactor();
	CHECK(superversion_ranges(atomic_load(&kvs->current)) == 0);
	expect("a c d");
}

/* ---- space */
static void
fill(const char *prefix, int n)
{
	Buf body = { 0 };
	uint8_t room[64];
	char value[1000], name[32];
	uint64_t version;

	memset(value, 'v', sizeof value);
	for (int i = 0; i < n; i++) {
		Op op = { .kind = OP_PUT, .value = slice_of(value, sizeof value) };

		snprintf(name, sizeof name, "%s%05d", prefix, i);
		op.key = key_of(name, room);
		MUST(op_encode(&body, &op));
	}
	MUST(kvstore_write(wal_generation(), &body, (uint32_t) n, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
}

static uint64_t
file_bytes(void)
{
	const Version *v = atomic_load(&kvs->current)->version;
	LsmValueStats values;
	uint64_t bytes;

	lsm_value_stats(v, &values);
	bytes = values.bytes;
	for (int i = 0; i < LSM_LEVELS; i++)
		bytes += v->bytes[i];
	return bytes;
}

/* Nobody asks for a flush or a compaction: background steps alone give the space back, without reading the tables. */
static void
give_space_back(int64_t blob_threshold)
{
	uint64_t before, deadline = clock_mono_ns() + 300 * UINT64_C(1000000000);

	start_engine();
	config.blob_threshold = blob_threshold;
	fill("p", 10000);
	write_all("put a put z");
	flush();
	compact_all();
	before = file_bytes();
	CHECK(before > 9 * MB);
	write_all("ran p-q");
	expect("a z");
	while (file_bytes() > 2 * MB || superversion_ranges(atomic_load(&kvs->current)) > 0) {
		LsmStats s;

		forget_history();
		run_compactor();
		procslot_sleep(procslot_prepare_sleep(), 1000);
		CHECK(clock_mono_ns() < deadline);
		lsm_stats(&s);
		CHECK(s.compactions <= 4); /* tables were dropped, those at the ends rewritten */
	}
	expect("a z");
}

static void
space_comes_back(void)
{
	give_space_back(0);
}

/* All references are in one table, of which the ends stay: no table goes as a whole. */
static void
space_of_values_comes_back(void)
{
	give_space_back(3);
}

static void
space_is_still_there(void)
{
	start_engine();
	CHECK(file_bytes() < 2 * MB);
	expect("a z");
}

/* A walk over what is deleted does not step through it: it comes to its end within its bounds. */
static void
walk_is_short(void)
{
	uint8_t first = KEYSPACE_USER;
	Snapshot s;
	Scan *sc;
	Entry e;

	start_engine();
	config.snapshot_retention = 600000;
	for (int i = 0; i < 3; i++) {
		fill("p", 3000);
		flush();
	}
	write_all("put a put z ran p-q");
	for (int back = 0; back < 2; back++) {
		kvstore_begin_read(&s, 0);
		MUST(kvstore_scan_open(&s, slice_of(&first, 1), range_user_end(), false, back, true, &sc));
		scan_bound(sc, SCAN_KEYS_SURE, 0);
		MUST(kvstore_scan_next(sc, &e));
		MUST(kvstore_scan_next(sc, &e));
		CHECK(kvstore_scan_next(sc, &e) == ST_NOT_FOUND);
		kvstore_scan_close(sc);
		kvstore_end_read();
	}
}

/* ---- bounds */
static void
many_at_once(void)
{
	Buf body = { 0 };
	uint8_t start[8], end[8];
	char name[8];
	uint64_t version, freezes;

	start_engine();
	freezes = atomic_load(&kvs->freezes);
	write_all("put a put b put z");
	for (int i = 0; i < OP_RANGES_MAX; i++) {
		Op op = { .kind = OP_DELETE_RANGE };

		snprintf(name, sizeof name, "c%03d", i);
		op.key = key_of(name, start);
		op.value = key_of("d", end);
		MUST(op_encode(&body, &op));
	}
	/* So many records of the most there may be fit; then there would be no room for one more. */
	for (int i = 0; i < MEMTABLE_RANGES_MAX / OP_RANGES_MAX; i++) {
		MUST(kvstore_write(wal_generation(), &body, OP_RANGES_MAX, ACK_QUORUM, 1000, true, &version));
		CHECK(atomic_load(&kvs->freezes) == freezes);
	}
	CHECK(memtable_ranges(atomic_load(&kvs->current)->active) == MEMTABLE_RANGES_MAX);
	write_all("ran a-b");
	CHECK(atomic_load(&kvs->freezes) == freezes + 1);
	CHECK(memtable_ranges(atomic_load(&kvs->current)->active) == 1);
	expect("b z");
	run_compactor();
	expect("b z");
	buf_free(&body);
}

static void
admission(void)
{
	uint32_t max, there;

	start_engine();
	max = kvstore_ranges_max();
	CHECK(max > 150 && max < 200); /* metadata_size is 1 MB here */
	for (int i = 0; i < 10; i++)
		write_all("ran b-c");
	there = superversion_ranges(atomic_load(&kvs->current));
	CHECK(there == 10);
	MUST(kvstore_admit_ranges(max - there - 1, 0));
	MUST(kvstore_admit_ranges(max - there, 0));
	CHECK(kvstore_admit_ranges(max - there + 1, 0) == ST_BUSY);
	MUST(kvstore_admit_ranges(1, kvstore_range_bytes_max() - 41));
	MUST(kvstore_admit_ranges(1, kvstore_range_bytes_max() - 40)); /* there are ten of four bytes */
	CHECK(kvstore_admit_ranges(1, kvstore_range_bytes_max() - 39) == ST_BUSY);
	/* Worked off, they count no more. */
	ask_for_flush();
	forget_history();
	run_compactor();
	MUST(kvstore_admit_ranges(max, 0));
}

/* ---- the operation's form */
static Status
decoded(Op op)
{
	Buf body = { 0 };
	Reader r;
	Status st;

	MUST(op_encode(&body, &op));
	r = reader_of(body.data, body.len);
	st = op_decode(&r, &op);
	buf_free(&body);
	return st;
}

static void
forms(void)
{
	Op good = { .kind = OP_DELETE_RANGE, .key = slice_str("\1a"), .value = slice_str("\1b") }, op = good;

	MUST(decoded(op));
	op.flags = OP_GROUPED;
	MUST(decoded(op));
	op.flags = OP_TTL;
	CHECK(decoded(op) == ST_CORRUPT);
	op.flags = OP_KEEP_TTL;
	CHECK(decoded(op) == ST_CORRUPT);
	op = good;
	op.condition = COND_PRESENT;
	CHECK(decoded(op) == ST_CORRUPT);
	op = good;
	op.key = slice_str("\1"); /* from the first key on */
	op.value = range_user_end();
	MUST(decoded(op));
	op.value = slice_str("\2a");
	CHECK(decoded(op) == ST_CORRUPT);
	op.value = slice_str("\1");
	CHECK(decoded(op) == ST_CORRUPT);
	op = good;
	op.value = op.key;
	CHECK(decoded(op) == ST_CORRUPT);
	op = good;
	op.key = slice_of("\0s", 2); /* what is kept of sessions is no user's to delete */
	CHECK(decoded(op) == ST_CORRUPT);
	op.value = slice_of("\0t", 2);
	CHECK(decoded(op) == ST_CORRUPT);
	op = good;
	op.value = slice_of(NULL, 0);
	CHECK(decoded(op) == ST_CORRUPT);
}

static void
run_stories(void (*const *stories)(void))
{
	enter_new_dir();
	for (; *stories != NULL; stories++)
		run_child(*stories);
	leave_dir();
}

#define STORY(name, ...)                                                                                     \
	static void test_##name(void **state)                                                                    \
	{                                                                                                        \
		static void (*const stories[])(void) = { __VA_ARGS__, NULL };                                        \
                                                                                                             \
		(void) state;                                                                                        \
		run_stories(stories);                                                                                \
	}

STORY(forms, forms)
STORY(one_record, one_record)
STORY(outcomes, outcomes)
STORY(places, places, after_start, after_second_start)
STORY(worked_off, worked_off)
STORY(space_comes_back, space_comes_back, space_is_still_there)
STORY(space_of_values_comes_back, space_of_values_comes_back, space_is_still_there)
STORY(walk_is_short, walk_is_short)
STORY(many_at_once, many_at_once)
STORY(admission, admission)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_one_record),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_worked_off),
		cmocka_unit_test(test_space_comes_back),
		cmocka_unit_test(test_space_of_values_comes_back),
		cmocka_unit_test(test_walk_is_short),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_admission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
