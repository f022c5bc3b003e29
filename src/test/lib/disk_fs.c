/*
 * disk_fs.c - the disk's names and its table of operations.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk_internal.h"

#define FIRST_FD 1000 /* no descriptor of the system's: taking one for the other shows */

/* This process's descriptors: index of the file + 1. */
static int open_file[DISK_OPEN];

/* ---- names */
static const char *
clean(const char *path)
{
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	return path;
}

static bool
in_dir(const char *path, const char *dir)
{
	const char *slash = strrchr(path, '/');

	dir = clean(dir);
	if (strcmp(dir, ".") == 0)
		return slash == NULL;
	return slash != NULL && strlen(dir) == (size_t) (slash - path) && strncmp(path, dir, strlen(dir)) == 0;
}

static bool
changing(int name)
{
	for (int i = 0; i < disk->nchanges; i++)
		for (int k = 0; k < disk->change[i].n; k++)
			if (disk->change[i].name[k] == name)
				return true;
	return false;
}

static int
find_name(const char *path)
{
	path = clean(path);
	for (int i = 0; i < disk->nnames; i++)
		if (strcmp(disk->name[i].path, path) == 0)
			return i;
	return -1;
}

static bool
is_free(int i)
{
	Name *n = &disk->name[i];

	return n->path[0] == '\0' || (n->cached == NO_FILE && n->on_disk == NO_FILE && !changing(i));
}

/* The entry of a name, made if there is none. */
static int
name_for(const char *path)
{
	int i = find_name(path);

	path = clean(path);
	if (i >= 0)
		return i;
	for (i = 0; i < disk->nnames && !is_free(i);)
		i++;
	if (i == DISK_NAMES || strlen(path) >= DISK_NAME_SIZE) {
		fprintf(stderr, "the simulated disk has no room for the name %s\n", path);
		abort();
	}
	if (i == disk->nnames)
		disk->nnames++;
	disk->name[i] = (Name){ .cached = NO_FILE, .on_disk = NO_FILE };
	snprintf(disk->name[i].path, DISK_NAME_SIZE, "%s", path);
	return i;
}

static void
drop_change(int at)
{
	disk->nchanges--;
	memmove(&disk->change[at], &disk->change[at + 1],
			(size_t) (disk->nchanges - at) * sizeof disk->change[0]);
}

static void
settle_change(int at)
{
	Change c = disk->change[at];

	for (int k = 0; k < c.n; k++)
		disk->name[c.name[k]].on_disk = c.file[k];
	drop_change(at);
}

static void
note_change(Change c)
{
	for (int k = 0; k < c.n; k++)
		disk->name[c.name[k]].cached = c.file[k];
	if (disk->nchanges == DISK_CHANGES)
		settle_change(0);
	disk->change[disk->nchanges++] = c;
}

static bool
touches_dir(const Change *c, const char *dir)
{
	for (int k = 0; k < c->n; k++)
		if (in_dir(disk->name[c->name[k]].path, dir))
			return true;
	return false;
}

static bool
share_name(const Change *a, const Change *b)
{
	for (int i = 0; i < a->n; i++)
		for (int k = 0; k < b->n; k++)
			if (a->name[i] == b->name[k])
				return true;
	return false;
}

/*
 * A change reaches the platter after those before it that concern the same names; ordered: after all before
 * it.
 */
static void
settle_up_to(int at)
{
	Change c = disk->change[at];

	for (int i = 0; i < at;) {
		if (disk->profile.ordered || share_name(&disk->change[i], &c)) {
			settle_change(i);
			at--;
		} else
			i++;
	}
	settle_change(at);
}

void
disk_names_sync(const char *dir)
{
	for (int i = disk->nchanges - 1; i >= 0; i--) {
		if (i < disk->nchanges && (dir == NULL || touches_dir(&disk->change[i], dir))) {
			settle_up_to(i);
			i = disk->nchanges;
		}
	}
}

static void
names_crash(unsigned kept)
{
	bool stopped = false;

	while (disk->nchanges > 0) {
		bool keep = prng_below(&disk->random, 256) < kept;

		stopped = stopped || (disk->profile.ordered && !keep);
		if (keep && !stopped)
			settle_change(0);
		else
			drop_change(0);
	}
	for (int i = 0; i < disk->nnames; i++) {
		disk->name[i].cached = disk->name[i].on_disk;
		if (disk->name[i].cached == NO_FILE)
			disk->name[i].path[0] = '\0';
	}
}

