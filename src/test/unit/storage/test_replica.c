/*
 * test_replica.c - the engine in a cluster: a follower of a recorded log, waiting for a commit that is others' to say,
 * log kept for followers, configuration and contents.
 *
 * The test plays the consensus worker: it appends, moves commit, opens and closes the gate.
 */
#include <stdlib.h>

#include "engine_test.h"
#include "port/fs.h"

#include <sys/resource.h>

#include "common/crc32c.h"

#define SEGMENT (1 * MB) /* as open_engine() sets it; the log starts at one segment */
#define VICTIM "the value that is changed"

/* What the children find out, for the parent. */
typedef struct Report {
	uint64_t hash, entries, log_time;
	Lsn hash_lsn, end, config;
	_Atomic uint32_t ended; /* the writer knows its outcome */
	Status status;
	uint64_t cpu_us;
} Report;

static Report *report;
static Buf leader_log;

static int
setup(void **state)
{
	(void) state;
	report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20, -1, 0);
	assert_true(report != MAP_FAILED);
	enter_new_dir();
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	leave_dir();
	munmap(report, sizeof *report);
	return 0;
}

/* ---- roles ---------------------------------------------------------------- */

static void
put_key(uint32_t generation, int k, Slice value, uint64_t ttl_ms, Ack ack)
{
	char key[32];
	Buf body = { 0 };
	uint64_t version;
	Op op = { .kind = value.data == NULL ? OP_DELETE : OP_PUT, .value = value };

	key[0] = KEYSPACE_USER;
	op.key = slice_of(key, 1 + (size_t) snprintf(key + 1, sizeof key - 1, "key-%06d", k));
	op.flags = ttl_ms > 0 ? OP_TTL : 0;
	op.ttl_ms = ttl_ms;
	MUST(op_encode(&body, &op));
	MUST(kvstore_write(generation, &body, 1, ack, 1000, false, &version));
	buf_free(&body);
}

static void
insert_config(const char *members)
{
	Slice part = slice_str(members);
	Lsn end;

	MUST(wal_insert(wal_generation(), WAL_CONFIG, 0, logclock_now(), &part, 1, &report->config, &end));
}

static void
walwriter(void)
{
	uint32_t ms;

	MUST(kvstore_walwriter_step(&ms));
}

static void
start_follower(void)
{
	open_engine();
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(false));
	CHECK(!wal_alone());
}

/* A leader of a cluster; what it inserts is committed when the test says so. */
static uint32_t
start_leader(void)
{
	Lsn start, end;

	start_follower();
	logclock_begin_term(kvstore_applied_time(), clock_wall_ms());
	MUST(wal_begin_term(wal_term() + 1, logclock_now(), &start, &end));
	wal_open_gate();
	CHECK(commit_flush(end));
	wal_set_commit(end);
	CHECK(commit_work(0));
	CHECK(kvstore_applied() == end);
	return wal_generation();
}

/* Everything that is committed becomes applied, as by the replay process. */
static void
replay_all(void)
{
	bool did;

	while (kvstore_applied() < wal_commit()) {
		MUST(kvstore_replay_step(&did));
		if (atomic_load(&kvs->stalled))
			run_compactor();
	}
}

/* Append whole records of the leader's log from our end on: at most `most` bytes, and no further than `end`. */
static void
append_some(size_t most, Lsn end)
{
	Lsn at = wal_inserted(), to = at;
	Slice rest;
	WalRecord r;

	while (to < end && to - at < most) {
		rest = slice_of(leader_log.data + (to - SEGMENT), leader_log.len - (size_t) (to - SEGMENT));
		MUST(wal_record_at(rest, to, UINT64_MAX, &r));
		to = r.end;
	}
	CHECK(wal_append_room((size_t) (to - at)));
	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	wal_append(at, slice_of(leader_log.data + (at - SEGMENT), (size_t) (to - at)));
	lwlock_release(LWLOCK_WAL_APPEND, 0);
}

/* Parent: the log of the directory it is in. */
static void
take_log(Lsn end)
{
	for (uint64_t k = 1; k * SEGMENT < end; k++) {
		char name[64], *data;
		size_t len;

		snprintf(name, sizeof name, "wal/%016llx.kvw", (unsigned long long) k);
		assert_int_equal(fs_read_file(name, 2 * SEGMENT, &data, &len), ST_OK);
		assert_int_equal(buf_append(&leader_log, data, len), ST_OK);
		free(data);
	}
	leader_log.len = (size_t) (end - SEGMENT);
}

