/* A follower's log: appending, cutting on request, the ring's bytes for senders, damage, a log begun anew. */
#include "wal_test.h"

#include <signal.h>
#include <sys/wait.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/prng.h"

static int
setup(void **state)
{
	(void) state;
	wal_test_dir(TEST_SEGMENT);
	wal_test_no_sync();
	return 0;
}

/* ---- what a leader would send */

/* The record at `at` onto buf; of a TERM record the body is the previous term. */
static Lsn
add_record(Buf *buf, Lsn at, uint64_t term, WalKind kind, const uint8_t *body, size_t len)
{
	WalHeader h = { .length = (uint32_t) (WAL_HEADER_SIZE + len),
					.lsn = at,
					.term = term,
					.log_time = at,
					.kind = (uint8_t) kind,
					.count = kind == WAL_WRITE ? 1 : 0 };
	static const uint8_t zeros[8];
	uint8_t raw[WAL_HEADER_SIZE];

	wal_header_encode(&h, raw);
	h.crc = wal_record_crc(crc32c(wal_sh->crc_seed, body, len), raw);
	put_u32(raw, h.crc);
	assert_ok(buf_append(buf, raw, sizeof raw));
	if (len > 0)
		assert_ok(buf_append(buf, body, len));
	assert_ok(buf_append(buf, zeros, (size_t) wal_record_size(len) - WAL_HEADER_SIZE - len));
	return at + wal_record_size(len);
}

static Lsn
add_term(Buf *buf, Lsn at, uint64_t term, uint64_t previous)
{
	uint8_t body[8];

	put_u64(body, previous);
	return add_record(buf, at, term, WAL_TERM, body, sizeof body);
}

/* A WRITE whose bytes follow from position and term, as they do for all replicas. */
static Lsn
add_write(Buf *buf, Lsn at, uint64_t term, size_t len)
{
	uint8_t body[TEST_RECORD_MAX];

	wal_test_body((uint32_t) (at * 31 + term), len, body);
	return add_record(buf, at, term, WAL_WRITE, body, len);
}

static void
append(Lsn at, Slice bytes)
{
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	wal_append(at, bytes);
	lwlock_release(LWLOCK_WAL_APPEND, 0);
}

static void
flush_all(void)
{
	while (wal_durable() < wal_inserted())
		assert_true(wal_flush());
}

static void
cut(Lsn to)
{
	bool did;

	assert_false(wal_truncate_pending());
	wal_request_truncate(to);
	assert_true(wal_truncate_pending());
	assert_ok(wal_serve_truncate(&did));
	assert_true(did);
	assert_false(wal_truncate_pending());
	assert_ok(wal_serve_truncate(&did));
	assert_false(did);
	assert_int_equal(wal_inserted(), to);
}

static void
follower_start(WalRecovery *rec)
{
	assert_ok(wal_test_recover(rec));
	wal_set_alone_limit(0);
	assert_false(wal_alone());
}

/* The files hold exactly these bytes from the log's start on, as records. */
static void
check_files(const Buf *log, Lsn first, Lsn end)
{
	WalReader *r;
	WalRecord rec;
	Lsn at = first;
	Status s;

	assert_ok(wal_reader_open(first, end, &r));
	while ((s = wal_reader_next(r, &rec)) == ST_OK) {
		assert_int_equal(rec.header.lsn, at);
		assert_memory_equal(rec.body.data, log->data + (at - first) + WAL_HEADER_SIZE, rec.body.len);
		at = rec.end;
	}
	assert_status(s, ST_NOT_FOUND);
	assert_int_equal(at, end);
	wal_reader_close(r);
}

/* ---- appending */

static void
test_terms_are_known(void **state)
{
	WalRecovery rec;
	Buf log = { 0 };
	Lsn first, t1, t2, end;
	WalTerm history[4];

	(void) state;
	follower_start(&rec);
	first = rec.end;
	t1 = add_term(&log, first, 3, 0);
	t2 = add_write(&log, t1, 3, 77);
	end = add_term(&log, t2, 7, 3);
	end = add_write(&log, end, 7, 900);
	append(first, slice_buf(&log));
	assert_int_equal(wal_inserted(), end);
	assert_int_equal(wal_durable(), first);
	assert_int_equal(wal_term(), 7);
	assert_int_equal(wal_term_history(history, 4), 2);
	assert_int_equal(history[0].start, t2);
	assert_int_equal(history[1].start, first);
	assert_int_equal(wal_term_at(t2 - 8), 3);
	assert_int_equal(wal_term_at(t2), 7);
	flush_all();
	assert_int_equal(wal_commit(), first); /* nobody said so */
	wal_set_commit(end + 800);
	assert_int_equal(wal_commit(), end);
	follower_start(&rec);
	assert_int_equal(rec.end, end);
	assert_int_equal(rec.last_term, 7);
	check_files(&log, first, end);
	/* Leading from here on: the next term goes behind. */
	assert_ok(wal_test_begin(8, 1, &end));
	assert_int_equal(wal_term(), 8);
	buf_free(&log);
}

