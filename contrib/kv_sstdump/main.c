/*
 * main.c - kv_sstdump: looks into tables and the list of them.
 *
 * Reads files only, through the server's own readers, and changes nothing; may be run while the server does.
 */
#include <stdlib.h>
#include <string.h>

#include "common/elog.h"
#include "kv_sstdump.h"

static const char help_text[] =
	"kv_sstdump looks into the tables of a kvd data directory. It changes nothing and may run beside a server.\n"
	"\n"
	"usage: kv_sstdump COMMAND [OPTIONS] DATADIR\n"
	"       kv_sstdump COMMAND [OPTIONS] FILE.kvt ...      (properties, scan, verify)\n"
	"\n"
	"  list            the tables by level, as the manifest names them\n"
	"  manifest        the edits that made the list, one a line\n"
	"  properties      what each table says of itself\n"
	"  values          the value files, as the manifest names them\n"
	"  scan            entries, every version of every key\n"
	"  verify          read every block: checksums, order, filter, counts; of a directory also against the manifest\n"
	"\n"
	"  --from KEY      scan: from this key on (C escapes)\n"
	"  --to KEY        scan: before this key\n"
	"  --limit N       scan: at most so many entries\n"
	"  --full          scan: values in full (default: their first 40 bytes)\n"
	"  --system        scan: keys of the system keyspace (sessions, configuration) instead of users' keys\n"
	"  --format F      " OUTPUT_FORMATS ". Default: table on a terminal, otherwise tsv\n"
	"  --json          --format json\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 whole as far as it was read, 1 damage, 2 wrong usage, 3 cannot be read.\n";

Dump dump = { .tool = { .name = "kv_sstdump", .help = help_text } };

static const struct {
	const char *name;
	int (*run)(char **names, int n);
} commands[] = { { "list", run_list }, { "manifest", run_manifest }, { "properties", run_properties },
	{ "scan", run_scan }, { "values", run_values }, { "verify", run_verify } };

int
main(int argc, char **argv)
{
	const char *limit = NULL;
	const OfflineOption options[] = { { "--from", &dump.from, NULL }, { "--to", &dump.to, NULL },
		{ "--limit", &limit, NULL }, { "--full", NULL, &dump.full }, { "--system", NULL, &dump.system },
		{ NULL, NULL, NULL } };
	int n;

	elog_process(dump.tool.name);
	dump.tool.options = options;
	n = offline_arguments(&dump.tool, argc, argv);
	dump.limit = offline_number(&dump.tool, "--limit", limit, UINT64_MAX);
	if (n == 0)
		offline_usage(&dump.tool, "a command is missing", "");
	if (n == 1)
		offline_usage(&dump.tool, "a data directory or table files are missing", "");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		int code;

		if (strcmp(commands[i].name, argv[0]) != 0)
			continue;
		code = commands[i].run(argv + 1, n - 1);
		return offline_finish(&dump.tool) ? code : OFFLINE_UNREADABLE;
	}
	offline_usage(&dump.tool, "unknown command ", argv[0]);
}
