/*
 * steps.c - random operations on the engine and, at once, on the model.
 */
#include <string.h>

#include "../../storage/kvstore_internal.h"
#include "ipc/logclock.h"
#include "ipc/procslot.h"
#include "model.h"
#include "port/fs.h"
#include "storage/session.h"

#define SYSTEM_BODY 3000 /* some go to value files */
#define ROOM_MOST 400000 /* bytes: as much as a small tree has */

/* ---- drawing */
static Value
draw_value(Prng *g)
{
	const Settings *s = &world->set;
	uint64_t most = prng_below(g, 100) < s->large_of_100 ? s->value_large : s->value_small;

	if (prng_below(g, 4) == 0)
		return (Value){ .numeric = true, .id = prng_below(g, 1000) };
	return (Value){ .len = (uint32_t) prng_below(g, most + 1), .id = prng_next(g) };
}

static void
draw_condition(Prng *g, ModelOp *op)
{
	const ModelEntry *now = &model.entry[op->key];

	op->condition = (OpCondition) prng_below(g, 5);
	if (op->condition == COND_VALUE)
		op->expected = prng_below(g, 2) == 0 ? now->value : draw_value(g);
	if (op->condition == COND_VERSION)
		op->expected_version = prng_below(g, 3) != 0 ? now->version : now->version + 1;
}

static ModelOp
draw_op(Prng *g)
{
	ModelOp op = { .kind = OP_PUT };
	uint64_t n = (uint64_t) world->set.keys;

	if (prng_below(g, 12) == 0) {
		op.kind = OP_DELETE_RANGE;
		op.key = (int) prng_below(g, n);
		op.end = op.key + 1 + (int) prng_below(g, prng_below(g, 3) == 0 ? n - (uint64_t) op.key : n / 8 + 1);
		if (op.end > (int) n)
			op.end = (int) n;
		return op;
	}
	/* Some keys are written much more often than others. */
	op.key = (int) (prng_below(g, 3) == 0 ? prng_below(g, n) : prng_below(g, n / 8 + 1));
	if (prng_below(g, 4) == 0)
		op.kind = OP_DELETE;
	else if (prng_below(g, 5) == 0)
		op.kind = OP_INCR;
	if (op.kind == OP_PUT)
		op.value = draw_value(g);
	if (op.kind == OP_INCR)
		op.step = (int64_t) prng_below(g, 2000) - 1000;
	if (op.kind != OP_DELETE && prng_below(g, 6) == 0) {
		op.flags |= OP_TTL;
		op.ttl_ms = 1 + prng_below(g, 20000);
	} else if (op.kind == OP_PUT && prng_below(g, 8) == 0)
		op.flags |= OP_KEEP_TTL;
	if (prng_below(g, 5) == 0)
		draw_condition(g, &op);
	return op;
}

static int
draw_record(Prng *g, ModelOp *ops)
{
	int n = prng_below(g, 4) == 0 ? 1 + (int) prng_below(g, BATCH_OPS_MAX) : 1;
	bool grouped = prng_below(g, 2) == 0;

	for (int i = 0; i < n; i++) {
		ops[i] = draw_op(g);
		if (grouped && i > 0)
			ops[i].flags |= OP_GROUPED;
	}
	return n;
}

/* As a backend does: range deletions only when there is room for them; else single keys. */
static void
admit_ranges(ModelOp *ops, int n)
{
	uint32_t ranges = 0;

	for (int i = 0; i < n; i++)
		ranges += ops[i].kind == OP_DELETE_RANGE;
	world->ranges += ranges;
	if (ranges == 0 || kvstore_admit_ranges(ranges, 2 * ranges * KEY_LONGEST) == ST_OK)
		return;
	for (int i = 0; i < n; i++)
		if (ops[i].kind == OP_DELETE_RANGE)
			ops[i].kind = OP_DELETE;
	world->ranges_refused += ranges;
}

