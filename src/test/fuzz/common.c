/*
 * common.c - what fuzz targets share: files on a simulated disk, broken promises.
 */
#include "fuzz.h"

#include <stdio.h>

#include "disk.h"
#include "port/fs.h"

#define FILE_MAX (1 << 20)

_Noreturn void
fuzz_broken(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s:%d: %s does not hold\n", file, line, expr);
	abort();
}

static volatile uint8_t touched; /* so that reading is not left out */

void
fuzz_touch(Slice s)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < s.len; i++)
		sum ^= s.data[i];
	touched = sum;
}

static void
use_disk(void)
{
	if (fs == &disk_fs)
		return;
	disk_make();
	disk_format(&(DiskProfile){ .sector = 512 }, 1);
	fs = &disk_fs;
}

void
fuzz_dir(const char *path)
{
	use_disk();
	FUZZ_MUST(fs_mkdir(path));
}

void
fuzz_file(const char *path, const void *data, size_t size)
{
	int fd;

	use_disk();
	FUZZ_MUST(fs_open(path, FS_CREATE, &fd));
	FUZZ_MUST(fs_truncate(fd, 0));
	FUZZ_MUST(fs_pwrite(fd, data, size, 0));
	disk_settle(); /* what was is not kept */
	FUZZ_MUST(fs_close(fd));
}

void
fuzz_seed_of_file(FuzzAdd add, const char *path)
{
	char *data;
	size_t len;

	FUZZ_MUST(fs_read_file(path, FILE_MAX, &data, &len));
	add(data, len);
	free(data);
}
