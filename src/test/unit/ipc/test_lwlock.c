/* test_lwlock.c - exclusion between processes, rank order, holding is a critical section. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "futex_watch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/proc.h"

#define SLOTS (PROC_AUX_COUNT + 4)
#define ROUNDS 20000
#define PROCESSES 4

typedef struct Shared {
	uint64_t counter, twin; /* guarded by HEAP: always equal */
	_Atomic uint32_t told;
	_Atomic uint32_t waits;       /* begun by anyone (futex_watch.h) */
	_Atomic uint64_t released_ns; /* the holder was done with waking; 0: it is not yet */
} Shared;

static void *mem;
static size_t bytes;
static Shared *shared;

static int
setup(void **state)
{
	size_t slots = (procslot_shmem_size(SLOTS) + 63) & ~(size_t) 63;

	(void) state;
	bytes = slots + lwlock_shmem_size() + sizeof(Shared);
	assert_int_equal(proc_shm_map(bytes, &mem), ST_OK);
	procslot_shmem_init(mem, SLOTS);
	lwlock_shmem_init((char *) mem + slots);
	shared = (Shared *) ((char *) mem + slots + lwlock_shmem_size());
	futex_waits = &shared->waits;
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	proc_shm_unmap(mem, bytes);
	return 0;
}

static int
run(int slot, void (*act)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(300);
		procslot_attach(slot, PROC_BACKEND);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!procslot_is_free(slot)) {
		procslot_mark_dead(slot);
		procslot_reap(NULL);
	}
	return status;
}

static void
count(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		lwlock_acquire(LWLOCK_HEAP, 0);
		shared->counter++;
		if (i % 1000 == 0)
			child_poll(NULL, NULL, 0, 1); /* let the others go to sleep for it */
		shared->twin++;
		if (shared->counter != shared->twin)
			_exit(1);
		lwlock_release(LWLOCK_HEAP, 0);
	}
}

static void
one_at_a_time(void **state)
{
	pid_t pid[PROCESSES];
	int status;

	(void) state;
	for (int i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			alarm(300);
			procslot_attach(PROC_AUX_COUNT + i, PROC_BACKEND);
			count();
			_exit(atomic_load(&my_slot->critical) == 0 ? 0 : 2);
		}
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(shared->counter, PROCESSES * ROUNDS);
	assert_false(lwlock_held(LWLOCK_HEAP, 0));
}

static void
in_order(void)
{
	lwlock_acquire(LWLOCK_APPLY, 0);
	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	lwlock_acquire(LWLOCK_CACHE, 3);
	lwlock_acquire(LWLOCK_CACHE, LWLOCK_CACHE_SHARDS - 1);
	if (!lwlock_mine(LWLOCK_CACHE, 3) || lwlock_mine(LWLOCK_CACHE, 4) || atomic_load(&my_slot->critical) != 4)
		_exit(1);
	lwlock_release(LWLOCK_APPLY, 0);
	lwlock_release(LWLOCK_CACHE, LWLOCK_CACHE_SHARDS - 1);
	lwlock_acquire(LWLOCK_CACHE, LWLOCK_CACHE_SHARDS - 1);
}

static void
out_of_order(void)
{
	lwlock_acquire(LWLOCK_HEAP, 0);
	lwlock_acquire(LWLOCK_APPLY, 0);
}

static void
shards_out_of_order(void)
{
	lwlock_acquire(LWLOCK_CACHE, 1);
	lwlock_acquire(LWLOCK_CACHE, 0);
}

static void
twice(void)
{
	lwlock_acquire(LWLOCK_HEAP, 0);
	lwlock_acquire(LWLOCK_HEAP, 0);
}

static void
release_unheld(void)
{
	lwlock_release(LWLOCK_HEAP, 0);
}

static void
no_such_shard(void)
{
	lwlock_acquire(LWLOCK_CACHE, LWLOCK_CACHE_SHARDS);
}

