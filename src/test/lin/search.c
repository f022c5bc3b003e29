/*
 * search.c - is there an order of one key's operations that the model allows and that keeps their order in time?
 *
 * The search of Wing & Gong: calls and returns stand in a list in order of time; an operation whose call
 * stands before the first return may be next. It is taken out and the search goes on from the front; when
 * nothing can be next, the last one is put back. seen.c keeps it from going the same way twice (Lowe,
 * section 5).
 *
 * Operations without a known outcome have no return. Those whose value was read must take effect; the others are
 * optional: they are tried last, and a configuration that has used fewer of them is as good as one with more.
 *
 * Writes whose version is known can only come in the order of their versions, which decides most races at once.
 */
#include <stdlib.h>
#include <string.h>

#include "lin.h"
#include "port/clock.h"

#define NONE UINT32_MAX
#define CLOCK_EVERY 4096 /* steps between looks at the clock */

typedef struct Frame {
	LinState state; /* before */
	uint32_t op;    /* number of a known one, or n known + number of an optional one */
	uint32_t first, high;
} Frame;

typedef struct Search {
	LinWords *words;
	LinOp *known, *optional; /* sorted by invocation */
	uint32_t nknown, noptional;
	uint32_t *next, *prev; /* list: 2i is the call of known i, 2i + 1 its return; 2 nknown is the head */
	uint32_t *twin;        /* of an optional one: the one before it that does the same, which is used first */
	uint32_t *by_version;  /* known writes with a version, by version */
	uint32_t nversions, version_at;
	uint64_t *done, *used; /* bits: known, optional */
	uint32_t first, high;  /* first known that is not done; behind the last that is */
	LinState state;
	Frame *stack;
	uint32_t depth, left; /* left: known ones that are not done */
	LinSeen *seen;
	LinResult result;
} Search;

static bool
is_write(const LinOp *op)
{
	return op->kind != LIN_GET && op->kind != LIN_LOCAL_GET;
}

/* ---- preparing */

typedef struct Writer {
	uint32_t value;
	uint32_t count; /* of operations that write it */
	LinOp *op;
} Writer;

static int
writer_order(const void *a, const void *b)
{
	uint32_t x = ((const Writer *) a)->value, y = ((const Writer *) b)->value;

	return x < y ? -1 : x > y;
}

static void
read_from(LinWords *words, Writer *writers, size_t n, const LinOp *reader, bool counters)
{
	Writer want = { .value = reader->value };
	Writer *w = bsearch(&want, writers, n, sizeof *writers, writer_order);
	int64_t number;

	if (w == NULL || w->count != 1 || w->op->returned != LIN_NEVER ||
		(counters && lin_number(words, w->value, &number)))
		return;
	w->op->must = true;
	if (reader->version != 0)
		w->op->version = reader->version;
}

/* Who wrote what was read, where only one can have. */
static void
find_writers(LinWords *words, LinOp *ops, size_t n)
{
	Writer *writers = malloc((n + 1) * sizeof *writers);
	size_t nwriters = 0, to = 0;
	bool counters = false;

	if (writers == NULL)
		return;
	for (size_t i = 0; i < n; i++) {
		if (ops[i].kind == LIN_PUT || ((ops[i].kind == LIN_CAS || ops[i].kind == LIN_CASV) && ops[i].held))
			writers[nwriters++] = (Writer){ .value = ops[i].value, .count = 1, .op = &ops[i] };
		counters |= ops[i].kind == LIN_INCR;
	}
	qsort(writers, nwriters, sizeof *writers, writer_order);
	for (size_t i = 0; i < nwriters; i++) {
		if (to > 0 && writers[to - 1].value == writers[i].value)
			writers[to - 1].count++;
		else
			writers[to++] = writers[i];
	}
	for (size_t i = 0; i < n; i++)
		if (ops[i].kind == LIN_GET)
			read_from(words, writers, to, &ops[i], counters);
	free(writers);
}

typedef struct Event {
	uint64_t time;
	uint32_t node;
} Event;

/* At equal times calls come first: they overlap. */
static int
event_order(const void *a, const void *b)
{
	const Event *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	if ((x->node & 1) != (y->node & 1))
		return (int) (x->node & 1) - (int) (y->node & 1);
	return x->node < y->node ? -1 : 1;
}

static int
invocation_order(const void *a, const void *b)
{
	const LinOp *x = a, *y = b;

	return x->invoked < y->invoked ? -1 : x->invoked > y->invoked;
}

static bool
make_list(Search *s)
{
	Event *events = malloc((2 * (size_t) s->nknown + 1) * sizeof *events);
	uint32_t n = 0, head = 2 * s->nknown, last = head;

	if (events == NULL)
		return false;
	for (uint32_t i = 0; i < s->nknown; i++) {
		events[n++] = (Event){ s->known[i].invoked, 2 * i };
		if (s->known[i].returned != LIN_NEVER)
			events[n++] = (Event){ s->known[i].returned, 2 * i + 1 };
	}
	qsort(events, n, sizeof *events, event_order);
	for (uint32_t i = 0; i < n; i++) {
		s->next[last] = events[i].node;
		s->prev[events[i].node] = last;
		last = events[i].node;
	}
	s->next[last] = NONE;
	free(events);
	return true;
}

