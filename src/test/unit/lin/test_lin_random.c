/*
 * test_lin_random.c - the checker of histories against an oracle, and against a simulated store.
 *
 * The oracle tries every order of every subset: right by being short. The store is one that is linearizable by
 * construction: each operation takes effect at an instant between its ends; its history must pass, and with one result
 * changed it must nearly always fail (a changed result may happen to be possible). KVD_TEST_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/prng.h"
#include "lin.h"

#define TINY_HISTORIES 30000
#define TINY_OPS 6
#define SIM_HISTORIES 60
#define SIM_OPS 1000
#define SIM_CLIENTS 8
#define SIM_KEYS 3
#define LONG_BEFORE 200 /* an operation takes about 50 */
#define CAUGHT_PERCENT 90

static const LinLimits plenty = { .steps = 1000000, .memory = (size_t) 256 << 20 };
static Prng prng;

static uint64_t
below(uint64_t n)
{
	return prng_below(&prng, n);
}

/* ---- the oracle */

typedef struct Oracle {
	LinWords *words;
	const LinOp *op;
	int n;
} Oracle;

/* May the rest (bits of `left`) follow in this state? */
static bool
possible(const Oracle *o, unsigned left, LinState s)
{
	uint64_t first_return = LIN_NEVER;
	bool needed = false;

	for (int i = 0; i < o->n; i++) {
		if ((left >> i & 1) != 0 && o->op[i].returned != LIN_NEVER) {
			needed = true;
			if (o->op[i].returned < first_return)
				first_return = o->op[i].returned;
		}
	}
	if (!needed)
		return true;
	for (int i = 0; i < o->n; i++) {
		LinState after = s;

		if ((left >> i & 1) != 0 && o->op[i].invoked <= first_return &&
			lin_step(o->words, &after, &o->op[i]) && possible(o, left & ~(1u << i), after))
			return true;
	}
	return false;
}

static void
random_op(LinHistory *h, uint32_t key, const uint32_t *values)
{
	LinOp *op = lin_history_add(h);
	bool versioned = below(3) == 0;

	op->key = key;
	op->kind = (uint8_t) below(LIN_LOCAL_GET);
	op->invoked = 1 + below(12);
	op->returned = op->invoked + below(6);
	op->value = values[1 + below(3)];
	op->expect = values[below(4)];
	op->expect_version = 1 + below(5);
	op->step = (int64_t) below(3) - 1;
	op->version = versioned ? 1 + below(6) : 0;
	if (op->kind == LIN_GET) {
		op->value = values[below(4)];
		return;
	}
	if (op->kind == LIN_CAS || op->kind == LIN_CASV)
		op->held = below(2) == 0;
	if (!op->held) {
		op->version = 0;
		op->has_seen = versioned;
		op->seen = below(4);
	}
	if (below(4) == 0) {
		op->returned = LIN_NEVER;
		op->held = true;
		op->has_seen = false;
		op->version = 0;
	}
}

static void
small_histories_match_the_oracle(void **state)
{
	int legal = 0;

	(void) state;
	for (int round = 0; round < TINY_HISTORIES; round++) {
		LinHistory h;
		LinState start;
		LinResult r;
		Oracle o;
		uint32_t values[4] = { LIN_ABSENT };
		bool expected;

		lin_history_init(&h);
		for (int i = 1; i < 4; i++)
			values[i] = lin_number_word(&h.words, i);
		for (int i = 0; i < TINY_OPS; i++)
			random_op(&h, lin_word(&h.words, "k"), values);
		lin_start(&start, round % 2 == 0);
		o = (Oracle){ .words = &h.words, .op = h.ops, .n = TINY_OPS };
		expected = possible(&o, (1u << TINY_OPS) - 1, start);
		r = lin_search(&h.words, h.ops, h.n, round % 2 == 0, &plenty);
		if (r.verdict != (expected ? LIN_LEGAL : LIN_ILLEGAL)) {
			for (size_t i = 0; i < h.n; i++)
				lin_print_op(stderr, &h.words, &h.ops[i], 0);
			fail_msg("round %d: verdict %d, the oracle says %s", round, r.verdict,
					 expected ? "legal" : "illegal");
		}
		legal += expected;
		lin_history_free(&h);
	}
	/* both kinds must have been there */
	assert_in_range(legal, TINY_HISTORIES / 50, TINY_HISTORIES - TINY_HISTORIES / 50);
}

/* ---- the simulated store */

typedef struct Key {
	uint32_t word, value;
	uint64_t version;
	bool counter;
} Key;

typedef struct Sim {
	LinHistory h;
	Key key[SIM_KEYS];
	uint64_t version, serial;
	bool versions; /* are they told? */
	unsigned unknown_percent;
} Sim;

/* Takes effect now; fills in what the client would be told. */
static void
apply(Sim *s, LinOp *op, Key *k)
{
	int64_t n = 0;
	bool write = op->kind != LIN_GET;

	if (op->kind == LIN_CAS)
		op->held = k->value == op->expect;
	else if (op->kind == LIN_CASV)
		op->held = k->value != LIN_ABSENT && k->version == op->expect_version;
	else if (op->kind == LIN_INCR) {
		assert_true(lin_number(&s->h.words, k->value, &n));
		op->value = lin_number_word(&s->h.words, n + op->step);
	}
	if (write && op->held) {
		k->value = op->kind == LIN_DELETE ? LIN_ABSENT : op->value;
		k->version = s->version += 1 + below(5);
		op->version = s->versions ? k->version : 0;
	} else if (write) {
		op->has_seen = s->versions;
		op->seen = k->value == LIN_ABSENT ? 0 : k->version;
	} else {
		op->value = k->value;
		op->version = s->versions && k->value != LIN_ABSENT ? k->version : 0;
	}
}

