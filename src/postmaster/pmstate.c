/*
 * pmstate.c - the postmaster's decisions: start, stop modes, crash. Pure: no clock, no signal, no memory.
 *
 * Run by the postmaster; tested as stories (src/test/unit/postmaster/test_pmstate.c).
 *
 *   STARTING -> RUNNING -> [SMART ->] STOP_BACKENDS -> STOP_CONSENSUS -> STOP_ENGINE -> STOP_WALWRITER -> DONE
 *      any of them -> KILLING (a child may have left shared memory half changed, or SIGQUIT)
 *      KILLING -> STARTING with fresh shared memory, or DONE
 *
 * Invariants:
 * 1. Fresh memory is asked for only when no child is alive (rule P2).
 * 2. A dead child is forgiven only if it is a backend outside a critical section that left by itself
 *    (exit 0 or EXIT_FATAL) or by SIGKILL (rule P1).
 * 3. In KILLING nothing is launched.
 * 4. A fetcher that ends with EXIT_INSTALL restarts the node like a crash, but is none.
 */
#include "pmstate.h"

#include <signal.h>
#include <string.h>

#include "common/elog.h"

void
pm_init(PmState *s)
{
	memset(s, 0, sizeof *s);
	s->phase = PM_STARTING;
}

static int
alive_total(const PmState *s)
{
	int n = 0;

	for (int i = 0; i < PM_KINDS; i++)
		n += s->alive[i];
	return n;
}

static void
launch(PmState *s, PmActions *a, ProcKind kind)
{
	if (s->alive[kind] > 0)
		return;
	s->alive[kind] = 1;
	a->launch |= PM_BIT(kind);
}

static void
enter(PmState *s, PmPhase phase, uint64_t now_ms)
{
	s->phase = phase;
	s->since_ms = now_ms;
	s->nudged_ms = now_ms;
}

/* Who has to end in a phase of an orderly stop before the next one begins. */
static unsigned
ending(PmPhase phase)
{
	switch (phase) {
	case PM_STOP_BACKENDS:
		return PM_BIT(PROC_BACKEND);
	case PM_STOP_CONSENSUS:
		return PM_BIT(PROC_CONSENSUS) | PM_BIT(PROC_FETCHER) | PM_BIT(PROC_CHECKER);
	case PM_STOP_ENGINE:
		return PM_BIT(PROC_REPLAY) | PM_BIT(PROC_COMPACTOR);
	case PM_STOP_WALWRITER:
		return PM_BIT(PROC_WALWRITER);
	default:
		return 0;
	}
}

static bool
any_alive(const PmState *s, unsigned mask)
{
	for (int i = 0; i < PM_KINDS; i++)
		if ((mask & PM_BIT(i)) && s->alive[i] > 0)
			return true;
	return false;
}

/* All children gone in KILLING: start anew or end. */
static void
finish_killing(PmState *s, PmActions *a, uint64_t now_ms)
{
	if (alive_total(s) > 0)
		return;
	if (s->restart) {
		s->restart = false;
		enter(s, PM_STARTING, now_ms);
		a->fresh = true;
		a->planned = s->planned;
		s->planned = false;
	} else {
		enter(s, PM_DONE, now_ms);
		a->exit = true;
	}
}

static void
kill_all(PmState *s, PmActions *a, uint64_t now_ms)
{
	enter(s, PM_KILLING, now_ms);
	s->killed = false;
	a->quit = PM_ALL;
	finish_killing(s, a, now_ms);
}

/* Enter a phase of the orderly stop, or the first after it in which somebody is left to end. */
static void
stop_from(PmState *s, PmActions *a, PmPhase phase, uint64_t now_ms)
{
	while (phase <= PM_STOP_WALWRITER && !any_alive(s, ending(phase)))
		phase++;
	if (phase > PM_STOP_WALWRITER) {
		enter(s, PM_DONE, now_ms);
		a->exit = true;
		return;
	}
	enter(s, phase, now_ms);
	a->term = ending(phase);
}

static void
on_stop(PmState *s, PmActions *a, const PmEvent *e)
{
	if (s->phase == PM_DONE)
		return;
	if (s->phase == PM_KILLING) {
		s->restart = false;
		return;
	}
	if (e->event == PM_EV_IMMEDIATE || s->phase == PM_STARTING) {
		/* Nothing that was promised is lost: what is acknowledged is durable, and a start can be cut off anywhere. */
		a->why = e->event == PM_EV_IMMEDIATE ? "received immediate stop request"
		                                     : "received stop request while starting";
		kill_all(s, a, e->now_ms);
	} else if (e->event == PM_EV_FAST && (s->phase == PM_RUNNING || s->phase == PM_SMART)) {
		a->why = "received fast stop request";
		stop_from(s, a, PM_STOP_BACKENDS, e->now_ms);
	} else if (e->event == PM_EV_SMART && s->phase == PM_RUNNING) {
		a->why = "received smart stop request, waiting for clients to leave";
		enter(s, PM_SMART, e->now_ms);
		if (s->alive[PROC_BACKEND] == 0)
			stop_from(s, a, PM_STOP_BACKENDS, e->now_ms);
	}
}

static bool
forgiven(const PmEvent *e)
{
	if (e->kind != PROC_BACKEND || e->critical)
		return false;
	return e->signal != 0 ? e->signal == SIGKILL : e->code == 0 || e->code == EXIT_FATAL;
}

/* The fetcher has done what it was for. While the node stops it is an end like any other: the next start installs. */
static bool
wants_install(const PmEvent *e)
{
	return e->kind == PROC_FETCHER && !e->critical && e->signal == 0 && e->code == EXIT_INSTALL;
}

