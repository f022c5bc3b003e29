/*
 * test_sessions.c - stamped writes against a model that does each serial once.
 *
 * Random writes with copies at once and late, serials in any order, several in a record, sessions that end by the log's
 * time and that never were; flushes, compactions and kills (of the process, without clean-up) in between. After
 * each write its outcome, and now and then every key, must be the model's. The model lives in shared memory, so
 * it outlives the incarnations of the engine.
 */
#include "engine_test.h"

#include "storage/session.h"

#define KEYS 12
#define SESSIONS 24
#define SERIALS_MAX 4200        /* four times around the slots */
#define INCARNATIONS 4
#define RECORDS 200
#define GROUPS_MAX 5            /* stamped writes in a record */
#define LONG_MS 3600000

typedef struct Outcome {
	bool done;
	Status status;
	uint32_t place;
	uint64_t detail, version;
	uint8_t extra;              /* length of the answer kept with it */
} Outcome;

typedef struct Model {
	struct {
		bool present;
		int64_t number;
		uint64_t version;
	} key[KEYS];
	struct {
		uint64_t id, deadline;
		bool closed;
		uint32_t newest;        /* serial */
		Outcome outcome[SERIALS_MAX];
	} session[SESSIONS];
	int sessions;
	uint64_t repeats, refusals, executed;
	uint64_t hash, entries;
} Model;

static Model *model;

/* ---- one stamped write ---------------------------------------------------- */

typedef struct Write {
	int session;                /* -1: one that does not exist */
	uint64_t serial;
	int kind;                   /* 0 incr, 1 put if absent, 2 delete if present, 3 batch, 4 nothing, 5 put */
	int key;
	int64_t step;
	uint8_t extra;
} Write;

static Slice
key_of(int k, char buf[16])
{
	buf[0] = KEYSPACE_USER;
	return slice_of(buf, 1 + (size_t) snprintf(buf + 1, 15, "key-%02d", k % KEYS));
}

/* Encode the operations; how many, the stamp counted. Values of puts are texts of numbers. */
static uint32_t
encode_write(const Write *w, Buf *body)
{
	static const uint8_t extra[256] = { 1, 2, 3 };
	static const OpKind kinds[] = { OP_INCR, OP_PUT, OP_DELETE, OP_INCR, 0, OP_PUT };
	static const OpCondition conditions[] = { COND_NONE, COND_ABSENT, COND_PRESENT, COND_NONE, COND_NONE, COND_NONE };
	uint64_t id = w->session >= 0 ? model->session[w->session].id : UINT64_C(0xabcdef);
	char key[16], text[24];
	uint8_t step[8];
	Op op = { .kind = kinds[w->kind], .condition = conditions[w->kind], .flags = OP_GROUPED };

	MUST(session_encode_stamp(body, id, w->serial, slice_of(extra, w->extra)));
	if (w->kind == 4)
		return 1;
	put_u64(step, (uint64_t) w->step);
	snprintf(text, sizeof text, "%lld", (long long) w->step);
	op.key = key_of(w->key, key);
	if (op.kind == OP_INCR)
		op.value = slice_of(step, 8);
	else if (op.kind == OP_PUT)
		op.value = slice_str(text);
	MUST(op_encode(body, &op));
	if (w->kind != 3)
		return 2;
	op = (Op){ .kind = OP_PUT, .condition = COND_ABSENT, .flags = OP_GROUPED, .key = key_of(w->key + 1, key),
			   .value = slice_str(text) };
	MUST(op_encode(body, &op));
	return 3;
}

/* What the write does when it is done; version: of its stamp. */
static Outcome
model_do(const Write *w, uint64_t version)
{
	Outcome o = { .done = true, .version = version, .extra = w->extra };
	int k = w->key % KEYS, second = (w->key + 1) % KEYS;

	if (w->kind == 1 && model->key[k].present)
		o.status = ST_CONDITION_FAILED, o.detail = model->key[k].version;
	else if (w->kind == 2 && !model->key[k].present)
		o.status = ST_NOT_FOUND;
	else if (w->kind == 3 && model->key[second].present)
		o.status = ST_CONDITION_FAILED, o.detail = model->key[second].version, o.place = 1;
	if (o.status != ST_OK || w->kind == 4)
		return o;
	if (w->kind == 0 || w->kind == 3) {
		o.detail = (uint64_t) ((model->key[k].present ? model->key[k].number : 0) + w->step);
		model->key[k].number = (int64_t) o.detail;
	} else
		model->key[k].number = w->step;
	model->key[k].present = w->kind != 2;
	model->key[k].version = version + 1;
	if (w->kind == 3) {
		model->key[second].present = true;
		model->key[second].number = w->step;
		model->key[second].version = version + 2;
	}
	return o;
}

