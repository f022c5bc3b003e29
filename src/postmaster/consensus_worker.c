/*
 * consensus_worker.c - the consensus worker process.
 *
 * Work is replication/consensus.c's. It tells the postmaster when the gate is open, and closes it when it is told
 * to stop.
 */
#include "common/elog.h"
#include "ipc/childsig.h"
#include "ipc/logclock.h"
#include "port/child.h"
#include "postmaster_internal.h"
#include "replication/consensus.h"

static Status
step(uint64_t *nap_us)
{
	consensus_tick();
	*nap_us = LOGCLOCK_TICK_MS * 1000;
	return ST_OK;
}

void
consensus_main(void)
{
	Control control;
	Status st = control_read(&control);

	if (st == ST_OK)
		st = consensus_start(&control);
	if (st != ST_OK) {
		elog(LOG_LEVEL_FATAL, "cannot start: %s", status_detail());
		child_exit(EXIT_STOP_NODE);
	}
	child_report(REPORT_READY);
	worker_loop("consensus", step);
	consensus_stop();
	procslot_detach();
	child_exit(0);
}
