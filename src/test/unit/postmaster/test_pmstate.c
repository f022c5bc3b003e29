/* test_pmstate.c - what the postmaster does, told as stories. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>

#include "../../../postmaster/pmstate.h"
#include "common/elog.h"
#include "common/prng.h"

#define REPLAY PM_BIT(PROC_REPLAY)
#define CONSENSUS PM_BIT(PROC_CONSENSUS)
#define WALWRITER PM_BIT(PROC_WALWRITER)
#define COMPACTOR PM_BIT(PROC_COMPACTOR)
#define BACKEND PM_BIT(PROC_BACKEND)
#define FETCHER PM_BIT(PROC_FETCHER)
#define CHECKER PM_BIT(PROC_CHECKER)

static PmState s;
static uint64_t now;
static PmActions a;

static void
happens(PmEventKind event)
{
	a = pm_step(&s, &(PmEvent){ .event = event, .now_ms = now });
}

static void
ends(ProcKind kind, int signal, int code, bool critical)
{
	a = pm_step(&s, &(PmEvent){ .event = PM_EV_ENDED, .now_ms = now, .kind = kind, .signal = signal, .code = code,
		                    .critical = critical });
}

static void
exits(ProcKind kind, int code)
{
	ends(kind, 0, code, false);
}

static void
passes(uint64_t ms)
{
	now += ms;
	happens(PM_EV_TICK);
}

static void
assert_nothing(void)
{
	assert_int_equal(a.launch | a.term | a.quit | a.kill, 0);
	assert_false(a.fresh || a.ready || a.exit);
}

/* A node that is ready and has `clients` clients. */
static void
running(int clients)
{
	now = 1000;
	pm_init(&s);
	happens(PM_EV_BEGIN);
	assert_int_equal(a.launch, REPLAY);
	happens(PM_EV_MANIFEST_OPEN);
	assert_int_equal(a.launch, COMPACTOR);
	happens(PM_EV_REPLAYED);
	assert_int_equal(a.launch, WALWRITER | CONSENSUS);
	assert_int_equal(pm_accept(&s), ST_STARTING);
	happens(PM_EV_READY);
	assert_true(a.ready);
	assert_int_equal(pm_accept(&s), ST_OK);
	for (int i = 0; i < clients; i++)
		happens(PM_EV_BACKEND);
	passes(60000);
	assert_nothing();
}

/* As running(), of a node with peers, as far as the report `until`. */
static void
member(PmEventKind until)
{
	now = 1000;
	pm_init(&s);
	s.peers = true;
	happens(PM_EV_BEGIN);
	happens(PM_EV_MANIFEST_OPEN);
	happens(PM_EV_REPLAYED);
	assert_int_equal(a.launch, WALWRITER | CONSENSUS | FETCHER | CHECKER);
	if (until == PM_EV_READY)
		happens(PM_EV_READY);
}

static void
four_workers_die(void)
{
	assert_false(a.fresh || a.exit);
	ends(PROC_REPLAY, SIGQUIT, 0, false);
	ends(PROC_WALWRITER, SIGKILL, 0, false);
	assert_false(a.fresh || a.exit);
	exits(PROC_CONSENSUS, 2);
	exits(PROC_COMPACTOR, 2);
}

static void
clients_come_and_go(void **state)
{
	(void) state;
	running(2);
	exits(PROC_BACKEND, 0);
	assert_true(a.mark_dead);
	assert_int_equal(s.alive[PROC_BACKEND], 1);
	exits(PROC_BACKEND, EXIT_FATAL); /* said why and went; shared state is sound */
	assert_true(a.mark_dead);
	assert_int_equal(s.phase, PM_RUNNING);
	assert_string_equal(pm_state_name(&s), "ready");
}

static void
fast_stop_ends_one_kind_after_the_other(void **state)
{
	(void) state;
	running(2);
	happens(PM_EV_FAST);
	assert_int_equal(a.term, BACKEND);
	assert_int_equal(pm_accept(&s), ST_SHUTTING_DOWN);
	assert_string_equal(pm_state_name(&s), "stopping");
	exits(PROC_BACKEND, 0);
	assert_nothing();
	exits(PROC_BACKEND, 0);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER); /* the gate closes before anything else goes */
	exits(PROC_CONSENSUS, 0);
	assert_int_equal(a.term, REPLAY | COMPACTOR);
	exits(PROC_COMPACTOR, 0);
	assert_nothing();
	exits(PROC_REPLAY, 0);
	assert_int_equal(a.term, WALWRITER); /* last: it makes the log durable */
	assert_false(a.exit);
	exits(PROC_WALWRITER, 0);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, 0);
}

