/*
 * engine.c - an engine without a server: its shared memory and its processes, as the postmaster would make them.
 *
 * Replay process, compaction worker and WAL writer run the same steps as in kvd (src/postmaster/). There is no
 * consensus worker: the replay process opens the gate once, as a node alone.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "common/config.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/proc.h"

#define SLOTS (PROC_AUX_COUNT + 2 * WORKERS_MAX + 2) /* a worker's slot is free again a little after its end */
#define IDLE_US 200000
#define START_TIMEOUT_MS 600000
#define STOP_TIMEOUT_MS 600000
#define POLL_MS 50
#define SECOND_NS UINT64_C(1000000000)

enum { REPORT_OPEN = 'm', REPORT_REPLAYED = 'r', REPORT_READY = 'g' };

static void *memory;
static size_t memory_bytes;
static Control control;
static int pipe_fds[2] = { -1, -1 };
static pid_t replay_pid, compactor_pid, walwriter_pid;
static volatile sig_atomic_t stop_asked;
static uint64_t longest_nap_ns;

void
die(const char *what)
{
	fprintf(stderr, "enginebench: %s: %s\n", what, status_detail());
	fflush(stdout);
	_exit(1);
}

/* ---- shared memory: the pieces of src/postmaster/shmem.c that the engine uses */

static size_t
page_round(size_t n)
{
	return (n + 4095) & ~(size_t) 4095;
}

static void *
take(size_t *at, size_t bytes)
{
	void *p = (uint8_t *) memory + *at;

	*at += page_round(bytes);
	return p;
}

static size_t
memory_needed(void)
{
	return page_round(procslot_shmem_size(SLOTS)) + page_round(lwlock_shmem_size()) +
	       page_round(epoch_shmem_size()) + page_round(logclock_shmem_size()) +
	       page_round(delegate_shmem_size(SLOTS)) + page_round(kvstore_shmem_size(SLOTS));
}

static void
make_memory(void)
{
	size_t at = 0;

	/* New each time, as for a server that starts: clearing what is mapped may take longer or shorter. */
	if (memory != NULL)
		proc_shm_unmap(memory, memory_bytes);
	memory_bytes = memory_needed();
	MUST(proc_shm_map(memory_bytes, &memory));
	procslot_shmem_init(take(&at, procslot_shmem_size(SLOTS)), SLOTS);
	lwlock_shmem_init(take(&at, lwlock_shmem_size()));
	epoch_shmem_init(take(&at, epoch_shmem_size()));
	logclock_shmem_init(take(&at, logclock_shmem_size()));
	MUST(delegate_shmem_init(take(&at, delegate_shmem_size(SLOTS)), SLOTS));
	MUST(kvstore_shmem_init(take(&at, kvstore_shmem_size(SLOTS)), &control));
}

/* ---- the directory */

/* Only a directory that bears it is ever emptied. */
#define MARKER "enginebench.mark"

static Status
note_any(void *arg, const char *name)
{
	(void) name;
	*(bool *) arg = true;
	return ST_OK;
}

void
engine_enter(void)
{
	bool any = false, ours;
	char *text;
	size_t len;

	if (mkdir(opt.db, 0700) != 0 && errno != EEXIST)
		die("cannot make --db");
	if (chdir(opt.db) != 0)
		die("cannot enter --db");
	ours = fs_read_file(MARKER, 1, &text, &len) == ST_OK;
	MUST(fs_list(".", note_any, &any));
	if (any && !ours) {
		(void) status_fail(ST_FOREIGN, "it is not empty, and not enginebench's (no file " MARKER ")");
		die("--db");
	}
	if (ours)
		free(text);
	else
		MUST(fs_replace_file(MARKER, "", 0));
}

static Status
remove_name(void *arg, const char *name)
{
	struct stat st;

	(void) arg;
	if (strcmp(name, MARKER) == 0 || stat(name, &st) != 0)
		return ST_OK;
	return S_ISDIR(st.st_mode) ? fs_remove_dir(name) : fs_unlink(name);
}

