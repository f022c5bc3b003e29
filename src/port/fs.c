/*
 * fs.c - files, as POSIX has them.
 *
 * Runs in every process; no locks. `fs` is set once by a test before it starts what it tests; the
 * server never changes it. EINTR is retried except after close(): there Linux has already
 * freed the descriptor, and a second close could hit somebody else's.
 */
#define _GNU_SOURCE
#include "port/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/kv_assert.h"

#define IOV_MAX_PARTS 16 /* promised by fs_pwritev */

/* Failure of an operation on a path: a missing one has its own code, callers ask for it. */
static Status
fail_path(const char *what, const char *path)
{
	return status_fail_errno(errno == ENOENT ? ST_NOT_FOUND : ST_IO_ERROR, "cannot %s \"%s\"", what, path);
}

static Status
posix_open(const char *path, FsOpen how, int *fd)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_EXCL };

	KV_ASSERT((unsigned) how < sizeof flags / sizeof flags[0]);
	do
		*fd = open(path, flags[how] | O_CLOEXEC, 0600);
	while (*fd < 0 && errno == EINTR);
	return *fd < 0 ? fail_path("open", path) : ST_OK;
}

static Status
posix_close(int fd)
{
	if (close(fd) != 0 && errno != EINTR)
		return status_fail_errno(ST_IO_ERROR, "cannot close a file");
	return ST_OK;
}

static Status
posix_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	*got = 0;
	while (*got < len) {
		ssize_t n = pread(fd, (char *) buf + *got, len - *got, (off_t) (off + *got));

		if (n == 0)
			break;
		if (n > 0)
			*got += (size_t) n;
		else if (errno != EINTR)
			return status_fail_errno(ST_IO_ERROR, "cannot read %zu bytes at %llu", len, (unsigned long long) off);
	}
	return ST_OK;
}

static Status
posix_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(fd, (const char *) buf + done, len - done, (off_t) (off + done));

		if (n > 0)
			done += (size_t) n;
		else if (n == 0)
			return status_fail(ST_IO_ERROR, "cannot write %zu bytes at %llu: nothing was taken", len,
				(unsigned long long) off);
		else if (errno != EINTR)
			return status_fail_errno(ST_IO_ERROR, "cannot write %zu bytes at %llu", len, (unsigned long long) off);
	}
	return ST_OK;
}

static Status
posix_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	struct iovec left[IOV_MAX_PARTS];
	struct iovec *v = left;

	KV_ASSERT(n >= 0 && n <= IOV_MAX_PARTS);
	memcpy(left, iov, (size_t) n * sizeof *iov);
	for (;;) {
		ssize_t wrote;

		for (; n > 0 && v->iov_len == 0; v++)
			n--;
		if (n == 0)
			return ST_OK;
		wrote = pwritev(fd, v, n, (off_t) off);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return status_fail_errno(ST_IO_ERROR, "cannot write at %llu", (unsigned long long) off);
		if (wrote == 0)
			return status_fail(ST_IO_ERROR, "cannot write at %llu: nothing was taken", (unsigned long long) off);
		off += (uint64_t) wrote;
		for (size_t w = (size_t) wrote; w > 0;) {
			size_t part = w < v->iov_len ? w : v->iov_len;

			v->iov_base = (char *) v->iov_base + part;
			v->iov_len -= part;
			w -= part;
			if (v->iov_len == 0) {
				v++;
				n--;
			}
		}
	}
}