static void
rank_is_asserted(void **state)
{
	static void (*const wrong[])(void) = { out_of_order, shards_out_of_order, twice, release_unheld, no_such_shard };

	(void) state;
	assert_int_equal(run(PROC_AUX_COUNT, in_order), 0);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		teardown(NULL);
		setup(NULL);
		assert_true(WIFSIGNALED(run(PROC_AUX_COUNT, wrong[i])));
	}
}

static void
hold_and_wait(void)
{
	alarm(300); /* should the test be gone */
	lwlock_acquire(LWLOCK_APPLY, 0);
	atomic_store(&shared->told, 1);
	pause();
}

static void
try_it(void)
{
	_exit(lwlock_try(LWLOCK_APPLY, 0) || atomic_load(&my_slot->critical) != 0 ? 1 : 0);
}

/* Waiting for a lock is not a critical section: who is killed then costs only itself. */
static void
wait_for_it(void)
{
	atomic_store(&shared->told, 2);
	lwlock_acquire(LWLOCK_APPLY, 0);
}

static void
a_dead_holder_was_critical_and_a_dead_waiter_was_not(void **state)
{
	pid_t holder, waiter;

	(void) state;
	holder = fork();
	if (holder == 0) {
		procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
		hold_and_wait();
	}
	while (atomic_load(&shared->told) != 1)
		child_poll(NULL, NULL, 0, 1);
	assert_int_equal(run(PROC_AUX_COUNT + 1, try_it), 0);
	waiter = fork();
	if (waiter == 0) {
		procslot_attach(PROC_AUX_COUNT + 2, PROC_BACKEND);
		wait_for_it();
	}
	while (atomic_load(&shared->told) != 2)
		child_poll(NULL, NULL, 0, 1);
	while (atomic_load(&shared->waits) == 0) /* it sleeps, outside of any critical section */
		child_poll(NULL, NULL, 0, 1);
	kill(waiter, SIGKILL);
	kill(holder, SIGKILL);
	waitpid(waiter, NULL, 0);
	waitpid(holder, NULL, 0);
	assert_true(procslot_was_critical(PROC_AUX_COUNT));
	assert_false(procslot_was_critical(PROC_AUX_COUNT + 2));
	assert_true(lwlock_held(LWLOCK_APPLY, 0));
}

static void
take_it(void)
{
	struct timespec cpu;

	lwlock_acquire(LWLOCK_APPLY, 0);
	lwlock_release(LWLOCK_APPLY, 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	if (cpu.tv_sec != 0 || cpu.tv_nsec >= 100000000)
		_exit(1);
	/* Woken, not found by looking every second. */
	while (atomic_load(&shared->released_ns) == 0)
		child_poll(NULL, NULL, 0, 1);
	_exit(gave_up_ns != 0 && atomic_load(&shared->released_ns) < gave_up_ns ? 2 : 0);
}

static void
waiters_sleep_and_are_woken(void **state)
{
	pid_t holder, pid;
	int status;

	(void) state;
	holder = fork();
	if (holder == 0) {
		procslot_attach(PROC_AUX_COUNT + 1, PROC_BACKEND);
		lwlock_acquire(LWLOCK_APPLY, 0);
		atomic_store(&shared->told, 1);
		while (atomic_load(&shared->told) == 1)
			child_poll(NULL, NULL, 0, 1);
		lwlock_release(LWLOCK_APPLY, 0);
		atomic_store(&shared->released_ns, clock_mono_ns());
		_exit(0);
	}
	while (atomic_load(&shared->told) != 1)
		child_poll(NULL, NULL, 0, 1);
	pid = fork();
	if (pid == 0) {
		alarm(300);
		procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
		take_it();
	}
	while (atomic_load(&shared->waits) == 0) {
		assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
		child_poll(NULL, NULL, 0, 1);
	}
	child_poll(NULL, NULL, 0, 300); /* long enough for a waiter that spins to be noticed */
	atomic_store(&shared->told, 2);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	waitpid(holder, NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(rank_is_asserted, setup, teardown),
		cmocka_unit_test_setup_teardown(waiters_sleep_and_are_woken, setup, teardown),
		cmocka_unit_test_setup_teardown(a_dead_holder_was_critical_and_a_dead_waiter_was_not, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
