/*
 * test_own_hash.c - a node alone: a HASH record whose process dies, or gives up, is let go, and old versions with it.
 *
 * The test is the WAL writer; those who hash are processes in slots of their own, which it kills.
 */
#include "engine_test.h"

#define FIRST (PROC_AUX_COUNT + 1)
#define SECOND (PROC_AUX_COUNT + 2)

static void
walwriter(void)
{
	uint32_t ms;

	MUST(kvstore_walwriter_step(&ms));
}

static void
write_key(void)
{
	char key[2] = { KEYSPACE_USER, 'k' };

	write_op(&(Op){ .kind = OP_PUT, .key = slice_of(key, 2), .value = slice_str("v") });
}

static void
claim_and_wait(void)
{
	Lsn lsn;

	alarm(300); /* if the test has gone */
	kvstore_hash_claim();
	MUST(kvstore_insert_hash(wal_generation(), &lsn));
	for (;;)
		pause();
}

static void
claim_and_give_up(void)
{
	Lsn lsn;

	kvstore_hash_claim();
	MUST(kvstore_insert_hash(wal_generation(), &lsn));
	kvstore_hash_done(lsn); /* not applied yet */
}

static Lsn
wanted(void)
{
	uint64_t log_time;
	Lsn lsn;

	return kvstore_hash_wanted(&lsn, &log_time) ? lsn : 0;
}

/* The record of a process that waits: it has been applied, and stays however often it is looked at. */
static Lsn
start_hash(int slot, pid_t *pid)
{
	Lsn before = wanted();

	*pid = fork_into(slot, claim_and_wait);
	while (wanted() == before) {
		walwriter();
		procslot_sleep(procslot_prepare_sleep(), 1000);
	}
	for (int i = 0; i < 4; i++) {
		write_key();
		walwriter();
	}
	CHECK(wanted() > before && atomic_load(&kvs->history_floor) <= wanted());
	return wanted();
}

static void
end_hash(int slot, pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	procslot_mark_dead(slot);
	walwriter();
}

/* The history floor moves on, with what is written. */
static void
check_let_go(Lsn lsn)
{
	CHECK(wanted() == 0);
	for (int i = 0; i < 4; i++) {
		write_key();
		walwriter();
	}
	CHECK(atomic_load(&kvs->history_floor) > lsn);
}

static void
dies(void)
{
	pid_t pid;
	Lsn lsn;

	start_engine();
	write_key();
	lsn = start_hash(FIRST, &pid);
	end_hash(FIRST, pid);
	check_let_go(lsn);
}

static void
gives_up(void)
{
	int status;
	Lsn end = 0;
	pid_t pid;

	start_engine();
	write_key();
	end = wal_inserted();
	pid = fork_into(FIRST, claim_and_give_up);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0 && wal_inserted() > end);
	while (kvstore_applied() < wal_inserted())
		walwriter();
	walwriter();
	check_let_go(end);
}

/* The newer record's process lives on. */
static void
one_of_two_dies(void)
{
	pid_t first, second;
	Lsn lsn;

	start_engine();
	write_key();
	(void) start_hash(FIRST, &first);
	lsn = start_hash(SECOND, &second);
	end_hash(FIRST, first);
	CHECK(wanted() == lsn);
	end_hash(SECOND, second);
	check_let_go(lsn);
}

/* In a cluster the checker process is asked, which claims nothing. */
static void
nobody_claims(void)
{
	Lsn lsn;

	start_engine();
	write_key();
	MUST(kvstore_insert_hash(wal_generation(), &lsn));
	while (wanted() != lsn)
		walwriter();
	for (int i = 0; i < 4; i++)
		walwriter();
	CHECK(wanted() == lsn);
	kvstore_hash_done(lsn);
	check_let_go(lsn);
}

static void
story(void **state)
{
	enter_new_dir();
	run_child((void (*)(void)) *state);
	leave_dir();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		{ "dies", story, NULL, NULL, (void *) dies },
		{ "gives up before its record is applied", story, NULL, NULL, (void *) gives_up },
		{ "one of two dies", story, NULL, NULL, (void *) one_of_two_dies },
		{ "nobody claims", story, NULL, NULL, (void *) nobody_claims },
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
