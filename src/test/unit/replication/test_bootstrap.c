/* test_bootstrap.c - settings of a node that is to have others: what is missing is chosen, what is wrong is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "port/net.h"
#include "replication/bootstrap.h"

static int
fresh(void **state)
{
	(void) state;
	config_init();
	return 0;
}

static void
set(const char *assignment)
{
	assert_int_equal(config_set_command_line(assignment), ST_OK);
}

static void
refused(bool named, const char *why)
{
	assert_int_equal(bootstrap_settings(named), ST_BAD_SETTING);
	if (strstr(status_detail(), why) == NULL)
		fail_msg("expected \"%s\" in \"%s\"", why, status_detail());
}

static void
the_peer_port_is_a_step_above(void **state)
{
	(void) state;
	assert_int_equal(bootstrap_settings(false), ST_OK);
	assert_int_equal(config.peer_port, 7400 + BOOTSTRAP_PORT_STEP);
	set("peer_port=77");
	assert_int_equal(bootstrap_settings(false), ST_OK);
	assert_int_equal(config.peer_port, 77);
	config_init();
	set("port=64535");
	assert_int_equal(bootstrap_settings(false), ST_OK);
	assert_int_equal(config.peer_port, 65535);
	config_init();
	set("port=64536");
	refused(false, "no port");
	set("peer_port=1");
	assert_int_equal(bootstrap_settings(false), ST_OK);
	set("port=0");
	refused(false, "port is 0");
}

static void
one_that_joins_has_a_name(void **state)
{
	(void) state;
	refused(true, "node_name=NAME");
	set("node_name=a b");
	refused(true, "letters");
	set("node_name=node1"); /* the default, but asked for */
	assert_int_equal(bootstrap_settings(true), ST_OK);
}

static void
a_list_gives_port_and_address(void **state)
{
	(void) state;
	set("node_name=b");
	set("cluster_members=a@h1:1, b@[::1]:2,c@h3:3");
	assert_int_equal(bootstrap_settings(false), ST_OK);
	assert_int_equal(config.peer_port, 2);
	assert_string_equal(config.peer_advertise_address, "[::1]:2");
	config_init();
	set("node_name=b");
	set("cluster_members=a@h1:1,b@h2:2");
	set("peer_port=9");
	set("peer_advertise_address=other:8");
	assert_int_equal(bootstrap_settings(false), ST_OK);
	assert_int_equal(config.peer_port, 9);
	assert_string_equal(config.peer_advertise_address, "other:8");
}

static void
wrong_lists_are_refused(void **state)
{
	static const struct {
		const char *list, *why;
	} wrong[] = {
		{ "a@h:1,c@h:2", "does not name this node" },
		{ "b", "name@host" },
		{ "@h:1", "name@host" },
		{ "b c@h:1", "name@host" },
		{ "b@h", "cluster_members" },
		{ "b@h:0", "cluster_members" },
		{ "b@h:65536", "cluster_members" },
		{ "b@:1", "cluster_members" },
		{ "b@h:1,b@h:2", "twice" },
		{ "b@h:1,a@h:1", "twice" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char assignment[300];

		config_init();
		set("node_name=b");
		snprintf(assignment, sizeof assignment, "cluster_members=%s", wrong[i].list);
		set(assignment);
		refused(false, wrong[i].why);
	}
}

static void
a_list_has_as_many_as_a_configuration(void **state)
{
	char assignment[300] = "cluster_members=";
	size_t len = strlen(assignment);

	(void) state;
	set("node_name=a");
	for (int i = 0; i < MEMBERSHIP_NODES_MAX; i++)
		len += (size_t) snprintf(assignment + len, sizeof assignment - len, "%s%c@h:%d", i > 0 ? "," : "",
								 'a' + i, i + 1);
	set(assignment);
	assert_int_equal(bootstrap_settings(false), ST_OK);
	snprintf(assignment + len, sizeof assignment - len, ",z@h:99");
	set(assignment);
	refused(false, "more than 16");
}

static void
what_came_from_the_command_line_is_kept(void **state)
{
	static char dir[256];
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(dir, sizeof dir, "%s/kvd_bootstrap.XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_true(mkdtemp(dir) != NULL && chdir(dir) == 0);
	set("node_name=b");
	set("port=4711");
	set("memtable_size=64MB"); /* not of the cluster: for this run only */
	assert_int_equal(bootstrap_settings(true), ST_OK);
	assert_int_equal(bootstrap_keep_settings(), ST_OK);
	config_init();
	assert_int_equal(config_load(".", false, NULL), ST_OK);
	assert_string_equal(config.node_name, "b");
	assert_int_equal(config.port, 4711);
	assert_int_equal(config.peer_port, 5711);
	assert_int_equal(fs_unlink(CONFIG_AUTO_FILE), ST_OK);
	assert_true(chdir("/") == 0 && rmdir(dir) == 0);
}

static void
it_stops_when_told(void **state)
{
	volatile sig_atomic_t stop = 1;
	Control blank;
	Bootstrap out;
	uint16_t port;
	int fd, n;
	char assignment[32];

	(void) state;
	assert_int_equal(net_listen("127.0.0.1", 0, 1, &fd, 1, &n, &port), ST_OK);
	snprintf(assignment, sizeof assignment, "peer_port=%u", port);
	set(assignment);
	assert_int_equal(control_make_blank(&blank, 1 << 20), ST_OK);
	assert_true(control_blank(&blank) && blank.node_incarnation != 0);
	assert_int_equal(bootstrap_wait(&blank, &stop, &out), ST_CANNOT_CONNECT); /* the port is in use */
	net_close(fd);
	assert_int_equal(bootstrap_wait(&blank, &stop, &out), ST_TIMEOUT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_peer_port_is_a_step_above, fresh),
		cmocka_unit_test_setup(one_that_joins_has_a_name, fresh),
		cmocka_unit_test_setup(a_list_gives_port_and_address, fresh),
		cmocka_unit_test_setup(wrong_lists_are_refused, fresh),
		cmocka_unit_test_setup(a_list_has_as_many_as_a_configuration, fresh),
		cmocka_unit_test_setup(what_came_from_the_command_line_is_kept, fresh),
		cmocka_unit_test_setup(it_stops_when_told, fresh),
	};

	elog_setup(2, LOG_LEVEL_FATAL, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