/* Every prefix asks for more; a byte that is wrong is found. */
static void
test_record_at(void **state)
{
	WalRecovery rec;
	WalRecord r;
	Buf log = { 0 };
	Lsn first, end;

	(void) state;
	follower_start(&rec);
	first = rec.end;
	end = add_write(&log, first, 5, 21);
	for (size_t n = 0; n < log.len; n++)
		assert_status(wal_record_at(slice_of(log.data, n), first, 5, &r), ST_NOT_FOUND);
	assert_ok(wal_record_at(slice_buf(&log), first, 5, &r));
	assert_int_equal(r.end, end);
	assert_int_equal(r.body.len, 21);
	assert_ok(buf_append(&log, "more", 4));
	assert_ok(wal_record_at(slice_buf(&log), first, 5, &r));
	assert_int_equal(r.end, end);
	for (size_t i = 0; i < (size_t) (end - first); i++) {
		log.data[i] ^= 4;
		/* A length that asks for more bytes than there are may be right. */
		if (i >= 4 && i < 8)
			assert_int_not_equal(wal_record_at(slice_buf(&log), first, 5, &r), ST_OK);
		else
			assert_status(wal_record_at(slice_buf(&log), first, 5, &r), ST_CORRUPT);
		log.data[i] ^= 4;
	}
	/* The header alone tells that it is of another place or term (L1). */
	assert_status(wal_record_at(slice_of(log.data, WAL_HEADER_SIZE), first + 8, 5, &r), ST_CORRUPT);
	assert_status(wal_record_at(slice_of(log.data, WAL_HEADER_SIZE), first, 4, &r), ST_CORRUPT);
	assert_status(wal_record_at(slice_of(log.data, WAL_HEADER_SIZE), first, 6, &r), ST_CORRUPT);
	buf_clear(&log);
	add_term(&log, first, 6, 5);
	assert_ok(wal_record_at(slice_buf(&log), first, 5, &r));
	assert_status(wal_record_at(slice_buf(&log), first, 4, &r), ST_CORRUPT); /* names another */
	assert_status(wal_record_at(slice_buf(&log), first, 6, &r), ST_CORRUPT);
	buf_free(&log);
}

/* To the last byte that is not kept for own TERM records; then what is written and applied makes room. */
static void
test_room(void **state)
{
	const uint64_t most = TEST_RING - WAL_RING_OWN_TERMS;
	WalRecovery rec;
	Buf log = { 0 };
	Lsn first, at, end;

	(void) state;
	follower_start(&rec);
	first = rec.end;
	at = add_term(&log, first, 1, 0);
	while (first + most - at > 600)
		at = add_write(&log, at, 1, 400);
	at = add_write(&log, at, 1, (size_t) (first + most - at) - WAL_HEADER_SIZE);
	assert_int_equal(log.len, most);
	assert_true(wal_append_room(most - 8) && wal_append_room(most));
	assert_false(wal_append_room(most + 8));
	append(first, slice_buf(&log));
	assert_true(wal_append_room(0));
	assert_false(wal_append_room(8));
	assert_ok(wal_begin_term(2, 1, &at, &end)); /* L11: the reserve is for this */
	flush_all();
	assert_false(wal_append_room(8)); /* written is not enough */
	wal_set_commit(first + 4096 * 8);
	wal_release_ring(first + 4096 * 8);
	assert_true(wal_append_room(4096 * 8 - 48));
	assert_false(wal_append_room(4096 * 8 - 40));
	buf_free(&log);
}

/*
 * A leader's ring, full of what nobody has, and of kinds that may use the reserve; the next leader's TERM record behind
 * it, without which nothing is committed any more: a follower has room for all of it.
 */
