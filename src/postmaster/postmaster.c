/*
 * postmaster.c - the postmaster's event loop: signals, dead children, clients; does what pmstate.c decides.
 *
 * The first process. It never touches shared memory after the children run, but for their slots (procslot.h) and
 * the figures of nodestate.h that it writes before it forks; so nothing a mad child does can take it down.
 *
 * Invariants:
 * 1. Only pids that fork() gave us and waitpid() has not are signalled.
 * 2. A slot is given to a child only if the last one in it was reaped and the slot is FREE.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "ipc/childsig.h"
#include "ipc/nodestate.h"
#include "pmstate.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "port/proc.h"
#include "postmaster_internal.h"

#define TICK_MS 1000     /* looking for stuck processes; more often if stuck_timeout is short */
#define BUSY_TICK_MS 20  /* while children are being ended */
#define POLL_FDS 128     /* signal pipe, report pipe, listeners, refused clients */
#define STUCK_SYNC_FACTOR 10 /* a sync may take this many times stuck_timeout */
#define STUCK_LOOKS 3    /* a clock that jumped over a suspend makes everybody look stuck once */

typedef struct Child {
	pid_t pid;               /* 0: none */
	uint64_t stuck_since;    /* as seen by the last look for stuck processes */
	int looks;               /* in a row that saw the same */
} Child;

static PmState state;
static Child *children;      /* by slot */
static int nslots;
static int signal_pipe[2];
static const Control *control;
static const char *data_dir;
static uint64_t started_ms;
static int real_port;
static uint32_t restarts;
static uint64_t run_began_ms;
static int next_regular; /* where the search for a free slot begins: spreads reuse */

static uint64_t
now_ms(void)
{
	return clock_mono_ns() / 1000000;
}

static void
on_signal(int signo)
{
	child_pipe_put(signal_pipe[1], (char) signo);
}

static void
close_in_child(void)
{
	clients_close_in_child();
	if (fs_close(signal_pipe[0]) != ST_OK || fs_close(signal_pipe[1]) != ST_OK)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
}

static ProcKind
kind_of(int slot)
{
	return slot < PROC_AUX_COUNT ? (ProcKind) slot : PROC_BACKEND;
}

static void
signal_kinds(unsigned mask, int signo)
{
	for (int i = 0; i < nslots; i++)
		if (children[i].pid != 0 && (mask & PM_BIT(kind_of(i))))
			child_signal(children[i].pid, signo);
}

/* ---- doing what was decided */

static void
write_pidfile(void)
{
	if (pidfile_write(data_dir, started_ms, real_port, pm_state_name(&state)) != ST_OK)
		elog(LOG_LEVEL_WARNING, "cannot write " PIDFILE ": %s", status_detail());
}

static void
announce_ready(void)
{
	char host[sizeof config.listen_addresses];

	static bool announced;

	if (announced) {
		elog(LOG_LEVEL_LOG, "the node is ready again after %" PRIu64 " ms", now_ms() - run_began_ms);
		return;
	}
	announced = true;
	snprintf(host, sizeof host, "%s", config.listen_addresses);
	host[strcspn(host, ", ")] = '\0';
	printf("kvd %s is ready, listening on %s:%d, data in %s\n", KVD_VERSION, host, real_port, data_dir);
	printf("try: kvctl -p %d put hello world\n", real_port);
	fflush(stdout);
}

static void step(PmEvent e);

static void
launch_kinds(unsigned mask)
{
	for (int kind = 0; kind < PROC_AUX_COUNT; kind++) {
		PmEvent failed = { .event = PM_EV_FORK_FAILED, .kind = (ProcKind) kind };

		if (!(mask & PM_BIT(kind)))
			continue;
		/* A failed fork may have changed the phase: then the rest of the mask is not started either. */
		if (state.phase == PM_STARTING) {
			if (launch_child((ProcKind) kind, kind, -1, close_in_child, &children[kind].pid) == ST_OK)
				continue;
			children[kind].pid = 0;
			elog(LOG_LEVEL_ERROR, "cannot start the %s process: %s", launch_name((ProcKind) kind), status_detail());
		}
		step(failed);
	}
}