static void
check_outcome(const Write *w, uint64_t version, const Outcome *want)
{
	SlotValue slot;
	uint64_t done = 0;
	uint64_t id = w->session >= 0 ? model->session[w->session].id : UINT64_C(0xabcdef);
	Status st = kvstore_stamp_outcome(id, w->serial, version, &slot, &done);

	if (want == NULL) {
		CHECK(st == ST_SESSION_EXPIRED);
		return;
	}
	MUST(st);
	CHECK(slot.serial == w->serial && slot.status == want->status && done == want->version);
	CHECK(slot.detail == want->detail && slot.place == want->place && slot.answer.len == want->extra);
}

/* Judge by the model, at the log time of the record, and compare. */
static void
settle(const Write *w, uint64_t version, uint64_t now_ms)
{
	bool alive = w->session >= 0 && !model->session[w->session].closed && model->session[w->session].deadline > now_ms;
	Outcome *o = NULL;

	if (!alive)
		model->refusals++;
	else {
		o = &model->session[w->session].outcome[w->serial];
		for (uint64_t later = w->serial + PROTO_SESSION_WINDOW; later < SERIALS_MAX; later += PROTO_SESSION_WINDOW)
			if (model->session[w->session].outcome[later].done)
				o = NULL;
		if (o == NULL || o->done)
			model->repeats++;
		else {
			*o = model_do(w, version);
			model->executed++;
		}
	}
	check_outcome(w, version, o);
}

/* ---- a run ---------------------------------------------------------------- */

static void
open_session(uint64_t ttl_ms)
{
	Buf body = { 0 };
	int i = model->sessions++;
	uint64_t version;

	MUST(session_encode_open(&body, ttl_ms));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, true, &version));
	model->session[i].id = version;
	model->session[i].deadline = kvstore_applied_time() + ttl_ms;
	buf_free(&body);
}

static void
close_session(int i)
{
	Buf body = { 0 };
	uint64_t version;

	MUST(session_encode_close(&body, model->session[i].id));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, true, &version));
	model->session[i].closed = true;
	buf_free(&body);
}

static Write
draw_write(Prng *g)
{
	Write w = { .session = (int) prng_below(g, (uint64_t) model->sessions + 1) - 1, .kind = (int) prng_below(g, 6),
				.key = (int) prng_below(g, KEYS), .step = (int64_t) prng_below(g, 100) };
	uint32_t *newest, back;

	w.extra = prng_below(g, 8) == 0 ? (uint8_t) prng_below(g, 256) : 0;
	if (w.session < 0) {
		w.serial = prng_below(g, SERIALS_MAX);
		return w;
	}
	newest = &model->session[w.session].newest;
	back = (uint32_t) prng_below(g, prng_below(g, 10) == 0 ? 3 * PROTO_SESSION_WINDOW : 6);
	switch (prng_below(g, 8)) {
	case 0: /* leave some out, for later */
		*newest += (uint32_t) prng_below(g, 4);
		break;
	case 1: /* far on: many slots are taken over */
		*newest += (uint32_t) prng_below(g, PROTO_SESSION_WINDOW);
		break;
	case 2: /* exactly around */
		back = PROTO_SESSION_WINDOW - 1 + (uint32_t) prng_below(g, 3);
		break;
	default:
		*newest += 1;
	}
	*newest = *newest < SERIALS_MAX ? *newest : SERIALS_MAX - 1;
	w.serial = *newest;
	if (prng_below(g, 3) == 0 || back > PROTO_SESSION_WINDOW - 2)
		w.serial -= back <= *newest ? back : *newest;
	return w;
}

/* One record of stamped writes, some of them the same. */
static void
write_record(Prng *g)
{
	Write w[GROUPS_MAX];
	uint32_t ops[GROUPS_MAX], count = 0, n = 1 + (uint32_t) prng_below(g, GROUPS_MAX);
	Buf body = { 0 };
	Snapshot snapshot;
	uint64_t version;

	for (uint32_t i = 0; i < n; i++) {
		w[i] = i > 0 && prng_below(g, 4) == 0 ? w[prng_below(g, i)] : draw_write(g);
		ops[i] = encode_write(&w[i], &body);
		count += ops[i];
	}
	kvstore_hold();
	MUST(kvstore_write(wal_generation(), &body, count, ACK_QUORUM, 1000, false, &version));
	kvstore_begin_own_read(&snapshot);
	for (uint32_t i = 0; i < n; i++) {
		settle(&w[i], version, kvstore_applied_time());
		version += ops[i];
	}
	kvstore_end_read();
	buf_free(&body);
}

