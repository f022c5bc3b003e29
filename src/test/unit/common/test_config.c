/* test_config.c - the file's grammar, every unit, every bound, the layers, reload, the written files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/config.h"

/* name, type and bounds of each setting, once more from the list */
typedef struct Known {
	const char *name;
	ConfigType type;
	int64_t min, max;
	ConfigContext context;
} Known;

#define KNOWN(t, n, def, lo, hi, ch, ctx, h) { #n, CONFIG_##t, lo, hi, CONFIG_##ctx },
static const Known known[] = { CONFIG_LIST(KNOWN) };
#define KNOWN_COUNT ((int) (sizeof known / sizeof known[0]))

static int
setup(void **state)
{
	(void) state;
	config_init();
	return 0;
}

static Status
apply(const char *conf, const char *auto_conf, bool reload, int *restart_needed)
{
	return config_apply(slice_str(conf), slice_str(auto_conf), reload, restart_needed);
}

static void
accept_file(const char *conf)
{
	if (apply(conf, "", false, NULL) != ST_OK)
		fail_msg("refused: %s", status_detail());
}

static void
refuse_file(const char *conf, const char *why)
{
	Config before = config;

	assert_int_equal(apply(conf, "", false, NULL), ST_BAD_SETTING);
	assert_string_equal(status_detail(), why);
	assert_memory_equal(&before, &config, sizeof config);
}

static void
defaults(void **state)
{
	(void) state;
	assert_string_equal(config.listen_addresses, "127.0.0.1");
	assert_int_equal(config.port, 7400);
	assert_int_equal(config.wal_buffers, 72 * MB);
	assert_int_equal(config.snapshot_retention, 60000);
	assert_int_equal(config.log_level, 2);
	assert_string_equal(config.log_file, "");
	assert_int_equal(config.sched_batch, 1);
	accept_file("");
	assert_int_equal(config.port, 7400);
	assert_int_equal(config_apply(slice_of(NULL, 0), slice_of(NULL, 0), false, NULL), ST_OK);
}

static void
every_default_is_allowed_and_reads_back(void **state)
{
	(void) state;
	assert_int_equal(config_count(), KNOWN_COUNT);
	for (int i = 0; i < config_count(); i++) {
		ConfigItem item;

		config_item(i, &item);
		assert_string_equal(item.name, known[i].name);
		assert_string_equal(item.value, item.def);
		assert_int_equal(config_check(item.name, item.def), ST_OK);
		assert_int_equal(config_find(item.name), i);
		assert_int_equal(item.context, known[i].context);
		assert_true(strlen(item.help) > 10);
	}
	assert_int_equal(config_find("prot"), -1);
}

static void
lines(void **state)
{
	(void) state;
	accept_file("# only a comment\n\n   \t\n  port=1 \n");
	assert_int_equal(config.port, 1);
	accept_file("port = 2  # and why\r\nmax_connections\t=\t7");
	assert_int_equal(config.port, 2);
	assert_int_equal(config.max_connections, 7);
	accept_file("port = '3'#x\nport = 4\n");
	assert_int_equal(config.port, 4);
	accept_file("log_file = 'it''s # a = ''name'''  # yes");
	assert_string_equal(config.log_file, "it's # a = 'name'");
	accept_file("log_file = ''");
	assert_string_equal(config.log_file, "");
	accept_file("listen_addresses = 127.0.0.1, ::1 # two");
	assert_string_equal(config.listen_addresses, "127.0.0.1, ::1");
}

static void
bad_lines_name_file_and_line(void **state)
{
	(void) state;
	refuse_file("#\n\nfoo = 1\n", "kvd.conf:3: unknown setting \"foo\"");
	refuse_file("port = 1\nport 2\n", "kvd.conf:2: expected name = value");
	refuse_file("= 2", "kvd.conf:1: expected name = value");
	refuse_file("port # = 2", "kvd.conf:1: expected name = value");
	refuse_file("port =", "kvd.conf:1: \"port\" has no value (an empty one is written '')");
	refuse_file("port = # 5", "kvd.conf:1: \"port\" has no value (an empty one is written '')");
	refuse_file("log_file = 'a", "kvd.conf:1: the value of \"log_file\" has no closing quote");
	refuse_file("log_file = '", "kvd.conf:1: the value of \"log_file\" has no closing quote");
	refuse_file("log_file = 'a''", "kvd.conf:1: the value of \"log_file\" has no closing quote");
	refuse_file("log_file = 'a' b", "kvd.conf:1: unexpected text after the value of \"log_file\"");
	refuse_file("port = ''", "kvd.conf:1: \"\" is no value for \"port\": expected a whole number");
	refuse_file("PORT = 1", "kvd.conf:1: unknown setting \"PORT\"");
	assert_int_equal(config_apply(slice_of("port = 1\n\0", 10), slice_of(NULL, 0), false, NULL), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "kvd.conf:2: the line has a NUL byte in it");
	assert_int_equal(apply("port = 1", "\nport = x", false, NULL), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "kvd.auto.conf:2: \"x\" is no value for \"port\": expected a whole number");
	assert_int_equal(config.port, 7400);
}

