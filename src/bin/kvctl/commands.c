/*
 * commands.c - THE table of commands, and help made from it. A new command is one entry here and one handler.
 */
#include "kvctl.h"

#define FLAG(name) { name, false, false }
#define VALUE(name) { name, true, false }
#define LIST(name) { name, true, true }
#define NO_OPTIONS { { NULL, false, false } }

#define RANGE_OPTIONS VALUE("--prefix"), VALUE("--start"), VALUE("--end")
#define RANGE_HELP \
	"  --prefix P         keys that begin with P\n" \
	"  --start S          keys from S on, S included\n" \
	"  --end E            keys before E\n"
#define CONDITION_OPTIONS \
	FLAG("--if-absent"), FLAG("--if-present"), VALUE("--if-version"), VALUE("--if-value")
#define CONDITION_HELP \
	"  --if-absent        only when the key does not exist\n" \
	"  --if-present       only when it does\n" \
	"  --if-version N     only when its version is N\n" \
	"  --if-value V       only when its value is V\n"
#define ACK_HELP \
	"  --ack A            answer when durable on a majority (quorum), on this node (local), not at all (none)\n"

#define DEL_OPTIONS \
	{ VALUE("--prefix"), FLAG("--range"), VALUE("--if-version"), VALUE("--if-value"), VALUE("--ack"), FLAG("--count") }
#define DEL_HELP \
	"Keys: exit code 1 when one was absent; prints how many were deleted. A range goes at once, as one write,\n" \
	"however much is in it; prints the version.\n" \
	"  --prefix P         all keys that begin with P\n" \
	"  --range            all keys from START on and before END; END \"\" means to the end\n" \
	"  --count            a range: key by key, in steps, and print how many were deleted\n" \
	"  --if-version N     one key: only when its version is N\n" \
	"  --if-value V       one key: only when its value is V\n" ACK_HELP