/* Parent: into a new directory of the same cluster. */
static void
enter_replica(void)
{
	Control control;

	assert_int_equal(control_read(&control), ST_OK);
	leave_dir();
	enter_new_dir();
	assert_int_equal(control_write(&control), ST_OK);
	assert_int_equal(kvstore_create(&control), ST_OK);
}

/* ---- contents compared ---------------------------------------------------- */

#define KEYS 9000 /* more than one read's worth */
#define GONE 500  /* expired before the HASH record */
#define BRIEF 500 /* expire after it */
#define TTL_MS 60000

static void
compute_hash(void)
{
	if (!kvstore_hash_wanted(&report->hash_lsn, &report->log_time))
		return;
	MUST(kvstore_content_hash(report->hash_lsn, report->log_time, NULL, NULL, &report->hash,
							  &report->entries));
}

/* Everything that could spoil the old contents: writes, expiry, the history floor, compaction of all. */
static void
leader_with_hash(void)
{
	uint32_t g;
	Lsn lsn;

	start_engine();
	config.wal_keep = 1024 * MB; /* the replicas get all of it */
	g = wal_generation();
	for (int k = 0; k < KEYS; k++)
		put_key(g, k, slice_str(k == 4321 ? VICTIM : "first"), k < GONE ? TTL_MS : 0, ACK_NONE);
	insert_config("one, two");
	for (int k = GONE; k < GONE + BRIEF; k++)
		put_key(g, k, slice_str("brief"), 10 * TTL_MS, ACK_NONE);
	for (int k = KEYS / 2; k < KEYS; k += 7)
		put_key(g, k, slice_of(NULL, 0), 0, ACK_NONE);
	MUST(kvstore_advance_time(kvstore_applied_time() + 2 * TTL_MS));
	ask_for_flush();
	run_compactor();
	CHECK(!kvstore_hash_wanted(&lsn, &report->log_time));
	MUST(kvstore_insert_hash(g, &lsn));
	put_key(g, 1, slice_str("after"), 0, ACK_QUORUM);
	CHECK(kvstore_hash_wanted(&report->hash_lsn, &report->log_time) && report->hash_lsn == lsn);
	for (int k = 0; k < KEYS; k += 3)
		put_key(g, k, slice_str("second"), 0, ACK_NONE);
	for (int k = 1; k < KEYS; k += 3)
		put_key(g, k, slice_of(NULL, 0), 0, ACK_NONE);
	MUST(kvstore_advance_time(kvstore_applied_time() + 20 * TTL_MS));
	for (int i = 0; i < 4; i++)
		walwriter();
	CHECK(atomic_load(&kvs->history_floor) == lsn);
	ask_for_flush();
	atomic_fetch_add(&kvs->compact_wanted, 1);
	run_compactor();
	compute_hash();
	kvstore_hash_done(lsn + 8); /* another's */
	CHECK(kvstore_hash_wanted(&lsn, &report->log_time));
	kvstore_hash_done(lsn);
	CHECK(!kvstore_hash_wanted(&lsn, &report->log_time));
	CHECK(kvstore_content_hash(report->hash_lsn, 0, NULL, NULL, &report->hash_lsn, &report->log_time) ==
		  ST_SNAPSHOT_GONE);
	for (int i = 0; i < 4; i++)
		walwriter();
	CHECK(atomic_load(&kvs->history_floor) > lsn);
	report->end = wal_durable();
	CHECK(report->end == wal_inserted());
}

static uint64_t chance_seed;

/* Follow the log to its end with flushes, compactions and clumps of other sizes. */
static void
follow(void)
{
	Prng g;

	prng_seed(&g, chance_seed);
	start_follower();
	while (kvstore_applied() < report->end) {
		if (wal_inserted() < report->end)
			append_some((size_t) prng_below(&g, 200000) + 1, report->end);
		walwriter();
		wal_set_commit(wal_inserted());
		replay_all();
		if (prng_below(&g, 3) == 0)
			ask_for_flush();
		if (prng_below(&g, 8) == 0)
			atomic_fetch_add(&kvs->compact_wanted, 1);
		if (prng_below(&g, 2) == 0)
			run_compactor();
	}
	compute_hash();
}

