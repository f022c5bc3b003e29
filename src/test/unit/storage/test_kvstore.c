/*
 * test_kvstore.c - the whole engine in one process against a model, killed and reopened at random.
 *
 * A run is a list of incarnations. Each is a forked child that opens the directory as a new node would, compares
 * everything with the model, goes on with random operations (checking each answer), runs steps of the background
 * workers in between, and ends without any clean-up, as after kill -9. What the operations are depends
 * on the seed alone, so every incarnation rebuilds the model by replaying its predecessors' operations on it.
 */
#include "engine_test.h"

#define KEYS 300
#define INCARNATIONS 6
#define OPS 400

/* ---- the model ------------------------------------------------------------ */

typedef struct ModelValue {
	bool present;
	int64_t
		number; /* value = decimal text of it, padded with `pad` copies of 'x' behind a space if pad > 0 */
	uint32_t pad;
	uint64_t version; /* learnt when the operation ran in this incarnation; 0 unknown */
} ModelValue;

static ModelValue model[KEYS];

#define KEY_SIZE 64      /* of the buffers that keys and values are made in */
#define VALUE_SIZE 10000

static Slice
key_of(int k, char buf[KEY_SIZE])
{
	buf[0] = KEYSPACE_USER;
	return slice_of(buf, 1 + (size_t) snprintf(buf + 1, KEY_SIZE - 1, "key-%05d%s", k * 7919 % 100000,
											   k % 3 ? "" : "-long-tail-of-a-key"));
}

static Slice
value_of(const ModelValue *v, char buf[VALUE_SIZE])
{
	int n = snprintf(buf, VALUE_SIZE, "%lld", (long long) v->number);

	if (v->pad > 0) {
		buf[n++] = ' ';
		memset(buf + n, 'x', v->pad);
		n += (int) v->pad;
	}
	return slice_of(buf, (size_t) n);
}

/* One random operation; the same for a seed and a position, whoever asks. */
typedef struct Step {
	int kind; /* 0 put, 1 delete, 2 incr, 3 put if absent, 4 delete if present, 5 batch of three puts, 6 cas by value */
	int key;
	int64_t number;
	uint32_t pad;
} Step;

static Step
draw_step(Prng *g)
{
	Step s = { .kind = (int) prng_below(g, 7),
			   .key = (int) prng_below(g, KEYS),
			   .number = (int64_t) prng_below(g, 1000) };

	s.pad = prng_below(g, 4) == 0 ? (uint32_t) prng_below(g, 9000) : 0;
	return s;
}

static bool
step_holds(const Step *s)
{
	const ModelValue *m = &model[s->key];

	switch (s->kind) {
	case 2:
		return !m->present || m->pad == 0;
	case 3:
		return !m->present;
	case 4:
		return m->present;
	case 6:
		return m->present && m->number == s->number % 3;
	default:
		return true;
	}
}

static void
model_step(const Step *s, uint64_t version)
{
	ModelValue *m = &model[s->key];

	if (!step_holds(s))
		return;
	switch (s->kind) {
	case 1:
	case 4:
		m->present = false;
		break;
	case 2:
		*m = (ModelValue){ true, (m->present ? m->number : 0) + s->number, 0, version };
		break;
	case 5:
		for (int i = 0; i < 3; i++)
			model[(s->key + i) % KEYS] =
				(ModelValue){ true, s->number, s->pad, version ? version + (uint64_t) i : 0 };
		break;
	default:
		*m = (ModelValue){ true, s->number, s->pad, version };
	}
}

/* ---- the engine ----------------------------------------------------------- */

static void
background(Prng *g)
{
	bool did = true;
	uint32_t ms;

	switch (prng_below(g, 40)) {
	case 0: /* a flush and what it brings about */
		ask_for_flush();
		while (did)
			MUST(kvstore_compactor_step(&did));
		break;
	case 1:
		atomic_fetch_add(&kvs->compact_wanted, 1);
		while (did)
			MUST(kvstore_compactor_step(&did));
		break;
	case 2:
		MUST(kvstore_walwriter_step(&ms));
		break;
	default:
		break;
	}
}

