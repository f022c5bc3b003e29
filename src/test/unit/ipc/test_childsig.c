/* test_childsig.c - what a child does with signals, the death pipe and the report pipe. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "ipc/childsig.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/proc.h"

#define READY_MS 20000 /* a child that does not come up has failed */

static void *mem;
static _Atomic uint32_t *ready;

static int
setup(void **state)
{
	(void) state;
	assert_int_equal(proc_shm_map(procslot_shmem_size(PROC_AUX_COUNT + 4) + 64, &mem), ST_OK);
	procslot_shmem_init(mem, PROC_AUX_COUNT + 4);
	ready = (_Atomic uint32_t *) ((char *) mem + procslot_shmem_size(PROC_AUX_COUNT + 4));
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	proc_shm_unmap(mem, procslot_shmem_size(PROC_AUX_COUNT + 4) + 64);
	return 0;
}

/* A child that sleeps on its slot until it is told to stop: exit 0, with a reload before it: 5. */
static pid_t
start_child(int stop_signal)
{
	pid_t pid;

	atomic_store(ready, 0);
	pid = fork();
	if (pid == 0) {
		alarm(20);
		childsig_setup(-1, -1, stop_signal);
		procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
		atomic_store(ready, 1);
		for (;;) {
			uint32_t token = procslot_prepare_sleep();

			if (child_stop)
				_exit(child_reload ? 5 : 0);
			procslot_sleep(token, 1000000);
		}
	}
	for (int ms = 0; atomic_load(ready) == 0; ms++) {
		assert_true(ms < READY_MS);
		child_poll(NULL, NULL, 0, 1);
	}
	return pid;
}

static int
end_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	procslot_mark_dead(PROC_AUX_COUNT);
	procslot_reap(NULL);
	return status;
}

static void
the_stop_signal_of_its_kind_and_no_other(void **state)
{
	static const int stop[2] = { CHILDSIG_STOP_BACKEND, CHILDSIG_STOP_WORKER };

	(void) state;
	for (int i = 0; i < 2; i++) {
		bool at_once = false;

		/* Who sleeps through it does so each time; a busy machine may hold up one. */
		for (int tries = 0; tries < 5 && !at_once; tries++) {
			pid_t pid = start_child(stop[i]);
			uint64_t begun;

			kill(pid, stop[!i]);
			kill(pid, SIGINT);
			kill(pid, SIGPIPE);
			kill(pid, SIGUSR1);
			child_poll(NULL, NULL, 0, 50);
			assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
			begun = clock_mono_ns();
			kill(pid, stop[i]);
			assert_int_equal(end_of(pid), 0);
			at_once = clock_mono_ns() - begun < UINT64_C(500000000);
		}
		assert_true(at_once);
	}
}

static void
reload_and_quit(void **state)
{
	pid_t pid = start_child(CHILDSIG_STOP_WORKER);
	int status;

	(void) state;
	kill(pid, SIGHUP);
	child_poll(NULL, NULL, 0, 20);
	kill(pid, CHILDSIG_STOP_WORKER);
	assert_int_equal(WEXITSTATUS(end_of(pid)), 5);
	pid = start_child(CHILDSIG_STOP_BACKEND);
	kill(pid, SIGQUIT);
	status = end_of(pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
}

static void
the_death_pipe_tells(void **state)
{
	int fds[2];

	(void) state;
	assert_int_equal(child_pipe(fds), ST_OK);
	childsig_setup(fds[0], -1, CHILDSIG_STOP_WORKER);
	assert_true(child_postmaster_lives());
	close(fds[1]);
	assert_false(child_postmaster_lives());
	close(fds[0]);
}

static void
reports_arrive_in_order(void **state)
{
	int fds[2];
	char got[8];

	(void) state;
	assert_int_equal(child_pipe(fds), ST_OK);
	assert_int_equal(child_pipe_get(fds[0], got, sizeof got), 0);
	childsig_setup(-1, fds[1], CHILDSIG_STOP_WORKER);
	child_report(REPORT_MANIFEST_OPEN);
	child_report(REPORT_REPLAYED);
	assert_int_equal(child_pipe_get(fds[0], got, sizeof got), 2);
	assert_true(got[0] == REPORT_MANIFEST_OPEN && got[1] == REPORT_REPLAYED);
	for (int i = 0; i < 1000000; i++) /* a full pipe drops, it does not block */
		child_report(REPORT_READY);
	close(fds[0]);
	child_report(REPORT_READY); /* nor does a closed one kill */
	close(fds[1]);
	childsig_setup(-1, -1, CHILDSIG_STOP_WORKER);
	child_report(REPORT_READY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_stop_signal_of_its_kind_and_no_other, setup, teardown),
		cmocka_unit_test_setup_teardown(reload_and_quit, setup, teardown),
		cmocka_unit_test(the_death_pipe_tells),
		cmocka_unit_test(reports_arrive_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