/* The same log with another value in one place, as if a bit had flipped before the checksum was made. */
static void
change_victim(void)
{
	Control control;
	Lsn at = SEGMENT;

	assert_int_equal(control_read(&control), ST_OK);
	for (size_t off = 0;; off = (size_t) (at - SEGMENT)) {
		uint8_t *raw = leader_log.data + off, *found = NULL;
		uint32_t length = get_u32(raw + 4);

		for (size_t i = 40; i + sizeof VICTIM - 1 <= length && found == NULL; i++)
			if (memcmp(raw + i, VICTIM, sizeof VICTIM - 1) == 0)
				found = raw + i;
		at += wal_record_size(length - WAL_HEADER_SIZE);
		if (found == NULL)
			continue;
		found[0] ^= 1;
		put_u32(raw,
				crc32c(crc32c((uint32_t) (control.crc_seed ^ control.crc_seed >> 32), raw + 40, length - 40),
					   raw + 4, 36));
		break;
	}
}

static void
hashes_agree(void **state)
{
	uint64_t hash, entries;

	(void) state;
	run_child(leader_with_hash);
	hash = report->hash;
	entries = report->entries;
	/* Keys below GONE have expired; the configuration is one, too. Deleted: every seventh of the upper half. */
	assert_int_equal(entries, KEYS - GONE - (KEYS / 2 + 6) / 7 + 1);
	take_log(report->end);
	for (chance_seed = 1; chance_seed <= 3; chance_seed++) {
		if (chance_seed == 3)
			change_victim();
		enter_replica();
		report->hash = report->entries = 0;
		run_child(follow);
		assert_int_equal(report->entries, entries);
		if (chance_seed < 3)
			assert_true(report->hash == hash);
		else
			assert_true(report->hash != hash);
	}
	buf_free(&leader_log);
	leader_log = (Buf){ 0 };
}

/* ---- configuration --------------------------------------------------------- */

static void
check_config(const char *want)
{
	Buf body = { 0 };
	Lsn start, end;

	MUST(kvstore_config(&body, &start, &end));
	CHECK(slice_eq(slice_buf(&body), slice_str(want)));
	CHECK(start == report->config && end == start + wal_record_size(strlen(want)));
	buf_free(&body);
}

static void
configure(void)
{
	Buf body = { 0 };
	Lsn start, end;

	start_engine();
	CHECK(kvstore_config(&body, &start, &end) == ST_NOT_FOUND);
	insert_config("one");
	insert_config("one, two");
	put_key(wal_generation(), 1, slice_str("x"), 0, ACK_QUORUM);
	check_config("one, two");
	ask_for_flush();
	run_compactor();
	walwriter();
	check_config("one, two");
}

static void
reconfigure(void)
{
	open_engine();
	check_config("one, two"); /* from the tables alone */
	MUST(kvstore_recover(false));
	MUST(kvstore_replay(true));
	check_config("one, two");
}

static void
configure_later(void)
{
	WalRecovery rec;
	WalRecord r;
	Buf scratch = { 0 };

	start_engine();
	insert_config("one, two, three");
	put_key(wal_generation(), 1, slice_str("x"), 0, ACK_QUORUM);
	check_config("one, two, three");
	MUST(kvstore_log_record(report->config, &scratch, &r));
	CHECK(r.header.kind == WAL_CONFIG && slice_eq(r.body, slice_str("one, two, three")));
	kvstore_recovered(&rec);
	CHECK(rec.last_config == 0); /* below what the tables hold */
}

static void
check_configured_later(void)
{
	WalRecovery rec;

	start_engine();
	check_config("one, two, three");
	kvstore_recovered(&rec);
	CHECK(rec.last_config == report->config);
}

static void
config_survives(void **state)
{
	(void) state;
	run_child(configure);
	run_child(reconfigure);
	run_child(configure_later);
	run_child(check_configured_later);
}

/* ---- a follower's start ----------------------------------------------------- */

#define LARGE (1 * MB)
#define LARGES 75 /* more than the ring */

/*
 * With the durable mark of the beginning, as earlier versions could leave it behind: flushes keep it within a ring of
 * the log's end.
 */
static void
write_large(void)
{
	static uint8_t value[LARGE];
	uint32_t g;
	char *mark;
	size_t len;

	start_engine();
	MUST(fs_read_file("wal/mark", 65536, &mark, &len));
	g = wal_generation();
	for (int k = 0; k < LARGES; k++) /* nothing is flushed: all of it is to be replayed */
		put_key(g, k, slice_of(value, sizeof value), 0, ACK_QUORUM);
	put_key(g, LARGES, slice_str("last"), 0, ACK_QUORUM);
	report->end = wal_durable();
	MUST(fs_replace_file("wal/mark", mark, len));
	free(mark);
}

