/*
 * main.c - kvd: arguments, the data directory, then postmaster_run() or one of the offline modes.
 *
 * Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage, 3 stopped because
 * durability is in doubt; --check has its own (check_dir.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/child.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "postmaster_internal.h"
#include "storage/kvstore.h"

#define EXIT_USAGE 2
#define PATH_MAX_SHOWN 4096 /* as long as Linux allows a path to be */

typedef struct Arguments {
	const char *dir;
	bool init_only, check, show_config, recover_alone; /* modes that end */
	bool cluster_init, join;                           /* ways to start the first time */
	bool yes;
} Arguments;

static const char help_text[] =
	"kvd " KVD_VERSION " - key-value server\n"
	"\n"
	"usage: kvd -D DIR [-p PORT] [-c NAME=VALUE]... [--cluster-init | --join] [--init-only]\n"
	"       kvd -D DIR --check | --config | --recover-alone [--yes]\n"
	"\n"
	"  -D DIR          data directory; made if it is missing or empty\n"
	"  -p PORT         TCP port, short for -c port=PORT; 0: any\n"
	"  -c NAME=VALUE   a setting, before those in DIR/kvd.conf\n"
	"  --cluster-init  first start of the first node of a cluster: chooses peer_port, says how to add others\n"
	"  --join          first start of another node: waits until kvctl cluster add makes it a member\n"
	"  --init-only     make the data directory and end\n"
	"  --check         read every file of a stopped server, say what is damaged. Exit code 0 nothing,\n"
	"                  1 something cannot be read, 3 damage, 4 a server runs there\n"
	"  --config        print all settings: name, value, unit, source, default, help\n"
	"  --recover-alone of a stopped node whose cluster lost its majority for good: make it a cluster of one. Tells\n"
	"                  what may be lost, and does it with --yes\n"
	"  --help          this text\n"
	"  --version       the version\n"
	"\n"
	"Signals: TERM waits for clients to leave, INT ends them, QUIT stops at once (the next start replays\n"
	"the log), HUP re-reads the settings.\n";

static _Noreturn void
usage(const char *message, const char *what)
{
	fprintf(stderr, "kvd: %s%s\nTry \"kvd --help\".\n", message, what);
	exit(EXIT_USAGE);
}

static _Noreturn void
fail(void)
{
	fprintf(stderr, "kvd: %s\n", status_detail());
	exit(EXIT_FATAL);
}

static void
must(Status st)
{
	if (st != ST_OK)
		fail();
}

static void
set(const char *assignment)
{
	if (config_set_command_line(assignment) != ST_OK)
		fail();
}

/* The value of option argv[*i], which may be stuck to it: "-p7400". */
static const char *
value_of(int argc, char **argv, int *i)
{
	if (argv[*i][2] != '\0')
		return argv[*i] + 2;
	if (*i + 1 >= argc)
		usage("a value is missing after ", argv[*i]);
	return argv[++*i];
}

static bool *
flag_of(Arguments *a, const char *s)
{
	const struct {
		const char *name;
		bool *flag;
	} flags[] = { { "--init-only", &a->init_only }, { "--check", &a->check }, { "--config", &a->show_config },
		{ "--cluster-init", &a->cluster_init }, { "--join", &a->join }, { "--recover-alone", &a->recover_alone },
		{ "--yes", &a->yes } };

	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (strcmp(flags[i].name, s) == 0)
			return flags[i].flag;
	return NULL;
}

