/*
 * config_internal.h - the table of settings and the conversion of values, shared by the config_*.c files.
 */
#ifndef COMMON_CONFIG_INTERNAL_H
#define COMMON_CONFIG_INTERNAL_H

#include "common/config.h"

#define CONFIG_TEXT_MAX 256 /* a value as text, with its NUL */

typedef struct Setting {
	const char *name;
	const char *help;
	const char *choices;  /* ENUM: "a,b,c" */
	const char *def_text; /* STRING and ENUM */
	int64_t def_number;   /* the others */
	int64_t min, max;
	size_t offset;        /* of the field in Config */
	ConfigType type;
	ConfigContext context;
} Setting;

extern const Setting config_table[];
extern const int config_table_count;

/*
 * Read `text` as a value of the setting into its field of *c. BAD_SETTING says what is allowed; the field
 * then keeps its value.
 */
KV_CHECK Status config_value_parse(const Setting *s, const char *text, Config *c);
/* The value in *c as text that config_value_parse() reads back. */
void config_value_format(const Setting *s, const Config *c, char out[CONFIG_TEXT_MAX]);
/* A number of the setting's base unit, in its largest unit that leaves no remainder ("64MB"). */
void config_number_format(const Setting *s, int64_t v, char out[CONFIG_TEXT_MAX]);
void config_value_copy(const Setting *s, Config *to, const Config *from);
bool config_value_equal(const Setting *s, const Config *a, const Config *b);
void config_value_default(const Setting *s, Config *c);

/* One `name = value` of a file. */
typedef struct ConfigLine {
	int number; /* from 1 */
	char name[64];
	char value[CONFIG_TEXT_MAX];
} ConfigLine;

/*
 * Take the next assignment from *rest; *found = false at the end. line->number starts at 0 and goes on
 * counting. BAD_SETTING: a line that is none, its number in line->number.
 */
KV_CHECK Status config_line_next(Slice *rest, ConfigLine *line, bool *found);

#endif
