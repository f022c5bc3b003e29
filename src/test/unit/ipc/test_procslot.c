/* test_procslot.c - life of slots, critical sections seen from outside, sleeping and waking between processes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "futex_watch.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/proc.h"

#define SLOTS (PROC_AUX_COUNT + 4)

#define TURNS 2000

typedef struct Shared {
	_Atomic uint32_t word, lost;
	_Atomic uint64_t woken_ns[TURNS + 1]; /* when who gave a turn away was done with waking; 0: it is not yet */
} Shared;

static void *mem;
static Shared *shared;         /* between test and children */
static _Atomic uint32_t *word; /* its first */

/* Those who sleep in poll() wait as well. */
void __real_child_poll(const int *fds, bool *ready, int n, int timeout_ms);
void __wrap_child_poll(const int *fds, bool *ready, int n, int timeout_ms);

void
__wrap_child_poll(const int *fds, bool *ready, int n, int timeout_ms)
{
	uint64_t begun = clock_mono_ns();
	bool any = false;

	__real_child_poll(fds, ready, n, timeout_ms);
	for (int i = 0; i < n; i++)
		any |= ready[i];
	gave_up_ns = any || timeout_ms == 0 ? 0 : begun + (uint64_t) timeout_ms * 1000000;
}

static int
setup(void **state)
{
	(void) state;
	assert_int_equal(proc_shm_map(procslot_shmem_size(SLOTS) + sizeof(Shared), &mem), ST_OK);
	shared = (Shared *) ((char *) mem + procslot_shmem_size(SLOTS));
	word = &shared->word;
	procslot_shmem_init(mem, SLOTS);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	proc_shm_unmap(mem, procslot_shmem_size(SLOTS) + sizeof(Shared));
	return 0;
}

static void
wait_for(_Atomic uint32_t *w, uint32_t value)
{
	while (atomic_load(w) != value)
		child_poll(NULL, NULL, 0, 1);
}

/* A child that attaches slot i and then does `act`; returns its pid when it has attached. */
static pid_t
child(int i, void (*act)(void))
{
	pid_t pid;

	atomic_store(word, 0);
	pid = fork();
	if (pid == 0) {
		alarm(300); /* if it is stuck */
		procslot_attach(i, i < PROC_AUX_COUNT ? (ProcKind) i : PROC_BACKEND);
		act();
		_exit(0);
	}
	return pid;
}

static int
end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
say_and_wait(void)
{
	atomic_store(word, 1);
	pause();
}

static void
pin_and_wait(void)
{
	atomic_store(&my_slot->pin_epoch, 7);
	atomic_store(&my_slot->pin_version, 9);
	say_and_wait();
}

static void
a_slot_goes_free_live_dead_free(void **state)
{
	ProcSlot *s = procslot_get(PROC_AUX_COUNT + 1);
	pid_t pid = child(PROC_AUX_COUNT + 1, pin_and_wait);
	uint32_t generation = atomic_load(&s->generation);

	(void) state;
	wait_for(word, 1);
	assert_int_equal(atomic_load(&s->state), PROC_LIVE);
	assert_int_equal(atomic_load(&s->pid), pid);
	assert_int_equal(procslot_high_water(), PROC_AUX_COUNT + 2);
	assert_int_equal(procslot_reap(NULL), 0); /* the living are left alone */
	kill(pid, SIGKILL);
	end_of(pid);
	assert_false(procslot_was_critical(PROC_AUX_COUNT + 1));
	procslot_mark_dead(PROC_AUX_COUNT + 1);
	assert_false(procslot_is_free(PROC_AUX_COUNT + 1));
	assert_int_equal(atomic_load(&s->pin_epoch), 7); /* still there: only the WAL writer clears */
	assert_int_equal(procslot_reap(NULL), 1);
	assert_true(procslot_is_free(PROC_AUX_COUNT + 1));
	assert_true(atomic_load(&s->pin_epoch) == PROC_NO_PIN && atomic_load(&s->pin_version) == PROC_NO_PIN);
	assert_int_equal(atomic_load(&s->generation), generation + 1);
}

