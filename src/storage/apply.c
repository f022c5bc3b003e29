/*
 * apply.c - committed records become visible: the state machine.
 *
 * Run by whoever holds APPLY: on a node that leads, the first waiting backend, for all (rule A3); the WAL
 * writer and the replay process for work nobody waits for. Pure in (log, state): no clock, no setting decides
 * anything here (rule A4). An error other than "no free memtable" stops the node: it is never "absent".
 *
 * Invariants: `applied` moves from record to record and is published after the whole record (A1); the effective
 * log time is the running maximum of the stamps (T1).
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "common/process_local.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"
#include "storage/session.h"

/* Longest decimal 64-bit integer: "-9223372036854775808". */
#define INTEGER_TEXT_MAX 20

/* A record may have 65,536 operations that read a cold disk: that takes its time, and nobody is stuck meanwhile. */
#define PROGRESS_READS 64
/* What a process keeps of a large record that wrapped around the ring. */
#define SCRATCH_KEPT 65536

void
apply_count_read(void)
{
	static PROCESS_LOCAL uint32_t reads;

	if (++reads % PROGRESS_READS == 0)
		critical_progress();
}

/*
 * The applier reads through the current superversion. It holds APPLY, so the active memtable cannot
 * be frozen under
 * it; a pin protects the rest. A backend that applies is not inside a read of its own.
 */
static Status
state_get(Slice key, Lsn below, Entry *out)
{
	apply_count_read();
	return superversion_get(atomic_load_explicit(&kvs->current, memory_order_acquire), key, below, out);
}

/* Decimal text of a 64-bit integer: optional '-', digits, no leading zeros, no spaces. */
static bool
parse_integer(Slice s, int64_t *out)
{
	char text[INTEGER_TEXT_MAX + 1], again[INTEGER_TEXT_MAX + 2];
	long long v;

	if (s.len == 0 || s.len > INTEGER_TEXT_MAX)
		return false;
	memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	v = strtoll(text, NULL, 10);
	snprintf(again, sizeof again, "%lld", v);
	*out = v;
	return strlen(again) == s.len && memcmp(again, s.data, s.len) == 0;
}

static Status
condition_verdict(const Op *op, bool present, const Entry *now)
{
	switch (op->condition) {
	case COND_NONE:
		return ST_OK;
	case COND_ABSENT:
		return present ? ST_CONDITION_FAILED : ST_OK;
	case COND_PRESENT:
		return present ? ST_OK : ST_NOT_FOUND;
	case COND_VERSION:
		return present && now->version == get_u64(op->expected.data) ? ST_OK : ST_CONDITION_FAILED;
	case COND_VALUE:
		return present && slice_eq(now->value, op->expected) ? ST_OK : ST_CONDITION_FAILED;
	}
	return ST_INTERNAL;
}

void
apply_judge(const Op *op, Lsn below, uint64_t now_ms, OpVerdict *out)
{
	Entry e;
	bool present;
	int64_t old = 0;

	*out = (OpVerdict){ .status = ST_OK };
	if (op->condition == COND_NONE && op->kind != OP_INCR && !(op->flags & OP_KEEP_TTL))
		return; /* plain PUT and DELETE never read */
	out->status = state_get(op->key, below, &e);
	if (out->status != ST_OK && out->status != ST_NOT_FOUND)
		return;
	present = out->status == ST_OK && e.kind == ENTRY_PUT && (e.expire_ms == 0 || e.expire_ms > now_ms);
	out->version = present ? e.version : 0;
	out->expire_ms = present ? e.expire_ms : 0;
	out->status = condition_verdict(op, present, &e);
	if (out->status != ST_OK || op->kind != OP_INCR)
		return;
	if (present && !parse_integer(e.value, &old))
		out->status = ST_NOT_INTEGER;
	else if (__builtin_add_overflow(old, (int64_t) get_u64(op->value.data), &out->number))
		out->status = ST_OUT_OF_RANGE;
}

/*
 * Entries on their way into the memtable: gathered over operations and records, so that their searches overlap. They
 * point into the records; `applied` is not published before they are in.
 */
static struct {
	Entry entry[MEMTABLE_BATCH];
	int n;
	size_t cost;   /* arena bytes they will take at most */
	Lsn at;        /* end of the last record that is in the memtable or in the batch */
	uint64_t time; /* effective log time there */
	uint64_t records, ops;
} batch;

static Memtable *
active_memtable(void)
{
	return atomic_load_explicit(&kvs->current, memory_order_acquire)->active;
}