/* For tests: KVD_TEST_SYNC_DELAY names a file that says how many ms a sync shall take; without the file, as usual. */
static void
test_sync_delay(void)
{
	static const char *path;
	static bool known;
	struct timespec t;
	char text[16] = "";
	ssize_t n = -1;
	long ms;
	int fd;

	if (!known)
		path = getenv("KVD_TEST_SYNC_DELAY");
	known = true;
	if (path == NULL || (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	ms = n > 0 ? strtol(text, NULL, 10) : 0;
	t = (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
	while (ms > 0 && nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

static Status
posix_sync(int fd)
{
	int rc;

	test_sync_delay();
	do
#ifdef __APPLE__
		rc = fcntl(fd, F_FULLFSYNC); /* fsync there does not empty the drive's cache */
#else
		rc = fsync(fd);
#endif
	while (rc != 0 && errno == EINTR);
	return rc != 0 ? status_fail_errno(ST_IO_ERROR, "cannot sync a file") : ST_OK;
}

static Status
posix_datasync(int fd)
{
#ifdef __linux__
	int rc;

	test_sync_delay();
	do
		rc = fdatasync(fd);
	while (rc != 0 && errno == EINTR);
	return rc != 0 ? status_fail_errno(ST_IO_ERROR, "cannot sync the data of a file") : ST_OK;
#else
	return posix_sync(fd);
#endif
}

static Status
posix_sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	Status s;

	if (fd < 0)
		return fail_path("open directory", path);
	s = posix_sync(fd);
	close(fd); /* nothing was written through it */
	return s == ST_OK ? ST_OK : status_prefix(s, "directory \"%s\"", path);
}

static Status
posix_rename(const char *from, const char *to)
{
	if (rename(from, to) != 0)
		return status_fail_errno(errno == ENOENT ? ST_NOT_FOUND : ST_IO_ERROR, "cannot rename \"%s\" to \"%s\"", from,
			to);
	return ST_OK;
}

static Status
posix_link(const char *from, const char *to)
{
	if (link(from, to) != 0)
		return status_fail_errno(errno == ENOENT ? ST_NOT_FOUND : ST_IO_ERROR, "cannot link \"%s\" as \"%s\"", from,
			to);
	return ST_OK;
}

static Status
posix_rmdir(const char *path)
{
	return rmdir(path) != 0 ? fail_path("remove directory", path) : ST_OK;
}

static Status
posix_unlink(const char *path)
{
	return unlink(path) != 0 ? fail_path("remove", path) : ST_OK;
}

static Status
posix_mkdir(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) == 0)
		return ST_OK;
	if (errno == EEXIST && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return ST_OK;
		errno = ENOTDIR;
	}
	return fail_path("make directory", path);
}

static Status
posix_list(const char *path, FsListFn fn, void *arg)
{
	DIR *dir = opendir(path);
	Status s = ST_OK;

	if (dir == NULL)
		return fail_path("open directory", path);
	while (s == ST_OK) {
		struct dirent *e;

		errno = 0;
		e = readdir(dir);
		if (e == NULL) {
			if (errno != 0)
				s = fail_path("read directory", path);
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			s = fn(arg, e->d_name);
	}
	closedir(dir); /* nothing was written through it */
	return s;
}

static Status
posix_size(int fd, uint64_t *bytes)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return status_fail_errno(ST_IO_ERROR, "cannot ask the size of a file");
	*bytes = (uint64_t) st.st_size;
	return ST_OK;
}

static Status
posix_truncate(int fd, uint64_t bytes)
{
	int rc;

	do
		rc = ftruncate(fd, (off_t) bytes);
	while (rc != 0 && errno == EINTR);
	if (rc != 0)
		return status_fail_errno(ST_IO_ERROR, "cannot set a file's size to %llu", (unsigned long long) bytes);
	return ST_OK;
}

static Status
posix_free_space(const char *path, uint64_t *bytes)
{
	struct statvfs v;

	if (statvfs(path, &v) != 0)
		return fail_path("ask the free space at", path);
	*bytes = (uint64_t) v.f_bavail * v.f_frsize;
	return ST_OK;
}

/*
 * A hint where it does not exist. But waiting takes the file's error with it (on Linux each descriptor is told once),
 * so that must not be lost.
 */
static Status
posix_writeback(int fd, uint64_t off, uint64_t len)
{
#ifdef __linux__
	uint64_t before = off < len ? off : len;
	int rc;

	(void) sync_file_range(fd, (off64_t) off, (off64_t) len, SYNC_FILE_RANGE_WRITE);
	if (before == 0)
		return ST_OK;
	do
		rc = sync_file_range(fd, (off64_t) (off - before), (off64_t) before, SYNC_FILE_RANGE_WAIT_BEFORE);
	while (rc != 0 && errno == EINTR);
	if (rc != 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT))
		return status_fail_errno(ST_IO_ERROR, "cannot write %llu bytes at %llu to the disk",
			(unsigned long long) before, (unsigned long long) (off - before));
#else
	(void) fd, (void) off, (void) len;
#endif
	return ST_OK;
}

/* A hint: where it fails or does not exist clean pages only stay in the way. */
static void
posix_drop_cache(int fd, uint64_t off, uint64_t len)
{
#ifdef __linux__
	(void) posix_fadvise(fd, (off_t) off, (off_t) len, POSIX_FADV_DONTNEED);
#else
	(void) fd, (void) off, (void) len;
#endif
}

const FsOps fs_posix = {
	.open = posix_open,
	.close = posix_close,
	.pread = posix_pread,
	.pwrite = posix_pwrite,
	.pwritev = posix_pwritev,
	.datasync = posix_datasync,
	.sync = posix_sync,
	.sync_dir = posix_sync_dir,
	.rename = posix_rename,
	.link = posix_link,
	.unlink = posix_unlink,
	.rmdir = posix_rmdir,
	.mkdir = posix_mkdir,
	.list = posix_list,
	.size = posix_size,
	.truncate = posix_truncate,
	.free_space = posix_free_space,
	.writeback = posix_writeback,
	.drop_cache = posix_drop_cache,
};

const FsOps *fs = &fs_posix;