void
disk_mark_named(bool named[DISK_FILES])
{
	for (int i = 0; i < disk->nnames; i++) {
		if (disk->name[i].path[0] != '\0' && disk->name[i].cached >= 0)
			named[disk->name[i].cached] = true;
		if (disk->name[i].path[0] != '\0' && disk->name[i].on_disk >= 0)
			named[disk->name[i].on_disk] = true;
	}
	for (int i = 0; i < disk->nchanges; i++)
		for (int k = 0; k < disk->change[i].n; k++)
			if (disk->change[i].file[k] >= 0)
				named[disk->change[i].file[k]] = true;
	for (int i = 0; i < DISK_OPEN; i++)
		if (open_file[i] != 0)
			named[open_file[i] - 1] = true;
}

/* After each change: something may be written back. */
static void
age(void)
{
	uint32_t every = disk->profile.writeback;

	if (every == 0 || prng_below(&disk->random, every) != 0)
		return;
	if (disk->nchanges > 0 && prng_below(&disk->random, 2) == 0)
		settle_up_to((int) prng_below(&disk->random, (uint64_t) disk->nchanges));
	else
		disk_write_back_random();
}

void
disk_power_loss(unsigned kept)
{
	memset(open_file, 0, sizeof open_file);
	names_crash(kept);
	disk_files_crash(kept);
	disk_collect();
}

void
disk_format(const DiskProfile *p, uint64_t seed)
{
	memset(open_file, 0, sizeof open_file);
	disk->nchanges = 0;
	disk->nnames = 0;
	disk_collect();
	disk->npages = 1;
	disk->nfree = 0;
	disk->profile = *p;
	prng_seed(&disk->random, seed);
}

void
disk_each(void (*fn)(void *arg, const char *path, uint64_t bytes), void *arg)
{
	for (int i = 0; i < disk->nnames; i++)
		if (disk->name[i].path[0] != '\0' && disk->name[i].cached >= 0)
			fn(arg, disk->name[i].path, disk->file[disk->name[i].cached].size);
}

/* ---- operations */
static Status
missing(const char *what, const char *path)
{
	errno = ENOENT;
	return status_fail_errno(ST_NOT_FOUND, "cannot %s \"%s\"", what, path);
}

static Status
full(const char *what)
{
	errno = ENOSPC;
	return status_fail_errno(ST_NO_SPACE, "cannot %s", what);
}

static File *
file_of(int fd)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + DISK_OPEN || open_file[fd - FIRST_FD] == 0) {
		fprintf(stderr, "descriptor %d is not open\n", fd);
		abort();
	}
	return &disk->file[open_file[fd - FIRST_FD] - 1];
}

static bool
dir_exists(const char *path)
{
	char dir[DISK_NAME_SIZE];
	const char *slash;
	int i;

	path = clean(path);
	slash = strrchr(path, '/');
	if (slash == NULL)
		return true;
	snprintf(dir, sizeof dir, "%.*s", (int) (slash - path), path);
	i = find_name(dir);
	return i >= 0 && disk->name[i].cached == A_DIRECTORY;
}

static Status
make_file(const char *path, int *file)
{
	File *f;

	if (!dir_exists(path))
		return missing("open", path);
	f = file_new();
	if (f == NULL)
		return full("make a file");
	*file = (int) (f - disk->file);
	note_change((Change){ 1, { name_for(path) }, { *file } });
	age();
	return ST_OK;
}

static Status
op_open(const char *path, FsOpen how, int *fd)
{
	int name = find_name(path), file = name >= 0 ? disk->name[name].cached : NO_FILE;

	*fd = -1;
	if (file == A_DIRECTORY || (how == FS_CREATE_NEW && file != NO_FILE)) {
		errno = file == A_DIRECTORY ? EISDIR : EEXIST;
		return status_fail_errno(ST_IO_ERROR, "cannot open \"%s\"", path);
	}
	if (file == NO_FILE && (how == FS_READ || how == FS_WRITE))
		return missing("open", path);
	if (file == NO_FILE)
		KV_TRY(make_file(path, &file));
	for (int i = 0; i < DISK_OPEN; i++) {
		if (open_file[i] == 0) {
			open_file[i] = file + 1;
			*fd = FIRST_FD + i;
			return ST_OK;
		}
	}
	fprintf(stderr, "descriptors leak: %s\n", path);
	abort();
}

static Status
op_close(int fd)
{
	(void) file_of(fd);
	open_file[fd - FIRST_FD] = 0;
	return ST_OK;
}

static Status
op_pread(int fd, void *buf, size_t len, uint64_t off, size_t *got)
{
	*got = file_read(file_of(fd), buf, len, off);
	return ST_OK;
}

static Status
op_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	bool fits = file_write(file_of(fd), buf, len, off);

	age();
	return fits ? ST_OK : full("write");
}

static Status
op_pwritev(int fd, const struct iovec *iov, int n, uint64_t off)
{
	for (int i = 0; i < n; i++) {
		KV_TRY(op_pwrite(fd, iov[i].iov_base, iov[i].iov_len, off));
		off += iov[i].iov_len;
	}
	return ST_OK;
}