static void
batch_flush(void)
{
	if (batch.n > 0 && memtable_add_many(active_memtable(), batch.entry, batch.n) != ST_OK)
		elog_panic("memtable refused entries it had room for: %s", status_detail());
	batch.n = 0;
	batch.cost = 0;
}

static inline void
batch_add(const Entry *e)
{
	batch.entry[batch.n++] = *e;
	batch.cost += memtable_cost(e->key.len, e->value.len);
	if (batch.n == MEMTABLE_BATCH)
		batch_flush();
}

Lsn
apply_taken(void)
{
	return batch.at;
}

void
apply_begin(void)
{
	batch.n = 0;
	batch.cost = 0;
	batch.at = atomic_load_explicit(&kvs->applied, memory_order_relaxed);
	batch.time = atomic_load_explicit(&kvs->applied_time, memory_order_relaxed);
}

/*
 * A reader that meets the change of a moment which has been replaced sees that `moments` has moved on: the fence puts
 * its last store before this one's first. A process that is stopped in here holds nobody up.
 */
void
apply_set_moment(Lsn at, uint64_t time)
{
	uint64_t n = atomic_load_explicit(&kvs->moments, memory_order_relaxed) + 1;
	Moment *m = &kvs->moment[n & 1];

	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&m->at, at, memory_order_relaxed);
	atomic_store_explicit(&m->time, time, memory_order_relaxed);
	atomic_store_explicit(&kvs->moments, n, memory_order_release);
	atomic_store_explicit(&kvs->applied_time, time, memory_order_release);
	atomic_store_explicit(&kvs->applied, at, memory_order_release);
}

