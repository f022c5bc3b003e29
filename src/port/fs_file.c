/*
 * fs_file.c - whole small files, read and replaced, and whole directories removed, through the table of fs.h.
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

/* Names of a directory, NUL-terminated, one after another. */
typedef struct Names {
	char *data;
	size_t len, cap;
} Names;

static Status
note_name(void *arg, const char *name)
{
	Names *n = arg;
	size_t len = strlen(name) + 1;

	if (n->len + len > n->cap) {
		size_t cap = 2 * n->cap + len;
		char *more = realloc(n->data, cap);

		if (more == NULL)
			return status_fail(ST_OUT_OF_MEMORY, "out of memory listing a directory");
		n->data = more;
		n->cap = cap;
	}
	memcpy(n->data + n->len, name, len);
	n->len += len;
	return ST_OK;
}

Status
fs_remove_dir(const char *path)
{
	Names names = { 0 };
	Status s = fs_list(path, note_name, &names); /* names first: a directory is not changed while it is listed */

	if (s == ST_NOT_FOUND)
		return ST_OK;
	for (size_t at = 0; s == ST_OK && at < names.len; at += strlen(names.data + at) + 1) {
		char file[FS_PATH_MAX];

		snprintf(file, sizeof file, "%s/%s", path, names.data + at);
		s = fs_unlink(file);
		if (s == ST_NOT_FOUND)
			s = ST_OK;
	}
	free(names.data);
	if (s == ST_OK)
		s = fs_rmdir(path);
	return s == ST_NOT_FOUND ? ST_OK : s;
}