static void
check_keys(void)
{
	Snapshot snapshot;
	char key[16], text[24];
	Entry e;

	kvstore_begin_read(&snapshot, 0);
	for (int k = 0; k < KEYS; k++) {
		Status st = kvstore_get(&snapshot, key_of(k, key), &e);

		CHECK(st == (model->key[k].present ? ST_OK : ST_NOT_FOUND));
		if (st != ST_OK)
			continue;
		snprintf(text, sizeof text, "%lld", (long long) model->key[k].number);
		CHECK(slice_eq(e.value, slice_str(text)) && e.version == model->key[k].version);
	}
	kvstore_end_read();
}

static void
disturb(Prng *g)
{
	uint32_t ms;

	switch (prng_below(g, 60)) {
	case 0:
		ask_for_flush();
		run_compactor();
		break;
	case 1:
		atomic_fetch_add(&kvs->compact_wanted, 1);
		run_compactor();
		break;
	case 2:
		MUST(kvstore_walwriter_step(&ms));
		break;
	case 3:
		MUST(kvstore_advance_time(kvstore_applied_time() + prng_below(g, 3000)));
		break;
	case 4:
		if (model->sessions < SESSIONS)
			open_session(prng_below(g, 2) == 0 ? LONG_MS : 1000 + prng_below(g, 5000));
		break;
	case 5:
		if (prng_below(g, 4) == 0)
			close_session((int) prng_below(g, (uint64_t) model->sessions));
		break;
	default:
		break;
	}
}

static uint64_t the_seed;
static int the_number;

static void
incarnation(void)
{
	uint64_t repeats, refusals;
	Prng g;

	prng_seed(&g, the_seed * 100 + (uint64_t) the_number);
	start_engine();
	check_keys();
	if (model->sessions == 0)
		open_session(LONG_MS);
	repeats = model->repeats;
	refusals = model->refusals;
	repeats -= atomic_load(&kvs->session_repeats); /* what the start replayed is counted too */
	refusals -= atomic_load(&kvs->session_refusals);
	for (int i = 0; i < RECORDS; i++) {
		write_record(&g);
		if (i % 16 == 0)
			check_keys();
		disturb(&g);
	}
	check_keys();
	CHECK(model->repeats - repeats == atomic_load(&kvs->session_repeats));
	CHECK(model->refusals - refusals == atomic_load(&kvs->session_refusals));
}

