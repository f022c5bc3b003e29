/*
 * worker.c - the loop of the auxiliary children: step, sleep on the slot, signals, failures.
 *
 * Replay process, WAL writer, compaction worker, consensus worker. What a step does is the business of the room
 * that it calls; which locks it takes, too.
 */
#include "common/config.h"
#include "common/elog.h"
#include "ipc/childsig.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/config_files.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "storage/kvstore.h"

#define RETRY_US 1000000        /* after a failure that may pass by itself */
#define COMPLAIN_NS UINT64_C(60000000000) /* a lasting failure is logged once a minute */

static int log_fd = 2; /* inherited by children */

void
worker_log_fd(int fd)
{
	log_fd = fd;
}

void
worker_apply_log_settings(void)
{
	elog_setup(log_fd, (LogLevel) config.log_level, config.log_format == 1);
}

void
worker_reload(void)
{
	child_reload = 0;
	/* The postmaster has read the same files and said what is wrong with them; then nothing changes here. */
	if (config_load(".", true, NULL) == ST_OK)
		worker_apply_log_settings();
}

void
worker_failed(const char *what)
{
	elog_panic("%s failed: %s", what, status_detail());
}

static void
stop_anywhere(int signo)
{
	(void) signo;
	if (my_slot_no < 0 || !procslot_was_critical(my_slot_no))
		child_exit(0);
	child_stop = 1;
}

void
worker_stops_anywhere(void)
{
	proc_signal(CHILDSIG_STOP_WORKER, stop_anywhere);
}

/* True: try again later. */
static bool
may_pass(Status st)
{
	return st == ST_NO_SPACE || st == ST_OUT_OF_MEMORY || st == ST_BUSY;
}

void
worker_loop(const char *what, Status (*step)(uint64_t *nap_us))
{
	uint64_t complained_ns = 0;

	while (!child_stop) {
		uint64_t nap_us = RETRY_US, now;
		uint32_t token;
		Status st;

		if (child_reload)
			worker_reload();
		token = procslot_prepare_sleep(); /* before the step looks: what comes after it ends the sleep */
		st = step(&nap_us);
		if (st != ST_OK && !may_pass(st))
			worker_failed(what);
		now = clock_mono_ns();
		if (st != ST_OK) {
			nap_us = RETRY_US;
			if (complained_ns == 0 || now - complained_ns >= COMPLAIN_NS)
				elog(LOG_LEVEL_WARNING, "%s failed, trying again: %s", what, status_detail());
			complained_ns = complained_ns == 0 || now - complained_ns >= COMPLAIN_NS ? now : complained_ns;
		}
		if (nap_us > 0 && !child_postmaster_lives())
			child_exit(EXIT_FATAL);
		if (nap_us == 0 || child_stop || child_reload)
			procslot_cancel_sleep();
		else {
			kvstore_release_files();
			procslot_sleep(token, nap_us);
		}
	}
}
