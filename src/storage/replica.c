/*
 * replica.c - what a cluster asks of the engine: its configuration, log kept for others, contents compared.
 *
 * Consensus worker and those who serve followers. The replicas' contents are compared as of a HASH record (rule C7):
 * apply.c notes it, the history floor does not pass it and compaction drops nothing that expired later, until
 * kvstore_hash_done() or the next HASH record.
 */
#include "common/coding.h"
#include "common/hash.h"
#include "ipc/logclock.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"

/* A read is ended after so many entries, or bytes of them: pins are short. */
#define HASH_ENTRIES 4096
#define HASH_BYTES (4 * 1048576)

/* ---- configuration */

Status
kvstore_config(Buf *body, Lsn *start, Lsn *end)
{
	Slice key = slice_of(CONFIG_KEY, sizeof CONFIG_KEY - 1);
	Snapshot s;
	Entry e;
	Status st;

	buf_clear(body);
	kvstore_begin_read(&s, 0);
	st = kvstore_get(&s, key, &e);
	if (st == ST_OK && e.value.len < CONFIG_HEADER_SIZE)
		st = status_fail(ST_CORRUPT, "the configuration kept in the tables is cut short");
	if (st == ST_OK) {
		*start = get_u64(e.value.data);
		*end = get_u64(e.value.data + 8);
		st = buf_append(body, e.value.data + CONFIG_HEADER_SIZE, e.value.len - CONFIG_HEADER_SIZE);
	}
	kvstore_end_read();
	return st;
}

/* ---- log kept for others */

void
kvstore_keep_log(Lsn from)
{
	atomic_store(&kvs->keep_log, from);
}

bool
kvstore_hold_log(Lsn from)
{
	atomic_store(&kvs->hold[my_slot_no], from);
	return from >= atomic_load(&kvs->log_floor) && from >= wal_files_floor();
}

void
kvstore_release_log(void)
{
	atomic_store(&kvs->hold[my_slot_no], 0);
}

/* ---- contents compared */

bool
kvstore_hash_wanted(Lsn *lsn, uint64_t *log_time)
{
	*lsn = atomic_load(&kvs->hash_lsn);
	*log_time = atomic_load(&kvs->hash_time);
	return *lsn != 0 && atomic_load(&kvs->hash_lsn) == *lsn;
}

void
kvstore_hash_claim(void)
{
	atomic_store(&kvs->hashing[my_slot_no], 1);
	atomic_store(&kvs->hash_claimed, 1);
}

void
kvstore_hash_done(Lsn lsn)
{
	atomic_compare_exchange_strong(&kvs->hash_lsn, &lsn, 0);
	atomic_store(&kvs->hashing[my_slot_no], 0);
}

/* A claim stands from before the record is inserted: a record that is met here first belongs to one that stands. */
void
replica_drop_unclaimed_hash(void)
{
	Lsn lsn = atomic_load(&kvs->hash_lsn);

	if (lsn == 0 || atomic_load(&kvs->hash_claimed) == 0)
		return;
	for (int i = 0; i < kvs->nslots; i++)
		if (atomic_load(&kvs->hashing[i]) != 0)
			return;
	atomic_compare_exchange_strong(&kvs->hash_lsn, &lsn, 0);
}

Status
kvstore_insert_hash(uint32_t generation, Lsn *lsn)
{
	Lsn end;

	KV_TRY(wal_insert(generation, WAL_HASH, 0, logclock_now(), NULL, 0, lsn, &end));
	if (wal_alone())
		commit_poke_walwriter();
	else
		procslot_wake(PROC_CONSENSUS);
	return ST_OK;
}

typedef struct HashWalk {
	Lsn lsn;
	uint64_t log_time;
	Buf next; /* where the next read begins: behind the last key */
	uint64_t hash, entries;
} HashWalk;

/* The entry's parts hashed one by one, so that no two lists of entries are the same bytes. */
static void
hash_entry(HashWalk *w, const Entry *e)
{
	uint8_t parts[40];

	put_u64(parts, w->hash);
	put_u64(parts + 8, hash64(e->key.data, e->key.len, 1));
	put_u64(parts + 16, hash64(e->value.data, e->value.len, 2));
	put_u64(parts + 24, e->expire_ms);
	put_u64(parts + 32, e->version);
	w->hash = hash64(parts, sizeof parts, 3);
	w->entries++;
}

/* Some entries within a read. NOT_FOUND: that was the last. */
static Status
hash_scan(HashWalk *w, Snapshot *s)
{
	size_t bytes = 0;
	Status st = ST_OK;
	Scan *sc;
	Entry e;

	KV_TRY(kvstore_scan_open(s, slice_buf(&w->next), slice_of(NULL, 0), true, false, false, &sc));
	for (int i = 0; i < HASH_ENTRIES && bytes < HASH_BYTES; i++) {
		st = kvstore_scan_next(sc, &e);
		if (st != ST_OK)
			break;
		hash_entry(w, &e);
		bytes += e.key.len + e.value.len;
		st = buf_set(&w->next, e.key);
		if (st == ST_OK)
			st = buf_append(&w->next, "", 1); /* a zero byte: the next key there can be */
		if (st != ST_OK)
			break;
	}
	if (st == ST_BUSY) {
		st = buf_set(&w->next, kvstore_scan_last(sc));
		if (st == ST_OK)
			st = buf_append(&w->next, "", 1);
	}
	kvstore_scan_close(sc);
	return st;
}

/* One read's worth. */
static Status
hash_some(HashWalk *w)
{
	Snapshot s;
	Status st;

	KV_TRY(kvstore_begin_read_at(&s, 0, w->lsn));
	s.log_time = w->log_time; /* expired is what was then */
	st = hash_scan(w, &s);
	kvstore_end_read();
	/* While it is in force nothing drops what it needs. */
	if (atomic_load(&kvs->hash_lsn) != w->lsn)
		return status_fail(ST_SNAPSHOT_GONE, "the contents at %llu are not kept any more",
						   (unsigned long long) w->lsn);
	return st;
}

Status
kvstore_content_hash(Lsn lsn, uint64_t log_time, Status (*between)(void *arg), void *arg, uint64_t *hash,
					 uint64_t *entries)
{
	static const uint8_t first_key = KEYSPACE_SYSTEM;
	HashWalk w = { .lsn = lsn, .log_time = log_time };
	Status st = buf_append(&w.next, &first_key, 1);

	while (st == ST_OK) {
		st = hash_some(&w);
		if (st == ST_OK && between != NULL)
			st = between(arg);
	}
	*hash = w.hash;
	*entries = w.entries;
	buf_free(&w.next);
	return st == ST_NOT_FOUND ? ST_OK : st;
}
