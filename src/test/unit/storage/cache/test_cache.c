/*
 * test_cache.c - the block cache: what it promises about sizes, replacement, pins, and racing processes.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/hash.h"
#include "common/prng.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/proc.h"
#include "storage/cache.h"

#define SLOTS (PROC_BACKEND + 5) /* this process and four more */
#define CACHE_SLACK 64 /* the test's own alignment, for the canary after the cache */

static uint8_t *shm;
static size_t shm_bytes, cache_bytes;

static size_t
round64(size_t n)
{
	return (n + 63) & ~(size_t) 63;
}

static void
start(size_t bytes)
{
	size_t slots = round64(procslot_shmem_size(SLOTS)), epochs = round64(epoch_shmem_size()),
	       locks = round64(lwlock_shmem_size());

	cache_bytes = bytes;
	shm_bytes = slots + epochs + locks + round64(cache_shmem_size(bytes)) + CACHE_SLACK;
	assert_int_equal(proc_shm_map(shm_bytes, (void **) &shm), ST_OK);
	procslot_shmem_init(shm, SLOTS);
	epoch_shmem_init(shm + slots);
	lwlock_shmem_init(shm + slots + epochs);
	memset(shm + slots + epochs + locks, 0xee, bytes); /* as after a crash: it may hold anything */
	cache_shmem_init(shm + slots + epochs + locks, bytes);
	memset(shm + shm_bytes - CACHE_SLACK, 0xa5, CACHE_SLACK);
	procslot_attach(PROC_BACKEND, PROC_BACKEND);
}

static void
stop(void)
{
	for (size_t i = shm_bytes - CACHE_SLACK; i < shm_bytes; i++)
		assert_int_equal(shm[i], 0xa5); /* nothing beyond its bytes */
	procslot_detach();
	proc_shm_unmap(shm, shm_bytes);
}

/* A block that says what it is: its first 16 bytes and all others follow from (file, offset). */
static Slice
block_for(uint64_t file, uint64_t offset, uint8_t buf[CACHE_BLOCK_MAX])
{
	size_t len = 64 + hash_mix(file ^ offset << 7) % (CACHE_BLOCK_MAX - 63);
	uint64_t x = hash_mix(file * 31 + offset);

	memset(buf, (int) (x & 0xff), len);
	memcpy(buf, &file, 8);
	memcpy(buf + 8, &offset, 8);
	return slice_of(buf, len);
}

static bool
is_block(Slice got, uint64_t file, uint64_t offset)
{
	uint8_t buf[CACHE_BLOCK_MAX];

	return slice_eq(got, block_for(file, offset, buf));
}

static bool
insert(uint64_t file, uint64_t offset, CacheUse use)
{
	uint8_t buf[CACHE_BLOCK_MAX];
	Slice out;
	bool done = cache_insert(file, offset, block_for(file, offset, buf), use, &out);

	if (done)
		assert_true(is_block(out, file, offset) && out.data != buf);
	return done;
}

static bool
lookup(uint64_t file, uint64_t offset)
{
	static unsigned calls;
	CacheProbe p;
	Slice out;
	bool found;

	switch (calls++ % 3) { /* at once, and in steps with and without the fetch */
	case 0:
		found = cache_lookup(file, offset, CACHE_POINT, &out);
		break;
	case 1:
		cache_probe_begin(&p, file, offset);
		found = cache_probe_get(&p, CACHE_POINT, &out);
		break;
	default:
		cache_probe_begin(&p, file, offset);
		cache_probe_fetch(&p, 64, CACHE_BLOCK_MAX - 64);
		found = cache_probe_get(&p, CACHE_POINT, &out);
	}
	if (found)
		assert_true(is_block(out, file, offset));
	return found;
}

static uint64_t
frames_total(void)
{
	CacheStats s;

	cache_stats(&s);
	return s.frames_total;
}

