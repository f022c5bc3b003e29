/* test_config_files.c - the two files in a directory: missing, read, rewritten, refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/config_files.h"
#include "port/fs.h"

static char dir[256];

static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	config_init();
	snprintf(dir, sizeof dir, "%s/kvd_test_config.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return mkdtemp(dir) == NULL;
}

static const char *
in_dir(const char *name)
{
	static char path[300];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static int
teardown(void **state)
{
	(void) state;
	unlink(in_dir(CONFIG_FILE));
	unlink(in_dir(CONFIG_AUTO_FILE));
	return rmdir(dir);
}

static void
put_file(const char *name, const char *text)
{
	assert_int_equal(fs_replace_file(in_dir(name), text, strlen(text)), ST_OK);
}

static void
missing_files_are_empty(void **state)
{
	int waiting = -1;

	(void) state;
	assert_int_equal(config_load(dir, false, &waiting), ST_OK);
	assert_int_equal(config.l0_trigger, 4);
	assert_int_equal(waiting, 0);
}

static void
both_files_are_read(void **state)
{
	(void) state;
	put_file(CONFIG_FILE, "l0_trigger = 5\nlevel_ratio = 7\n");
	put_file(CONFIG_AUTO_FILE, "l0_trigger = 6\n");
	assert_int_equal(config_load(dir, false, NULL), ST_OK);
	assert_int_equal(config.l0_trigger, 6);
	assert_int_equal(config.level_ratio, 7);
}

static void
errors_name_file_and_line_and_change_nothing(void **state)
{
	(void) state;
	put_file(CONFIG_FILE, "l0_trigger = 5\n\nfoo = 1\n");
	assert_int_equal(config_load(dir, false, NULL), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "kvd.conf:3: unknown setting \"foo\"");
	assert_int_equal(config.l0_trigger, 4);
}

static void
rewriting_the_servers_file(void **state)
{
	(void) state;
	assert_int_equal(config_write_auto(dir, "l0_trigger", "9"), ST_OK);
	assert_int_equal(config_write_auto(dir, "log_file", "it's"), ST_OK);
	assert_int_equal(config_load(dir, true, NULL), ST_OK);
	assert_int_equal(config.l0_trigger, 9);
	assert_int_equal(config_load(dir, false, NULL), ST_OK);
	assert_string_equal(config.log_file, "it's");
	assert_int_equal(config_write_auto(dir, "l0_trigger", NULL), ST_OK);
	assert_int_equal(config_load(dir, true, NULL), ST_OK);
	assert_int_equal(config.l0_trigger, 4);
	assert_int_equal(config_write_auto(dir, "l0_trigger", "1"), ST_BAD_SETTING);
	assert_int_equal(config_load(dir, true, NULL), ST_OK);
}

static void
sample_file_loads(void **state)
{
	(void) state;
	assert_int_equal(config_write_sample_file(dir), ST_OK);
	assert_int_equal(access(in_dir(CONFIG_FILE), R_OK), 0);
	assert_int_equal(config_load(dir, false, NULL), ST_OK);
	assert_int_equal(config.l0_trigger, 4);
}

static void
files_have_a_bound(void **state)
{
	char *text = malloc(CONFIG_FILE_MAX + 2);

	(void) state;
	assert_non_null(text);
	memset(text, '#', CONFIG_FILE_MAX + 1);
	for (size_t len = CONFIG_FILE_MAX - 1; len <= CONFIG_FILE_MAX + 1; len++) {
		assert_int_equal(fs_replace_file(in_dir(CONFIG_FILE), text, len), ST_OK);
		assert_int_equal(config_load(dir, false, NULL), len <= CONFIG_FILE_MAX ? ST_OK : ST_OUT_OF_RANGE);
	}
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(missing_files_are_empty),
		TEST(both_files_are_read),
		TEST(errors_name_file_and_line_and_change_nothing),
		TEST(rewriting_the_servers_file),
		TEST(sample_file_loads),
		TEST(files_have_a_bound),
	};

	unsetenv("KVD_L0_TRIGGER");
	unsetenv("KVD_LEVEL_RATIO");
	unsetenv("KVD_LOG_FILE");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
