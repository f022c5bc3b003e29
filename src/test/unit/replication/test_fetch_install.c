/*
 * test_fetch_install.c - fetched tables take the place of ours at start (rule C5), cut off at every file operation.
 *
 * A leader's directory is made and exported; a follower of the same cluster has contents of its own and, in
 * "incoming", what the fetcher would have left. Each start is a forked child, as after kill -9.
 */
#include "../storage/engine_test.h"

#include <time.h>

#include "../../../replication/fetch_internal.h"
#include "../../lib/faultfs.h"
#include "common/coding.h"
#include "common/crc32c.h"
#include "replication/snapshot.h"
#include "replication/votefile.h"

#define OLD_KEYS 20
#define NEW_KEYS 60

/* Children write, the parent reads. */
typedef struct Shared {
	TransferSum sum; /* of the leader's export */
	Status status;   /* of fetch_install() */
	bool did;
	bool undecided; /* the tables are in place, the log is as it was */
	Lsn applied, end;
	int keys; /* found, all with the same value */
	char value[8];
	uint32_t vote_flags;
	int findings;    /* of kvd --check */
} Shared;

static Shared *sh;
static char top[64];
static Control control;

static void
put_keys(int n, const char *value)
{
	config.blob_threshold = 3; /* "new" and "old" go into value files */
	for (int k = 0; k < n; k++) {
		char key[16] = { KEYSPACE_USER };
		Buf body = { 0 };
		uint64_t version;
		Op op = { .kind = OP_PUT, .value = slice_str(value) };

		op.key = slice_of(key, 1 + (size_t) snprintf(key + 1, sizeof key - 1, "key-%03d", k));
		MUST(op_encode(&body, &op));
		MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, false, &version));
		buf_free(&body);
	}
}

static void
update_mark(void)
{
	uint32_t ms;

	for (int i = 0; i < 3; i++) {
		MUST(kvstore_walwriter_step(&ms));
		nanosleep(&(struct timespec){ .tv_nsec = 60000000 }, NULL); /* it is written when 50 ms old */
	}
}

static void
leader(void)
{
	start_engine();
	config.wal_keep = 1024 * MB;
	put_keys(NEW_KEYS, "new");
	update_mark();
}

static void
export_leader(void)
{
	open_engine();
	config.blob_threshold = 3;
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	config.wal_keep = 1024 * MB;
	ask_for_flush();
	run_compactor();
	MUST(transfer_export("out", &sh->sum));
}

static void
follower_of_its_own(void)
{
	start_engine();
	put_keys(OLD_KEYS, "old");
	update_mark();
}

/* More than the leader has, in tables. */
static void
follower_with_more(void)
{
	start_engine();
	put_keys(2 * NEW_KEYS, "old");
	put_keys(2 * NEW_KEYS, "old");
	ask_for_flush();
	run_compactor();
	update_mark();
}

static void
shell(const char *format, const char *a, const char *b)
{
	char command[512];
	int status;
	pid_t pid;

	snprintf(command, sizeof command, format, a, b);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *) NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
enter(const char *name)
{
	assert_int_equal(chdir(top), 0);
	assert_int_equal(chdir(name), 0);
}

/* A new, empty node of the same cluster. */
static void
make_node(const char *name)
{
	Control own = control;

	assert_int_equal(chdir(top), 0);
	shell("rm -rf %s && mkdir -m 700 %s", name, name);
	enter(name);
	own.node_incarnation ^= 1;
	assert_int_equal(control_write(&own), ST_OK);
	assert_int_equal(kvstore_create(&own), ST_OK);
	assert_int_equal(votefile_create(own.node_incarnation), ST_OK);
}

/* In the node's directory: as the fetcher leaves it. */
static void
fetched(bool repair)
{
	FetchComplete c = { sh->sum.flushed, sh->sum.term, sh->sum.log_time, repair };
	TransferList *list;

	shell("mkdir incoming && cp %s/leader/out/LIST incoming/%s", top, "LIST");
	assert_int_equal(transfer_list_read(FETCH_INCOMING, &list), ST_OK);
	for (uint64_t i = 0; i < sh->sum.files; i++) {
		char from[FS_PATH_MAX], to[FS_PATH_MAX], out[FS_PATH_MAX];
		TransferFile f = transfer_list_file(list, i);

		snprintf(out, sizeof out, "%s/leader/out", top);
		transfer_path(out, f.number, from, sizeof from);
		transfer_fetched_path(FETCH_INCOMING, &f, to, sizeof to);
		assert_int_equal(fs_link(from, to), ST_OK);
		assert_int_equal(transfer_verify(list, i, FETCH_INCOMING, NULL, NULL), ST_OK);
	}
	transfer_list_free(list);
	assert_int_equal(fetch_mark_complete(&c, &control), ST_OK);
}

