/*
 * read.c - snapshots and point reads.
 *
 * Run by any attached process under its own pin (rule A5); no locks. A snapshot is (applied, superversion): versions
 * below `applied` are seen, in whatever memtables and tables the superversion holds.
 */
#include "common/kv_assert.h"
#include "common/process_local.h"
#include "ipc/epoch.h"
#include "kvstore_internal.h"

/* This process's read: NULL outside of one. */
static PROCESS_LOCAL const Superversion *reading;
static PROCESS_LOCAL uint64_t files_of; /* number of the Version whose files may be open here */

const Superversion *
read_superversion(void)
{
	return reading;
}

static bool
file_alive(void *arg, uint64_t number)
{
	return lsm_version_has(arg, number);
}

/* Let go of files that `v` no longer has: their space comes back when the last process has. */
static void
release_files(const Version *v)
{
	union {
		const Version *in;
		void *out;
	} arg = { v };

	if (v->number == files_of) /* a number, not its address, which a later Version may have */
		return;
	table_files_sweep(file_alive, arg.out);
	files_of = v->number;
}

/* Pinned already: load what the pin protects. at 0: what is visible now. */
static void
enter_read(Snapshot *s, Lsn at, uint64_t now)
{
	apply_moment(&s->at, &s->log_time);
	if (at != 0)
		s->at = at;
	s->now = now;
	s->time_behind = false;
	reading = atomic_load_explicit(&kvs->current, memory_order_acquire);
	release_files(reading->version);
}

void
kvstore_release_files(void)
{
	if (reading != NULL || table_files_open() == 0)
		return;
	epoch_enter();
	release_files(atomic_load_explicit(&kvs->current, memory_order_acquire)->version);
	epoch_leave();
}

void
kvstore_begin_read(Snapshot *s, uint64_t now)
{
	KV_ASSERT(reading == NULL);
	epoch_pin(kvstore_applied());
	enter_read(s, 0, now);
}

void
kvstore_begin_own_read(Snapshot *s)
{
	KV_ASSERT(reading == NULL);
	epoch_enter();
	enter_read(s, 0, 0);
}

Status
kvstore_begin_read_at(Snapshot *s, uint64_t now, Lsn at)
{
	Lsn visible;
	uint64_t time;

	KV_ASSERT(reading == NULL);
	apply_moment(&visible, &time);
	if (at == 0 || at > visible)
		return status_fail(ST_SNAPSHOT_GONE, "snapshot %llu is not of this server's past",
						   (unsigned long long) at);
	/* Pin first, then look at the floor: whoever raised it before will see the pin or be seen (rule A10). */
	epoch_pin(at);
	if (at < atomic_load(&kvs->history_floor)) {
		epoch_unpin();
		return status_fail(ST_SNAPSHOT_GONE,
						   "snapshot %llu is older than snapshot_retention; begin the scan again",
						   (unsigned long long) at);
	}
	enter_read(s, at, now);
	return ST_OK;
}

/* The pin of the version stays, so compaction goes on to keep what this position needs. */
void
kvstore_renew_read(Snapshot *s)
{
	bool behind = s->time_behind;

	KV_ASSERT(reading != NULL);
	reading = NULL;
	lsm_batch_end();
	epoch_leave();
	epoch_enter();
	enter_read(s, s->at, s->now);
	s->time_behind = behind;
}

void
kvstore_end_read(void)
{
	KV_ASSERT(reading != NULL);
	reading = NULL;
	lsm_batch_end();
	epoch_unpin();
}

void
kvstore_hold(void)
{
	epoch_hold(kvstore_applied());
}

void
kvstore_release(void)
{
	epoch_release();
}

Lsn
kvstore_applied(void)
{
	return atomic_load_explicit(&kvs->applied, memory_order_acquire);
}

uint64_t
kvstore_applied_time(void)
{
	return atomic_load_explicit(&kvs->applied_time, memory_order_acquire);
}

Status
superversion_get(const Superversion *sv, Slice key, Lsn at, Entry *out)
{
	if (memtable_get(sv->active, key, at, out))
		return ST_OK;
	for (int i = 0; i < sv->nfrozen; i++)
		if (memtable_get(sv->frozen[i], key, at, out))
			return ST_OK;
	return lsm_get(sv->version, key, at, out);
}

bool
read_entry_live(Snapshot *s, const Entry *e)
{
	if (e->kind == ENTRY_DELETE)
		return false;
	if (e->expire_ms == 0)
		return true;
	if (e->expire_ms <= s->log_time)
		return false;
	if (e->expire_ms <= s->now)
		s->time_behind = true; /* "gone" is answered only at a log time past the deadline */
	return true;
}

Status
kvstore_get(Snapshot *s, Slice key, Entry *out)
{
	KV_TRY(superversion_get(reading, key, s->at, out));
	return read_entry_live(s, out) ? ST_OK : ST_NOT_FOUND;
}

Status
kvstore_outcome(Slice key, uint64_t version, Entry *out)
{
	KV_TRY(superversion_get(reading, key, version + 1, out));
	return out->version == version ? ST_OK : ST_NOT_FOUND;
}

void
kvstore_judge(const Op *op, Lsn below, Status *status, uint64_t *version)
{
	OpVerdict v;

	apply_judge(op, below, kvstore_applied_time(), &v);
	*status = v.status;
	*version = v.version;
}

_Static_assert(KVSTORE_BATCH_MAX <= LSM_BATCH_MAX && KVSTORE_BATCH_MAX <= MEMTABLE_BATCH_MAX,
			   "one batch each");

/* Keys that no memtable has: from the tables. Gives how many of keys[0..n) are answered now. */
static int
tables_get_many(Lsn at, const Slice *keys, int n, const bool *found, Entry *out, Status *st)
{
	Slice rest[KVSTORE_BATCH_MAX];
	Entry entries[KVSTORE_BATCH_MAX];
	Status statuses[KVSTORE_BATCH_MAX];
	int place[KVSTORE_BATCH_MAX], nrest = 0, done;

	for (int i = 0; i < n; i++) {
		if (found[i])
			continue;
		rest[nrest] = keys[i];
		place[nrest++] = i;
	}
	done = lsm_get_many(reading->version, rest, nrest, at, entries, statuses);
	for (int i = 0; i < done; i++) {
		st[place[i]] = statuses[i];
		if (statuses[i] == ST_OK)
			out[place[i]] = entries[i];
	}
	return done < nrest ? place[done] : n;
}

int
kvstore_get_many(Snapshot *s, const Slice *keys, int n, Entry *out, Status *st)
{
	bool found[KVSTORE_BATCH_MAX] = { false };

	KV_ASSERT(n >= 0 && n <= KVSTORE_BATCH_MAX);
	memtable_get_many(reading->active, keys, n, s->at, out, found);
	for (int i = 0; i < reading->nfrozen; i++)
		memtable_get_many(reading->frozen[i], keys, n, s->at, out, found);
	for (int i = 0; i < n; i++)
		st[i] = ST_OK;
	n = tables_get_many(s->at, keys, n, found, out, st);
	for (int i = 0; i < n; i++)
		if (st[i] == ST_OK && !read_entry_live(s, &out[i]))
			st[i] = ST_NOT_FOUND;
	return n;
}
