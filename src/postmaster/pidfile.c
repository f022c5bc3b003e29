/*
 * pidfile.c - postmaster.pid: what kvctl and people may know without connecting.
 *
 * Postmaster only. Text, one item a line, replaced as a whole:
 *   1 process id   2 port   3 start, ms since 1970   4 data directory   5 starting | ready | stopping |
 *     waiting (for a cluster)   6 listen_addresses
 * It is no lock (that is kvd.lock): after a kill -9 it stays and is stale. Nor is it synced: after a power failure
 * there is no server that it could speak of.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/child.h"
#include "port/fs.h"
#include "postmaster_internal.h"

#define PIDFILE_TMP PIDFILE ".tmp"
#define PIDFILE_MAX 4864 /* a path, the addresses and a few numbers */

Status
pidfile_write(const char *dir, uint64_t started_ms, int port, const char *state)
{
	char text[PIDFILE_MAX];
	Status st, closed;
	int fd;
	int n = snprintf(text, sizeof text, "%ld\n%d\n%" PRIu64 "\n%s\n%s\n%s\n", (long) child_self(), port, started_ms,
	                 dir, state, config.listen_addresses);

	if (n < 0 || (size_t) n >= sizeof text)
		return status_fail(ST_INTERNAL, "the name of the data directory is too long");
	KV_TRY(fs_open(PIDFILE_TMP, FS_CREATE, &fd));
	st = fs_truncate(fd, 0);
	if (st == ST_OK)
		st = fs_pwrite(fd, text, (size_t) n, 0);
	closed = fs_close(fd);
	KV_TRY(st);
	KV_TRY(closed);
	return fs_rename(PIDFILE_TMP, PIDFILE);
}

void
pidfile_remove(void)
{
	Status st = fs_unlink(PIDFILE);

	if (st != ST_OK && st != ST_NOT_FOUND)
		elog(LOG_LEVEL_WARNING, "%s", status_detail());
}
