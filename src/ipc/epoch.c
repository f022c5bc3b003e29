/*
 * epoch.c - epoch-based reclamation; the argument is in ipc/epoch.h.
 *
 * Every attached process. No locks: one shared counter and the pins in the slots.
 *
 * Invariants:
 * 1. The counter only grows; a pin is a value it had, read before the pin was stored.
 * 2. Between the store of a pin and the first load of a guarded pointer stands a full fence, and so it does
 *    between making a thing unreachable and scanning the pins.
 */
#include "ipc/epoch.h"

#include <stdatomic.h>

#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/clock.h"

typedef struct EpochShared {
	_Alignas(64) _Atomic uint64_t current; /* raised by whoever retires something */
} EpochShared;

static EpochShared *shared;

size_t
epoch_shmem_size(void)
{
	return sizeof(EpochShared);
}

void
epoch_shmem_init(void *mem)
{
	shared = mem;
	atomic_init(&shared->current, 1);
}

/* Stores only; the caller fences. */
static void
store_epoch(void)
{
	KV_ASSERT(my_slot != NULL && !epoch_pinned());
	atomic_store_explicit(&my_slot->pin_since_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_store_explicit(&my_slot->pin_epoch, atomic_load_explicit(&shared->current, memory_order_acquire),
	                      memory_order_relaxed);
}

void
epoch_enter(void)
{
	store_epoch();
	atomic_thread_fence(memory_order_seq_cst);
}

void
epoch_leave(void)
{
	KV_ASSERT(epoch_pinned());
	atomic_store_explicit(&my_slot->pin_epoch, PROC_NO_PIN, memory_order_release);
}

void
epoch_hold(uint64_t version)
{
	atomic_store_explicit(&my_slot->pin_version, version, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

void
epoch_release(void)
{
	atomic_store_explicit(&my_slot->pin_version, PROC_NO_PIN, memory_order_release);
}

void
epoch_pin(uint64_t version)
{
	store_epoch();
	epoch_hold(version);
}

void
epoch_unpin(void)
{
	epoch_release();
	epoch_leave();
}

bool
epoch_pinned(void)
{
	return my_slot != NULL && atomic_load_explicit(&my_slot->pin_epoch, memory_order_relaxed) != PROC_NO_PIN;
}

uint64_t
epoch_retire(void)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_fetch_add(&shared->current, 1) + 1;
}

uint64_t
epoch_min(void)
{
	uint64_t min = UINT64_MAX;

	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0, high = procslot_high_water(); i < high; i++) {
		uint64_t pin = atomic_load_explicit(&procslot_get(i)->pin_epoch, memory_order_acquire);

		if (pin < min)
			min = pin;
	}
	return min;
}

bool
epoch_safe(uint64_t r)
{
	return r <= epoch_min();
}

uint64_t
epoch_min_version(uint64_t limit)
{
	uint64_t min = limit;

	atomic_thread_fence(memory_order_seq_cst);
	for (int i = 0, high = procslot_high_water(); i < high; i++) {
		uint64_t pin = atomic_load_explicit(&procslot_get(i)->pin_version, memory_order_acquire);

		if (pin < min)
			min = pin;
	}
	return min;
}
