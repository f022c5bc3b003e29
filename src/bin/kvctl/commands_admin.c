/*
 * commands_admin.c - ping, stats, config, checkpoint.
 */
#include <inttypes.h>
#include <time.h>

#include "kvctl.h"

#define CHECKPOINT_TIMEOUT_MS 600000 /* merging all tables of a large database; --timeout says otherwise */
#define PING_PAUSE_MS 1000

int
run_ping(Ctl *ctl, const Args *a)
{
	uint64_t n = 1;
	uint64_t ns;
	int code = EXIT_DONE;
	kv_client *client;

	if (a->option[0] != NULL && u64_parse(a->option[0]->data, &n) != ST_OK)
		return ctl_usage(ctl, "--count: %s", status_detail());
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	for (uint64_t i = 0; i < n && !ctl_interrupted; i++) {
		struct timespec pause = { PING_PAUSE_MS / 1000, PING_PAUSE_MS % 1000 * 1000000L };
		char rtt[32], shown[64];

		if (i > 0)
			nanosleep(&pause, NULL);
		code = kv_ping(client, &ns);
		if (code != KV_OK)
			return ctl_fail(ctl, code);
		duration_text(ns, rtt, sizeof rtt);
		snprintf(shown, sizeof shown, "PONG %s", rtt);
		output_fact(&ctl->out, "rtt_us", CELL_OF_U64((ns + 500) / 1000), shown);
		fflush(ctl->out.file);
	}
	return EXIT_DONE;
}

/* Rows from lines of fields; fewer fields leave the last cells empty. */
static void
show_lines(Ctl *ctl, kv_value *text, const char *separator, int n, const char *const *columns)
{
	char *line = text->data;

	output_begin(&ctl->out, n, columns);
	while (line != NULL && *line != '\0') {
		Cell cells[OUTPUT_COLUMNS_MAX] = { { .kind = CELL_NONE } };
		char *next = strchr(line, '\n');
		char *field = line;

		if (next != NULL)
			*next++ = '\0';
		for (int i = 0; i < n && field != NULL; i++) {
			char *end = i < n - 1 ? strstr(field, separator) : NULL;

			if (end != NULL)
				*end++ = '\0';
			cells[i] = CELL_OF_STR(field);
			field = end;
		}
		output_row(&ctl->out, cells);
		line = next;
	}
	output_end(&ctl->out, false);
}

int
run_stats(Ctl *ctl, const Args *a)
{
	static const char *const columns[] = { "name", "value" };
	kv_value text = { 0 };
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	code = kv_stats(client, a->n > 0 ? a->positional[0].data : NULL, &text);
	if (code == KV_OK)
		show_lines(ctl, &text, " ", 2, columns);
	kv_value_free(&text);
	return code == KV_OK ? EXIT_DONE : ctl_fail(ctl, code);
}

/* Lines name TAB value TAB unit TAB source TAB restart TAB default TAB help. */
static void
show_config(Ctl *ctl, kv_value *text, bool value_only)
{
	static const char *const columns[] = { "name", "value", "unit", "source", "restart", "default", "help" };
	char *value, *end;

	if (!value_only) {
		show_lines(ctl, text, "\t", 7, columns);
		return;
	}
	value = text->data != NULL ? strchr(text->data, '\t') : NULL;
	end = value != NULL ? strchr(++value, '\t') : NULL;
	if (end != NULL)
		*end = '\0';
	output_fact(&ctl->out, "value", CELL_OF_STR(value), value);
}

/*
 * The answer to set. For a person, a setting that waits for a restart is one sentence: its row holds the value in
 * force.
 */
static void
show_set(Ctl *ctl, kv_value *text, const char *value)
{
	char *line = text->data, *field[5], *p = line;
	bool person = ctl->out.format == FORMAT_TABLE || (ctl->out.format == FORMAT_AUTO && ctl->out.tty);

	for (int i = 0; i < 5; i++) {
		field[i] = p;
		p = p != NULL ? strchr(p, '\t') : NULL;
		p = p != NULL ? p + 1 : NULL;
	}
	if (!person || p == NULL || strncmp(field[4], "pending\t", 8) != 0) {
		show_config(ctl, text, false);
		return;
	}
	fprintf(ctl->out.file, "%.*s %.*s -> %s (after a restart)\n", (int) (field[1] - line - 1), line,
		(int) (field[2] - field[1] - 1), field[1], value);
}

int
run_config(Ctl *ctl, const Args *a)
{
	static const struct { const char *name; int least, most; } actions[] = {
		{ "list", 0, 1 }, { "get", 1, 1 }, { "set", 2, 2 }, { "reset", 1, 1 }, { "reload", 0, 0 } };
	enum { LIST, GET, SET, RESET, RELOAD, ACTIONS };
	const char *name = a->n > 1 ? a->positional[1].data : NULL;
	int action = LIST;
	kv_value text = { 0 };
	int code = EXIT_DONE;
	kv_client *client;

	while (a->n > 0 && action < ACTIONS && strcmp(actions[action].name, a->positional[0].data) != 0)
		action++;
	if (action == ACTIONS)
		return ctl_usage(ctl, "\"%s\" is none of list, get, set, reset, reload", (const char *) a->positional[0].data);
	if (a->n > 0 && (a->n - 1 < actions[action].least || a->n - 1 > actions[action].most))
		return ctl_usage(ctl, "config %s: wrong number of arguments", actions[action].name);
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	if (action == SET)
		code = kv_config_set(client, name, a->positional[2].data, &text);
	else if (action == RESET)
		code = kv_config_reset(client, name, &text);
	else if (action == RELOAD)
		code = kv_config_reload(client);
	else
		code = kv_config_list(client, name, &text);
	if (code == KV_OK && action == SET)
		show_set(ctl, &text, a->positional[2].data);
	else if (code == KV_OK && action != RELOAD)
		show_config(ctl, &text, action == GET);
	kv_value_free(&text);
	return code == KV_OK ? EXIT_DONE : ctl_fail(ctl, code);
}

int
run_checkpoint(Ctl *ctl, const Args *a)
{
	int timeout_ms = ctl->timeout_ms > 0 ? (int) ctl->timeout_ms : CHECKPOINT_TIMEOUT_MS;
	uint64_t lsn;
	char shown[64];
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	code = kv_checkpoint(client, a->option[0] != NULL, timeout_ms, &lsn);
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	snprintf(shown, sizeof shown, "OK (log below %" PRIu64 " is in tables)", lsn);
	output_fact(&ctl->out, "lsn", CELL_OF_U64(lsn), shown);
	return EXIT_DONE;
}