static Status
fresh_memory(void)
{
	char stale[64];

	while (child_pipe_get(launch_pipes.report[0], stale, sizeof stale) > 0)
		;
	KV_TRY(shmem_create(control));
	nodestate()->started_ms = started_ms;
	nodestate()->restarts = restarts;
	nodestate()->port = (uint32_t) real_port;
	nodestate()->postmaster_pid = (uint32_t) child_self();
	return ST_OK;
}

static void
step(PmEvent e)
{
	const char *before = pm_state_name(&state);
	PmActions a;

	e.now_ms = now_ms();
	a = pm_step(&state, &e);
	if (a.why != NULL)
		elog(LOG_LEVEL_LOG, "%s", a.why);
	if (a.quit != 0)
		run_began_ms = e.now_ms;
	signal_kinds(a.quit, SIGQUIT);
	signal_kinds(a.term & PM_BIT(PROC_BACKEND), CHILDSIG_STOP_BACKEND);
	signal_kinds(a.term & ~PM_BIT(PROC_BACKEND), CHILDSIG_STOP_WORKER);
	signal_kinds(a.kill, SIGKILL);
	if (a.ready)
		announce_ready();
	if (strcmp(pm_state_name(&state), before) != 0)
		write_pidfile();
	if (a.fresh) {
		restarts += !a.planned;
		if (fresh_memory() != ST_OK) {
			elog(LOG_LEVEL_FATAL, "%s", status_detail());
			state.exit_code = EXIT_FATAL;
			state.phase = PM_DONE;
			return;
		}
		step((PmEvent){ .event = PM_EV_BEGIN });
	}
	launch_kinds(a.launch);
}

/* ---- children */

static void
report_end(const ChildEnd *end, ProcKind kind, bool critical)
{
	bool wanted = state.phase == PM_KILLING || (kind == PROC_BACKEND && end->signal == 0 && end->code == 0) ||
		(kind == PROC_FETCHER && end->signal == 0 && end->code == EXIT_INSTALL) ||
		(state.phase != PM_STARTING && state.phase != PM_RUNNING && end->signal == 0 && end->code == 0);

	if (wanted)
		elog(LOG_LEVEL_DEBUG, "%s process %ld ended", launch_name(kind), (long) end->pid);
	else if (end->signal != 0)
		elog(LOG_LEVEL_WARNING, "%s process %ld was ended by signal %d%s", launch_name(kind), (long) end->pid,
		     end->signal, critical ? " inside a critical section" : "");
	else
		elog(LOG_LEVEL_WARNING, "%s process %ld ended with exit code %d%s", launch_name(kind), (long) end->pid,
		     end->code, critical ? " inside a critical section" : "");
}

static void
reap_children(void)
{
	ChildEnd end;

	while (child_reap(&end)) {
		PmEvent e = { .event = PM_EV_ENDED, .signal = end.signal, .code = end.code };
		int slot = 0;

		while (slot < nslots && children[slot].pid != end.pid)
			slot++;
		if (slot == nslots)
			continue; /* not ours: inherited from whoever executed us */
		children[slot] = (Child){ 0 };
		e.kind = kind_of(slot);
		e.critical = procslot_was_critical(slot);
		report_end(&end, e.kind, e.critical);
		if (state.phase != PM_KILLING) {
			procslot_mark_dead(slot); /* harmless if all memory is replaced next */
			if (children[PROC_WALWRITER].pid != 0)
				child_signal(children[PROC_WALWRITER].pid, SIGUSR1);
		}
		step(e);
	}
}

/*
 * Since when a process has been where it must not stay: inside a critical section (rule G2), or with a pin that keeps
 * memory from everybody (rule A6). 0: it is not. A sync is the disk's business and is waited for longer: killing who
 * waits does not end it.
 */
