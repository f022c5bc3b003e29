/* The ring: wrap, bounds, room, reading; concurrent inserters in threads (for the thread sanitizer). */
#include "wal_test.h"

#include <pthread.h>

#include "common/crc32c.h"
#include "common/prng.h"

static int
setup(void **state)
{
	(void) state;
	wal_test_dir(TEST_SEGMENT * 4);
	return 0;
}

static uint64_t
size_at(uint64_t ring, uint64_t record_max)
{
	return WAL_RING_RECORDS * record_max + WAL_RING_RESERVE + ring;
}

static void
test_ring_must_hold_four(void **state)
{
	uint64_t least = (size_at(0, KV_RECORD_MAX) + 4095) & ~UINT64_C(4095);

	(void) state;
	assert_status(wal_test_memory(least - 1, KV_RECORD_MAX), ST_BAD_SETTING);
	assert_non_null(strstr(status_detail(), "wal_buffers"));
	assert_status(wal_test_memory(least - 4096, KV_RECORD_MAX), ST_BAD_SETTING);
	assert_ok(wal_test_memory(least, KV_RECORD_MAX));
	assert_ok(wal_test_memory(least + 1, KV_RECORD_MAX));
	assert_true(least <= 66 << 20); /* the setting's minimum */
}

static void
test_record_bounds(void **state)
{
	WalRecovery rec;
	size_t most = TEST_RECORD_MAX - WAL_HEADER_SIZE;
	Lsn end;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	wal_test_insert(1, most - 1);
	wal_test_insert(2, most);
	assert_status(wal_test_try(3, most + 1, &end), ST_BATCH_TOO_LARGE);
	end = wal_inserted();
	wal_test_insert(4, 0);
	assert_int_equal(wal_inserted(), end + WAL_HEADER_SIZE);
	wal_test_flush();
	wal_test_start(&rec);
	assert_int_equal(rec.end, wal_inserted());
}

static void
test_largest_real_record(void **state)
{
	size_t most = KV_RECORD_MAX - WAL_HEADER_SIZE;
	uint8_t *body = calloc(1, most + 1);
	Slice part = slice_of(body, most);
	uint32_t g;
	Lsn start, end;
	WalRecovery rec;
	WalReader *reader;
	WalRecord r;

	(void) state;
	wal_test_no_sync();
	wal_test_control.wal_segment_size = 1 << 20; /* a record spans many segments */
	assert_ok(wal_create(&wal_test_control));
	assert_ok(wal_test_memory(66 << 20, KV_RECORD_MAX));
	assert_ok(wal_recover(wal_first_lsn(&wal_test_control), 0, &rec));
	g = wal_test_open();
	memset(body, 0xa5, most);
	part.len = most + 1;
	assert_status(wal_insert(g, WAL_WRITE, 1, 0, &part, 1, &start, &end), ST_BATCH_TOO_LARGE);
	part.len = most;
	assert_ok(wal_insert(g, WAL_WRITE, 1, 0, &part, 1, &start, &end));
	assert_int_equal(end - start, KV_RECORD_MAX);
	wal_test_flush();
	assert_ok(wal_test_memory(66 << 20, KV_RECORD_MAX));
	assert_ok(wal_recover(wal_first_lsn(&wal_test_control), 0, &rec));
	assert_int_equal(rec.end, end);
	assert_ok(wal_reader_open(start, end, &reader));
	assert_ok(wal_reader_next(reader, &r));
	assert_true(slice_eq(r.body, part));
	wal_reader_close(reader);
	free(body);
}

/* Insert until BUSY; records of `len` bytes. Returns how many. */
static uint32_t
fill_ring(uint32_t tag, size_t len)
{
	Status s;
	uint32_t n = 0;
	Lsn end;

	while ((s = wal_test_try(tag + n, len, &end)) == ST_OK)
		n++;
	assert_status(s, ST_BUSY);
	return n;
}

