/*
 * test_memtable.c - the memtable against a sorted array, at its bounds, and under concurrent readers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "common/hash.h"
#include "common/prng.h"
#include "port/clock.h"
#include "storage/memtable.h"

static void *
aligned(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) & ~(size_t) 63);

	assert_non_null(p);
	return p;
}

static Entry
put(Slice key, uint64_t version, Slice value)
{
	return (Entry){ .key = key, .value = value, .version = version, .kind = ENTRY_PUT };
}

static void
assert_same(const Entry *a, const Entry *b)
{
	assert_int_equal(entry_cmp(a->key, a->version, b->key, b->version), 0);
	assert_true(slice_eq(a->value, b->value));
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->expire_ms, b->expire_ms);
}

/* ---- model: entries in order, in memory of their own */
#define MODEL_MAX 4096

typedef struct Model {
	Entry e[MODEL_MAX];
	int n;
	uint8_t bytes[MODEL_MAX * 48];
	size_t used;
} Model;

/* Index of the first entry at or after. */
static int
model_lower(const Model *mo, Slice key, uint64_t version)
{
	int lo = 0, hi = mo->n;

	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (entry_cmp(mo->e[mid].key, mo->e[mid].version, key, version) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static Slice
model_copy(Model *mo, Slice s)
{
	uint8_t *p = mo->bytes + mo->used;

	memcpy(p, s.data, s.len);
	mo->used += s.len;
	return slice_of(p, s.len);
}

static void
model_add(Model *mo, const Entry *e)
{
	int at = model_lower(mo, e->key, e->version);

	memmove(&mo->e[at + 1], &mo->e[at], (size_t) (mo->n - at) * sizeof *mo->e);
	mo->e[at] = *e;
	mo->e[at].key = model_copy(mo, e->key);
	mo->e[at].value = model_copy(mo, e->value);
	mo->n++;
}

/*
 * Keys made to be alike: few bytes of which many are 0 or 0xff, shared prefixes of 7, 8, 9 bytes, short ones
 * that end in zeros.
 */
static Slice
make_key(Prng *g, uint8_t *buf)
{
	static const uint8_t alphabet[] = { 0, 1, 'a', 0xff };
	size_t shared = 0, len;

	switch (prng_below(g, 4)) {
	case 0:
		shared = 6 + prng_below(g, 4);
		break;
	case 1:
		memset(buf, 0, 4);
		return slice_of(buf, 1 + prng_below(g, 12) % 4);
	default:
		break;
	}
	memset(buf, 'p', shared);
	len = shared + 1 + prng_below(g, 5);
	for (size_t i = shared; i < len; i++)
		buf[i] = alphabet[prng_below(g, sizeof alphabet)];
	return slice_of(buf, len);
}

static void
check_iteration(const Memtable *m, const Model *mo)
{
	Iter *it = memtable_iter(m);
	int i = 0;

	assert_non_null(it);
	assert_false(it->valid);
	for (iter_seek_first(it); it->valid; iter_next(it))
		assert_same(&it->entry, &mo->e[i++]);
	assert_int_equal(i, mo->n);
	for (iter_seek_last(it); it->valid; iter_prev(it))
		assert_same(&it->entry, &mo->e[--i]);
	assert_int_equal(i, 0);
	assert_int_equal(it->status, ST_OK);
	iter_close(it);
}

static void
check_seek(Iter *it, const Model *mo, Slice key, uint64_t version)
{
	int at = model_lower(mo, key, version);

	iter_seek(it, key, version);
	assert_int_equal(it->valid, at < mo->n);
	if (it->valid)
		assert_same(&it->entry, &mo->e[at]);
	iter_seek_before(it, key, version);
	assert_int_equal(it->valid, at > 0);
	if (it->valid)
		assert_same(&it->entry, &mo->e[at - 1]);
}

static void
check_get(const Memtable *m, const Model *mo, Slice key, uint64_t snapshot)
{
	int at = snapshot == 0 ? mo->n : model_lower(mo, key, snapshot - 1);
	bool there = at < mo->n && slice_eq(mo->e[at].key, key);
	Entry e;

	memtable_prefetch(m, key);
	assert_int_equal(memtable_get(m, key, snapshot, &e), there);
	if (there)
		assert_same(&e, &mo->e[at]);
}

static void
model_run(Memtable *m, Model *mo, uint64_t seed)
{
	Prng g;
	uint8_t kb[32], vb[16];
	uint64_t version = 1;
	int ops;
	Iter *it = memtable_iter(m);

	prng_seed(&g, seed);
	mo->n = 0;
	mo->used = 0;
	ops = 20 + (int) prng_below(&g, 800);
	for (int i = 0; i < ops; i++) {
		Entry e = put(make_key(&g, kb), version, slice_of(vb, prng_below(&g, sizeof vb)));

		memset(vb, i, sizeof vb);
		version += prng_below(&g, 3) == 0 ? 1 : 8;
		e.version = version;
		if (prng_below(&g, 5) == 0) {
			e.kind = ENTRY_DELETE;
			e.value.len = 0;
		} else if (prng_below(&g, 5) == 0)
			e.expire_ms = 1 + prng_below(&g, 1000);
		assert_int_equal(memtable_add(m, &e), ST_OK);
		model_add(mo, &e);
		if (prng_below(&g, 8) == 0) {
			check_seek(it, mo, make_key(&g, kb), prng_below(&g, version + 3));
			check_seek(it, mo, make_key(&g, kb), UINT64_MAX);
			check_get(m, mo, make_key(&g, kb), prng_below(&g, version + 3));
			check_get(m, mo, make_key(&g, kb), UINT64_MAX);
		}
	}
	iter_close(it);
	assert_int_equal(memtable_count(m), mo->n);
	for (int i = 0; i < mo->n; i++) {
		check_get(m, mo, mo->e[i].key, mo->e[i].version);
		check_get(m, mo, mo->e[i].key, mo->e[i].version + 1);
	}
	check_iteration(m, mo);
}

static void
test_model(void **state)
{
	void *mem = aligned(256 * 1024);
	Model *mo = malloc(sizeof *mo);

	(void) state;
	assert_non_null(mo);
	for (uint64_t seed = 1; seed <= 300; seed++) {
		/* 256 kB for most; the memory is used again without being cleared by us. */
		Memtable *m = memtable_init(mem, 256 * 1024, seed);

		model_run(m, mo, seed);
	}
	free(mo);
	free(mem);
}

/* Ascending, descending, interleaved runs and one hot key: the splice hint must not change the result. */
static void
test_runs(void **state)
{
	void *mem = aligned(1 << 20);
	Model *mo = malloc(sizeof *mo);
	char key[32];

	(void) state;
	assert_non_null(mo);
	for (int shape = 0; shape < 6; shape++) {
		Memtable *m = memtable_init(mem, 1 << 20, (uint64_t) shape);

		mo->n = 0;
		mo->used = 0;
		for (int i = 0; i < 2000; i++) {
			int k = shape == 0 ? i : shape == 1 ? 2000 - i : shape == 2 ? (i % 7) * 1000 + i
			      : shape == 3 ? 5 : shape == 4 ? i / 3 : (i * 2) % 2001;
			Entry e;

			snprintf(key, sizeof key, "%08d", k);
			e = put(slice_str(key), (uint64_t) i + 1, slice_str("v"));
			assert_int_equal(memtable_add(m, &e), ST_OK);
			model_add(mo, &e);
		}
		check_iteration(m, mo);
		for (int i = 0; i < mo->n; i++)
			check_get(m, mo, mo->e[i].key, mo->e[i].version + 1);
	}
	free(mo);
	free(mem);
}

/* Batches of every size, random and ascending, with keys that meet in one batch: the same table as one by one. */
static void
test_add_many(void **state)
{
	static char keys[MEMTABLE_BATCH][16];
	void *one_mem = aligned(1 << 20), *many_mem = aligned(1 << 20);

	(void) state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		Memtable *one = memtable_init(one_mem, 1 << 20, seed), *many = memtable_init(many_mem, 1 << 20, seed + 1);
		Entry e[MEMTABLE_BATCH], got;
		uint64_t version = 1, ascending = 0;
		Iter *a, *b;
		Prng g;

		prng_seed(&g, seed);
		while (version < 2000) {
			int n = (int) prng_below(&g, MEMTABLE_BATCH + 1);
			bool run = prng_below(&g, 3) == 0;

			for (int i = 0; i < n; i++) {
				uint64_t k = run ? 1000 + ascending++ : prng_below(&g, 700);
				int len = snprintf(keys[i], sizeof keys[i], "key-%06u", (unsigned) k);

				e[i] = put(slice_of(keys[i], (size_t) len), version++, slice_of(keys[i], 4));
				e[i].expire_ms = k % 5 == 0 ? k + 1 : 0;
				assert_int_equal(memtable_add(one, &e[i]), ST_OK);
			}
			assert_int_equal(memtable_add_many(many, e, n), ST_OK);
			for (int i = 0; i < n; i++) {
				assert_true(memtable_get(many, e[i].key, e[i].version + 1, &got));
				assert_same(&got, &e[i]);
			}
		}
		assert_int_equal(memtable_count(one), memtable_count(many));
		a = memtable_iter(one);
		b = memtable_iter(many);
		assert_non_null(a);
		assert_non_null(b);
		for (iter_seek_first(a), iter_seek_first(b); a->valid && b->valid; iter_next(a), iter_next(b))
			assert_same(&a->entry, &b->entry);
		assert_true(!a->valid && !b->valid);
		iter_close(a);
		iter_close(b);
	}
	free(one_mem);
	free(many_mem);
}

static void
test_empty(void **state)
{
	void *mem = aligned(MEMTABLE_BYTES_MIN);
	Memtable *m = memtable_init(mem, MEMTABLE_BYTES_MIN, 1);
	Iter *it = memtable_iter(m);
	Entry e;

	(void) state;
	memtable_prefetch(m, slice_str("x"));
	assert_false(memtable_get(m, slice_str("x"), UINT64_MAX, &e));
	iter_seek_first(it);
	assert_false(it->valid);
	iter_seek_last(it);
	assert_false(it->valid);
	iter_seek(it, slice_str("x"), UINT64_MAX);
	assert_false(it->valid);
	iter_seek_before(it, slice_str("x"), 0);
	assert_false(it->valid);
	iter_close(it);
	assert_int_equal(memtable_count(m), 0);
	free(mem);
}

/* memtable_cost() is an upper bound, and with as much room memtable_add() never answers BUSY. */
static void
test_cost(void **state)
{
	void *mem = aligned(1 << 20);
	uint8_t bytes[600] = { 1 };
	Prng g;

	(void) state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		Memtable *m = memtable_init(mem, (1 << 20) - 64 * (seed % 100), seed);

		prng_seed(&g, seed);
		for (uint64_t version = 1;; version++) {
			size_t key_len = 1 + prng_below(&g, 300), value_len = prng_below(&g, 300);
			Entry e = put(slice_of(bytes, key_len), version, slice_of(bytes, value_len));
			size_t room = memtable_room(m), cost = memtable_cost(e.key.len, e.value.len);
			uint64_t used = memtable_used(m), count = memtable_count(m);
			Status s;

			e.expire_ms = prng_below(&g, 2);
			s = memtable_add(m, &e);
			if (s == ST_BUSY) {
				assert_true(room < cost);
				assert_int_equal(memtable_used(m), used);
				assert_int_equal(memtable_count(m), count);
				break;
			}
			assert_int_equal(s, ST_OK);
			assert_true(room - memtable_room(m) <= cost);
			assert_int_equal(memtable_used(m) + memtable_room(m), used + room);
		}
	}
	free(mem);
}