static void
on_install(PmState *s, PmActions *a, uint64_t now_ms)
{
	s->restart = true;
	s->planned = true;
	a->why = "restarting the node with the tables that were fetched from another one";
	kill_all(s, a, now_ms);
}

/* Shared memory cannot be trusted any more. */
static void
on_crash(PmState *s, PmActions *a, const PmEvent *e)
{
	if (s->phase == PM_RUNNING || s->phase == PM_SMART) {
		s->restart = s->phase == PM_RUNNING;
		s->exit_code = s->restart ? 0 : EXIT_FATAL;
		a->why = s->restart ? "restarting the node" : "stopping at once: a child crashed while clients were leaving";
	} else if (s->phase == PM_STARTING && e->signal != 0 && ++s->failed_starts < PM_FAILED_STARTS_MAX) {
		s->restart = true;
		a->why = "starting again";
	} else {
		/* Starting: it would fail again. Stopping: what was promised is durable, the next start replays it. */
		s->exit_code = EXIT_FATAL;
		a->why = s->phase == PM_STARTING ? "giving up: the node does not start" : "stopping at once: a child crashed";
	}
	kill_all(s, a, e->now_ms);
}

static void
on_ended(PmState *s, PmActions *a, const PmEvent *e)
{
	s->alive[e->kind]--;
	if (s->phase == PM_KILLING) {
		if (e->signal == 0 && e->code == EXIT_STOP_NODE) {
			s->restart = false;
			s->exit_code = EXIT_STOP_NODE;
		}
		finish_killing(s, a, e->now_ms);
		return;
	}
	if (e->signal == 0 && e->code == EXIT_STOP_NODE) {
		s->exit_code = EXIT_STOP_NODE;
		a->why = "stopping: durability is in doubt, see the message above";
		kill_all(s, a, e->now_ms);
		return;
	}
	if (wants_install(e)) {
		if (s->phase == PM_STARTING || s->phase == PM_RUNNING) {
			on_install(s, a, e->now_ms);
			return;
		}
	} else if (forgiven(e)) {
		a->mark_dead = true;
		if (s->phase == PM_SMART && s->alive[PROC_BACKEND] == 0)
			stop_from(s, a, PM_STOP_BACKENDS, e->now_ms);
	} else if (!(ending(s->phase) & PM_BIT(e->kind)) || e->signal != 0 || e->code != 0 || e->critical) {
		on_crash(s, a, e);
		return;
	}
	if (ending(s->phase) != 0 && !any_alive(s, ending(s->phase)))
		stop_from(s, a, s->phase, e->now_ms);
}

static void
on_tick(PmState *s, PmActions *a, uint64_t now_ms)
{
	if (s->phase == PM_KILLING) {
		if (!s->killed && now_ms - s->since_ms >= PM_QUIT_GRACE_MS) {
			s->killed = true;
			a->kill = PM_ALL;
		}
		return;
	}
	if (ending(s->phase) == 0 || now_ms - s->nudged_ms < PM_NUDGE_MS)
		return;
	s->nudged_ms = now_ms;
	if (s->phase == PM_STOP_BACKENDS && now_ms - s->since_ms >= PM_BACKEND_GRACE_MS)
		a->kill = ending(s->phase);
	else
		a->term = ending(s->phase);
}

PmActions
pm_step(PmState *s, const PmEvent *e)
{
	PmActions a = { 0 };

	switch (e->event) {
	case PM_EV_BEGIN:
		if (s->phase == PM_STARTING) {
			s->since_ms = e->now_ms;
			launch(s, &a, PROC_REPLAY);
		}
		break;
	case PM_EV_MANIFEST_OPEN:
		if (s->phase == PM_STARTING)
			launch(s, &a, PROC_COMPACTOR);
		break;
	case PM_EV_REPLAYED:
		if (s->phase == PM_STARTING) {
			launch(s, &a, PROC_WALWRITER);
			launch(s, &a, PROC_CONSENSUS);
			if (s->peers) {
				launch(s, &a, PROC_FETCHER);
				launch(s, &a, PROC_CHECKER);
			}
		}
		break;
	case PM_EV_READY:
		if (s->phase == PM_STARTING) {
			enter(s, PM_RUNNING, e->now_ms);
			s->failed_starts = 0;
			a.ready = true;
		}
		break;
	case PM_EV_BACKEND:
		s->alive[PROC_BACKEND]++;
		break;
	case PM_EV_ENDED:
		on_ended(s, &a, e);
		break;
	case PM_EV_SMART:
	case PM_EV_FAST:
	case PM_EV_IMMEDIATE:
		on_stop(s, &a, e);
		break;
	case PM_EV_FORK_FAILED:
		/* The launch was counted; nobody is there to end. */
		s->alive[e->kind]--;
		if (s->phase != PM_KILLING)
			on_crash(s, &a, e);
		break;
	case PM_EV_TICK:
		on_tick(s, &a, e->now_ms);
		break;
	}
	return a;
}

Status
pm_accept(const PmState *s)
{
	if (s->phase == PM_RUNNING)
		return ST_OK;
	if (s->phase == PM_STARTING || (s->phase == PM_KILLING && s->restart))
		return ST_STARTING;
	return ST_SHUTTING_DOWN;
}

const char *
pm_state_name(const PmState *s)
{
	switch (pm_accept(s)) {
	case ST_OK:
		return "ready";
	case ST_STARTING:
		return "starting";
	default:
		return "stopping";
	}
}