static Op
op_of(const Step *s, int i, char *key, char *value, char *expected)
{
	ModelValue v = { true, s->number, s->pad, 0 }, cas = { true, s->number % 3, 0, 0 };
	Op op = { .kind = OP_PUT, .key = key_of((s->key + i) % KEYS, key), .value = value_of(&v, value) };

	if (s->kind == 1 || s->kind == 4)
		op = (Op){ .kind = OP_DELETE, .key = op.key };
	if (s->kind == 2) {
		op.kind = OP_INCR;
		put_u64((uint8_t *) value, (uint64_t) s->number);
		op.value = slice_of(value, 8);
	}
	if (s->kind == 3)
		op.condition = COND_ABSENT;
	if (s->kind == 4)
		op.condition = COND_PRESENT;
	if (s->kind == 6) {
		cas.pad = model[s->key].present ? model[s->key].pad : 0;
		op.condition = COND_VALUE;
		op.expected = value_of(&cas, expected);
	}
	if (i > 0)
		op.flags |= OP_GROUPED;
	return op;
}

/* Run a step on the engine; its outcome must be the model's. Returns the version. */
static uint64_t
run_step(const Step *s)
{
	static char key[KEY_SIZE], value[VALUE_SIZE], expected[VALUE_SIZE];
	Buf body = { 0 };
	uint64_t version = 0;
	int n = s->kind == 5 ? 3 : 1;
	Snapshot snap;
	Entry e;
	Op op;

	for (int i = 0; i < n; i++) {
		op = op_of(s, i, key, value, expected);
		MUST(op_encode(&body, &op));
	}
	kvstore_hold();
	MUST(kvstore_write(wal_generation(), &body, (uint32_t) n, ACK_QUORUM, 1000, false, &version));
	op = op_of(s, 0, key, value, expected);
	kvstore_begin_own_read(&snap);
	if (op.condition != COND_NONE || op.kind == OP_INCR)
		CHECK((kvstore_outcome(op.key, version, &e) == ST_OK) == step_holds(s));
	kvstore_end_read();
	buf_free(&body);
	return version;
}

static void
check_key(int k)
{
	char key[KEY_SIZE], value[VALUE_SIZE];
	Snapshot snap;
	Entry e;
	Status st;

	kvstore_begin_read(&snap, 0);
	st = kvstore_get(&snap, key_of(k, key), &e);
	CHECK(st == (model[k].present ? ST_OK : ST_NOT_FOUND));
	if (st == ST_OK) {
		CHECK(slice_eq(e.value, value_of(&model[k], value)));
		CHECK(model[k].version == 0 || model[k].version == e.version);
	}
	kvstore_end_read();
}

/* Keys [from, from + n) by one batch: the values are all there together. */
static void
check_many(int from, int n)
{
	static char keys[KVSTORE_BATCH_MAX][KEY_SIZE], value[VALUE_SIZE];
	Slice key[KVSTORE_BATCH_MAX];
	Entry e[KVSTORE_BATCH_MAX];
	Status st[KVSTORE_BATCH_MAX];
	Snapshot snap;

	for (int i = 0; i < n; i++)
		key[i] = key_of(from + i, keys[i]);
	kvstore_begin_read(&snap, 0);
	CHECK(kvstore_get_many(&snap, key, n, e, st) == n);
	for (int i = 0; i < n; i++) {
		const ModelValue *m = &model[from + i];

		CHECK(st[i] == (m->present ? ST_OK : ST_NOT_FOUND));
		if (st[i] == ST_OK)
			CHECK(slice_eq(e[i].value, value_of(m, value)) && (m->version == 0 || m->version == e[i].version));
	}
	kvstore_end_read();
}

