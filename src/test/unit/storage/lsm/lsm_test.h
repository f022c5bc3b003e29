/*
 * lsm_test.h - what the tests of this room share: shared memory and a directory of their own, an iterator
 * over an array, and small helpers. Included once by each program.
 */
#ifndef LSM_TEST_H
#define LSM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "common/prng.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "ipc/shheap.h"
#include "port/fs.h"
#include "storage/cache.h"
#include "storage/lsm.h"

#include "../../../../storage/lsm/lsm_internal.h"

#define TEST_HEAP (1 << 20)
#define TEST_CACHE CACHE_BYTES_MIN

static struct {
	void *slots, *epoch, *locks, *heap, *cache, *lsm;
	char top[512]; /* directory of this program */
	size_t heap_bytes;
} mem;

/* ---- file operations that do not wait for the disk; a test may put its own in their place */
static FsOps quick_fs;

static inline Status
no_sync(int fd)
{
	(void) fd;
	return ST_OK;
}

static inline Status
no_sync_dir(const char *path)
{
	(void) path;
	return ST_OK;
}

static inline void
quick_fs_use(void)
{
	quick_fs = fs_posix;
	quick_fs.sync = no_sync;
	quick_fs.datasync = no_sync;
	quick_fs.sync_dir = no_sync_dir;
	fs = &quick_fs;
}

/* ---- shared memory as after a start of the node */
static inline void
fresh_memory(size_t heap_bytes)
{
	memset(mem.slots, 0, procslot_shmem_size(8));
	my_slot = NULL;
	my_slot_no = -1;
	procslot_shmem_init(mem.slots, 8);
	lwlock_shmem_init(mem.locks);
	epoch_shmem_init(mem.epoch);
	shheap_shmem_init(mem.heap, heap_bytes);
	memset(mem.cache, 0, cache_shmem_size(TEST_CACHE));
	cache_shmem_init(mem.cache, TEST_CACHE);
	lsm_shmem_init(mem.lsm);
	mem.heap_bytes = heap_bytes;
	procslot_attach(PROC_COMPACTOR, PROC_COMPACTOR);
	table_files_close_all();
}

static inline int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void) st;
	(void) kind;
	(void) where;
	return remove(path);
}

