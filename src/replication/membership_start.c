/*
 * membership_start.c - which configuration is in force when the node starts (rule C2).
 *
 * Replay process and consensus worker, after kvstore_recover(). Reads log and tables; no locks.
 *
 * A configuration counts from when it is in the log, committed or not; the newest record there decides.
 * Tables hold what was committed, which is never undone, so theirs has no predecessor that could come back.
 */
#include "replication/membership.h"
#include "storage/kvstore.h"

static Status
from_log(Lsn lsn, MembershipAt *out)
{
	Buf scratch = { 0 };
	WalRecord record;
	Status st = kvstore_log_record(lsn, &scratch, &record);

	if (st == ST_OK && record.header.kind != WAL_CONFIG)
		st = status_fail(ST_CORRUPT, "no configuration record");
	if (st == ST_OK)
		st = membership_decode(record.body, &out->members);
	if (st != ST_OK)
		st = status_prefix(st, "configuration record at %llu", (unsigned long long) lsn);
	else {
		out->start = lsn;
		out->end = record.end;
	}
	buf_free(&scratch);
	return st;
}

static Status
from_tables(MembershipAt *out)
{
	Buf body = { 0 };
	Status st = kvstore_config(&body, &out->start, &out->end);

	if (st == ST_OK) {
		st = membership_decode(slice_buf(&body), &out->members);
		if (st != ST_OK)
			st = status_prefix(st, "configuration in the tables");
	}
	buf_free(&body);
	return st;
}

static Status
from_file(MembershipAt *out)
{
	Lsn at;

	out->start = out->end = 0;
	return membership_file_read(&out->members, &at);
}

/*
 * What was in force before the only record that the log names: from tables if theirs is older, else what
 * the node began with. The first record of a log repeats that, so where the file names a later one already,
 * the record itself tells.
 */
static Status
before(const MembershipAt *current, MembershipAt *out)
{
	Status st = from_tables(out);
	Lsn at;

	if (st == ST_OK && out->start < current->start)
		return ST_OK;
	if (st != ST_OK && st != ST_NOT_FOUND)
		return st;
	out->start = out->end = 0;
	st = membership_file_read(&out->members, &at);
	if (st == ST_NOT_FOUND || (st == ST_OK && at != 0)) {
		out->members = current->members;
		return ST_OK;
	}
	return st;
}

Status
membership_at_start(MembershipAt *current, MembershipAt *previous)
{
	WalRecovery found;
	Status st;

	*current = *previous = (MembershipAt){ 0 };
	kvstore_recovered(&found);
	if (found.last_config == 0) {
		st = from_tables(current);
		return st == ST_NOT_FOUND ? from_file(current) : st;
	}
	KV_TRY(from_log(found.last_config, current));
	if (found.previous_config != 0)
		return from_log(found.previous_config, previous);
	return before(current, previous);
}