static void
fast_stop_without_clients(void **state)
{
	(void) state;
	running(0);
	happens(PM_EV_FAST);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
}

static void
smart_stop_waits_for_clients(void **state)
{
	(void) state;
	running(2);
	happens(PM_EV_SMART);
	assert_nothing();
	assert_int_equal(pm_accept(&s), ST_SHUTTING_DOWN);
	passes(3600000);
	assert_nothing();
	exits(PROC_BACKEND, 0);
	assert_nothing();
	ends(PROC_BACKEND, SIGKILL, 0, false); /* leaves too, if not as it wanted */
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
}

static void
smart_stop_without_clients_goes_on_at_once(void **state)
{
	(void) state;
	running(0);
	happens(PM_EV_SMART);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
}

static void
smart_then_fast_then_immediate(void **state)
{
	(void) state;
	running(1);
	happens(PM_EV_SMART);
	happens(PM_EV_FAST);
	assert_int_equal(a.term, BACKEND);
	happens(PM_EV_SMART); /* never back to a milder mode */
	assert_nothing();
	happens(PM_EV_IMMEDIATE);
	assert_int_equal(a.quit, PM_ALL);
	exits(PROC_BACKEND, 2);
	four_workers_die();
	assert_true(a.exit);
	assert_int_equal(s.exit_code, 0);
}

static void
the_stop_signal_is_repeated_and_a_backend_that_stays_is_killed(void **state)
{
	(void) state;
	running(1);
	happens(PM_EV_FAST);
	passes(PM_NUDGE_MS - 1);
	assert_nothing();
	passes(1);
	assert_int_equal(a.term, BACKEND);
	passes(1);
	assert_nothing();
	for (uint64_t t = PM_NUDGE_MS + 1; t < PM_BACKEND_GRACE_MS - PM_NUDGE_MS; t += PM_NUDGE_MS) {
		passes(PM_NUDGE_MS);
		assert_int_equal(a.term, BACKEND);
		assert_int_equal(a.kill, 0);
	}
	passes(PM_NUDGE_MS);
	assert_int_equal(a.kill, BACKEND);
	ends(PROC_BACKEND, SIGKILL, 0, false);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
	/* Workers are not killed: they have the log to finish, however slow the disk. */
	for (int i = 0; i < 100; i++) {
		passes(PM_BACKEND_GRACE_MS);
		assert_int_equal(a.kill, 0);
		assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
	}
}

static void
a_killed_backend_costs_only_itself(void **state)
{
	(void) state;
	running(3);
	ends(PROC_BACKEND, SIGKILL, 0, false);
	assert_true(a.mark_dead);
	assert_nothing();
	assert_int_equal(s.phase, PM_RUNNING);
	assert_int_equal(s.alive[PROC_BACKEND], 2);
}

/* Rule P1: anything that may have followed a wild store, or left shared memory half changed. */
static void
a_crash_restarts_the_node(void **state)
{
	static const struct {
		ProcKind kind;
		int signal, code;
		bool critical;
	} crash[] = {
		{ PROC_BACKEND, SIGKILL, 0, true },
		{ PROC_BACKEND, SIGSEGV, 0, false },
		{ PROC_BACKEND, SIGABRT, 0, false },
		{ PROC_BACKEND, SIGTERM, 0, false },
		{ PROC_BACKEND, 0, 0, true },
		{ PROC_BACKEND, 0, EXIT_FATAL, true },
		{ PROC_BACKEND, 0, 2, false },
		{ PROC_BACKEND, 0, 9, false },
		{ PROC_WALWRITER, SIGKILL, 0, false },
		{ PROC_COMPACTOR, SIGKILL, 0, false },
		{ PROC_REPLAY, SIGKILL, 0, false },
		{ PROC_CONSENSUS, SIGKILL, 0, false },
		{ PROC_CONSENSUS, 0, 0, false }, /* nobody asked it to go */
		{ PROC_WALWRITER, 0, EXIT_FATAL, false },
	};

	(void) state;
	for (size_t i = 0; i < sizeof crash / sizeof *crash; i++) {
		int left[PM_KINDS];

		running(2);
		ends(crash[i].kind, crash[i].signal, crash[i].code, crash[i].critical);
		assert_int_equal(a.quit, PM_ALL);
		assert_false(a.mark_dead);
		assert_int_equal(pm_accept(&s), ST_STARTING);
		assert_string_equal(pm_state_name(&s), "starting");
		passes(PM_QUIT_GRACE_MS - 1);
		assert_nothing();
		passes(1);
		assert_int_equal(a.kill, PM_ALL);
		passes(1000);
		assert_nothing(); /* once is enough */
		for (int k = 0; k < PM_KINDS; k++)
			left[k] = s.alive[k];
		for (int k = 0; k < PM_KINDS; k++)
			while (left[k]-- > 0) {
				assert_false(a.fresh);
				ends((ProcKind) k, SIGKILL, 0, false);
			}
		assert_true(a.fresh); /* not before the last one is reaped */
		happens(PM_EV_BEGIN);
		assert_int_equal(a.launch, REPLAY);
		happens(PM_EV_MANIFEST_OPEN);
		happens(PM_EV_REPLAYED);
		happens(PM_EV_READY);
		assert_true(a.ready);
		assert_int_equal(pm_accept(&s), ST_OK);
	}
}

