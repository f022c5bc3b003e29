/*
 * superversion.c - {active memtable, frozen memtables, tables} behind one pointer.
 *
 * Changed by the applier (freeze) and the compaction worker (publish), both under SUPERVERSION; read by
 * everybody under an epoch pin without a lock. Memory of a memtable goes FREE -> ACTIVE -> FROZEN ->
 * RETIRED -> FREE; RETIRED ones and replaced superversions are reused when no pin can see them.
 *
 * Invariants:
 *   1. exactly one MemSlot is ACTIVE, and it is current->active;
 *   2. the FROZEN ones are exactly current->frozen[], newest first, `end` descending;
 *   3. everything applied below version->flushed is in tables; [flushed, frozen end) in frozen ones;
 * the rest in active.
 */
#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "kvstore_internal.h"
#include "port/clock.h"

/* REQUIRES SUPERVERSION. A superversion nobody can see, marked in use; NULL when all are pinned. */
static Superversion *
take_superversion(void)
{
	uint64_t min = epoch_min();

	for (int i = 0; i < SUPERVERSIONS; i++) {
		Superversion *sv = &kvs->pool[i];

		if (sv->in_use && (sv->retire_epoch == 0 || sv->retire_epoch > min))
			continue;
		memset(sv, 0, sizeof *sv);
		sv->in_use = true;
		return sv;
	}
	return NULL;
}

/* A superversion that was replaced is used again as soon as no pin keeps it, also while its Version lives on. */
const Version *
superversion_version(void)
{
	bool pin = !epoch_pinned();
	const Version *v;

	if (pin)
		epoch_enter();
	v = atomic_load_explicit(&kvs->current, memory_order_acquire)->version;
	if (pin)
		epoch_leave();
	return v;
}

/* REQUIRES SUPERVERSION. */
static void
make_current(Superversion *sv)
{
	Superversion *old = atomic_load_explicit(&kvs->current, memory_order_relaxed);

	atomic_store_explicit(&kvs->current, sv, memory_order_release);
	if (old != NULL)
		old->retire_epoch = epoch_retire();
}

static MemSlot *
find_slot(MemState state)
{
	for (int i = 0; i < kvs->nmem; i++)
		if (kvs->mem[i].state == state)
			return &kvs->mem[i];
	return NULL;
}

/* REQUIRES SUPERVERSION. For writers, who are slowed when none is left. */
static void
count_free(void)
{
	uint32_t n = 0;

	for (int i = 0; i < kvs->nmem; i++)
		n += kvs->mem[i].state == MEM_FREE;
	atomic_store_explicit(&kvs->throttle.free_memtables, n, memory_order_relaxed);
}

static void
empty_slot(MemSlot *m)
{
	m->table = memtable_init(m->memory, (size_t) config.memtable_size, clock_mono_ns());
	m->state = MEM_FREE;
}

/* REQUIRES SUPERVERSION. Empty what no reader can see any more. False: there was none. */
static bool
reclaim(void)
{
	bool found = false;

	for (int i = 0; i < kvs->nmem; i++) {
		MemSlot *m = &kvs->mem[i];

		if (m->state == MEM_RETIRED && epoch_safe(m->retire_epoch)) {
			empty_slot(m);
			found = true;
		}
	}
	count_free();
	return found;
}

Status
superversion_first(const Version *v)
{
	Superversion *sv;
	MemSlot *m;

	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	sv = take_superversion();
	m = find_slot(MEM_FREE);
	KV_ASSERT(sv != NULL && m != NULL);
	if (m->table == NULL)
		empty_slot(m);
	m->state = MEM_ACTIVE;
	sv->active = m->table;
	sv->version = v;
	make_current(sv);
	count_free();
	lwlock_release(LWLOCK_SUPERVERSION, 0);
	return ST_OK;
}

/*
 * The term of the record before `end`. Where nothing has come since the tables end, the log may have forgotten it (it
 * was replayed from there): the tables know.
 */
static uint64_t
term_before(Lsn end)
{
	uint64_t term = wal_term_at(end - 1);

	return term == 0 && end == atomic_load(&kvs->flushed) ? atomic_load(&kvs->flushed_term) : term;
}

