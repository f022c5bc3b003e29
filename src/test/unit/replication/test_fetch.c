/*
 * test_fetch.c - the order between consensus worker and fetcher: pieces, their bounds, taking an order back.
 *
 * One child is the fetcher, which appends a recorded log with many terms and configurations; the parent's part is the
 * consensus worker's.
 */
#include "../storage/engine_test.h"

#include "../../../replication/fetch_internal.h"

#define SEGMENT (1 * MB)
#define TERMS 30
#define PIECES_MAX 200

typedef struct Shared {
	Lsn end;
	Status status;
	_Atomic uint32_t done;
	int pieces;
	FetchPiece piece[PIECES_MAX];
} Shared;

static Shared *sh;
static Buf records;
static FetchJob job;

static void
put_key(int k, size_t value_len)
{
	static uint8_t value[300000];
	char key[16] = { KEYSPACE_USER };
	Buf body = { 0 };
	uint64_t version;
	Op op = { .kind = OP_PUT, .value = slice_of(value, value_len) };

	op.key = slice_of(key, 1 + (size_t) snprintf(key + 1, sizeof key - 1, "key-%03d", k));
	MUST(op_encode(&body, &op));
	MUST(kvstore_write(wal_generation(), &body, 1, ACK_QUORUM, 1000, false, &version));
	buf_free(&body);
}

static void
insert_config(uint64_t incarnation)
{
	Membership m = { .election_ms = 1000, .n = 1, .node = { { .name = "n1", .incarnation = incarnation } } };
	Buf body = { 0 };
	Slice part;
	Lsn start, end;

	MUST(membership_encode(&m, &body));
	part = slice_buf(&body);
	MUST(wal_insert(wal_generation(), WAL_CONFIG, 0, logclock_now(), &part, 1, &start, &end));
	buf_free(&body);
}

/* Many terms behind each other, configurations, small records and one that is larger than a piece. */
static void
leader(void)
{
	Lsn start, end;
	int slot;

	start_engine();
	for (int i = 0; i < TERMS; i++) {
		CHECK(wal_close_gate(1000, &slot));
		MUST(wal_begin_term(wal_term() + 1, logclock_now(), &start, &end));
		wal_open_gate();
		if (i % 10 == 3) {
			insert_config(1);
			insert_config((uint64_t) i);
		}
		if (i % 12 == 5)
			for (int k = 0; k < 600; k++)
				put_key(k, 1000);
	}
	put_key(1, 300000);
	put_key(2, 10);
	while (wal_durable() < wal_inserted())
		CHECK(wal_flush());
	sh->end = wal_inserted();
}

static void
take_log(void)
{
	records.len = 0;
	for (uint64_t k = 1; k * SEGMENT < sh->end; k++) {
		char name[64], *data;
		size_t len;

		snprintf(name, sizeof name, "wal/%016llx.kvw", (unsigned long long) k);
		assert_int_equal(fs_read_file(name, 2 * SEGMENT, &data, &len), ST_OK);
		assert_int_equal(buf_append(&records, data, len), ST_OK);
		free(data);
	}
	records.len = (size_t) (sh->end - SEGMENT);
}

static void
fetcher(void)
{
	sh->status = fetch_append(&job, slice_buf(&records), SEGMENT);
	atomic_store(&sh->done, 1);
}

static void
open_follower(void)
{
	size_t size = fetch_shmem_size();
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);

	CHECK(mem != MAP_FAILED);
	open_engine();
	fetch_shmem_init(mem);
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(false));
	CHECK(wal_inserted() == SEGMENT);
	CHECK(!fetch_active());
	fetch_order(&(FetchOrder){ .address = "127.0.0.1:1", .from = SEGMENT });
	CHECK(fetch_active());
	job = (FetchJob){ .no = 1 };
}