static int cleared_slots[SLOTS], ncleared;

static void
on_cleared(int slot)
{
	assert_false(procslot_is_free(slot)); /* nobody else may have it yet */
	cleared_slots[ncleared++] = slot;
}

static void
reap_finds_slots_that_never_attached(void **state)
{
	(void) state;
	ncleared = 0;
	procslot_mark_dead(SLOTS - 1); /* its child died before its first instruction */
	procslot_mark_dead(PROC_AUX_COUNT);
	assert_int_equal(procslot_reap(on_cleared), 2);
	assert_int_equal(ncleared, 2);
	assert_true(cleared_slots[0] == PROC_AUX_COUNT && cleared_slots[1] == SLOTS - 1);
	assert_true(procslot_is_free(PROC_AUX_COUNT) && procslot_is_free(SLOTS - 1));
}

static void
nested_critical_and_wait(void)
{
	critical_enter();
	critical_enter();
	critical_leave();
	say_and_wait();
}

static void
left_critical_and_wait(void)
{
	critical_enter();
	critical_leave();
	say_and_wait();
}

static void
death_inside_a_critical_section_is_seen(void **state)
{
	static void (*const act[2])(void) = { left_critical_and_wait, nested_critical_and_wait };

	(void) state;
	for (int inside = 0; inside < 2; inside++) {
		uint64_t before = clock_mono_ns();
		pid_t pid = child(PROC_AUX_COUNT + 2, act[inside]);

		wait_for(word, 1);
		assert_true(atomic_load(&procslot_get(PROC_AUX_COUNT + 2)->critical_since_ns) >= before);
		kill(pid, SIGKILL);
		end_of(pid);
		assert_int_equal(procslot_was_critical(PROC_AUX_COUNT + 2), inside);
		procslot_mark_dead(PROC_AUX_COUNT + 2);
		procslot_reap(NULL);
		assert_false(procslot_was_critical(PROC_AUX_COUNT + 2));
	}
}

/* Each side waits for its turn, says so and wakes the other. */
static void
give_turn(uint32_t turn, int other)
{
	atomic_store(word, turn);
	procslot_wake(other);
	atomic_store(&shared->woken_ns[turn], clock_mono_ns());
}

/* After a sleep for `turn`. The game ends with the first wake-up that is lost. */
static void
check_sleep(uint32_t turn)
{
	uint64_t woken = atomic_load(&shared->woken_ns[turn]);

	if (gave_up_ns != 0 && woken != 0 && woken < gave_up_ns)
		atomic_store(&shared->lost, 1);
	if (atomic_load(&shared->lost) != 0)
		_exit(1);
	gave_up_ns = 0;
}

static void
play(uint32_t mine, int other)
{
	for (uint32_t turn = mine; turn < TURNS; turn += 2) {
		for (;;) {
			uint32_t token = procslot_prepare_sleep();

			if (atomic_load(word) == turn) {
				procslot_cancel_sleep();
				break;
			}
			procslot_sleep(token, 1000000);
			check_sleep(turn);
		}
		give_turn(turn + 1, other);
	}
}

static void
play_even(void)
{
	play(0, PROC_CONSENSUS);
}

static void
play_odd(void)
{
	play(1, PROC_REPLAY);
}

static void
no_wake_up_is_lost(void **state)
{
	/* Who has the first move last: child() sets the word to 0. */
	pid_t b = child(PROC_CONSENSUS, play_odd), a = child(PROC_REPLAY, play_even);

	(void) state;
	assert_true(end_of(a) == 0 && end_of(b) == 0);
	assert_int_equal(atomic_load(word), TURNS);
}

