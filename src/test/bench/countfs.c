/*
 * countfs.c - file operations, counted.
 *
 * Behind the table of port/fs.h, as the faulty file systems of the tests. A read counts when a file is asked, so what
 * the block cache answers does not count, what the page cache answers does.
 */
#include "bench.h"
#include "port/fs.h"

static FsOps counting;
static FileCounts *counts;
static bool drop_behind;

static void
add(_Atomic uint64_t *to, uint64_t n)
{
	atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static Status
count_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	add(&counts->reads, 1);
	add(&counts->read_bytes, len);
	KV_TRY(fs_posix.pread(fd, buf, len, off, got));
	if (drop_behind)
		fs_posix.drop_cache(fd, off, len);
	return ST_OK;
}

static Status
count_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	add(&counts->write_bytes, len);
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
count_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	for (int i = 0; i < n; i++)
		add(&counts->write_bytes, iov[i].iov_len);
	return fs_posix.pwritev(fd, iov, n, off);
}

static Status
count_datasync(int fd)
{
	add(&counts->syncs, 1);
	return fs_posix.datasync(fd);
}

void
countfs_install(FileCounts *to, bool drop)
{
	counts = to;
	drop_behind = drop;
	counting = fs_posix;
	counting.pread = count_pread;
	counting.pwrite = count_pwrite;
	counting.pwritev = count_pwritev;
	counting.datasync = count_datasync;
	fs = &counting;
}