static Status
op_sync(int fd)
{
	file_sync(file_of(fd));
	return ST_OK;
}

static Status
op_sync_dir(const char *path)
{
	if (strcmp(clean(path), ".") != 0 &&
		(find_name(path) < 0 || disk->name[find_name(path)].cached != A_DIRECTORY))
		return missing("open directory", path);
	disk_names_sync(path);
	return ST_OK;
}

static Status
op_rename(const char *from, const char *to)
{
	int a = find_name(from), file = a >= 0 ? disk->name[a].cached : NO_FILE;

	if (file == NO_FILE || !dir_exists(to))
		return missing("rename", from);
	if (file == A_DIRECTORY) {
		fprintf(stderr, "the simulated disk renames no directories: %s\n", from);
		abort();
	}
	note_change((Change){ 2, { a, name_for(to) }, { NO_FILE, file } });
	age();
	return ST_OK;
}

static Status
op_link(const char *from, const char *to)
{
	int a = find_name(from), file = a >= 0 ? disk->name[a].cached : NO_FILE, b;

	if (file < 0 || !dir_exists(to))
		return missing("link", from);
	b = name_for(to);
	if (disk->name[b].cached != NO_FILE) {
		errno = EEXIST;
		return status_fail_errno(ST_IO_ERROR, "cannot link \"%s\" as \"%s\"", from, to);
	}
	note_change((Change){ 1, { b }, { file } });
	age();
	return ST_OK;
}

static Status
op_unlink(const char *path)
{
	int a = find_name(path);

	if (a < 0 || disk->name[a].cached < 0)
		return missing("remove", path);
	note_change((Change){ 1, { a }, { NO_FILE } });
	age();
	return ST_OK;
}

static Status
op_rmdir(const char *path)
{
	int a = find_name(path);

	if (a < 0 || disk->name[a].cached != A_DIRECTORY)
		return missing("remove directory", path);
	for (int i = 0; i < disk->nnames; i++)
		if (disk->name[i].path[0] != '\0' && disk->name[i].cached != NO_FILE &&
			in_dir(disk->name[i].path, path)) {
			errno = ENOTEMPTY;
			return status_fail_errno(ST_IO_ERROR, "cannot remove directory \"%s\"", path);
		}
	note_change((Change){ 1, { a }, { NO_FILE } });
	return ST_OK;
}

static Status
op_mkdir(const char *path)
{
	int a = find_name(path);

	if (a >= 0 && disk->name[a].cached == A_DIRECTORY)
		return ST_OK;
	if (!dir_exists(path))
		return missing("make directory", path);
	note_change((Change){ 1, { name_for(path) }, { A_DIRECTORY } });
	return ST_OK;
}

static Status
op_list(const char *path, FsListFn fn, void *arg)
{
	if (strcmp(clean(path), ".") != 0 &&
		(find_name(path) < 0 || disk->name[find_name(path)].cached != A_DIRECTORY))
		return missing("open directory", path);
	for (int i = 0; i < disk->nnames; i++) {
		const char *name = disk->name[i].path, *slash = strrchr(name, '/');

		if (name[0] != '\0' && disk->name[i].cached != NO_FILE && in_dir(name, path))
			KV_TRY(fn(arg, slash != NULL ? slash + 1 : name));
	}
	return ST_OK;
}

static Status
op_size(int fd, uint64_t *bytes)
{
	*bytes = file_of(fd)->size;
	return ST_OK;
}

static Status
op_truncate(int fd, uint64_t bytes)
{
	bool fits = file_truncate(file_of(fd), bytes);

	age();
	return fits ? ST_OK : full("set a file's size");
}

static Status
op_free_space(const char *path, uint64_t *bytes)
{
	(void) path;
	*bytes = disk_room();
	return ST_OK;
}

static Status
op_writeback(int fd, uint64_t off, uint64_t len)
{
	(void) file_of(fd), (void) off, (void) len;
	return ST_OK;
}

static void
op_drop_cache(int fd, uint64_t off, uint64_t len)
{
	(void) file_of(fd), (void) off, (void) len;
}

void
disk_lose(int fd)
{
	file_lose(file_of(fd));
}

const FsOps disk_fs = {
	.open = op_open,
	.close = op_close,
	.pread = op_pread,
	.pwrite = op_pwrite,
	.pwritev = op_pwritev,
	.datasync = op_sync,
	.sync = op_sync,
	.sync_dir = op_sync_dir,
	.rename = op_rename,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.mkdir = op_mkdir,
	.list = op_list,
	.size = op_size,
	.truncate = op_truncate,
	.free_space = op_free_space,
	.writeback = op_writeback,
	.drop_cache = op_drop_cache,
};
