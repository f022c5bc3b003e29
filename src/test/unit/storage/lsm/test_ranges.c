/*
 * test_ranges.c - range deletions beside tables: the set against a model, each rule by an example, and random
 * histories, flushed, compacted, purged, reopened, read at any snapshot that is still kept.
 */
#include "lsm_test.h"

#include "common/coding.h"

static Prng rng;

static void
close_and_reopen(void)
{
	ok(manifest_close(&lsm_writer.manifest));
	reopen();
}

static void
start(void)
{
	fresh_directory();
	config_init();
	ok(lsm_create(1));
	close_and_reopen();
}

/* ---- the set alone: keys 0 .. SPACE - 1, of one or two bytes */
#define SPACE 40
#define SET_MAX 24

static Slice
key_of(int i, uint8_t *room)
{
	room[0] = KEYSPACE_USER;
	room[1] = (uint8_t) ('a' + i / 4);
	room[2] = (uint8_t) ('0' + i % 4);
	return slice_of(room, i % 4 == 0 ? 2 : 3);
}

typedef struct Model {
	struct { int start, end; uint64_t version; } range[256];
	int n;
} Model;

static uint64_t
model_cover(const Model *m, int key, uint64_t snapshot)
{
	uint64_t best = 0;

	for (int i = 0; i < m->n; i++)
		if (m->range[i].start <= key && key < m->range[i].end && m->range[i].version < snapshot &&
			m->range[i].version > best)
			best = m->range[i].version;
	return best;
}

static uint32_t
list_of(const Model *m, RangeDelete *list, uint8_t (*room)[8])
{
	for (int i = 0; i < m->n; i++)
		list[i] = (RangeDelete){ key_of(m->range[i].start, room[2 * i]), key_of(m->range[i].end, room[2 * i + 1]),
								 m->range[i].version };
	return (uint32_t) m->n;
}

static void
check_set(const Model *m, const RangeSet *s, uint64_t snapshot)
{
	uint8_t room[4], other[4];

	for (int k = 0; k < SPACE; k++) {
		Cover c = COVER_ALL;

		range_set_cover(s, key_of(k, room), snapshot, &c);
		assert_int_equal(c.version, model_cover(m, k, snapshot));
		assert_true(cover_holds(&c, key_of(k, room)));
		for (int i = 0; i < SPACE; i++)
			if (cover_holds(&c, key_of(i, other)))
				assert_int_equal(model_cover(m, i, snapshot), c.version);
	}
}

static void
test_set(void **state)
{
	size_t unused;

	(void) state;
	fresh_memory(TEST_HEAP);
	unused = shheap_used();
	for (uint64_t seed = 0; seed < 2000; seed++) {
		uint8_t room[2 * SET_MAX][8];
		RangeDelete list[SET_MAX];
		Model m = { .n = 1 + (int) (seed % SET_MAX) };
		RangeSet *s;
		uint64_t oldest;

		prng_seed(&rng, seed);
		for (int i = 0; i < m.n; i++) {
			m.range[i].start = (int) prng_below(&rng, SPACE - 1);
			m.range[i].end = m.range[i].start + 1 + (int) prng_below(&rng, (uint64_t) (SPACE - 1 - m.range[i].start));
			m.range[i].version = (uint64_t) (10 * i + 5);
		}
		oldest = prng_below(&rng, (uint64_t) (10 * m.n));
		ok(range_set_make(list, list_of(&m, list, room), oldest, &s));
		memset(room, 0, sizeof room); /* it has copies of its own */
		for (int i = 0; i < 3; i++)
			check_set(&m, s, oldest + prng_below(&rng, (uint64_t) (10 * m.n) + 10));
		check_set(&m, s, UINT64_MAX);
		range_set_drop(s);
		assert_int_equal(shheap_used(), unused);
	}
}

/* ---- stories: "key@version", "-key@version"; ranges "start-end@version" with keys of one letter */
static Slice
letters(const char *text, size_t len, uint8_t *room)
{
	room[0] = KEYSPACE_USER;
	memcpy(room + 1, text, len);
	return slice_of(room, len + 1);
}