void
engine_remove(void)
{
	MUST(fs_list(".", remove_name, NULL));
}

static void
make_if_missing(void)
{
	Status st = control_read(&control);

	if (st == ST_NOT_FOUND) {
		MUST(control_make(&control, (uint32_t) config.wal_segment_size));
		MUST(control_write(&control));
		MUST(kvstore_create(&control));
	} else if (st != ST_OK)
		die("cannot read --db");
}

/* ---- children */

static void
on_stop(int signo)
{
	(void) signo;
	stop_asked = 1;
	if (my_slot_no >= 0)
		procslot_wake(my_slot_no);
}

/* As compactor.c: a long compaction is left at once, the next start removes what it made. */
static void
on_stop_compactor(int signo)
{
	if (my_slot_no < 0 || !procslot_was_critical(my_slot_no))
		child_exit(0);
	on_stop(signo);
}

static pid_t
fork_child(int slot, ProcKind kind, void (*body)(void *arg), void *arg)
{
	pid_t pid, parent = getpid();

	fflush(stdout);
	MUST(child_fork(&pid));
	if (pid > 0)
		return pid;
	proc_die_with_parent(parent);
	proc_signal(SIGTERM, on_stop);
	proc_signal(SIGINT, SIG_IGN);
	child_unblock_signals();
	procslot_attach(slot, kind);
	if (kind != PROC_BACKEND)
		countfs_install(&shared->background, false);
	body(arg);
	procslot_detach();
	fflush(stdout);
	child_exit(0);
}

/* Step and sleep until told to stop, as worker_loop() of the postmaster's room. */
static void
loop(Status (*step)(uint64_t *nap_us))
{
	while (!stop_asked) {
		uint64_t nap_us = IDLE_US;
		uint32_t token = procslot_prepare_sleep();
		Status st = step(&nap_us);

		if (st != ST_OK && st != ST_BUSY)
			die("a step of the background failed");
		if (nap_us == 0 || stop_asked)
			procslot_cancel_sleep();
		else
			procslot_sleep(token, nap_us);
	}
}

static Status
compactor_step(uint64_t *nap_us)
{
	bool did = false;
	Status st = kvstore_compactor_step(&did);

	*nap_us = did ? 0 : IDLE_US;
	return st;
}

static Status
walwriter_step(uint64_t *nap_us)
{
	uint32_t ms = 0;
	Status st = kvstore_walwriter_step(&ms);

	*nap_us = (uint64_t) ms * 1000;
	return st;
}

static Status
replay_step(uint64_t *nap_us)
{
	bool did = false;
	Status st = kvstore_replay_step(&did);

	*nap_us = did ? 0 : IDLE_US;
	return st;
}

static void
compactor_main(void *arg)
{
	(void) arg;
	proc_signal(SIGTERM, on_stop_compactor);
	MUST(kvstore_compactor_open());
	loop(compactor_step);
}

static void
walwriter_main(void *arg)
{
	(void) arg;
	loop(walwriter_step);
	while (wal_durable() < wal_inserted())
		(void) wal_flush();
	MUST(wal_finish_mark());
}

static void
open_gate(void)
{
	Lsn start, end;

	logclock_begin_term(kvstore_applied_time(), clock_wall_ms());
	MUST(wal_begin_term(wal_term() + 1, logclock_now(), &start, &end));
	wal_open_gate();
	procslot_wake(PROC_WALWRITER);
	MUST(kvstore_wait_applied(start, START_TIMEOUT_MS));
}

static void
replay_main(void *arg)
{
	(void) arg;
	MUST(kvstore_open());
	child_pipe_put(pipe_fds[1], REPORT_OPEN);
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	child_pipe_put(pipe_fds[1], REPORT_REPLAYED);
	open_gate();
	atomic_store(&shared->started_ns, clock_mono_ns());
	child_pipe_put(pipe_fds[1], REPORT_READY);
	loop(replay_step);
}

/* A child of the engine that ends by itself has said why. */
static void
check_children(void)
{
	ChildEnd end;

	if (child_reap(&end)) {
		(void) status_fail(ST_INTERNAL, "process %d: exit code %d, signal %d", (int) end.pid, end.code, end.signal);
		die("a process of the engine has ended");
	}
}

