/*
 * procslot.c - process slots: life, critical sections, sleeping and waking.
 *
 * Every attached process; the postmaster only where procslot.h says so. No locks.
 *
 * Invariants:
 * 1. A slot's state moves FREE -> LIVE -> DEAD -> FREE, each step by the one process procslot.h names (a
 *    child that dies before it attached goes FREE -> DEAD).
 * 2. `critical` is stored before the first and after the last change it covers. Only the order of
 *    instructions in the owner counts (the postmaster looks after waitpid), so compiler fences suffice.
 * 3. All slots that were ever live lie below high_water.
 */
#include "common/process_local.h"
#include "ipc/procslot.h"

#include <string.h>

#include "common/kv_assert.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/park.h"

#define SLEEP_MAX_US 1000000 /* rule P2: whatever is lost, a sleeper looks again within a second */

typedef struct SlotTable {
	_Alignas(64) _Atomic int high_water; /* raised by attaching children */
	_Alignas(64) ProcSlot slots[];
} SlotTable;

static SlotTable *table;
static int table_count;

PROCESS_LOCAL int my_slot_no = -1;
PROCESS_LOCAL ProcSlot *my_slot;
static int wake_pipe[2] = { -1, -1 }; /* the same numbers in all processes: made before fork, never closed */
static PROCESS_LOCAL uint32_t slotless_depth; /* critical sections of a process without a slot (offline tools, tests) */

size_t
procslot_shmem_size(int n)
{
	return sizeof(SlotTable) + (size_t) n * sizeof(ProcSlot);
}

void
procslot_shmem_init(void *mem, int n)
{
	KV_ASSERT(n >= PROC_AUX_COUNT && (uintptr_t) mem % 64 == 0);
	table = mem;
	table_count = n;
	my_slot_no = -1;
	my_slot = NULL;
	memset(mem, 0, procslot_shmem_size(n));
	for (int i = 0; i < n; i++) {
		atomic_init(&table->slots[i].pin_epoch, PROC_NO_PIN);
		atomic_init(&table->slots[i].pin_version, PROC_NO_PIN);
	}
}

int
procslot_count(void)
{
	return table_count;
}

ProcSlot *
procslot_get(int i)
{
	KV_ASSERT(i >= 0 && i < table_count);
	return &table->slots[i];
}

void
procslot_attach(int i, ProcKind kind)
{
	ProcSlot *s = procslot_get(i);
	int high = atomic_load(&table->high_water);

	KV_ASSERT(my_slot == NULL);
	KV_ASSERT(atomic_load(&s->state) == PROC_FREE);
	KV_ASSERT(kind == PROC_BACKEND ? i >= PROC_AUX_COUNT : i == (int) kind);
	while (high <= i && !atomic_compare_exchange_weak(&table->high_water, &high, i + 1))
		;
	atomic_store(&s->pid, (uint32_t) child_self());
	atomic_store(&s->kind, (uint32_t) kind);
	atomic_store(&s->state, PROC_LIVE);
	my_slot_no = i;
	my_slot = s;
}

static void
clear_pins(ProcSlot *s)
{
	atomic_store(&s->pin_epoch, PROC_NO_PIN);
	atomic_store(&s->pin_version, PROC_NO_PIN);
}

void
procslot_detach(void)
{
	KV_ASSERT(my_slot != NULL);
	KV_ASSERT(atomic_load(&my_slot->critical) == 0);
	clear_pins(my_slot);
	my_slot = NULL;
	my_slot_no = -1;
}

bool
procslot_was_critical(int i)
{
	return atomic_load(&procslot_get(i)->critical) != 0;
}

void
procslot_mark_dead(int i)
{
	atomic_store(&procslot_get(i)->state, PROC_DEAD);
}

bool
procslot_is_free(int i)
{
	return atomic_load(&procslot_get(i)->state) == PROC_FREE;
}

int
procslot_high_water(void)
{
	return atomic_load(&table->high_water);
}

int
procslot_reap(void (*cleared)(int slot))
{
	int reaped = 0;

	/* All slots, not only those below high_water: one whose child died before it attached is there too. */
	for (int i = 0; i < table_count; i++) {
		ProcSlot *s = &table->slots[i];

		if (atomic_load_explicit(&s->state, memory_order_acquire) != PROC_DEAD)
			continue;
		if (cleared != NULL)
			cleared(i);
		clear_pins(s);
		atomic_store(&s->sleeping, 0);
		atomic_store(&s->piped, 0);
		atomic_store(&s->critical, 0);
		atomic_store(&s->pid, 0);
		atomic_fetch_add(&s->generation, 1);
		atomic_store(&s->state, PROC_FREE);
		reaped++;
	}
	/* The dead may have eaten a wake-up that was meant to be passed on (rule P2). */
	for (int i = 0, high = reaped > 0 ? procslot_high_water() : 0; i < high; i++)
		procslot_wake(i);
	return reaped;
}