/* ---- starts */
static uint64_t changes_left;

/* After so many no change is made any more, and of the next write half. */
static void
cut_off_start(void)
{
	bool did;

	prepare_engine();
	fault_use(&fs_posix);
	fault_forget(FAULT_SYNC | FAULT_SYNC_DIR, NULL); /* no disk is waited for */
	fault_plan(&(FaultPlan){
		.calls = FAULT_CHANGES, .nth = changes_left + 1, .forever = true, .kind = FAULT_SHORT });
	sh->status = fetch_install(&did);
}

static void
finding(void *arg, Status st)
{
	(void) arg;
	(void) st;
	print_message("kvd --check: %s\n", status_detail());
	sh->findings++;
}

static void
progress(void *arg, uint64_t bytes, uint64_t of)
{
	(void) arg;
	(void) bytes;
	(void) of;
}

/* As kvd --check does. */
static void
check(void)
{
	KvCheck c = { .finding = finding, .progress = progress };

	config_init();
	MUST(fetch_cut_off(&control, &c.installed, &c.installed_term));
	sh->undecided = c.installed != 0;
	sh->findings = 0;
	kvstore_check(&control, &c);
}

/* A whole start; what there is then. */
static void
start(void)
{
	Snapshot s;
	Vote v;

	prepare_engine();
	MUST(fetch_install(&sh->did));
	MUST(kvstore_open());
	MUST(kvstore_compactor_open());
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	MUST(votefile_read(kvstore_control()->node_incarnation, &v));
	sh->vote_flags = v.flags;
	sh->applied = kvstore_applied();
	sh->end = wal_durable();
	kvstore_begin_read(&s, 0);
	for (sh->keys = 0;; sh->keys++) {
		char key[16] = { KEYSPACE_USER };
		Entry e;
		size_t n = 1 + (size_t) snprintf(key + 1, sizeof key - 1, "key-%03d", sh->keys);

		if (kvstore_get(&s, slice_of(key, n), &e) != ST_OK)
			break;
		CHECK(e.value.len < sizeof sh->value);
		if (sh->keys == 0)
			snprintf(sh->value, sizeof sh->value, "%.*s", (int) e.value.len, (const char *) e.value.data);
		CHECK(slice_eq(e.value, slice_str(sh->value)));
	}
	kvstore_end_read();
}

static void
assert_start(bool did, int keys, const char *value)
{
	run_child(start);
	assert_int_equal(sh->did, did);
	assert_int_equal(sh->keys, keys);
	assert_string_equal(sh->value, value);
	assert_int_not_equal(access(FETCH_INCOMING, F_OK), 0);
	/* And once more: nothing is left to do. */
	run_child(start);
	assert_false(sh->did);
	assert_int_equal(sh->keys, keys);
}

/* ---- tests */
static void
whole_install(void **state)
{
	(void) state;
	make_node("node");
	run_child(follower_of_its_own);
	fetched(false);
	assert_start(true, NEW_KEYS, "new");
	assert_int_equal(sh->applied, sh->sum.flushed);
	assert_int_equal(sh->end, sh->sum.flushed); /* its own log is of no use */
	assert_int_equal(sh->vote_flags, 0);
	/* It goes on from there. */
	run_child(follower_of_its_own);
}

static void
assert_whole(void)
{
	run_child(check);
	assert_int_equal(sh->findings, 0);
}

/* A node like the template, its start cut off after so many changes. False: it came to its end. */
static bool
cut_off(const char *template, int changes)
{
	assert_int_equal(chdir(top), 0);
	shell("rm -rf node && cp -a %s %s", template, "node");
	enter("node");
	changes_left = (uint64_t) changes;
	run_child(cut_off_start);
	assert_whole();
	return sh->status != ST_OK;
}

static void
cut_off_anywhere(void **state)
{
	int cuts = 0;

	(void) state;
	make_node("template");
	run_child(follower_with_more); /* a log that does not fit to the new tables */
	fetched(true);                 /* with all there is to do */
	for (;; cuts++) {
		bool whole = !cut_off("template", cuts);

		if (!whole) { /* once more, at another place */
			changes_left = (uint64_t) cuts * 2 / 3;
			run_child(cut_off_start);
			assert_whole();
		}
		run_child(start);
		assert_int_equal(sh->keys, NEW_KEYS);
		assert_string_equal(sh->value, "new");
		assert_int_equal(sh->applied, sh->sum.flushed);
		assert_int_equal(sh->vote_flags, VOTE_RECOVERING);
		assert_int_not_equal(access(FETCH_INCOMING, F_OK), 0);
		run_child(start);
		assert_int_not_equal(access(FETCH_INCOMING ".gone", F_OK), 0);
		if (whole)
			break;
	}
	assert_true(cuts > 15);
}