Status
superversion_freeze(void)
{
	Superversion *sv, *old;
	MemSlot *next, *m;

	KV_ASSERT(lwlock_mine(LWLOCK_APPLY, 0));
	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	if (find_slot(MEM_FREE) == NULL)
		(void) reclaim();
	next = find_slot(MEM_FREE);
	sv = next != NULL ? take_superversion() : NULL;
	if (sv == NULL) {
		lwlock_release(LWLOCK_SUPERVERSION, 0);
		return ST_BUSY;
	}
	if (next->table == NULL)
		empty_slot(next);
	old = atomic_load_explicit(&kvs->current, memory_order_relaxed);
	m = find_slot(MEM_ACTIVE);
	KV_ASSERT(m != NULL && m->table == old->active && old->nfrozen < MEMTABLES_MAX);
	m->state = MEM_FROZEN;
	m->end = atomic_load_explicit(&kvs->applied, memory_order_relaxed);
	m->end_term = term_before(m->end);
	m->end_time = atomic_load_explicit(&kvs->applied_time, memory_order_relaxed);
	next->state = MEM_ACTIVE;
	sv->active = next->table;
	sv->version = old->version;
	sv->nfrozen = old->nfrozen + 1;
	sv->frozen[0] = old->active;
	sv->frozen_end[0] = m->end;
	memcpy(sv->frozen + 1, old->frozen, (size_t) old->nfrozen * sizeof sv->frozen[0]);
	memcpy(sv->frozen_end + 1, old->frozen_end, (size_t) old->nfrozen * sizeof sv->frozen_end[0]);
	make_current(sv);
	count_free();
	lwlock_release(LWLOCK_SUPERVERSION, 0);
	atomic_fetch_add_explicit(&kvs->freezes, 1, memory_order_relaxed);
	procslot_wake(PROC_COMPACTOR);
	return ST_OK;
}

/* REQUIRES SUPERVERSION. The order of freezing tells: two may end at the same position, if nothing came in between. */
static MemSlot *
oldest_frozen(void)
{
	const Superversion *sv = atomic_load_explicit(&kvs->current, memory_order_relaxed);

	for (int i = 0; i < kvs->nmem && sv->nfrozen > 0; i++)
		if (kvs->mem[i].state == MEM_FROZEN && kvs->mem[i].table == sv->frozen[sv->nfrozen - 1])
			return &kvs->mem[i];
	return NULL;
}

bool
superversion_oldest_frozen(MemSlot *out)
{
	MemSlot *m;

	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	m = oldest_frozen();
	if (m != NULL)
		*out = *m;
	lwlock_release(LWLOCK_SUPERVERSION, 0);
	return m != NULL;
}

Status
superversion_publish(const Version *v, bool flushed)
{
	Superversion *sv, *old;

	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	sv = take_superversion();
	if (sv == NULL) {
		lwlock_release(LWLOCK_SUPERVERSION, 0);
		return ST_BUSY;
	}
	old = atomic_load_explicit(&kvs->current, memory_order_relaxed);
	sv->active = old->active;
	sv->version = v;
	sv->nfrozen = old->nfrozen;
	memcpy(sv->frozen, old->frozen, sizeof sv->frozen);
	memcpy(sv->frozen_end, old->frozen_end, sizeof sv->frozen_end);
	if (flushed) {
		MemSlot *m = oldest_frozen();

		KV_ASSERT(m != NULL && sv->nfrozen > 0 && sv->frozen[sv->nfrozen - 1] == m->table);
		sv->nfrozen--;
		make_current(sv);
		m->retire_epoch = epoch_retire();
		m->state = MEM_RETIRED;
	} else {
		make_current(sv);
	}
	lwlock_release(LWLOCK_SUPERVERSION, 0);
	return ST_OK;
}

bool
superversion_reclaim(void)
{
	bool found;

	lwlock_acquire(LWLOCK_SUPERVERSION, 0);
	found = reclaim();
	lwlock_release(LWLOCK_SUPERVERSION, 0);
	return found;
}
