/*
 * counters.c - what clients asked for and got, counted per slot in shared memory, added up for STATS.
 *
 * Each slot's line is written by its owner only, with relaxed stores; a slot's next owner counts on. Readers add up
 * without a lock: a sum may miss the last moment.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "ipc/procslot.h"
#include "session.h"

#define STATUS_SLOTS 128 /* codes that travel are below 100 */

typedef struct Counters {
	_Alignas(64) _Atomic uint64_t command[PROTO_COMMANDS]; /* 0: unknown ones */
	_Atomic uint64_t error[STATUS_SLOTS];
	_Atomic uint64_t bytes_in, bytes_out;
} Counters;

static Counters *all;
static int count;

size_t
backend_shmem_size(int slots)
{
	return (size_t) slots * sizeof(Counters);
}

void
backend_shmem_init(void *mem, int slots)
{
	all = mem;
	memset(mem, 0, backend_shmem_size(slots));
	count = slots;
}

static void
add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

void
count_command(int command)
{
	add(&all[my_slot_no].command[command], 1);
}

void
count_error(Status code)
{
	add(&all[my_slot_no].error[(unsigned) code < STATUS_SLOTS ? code : 0], 1);
}

void
count_bytes(uint64_t in, uint64_t out)
{
	add(&all[my_slot_no].bytes_in, in);
	add(&all[my_slot_no].bytes_out, out);
}

static uint64_t
sum(size_t offset)
{
	uint64_t total = 0;

	for (int i = 0; i < count; i++) {
		const uint8_t *base = (const uint8_t *) &all[i];

		total += atomic_load_explicit((const _Atomic uint64_t *) (const void *) (base + offset),
									  memory_order_relaxed);
	}
	return total;
}

Status
counters_emit(Status (*emit)(void *arg, const char *name, uint64_t value), void *arg)
{
	static const int codes[] = {
#define STATUS_NUMBER(name, number, text) number,
		STATUS_LIST(STATUS_NUMBER)
#undef STATUS_NUMBER
	};
	char name[64];

	KV_TRY(emit(arg, "client.bytes_in", sum(offsetof(Counters, bytes_in))));
	KV_TRY(emit(arg, "client.bytes_out", sum(offsetof(Counters, bytes_out))));
	for (int i = 1; i < PROTO_COMMANDS; i++) {
		snprintf(name, sizeof name, "command.%s", proto_command_name(i));
		KV_TRY(emit(arg, name, sum(offsetof(Counters, command) + (size_t) i * sizeof(uint64_t))));
	}
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		uint64_t n = codes[i] < STATUS_SLOTS
						 ? sum(offsetof(Counters, error) + (size_t) codes[i] * sizeof(uint64_t))
						 : 0;

		snprintf(name, sizeof name, "error.%s", status_name(codes[i]));
		if (n > 0)
			KV_TRY(emit(arg, name, n));
	}
	return ST_OK;
}