static void
flush_keeping(const char *entries, const char *ranges, uint64_t oldest)
{
	static uint8_t room[64][8];
	Entry e[32];
	RangeDelete list[16];
	char text[256];
	int n = 0, used = 0;
	uint32_t nranges = 0;
	LsmState state = { published->flushed, 1, 1 };
	Version *v;
	Iter *it;

	snprintf(text, sizeof text, "%s", entries);
	for (char *p = strtok(text, " "); p != NULL; p = strtok(NULL, " "), n++) {
		e[n] = (Entry){ .kind = *p == '-' ? ENTRY_DELETE : ENTRY_PUT };
		p += *p == '-';
		e[n].key = letters(p, 1, room[used++]);
		e[n].version = strtoull(p + 2, NULL, 10);
		if (e[n].version >= state.flushed)
			state.flushed = e[n].version + 1;
	}
	snprintf(text, sizeof text, "%s", ranges);
	for (char *p = strtok(text, " "); p != NULL; p = strtok(NULL, " "), nranges++) {
		list[nranges] = (RangeDelete){ letters(p, 1, room[used]), letters(p + 2, 1, room[used + 1]),
									   strtoull(p + 4, NULL, 10) };
		used += 2;
		if (list[nranges].version >= state.flushed)
			state.flushed = list[nranges].version + 1;
	}
	qsort(e, (size_t) n, sizeof *e, entry_order);
	it = array_iter(e, n);
	ok(lsm_flush_ranges(it, list, nranges, &state, oldest, &v));
	iter_close(it);
	publish_and_collect(v);
}

static void
flush(const char *entries, const char *ranges)
{
	flush_keeping(entries, ranges, 0);
}

/* What is found of a key of one letter: its version, 0 absent, or minus that of a tombstone. */
static int64_t
get(const char *key, uint64_t snapshot)
{
	uint8_t room[8];
	Entry e;
	Status st;

	epoch_enter();
	st = lsm_get(published, letters(key, 1, room), snapshot, &e);
	epoch_leave();
	if (st == ST_NOT_FOUND)
		return 0;
	ok(st);
	return e.kind == ENTRY_DELETE ? -(int64_t) e.version : (int64_t) e.version;
}

static int
tables(void)
{
	int n = 0;

	for (int level = 0; level < LSM_LEVELS; level++)
		n += (int) published->ntables[level];
	return n;
}

static bool
purge(uint64_t oldest, bool edges)
{
	Version *v;

	ok(lsm_purge(oldest, edges, &v));
	if (v != NULL)
		publish_and_collect(v);
	return v != NULL;
}

static bool
compact(bool all, uint64_t oldest)
{
	LsmCompactOptions opt = { .oldest = oldest };
	Version *v;

	ok(all ? lsm_compact_all(&opt, &v) : lsm_compact(&opt, &v));
	if (v != NULL)
		publish_and_collect(v);
	return v != NULL;
}

static void
test_visibility(void **state)
{
	(void) state;
	start();
	flush("a@10 b@11 c@12", "");
	flush("b@30", "b-c@20");
	for (int again = 0; again < 2; again++) {
		assert_int_equal(get("a", 99), 10);
		assert_int_equal(get("b", 20), 11);  /* a snapshot below it still sees the key */
		assert_int_equal(get("b", 21), -20); /* the next one does not */
		assert_int_equal(get("b", 99), 30);  /* what came later is there */
		assert_int_equal(get("c", 99), 12);  /* the end is not part of it */
		close_and_reopen();
	}
}

static void
test_compaction_drops(void **state)
{
	(void) state;
	start();
	flush("a@10 b@11 -c@12 d@13", "");
	flush("b@30", "b-d@20");
	/* A snapshot at 20 may still be asked for: nothing goes, nothing is forgotten. */
	assert_true(compact(true, 20));
	assert_int_equal(get("b", 20), 11);
	assert_int_equal(get("b", 25), -20);
	assert_false(purge(20, true));
	assert_int_equal(lsm_ranges(published), 1);
	/* From 21 on it has been applied everywhere by a compaction, and goes. */
	assert_true(compact(true, 21));
	assert_int_equal(published->tables[LSM_LEVELS - 1][0]->info.entries, 3);
	assert_int_equal(lsm_ranges(published), 1);
	assert_true(purge(21, false));
	assert_int_equal(lsm_ranges(published), 0);
	assert_int_equal(get("b", 99), 30);
	assert_int_equal(get("c", 99), 0);
	close_and_reopen();
	assert_int_equal(lsm_ranges(published), 0);
}

