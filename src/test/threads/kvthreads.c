/*
 * kvthreads.c - the processes of a node as threads of one program, for the thread sanitizer.
 *
 * It sees no race between two processes on shared memory; between threads it does. What a process has for
 * itself is a thread's here (common/process_local.h). Backends write and read, the WAL writer and the
 * compaction worker do their steps, memtables and tables are so small that all of them are busy all the time:
 * log ring, gate and flush, memtables, superversions, block cache, the list of tables in the shared heap,
 * epochs, locks, slots.
 *
 * Each backend has keys of its own, whose values only rise: what any other reads may never fall.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../storage/kvstore_internal.h"
#include "common/elog.h"
#include "common/prng.h"
#include "ipc/delegate.h"
#include "ipc/epoch.h"
#include "ipc/latency.h"
#include "ipc/logclock.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/fs.h"

#define SLOTS 24
#define BACKENDS 3
#define KEYS 40 /* of each backend */
#define KEY_SIZE 32
#define VALUE_SIZE 700
#define NAP_US 2000

_Atomic unsigned threads_fence_word;

static _Atomic bool stop;
static uint64_t written[BACKENDS]
					   [KEYS]; /* the newest value of each key; its backend's, until that has ended */
static uint64_t ops = 1500, seed = 1;

#define CHECK(expr)                                                                                          \
	do {                                                                                                     \
		if (!(expr)) {                                                                                       \
			fprintf(stderr, "kvthreads: seed %llu: %s:%d: %s does not hold (%s)\n",                          \
					(unsigned long long) seed, __FILE__, __LINE__, #expr, status_detail());                  \
			abort();                                                                                         \
		}                                                                                                    \
	} while (0)
#define MUST(expr) CHECK((expr) == ST_OK)

/* ---- keys and values */
static Slice
key_of(int backend, int key, char out[KEY_SIZE])
{
	out[0] = KEYSPACE_USER;
	return slice_of(out, 1 + (size_t) snprintf(out + 1, KEY_SIZE - 1, "key-%02d-%04d", key, backend));
}

static uint64_t
number_of(const Entry *e)
{
	CHECK(e->value.len >= 8);
	return get_u64(e->value.data);
}

/* ---- a backend */
typedef struct Backend {
	int self;
	Prng random;
	uint64_t seen[BACKENDS][KEYS];
} Backend;

static void
see(Backend *b, int of, int key, Status st, const Entry *e)
{
	uint64_t number = st == ST_OK ? number_of(e) : 0;

	CHECK(st == ST_OK || st == ST_NOT_FOUND);
	CHECK(number >= b->seen[of][key]);
	b->seen[of][key] = number;
}

static void
write_some(Backend *b)
{
	int n = 1 + (int) prng_below(&b->random, 4);
	char key[KEY_SIZE], value[VALUE_SIZE] = "";
	Buf body = { 0 };
	uint64_t version;

	for (int i = 0; i < n; i++) {
		int k = (int) prng_below(&b->random, KEYS);
		Op op = { .kind = OP_PUT, .key = key_of(b->self, k, key) };

		put_u64((uint8_t *) value, ++written[b->self][k]);
		op.value = slice_of(value, 8 + prng_below(&b->random, VALUE_SIZE - 8));
		if (prng_below(&b->random, 4) == 0)
			op.condition = b->seen[b->self][k] > 0 ? COND_PRESENT : COND_NONE;
		MUST(op_encode(&body, &op));
	}
	MUST(kvstore_write(wal_generation(), &body, (uint32_t) n,
					   prng_below(&b->random, 8) == 0 ? ACK_LOCAL : ACK_QUORUM, 60000, false, &version));
	buf_free(&body);
}

static void
get_some(Backend *b)
{
	char text[KVSTORE_BATCH_MAX][KEY_SIZE];
	Slice key[KVSTORE_BATCH_MAX];
	Entry e[KVSTORE_BATCH_MAX];
	Status st[KVSTORE_BATCH_MAX];
	int of[KVSTORE_BATCH_MAX], k[KVSTORE_BATCH_MAX], n = 1 + (int) prng_below(&b->random, 16), done;
	Snapshot s;

	for (int i = 0; i < n; i++) {
		of[i] = (int) prng_below(&b->random, BACKENDS);
		k[i] = (int) prng_below(&b->random, KEYS);
		key[i] = key_of(of[i], k[i], text[i]);
	}
	kvstore_begin_read(&s, 0);
	if (n == 1) {
		st[0] = kvstore_get(&s, key[0], &e[0]);
		done = 1;
	} else
		done = kvstore_get_many(&s, key, n, e, st);
	for (int i = 0; i < done; i++)
		see(b, of[i], k[i], st[i], &e[i]);
	kvstore_end_read();
}

static void
scan_all(Backend *b)
{
	static const uint8_t first = KEYSPACE_USER, end = KEYSPACE_USER + 1;
	bool reverse = prng_below(&b->random, 2) == 0;
	char last[KEY_SIZE] = "";
	size_t last_len = 0;
	Snapshot s;
	Scan *sc;
	Entry e;
	Status st;

	kvstore_begin_read(&s, 0);
	MUST(kvstore_scan_open(&s, slice_of(&first, 1), slice_of(&end, 1), false, reverse, true, &sc));
	while ((st = kvstore_scan_next(sc, &e)) == ST_OK) {
		Slice before = slice_of(last, last_len);

		CHECK(last_len == 0 || (reverse ? slice_cmp(e.key, before) < 0 : slice_cmp(e.key, before) > 0));
		CHECK(e.key.len < sizeof last);
		last_len = e.key.len;
		memcpy(last, e.key.data, last_len);
		CHECK(e.value.len == 0 || number_of(&e) > 0);
	}
	CHECK(st == ST_NOT_FOUND || st == ST_BUSY);
	kvstore_scan_close(sc);
	kvstore_end_read();
}

static void *
backend(void *arg)
{
	Backend *b = arg;

	procslot_attach(PROC_AUX_COUNT + 1 + b->self, PROC_BACKEND);
	prng_seed(&b->random, seed * 100 + (uint64_t) b->self);
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t what = prng_below(&b->random, 100);

		if (what < 45)
			write_some(b);
		else if (what < 92)
			get_some(b);
		else if (what < 98)
			scan_all(b);
		else if (what < 99)
			MUST(kvstore_checkpoint(60000));
		else if (prng_below(&b->random, 4) == 0)
			MUST(kvstore_compact(60000));
	}
	procslot_detach();
	return NULL;
}

