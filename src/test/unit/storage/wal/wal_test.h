/*
 * wal_test.h - what the tests of the log share: a log in a directory of its own, with small or real bounds.
 *
 * Each test: wal_test_dir(), then wal_test_start() as often as the node shall "start" on that directory.
 */
#ifndef WAL_TEST_H
#define WAL_TEST_H

/* Tests are outside the core: MAP_ANONYMOUS and mkdtemp are wanted here. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../../storage/wal/wal_internal.h"
#include "common/hash.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/fs.h"

#define TEST_SEGMENT 4096u
#define TEST_RECORD_MAX 1024u
#define TEST_RING (128 * 1024)
#define TEST_SLOTS 16

static Control wal_test_control;
static char wal_test_path[64];
static void *wal_test_mem;
static size_t wal_test_mem_size;

#define assert_ok(expr)                                                                                      \
	do {                                                                                                     \
		Status ok_ = (expr);                                                                                 \
		if (ok_ != ST_OK)                                                                                    \
			fail_msg("%s: %s %s", #expr, status_name(ok_), status_detail());                                 \
	} while (0)
#define assert_status(expr, want) assert_string_equal(status_name(expr), status_name(want))

/* A fresh temporary directory with an empty log of these segments; the process changes into it. */
static inline void
wal_test_dir(uint32_t segment_size)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(wal_test_path, sizeof wal_test_path, "%.40s/kvd-wal-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(wal_test_path));
	assert_int_equal(chdir(wal_test_path), 0);
	assert_ok(control_make(&wal_test_control, segment_size));
	wal_test_control.crc_seed = 42; /* so that known bytes are known */
	assert_ok(wal_create(&wal_test_control));
}

static inline void
wal_test_memory_free(void)
{
	if (wal_test_mem != NULL)
		munmap(wal_test_mem, wal_test_mem_size);
	wal_test_mem = NULL;
	wal_files_close();
}

static Status
wal_test_unlink(void *dir, const char *name)
{
	char path[600];

	snprintf(path, sizeof path, "%s/%s", (char *) dir, name);
	return fs_unlink(path);
}

static Status
wal_test_not_synced(int fd)
{
	(void) fd;
	return ST_OK;
}

static Status
wal_test_dir_not_synced(const char *path)
{
	(void) path;
	return ST_OK;
}

/* Syncing does nothing until the end of the test: for thousands of starts of which none loses its power. */
static inline void
wal_test_no_sync(void)
{
	static FsOps ops;

	ops = fs_posix;
	ops.sync = ops.datasync = wal_test_not_synced;
	ops.sync_dir = wal_test_dir_not_synced;
	fs = &ops;
}

/* Directory and its files; it may be missing. */
static inline void
wal_test_remove(const char *dir)
{
	if (fs_list(dir, wal_test_unlink, (void *) dir) == ST_OK)
		assert_int_equal(rmdir(dir), 0);
}

/* Back where we came from; removes the directory. */
static inline void
wal_test_dir_remove(void)
{
	fs = &fs_posix; /* the test's own may be gone */
	wal_test_memory_free();
	wal_test_remove("wal");
	wal_test_remove("copy");
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(wal_test_path), 0);
}

/* A test's own directory, small segments: setup and teardown. */
static inline int
wal_test_setup(void **state)
{
	(void) state;
	wal_test_dir(TEST_SEGMENT);
	return 0;
}

static inline int
wal_test_teardown(void **state)
{
	(void) state;
	wal_test_dir_remove();
	return 0;
}

