/*
 * config_value.c - the table of settings; values from text and back.
 *
 * Pure. Numbers are integers with an optional unit after optional blanks; no unit means the base unit
 * (bytes, milliseconds).
 */
#include <stdio.h>
#include <string.h>

#include "common/kv_assert.h"
#include "config_internal.h"

#define NUMBER_DEF_BOOL(d) d
#define NUMBER_DEF_INT(d) d
#define NUMBER_DEF_SIZE(d) d
#define NUMBER_DEF_SIZE_POW2(d) d
#define NUMBER_DEF_TIME_MS(d) d
#define NUMBER_DEF_STRING(d) 0
#define NUMBER_DEF_ENUM(d) 0
#define TEXT_DEF_BOOL(d) NULL
#define TEXT_DEF_INT(d) NULL
#define TEXT_DEF_SIZE(d) NULL
#define TEXT_DEF_SIZE_POW2(d) NULL
#define TEXT_DEF_TIME_MS(d) NULL
#define TEXT_DEF_STRING(d) d
#define TEXT_DEF_ENUM(d) d

#define SETTING(t, n, def, lo, hi, ch, ctx, h) \
	{ .name = #n, .help = h, .choices = ch, .def_text = TEXT_DEF_##t(def), .def_number = NUMBER_DEF_##t(def), \
		.min = lo, .max = hi, .offset = offsetof(Config, n), .type = CONFIG_##t, .context = CONFIG_##ctx },

const Setting config_table[] = { CONFIG_LIST(SETTING) };
const int config_table_count = (int) (sizeof config_table / sizeof config_table[0]);

typedef struct Unit {
	const char *name;
	int64_t factor;
} Unit;

/* Smallest first. "us" has no whole factor: see unit_scale(). */
static const Unit size_units[] = { { "B", 1 }, { "kB", 1024 }, { "MB", 1024 * 1024 }, { "GB", 1024 * 1024 * 1024 },
	{ "TB", INT64_C(1024) * 1024 * 1024 * 1024 }, { NULL, 0 } };
static const Unit time_units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60 * 1000 }, { "h", 3600 * 1000 },
	{ "d", 24 * 3600 * 1000 }, { NULL, 0 } };
#define US_PER_MS 1000

static bool
is_size(const Setting *s)
{
	return s->type == CONFIG_SIZE || s->type == CONFIG_SIZE_POW2;
}

static const Unit *
units_of(const Setting *s)
{
	return is_size(s) ? size_units : s->type == CONFIG_TIME_MS ? time_units : NULL;
}

static int64_t *
number_of(const Setting *s, Config *c)
{
	return (int64_t *) (void *) ((char *) c + s->offset);
}

static char *
text_of(const Setting *s, Config *c)
{
	return (char *) c + s->offset;
}

void
config_number_format(const Setting *s, int64_t v, char out[CONFIG_TEXT_MAX])
{
	const Unit *best = units_of(s);

	if (best == NULL || v == 0) {
		snprintf(out, CONFIG_TEXT_MAX, "%lld", (long long) v);
		return;
	}
	for (const Unit *u = best; u->name != NULL; u++)
		if (v % u->factor == 0)
			best = u;
	snprintf(out, CONFIG_TEXT_MAX, "%lld%s", (long long) (v / best->factor), best->name);
}

static Status
fail_syntax(const Setting *s, const char *text)
{
	const char *expected = is_size(s) ? "a size such as 64MB (units B, kB, MB, GB, TB)"
		: s->type == CONFIG_TIME_MS             ? "a time such as 250ms (units us, ms, s, min, h, d)"
		: s->type == CONFIG_BOOL                ? "on or off"
		                                        : "a whole number";

	return status_fail(ST_BAD_SETTING, "\"%s\" is no value for \"%s\": expected %s", text, s->name, expected);
}

static Status
fail_range(const Setting *s, const char *text)
{
	char min[CONFIG_TEXT_MAX], max[CONFIG_TEXT_MAX];

	config_number_format(s, s->min, min);
	config_number_format(s, s->max, max);
	return status_fail(ST_BAD_SETTING, "%s is out of range for \"%s\": allowed are %s to %s", text, s->name, min, max);
}

/* Multiply by the unit. Returns false when the unit is none of the setting's; *huge when it overflows. */
static bool
unit_scale(const Setting *s, const char *unit, int64_t *v, bool *huge)
{
	const Unit *u = units_of(s);

	if (*unit == '\0')
		return true;
	if (s->type == CONFIG_TIME_MS && strcmp(unit, "us") == 0) {
		if (*v % US_PER_MS != 0)
			return false;
		*v /= US_PER_MS;
		return true;
	}
	for (; u != NULL && u->name != NULL; u++) {
		if (strcmp(unit, u->name) == 0) {
			*huge = *huge || __builtin_mul_overflow(*v, u->factor, v);
			return true;
		}
	}
	return false;
}

