/*
 * history.c - reads a recorded history, one event a line, into operations.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "lin.h"

#define LINE_MAX_BYTES 2048
#define FIELDS_MAX 8

static const char *const kind_names[] = { "get", "put", "delete", "cas", "casv", "incr", "lget" };
#define KINDS ((int) (sizeof kind_names / sizeof kind_names[0]))

const char *
lin_kind_name(LinKind kind)
{
	return kind_names[kind];
}

/* A test tool: without memory there is no answer. */
static void *
need(void *p)
{
	if (p == NULL) {
		fprintf(stderr, "kvlin: out of memory\n");
		abort();
	}
	return p;
}

/* ---- words */

static uint64_t
text_hash(const char *text)
{
	return hash64(text, strlen(text), 1);
}

static void
rehash(LinWords *w)
{
	free(w->slots);
	w->nslots = w->nslots == 0 ? 1024 : w->nslots * 2;
	w->slots = need(calloc(w->nslots, sizeof *w->slots));
	for (uint32_t i = 1; i < w->n; i++) {
		uint64_t at = text_hash(w->text[i]);

		while (w->slots[at & (w->nslots - 1)] != 0)
			at++;
		w->slots[at & (w->nslots - 1)] = i;
	}
}

uint32_t
lin_word(LinWords *w, const char *text)
{
	uint64_t at = text_hash(text);
	size_t len = strlen(text) + 1;

	if (w->n * 2 >= w->nslots)
		rehash(w);
	for (; w->slots[at & (w->nslots - 1)] != 0; at++)
		if (strcmp(w->text[w->slots[at & (w->nslots - 1)]], text) == 0)
			return w->slots[at & (w->nslots - 1)];
	if (w->n == w->room) {
		w->room *= 2;
		w->text = need(realloc(w->text, w->room * sizeof *w->text));
	}
	w->text[w->n] = need(malloc(len));
	memcpy(w->text[w->n], text, len);
	w->slots[at & (w->nslots - 1)] = w->n;
	return w->n++;
}

const char *
lin_text(const LinWords *w, uint32_t word)
{
	return w->text[word];
}

static bool
read_i64(const char *text, int64_t *out)
{
	char *end;
	long long n;

	if (*text == '\0' || *text == '+' || *text == ' ')
		return false;
	errno = 0;
	n = strtoll(text, &end, 10);
	*out = n;
	return errno == 0 && *end == '\0';
}

static bool
read_u64(const char *text, uint64_t *out)
{
	char *end;
	unsigned long long n;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	*out = n;
	return errno == 0 && *end == '\0';
}

bool
lin_number(const LinWords *w, uint32_t word, int64_t *out)
{
	if (word == LIN_ABSENT) {
		*out = 0;
		return true;
	}
	return read_i64(w->text[word], out);
}

uint32_t
lin_number_word(LinWords *w, int64_t n)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, n);
	return lin_word(w, text);
}

/* ---- the history */

void
lin_history_init(LinHistory *h)
{
	memset(h, 0, sizeof *h);
	h->words.room = 64;
	h->words.text = need(malloc(h->words.room * sizeof *h->words.text));
	h->words.text[LIN_ABSENT] = NULL;
	h->words.n = 1;
}

void
lin_history_free(LinHistory *h)
{
	for (uint32_t i = 1; i < h->words.n; i++)
		free(h->words.text[i]);
	free(h->words.text);
	free(h->words.slots);
	free(h->ops);
	memset(h, 0, sizeof *h);
}

LinOp *
lin_history_add(LinHistory *h)
{
	if (h->n == h->room) {
		h->room = h->room == 0 ? 256 : h->room * 2;
		h->ops = need(realloc(h->ops, h->room * sizeof *h->ops));
	}
	memset(&h->ops[h->n], 0, sizeof *h->ops);
	h->ops[h->n].returned = LIN_NEVER;
	h->ops[h->n].held = true;
	return &h->ops[h->n++];
}

/* What reading one file needs. */
typedef struct Reader {
	LinHistory *h;
	size_t first;  /* of h->ops: this file's */
	size_t *open;  /* by process: its operation under way, +1 */
	size_t open_room;
	bool *dropped; /* by operation since first: certainly not applied */
	size_t dropped_room;
	char *field[FIELDS_MAX];
	int nfields;
	const char *trouble;
} Reader;

static bool
wrong(Reader *r, const char *why)
{
	r->trouble = why;
	return false;
}

static int
kind_of(const char *name)
{
	for (int i = 0; i < KINDS; i++)
		if (strcmp(kind_names[i], name) == 0)
			return i;
	return -1;
}