/* BUSY leaves everything as it was, and an entry that still fits is taken to the last byte. */
static void
test_full_exactly(void **state)
{
	void *mem = aligned(MEMTABLE_BYTES_MIN);
	Memtable *m = memtable_init(mem, MEMTABLE_BYTES_MIN, 7);
	uint8_t *value = calloc(1, MEMTABLE_BYTES_MIN);
	Entry e, got;
	uint64_t version = 1;
	size_t room;
	Iter *it;
	int n = 0;

	(void) state;
	assert_non_null(value);
	for (;; version++) {
		char key[16];

		snprintf(key, sizeof key, "k%07d", (int) version);
		e = put(slice_str(key), version, slice_of(value, 40));
		if (memtable_room(m) < 512)
			break;
		assert_int_equal(memtable_add(m, &e), ST_OK);
	}
	room = memtable_room(m);
	/*
	 * No tower is lower than one link: 28 + 4 + 1 key byte + value. One byte too many, whatever the height.
	 */
	e = put(slice_str("z"), version, slice_of(value, room - 33 + 1));
	for (int i = 0; i < 20; i++) {
		uint8_t *before = malloc(MEMTABLE_BYTES_MIN);

		memcpy(before, mem, MEMTABLE_BYTES_MIN);
		assert_int_equal(memtable_add(m, &e), ST_BUSY);
		assert_memory_equal(before, mem, MEMTABLE_BYTES_MIN);
		free(before);
	}
	assert_false(memtable_get(m, slice_str("z"), UINT64_MAX, &got));
	/* A byte less fits if the tower is lowest; links of 4 bytes each decide otherwise. */
	for (size_t links = 1; links <= 16; links++) {
		e.value.len = room - 33 - 4 * (links - 1);
		if (memtable_add(m, &e) == ST_OK)
			break;
	}
	assert_true(memtable_room(m) < 16);
	assert_true(memtable_get(m, slice_str("z"), UINT64_MAX, &got));
	assert_int_equal(got.value.len, e.value.len);
	e = put(slice_str("y"), version + 1, slice_of(NULL, 0));
	assert_int_equal(memtable_add(m, &e), ST_BUSY);
	it = memtable_iter(m);
	for (iter_seek_first(it); it->valid; iter_next(it))
		n++;
	assert_int_equal(n, memtable_count(m));
	iter_close(it);
	free(value);
	free(mem);
}

