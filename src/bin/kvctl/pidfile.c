/*
 * pidfile.c - which server runs in a data directory.
 *
 * postmaster.pid says who wrote it last, the lock on kvd.lock who lives. The lock decides: a number in a file may by
 * now be that of a stranger.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvctl.h"
#include "port/fs.h"

#define PIDFILE "postmaster.pid"
#define LOCK_FILE "kvd.lock"
#define PIDFILE_MAX 16384
#define MS_SINCE 100000000000 /* a start time above this (year 5138 in s, 1973 in ms) is in ms */

/* Copy the next line; false at the end. */
static bool
next_line(const char **text, char *out, size_t size)
{
	size_t len = strcspn(*text, "\n");

	out[0] = '\0';
	if (**text == '\0' || len >= size)
		return false;
	memcpy(out, *text, len);
	out[len] = '\0';
	*text += len + ((*text)[len] == '\n');
	return true;
}

Status
pidfile_parse(const char *text, PidFile *out)
{
	char number[32];
	uint64_t v[3] = { 0 };

	*out = (PidFile){ 0 };
	for (int i = 0; i < 3; i++) {
		if (!next_line(&text, number, sizeof number) || u64_parse(number, &v[i]) != ST_OK)
			return status_fail(ST_FOREIGN, PIDFILE " is not understood: line %d is no number", i + 1);
	}
	out->pid = (long) v[0];
	out->port = (int) v[1];
	out->start_s = v[2] > MS_SINCE ? v[2] / 1000 : v[2];
	if (out->pid <= 0 || v[1] > 65535)
		return status_fail(ST_FOREIGN, PIDFILE " is not understood: wrong numbers");
	if (!next_line(&text, out->dir, sizeof out->dir) || !next_line(&text, out->state, sizeof out->state))
		return status_fail(ST_FOREIGN, PIDFILE " is not understood: it is too short");
	if (!next_line(&text, out->listen, sizeof out->listen) || out->listen[0] == '\0')
		snprintf(out->listen, sizeof out->listen, "127.0.0.1");
	/* To connect, one address is enough, and "all" means this machine too. */
	out->listen[strcspn(out->listen, ", ")] = '\0';
	if (strcmp(out->listen, "*") == 0 || strcmp(out->listen, "0.0.0.0") == 0)
		snprintf(out->listen, sizeof out->listen, "127.0.0.1");
	return ST_OK;
}

/* Process that holds the lock; 0 if nobody does. */
static Status
lock_holder(const char *dir, long *pid)
{
	char path[CTL_PATH_MAX];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, rc;

	*pid = 0;
	if ((size_t) snprintf(path, sizeof path, "%s/" LOCK_FILE, dir) >= sizeof path)
		return status_fail(ST_USAGE, "the name of the directory is too long");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return ST_OK;
	if (fd < 0)
		return status_fail_errno(ST_USAGE, "cannot open %s", path);
	rc = fcntl(fd, F_GETLK, &lock);
	close(fd);
	if (rc != 0)
		return status_fail_errno(ST_USAGE, "cannot look at the lock of %s", path);
	if (lock.l_type != F_UNLCK)
		*pid = (long) lock.l_pid;
	return ST_OK;
}

Status
pidfile_read(const char *dir, PidFile *out)
{
	char path[CTL_PATH_MAX];
	char *text;
	size_t len;
	long holder;
	Status st;

	KV_TRY(lock_holder(dir, &holder));
	if (holder == 0)
		return status_fail(ST_NOT_FOUND, "no server is running in \"%s\"", dir);
	if ((size_t) snprintf(path, sizeof path, "%s/" PIDFILE, dir) >= sizeof path)
		return status_fail(ST_USAGE, "the name of the directory is too long");
	st = fs_read_file(path, PIDFILE_MAX, &text, &len);
	if (st == ST_OK) {
		st = pidfile_parse(text, out);
		free(text);
	}
	/* It has the lock but has not written its own file yet. */
	if (st == ST_NOT_FOUND || (st == ST_OK && out->pid != holder)) {
		*out = (PidFile){ .pid = holder, .state = "starting", .listen = "127.0.0.1" };
		snprintf(out->dir, sizeof out->dir, "%s", dir);
		return ST_OK;
	}
	return st;
}
