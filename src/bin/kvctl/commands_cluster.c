/*
 * commands_cluster.c - cluster: its status, and changes of its members.
 *
 * The server answers a status as two tables with tabs (doc/protocol.md). A person gets a sentence about the
 * cluster and a line a node in words, programs get the numbers of every node.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "kvctl.h"

#define FIELDS_MAX 32 /* of the server's tables; a newer server may have more than are known here */

/* One table of an answer: fields of the first line name those of the others. */
typedef struct Table {
	char *name[FIELDS_MAX];
	int names;
	char *next; /* the rows that have not been read */
	char *cell[FIELDS_MAX];
} Table;

/* Cut the line at *at into fields; *at moves behind it. How many fields. */
static int
take_line(char **at, char *field[FIELDS_MAX])
{
	char *p = *at, *end = strchr(p, '\n');
	int n = 0;

	*at = end != NULL ? end + 1 : p + strlen(p);
	if (end != NULL)
		*end = '\0';
	while (p != NULL && n < FIELDS_MAX) {
		field[n++] = p;
		p = strchr(p, '\t');
		if (p != NULL)
			*p++ = '\0';
	}
	return n;
}

static void
table_open(Table *t, char *text)
{
	*t = (Table){ .next = text };
	t->names = take_line(&t->next, t->name);
}

/* False at the table's end. */
static bool
table_next(Table *t)
{
	int n;

	if (*t->next == '\0' || *t->next == '\n')
		return false;
	n = take_line(&t->next, t->cell);
	while (n < t->names)
		t->cell[n++] = (char[1]){ "" };
	return true;
}

/* "" for what the server does not tell. */
static const char *
cell(const Table *t, const char *name)
{
	for (int i = 0; i < t->names; i++)
		if (strcmp(t->name[i], name) == 0)
			return t->cell[i];
	return "";
}

/* ---- for people ----------------------------------------------------------- */

/* Short: what matters is the size. */
static void
milliseconds(const char *ms, const char *none, char *out, size_t size)
{
	if (ms[0] == '\0')
		snprintf(out, size, "%s", none);
	else if (strtoull(ms, NULL, 10) < 1000)
		snprintf(out, size, "%s ms", ms);
	else if (strtoull(ms, NULL, 10) < 60000)
		snprintf(out, size, "%.1f s", strtod(ms, NULL) / 1000);
	else
		snprintf(out, size, "%llu min", strtoull(ms, NULL, 10) / 60000);
}

/* "2.1 MB, 40 ms", "0", or "" when this node can't know. */
static void
behind(const Table *t, char *out, size_t size)
{
	const char *bytes = cell(t, "lag_bytes"), *ms = cell(t, "lag_ms");
	char amount[32], time[32];

	out[0] = '\0';
	if (bytes[0] == '\0' || strcmp(cell(t, "role"), "leader") == 0)
		return;
	if (strtoull(bytes, NULL, 10) == 0) {
		snprintf(out, size, "nothing");
		return;
	}
	size_text((double) strtoull(bytes, NULL, 10), amount, sizeof amount);
	milliseconds(ms, "", time, sizeof time);
	snprintf(out, size, "%s, %s", amount, time);
}

/* On the leader: connected, and yet nothing was heard of it for an election timeout. */
static bool
is_silent(const Table *c, const Table *m)
{
	return strcmp(cell(c, "role"), "leader") == 0 && strcmp(cell(m, "self"), "1") != 0 &&
		   strcmp(cell(m, "state"), "down") != 0 && cell(m, "heard_ms")[0] != '\0' &&
		   strtoull(cell(m, "heard_ms"), NULL, 10) > strtoull(cell(c, "election_ms"), NULL, 10);
}

static void
state_words(const Table *c, const Table *t, char *out, size_t size)
{
	static const struct {
		const char *word, *shown;
	} words[] = { { "catching_up", "catching up" }, { "installing", "copying tables" },
				  { "probing", "connected" },       { "streaming", "in step" },
				  { "fetching", "fetching" },       { "recovering", "recovering" } };
	const char *word = cell(t, "state");

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(word, words[i].word) == 0)
			word = words[i].shown;
	if (is_silent(c, t))
		word = "silent";
	snprintf(out, size, "%s%s%s", word, cell(t, "trouble")[0] != '\0' ? ": " : "", cell(t, "trouble"));
}