/* A missing one is none to remove. */
static inline void
remove_tree(const char *dir)
{
	if (access(dir, F_OK) == 0)
		assert_int_equal(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void *
shared_piece(size_t bytes)
{
	void *p = aligned_alloc(4096, (bytes + 4095) & ~(size_t) 4095);

	assert_non_null(p);
	memset(p, 0, bytes);
	return p;
}

static inline int
group_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	snprintf(mem.top, sizeof mem.top, "%s/kvd-lsm-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(mem.top));
	assert_int_equal(chdir(mem.top), 0);
	mem.slots = shared_piece(procslot_shmem_size(8));
	mem.epoch = shared_piece(epoch_shmem_size());
	mem.locks = shared_piece(lwlock_shmem_size());
	mem.heap = shared_piece(TEST_HEAP);
	mem.cache = shared_piece(cache_shmem_size(TEST_CACHE));
	mem.lsm = shared_piece(lsm_shmem_size());
	config_init();
	elog_setup(2, LOG_LEVEL_FATAL, false);
	quick_fs_use();
	return 0;
}

static inline int
group_teardown(void **state)
{
	(void) state;
	table_files_close_all();
	assert_int_equal(chdir("/"), 0);
	remove_tree(mem.top);
	free(mem.slots);
	free(mem.epoch);
	free(mem.locks);
	free(mem.heap);
	free(mem.cache);
	free(mem.lsm);
	return 0;
}

/* A new empty data directory; the working directory is in it afterwards. */
static inline void
fresh_directory(void)
{
	table_files_close_all();
	assert_int_equal(chdir(mem.top), 0);
	remove_tree("d");
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(chdir("d"), 0);
}

#define ok(expr) \
	do { \
		Status ok_ = (expr); \
		if (ok_ != ST_OK) \
			fail_msg("%s: %s (%s)", #expr, status_name(ok_), status_detail()); \
	} while (0)

/* ---- an iterator over an array of entries in order */
typedef struct ArrayIter {
	Iter base;
	const Entry *e;
	int n, at;
	int fail_at;  /* standing here is a read error; -1 never */
	bool *closed;
} ArrayIter;

static inline void
array_set(ArrayIter *it, int at)
{
	it->at = at;
	it->base.valid = at >= 0 && at < it->n;
	it->base.status = ST_OK;
	if (it->base.valid && at == it->fail_at) {
		it->base.valid = false;
		it->base.status = status_fail(ST_IO_ERROR, "made up");
	} else if (it->base.valid)
		it->base.entry = it->e[at];
}

static inline int
array_lower(const Entry *e, int n, Slice key, uint64_t version)
{
	int lo = 0, hi = n;

	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (entry_cmp(e[mid].key, e[mid].version, key, version) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static inline void
array_seek_first(Iter *b)
{
	array_set((ArrayIter *) b, 0);
}

static inline void
array_seek_last(Iter *b)
{
	array_set((ArrayIter *) b, ((ArrayIter *) b)->n - 1);
}

static inline void
array_seek(Iter *b, Slice key, uint64_t version)
{
	ArrayIter *it = (ArrayIter *) b;

	array_set(it, array_lower(it->e, it->n, key, version));
}

static inline void
array_seek_before(Iter *b, Slice key, uint64_t version)
{
	ArrayIter *it = (ArrayIter *) b;

	array_set(it, array_lower(it->e, it->n, key, version) - 1);
}

static inline void
array_next(Iter *b)
{
	assert_true(b->valid);
	array_set((ArrayIter *) b, ((ArrayIter *) b)->at + 1);
}

static inline void
array_prev(Iter *b)
{
	assert_true(b->valid);
	array_set((ArrayIter *) b, ((ArrayIter *) b)->at - 1);
}

static inline void
array_close(Iter *b)
{
	ArrayIter *it = (ArrayIter *) b;

	if (it->closed != NULL)
		*it->closed = true;
	free(it);
}

static inline Iter *
array_iter(const Entry *e, int n)
{
	static const IterOps array_ops = { array_seek_first, array_seek_last, array_seek, array_seek_before,
		                           array_next, array_prev, array_close };
	ArrayIter *it = calloc(1, sizeof *it);

	assert_non_null(it);
	it->base.ops = &array_ops;
	it->e = e;
	it->n = n;
	it->fail_at = -1;
	return &it->base;
}

static inline int
entry_order(const void *a, const void *b)
{
	const Entry *x = a, *y = b;

	return entry_cmp(x->key, x->version, y->key, y->version);
}

static inline bool
file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static inline bool
table_exists(uint64_t number)
{
	char path[FS_PATH_MAX];

	table_path(number, path, sizeof path);
	return file_exists(path);
}

/* ---- the newest Version, as kvstore would have it */
static Version *published;

static inline void
publish(Version *v)
{
	Version *old = published;

	assert_ptr_not_equal(v, old);
	published = v;
	lsm_retire(old);
}

static inline void
publish_and_collect(Version *v)
{
	publish(v);
	ok(lsm_collect());
}

/* Entries in order become a table of level 0. A failure changes nothing. */
static inline Status
flush_array(const Entry *e, int n, const LsmState *state)
{
	Version *v;
	Iter *it = array_iter(e, n);
	Status st = lsm_flush(it, state, 0, &v);

	iter_close(it);
	if (st == ST_OK)
		publish(v);
	return st;
}

/* As after a start of the node. */
static inline void
reopen(void)
{
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
}

/* For fs_list(): *arg, an int, counts. */
static inline Status
count_name(void *arg, const char *name)
{
	(void) name;
	++*(int *) arg;
	return ST_OK;
}

#endif
