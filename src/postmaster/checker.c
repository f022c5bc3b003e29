/*
 * checker.c - the checker process: hashes the node's contents when the replicas are to be compared.
 *
 * Work is replication/check_worker.c's: long, but only reading; so the stop signal ends it at once, unless it is inside
 * a critical section.
 */
#include <signal.h>

#include "ipc/childsig.h"
#include "port/child.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/check.h"

static void
on_stop(int signo)
{
	(void) signo;
	if (my_slot_no < 0 || !procslot_was_critical(my_slot_no))
		child_exit(0);
	child_stop = 1;
}

void
checker_main(void)
{
	proc_signal(CHILDSIG_STOP_WORKER, on_stop);
	proc_sched_batch();
	worker_loop("comparing contents", check_step);
	procslot_detach();
	child_exit(0);
}