static void
test_block_sizes(void **state)
{
	uint8_t buf[CACHE_BLOCK_MAX + 1];
	size_t sizes[] = { 0, 1, CACHE_BLOCK_MAX - 1, CACHE_BLOCK_MAX, CACHE_BLOCK_MAX + 1 };
	CacheStats s;
	Slice out;

	(void) state;
	start(CACHE_BYTES_MIN);
	epoch_pin(0);
	for (size_t i = 0; i < 5; i++) {
		bool fits = sizes[i] <= CACHE_BLOCK_MAX;

		memset(buf, (int) i + 1, sizeof(buf));
		assert_false(cache_lookup(1, i, CACHE_POINT, &out));
		assert_int_equal(cache_insert(1, i, slice_of(buf, sizes[i]), CACHE_POINT, &out), fits);
		assert_int_equal(cache_lookup(1, i, CACHE_POINT, &out), fits);
		if (fits)
			assert_true(slice_eq(out, slice_of(buf, sizes[i])));
	}
	cache_stats(&s);
	assert_int_equal(s.bypassed, 1);
	assert_int_equal(s.inserts, 4);
	assert_int_equal(s.frames_used, 4);
	assert_int_equal(s.hits, 4);
	assert_int_equal(s.misses, 6);
	epoch_unpin();
	stop();
}

/* The bytes given hold everything; few of them are lost to index and headers. */
static void
test_memory_sizes(void **state)
{
	size_t sizes[] = { CACHE_BYTES_MIN, CACHE_BYTES_MIN + 1, 3000001, 8 << 20, (64 << 20) - 1 };

	(void) state;
	for (size_t i = 0; i < 5; i++) {
		uint64_t frames;

		start(sizes[i]);
		frames = frames_total();
		assert_true(frames * CACHE_BLOCK_MAX <= sizes[i]);
		assert_true(frames * CACHE_BLOCK_MAX >= sizes[i] / 100 * 94);
		for (uint64_t n = 0; n < frames * 2; n++) {
			epoch_pin(0);
			assert_true(insert(n / 1000, n, n % 2 == 0 ? CACHE_SCAN : CACHE_POINT));
			epoch_unpin();
		}
		stop();
	}
}

static void
test_insert_twice(void **state)
{
	Slice first, second;
	uint8_t a[CACHE_BLOCK_MAX];
	CacheStats s;

	(void) state;
	start(CACHE_BYTES_MIN);
	epoch_pin(0);
	assert_true(cache_insert(7, 8, block_for(7, 8, a), CACHE_POINT, &first));
	assert_true(cache_insert(7, 8, block_for(7, 8, a), CACHE_POINT, &second));
	assert_ptr_equal(first.data, second.data);
	cache_stats(&s);
	assert_int_equal(s.inserts, 1);
	epoch_unpin();
	stop();
}

/* Blocks that are asked for again and again stay while scans pass through. */
static void
test_replacement(void **state)
{
	uint64_t hot, lost = 0;

	(void) state;
	start(4 * CACHE_BYTES_MIN);
	hot = frames_total() / 2;
	for (uint64_t i = 0; i < hot; i++) {
		epoch_pin(0);
		assert_true(insert(1, i, CACHE_POINT));
		epoch_unpin();
	}
	for (uint64_t n = 0; n < hot * 20; n++) {
		epoch_pin(0);
		(void) insert(2, n, CACHE_SCAN);
		for (uint64_t i = n * 4; i < n * 4 + 4; i++) { /* each hot block four times per turn of the clock */
			if (!lookup(1, i % hot)) {
				lost++;
				(void) insert(1, i % hot, CACHE_POINT);
			}
		}
		epoch_unpin();
	}
	assert_true(lost < hot / 20);
	stop();
}

/* What one pin saw never changes under it; when all that is free is used up, inserts are refused. */
/* Rounds of the clock that a block of each use outlives when nobody asks for it. */
static void
test_uses(void **state)
{
	static const CacheUse uses[] = { CACHE_SCAN, CACHE_POINT, CACHE_STAY };
	uint64_t frames, next = 0;
	int seen[3] = { 0 };

	(void) state;
	start(4 * CACHE_BYTES_MIN);
	frames = frames_total();
	for (int u = 0; u < 3; u++) {
		epoch_pin(0);
		assert_true(insert(1, (uint64_t) u, CACHE_SCAN));
		assert_true(cache_lookup(1, (uint64_t) u, uses[u], &(Slice){ 0 }));
		/* a lower use does not lower it */
		assert_true(cache_lookup(1, (uint64_t) u, CACHE_SCAN, &(Slice){ 0 }));
		epoch_unpin();
	}
	while (seen[2] == 0) { /* a round at a time, without asking: the index alone is looked at, in the end */
		for (uint64_t n = 0; n < frames; n++) {
			epoch_pin(0);
			(void) insert(2, next++, CACHE_SCAN);
			epoch_unpin();
		}
		epoch_pin(0);
		for (int u = 0; u < 3; u++)
			if (seen[u] == 0 && !cache_lookup(1, (uint64_t) u, CACHE_SCAN, &(Slice){ 0 }))
				seen[u] = (int) (next / frames);
		epoch_unpin();
	}
	print_message("gone after rounds: scan %d, point %d, stay %d\n", seen[0], seen[1], seen[2]);
	assert_true(seen[0] < seen[1] && seen[1] < seen[2]);
	assert_true(seen[2] >= 3 && seen[2] <= 5);
	stop();
}

