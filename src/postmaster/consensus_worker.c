/*
 * consensus_worker.c - the consensus worker process.
 *
 * Work is replication/consensus.c's. Here are its signals and its end. It tells the postmaster when the node takes
 * part: alone, that is when clients can be served; among others, they are told where the leader is.
 */
#include "common/elog.h"
#include "ipc/childsig.h"
#include "port/child.h"
#include "port/clock.h"
#include "postmaster_internal.h"
#include "replication/consensus.h"

#define LIFE_CHECK_NS UINT64_C(500000000) /* rule P4: where the system does not kill us with the postmaster */

void
consensus_main(void)
{
	uint64_t looked_ns = 0;
	Control control;
	Status st = control_read(&control);

	if (st == ST_OK)
		st = consensus_start(&control);
	if (st != ST_OK) {
		elog(LOG_LEVEL_FATAL, "cannot start: %s", status_detail());
		child_exit(st == ST_CORRUPT || st == ST_IO_ERROR ? EXIT_STOP_NODE : EXIT_FATAL);
	}
	child_report(REPORT_READY);
	while (!child_stop) {
		uint64_t now = clock_mono_ns();

		if (child_reload)
			worker_reload();
		if (now - looked_ns > LIFE_CHECK_NS) {
			looked_ns = now;
			if (!child_postmaster_lives())
				child_exit(EXIT_FATAL);
		}
		consensus_turn();
	}
	consensus_stop();
	procslot_detach();
	child_exit(0);
}