static bool
word_of(Reader *r, const char *text, bool absent_allowed, uint32_t *out)
{
	if (strlen(text) > LIN_WORD_MAX)
		return wrong(r, "the word is too long");
	if (strcmp(text, "-") == 0) {
		*out = LIN_ABSENT;
		return absent_allowed || wrong(r, "\"-\" stands for an absent key and can't be written");
	}
	*out = lin_word(&r->h->words, text);
	return true;
}

/* Arguments stand behind time, process, "invoke", kind and key. */
static bool
read_arguments(Reader *r, LinOp *op)
{
	static const int wanted[] = { 0, 1, 0, 2, 2, 1, 0 };
	char **arg = r->field + 5;

	if (r->nfields - 5 != wanted[op->kind])
		return wrong(r, "the number of arguments is not that of the operation");
	switch ((LinKind) op->kind) {
	case LIN_PUT:
		return word_of(r, arg[0], false, &op->value);
	case LIN_CAS:
		return word_of(r, arg[0], true, &op->expect) && word_of(r, arg[1], false, &op->value);
	case LIN_CASV:
		if (!read_u64(arg[0], &op->expect_version) || op->expect_version == 0)
			return wrong(r, "the version expected is no number above 0");
		return word_of(r, arg[1], false, &op->value);
	case LIN_INCR:
		return read_i64(arg[0], &op->step) || wrong(r, "the step is no number");
	case LIN_GET:
	case LIN_DELETE:
	case LIN_LOCAL_GET:
		break;
	}
	return true;
}

/* What came out: [value] [yes|no] [version]. */
static bool
read_result(Reader *r, LinOp *op)
{
	int at = 5;
	int64_t n;

	if (op->kind == LIN_GET || op->kind == LIN_LOCAL_GET || op->kind == LIN_INCR) {
		if (at == r->nfields)
			return wrong(r, "the result is missing");
		if (!word_of(r, r->field[at++], op->kind != LIN_INCR, &op->value))
			return false;
		if (op->kind == LIN_INCR && !lin_number(&r->h->words, op->value, &n))
			return wrong(r, "the result is no number");
	}
	if (op->kind == LIN_CAS || op->kind == LIN_CASV) {
		if (at == r->nfields || (strcmp(r->field[at], "yes") != 0 && strcmp(r->field[at], "no") != 0))
			return wrong(r, "yes or no is missing");
		op->held = strcmp(r->field[at++], "yes") == 0;
	}
	if (at < r->nfields) {
		op->has_seen = !op->held;
		if (!read_u64(r->field[at++], op->held ? &op->version : &op->seen))
			return wrong(r, "the version is no number");
	}
	return at == r->nfields || wrong(r, "there is more behind the version");
}

/* A process's place in `open`, which grows with the ids: few histories have high ones. */
static size_t *
open_of(Reader *r, uint32_t process)
{
	if (process >= r->open_room) {
		size_t room = process < 32 ? 64 : 2 * (size_t) process;

		r->open = need(realloc(r->open, room * sizeof *r->open));
		memset(r->open + r->open_room, 0, (room - r->open_room) * sizeof *r->open);
		r->open_room = room;
	}
	return &r->open[process];
}

static bool
read_invoke(Reader *r, uint64_t time, uint32_t process, int kind)
{
	LinOp *op;

	if (*open_of(r, process) != 0)
		return wrong(r, "the process has an operation under way");
	op = lin_history_add(r->h);
	op->kind = (uint8_t) kind;
	op->invoked = time;
	op->process = r->h->files << 16 | process;
	if (!word_of(r, r->field[4], false, &op->key) || !read_arguments(r, op))
		return false;
	if (r->h->n - r->first > r->dropped_room) {
		r->dropped_room = r->dropped_room == 0 ? 1024 : r->dropped_room * 2;
		r->dropped = need(realloc(r->dropped, r->dropped_room * sizeof *r->dropped));
	}
	r->dropped[r->h->n - r->first - 1] = false;
	r->open[process] = r->h->n;
	return true;
}

static bool
read_return(Reader *r, uint64_t time, uint32_t process, int kind)
{
	LinOp *op;
	uint32_t key;
	size_t at = *open_of(r, process);

	if (at == 0)
		return wrong(r, "the process has no operation under way");
	op = &r->h->ops[at - 1];
	if (!word_of(r, r->field[4], false, &key))
		return false;
	if (kind != op->kind || key != op->key)
		return wrong(r, "the process has another operation under way");
	if (time < op->invoked)
		return wrong(r, "it returns before it was invoked");
	r->open[process] = 0;
	if (strcmp(r->field[2], "ok") == 0) {
		op->returned = time;
		return read_result(r, op);
	}
	if (strcmp(r->field[2], "fail") == 0)
		r->dropped[at - 1 - r->first] = true;
	else if (strcmp(r->field[2], "unknown") != 0)
		return wrong(r, "the event is none of invoke, ok, fail, unknown");
	return true;
}

