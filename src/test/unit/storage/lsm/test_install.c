/*
 * test_install.c - tables go to another node: export, lists that are damaged, install cut off at every file operation.
 *
 * Two directories: the leader's tables are exported, "fetched" by links under their global names, and installed over
 * the follower's. Whenever it stops, what a start finds is all of the old content or all of the new.
 */
#include "../../../lib/faultfs.h"
#include "lsm_test.h"

static char old_content[4096], new_content[4096];
static LsmSum sent;

static void
write_file(const char *path, const void *data, size_t len)
{
	FILE *f;

	(void) unlink(path); /* some file systems sync a file that is truncated and written again */
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Enter an empty directory of this name with an empty tree. */
static void
make_node(const char *name)
{
	table_files_close_all();
	ok(manifest_close(&lsm_writer.manifest));
	assert_int_equal(chdir(mem.top), 0);
	remove_tree(name);
	assert_int_equal(mkdir(name, 0700), 0);
	assert_int_equal(chdir(name), 0);
	fresh_memory(TEST_HEAP);
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
}

static void
enter_node(const char *name)
{
	table_files_close_all();
	ok(manifest_close(&lsm_writer.manifest));
	assert_int_equal(chdir(mem.top), 0);
	assert_int_equal(chdir(name), 0);
}

static const char *
value_of(const char *key)
{
	static char value[32];

	snprintf(value, sizeof value, "value of %s", key);
	return value;
}

/* All but b's go into value files. */
static void
flush_one(const char *key, uint64_t version)
{
	Entry e = { .version = version, .kind = ENTRY_PUT, .key = slice_str(key), .value = slice_str(value_of(key)) };
	LsmState state = { version + 8, 3, 4 };
	Version *v;
	Iter *it = array_iter(&e, 1);

	config.blob_threshold = strcmp(key, "b") == 0 ? 0 : 1;
	ok(lsm_flush(it, &state, 0, &v));
	iter_close(it);
	publish(v);
}

static void
check_value(const Entry *e)
{
	ValueReader r = { 0 };
	char key[8] = { 0 };
	Slice value = e->value;

	memcpy(key, e->key.data, e->key.len);
	assert_int_equal(e->kind, strcmp(key, "b") == 0 ? ENTRY_PUT : ENTRY_VALUE_REF);
	if (e->kind == ENTRY_VALUE_REF)
		ok(value_read(&r, e->value, (TableIterOptions){ 0 }, &value));
	assert_true(slice_eq(value, slice_str(value_of(key))));
	buf_free(&r.own);
}

/* "flushed: key@version ..." of what a start finds. */
static void
content(char *out, size_t size)
{
	Iter *it;
	size_t n;

	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	n = (size_t) snprintf(out, size, "%d:", (int) published->flushed);
	epoch_enter();
	it = lsm_iter(published, (TableIterOptions){ 0 });
	assert_non_null(it);
	for (iter_seek_first(it); it->valid; iter_next(it)) {
		check_value(&it->entry);
		n += (size_t) snprintf(out + n, size - n, " %.*s@%d", (int) it->entry.key.len,
							   (const char *) it->entry.key.data, (int) it->entry.version);
	}
	ok(it->status);
	iter_close(it);
	epoch_leave();
}

/* A leader with tables in several levels, exported to leader/out; a follower with tables of its own. */
static void
two_nodes(void)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	Version *v;

	make_node("leader");
	flush_one("a", 100);
	flush_one("m", 200);
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	flush_one("b", 300);
	flush_one("m", 400);
	assert_int_equal(mkdir("out", 0700), 0);
	ok(lsm_export(published, "out", &sent));
	assert_int_equal(sent.files, 3 + 2); /* the values of the first two tables were put together */
	assert_int_equal(sent.state.flushed, 408);
	assert_int_equal(sent.state.flushed_term, 3);
	ok(lsm_collect());
	content(new_content, sizeof new_content);
	make_node("follower");
	flush_one("x", 50);
	flush_one("y", 60);
	content(old_content, sizeof old_content);
	enter_node("follower");
}