/* A compaction drops b@11 while b@5 lies deeper, hidden by the same range deletion: it has to stay. */
static void
test_deeper_tables_stay_hidden(void **state)
{
	Pick p = { .any = true, .out_level = 0, .n = { 1 } };
	LsmCompactOptions opt = { .oldest = 50 };

	(void) state;
	start();
	flush("a@4 b@5 z@6", "");
	assert_true(compact(true, 50));
	flush("b@11 x@12", "b-c@20");
	ok(compact_run(&p, &opt, false)); /* in place */
	publish_and_collect(lsm_writer.current);
	assert_int_equal(published->tables[0][0]->info.entries, 1);
	assert_int_equal(get("b", 99), -20);
	assert_false(purge(50, false));
	assert_int_equal(get("b", 99), -20);
	/* What keeps it is rewritten, and then it goes. */
	assert_false(purge(50, true));
	assert_false(published->tables[0][0]->rewrite);
	assert_true(published->tables[LSM_LEVELS - 1][0]->rewrite);
	assert_true(compact(false, 50));
	assert_true(purge(50, true));
	assert_int_equal(lsm_ranges(published), 0);
	assert_int_equal(get("b", 99), 0);
	assert_int_equal(get("z", 99), 6);
	assert_false(compact(false, 50));
}

/* Range deletions of memtables are not in the list yet when a compaction runs: it has not applied them. */
static void
test_not_applied_before_flush(void **state)
{
	(void) state;
	start();
	flush("a@4 b@5 c@6", "");
	assert_true(compact(true, 50)); /* b-c@20 is in a memtable, everybody sees it */
	flush("x@30", "b-c@20");
	assert_int_equal(get("b", 99), -20);
	assert_false(purge(50, false));
	assert_int_equal(get("b", 99), -20);
}

static void
test_whole_tables_go(void **state)
{
	LsmStats before, after;
	char path[FS_PATH_MAX];
	uint64_t number;

	(void) state;
	start();
	flush("b@4 d@5", "");
	assert_true(compact(true, 50));
	flush("b@8 d@9", "");
	flush("a@10 c@11", "");
	number = published->tables[LSM_LEVELS - 1][0]->info.number;
	flush("", "b-d@20 d-e@21"); /* no single one covers b to d */
	assert_int_equal(tables(), 3);
	assert_false(purge(21, false));
	lsm_stats(&before);
	table_path(number, path, sizeof path);
	ok(fs_unlink(path)); /* nobody reads it */
	assert_true(purge(22, false));
	lsm_stats(&after);
	assert_int_equal(after.range_tables - before.range_tables, 2);
	assert_true(after.range_bytes > before.range_bytes);
	assert_int_equal(tables(), 1);
	assert_int_equal(get("a", 99), 10);
	assert_int_equal(get("c", 99), -20);
	assert_int_equal(get("d", 99), 0);
	assert_int_equal(lsm_ranges(published), 1); /* d-e has nothing left to hide */
}

static void
test_newer_table_stays(void **state)
{
	(void) state;
	start();
	flush("b@8 c@30", "b-e@20");
	assert_false(purge(50, false));
	assert_int_equal(tables(), 1);
	assert_int_equal(get("b", 99), -20);
	assert_int_equal(get("c", 99), 30);
}

static void
test_within_a_newer_one(void **state)
{
	(void) state;
	start();
	flush("a@1 b@2 c@3 z@4", "");
	flush("", "b-c@20 a-d@21 b-e@22");
	assert_false(purge(20, false));
	assert_false(purge(21, false)); /* a snapshot at 21 needs b-c@20 */
	assert_true(purge(22, false));
	assert_int_equal(lsm_ranges(published), 2);
	assert_int_equal(get("b", 22), -21);
	close_and_reopen();
	assert_int_equal(lsm_ranges(published), 2);
	assert_int_equal(get("b", 22), -21);
	assert_int_equal(get("b", 99), -22);
	assert_int_equal(get("a", 99), -21);
}

