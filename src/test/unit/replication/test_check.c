/* test_check.c - comparing contents (rule C7), told as stories. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "replication/check.h"

#define LSN 4096
static CheckRound round_;
static Membership m;

/* Voters named n1 .. , then learners; ids 1 ... */
static void
cluster(int voters, int learners)
{
	memset(&m, 0, sizeof m);
	m.n = voters + learners;
	for (int i = 0; i < m.n; i++) {
		snprintf(m.node[i].name, sizeof m.node[i].name, "n%d", i + 1);
		m.node[i].incarnation = (uint64_t) i + 1;
		m.node[i].voter = i < voters;
	}
	check_begin(&round_, LSN, &m, 1000);
}

static void
says(uint64_t id, uint64_t hash)
{
	check_report(&round_, id, &(CheckReport){ .lsn = LSN, .hash = hash, .entries = 10 });
}

static void
cannot_tell(uint64_t id)
{
	check_report(&round_, id, &(CheckReport){ .lsn = LSN, .failed = true });
}

static CheckVerdict
now(void)
{
	return check_judge(&round_, 1001);
}

static CheckVerdict
late(void)
{
	CheckVerdict v = check_judge(&round_, 1000 + CHECK_ROUND_MS - 1);

	if (v.answered < v.asked)
		assert_int_equal(v.outcome, CHECK_WAITING);
	return check_judge(&round_, 1000 + CHECK_ROUND_MS);
}

static const char *
text(CheckVerdict v)
{
	static char out[256];

	check_text(&v, &round_, out, sizeof out);
	return out;
}

static Status
repair(CheckVerdict v, uint64_t leader, const char *name)
{
	uint64_t id;

	return check_may_repair(&v, &m, leader, name, &id);
}

static void
all_agree(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(3, 1);
	says(1, 7);
	says(2, 7);
	says(3, 7);
	assert_int_equal(now().outcome, CHECK_WAITING);
	says(4, 7);
	v = now();
	assert_int_equal(v.outcome, CHECK_AGREE);
	assert_int_equal(v.agree, 4);
	assert_int_equal(v.hash, 7);
	assert_string_equal(text(v), "as of 4096 4 of 4 nodes hold the same 10 entries");
	assert_int_equal(repair(v, 1, "n2"), ST_BAD_REQUEST);
}

static void
one_of_three_differs(void **state)
{
	CheckVerdict v;
	uint64_t id;

	(void) state;
	cluster(3, 0);
	says(1, 7);
	says(2, 8);
	assert_int_equal(now().outcome, CHECK_WAITING); /* who is right is not known yet */
	says(3, 7);
	v = now();
	assert_int_equal(v.outcome, CHECK_DIFFERS);
	assert_int_equal(v.ndiffer, 1);
	assert_int_equal(v.differ[0], 2);
	assert_string_equal(text(v), "n2 differs from the other nodes as of 4096: kvctl cluster repair n2");
	assert_int_equal(check_may_repair(&v, &m, 1, "n2", &id), ST_OK);
	assert_int_equal(id, 2);
	assert_int_equal(repair(v, 1, "n3"), ST_BAD_REQUEST);
	assert_int_equal(repair(v, 1, "n9"), ST_BAD_REQUEST);
	assert_int_equal(repair(v, 2, "n2"), ST_BAD_REQUEST);
	assert_non_null(strstr(status_detail(), "transfer"));
	/* The cluster has shrunk since: n1 alone would be no majority of n1 and n2. */
	m.n = 2;
	assert_int_equal(repair(v, 1, "n2"), ST_BAD_REQUEST);
	assert_non_null(strstr(status_detail(), "no majority"));
}

static void
the_same_number_of_other_entries_differs(void **state)
{
	(void) state;
	cluster(3, 0);
	says(1, 7);
	says(3, 7);
	check_report(&round_, 2, &(CheckReport){ .lsn = LSN, .hash = 7, .entries = 11 });
	assert_int_equal(now().outcome, CHECK_DIFFERS);
}

static void
one_is_away(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(3, 0);
	says(1, 7);
	says(2, 7);
	v = late();
	assert_int_equal(v.outcome, CHECK_AGREE);
	assert_int_equal(v.agree, 2);
	assert_int_equal(v.asked, 3);
	cluster(3, 0);
	says(1, 7);
	v = late();
	assert_int_equal(v.outcome, CHECK_UNKNOWN);
	assert_string_equal(text(v), "too few nodes could tell what they held as of 4096 (1 of 3 answered)");
	/* Two that contradict each other: one is wrong, nobody knows which. */
	cluster(3, 0);
	says(1, 7);
	says(2, 8);
	v = late();
	assert_int_equal(v.outcome, CHECK_NO_MAJORITY);
	assert_int_equal(repair(v, 1, "n2"), ST_BAD_REQUEST);
}