static void
parse(int argc, char **argv, Arguments *a)
{
	char port[64];

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];

		if (strncmp(s, "-D", 2) == 0) {
			a->dir = value_of(argc, argv, &i);
		} else if (strncmp(s, "-c", 2) == 0) {
			set(value_of(argc, argv, &i));
		} else if (strncmp(s, "-p", 2) == 0) {
			snprintf(port, sizeof port, "port=%s", value_of(argc, argv, &i));
			set(port);
		} else if (flag_of(a, s) != NULL) {
			*flag_of(a, s) = true;
		} else if (strcmp(s, "--help") == 0) {
			fputs(help_text, stdout);
			exit(0);
		} else if (strcmp(s, "--version") == 0) {
			puts("kvd " KVD_VERSION);
			exit(0);
		} else {
			usage("unknown argument ", s);
		}
	}
	if (a->init_only + a->check + a->show_config + a->recover_alone > 1)
		usage("only one of --init-only, --check, --config and --recover-alone can be done", "");
	if (a->cluster_init + a->join + a->check + a->show_config + a->recover_alone > 1)
		usage("--cluster-init and --join are for the first start of a node, one of them", "");
	if (a->yes && !a->recover_alone)
		usage("--yes goes with --recover-alone", "");
	if (a->dir == NULL && !a->show_config)
		usage("-D DIR is missing: where is the data, or shall it be?", "");
}

static void
print_config(void)
{
	printf("name\tvalue\tunit\tsource\tdefault\thelp\n");
	for (int i = 0; i < config_count(); i++) {
		ConfigItem item;

		config_item(i, &item);
		printf("%s\t%s\t%s\t%s\t%s\t%s\n", item.name, item.value, item.unit, config_source_name(item.source), item.def,
		       item.help);
	}
}

/* Enter the directory, making it if it is missing; not for wrong settings, though. */
static void
enter(const char *dir, char *abs, size_t size)
{
	Status st = child_enter_dir(dir, abs, size);

	if (st == ST_NOT_FOUND) {
		must(config_apply(slice_of(NULL, 0), slice_of(NULL, 0), false, NULL));
		must(fs_mkdir(dir));
		st = child_enter_dir(dir, abs, size);
	}
	must(st);
}

/* Enter a directory that something is to be read from. */
static void
enter_existing(const char *dir, const char *mode, char *abs, size_t size)
{
	Status st = child_enter_dir(dir, abs, size);

	if (st == ST_NOT_FOUND)
		st = status_fail(st, "data directory \"%s\" does not exist; %s looks at one that does", dir, mode);
	must(st);
}

/* A size of log files that somebody asked for and does not get should not go unnoticed. */
static void
warn_segment_size(const Control *control)
{
	ConfigItem item;

	config_item(config_find("wal_segment_size"), &item);
	if (item.source == SOURCE_DEFAULT || config.wal_segment_size == (int64_t) control->wal_segment_size)
		return;
	elog(LOG_LEVEL_WARNING, "wal_segment_size = %s (%s) is ignored: this data directory was made with %luMB, which "
	     "can't be changed", item.value, config_source_name(item.source),
	     (unsigned long) (control->wal_segment_size / MB));
}

/* Other machines would be told to come to themselves. */
static void
warn_address(const char *listen, const char *listen_value, const char *advertise, const char *advertise_value)
{
	if (config.peer_port != 0 && advertise_value[0] == '\0' && strncmp(listen_value, "*", 1) == 0)
		elog(LOG_LEVEL_WARNING, "%s is * and %s is not set: others are told 127.0.0.1, which on another machine is "
		     "not this node", listen, advertise);
}

static void
warn_addresses(void)
{
	warn_address("listen_addresses", config.listen_addresses, "advertise_address", config.advertise_address);
	warn_address("peer_listen_addresses", config.peer_listen_addresses, "peer_advertise_address",
	             config.peer_advertise_address);
}

/* Logging of the server goes to a file if one is set; what comes before this line went to standard error. */
static void
open_log(void)
{
	int fd = 2;

	if (config.log_file[0] != '\0')
		must(child_open_append(config.log_file, &fd));
	worker_log_fd(fd);
	worker_apply_log_settings();
}

/* ---- the data directory: as it is, or made */

static void
make_directory(const Arguments *a)
{
	bool blank = a->join || (config.cluster_members[0] != '\0' && !a->cluster_init);

	if (blank || a->cluster_init)
		must(bootstrap_settings(a->join));
	must(initdir_make(blank, blank || a->cluster_init));
}

