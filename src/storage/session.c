/*
 * session.c - is this stamped write new? And what became of it? (storage/session.h; rules C6, A4, A8)
 *
 * The first question is asked by whoever applies, holding APPLY, of the newest state; the second by the backend
 * that inserted the write, in a read of its own, of the state at its own version. No locks of its own.
 *
 * Invariant: a slot has the deadline of its session, so whoever sees the session alive sees the slot too.
 */
#include "storage/session.h"

#include "common/kv_assert.h"
#include "kvstore_internal.h"

/* Newest entry of key below `below` that lives at now_ms. *found false: there is none. */
static Status
live_entry(const Superversion *sv, Slice key, Lsn below, uint64_t now_ms, Entry *out, bool *found)
{
	Status st;

	apply_count_read();
	st = superversion_get(sv, key, below, out);
	*found = st == ST_OK && out->kind == ENTRY_PUT && out->expire_ms > now_ms;
	return st == ST_NOT_FOUND ? ST_OK : st;
}

Status
session_judge(const Op *stamp, Lsn below, uint64_t now_ms, StampVerdict *out, uint64_t *expire_ms)
{
	const Superversion *sv = atomic_load_explicit(&kvs->current, memory_order_acquire);
	uint64_t serial = get_u64(stamp->value.data);
	uint8_t key[SESSION_KEY_SIZE];
	SlotValue slot;
	bool found;
	Entry e;

	*out = STAMP_LOST;
	KV_TRY(live_entry(sv, session_key(session_of_slot(stamp->key), key), below, now_ms, &e, &found));
	if (!found)
		return ST_OK;
	*out = STAMP_NEW;
	*expire_ms = e.expire_ms;
	KV_TRY(live_entry(sv, stamp->key, below, now_ms, &e, &found));
	if (!found)
		return ST_OK;
	KV_TRY(session_get_slot(e.value, &slot));
	if (slot.serial == serial)
		*out = STAMP_DONE;
	else if (slot.serial > serial)
		*out = STAMP_PAST;
	return ST_OK;
}

Status
kvstore_stamp_outcome(uint64_t session, uint64_t serial, uint64_t version, SlotValue *out, uint64_t *done_version)
{
	const Superversion *sv = read_superversion();
	uint8_t key[SLOT_KEY_SIZE], owner[SESSION_KEY_SIZE];
	Slice slot = session_slot_key(session, serial, key);
	Entry e = { 0 }, unused;
	bool alive = true;
	Status st = superversion_get(sv, slot, version + 1, &e);

	/* What was done by this very record is there, held by the caller. Older outcomes go with their session. */
	if (st == ST_OK && e.version != version) {
		KV_TRY(live_entry(sv, session_key(session, owner), version, kvstore_applied_time(), &unused, &alive));
		st = superversion_get(sv, slot, version + 1, &e); /* its value was gone with that look-up */
	}
	if (st != ST_OK && st != ST_NOT_FOUND)
		return st;
	if (st == ST_NOT_FOUND || !alive)
		return status_fail(ST_SESSION_EXPIRED, "session %llu is unknown or has expired: not done now",
						   (unsigned long long) session);
	KV_TRY(session_get_slot(e.value, out));
	if (out->serial > serial)
		return status_fail(ST_SESSION_EXPIRED,
						   "serial %llu is below the window of session %llu, %llu is done: not done now",
						   (unsigned long long) serial, (unsigned long long) session,
						   (unsigned long long) out->serial);
	if (out->serial < serial)
		return status_fail(ST_SESSION_EXPIRED, "session %llu has expired: not done now",
						   (unsigned long long) session);
	*done_version = e.version;
	return ST_OK;
}

Status
session_count(Snapshot *s, uint64_t *out)
{
	uint8_t first[SESSION_KEY_SIZE], last[SESSION_KEY_SIZE];
	Scan *sc;
	Entry e;
	Status st;

	KV_TRY(kvstore_scan_open(s, session_key(0, first), session_key(UINT64_MAX, last), false, false, true, &sc));
	kvstore_scan_keys_only(sc);
	for (*out = 0; *out < SESSION_COUNT_MAX && (st = kvstore_scan_next(sc, &e)) == ST_OK; ++*out)
		;
	kvstore_scan_close(sc);
	return *out == SESSION_COUNT_MAX || st == ST_NOT_FOUND || st == ST_BUSY ? ST_OK : st;
}