/* Least nodes everywhere: more keys than any other filling has, and the index still finds each. */
static void
test_many_tiny_keys(void **state)
{
	void *mem = aligned(4 << 20);
	Memtable *m = memtable_init(mem, 4 << 20, 3);
	uint32_t n = 0;
	Entry e, got;

	(void) state;
	for (;; n++) {
		uint32_t k = __builtin_bswap32(n * 2654435761u);

		e = put(slice_of(&k, 4), n + 1, slice_of(NULL, 0));
		if (memtable_add(m, &e) != ST_OK)
			break;
	}
	assert_true(n > 70000);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t k = __builtin_bswap32(i * 2654435761u);

		assert_true(memtable_get(m, slice_of(&k, 4), UINT64_MAX, &got));
		assert_int_equal(got.version, i + 1);
	}
	free(mem);
}

/*
 * One node in 4 reaches the next level: seen by its size, which is 48 bytes with one link and 64 with 2 to 5.
 */
static void
test_heights(void **state)
{
	void *mem = aligned(1 << 20);
	Memtable *m = memtable_init(mem, 1 << 20, 11);
	size_t before = memtable_used(m);
	double each;

	(void) state;
	for (uint64_t i = 1; i <= 10000; i++) {
		uint64_t k[2] = { hash_mix(i), i };
		Entry e = put(slice_of(k, 16), i, slice_of(NULL, 0));

		assert_int_equal(memtable_add(m, &e), ST_OK);
	}
	each = (double) (memtable_used(m) - before) / 10000;
	assert_true(each > 51 && each < 53.2);
	free(mem);
}