static void
test_room_and_reserve(void **state)
{
	static uint8_t big[TEST_RECORD_MAX - WAL_HEADER_SIZE];
	Slice part = slice_of(big, sizeof big);
	WalRecovery rec;
	Lsn base, start, end;
	uint32_t g;
	WalStats stats;
	int config = 0, stuck;
	Status s;

	(void) state;
	wal_test_start(&rec);
	g = wal_test_open();
	base = wal_durable();
	wal_release_ring(base);
	/* Down to the last byte: the ring without its reserve. */
	while (base + TEST_RING - WAL_RING_RESERVE - wal_inserted() > 2 * TEST_RECORD_MAX)
		wal_test_insert(0, TEST_RECORD_MAX - 48);
	wal_test_insert(1, (size_t) (base + TEST_RING - WAL_RING_RESERVE - wal_inserted()) / 2 / 8 * 8 - 40);
	wal_test_insert(2, (size_t) (base + TEST_RING - WAL_RING_RESERVE - wal_inserted()) - 40 - 40);
	assert_status(wal_test_try(3, 1, &end), ST_BUSY); /* 48 bytes into 40 */
	wal_test_insert(3, 0);
	assert_int_equal(wal_inserted(), base + TEST_RING - WAL_RING_RESERVE);
	assert_status(wal_test_try(3, 0, &end), ST_BUSY);
	wal_stats(&stats);
	assert_int_equal(stats.ring_full, 2);
	/* TIME and CONFIG go on into the reserve, down to the last byte that is not for TERM records. */
	assert_ok(wal_insert(g, WAL_TIME, 0, 5, NULL, 0, &start, &end));
	while ((s = wal_insert(g, WAL_CONFIG, 0, 5, &part, 1, &start, &end)) == ST_OK)
		config++;
	assert_status(s, ST_BUSY);
	assert_int_equal(config, (WAL_RING_RESERVE - WAL_RING_TERMS - WAL_HEADER_SIZE) / TEST_RECORD_MAX);
	part.len = (size_t) (base + TEST_RING - WAL_RING_TERMS - wal_inserted()) - WAL_HEADER_SIZE;
	part.len++;
	assert_status(wal_insert(g, WAL_CONFIG, 0, 5, &part, 1, &start, &end), ST_BUSY);
	part.len--;
	assert_ok(wal_insert(g, WAL_CONFIG, 0, 5, &part, 1, &start, &end));
	assert_int_equal(end, base + TEST_RING - WAL_RING_TERMS);
	assert_status(wal_insert(g, WAL_TIME, 0, 5, NULL, 0, &start, &end), ST_BUSY);
	/* Written alone or applied alone makes no room. */
	assert_true(wal_flush());
	assert_status(wal_insert(g, WAL_TIME, 0, 5, NULL, 0, &start, &end), ST_BUSY);
	assert_true(wal_close_gate(100, &stuck));
	for (uint64_t term = 5; wal_inserted() + WAL_TERM_RECORD_SIZE <= base + TEST_RING; term++)
		assert_ok(wal_test_begin(term, 1, &end));
	assert_status(wal_test_begin(1000, 1, &end), ST_BUSY);
	wal_release_ring(wal_durable());
	assert_ok(wal_test_begin(1000, 1, &end));
}

static void
test_applied_alone_makes_no_room(void **state)
{
	WalRecovery rec;
	Lsn end;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	wal_release_ring(wal_durable());
	fill_ring(1, 200);
	wal_release_ring(wal_inserted());
	assert_status(wal_test_try(0, 200, &end), ST_BUSY);
	assert_true(wal_flush());
	assert_ok(wal_test_try(0, 200, &end));
}