static void
test_flush_drops(void **state)
{
	(void) state;
	start();
	flush_keeping("a@1 b@2 c@3", "b-d@20", 50);
	assert_int_equal(published->tables[0][0]->info.entries, 1);
	assert_int_equal(get("b", 99), 0);
	assert_true(purge(50, false)); /* its own table does not keep it */
	assert_int_equal(lsm_ranges(published), 0);
	flush_keeping("b@60 c@61", "a-z@70", 100);
	assert_int_equal(tables(), 1); /* nothing was left to write */
}

static void
test_full_heap(void **state)
{
	RangeDelete r = { slice_str("\1a"), slice_str("\1b"), 20 };
	LsmState state_ = { 30, 1, 1 };
	Iter *it = array_iter(NULL, 0);
	size_t used;
	Version *v;

	(void) state;
	start();
	flush("a@10", "");
	used = shheap_used();
	while (shheap_total() - shheap_used() > 1200)
		assert_non_null(shheap_alloc(256));
	while (shheap_alloc(16) != NULL)
		;
	assert_int_equal(lsm_flush_ranges(it, &r, 1, &state_, 0, &v), ST_NO_SPACE);
	assert_true(used > 0);
	assert_int_equal(lsm_ranges(published), 0);
	assert_int_equal(get("a", 99), 10);
	iter_close(it);
}

/* ---- the manifest */
static void
change_manifest(void (*change)(uint8_t *bytes, size_t len))
{
	char path[FS_PATH_MAX], *content;
	uint64_t number;
	size_t len;
	int fd;

	ok(manifest_current(&number));
	manifest_path(number, path, sizeof path);
	ok(fs_read_file(path, 1 << 20, &content, &len));
	change((uint8_t *) content, len);
	ok(fs_unlink(path));
	ok(fs_open(path, FS_CREATE_NEW, &fd));
	ok(fs_pwrite(fd, content, len, 0));
	ok(fs_close(fd));
	free(content);
	fresh_memory(TEST_HEAP);
}

static void (*change_range)(uint8_t *op);

/* Find the RANGE record, change it, and make its checksum right again. */
static void
in_range_record(uint8_t *bytes, size_t len)
{
	uint64_t number = get_u64(bytes + 16);
	bool found = false;

	for (size_t at = MANIFEST_HEADER; at < len; at += MANIFEST_RECORD_HEADER + get_u32(bytes + at + 4)) {
		uint8_t *op = bytes + at + MANIFEST_RECORD_HEADER;

		if (*op != MANIFEST_RANGE)
			continue;
		change_range(op);
		found = true;
		put_u32(bytes + at, manifest_crc(number, at, slice_of(op, get_u32(bytes + at + 4))));
	}
	assert_true(found);
}

static void to_system(uint8_t *op) { op[17] = KEYSPACE_SYSTEM; }
static void upside_down(uint8_t *op) { op[18] = 'x'; }
static void from_the_future(uint8_t *op) { put_u64(op + 1, 1000); }
static void without_version(uint8_t *op) { put_u64(op + 1, 0); }
static void past_the_record(uint8_t *op) { put_u32(op + 13, 70); }
static void unchanged(uint8_t *op) { (void) op; }

static void
test_manifest_checks(void **state)
{
	static void (*const changes[])(uint8_t *) = { unchanged, to_system, upside_down, from_the_future,
												  without_version, past_the_record };

	(void) state;
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		start();
		flush("a@10 b@11", "b-c@20");
		close_and_reopen(); /* one record each */
		change_range = changes[i];
		change_manifest(in_range_record);
		assert_int_equal(lsm_open(&published), i == 0 ? ST_OK : ST_CORRUPT);
	}
}