static void
test_room_for_a_full_leader(void **state)
{
	WalRecovery rec;
	Lsn first, start, end, at;
	Status s;
	uint8_t *log;
	uint32_t g;
	int stuck;

	(void) state;
	follower_start(&rec);
	first = rec.end;
	g = wal_test_open();
	while (wal_test_try(0, 0, &end) == ST_OK)
		;
	while ((s = wal_insert(g, WAL_TIME, 0, 5, NULL, 0, &start, &end)) == ST_OK)
		;
	assert_status(s, ST_BUSY);
	assert_true(wal_close_gate(100, &stuck));
	for (uint64_t term = 10; term < 20; term++)
		assert_ok(wal_begin_term(term, 1, &start, &end));
	log = malloc((size_t) (end - first));
	wal_ring_copy_out(first, log, (size_t) (end - first));
	follower_start(&rec); /* it has the first TERM record */
	for (at = rec.end; at < end;) {
		WalRecord r;

		assert_ok(wal_record_at(slice_of(log + (at - first), (size_t) (end - at)), at, UINT64_MAX, &r));
		assert_true(wal_append_room((size_t) (r.end - at)));
		append(at, slice_of(log + (at - first), (size_t) (r.end - at)));
		at = r.end;
	}
	assert_ok(wal_begin_term(20, 1, &start, &end)); /* and may lead next */
	free(log);
}

/* One record at a time round the ring, several times: what is read from the ring and the files is what was sent. */
static void
test_wraps(void **state)
{
	WalRecovery rec;
	Prng prng;
	Buf one = { 0 }, log = { 0 }, scratch = { 0 };
	Lsn first, at, applied;
	WalRecord r;

	(void) state;
	prng_seed(&prng, 11);
	follower_start(&rec);
	first = at = applied = rec.end;
	at = add_term(&log, at, 1, 0);
	append(first, slice_buf(&log));
	while (at < first + 4 * TEST_RING) {
		struct iovec iov[2];
		Lsn next;
		int n;

		buf_clear(&one);
		next = add_write(&one, at, 1, (size_t) prng_below(&prng, 900));
		while (!wal_append_room(one.len)) {
			flush_all();
			wal_set_commit(at);
			while (applied < at) {
				assert_ok(wal_ring_read(applied, &scratch, &r));
				assert_memory_equal(r.body.data, log.data + (applied - first) + WAL_HEADER_SIZE, r.body.len);
				applied = r.end;
			}
			wal_release_ring(applied);
		}
		append(at, slice_buf(&one));
		n = wal_ring_pieces(at, next, iov);
		assert_true(n == 1 || n == 2);
		assert_int_equal(iov[0].iov_len + (n == 2 ? iov[1].iov_len : 0), one.len);
		assert_memory_equal(iov[0].iov_base, one.data, iov[0].iov_len);
		if (n == 2)
			assert_memory_equal(iov[1].iov_base, one.data + iov[0].iov_len, iov[1].iov_len);
		assert_ok(buf_append_slice(&log, slice_buf(&one)));
		at = next;
	}
	assert_true(wal_ring_floor() >= at - TEST_RING && wal_ring_floor() > first);
	flush_all();
	follower_start(&rec);
	assert_int_equal(rec.end, at);
	check_files(&log, first, at);
	buf_free(&one);
	buf_free(&log);
	buf_free(&scratch);
}

/* ---- append, cut, append, crash */

typedef struct ModelLog {
	Buf bytes;
	Lsn bound[4096]; /* record ends, and the start */
	uint64_t term[4096];
	int n; /* records */
} ModelLog;

static ModelLog model;

static void
model_append(Prng *prng, uint64_t *last_term, bool new_term, int count)
{
	Lsn from = model.bound[model.n];
	size_t before = model.bytes.len;

	for (int i = 0; i < count && model.n < 4000; i++) {
		Lsn at = model.bound[model.n];
		uint64_t previous = model.n == 0 ? 0 : model.term[model.n - 1];
		bool begin = previous == 0 || (new_term && i == 0);

		if (begin)
			++*last_term;
		model.term[model.n] = begin ? *last_term : previous;
		model.n++;
		model.bound[model.n] = begin ? add_term(&model.bytes, at, *last_term, previous)
									 : add_write(&model.bytes, at, previous, (size_t) prng_below(prng, 300));
	}
	append(from, slice_of(model.bytes.data + before, model.bytes.len - before));
}