/* Every key by GET and in batches of all sizes, and all of them by a scan in both directions. */
static void
check_all(void)
{
	static const uint8_t first = KEYSPACE_USER, last = KEYSPACE_USER + 1;
	int present = 0;

	for (int k = 0; k < KEYS; k++) {
		check_key(k);
		present += model[k].present;
	}
	for (int from = 0, n = 0; from < KEYS; from += n, n = 2 * n + 1) {
		if (n > KVSTORE_BATCH_MAX)
			n = KVSTORE_BATCH_MAX;
		if (n > KEYS - from)
			n = KEYS - from;
		check_many(from, n);
	}
	for (int reverse = 0; reverse < 2; reverse++) {
		Buf before = { 0 };
		Snapshot snap;
		Scan *sc;
		Entry e;
		int n = 0;
		Status st;

		kvstore_begin_read(&snap, 0);
		MUST(kvstore_scan_open(&snap, slice_of(&first, 1), slice_of(&last, 1), false, reverse, true, &sc));
		while ((st = kvstore_scan_next(sc, &e)) == ST_OK) {
			if (n++ > 0)
				CHECK(reverse ? slice_cmp(e.key, slice_buf(&before)) < 0
							  : slice_cmp(e.key, slice_buf(&before)) > 0);
			MUST(buf_set(&before, e.key));
		}
		CHECK(st == ST_NOT_FOUND && n == present);
		kvstore_scan_close(sc);
		kvstore_end_read();
		buf_free(&before);
	}
}

static void
incarnation(uint64_t seed, int number)
{
	Prng steps, chance;

	prng_seed(&steps, seed);
	prng_seed(&chance, seed * 1000 + (uint64_t) number);
	for (int i = 0; i < number * OPS; i++) {
		Step s = draw_step(&steps);

		model_step(&s, 0);
	}
	start_engine();
	check_all();
	for (int i = 0; i < OPS; i++) {
		Step s = draw_step(&steps);
		uint64_t version = run_step(&s);

		model_step(&s, version);
		check_key(s.key);
		background(&chance);
	}
	check_all();
	_exit(0);
}

/* ---- stories -------------------------------------------------------------- */

static Slice
story_key(const char *name, char *buf)
{
	buf[0] = KEYSPACE_USER;
	return slice_of(buf, 1 + (size_t) snprintf(buf + 1, 63, "%s", name));
}

static void
put(const char *name, Slice value, OpCondition condition, uint64_t ttl_ms)
{
	char key[KEY_SIZE];
	Buf body = { 0 };
	uint64_t version;
	Op op = { .kind = OP_PUT, .condition = condition, .key = story_key(name, key), .value = value };

	op.flags = ttl_ms > 0 ? OP_TTL : 0;
	op.ttl_ms = ttl_ms;
	MUST(op_encode(&body, &op));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
}

static void
check_brief(const char *name, const char *value)
{
	char key[KEY_SIZE];
	Snapshot snap;
	Entry e;

	kvstore_begin_read(&snap, 0);
	CHECK(kvstore_get(&snap, story_key(name, key), &e) == ST_OK);
	CHECK(slice_eq(e.value, slice_str(value)));
	kvstore_end_read();
}

#define BRIEF_MS 60000

/* A value that expires lies in a table; the log behind the table saw it alive, then it expires and all is compacted. */
static void
expire_and_compact(void)
{
	uint32_t ms;

	start_engine();
	for (int i = 0; i < 2; i++) {
		put("brief", slice_str("first"), COND_NONE, BRIEF_MS);
		put("number", slice_str("5"), COND_NONE, BRIEF_MS);
		ask_for_flush();
		run_compactor();
	}
	put("brief", slice_str("second"), COND_PRESENT, 0);
	check_brief("brief", "second");
	for (int i = 0; i < 2; i++)
		MUST(kvstore_walwriter_step(&ms)); /* moves the history floor: nobody asks for old versions */
	MUST(kvstore_advance_time(kvstore_applied_time() + 2 * BRIEF_MS));
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	check_brief("brief", "second");
}

static void
check_after_expiry(void)
{
	start_engine();
	check_brief("brief", "second");
}

static void
replay_meets_what_expired_since(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(expire_and_compact);
	run_child(check_after_expiry);
	leave_dir();
}

