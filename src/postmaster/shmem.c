/*
 * shmem.c - the shared memory of a node: one mapping, cut up for the rooms.
 *
 * Postmaster only, before it forks the children that use it. Each room says how much it needs and initialises its
 * piece; after a crash all of it is made anew (nobody is attached then), so no room ever cleans up. Until then a piece
 * may hold anything: each room clears what has to be zero, and only that. So gigabytes of cache make no restart longer.
 */
#include "common/config.h"
#include "common/kv_assert.h"
#include "backend/backend.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/latency.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/nodestate.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/check.h"
#include "replication/fetch.h"
#include "replication/replstate.h"
#include "storage/kvstore.h"

static void *mapping;
static size_t mapping_bytes;
static uint64_t limit; /* most it could have had */
static const Control *init_control;

int
shmem_first_reserved(void)
{
	return PROC_AUX_COUNT + (int) config.max_connections + SLOTS_SPARE;
}

int
shmem_slots(void)
{
	int reserved = (int) config.reserved_connections;

	return shmem_first_reserved() + (reserved > 0 ? reserved + SLOTS_SPARE_RESERVED : 0);
}

static size_t
procslot_size(void)
{
	return procslot_shmem_size(shmem_slots());
}

static size_t
backend_size(void)
{
	return backend_shmem_size(shmem_slots());
}

static Status
procslot_make(void *mem)
{
	procslot_shmem_init(mem, shmem_slots());
	return ST_OK;
}

static Status
lwlock_make(void *mem)
{
	lwlock_shmem_init(mem);
	return ST_OK;
}

static Status
epoch_make(void *mem)
{
	epoch_shmem_init(mem);
	return ST_OK;
}

static Status
nodestate_make(void *mem)
{
	nodestate_shmem_init(mem);
	return ST_OK;
}

static Status
latency_make(void *mem)
{
	latency_shmem_init(mem);
	return ST_OK;
}

static Status
logclock_make(void *mem)
{
	logclock_shmem_init(mem);
	return ST_OK;
}

static size_t
delegate_size(void)
{
	return delegate_shmem_size(shmem_slots());
}

static Status
delegate_make(void *mem)
{
	return delegate_shmem_init(mem, shmem_slots());
}

static Status
backend_make(void *mem)
{
	backend_shmem_init(mem, shmem_slots());
	return ST_OK;
}

static size_t
replstate_size(void)
{
	return replstate_shmem_size(shmem_slots());
}

static Status
replstate_make(void *mem)
{
	replstate_shmem_init(mem, shmem_slots());
	return ST_OK;
}

static Status
fetch_make(void *mem)
{
	fetch_shmem_init(mem);
	return ST_OK;
}

static Status
check_make(void *mem)
{
	check_shmem_init(mem);
	return ST_OK;
}

static size_t
kvstore_size(void)
{
	return kvstore_shmem_size(shmem_slots());
}

static Status
kvstore_make(void *mem)
{
	return kvstore_shmem_init(mem, init_control);
}

/* In this order: storage may take locks while it initialises. */
static const struct {
	size_t (*size)(void);
	Status (*make)(void *mem);
} pieces[] = {
	{ procslot_size, procslot_make },
	{ lwlock_shmem_size, lwlock_make },
	{ epoch_shmem_size, epoch_make },
	{ nodestate_shmem_size, nodestate_make },
	{ logclock_shmem_size, logclock_make },
	{ latency_shmem_size, latency_make },
	{ delegate_size, delegate_make },
	{ backend_size, backend_make },
	{ replstate_size, replstate_make },
	{ fetch_shmem_size, fetch_make },
	{ check_shmem_size, check_make },
	{ kvstore_size, kvstore_make },
};
#define PIECES (sizeof pieces / sizeof *pieces)
#define PIECE_ALIGN 4096 /* no two rooms share a page: cheap, and keeps their cache lines apart */

static size_t
piece_room(size_t i)
{
	return (pieces[i].size() + PIECE_ALIGN - 1) & ~(size_t) (PIECE_ALIGN - 1);
}

static Status
map_all(void)
{
	const char *what;
	Status st;

	for (size_t i = 0; i < PIECES; i++)
		mapping_bytes += piece_room(i);
	limit = memory_limit(&what); /* before it is taken */
	KV_TRY(memory_check(mapping_bytes));
	st = proc_shm_map(mapping_bytes, &mapping);
	return st == ST_OK ? ST_OK : memory_failed(st, mapping_bytes);
}

Status
shmem_create(const Control *control)
{
	size_t at = 0;

	if (mapping == NULL) /* else it is used again: many times as fast as a new one, and cannot fail */
		KV_TRY(map_all());
	init_control = control;
	for (size_t i = 0; i < PIECES; i++) {
		KV_TRY(pieces[i].make((char *) mapping + at));
		at += piece_room(i);
	}
	KV_ASSERT(at == mapping_bytes); /* sizes were asked for before the first piece was made, and are the same now */
	nodestate()->memory_mapped = mapping_bytes;
	nodestate()->memory_limit = limit;
	memory_log(mapping_bytes);
	return ST_OK;
}
