/*
 * model.c - the store as an array, and what operations do to it (storage/op.h in short).
 */
#include <string.h>

#include "model.h"

Model model;

bool
model_live(const ModelEntry *e, uint64_t time)
{
	return e->present && (e->expire_ms == 0 || e->expire_ms > time);
}

static bool
same_value(const Value *a, const Value *b)
{
	return slice_eq(value_text(a), value_text(b));
}

static bool
holds(const Model *m, const ModelOp *op, uint64_t time)
{
	const ModelEntry *e = &m->entry[op->key];
	bool live = model_live(e, time);
	int64_t sum;

	if (op->kind == OP_DELETE_RANGE)
		return true;
	if ((op->condition == COND_ABSENT && live) || (op->condition == COND_PRESENT && !live))
		return false;
	if (op->condition == COND_VERSION && !(live && e->version == op->expected_version))
		return false;
	if (op->condition == COND_VALUE && !(live && same_value(&e->value, &op->expected)))
		return false;
	if (op->kind != OP_INCR)
		return true;
	return (!live || e->value.numeric) &&
		   !__builtin_add_overflow(live ? (int64_t) e->value.id : 0, op->step, &sum);
}

static ModelEntry
effect(const Model *m, const ModelOp *op, uint64_t version, uint64_t time)
{
	const ModelEntry *e = &m->entry[op->key];
	bool live = model_live(e, time);
	ModelEntry n = { .present = op->kind != OP_DELETE, .value = op->value, .version = version };

	if (op->kind == OP_INCR) {
		n.value = (Value){ .numeric = true, .id = (live ? e->value.id : 0) + (uint64_t) op->step };
		n.expire_ms = live ? e->expire_ms : 0;
	}
	if ((op->flags & OP_KEEP_TTL) && live)
		n.expire_ms = e->expire_ms;
	if (op->flags & OP_TTL)
		n.expire_ms = time + op->ttl_ms;
	return n;
}

static void
delete_range(Model *m, const ModelOp *op)
{
	for (int at = op->key; at < op->end; at++)
		m->entry[key_order[at]] = (ModelEntry){ .version = op->version };
}

/* A group is judged, and its increments reckoned, by the state before it. */
static bool
apply_group(Model *m, const ModelOp *ops, int n, uint64_t time)
{
	ModelEntry after[BATCH_OPS_MAX];

	for (int i = 0; i < n; i++)
		if (!holds(m, &ops[i], time))
			return false;
	for (int i = 0; i < n; i++)
		after[i] = effect(m, &ops[i], ops[i].version, time);
	for (int i = 0; i < n; i++)
		if (ops[i].kind == OP_DELETE_RANGE)
			delete_range(m, &ops[i]);
		else
			m->entry[ops[i].key] = after[i];
	return true;
}

int
model_apply(Model *m, const ModelOp *ops, int n)
{
	int done = 0;

	if (m->time < ops[0].time)
		m->time = ops[0].time;
	for (int at = 0; at < n;) {
		int end = at + 1;

		while (end < n && (ops[end].flags & OP_GROUPED))
			end++;
		if (apply_group(m, ops + at, end - at, ops[0].time))
			done += end - at;
		at = end;
	}
	return done;
}
