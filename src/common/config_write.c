/*
 * config_write.c - the sample file and the text of kvd.auto.conf, both from the table of settings.
 *
 * Pure.
 */
#include <string.h>

#include "config_internal.h"

/* What is allowed, as a sentence. */
static void
write_allowed(FILE *out, const Setting *s)
{
	char min[CONFIG_TEXT_MAX], max[CONFIG_TEXT_MAX];

	switch (s->type) {
	case CONFIG_BOOL:
		fprintf(out, "on or off.");
		return;
	case CONFIG_ENUM:
		fprintf(out, "One of %s.", s->choices);
		return;
	case CONFIG_STRING:
		fprintf(out, "At most %lld bytes.", (long long) s->max);
		return;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_SIZE_POW2:
	case CONFIG_TIME_MS:
		config_number_format(s, s->min, min);
		config_number_format(s, s->max, max);
		fprintf(out, s->type == CONFIG_SIZE_POW2 ? "%s to %s, a power of two." : "%s to %s.", min, max);
	}
}

void
config_write_sample(FILE *out)
{
	fprintf(out, "# kvd.conf - settings of this node. A line is: name = value  # comment\n"
		"#\n"
		"# Lines below are commented out and show the defaults. Later layers win: this file,\n"
		"# kvd.auto.conf (written by the server), environment KVD_<NAME>, command line -c name=value.\n"
		"# Sizes take B kB MB GB TB, times us ms s min h d. \"kvd -D DIR --config\" shows what is in force.\n"
		"# After a change: kvctl reload -D DIR; settings marked (restart) take effect at the next start.\n");
	for (int i = 0; i < config_table_count; i++) {
		const Setting *s = &config_table[i];
		const char *quote = s->type == CONFIG_STRING ? "'" : "";
		Config defaults;
		char text[CONFIG_TEXT_MAX];

		config_value_default(s, &defaults);
		config_value_format(s, &defaults, text);
		fprintf(out, "\n# %s\n# ", s->help);
		write_allowed(out, s);
		fprintf(out, "%s\n", s->context == CONFIG_RESTART ? " (restart)" : "");
		fprintf(out, "#%s = %s%s%s\n", s->name, quote, text, quote);
	}
}

static Status
append_assignment(Buf *out, const char *name, const char *value)
{
	KV_TRY(buf_printf(out, "%s = '", name));
	for (const char *p = value; *p != '\0'; p++)
		KV_TRY(buf_append(out, *p == '\'' ? "''" : p, *p == '\'' ? 2 : 1));
	return buf_printf(out, "'\n");
}

Status
config_auto_text(Slice auto_conf, const char *name, const char *value, Buf *out)
{
	ConfigLine line = { .number = 0 };
	bool found;

	if (config_find(name) < 0)
		return status_fail(ST_BAD_SETTING, "unknown setting \"%s\"", name);
	if (value != NULL)
		KV_TRY(config_check(name, value));
	KV_TRY(buf_printf(out, "# Written by the server: do not edit, kvd.conf is for you. This file wins over it.\n"));
	for (;;) {
		Status s = config_line_next(&auto_conf, &line, &found);

		if (s != ST_OK)
			return status_prefix(s, "kvd.auto.conf:%d", line.number);
		if (!found)
			break;
		if (strcmp(line.name, name) != 0)
			KV_TRY(append_assignment(out, line.name, line.value));
	}
	return value != NULL ? append_assignment(out, name, value) : ST_OK;
}