/* ---- workers */
static void *
walwriter(void *arg)
{
	uint32_t ms;

	(void) arg;
	procslot_attach(PROC_WALWRITER, PROC_WALWRITER);
	while (!atomic_load(&stop)) {
		uint32_t token = procslot_prepare_sleep();

		MUST(kvstore_walwriter_step(&ms));
		procslot_sleep(token, ms == 0 ? 1 : NAP_US);
	}
	procslot_detach();
	return NULL;
}

static void *
compactor(void *arg)
{
	bool did;

	(void) arg;
	procslot_attach(PROC_COMPACTOR, PROC_COMPACTOR);
	MUST(kvstore_compactor_open());
	while (!atomic_load(&stop)) {
		uint32_t token = procslot_prepare_sleep();

		MUST(kvstore_compactor_step(&did));
		procslot_sleep(token, did ? 1 : NAP_US);
	}
	procslot_detach();
	return NULL;
}

/* ---- a node */
static void *
memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static Status
no_sync(int fd)
{
	(void) fd;
	return ST_OK;
}

static Status
no_sync_dir(const char *path)
{
	(void) path;
	return ST_OK;
}

static void
make_memory(const Control *c)
{
	config.memtable_size = MEMTABLE_BYTES_ANY_RECORD;
	config.block_cache_size = 1 * MB;
	config.metadata_size = 1 * MB;
	config.wal_buffers = 66 * MB;
	procslot_shmem_init(memory(procslot_shmem_size(SLOTS)), SLOTS);
	lwlock_shmem_init(memory(lwlock_shmem_size()));
	epoch_shmem_init(memory(epoch_shmem_size()));
	latency_shmem_init(memory(latency_shmem_size()));
	logclock_shmem_init(memory(logclock_shmem_size()));
	MUST(delegate_shmem_init(memory(delegate_shmem_size(SLOTS)), SLOTS));
	procslot_attach(PROC_AUX_COUNT, PROC_BACKEND);
	MUST(kvstore_shmem_init(memory(kvstore_shmem_size(procslot_count())), c));
	config.memtable_size = 128 * 1024;
	config.table_size = 16 * 1024;
	config.l0_trigger = 2;
	config.level_ratio = 2;
	config.wal_keep = 0;
	config.disk_reserve = 0;
	config.wal_spare_segments = 1;
	config.snapshot_retention = 20;
	config.blob_threshold = 256;
}