static void
model_cut(int n)
{
	model.n = n;
	model.bytes.len = (size_t) (model.bound[n] - model.bound[0]);
}

static void
check_terms(void)
{
	for (int i = 0; i < model.n; i++) {
		assert_int_equal(wal_term_at(model.bound[i]), model.term[i]);
		assert_int_equal(wal_term_at(model.bound[i + 1] - 1), model.term[i]);
	}
}

/*
 * After a crash: what was durable is there, what is there is the log as it was then, nothing that was cut
 * comes back.
 */
static void
crash_and_check(Lsn durable)
{
	WalRecovery rec;
	int n = 0;

	follower_start(&rec);
	assert_true(rec.end >= durable && rec.end <= model.bound[model.n]);
	while (model.bound[n] < rec.end)
		n++;
	assert_int_equal(model.bound[n], rec.end); /* a record boundary */
	model_cut(n);
	check_files(&model.bytes, model.bound[0], rec.end);
	check_terms();
}

static void
test_append_cut_append(void **state)
{
	uint64_t seed = 5, last_term = 0;
	Prng prng;
	WalRecovery rec;
	int committed = 0;
	bool other = false;

	(void) state;
	print_message("seed %llu\n", (unsigned long long) seed);
	prng_seed(&prng, seed);
	follower_start(&rec);
	model_cut(0);
	model.bound[0] = rec.end;
	for (int i = 0; i < 1500; i++) {
		switch (prng_below(&prng, 6)) {
		case 0:
		case 1:
			/* Behind a cut goes a new leader's log. */
			model_append(&prng, &last_term, other || prng_below(&prng, 4) == 0,
						 1 + (int) prng_below(&prng, 6));
			other = false;
			break;
		case 2:
			(void) wal_flush();
			break;
		case 3:
			committed += (int) prng_below(&prng, (uint64_t) (model.n - committed) / 2 + 1);
			wal_set_commit(model.bound[committed]);
			if (wal_durable() >= model.bound[committed])
				wal_release_ring(model.bound[committed]);
			break;
		case 4:
			if (model.n > committed) {
				model_cut(committed + (int) prng_below(&prng, (uint64_t) (model.n - committed)));
				cut(model.bound[model.n]);
				other = true;
				check_terms();
			}
			break;
		default:
			if (prng_below(&prng, 4) == 0) {
				crash_and_check(wal_durable());
				committed = committed < model.n ? committed : model.n;
				other = true; /* what is behind the end is of no leader here */
			}
		}
		assert_int_equal(wal_inserted(), model.bound[model.n]);
		assert_true(wal_append_room(8 * 400)); /* the test's own bound */
		if (model.n > 3900)
			break;
	}
	crash_and_check(wal_durable());
	buf_free(&model.bytes);
	model.bytes = (Buf){ 0 };
}

/* A cut does not bring back to the ring what the end had overwritten. */
static void
test_floor_never_falls(void **state)
{
	WalRecovery rec;
	Buf log = { 0 };
	Lsn first, at, floor, keep = 0;

	(void) state;
	follower_start(&rec);
	first = at = rec.end;
	at = add_term(&log, at, 1, 0);
	append(first, slice_buf(&log));
	while (at < first + TEST_RING + 3000) {
		buf_clear(&log);
		if (keep == 0 && at > first + TEST_RING - 3000)
			keep = at;
		if (keep == 0) {
			flush_all();
			wal_set_commit(at);
			wal_release_ring(at);
		}
		first = at;
		at = add_write(&log, at, 1, 500);
		append(first, slice_buf(&log));
		first = rec.end;
	}
	floor = wal_ring_floor();
	assert_int_equal(floor, at - TEST_RING);
	cut(keep);
	assert_int_equal(wal_ring_floor(), floor);
	buf_free(&log);
}

/* The source of an append stands in memory that faults: what others see while the bytes are being copied. */
static uint8_t *faulting;
static Lsn seen_inserted, seen_position;

static void
on_fault(int sig)
{
	(void) sig;
	seen_inserted = wal_inserted();
	seen_position = wal_word_pos(atomic_load(&wal_sh->reserve));
	if (mprotect(faulting, 4096, PROT_READ) != 0)
		_exit(5);
}

