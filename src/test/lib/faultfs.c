/*
 * faultfs.c - counts file operations and fails them as planned.
 */
#define _DEFAULT_SOURCE
#include "faultfs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "disk.h"

#define KINDS 11
#define PATHS 2048 /* descriptors whose path is known */
#define PATH_SIZE 64
#define MISTAKES 4

typedef struct Shared {
	uint64_t calls[KINDS];
	uint64_t counted, hits;
} Shared;

static Shared *shared;
static const FsOps *under;
static FaultPlan plan;
static struct {
	uint32_t kinds;
	const char *path;
} mistakes[MISTAKES];
static int nmistakes;
static char paths[PATHS][PATH_SIZE]; /* by descriptor */

static const char *
path_of(int fd)
{
	return fd >= 0 && fd < PATHS ? paths[fd] : "";
}

static bool
begins(const char *path, const char *with)
{
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	return with == NULL || strncmp(path, with, strlen(with)) == 0;
}

/* Counts; true: this call is the one to fail. takes_space: a full disk may stop it. */
static bool
hit_space(uint32_t kind, const char *path, bool takes_space)
{
	for (int k = 0; k < KINDS; k++)
		shared->calls[k] += kind >> k & 1;
	if (plan.nth == 0 || (plan.calls & kind) == 0 || !begins(path, plan.path))
		return false;
	if (plan.kind == FAULT_ENOSPC && !takes_space)
		return false;
	shared->counted++;
	if (plan.forever ? shared->counted < plan.nth : shared->counted != plan.nth)
		return false;
	shared->hits++;
	return true;
}

static bool
hit(uint32_t kind, const char *path)
{
	return hit_space(kind, path, false);
}

/* Writing over what is there takes no space. */
static bool
hit_write(int fd, uint64_t end)
{
	uint64_t size = 0;

	if (plan.kind == FAULT_ENOSPC && under->size(fd, &size) != ST_OK)
		size = 0;
	return hit_space(FAULT_WRITE, path_of(fd), end > size);
}

static bool
forgotten(uint32_t kind, const char *path)
{
	for (int i = 0; i < nmistakes; i++)
		if ((mistakes[i].kinds & kind) != 0 && begins(path, mistakes[i].path))
			return true;
	return false;
}

static Status
failure(const char *what, const char *path)
{
	if (plan.kind == FAULT_CUT && plan.on_cut != NULL)
		plan.on_cut();
	errno = plan.kind == FAULT_ENOSPC ? ENOSPC : EIO;
	return status_fail_errno(plan.kind == FAULT_ENOSPC ? ST_NO_SPACE : ST_IO_ERROR,
							 "cannot %s \"%s\" (on order)", what, path);
}

#define FAIL_IF_HIT(kind, what, path)                                                                        \
	do {                                                                                                     \
		if (hit(kind, path))                                                                                 \
			return failure(what, path);                                                                      \
	} while (0)

static Status
f_open(const char *path, FsOpen how, int *fd)
{
	*fd = -1;
	if (how == FS_READ || how == FS_WRITE ? hit(FAULT_OPEN, path) : hit_space(FAULT_CREATE, path, true))
		return failure("open", path);
	KV_TRY(under->open(path, how, fd));
	if (*fd < PATHS)
		snprintf(paths[*fd], PATH_SIZE, "%s", path);
	return ST_OK;
}

static Status
f_close(int fd)
{
	bool fails = hit(FAULT_CLOSE, path_of(fd));

	/* As close() does: the descriptor is gone either way. */
	KV_TRY(under->close(fd));
	return fails ? failure("close", path_of(fd)) : ST_OK;
}

static Status
f_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	*got = 0;
	FAIL_IF_HIT(FAULT_READ, "read", path_of(fd));
	return under->pread(fd, buf, len, off, got);
}

static Status
f_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	if (!hit_write(fd, off + len))
		return under->pwrite(fd, buf, len, off);
	if (plan.kind != FAULT_EIO)
		KV_TRY(under->pwrite(fd, buf, len / 2, off));
	return failure("write", path_of(fd));
}

static Status
f_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	uint64_t end = off;

	for (int i = 0; i < n; i++)
		end += iov[i].iov_len;
	if (!hit_write(fd, end))
		return under->pwritev(fd, iov, n, off);
	if (plan.kind != FAULT_EIO && n > 0)
		KV_TRY(under->pwrite(fd, iov[0].iov_base, iov[0].iov_len / 2, off));
	return failure("write", path_of(fd));
}

