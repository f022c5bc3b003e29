/*
 * engine_test.h - what the tests of the whole engine share: one in a directory of its own, in a forked child.
 */
#ifndef ENGINE_TEST_H
#define ENGINE_TEST_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../storage/kvstore_internal.h"
#include "common/prng.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/fs.h"

#define SLOTS 16

static char dir[] = "/tmp/kvd-kvstore-XXXXXX";

#define MUST(expr)                                                                                           \
	do {                                                                                                     \
		Status must_ = (expr);                                                                               \
		if (must_ != ST_OK) {                                                                                \
			fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #expr, status_name(must_),           \
					status_detail());                                                                        \
			abort();                                                                                         \
		}                                                                                                    \
	} while (0)
#define CHECK(expr)                                                                                          \
	do {                                                                                                     \
		if (!(expr)) {                                                                                       \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #expr);                         \
			abort();                                                                                         \
		}                                                                                                    \
	} while (0)

/* Shared memory, as the postmaster makes it; a new directory if there is none. */
static inline void
prepare_engine(void)
{
	Control control;
	uint8_t *mem;
	size_t slots, locks, epochs, clocks, store;

	config_init();
	config.memtable_size = MEMTABLE_BYTES_ANY_RECORD;
	config.block_cache_size = 1 * MB;
	config.metadata_size = 1 * MB;
	config.wal_buffers = 66 * MB;
	config.wal_segment_size = 1 * MB;
	config.wal_keep = 0;
	config.table_size = 1 * MB;
	config.snapshot_retention = 0;
	config.disk_reserve = 0; /* however full this machine's disk is */
	if (control_read(&control) == ST_NOT_FOUND) {
		MUST(control_make(&control, (uint32_t) config.wal_segment_size));
		MUST(control_write(&control));
		MUST(kvstore_create(&control));
	}
	slots = procslot_shmem_size(SLOTS) + 4096;
	locks = lwlock_shmem_size() + 4096;
	epochs = epoch_shmem_size() + 4096;
	clocks = logclock_shmem_size() + 4096;
	mem = mmap(NULL, slots + locks + epochs + clocks, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	CHECK(mem != MAP_FAILED);
	procslot_shmem_init(mem, SLOTS);
	lwlock_shmem_init((void *) (((uintptr_t) (mem + slots) + 63) & ~(uintptr_t) 63));
	epoch_shmem_init((void *) (((uintptr_t) (mem + slots + locks) + 63) & ~(uintptr_t) 63));
	logclock_shmem_init((void *) (((uintptr_t) (mem + slots + locks + epochs) + 63) & ~(uintptr_t) 63));
	store = delegate_shmem_size(SLOTS);
	mem = mmap(NULL, store, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	CHECK(mem != MAP_FAILED);
	MUST(delegate_shmem_init(mem, SLOTS));
	store = kvstore_shmem_size(procslot_count());
	mem = mmap(NULL, store, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	CHECK(mem != MAP_FAILED);
	procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
	MUST(kvstore_shmem_init(mem, &control));
}

/* And the tables, as the start of the replay process opens them. */
static inline void
open_engine(void)
{
	prepare_engine();
	MUST(kvstore_open());
	MUST(kvstore_compactor_open());
}

/* A node alone, its gate open. */
static inline void
start_engine(void)
{
	Lsn start, end;

	open_engine();
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	logclock_begin_term(kvstore_applied_time(), clock_wall_ms());
	MUST(wal_begin_term(wal_term() + 1, logclock_now(), &start, &end));
	wal_open_gate();
	CHECK(commit_work(end));
	CHECK(kvstore_applied() == end);
}

/* A user's key that sorts as its number. */
static inline Slice
number_key(uint32_t n, uint8_t buf[5])
{
	buf[0] = KEYSPACE_USER;
	for (int i = 0; i < 4; i++)
		buf[1 + i] = (uint8_t) (n >> (24 - 8 * i));
	return slice_of(buf, 5);
}

/* A record of one operation. */
static inline void
write_op(const Op *op)
{
	Buf body = { 0 };
	uint64_t version;

	MUST(op_encode(&body, op));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
}

static inline void
ask_for_flush(void)
{
	bool moved;

	atomic_store(&kvs->freeze_wanted, 1);
	CHECK(apply_committed(&moved));
}

static inline void
remove_dir(void)
{
	char command_dir[sizeof dir];

	memcpy(command_dir, dir, sizeof dir);
	pid_t pid = fork();

	if (pid == 0) {
		execlp("rm", "rm", "-rf", command_dir, (char *) NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

/* A new directory to work in; leave_dir() removes it. */
static inline void
enter_new_dir(void)
{
	memcpy(dir + sizeof dir - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
}

static inline void
leave_dir(void)
{
	assert_int_equal(chdir("/"), 0);
	remove_dir();
}

/* A test's own directory: setup and teardown. */
static inline int
engine_test_setup(void **state)
{
	(void) state;
	enter_new_dir();
	return 0;
}

static inline int
engine_test_teardown(void **state)
{
	(void) state;
	leave_dir();
	return 0;
}

static inline void
run_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static inline void
run_compactor(void)
{
	bool did = true;

	while (did)
		MUST(kvstore_compactor_step(&did));
}

/* A process in a slot of its own; ends with body, or is killed by the caller. */
static inline pid_t
fork_into(int slot, void (*body)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		my_slot = NULL;
		procslot_attach(slot, PROC_BACKEND);
		body();
		_exit(0);
	}
	return pid;
}

#endif