/* Followers hear from their leader only: how long the others have been silent says nothing there. */
static void
heard_words(const Table *m, bool leads, char *out, size_t size)
{
	const char *ms = cell(m, "heard_ms");

	out[0] = '\0';
	if (strcmp(cell(m, "self"), "1") == 0 || (!leads && strcmp(cell(m, "role"), "leader") != 0))
		return;
	milliseconds(ms, leads ? "never" : "", out, size);
	if (ms[0] != '\0')
		snprintf(out + strlen(out), size - strlen(out), " ago");
}

/* What matters of the cluster's table, as sentences. */
static void
show_cluster(FILE *f, const Table *c)
{
	const char *leader = cell(c, "leader"), *alarm = cell(c, "alarm");
	char lag[32];

	fprintf(f, "cluster %s, term %s: ", cell(c, "cluster"), cell(c, "term"));
	if (leader[0] == '\0')
		fprintf(f, "no leader is known here\n");
	else
		fprintf(f, "%s leads%s\n", leader,
				strcmp(cell(c, "transferring"), "1") == 0 ? ", and hands over" : "");
	milliseconds(cell(c, "lag_ms"), "", lag, sizeof lag);
	fprintf(f, "as seen by %s (%s)", cell(c, "node"), cell(c, "role"));
	if (strcmp(leader, cell(c, "node")) != 0)
		fprintf(f, lag[0] != '\0' ? ", which is %s behind" : ", which never caught up%s", lag);
	fputc('\n', f);
	if (cell(c, "hash_asked")[0] != '\0')
		fprintf(f, "contents: %s of %s replicas agreed when last compared\n", cell(c, "hash_agree"),
				cell(c, "hash_asked"));
	if (alarm[0] != '\0')
		fprintf(f, "ALARM: %s\n", alarm);
	fputc('\n', f);
}

static void
show_people(Ctl *ctl, const Table *c, Table *m)
{
	static const char *const columns[] = { "node", "role", "state", "behind", "heard", "clients at" };
	bool leads = strcmp(cell(c, "role"), "leader") == 0;

	show_cluster(ctl->out.file, c);
	output_begin(&ctl->out, 6, columns);
	while (table_next(m)) {
		char lag[80], heard[32], state[160];

		behind(m, lag, sizeof lag);
		state_words(c, m, state, sizeof state);
		heard_words(m, leads, heard, sizeof heard);
		output_row(&ctl->out,
				   (Cell[]){ CELL_OF_STR(cell(m, "name")), CELL_OF_STR(cell(m, "role")), CELL_OF_STR(state),
							 CELL_OF_STR(lag), CELL_OF_STR(heard), CELL_OF_STR(cell(m, "client_address")) });
	}
	output_end(&ctl->out, false);
}

/* ---- for programs --------------------------------------------------------- */

static Cell
number_or_none(const char *text)
{
	return text[0] != '\0' ? CELL_OF_U64(strtoull(text, NULL, 10)) : (Cell){ .kind = CELL_NONE };
}

static void
show_programs(Ctl *ctl, const Table *c, Table *m)
{
	static const char *const columns[] = { "name",         "role",    "term",     "state", "self",
										   "lag_bytes",    "lag_ms",  "heard_ms", "acked", "client_address",
										   "peer_address", "trouble", "alarm" };

	output_begin(&ctl->out, (int) (sizeof columns / sizeof *columns), columns);
	while (table_next(m))
		output_row(&ctl->out,
				   (Cell[]){ CELL_OF_STR(cell(m, "name")), CELL_OF_STR(cell(m, "role")),
							 number_or_none(cell(c, "term")), CELL_OF_STR(cell(m, "state")),
							 number_or_none(cell(m, "self")), number_or_none(cell(m, "lag_bytes")),
							 number_or_none(cell(m, "lag_ms")), number_or_none(cell(m, "heard_ms")),
							 number_or_none(cell(m, "acked")), CELL_OF_STR(cell(m, "client_address")),
							 CELL_OF_STR(cell(m, "peer_address")), CELL_OF_STR(cell(m, "trouble")),
							 CELL_OF_STR(cell(c, "alarm")) });
	output_end(&ctl->out, false);
}

static void
show_status(Ctl *ctl, char *text)
{
	bool person = ctl->out.format == FORMAT_TABLE || (ctl->out.format == FORMAT_AUTO && ctl->out.tty);
	char *members = strstr(text, "\n\n");
	Table c, m;

	if (members == NULL)
		return;
	members[1] = '\0';
	table_open(&c, text);
	(void) table_next(&c);
	table_open(&m, members + 2);
	if (person)
		show_people(ctl, &c, &m);
	else
		show_programs(ctl, &c, &m);
}