static void
two_of_five_differ(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(5, 0);
	says(1, 7);
	says(2, 8);
	says(3, 7);
	says(4, 9);
	says(5, 7);
	v = now();
	assert_int_equal(v.outcome, CHECK_DIFFERS);
	assert_int_equal(v.ndiffer, 2);
	assert_string_equal(text(v), "n2, n4 differ from the other nodes as of 4096: kvctl cluster repair NODE");
	assert_int_equal(repair(v, 1, "n4"), ST_OK);
	assert_int_equal(repair(v, 2, "n4"), ST_BAD_REQUEST); /* from a leader that differs itself */
}

static void
learners_are_compared_but_do_not_count(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(3, 2);
	says(1, 7);
	cannot_tell(2);
	cannot_tell(3);
	says(4, 8);
	says(5, 8);
	v = now();
	assert_int_equal(v.outcome, CHECK_NO_MAJORITY);
	cluster(1, 1);
	says(1, 7);
	says(2, 8);
	v = now();
	assert_int_equal(v.outcome, CHECK_DIFFERS);
	assert_int_equal(v.differ[0], 2);
	assert_int_equal(repair(v, 1, "n2"), ST_OK);
}

static void
who_cannot_tell_does_not_differ(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(3, 0);
	says(1, 7);
	says(2, 7);
	cannot_tell(3);
	v = now();
	assert_int_equal(v.outcome, CHECK_AGREE);
	assert_int_equal(v.agree, 2);
	cluster(3, 0);
	cannot_tell(1);
	cannot_tell(2);
	cannot_tell(3);
	assert_int_equal(now().outcome, CHECK_UNKNOWN);
}

static void
who_is_damaged_differs(void **state)
{
	CheckVerdict v;

	(void) state;
	cluster(3, 0);
	says(1, 7);
	says(3, 7);
	check_report(&round_, 2, &(CheckReport){ .lsn = LSN, .damaged = true, .hash = 7, .entries = 10 });
	v = now();
	assert_int_equal(v.outcome, CHECK_DIFFERS);
	assert_int_equal(v.differ[0], 2);
	assert_int_equal(repair(v, 1, "n2"), ST_OK);
	/* Two of three: what the third holds has no majority. */
	cluster(3, 0);
	says(1, 7);
	check_report(&round_, 2, &(CheckReport){ .lsn = LSN, .damaged = true });
	check_report(&round_, 3, &(CheckReport){ .lsn = LSN, .damaged = true });
	v = now();
	assert_int_equal(v.outcome, CHECK_NO_MAJORITY);
	assert_int_equal(repair(v, 1, "n2"), ST_BAD_REQUEST);
}

static void
other_rounds_and_strangers_are_dropped(void **state)
{
	CheckVerdict v;

	(void) state;
	memset(&round_, 0, sizeof round_);
	assert_int_equal(now().outcome, CHECK_NONE);
	assert_string_equal(text(now()), "contents were not compared yet");
	check_report(&round_, 1, &(CheckReport){ .lsn = 0 });
	assert_int_equal(now().outcome, CHECK_NONE);
	cluster(3, 0);
	check_report(&round_, 1, &(CheckReport){ .lsn = LSN - 8, .hash = 1 });
	says(77, 1);
	assert_int_equal(now().answered, 0);
	says(1, 7);
	says(1, 8); /* repeated: the first counts */
	says(2, 7);
	says(3, 7);
	v = now();
	assert_int_equal(v.outcome, CHECK_AGREE);
}

static void
messages_carry_all_of_it(void **state)
{
	CheckReport r = { .lsn = 8, .failed = true, .hash = UINT64_MAX, .entries = 3 }, got;
	RaftMsg msg = { .from = 1, .to = 2, .term = 3 };
	uint64_t lsn;

	(void) state;
	check_report_put(&r, &msg);
	assert_true(check_report_get(&msg, &got));
	assert_int_equal(got.lsn, 8);
	assert_true(got.failed && !got.damaged);
	r = (CheckReport){ .lsn = 8, .damaged = true, .hash = UINT64_MAX, .entries = 3 };
	check_report_put(&r, &msg);
	assert_true(check_report_get(&msg, &got));
	assert_true(got.damaged && !got.failed);
	assert_true(got.hash == UINT64_MAX);
	assert_int_equal(got.entries, 3);
	assert_false(check_repair_get(&msg, &lsn));
	assert_int_equal(msg.from + msg.to + msg.term, 6);
	check_repair_put(16, &msg);
	assert_true(check_repair_get(&msg, &lsn));
	assert_int_equal(lsn, 16);
	assert_false(check_report_get(&msg, &got));
	assert_true(CHECK_MSG_REPORT >= RAFT_HOST_KINDS && CHECK_MSG_REPAIR <= UINT8_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_agree),
		cmocka_unit_test(one_of_three_differs),
		cmocka_unit_test(the_same_number_of_other_entries_differs),
		cmocka_unit_test(one_is_away),
		cmocka_unit_test(two_of_five_differ),
		cmocka_unit_test(learners_are_compared_but_do_not_count),
		cmocka_unit_test(who_cannot_tell_does_not_differ),
		cmocka_unit_test(who_is_damaged_differs),
		cmocka_unit_test(other_rounds_and_strangers_are_dropped),
		cmocka_unit_test(messages_carry_all_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