/* Format 1: the same without `ranges_applied`. Made from a manifest with one table. */
static void
test_format_1(void **state)
{
	enum { FIELD = 2 + 12 * 8, LENGTHS = 5 * 4 }; /* before ranges_applied; between it and value_files */
	char path[FS_PATH_MAX], *content;
	uint8_t old[4096], *b;
	uint64_t number;
	size_t len, at, first, body;
	int fd;

	(void) state;
	start();
	flush("a@10 b@11", "");
	close_and_reopen();
	ok(manifest_current(&number));
	manifest_path(number, path, sizeof path);
	ok(fs_read_file(path, sizeof old, &content, &len));
	b = (uint8_t *) content;
	first = MANIFEST_HEADER + MANIFEST_RECORD_HEADER + get_u32(b + MANIFEST_HEADER + 4);
	body = get_u32(b + first + 4) - 8 - 4;
	assert_int_equal(b[first + MANIFEST_RECORD_HEADER], MANIFEST_ADD);
	at = first + MANIFEST_RECORD_HEADER;
	memcpy(old, b, at + FIELD);
	memcpy(old + at + FIELD, b + at + FIELD + 8, LENGTHS);
	memcpy(old + at + FIELD + LENGTHS, b + at + FIELD + 8 + LENGTHS + 4, body - FIELD - LENGTHS);
	put_u32(old + first + 4, (uint32_t) body);
	put_u32(old + first, manifest_crc(number, first, slice_of(old + at, body)));
	put_u32(old + 8, 1);
	put_u64(old + 24, len - 12);
	put_u32(old + MANIFEST_HEADER - 4, manifest_header_crc(old));
	ok(fs_unlink(path));
	ok(fs_open(path, FS_CREATE_NEW, &fd));
	ok(fs_pwrite(fd, old, len - 12, 0));
	ok(fs_close(fd));
	free(content);
	close_and_reopen();
	assert_int_equal(published->tables[0][0]->info.ranges_applied, 0);
	assert_int_equal(get("b", 99), 11);
	flush("", "b-c@20");
	close_and_reopen();
	assert_int_equal(get("b", 99), -20);
}

/* The list that goes to another node has them, and what is installed from it, too. */
static void
test_travels(void **state)
{
	char from[FS_PATH_MAX], to[FS_PATH_MAX];
	LsmSum sum;
	LsmList *l;
	LsmPlan plan;

	(void) state;
	start();
	flush("a@10 b@11", "b-c@20");
	flush("c@22", "a-b@30");
	assert_int_equal(mkdir("out", 0700), 0);
	assert_int_equal(mkdir("in", 0700), 0);
	ok(lsm_export(published, "out", &sum));
	ok(lsm_list_read("out/" LSM_LIST, &l));
	for (uint64_t i = 0; i < sum.files; i++) {
		LsmFile f = lsm_list_file(l, i);

		lsm_exported_path("out", f.number, from, sizeof from);
		lsm_fetched_path("in", &f, to, sizeof to);
		assert_int_equal(rename(from, to), 0);
		ok(lsm_list_verify(l, i, "in", NULL, NULL));
	}
	ok(manifest_close(&lsm_writer.manifest));
	ok(lsm_install_plan(&plan));
	ok(lsm_install(&plan, l, "in"));
	lsm_list_free(l);
	close_and_reopen();
	assert_int_equal(lsm_ranges(published), 2);
	assert_int_equal(get("a", 99), -30);
	assert_int_equal(get("a", 30), 10);
	assert_int_equal(get("b", 99), -20);
	assert_int_equal(get("c", 99), 22);
}

/* ---- random histories */
#define KEYS SPACE
#define HISTORY 400

typedef struct Put {
	int key;
	uint64_t version;
	bool deleted;
} Put;

static struct {
	Put put[HISTORY];
	int nput, flushed;
	Model ranges;
	int ranges_flushed;
	uint64_t next, oldest;
} mo;

/* What a snapshot sees of a key: a version, 0 nothing. */
static uint64_t
model_get(int key, uint64_t snapshot)
{
	uint64_t rv = model_cover(&mo.ranges, key, snapshot);
	const Put *best = NULL;

	for (int i = 0; i < mo.flushed; i++)
		if (mo.put[i].key == key && mo.put[i].version < snapshot)
			best = &mo.put[i];
	return best == NULL || best->deleted || best->version < rv ? 0 : best->version;
}

