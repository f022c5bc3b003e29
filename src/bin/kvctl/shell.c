/*
 * shell.c - many commands, from a person or a script.
 *
 * Ctrl-C: the handler notes it and cancels the call under way; the command ends, the shell goes on.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvctl.h"
#include "port/clock.h"

#define DEPTH_MAX 16 /* of \i within \i: more is a script that reads itself */

static kv_client *volatile cancel_client;

static void
on_interrupt(int signo)
{
	(void) signo;
	ctl_interrupted = 1;
	if (cancel_client != NULL)
		kv_cancel(cancel_client);
}

static void
catch_interrupts(void)
{
	struct sigaction action = { .sa_handler = on_interrupt };

	/* Without SA_RESTART: waiting for input or for the server ends. */
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
}

/* A command, with its time. */
static int
timed_command(Ctl *ctl, Words *w)
{
	uint64_t start = clock_mono_ns();
	char took[32];
	int code = command_run(ctl, w->word, (int) w->n);

	if (ctl->timing) {
		duration_text(clock_mono_ns() - start, took, sizeof took);
		fprintf(ctl->out.file, "time: %s\n", took);
	}
	return code;
}

int
shell_line(Ctl *ctl, const char *line, size_t len)
{
	Words w;
	int code = EXIT_DONE;
	Status st;

	while (len > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	/* ctl_interrupted is not cleared here: whoever repeats lines must see what came between two of them. */
	ctl->command = NULL;
	if (len > 0 && *line == '\\')
		return shell_meta(ctl, line, len);
	st = words_split(&w, line, len);
	if (st != ST_OK)
		code = ctl_usage(ctl, "%s", status_detail());
	else if (w.n > 0 && (strcmp(w.word[0].data, "quit") == 0 || strcmp(w.word[0].data, "exit") == 0))
		ctl->quit = true;
	else if (w.n > 0) {
		cancel_client = ctl->client;
		shell_remember(line, len);
		code = timed_command(ctl, &w);
		cancel_client = NULL;
	}
	words_free(&w);
	return code;
}

/* Codes of 2 and more are errors; 1 is an answer (key absent, condition false) and does not stop a script. */
static int
run_lines(Ctl *ctl, int fd)
{
	Lines lines = { .fd = fd };
	int code = EXIT_DONE;

	while (!ctl->quit && !ctl_interrupted) {
		const char *line;
		size_t len;
		int one;

		if (lines_next(&lines, &line, &len) != ST_OK) {
			code = ctl_fail(ctl, KV_USAGE);
			break;
		}
		if (line == NULL)
			break;
		ctl->line = lines.number;
		one = shell_line(ctl, line, len);
		if (one > code)
			code = one;
		if (one >= EXIT_USAGE && !ctl->keep_going)
			break;
	}
	lines_free(&lines);
	return code;
}

int
shell_script(Ctl *ctl, const char *path)
{
	bool is_stdin = strcmp(path, "-") == 0;
	bool shell = ctl->shell;
	const char *source = ctl->source;
	unsigned long line = ctl->line;
	int fd = STDIN_FILENO;
	int code;

	if (ctl->depth == DEPTH_MAX)
		return ctl_usage(ctl, "scripts within scripts are nested too deep (%d)", DEPTH_MAX);
	if (!is_stdin && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
		(void) status_fail_errno(ST_USAGE, "cannot open \"%s\"", path);
		return ctl_fail(ctl, KV_USAGE);
	}
	if (ctl->depth++ == 0)
		catch_interrupts();
	ctl->shell = ctl->out.session = true;
	ctl->source = is_stdin ? "stdin" : path;
	code = run_lines(ctl, fd);
	ctl->shell = shell;
	ctl->source = source;
	ctl->line = line;
	ctl->depth--;
	if (!is_stdin)
		close(fd);
	return code;
}

static void
prompt(Ctl *ctl, char *out, size_t size)
{
	kv_info info;

	if (ctl->client == NULL) {
		snprintf(out, size, "kvctl*> ");
		return;
	}
	kv_get_info(ctl->client, &info);
	snprintf(out, size, strchr(info.host, ':') != NULL ? "[%s]:%u%s> " : "%s:%u%s> ", info.host, info.port,
		info.connected ? "" : "*");
}

static void
greet(Ctl *ctl)
{
	kv_info info;
	int code;

	printf("kvctl %s; help lists the commands, \\? the \\commands, \\q ends\n", KVD_VERSION);
	if (ctl_client(ctl, &code) == NULL)
		return;
	if (kv_reconnect(ctl->client) != KV_OK) {
		ctl_fail(ctl, KV_CANNOT_CONNECT);
		return;
	}
	kv_get_info(ctl->client, &info);
	printf("connected to %s:%u, kvd %s\n", info.host, info.port, info.server_version);
}

int
shell_run(Ctl *ctl)
{
	char text[300];
	char *line;

	ctl->shell = ctl->out.session = true;
	ctl->depth = 1;
	catch_interrupts();
	greet(ctl);
	input_open();
	while (!ctl->quit) {
		prompt(ctl, text, sizeof text);
		ctl_interrupted = 0;
		input_line(text, &line);
		if (line == NULL)
			break;
		shell_line(ctl, line, strlen(line));
		free(line);
	}
	input_close();
	return EXIT_DONE;
}
