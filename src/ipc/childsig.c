/*
 * childsig.c - a child's signal handlers, death pipe (rule P4) and report pipe.
 *
 * Every child of the postmaster. No locks. Handlers only set flags and wake the own slot.
 */
#include "ipc/childsig.h"

#include "ipc/procslot.h"
#include "port/child.h"
#include "port/proc.h"

#define EXIT_QUIT 2 /* told to go at once */

volatile sig_atomic_t child_stop;
volatile sig_atomic_t child_reload;
static int death_pipe = -1;
static int report_pipe = -1;

static void
on_signal(int signo)
{
	if (signo == SIGQUIT)
		child_exit(EXIT_QUIT);
	if (signo == SIGTERM || signo == SIGUSR2)
		child_stop = 1;
	if (signo == SIGHUP)
		child_reload = 1;
	if (my_slot_no >= 0)
		procslot_wake(my_slot_no);
}

void
childsig_setup(int death_fd, int report_fd, int stop_signal)
{
	death_pipe = death_fd;
	report_pipe = report_fd;
	child_stop = 0;
	child_reload = 0;
	proc_signal(SIGTERM, SIG_IGN);
	proc_signal(SIGUSR2, SIG_IGN);
	proc_signal(stop_signal, on_signal);
	proc_signal(SIGHUP, on_signal);
	proc_signal(SIGQUIT, on_signal);
	proc_signal(SIGUSR1, on_signal);
	proc_signal(SIGINT, SIG_IGN);
	proc_signal(SIGPIPE, SIG_IGN);
	proc_signal(SIGCHLD, SIG_DFL);
}

bool
child_postmaster_lives(void)
{
	char c;

	return death_pipe < 0 || child_pipe_get(death_pipe, &c, 1) >= 0;
}

void
child_report(char what)
{
	if (report_pipe >= 0)
		child_pipe_put(report_pipe, what);
}