static Status
sync_file(int fd, Status (*really)(int fd))
{
	if (hit(FAULT_SYNC, path_of(fd))) {
		if (under == &disk_fs)
			disk_lose(fd);
		return failure("sync", path_of(fd));
	}
	return forgotten(FAULT_SYNC, path_of(fd)) ? ST_OK : really(fd);
}

static Status
f_datasync(int fd)
{
	return sync_file(fd, under->datasync);
}

static Status
f_sync(int fd)
{
	return sync_file(fd, under->sync);
}

static Status
f_sync_dir(const char *path)
{
	FAIL_IF_HIT(FAULT_SYNC_DIR, "sync", path);
	return forgotten(FAULT_SYNC_DIR, path) ? ST_OK : under->sync_dir(path);
}

static Status
f_rename(const char *from, const char *to)
{
	if (hit_space(FAULT_NAME, from, true))
		return failure("rename", from);
	return forgotten(FAULT_NAME, from) ? ST_OK : under->rename(from, to);
}

static Status
f_link(const char *from, const char *to)
{
	if (hit_space(FAULT_NAME, from, true))
		return failure("link", from);
	return under->link(from, to);
}

static Status
f_unlink(const char *path)
{
	FAIL_IF_HIT(FAULT_NAME, "remove", path);
	return forgotten(FAULT_NAME, path) ? ST_OK : under->unlink(path);
}

static Status
f_rmdir(const char *path)
{
	FAIL_IF_HIT(FAULT_DIR, "remove directory", path);
	return under->rmdir(path);
}

static Status
f_mkdir(const char *path)
{
	if (hit_space(FAULT_DIR, path, true))
		return failure("make directory", path);
	return under->mkdir(path);
}

static Status
f_list(const char *path, FsListFn fn, void *arg)
{
	FAIL_IF_HIT(FAULT_LIST, "read directory", path);
	return under->list(path, fn, arg);
}

static Status
f_size(int fd, uint64_t *bytes)
{
	FAIL_IF_HIT(FAULT_READ, "ask the size of", path_of(fd));
	return under->size(fd, bytes);
}

static Status
f_truncate(int fd, uint64_t bytes)
{
	FAIL_IF_HIT(FAULT_WRITE, "set the size of", path_of(fd));
	return under->truncate(fd, bytes);
}

static Status
f_free_space(const char *path, uint64_t *bytes)
{
	FAIL_IF_HIT(FAULT_LIST, "ask the free space at", path);
	return under->free_space(path, bytes);
}

/* Its failure is that of a sync: what was to be written is lost. */
static Status
f_writeback(int fd, uint64_t off, uint64_t len)
{
	if (hit(FAULT_WRITEBACK, path_of(fd))) {
		if (under == &disk_fs)
			disk_lose(fd);
		return failure("write back", path_of(fd));
	}
	return under->writeback(fd, off, len);
}

static void
f_drop_cache(int fd, uint64_t off, uint64_t len)
{
	under->drop_cache(fd, off, len);
}

static const FsOps fault_fs = {
	.open = f_open,
	.close = f_close,
	.pread = f_pread,
	.pwrite = f_pwrite,
	.pwritev = f_pwritev,
	.datasync = f_datasync,
	.sync = f_sync,
	.sync_dir = f_sync_dir,
	.rename = f_rename,
	.link = f_link,
	.unlink = f_unlink,
	.rmdir = f_rmdir,
	.mkdir = f_mkdir,
	.list = f_list,
	.size = f_size,
	.truncate = f_truncate,
	.free_space = f_free_space,
	.writeback = f_writeback,
	.drop_cache = f_drop_cache,
};

void
fault_use(const FsOps *ops)
{
	if (shared == NULL)
		shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("no memory for counters");
		exit(2);
	}
	under = ops;
	nmistakes = 0;
	fault_plan(&(FaultPlan){ 0 });
	fs = &fault_fs;
}

void
fault_plan(const FaultPlan *p)
{
	plan = *p;
	memset(shared, 0, sizeof *shared);
}

uint64_t
fault_calls(uint32_t kinds)
{
	uint64_t n = 0;

	for (int k = 0; k < KINDS; k++)
		n += kinds >> k & 1 ? shared->calls[k] : 0;
	return n;
}

uint64_t
fault_counted(void)
{
	return shared->counted;
}

uint64_t
fault_hits(void)
{
	return shared->hits;
}

void
fault_forget(uint32_t kinds, const char *path)
{
	if (nmistakes == MISTAKES)
		abort();
	mistakes[nmistakes].kinds = kinds;
	mistakes[nmistakes++].path = path;
}