static void
long_names_and_values(void **state)
{
	char text[600];

	(void) state;
	for (size_t len = 254; len <= 257; len++) {
		memcpy(text, "log_file = ", 11);
		memset(text + 11, 'v', len);
		text[11 + len] = '\0';
		assert_int_equal(apply(text, "", false, NULL), len <= 255 ? ST_OK : ST_BAD_SETTING);
		text[11] = text[11 + len - 1] = '\'';
		assert_int_equal(apply(text, "", false, NULL), len - 2 <= 255 ? ST_OK : ST_BAD_SETTING);
	}
	memset(text, 'n', 500);
	memcpy(text + 500, "= 1", 4);
	assert_int_equal(apply(text, "", false, NULL), ST_BAD_SETTING);
	assert_non_null(strstr(status_detail(), "kvd.conf:1: unknown setting \"nnnn"));
}

static void
sizes(void **state)
{
	static const struct { const char *text; int64_t bytes; } good[] = {
		{ "0", 0 }, { "123", 123 }, { "7B", 7 }, { "5kB", 5 * 1024 }, { "64MB", 64 * MB }, { "3GB", 3072 * MB },
		{ "1TB", 1024 * 1024 * MB }, { "64 MB", 64 * MB },
	};
	static const char *const bad[] = { "", "x", "MB", "64mb", "64KB", "64M", "64MBs", "64MB ",
		"1.5GB", "0x10", "+5", "--5", "1 2" };

	(void) state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		char line[64];

		snprintf(line, sizeof line, "wal_keep = %s", good[i].text);
		accept_file(line);
		assert_int_equal(config.wal_keep, good[i].bytes);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(config_check("wal_keep", bad[i]), ST_BAD_SETTING);
		assert_non_null(strstr(status_detail(), "for \"wal_keep\": expected a size such as 64MB (units B, kB, "));
	}
}

static void
times(void **state)
{
	static const struct { const char *text; int64_t ms; } good[] = {
		{ "250", 250 }, { "250ms", 250 }, { "3000us", 3 }, { "0us", 0 }, { "2s", 2000 }, { "3min", 180000 },
		{ "2h", 7200000 }, { "1d", 86400000 },
	};
	static const char *const bad[] = { "1m", "1sec", "500us", "1MB", "ms" };

	(void) state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		char line[64];

		snprintf(line, sizeof line, "idle_timeout = %s", good[i].text);
		accept_file(line);
		assert_int_equal(config.idle_timeout, good[i].ms);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(config_check("idle_timeout", bad[i]), ST_BAD_SETTING);
		assert_non_null(strstr(status_detail(), "expected a time such as 250ms (units us, ms, s, min, h, d)"));
	}
}

static void
units_belong_to_their_type(void **state)
{
	(void) state;
	assert_int_equal(config_check("port", "5B"), ST_BAD_SETTING);
	assert_int_equal(config_check("port", "5ms"), ST_BAD_SETTING);
	assert_int_equal(config_check("wal_keep", "5s"), ST_BAD_SETTING);
}

