/*
 * table_test.h - what the table tests share: shared memory, a temporary directory, a model, a builder.
 * Who includes it says CACHE_BYTES.
 */
#ifndef TABLE_TEST_H
#define TABLE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/prng.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/fs.h"
#include "port/proc.h"
#include "storage/cache.h"
#include "storage/sstable.h"

#define assert_ok(expr) \
	do { \
		Status assert_ok_ = (expr); \
		if (assert_ok_ != ST_OK) \
			fail_msg("%s: %s: %s", #expr, status_name(assert_ok_), status_detail()); \
	} while (0)

static char test_dir[256];
static void *test_shm[4];
static size_t test_cache_bytes;

/* Slots, epochs, locks, a cache; a fresh directory with "tables" in it as working directory; pinned. */
static inline void
test_start(size_t cache_bytes)
{
	const char *tmp = getenv("TMPDIR");

	test_shm[0] = calloc(1, procslot_shmem_size(8) + 64);
	test_shm[1] = calloc(1, epoch_shmem_size() + 64);
	test_shm[2] = calloc(1, lwlock_shmem_size() + 64);
	test_cache_bytes = cache_shmem_size(cache_bytes) + 64;
	if (proc_shm_map(test_cache_bytes, &test_shm[3]) != ST_OK)
		abort();
	procslot_shmem_init((void *) (((uintptr_t) test_shm[0] + 63) & ~(uintptr_t) 63), 8);
	epoch_shmem_init((void *) (((uintptr_t) test_shm[1] + 63) & ~(uintptr_t) 63));
	lwlock_shmem_init((void *) (((uintptr_t) test_shm[2] + 63) & ~(uintptr_t) 63));
	cache_shmem_init((void *) (((uintptr_t) test_shm[3] + 63) & ~(uintptr_t) 63), cache_bytes);
	procslot_attach(PROC_BACKEND, PROC_BACKEND);
	snprintf(test_dir, sizeof(test_dir), "%s/kvd-table-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(test_dir) == NULL || chdir(test_dir) != 0)
		abort();
	assert_ok(fs_mkdir("tables"));
	epoch_pin(0);
}

static inline Status
test_unlink(void *arg, const char *name)
{
	char path[FS_PATH_MAX];

	(void) arg;
	snprintf(path, sizeof(path), "tables/%s", name);
	return fs_unlink(path);
}

static inline void
test_end(void)
{
	epoch_unpin();
	procslot_detach();
	table_files_close_all();
	assert_ok(fs_list("tables", test_unlink, NULL));
	if (rmdir("tables") != 0 || chdir("/") != 0 || rmdir(test_dir) != 0)
		abort();
	for (int i = 0; i < 3; i++)
		free(test_shm[i]);
	proc_shm_unmap(test_shm[3], test_cache_bytes);
}

/* For cmocka_run_group_tests(). */
static inline int
test_setup(void **state)
{
	(void) state;
	test_start(CACHE_BYTES);
	return 0;
}

static inline int
test_teardown(void **state)
{
	(void) state;
	test_end();
	return 0;
}

/* Entries in order, owning their bytes. */
typedef struct Model {
	Entry *e;
	size_t n, cap;
} Model;

static inline void
model_add(Model *m, const void *key, size_t klen, uint64_t version, EntryKind kind, uint64_t expire,
          const void *value, size_t vlen)
{
	uint8_t *k = malloc(klen + vlen + 1);

	memcpy(k, key, klen);
	if (vlen > 0)
		memcpy(k + klen, value, vlen);
	if (m->n == m->cap)
		m->e = realloc(m->e, (m->cap = m->cap * 2 + 64) * sizeof(Entry));
	m->e[m->n++] = (Entry){ { k, klen }, { k + klen, vlen }, version, expire, kind };
}

static inline int
model_order(const void *a, const void *b)
{
	const Entry *x = a, *y = b;

	return entry_cmp(x->key, x->version, y->key, y->version);
}

/* Sort and drop equal (key, version) pairs. */
static inline void
model_sort(Model *m)
{
	size_t n = 0;

	qsort(m->e, m->n, sizeof(Entry), model_order);
	for (size_t i = 0; i < m->n; i++) {
		if (n > 0 && model_order(&m->e[n - 1], &m->e[i]) == 0)
			free((void *) (uintptr_t) m->e[i].key.data);
		else
			m->e[n++] = m->e[i];
	}
	m->n = n;
}

static inline void
model_free(Model *m)
{
	for (size_t i = 0; i < m->n; i++)
		free((void *) (uintptr_t) m->e[i].key.data);
	free(m->e);
	*m = (Model){ 0 };
}

/* First entry at or after (key, version); m->n if none. */
static inline size_t
model_seek(const Model *m, Slice key, uint64_t version)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (entry_cmp(m->e[mid].key, m->e[mid].version, key, version) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static inline void
build_table_as(const Model *m, uint64_t number, uint32_t bits, TableCodec codec, TableInfo *info)
{
	TableBuildOptions opt = { number, number * UINT64_C(0x9e3779b97f4a7c15), bits, m->n, codec };
	Buf small = { 0 }, large = { 0 };
	TableBuilder *b;

	assert_ok(table_builder_open(&opt, &b));
	for (size_t i = 0; i < m->n; i++)
		assert_ok(table_builder_add(b, &m->e[i]));
	assert_ok(table_builder_finish(b, info, &small, &large));
	assert_int_equal(info->entries, m->n);
	assert_true(slice_eq(slice_buf(&small), m->e[0].key));
	assert_true(slice_eq(slice_buf(&large), m->e[m->n - 1].key));
	buf_free(&small);
	buf_free(&large);
}

static inline void
build_table(const Model *m, uint64_t number, uint32_t bits, TableInfo *info)
{
	build_table_as(m, number, bits, TABLE_CODEC_NONE, info);
}

static inline bool
same_entry(const Entry *a, const Entry *b)
{
	return slice_eq(a->key, b->key) && slice_eq(a->value, b->value) && a->version == b->version &&
		a->expire_ms == b->expire_ms && a->kind == b->kind;
}

#endif