/* The follower's directory "in" as the fetcher leaves it. */
static void
fetch_all(void)
{
	LsmList *l;

	remove_tree("in");
	assert_int_equal(mkdir("in", 0700), 0);
	assert_int_equal(link("../leader/out/" LSM_LIST, "in/" LSM_LIST), 0);
	ok(lsm_list_read("in/" LSM_LIST, &l));
	assert_memory_equal(lsm_list_sum(l), &sent, sizeof sent);
	for (uint64_t i = 0; i < sent.files; i++) {
		char from[FS_PATH_MAX], to[FS_PATH_MAX];
		LsmFile f = lsm_list_file(l, i);

		lsm_exported_path("../leader/out", f.number, from, sizeof from);
		lsm_fetched_path("in", &f, to, sizeof to);
		assert_int_equal(link(from, to), 0);
		ok(lsm_list_verify(l, i, "in", NULL, NULL));
	}
	lsm_list_free(l);
}

static Status
install(const LsmPlan *plan)
{
	LsmList *l;
	Status st;

	KV_TRY(lsm_list_read("in/" LSM_LIST, &l));
	st = lsm_install(plan, l, "in");
	lsm_list_free(l);
	return st;
}

static void
assert_content(const char *want)
{
	char got[4096];

	content(got, sizeof got);
	assert_string_equal(got, want);
}

static void
assert_content_ends(const char *tail)
{
	char got[4096];

	content(got, sizeof got);
	assert_string_equal(got + strlen(got) - strlen(tail), tail);
}

static void
test_export_outlives_the_tables(void **state)
{
	LsmCompactOptions opt = { .oldest = 1000 };
	LsmState s;
	Version *v;
	LsmPlan plan;

	(void) state;
	two_nodes();
	/* The leader goes on and removes what it exported. */
	enter_node("leader");
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	ok(lsm_compact_all(&opt, &v));
	publish(v);
	ok(lsm_collect());
	enter_node("follower");
	fetch_all();
	ok(lsm_install_plan(&plan));
	ok(install(&plan));
	assert_content(new_content);
	ok(lsm_state_now(&s));
	assert_int_equal(s.flushed, sent.state.flushed);
	assert_int_equal(s.flushed_time, sent.state.flushed_time);
	/* The old tables go when the worker starts, and work goes on. */
	ok(lsm_writer_open(published));
	assert_false(table_exists(1));
	flush_one("z", 500);
	assert_content_ends("z@500");
}

/* From the n-th on no change is made any more, and of that write half. */
static void
cut_off_after(uint64_t n)
{
	fault_plan(&(FaultPlan){ .calls = FAULT_CHANGES, .nth = n + 1, .forever = true, .kind = FAULT_SHORT });
}

static void
test_cut_off_anywhere(void **state)
{
	int old = 0, new = 0;

	(void) state;
	for (int first = 0;; first++) {
		LsmPlan plan;
		char got[4096];
		bool whole;

		two_nodes();
		fetch_all();
		ok(lsm_install_plan(&plan));
		fault_use(&quick_fs);
		cut_off_after((uint64_t) first);
		whole = install(&plan) == ST_OK;
		if (!whole) { /* and once more, at another place */
			cut_off_after((uint64_t) first / 2);
			(void) !install(&plan);
		}
		fs = &quick_fs;
		content(got, sizeof got);
		if (strcmp(got, old_content) == 0)
			old++;
		else if (strcmp(got, new_content) == 0)
			new ++;
		else
			fail_msg("after %d operations there is: %s", first, got);
		ok(install(&plan));
		assert_content(new_content);
		if (whole)
			break;
	}
	assert_true(old >= 5); /* at least as many as there are steps before the switch */
	assert_true(new >= 2);
}

/* ---- a file that was moved can't be looked at: that passes, and nothing is given up for it */
static FsOps passing;
static int renames_left;

static Status
rename_some(const char *from, const char *to)
{
	return renames_left-- > 0 ? quick_fs.rename(from, to) : status_fail(ST_IO_ERROR, "made up: rename");
}

static Status
open_no_table(const char *path, FsOpen how, int *fd)
{
	return strncmp(path, "tables/", 7) == 0 ? status_fail(ST_IO_ERROR, "made up: too many open files")
	                                        : quick_fs.open(path, how, fd);
}

