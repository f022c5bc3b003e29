/*
 * explain.c - checks all keys of a history, and for the first that is illegal finds the smallest part that still is.
 *
 * A part is made from the whole only by allowing more, so what is illegal in it is illegal in the whole: it ends at the
 * first return that no order reaches; it begins as late as can be, with any value before; what overlaps its ends may or
 * may not take effect; then reads are left out and writes made optional, one by one, while it stays illegal.
 */
#include <stdlib.h>
#include <string.h>

#include "lin.h"

#define SHRINK_OPS 400           /* windows longer than this are not made smaller one by one */
#define SHRINK_STEPS 200000      /* configurations for one try; undecided counts as legal */
#define SHRINK_STEPS_ALL 3000000 /* for all of them */
#define PRINT_OPS 60

typedef struct Part {
	LinWords *words;
	LinOp *ops;       /* as they are searched */
	const LinOp **of; /* what each was in the history */
	size_t n;
	bool any;
	uint64_t steps; /* spent */
	LinLimits limits;
} Part;

static bool
is_read(const LinOp *op)
{
	return op->kind == LIN_GET || op->kind == LIN_LOCAL_GET ||
		   ((op->kind == LIN_CAS || op->kind == LIN_CASV) && !op->held);
}

static void
make_optional(LinOp *op)
{
	op->returned = LIN_NEVER;
}

static bool
illegal(Part *p)
{
	LinResult r;

	if (p->steps >= SHRINK_STEPS_ALL)
		return false;
	r = lin_search(p->words, p->ops, p->n, p->any, &p->limits);
	p->steps += r.steps;
	return r.verdict == LIN_ILLEGAL;
}

/* Operations from `from` on until `until`; what overlaps an end is optional, if it may have an effect. */
static void
cut(Part *p, const LinOp *ops, size_t n, uint64_t from, uint64_t until)
{
	p->n = 0;
	for (size_t i = 0; i < n; i++) {
		bool whole = ops[i].invoked >= from && ops[i].returned <= until;

		if (ops[i].invoked > until || ops[i].returned < from || (!whole && is_read(&ops[i])))
			continue;
		p->ops[p->n] = ops[i];
		p->of[p->n] = &ops[i];
		if (!whole)
			make_optional(&p->ops[p->n]);
		p->n++;
	}
}

static int
time_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

/* The first return up to which there is no order; returned[] are n times, sorted. */
static uint64_t
find_end(Part *p, const LinOp *ops, size_t n, const uint64_t *returned)
{
	size_t low = 0, high = n - 1; /* illegal up to returned[high]; below returned[low] not known to be */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		cut(p, ops, n, 0, returned[middle]);
		if (illegal(p))
			high = middle;
		else
			low = middle + 1;
	}
	return returned[high];
}

/* The latest begin from which the part is illegal whatever was there before. */
static void
find_begin(Part *p, const LinOp *ops, size_t n, uint64_t until)
{
	size_t low = 0, high = 0; /* illegal from ops[low] on; from ops[high] on not known to be */

	p->any = true;
	cut(p, ops, n, ops[0].invoked, until);
	if (!illegal(p)) {
		p->any = false;
		cut(p, ops, n, 0, until);
		return;
	}
	while (high < n && ops[high].invoked <= until)
		high++;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		cut(p, ops, n, ops[middle].invoked, until);
		if (illegal(p))
			low = middle;
		else
			high = middle;
	}
	cut(p, ops, n, ops[low].invoked, until);
}

static void
leave_out(Part *p, size_t i)
{
	memmove(p->ops + i, p->ops + i + 1, (p->n - i - 1) * sizeof *p->ops);
	memmove(p->of + i, p->of + i + 1, (p->n - i - 1) * sizeof *p->of);
	p->n--;
}

/* Does anything in the part tell that this value was there? */
static bool
mentioned(const Part *p, size_t writer)
{
	uint32_t value = p->ops[writer].kind == LIN_DELETE ? LIN_ABSENT : p->ops[writer].value;

	if (p->ops[writer].kind == LIN_INCR)
		return true;
	for (size_t i = 0; i < p->n; i++) {
		const LinOp *op = &p->ops[i];

		if (i == writer)
			continue;
		if (op->kind == LIN_INCR || (op->kind == LIN_CAS && op->expect == value) || op->kind == LIN_CASV ||
			(op->kind == LIN_GET && op->value == value))
			return true;
	}
	return false;
}

static void
shrink(Part *p)
{
	if (p->n > SHRINK_OPS)
		return;
	for (size_t i = p->n; i-- > 0;) {
		LinOp op = p->ops[i];
		const LinOp *of = p->of[i];

		if (op.returned == LIN_NEVER)
			continue;
		if (is_read(&op)) {
			leave_out(p, i);
			if (illegal(p))
				continue;
			memmove(p->ops + i + 1, p->ops + i, (p->n - i) * sizeof *p->ops);
			memmove(p->of + i + 1, p->of + i, (p->n - i) * sizeof *p->of);
			p->n++;
			p->ops[i] = op;
			p->of[i] = of;
		} else {
			make_optional(&p->ops[i]);
			if (!illegal(p))
				p->ops[i] = op;
		}
	}
	for (size_t i = p->n; i-- > 0;)
		if (p->ops[i].returned == LIN_NEVER && !mentioned(p, i))
			leave_out(p, i);
}