static bool
read_line(Reader *r, char *line)
{
	uint64_t time, process;
	char *save = NULL;
	int kind;

	r->nfields = 0;
	for (char *f = strtok_r(line, " \t\r\n", &save); f != NULL; f = strtok_r(NULL, " \t\r\n", &save)) {
		if (r->nfields == FIELDS_MAX)
			return wrong(r, "there are too many fields");
		r->field[r->nfields++] = f;
	}
	if (r->nfields == 0 || r->field[0][0] == '#')
		return true;
	if (r->nfields < 5)
		return wrong(r, "there are too few fields");
	if (!read_u64(r->field[0], &time) || time == LIN_NEVER)
		return wrong(r, "the time is no number");
	if (!read_u64(r->field[1], &process) || process > LIN_PROCESS_MAX)
		return wrong(r, "the process is no number up to 65535");
	if ((kind = kind_of(r->field[3])) < 0)
		return wrong(r, "the operation is not known");
	if (strcmp(r->field[2], "invoke") == 0)
		return read_invoke(r, time, (uint32_t) process, kind);
	return read_return(r, time, (uint32_t) process, kind);
}

/* Failed operations and reads that nobody heard the end of say nothing. */
static void
drop(Reader *r)
{
	LinHistory *h = r->h;
	size_t to = r->first;

	for (size_t i = r->first; i < h->n; i++) {
		const LinOp *op = &h->ops[i];
		bool read = op->kind == LIN_GET || op->kind == LIN_LOCAL_GET;

		if (r->dropped[i - r->first])
			h->failed++;
		else if (!read || op->returned != LIN_NEVER)
			h->ops[to++] = *op;
	}
	h->n = to;
}

bool
lin_history_read(LinHistory *h, FILE *in, const char *name, char *error, size_t size)
{
	Reader r = { .h = h, .first = h->n };
	char line[LINE_MAX_BYTES];
	unsigned long n = 0;
	bool good = true;

	while (good && fgets(line, sizeof line, in) != NULL) {
		n++;
		if (strchr(line, '\n') == NULL)
			good = wrong(&r, feof(in) ? "the last line has no end: the file was cut off"
									  : "the line is too long");
		else
			good = read_line(&r, line);
	}
	if (good && ferror(in))
		good = wrong(&r, "it cannot be read");
	if (good)
		drop(&r);
	else
		snprintf(error, size, "%s:%lu: %s", name, n, r.trouble);
	free(r.open);
	free(r.dropped);
	h->files++;
	return good;
}

/* ---- for people */

static const char *
shown(const LinWords *w, uint32_t value)
{
	return value == LIN_ABSENT ? "(absent)" : lin_text(w, value);
}

static void
print_result(FILE *out, const LinWords *w, const LinOp *op)
{
	switch ((LinKind) op->kind) {
	case LIN_GET:
	case LIN_LOCAL_GET:
	case LIN_INCR:
		fprintf(out, " -> %s", shown(w, op->value));
		break;
	case LIN_CAS:
	case LIN_CASV:
		fprintf(out, op->held ? " -> yes" : " -> no");
		if (op->has_seen)
			fprintf(out, " (version is %" PRIu64 ")", op->seen);
		break;
	case LIN_PUT:
	case LIN_DELETE:
		break;
	}
	if (op->version != 0)
		fprintf(out, " (version %" PRIu64 ")", op->version);
}

void
lin_print_op(FILE *out, const LinWords *w, const LinOp *op, uint64_t zero)
{
	double from = ((double) op->invoked - (double) zero) / 1e6;

	if (op->returned == LIN_NEVER)
		fprintf(out, "%12.3f ..      never", from);
	else
		fprintf(out, "%12.3f .. %10.3f", from, ((double) op->returned - (double) zero) / 1e6);
	fprintf(out, "  %u.%-4u %s %s", op->process >> 16, op->process & 0xffff,
			lin_kind_name((LinKind) op->kind), lin_text(w, op->key));
	if (op->kind == LIN_CAS)
		fprintf(out, " %s", shown(w, op->expect));
	if (op->kind == LIN_CASV)
		fprintf(out, " %" PRIu64, op->expect_version);
	if (op->kind == LIN_PUT || op->kind == LIN_CAS || op->kind == LIN_CASV)
		fprintf(out, " %s", lin_text(w, op->value));
	if (op->kind == LIN_INCR)
		fprintf(out, " %" PRId64, op->step);
	if (op->returned != LIN_NEVER)
		print_result(out, w, op);
	else
		fprintf(out, " -> unknown");
	fputc('\n', out);
}