/* ---- the command ---------------------------------------------------------- */

static const struct {
	const char *name;
	int action, least, most; /* arguments behind it */
	const char *takes;
} actions[] = {
	{ "status", KV_CLUSTER_STATUS, 0, 0, "nothing" },
	{ "add", KV_CLUSTER_ADD, 1, 1, "NAME@HOST:PORT, with the port that other nodes connect to" },
	{ "remove", KV_CLUSTER_REMOVE, 1, 1, "the NAME of a node" },
	{ "promote", KV_CLUSTER_PROMOTE, 1, 1, "the NAME of a node" },
	{ "transfer", KV_CLUSTER_TRANSFER, 0, 1, "the NAME of a node, or nothing" },
	{ "replace", KV_CLUSTER_REPLACE, 2, 2, "the NAME of the lost node and HOST:PORT of a blank one" },
	{ "check", KV_CLUSTER_CHECK, 0, 0, "nothing" },
	{ "repair", KV_CLUSTER_REPAIR, 1, 1, "the NAME of a node" },
};
#define ACTIONS ((int) (sizeof actions / sizeof *actions))

/* The i-th word behind "cluster" that begins with `start`, for completion; NULL after the last. */
const char *
cluster_action_name(const char *start, size_t len, int i)
{
	for (int k = 0; k < ACTIONS; k++)
		if (strncmp(actions[k].name, start, len) == 0 && i-- == 0)
			return actions[k].name;
	return NULL;
}

/* "n2@10.0.0.2:7401": name and address apart. `copy` holds both. */
static bool
name_and_address(char *copy, const char **name, const char **address)
{
	char *at = strchr(copy, '@');

	if (at == NULL || at == copy || strchr(at, ':') == NULL)
		return false;
	*at = '\0';
	*name = copy;
	*address = at + 1;
	return true;
}

static int
change(Ctl *ctl, int action, const char *name, const char *address, bool dry_run)
{
	kv_value text = { 0 };
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	code = kv_cluster(client, action, name, address, dry_run, (int) ctl->timeout_ms, &text);
	if (code == KV_OK)
		output_fact(&ctl->out, dry_run ? "would" : "done",
					CELL_OF_STR(text.data != NULL ? (char *) text.data : ""), NULL);
	kv_value_free(&text);
	return code == KV_OK ? EXIT_DONE : ctl_fail(ctl, code);
}

static int
status(Ctl *ctl)
{
	kv_value text = { 0 };
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	code = kv_cluster(client, KV_CLUSTER_STATUS, NULL, NULL, 0, 0, &text);
	if (code == KV_OK && text.data != NULL)
		show_status(ctl, text.data);
	kv_value_free(&text);
	return code == KV_OK ? EXIT_DONE : ctl_fail(ctl, code);
}

int
run_cluster(Ctl *ctl, const Args *a)
{
	const char *word = a->n > 0 ? a->positional[0].data : "status";
	const char *name = a->n > 1 ? a->positional[1].data : NULL,
			   *address = a->n > 2 ? a->positional[2].data : NULL;
	int i = 0, given = a->n > 0 ? a->n - 1 : 0, code;
	bool dry_run = a->option[0] != NULL;
	char *copy = NULL;

	while (i < ACTIONS && strcmp(actions[i].name, word) != 0)
		i++;
	if (i == ACTIONS)
		return ctl_usage(
			ctl, "\"%s\" is none of status, add, remove, promote, transfer, replace, check, repair", word);
	if (given < actions[i].least || given > actions[i].most)
		return ctl_usage(ctl, "cluster %s takes %s", word, actions[i].takes);
	if (actions[i].action == KV_CLUSTER_STATUS)
		return dry_run ? ctl_usage(ctl, "cluster status changes nothing: leave out --dry-run") : status(ctl);
	if (actions[i].action == KV_CLUSTER_ADD) {
		copy = strdup(name);
		if (copy == NULL || !name_and_address(copy, &name, &address)) {
			free(copy);
			return ctl_usage(ctl, "cluster %s takes %s", word, actions[i].takes);
		}
	}
	code = change(ctl, actions[i].action, name, address, dry_run);
	free(copy);
	return code;
}
