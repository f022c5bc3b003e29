/*
 * lwlock.c - exclusive locks between processes.
 *
 * Every attached process. The word: 0 free, 1 held, 2 held and somebody may sleep (Drepper, "Futexes are
 * tricky", 2011).
 *
 * Invariants:
 * 1. A process that holds a lock is inside a critical section: it enters one before each attempt and leaves
 *    it after a failed one. It sleeps for a lock outside (unless it holds another).
 * 2. Locks are acquired in the order of their places in LWLOCK_LIST (shards ascending). lwlock_try cannot
 *    wait, so it may be called out of order.
 */
#include "common/process_local.h"
#include "ipc/lwlock.h"

#include <stdatomic.h>
#include <string.h>

#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/park.h"

/* Holding times are around a microsecond, a sleep costs ten: trying for longer than that is waste on few cores. */
#define SPIN_TRIES 100
#define RECHECK_US 1000000

typedef struct LwLock {
	_Alignas(64) _Atomic uint32_t word;
	_Atomic int32_t owner; /* slot number of the last holder, for people with a debugger */
} LwLock;

enum {
#define LWLOCK_COUNT(name, n, what) LWLOCK_FIRST_##name, LWLOCK_LAST_##name = LWLOCK_FIRST_##name + (n) - 1,
	LWLOCK_LIST(LWLOCK_COUNT)
#undef LWLOCK_COUNT
	LWLOCK_TOTAL
};

static const struct {
	int first, count;
} place[] = {
#define LWLOCK_PLACE(name, n, what) { LWLOCK_FIRST_##name, n },
	LWLOCK_LIST(LWLOCK_PLACE)
#undef LWLOCK_PLACE
};

_Static_assert(LWLOCK_TOTAL <= 64, "held is a mask of 64 bits");

static LwLock *locks;
static PROCESS_LOCAL uint64_t held; /* locks of this process, by place */

size_t
lwlock_shmem_size(void)
{
	return LWLOCK_TOTAL * sizeof(LwLock);
}

void
lwlock_shmem_init(void *mem)
{
	memset(mem, 0, lwlock_shmem_size());
	locks = mem;
	held = 0;
}

static int
place_of(LwLockName name, unsigned which)
{
	KV_ASSERT(name < LWLOCK_NAMES && which < (unsigned) place[name].count);
	return place[name].first + (int) which;
}

/* Put `taken` into the word; true if it was free. */
static bool
attempt(int p, uint32_t taken)
{
	uint32_t free_word = 0;
	bool got;

	critical_enter();
	if (taken == 1)
		got = atomic_compare_exchange_strong_explicit(&locks[p].word, &free_word, 1, memory_order_acquire,
		                                              memory_order_relaxed);
	else
		got = atomic_exchange_explicit(&locks[p].word, taken, memory_order_acquire) == 0;
	if (!got) {
		critical_leave();
		return false;
	}
	atomic_store_explicit(&locks[p].owner, my_slot_no, memory_order_relaxed);
	held |= UINT64_C(1) << p;
	return true;
}

void
lwlock_acquire(LwLockName name, unsigned which)
{
	int p = place_of(name, which);

	KV_ASSERT(held >> p == 0);
	for (int i = 0; i < SPIN_TRIES; i++) {
		if (atomic_load_explicit(&locks[p].word, memory_order_relaxed) == 0 && attempt(p, 1))
			return;
		park_relax();
	}
	while (!attempt(p, 2))
		park(&locks[p].word, 2, RECHECK_US);
}

bool
lwlock_try(LwLockName name, unsigned which)
{
	int p = place_of(name, which);

	KV_ASSERT((held >> p & 1) == 0);
	return atomic_load_explicit(&locks[p].word, memory_order_relaxed) == 0 && attempt(p, 1);
}

void
lwlock_release(LwLockName name, unsigned which)
{
	int p = place_of(name, which);

	KV_ASSERT(held >> p & 1);
	held &= ~(UINT64_C(1) << p);
	if (atomic_exchange_explicit(&locks[p].word, 0, memory_order_release) == 2)
		unpark(&locks[p].word, 1);
	critical_leave();
}

bool
lwlock_mine(LwLockName name, unsigned which)
{
	return held >> place_of(name, which) & 1;
}

bool
lwlock_held(LwLockName name, unsigned which)
{
	return atomic_load_explicit(&locks[place_of(name, which)].word, memory_order_relaxed) != 0;
}
