/*
 * blank.c - kvd on a directory that belongs to no cluster yet: waits for one, writes it down, goes on.
 *
 * The process that becomes the postmaster, holding the directory's lock; no children, no shared memory. How
 * a cluster is come by is replication/bootstrap.c's. A crash at any point leaves a blank directory (control
 * is written last), which is given the same again.
 */
#include <signal.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/clock.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/bootstrap.h"

static volatile sig_atomic_t stop;

static void
on_stop(int signo)
{
	(void) signo;
	stop = 1;
}

Status
blank_wait(const char *dir, Control *control)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT };
	Bootstrap b;
	Status st;

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		proc_signal(signals[i], on_stop);
	proc_signal(SIGHUP, SIG_IGN); /* settings are read when it starts */
	KV_TRY(pidfile_write(dir, clock_wall_ms(), (int) config.port, PIDFILE_WAITING));
	st = bootstrap_wait(control, &stop, &b);
	if (st == ST_OK)
		st = initdir_form(&b);
	if (st == ST_OK && stop)
		st = status_fail(ST_TIMEOUT, "stopped");
	if (st != ST_OK) {
		pidfile_remove();
		return st;
	}
	/* Until the postmaster has handlers of its own a stop ends the process as it is: there is nothing to tidy up. */
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		proc_signal(signals[i], SIG_DFL);
	*control = b.control;
	elog(LOG_LEVEL_LOG, "this node belongs to a cluster of %d now", b.members.n);
	return ST_OK;
}