static void
write_and_flush(void)
{
	static uint8_t kb[HISTORY][4], rb[512][8];
	Entry e[64];
	RangeDelete list[64];
	int n = 0, nranges = 0, steps = (int) prng_below(&rng, 12);
	LsmState state;
	Version *v;
	Iter *it;

	while (steps-- > 0 && mo.nput < HISTORY && mo.ranges.n < 250) {
		int a = (int) prng_below(&rng, KEYS - 1), len = 1 + (int) prng_below(&rng, (uint64_t) (KEYS - 1 - a));

		mo.next += 1 + prng_below(&rng, 3);
		if (prng_below(&rng, 4) == 0) {
			mo.ranges.range[mo.ranges.n].start = a;
			mo.ranges.range[mo.ranges.n].end = a + (prng_below(&rng, 2) ? len : (len + 5) / 6);
			mo.ranges.range[mo.ranges.n++].version = mo.next;
		} else
			mo.put[mo.nput++] = (Put){ (int) prng_below(&rng, KEYS), mo.next, prng_below(&rng, 5) == 0 };
	}
	for (int i = mo.flushed; i < mo.nput; i++, n++)
		e[n] = (Entry){ .key = key_of(mo.put[i].key, kb[i]), .version = mo.put[i].version,
						.kind = mo.put[i].deleted ? ENTRY_DELETE : ENTRY_PUT };
	for (int i = mo.ranges_flushed; i < mo.ranges.n; i++, nranges++)
		list[nranges] = (RangeDelete){ key_of(mo.ranges.range[i].start, rb[2 * i]),
									   key_of(mo.ranges.range[i].end, rb[2 * i + 1]), mo.ranges.range[i].version };
	state = (LsmState){ mo.next + 1, 1, 1 };
	mo.next++;
	qsort(e, (size_t) n, sizeof *e, entry_order);
	it = array_iter(e, n);
	ok(lsm_flush_ranges(it, list, (uint32_t) nranges, &state, mo.oldest, &v));
	iter_close(it);
	mo.flushed = mo.nput;
	mo.ranges_flushed = mo.ranges.n;
	publish_and_collect(v);
}

typedef struct AtView {
	RangeView base;
	uint64_t snapshot;
} AtView;

static void
look(const RangeView *base, Slice key, Cover *out)
{
	*out = COVER_ALL;
	lsm_cover(published, key, ((const AtView *) base)->snapshot, out);
}

/* What one estimate looks up is bounded: beyond, a table that is cut counts wholly, one that is hidden not at all. */
static void
test_estimate_bound(void **state)
{
	AtView view = { { look }, 100 };

	(void) state;
	start();
	for (int i = 0; i < 3; i++)
		flush((const char *[]){ "a@1 b@2 c@3 d@4 e@5 f@6", "a@11 b@12 c@13 d@14 e@15 f@16",
								"a@21 b@22 c@23 d@24 e@25 f@26" }[i], "");
	flush("g@31 h@32", "");
	flush("", "b-c@60 d-e@61 g-i@62");
	epoch_enter();
	for (uint32_t most = 0; most <= 13; most++) {
		uint32_t cuts;
		EntrySum sum;

		estimate_lookups_max = most;
		ok(lsm_estimate(published, slice_str(""), slice_str(""), true, &view.base, &sum, &cuts));
		assert_true(cuts <= most);
		assert_true(sum.entries <= 18);
		if (most < 4)
			assert_int_equal(sum.entries, 18);
		if (most == 13)
			assert_int_equal(cuts, 12);
		assert_true(lsm_hidden_bytes(published, &view.base) >= published->tables[0][0]->info.bytes);
	}
	estimate_lookups_max = ESTIMATE_LOOKUPS;
	epoch_leave();
}

static void
check_gets(uint64_t snapshot)
{
	uint8_t room[KEYS][4];
	Slice keys[KEYS];
	Entry e[KEYS];
	Status st[KEYS];

	for (int k = 0; k < KEYS; k++)
		keys[k] = key_of(k, room[k]);
	assert_int_equal(lsm_get_many(published, keys, KEYS, snapshot, e, st), KEYS);
	for (int k = 0; k < KEYS; k++) {
		uint64_t want = model_get(k, snapshot), got = st[k] == ST_OK && e[k].kind == ENTRY_PUT ? e[k].version : 0;
		Entry one;

		assert_int_equal(got, want);
		got = lsm_get(published, keys[k], snapshot, &one) == ST_OK && one.kind == ENTRY_PUT ? one.version : 0;
		assert_int_equal(got, want);
	}
}