static uint64_t
stuck_since(const ProcSlot *s, const char **where, uint64_t *limit_ns)
{
	*limit_ns = (uint64_t) config.stuck_timeout * 1000000;
	if (atomic_load(&s->critical) > 0) {
		if (atomic_load(&s->syncing))
			*limit_ns *= STUCK_SYNC_FACTOR;
		*where = "inside a critical section";
		return atomic_load(&s->critical_since_ns);
	}
	*where = "holding a pin";
	return atomic_load(&s->pin_epoch) != PROC_NO_PIN ? atomic_load(&s->pin_since_ns) : 0;
}

/*
 * A process that stays inside one critical section (stopped, or looping) holds up all others (rule G2). Only its own
 * slot can accuse it, and the pid is ours.
 */
static void
kill_stuck(void)
{
	uint64_t now = clock_mono_ns();

	for (int i = 0; i < nslots; i++) {
		Child *c = &children[i];
		const char *where;
		uint64_t since, limit_ns;

		if (c->pid == 0)
			continue;
		since = stuck_since(procslot_get(i), &where, &limit_ns);
		c->looks = since != 0 && since == c->stuck_since ? c->looks + 1 : 0;
		c->stuck_since = since;
		if (c->looks < STUCK_LOOKS || now < since || now - since < limit_ns)
			continue;
		elog(LOG_LEVEL_WARNING, "%s process %ld has been %s for %" PRIu64 " ms, ending it (stuck_timeout)",
			launch_name(kind_of(i)), (long) c->pid, where, (now - since) / 1000000);
		c->looks = 0;
		child_signal(c->pid, SIGKILL);
	}
}

/* ---- clients */

static int
free_slot(int from, int to, int begin)
{
	for (int i = 0; i < to - from; i++) {
		int slot = from + (begin + i) % (to - from);

		if (children[slot].pid == 0 && procslot_is_free(slot))
			return slot;
	}
	return -1;
}

static int
used_slots(int from, int to)
{
	int n = 0;

	for (int i = from; i < to; i++)
		n += children[i].pid != 0;
	return n;
}

void
postmaster_place(ClientPlace *out)
{
	int first = shmem_first_reserved();

	memset(out, 0, sizeof *out);
	out->code = pm_accept(&state);
	out->what = PLACE_REFUSE;
	if (out->code == ST_STARTING) {
		snprintf(out->text, sizeof out->text, "the server is starting, try again in a moment");
		return;
	}
	if (out->code == ST_SHUTTING_DOWN) {
		snprintf(out->text, sizeof out->text, "the server is shutting down");
		return;
	}
	if (used_slots(PROC_AUX_COUNT, first) < config.max_connections) {
		out->slot = free_slot(PROC_AUX_COUNT, first, next_regular);
		out->what = out->slot >= 0 ? PLACE_SERVE : PLACE_WAIT;
		next_regular = out->slot >= 0 ? out->slot - PROC_AUX_COUNT + 1 : next_regular;
	} else if (used_slots(first, nslots) < config.reserved_connections) {
		out->slot = free_slot(first, nslots, 0);
		out->what = out->slot >= 0 ? PLACE_SERVE : PLACE_WAIT;
	} else {
		out->code = ST_TOO_MANY_CONNECTIONS;
		snprintf(out->text, sizeof out->text, "all %d connections (max_connections) and %d reserved ones are in use",
		         (int) config.max_connections, (int) config.reserved_connections);
	}
}

Status
postmaster_serve(int slot, int client_fd)
{
	KV_TRY(launch_child(PROC_BACKEND, slot, client_fd, close_in_child, &children[slot].pid));
	step((PmEvent){ .event = PM_EV_BACKEND });
	return ST_OK;
}

/* ---- the loop */