/* Shared memory as the postmaster makes it after a crash (it may hold anything), and this process in slot 0. */
static inline Status
wal_test_memory(uint64_t ring, uint64_t record_max)
{
	size_t slots = (procslot_shmem_size(TEST_SLOTS) + 63) & ~(size_t) 63;
	size_t locks = (lwlock_shmem_size() + 63) & ~(size_t) 63;
	uint8_t *p;

	wal_test_memory_free();
	wal_test_mem_size = slots + locks + wal_shmem_size((size_t) ring, TEST_SLOTS);
	p = mmap(NULL, wal_test_mem_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(p != MAP_FAILED);
	wal_test_mem = p;
	procslot_shmem_init(p, TEST_SLOTS);
	lwlock_shmem_init(p + slots);
	procslot_attach(PROC_REPLAY, PROC_REPLAY);
	memset(p + slots + locks, 0xee, wal_test_mem_size - slots - locks);
	return wal_ring_init(p + slots + locks, ring, TEST_SLOTS, &wal_test_control, record_max);
}

/* A start of the node: fresh memory, recovery from the log's start, small bounds. */
static inline Status
wal_test_recover(WalRecovery *rec)
{
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	return wal_recover(wal_first_lsn(&wal_test_control), 0, rec);
}

/* The same; must succeed. Alone without end. */
static inline void
wal_test_start(WalRecovery *rec)
{
	assert_ok(wal_test_recover(rec));
	wal_set_alone_limit(UINT64_MAX);
}

/* Put a TERM record and flush it. */
static inline Status
wal_test_begin(uint64_t term, uint64_t log_time, Lsn *end)
{
	Lsn start;
	Status s = wal_begin_term(term, log_time, &start, end);

	while (s == ST_OK && wal_durable() < *end)
		(void) wal_flush(); /* false: another process is at it */
	return s;
}

/* Put a TERM record (last term + 1) and open the gate. Returns the generation. */
static inline uint32_t
wal_test_open(void)
{
	Lsn end;

	assert_ok(wal_test_begin(wal_term() + 1, 900, &end));
	wal_open_gate();
	return wal_generation();
}

static inline void
wal_test_body(uint32_t tag, size_t len, uint8_t *out)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t) hash_mix((uint64_t) tag << 32 | i);
}

/* Insert a WRITE of `len` bytes that depend on `tag`. */
static inline Status
wal_test_try(uint32_t tag, size_t len, Lsn *end)
{
	static uint8_t body[TEST_RECORD_MAX + 64];
	Slice parts[2];
	Lsn start;

	assert_true(len <= sizeof body);
	wal_test_body(tag, len, body);
	parts[0] = slice_of(body, len / 3);
	parts[1] = slice_of(body + len / 3, len - len / 3);
	return wal_insert(wal_generation(), WAL_WRITE, tag + 1, 1000 + tag, parts, 2, &start, end);
}

/* The same; must succeed. */
static inline Lsn
wal_test_insert(uint32_t tag, size_t len)
{
	Lsn end;

	assert_ok(wal_test_try(tag, len, &end));
	return end;
}

/* Is this the record that wal_test_insert() makes? */
static inline bool
wal_test_is(const WalRecord *r, uint32_t tag, size_t len)
{
	uint8_t body[TEST_RECORD_MAX + 64];

	wal_test_body(tag, len, body);
	return r->header.kind == WAL_WRITE && r->header.count == tag + 1 && r->header.log_time == 1000 + tag &&
		   slice_eq(r->body, slice_of(body, len));
}

/* Everything inserted is durable, and what is committed (all of it when alone) counts as applied. */
static inline void
wal_test_flush(void)
{
	while (wal_durable() < wal_inserted())
		assert_true(wal_flush());
	wal_release_ring(wal_commit());
}

/* Whole files, for cutting and flipping. */
static inline uint8_t *
wal_test_load(const char *path, size_t *len)
{
	char *data;

	assert_ok(fs_read_file(path, 1 << 26, &data, len));
	return (uint8_t *) data;
}

static inline void
wal_test_store(const char *path, const uint8_t *data, size_t len)
{
	int fd;

	(void) unlink(path); /* not truncated: some file systems flush such a file when it is closed */
	assert_ok(fs_open(path, FS_CREATE_NEW, &fd));
	assert_ok(fs_pwrite(fd, data, len, 0));
	assert_ok(fs_close(fd));
}

typedef struct WalTestCopy {
	const char *from, *to;
} WalTestCopy;

static Status
wal_test_copy_one(void *arg, const char *name)
{
	WalTestCopy *c = arg;
	char path[600];
	uint8_t *data;
	size_t len;

	snprintf(path, sizeof path, "%s/%s", c->from, name);
	data = wal_test_load(path, &len);
	snprintf(path, sizeof path, "%s/%s", c->to, name);
	wal_test_store(path, data, len);
	free(data);
	return ST_OK;
}

/* Directory `to` becomes a copy of `from`. */
static inline void
wal_test_copy(const char *from, const char *to)
{
	WalTestCopy c = { from, to };

	wal_test_remove(to);
	assert_ok(fs_mkdir(to));
	assert_ok(fs_list(from, wal_test_copy_one, &c));
}

static inline bool
wal_test_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

#endif
