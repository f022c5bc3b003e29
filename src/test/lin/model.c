/*
 * model.c - the sequential specification of one key: a register whose writes have rising versions.
 *
 * Versions are used where the history tells them. A write whose version was not told leaves the state inexact: its
 * version is known to be above the last one, and the first read that tells it makes it exact.
 */
#include <string.h>

#include "lin.h"

void
lin_start(LinState *s, bool any)
{
	memset(s, 0, sizeof *s);
	s->any = any;
	s->exact = !any;
}

static bool
write_value(LinState *s, uint32_t value, uint64_t version)
{
	if (version != 0 && version <= s->version)
		return false;
	if (version != 0)
		s->version = version;
	s->exact = version != 0;
	s->value = value;
	s->any = false;
	return true;
}

/* The value that is there was seen with this version. */
static bool
observe(LinState *s, uint64_t version)
{
	if (version == 0)
		return true;
	if (s->exact)
		return s->version == version;
	if (version <= s->version)
		return false;
	s->version = version;
	s->exact = true;
	return true;
}

static bool
get(LinState *s, const LinOp *op)
{
	if (s->any) {
		s->any = false;
		s->value = op->value;
	} else if (s->value != op->value)
		return false;
	return op->value == LIN_ABSENT || observe(s, op->version);
}

/* The condition was false, and the version that the key had then may have been told. */
static bool
saw_other(LinState *s, const LinOp *op)
{
	if (!op->has_seen || s->any)
		return true;
	if (s->value == LIN_ABSENT || op->seen == 0)
		return s->value == LIN_ABSENT && op->seen == 0;
	return observe(s, op->seen);
}

static bool
cas(LinState *s, const LinOp *op)
{
	bool same = s->any || s->value == op->expect;

	if (op->held)
		return same && write_value(s, op->value, op->version);
	return (s->any || !same) && saw_other(s, op);
}

static bool
cas_version(LinState *s, const LinOp *op)
{
	if (op->held) {
		if (!s->any && s->value == LIN_ABSENT)
			return false;
		return observe(s, op->expect_version) && write_value(s, op->value, op->version);
	}
	if (!s->any && s->value != LIN_ABSENT && s->exact && s->version == op->expect_version)
		return false;
	return saw_other(s, op);
}

static bool
incr(LinWords *w, LinState *s, const LinOp *op)
{
	bool told = op->returned != LIN_NEVER;
	int64_t n, after;

	if (s->any)
		return !told || write_value(s, op->value, op->version);
	if (!lin_number(w, s->value, &n) || __builtin_add_overflow(n, op->step, &after))
		return false;
	if (told) {
		int64_t result;

		if (!lin_number(w, op->value, &result) || result != after)
			return false;
	}
	return write_value(s, told ? op->value : lin_number_word(w, after), op->version);
}

bool
lin_step(LinWords *w, LinState *s, const LinOp *op)
{
	switch ((LinKind) op->kind) {
	case LIN_GET:
		return get(s, op);
	case LIN_PUT:
		return write_value(s, op->value, op->version);
	case LIN_DELETE:
		return write_value(s, LIN_ABSENT, op->version);
	case LIN_CAS:
		return cas(s, op);
	case LIN_CASV:
		return cas_version(s, op);
	case LIN_INCR:
		return incr(w, s, op);
	case LIN_LOCAL_GET:
		return true;
	}
	return false;
}