static void
setup_model(void)
{
	model = mmap(NULL, sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	assert_true(model != MAP_FAILED);
	enter_new_dir();
}

static void
leave_model(void)
{
	leave_dir();
	munmap(model, sizeof *model);
}

static void
test_model(void **state)
{
	const char *from = getenv("KVD_TEST_SEED");
	int runs = from != NULL ? 1 : 6;
	uint64_t executed = 0, repeats = 0, refusals = 0;

	(void) state;
	the_seed = from != NULL ? strtoull(from, NULL, 10) : 1;
	for (int run = 0; run < runs; run++, the_seed++) {
		setup_model();
		print_message("seed %llu\n", (unsigned long long) the_seed);
		for (the_number = 0; the_number < INCARNATIONS; the_number++)
			run_child(incarnation);
		executed += model->executed;
		repeats += model->repeats;
		refusals += model->refusals;
		leave_model();
	}
	if (from == NULL)
		assert_true(executed > 1000 && repeats > 1000 && refusals > 1000);
}

/* ---- the same log gives the same state ------------------------------------ */

/* Hash of all there is, sessions and slots included. */
static void
content_hash(uint64_t *hash, uint64_t *entries)
{
	uint64_t log_time;
	Lsn lsn, newest;

	MUST(kvstore_insert_hash(wal_generation(), &lsn));
	MUST(kvstore_advance_time(kvstore_applied_time() + 1)); /* commits what is before it */
	CHECK(kvstore_hash_wanted(&newest, &log_time) && newest == lsn);
	MUST(kvstore_content_hash(lsn, log_time, NULL, NULL, hash, entries));
	kvstore_hash_done(lsn);
}

static void
write_and_hash(void)
{
	Prng g;

	prng_seed(&g, 77);
	start_engine();
	open_session(LONG_MS);
	open_session(1000);
	for (int i = 0; i < RECORDS; i++) {
		write_record(&g);
		if (i == RECORDS / 2)
			MUST(kvstore_advance_time(kvstore_applied_time() + 2000));
	}
	content_hash(&model->hash, &model->entries);
	CHECK(model->entries > KEYS + 1);
}

/* Nothing was written to tables: all of it comes from the log, then lies in tables. */
static void
replay_and_compare(void)
{
	uint64_t hash, entries;

	start_engine();
	content_hash(&hash, &entries);
	CHECK(hash == model->hash && entries == model->entries);
	ask_for_flush();
	run_compactor();
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	content_hash(&hash, &entries);
	CHECK(hash == model->hash && entries == model->entries);
}

static void
test_same_log_same_state(void **state)
{
	(void) state;
	setup_model();
	run_child(write_and_hash);
	run_child(replay_and_compare);
	leave_model();
}

/* ---- bounds --------------------------------------------------------------- */

static Write
at(int session, uint64_t serial)
{
	return (Write){ .session = session, .serial = serial, .kind = 0, .key = 1, .step = 1 };
}

static uint64_t
run_one(const Write *w)
{
	Buf body = { 0 };
	uint32_t n = encode_write(w, &body);
	Snapshot snapshot;
	uint64_t version;

	kvstore_hold();
	MUST(kvstore_write(wal_generation(), &body, n, ACK_QUORUM, 1000, false, &version));
	kvstore_begin_own_read(&snapshot);
	settle(w, version, kvstore_applied_time());
	kvstore_end_read();
	buf_free(&body);
	return version;
}

static uint64_t
count_sessions(void)
{
	Snapshot snapshot;
	uint64_t n;

	kvstore_begin_read(&snapshot, 0);
	MUST(session_count(&snapshot, &n));
	kvstore_end_read();
	return n;
}

/* Everything of an expired session is gone from tables in the end: nobody has to clean up. */
static void
live_and_die(void)
{
	uint8_t first[] = { KEYSPACE_SYSTEM, 'o' }, end[] = { KEYSPACE_SYSTEM, 't' };
	Snapshot snapshot;
	Write w;
	Scan *sc;
	Entry e;
	uint32_t ms;

	start_engine();
	open_session(LONG_MS);
	open_session(LONG_MS);
	CHECK(count_sessions() == 2);
	close_session(1);
	CHECK(count_sessions() == 1);
	w = at(0, 5);
	run_one(&w);
	run_one(&w);
	w = at(0, 5 + PROTO_SESSION_WINDOW - 1);
	run_one(&w);
	w = at(0, 5);
	run_one(&w);
	CHECK(model->executed == 2 && model->repeats == 2);
	w = at(0, 5 + PROTO_SESSION_WINDOW); /* takes the slot over */
	run_one(&w);
	w = at(0, 5);
	run_one(&w);
	w = at(0, 6);
	run_one(&w); /* never came before, still within reach */
	CHECK(model->executed == 4 && model->repeats == 3 && model->refusals == 0);
	/* A moment before its deadline it lives, at it no more. */
	MUST(kvstore_advance_time(model->session[0].deadline - 1));
	kvstore_begin_read(&snapshot, 0);
	CHECK(snapshot.log_time == model->session[0].deadline - 1);
	kvstore_end_read();
	w = at(0, 6);
	run_one(&w);
	MUST(kvstore_advance_time(model->session[0].deadline));
	w = at(0, 7);
	run_one(&w);
	CHECK(model->refusals >= 1);
	for (int i = 0; i < 2; i++)
		MUST(kvstore_walwriter_step(&ms)); /* moves the history floor */
	ask_for_flush();
	run_compactor();
	MUST(kvstore_advance_time(kvstore_applied_time() + 1));
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	kvstore_begin_read(&snapshot, 0);
	MUST(kvstore_scan_open(&snapshot, slice_of(first, 2), slice_of(end, 2), false, false, true, &sc));
	CHECK(kvstore_scan_next(sc, &e) == ST_NOT_FOUND);
	kvstore_scan_close(sc);
	kvstore_end_read();
}

static void
test_bounds(void **state)
{
	(void) state;
	setup_model();
	run_child(live_and_die);
	leave_model();
}

/* What the log must not hold is refused when it is read. */
static void
test_unsound(void **state)
{
	uint8_t key[SLOT_KEY_SIZE], value[8 + SLOT_ANSWER_MAX + 1] = { 0 };
	Op op = { .kind = OP_STAMP, .key = session_slot_key(7, 1030, key), .value = slice_of(value, 8) };

	(void) state;
	put_u64(value, 1030);
	assert_true(session_op_is_sound(&op));
	assert_int_equal(session_of_slot(op.key), 7);
	op.value.len = 8 + SLOT_ANSWER_MAX;
	assert_true(session_op_is_sound(&op));
	op.value.len++;
	assert_false(session_op_is_sound(&op));
	op.value.len = 7;
	assert_false(session_op_is_sound(&op));
	op.value.len = 8;
	put_u64(value, 1031); /* another slot */
	assert_false(session_op_is_sound(&op));
	put_u64(value, 6);
	assert_true(session_op_is_sound(&op));
	op.flags = OP_GROUPED; /* a stamp begins its group */
	assert_false(session_op_is_sound(&op));
	op.flags = 0;
	op.condition = COND_ABSENT;
	assert_false(session_op_is_sound(&op));
	op.condition = COND_NONE;
	op.key.len--;
	assert_false(session_op_is_sound(&op));
	op.key.len++;
	key[0] = KEYSPACE_USER;
	assert_false(session_op_is_sound(&op));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unsound),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_same_log_same_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
