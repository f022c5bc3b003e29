/*
 * check.c - `kvd --check`: is everything that the manifest and the log name whole? Reads only.
 *
 * Run by one process on a directory that no server uses, after kvstore_open().
 */
#include <stdio.h>

#include "ipc/epoch.h"
#include "kvstore_internal.h"

static Status
check_log(Lsn from, uint64_t *records)
{
	WalReader *r;
	WalRecord rec;
	Status st;

	KV_TRY(wal_reader_open(from, UINT64_MAX, &r));
	*records = 0;
	while ((st = wal_reader_next(r, &rec)) == ST_OK)
		(*records)++;
	wal_reader_close(r);
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
kvstore_check(void (*report)(void *arg, const char *line), void *arg)
{
	const Version *v = atomic_load(&kvs->current)->version;
	char line[160];
	uint64_t tables = 0, records;
	Status st;

	for (int i = 0; i < LSM_LEVELS; i++)
		tables += v->ntables[i];
	epoch_enter();
	st = lsm_verify(v, report, arg);
	epoch_leave();
	KV_TRY(st);
	snprintf(line, sizeof line, "tables: %llu checked, all whole", (unsigned long long) tables);
	report(arg, line);
	KV_TRY(check_log(v->flushed, &records));
	snprintf(line, sizeof line, "log: %llu records from %llu on, all whole", (unsigned long long) records,
			 (unsigned long long) v->flushed);
	report(arg, line);
	return ST_OK;
}