/* What lsm and kvstore count on: the smallest setting holds any record, whatever is in it. */
static void
test_any_record(void **state)
{
	void *mem = aligned(MEMTABLE_BYTES_ANY_RECORD);
	Memtable *m = memtable_init(mem, MEMTABLE_BYTES_ANY_RECORD, 1);
	uint8_t *big = calloc(1, KV_RECORD_MAX);
	size_t per_op = KV_RECORD_MAX / KV_BATCH_OPS_MAX;
	Entry e, got;

	(void) state;
	assert_non_null(big);
	/* One largest key and value. */
	assert_true(memtable_cost(INTERNAL_KEY_MAX, KV_VALUE_MAX) <= memtable_room(m));
	e = put(slice_of(big, INTERNAL_KEY_MAX), 1, slice_of(big, KV_VALUE_MAX));
	big[KV_VALUE_MAX - 1] = 9;
	assert_int_equal(memtable_add(m, &e), ST_OK);
	assert_true(memtable_get(m, e.key, 2, &got));
	assert_same(&got, &e);
	/* Keys of full length that differ in the last byte only. */
	big[INTERNAL_KEY_MAX - 1] = 1;
	e = put(slice_of(big, INTERNAL_KEY_MAX), 2, slice_str("x"));
	assert_int_equal(memtable_add(m, &e), ST_OK);
	assert_true(memtable_get(m, e.key, UINT64_MAX, &got));
	assert_same(&got, &e);
	/* As many operations as a batch may have, sharing the bytes a record may have. */
	assert_true(memtable_cost(16, per_op) * KV_BATCH_OPS_MAX <= memtable_room(memtable_init(mem,
	            MEMTABLE_BYTES_ANY_RECORD, 1)));
	/* One byte over either bound is the caller's bug, caught by an assert; nothing to see here. */
	free(big);
	free(mem);
}