const Command command_table[] = {
	{ "put", "KEY [VALUE] [--ttl TIME] [--if-...]", "store a value",
	  "Prints the new version. Without VALUE, -x or --file say where it comes from, byte for byte.\n"
	  "  -x                 value from standard input\n"
	  "  --file PATH        value from a file\n"
	  "  --ttl TIME         the key expires after this time (500ms, 5s, 7d; a bare number is milliseconds)\n"
	  "  --keep-ttl         the TTL that the key has stays (otherwise a put removes it)\n"
	  CONDITION_HELP ACK_HELP, run_put, 1, 2,
	  { VALUE("--ttl"), CONDITION_OPTIONS, VALUE("--ack"), FLAG("-x"), VALUE("--file"),
	    FLAG("--keep-ttl") } },
	{ "get", "KEY... [--with-version] [--local]", "read values",
	  "One key: the value alone; to a pipe or file byte for byte without a newline, on a terminal with C escapes.\n"
	  "Several keys: a row each; exit code 1 when one is absent.\n"
	  "  --with-version     version and remaining TTL too\n"
	  "  --local            what this server has, perhaps not the newest\n",
	  run_get, 1, -1, { FLAG("--with-version"), FLAG("--local") } },
	{ "mget", "KEY... [--with-version] [--local]", "the same as get", "", run_get, 1, -1,
	  { FLAG("--with-version"), FLAG("--local") } },
	{ "del", "KEY... | --prefix P | --range START END", "delete keys", DEL_HELP, run_del, 0, -1, DEL_OPTIONS },
	{ "delete", "KEY... | --prefix P | --range START END", "the same as del", DEL_HELP, run_del, 0, -1,
	  DEL_OPTIONS },
	{ "scan", "[PREFIX] [--start S] [--end E] [--limit N] [--reverse] [--keys]", "list keys and values in order",
	  "All at one snapshot.\n" RANGE_HELP
	  "  --limit N          at most N\n"
	  "  --reverse          downwards\n"
	  "  --keys             keys only\n"
	  "  --with-version     version and remaining TTL too\n"
	  "  --local            what this server has, perhaps not the newest\n",
	  run_scan, 0, 1, { RANGE_OPTIONS, VALUE("--limit"), FLAG("--reverse"), FLAG("--keys"),
	    FLAG("--with-version"), FLAG("--local") } },
	{ "count", "[PREFIX] [--start S] [--end E]", "count keys", RANGE_HELP
	  "  --local            what this server has, perhaps not the newest\n"
	  "  --estimate         about how many, in no time (see size)\n",
	  run_count, 0, 1, { RANGE_OPTIONS, FLAG("--local"), FLAG("--estimate") } },
	{ "size", "[PREFIX] [--start S] [--end E]", "about how much there is", RANGE_HELP
	  "  --local            what this server has, perhaps not the newest\n"
	  "Estimated from what the files say of themselves: bytes of keys and values, bytes of files, entries, of which\n"
	  "tombstones. What is overwritten or deleted counts until it is merged away; an end of the range within a\n"
	  "file makes for an error of up to 4 KiB.\n",
	  run_size, 0, 1, { RANGE_OPTIONS, FLAG("--local") } },
	{ "incr", "KEY [STEP]", "add to a number, print the new value",
	  "STEP is 1 if left out and may be negative. An absent key counts as 0.\n"
	  "  --ttl TIME         the key expires after this time (otherwise its TTL stays)\n",
	  run_incr, 1, 2, { VALUE("--ttl") } },
	{ "cas", "KEY OLD NEW", "put NEW when the value is OLD",
	  "Exit code 1 when it is not.\n  --ttl TIME         the key expires after this time\n", run_cas, 3, 3,
	  { VALUE("--ttl") } },
	{ "load", "[FILE] [--json]", "store what a file holds",
	  "FILE (standard input if left out or -) has lines KEY TAB VALUE with C escapes (\\t \\n \\\\ \\xHH),\n"
	  "or with --json lines {\"key\":..., \"value\":..., \"ttl_ms\":...}, where bytes that are no UTF-8 are\n"
	  "{\"base64\":\"...\"}. A name that ends in .json, .jsonl or .ndjson means --json. Stops at the first bad "
	  "line, says which and how much is stored.\n"
	  "A lost connection is made anew (for up to a minute, or --timeout), what was not answered is sent again and\n"
	  "done once. Loading the same file again, or the rest of it, is safe, as long as nobody else writes its keys.\n"
	  "Sorted by key it loads fastest.\n"
	  "  --json, --tsv      the form\n"
	  "  --skip N           leave out the first N records, which an earlier load has stored\n"
	  "  --ttl TIME         for records without a TTL of their own\n" ACK_HELP,
	  run_load, 0, 1, { FLAG("--json"), FLAG("--tsv"), VALUE("--ttl"), VALUE("--ack"), VALUE("--skip") } },
	{ "dump", "[FILE] [--json] [--prefix P] [--start S] [--end E]", "write keys and values to a file",
	  "In the order of the keys, all at one snapshot, in the form that load reads, to FILE (standard output\n"
	  "if left out or -). TSV has no room for TTLs; JSON keeps what is left of them.\n" RANGE_HELP
	  "  --json, --tsv      the form\n"
	  "  --local            what this server has, perhaps not the newest\n",
	  run_dump, 0, 1, { RANGE_OPTIONS, FLAG("--json"), FLAG("--tsv"), FLAG("--local") } },
	{ "ping", "[--count N]", "does the server answer, and how fast", "  --count N          so many times\n",
	  run_ping, 0, 0, { VALUE("--count") } },
	{ "stats", "[PREFIX]", "what the server counts and measures", "", run_stats, 0, 1, NO_OPTIONS },
	{ "config", "[list [NAME] | get NAME | set NAME VALUE | reset NAME | reload]", "the server's settings",
	  "set keeps the value over restarts (kvd.auto.conf), reset removes it from there, reload reads the files again.\n",
	  run_config, 0, 3, NO_OPTIONS },
	{ "checkpoint", "[--compact]", "write memory to tables", "  --compact          then merge all tables\n",
	  run_checkpoint, 0, 0, { FLAG("--compact") } },
	{ "cluster", "[ACTION [NAME] [HOST:PORT]] [--dry-run]", "the nodes of a cluster",
	  "Changes go to the leader, whichever node is named. What would be unsafe is refused with the reason (exit\n"
	  "code 4).\n"
	  "  status                  who leads, and how each node does, as the node that answers sees it\n"
	  "  add NAME@HOST:PORT      a blank node joins (PORT is its peer_port): it learns, then votes by itself\n"
	  "  remove NAME             a node leaves for good\n"
	  "  promote NAME            a learner that has caught up becomes a voter now\n"
	  "  transfer [NAME]         another node leads: NAME, or whoever is furthest\n"
	  "  replace NAME HOST:PORT  a blank node takes the place of a lost one\n"
	  "  check                   the nodes compare their contents; status shows what came of it. A node\n"
	  "                          alone prints the hash of its own\n"
	  "  repair NAME             a node whose contents differ gets those of the majority\n"
	  "  --dry-run               say what would be done, or why not, and do nothing\n",
	  run_cluster, 0, 3, { FLAG("--dry-run") } },
	{ "start", "-D DIR [--wait TIME] [-c NAME=VALUE]...", "start a server in the background",
	  "Makes DIR if it is missing. Waits until the server is ready; when it dies, shows its last lines. Its log is\n"
	  "DIR/kvd.log.\n"
	  "  --wait TIME        give up waiting after this time (60s)\n"
	  "  -c NAME=VALUE      a setting for this run; may be repeated\n",
	  run_start, 0, 0, { VALUE("--wait"), LIST("-c") } },
	{ "stop", "-D DIR [-m MODE] [--wait TIME]", "stop a server and wait until it has ended",
	  "  -m smart           wait until clients have left\n"
	  "  -m fast            end them (default)\n"
	  "  -m immediate       stop at once; the next start replays the log\n"
	  "  --wait TIME        give up waiting after this time (60s)\n", run_stop, 0, 0,
	  { VALUE("-m"), VALUE("--wait") } },
	{ "restart", "-D DIR [-m MODE] [--wait TIME] [-c NAME=VALUE]...", "stop, then start", "Options as for both.\n",
	  run_restart, 0, 0, { VALUE("--wait"), LIST("-c"), VALUE("-m") } },
	{ "reload", "-D DIR", "have the server read its settings files again", "", run_reload, 0, 0, NO_OPTIONS },
	{ "status", "-D DIR", "is the server running", "Exit code 0 when it runs, 3 when not.\n", run_status, 0, 0,
	  NO_OPTIONS },
	{ "help", "[COMMAND]", "this list, or a command's page", "", run_help, 0, 1, NO_OPTIONS },
};
const int command_count = (int) (sizeof command_table / sizeof command_table[0]);

