/*
 * shell_input.c - a line from a person.
 *
 * WITH_LIBEDIT: editing, completion with TAB, history in ~/.kvctl_history (mode 0600; a line that begins with
 * a blank is not kept). Without: plain lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "kvctl.h"

#ifdef WITH_LIBEDIT
#include <histedit.h>

#define HISTORY_LINES 2000

static EditLine *editor;
static History *history_list;
static char history_path[CTL_PATH_MAX];
static char prompt_text[300];

static char *
give_prompt(EditLine *e)
{
	(void) e;
	return prompt_text;
}

/* While a line is read SIGINT is blocked, except in wait_for_input(): this is the mask there. */
static sigset_t waiting_mask;

/* Until there is something to read; false: Ctrl-C came, now or since the line was begun. */
static bool
wait_for_input(void)
{
	while (!ctl_interrupted) {
		fd_set in;

		FD_ZERO(&in);
		FD_SET(STDIN_FILENO, &in);
		if (pselect(STDIN_FILENO + 1, &in, NULL, NULL, NULL, &waiting_mask) >= 0 || errno != EINTR)
			return true;
	}
	return false;
}

/* One character. Ctrl-C ends the line: libedit's own reader would go on waiting. */
static int
read_char(EditLine *e, wchar_t *out)
{
	mbstate_t state;
	char bytes[16];
	size_t have = 0;

	(void) e;
	for (;;) {
		ssize_t n = wait_for_input() ? read(STDIN_FILENO, bytes + have, 1) : -1;
		size_t used;

		if (n <= 0)
			return (int) n;
		have++;
		memset(&state, 0, sizeof state);
		used = mbrtowc(out, bytes, have, &state);
		if (used != (size_t) -2 || have == sizeof bytes) {
			if (used == (size_t) -1 || used == (size_t) -2)
				*out = L'?';
			return 1;
		}
	}
}

/* TAB: the rest of the name if there is one only, as much as all have in common, or the list. */
static unsigned char
complete(EditLine *e, int ch)
{
	const LineInfo *info = el_line(e);
	const char *start = info->cursor;
	const char *first, *other;
	const char *(*names)(const char *, size_t, int) = completion;
	size_t len, common;
	bool only;

	(void) ch;
	while (start > info->buffer && start[-1] != ' ')
		start--;
	/* Names stand at the beginning, and behind help; cluster has words of its own. */
	if (start == info->buffer + 8 && strncmp(info->buffer, "cluster ", 8) == 0)
		names = cluster_action_name;
	else if (start > info->buffer && strncmp(info->buffer, "help ", 5) != 0 && strncmp(info->buffer, "\\help ", 6) != 0)
		return CC_ERROR;
	len = (size_t) (info->cursor - start);
	first = names(start, len, 0);
	if (first == NULL)
		return CC_ERROR;
	common = strlen(first);
	for (int i = 1; (other = names(start, len, i)) != NULL; i++) {
		size_t n = 0;

		while (n < common && other[n] == first[n])
			n++;
		common = n;
	}
	only = names(start, len, 1) == NULL;
	if (common > len || only) {
		char rest[64];

		snprintf(rest, sizeof rest, "%.*s%s", (int) (common - len), first + len, only ? " " : "");
		return el_insertstr(e, rest) == 0 ? CC_REFRESH : CC_ERROR;
	}
	putchar('\n');
	for (int i = 0; (other = names(start, len, i)) != NULL; i++)
		printf("%s  ", other);
	putchar('\n');
	return CC_REDISPLAY;
}

static void
open_history(void)
{
	const char *home = getenv("HOME");
	HistEvent event;
	int fd;

	history_list = history_init();
	if (history_list == NULL)
		return;
	history(history_list, &event, H_SETSIZE, HISTORY_LINES);
	history(history_list, &event, H_SETUNIQUE, 1);
	el_set(editor, EL_HIST, history, history_list);
	if (home == NULL ||
		(size_t) snprintf(history_path, sizeof history_path, "%s/.kvctl_history", home) >= sizeof history_path) {
		history_path[0] = '\0';
		return;
	}
	/* Made here, so that it never exists with wider rights. */
	fd = open(history_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fchmod(fd, 0600) != 0)
		fprintf(stderr, "history is not kept: %s: %s\n", history_path, strerror(errno));
	if (fd < 0) {
		history_path[0] = '\0';
		return;
	}
	close(fd);
	history(history_list, &event, H_LOAD, history_path);
}

void
input_open(void)
{
	setlocale(LC_CTYPE, "");
	editor = el_init("kvctl", stdin, stdout, stderr);
	if (editor == NULL)
		return;
	el_set(editor, EL_PROMPT, give_prompt);
	el_set(editor, EL_EDITOR, "emacs");
	el_set(editor, EL_GETCFN, read_char);
	el_set(editor, EL_ADDFN, "kvctl-complete", "complete a command", complete);
	el_set(editor, EL_BIND, "^I", "kvctl-complete", NULL);
	el_source(editor, NULL);
	open_history();
}

static void
edited_line(const char *prompt, char **line)
{
	HistEvent event;
	sigset_t interrupt;
	const char *text;
	int n = 0;

	snprintf(prompt_text, sizeof prompt_text, "%s", prompt);
	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_BLOCK, &interrupt, &waiting_mask);
	text = el_gets(editor, &n);
	sigprocmask(SIG_SETMASK, &waiting_mask, NULL);
	if (text == NULL || n <= 0) {
		putchar('\n');
		*line = ctl_interrupted ? strdup("") : NULL;
		return;
	}
	*line = strndup(text, text[n - 1] == '\n' ? (size_t) n - 1 : (size_t) n);
	if (history_list != NULL && *line != NULL && (*line)[0] != ' ' && (*line)[0] != '\0')
		history(history_list, &event, H_ENTER, *line);
}

void
input_close(void)
{
	HistEvent event;

	if (history_list != NULL) {
		if (history_path[0] != '\0')
			history(history_list, &event, H_SAVE, history_path);
		history_end(history_list);
	}
	if (editor != NULL)
		el_end(editor);
}

#else

void
input_open(void)
{
	setlocale(LC_CTYPE, "");
}

void
input_close(void)
{
}

#endif

void
input_line(const char *prompt, char **line)
{
	size_t size = 0;
	ssize_t n;

#ifdef WITH_LIBEDIT
	if (editor != NULL) {
		edited_line(prompt, line);
		return;
	}
#endif
	*line = NULL;
	fputs(prompt, stdout);
	fflush(stdout);
	n = getline(line, &size, stdin);
	if (n > 0) {
		(*line)[strcspn(*line, "\n")] = '\0';
		return;
	}
	putchar('\n');
	if (ctl_interrupted) {
		clearerr(stdin);
		if (*line != NULL)
			(*line)[0] = '\0';
		return;
	}
	free(*line);
	*line = NULL;
}