/* Only what is certain is applied; then, from the files and on from the ring, what a leader commits. */
static void
restart_as_follower(void)
{
	WalRecovery rec;
	Lsn base, mid;
	bool did, moved;

	open_engine();
	MUST(kvstore_recover(false));
	kvstore_recovered(&rec);
	CHECK(rec.end == report->end);
	MUST(kvstore_replay(false));
	CHECK(kvstore_applied() ==
		  (rec.commit_hint > atomic_load(&kvs->flushed) ? rec.commit_hint : kvs->flushed));
	CHECK(wal_commit() == kvstore_applied());
	CHECK(kvstore_applied() < rec.end);
	base = wal_ring_floor();
	CHECK(base > kvstore_applied() && base < rec.end);
	MUST(kvstore_replay_step(&did));
	CHECK(!did);
	mid = kvstore_applied();
	wal_set_commit(base);
	CHECK(apply_below_ring());
	CHECK(apply_committed(&moved) && !moved); /* others leave it to the replay process */
	CHECK(kvstore_applied() == mid);
	replay_all();
	CHECK(kvstore_applied() == base && !apply_below_ring());
	wal_set_commit(rec.end);
	CHECK(apply_committed(&moved) && moved);
	replay_all();
	CHECK(kvstore_applied() == rec.end);
}

/* The same, but what was not committed is cut off and another leader's log appended. */
static void
restart_and_cut(void)
{
	WalRecovery rec;
	Lsn start, end;

	start_follower();
	kvstore_recovered(&rec);
	wal_request_truncate(wal_commit());
	walwriter();
	CHECK(!wal_truncate_pending() && wal_inserted() == wal_commit());
	MUST(wal_begin_term(rec.last_term + 1, logclock_now(), &start, &end));
	walwriter();
	CHECK(wal_durable() == end && kvstore_applied() == start);
	wal_set_commit(end);
	replay_all();
	CHECK(kvstore_applied() == end);
}

static void
follower_start(void **state)
{
	(void) state;
	run_child(write_large);
	run_child(restart_as_follower);
	run_child(restart_and_cut);
}

/* ---- tables and what is durable here ------------------------------------------ */

static void
commit_ahead_of_durable(void)
{
	static uint8_t value[1000];
	uint32_t g = start_leader();
	Lsn flushed = atomic_load(&kvs->flushed);
	bool did;

	put_key(g, 1, slice_of(value, sizeof value), 0, ACK_NONE);
	wal_set_commit(wal_inserted()); /* two followers were faster than our disk */
	replay_all();
	CHECK(kvstore_applied() > wal_durable());
	ask_for_flush();
	MUST(kvstore_compactor_step(&did));
	CHECK(!did && atomic_load(&kvs->flushed) == flushed && atomic_load(&kvs->flush_waits) == 1);
	CHECK(commit_flush(wal_inserted()));
	CHECK(atomic_load(&kvs->flush_waits) == 0);
	MUST(kvstore_compactor_step(&did));
	CHECK(did && atomic_load(&kvs->flushed) == kvstore_applied());
}

static void
tables_wait_for_the_disk(void **state)
{
	(void) state;
	run_child(commit_ahead_of_durable);
}

/* ---- log kept -------------------------------------------------------------------- */