static void
numbers_too_large_are_out_of_range(void **state)
{
	(void) state;
	assert_int_equal(config_check("wal_keep", "9999999TB"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "9999999TB is out of range for \"wal_keep\": allowed are 0 to 1TB");
	assert_int_equal(config_check("wal_keep", "99999999999999999999999"), ST_BAD_SETTING);
	assert_non_null(strstr(status_detail(), "is out of range"));
	assert_int_equal(config_check("wal_keep", "17179869184TB"), ST_BAD_SETTING); /* 2^74 is not 0 */
	assert_int_equal(config_check("wal_keep", "18446744073709551616"), ST_BAD_SETTING);
	assert_int_equal(config_check("port", "-1"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "-1 is out of range for \"port\": allowed are 0 to 65535");
}

static bool
allowed(const char *name, int64_t v)
{
	char text[32];

	snprintf(text, sizeof text, "%lld", (long long) v);
	return config_check(name, text) == ST_OK;
}

static void
every_bound(void **state)
{
	(void) state;
	for (int i = 0; i < KNOWN_COUNT; i++) {
		const Known *k = &known[i];

		if (k->type != CONFIG_INT && k->type != CONFIG_SIZE && k->type != CONFIG_TIME_MS)
			continue;
		assert_false(allowed(k->name, k->min - 1));
		assert_true(allowed(k->name, k->min));
		assert_true(allowed(k->name, k->min + 1));
		assert_true(allowed(k->name, k->max - 1));
		assert_true(allowed(k->name, k->max));
		assert_false(allowed(k->name, k->max + 1));
	}
}

static void
powers_of_two(void **state)
{
	(void) state;
	for (int64_t mb = 1; mb <= 1024; mb++)
		assert_int_equal(allowed("wal_segment_size", mb * MB), (mb & (mb - 1)) == 0);
	assert_false(allowed("wal_segment_size", 1 * MB - 1));
	assert_false(allowed("wal_segment_size", 1 * MB + 1));
	assert_false(allowed("wal_segment_size", 2048 * MB));
	refuse_file("\nwal_segment_size = 3MB",
		"kvd.conf:2: 3MB is no value for \"wal_segment_size\": it must be a power of two, such as 16MB");
	assert_int_equal(config_set_command_line("wal_segment_size=3MB"), ST_BAD_SETTING);
	assert_string_equal(status_detail(),
		"-c: 3MB is no value for \"wal_segment_size\": it must be a power of two, such as 16MB");
}

static void
strings_have_bounds_and_no_control_characters(void **state)
{
	char text[300];

	(void) state;
	memset(text, 's', sizeof text);
	for (int len = 254; len <= 256; len++) {
		text[len] = '\0';
		assert_int_equal(config_check("log_file", text), len <= 255 ? ST_OK : ST_BAD_SETTING);
		text[len] = 's';
	}
	assert_int_equal(config_check("log_file", "a\nport = 1"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "the value of \"log_file\" has a control character in it");
	assert_int_equal(config_check("log_file", "a\x7f"), ST_BAD_SETTING);
	assert_int_equal(config_check("log_file", "\xc3\xa9"), ST_OK);
}

static void
bools_and_enums(void **state)
{
	static const char *const words[] = { "off", "on", "false", "true", "no", "yes", "0", "1" };
	static const char *const levels[] = { "debug", "info", "log", "warning", "error" };

	(void) state;
	for (int i = 0; i < 8; i++) {
		char line[64];

		snprintf(line, sizeof line, "sched_batch = %s", words[i]);
		accept_file(line);
		assert_int_equal(config.sched_batch, i % 2);
	}
	refuse_file("sched_batch = maybe", "kvd.conf:1: \"maybe\" is no value for \"sched_batch\": expected on or off");
	for (int i = 0; i < 5; i++) {
		char line[64];

		snprintf(line, sizeof line, "log_level = %s", levels[i]);
		accept_file(line);
		assert_int_equal(config.log_level, i);
	}
	refuse_file("log_level = debu",
		"kvd.conf:1: \"debu\" is no value for \"log_level\": expected one of debug,info,log,warning,error");
	assert_int_equal(config_check("log_level", "debug,info"), ST_BAD_SETTING);
	assert_int_equal(config_check("log_level", ""), ST_BAD_SETTING);
}

static void
check_item(const char *name, const char *value, ConfigSource source, int line)
{
	ConfigItem item;

	config_item(config_find(name), &item);
	assert_string_equal(item.value, value);
	assert_int_equal(item.source, source);
	assert_int_equal(item.line, line);
}

static void
later_layers_win(void **state)
{
	(void) state;
	check_item("l0_trigger", "4", SOURCE_DEFAULT, 0);
	assert_int_equal(apply("\nl0_trigger = 5", "", false, NULL), ST_OK);
	check_item("l0_trigger", "5", SOURCE_FILE, 2);
	assert_int_equal(apply("\nl0_trigger = 5", "l0_trigger = 6", false, NULL), ST_OK);
	check_item("l0_trigger", "6", SOURCE_AUTO_FILE, 1);
	assert_int_equal(setenv("KVD_L0_TRIGGER", "7", 1), 0);
	assert_int_equal(apply("\nl0_trigger = 5", "l0_trigger = 6", false, NULL), ST_OK);
	check_item("l0_trigger", "7", SOURCE_ENV, 0);
	assert_int_equal(config_set_command_line("l0_trigger=8"), ST_OK);
	check_item("l0_trigger", "8", SOURCE_COMMAND_LINE, 0);
	assert_int_equal(apply("\nl0_trigger = 5", "l0_trigger = 6", false, NULL), ST_OK);
	check_item("l0_trigger", "8", SOURCE_COMMAND_LINE, 0);
	assert_int_equal(apply("\nl0_trigger = 5", "l0_trigger = 6", true, NULL), ST_OK);
	check_item("l0_trigger", "8", SOURCE_COMMAND_LINE, 0);
	assert_int_equal(setenv("KVD_L0_TRIGGER", "x", 1), 0);
	assert_int_equal(apply("", "", false, NULL), ST_BAD_SETTING);
	assert_string_equal(status_detail(),
		"environment KVD_L0_TRIGGER: \"x\" is no value for \"l0_trigger\": expected a whole number");
	assert_int_equal(unsetenv("KVD_L0_TRIGGER"), 0);
	assert_string_equal(config_source_name(SOURCE_DEFAULT), "default");
	assert_string_equal(config_source_name(SOURCE_COMMAND_LINE), "command line");
}

static void
unknown_environment_is_somebody_elses(void **state)
{
	(void) state;
	assert_int_equal(setenv("KVD_HOST", "example", 1), 0);
	accept_file("");
	assert_int_equal(unsetenv("KVD_HOST"), 0);
}

static void
bad_command_lines(void **state)
{
	(void) state;
	assert_int_equal(config_set_command_line("port"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "-c port: expected name=value");
	assert_int_equal(config_set_command_line("foo=1"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "-c: unknown setting \"foo\"");
	assert_int_equal(config_set_command_line("port=65536"), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "-c: 65536 is out of range for \"port\": allowed are 0 to 65535");
	assert_int_equal(config_set_command_line("=1"), ST_BAD_SETTING);
	assert_int_equal(config.port, 7400);
	assert_int_equal(config_set_command_line("log_file=a=b"), ST_OK);
	assert_string_equal(config.log_file, "a=b");
}

static void
reload_keeps_what_needs_a_restart(void **state)
{
	ConfigItem item;
	int waiting = -1;

	(void) state;
	accept_file("port = 1\nl0_trigger = 5\n");
	assert_int_equal(apply("port = 2\nl0_trigger = 6\nlog_file = x", "", true, &waiting), ST_OK);
	assert_int_equal(waiting, 2);
	assert_int_equal(config.port, 1);
	assert_string_equal(config.log_file, "");
	assert_int_equal(config.l0_trigger, 6);
	config_item(config_find("port"), &item);
	assert_true(item.restart_needed);
	assert_string_equal(item.value, "1");
	config_item(config_find("l0_trigger"), &item);
	assert_false(item.restart_needed);
	/* Put back: nothing waits any more. */
	assert_int_equal(apply("port = 1\n", "", true, &waiting), ST_OK);
	assert_int_equal(waiting, 0);
	assert_int_equal(config.l0_trigger, 4);
	config_item(config_find("port"), &item);
	assert_false(item.restart_needed);
}

static void
values_are_shown_in_their_largest_whole_unit(void **state)
{
	(void) state;
	accept_file("wal_keep = 1048577\nidle_timeout = 90s\nclient_timeout = 1500\n"
		"snapshot_retention = 0\ndisk_reserve = 1024GB");
	check_item("wal_keep", "1048577B", SOURCE_FILE, 1);
	check_item("idle_timeout", "90s", SOURCE_FILE, 2);
	check_item("client_timeout", "1500ms", SOURCE_FILE, 3);
	check_item("snapshot_retention", "0", SOURCE_FILE, 4);
	check_item("disk_reserve", "1TB", SOURCE_FILE, 5);
	check_item("wal_buffers", "72MB", SOURCE_DEFAULT, 0);
}

/* The sample as text, NUL-terminated in *b. */
static void
sample(Buf *b)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	config_write_sample(out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(buf_append(b, text, len + 1), ST_OK);
	free(text);
}

static void
sample_is_all_comments_and_holds_the_defaults(void **state)
{
	Config before = config;
	Buf b = { 0 };
	char *text;

	(void) state;
	sample(&b);
	text = (char *) b.data;
	accept_file(text);
	assert_memory_equal(&before, &config, sizeof config);
	check_item("port", "7400", SOURCE_DEFAULT, 0);
	/* With the comment signs of its assignments taken away it sets every setting to its default. */
	for (char *p = strstr(text, "\n#"); p != NULL; p = strstr(p + 1, "\n#"))
		if (p[2] != ' ' && p[2] != '\n')
			p[1] = ' ';
	accept_file(text);
	assert_memory_equal(&before, &config, sizeof config);
	for (int i = 0; i < config_count(); i++) {
		ConfigItem item;

		config_item(i, &item);
		assert_int_equal(item.source, SOURCE_FILE);
	}
	buf_free(&b);
}

/* Rewrite *b as the server rewrites kvd.auto.conf. */
static void
rewrite(Buf *b, const char *name, const char *value)
{
	Buf out = { 0 };

	assert_int_equal(config_auto_text(slice_buf(b), name, value, &out), ST_OK);
	assert_int_equal(buf_set(b, slice_buf(&out)), ST_OK);
	buf_free(&out);
	assert_int_equal(config_apply(slice_of(NULL, 0), slice_buf(b), false, NULL), ST_OK);
}

static void
auto_file_is_rewritten(void **state)
{
	Buf b = { 0 };

	(void) state;
	rewrite(&b, "port", "5");
	assert_int_equal(config.port, 5);
	rewrite(&b, "log_file", "it's '#' here");
	assert_string_equal(config.log_file, "it's '#' here");
	rewrite(&b, "port", "6");
	assert_int_equal(config.port, 6);
	assert_string_equal(config.log_file, "it's '#' here");
	rewrite(&b, "log_file", NULL);
	assert_string_equal(config.log_file, "");
	rewrite(&b, "log_file", NULL); /* not there: no error */
	rewrite(&b, "port", NULL);
	assert_int_equal(config.port, 7400);
	buf_free(&b);
}

static void
auto_file_refuses_what_would_stop_the_next_start(void **state)
{
	Buf out = { 0 };

	(void) state;
	assert_int_equal(config_auto_text(slice_of(NULL, 0), "foo", "1", &out), ST_BAD_SETTING);
	assert_int_equal(config_auto_text(slice_of(NULL, 0), "port", "x", &out), ST_BAD_SETTING);
	assert_int_equal(config_auto_text(slice_str("\nport"), "port", "1", &out), ST_BAD_SETTING);
	assert_string_equal(status_detail(), "kvd.auto.conf:2: expected name = value");
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(defaults, setup),
		cmocka_unit_test_setup(every_default_is_allowed_and_reads_back, setup),
		cmocka_unit_test_setup(lines, setup),
		cmocka_unit_test_setup(bad_lines_name_file_and_line, setup),
		cmocka_unit_test_setup(long_names_and_values, setup),
		cmocka_unit_test_setup(sizes, setup),
		cmocka_unit_test_setup(times, setup),
		cmocka_unit_test_setup(units_belong_to_their_type, setup),
		cmocka_unit_test_setup(numbers_too_large_are_out_of_range, setup),
		cmocka_unit_test_setup(every_bound, setup),
		cmocka_unit_test_setup(powers_of_two, setup),
		cmocka_unit_test_setup(strings_have_bounds_and_no_control_characters, setup),
		cmocka_unit_test_setup(bools_and_enums, setup),
		cmocka_unit_test_setup(later_layers_win, setup),
		cmocka_unit_test_setup(unknown_environment_is_somebody_elses, setup),
		cmocka_unit_test_setup(bad_command_lines, setup),
		cmocka_unit_test_setup(reload_keeps_what_needs_a_restart, setup),
		cmocka_unit_test_setup(values_are_shown_in_their_largest_whole_unit, setup),
		cmocka_unit_test_setup(sample_is_all_comments_and_holds_the_defaults, setup),
		cmocka_unit_test_setup(auto_file_is_rewritten, setup),
		cmocka_unit_test_setup(auto_file_refuses_what_would_stop_the_next_start, setup),
	};

	/* The caller's own settings must not leak into the tests. */
	for (int i = 0; i < KNOWN_COUNT; i++) {
		char name[80] = "KVD_";

		for (size_t k = 0; known[i].name[k] != '\0'; k++)
			name[k + 4] = (char) (known[i].name[k] >= 'a' ? known[i].name[k] - 32 : known[i].name[k]);
		unsetenv(name);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