static void
test_pin_protects(void **state)
{
	uint64_t total, refused = 0;
	Slice *seen;

	(void) state;
	start(CACHE_BYTES_MIN);
	total = frames_total();
	seen = calloc(total * 4, sizeof(*seen));
	epoch_pin(0);
	for (uint64_t i = 0; i < total * 4; i++) {
		uint8_t buf[CACHE_BLOCK_MAX];

		if (!cache_insert(3, i, block_for(3, i, buf), CACHE_POINT, &seen[i])) {
			seen[i].data = NULL;
			refused++;
		}
	}
	for (uint64_t i = 0; i < total * 4; i++)
		if (seen[i].data != NULL)
			assert_true(is_block(seen[i], 3, i));
	/* no frame was used twice, and the long pin did not empty the cache */
	assert_true(refused >= total * 3);
	assert_true(refused < total * 3 + total / 4);
	epoch_unpin();
	epoch_pin(0);
	for (refused = 0; !insert(4, 1, CACHE_POINT); refused++) /* pins are looked at every fourth time */
		assert_true(refused < 4);
	assert_true(lookup(4, 1));
	epoch_unpin();
	free(seen);
	stop();
}

/* Insert and evict for long, a model of what was ever inserted beside it: found blocks are right. */
static void
test_random(void **state)
{
	Prng g;
	uint64_t hits = 0, found = 0;
	CacheStats s;

	(void) state;
	print_message("seed 42\n");
	prng_seed(&g, 42);
	start(CACHE_BYTES_MIN);
	for (int i = 0; i < 100000; i++) {
		uint64_t file = prng_below(&g, 4), offset = prng_below(&g, 200);

		epoch_pin(0);
		if (lookup(file, offset))
			hits++;
		else
			(void) insert(file, offset, prng_below(&g, 2) == 0);
		assert_false(lookup(file + 10, offset));
		epoch_unpin();
	}
	assert_true(hits > 20000);
	/* nothing that is in a frame has become unfindable */
	epoch_pin(0);
	for (uint64_t i = 0; i < 4 * 200; i++)
		found += lookup(i / 200, i % 200);
	epoch_unpin();
	cache_stats(&s);
	assert_int_equal(found, s.frames_used);
	stop();
}

static uint64_t
inverse(uint64_t odd)
{
	uint64_t x = odd;

	for (int i = 0; i < 6; i++) /* Newton: each step doubles the right bits */
		x *= 2 - odd * x;
	return x;
}

/* The number that hash_mix() takes to y. */
static uint64_t
unmix(uint64_t y)
{
	y = y ^ y >> 31 ^ y >> 62;
	y *= inverse(UINT64_C(0x94d049bb133111eb));
	y = y ^ y >> 27 ^ y >> 54;
	y *= inverse(UINT64_C(0xbf58476d1ce4e5b9));
	return y ^ y >> 30 ^ y >> 60;
}

/* Blocks of different files at one offset whose hashes agree in all that the index keeps of them. */
static void
test_equal_tags(void **state)
{
	uint64_t mult = UINT64_C(0x9e3779b97f4a7c15), offset = 4096, files[40];

	(void) state;
	start(CACHE_BYTES_MIN);
	epoch_pin(0);
	for (uint64_t i = 0; i < 40; i++) {
		files[i] = (unmix(i << 48 | UINT64_C(0x12345)) - offset) * inverse(mult);
		assert_int_equal(hash_mix(files[i] * mult + offset) & UINT32_MAX, 0x12345);
		assert_false(lookup(files[i], offset));
		assert_true(insert(files[i], offset, CACHE_POINT));
	}
	for (uint64_t i = 0; i < 40; i++)
		assert_true(lookup(files[i], offset));
	epoch_unpin();
	stop();
}