static void
keep_and_let_go(void)
{
	static uint8_t value[LARGE / 4];
	Lsn flushed, written;

	start_engine();
	for (int k = 0; k < 40; k++)
		put_key(wal_generation(), k % 3, slice_of(value, sizeof value), 0, ACK_QUORUM);
	ask_for_flush();
	config.wal_keep = 1024 * MB;
	run_compactor();
	walwriter();
	flushed = atomic_load(&kvs->flushed);
	written = wal_written();
	CHECK(wal_files_floor() == SEGMENT && flushed == written && flushed > 10 * SEGMENT);
	/* A follower is there: bounds around a file's border. */
	config.wal_keep = 0;
	kvstore_keep_log(3 * SEGMENT - 8);
	walwriter();
	CHECK(wal_files_floor() == 2 * SEGMENT);
	kvstore_keep_log(3 * SEGMENT);
	walwriter();
	CHECK(wal_files_floor() == 3 * SEGMENT);
	kvstore_keep_log(2 * SEGMENT); /* what is gone does not come back */
	walwriter();
	CHECK(wal_files_floor() == 3 * SEGMENT);
	/* But not for one that is too far behind. */
	config.wal_keep_max = (int64_t) (written - 4 * SEGMENT) + 8;
	walwriter();
	CHECK(wal_files_floor() == 3 * SEGMENT);
	config.wal_keep_max -= 8;
	walwriter();
	CHECK(wal_files_floor() == 4 * SEGMENT);
	/* Who is serving holds what it serves. */
	CHECK(!kvstore_hold_log(4 * SEGMENT - 8));
	CHECK(kvstore_hold_log(5 * SEGMENT + 8));
	kvstore_keep_log(UINT64_MAX);
	walwriter();
	CHECK(wal_files_floor() == 5 * SEGMENT);
	config.wal_keep = (int64_t) (flushed - 6 * SEGMENT) + 8;
	kvstore_release_log();
	walwriter();
	CHECK(wal_files_floor() == 5 * SEGMENT);
	config.wal_keep -= 8;
	walwriter();
	CHECK(wal_files_floor() == 6 * SEGMENT);
	/* The slot of one that died is cleared. */
	CHECK(kvstore_hold_log(6 * SEGMENT));
	config.wal_keep = 0;
	walwriter();
	CHECK(wal_files_floor() == 6 * SEGMENT);
	kvstore_slot_cleared(my_slot_no);
	walwriter();
	CHECK(wal_files_floor() == flushed / SEGMENT * SEGMENT);
}

static void
log_is_kept_within_bounds(void **state)
{
	(void) state;
	run_child(keep_and_let_go);
}

/* ---- waiting ------------------------------------------------------------------------ */

#define WRITER (PROC_AUX_COUNT + 1)
#define LONG_MS 60000 /* what no stall of a loaded machine reaches */

static Ack writer_ack;
static int writer_ms = LONG_MS;

static void
write_and_report(void)
{
	char key[2] = { KEYSPACE_USER, 'k' };
	Op op = { .kind = OP_PUT, .key = slice_of(key, 2), .value = slice_str("v") };
	struct rusage used;
	Buf body = { 0 };
	uint64_t version;

	alarm(3 * LONG_MS / 1000); /* if the test has gone */
	MUST(op_encode(&body, &op));
	report->status = kvstore_write(wal_generation(), &body, 1, writer_ack, writer_ms, false, &version);
	CHECK(getrusage(RUSAGE_SELF, &used) == 0);
	report->cpu_us = (uint64_t) used.ru_utime.tv_usec + (uint64_t) used.ru_stime.tv_usec +
					 1000000 * (uint64_t) (used.ru_utime.tv_sec + used.ru_stime.tv_sec);
	atomic_store(&report->ended, 1);
}

static void
nap_ms(uint64_t ms)
{
	uint64_t until = clock_mono_ns() + ms * 1000000;

	while (clock_mono_ns() < until)
		procslot_sleep(procslot_prepare_sleep(), 5000);
}

/*
 * A writer whose record is durable here, and has nothing to do but wait: it sleeps, holding nothing, and whoever it
 * had to wake is woken. Or its time is over. Returns its end.
 */
static Lsn
start_writer(pid_t *pid)
{
	Lsn before = wal_inserted();
	uint64_t until = clock_mono_ns() + 2 * LONG_MS * UINT64_C(1000000);

	atomic_store(&report->ended, 0);
	*pid = fork_into(WRITER, write_and_report);
	while (clock_mono_ns() < until && atomic_load(&report->ended) == 0 &&
		   (wal_durable() == before || wal_durable() < wal_inserted() ||
			atomic_load(&procslot_get(WRITER)->sleeping) == 0))
		nap_ms(1);
	CHECK(wal_inserted() > before);
	CHECK(wal_durable() == wal_inserted() || writer_ms < LONG_MS);
	return wal_inserted();
}

static void
end_writer(pid_t pid, Status want)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	if (report->status != want)
		fprintf(stderr, "%s instead of %s\n", status_name(report->status), status_name(want));
	CHECK(report->status == want);
	procslot_mark_dead(WRITER);
	procslot_reap(kvstore_slot_cleared);
}

