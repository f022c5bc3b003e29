/*
 * fs_file.c - whole small files, read and replaced through the table of fs.h.
 *
 * Runs in every process; no locks. fs_replace_file's order is its promise: the new content is on disk before
 * the name points to it, and the name is on disk before the call returns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port/fs.h"

/* The content of an open file of `size` bytes, read to one byte past it: the file may have grown meanwhile. */
static Status
read_all(int fd, const char *path, size_t size, char **out, size_t *len)
{
	char *data = malloc(size + 1);
	Status s;

	if (data == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory reading \"%s\" of %zu bytes", path, size);
	s = fs_pread(fd, data, size, 0, len);
	if (s != ST_OK) {
		free(data);
		return status_prefix(s, "file \"%s\"", path);
	}
	data[*len] = '\0';
	*out = data;
	return ST_OK;
}

Status
fs_read_file(const char *path, size_t max, char **out, size_t *len)
{
	uint64_t size;
	Status s, closed;
	int fd;

	KV_TRY(fs_open(path, FS_READ, &fd));
	s = fs_size(fd, &size);
	if (s != ST_OK)
		s = status_prefix(s, "file \"%s\"", path);
	else if (size > max)
		s = status_fail(ST_OUT_OF_RANGE, "file \"%s\" has %llu bytes, at most %zu are expected", path,
			(unsigned long long) size, max);
	else
		s = read_all(fd, path, (size_t) size, out, len);
	closed = fs_close(fd);
	if (s == ST_OK && closed != ST_OK) {
		free(*out);
		s = closed;
	}
	return s;
}

/* The directory part of a path, "." when it has none. */
static void
dir_of(const char *path, char out[FS_PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		snprintf(out, FS_PATH_MAX, ".");
	else
		snprintf(out, FS_PATH_MAX, "%.*s", slash == path ? 1 : (int) (slash - path), path);
}

static Status
write_synced(const char *path, const void *data, size_t len)
{
	Status s, closed;
	int fd;

	KV_TRY(fs_open(path, FS_CREATE, &fd));
	s = fs_truncate(fd, 0); /* a crash may have left a longer one */
	if (s == ST_OK)
		s = fs_pwrite(fd, data, len, 0);
	if (s == ST_OK)
		s = fs_sync(fd);
	closed = fs_close(fd);
	if (s == ST_OK)
		s = closed;
	return s == ST_OK ? ST_OK : status_prefix(s, "file \"%s\"", path);
}

Status
fs_replace_file(const char *path, const void *data, size_t len)
{
	char tmp[FS_PATH_MAX], dir[FS_PATH_MAX];
	size_t n = strlen(path);

	if (n + sizeof ".tmp" > sizeof tmp)
		return status_fail(ST_OUT_OF_RANGE, "path \"%.100s...\" is longer than %zu bytes", path,
			sizeof tmp - sizeof ".tmp");
	memcpy(tmp, path, n);
	memcpy(tmp + n, ".tmp", sizeof ".tmp");
	dir_of(path, dir);
	KV_TRY(write_synced(tmp, data, len));
	KV_TRY(fs_rename(tmp, path));
	return fs_sync_dir(dir);
}
