/*
 * config_line.c - the lines of a settings file.
 *
 *   line    = [ name "=" value ] [ "#" anything ]      blanks (space, tab, CR) between are free
 *   value   = "'" { any byte but "'" | "''" } "'"  |  bytes up to "#" or the line's end
 *
 * Pure.
 */
#include <string.h>

#include "config_internal.h"

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static Slice
trim(Slice s)
{
	while (s.len > 0 && is_blank(s.data[0]))
		s = slice_of(s.data + 1, s.len - 1);
	while (s.len > 0 && is_blank(s.data[s.len - 1]))
		s.len--;
	return s;
}

/* Cut s before the first `c`; s unchanged when there is none. */
static Slice
before(Slice s, char c)
{
	const uint8_t *p = s.len > 0 ? memchr(s.data, c, s.len) : NULL;

	return p != NULL ? slice_of(s.data, (size_t) (p - s.data)) : s;
}

static Slice
skip(Slice s, size_t n)
{
	return slice_of(s.data + n, s.len - n);
}

static Status
quoted_value(Slice s, ConfigLine *line)
{
	size_t n = 0, i;

	for (i = 1; i < s.len; i++) {
		if (s.data[i] == '\'') {
			if (i + 1 == s.len || s.data[i + 1] != '\'')
				break;
			i++;
		}
		if (n + 1 == sizeof line->value)
			return status_fail(ST_BAD_SETTING, "the value of \"%s\" is longer than %zu bytes", line->name,
				sizeof line->value - 1);
		line->value[n++] = (char) s.data[i];
	}
	if (i == s.len)
		return status_fail(ST_BAD_SETTING, "the value of \"%s\" has no closing quote", line->name);
	line->value[n] = '\0';
	s = trim(before(skip(s, i + 1), '#'));
	if (s.len > 0)
		return status_fail(ST_BAD_SETTING, "unexpected text after the value of \"%s\"", line->name);
	return ST_OK;
}

static Status
plain_value(Slice s, ConfigLine *line)
{
	s = trim(before(s, '#'));
	if (s.len >= sizeof line->value)
		return status_fail(ST_BAD_SETTING, "the value of \"%s\" is longer than %zu bytes", line->name,
			sizeof line->value - 1);
	if (s.len == 0)
		return status_fail(ST_BAD_SETTING, "\"%s\" has no value (an empty one is written '')", line->name);
	memcpy(line->value, s.data, s.len);
	line->value[s.len] = '\0';
	return ST_OK;
}

static Status
assignment(Slice s, ConfigLine *line)
{
	Slice left = before(s, '=');
	Slice name = trim(left);

	if (left.len == s.len || name.len == 0 || memchr(name.data, '#', name.len) != NULL)
		return status_fail(ST_BAD_SETTING, "expected name = value");
	if (name.len >= sizeof line->name)
		return status_fail(ST_BAD_SETTING, "unknown setting \"%.*s...\"", (int) sizeof line->name,
			(const char *) name.data);
	memcpy(line->name, name.data, name.len);
	line->name[name.len] = '\0';
	s = trim(skip(s, left.len + 1));
	return s.len > 0 && s.data[0] == '\'' ? quoted_value(s, line) : plain_value(s, line);
}

Status
config_line_next(Slice *rest, ConfigLine *line, bool *found)
{
	*found = false;
	while (rest->len > 0) {
		Slice s = before(*rest, '\n');

		*rest = skip(*rest, s.len < rest->len ? s.len + 1 : s.len);
		line->number++;
		if (memchr(s.data, '\0', s.len) != NULL)
			return status_fail(ST_BAD_SETTING, "the line has a NUL byte in it");
		s = trim(s);
		if (s.len == 0 || s.data[0] == '#')
			continue;
		*found = true;
		return assignment(s, line);
	}
	return ST_OK;
}
