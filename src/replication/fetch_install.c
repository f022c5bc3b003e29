/*
 * fetch_install.c - at start: tables that were fetched whole take the place of ours (rule C5).
 *
 * Replay process, before anything is open; nobody else touches these files. Each step may be cut off and is
 * done again by the next start, because what was fetched goes, all at once, only when all is done:
 *	1. PLAN: the names of what is new, fixed once
 *	2. a repair: `recovering` into the vote file (rule L5): this node may forget what it has acknowledged
 *	3. files to their places, one switch of CURRENT (storage/lsm/install.c)
 *	4. the log: kept if it goes on from the tables, else, and for a repair, begun anew behind them
 *	5. all of it goes, by one rename
 * Up to the switch the node is what it was; if the fetched files turn out to be bad, it goes on without them.
 */
#include <inttypes.h>

#include "common/elog.h"
#include "fetch_internal.h"
#include "replication/snapshot.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"

/* The fetched state is of no use: start with what is here. */
static Status
discard(const char *why)
{
	elog(LOG_LEVEL_WARNING, "tables that were fetched are not installed: %s", why);
	return fetch_remove_incoming();
}

static Status
set_recovering(const Control *self)
{
	Vote vote;

	KV_TRY(votefile_read(self->node_incarnation, &vote));
	if (vote.flags & VOTE_RECOVERING)
		return ST_OK;
	vote.flags |= VOTE_RECOVERING;
	return votefile_write(&vote);
}

static Status
get_plan(TransferPlan *plan)
{
	Status st = fetch_read_plan(plan);

	if (st != ST_NOT_FOUND)
		return st;
	KV_TRY(transfer_plan(plan));
	return fetch_write_plan(plan);
}

/* Step 3. *useless: nothing has changed, and there is no sense in trying again. */
static Status
switch_tables(const FetchComplete *c, const TransferPlan *plan, bool *useless)
{
	TransferList *list;
	Lsn flushed;
	bool done;
	Status st;

	*useless = false;
	KV_TRY(transfer_installed(plan, &done));
	if (done)
		return ST_OK;
	KV_TRY(transfer_flushed(&flushed));
	if (flushed >= c->flushed && !c->repair) {
		*useless = true;
		return status_fail(ST_CONDITION_FAILED, "ours hold more (%" PRIu64 ") than they do (%" PRIu64 ")",
						   flushed, c->flushed);
	}
	st = transfer_list_read(FETCH_INCOMING, &list);
	*useless = st == ST_CORRUPT || st == ST_FOREIGN;
	KV_TRY(st);
	st = transfer_install(plan, list, FETCH_INCOMING);
	transfer_list_free(list);
	*useless = st == ST_CORRUPT;
	return st;
}

static Status
install(const FetchComplete *c, const Control *self, bool *did)
{
	TransferPlan plan;
	bool useless = false, kept = false;
	Status st;

	KV_TRY(get_plan(&plan)); /* if it is damaged nobody knows what was done: refuse */
	if (c->repair)
		KV_TRY(set_recovering(self));
	st = switch_tables(c, &plan, &useless);
	if (useless)
		return discard(status_detail());
	KV_TRY(st);
	/* What is repaired may differ because of what stands in its log. */
	KV_TRY(c->repair ? wal_restart_without(c->flushed) : wal_restart_at(c->flushed, c->term, &kept));
	elog(LOG_LEVEL_LOG,
		 "installed the tables that were fetched: all up to %" PRIu64 " (term %" PRIu64 "), %s", c->flushed,
		 c->term, kept ? "the log goes on behind them" : "the log begins anew there");
	KV_TRY(fetch_remove_incoming());
	*did = true;
	return ST_OK;
}

/*
 * COMPLETE is damaged. As a rule what was fetched is of no use then; but if its tables are in place, our log does not
 * belong to them, and what was to become of it is lost.
 */
static Status
check_not_begun(void)
{
	TransferPlan plan;
	bool done;
	Status st = fetch_read_plan(&plan);

	if (st == ST_NOT_FOUND)
		return ST_OK;
	KV_TRY(st);
	KV_TRY(transfer_installed(&plan, &done));
	if (!done)
		return ST_OK;
	return status_fail(ST_CORRUPT, FETCH_INCOMING "/COMPLETE is damaged, and its tables are in place: give this node "
					   "an empty directory and let it join again");
}

Status
fetch_cut_off(const Control *self, Lsn *flushed, uint64_t *term)
{
	TransferPlan plan;
	FetchComplete c;
	bool done;
	Status st = fetch_read_complete(&c, self);

	*flushed = *term = 0;
	if (st == ST_NOT_FOUND)
		return ST_OK; /* nothing that would be installed */
	if (st == ST_CORRUPT)
		return check_not_begun();
	KV_TRY(st);
	st = fetch_read_plan(&plan);
	if (st == ST_NOT_FOUND)
		return ST_OK; /* not begun */
	KV_TRY(st);
	KV_TRY(transfer_installed(&plan, &done));
	if (done) {
		*flushed = c.flushed;
		*term = c.repair ? 0 : c.term;
	}
	return ST_OK;
}

Status
fetch_install(bool *did)
{
	const Control *self = kvstore_control();
	FetchComplete c;
	Status st;

	*did = false;
	KV_TRY(snapshot_remove_all());
	KV_TRY(fetch_remove_gone());
	st = fetch_read_complete(&c, self);
	if (st == ST_OK)
		return install(&c, self, did);
	if (st == ST_CORRUPT) {
		KV_TRY(check_not_begun());
		return discard(FETCH_INCOMING "/COMPLETE is damaged, or of another cluster");
	}
	/* Tables without the mark are of a fetch that may go on. */
	return st == ST_NOT_FOUND ? ST_OK : st;
}