/* One that is held up while it has a pin keeps the others from evicting: they go on until there was enough of it. */
static bool
enough(void)
{
	CacheStats s;

	cache_stats(&s);
	return s.evictions > 1000 && s.hits > 1000;
}

/* One process of the stress: keep looking at blocks for the whole pin. */
static void
stress(int slot, uint64_t seed)
{
	Prng g;

	alarm(300); /* never enough */
	my_slot = NULL;
	my_slot_no = -1;
	procslot_attach(slot, PROC_BACKEND);
	prng_seed(&g, seed);
	for (int round = 0; round < 3000 || !enough(); round++) {
		Slice held[16];
		uint64_t which[16];
		int n = 1 + (int) prng_below(&g, 16);

		epoch_pin(0);
		for (int i = 0; i < n; i++) {
			uint8_t buf[CACHE_BLOCK_MAX];

			which[i] = prng_below(&g, 600);
			if (!cache_lookup(which[i] % 3, which[i], CACHE_POINT, &held[i]) &&
				!cache_insert(which[i] % 3, which[i], block_for(which[i] % 3, which[i], buf), CACHE_POINT, &held[i]))
				held[i].data = NULL;
			if (held[i].data != NULL && !is_block(held[i], which[i] % 3, which[i]))
				_exit(10);
		}
		for (int i = 0; i < n; i++)
			if (held[i].data != NULL && !is_block(held[i], which[i] % 3, which[i]))
				_exit(11);
		epoch_unpin();
	}
	procslot_detach();
	_exit(0);
}

static void
test_processes(void **state)
{
	CacheStats s;
	pid_t pids[4];

	(void) state;
	start(CACHE_BYTES_MIN);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			stress(PROC_BACKEND + 1 + i, 100 + (uint64_t) i);
	}
	for (int i = 0; i < 4; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_true(enough());
	cache_stats(&s);
	print_message("hits %llu inserts %llu evictions %llu bypassed %llu\n", (unsigned long long) s.hits,
	              (unsigned long long) s.inserts, (unsigned long long) s.evictions,
	              (unsigned long long) s.bypassed);
	stop();
}

/* ---- what a hit writes */
#define FAULTED 12
#define HITS 200 /* fewer than after which a process adds its hits to the shared count (HITS_FLUSH) */

static void
faulted(int signo)
{
	(void) signo;
	_exit(FAULTED);
}

/* In a child, where nothing that is shared can be written: look the block up again and again. Exit code 0: found. */
static void
look_without_writing(CacheUse use)
{
	signal(SIGSEGV, faulted);
	signal(SIGBUS, faulted);
	if (mprotect(shm, shm_bytes, PROT_READ) != 0)
		_exit(10);
	for (int i = 0; i < HITS; i++) {
		CacheProbe p;
		Slice out;

		if (i % 3 == 0) {
			if (!cache_lookup(7, 4096, use, &out))
				_exit(11);
			continue;
		}
		cache_probe_begin(&p, 7, 4096);
		if (i % 3 == 1)
			cache_probe_fetch(&p, 0, 64);
		if (!cache_probe_get(&p, use, &out) || !is_block(out, 7, 4096))
			_exit(11);
	}
	_exit(0);
}

static int
child_looks(CacheUse use)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		look_without_writing(use);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Readers on many processors must not take one line from each other: a hit writes only what is too low. */
static void
test_hit_writes_nothing_shared(void **state)
{
	static const CacheUse uses[] = { CACHE_SCAN, CACHE_POINT, CACHE_STAY };
	Slice out;

	(void) state;
	for (size_t has = 0; has < 3; has++) {
		start(CACHE_BYTES_MIN);
		epoch_pin(0);
		assert_true(insert(7, 4096, CACHE_SCAN));
		assert_true(cache_lookup(7, 4096, uses[has], &out));
		for (size_t use = 0; use < 3; use++)
			assert_int_equal(child_looks(uses[use]), use <= has ? 0 : FAULTED);
		epoch_unpin();
		stop();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block_sizes),
		cmocka_unit_test(test_memory_sizes),
		cmocka_unit_test(test_insert_twice),
		cmocka_unit_test(test_replacement),
		cmocka_unit_test(test_uses),
		cmocka_unit_test(test_pin_protects),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_equal_tags),
		cmocka_unit_test(test_hit_writes_nothing_shared),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
