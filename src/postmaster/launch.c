/*
 * launch.c - forking children: one table says what kinds there are.
 *
 * launch_child() runs in the postmaster up to the fork and in the new child from there on. A child, in this
 * order: forgets the postmaster's descriptors (the death pipe's write end first, rule P4), makes sure that it dies
 * with the postmaster, sets its signals, attaches its slot, runs its main function.
 */
#include "backend/backend.h"
#include "common/elog.h"
#include "ipc/childsig.h"
#include "port/child.h"
#include "port/fs.h"
#include "port/proc.h"
#include "postmaster_internal.h"

typedef struct ChildKind {
	const char *name;
	void (*run)(void);  /* does not return; NULL: backend_main() */
	bool attaches;      /* to shared memory */
	bool reports;       /* how far the start is */
} ChildKind;

static const ChildKind kinds[] = {
	[PROC_REPLAY] = { "replay", replay_main, true, true },
	[PROC_CONSENSUS] = { "consensus", consensus_main, true, true },
	[PROC_WALWRITER] = { "walwriter", walwriter_main, true, false },
	[PROC_COMPACTOR] = { "compactor", compactor_main, true, false },
	[PROC_FETCHER] = { "fetcher", fetcher_main, true, false },
	[PROC_CHECKER] = { "checker", checker_main, true, false },
	[PROC_BACKEND] = { "backend", NULL, true, false },
};

LaunchPipes launch_pipes = { { -1, -1 }, { -1, -1 } };

Status
launch_make_pipes(void)
{
	KV_TRY(child_pipe(launch_pipes.death));
	KV_TRY(procslot_make_pipe());
	return child_pipe(launch_pipes.report);
}

const char *
launch_name(ProcKind kind)
{
	return kinds[kind].name;
}

static void
close_quietly(int *fd)
{
	Status st = *fd >= 0 ? fs_close(*fd) : ST_OK;

	if (st != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
	*fd = -1;
}

static _Noreturn void
run_child(ProcKind kind, int slot, int client_fd, void (*in_child)(void), pid_t parent)
{
	const ChildKind *k = &kinds[kind];

	close_quietly(&launch_pipes.death[1]);
	close_quietly(&launch_pipes.report[0]);
	if (!k->reports)
		close_quietly(&launch_pipes.report[1]);
	if (!proc_die_with_parent(parent) && child_parent() != parent)
		child_exit(EXIT_FATAL);
	in_child();
	lock_close_in_child(k->attaches);
	elog_process(k->name);
	proc_title(k->name);
	childsig_setup(launch_pipes.death[0], launch_pipes.report[1],
	               kind == PROC_BACKEND ? CHILDSIG_STOP_BACKEND : CHILDSIG_STOP_WORKER);
	if (k->attaches)
		procslot_attach(slot, kind);
	child_unblock_signals();
	if (kind == PROC_BACKEND)
		backend_main(client_fd, slot >= shmem_first_reserved());
	k->run();
	child_exit(EXIT_FATAL); /* main functions do not return */
}

Status
launch_child(ProcKind kind, int slot, int client_fd, void (*in_child)(void), pid_t *pid)
{
	pid_t parent = child_self();

	KV_TRY(child_fork(pid));
	if (*pid == 0)
		run_child(kind, slot, client_fd, in_child, parent);
	return ST_OK;
}