static const LinOp *sort_ops; /* for version_order(): qsort has no argument of the caller's */

static int
version_order(const void *a, const void *b)
{
	uint64_t x = sort_ops[*(const uint32_t *) a].version, y = sort_ops[*(const uint32_t *) b].version;

	return x < y ? -1 : x > y;
}

static void
sort_versions(Search *s)
{
	for (uint32_t i = 0; i < s->nknown; i++)
		if (is_write(&s->known[i]) && s->known[i].version != 0)
			s->by_version[s->nversions++] = i;
	sort_ops = s->known;
	qsort(s->by_version, s->nversions, sizeof *s->by_version, version_order);
}

static bool
do_the_same(const LinOp *a, const LinOp *b)
{
	return a->kind == b->kind && a->value == b->value && a->expect == b->expect && a->step == b->step &&
		   a->expect_version == b->expect_version && a->version == b->version;
}

/* Optional ones that do the same are used in the order of their invocations: counting crashed INCRs is enough. */
static void
find_twins(Search *s)
{
	for (uint32_t i = 0; i < s->noptional; i++) {
		uint32_t j = i;

		while (j-- > 0 && !do_the_same(&s->optional[i], &s->optional[j]))
			;
		s->twin[i] = j; /* NONE when there is none */
	}
}

static uint32_t
words_for(uint32_t bits)
{
	return (bits + 63) / 64;
}

/* Sorts the operations into known and optional ones. False: no memory. */
static bool
prepare(Search *s, const LinOp *ops, size_t n, const LinLimits *limits)
{
	LinOp *all = malloc((n + 1) * sizeof *all);

	if (all == NULL)
		return false;
	memcpy(all, ops, n * sizeof *all);
	qsort(all, n, sizeof *all, invocation_order);
	if (!s->state.any) /* else it may have taken effect before */
		find_writers(s->words, all, n);
	s->known = malloc((n + 1) * sizeof *s->known);
	s->optional = malloc((n + 1) * sizeof *s->optional);
	for (size_t i = 0; i < n && s->known != NULL && s->optional != NULL; i++) {
		if (all[i].kind == LIN_LOCAL_GET)
			continue;
		if (all[i].returned != LIN_NEVER || all[i].must)
			s->known[s->nknown++] = all[i];
		else
			s->optional[s->noptional++] = all[i];
	}
	free(all);
	s->next = malloc((2 * (size_t) s->nknown + 1) * sizeof *s->next);
	s->prev = malloc((2 * (size_t) s->nknown + 1) * sizeof *s->prev);
	s->twin = malloc(((size_t) s->noptional + 1) * sizeof *s->twin);
	s->by_version = malloc(((size_t) s->nknown + 1) * sizeof *s->by_version);
	s->done = calloc((size_t) words_for(s->nknown) + 1, sizeof *s->done);
	s->used = calloc((size_t) words_for(s->noptional) + 1, sizeof *s->used);
	s->stack = malloc(((size_t) s->nknown + s->noptional + 1) * sizeof *s->stack);
	s->seen = lin_seen_new(limits->memory, words_for(s->noptional));
	if (s->known == NULL || s->optional == NULL || s->next == NULL || s->prev == NULL ||
		s->by_version == NULL || s->done == NULL || s->used == NULL || s->stack == NULL || s->seen == NULL ||
		!make_list(s))
		return false;
	sort_versions(s);
	find_twins(s);
	s->left = s->nknown;
	return true;
}

static void
finish(Search *s)
{
	free(s->known);
	free(s->optional);
	free(s->next);
	free(s->prev);
	free(s->twin);
	free(s->by_version);
	free(s->done);
	free(s->used);
	free(s->stack);
	lin_seen_free(s->seen);
}

/* ---- searching */

static void
unlink_node(Search *s, uint32_t node)
{
	s->next[s->prev[node]] = s->next[node];
	if (s->next[node] != NONE)
		s->prev[s->next[node]] = s->prev[node];
}

static void
link_node(Search *s, uint32_t node)
{
	s->next[s->prev[node]] = node;
	if (s->next[node] != NONE)
		s->prev[s->next[node]] = node;
}

static bool
has_version(const LinOp *op)
{
	return is_write(op) && op->version != 0;
}

static void
take_known(Search *s, uint32_t i)
{
	unlink_node(s, 2 * i);
	if (s->known[i].returned != LIN_NEVER)
		unlink_node(s, 2 * i + 1);
	s->done[i / 64] |= UINT64_C(1) << i % 64;
	while (s->first < s->nknown && (s->done[s->first / 64] >> s->first % 64 & 1) != 0)
		s->first++;
	if (i + 1 > s->high)
		s->high = i + 1;
	s->version_at += has_version(&s->known[i]);
	s->left--;
}