static Status
parse_number(const Setting *s, const char *text, int64_t *out)
{
	const char *p = text;
	bool negative = *p == '-';
	bool huge = false;
	int64_t v = 0;

	p += negative;
	if (*p < '0' || *p > '9')
		return fail_syntax(s, text);
	for (; *p >= '0' && *p <= '9'; p++)
		huge = huge || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v);
	if (*p == ' ' && p[1] == '\0')
		return fail_syntax(s, text);
	while (*p == ' ')
		p++;
	if (!unit_scale(s, p, &v, &huge))
		return fail_syntax(s, text);
	if (negative)
		v = -v;
	if (huge || v < s->min || v > s->max)
		return fail_range(s, text);
	if (s->type == CONFIG_SIZE_POW2 && (v & (v - 1)) != 0)
		return status_fail(ST_BAD_SETTING, "%s is no value for \"%s\": it must be a power of two, such as 16MB", text,
			s->name);
	*out = v;
	return ST_OK;
}

static Status
parse_bool(const Setting *s, const char *text, int64_t *out)
{
	static const char *const words[] = { "off", "on", "false", "true", "no", "yes", "0", "1" };

	for (int i = 0; i < (int) (sizeof words / sizeof words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i % 2;
			return ST_OK;
		}
	}
	return fail_syntax(s, text);
}

/* The i-th of "a,b,c" as a slice; data NULL past the end. */
static Slice
choice(const char *choices, int i)
{
	const char *end;

	for (; i > 0; i--) {
		choices = strchr(choices, ',');
		if (choices == NULL)
			return slice_of(NULL, 0);
		choices++;
	}
	end = strchr(choices, ',');
	return end != NULL ? slice_of(choices, (size_t) (end - choices)) : slice_str(choices);
}

static Status
parse_enum(const Setting *s, const char *text, int64_t *out)
{
	Slice word;

	for (int i = 0; (word = choice(s->choices, i)).data != NULL; i++) {
		if (slice_eq(word, slice_str(text))) {
			*out = i;
			return ST_OK;
		}
	}
	return status_fail(ST_BAD_SETTING, "\"%s\" is no value for \"%s\": expected one of %s", text, s->name, s->choices);
}

static Status
parse_string(const Setting *s, const char *text, char *out)
{
	size_t len = strlen(text);

	if (len > (size_t) s->max)
		return status_fail(ST_BAD_SETTING, "the value of \"%s\" has %zu bytes: at most %lld are allowed", s->name, len,
			(long long) s->max);
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			return status_fail(ST_BAD_SETTING, "the value of \"%s\" has a control character in it", s->name);
	memcpy(out, text, len + 1);
	return ST_OK;
}

Status
config_value_parse(const Setting *s, const char *text, Config *c)
{
	switch (s->type) {
	case CONFIG_BOOL:
		return parse_bool(s, text, number_of(s, c));
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_SIZE_POW2:
	case CONFIG_TIME_MS:
		return parse_number(s, text, number_of(s, c));
	case CONFIG_ENUM:
		return parse_enum(s, text, number_of(s, c));
	case CONFIG_STRING:
		return parse_string(s, text, text_of(s, c));
	}
	return status_fail(ST_INTERNAL, "setting \"%s\" has no type", s->name);
}

void
config_value_format(const Setting *s, const Config *c, char out[CONFIG_TEXT_MAX])
{
	Config *field_of = (Config *) (void *) c; /* only read */
	Slice word;

	switch (s->type) {
	case CONFIG_BOOL:
		snprintf(out, CONFIG_TEXT_MAX, "%s", *number_of(s, field_of) != 0 ? "on" : "off");
		return;
	case CONFIG_INT:
	case CONFIG_SIZE:
	case CONFIG_SIZE_POW2:
	case CONFIG_TIME_MS:
		config_number_format(s, *number_of(s, field_of), out);
		return;
	case CONFIG_ENUM:
		word = choice(s->choices, (int) *number_of(s, field_of));
		snprintf(out, CONFIG_TEXT_MAX, "%.*s", (int) word.len, (const char *) word.data);
		return;
	case CONFIG_STRING:
		snprintf(out, CONFIG_TEXT_MAX, "%s", text_of(s, field_of));
		return;
	}
}

void
config_value_copy(const Setting *s, Config *to, const Config *from)
{
	size_t size = s->type == CONFIG_STRING ? CONFIG_TEXT_MAX : sizeof(int64_t);

	memcpy((char *) to + s->offset, (const char *) from + s->offset, size);
}

bool
config_value_equal(const Setting *s, const Config *a, const Config *b)
{
	const char *x = (const char *) a + s->offset, *y = (const char *) b + s->offset;

	return s->type == CONFIG_STRING ? strcmp(x, y) == 0 : memcmp(x, y, sizeof(int64_t)) == 0;
}

void
config_value_default(const Setting *s, Config *c)
{
	if (s->def_text == NULL)
		*number_of(s, c) = s->def_number;
	else
		KV_ASSERT(config_value_parse(s, s->def_text, c) == ST_OK);
}
