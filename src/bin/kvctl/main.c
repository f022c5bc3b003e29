/*
 * main.c - kvctl: options, then one command, a script or the shell.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvctl.h"

/* The arguments as words; with -e their C escapes undone. NULL after a message. */
static kv_bytes *
words_of(int argc, char **argv)
{
	kv_bytes *words = calloc((size_t) argc + 1, sizeof *words);

	if (words == NULL) {
		fputs("kvctl: out of memory\n", stderr);
		return NULL;
	}
	for (int i = 0; i < argc; i++)
		words[i] = kv_str(argv[i]);
	return words;
}

/* -e may stand behind the command too, but what is before it has to be undone as well. */
static bool
wants_escapes(char **argv, int n)
{
	for (int i = 0; i < n && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-e") == 0 || strcmp(argv[i], "--escapes") == 0)
			return true;
	return false;
}

/* -e: escapes never make a word longer, so it is done in place. */
static bool
unescape_words(Ctl *ctl, kv_bytes *words, int n, char **argv)
{
	Buf b = { 0 };
	bool ok = true;

	for (int i = 0; i < n && ok; i++) {
		buf_clear(&b);
		ok = unescape(&b, words[i].data, words[i].len) == ST_OK;
		if (ok && b.len > 0)
			memcpy(argv[i], b.data, b.len);
		if (ok) {
			argv[i][b.len] = '\0';
			words[i].len = b.len;
		}
	}
	buf_free(&b);
	if (!ok)
		ctl_usage(ctl, "%s", status_detail());
	return ok;
}

int
main(int argc, char **argv)
{
	Ctl ctl = { .exe = argv[0], .out = { .file = stdout, .tty = isatty(STDOUT_FILENO) } };
	kv_bytes *words = words_of(argc, argv);
	int i = 1;
	int taken = 0;
	int code = EXIT_USAGE;

	if (words == NULL)
		return EXIT_USAGE;
	signal(SIGPIPE, SIG_DFL); /* nobody reads on (| head): end quietly; for sockets it is never raised */
	while (i < argc && argv[i][0] == '-' && (taken = options_take(&ctl, words, argc, &i)) > 0)
		;
	if (taken < 0) {
		/* the message was printed */
	} else if (i < argc && strcmp(argv[i], "--help") == 0) {
		command_help_list(stdout);
		code = EXIT_DONE;
	} else if (i < argc && (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0)) {
		printf("kvctl %s\n", KVD_VERSION);
		code = EXIT_DONE;
	} else if (i < argc && argv[i][0] == '-') {
		ctl_usage(&ctl, "unknown option %s; see kvctl --help", argv[i]);
	} else if (i < argc) {
		if (!(ctl.escapes || wants_escapes(argv + i, argc - i)) || unescape_words(&ctl, words + i, argc - i, argv + i))
			code = command_run(&ctl, words + i, argc - i);
	} else
		code = isatty(STDIN_FILENO) ? shell_run(&ctl) : shell_script(&ctl, "-");
	kv_close(ctl.client);
	output_free(&ctl.out);
	free(words);
	return code;
}
