/*
 * shell_meta.c - the \commands of the shell: one table gives names, help, completion and handlers.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kvctl.h"

#define WATCH_SECONDS 2.0
#define WATCH_MAX 86400.0

/* The last line that was a command, for \watch. */
static char *last_line;

typedef struct Meta {
	const char *name, *arguments, *help;
	int (*run)(Ctl *ctl, const char *argument); /* NULL: none was given */
} Meta;

static int
meta_timing(Ctl *ctl, const char *argument)
{
	ctl->timing = argument != NULL ? strcmp(argument, "on") == 0 : !ctl->timing;
	printf("timing is %s\n", ctl->timing ? "on" : "off");
	return EXIT_DONE;
}

static int
meta_format(Ctl *ctl, const char *argument)
{
	if (argument != NULL && format_parse(argument, &ctl->out.format) != ST_OK)
		return ctl_usage(ctl, "%s", status_detail());
	printf("format is %s\n", format_name(ctl->out.format));
	return EXIT_DONE;
}

static int
meta_expanded(Ctl *ctl, const char *argument)
{
	ctl->out.expanded = argument != NULL ? strcmp(argument, "on") == 0 : !ctl->out.expanded;
	printf("expanded display is %s\n", ctl->out.expanded ? "on" : "off");
	return EXIT_DONE;
}

static int
meta_watch(Ctl *ctl, const char *argument)
{
	char *end = NULL;
	double seconds = argument != NULL ? strtod(argument, &end) : WATCH_SECONDS;
	char *line;
	int code = EXIT_DONE;

	if ((end != NULL && *end != '\0') || !(seconds >= 0.01 && seconds <= WATCH_MAX))
		return ctl_usage(ctl, "\\watch takes seconds, from 0.01 to %.0f", WATCH_MAX);
	if (last_line == NULL)
		return ctl_usage(ctl, "\\watch repeats the last command; there is none yet");
	line = strdup(last_line);
	if (line == NULL)
		return ctl_usage(ctl, "out of memory");
	while (code < EXIT_USAGE && !ctl_interrupted) {
		struct timespec t = { (time_t) seconds, (long) ((seconds - (double) (time_t) seconds) * 1e9) };
		time_t now = time(NULL);
		char stamp[32] = "";
		struct tm tm;

		if (localtime_r(&now, &tm) != NULL)
			strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
		fprintf(ctl->out.file, "-- %s: %s\n", stamp, line);
		code = shell_line(ctl, line, strlen(line));
		if (code < EXIT_USAGE && !ctl_interrupted)
			nanosleep(&t, NULL);
	}
	free(line);
	return code;
}

static int
meta_include(Ctl *ctl, const char *argument)
{
	if (argument == NULL)
		return ctl_usage(ctl, "\\i needs the name of a file");
	return shell_script(ctl, argument);
}

static int
meta_output(Ctl *ctl, const char *argument)
{
	FILE *f = stdout;

	if (argument != NULL && (f = fopen(argument, "w")) == NULL) {
		(void) status_fail_errno(ST_USAGE, "cannot create \"%s\"", argument);
		return ctl_fail(ctl, KV_USAGE);
	}
	if (ctl->out.file != stdout && fclose(ctl->out.file) != 0)
		fprintf(stderr, "the file before could not be written completely: %s\n", strerror(errno));
	ctl->out.file = f;
	ctl->out.tty = isatty(fileno(f));
	return EXIT_DONE;
}

static int
meta_conninfo(Ctl *ctl, const char *argument)
{
	static const char *const roles[] = { "none", "leader", "follower", "learner" };
	kv_info i;
	int code;

	(void) argument;
	if (ctl_client(ctl, &code) == NULL)
		return code;
	kv_get_info(ctl->client, &i);
	if (!i.connected) {
		printf("not connected; the next command tries %s:%u\n", i.host, i.port);
		return EXIT_DONE;
	}
	printf("connected to %s:%u: kvd %s, role %s, term %llu, cluster ", i.host, i.port, i.server_version,
		i.role >= 0 && i.role < 4 ? roles[i.role] : "?", (unsigned long long) i.term);
	for (size_t k = 0; k < sizeof i.cluster_id; k++)
		printf("%02x", i.cluster_id[k]);
	printf("\nlargest key %u, value %u bytes; time limit %d ms\n", i.key_max, i.value_max, i.timeout_ms);
	return EXIT_DONE;
}

