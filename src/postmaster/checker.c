/*
 * checker.c - the checker process: hashes the node's contents when the replicas are to be compared.
 *
 * Work is replication/check_worker.c's: long, but only reading; so the stop signal ends it at once, unless it is inside
 * a critical section.
 */
#include "port/child.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/check.h"

void
checker_main(void)
{
	worker_stops_anywhere();
	proc_sched_batch();
	worker_loop("comparing contents", check_step);
	procslot_detach();
	child_exit(0);
}
