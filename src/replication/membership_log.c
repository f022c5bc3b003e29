/*
 * membership_log.c - a configuration into the log.
 *
 * Whoever may insert into the log for the cluster: consensus worker, kvd --recover-alone. No locks of its own.
 */
#include "ipc/logclock.h"
#include "replication/membership.h"

Status
membership_insert(const Membership *m, Lsn *start, Lsn *end)
{
	Buf body = { 0 };
	Status st = membership_encode(m, &body);
	Slice part = slice_buf(&body);

	if (st == ST_OK)
		st = wal_insert(wal_generation(), WAL_CONFIG, 0, logclock_now(), &part, 1, start, end);
	buf_free(&body);
	return st;
}
