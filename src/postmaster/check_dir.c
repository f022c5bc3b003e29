/*
 * check_dir.c - `kvd --check`: every file of a stopped server's directory, with progress, a summary and an exit code.
 *
 * One process that holds the directory's lock, so that no server changes files under it; it changes nothing itself.
 */
#include <inttypes.h>
#include <stdio.h>

#include "port/clock.h"
#include "port/proc.h"
#include "postmaster_internal.h"
#include "replication/fetch.h"
#include "replication/membership.h"
#include "replication/votefile.h"
#include "storage/kvstore.h"

#define MB_BYTES 1048576.0
#define TERMINAL_NS UINT64_C(200000000) /* a line that is overwritten */
#define STDERR_FD 2
#define LINES_NS UINT64_C(5000000000)   /* lines in a log */

typedef struct Run {
	uint64_t damages, unreadable; /* findings */
	uint64_t start_ns, told_ns;
	bool tty, shown;              /* a line of progress stands on the terminal */
} Run;

static void
clear_line(Run *r)
{
	if (r->shown)
		fputs("\r\033[K", stderr);
	r->shown = false;
}

static void
finding(void *arg, Status st)
{
	Run *r = arg;

	clear_line(r);
	if (st == ST_CORRUPT)
		r->damages++;
	else
		r->unreadable++;
	printf("%s: %s\n", st == ST_CORRUPT ? "damage" : "cannot be read", status_detail());
	fflush(stdout);
}

static double
seconds_since(uint64_t ns)
{
	double s = (double) (clock_mono_ns() - ns) / 1e9;

	return s > 0.001 ? s : 0.001;
}

static void
progress(void *arg, uint64_t bytes, uint64_t of)
{
	Run *r = arg;
	uint64_t now = clock_mono_ns();

	if (now - r->told_ns < (r->tty ? TERMINAL_NS : LINES_NS))
		return;
	r->told_ns = now;
	fprintf(stderr, "%schecking: %.0f %%, %.0f of %.0f MB, %.0f MB/s%s", r->tty ? "\r" : "",
	        of > 0 ? 100.0 * (double) bytes / (double) of : 100.0, (double) bytes / MB_BYTES, (double) of / MB_BYTES,
	        (double) bytes / MB_BYTES / seconds_since(r->start_ns), r->tty ? "\033[K" : "\n");
	fflush(stderr);
	r->shown = r->tty;
}

/* Who is in the cluster, and whom this node voted for. */
static void
check_identity(Run *r, uint64_t incarnation)
{
	Membership members;
	Lsn at;
	Status st;

	for (int i = 0; i < 2; i++) {
		st = votefile_check(i, incarnation);
		if (st != ST_OK)
			finding(r, st);
	}
	st = membership_file_read(&members, &at);
	if (st != ST_OK && st != ST_NOT_FOUND)
		finding(r, st);
}

static int
summary(const Run *r, const KvCheck *c, const char *dir)
{
	printf("%s: %" PRIu64 " tables with %" PRIu64 " entries, %" PRIu64 " log records, %.1f MB read in %.1f s: ", dir,
	       c->tables, c->entries, c->records, (double) c->bytes / MB_BYTES, seconds_since(r->start_ns));
	if (r->damages + r->unreadable == 0)
		puts("no damage found");
	else
		printf("%" PRIu64 " damages, %" PRIu64 " not to be read\n", r->damages, r->unreadable);
	return r->damages > 0 ? EXIT_CHECK_DAMAGE : r->unreadable > 0 ? EXIT_CHECK_UNREADABLE : 0;
}

/* One failure ends it: the directory as a whole cannot be checked. */
static int
refused(Status st)
{
	fprintf(stderr, "kvd: %s\n", status_detail());
	return st == ST_BUSY ? EXIT_CHECK_IN_USE : st == ST_CORRUPT ? EXIT_CHECK_DAMAGE : EXIT_CHECK_UNREADABLE;
}

static Status
open_directory(const char *dir, Control *control)
{
	bool empty;

	KV_TRY(initdir_look(dir, &empty));
	if (empty)
		return status_fail(ST_NOT_FOUND, "\"%s\" is not a data directory", dir);
	KV_TRY(lock_take(dir));
	KV_TRY(control_read(control));
	if (control_blank(control))
		return status_fail(ST_USAGE, "this node belongs to no cluster yet: there is nothing in it");
	return ST_OK;
}

int
check_directory(const char *dir)
{
	Run r = { .start_ns = clock_mono_ns(), .tty = proc_is_terminal(STDERR_FD) };
	KvCheck c = { .finding = finding, .progress = progress, .arg = &r };
	Control control;
	Status st = open_directory(dir, &control);

	if (st != ST_OK)
		return refused(st);
	r.told_ns = r.start_ns;
	check_identity(&r, control.node_incarnation);
	st = fetch_cut_off(&control, &c.installed, &c.installed_term);
	if (st != ST_OK)
		finding(&r, st);
	kvstore_check(&control, &c);
	clear_line(&r);
	return summary(&r, &c, dir);
}