/* Through the iterator: newest visible versions not hidden, in both directions. */
static void
check_walk(uint64_t snapshot, bool back)
{
	AtView view = { { look }, snapshot };
	Iter *it = lsm_iter_through(published, (TableIterOptions){ 0 }, &view.base);
	uint64_t seen[KEYS] = { 0 };
	Cover c = { .known = false };
	uint8_t room[4];

	assert_non_null(it);
	for (back ? iter_seek_last(it) : iter_seek_first(it); it->valid; back ? iter_prev(it) : iter_next(it)) {
		const Entry *e = &it->entry;
		int k = (e->key.data[1] - 'a') * 4 + (e->key.len == 3 ? e->key.data[2] - '0' : 0);

		if (e->version >= snapshot || (!back && seen[k] != 0))
			continue;
		seen[k] = e->version;
		if (e->kind == ENTRY_DELETE || range_view_at(&view.base, key_of(k, room), &c) > e->version)
			seen[k] = UINT64_MAX;
	}
	ok(it->status);
	iter_close(it);
	for (int k = 0; k < KEYS; k++)
		assert_int_equal(seen[k] == UINT64_MAX ? 0 : seen[k], model_get(k, snapshot));
}

static void
check_all(void)
{
	uint64_t snapshot = mo.oldest + prng_below(&rng, mo.next - mo.oldest + 2);

	epoch_enter();
	check_gets(snapshot);
	check_gets(UINT64_MAX);
	check_walk(snapshot, false);
	check_walk(snapshot, true);
	epoch_leave();
}

static bool
flush_between(void *arg)
{
	(void) arg;
	if (prng_below(&rng, 2) == 0)
		write_and_flush();
	return false;
}

static void
one_step(void)
{
	LsmCompactOptions opt = { .oldest = mo.oldest, .between = flush_between };
	Version *v = NULL;

	switch (prng_below(&rng, 9)) {
	case 0:
		ok(lsm_compact_all(&opt, &v));
		break;
	case 1:
	case 2:
		ok(lsm_compact(&opt, &v));
		break;
	case 3:
	case 4:
		ok(lsm_purge(mo.oldest, prng_below(&rng, 2), &v));
		break;
	case 5:
		mo.oldest += prng_below(&rng, mo.next - mo.oldest + 1);
		break;
	case 6:
		if (prng_below(&rng, 4) == 0)
			close_and_reopen();
		break;
	default:
		write_and_flush();
	}
	if (v != NULL)
		publish_and_collect(v);
}

/* With nothing to ask for older snapshots, all of it goes in the end. */
static void
settle(void)
{
	mo.oldest = mo.next + 1;
	for (int i = 0; lsm_ranges(published) > 0; i++) {
		assert_true(i < 200);
		if (!purge(mo.oldest, true))
			assert_true(compact(false, mo.oldest));
	}
	check_all();
}

static void
test_random(void **state)
{
	uint64_t retired = 0, dropped = 0, entries = 0;
	LsmStats s;

	(void) state;
	for (uint64_t seed = 1; seed <= 1000; seed++) {
		prng_seed(&rng, seed);
		memset(&mo, 0, sizeof mo);
		mo.next = 1;
		start();
		config.table_size = MB;
		config.l0_trigger = 2 + (int64_t) prng_below(&rng, 3);
		for (int i = 0; i < 24; i++) {
			one_step();
			if (prng_below(&rng, 3) == 0)
				check_all();
		}
		check_all();
		settle();
		lsm_stats(&s);
		retired += s.ranges_retired;
		dropped += s.range_tables;
		entries += s.range_entries;
	}
	printf("1000 seeds: %d range deletions retired, %d tables dropped, %d entries dropped\n", (int) retired,
		   (int) dropped, (int) entries);
	assert_true(retired > 1000 && dropped > 50 && entries > 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_visibility),
		cmocka_unit_test(test_compaction_drops),
		cmocka_unit_test(test_deeper_tables_stay_hidden),
		cmocka_unit_test(test_not_applied_before_flush),
		cmocka_unit_test(test_whole_tables_go),
		cmocka_unit_test(test_newer_table_stays),
		cmocka_unit_test(test_within_a_newer_one),
		cmocka_unit_test(test_flush_drops),
		cmocka_unit_test(test_full_heap),
		cmocka_unit_test(test_manifest_checks),
		cmocka_unit_test(test_format_1),
		cmocka_unit_test(test_travels),
		cmocka_unit_test(test_estimate_bound),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
