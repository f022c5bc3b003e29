/*
 * compactor.c - the compaction worker: writes full memtables to tables, merges tables.
 *
 * Work is kvstore_compactor_step()'s. A step may be a compaction of many seconds, and no step leaves anything on
 * disk that the next start would not clean up; so the stop signal ends the process at once, unless it is inside a
 * critical section, where it goes on to the next one.
 */
#include "port/child.h"
#include "postmaster_internal.h"
#include "storage/kvstore.h"

#define NAP_US 200000 /* who freezes a memtable wakes us; retired tables wait for the oldest pin to go */

static Status
step(uint64_t *nap_us)
{
	bool did = false;
	Status st = kvstore_compactor_step(&did);

	*nap_us = did ? 0 : NAP_US;
	return st;
}

void
compactor_main(void)
{
	worker_stops_anywhere();
	if (kvstore_compactor_open() != ST_OK)
		worker_failed("opening the manifest for writing");
	worker_loop("compaction", step);
	procslot_detach();
	child_exit(0);
}