static void
print_next_steps(void)
{
	printf("made the first node of a cluster: %s, port %lld for clients, %lld for other nodes\n", config.node_name,
	       (long long) config.port, (long long) config.peer_port);
	printf("start another:           kvd -D DIR2 --join -c node_name=NAME -p PORT\n");
	printf("then make it a member:   kvctl -p %lld cluster add NAME@HOST:PEER_PORT    (PORT + %d)\n",
	       (long long) config.port, BOOTSTRAP_PORT_STEP);
	printf("on several machines:     set listen_addresses, peer_listen_addresses (doc/operations.md, A cluster)\n");
	fflush(stdout);
}

/* What a directory that is there already does not agree with. */
static void
check_arguments(const Arguments *a, const Control *control)
{
	bool blank = control_blank(control);

	if (a->cluster_init)
		must(status_fail(ST_USAGE, blank ? "this node waits to become a member of a cluster (--join): it can't be the "
		                 "first of a new one; use another directory" : "this data directory has been made already: "
		                 "start it without --cluster-init"));
	if (a->join && !blank)
		must(status_fail(ST_USAGE, "this node belongs to a cluster already: start it without --join. To give its place "
		                 "to a new one: an empty directory, --join, then kvctl cluster replace"));
	if (blank && a->recover_alone)
		must(status_fail(ST_USAGE, "this node belongs to no cluster yet: there is nothing in it"));
	if (!blank && !a->recover_alone)
		must(recover_alone_pending());
}

static int
recover(const Control *control, bool yes)
{
	Status st = recover_alone(control, yes);

	if (st != ST_OK)
		fprintf(stderr, "kvd: %s\n", status_detail());
	return st == ST_OK ? 0 : st == ST_USAGE ? EXIT_USAGE : EXIT_FATAL;
}

static int
serve(Control *control, const char *dir)
{
	open_log();
	warn_addresses();
	if (control_blank(control)) {
		Status st = blank_wait(dir, control);

		if (st == ST_TIMEOUT) {
			elog(LOG_LEVEL_LOG, "%s", status_detail());
			return 0;
		}
		must(st);
	} else if (config.cluster_members[0] != '\0') {
		elog(LOG_LEVEL_LOG, "cluster_members is not looked at: this node belongs to a cluster already");
	}
	warn_segment_size(control);
	return postmaster_run(control, dir);
}

/* Take the lock; the directory is complete afterwards. True: it was made just now. */
static bool
prepare(const Arguments *a, const char *dir)
{
	bool empty;

	must(initdir_look(dir, &empty));
	if (empty && a->recover_alone) {
		fprintf(stderr, "kvd: \"%s\" is not a data directory\n", dir);
		exit(EXIT_FATAL);
	}
	must(config_load(".", false, NULL));
	worker_apply_log_settings();
	must(lock_take(dir));
	must(initdir_look(dir, &empty)); /* again: another server may have made it meanwhile */
	if (empty)
		make_directory(a);
	else
		must(initdir_tidy());
	return empty;
}

int
main(int argc, char **argv)
{
	static char dir[PATH_MAX_SHOWN];
	Arguments a = { 0 };
	Control control;
	bool made;

	child_private_umask();
	elog_process("postmaster");
	config_init();
	parse(argc, argv, &a);
	if (a.dir == NULL) { /* no files: environment and arguments over the defaults */
		must(config_apply(slice_of(NULL, 0), slice_of(NULL, 0), false, NULL));
		print_config();
		return 0;
	}
	if (a.show_config || a.check || a.recover_alone)
		enter_existing(a.dir, a.check ? "--check" : a.show_config ? "--config" : "--recover-alone", dir,
		               sizeof dir);
	else
		enter(a.dir, dir, sizeof dir);
	if (a.show_config) {
		must(config_load(".", false, NULL));
		print_config();
		return 0;
	}
	if (a.check)
		return check_directory(dir);
	made = prepare(&a, dir);
	must(control_read(&control));
	if (!made)
		check_arguments(&a, &control);
	if (a.init_only) {
		printf(made ? "made data directory %s\n" : "%s is a data directory already\n", dir);
		return 0;
	}
	if (a.recover_alone)
		return recover(&control, a.yes);
	if (a.cluster_init)
		print_next_steps();
	return serve(&control, dir);
}
