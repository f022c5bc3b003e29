/*
 * config.c - the layers of settings and what is in force.
 *
 * Runs in every process; no locks: the values are the process's own. Invariant: `config`, `origin` and
 * `differs` change together and only after every layer was read without an error.
 */
#include "common/config.h"

#include <stdlib.h>
#include <string.h>

#include "common/kv_assert.h"
#include "config_internal.h"

#define SETTINGS_MAX 128 /* room in the arrays below; checked by config_init() */

typedef struct Origin {
	ConfigSource source;
	int line; /* in its file, else 0 */
} Origin;

Config config;

static Origin origin[SETTINGS_MAX];
static bool differs[SETTINGS_MAX]; /* the layers hold another value, which needs a restart */

static Config command_line;
static bool on_command_line[SETTINGS_MAX];

void
config_init(void)
{
	KV_ASSERT(config_table_count <= SETTINGS_MAX);
	memset(&config, 0, sizeof config);
	for (int i = 0; i < config_table_count; i++)
		config_value_default(&config_table[i], &config);
	memset(origin, 0, sizeof origin);
	memset(differs, 0, sizeof differs);
	memset(on_command_line, 0, sizeof on_command_line);
}

int
config_count(void)
{
	return config_table_count;
}

int
config_find(const char *name)
{
	for (int i = 0; i < config_table_count; i++)
		if (strcmp(config_table[i].name, name) == 0)
			return i;
	return -1;
}

/* Read name = value into *c; *index tells which setting it was. */
static Status
assign(const char *name, const char *value, Config *c, int *index)
{
	*index = config_find(name);
	if (*index < 0)
		return status_fail(ST_BAD_SETTING, "unknown setting \"%s\"", name);
	return config_value_parse(&config_table[*index], value, c);
}

Status
config_check(const char *name, const char *value)
{
	Config scratch;
	int index;

	return assign(name, value, &scratch, &index);
}

Status
config_set_command_line(const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	char name[64];
	size_t len;
	int i;

	if (equals == NULL)
		return status_fail(ST_BAD_SETTING, "-c %s: expected name=value", assignment);
	len = (size_t) (equals - assignment);
	if (len >= sizeof name)
		return status_fail(ST_BAD_SETTING, "-c: unknown setting \"%.*s\"", (int) len, assignment);
	memcpy(name, assignment, len);
	name[len] = '\0';
	if (assign(name, equals + 1, &command_line, &i) != ST_OK)
		return status_prefix(ST_BAD_SETTING, "-c");
	on_command_line[i] = true;
	config_value_copy(&config_table[i], &config, &command_line);
	origin[i] = (Origin){ SOURCE_COMMAND_LINE, 0 };
	return ST_OK;
}

static Status
read_text(Slice text, const char *file, ConfigSource source, Config *c, Origin *from)
{
	ConfigLine line = { .number = 0 };
	bool found;

	for (;;) {
		Status s = config_line_next(&text, &line, &found);
		int i;

		if (s == ST_OK && !found)
			return ST_OK;
		if (s == ST_OK)
			s = assign(line.name, line.value, c, &i);
		if (s != ST_OK)
			return status_prefix(s, "%s:%d", file, line.number);
		from[i] = (Origin){ source, line.number };
	}
}

/* KVD_<NAME> of each setting; other variables that begin so are somebody else's (KVD_HOST). */
static Status
read_environment(Config *c, Origin *from)
{
	for (int i = 0; i < config_table_count; i++) {
		char name[80] = "KVD_";
		const char *value;

		for (size_t k = 0; config_table[i].name[k] != '\0'; k++) {
			char ch = config_table[i].name[k];

			KV_ASSERT(k + 6 < sizeof name);
			name[k + 4] = ch >= 'a' && ch <= 'z' ? (char) (ch - 'a' + 'A') : ch;
		}
		value = getenv(name);
		if (value == NULL)
			continue;
		if (config_value_parse(&config_table[i], value, c) != ST_OK)
			return status_prefix(ST_BAD_SETTING, "environment %s", name);
		from[i] = (Origin){ SOURCE_ENV, 0 };
	}
	return ST_OK;
}

Status
config_apply(Slice conf, Slice auto_conf, bool reload, int *restart_needed)
{
	Config next = { 0 };
	Origin from[SETTINGS_MAX] = { { SOURCE_DEFAULT, 0 } };
	int waiting = 0;

	for (int i = 0; i < config_table_count; i++)
		config_value_default(&config_table[i], &next);
	KV_TRY(read_text(conf, "kvd.conf", SOURCE_FILE, &next, from));
	KV_TRY(read_text(auto_conf, "kvd.auto.conf", SOURCE_AUTO_FILE, &next, from));
	KV_TRY(read_environment(&next, from));
	for (int i = 0; i < config_table_count; i++) {
		const Setting *s = &config_table[i];

		if (on_command_line[i]) {
			config_value_copy(s, &next, &command_line);
			from[i] = (Origin){ SOURCE_COMMAND_LINE, 0 };
		}
		differs[i] = reload && s->context == CONFIG_RESTART && !config_value_equal(s, &config, &next);
		waiting += differs[i];
		if (differs[i])
			continue;
		config_value_copy(s, &config, &next);
		origin[i] = from[i];
	}
	if (restart_needed != NULL)
		*restart_needed = waiting;
	return ST_OK;
}

void
config_item(int i, ConfigItem *out)
{
	const Setting *s = &config_table[i];
	Config defaults;

	KV_ASSERT(i >= 0 && i < config_table_count);
	config_value_default(s, &defaults);
	out->name = s->name;
	out->help = s->help;
	out->unit = s->type == CONFIG_SIZE || s->type == CONFIG_SIZE_POW2 ? "B" : s->type == CONFIG_TIME_MS ? "ms" : "";
	config_value_format(s, &config, out->value);
	config_value_format(s, &defaults, out->def);
	out->source = origin[i].source;
	out->line = origin[i].line;
	out->context = s->context;
	out->restart_needed = differs[i];
}

const char *
config_source_name(ConfigSource s)
{
	static const char *const names[] = { "default", "kvd.conf", "kvd.auto.conf", "environment", "command line" };

	KV_ASSERT((unsigned) s < sizeof names / sizeof names[0]);
	return names[s];
}
