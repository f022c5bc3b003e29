/*
 * fetcher.c - the fetcher process: brings what a follower lacks when it is far behind.
 *
 * Work is replication/fetch.c's. It waits for another node most of the time, and nothing that it leaves on disk
 * cannot be gone on with at the next start; so the stop signal ends it at once, unless it is inside a critical
 * section, where it goes on to the next step.
 */
#include "port/child.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/fetch.h"

void
fetcher_main(void)
{
	worker_stops_anywhere();
	proc_sched_batch(); /* others wait for their answers; nobody does for this */
	worker_loop("fetching from another node", fetch_step);
	procslot_detach();
	child_exit(0);
}