/* The same game, where one of them sleeps in poll(). */
static void
play_odd_with_a_pipe(void)
{
	int fd = procslot_use_pipe();
	uint32_t seen = 0;

	for (uint32_t turn = 1; turn < TURNS; turn += 2) {
		while (atomic_load(word) != turn) {
			bool ready;

			if (turn % 4 == 1) { /* it may also wait for nothing but a wake-up */
				uint32_t token = procslot_prepare_sleep();

				if (atomic_load(word) != turn)
					procslot_sleep(token, 1000000);
				else
					procslot_cancel_sleep();
				check_sleep(turn);
				continue;
			}
			child_poll(&fd, &ready, 1, procslot_prepare_pipe_sleep(&seen) ? 1000 : 0);
			procslot_end_pipe_sleep(&seen, ready);
			check_sleep(turn);
		}
		give_turn(turn + 1, PROC_REPLAY);
	}
}

static void
no_wake_up_is_lost_in_a_pipe(void **state)
{
	pid_t a, b;

	(void) state;
	assert_int_equal(procslot_make_pipe(), ST_OK);
	b = child(PROC_CONSENSUS, play_odd_with_a_pipe);
	a = child(PROC_REPLAY, play_even);
	assert_true(end_of(a) == 0 && end_of(b) == 0);
	assert_int_equal(atomic_load(word), TURNS);
}

static void
sleep_with_something_in_between(void)
{
	uint32_t token = procslot_prepare_sleep();

	/* As a step that sleeps itself would leave it. */
	procslot_cancel_sleep();
	atomic_store(word, 1);
	while (atomic_load(word) != 2)
		;
	procslot_sleep(token, 1000000);
	_exit(gave_up_ns != 0);
}

static void
a_wake_between_prepare_and_sleep_counts(void **state)
{
	pid_t pid = child(PROC_AUX_COUNT, sleep_with_something_in_between);

	(void) state;
	wait_for(word, 1);
	procslot_wake(PROC_AUX_COUNT); /* it is not `sleeping` now */
	atomic_store(word, 2);
	assert_int_equal(end_of(pid), 0);
}

/* Nobody wakes: it comes back by itself, not before its time; when that is past, at once and awake. */
static void
sleep_until_a_time(void)
{
	uint64_t begun = clock_mono_ns(), until = begun + 20000000;

	procslot_sleep_until(procslot_prepare_sleep(), until);
	if (clock_mono_ns() < until || atomic_load(&my_slot->sleeping) != 0)
		_exit(1);
	procslot_sleep_until(procslot_prepare_sleep(), begun);
	if (atomic_load(&my_slot->sleeping) != 0)
		_exit(2);
}

static void
a_sleep_ends_at_its_time(void **state)
{
	(void) state;
	assert_int_equal(end_of(child(PROC_AUX_COUNT, sleep_until_a_time)), 0);
}

static void
nothing(void)
{
}

static void
wrong_use_is_caught(void **state)
{
	pid_t pid;

	(void) state;
	pid = fork();
	if (pid == 0) { /* a slot that is not free */
		procslot_mark_dead(PROC_AUX_COUNT);
		procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
		_exit(0);
	}
	assert_true(WIFSIGNALED(end_of(pid)));
	procslot_reap(NULL);
	pid = fork();
	if (pid == 0) { /* leaving what was not entered */
		procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
		critical_leave();
		_exit(0);
	}
	assert_true(WIFSIGNALED(end_of(pid)));
	procslot_mark_dead(PROC_AUX_COUNT);
	procslot_reap(NULL);
	assert_int_equal(end_of(child(PROC_AUX_COUNT, nothing)), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_slot_goes_free_live_dead_free, setup, teardown),
		cmocka_unit_test_setup_teardown(reap_finds_slots_that_never_attached, setup, teardown),
		cmocka_unit_test_setup_teardown(death_inside_a_critical_section_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(no_wake_up_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(no_wake_up_is_lost_in_a_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wake_between_prepare_and_sleep_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sleep_ends_at_its_time, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_use_is_caught, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