/* ---- doing */
static void
encode(Buf *body, const ModelOp *m)
{
	uint8_t number[8], version[8];
	Op op = { .kind = m->kind,
			  .condition = m->condition,
			  .flags = m->flags,
			  .ttl_ms = m->ttl_ms,
			  .key = key_text[m->kind == OP_DELETE_RANGE ? key_order[m->key] : m->key] };

	if (m->kind == OP_DELETE_RANGE)
		op.value = m->end < world->set.keys ? key_text[key_order[m->end]] : range_user_end();

	if (m->kind == OP_PUT)
		op.value = value_text(&m->value);
	if (m->kind == OP_INCR) {
		put_u64(number, (uint64_t) m->step);
		op.value = slice_of(number, sizeof number);
	}
	if (m->condition == COND_VALUE)
		op.expected = value_text(&m->expected);
	if (m->condition == COND_VERSION) {
		put_u64(version, m->expected_version);
		op.expected = slice_of(version, sizeof version);
	}
	MUST(op_encode(body, &op));
}

/* The record's own stamp says when it took effect; it is in the ring still. */
static void
learn_time(ModelOp *op, int n)
{
	Buf scratch = { 0 };
	WalRecord r;

	malloc_pause(true);
	MUST(wal_ring_read(op->version, &scratch, &r));
	malloc_pause(false);
	for (int i = 0; i < n; i++)
		op[i].time = r.header.log_time > op->time_before ? r.header.log_time : op->time_before;
	buf_free(&scratch);
}

/* What the engine says of each operation's outcome, as a backend would ask. */
static void
check_outcomes(const ModelOp *op, int n)
{
	Snapshot s;
	Entry e;

	kvstore_begin_own_read(&s);
	for (int i = 0; i < n; i++) {
		const ModelEntry *m = &model.entry[op[i].key];
		Status st;

		if (op[i].kind == OP_DELETE_RANGE)
			continue; /* it has none */
		st = kvstore_outcome(key_text[op[i].key], op[i].version, &e);
		if (ordered(st))
			continue;
		if (st != ST_OK && st != ST_NOT_FOUND)
			failed("outcome: %s (%s)", status_name(st), status_detail());
		/* A later operation of the record may have covered it. */
		if (m->version == op[i].version)
			CHECK(st == ST_OK && e.kind == (m->present ? ENTRY_PUT : ENTRY_DELETE));
		else if (m->version < op[i].version)
			CHECK(st == ST_NOT_FOUND);
	}
	kvstore_end_read();
}

static bool
certainly_not(Status st)
{
	return st == ST_NO_SPACE || st == ST_NOT_LEADER || st == ST_TIMEOUT || st == ST_BATCH_TOO_LARGE;
}

void
step_write(Prng *g)
{
	ModelOp ops[BATCH_OPS_MAX], *op;
	Ack ack = prng_below(g, 4) == 0 ? (Ack) prng_below(g, 3) : ACK_QUORUM;
	int n = draw_record(g, ops);
	Buf body = { 0 };
	uint64_t version;
	Lsn at = wal_inserted();
	Status st;

	malloc_pause(true);
	admit_ranges(ops, n);
	for (int i = 0; i < n; i++)
		encode(&body, &ops[i]);
	malloc_pause(false);
	op = journal_add(ops, n, at);
	kvstore_hold();
	st = kvstore_write(wal_generation(), &body, (uint32_t) n, ack, 1000, false, &version);
	buf_free(&body);
	if (st != ST_OK && certainly_not(st) && ordered(st)) {
		CHECK(wal_inserted() == at);
		kvstore_release();
		journal_undo(n);
		return;
	}
	if (st != ST_OK)
		failed("write: %s (%s)", status_name(st), status_detail());
	CHECK(version == at);
	learn_time(op, n);
	(void) model_apply(&model, op, n);
	if (ack != ACK_NONE)
		journal_acked();
	if (ack == ACK_QUORUM)
		check_outcomes(op, n);
	kvstore_release();
	world->records++;
}

static void
advance_time(Prng *g)
{
	uint64_t to = kvstore_applied_time() + prng_below(g, 8000);

	engine_apply_all();
	if (!worked(kvstore_advance_time(to), "a TIME record"))
		return;
	CHECK(kvstore_applied_time() >= to);
	model.time = kvstore_applied_time();
	journal_acked();
}

/* The newest configuration is there, whole; `unsure`: perhaps one that was not acknowledged. */
static void
check_config(bool unsure)
{
	Buf body = { 0 };
	Lsn start, end;
	Status st = kvstore_config(&body, &start, &end);

	if (!ordered(st) && world->config != 0) {
		CHECK(st == ST_OK && (start == world->config || (unsure && start > world->config)));
		for (size_t i = 0; i < body.len; i++)
			CHECK(body.data[i] == (uint8_t) (body.len + i));
		CHECK(start != world->config || body.len == world->config_len);
	}
	buf_free(&body);
}