static void
report_window(LinReport *r, const Part *p)
{
	r->window = malloc((p->n + 1) * sizeof *r->window);
	for (size_t i = 0; r->window != NULL && i < p->n; i++)
		r->window[r->nwindow++] = *p->of[i];
	r->from_start = !p->any;
}

static void
explain(LinWords *w, const LinOp *ops, size_t n, LinReport *r)
{
	Part p = { .words = w, .limits = { .steps = SHRINK_STEPS, .memory = (size_t) 256 << 20 } };
	uint64_t *returned;

	p.ops = malloc((n + 1) * sizeof *p.ops);
	p.of = malloc((n + 1) * sizeof *p.of);
	returned = malloc(n * sizeof *returned);
	if (p.ops != NULL && p.of != NULL && returned != NULL) {
		for (size_t i = 0; i < n; i++)
			returned[i] = ops[i].returned == LIN_NEVER ? LIN_NEVER - 1 : ops[i].returned;
		qsort(returned, n, sizeof *returned, time_order);
		find_begin(&p, ops, n, find_end(&p, ops, n, returned));
		shrink(&p);
		report_window(r, &p);
	}
	free(returned);
	free(p.ops);
	free(p.of);
	snprintf(r->why, sizeof r->why, "these operations have no order that their results and times allow");
}

/* A value that was read and that nobody had begun to write: found without a search, and for local reads too. */
static const LinOp *
out_of_nothing(LinWords *w, const LinOp *ops, size_t n)
{
	bool counters = false;
	int64_t number;

	for (size_t i = 0; i < n; i++)
		counters |= ops[i].kind == LIN_INCR;
	for (size_t i = 0; i < n; i++) {
		bool found = ops[i].value == LIN_ABSENT || (counters && lin_number(w, ops[i].value, &number));

		if (ops[i].kind != LIN_GET && ops[i].kind != LIN_LOCAL_GET)
			continue;
		for (size_t j = 0; j < n && !found && ops[j].invoked <= ops[i].returned; j++)
			found = ops[j].kind != LIN_GET && ops[j].kind != LIN_LOCAL_GET && ops[j].held &&
					ops[j].value == ops[i].value;
		if (!found)
			return &ops[i];
	}
	return NULL;
}

static void
check_key(LinWords *w, const LinOp *ops, size_t n, const LinLimits *limits, LinReport *r)
{
	const LinOp *strange = out_of_nothing(w, ops, n);
	LinResult result = { .verdict = LIN_ILLEGAL };

	if (strange == NULL)
		result = lin_search(w, ops, n, false, limits);
	r->steps += result.steps;
	if (result.verdict == LIN_LEGAL || (result.verdict == LIN_UNDECIDED && r->verdict == LIN_UNDECIDED))
		return;
	r->verdict = result.verdict;
	r->key = ops[0].key;
	if (strange != NULL) {
		r->window = malloc(sizeof *r->window);
		if (r->window != NULL) {
			r->window[0] = *strange;
			r->nwindow = 1;
		}
		r->from_start = true;
		snprintf(r->why, sizeof r->why, "nobody had begun to write the value that was read");
	} else if (result.verdict == LIN_ILLEGAL)
		explain(w, ops, n, r);
	else
		snprintf(r->why, sizeof r->why, "given up after %llu configurations",
				 (unsigned long long) result.steps);
}

static int
key_order(const void *a, const void *b)
{
	const LinOp *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

void
lin_check(LinHistory *h, const LinLimits *limits, LinReport *r)
{
	memset(r, 0, sizeof *r);
	r->operations = h->n;
	qsort(h->ops, h->n, sizeof *h->ops, key_order);
	for (size_t i = 0, end; i < h->n && r->verdict != LIN_ILLEGAL; i = end) {
		for (end = i; end < h->n && h->ops[end].key == h->ops[i].key; end++)
			r->unknown += h->ops[end].returned == LIN_NEVER;
		r->keys++;
		check_key(&h->words, h->ops + i, end - i, limits, r);
	}
}

void
lin_report_free(LinReport *r)
{
	free(r->window);
	memset(r, 0, sizeof *r);
}

void
lin_report_print(FILE *out, const LinHistory *h, const LinReport *r)
{
	static const char *const verdicts[] = { "linearizable", "NOT LINEARIZABLE", "undecided" };

	fprintf(
		out, "%s: %zu operations on %zu keys, %zu of unknown outcome, %zu not applied, %llu configurations\n",
		verdicts[r->verdict], r->operations, r->keys, r->unknown, h->failed, (unsigned long long) r->steps);
	if (r->verdict == LIN_LEGAL)
		return;
	fprintf(out, "key %s: %s\n", lin_text(&h->words, r->key), r->why);
	if (r->nwindow == 0)
		return;
	fprintf(out, "%s; times in ms since the first of them (at %llu ns):\n",
			r->from_start ? "the key was absent before the history" : "whatever the key was before",
			(unsigned long long) r->window[0].invoked);
	for (size_t i = 0; i < r->nwindow && i < PRINT_OPS; i++)
		lin_print_op(out, &h->words, &r->window[i], r->window[0].invoked);
	if (r->nwindow > PRINT_OPS)
		fprintf(out, "... and %zu more\n", r->nwindow - PRINT_OPS);
}
