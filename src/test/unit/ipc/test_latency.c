/* test_latency.c - shared histograms: nothing that processes add at the same time is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "ipc/latency.h"
#include "port/proc.h"

#define WRITERS 4
#define EACH 50000

static void
all_that_is_added_is_counted(void **state)
{
	Histogram h, want;
	void *mem;

	(void) state;
	latency_add(LATENCY_COMMIT, 5); /* no shared memory: a tool */
	assert_int_equal(proc_shm_map(latency_shmem_size(), &mem), ST_OK);
	latency_shmem_init(mem);
	histogram_init(&want);
	for (int i = 0; i < WRITERS; i++) {
		if (fork() == 0) {
			for (uint64_t k = 0; k < EACH; k++)
				latency_add(LATENCY_COMMIT, k * (uint64_t) (i + 1));
			_exit(0);
		}
		for (uint64_t k = 0; k < EACH; k++)
			histogram_add(&want, k * (uint64_t) (i + 1));
	}
	while (wait(NULL) > 0)
		;
	latency_read(LATENCY_COMMIT, &h);
	assert_true(h.count == want.count && h.sum == want.sum && h.max == want.max);
	assert_memory_equal(h.bucket, want.bucket, sizeof h.bucket);
	for (double q = 0; q <= 1; q += 0.1)
		assert_true(histogram_quantile(&h, q) == histogram_quantile(&want, q));
	latency_read(LATENCY_LOG_SYNC, &h);
	assert_true(h.count == 0 && histogram_quantile(&h, 0.99) == 0);
	proc_shm_unmap(mem, latency_shmem_size());
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_that_is_added_is_counted) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