#define FILL_BYTES (4 * MB)
#define STALL_MS 300

/* Fill every memtable while nobody writes them out; the last put waits until the compaction worker comes. */
static void
fill_memtables(void)
{
	static uint8_t value[FILL_BYTES];
	uint64_t fits = (uint64_t) config.memtable_count * (uint64_t) config.memtable_size / FILL_BYTES;

	for (uint64_t i = 0; i <= fits; i++)
		put("large", slice_of(value, sizeof value), COND_NONE, 0);
}

static void
stall_and_go_on(void)
{
	uint64_t began, stalls, ms;
	int status;
	pid_t pid;

	start_engine();
	pid = fork_into(PROC_AUX_COUNT + 1, fill_memtables);
	while (atomic_load(&kvs->stalled) == 0) {
		CHECK(waitpid(pid, &status, WNOHANG) == 0);
		procslot_sleep(procslot_prepare_sleep(), 1000);
	}
	began = clock_mono_ns();
	stalls = atomic_load(&kvs->stalls);
	while (clock_mono_ns() - began < STALL_MS * UINT64_C(1000000))
		procslot_sleep(procslot_prepare_sleep(), 10000);
	stalls = atomic_load(&kvs->stalls) - stalls;
	ms = (clock_mono_ns() - began) / 1000000;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		run_compactor();
		procslot_sleep(procslot_prepare_sleep(), 1000);
	}
	CHECK(status == 0 && atomic_load(&kvs->stalled) == 0);
	/* It looks every 2 ms; the compaction worker needs the processor. */
	CHECK(stalls <= ms);
}

static void
who_waits_for_a_memtable_sleeps(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(stall_and_go_on);
	leave_dir();
}

static void
look_on(void)
{
	CHECK(kvstore_wait_applied(wal_inserted() + 1024, 20000) == ST_TIMEOUT);
}

static void
do_nothing(void)
{
}

/* One process waits for what nobody has written yet; it must not be woken in place of a writer who can flush. */
static void
watch_and_wake(void)
{
	int watcher = PROC_AUX_COUNT + 1, writer = PROC_AUX_COUNT + 2;
	uint32_t watcher_wakes, writer_wakes;
	pid_t pid;

	start_engine();
	waitpid(fork_into(writer, do_nothing), NULL, 0); /* from here on it is the test that stores its want */
	pid = fork_into(watcher, look_on);
	while (atomic_load(&kvs->want[watcher]) == 0)
		procslot_sleep(procslot_prepare_sleep(), 1000);
	watcher_wakes = atomic_load(&procslot_get(watcher)->wake);
	writer_wakes = atomic_load(&procslot_get(writer)->wake);
	atomic_store(&kvs->want[writer], wal_inserted() + 64);
	commit_wake();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK(atomic_load(&procslot_get(watcher)->wake) == watcher_wakes);
	CHECK(atomic_load(&procslot_get(writer)->wake) == writer_wakes + 1);
}

static void
who_only_looks_on_is_not_woken_to_work(void **state)
{
	(void) state;
	enter_new_dir();
	run_child(watch_and_wake);
	leave_dir();
}

static void
test_model(void **state)
{
	const char *from = getenv("KVD_TEST_SEED");
	uint64_t seed = from != NULL ? strtoull(from, NULL, 10) : 1;
	int runs = from != NULL ? 1 : 6;

	(void) state;
	for (int run = 0; run < runs; run++, seed++) {
		enter_new_dir();
		for (int i = 0; i < INCARNATIONS; i++) {
			int status;
			pid_t pid = fork();

			if (pid == 0)
				incarnation(seed, i);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			if (status != 0)
				fail_msg("seed %llu, incarnation %d ended with status %d; directory %s is kept",
						 (unsigned long long) seed, i, status, dir);
		}
		leave_dir();
	}
	print_message("seeds up to %llu\n", (unsigned long long) seed - 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(replay_meets_what_expired_since),
		cmocka_unit_test(who_waits_for_a_memtable_sleeps),
		cmocka_unit_test(who_only_looks_on_is_not_woken_to_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