/* ---- readers beside a writer */
#define SHARED_KEYS 64

typedef struct Shared {
	Memtable *m;
	_Atomic uint64_t applied; /* versions < applied are to be seen */
	_Atomic uint64_t readers; /* begun: the seed of each */
	_Atomic bool stop;
} Shared;

static void
shared_key(uint8_t *k, uint64_t i)
{
	memcpy(k, "commonpr", 8);
	k[8] = (uint8_t) i;
}

/* Version v was written to key v % SHARED_KEYS: so every reader knows what it must find. */
static void *
reader_main(void *arg)
{
	Shared *s = arg;
	Prng g;
	uint64_t rounds = 0;

	prng_seed(&g, atomic_fetch_add(&s->readers, 1));
	while (!atomic_load(&s->stop)) {
		uint64_t applied = atomic_load_explicit(&s->applied, memory_order_acquire);
		uint64_t k = prng_below(&g, SHARED_KEYS), want = 0;
		uint64_t snapshot = prng_below(&g, 2) ? applied : 1 + prng_below(&g, applied);
		uint8_t key[9];
		Entry e;

		shared_key(key, k);
		for (uint64_t v = snapshot - 1; v > 0 && v + SHARED_KEYS >= snapshot; v--)
			if (v % SHARED_KEYS == k) {
				want = v;
				break;
			}
		memtable_prefetch(s->m, slice_of(key, 9));
		if (memtable_get(s->m, slice_of(key, 9), snapshot, &e) != (want != 0))
			return "get";
		if (want != 0 && e.version != want)
			return "get of another version";
		if (++rounds % 64 == 0) {
			Iter *it = memtable_iter(s->m);
			uint64_t n = 0;
			Entry last = { .version = 0 };

			for (iter_seek_first(it); it->valid; iter_next(it)) {
				const Entry *now = &it->entry;

				if (last.version != 0 && entry_cmp(last.key, last.version, now->key, now->version) >= 0)
					return "order";
				last = it->entry;
				n += it->entry.version < applied;
			}
			iter_close(it);
			if (n != applied - 1)
				return "entries missing";
		}
	}
	return NULL;
}