static int
meta_help(Ctl *ctl, const char *argument)
{
	const Command *c = argument != NULL ? command_find(argument) : NULL;

	if (argument != NULL && c == NULL)
		return ctl_usage(ctl, "there is no command \"%s\"", argument);
	if (c != NULL)
		command_help(stdout, c);
	else
		for (int i = 0; i < command_count; i++)
			printf("  %-12s %s\n", command_table[i].name, command_table[i].summary);
	return EXIT_DONE;
}

static int
meta_list(Ctl *ctl, const char *argument)
{
	(void) ctl;
	(void) argument;
	shell_meta_help(stdout);
	return EXIT_DONE;
}

static int
meta_quit(Ctl *ctl, const char *argument)
{
	(void) argument;
	ctl->quit = true;
	return EXIT_DONE;
}

static const Meta table[] = {
	{ "\\?", "", "this list", meta_list },
	{ "\\conninfo", "", "which server this is connected to", meta_conninfo },
	{ "\\format", "[FORMAT]", "auto, " OUTPUT_FORMATS, meta_format },
	{ "\\help", "[COMMAND]", "commands, or a command's page", meta_help },
	{ "\\i", "FILE", "run the commands of a file", meta_include },
	{ "\\o", "[FILE]", "results go to a file; without one, here again", meta_output },
	{ "\\q", "", "end", meta_quit },
	{ "\\timing", "[on|off]", "show how long each command takes", meta_timing },
	{ "\\watch", "[SECONDS]", "repeat the last command until Ctrl-C", meta_watch },
	{ "\\x", "[on|off]", "tables with one line a field", meta_expanded },
};

void
shell_meta_help(FILE *f)
{
	fputs("shell:\n", f);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		fprintf(f, "  %-10s %-10s %s\n", table[i].name, table[i].arguments, table[i].help);
	fputs("A word with blanks or bytes that can't be typed: \"a b\", \"\\x00\\n\" (C escapes), or 'as it is'. # "
		"begins a comment.\n", f);
}

void
shell_remember(const char *line, size_t len)
{
	char *copy = strndup(line, len);

	if (copy == NULL)
		return; /* \watch repeats the one before */
	free(last_line);
	last_line = copy;
}

int
shell_meta(Ctl *ctl, const char *line, size_t len)
{
	size_t name_len = 0;
	int code = EXIT_USAGE;
	Words w;

	while (name_len < len && line[name_len] != ' ' && line[name_len] != '\t' && line[name_len] != '\r')
		name_len++;
	if (words_split(&w, line + name_len, len - name_len) != ST_OK)
		ctl_usage(ctl, "%s", status_detail());
	else if (w.n > 1)
		ctl_usage(ctl, "%.*s takes at most one argument", (int) name_len, line);
	else {
		const Meta *m = NULL;

		for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
			if (strlen(table[i].name) == name_len && memcmp(table[i].name, line, name_len) == 0)
				m = &table[i];
		code = m != NULL ? m->run(ctl, w.n > 0 ? w.word[0].data : NULL)
			: ctl_usage(ctl, "unknown command %.*s; \\? lists them", (int) name_len, line);
	}
	words_free(&w);
	return code;
}

const char *
completion(const char *start, size_t len, int i)
{
	for (int k = 0; k < command_count; k++)
		if (strncmp(command_table[k].name, start, len) == 0 && i-- == 0)
			return command_table[k].name;
	for (size_t k = 0; k < sizeof table / sizeof table[0]; k++)
		if (strncmp(table[k].name, start, len) == 0 && i-- == 0)
			return table[k].name;
	return NULL;
}
