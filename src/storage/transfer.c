/*
 * transfer.c - the engine's tables to and from another node: the door to storage/lsm's export and install.
 *
 * Export: any attached process, under a pin that lasts as long as the links take. Install: replay process,
 * alone.
 */
#include "storage/transfer.h"

#include <stdio.h>

#include "common/elog.h"
#include "ipc/epoch.h"
#include "kvstore_internal.h"
#include "port/fs.h"

#define PLAN_OF(p) (&(LsmPlan){ (p)->manifest, (p)->first_table })

static TransferSum
sum_of(const LsmSum *s)
{
	return (TransferSum){ s->state.flushed, s->state.flushed_term, s->state.flushed_time,
						  s->files,         s->file_bytes,         s->list_bytes };
}

Status
transfer_export(const char *dir, TransferSum *out)
{
	LsmSum sum;
	Status st;

	KV_TRY(fs_mkdir(dir));
	epoch_enter();
	st = lsm_export(atomic_load(&kvs->current)->version, dir, &sum);
	epoch_leave();
	if (st == ST_OK) {
		*out = sum_of(&sum);
		return ST_OK;
	}
	if (fs_remove_dir(dir) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s stays until the next start", dir);
	return st;
}

void
transfer_path(const char *dir, uint64_t number, char *out, size_t size)
{
	if (number == TRANSFER_LIST)
		snprintf(out, size, "%s/" LSM_LIST, dir);
	else
		lsm_exported_path(dir, number, out, size);
}

/* ---- receiving: TransferList is LsmList under a name that is known outside */
static const LsmList *
inner(const TransferList *l)
{
	return (const LsmList *) (const void *) l;
}

Status
transfer_list_read(const char *dir, TransferList **out)
{
	char path[FS_PATH_MAX];
	LsmList *l;

	transfer_path(dir, TRANSFER_LIST, path, sizeof path);
	KV_TRY(lsm_list_read(path, &l));
	*out = (TransferList *) (void *) l;
	return ST_OK;
}

void
transfer_list_free(TransferList *l)
{
	lsm_list_free((LsmList *) (void *) l);
}

void
transfer_list_sum(const TransferList *l, TransferSum *out)
{
	*out = sum_of(lsm_list_sum(inner(l)));
}

TransferFile
transfer_list_file(const TransferList *l, uint64_t i)
{
	LsmFile f = lsm_list_file(inner(l), i);

	return (TransferFile){ f.number, f.file_id, f.bytes };
}

void
transfer_fetched_path(const char *dir, const TransferFile *f, char *out, size_t size)
{
	lsm_fetched_path(dir, &(LsmFile){ f->number, f->file_id, f->bytes }, out, size);
}

Status
transfer_verify(const TransferList *l, uint64_t i, const char *dir,
				void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	/* Without a pin: it reads past the cache, a file that nobody removes, and may take long. */
	return lsm_list_verify(inner(l), i, dir, progress, arg);
}

Status
transfer_plan(TransferPlan *out)
{
	LsmPlan plan;

	KV_TRY(lsm_install_plan(&plan));
	*out = (TransferPlan){ plan.manifest, plan.first_table };
	return ST_OK;
}

Status
transfer_install(const TransferPlan *plan, const TransferList *l, const char *dir)
{
	return lsm_install(PLAN_OF(plan), inner(l), dir);
}

Status
transfer_installed(const TransferPlan *plan, bool *done)
{
	return lsm_installed(PLAN_OF(plan), done);
}

Status
transfer_flushed(Lsn *flushed)
{
	LsmState state;

	KV_TRY(lsm_state_now(&state));
	*flushed = state.flushed;
	return ST_OK;
}