static void
test_copying_is_not_inserted(void **state)
{
	struct sigaction act = { .sa_handler = on_fault }, old_segv, old_bus;
	WalRecovery rec;
	Buf log = { 0 };
	Lsn end;

	(void) state;
	follower_start(&rec);
	end = add_term(&log, rec.end, 1, 0);
	end = add_write(&log, end, 1, 100);
	faulting = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(faulting != MAP_FAILED);
	memcpy(faulting, log.data, log.len);
	assert_int_equal(mprotect(faulting, 4096, PROT_NONE), 0);
	assert_int_equal(sigaction(SIGSEGV, &act, &old_segv), 0);
	assert_int_equal(sigaction(SIGBUS, &act, &old_bus), 0);
	append(rec.end, slice_of(faulting, log.len));
	assert_int_equal(sigaction(SIGSEGV, &old_segv, NULL), 0);
	assert_int_equal(sigaction(SIGBUS, &old_bus, NULL), 0);
	assert_int_equal(seen_position, end); /* taken, so that readers of what it overwrites know */
	assert_int_equal(seen_inserted, rec.end);
	assert_int_equal(wal_inserted(), end);
	munmap(faulting, 4096);
	buf_free(&log);
}

/* A flusher and a reader in other processes while records are appended: no torn bytes, no early durable. */
static void
test_beside_a_flusher(void **state)
{
	WalRecovery rec;
	Buf one = { 0 };
	Lsn at;
	pid_t pid;
	int status;

	(void) state;
	follower_start(&rec);
	at = rec.end;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static uint8_t copy[TEST_RING];

		alarm(300);      /* should the test be gone */
		my_slot = NULL; /* never inherited */
		my_slot_no = -1;
		procslot_attach(PROC_WALWRITER, PROC_WALWRITER);
		for (;;) {
			Lsn to = wal_inserted(), from = wal_durable();
			struct iovec iov[2];
			WalRecord r;
			int n;

			(void) wal_flush();
			if (wal_durable() < to)
				_exit(3);
			n = wal_ring_pieces(from, to, iov);
			for (size_t off = 0; n > 0; off += iov[0].iov_len, iov[0] = iov[1], n--)
				memcpy(copy + off, iov[0].iov_base, iov[0].iov_len);
			if (wal_ring_floor() > from)
				continue;
			for (Lsn p = from; p < to; p = r.end)
				if (wal_record_at(slice_of(copy + (p - from), (size_t) (to - p)), p, UINT64_MAX, &r) != ST_OK)
					_exit(4);
			if (wal_term() > 3000)
				_exit(0);
		}
	}
	for (uint64_t term = 1; term <= 3001; term++) {
		Lsn from = at;

		buf_clear(&one);
		at = add_term(&one, at, term, term - 1);
		for (uint64_t i = 0; i < 30; i++)
			at = add_write(&one, at, term, (size_t) ((term + i) * 37 % 900));
		while (!wal_append_room(one.len)) {
			Lsn durable = wal_durable();

			wal_set_commit(durable);
			wal_release_ring(durable);
		}
		append(from, slice_buf(&one));
		assert_int_equal(wal_inserted(), at);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	flush_all();
	follower_start(&rec);
	assert_int_equal(rec.end, at);
	assert_int_equal(rec.last_term, 3001);
	buf_free(&one);
}

/* ---- damage, configurations, a log begun anew */

#define MANY 60

static Lsn bound[MANY + 1];

/* MANY records of term 1 on several segments, all durable, mark at the end; CONFIG records are 10, 20 and 30. */
static void
make_log(void)
{
	WalRecovery rec;
	Buf log = { 0 };
	bool did;

	follower_start(&rec);
	bound[0] = rec.end;
	bound[1] = add_term(&log, bound[0], 1, 0);
	for (int i = 1; i < MANY; i++)
		bound[i + 1] = i == 10 || i == 20 || i == 30
						   ? add_record(&log, bound[i], 1, WAL_CONFIG, (const uint8_t *) "members", 7)
						   : add_write(&log, bound[i], 1, 200);
	append(bound[0], slice_buf(&log));
	flush_all();
	wal_set_commit(bound[40]);
	wal_release_ring(bound[40]);
	wal_sh->mark_ns = 0;
	assert_ok(wal_update_mark(&did));
	assert_true(did);
	buf_free(&log);
}

static void
flip(Lsn at)
{
	char name[WAL_NAME_SIZE];
	uint8_t *file;
	size_t len;

	wal_segment_name(wal_segment_of(at), name);
	file = wal_test_load(name, &len);
	file[at % TEST_SEGMENT] ^= 1;
	wal_test_store(name, file, len);
	free(file);
}

