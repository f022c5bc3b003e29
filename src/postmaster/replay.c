/*
 * replay.c - the replay process: brings the node from disk to the log's end, then applies what nobody waits for.
 *
 * Work is kvstore's; here is the order of the start, which the postmaster follows by reports.
 */
#include <inttypes.h>

#include "common/elog.h"
#include "ipc/childsig.h"
#include "ipc/nodestate.h"
#include "port/child.h"
#include "port/clock.h"
#include "postmaster_internal.h"
#include "replication/consensus.h"
#include "replication/fetch.h"
#include "storage/kvstore.h"

#define NAP_US 1000000 /* whoever moves commit wakes us */

static Status
step(uint64_t *nap_us)
{
	bool did = false;
	Status st = kvstore_replay_step(&did);

	*nap_us = did ? 0 : NAP_US;
	return st;
}

/* A start that fails would fail again: say why and give up (the postmaster does not restart us). */
static void
must(Status st, const char *what)
{
	if (st == ST_OK)
		return;
	elog(LOG_LEVEL_FATAL, "cannot start: %s: %s", what, status_detail());
	child_exit(st == ST_CORRUPT || st == ST_IO_ERROR ? EXIT_STOP_NODE : EXIT_FATAL);
}

/* Find the log's end. Damage is cut only where other nodes have what it held (rule L5). */
static Status
read_log(const Control *control)
{
	WalRecovery found;
	Status st = kvstore_recover(false);

	kvstore_recovered(&found);
	if (st != ST_CORRUPT || found.damaged_at == 0)
		return st;
	KV_TRY(consensus_may_cut(control));
	return kvstore_recover(true);
}

void
replay_main(void)
{
	NodeState *node = nodestate();
	WalRecovery found;
	uint64_t begun = clock_mono_ns();
	bool installed, alone;
	Control control;

	must(fetch_install(&installed), "installing tables of another node");
	must(kvstore_open(), "opening the tables");
	atomic_store(&node->manifest_open, 1);
	child_report(REPORT_MANIFEST_OPEN);
	must(control_read(&control), "reading " CONTROL_FILE);
	must(read_log(&control), "reading the log");
	must(consensus_is_alone(&control, &alone), "reading the configuration");
	must(kvstore_replay(alone), "replaying the log");
	kvstore_recovered(&found);
	if (found.torn_bytes > 0)
		elog(LOG_LEVEL_LOG, "cut %" PRIu64 " bytes of an unfinished record off the log's end", found.torn_bytes);
	if (found.last_term > 0) /* else the log is empty: a new directory */
		elog(LOG_LEVEL_LOG, "replayed the log up to %" PRIu64 " (term %" PRIu64 ") in %" PRIu64 " ms", found.end,
		     found.last_term, (clock_mono_ns() - begun) / 1000000);
	atomic_store(&node->replayed, 1);
	child_report(REPORT_REPLAYED);
	worker_loop("applying the log", step);
	procslot_detach();
	child_exit(0);
}
