/*
 * offline.c - arguments, exit codes and names of files for the offline tools.
 */
#include "fe_utils/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBER_DIGITS 16

void
offline_usage(const OfflineTool *t, const char *what, const char *which)
{
	fprintf(stderr, "%s: %s%s; %s --help\n", t->name, what, which, t->name);
	exit(OFFLINE_USAGE);
}

int
offline_code(Status st)
{
	if (st == ST_OK)
		return OFFLINE_WHOLE;
	if (st == ST_USAGE)
		return OFFLINE_USAGE;
	return st == ST_CORRUPT ? OFFLINE_DAMAGED : OFFLINE_UNREADABLE;
}

int
offline_failed(const OfflineTool *t, Status st)
{
	fflush(stdout); /* what was found before it stands before it */
	fprintf(stderr, "%s: %s\n", t->name, status_detail());
	return offline_code(st);
}

static const OfflineOption *
option_of(const OfflineTool *t, const char *s)
{
	for (const OfflineOption *o = t->options; o->name != NULL; o++)
		if (strcmp(o->name, s) == 0)
			return o;
	return NULL;
}

static void
set_format(OfflineTool *t, const char *name)
{
	if (format_parse(name, &t->out.format) != ST_OK)
		offline_usage(t, status_detail(), "");
}

/* The option at argv[i]; gives how many words it has. */
static int
take_option(OfflineTool *t, int argc, char **argv, int i)
{
	const OfflineOption *o = option_of(t, argv[i]);
	bool format = strcmp(argv[i], "--format") == 0;

	if (strcmp(argv[i], "--json") == 0) {
		t->out.format = FORMAT_JSON;
		return 1;
	}
	if (o == NULL && !format)
		offline_usage(t, "unknown option ", argv[i]);
	if (o != NULL && o->value == NULL) {
		*o->flag = true;
		return 1;
	}
	if (i + 1 == argc)
		offline_usage(t, "a value is missing after ", argv[i]);
	if (format)
		set_format(t, argv[i + 1]);
	else
		*o->value = argv[i + 1];
	return 2;
}

int
offline_arguments(OfflineTool *t, int argc, char **argv)
{
	bool options = true;
	int n = 0;

	t->out.file = stdout;
	t->out.tty = isatty(STDOUT_FILENO) == 1;
	for (int i = 1; i < argc;) {
		if (!options || argv[i][0] != '-') {
			argv[n++] = argv[i++];
		} else if (strcmp(argv[i], "--") == 0) {
			options = false;
			i++;
		} else if (strcmp(argv[i], "--help") == 0) {
			fputs(t->help, stdout);
			exit(OFFLINE_WHOLE);
		} else if (strcmp(argv[i], "--version") == 0) {
			printf("%s %s\n", t->name, KVD_VERSION);
			exit(OFFLINE_WHOLE);
		} else {
			i += take_option(t, argc, argv, i);
		}
	}
	return n;
}

uint64_t
offline_number(const OfflineTool *t, const char *option, const char *text, uint64_t otherwise)
{
	char *end;
	unsigned long long n;

	if (text == NULL)
		return otherwise;
	errno = 0;
	n = strtoull(text, &end, 0);
	if (text[0] == '-' || end == text || *end != '\0' || errno != 0) {
		fprintf(stderr, "%s: %s takes a number, not \"%s\"; %s --help\n", t->name, option, text, t->name);
		exit(OFFLINE_USAGE);
	}
	return n;
}

bool
offline_file(const char *path, const char *ending, uint64_t *number, char *dir, size_t size)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	size_t len = slash != NULL ? (size_t) (slash - path) : 0;

	if (strlen(name) != NUMBER_DIGITS + strlen(ending) || strcmp(name + NUMBER_DIGITS, ending) != 0 ||
		strspn(name, "0123456789abcdef") < NUMBER_DIGITS || len + 2 > size)
		return false;
	*number = strtoull(name, NULL, 16);
	if (slash == NULL)
		memcpy(dir, ".", 2);
	else
		snprintf(dir, size, "%.*s", len == 0 ? 1 : (int) len, path);
	return true;
}

bool
offline_finish(OfflineTool *t)
{
	output_free(&t->out);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return true;
	fprintf(stderr, "%s: cannot write the output: %s\n", t->name, strerror(errno));
	return false;
}