static void
follow(void)
{
	pid_t pid;

	open_follower();
	pid = fork_into(PROC_AUX_COUNT + 1, fetcher);
	while (atomic_load(&sh->done) == 0) {
		if (!fetch_piece(&sh->piece[sh->pieces])) {
			procslot_sleep(procslot_prepare_sleep(), 1000);
			continue;
		}
		CHECK(sh->pieces < PIECES_MAX - 1);
		CHECK(wal_inserted() == sh->piece[sh->pieces].end); /* no other before it is taken */
		sh->pieces++;
		fetch_taken();
	}
	while (fetch_piece(&sh->piece[sh->pieces])) {
		sh->pieces++;
		fetch_taken();
	}
	waitpid(pid, NULL, 0);
	CHECK(wal_inserted() == sh->end);
	MUST(sh->status);
}

/* Taken back while the fetcher waits: what was appended is told, nothing is appended any more. */
static void
take_back(void)
{
	Lsn end;
	FetchPiece p;
	pid_t pid;

	open_follower();
	pid = fork_into(PROC_AUX_COUNT + 1, fetcher);
	while (!fetch_piece(&p))
		procslot_sleep(procslot_prepare_sleep(), 1000);
	fetch_stop();
	end = wal_inserted();
	CHECK(!fetch_active() && fetch_piece(&p) && p.end == end);
	fetch_taken();
	waitpid(pid, NULL, 0);
	CHECK(sh->status == ST_BUSY && wal_inserted() == end && !fetch_piece(&p));
	/* An older order's fetcher does not append for a newer one. */
	fetch_order(&(FetchOrder){ .address = "127.0.0.1:1", .from = end });
	CHECK(!fetch_stands(&job));
	CHECK(fetch_append(&job, slice_of(records.data + (end - SEGMENT), 4096), end) != ST_OK);
	CHECK(wal_inserted() == end);
	/* Bytes that do not fit are refused. */
	job.no = 3;
	CHECK(fetch_stands(&job));
	CHECK(fetch_append(&job, slice_of(records.data, 4096), end) == ST_CORRUPT);
	CHECK(fetch_append(&job, slice_of(records.data + (end - SEGMENT), 48), end) == ST_CORRUPT);
	CHECK(wal_inserted() == end);
	fetch_end(&(FetchJob){ .no = 2 });
	CHECK(fetch_active());
	fetch_end(&job);
	CHECK(!fetch_active());
}

static void
make_follower(void)
{
	Control control;

	assert_int_equal(control_read(&control), ST_OK);
	leave_dir();
	enter_new_dir();
	assert_int_equal(control_write(&control), ST_OK);
	assert_int_equal(kvstore_create(&control), ST_OK);
	sh->pieces = 0;
	atomic_store(&sh->done, 0);
}

static void
pieces_are_cut(void **state)
{
	uint32_t terms = 0, configs = 0;
	Lsn at = SEGMENT;

	(void) state;
	make_follower();
	run_child(follow);
	for (int i = 0; i < sh->pieces; i++) {
		const FetchPiece *p = &sh->piece[i];

		assert_true(p->pos == at && p->end > at);
		assert_true(p->nterms <= RAFT_APPEND_TERMS);
		/* Full, but for one record that is larger than that. */
		assert_true(p->end - p->pos <= FETCH_PIECE || p->end - p->pos > 300000);
		for (uint32_t k = 0; k < p->nterms; k++)
			assert_true(p->terms[k].start >= p->pos && p->terms[k].start < p->end &&
			            p->terms[k].term == ++terms);
		if (p->has_config) {
			configs++;
			assert_true(p->config_start >= p->pos && p->config_end <= p->end && p->config.n == 1);
		}
		at = p->end;
	}
	assert_true(at == sh->end);
	assert_int_equal(terms, TERMS + 1);
	assert_int_equal(configs, 6);
}

static void
an_order_is_taken_back(void **state)
{
	(void) state;
	make_follower();
	run_child(take_back);
}

static int
setup(void **state)
{
	(void) state;
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	assert_true(sh != MAP_FAILED);
	enter_new_dir();
	run_child(leader);
	take_log();
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	leave_dir();
	buf_free(&records);
	munmap(sh, sizeof *sh);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_cut),
		cmocka_unit_test(an_order_is_taken_back),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