static void
fetched_tables_restart_the_node_without_a_crash(void **state)
{
	static const PmEventKind phases[] = { PM_EV_REPLAYED, PM_EV_READY };

	(void) state;
	for (int i = 0; i < 2 * PM_FAILED_STARTS_MAX; i++) { /* as often as need be: no start has failed */
		member(phases[i % 2]);
		exits(PROC_FETCHER, EXIT_INSTALL);
		assert_int_equal(a.quit, PM_ALL);
		assert_int_equal(pm_accept(&s), ST_STARTING);
		four_workers_die();
		assert_false(a.fresh);
		exits(PROC_CHECKER, 2);
		assert_true(a.fresh);
		assert_true(a.planned);
		assert_int_equal(s.failed_starts, 0);
		assert_int_equal(s.exit_code, 0);
	}
	/* A crash after it is one. */
	member(PM_EV_READY);
	exits(PROC_FETCHER, EXIT_INSTALL);
	four_workers_die();
	exits(PROC_CHECKER, 2);
	happens(PM_EV_BEGIN);
	ends(PROC_REPLAY, SIGKILL, 0, false);
	assert_true(a.fresh);
	assert_false(a.planned);
	/* Any other end of it is a crash, and nobody else may say so. */
	member(PM_EV_READY);
	exits(PROC_FETCHER, 0);
	assert_int_equal(a.quit, PM_ALL);
	assert_false(s.planned);
	member(PM_EV_READY);
	exits(PROC_CHECKER, EXIT_INSTALL);
	assert_false(s.planned);
	member(PM_EV_READY);
	ends(PROC_FETCHER, 0, EXIT_INSTALL, true);
	assert_false(s.planned);
}

static void
while_stopping_fetched_tables_wait_for_the_next_start(void **state)
{
	(void) state;
	member(PM_EV_READY);
	happens(PM_EV_BACKEND);
	happens(PM_EV_FAST);
	exits(PROC_FETCHER, EXIT_INSTALL);
	assert_nothing();
	exits(PROC_BACKEND, 0);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
	exits(PROC_CHECKER, 0);
	assert_nothing();
	exits(PROC_CONSENSUS, 0);
	assert_int_equal(a.term, REPLAY | COMPACTOR);
	/* And when it is the last of its phase. */
	member(PM_EV_READY);
	happens(PM_EV_SMART);
	assert_int_equal(a.term, CONSENSUS | FETCHER | CHECKER);
	exits(PROC_CHECKER, 0);
	exits(PROC_CONSENSUS, 0);
	exits(PROC_FETCHER, EXIT_INSTALL);
	assert_int_equal(a.term, REPLAY | COMPACTOR);
	assert_int_equal(s.exit_code, 0);
}