/* Keys of the system's: a session, which expires, or a configuration. */
static void
write_for_system(Prng *g)
{
	static uint8_t body[SYSTEM_BODY];
	uint32_t len = 1 + (uint32_t) prng_below(g, prng_below(g, 4) == 0 ? sizeof body : 60);
	bool session = prng_below(g, 2) == 0;
	Slice part = slice_of(body, len);
	Buf ops = { 0 };
	uint64_t version;
	Lsn start, end;
	Status st;

	engine_apply_all();
	check_config(true);
	for (uint32_t i = 0; i < len; i++)
		body[i] = (uint8_t) (len + i);
	if (session) {
		malloc_pause(true);
		MUST(session_encode_open(&ops, prng_below(g, 20000)));
		malloc_pause(false);
		st = kvstore_write(wal_generation(), &ops, 1, ACK_QUORUM, 1000, false, &version);
		buf_free(&ops);
	} else
		st = wal_insert(wal_generation(), WAL_CONFIG, 0, logclock_now(), &part, 1, &start, &end);
	if (st != ST_OK && !certainly_not(st) && !ordered(st))
		failed("a record of the system's: %s (%s)", status_name(st), status_detail());
	if (st != ST_OK)
		return;
	engine_apply_all();
	model.time = kvstore_applied_time();
	journal_acked();
	if (session)
		return;
	world->config = start;
	world->config_len = len;
	check_config(false);
}

static void
note_levels(void)
{
	const Version *v = atomic_load(&kvs->current)->version;

	for (int i = 0; i < LSM_LEVELS; i++)
		world->levels_used[i] += v->ntables[i] > 0;
}

/* The compaction worker as on a disk that is full, or so nearly that many compactions do not fit. */
static void
work_without_space(Prng *g)
{
	bool full = prng_below(g, 2) == 0, did;
	uint64_t room = prng_below(g, ROOM_MOST), left;

	if (!worked(fs_free_space(".", &left), "asking for the free space"))
		return;
	atomic_store(&kvs->no_space, full);
	config.disk_reserve = (int64_t) (2 * (left - (room < left ? room : left))); /* half of it is left alone */
	engine_work(&did);
	config.disk_reserve = 0;
	atomic_store(&kvs->no_space, 0);
}

static void
background(int kind)
{
	uint32_t ms;
	bool did;

	if (kind == STEP_FREEZE)
		engine_freeze();
	if (kind == STEP_COMPACTOR)
		engine_work(&did);
	if (kind == STEP_COMPACT) {
		atomic_fetch_add(&kvs->compact_wanted, 1);
		engine_compact();
		note_levels();
	}
	if (kind == STEP_WALWRITER) {
		(void) worked(kvstore_walwriter_step(&ms), "the WAL writer");
		if (kvstore_applied() >= wal_inserted() && wal_durable() >= wal_inserted())
			journal_acked();
	}
}

static void
step(Prng *g, int kind)
{
	if (kind >= STEP_READ && kind != STEP_WAIT)
		engine_apply_all();
	switch (kind) {
	case STEP_WRITE:
		step_write(g);
		break;
	case STEP_READ:
		check_some(g);
		break;
	case STEP_KEY:
		check_get((int) prng_below(g, (uint64_t) world->set.keys));
		break;
	case STEP_WAIT:
		engine_wait(prng_below(g, 4000));
		break;
	case STEP_TIME:
		advance_time(g);
		break;
	case STEP_HOLD:
		check_hold(g);
		break;
	case STEP_HELD:
		check_held(g);
		break;
	case STEP_SCAN_DURING:
		check_scan_during_work(g);
		break;
	case STEP_SYSTEM:
		write_for_system(g);
		break;
	case STEP_FULL_DISK:
		work_without_space(g);
		break;
	default:
		background(kind);
	}
}

static int
draw_step(Prng *g)
{
	uint64_t all = 0, at;
	int kind = 0;

	for (int i = 0; i < STEPS; i++)
		all += world->set.weight[i];
	at = prng_below(g, all);
	while (at >= world->set.weight[kind])
		at -= world->set.weight[kind++];
	return kind;
}

void
steps_run(Prng *g, int n)
{
	for (int i = 0; i < n; i++)
		step(g, draw_step(g));
	note_levels();
}
