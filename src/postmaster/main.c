/*
 * main.c - kvd: arguments, the data directory, then postmaster_run() or one of the offline modes.
 *
 * Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage, 3 stopped because
 * durability is in doubt.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "postmaster_internal.h"
#include "storage/kvstore.h"

#define EXIT_USAGE 2
#define PATH_MAX_SHOWN 4096 /* as long as Linux allows a path to be */

typedef struct Arguments {
	const char *dir;
	bool init_only, check, show_config;
} Arguments;

static const char help_text[] =
	"kvd " KVD_VERSION " - key-value server\n"
	"\n"
	"usage: kvd -D DIR [-p PORT] [-c NAME=VALUE]... [--init-only | --check | --config]\n"
	"\n"
	"  -D DIR          data directory; made if it is missing or empty\n"
	"  -p PORT         TCP port, short for -c port=PORT; 0: any\n"
	"  -c NAME=VALUE   a setting, before those in DIR/kvd.conf\n"
	"  --init-only     make the data directory and end\n"
	"  --check         check log and tables of a stopped server, change nothing that matters, and end\n"
	"  --config        print all settings: name, value, unit, source, default, help\n"
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
		} else if (strcmp(s, "--init-only") == 0) {
			a->init_only = true;
		} else if (strcmp(s, "--check") == 0) {
			a->check = true;
		} else if (strcmp(s, "--config") == 0) {
			a->show_config = true;
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
	if (a->init_only + a->check + a->show_config > 1)
		usage("only one of --init-only, --check and --config can be done", "");
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

static void
report_line(void *arg, const char *line)
{
	(void) arg;
	puts(line);
}

static int
check_directory(const Control *control, const char *dir)
{
	Status st;

	must(shmem_create(control));
	procslot_attach(PROC_REPLAY, PROC_REPLAY);
	must(kvstore_open());
	st = kvstore_check(report_line, NULL);
	if (st != ST_OK) {
		printf("%s: %s: %s\n", dir, status_name(st), status_detail());
		return EXIT_FATAL;
	}
	printf("%s: no damage found\n", dir);
	return 0;
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

int
main(int argc, char **argv)
{
	static char dir[PATH_MAX_SHOWN];
	Arguments a = { 0 };
	Control control;
	bool empty;

	child_private_umask();
	elog_process("postmaster");
	config_init();
	parse(argc, argv, &a);
	if (a.dir == NULL) { /* no files: environment and arguments over the defaults */
		must(config_apply(slice_of(NULL, 0), slice_of(NULL, 0), false, NULL));
		print_config();
		return 0;
	}
	if (a.show_config || a.check)
		enter_existing(a.dir, a.check ? "--check" : "--config", dir, sizeof dir);
	else
		enter(a.dir, dir, sizeof dir);
	if (a.show_config) {
		must(config_load(".", false, NULL));
		print_config();
		return 0;
	}

	must(initdir_look(dir, &empty));
	if (empty && a.check) {
		fprintf(stderr, "kvd: \"%s\" is not a data directory\n", dir);
		return EXIT_FATAL;
	}
	must(config_load(".", false, NULL));
	worker_apply_log_settings();
	must(lock_take(dir));
	must(initdir_look(dir, &empty)); /* again: another server may have made it meanwhile */
	must(empty ? initdir_make() : initdir_tidy());
	if (a.init_only) {
		printf(empty ? "made data directory %s\n" : "%s is a data directory already\n", dir);
		return 0;
	}
	must(control_read(&control));
	if (a.check)
		return check_directory(&control, dir);
	open_log();
	warn_segment_size(&control);
	return postmaster_run(&control, dir);
}