static void
test_wrap_and_read(void **state)
{
	WalRecovery rec;
	Prng prng;
	Buf scratch = { 0 };
	Lsn at, first;
	uint32_t tag = 0;

	(void) state;
	prng_seed(&prng, 7);
	wal_test_no_sync();
	wal_test_start(&rec);
	wal_test_open();
	at = first = wal_inserted();
	while (at < first + 6 * TEST_RING) {
		uint32_t n = (uint32_t) prng_below(&prng, 60), begin = tag;
		size_t len[60];

		for (uint32_t i = 0; i < n; i++) {
			len[i] = (size_t) prng_below(&prng, TEST_RECORD_MAX - WAL_HEADER_SIZE + 1);
			wal_test_insert(tag++, len[i]);
		}
		for (uint32_t i = 0; i < n; i++) {
			WalRecord r;

			assert_ok(wal_ring_read(at, &scratch, &r));
			assert_true(wal_test_is(&r, begin + i, len[i]));
			assert_int_equal(r.end, at + wal_record_size(len[i]));
			at = r.end;
		}
		assert_int_equal(at, wal_inserted());
		wal_test_flush();
	}
	buf_free(&scratch);
	wal_test_start(&rec);
	assert_int_equal(rec.end, at);
}

static void
test_read_too_old(void **state)
{
	WalRecovery rec;
	Buf scratch = { 0 };
	WalRecord r;
	Lsn first, before;

	(void) state;
	wal_test_no_sync();
	wal_test_start(&rec);
	wal_test_open();
	first = wal_inserted();
	wal_test_insert(0, 960); /* 1000 bytes each: the ring is no multiple */
	while (wal_inserted() - first + 1000 <= TEST_RING) {
		wal_test_flush();
		wal_test_insert(1, 960);
	}
	assert_ok(wal_ring_read(first, &scratch, &r));
	wal_test_flush();
	wal_test_insert(1, 960);
	assert_status(wal_ring_read(first, &scratch, &r), ST_NOT_FOUND);
	assert_ok(wal_ring_read(first + 1000, &scratch, &r));
	wal_test_flush();
	before = wal_inserted();
	wal_test_start(&rec);
	assert_int_equal(rec.end, before);
	assert_true(wal_ring_floor() >= rec.commit_hint);
	wal_test_open();
	assert_ok(wal_ring_read(before, &scratch, &r));
	buf_free(&scratch);
}

/* After a start the ring holds what may not be committed yet: a leader has it to send from nowhere else. */
static void
test_uncommitted_kept(void **state)
{
	WalRecovery rec;
	Buf scratch = { 0 };
	WalRecord r;
	Lsn committed, end;
	bool did = false;

	(void) state;
	wal_test_no_sync();
	wal_test_start(&rec);
	wal_set_alone_limit(0); /* others have a say */
	wal_test_open();
	wal_test_insert(0, 960);
	wal_test_flush();
	committed = wal_inserted();
	wal_set_commit(committed);
	wal_test_insert(1, 960);
	wal_test_insert(2, 960);
	wal_test_flush();
	end = wal_inserted();
	while (!did)
		assert_ok(wal_update_mark(&did));
	assert_ok(wal_test_recover(&rec));
	assert_int_equal(rec.commit_hint, committed);
	assert_int_equal(wal_ring_floor(), committed);
	assert_status(wal_ring_read(committed - 1000, &scratch, &r), ST_NOT_FOUND);
	assert_ok(wal_ring_read(committed, &scratch, &r));
	assert_int_equal(r.body.len, 960);
	assert_ok(wal_ring_read(r.end, &scratch, &r));
	assert_int_equal(r.end, end);
	/* All of it, also if that is all that a leader's ring could take. */
	wal_set_commit(committed);
	wal_release_ring(committed);
	wal_test_open();
	while (wal_test_try(3, 960, &end) == ST_OK)
		;
	wal_test_flush();
	assert_ok(wal_test_recover(&rec));
	assert_int_equal(rec.end, wal_inserted());
	assert_int_equal(rec.commit_hint, committed);
	assert_int_equal(wal_ring_floor(), committed);
	assert_ok(wal_ring_read(committed, &scratch, &r));
	assert_ok(wal_test_begin(9, 1, &end)); /* and it can lead, to get it committed */
	buf_free(&scratch);
}

