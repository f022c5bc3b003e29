/* test_epoch.c - what a pinned reader may see is not reused: by hand and with readers and a writer at full speed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "ipc/epoch.h"
#include "ipc/procslot.h"
#include "port/proc.h"

#define SLOTS (PROC_AUX_COUNT + 4)
#define OBJECTS 64
#define READERS 3
#define REPLACEMENTS 20000
#define POISON UINT64_C(0xdeaddeaddeaddead)

typedef struct Object {
	_Atomic uint64_t a, b; /* equal while alive, POISON when free */
} Object;

typedef struct Shared {
	_Atomic(Object *) current;
	_Atomic uint32_t stop;
	Object pool[OBJECTS];
} Shared;

static void *mem;
static size_t bytes;
static Shared *shared;

static int
setup(void **state)
{
	size_t slots = procslot_shmem_size(SLOTS), epochs = epoch_shmem_size();

	(void) state;
	bytes = slots + epochs + sizeof(Shared);
	assert_int_equal(proc_shm_map(bytes, &mem), ST_OK);
	procslot_shmem_init(mem, SLOTS);
	epoch_shmem_init((char *) mem + slots);
	shared = (Shared *) ((char *) mem + slots + epochs);
	procslot_attach(PROC_COMPACTOR, PROC_COMPACTOR);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	procslot_detach();
	proc_shm_unmap(mem, bytes);
	return 0;
}

/* Move this test into another slot, as if it were another process. */
static void
become(int slot)
{
	my_slot_no = slot;
	my_slot = procslot_get(slot);
}

static void
a_pin_holds_what_is_retired_after_it(void **state)
{
	uint64_t before, after;

	(void) state;
	before = epoch_retire();
	assert_true(epoch_safe(before));
	epoch_pin(100);
	assert_true(epoch_pinned());
	after = epoch_retire();
	assert_true(after > before);
	assert_true(epoch_safe(before));
	assert_false(epoch_safe(after));
	assert_true(epoch_min() >= before && epoch_min() < after);
	epoch_unpin();
	assert_false(epoch_pinned());
	assert_true(epoch_safe(after));
	assert_true(epoch_min() == UINT64_MAX);
}

static void
the_oldest_version_counts(void **state)
{
	(void) state;
	assert_int_equal(epoch_min_version(50), 50);
	epoch_pin(70);
	assert_int_equal(epoch_min_version(80), 70);
	assert_int_equal(epoch_min_version(60), 60);
	epoch_unpin();
	assert_int_equal(epoch_min_version(80), 80);
	epoch_hold(40); /* versions alone: memory may go */
	assert_int_equal(epoch_min_version(80), 40);
	assert_true(epoch_min() == UINT64_MAX);
	epoch_release();
	assert_int_equal(epoch_min_version(80), 80);
}

static void
a_dead_process_holds_until_its_slot_is_cleared(void **state)
{
	uint64_t r;
	pid_t pid = fork();

	(void) state;
	if (pid == 0) {
		my_slot = NULL;
		procslot_attach(PROC_AUX_COUNT + 1, PROC_BACKEND);
		epoch_pin(3);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	r = epoch_retire();
	procslot_mark_dead(PROC_AUX_COUNT + 1);
	assert_false(epoch_safe(r));
	assert_int_equal(epoch_min_version(10), 3);
	procslot_reap(NULL);
	assert_true(epoch_safe(r));
	assert_int_equal(epoch_min_version(10), 10);
}

static void
pinning_twice_is_caught(void **state)
{
	int status;
	pid_t pid = fork();

	(void) state;
	if (pid == 0) {
		epoch_pin(1);
		epoch_pin(2);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	epoch_unpin(); /* what the child left in our slot */
}

static void
read_until_stop(void)
{
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		epoch_pin(1);
		for (int i = 0; i < 20; i++) {
			Object *o = atomic_load_explicit(&shared->current, memory_order_acquire);
			uint64_t a = atomic_load_explicit(&o->a, memory_order_relaxed);
			uint64_t b = atomic_load_explicit(&o->b, memory_order_relaxed);

			if (a != b || a == POISON)
				_exit(1);
		}
		epoch_unpin();
	}
}

static void
readers_never_see_a_reused_object(void **state)
{
	static uint64_t retired[OBJECTS]; /* 0: free */
	pid_t pid[READERS];
	int status;

	(void) state;
	atomic_store(&shared->current, &shared->pool[0]);
	for (int i = 0; i < READERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			alarm(300);
			my_slot = NULL;
			procslot_attach(PROC_AUX_COUNT + i, PROC_BACKEND);
			read_until_stop();
			_exit(0);
		}
	}
	for (uint64_t n = 1, next = 1; n <= REPLACEMENTS; n++) {
		Object *old = atomic_load(&shared->current), *o;

		while (&shared->pool[next] == old || (retired[next] != 0 && !epoch_safe(retired[next])))
			next = (next + 1) % OBJECTS;
		o = &shared->pool[next];
		atomic_store_explicit(&o->a, POISON, memory_order_relaxed);
		atomic_store_explicit(&o->b, POISON, memory_order_relaxed);
		atomic_store_explicit(&o->a, n, memory_order_relaxed);
		atomic_store_explicit(&o->b, n, memory_order_relaxed);
		atomic_store(&shared->current, o);
		retired[old - shared->pool] = epoch_retire();
	}
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < READERS; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	become(PROC_COMPACTOR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_pin_holds_what_is_retired_after_it, setup, teardown),
		cmocka_unit_test_setup_teardown(the_oldest_version_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(a_dead_process_holds_until_its_slot_is_cleared, setup, teardown),
		cmocka_unit_test_setup_teardown(pinning_twice_is_caught, setup, teardown),
		cmocka_unit_test_setup_teardown(readers_never_see_a_reused_object, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