/* The leader's directory before it wrote its tables: the same log, its end in the middle of F's segment. */
static void
make_node_with_the_log(const char *name)
{
	assert_int_equal(chdir(top), 0);
	shell("rm -rf %s && cp -a before %s", name, name);
	enter(name);
}

/* The first record of the log, cut off in between: is it damage? */
static void
check_damaged_log(const char *template, bool found)
{
	int seen = 0;

	for (int cuts = 0; cut_off(template, cuts); cuts++) {
		run_child(check);
		if (!sh->undecided || access("wal/0000000000000001.kvw", F_OK) != 0)
			continue;
		shell("printf x | dd of=wal/0000000000000001.kvw bs=1 seek=20 conv=notrunc 2>/dev/null%s%s", "", "");
		run_child(check);
		assert_int_equal(sh->findings, found);
		seen++;
	}
	assert_true(seen > 0);
}

/* What the next start would do with the log is what is asked of it. */
static void
a_log_counts_if_it_will_be_kept(void **state)
{
	(void) state;
	make_node("template");
	run_child(follower_of_its_own); /* its log ends below the tables */
	fetched(false);
	check_damaged_log("template", false);
	make_node_with_the_log("template");
	fetched(false);
	check_damaged_log("template", true);
}

static void
a_log_that_goes_on_is_kept(void **state)
{
	(void) state;
	make_node_with_the_log("node");
	fetched(false);
	assert_start(true, NEW_KEYS, "new");
	assert_true(sh->end >= sh->sum.flushed);
	assert_int_equal(access("wal/0000000000000001.kvw", F_OK), 0);
}

static void
tables_that_hold_less_are_dropped_unless_for_a_repair(void **state)
{
	(void) state;
	make_node("node");
	run_child(follower_with_more);
	fetched(false);
	assert_start(false, 2 * NEW_KEYS, "old");
	assert_int_equal(sh->vote_flags, 0);
	fetched(true);
	assert_start(true, NEW_KEYS, "new");
	assert_int_equal(sh->vote_flags, VOTE_RECOVERING);
}

static void
what_is_damaged_changes_nothing(void **state)
{
	static const char *const damage[] = {
		"printf x >> incoming/COMPLETE",
		"printf x | dd of=incoming/COMPLETE bs=1 seek=33 conv=notrunc 2>/dev/null",
		"printf x | dd of=incoming/LIST bs=1 seek=50 conv=notrunc 2>/dev/null",
		"rm incoming/LIST",
		"rm incoming/*.kvt",
		"rm incoming/*.kvv",
	};

	(void) state;
	for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
		make_node("node");
		run_child(follower_of_its_own);
		fetched(false);
		shell("%s%s", damage[i], "");
		assert_start(false, OLD_KEYS, "old");
	}
}

static void
install_only(void)
{
	prepare_engine();
	sh->status = fetch_install(&sh->did);
}

static bool
same_file(const char *a, const char *b)
{
	char *ta, *tb;
	size_t na, nb;
	bool same;

	assert_int_equal(fs_read_file(a, 4096, &ta, &na), ST_OK);
	assert_int_equal(fs_read_file(b, 4096, &tb, &nb), ST_OK);
	same = na == nb && memcmp(ta, tb, na) == 0;
	free(ta);
	free(tb);
	return same;
}

/* The new tables with the old log would be neither of both. */
static void
damage_after_the_switch_refuses_the_start(void **state)
{
	int refused = 0;

	(void) state;
	make_node("template");
	run_child(follower_with_more);
	fetched(true);
	for (int cuts = 0; cut_off("template", cuts); cuts++) {
		bool switched = !same_file("CURRENT", "../template/CURRENT");

		if (access("incoming/COMPLETE", F_OK) != 0)
			continue;
		shell("printf x | dd of=incoming/%s bs=1 seek=33 conv=notrunc 2>/dev/null%s", "COMPLETE", "");
		run_child(install_only);
		assert_int_equal(sh->status, switched ? ST_CORRUPT : ST_OK);
		refused += switched;
	}
	assert_true(refused > 0);
}