static void
start(void)
{
	static FsOps quick;
	Control c;
	Lsn at, end;

	quick = fs_posix;
	quick.sync = quick.datasync = no_sync;
	quick.sync_dir = no_sync_dir;
	fs = &quick;
	config_init();
	MUST(control_make(&c, 65536));
	MUST(control_write(&c));
	MUST(kvstore_create(&c));
	make_memory(&c);
	MUST(kvstore_open());
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	logclock_begin_term(kvstore_applied_time(), clock_wall_ms());
	MUST(wal_begin_term(wal_term() + 1, logclock_now(), &at, &end));
	wal_open_gate();
	CHECK(commit_work(end));
}

/* What every key was written last is what there is. */
static void
check_all(void)
{
	Snapshot s;

	kvstore_begin_read(&s, 0);
	for (int b = 0; b < BACKENDS; b++) {
		for (int k = 0; k < KEYS; k++) {
			char key[KEY_SIZE];
			Entry e;
			Status st = kvstore_get(&s, key_of(b, k, key), &e);

			CHECK(st == (written[b][k] > 0 ? ST_OK : ST_NOT_FOUND));
			CHECK(st != ST_OK || number_of(&e) == written[b][k]);
		}
	}
	kvstore_end_read();
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void) st, (void) kind, (void) where;
	return remove(path);
}

static pthread_t
run(void *(*body)(void *arg), void *arg)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, body, arg) == 0);
	return t;
}

static void
live(void)
{
	static Backend backends[BACKENDS];
	pthread_t thread[BACKENDS], wal = run(walwriter, NULL), compaction = run(compactor, NULL);

	for (int i = 0; i < BACKENDS; i++) {
		backends[i].self = i;
		thread[i] = run(backend, &backends[i]);
	}
	for (int i = 0; i < BACKENDS; i++)
		CHECK(pthread_join(thread[i], NULL) == 0);
	atomic_store(&stop, true);
	CHECK(pthread_join(wal, NULL) == 0 && pthread_join(compaction, NULL) == 0);
}

int
main(int argc, char **argv)
{
	char dir[] = "/tmp/kvthreads-XXXXXX";
	LsmStats s;

	if (argc > 1)
		ops = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 10);
	elog_setup(2, LOG_LEVEL_ERROR, false);
	CHECK(mkdtemp(dir) != NULL && chdir(dir) == 0);
	start();
	live();
	check_all();
	lsm_stats(&s);
	printf("kvthreads: seed %llu, %d backends, %llu operations each, %llu flushes, %llu compactions\n",
		   (unsigned long long) seed, BACKENDS, (unsigned long long) ops, (unsigned long long) s.flushes,
		   (unsigned long long) s.compactions);
	CHECK(chdir("/") == 0);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