static void
wait_report(char what)
{
	uint64_t until = clock_mono_ns() + START_TIMEOUT_MS * UINT64_C(1000000);
	bool ready;
	char c = 0;

	while (c != what) {
		child_poll(&pipe_fds[0], &ready, 1, POLL_MS);
		if (child_pipe_get(pipe_fds[0], &c, 1) == 1)
			continue;
		check_children();
		if (clock_mono_ns() > until)
			die("the start takes too long");
	}
}

uint64_t
engine_start(void)
{
	uint64_t began = clock_mono_ns();

	make_if_missing();
	make_memory();
	if (pipe_fds[0] < 0)
		MUST(child_pipe(pipe_fds));
	replay_pid = fork_child(PROC_REPLAY, PROC_REPLAY, replay_main, NULL);
	wait_report(REPORT_OPEN);
	compactor_pid = fork_child(PROC_COMPACTOR, PROC_COMPACTOR, compactor_main, NULL);
	wait_report(REPORT_REPLAYED);
	walwriter_pid = fork_child(PROC_WALWRITER, PROC_WALWRITER, walwriter_main, NULL);
	wait_report(REPORT_READY);
	return atomic_load(&shared->started_ns) - began;
}

static void
stop_child(pid_t pid)
{
	int status;

	child_signal(pid, SIGTERM);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("a process of the engine ended badly");
}

void
engine_stop(void)
{
	stop_child(compactor_pid);
	stop_child(replay_pid);
	stop_child(walwriter_pid);
	replay_pid = 0;
}

bool
engine_running(void)
{
	return replay_pid != 0;
}

static int
free_slot(void)
{
	for (;;) {
		for (int i = PROC_AUX_COUNT; i < SLOTS; i++)
			if (procslot_is_free(i))
				return i;
		procslot_wake(PROC_WALWRITER); /* it frees those of the dead */
		child_poll(NULL, NULL, 0, 1);
	}
}

pid_t
engine_fork(void (*body)(void *arg), void *arg, int *slot)
{
	pid_t pid;

	*slot = free_slot();
	pid = fork_child(*slot, PROC_BACKEND, body, arg);
	/* the child takes the slot; until then the next one must not be given the same */
	while (procslot_is_free(*slot)) {
		check_children();
		child_poll(NULL, NULL, 0, 1);
	}
	return pid;
}

/* How much longer it is than it should be no other process could have done better either. */
static void
nap(void)
{
	uint64_t began = clock_mono_ns(), took;

	child_poll(NULL, NULL, 0, BENCH_NAP_MS);
	took = clock_mono_ns() - began;
	if (took > longest_nap_ns)
		longest_nap_ns = took;
}

uint64_t
engine_longest_nap(void)
{
	uint64_t ns = longest_nap_ns;

	longest_nap_ns = 0;
	return ns;
}

void
engine_join(pid_t pid, int slot, void (*each_second)(void))
{
	uint64_t second = clock_mono_ns() + SECOND_NS;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		siginfo_t info = { 0 };

		if (clock_mono_ns() > second) {
			each_second();
			second += SECOND_NS;
		}
		/* any child: one of the engine that ends meanwhile would be waited for in vain */
		waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG);
		if (info.si_pid == replay_pid || info.si_pid == compactor_pid || info.si_pid == walwriter_pid)
			check_children();
		else if (info.si_pid != pid)
			nap();
	}
	if (status != 0) {
		(void) status_fail(ST_INTERNAL, "wait status %d", status);
		die("a worker failed");
	}
	procslot_mark_dead(slot);
	procslot_wake(PROC_WALWRITER);
}

static uint64_t
cpu_of(pid_t pid)
{
	clockid_t clock;
	struct timespec t;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
		return 0;
	return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

EngineCpu
engine_cpu(void)
{
	return (EngineCpu){ cpu_of(walwriter_pid), cpu_of(compactor_pid), cpu_of(replay_pid) };
}