static void
an_unfinished_fetch_waits_and_leftovers_go(void **state)
{
	(void) state;
	make_node("node");
	run_child(follower_of_its_own);
	fetched(false);
	assert_int_equal(fs_unlink("incoming/COMPLETE"), ST_OK);
	shell("mkdir -p snapshots/9-1-0 && touch snapshots/9-1-0/%s%s", "LIST", "");
	run_child(start);
	assert_false(sh->did);
	assert_int_equal(sh->keys, OLD_KEYS);
	assert_int_equal(access("incoming/LIST", F_OK), 0);
	assert_int_not_equal(access("snapshots/9-1-0", F_OK), 0);
	/* What was on its way out when the node stopped. */
	assert_int_equal(rename("incoming", "incoming.gone"), 0);
	assert_start(false, OLD_KEYS, "old");
	assert_int_not_equal(access("incoming.gone", F_OK), 0);
}

static void
files_beside_the_tables(void **state)
{
	FetchComplete c = { 8, UINT64_MAX, 3, true }, got;
	TransferPlan plan = { 7, UINT64_MAX }, read;
	Control other = control;

	(void) state;
	make_node("node");
	assert_int_equal(mkdir("incoming", 0700), 0);
	assert_int_equal(fetch_read_complete(&got, &control), ST_NOT_FOUND);
	assert_int_equal(fetch_mark_complete(&c, &control), ST_OK);
	assert_int_equal(fetch_read_complete(&got, &control), ST_OK);
	assert_true(got.flushed == 8 && got.term == UINT64_MAX && got.log_time == 3 && got.repair);
	other.cluster_id[0] ^= 1;
	assert_int_equal(fetch_read_complete(&got, &other), ST_CORRUPT);
	assert_int_equal(fetch_read_plan(&read), ST_NOT_FOUND);
	assert_int_equal(fetch_write_plan(&plan), ST_OK);
	assert_int_equal(fetch_read_plan(&read), ST_OK);
	assert_true(read.manifest == 7 && read.first_table == UINT64_MAX);
	assert_int_equal(fetch_remove_incoming(), ST_OK);
	assert_int_equal(fetch_remove_incoming(), ST_OK);
}

/* The format of one of the two files, its checksum made right again. */
static void
set_format(const char *path, uint32_t format)
{
	char *text;
	size_t len;

	assert_int_equal(fs_read_file(path, 4096, &text, &len), ST_OK);
	put_u32((uint8_t *) text + 8, format);
	put_u32((uint8_t *) text + len - 4, crc32c(0, text, len - 4));
	assert_int_equal(fs_replace_file(path, text, len), ST_OK);
	free(text);
}

/* A newer kvd was about to install something, or in the middle of it: nothing is thrown away, nothing begun. */
static void
files_of_a_later_format_refuse_the_start(void **state)
{
	static const char *const files[] = { "incoming/COMPLETE", "incoming/PLAN" };
	TransferPlan plan = { 7, 9 };

	(void) state;
	for (int i = 0; i < 2; i++) {
		make_node("node");
		run_child(follower_of_its_own);
		fetched(false);
		assert_int_equal(fetch_write_plan(&plan), ST_OK);
		set_format(files[i], 2);
		run_child(install_only);
		assert_int_equal(sh->status, ST_FOREIGN);
		assert_int_equal(access("incoming/LIST", F_OK), 0);
	}
}

static int
setup(void **state)
{
	(void) state;
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	assert_true(sh != MAP_FAILED);
	enter_new_dir();
	snprintf(top, sizeof top, "%s", dir);
	assert_int_equal(mkdir("leader", 0700), 0);
	enter("leader");
	run_child(leader);
	assert_int_equal(control_read(&control), ST_OK);
	assert_int_equal(votefile_create(control.node_incarnation), ST_OK);
	assert_int_equal(chdir(top), 0);
	shell("cp -a %s %s", "leader", "before");
	enter("leader");
	run_child(export_leader);
	assert_true(sh->sum.files > 0);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	leave_dir();
	munmap(sh, sizeof *sh);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_install),
		cmocka_unit_test(cut_off_anywhere),
		cmocka_unit_test(a_log_counts_if_it_will_be_kept),
		cmocka_unit_test(a_log_that_goes_on_is_kept),
		cmocka_unit_test(tables_that_hold_less_are_dropped_unless_for_a_repair),
		cmocka_unit_test(what_is_damaged_changes_nothing),
		cmocka_unit_test(damage_after_the_switch_refuses_the_start),
		cmocka_unit_test(an_unfinished_fetch_waits_and_leftovers_go),
		cmocka_unit_test(files_beside_the_tables),
		cmocka_unit_test(files_of_a_later_format_refuse_the_start),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
