/*
 * words.c - a line into words; numbers, times and sizes in text.
 *
 * Pure functions.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kvctl.h"

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Append the word that begins at *p; moves *p behind it. */
static Status
one_word(Buf *memory, const char **p, const char *end)
{
	while (*p < end && !is_blank(**p)) {
		const char *start = *p;
		char quote = **p;

		if (quote == '\'' || quote == '"') {
			const char *q = start + 1;

			while (q < end && *q != quote)
				q += quote == '"' && *q == '\\' && q + 1 < end ? 2 : 1;
			if (q >= end)
				return status_fail(ST_USAGE, "the closing %c is missing", quote);
			KV_TRY(quote == '"' ? unescape(memory, start + 1, (size_t) (q - start - 1))
				: buf_append(memory, start + 1, (size_t) (q - start - 1)));
			*p = q + 1;
			continue;
		}
		while (*p < end && !is_blank(**p) && **p != '\'' && **p != '"')
			*p += **p == '\\' && *p + 1 < end ? 2 : 1;
		KV_TRY(unescape(memory, start, (size_t) (*p - start)));
	}
	return ST_OK;
}

Status
words_split(Words *w, const char *line, size_t len)
{
	const char *p = line;
	const char *end = line + len;
	size_t at;

	*w = (Words){ 0 };
	/* Escapes never make text longer, so the words need at most the line and a NUL for each. */
	KV_TRY(buf_reserve(&w->memory, len * 2 + 1));
	for (;;) {
		while (p < end && is_blank(*p))
			p++;
		if (p >= end || *p == '#')
			return ST_OK;
		if (w->n == w->cap) {
			size_t cap = w->cap * 2 + 16;
			kv_bytes *word = realloc(w->word, cap * sizeof *word);

			if (word == NULL)
				return status_fail(ST_OUT_OF_MEMORY, "out of memory for %zu words", cap);
			w->word = word;
			w->cap = cap;
		}
		at = w->memory.len;
		KV_TRY(one_word(&w->memory, &p, end));
		w->word[w->n++] = (kv_bytes){ w->memory.data + at, w->memory.len - at };
		KV_TRY(buf_append(&w->memory, "", 1));
	}
}

void
words_free(Words *w)
{
	free(w->word);
	buf_free(&w->memory);
	*w = (Words){ 0 };
}

Status
time_parse(const char *text, uint64_t *ms)
{
	static const struct { const char *unit; uint64_t ms; } units[] = {
		{ "", 1 }, { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 },
	};
	char *unit = NULL;
	double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &unit) : -1;

	for (size_t i = 0; v >= 0 && i < sizeof units / sizeof units[0]; i++) {
		if (strcmp(unit, units[i].unit) != 0 || v * (double) units[i].ms > 9007199254740992.0)
			continue;
		*ms = (uint64_t) (v * (double) units[i].ms + 0.5);
		return ST_OK;
	}
	return status_fail(ST_USAGE,
		"\"%s\" is not a time; write a number and ms (if left out), s, min, h or d, such as 5s", text);
}

Status
u64_parse(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0)
		return status_fail(ST_USAGE, "\"%s\" is not a number from 0 to %" PRIu64, text, UINT64_MAX);
	return ST_OK;
}

Status
i64_parse(const char *text, int64_t *out)
{
	const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;
	char *end;

	errno = 0;
	*out = digits[0] >= '0' && digits[0] <= '9' ? strtoll(text, &end, 10) : 0;
	if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || errno != 0)
		return status_fail(ST_USAGE, "\"%s\" is not a number from %" PRId64 " to %" PRId64, text, INT64_MIN, INT64_MAX);
	return ST_OK;
}

void
size_text(double bytes, char *out, size_t size)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	int i = 0;

	while (bytes >= 1024 && i < 4) {
		bytes /= 1024;
		i++;
	}
	snprintf(out, size, i == 0 ? "%.0f %s" : "%.1f %s", bytes, units[i]);
}

void
duration_text(uint64_t ns, char *out, size_t size)
{
	uint64_t s = ns / 1000000000;

	if (ns < 1000000)
		snprintf(out, size, "%.1f us", (double) ns / 1e3);
	else if (ns < 1000000000)
		snprintf(out, size, "%.3f ms", (double) ns / 1e6);
	else if (s < 60)
		snprintf(out, size, "%.3f s", (double) ns / 1e9);
	else if (s < 3600)
		snprintf(out, size, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(out, size, "%" PRIu64 " d %" PRIu64 ":%02" PRIu64, s / 86400, s / 3600 % 24, s / 60 % 60);
}