static void
doubt_about_durability_stops_the_node(void **state)
{
	(void) state;
	running(0);
	exits(PROC_COMPACTOR, EXIT_STOP_NODE);
	assert_int_equal(a.quit, PM_ALL);
	ends(PROC_REPLAY, SIGQUIT, 0, false);
	exits(PROC_CONSENSUS, 2);
	exits(PROC_WALWRITER, 2);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_STOP_NODE);

	/* Also when it comes out while the node is being restarted for something else. */
	running(0);
	ends(PROC_COMPACTOR, SIGKILL, 0, false);
	exits(PROC_REPLAY, EXIT_STOP_NODE);
	exits(PROC_CONSENSUS, 2);
	exits(PROC_WALWRITER, 2);
	assert_false(a.fresh);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_STOP_NODE);

	/* And during a stop. */
	running(0);
	happens(PM_EV_FAST);
	exits(PROC_CONSENSUS, 0);
	exits(PROC_REPLAY, 0);
	exits(PROC_COMPACTOR, 0);
	exits(PROC_WALWRITER, EXIT_STOP_NODE);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_STOP_NODE);
}

static void
a_start_that_fails_is_not_repeated(void **state)
{
	(void) state;
	now = 0;
	pm_init(&s);
	happens(PM_EV_BEGIN);
	exits(PROC_REPLAY, EXIT_FATAL);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_FATAL);
}

static void
killed_while_starting_is_tried_again_a_few_times(void **state)
{
	(void) state;
	now = 0;
	pm_init(&s);
	for (int i = 1; i < PM_FAILED_STARTS_MAX; i++) {
		happens(PM_EV_BEGIN);
		ends(PROC_REPLAY, SIGKILL, 0, true);
		assert_true(a.fresh);
	}
	happens(PM_EV_BEGIN);
	ends(PROC_REPLAY, SIGKILL, 0, true);
	assert_false(a.fresh);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_FATAL);

	/* A good start in between starts the count again. */
	running(0);
	for (int i = 0; i < 3 * PM_FAILED_STARTS_MAX; i++) {
		ends(PROC_REPLAY, SIGKILL, 0, true);
		exits(PROC_CONSENSUS, 2);
		exits(PROC_WALWRITER, 2);
		exits(PROC_COMPACTOR, 2);
		assert_true(a.fresh);
		happens(PM_EV_BEGIN);
		happens(PM_EV_MANIFEST_OPEN);
		happens(PM_EV_REPLAYED);
		happens(PM_EV_READY);
	}
}

static void
stop_while_starting(void **state)
{
	static const PmEventKind how[] = { PM_EV_SMART, PM_EV_FAST, PM_EV_IMMEDIATE };

	(void) state;
	for (int i = 0; i < 3; i++) {
		now = 0;
		pm_init(&s);
		happens(PM_EV_BEGIN);
		happens(PM_EV_MANIFEST_OPEN);
		happens(how[i]);
		assert_int_equal(a.quit, PM_ALL);
		happens(PM_EV_REPLAYED); /* its report was under way */
		assert_nothing();
		exits(PROC_REPLAY, 2);
		exits(PROC_COMPACTOR, 2);
		assert_true(a.exit);
		assert_int_equal(s.exit_code, 0);
	}
}

static void
stop_while_restarting(void **state)
{
	(void) state;
	running(0);
	ends(PROC_COMPACTOR, SIGKILL, 0, false);
	happens(PM_EV_FAST);
	assert_int_equal(pm_accept(&s), ST_SHUTTING_DOWN);
	exits(PROC_REPLAY, 2);
	exits(PROC_CONSENSUS, 2);
	exits(PROC_WALWRITER, 2);
	assert_false(a.fresh);
	assert_true(a.exit);
}

static void
a_crash_while_stopping_ends_it_at_once(void **state)
{
	(void) state;
	running(1);
	happens(PM_EV_FAST);
	ends(PROC_BACKEND, SIGSEGV, 0, true);
	assert_int_equal(a.quit, PM_ALL);
	four_workers_die();
	assert_false(a.fresh);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_FATAL); /* not a clean stop */

	running(1);
	happens(PM_EV_SMART);
	ends(PROC_WALWRITER, SIGKILL, 0, false);
	assert_int_equal(a.quit, PM_ALL);
	exits(PROC_BACKEND, 2);
	exits(PROC_REPLAY, 2);
	exits(PROC_CONSENSUS, 2);
	exits(PROC_COMPACTOR, 2);
	assert_false(a.fresh);
	assert_true(a.exit);
}

