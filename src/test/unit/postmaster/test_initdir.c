/* test_initdir.c - making a data directory: foreign ones untouched, an interrupted one begun again at every point. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/faultfs.h"
#include "../../../postmaster/postmaster_internal.h"
#include "common/config.h"
#include "common/elog.h"
#include "port/child.h"
#include "port/fs.h"
#include "replication/votefile.h"

static char dir[256];

static Status
remove_one(void *arg, const char *name)
{
	char path[512];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", (const char *) arg, name);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		assert_int_equal(fs_list(path, remove_one, path), ST_OK);
		rmdir(path);
	} else {
		unlink(path);
	}
	return ST_OK;
}

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	elog_setup(2, LOG_LEVEL_FATAL, false);
	config_init();
	child_private_umask();
	snprintf(dir, sizeof dir, "%s/kvd_initdir.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(dir) == NULL || chdir(dir) != 0 ? -1 : 0;
}

static int
teardown(void **state)
{
	(void) state;
	assert_int_equal(fs_list(dir, remove_one, dir), ST_OK);
	return chdir("/") != 0 || rmdir(dir) != 0 ? -1 : 0;
}

static void
make_file(const char *name)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	fclose(f);
}

static void
assert_complete(void)
{
	Control control;
	Vote vote;
	bool empty = true;

	assert_int_equal(initdir_look(dir, &empty), ST_OK);
	assert_false(empty);
	assert_int_equal(control_read(&control), ST_OK);
	assert_int_equal(votefile_read(control.node_incarnation, &vote), ST_OK);
	assert_int_equal(access("kvd.conf", R_OK), 0);
	assert_int_equal(access("wal", X_OK), 0);
	assert_int_equal(access("kvd.init", F_OK), -1);
}

static void
an_empty_directory_is_made(void **state)
{
	bool empty = false;
	struct stat st;

	(void) state;
	assert_int_equal(initdir_look(dir, &empty), ST_OK);
	assert_true(empty);
	assert_int_equal(initdir_make(false, false), ST_OK);
	assert_complete();
	assert_int_equal(stat("kvd.conf", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat("wal", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void
a_lock_and_lost_found_are_no_content(void **state)
{
	bool empty = false;

	(void) state;
	make_file("kvd.lock");
	make_file("kvd.alive");
	make_file("lost+found");
	assert_int_equal(initdir_look(dir, &empty), ST_OK);
	assert_true(empty);
}

static void
a_foreign_directory_is_refused(void **state)
{
	bool empty;

	(void) state;
	make_file("my_thesis.tex");
	assert_int_equal(initdir_look(dir, &empty), ST_FOREIGN);
	assert_non_null(strstr(status_detail(), "my_thesis.tex"));
}

/* ---- cut off after each operation */

static uint64_t cut_at;

/* So many changes are made, then none. */
static void
cut_off(void)
{
	fault_use(&fs_posix);
	fault_forget(FAULT_SYNC | FAULT_SYNC_DIR, NULL); /* no disk is waited for */
	fault_plan(&(FaultPlan){ .calls = FAULT_CHANGES, .nth = cut_at + 1, .forever = true, .kind = FAULT_EIO });
}

static void
cut_off_at_any_point_it_is_begun_again(void **state)
{
	bool done = false;

	(void) state;
	for (cut_at = 0; !done; cut_at++) {
		bool empty = false;

		cut_off();
		done = initdir_make(false, false) == ST_OK;
		fs = &fs_posix;
		assert_int_equal(initdir_look(dir, &empty), ST_OK);
		if (empty)
			assert_int_equal(initdir_make(false, false), ST_OK);
		else
			assert_int_equal(initdir_tidy(), ST_OK);
		assert_complete();
		assert_int_equal(fs_list(dir, remove_one, dir), ST_OK);
	}
	assert_true(cut_at > 10);
}

/* A blank directory becomes that of a member: until kvd.control says so it is blank, then all of it is there. */
static void
a_blank_directory_gets_its_cluster_at_any_point_it_is_cut_off(void **state)
{
	bool done = false;

	(void) state;
	for (cut_at = 0; !done; cut_at++) {
		Bootstrap b = { .at = 7, .members = { .n = 1, .election_ms = 100, .node = { { .name = "x" } } } };
		Membership m;
		Control now;
		Lsn at;

		assert_int_equal(initdir_make(true, false), ST_OK);
		assert_int_equal(control_read(&now), ST_OK);
		assert_true(control_blank(&now));
		assert_int_equal(control_make(&b.control, 1 << 20), ST_OK);
		b.control.node_incarnation = b.members.node[0].incarnation = now.node_incarnation;
		cut_off();
		done = initdir_form(&b) == ST_OK;
		fs = &fs_posix;
		assert_int_equal(control_read(&now), ST_OK);
		if (control_blank(&now)) {
			assert_false(done);
			assert_int_equal(initdir_form(&b), ST_OK);
			assert_int_equal(control_read(&now), ST_OK);
		}
		assert_memory_equal(now.cluster_id, b.control.cluster_id, sizeof now.cluster_id);
		assert_true(now.crc_seed == b.control.crc_seed && now.wal_segment_size == 1 << 20);
		assert_complete();
		assert_int_equal(access("wal/mark", R_OK), 0);
		assert_int_equal(access("CURRENT", R_OK), 0);
		assert_int_equal(membership_file_read(&m, &at), ST_OK);
		assert_true(at == 7 && m.n == 1);
		assert_int_equal(fs_list(dir, remove_one, dir), ST_OK);
	}
	assert_true(cut_at > 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_directory_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(a_lock_and_lost_found_are_no_content, setup, teardown),
		cmocka_unit_test_setup_teardown(a_foreign_directory_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(cut_off_at_any_point_it_is_begun_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_blank_directory_gets_its_cluster_at_any_point_it_is_cut_off, setup,
										teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