static void
put_back_known(Search *s, uint32_t i)
{
	s->left++;
	s->version_at -= has_version(&s->known[i]);
	s->done[i / 64] &= ~(UINT64_C(1) << i % 64);
	if (s->known[i].returned != LIN_NEVER)
		link_node(s, 2 * i + 1);
	link_node(s, 2 * i);
}

static bool
out_of_bounds(Search *s, const LinLimits *limits)
{
	s->result.steps++;
	if (limits->steps != 0 && s->result.steps > limits->steps)
		return true;
	return limits->deadline_ns != 0 && s->result.steps % CLOCK_EVERY == 0 &&
		   clock_mono_ns() > limits->deadline_ns;
}

/*
 * An optional write that the next one overwrites unseen: without it the same is reached, with more left to use. (Keeps
 * crashed writers from making 2^n configurations.)
 */
static bool
in_vain(const Search *s, const LinOp *next)
{
	return s->depth > 0 && s->stack[s->depth - 1].op >= s->nknown &&
		   (next->kind == LIN_PUT || next->kind == LIN_DELETE);
}

/* Take operation `op` (see Frame) if that is legal and leads somewhere new. -1: no memory for more. */
static int
try_op(Search *s, uint32_t op)
{
	bool is_known = op < s->nknown;
	uint32_t o = op - s->nknown;
	const LinOp *x = is_known ? &s->known[op] : &s->optional[o];
	Frame f = { .state = s->state, .op = op, .first = s->first, .high = s->high };
	int fresh;

	if (in_vain(s, x))
		return 0;
	if (is_known && has_version(x) && s->by_version[s->version_at] != op)
		return 0;
	if (!lin_step(s->words, &s->state, x)) {
		s->state = f.state;
		return 0;
	}
	if (is_known)
		take_known(s, op);
	else
		s->used[o / 64] |= UINT64_C(1) << o % 64;
	fresh = lin_seen_new_one(s->seen, s->first, s->done + s->first / 64,
							 s->high > s->first ? words_for(s->high) - s->first / 64 : 0, s->used, &s->state);
	s->stack[s->depth++] = f;
	return fresh;
}

/* Undo the newest; which one it was. */
static uint32_t
take_back(Search *s)
{
	const Frame *f = &s->stack[--s->depth];

	if (f->op < s->nknown)
		put_back_known(s, f->op);
	else
		s->used[(f->op - s->nknown) / 64] &= ~(UINT64_C(1) << (f->op - s->nknown) % 64);
	s->first = f->first;
	s->high = f->high;
	s->state = f->state;
	return f->op;
}

static bool
is_used(const Search *s, uint32_t o)
{
	return (s->used[o / 64] >> o % 64 & 1) != 0;
}

/*
 * The next to try from this configuration, behind `after` (see Frame; NONE: from the start): calls before the first
 * return, then optional ones that were invoked before it.
 */
static uint32_t
candidate(Search *s, uint32_t after)
{
	uint32_t node, o = 0;
	uint64_t limit;

	if (after == NONE || after < s->nknown) {
		node = s->next[after == NONE ? 2 * s->nknown : 2 * after];
		if (node != NONE && (node & 1) == 0)
			return node / 2;
	} else
		o = after - s->nknown + 1;
	for (node = s->next[2 * s->nknown]; node != NONE && (node & 1) == 0;)
		node = s->next[node];
	limit = node == NONE ? LIN_NEVER : s->known[node / 2].returned;
	for (; o < s->noptional && s->optional[o].invoked <= limit; o++)
		if (!is_used(s, o) && (s->twin[o] == NONE || is_used(s, s->twin[o])))
			return s->nknown + o;
	return NONE;
}

static LinVerdict
run(Search *s, const LinLimits *limits)
{
	uint32_t after = NONE;

	while (s->left > 0) {
		uint32_t op = candidate(s, after);
		uint32_t depth = s->depth;
		int fresh;

		if (op == NONE) {
			if (s->depth == 0)
				return LIN_ILLEGAL;
			after = take_back(s);
			continue;
		}
		if (out_of_bounds(s, limits) || (fresh = try_op(s, op)) < 0)
			return LIN_UNDECIDED;
		if (fresh == 0 && s->depth > depth)
			take_back(s);
		after = fresh == 0 ? op : NONE;
	}
	return LIN_LEGAL;
}

LinResult
lin_search(LinWords *w, const LinOp *ops, size_t n, bool any, const LinLimits *limits)
{
	Search s = { .words = w };
	LinResult r;

	lin_start(&s.state, any);
	s.result.verdict = n < NONE / 4 && prepare(&s, ops, n, limits) ? run(&s, limits) : LIN_UNDECIDED;
	r = s.result;
	finish(&s);
	return r;
}