static void
a_worker_that_cannot_be_forked(void **state)
{
	(void) state;
	now = 0;
	pm_init(&s);
	happens(PM_EV_BEGIN);
	happens(PM_EV_MANIFEST_OPEN);
	happens(PM_EV_REPLAYED);
	a = pm_step(&s, &(PmEvent){ .event = PM_EV_FORK_FAILED, .kind = PROC_CONSENSUS });
	assert_int_equal(a.quit, PM_ALL);
	/* The other one of the same launch is not started either then. */
	a = pm_step(&s, &(PmEvent){ .event = PM_EV_FORK_FAILED, .kind = PROC_WALWRITER });
	exits(PROC_REPLAY, 2);
	exits(PROC_COMPACTOR, 2);
	assert_true(a.exit);
	assert_int_equal(s.exit_code, EXIT_FATAL);
}

/* A small world that obeys: whatever happens in it, the postmaster ends or runs, and its invariants hold. */
static void
any_life(void **state)
{
	Prng g;

	(void) state;
	print_message("seed 5\n");
	prng_seed(&g, 5);
	for (int life = 0; life < 3000; life++) {
		int alive[PM_KINDS] = { 0 };
		int reports = 0;
		unsigned ending = 0; /* told to end */

		now = 0;
		pm_init(&s);
		happens(PM_EV_BEGIN);
		for (int i = 0; i < 300 && s.phase != PM_DONE; i++) {
			unsigned total = 0;

			for (int k = 0; k < PROC_AUX_COUNT; k++)
				if (a.launch & PM_BIT(k)) {
					assert_int_equal(alive[k], 0);
					assert_true(s.phase == PM_STARTING);
					alive[k] = 1;
				}
			for (int k = 0; k < PM_KINDS; k++)
				total += (unsigned) alive[k];
			if (a.fresh) {
				assert_int_equal(total, 0);
				reports = 0;
				ending = 0;
				happens(PM_EV_BEGIN);
				continue;
			}
			ending |= a.term | a.quit | a.kill;
			a = (PmActions){ 0 };
			for (int k = 0; k < PM_KINDS; k++)
				assert_int_equal(alive[k], s.alive[k]);
			switch (prng_below(&g, 8)) {
			case 0:
				if (alive[PROC_REPLAY] && reports < 2)
					happens(reports++ == 0 ? PM_EV_MANIFEST_OPEN : PM_EV_REPLAYED);
				break;
			case 1:
				if (alive[PROC_CONSENSUS])
					happens(PM_EV_READY);
				break;
			case 2:
				if (pm_accept(&s) == ST_OK) {
					alive[PROC_BACKEND]++;
					happens(PM_EV_BACKEND);
				}
				break;
			case 3:
				if (prng_below(&g, 20) == 0)
					happens((PmEventKind) (PM_EV_SMART + prng_below(&g, 3)));
				break;
			case 4:
			case 5: {
				int k = (int) prng_below(&g, PM_KINDS);

				if (alive[k] > 0 && (ending & PM_BIT(k) || prng_below(&g, 10) == 0)) {
					alive[k]--;
					ends((ProcKind) k, prng_below(&g, 2) ? SIGKILL : 0, (int) prng_below(&g, 4),
					     prng_below(&g, 4) == 0);
				}
				break;
			}
			default:
				passes(prng_below(&g, 3000));
				break;
			}
		}
		if (s.phase == PM_DONE)
			for (int k = 0; k < PM_KINDS; k++)
				assert_int_equal(alive[k], 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_come_and_go),
		cmocka_unit_test(fast_stop_ends_one_kind_after_the_other),
		cmocka_unit_test(fast_stop_without_clients),
		cmocka_unit_test(smart_stop_waits_for_clients),
		cmocka_unit_test(smart_stop_without_clients_goes_on_at_once),
		cmocka_unit_test(smart_then_fast_then_immediate),
		cmocka_unit_test(the_stop_signal_is_repeated_and_a_backend_that_stays_is_killed),
		cmocka_unit_test(a_killed_backend_costs_only_itself),
		cmocka_unit_test(a_crash_restarts_the_node),
		cmocka_unit_test(fetched_tables_restart_the_node_without_a_crash),
		cmocka_unit_test(while_stopping_fetched_tables_wait_for_the_next_start),
		cmocka_unit_test(doubt_about_durability_stops_the_node),
		cmocka_unit_test(a_start_that_fails_is_not_repeated),
		cmocka_unit_test(killed_while_starting_is_tried_again_a_few_times),
		cmocka_unit_test(stop_while_starting),
		cmocka_unit_test(stop_while_restarting),
		cmocka_unit_test(a_crash_while_stopping_ends_it_at_once),
		cmocka_unit_test(a_worker_that_cannot_be_forked),
		cmocka_unit_test(any_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