/* Nobody writes the mark for long: a flush does, before more than a ring follows what it knows to be committed. */
static void
test_mark_stays_near(void **state)
{
	WalRecovery rec;

	(void) state;
	wal_test_no_sync();
	wal_test_start(&rec);
	wal_set_alone_limit(0); /* others have a say */
	wal_test_open();
	for (Lsn until = wal_inserted() + 3 * TEST_RING; wal_inserted() < until;) {
		wal_test_insert(1, 960);
		wal_test_flush();
		wal_set_commit(wal_inserted());
		wal_release_ring(wal_inserted());
	}
	assert_ok(wal_test_recover(&rec));
	assert_true(rec.end - rec.commit_hint <= TEST_RING / 2 + 1000);
	assert_true(wal_ring_floor() <= rec.commit_hint);
}

static void
test_last_position(void **state)
{
	WalRecovery rec;
	Lsn end;

	(void) state;
	wal_test_start(&rec);
	wal_test_open();
	/* As if 2 PiB had been written: every position moves up, a few records before the last. */
	end = WAL_LSN_MAX - 48;
	atomic_store(&wal_sh->written, end);
	atomic_store(&wal_sh->durable, end);
	atomic_store(&wal_sh->released, end);
	atomic_store(&wal_sh->reserve, wal_word(wal_generation(), end));
	assert_status(wal_test_try(0, 9, &end), ST_INTERNAL);
	assert_int_equal(wal_test_insert(0, 8), WAL_LSN_MAX);
	assert_int_equal(wal_inserted(), WAL_LSN_MAX);
	assert_status(wal_test_try(0, 0, &end), ST_INTERNAL);
}

/* ---- threads stand for processes: the ring takes the slot as an argument */

#define THREADS 3
#define EACH 3000

static _Atomic int left;

static void *
inserter(void *arg)
{
	int slot = (int) (intptr_t) arg;
	uint32_t g = wal_generation();
	Prng prng;

	prng_seed(&prng, (uint64_t) slot);
	for (uint32_t i = 0; i < EACH;) {
		uint8_t body[200];
		size_t len = 8 + (size_t) prng_below(&prng, 150);
		uint32_t tag = (uint32_t) slot << 24 | i;
		Slice part = slice_of(body, len);
		WalHeader h = { .length = (uint32_t) (WAL_HEADER_SIZE + len), .kind = WAL_WRITE, .count = tag };
		Lsn start, end;
		Status s;

		wal_test_body(tag, len, body);
		s = wal_put(slot, g, &h, crc32c(wal_sh->crc_seed, body, len), &part, 1, &start, &end);
		if (s == ST_OK)
			i++;
		else
			assert_status(s, ST_BUSY);
	}
	atomic_fetch_sub(&left, 1);
	return NULL;
}

static void
test_threads(void **state)
{
	pthread_t thread[THREADS];
	uint32_t next[TEST_SLOTS] = { 0 };
	Buf scratch = { 0 };
	WalRecovery rec;
	Lsn at;

	(void) state;
	wal_test_no_sync();
	wal_test_start(&rec);
	procslot_detach(); /* every slot counts from now on */
	procslot_attach(TEST_SLOTS - 1, PROC_BACKEND);
	wal_test_open();
	at = wal_inserted();
	atomic_store(&left, THREADS);
	for (intptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, inserter, (void *) (i + 1)), 0);
	while (atomic_load(&left) > 0 || at < wal_inserted()) {
		(void) wal_flush();
		while (at < wal_durable()) { /* the applier */
			uint8_t body[200];
			WalRecord r;
			int slot;

			assert_ok(wal_ring_read(at, &scratch, &r));
			slot = (int) (r.header.count >> 24);
			wal_test_body(r.header.count, r.body.len, body);
			assert_true(slice_eq(r.body, slice_of(body, r.body.len)));
			assert_int_equal(r.header.count & 0xffffff, next[slot]++);
			at = r.end;
			wal_release_ring(at);
		}
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(next[i + 1], EACH);
	}
	buf_free(&scratch);
	wal_test_start(&rec);
	assert_int_equal(rec.end, at);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ring_must_hold_four, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_record_bounds, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_largest_real_record, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_room_and_reserve, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_applied_alone_makes_no_room, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_wrap_and_read, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_read_too_old, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_uncommitted_kept, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_mark_stays_near, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_last_position, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
