/*
 * fs.h - every file operation of the server, behind one table that tests can replace.
 *
 * Paths are relative to the working directory (the server changes into its data directory).
 * fds are real descriptors, opened O_CLOEXEC, mode 0600 (directories 0700). EINTR and short
 * transfers are handled inside. Failures: IO_ERROR (NO_SPACE on ENOSPC/EDQUOT, NOT_FOUND when a path does
 * not exist) with the path or the operation in the detail.
 */
#ifndef PORT_FS_H
#define PORT_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/status.h"

#define FS_PATH_MAX 512 /* longest path the server makes, with its NUL; they are short and relative */

typedef enum FsOpen {
	FS_READ = 0,         /* existing, read only */
	FS_WRITE = 1,        /* existing, read and write */
	FS_CREATE = 2,       /* read and write, made if missing, content kept */
	FS_CREATE_NEW = 3    /* read and write, must not exist */
} FsOpen;

/* Called once for each name in a directory ("." and ".." left out). Not ST_OK stops the listing. */
typedef Status (*FsListFn)(void *arg, const char *name);

typedef struct FsOps {
	Status (*open)(const char *path, FsOpen how, int *fd);
	Status (*close)(int fd);
	Status (*pread)(int fd, void *buf, size_t len, uint64_t off, size_t *got);
	Status (*pwrite)(int fd, const void *buf, size_t len, uint64_t off);
	Status (*pwritev)(int fd, const struct iovec *iov, int n, uint64_t off);
	Status (*datasync)(int fd);
	Status (*sync)(int fd);
	Status (*sync_dir)(const char *path);
	Status (*rename)(const char *from, const char *to);
	Status (*link)(const char *from, const char *to);
	Status (*unlink)(const char *path);
	Status (*rmdir)(const char *path);
	Status (*mkdir)(const char *path);
	Status (*list)(const char *path, FsListFn fn, void *arg);
	Status (*size)(int fd, uint64_t *bytes);
	Status (*truncate)(int fd, uint64_t bytes);
	Status (*free_space)(const char *path, uint64_t *bytes);
	Status (*writeback)(int fd, uint64_t off, uint64_t len);
	void (*drop_cache)(int fd, uint64_t off, uint64_t len);
} FsOps;

extern const FsOps fs_posix;   /* the real one */
extern const FsOps *fs;        /* the one in use; &fs_posix unless a test changed it */

KV_CHECK static inline Status
fs_open(const char *path, FsOpen how, int *fd)
{
	return fs->open(path, how, fd);
}
KV_CHECK static inline Status
fs_close(int fd)
{
	return fs->close(fd);
}
/* Reads until len bytes or end of file; *got tells how many. A short read is not an error here. */
KV_CHECK static inline Status
fs_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	return fs->pread(fd, buf, len, off, got);
}
/* All of it, or an error. */
KV_CHECK static inline Status
fs_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	return fs->pwrite(fd, buf, len, off);
}
/* All of it, or an error; n <= 16. */
KV_CHECK static inline Status
fs_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	return fs->pwritev(fd, iov, n, off);
}
/* fdatasync. After an error the descriptor's data is in doubt: stop, never retry. */
KV_CHECK static inline Status
fs_datasync(int fd)
{
	return fs->datasync(fd);
}
KV_CHECK static inline Status
fs_sync(int fd)
{
	return fs->sync(fd);
}
/* fsync of a directory, after names in it changed. */
KV_CHECK static inline Status
fs_sync_dir(const char *path)
{
	return fs->sync_dir(path);
}
KV_CHECK static inline Status
fs_rename(const char *from, const char *to)
{
	return fs->rename(from, to);
}
/* A second name for a file (hard link); `to` must not exist. */
KV_CHECK static inline Status
fs_link(const char *from, const char *to)
{
	return fs->link(from, to);
}
KV_CHECK static inline Status
fs_unlink(const char *path)
{
	return fs->unlink(path);
}
/* An empty directory. */
KV_CHECK static inline Status
fs_rmdir(const char *path)
{
	return fs->rmdir(path);
}
/* An existing directory is no error. */
KV_CHECK static inline Status
fs_mkdir(const char *path)
{
	return fs->mkdir(path);
}
KV_CHECK static inline Status
fs_list(const char *path, FsListFn fn, void *arg)
{
	return fs->list(path, fn, arg);
}
KV_CHECK static inline Status
fs_size(int fd, uint64_t *bytes)
{
	return fs->size(fd, bytes);
}
KV_CHECK static inline Status
fs_truncate(int fd, uint64_t bytes)
{
	return fs->truncate(fd, bytes);
}
/* Bytes an unprivileged process may still write to the file system that holds `path`. */
KV_CHECK static inline Status
fs_free_space(const char *path, uint64_t *bytes)
{
	return fs->free_space(path, bytes);
}
/*
 * Start writing dirty pages out, once the `len` bytes before them have arrived (sync_file_range; nothing elsewhere).
 * Called for one piece after the other, it keeps a file that is written fast from filling the disk's queue,
 * in which another file's sync would wait. Nothing is durable by it. A failure is that of a sync.
 */
KV_CHECK static inline Status
fs_writeback(int fd, uint64_t off, uint64_t len)
{
	return fs->writeback(fd, off, len);
}
/* Hint: forget clean pages (posix_fadvise DONTNEED). */
static inline void
fs_drop_cache(int fd, uint64_t off, uint64_t len)
{
	fs->drop_cache(fd, off, len);
}

/* Whole small file into *out (malloc'ed, NUL-terminated past *len; caller frees). Refuses files over max. */
KV_CHECK Status fs_read_file(const char *path, size_t max, char **out, size_t *len);
/* Remove a directory and the files in it (no directories below it). One that is not there is no failure. */
KV_CHECK Status fs_remove_dir(const char *path);
/* Write path.tmp, sync it, rename it over path, sync the directory: old content or new, never a mix. */
KV_CHECK Status fs_replace_file(const char *path, const void *data, size_t len);

#endif
