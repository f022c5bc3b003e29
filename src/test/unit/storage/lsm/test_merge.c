/*
 * test_merge.c - iter_merge against one sorted array: forward, backward, seeks, turns, failures.
 */
#include "lsm_test.h"

#define ENTRIES 200

typedef struct Split {
	Entry all[ENTRIES], part[9][ENTRIES];
	uint8_t keys[ENTRIES][4];
	int n, parts[9], nsources;
} Split;

/* Each entry goes to one source; runs of keys often to the same one. */
static void
make_split(Split *s, Prng *g, int nsources)
{
	int source = 0;

	s->n = (int) prng_below(g, ENTRIES);
	s->nsources = nsources;
	memset(s->parts, 0, sizeof s->parts);
	for (int i = 0; i < s->n; i++) {
		size_t len = 1 + prng_below(g, 3);

		for (size_t j = 0; j < len; j++)
			s->keys[i][j] = (uint8_t) prng_below(g, 4);
		s->all[i] = (Entry){ .key = slice_of(s->keys[i], len), .version = (uint64_t) i + 1 };
	}
	qsort(s->all, (size_t) s->n, sizeof s->all[0], entry_order);
	for (int i = 0; i < s->n; i++) {
		if (prng_below(g, 4) == 0)
			source = (int) prng_below(g, (uint64_t) nsources);
		s->part[source][s->parts[source]++] = s->all[i];
	}
}

static Iter *
merge_of(const Split *s)
{
	Iter *sources[9], *it;

	for (int i = 0; i < s->nsources; i++)
		sources[i] = array_iter(s->part[i], s->parts[i]);
	it = iter_merge(sources, s->nsources);
	assert_non_null(it);
	return it;
}

static void
expect(const Iter *it, const Split *s, int at)
{
	assert_int_equal(it->status, ST_OK);
	assert_int_equal(it->valid, at >= 0 && at < s->n);
	if (it->valid)
		assert_int_equal(it->entry.version, s->all[at].version);
}

static void
test_model(void **state)
{
	Split *s = malloc(sizeof *s);

	(void) state;
	assert_non_null(s);
	for (uint64_t seed = 1; seed <= 600; seed++) {
		Prng g;
		Iter *it;
		int at = 0;

		prng_seed(&g, seed);
		make_split(s, &g, 1 + (int) (seed % 9));
		it = merge_of(s);
		assert_false(it->valid);
		for (iter_seek_first(it), at = 0; it->valid; iter_next(it))
			expect(it, s, at++);
		assert_int_equal(at, s->n);
		for (iter_seek_last(it), at = s->n - 1; it->valid; iter_prev(it))
			expect(it, s, at--);
		assert_int_equal(at, -1);
		for (int i = 0; i < 300; i++) {
			uint8_t kb[3];
			Slice key = slice_of(kb, 1 + prng_below(&g, 3));
			uint64_t version = prng_below(&g, 5) ? prng_below(&g, ENTRIES + 2) : UINT64_MAX;

			for (int j = 0; j < 3; j++)
				kb[j] = (uint8_t) prng_below(&g, 5);
			if (i == 0 || !it->valid || prng_below(&g, 10) == 0) {
				at = array_lower(s->all, s->n, key, version);
				if (prng_below(&g, 2))
					iter_seek(it, key, version);
				else {
					iter_seek_before(it, key, version);
					at--;
				}
			} else if (prng_below(&g, 2)) {
				iter_next(it);
				at++;
			} else {
				iter_prev(it);
				at--;
			}
			expect(it, s, at);
		}
		iter_close(it);
	}
	free(s);
}

static void
test_none(void **state)
{
	Iter *it = iter_merge(NULL, 0);

	(void) state;
	assert_non_null(it);
	iter_seek_first(it);
	assert_false(it->valid);
	iter_seek_last(it);
	assert_false(it->valid);
	iter_seek(it, slice_str("a"), 1);
	assert_false(it->valid);
	iter_seek_before(it, slice_str("a"), 1);
	assert_false(it->valid);
	assert_int_equal(it->status, ST_OK);
	iter_close(it);
}

/* A source that fails ends the merge with its status wherever it happens; a later seek starts afresh. */
static void
test_failure(void **state)
{
	Entry a[] = { { .key = slice_str("a"), .version = 1 }, { .key = slice_str("c"), .version = 1 } };
	Entry b[] = { { .key = slice_str("b"), .version = 1 }, { .key = slice_str("d"), .version = 1 },
		      { .key = slice_str("e"), .version = 1 } };

	(void) state;
	for (int at = 0; at < 3; at++) {
		Iter *sources[] = { array_iter(a, 2), array_iter(b, 3) };
		ArrayIter *bad = (ArrayIter *) sources[1];
		Iter *it = iter_merge(sources, 2);
		int n = 0;

		bad->fail_at = at;
		for (iter_seek_first(it); it->valid; iter_next(it))
			n++;
		assert_int_equal(it->status, ST_IO_ERROR);
		assert_true(n < 5);
		n = 0;
		for (iter_seek_last(it); it->valid; iter_prev(it))
			n++;
		assert_int_equal(it->status, ST_IO_ERROR);
		bad->fail_at = -1;
		iter_seek(it, slice_str("c"), UINT64_MAX);
		assert_true(it->valid);
		assert_int_equal(it->status, ST_OK);
		/* A failure while turning. */
		bad->fail_at = 0;
		iter_prev(it);
		assert_false(it->valid);
		assert_int_equal(it->status, ST_IO_ERROR);
		iter_close(it);
	}
}

static void
test_closes_all(void **state)
{
	bool closed[3] = { false };
	Iter *sources[3];

	(void) state;
	for (int i = 0; i < 3; i++) {
		sources[i] = array_iter(NULL, 0);
		((ArrayIter *) sources[i])->closed = &closed[i];
	}
	iter_close(iter_merge(sources, 3));
	assert_true(closed[0] && closed[1] && closed[2]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_failure),
		cmocka_unit_test(test_closes_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