const Command *
command_find(const char *name)
{
	for (int i = 0; i < command_count; i++)
		if (strcmp(name, command_table[i].name) == 0)
			return &command_table[i];
	return NULL;
}

int
command_run(Ctl *ctl, kv_bytes *words, int n)
{
	const Command *c = command_find(words[0].data);
	Args a;
	int code;

	ctl->command = NULL;
	if (c == NULL)
		return ctl_usage(ctl, "unknown command \"%s\"; the list: %shelp", (const char *) words[0].data,
			ctl->shell ? "" : "kvctl ");
	ctl->command = c->name;
	if (n == 2 && strcmp(words[1].data, "--help") == 0) {
		command_help(ctl->out.file, c);
		return EXIT_DONE;
	}
	code = EXIT_USAGE;
	if (args_parse(ctl, c, words + 1, n - 1, &a))
		code = c->run(ctl, &a);
	ctl->command = NULL;
	if (fflush(ctl->out.file) != 0 || ferror(ctl->out.file)) {
		(void) status_fail_errno(ST_IO_ERROR, "cannot write the result");
		clearerr(ctl->out.file);
		code = code != EXIT_DONE ? code : (ctl_fail(ctl, ST_IO_ERROR), EXIT_USAGE);
	}
	return code;
}

void
command_help_list(FILE *f)
{
	fputs("usage: kvctl [OPTION...] COMMAND [ARGUMENT...]\n"
	      "       kvctl [OPTION...]                 interactive shell, or a script from standard input\n"
	      "\ncommands:\n", f);
	for (int i = 0; i < command_count; i++)
		fprintf(f, "  %-12s %s\n", command_table[i].name, command_table[i].summary);
	fputs("\noptions:\n", f);
	options_help(f);
	fputs("\nTIME is a number with ms, s, min, h or d (500ms, 5s); a bare number is milliseconds.\n"
	      "kvctl help COMMAND shows a command's page.\n"
	      "exit codes: 0 done, 1 key absent or condition false, 2 usage or local file, 3 cannot connect,\n"
	      "            4 refused by the server, 5 outcome of a write unknown\n", f);
}

void
command_help(FILE *f, const Command *c)
{
	fprintf(f, "%s - %s\n\nusage: %s %s\n", c->name, c->summary, c->name, c->arguments);
	if (c->help[0] != '\0')
		fprintf(f, "\n%s", c->help);
}

int
run_help(Ctl *ctl, const Args *a)
{
	const Command *c;

	if (a->n == 0) {
		command_help_list(ctl->out.file);
		if (ctl->shell)
			shell_meta_help(ctl->out.file);
		return EXIT_DONE;
	}
	c = command_find(a->positional[0].data);
	if (c == NULL)
		return ctl_usage(ctl, "there is no command \"%s\"", (const char *) a->positional[0].data);
	command_help(ctl->out.file, c);
	return EXIT_DONE;
}