static void
ask(Sim *s, LinOp *op, Key *k)
{
	static const LinKind registers[] = { LIN_GET, LIN_GET, LIN_GET,  LIN_PUT,
										 LIN_PUT, LIN_CAS, LIN_CASV, LIN_DELETE };
	static const LinKind counters[] = { LIN_GET, LIN_INCR };
	char text[24];

	op->key = k->word;
	op->kind = (uint8_t) (k->counter ? counters[below(2)] : registers[below(8)]);
	op->step = 1 + (int64_t) below(2);
	op->expect = k->value; /* what it is now, and may be no more when it is done */
	op->expect_version = k->version == 0 ? 1 : k->version;
	if (op->kind == LIN_PUT || op->kind == LIN_CAS || op->kind == LIN_CASV) {
		snprintf(text, sizeof text, "v%llu", (unsigned long long) ++s->serial);
		op->value = lin_word(&s->h.words, text);
	}
}

/* Clients take turns at random: one asks, its operation takes effect, it is answered, maybe never or too late. */
static void
simulate(Sim *s, int nops)
{
	struct {
		size_t op; /* +1; 0 none */
		bool applied, lost;
	} client[SIM_CLIENTS] = { 0 };
	uint64_t now = 1;

	lin_history_init(&s->h);
	for (int i = 0; i < SIM_KEYS; i++) {
		char name[16];

		snprintf(name, sizeof name, "k%d", i);
		s->key[i] = (Key){ .word = lin_word(&s->h.words, name), .counter = i == SIM_KEYS - 1 };
	}
	for (int made = 0; made < nops;) {
		int c = (int) below(SIM_CLIENTS);
		LinOp *op = client[c].op == 0 ? NULL : &s->h.ops[client[c].op - 1];

		now += 1 + below(3);
		if (op == NULL) {
			op = lin_history_add(&s->h);
			op->process = (uint32_t) c;
			op->invoked = now;
			ask(s, op, &s->key[below(SIM_KEYS)]);
			client[c].op = s->h.n;
			client[c].applied = false;
			client[c].lost = op->kind != LIN_GET && below(100) < s->unknown_percent;
			made++;
		} else if (!client[c].applied) {
			Key *k = &s->key[0];

			if (client[c].lost && below(3) != 0) {
				if (below(4) == 0)
					client[c].op = 0; /* never */
				continue;
			}
			while (k->word != op->key)
				k++;
			apply(s, op, k);
			client[c].applied = true;
			if (client[c].lost) {
				op->held = true;
				op->has_seen = false;
				op->version = 0;
				client[c].op = 0;
			}
		} else {
			op->returned = now;
			client[c].op = 0;
		}
	}
	/* who was not answered in the end: unknown; reads say nothing */
	for (size_t i = 0; i < s->h.n; i++) {
		LinOp *op = &s->h.ops[i];

		if (op->returned != LIN_NEVER)
			continue;
		op->held = true;
		op->has_seen = false;
		op->version = 0;
		if (op->kind == LIN_GET)
			s->h.ops[i--] = s->h.ops[--s->h.n];
	}
}

/* Change one result so that it is wrong as seen from the store: by something that was true long before. */
static void
mutate(Sim *s)
{
	while (1) {
		LinOp *op = &s->h.ops[below(s->h.n)];
		const LinOp *old = &s->h.ops[below(s->h.n)];

		if (op->returned == LIN_NEVER)
			continue;
		if (op->kind == LIN_INCR) {
			int64_t n;

			assert_true(lin_number(&s->h.words, op->value, &n));
			op->value = lin_number_word(&s->h.words, n - 3);
			return;
		}
		if (old->kind != LIN_GET || old->key != op->key || old->returned > op->invoked ||
			op->invoked - old->returned < LONG_BEFORE || old->value == LIN_ABSENT || old->value == op->value)
			continue;
		if (op->kind == LIN_GET) {
			op->value = old->value;
			op->version = old->version;
			return;
		}
		if (op->kind == LIN_CAS && op->held && op->expect != old->value) {
			op->expect = old->value;
			return;
		}
	}
}

static void
simulated_stores_pass_and_mutants_fail(void **state)
{
	int caught = 0, undecided = 0;

	(void) state;
	for (int round = 0; round < SIM_HISTORIES; round++) {
		Sim s = { .versions = round % 2 == 0, .unknown_percent = (unsigned) (round % 3) * 2 };
		LinReport r;

		simulate(&s, SIM_OPS);
		lin_check(&s.h, &plenty, &r);
		if (r.verdict != LIN_LEGAL) {
			lin_report_print(stderr, &s.h, &r);
			fail_msg("round %d", round);
		}
		lin_report_free(&r);
		mutate(&s);
		lin_check(&s.h, &plenty, &r);
		caught += r.verdict == LIN_ILLEGAL;
		undecided += r.verdict == LIN_UNDECIDED;
		lin_report_free(&r);
		lin_history_free(&s.h);
	}
	print_message("%d of %d mutants caught, %d undecided\n", caught, SIM_HISTORIES, undecided);
	assert_true(caught * 100 >= SIM_HISTORIES * CAUGHT_PERCENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_histories_match_the_oracle),
		cmocka_unit_test(simulated_stores_pass_and_mutants_fail),
	};
	const char *seed = getenv("KVD_TEST_SEED");
	uint64_t n = seed != NULL ? strtoull(seed, NULL, 10) : 20261121;

	print_message("seed %llu (repeat with KVD_TEST_SEED)\n", (unsigned long long) n);
	prng_seed(&prng, n);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
