/*
 * walwriter.c - the WAL writer process: keeps the log ahead of those who wait for it, clears dead slots.
 *
 * Work is kvstore_walwriter_step()'s; here are its signals and its end: it is the last child to stop, and everything
 * inserted is durable then.
 */
#include "common/elog.h"
#include "ipc/childsig.h"
#include "port/child.h"
#include "port/clock.h"
#include "postmaster_internal.h"
#include "storage/kvstore.h"
#include "storage/wal.h"

#define FINISH_MS 5000 /* how long a stop tries to write the log's end */

static Status
step(uint64_t *nap_us)
{
	uint32_t ms = 0;
	Status st = kvstore_walwriter_step(&ms);

	*nap_us = (uint64_t) ms * 1000;
	return st;
}

/* Nobody inserts any more: make the log's end durable and the mark exact, so that the next start has nothing to cut. */
static void
finish(void)
{
	uint64_t until_ns = clock_mono_ns() + FINISH_MS * UINT64_C(1000000);

	/* On a full disk there may be no way to write the rest: nothing of it was acknowledged as durable. */
	while (wal_durable() < wal_inserted() && clock_mono_ns() < until_ns)
		if (!wal_flush() && wal_durable() < wal_inserted())
			child_poll(NULL, NULL, 0, 1);
	if (wal_finish_mark() != ST_OK)
		elog(LOG_LEVEL_WARNING, "cannot write the durable mark: %s", status_detail());
}

void
walwriter_main(void)
{
	worker_loop("writing the log", step);
	finish();
	procslot_detach();
	child_exit(0);
}