void
critical_enter(void)
{
	if (my_slot == NULL) {
		slotless_depth++;
		return;
	}

	uint32_t depth = atomic_load_explicit(&my_slot->critical, memory_order_relaxed);

	if (depth == 0)
		atomic_store_explicit(&my_slot->critical_since_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_store_explicit(&my_slot->critical, depth + 1, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

void
critical_leave(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (my_slot == NULL) {
		KV_ASSERT(slotless_depth > 0);
		slotless_depth--;
		return;
	}

	uint32_t depth = atomic_load_explicit(&my_slot->critical, memory_order_relaxed);

	KV_ASSERT(depth > 0);
	atomic_store_explicit(&my_slot->critical, depth - 1, memory_order_release);
}

void
critical_progress(void)
{
	if (my_slot != NULL)
		atomic_store_explicit(&my_slot->critical_since_ns, clock_mono_ns(), memory_order_relaxed);
}

void
critical_sync_begin(void)
{
	if (my_slot != NULL)
		atomic_store_explicit(&my_slot->syncing, 1, memory_order_relaxed);
}

void
critical_sync_end(void)
{
	critical_progress(); /* before the shorter limit counts again */
	if (my_slot != NULL)
		atomic_store_explicit(&my_slot->syncing, 0, memory_order_release);
}

uint32_t
procslot_prepare_sleep(void)
{
	uint32_t token = atomic_load(&my_slot->wake);

	atomic_store(&my_slot->sleeping, 1);
	atomic_thread_fence(memory_order_seq_cst);
	return token;
}

void
procslot_cancel_sleep(void)
{
	atomic_store_explicit(&my_slot->sleeping, 0, memory_order_release);
}

static void
drain_pipe(void)
{
	char bytes[64];

	while (child_pipe_get(wake_pipe[0], bytes, sizeof bytes) == (int) sizeof bytes)
		;
}

/* Who is woken by the pipe is woken by nothing else: also where it waits for no sockets. */
static void
sleep_on_pipe(uint32_t token, uint64_t timeout_us)
{
	bool readable = false;

	if (atomic_load(&my_slot->wake) == token)
		child_poll(&wake_pipe[0], &readable, 1, (int) ((timeout_us + 999) / 1000));
	if (readable)
		drain_pipe();
}

void
procslot_sleep(uint32_t token, uint64_t timeout_us)
{
	/* Again: what was called since prepare may have slept itself. A wake since prepare shows in the token. */
	atomic_store(&my_slot->sleeping, 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (timeout_us > SLEEP_MAX_US)
		timeout_us = SLEEP_MAX_US;
	if (atomic_load_explicit(&my_slot->piped, memory_order_relaxed))
		sleep_on_pipe(token, timeout_us);
	else
		park(&my_slot->wake, token, timeout_us);
	procslot_cancel_sleep();
}

static void
wake_sleeper(ProcSlot *s)
{
	if (atomic_load_explicit(&s->piped, memory_order_relaxed))
		child_pipe_put(wake_pipe[1], 'w');
	else
		unpark(&s->wake, 1);
}

/*
 * Only the first of several wakers pays for the system call: it takes `sleeping` away. The others may
 * leave, because the owner raises `sleeping` again (and looks at the condition after it) before its next
 * sleep.
 */
void
procslot_wake(int i)
{
	ProcSlot *s = &table->slots[i];

	atomic_fetch_add(&s->wake, 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&s->sleeping, memory_order_relaxed) != 0 && atomic_exchange(&s->sleeping, 0) != 0)
		wake_sleeper(s);
}

/* ---- sleeping in poll() */

Status
procslot_make_pipe(void)
{
	return wake_pipe[0] >= 0 ? ST_OK : child_pipe(wake_pipe);
}

int
procslot_use_pipe(void)
{
	KV_ASSERT(wake_pipe[0] >= 0 && my_slot != NULL);
	atomic_store(&my_slot->piped, 1);
	return wake_pipe[0];
}

bool
procslot_prepare_pipe_sleep(const uint32_t *seen)
{
	return procslot_prepare_sleep() == *seen;
}

void
procslot_end_pipe_sleep(uint32_t *seen, bool readable)
{
	procslot_cancel_sleep();
	if (readable)
		drain_pipe();
	*seen = atomic_load(&my_slot->wake);
}