static void
test_concurrent(void **state)
{
	void *mem = aligned(1 << 20);
	Shared s = { .m = memtable_init(mem, 1 << 20, 5) };
	pthread_t t[2];

	(void) state;
	atomic_init(&s.applied, 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, reader_main, &s), 0);
	for (uint64_t v = 1;; v++) {
		uint8_t key[9];
		Entry e;

		shared_key(key, v % SHARED_KEYS);
		e = put(slice_of(key, 9), v, slice_of(key, 9));
		if (memtable_add(s.m, &e) != ST_OK)
			break;
		atomic_store_explicit(&s.applied, v + 1, memory_order_release);
	}
	atomic_store(&s.stop, true);
	for (int i = 0; i < 2; i++) {
		void *why;

		assert_int_equal(pthread_join(t[i], &why), 0);
		assert_null(why);
	}
	free(mem);
}

/* Figures, printed for people: asserted nowhere, machines differ. Run with KVD_TEST_BENCH=1. */
static void
test_bench(void **state)
{
	size_t bytes = 64 << 20;
	uint64_t n = 300000, t0, t1;
	void *mem = aligned(bytes);
	uint8_t key[17] = "\1key:000000000000", value[100] = { 0 };

	(void) state;
	if (getenv("KVD_TEST_BENCH") == NULL) {
		free(mem);
		skip();
	}
	memset(mem, 1, bytes);
	for (int shape = 0; shape < 2; shape++) {
		Memtable *m = memtable_init(mem, bytes, 1);
		Entry e = put(slice_of(key, 17), 1, slice_of(value, 100)), got;

		t0 = clock_mono_ns();
		for (uint64_t i = 0; i < n; i++) {
			uint64_t k = __builtin_bswap64(shape == 0 ? i : hash_mix(i));

			memcpy(key + 9, &k, 8);
			e.version = i + 1;
			assert_int_equal(memtable_add(m, &e), ST_OK);
		}
		t1 = clock_mono_ns();
		printf("%s add: %.2f M/s, %.1f bytes each\n", shape ? "random" : "sequential",
		       (double) n * 1e3 / (double) (t1 - t0), (double) memtable_used(m) / (double) n);
		t0 = clock_mono_ns();
		for (uint64_t i = 0; i < n; i++) {
			uint64_t k = hash_mix(i) % n;

			k = __builtin_bswap64(shape == 0 ? k : hash_mix(k));
			memcpy(key + 9, &k, 8);
			if (!memtable_get(m, slice_of(key, 17), UINT64_MAX, &got))
				fail();
		}
		t1 = clock_mono_ns();
		printf("random get: %.0f ns\n", (double) (t1 - t0) / (double) n);
		t0 = clock_mono_ns();
		for (uint64_t i = 0; i < n; i++) {
			uint64_t k = hash_mix(i) % n;

			if (i % 32 == 0)
				for (uint64_t j = i; j < i + 32; j++) {
					uint64_t k2 = hash_mix(j) % n;

					k2 = __builtin_bswap64(shape == 0 ? k2 : hash_mix(k2));
					memcpy(key + 9, &k2, 8);
					memtable_prefetch(m, slice_of(key, 17));
				}
			k = __builtin_bswap64(shape == 0 ? k : hash_mix(k));
			memcpy(key + 9, &k, 8);
			if (!memtable_get(m, slice_of(key, 17), UINT64_MAX, &got))
				fail();
		}
		t1 = clock_mono_ns();
		printf("get prefetched by 32: %.0f ns\n", (double) (t1 - t0) / (double) n);
		t0 = clock_mono_ns();
		for (uint64_t i = 0; i < n; i++) {
			uint64_t k = hash_mix(i) % 1000;

			k = __builtin_bswap64(shape == 0 ? k : hash_mix(k));
			memcpy(key + 9, &k, 8);
			if (!memtable_get(m, slice_of(key, 17), UINT64_MAX, &got))
				fail();
		}
		t1 = clock_mono_ns();
		printf("cached get: %.0f ns\n", (double) (t1 - t0) / (double) n);
	}
	free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_add_many),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_cost),
		cmocka_unit_test(test_full_exactly),
		cmocka_unit_test(test_many_tiny_keys),
		cmocka_unit_test(test_heights),
		cmocka_unit_test(test_any_record),
		cmocka_unit_test(test_concurrent),
		cmocka_unit_test(test_bench),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
