/* test_shheap.c - the shared heap against a model; its edges; several processes at once; misuse. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/prng.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "ipc/shheap.h"
#include "port/proc.h"

#define HEAP_BYTES ((size_t) 1 << 20)
#define SLOTS (PROC_AUX_COUNT + 4)
#define BLOCKS 400

static void *mapping;
static char *mem;
static size_t slots_bytes, locks_bytes;

static int
setup(void **state)
{
	(void) state;
	slots_bytes = (procslot_shmem_size(SLOTS) + 4095) & ~(size_t) 4095;
	locks_bytes = (lwlock_shmem_size() + 4095) & ~(size_t) 4095;
	assert_int_equal(proc_shm_map(slots_bytes + locks_bytes + HEAP_BYTES, &mapping), ST_OK);
	mem = mapping;
	procslot_shmem_init(mem, SLOTS);
	lwlock_shmem_init(mem + slots_bytes);
	shheap_shmem_init(mem + slots_bytes + locks_bytes, HEAP_BYTES);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	proc_shm_unmap(mem, slots_bytes + locks_bytes + HEAP_BYTES);
	return 0;
}

/* Largest single allocation that works now. */
static size_t
largest(void)
{
	size_t low = 0, high = HEAP_BYTES;

	while (low < high) {
		size_t mid = (low + high + 1) / 2;
		void *p = shheap_alloc(mid);

		shheap_free(p);
		if (p != NULL)
			low = mid;
		else
			high = mid - 1;
	}
	return low;
}

typedef struct Piece {
	uint8_t *p;
	size_t len;
	uint8_t fill;
} Piece;

static void
check(const Piece *b)
{
	for (size_t i = 0; i < b->len; i++)
		assert_int_equal(b->p[i], b->fill);
}

static void
against_a_model(void **state)
{
	static Piece live[BLOCKS];
	size_t empty_used = shheap_used(), empty_largest = largest();
	Prng g;

	(void) state;
	memset(live, 0, sizeof live);
	print_message("seed 7\n");
	prng_seed(&g, 7);
	for (int round = 0; round < 40000; round++) {
		Piece *b = &live[prng_below(&g, BLOCKS)];

		if (b->p != NULL) {
			check(b);
			shheap_free(b->p);
			b->p = NULL;
			continue;
		}
		b->len = prng_below(&g, prng_below(&g, 20) == 0 ? 60000 : 300);
		b->fill = (uint8_t) prng_next(&g);
		b->p = shheap_alloc(b->len);
		if (b->p == NULL) {
			assert_true(shheap_used() + b->len > HEAP_BYTES / 4); /* full or cut up, but not from the start */
			continue;
		}
		assert_int_equal((uintptr_t) b->p % 16, 0);
		assert_true(b->p >= (uint8_t *) mem + slots_bytes + locks_bytes);
		assert_true(b->p + b->len <= (uint8_t *) mem + slots_bytes + locks_bytes + HEAP_BYTES);
		memset(b->p, b->fill, b->len);
		assert_true(shheap_used() <= shheap_total());
	}
	for (int i = 0; i < BLOCKS; i++)
		if (live[i].p != NULL) {
			check(&live[i]);
			shheap_free(live[i].p);
		}
	/* All pieces found together again. */
	assert_int_equal(shheap_used(), empty_used);
	assert_int_equal(largest(), empty_largest);
}

static void
full_is_null_and_not_the_end(void **state)
{
	void *first[3];
	void **chain = NULL;
	size_t used = shheap_used(), n = 0;

	(void) state;
	assert_null(shheap_alloc(HEAP_BYTES));
	assert_null(shheap_alloc(SIZE_MAX));
	assert_null(shheap_alloc(SIZE_MAX - 8));
	assert_null(shheap_alloc(largest() + 1));
	for (void **p; (p = shheap_alloc(32)) != NULL; n++) {
		if (n < 3)
			first[n] = p;
		*p = chain;
		chain = p;
	}
	assert_true(n > HEAP_BYTES / 64 - 200);
	shheap_free(first[1]);
	first[1] = shheap_alloc(32); /* the hole is used again */
	assert_non_null(first[1]);
	*(void **) first[1] = first[0];
	while (chain != NULL) {
		void **next = *chain;

		shheap_free(chain);
		chain = next;
	}
	assert_int_equal(shheap_used(), used);
	shheap_free(NULL);
}

static void
every_small_size(void **state)
{
	(void) state;
	for (size_t n = 0; n < 600; n++) {
		uint8_t *a = shheap_alloc(n), *b = shheap_alloc(n);

		assert_true(a != NULL && b != NULL);
		assert_true(a + n <= b || b + n <= a);
		memset(a, 1, n);
		memset(b, 2, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(a[i], 1);
		shheap_free(a);
		shheap_free(b);
	}
}

static void
several_processes(void **state)
{
	size_t used = shheap_used();
	pid_t pid[4];
	int status;

	(void) state;
	for (int k = 0; k < 4; k++) {
		pid[k] = fork();
		if (pid[k] == 0) {
			Piece mine[50] = { { 0 } };
			Prng g;

			alarm(300);
			procslot_attach(PROC_AUX_COUNT + k, PROC_BACKEND);
			prng_seed(&g, (uint64_t) k);
			for (int i = 0; i < 20000; i++) {
				Piece *b = &mine[prng_below(&g, 50)];

				for (size_t j = 0; b->p != NULL && j < b->len; j++)
					if (b->p[j] != (uint8_t) k)
						_exit(1);
				shheap_free(b->p);
				b->len = prng_below(&g, 1000);
				b->p = shheap_alloc(b->len);
				if (b->p != NULL)
					memset(b->p, k, b->len);
			}
			for (int i = 0; i < 50; i++)
				shheap_free(mine[i].p);
			_exit(0);
		}
	}
	for (int k = 0; k < 4; k++) {
		assert_int_equal(waitpid(pid[k], &status, 0), pid[k]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(shheap_used(), used);
}

static void
misuse_is_caught(void **state)
{
	(void) state;
	for (int how = 0; how < 4; how++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			char *a = shheap_alloc(100), *b = shheap_alloc(100);

			if (how == 0)
				shheap_free(a + 16);
			if (how == 1)
				shheap_free((void *) &status);
			if (how == 2) {
				shheap_free(b);
				shheap_free(b);
			}
			if (how == 3) { /* twice, after it became part of its neighbour */
				shheap_free(a);
				shheap_free(b);
				shheap_free(b);
			}
			_exit(0);
		}
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		teardown(NULL);
		setup(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(against_a_model, setup, teardown),
		cmocka_unit_test_setup_teardown(full_is_null_and_not_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(every_small_size, setup, teardown),
		cmocka_unit_test_setup_teardown(several_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(misuse_is_caught, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