void
apply_moment(Lsn *at, uint64_t *time)
{
	uint64_t n, again = atomic_load_explicit(&kvs->moments, memory_order_acquire);

	do {
		n = again;
		*at = atomic_load_explicit(&kvs->moment[n & 1].at, memory_order_relaxed);
		*time = atomic_load_explicit(&kvs->moment[n & 1].time, memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
		again = atomic_load_explicit(&kvs->moments, memory_order_acquire);
	} while (again != n);
}

void
apply_publish(void)
{
	batch_flush();
	atomic_fetch_add_explicit(&kvs->applied_records, batch.records, memory_order_relaxed);
	atomic_fetch_add_explicit(&kvs->applied_ops, batch.ops, memory_order_relaxed);
	batch.records = batch.ops = 0;
	apply_set_moment(batch.at, batch.time);
}

/* Does the outcome of the operation depend on what was there? */
static bool
op_reads(const Op *op)
{
	return op->condition != COND_NONE || op->kind == OP_INCR || (op->flags & OP_KEEP_TTL) != 0;
}

/*
 * A range deletion goes into the memtable at once: what comes behind it in the record is judged with it. That what
 * came before it may still be in the batch does not matter, the versions say who came first.
 */
static Status
effect_of_range(const Op *op, uint64_t version)
{
	RangeDelete r = { .start = op->key, .end = op->value, .version = version };

	if (memtable_add_range(active_memtable(), &r) != ST_OK) /* there was room for all that a record may hold */
		return status_fail(ST_CORRUPT, "a log record has more than %d range deletions", OP_RANGES_MAX);
	atomic_fetch_add_explicit(&kvs->range_deletes, 1, memory_order_relaxed);
	return ST_OK;
}

/* The effect of one operation that holds. text: room for the number of an INCR, INTEGER_TEXT_MAX + 2. */
static Entry
effect_of(const Op *op, const OpVerdict *v, uint64_t version, uint64_t now_ms, char *text)
{
	Entry e = { .key = op->key, .version = version, .kind = ENTRY_PUT };

	if (op->kind == OP_DELETE) {
		e.kind = ENTRY_DELETE;
		return e;
	}
	e.value = op->value;
	if (op->kind == OP_INCR)
		e.value =
			slice_of(text, (size_t) snprintf(text, INTEGER_TEXT_MAX + 2, "%lld", (long long) v->number));
	if (op->flags & OP_TTL)
		e.expire_ms = now_ms + op->ttl_ms;
	else if (op->kind == OP_INCR || (op->flags & OP_KEEP_TTL))
		e.expire_ms = v->expire_ms;
	return e;
}

/* A verdict that is an answer, as against a failure to find one. */
static bool
is_verdict(Status s)
{
	return s == ST_OK || s == ST_NOT_FOUND || s == ST_CONDITION_FAILED || s == ST_NOT_INTEGER ||
		   s == ST_OUT_OF_RANGE;
}

/* What a group comes to: OK and the first operation's verdict, or that of the first one that fails. */
typedef struct GroupVerdict {
	OpVerdict op;
	uint32_t place;
} GroupVerdict;

/*
 * The group that begins at r: how many operations, and does it take effect? All see the state before the
 * group.
 */
static inline Status
judge_group(Reader r, uint64_t version, uint64_t now_ms, uint32_t *n, GroupVerdict *verdict)
{
	Op op;
	OpVerdict v;

	*n = verdict->place = 0;
	do {
		OpVerdict *out = *n == 0 ? &verdict->op : &v;

		KV_TRY(op_decode(&r, &op));
		if (*n > 0 && !(op.flags & OP_GROUPED))
			break;
		if (op_reads(&op))
			batch_flush(); /* what it judges by must be in the memtable */
		apply_judge(&op, version, now_ms, out);
		if (!is_verdict(out->status))
			return out->status;
		if (*n > 0 && verdict->op.status == ST_OK && v.status != ST_OK)
			*verdict = (GroupVerdict){ v, *n };
		++*n;
	} while (reader_left(&r) > 0);
	return ST_OK;
}

/*
 * The group at *r, whose first operation has `version`, of at least one: judged, and done if it holds and `wanted`;
 * moves *r behind it.
 */
static inline Status
run_group(Reader *r, uint64_t version, uint64_t now_ms, bool wanted, uint32_t *n, GroupVerdict *verdict)
{
	char text[INTEGER_TEXT_MAX + 2];
	Op op;
	OpVerdict v;
	Entry e;

	KV_TRY(judge_group(*r, version, now_ms, n, verdict));
	for (uint32_t i = 0; i < *n; i++) {
		KV_TRY(op_decode(r, &op));
		if (!wanted || verdict->op.status != ST_OK)
			continue;
		if (op.kind == OP_DELETE_RANGE) {
			KV_TRY(effect_of_range(&op, version + i));
			continue;
		}
		apply_judge(&op, version, now_ms, &v);
		e = effect_of(&op, &v, version + i, now_ms, text);
		batch_add(&e);
		if (op.kind == OP_INCR)
			batch_flush(); /* its value is in `text` */
	}
	if (wanted && verdict->op.status != ST_OK)
		atomic_fetch_add_explicit(&kvs->condition_failures, 1, memory_order_relaxed);
	return ST_OK;
}

/* Does a group go on with the next operation at r? */
static bool
group_goes_on(const Reader *r)
{
	return reader_left(r) >= OP_HEADER_SIZE && (op_header_flags(r->p) & OP_GROUPED) != 0;
}

/* The outcome of a stamped group into its slot. */
static void
fill_slot(const Op *stamp, const GroupVerdict *v, uint64_t version, uint64_t expire_ms)
{
	static uint8_t value[SLOT_VALUE_SIZE + SLOT_ANSWER_MAX];
	SlotValue slot = { .serial = get_u64(stamp->value.data),
					   .status = v->op.status,
					   .place = v->place,
					   .detail = v->op.status == ST_OK ? (uint64_t) v->op.number : v->op.version,
					   .answer = slice_of(stamp->value.data + 8, stamp->value.len - 8) };
	Entry e = { .key = stamp->key, .version = version, .kind = ENTRY_PUT, .expire_ms = expire_ms };

	e.value = session_put_slot(&slot, value);
	batch_add(&e);
	batch_flush(); /* `value` is used again, and the next stamp may ask for the slot */
}

/* The group behind a stamp: done if the stamp is new, and remembered (storage/session.h). */
static Status
apply_stamped(Reader *r, const Op *stamp, uint64_t version, uint64_t now_ms, uint32_t *n)
{
	GroupVerdict verdict = { .op.status = ST_OK };
	StampVerdict known;
	uint64_t expire_ms;

	/* Sessions and slots are never left in the batch: what is read here is in the memtable. */
	KV_TRY(session_judge(stamp, version, now_ms, &known, &expire_ms));
	*n = 0;
	if (group_goes_on(r))
		KV_TRY(run_group(r, version + 1, now_ms, known == STAMP_NEW, n, &verdict));
	++*n;
	if (known == STAMP_NEW)
		fill_slot(stamp, &verdict, version, expire_ms);
	else
		atomic_fetch_add_explicit(known == STAMP_LOST ? &kvs->session_refusals : &kvs->session_repeats, 1,
								  memory_order_relaxed);
	return ST_OK;
}

/* A group that begins with an operation on sessions. */
static Status
apply_session_group(Reader *r, uint64_t version, uint64_t now_ms, uint32_t *n)
{
	uint8_t key[SESSION_KEY_SIZE];
	Entry e = { .version = version };
	Op op;

	KV_TRY(op_decode(r, &op));
	if (op.kind == OP_STAMP)
		return apply_stamped(r, &op, version, now_ms, n);
	*n = 1;
	e.key = op.kind == OP_SESSION_OPEN ? session_key(version, key) : op.key;
	e.kind = op.kind == OP_SESSION_OPEN ? ENTRY_PUT : ENTRY_DELETE;
	e.expire_ms = op.kind == OP_SESSION_OPEN ? now_ms + op.ttl_ms : 0;
	batch_add(&e);
	batch_flush(); /* `key` is ours, and the next group may be stamped */
	return ST_OK;
}

/* Apply the group at *r, whose first operation has `version`; moves *r behind it. */
static Status
apply_group(Reader *r, uint64_t version, uint64_t now_ms, uint32_t *n)
{
	GroupVerdict verdict;

	if (op_header_of_session(r->p))
		return apply_session_group(r, version, now_ms, n);
	return run_group(r, version, now_ms, true, n, &verdict);
}

/* Bound of the arena bytes the whole record may take; an increment's step of 8 bytes may become a text of 20. */
static size_t
record_cost(const WalRecord *rec)
{
	if (rec->header.kind == WAL_CONFIG)
		return memtable_cost(sizeof CONFIG_KEY - 1, CONFIG_HEADER_SIZE + rec->body.len);
	return rec->body.len + (size_t) rec->header.count * (MEMTABLE_ENTRY_OVERHEAD + INTEGER_TEXT_MAX - 8);
}

_Static_assert(OP_RANGES_MAX <= MEMTABLE_RANGES_MAX, "a memtable has room for any record");

/* Has the active memtable room for what is in the batch and all that this record may hold? */
static bool
has_room(const WalRecord *rec)
{
	const Memtable *m = active_memtable();

	return memtable_room(m) >= record_cost(rec) + batch.cost &&
		   memtable_ranges(m) <= MEMTABLE_RANGES_MAX - OP_RANGES_MAX;
}

/* Make sure of the room. BUSY: no memtable is free. */
static Status
make_memtable_room(const WalRecord *rec)
{
	if (has_room(rec))
		return ST_OK;
	apply_publish(); /* the frozen memtable ends where `applied` stands */
	if (!has_room(rec))
		KV_TRY(superversion_freeze());
	KV_ASSERT(has_room(rec));
	return ST_OK;
}

static Status
apply_write(const WalRecord *rec, uint64_t now_ms)
{
	Reader r = reader_of(rec->body.data, rec->body.len);
	uint32_t n, done = 0;

	KV_TRY(make_memtable_room(rec));
	while (reader_left(&r) > 0) {
		KV_TRY(apply_group(&r, rec->header.lsn + done, now_ms, &n));
		done += n;
	}
	if (done != rec->header.count)
		return status_fail(ST_CORRUPT, "log record at %llu says %u operations, holds %u",
						   (unsigned long long) rec->header.lsn, rec->header.count, done);
	batch.ops += done;
	return ST_OK;
}

/* The newest configuration is kept in the tree (rule A9): where it stood, then its body. */
static Status
apply_config(const WalRecord *rec)
{
	static Buf value; /* grows to the largest configuration */
	uint8_t place[CONFIG_HEADER_SIZE];
	Entry e = { .key = slice_of(CONFIG_KEY, sizeof CONFIG_KEY - 1), .version = rec->header.lsn };

	KV_TRY(make_memtable_room(rec));
	buf_clear(&value);
	put_u64(place, rec->header.lsn);
	put_u64(place + 8, rec->end);
	KV_TRY(buf_append(&value, place, sizeof place));
	KV_TRY(buf_append_slice(&value, rec->body));
	e.value = slice_buf(&value);
	e.kind = ENTRY_PUT;
	batch_add(&e);
	batch_flush(); /* the next one overwrites the value */
	return ST_OK;
}

/*
 * Replicas compare their contents as of here (rule C7). In force before `applied` passes the record, so
 * that the history floor cannot pass it first.
 */
static void
apply_hash(const WalRecord *rec, uint64_t now_ms)
{
	atomic_store(&kvs->hash_lsn, 0);
	atomic_store(&kvs->hash_time, now_ms);
	atomic_store(&kvs->hash_lsn, rec->header.lsn);
}

Status
apply_take(const WalRecord *rec)
{
	uint64_t now_ms = rec->header.log_time > batch.time ? rec->header.log_time : batch.time;
	Status st = ST_OK;

	KV_DEBUG_ASSERT(lwlock_mine(LWLOCK_APPLY, 0));
	KV_ASSERT(rec->header.lsn == batch.at);
	if (rec->header.kind == WAL_WRITE)
		st = apply_write(rec, now_ms);
	else if (rec->header.kind == WAL_CONFIG)
		st = apply_config(rec);
	else if (rec->header.kind == WAL_HASH)
		apply_hash(rec, now_ms);
	if (st == ST_BUSY)
		return st;
	if (st != ST_OK)
		elog_panic("cannot apply log record at %llu: %s", (unsigned long long) rec->header.lsn,
				   status_detail());
	batch.records++;
	batch.time = now_ms;
	batch.at = rec->end;
	return ST_OK;
}

/*
 * REQUIRES APPLY. Freeze on request or because the log runs far ahead of the tables (rule: it must not grow
 * without bound).
 */
static void
freeze_if_wanted(void)
{
	Lsn applied = atomic_load_explicit(&kvs->applied, memory_order_relaxed);
	Superversion *sv = atomic_load_explicit(&kvs->current, memory_order_acquire);
	uint64_t ahead = applied - atomic_load_explicit(&kvs->flushed, memory_order_relaxed);
	bool far = sv->nfrozen == 0 && ahead > (uint64_t) config.memtable_size * LOG_AHEAD_MEMTABLES;

	if (!far && atomic_load_explicit(&kvs->freeze_wanted, memory_order_relaxed) == 0)
		return;
	if (superversion_freeze() == ST_OK)
		atomic_store_explicit(&kvs->freeze_wanted, 0, memory_order_relaxed);
}

bool
apply_below_ring(void)
{
	return atomic_load_explicit(&kvs->applied, memory_order_relaxed) < wal_ring_floor();
}

/* REQUIRES APPLY. Take in what is committed in the ring below `until`. False: no memtable is free. */
static bool
take_from_ring(Lsn until)
{
	static Buf scratch; /* of a record that wraps around the ring */
	WalRecord rec;

	while (batch.at < until) {
		Status st = wal_ring_read(batch.at, &scratch, &rec);

		if (st != ST_OK)
			elog_panic("cannot read committed log record at %llu: %s", (unsigned long long) batch.at,
					   status_detail());
		if (apply_take(&rec) == ST_BUSY)
			return false;
		if (scratch.len > 0 && rec.body.data >= scratch.data && rec.body.data < scratch.data + scratch.len) {
			batch_flush(); /* the next record that wraps overwrites this one */
			if (scratch.cap > SCRATCH_KEPT)
				buf_free(&scratch);
		}
	}
	return true;
}

/*
 * REQUIRES APPLY. From the ring, up to commit, but no more than a piece. What lies below the ring is the replay
 * process's, from the files.
 */
static void
apply_from_ring(void)
{
	Lsn commit = wal_commit(), until;
	bool below = apply_below_ring();

	apply_begin();
	until = commit - batch.at > APPLY_PIECE ? batch.at + APPLY_PIECE : commit;
	if (below && batch.at < commit) {
		if (my_slot_no != PROC_REPLAY)
			procslot_wake(PROC_REPLAY);
	} else if (!take_from_ring(until)) {
		atomic_store(&kvs->stalled, 1);
		atomic_fetch_add_explicit(&kvs->stalls, 1, memory_order_relaxed);
		procslot_wake(PROC_COMPACTOR);
	} else if (atomic_load_explicit(&kvs->stalled, memory_order_relaxed)) {
		atomic_store(&kvs->stalled, 0);
	}
	apply_publish();
	wal_release_ring(batch.at);
	freeze_if_wanted();
	atomic_store_explicit(&kvs->throttle.room_end, batch.at + memtable_room(active_memtable()),
	                      memory_order_relaxed);
}

bool
apply_committed(bool *moved)
{
	/* Conditions may read tables: pin, unless this process is inside a read already. */
	bool pin = !epoch_pinned();
	Lsn before;

	*moved = false;
	if (!lwlock_try(LWLOCK_APPLY, 0))
		return false;
	before = atomic_load_explicit(&kvs->applied, memory_order_relaxed);
	if (pin)
		epoch_enter();
	apply_from_ring();
	if (pin)
		epoch_leave();
	*moved = atomic_load_explicit(&kvs->applied, memory_order_relaxed) != before;
	lwlock_release(LWLOCK_APPLY, 0);
	return true;
}