static void
test_damage_is_named_and_cut(void **state)
{
	WalRecovery rec;
	WalMark m;
	int slot;
	Buf log = { 0 };
	Lsn end;

	(void) state;
	make_log();
	flip(bound[25] + 60);
	assert_status(wal_test_recover(&rec), ST_CORRUPT);
	assert_int_equal(rec.damaged_at, bound[25]);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, bound[MANY]); /* nothing was cut */
	/* In the same process, now with leave to cut. */
	assert_ok(wal_recover_damaged(wal_first_lsn(&wal_test_control), 0, &rec));
	assert_int_equal(rec.end, bound[25]);
	assert_int_equal(rec.damaged_at, bound[25]);
	assert_int_equal(rec.commit_hint, bound[25]);
	assert_int_equal(rec.last_config, bound[20]);
	assert_int_equal(rec.previous_config, bound[10]);
	assert_ok(wal_mark_read(&m, &slot));
	assert_int_equal(m.durable, bound[25]);
	assert_int_equal(m.epoch, 2);
	/* What was cut is fetched again; the next start finds all of it, and what lies behind is the same log's. */
	wal_set_alone_limit(0);
	end = add_write(&log, bound[25], 1, 200);
	append(bound[25], slice_buf(&log));
	flush_all();
	follower_start(&rec);
	assert_true(rec.end == end || rec.end == bound[MANY]);
	assert_int_equal(rec.damaged_at, 0);
	/* Without damage the leave changes nothing. */
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	end = rec.end;
	assert_ok(wal_recover_damaged(wal_first_lsn(&wal_test_control), 0, &rec));
	assert_int_equal(rec.end, end);
	assert_int_equal(rec.damaged_at, 0);
	buf_free(&log);
}

static Status
fail_unlink(const char *name)
{
	(void) name;
	return status_fail(ST_IO_ERROR, "not now");
}

static void
test_restart_at(void **state)
{
	FsOps ops = *fs;
	WalRecovery rec;
	Buf log = { 0 };
	Lsn end, from;
	bool kept;

	(void) state;
	make_log();
	/* A record of term 1 ends there: the log goes on. */
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_restart_at(bound[50], 1, &kept));
	assert_true(kept);
	assert_ok(wal_recover(bound[50], 1, &rec));
	assert_int_equal(rec.end, bound[MANY]);
	assert_int_equal(wal_files_floor(), bound[0]);
	/* Of another term, or no boundary, or behind the end: it starts anew. Cut off before the end of it, too. */
	from = bound[50] + 8;
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	ops.unlink = fail_unlink;
	fs = &ops;
	assert_status(wal_restart_at(from, 1, &kept), ST_IO_ERROR);
	fs = &fs_posix;
	wal_test_no_sync();
	assert_ok(wal_restart_at(from, 1, &kept));
	assert_false(kept);
	assert_false(wal_test_exists("wal/0000000000000001.kvw"));
	assert_ok(wal_restart_at(from, 1, &kept)); /* done again */
	assert_ok(wal_recover(from, 1, &rec));
	assert_int_equal(rec.end, from);
	assert_int_equal(rec.commit_hint, from);
	assert_int_equal(rec.last_term, 1);
	assert_int_equal(wal_term_at(from), 1);
	assert_int_equal(wal_files_floor(), from);
	wal_set_alone_limit(0);
	end = add_term(&log, from, 5, 1);
	end = add_write(&log, end, 5, 300);
	append(from, slice_buf(&log));
	flush_all();
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_recover(from, 1, &rec));
	assert_int_equal(rec.end, end);
	assert_int_equal(wal_files_floor(), from);
	check_files(&log, from, end);
	/* Another term's end is not ours. */
	assert_ok(wal_test_memory(TEST_RING, TEST_RECORD_MAX));
	assert_ok(wal_restart_at(end, 4, &kept));
	assert_false(kept);
	buf_free(&log);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_terms_are_known, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_record_at, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_room, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_room_for_a_full_leader, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_wraps, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_append_cut_append, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_floor_never_falls, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_copying_is_not_inserted, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_beside_a_flusher, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_damage_is_named_and_cut, setup, wal_test_teardown),
		cmocka_unit_test_setup_teardown(test_restart_at, setup, wal_test_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