static void
reload(void)
{
	int waiting = 0;

	if (config_load(".", true, &waiting) != ST_OK) {
		elog(LOG_LEVEL_ERROR, "settings not reloaded: %s", status_detail());
		return;
	}
	worker_apply_log_settings();
	signal_kinds(PM_ALL, SIGHUP);
	elog(LOG_LEVEL_LOG, "settings reloaded%s",
	     waiting > 0 ? "; some take effect only after a restart (kvctl config)" : "");
}

static void
handle_signals(void)
{
	char got[64];
	int n;

	while ((n = child_pipe_get(signal_pipe[0], got, sizeof got)) > 0)
		for (int i = 0; i < n; i++)
			switch (got[i]) {
			case SIGTERM:
				step((PmEvent){ .event = PM_EV_SMART });
				break;
			case SIGINT:
				step((PmEvent){ .event = PM_EV_FAST });
				break;
			case SIGQUIT:
				step((PmEvent){ .event = PM_EV_IMMEDIATE });
				break;
			case SIGHUP:
				reload();
				break;
			default: /* SIGCHLD: every turn of the loop reaps */
				break;
			}
}

static void
handle_reports(void)
{
	char got[64];
	int n = child_pipe_get(launch_pipes.report[0], got, sizeof got);

	for (int i = 0; i < n; i++)
		if (got[i] == REPORT_MANIFEST_OPEN)
			step((PmEvent){ .event = PM_EV_MANIFEST_OPEN });
		else if (got[i] == REPORT_REPLAYED)
			step((PmEvent){ .event = PM_EV_REPLAYED });
		else if (got[i] == REPORT_READY)
			step((PmEvent){ .event = PM_EV_READY });
}

static void
turn(void)
{
	static uint64_t looked_ms;
	int share_ms = (int) config.stuck_timeout / (STUCK_LOOKS + 1), look_ms = share_ms < TICK_MS ? share_ms : TICK_MS;
	int fds[POLL_FDS] = { signal_pipe[0], launch_pipes.report[0] };
	bool ready[POLL_FDS];
	int n = 2 + clients_poll_fds(fds + 2, POLL_FDS - 2);
	bool quiet = state.phase == PM_STARTING || state.phase == PM_RUNNING || state.phase == PM_SMART;

	child_poll(fds, ready, n, clients_timeout(quiet ? look_ms : BUSY_TICK_MS));
	handle_signals();
	/* Reports first: who died after its report did its work. */
	handle_reports();
	reap_children();
	if (state.phase == PM_DONE)
		return;
	clients_ready(fds + 2, ready + 2, n - 2);
	clients_tick();
	step((PmEvent){ .event = PM_EV_TICK });
	if (now_ms() - looked_ms >= (uint64_t) look_ms) {
		looked_ms = now_ms();
		kill_stuck();
	}
}

static Status
prepare(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD };

	nslots = shmem_slots();
	children = calloc((size_t) nslots, sizeof *children);
	if (children == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory for %d process slots", nslots);
	KV_TRY(child_pipe(signal_pipe));
	KV_TRY(launch_make_pipes());
	proc_signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		proc_signal(signals[i], on_signal);
	real_port = (int) config.port;
	KV_TRY(clients_listen(&real_port));
	return fresh_memory();
}

int
postmaster_run(const Control *c, const char *dir)
{
	control = c;
	data_dir = dir;
	started_ms = clock_wall_ms();
	run_began_ms = now_ms();
	pm_init(&state);
	state.peers = config.peer_port != 0;
	if (prepare() != ST_OK) {
		elog(LOG_LEVEL_FATAL, "%s", status_detail());
		free(children);
		return EXIT_FATAL;
	}
	write_pidfile();
	step((PmEvent){ .event = PM_EV_BEGIN });
	while (state.phase != PM_DONE)
		turn();
	pidfile_remove();
	elog(LOG_LEVEL_LOG, "the server has stopped%s", state.exit_code == 0 ? "" : " because of an error");
	free(children);
	return state.exit_code;
}