static void
wait_for_commit(void)
{
	uint32_t consensus, g;
	Lsn end, keep;
	pid_t pid;
	int stuck;

	g = start_leader();
	writer_ack = ACK_QUORUM;
	consensus = atomic_load(&procslot_get(PROC_CONSENSUS)->wake);
	end = start_writer(&pid);
	CHECK(atomic_load(&procslot_get(PROC_CONSENSUS)->wake) >= consensus + 2); /* inserted, durable */
	nap_ms(400);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	wal_set_commit(end);
	kvstore_commit_moved();
	end_writer(pid, ST_OK);
	CHECK(report->cpu_us < 200000); /* it slept */
	CHECK(kvstore_applied() == end);
	/* ack=local does not wait for others. */
	writer_ack = ACK_LOCAL;
	end = start_writer(&pid);
	end_writer(pid, ST_OK);
	CHECK(wal_commit() < end);
	/* Leadership is lost, the record cut off, another term begun over it: the writer learns that it does not know. */
	keep = wal_commit();
	writer_ack = ACK_QUORUM;
	end = start_writer(&pid);
	kill(pid, SIGSTOP);
	CHECK(wal_close_gate(1000, &stuck));
	wal_request_truncate(keep);
	walwriter();
	CHECK(wal_inserted() == keep);
	MUST(wal_begin_term(wal_term() + 1, logclock_now(), &keep, &keep));
	wal_open_gate();
	CHECK(wal_generation() != g);
	while (wal_inserted() <= end)
		put_key(wal_generation(), 7, slice_str("others"), 0, ACK_NONE);
	walwriter();
	wal_set_commit(wal_inserted());
	kvstore_commit_moved();
	replay_all();
	kill(pid, SIGCONT);
	end_writer(pid, ST_OUTCOME_UNKNOWN);
}

static void
waiting_is_no_work(void **state)
{
	(void) state;
	run_child(wait_for_commit);
}

static void
close_the_gate(void)
{
	int stuck;

	CHECK(wal_close_gate(1000, &stuck));
	kvstore_commit_moved();
}

static uint64_t
ms_of_end(pid_t pid, Status want, uint64_t began)
{
	end_writer(pid, want);
	return (clock_mono_ns() - began) / 1000000;
}

#define PATIENCE_MS 700

/* The gate closes while it waits: what becomes of the record is what it tells. */
static void
wait_behind_the_gate(void)
{
	uint64_t began;
	Lsn end, keep;
	pid_t pid;

	start_leader();
	writer_ack = ACK_QUORUM;
	writer_ms = config.election_timeout = LONG_MS;
	end = start_writer(&pid);
	close_the_gate();
	nap_ms(300);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0);
	wal_set_commit(end); /* the next leader has it */
	kvstore_commit_moved();
	end_writer(pid, ST_OK);
	CHECK(report->cpu_us < 200000);
	/* Cut off: at once. */
	wal_open_gate();
	keep = wal_inserted();
	start_writer(&pid);
	close_the_gate();
	wal_request_truncate(keep);
	walwriter();
	CHECK(ms_of_end(pid, ST_OUTCOME_UNKNOWN, clock_mono_ns()) < LONG_MS / 4);
	/* Nobody leads: an election timeout. */
	wal_open_gate();
	config.election_timeout = PATIENCE_MS;
	start_writer(&pid);
	began = clock_mono_ns();
	close_the_gate();
	CHECK(ms_of_end(pid, ST_OUTCOME_UNKNOWN, began) >= PATIENCE_MS);
	/* Nor does this node hear of a majority, or of its own consensus worker: the request's time. */
	wal_open_gate();
	config.election_timeout = LONG_MS;
	writer_ms = PATIENCE_MS;
	start_writer(&pid);
	CHECK(ms_of_end(pid, ST_OUTCOME_UNKNOWN, clock_mono_ns()) < LONG_MS / 4);
	/* Which is the bound behind the gate, too. */
	start_writer(&pid);
	close_the_gate();
	CHECK(ms_of_end(pid, ST_OUTCOME_UNKNOWN, clock_mono_ns()) < LONG_MS / 4);
}

static void
a_wait_outlives_the_gate(void **state)
{
	(void) state;
	run_child(wait_behind_the_gate);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hashes_agree, setup, teardown),
		cmocka_unit_test_setup_teardown(config_survives, setup, teardown),
		cmocka_unit_test_setup_teardown(follower_start, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_wait_for_the_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(log_is_kept_within_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(waiting_is_no_work, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wait_outlives_the_gate, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