static void
test_passing_failure(void **state)
{
	LsmPlan plan;
	char path[FS_PATH_MAX];

	(void) state;
	two_nodes();
	fetch_all();
	ok(lsm_install_plan(&plan));
	passing = quick_fs;
	passing.rename = rename_some;
	renames_left = 1;
	fs = &passing;
	assert_int_equal(install(&plan), ST_IO_ERROR);
	passing = quick_fs;
	passing.open = open_no_table;
	assert_int_equal(install(&plan), ST_IO_ERROR);
	fs = &quick_fs;
	ok(install(&plan));
	assert_content(new_content);
	/* What is really gone is. */
	two_nodes();
	fetch_all();
	ok(lsm_install_plan(&plan));
	renames_left = 1;
	passing = quick_fs;
	passing.rename = rename_some;
	fs = &passing;
	assert_int_equal(install(&plan), ST_IO_ERROR);
	fs = &quick_fs;
	table_path(plan.first_table, path, sizeof path);
	ok(fs_unlink(path));
	assert_int_equal(install(&plan), ST_CORRUPT);
}

static void
test_numbers_are_fresh(void **state)
{
	LsmPlan plan;

	(void) state;
	two_nodes();
	/* Files that nothing names have numbers, too. */
	ok(fs_replace_file("MANIFEST-00000000000000ff", "", 0));
	ok(fs_replace_file("tables/00000000000000aa.kvt.tmp", "", 0));
	ok(lsm_install_plan(&plan));
	assert_int_equal(plan.manifest, 0x100);
	assert_int_equal(plan.first_table, 0xab);
}

/* Each bit of the list and of the tables is looked at before anything is installed. */
static void
test_damage_is_found(void **state)
{
	char *text, *table, path[FS_PATH_MAX];
	size_t len, n;
	LsmList *l;
	LsmFile f;

	(void) state;
	two_nodes();
	fetch_all();
	ok(fs_read_file("in/" LSM_LIST, 1 << 20, &text, &len));
	ok(lsm_list_read("in/" LSM_LIST, &l));
	for (size_t at = 0; at <= len; at++) {
		LsmList *bad;
		Status st;

		if (at < len)
			text[at] ^= 1;
		write_file("in/" LSM_LIST, text, at < len ? len : len - 1);
		if (at < len)
			text[at] ^= 1;
		st = lsm_list_read("in/" LSM_LIST, &bad);
		assert_true(st == ST_CORRUPT || st == ST_FOREIGN);
	}
	for (uint64_t i = 1; i < sent.files; i += 3) { /* a table, a value file */
		f = lsm_list_file(l, i);
		lsm_fetched_path("in", &f, path, sizeof path);
		ok(fs_read_file(path, 1 << 20, &table, &n));
		for (size_t at = 0; at < n; at++) {
			table[at] ^= 1;
			write_file(path, table, n); /* a link: the original stays */
			table[at] ^= 1;
			assert_int_not_equal(lsm_list_verify(l, i, "in", NULL, NULL), ST_OK);
		}
		ok(fs_unlink(path));
		assert_int_equal(lsm_list_verify(l, i, "in", NULL, NULL), ST_CORRUPT);
		free(table);
	}
	lsm_list_free(l);
	free(text);
	assert_content(old_content);
}

/* An empty tree is a state like any other. */
static void
test_empty(void **state)
{
	LsmPlan plan;

	(void) state;
	make_node("leader");
	assert_int_equal(mkdir("out", 0700), 0);
	ok(lsm_export(published, "out", &sent));
	assert_int_equal(sent.files, 0);
	make_node("follower");
	flush_one("x", 50);
	enter_node("follower");
	fetch_all();
	ok(lsm_install_plan(&plan));
	ok(install(&plan));
	assert_content("1:");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_export_outlives_the_tables),
		cmocka_unit_test(test_cut_off_anywhere),
		cmocka_unit_test(test_passing_failure),
		cmocka_unit_test(test_numbers_are_fresh),
		cmocka_unit_test(test_damage_is_found),
		cmocka_unit_test(test_empty),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
