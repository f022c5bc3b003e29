/*
 * shared.c - the memory that driver and workers share beside the engine's.
 */
#include "bench.h"
#include "port/proc.h"

Shared *shared;

Status
shared_make(void)
{
	void *p;

	KV_TRY(proc_shm_map(sizeof *shared, &p));
	shared = p;
	return ST_OK;
}
