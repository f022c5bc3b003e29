/*
 * engine.c - the engine in this process, as postmaster and workers have it; time, sleep and chance are the
 * test's.
 *
 * clock_mono_ns(), clock_wall_ms(), procslot_sleep() and proc_random() are replaced at link time (--wrap):
 * time moves a little with each look at it and as long as somebody sleeps, and whoever sleeps lets the
 * compaction worker work.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../../storage/kvstore_internal.h"
#include "../../storage/lsm/lsm_internal.h"
#include "faultfs.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "model.h"
#include "port/clock.h"
#include "port/proc.h"

#define SLOTS 16
#define LOOK_NS 1000 /* a look at the clock takes so long */

uint64_t __wrap_clock_mono_ns(void);
uint64_t __wrap_clock_wall_ms(void);
void __wrap_procslot_sleep(uint32_t token, uint64_t timeout_us);
Status __wrap_proc_random(void *buf, size_t len);

static bool prepared, opened, working;

/* There is one worker: while it waits for somebody, it is not called again. */
void
engine_work(bool *did)
{
	Status st;

	working = true;
	st = kvstore_compactor_step(did);
	working = false;
	if (!worked(st, "the compaction worker"))
		*did = false;
}

uint64_t
__wrap_clock_mono_ns(void)
{
	return world->mono_ns += LOOK_NS;
}

uint64_t
__wrap_clock_wall_ms(void)
{
	return world->wall_ms + world->mono_ns / 1000000;
}

void
__wrap_procslot_sleep(uint32_t token, uint64_t timeout_us)
{
	bool did;

	(void) token;
	procslot_cancel_sleep();
	world->mono_ns += timeout_us * 1000;
	if (opened && !working)
		engine_work(&did);
}

Status
__wrap_proc_random(void *buf, size_t len)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t) prng_next(&world->engine_random);
	return ST_OK;
}

void
engine_wait(uint64_t ms)
{
	world->mono_ns += ms * 1000000;
}

/* Levels whose targets are so small that all of them fill. */
__typeof__(pick_config) __wrap_pick_config, __real_pick_config;

PickConfig
__wrap_pick_config(void)
{
	PickConfig c = __real_pick_config();

	c.level_base = world->set.level_base;
	return c;
}

/* ---- start */
static void *
memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		failed("no memory");
	return p;
}

/*
 * What the rooms check at start are the smallest sizes that hold the largest record; here records are small.
 */
static void
settings_small(void)
{
	const Settings *s = &world->set;

	config.memtable_size = s->memtable_size;
	config.table_size = s->table_size;
	config.l0_trigger = s->l0_trigger;
	config.level_ratio = s->level_ratio;
	config.snapshot_retention = s->retention_ms;
	config.wal_keep = 0;
	config.disk_reserve = 0;
	config.wal_spare_segments = 1;
	config.blob_threshold = s->blob_threshold;
	config.compression = table_codec_built(s->codec) ? s->codec : 0;
}

static void
prepare(void)
{
	config_init();
	config.memtable_size = MEMTABLE_BYTES_ANY_RECORD;
	config.memtable_count = 3;
	config.block_cache_size = 1 * MB;
	config.metadata_size = 1 * MB;
	config.wal_buffers = 66 * MB;
	config.wal_segment_size = world->set.segment_size;
	procslot_shmem_init(memory(procslot_shmem_size(SLOTS)), SLOTS);
	lwlock_shmem_init(memory(lwlock_shmem_size()));
	epoch_shmem_init(memory(epoch_shmem_size()));
	logclock_shmem_init(memory(logclock_shmem_size()));
	MUST(delegate_shmem_init(memory(delegate_shmem_size(SLOTS)), SLOTS));
	procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
}

void
engine_create(void)
{
	Control c;

	config_init();
	MUST(control_make(&c, world->set.segment_size));
	MUST(control_write(&c));
	MUST(kvstore_create(&c));
	/* What a postmaster waits for before it says that the directory is there. */
	disk_settle();
}

Status
engine_prepare(void)
{
	Control c;

	prepare();
	KV_TRY(control_read(&c));
	KV_TRY(kvstore_shmem_init(memory(kvstore_shmem_size(procslot_count())), &c));
	settings_small();
	prepared = true;
	return ST_OK;
}

Status
engine_open(void)
{
	if (!prepared)
		KV_TRY(engine_prepare());
	KV_TRY(kvstore_open());
	KV_TRY(kvstore_compactor_open());
	opened = true;
	return ST_OK;
}

Status
engine_start(void)
{
	WalRecovery r;
	Lsn start, end;

	KV_TRY(kvstore_recover(false));
	kvstore_recovered(&r);
	journal_recover(r.end);
	KV_TRY(kvstore_replay(true));
	logclock_begin_term(kvstore_applied_time(), clock_wall_ms());
	KV_TRY(wal_begin_term(wal_term() + 1, logclock_now(), &start, &end));
	wal_open_gate();
	engine_apply_all();
	CHECK(kvstore_applied() == end);
	CHECK(kvstore_applied_time() >= model.time);
	model.time = kvstore_applied_time();
	journal_acked();
	return ST_OK;
}

void
engine_apply_all(void)
{
	while (kvstore_applied() < wal_inserted())
		if (!commit_work(wal_inserted()))
			procslot_sleep(procslot_prepare_sleep(), 1000);
}

void
engine_freeze(void)
{
	bool moved;

	atomic_store(&kvs->freeze_wanted, 1);
	(void) apply_committed(&moved);
}

void
engine_compact(void)
{
	bool did = true;

	while (did)
		engine_work(&did);
}
