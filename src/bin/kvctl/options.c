/*
 * options.c - options of the whole program. They may stand before the command or behind it.
 */
#include "kvctl.h"

typedef enum OptionId {
	OPT_HOST, OPT_PORT, OPT_URI, OPT_DIR, OPT_FORMAT, OPT_TIMEOUT, OPT_ESCAPES, OPT_KEEP_GOING, OPT_QUIET
} OptionId;

static const struct {
	OptionId id;
	char letter; /* 0: none */
	const char *name, *value, *help;
} table[] = {
	{ OPT_HOST, 'h', "--host", "HOST", "server, or servers with commas (KVD_HOST; 127.0.0.1)" },
	{ OPT_PORT, 'p', "--port", "PORT", "its port (KVD_PORT; 7400)" },
	{ OPT_URI, 'u', "--uri", "URI", "instead of both: kv://host:port,host:port/?ack=local&read=local" },
	{ OPT_DIR, 'D', "--dir", "DIR", "data directory: of start, stop...; other commands find the port there" },
	{ OPT_FORMAT, 0, "--format", "FORMAT", OUTPUT_FORMATS },
	{ OPT_TIMEOUT, 0, "--timeout", "TIME", "how long a command may take (5s)" },
	{ OPT_ESCAPES, 'e', "--escapes", NULL, "arguments hold C escapes such as \\n and \\x00" },
	{ OPT_KEEP_GOING, 0, "--keep-going", NULL, "a script goes on after errors" },
	{ OPT_QUIET, 'q', "--quiet", NULL, "no progress, no counts" },
};

void
options_help(FILE *f)
{
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *value = table[i].value != NULL ? table[i].value : "";
		char left[40];

		if (table[i].letter != 0)
			snprintf(left, sizeof left, "-%c, %s %s", table[i].letter, table[i].name, value);
		else
			snprintf(left, sizeof left, "    %s %s", table[i].name, value);
		fprintf(f, "  %-24s %s\n", left, table[i].help);
	}
}

static int
set(Ctl *ctl, OptionId id, const char *value)
{
	switch (id) {
	case OPT_HOST:
		ctl->host = value;
		break;
	case OPT_PORT:
		ctl->port = value;
		break;
	case OPT_URI:
		ctl->uri = value;
		break;
	case OPT_DIR:
		ctl->dir = value;
		break;
	case OPT_FORMAT:
		if (format_parse(value, &ctl->out.format) == ST_OK)
			break;
		ctl_usage(ctl, "%s", status_detail());
		return -1;
	case OPT_TIMEOUT:
		if (time_parse(value, &ctl->timeout_ms) == ST_OK && ctl->timeout_ms > 0 && ctl->timeout_ms <= 86400000)
			break;
		ctl_usage(ctl, "--timeout %s: expected a time from 1ms to 24h, such as 5s", value);
		return -1;
	case OPT_ESCAPES:
		ctl->escapes = true;
		break;
	case OPT_KEEP_GOING:
		ctl->keep_going = true;
		break;
	case OPT_QUIET:
		ctl->quiet = true;
		break;
	}
	return 1;
}

int
options_take(Ctl *ctl, const kv_bytes *words, int n, int *i)
{
	const char *w = words[*i].data;

	for (size_t k = 0; k < sizeof table / sizeof table[0]; k++) {
		size_t len = strlen(table[k].name);
		const char *value = NULL;

		if (table[k].letter != 0 && w[0] == '-' && w[1] == table[k].letter && (w[2] == '\0' || table[k].value != NULL))
			value = w[2] != '\0' ? w + 2 : NULL;
		else if (strncmp(w, table[k].name, len) == 0 && (w[len] == '\0' || (w[len] == '=' && table[k].value != NULL)))
			value = w[len] == '=' ? w + len + 1 : NULL;
		else
			continue;
		++*i;
		if (table[k].value != NULL && value == NULL) {
			if (*i >= n) {
				ctl_usage(ctl, "a value is missing after %s", w);
				return -1;
			}
			value = words[(*i)++].data;
		}
		return set(ctl, table[k].id, value);
	}
	return 0;
}
