/* test_fs.c - files: every operation of the table, their failures, and whole files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/fs.h"

static char home[1024];
static char dir[1024];

/* Each test works inside a new empty directory. */
static int
setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void) state;
	fs = &fs_posix;
	snprintf(dir, sizeof dir, "%s/kvd_test_fs.XXXXXX", tmp != NULL ? tmp : "/tmp");
	return getcwd(home, sizeof home) == NULL || mkdtemp(dir) == NULL || chdir(dir) != 0;
}

static Status
remove_name(void *arg, const char *name)
{
	(void) arg;
	if (unlink(name) != 0)
		assert_int_equal(rmdir(name), 0);
	return ST_OK;
}

static int
teardown(void **state)
{
	(void) state;
	fs = &fs_posix;
	return fs_list(".", remove_name, NULL) != ST_OK || chdir(home) != 0 || rmdir(dir) != 0;
}

static int
open_new(const char *path)
{
	int fd;

	assert_int_equal(fs_open(path, FS_CREATE_NEW, &fd), ST_OK);
	return fd;
}

static void
check_content(const char *path, const char *want)
{
	char *text;
	size_t len;

	assert_int_equal(fs_read_file(path, 1 << 20, &text, &len), ST_OK);
	assert_int_equal(len, strlen(want));
	assert_string_equal(text, want);
	free(text);
}

static bool
exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static void
links_and_directories(void **state)
{
	(void) state;
	assert_int_equal(fs_close(open_new("a")), ST_OK);
	assert_int_equal(fs_link("a", "b"), ST_OK);
	assert_int_equal(fs_link("a", "b"), ST_IO_ERROR);
	assert_int_equal(fs_link("missing", "c"), ST_NOT_FOUND);
	assert_int_equal(fs_unlink("a"), ST_OK);
	assert_true(exists("b"));
	assert_int_equal(fs_remove_dir("d"), ST_OK); /* none there */
	assert_int_equal(fs_rmdir("d"), ST_NOT_FOUND);
	assert_int_equal(fs_mkdir("d"), ST_OK);
	assert_int_equal(fs_link("b", "d/b"), ST_OK);
	assert_int_equal(fs_close(open_new("d/c")), ST_OK);
	assert_int_equal(fs_rmdir("d"), ST_IO_ERROR);
	assert_int_equal(fs_remove_dir("d"), ST_OK);
	assert_false(exists("d"));
	assert_true(exists("b"));
	assert_int_equal(fs_mkdir("d"), ST_OK);
	assert_int_equal(fs_mkdir("d/e"), ST_OK);
	assert_int_equal(fs_remove_dir("d"), ST_IO_ERROR); /* made for flat ones only */
	assert_int_equal(fs_rmdir("d/e"), ST_OK);
	assert_int_equal(fs_rmdir("d"), ST_OK);
}

static void
ways_to_open(void **state)
{
	int fd;
	struct stat st;

	(void) state;
	umask(0);
	assert_int_equal(fs_open("a", FS_READ, &fd), ST_NOT_FOUND);
	assert_string_equal(status_detail(), "cannot open \"a\": No such file or directory");
	assert_int_equal(fs_open("a", FS_WRITE, &fd), ST_NOT_FOUND);
	fd = open_new("a");
	assert_int_equal(fs_pwrite(fd, "x", 1, 0), ST_OK);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(fs_close(fd), ST_OK);
	assert_int_equal(fs_open("a", FS_CREATE_NEW, &fd), ST_IO_ERROR);
	assert_int_equal(fs_open("a", FS_CREATE, &fd), ST_OK); /* keeps the content */
	assert_int_equal(fs_close(fd), ST_OK);
	check_content("a", "x");
	assert_int_equal(fs_open("a", FS_READ, &fd), ST_OK);
	assert_int_equal(fs_pwrite(fd, "y", 1, 0), ST_IO_ERROR);
	assert_int_equal(fs_close(fd), ST_OK);
	assert_int_equal(fs_close(fd), ST_IO_ERROR);
}

static void
reading_stops_at_the_end(void **state)
{
	char buf[8] = "-------";
	size_t got;
	int fd = open_new("a");

	(void) state;
	assert_int_equal(fs_pwrite(fd, "hello", 5, 0), ST_OK);
	assert_int_equal(fs_pread(fd, buf, 5, 0, &got), ST_OK);
	assert_int_equal(got, 5);
	assert_int_equal(fs_pread(fd, buf, 8, 1, &got), ST_OK);
	assert_int_equal(got, 4);
	assert_memory_equal(buf, "ello", 4);
	assert_int_equal(fs_pread(fd, buf, 8, 5, &got), ST_OK);
	assert_int_equal(got, 0);
	assert_int_equal(fs_pread(fd, buf, 8, 100, &got), ST_OK);
	assert_int_equal(got, 0);
	assert_int_equal(fs_close(fd), ST_OK);
	assert_int_equal(fs_pread(fd, buf, 8, 0, &got), ST_IO_ERROR);
}

static void
writing_at_an_offset_leaves_zeroes_before(void **state)
{
	char buf[4];
	size_t got;
	uint64_t size;
	int fd = open_new("a");

	(void) state;
	assert_int_equal(fs_pwrite(fd, "z", 1, 3), ST_OK);
	assert_int_equal(fs_pread(fd, buf, 4, 0, &got), ST_OK);
	assert_memory_equal(buf, "\0\0\0z", 4);
	assert_int_equal(fs_size(fd, &size), ST_OK);
	assert_int_equal(size, 4);
	assert_int_equal(fs_truncate(fd, 2), ST_OK);
	assert_int_equal(fs_size(fd, &size), ST_OK);
	assert_int_equal(size, 2);
	assert_int_equal(fs_close(fd), ST_OK);
}

static void
gathered_writes(void **state)
{
	char many[17][2];
	struct iovec iov[16];
	int fd = open_new("a");

	(void) state;
	for (int i = 0; i < 16; i++) {
		snprintf(many[i], sizeof many[i], "%c", 'a' + i);
		iov[i] = (struct iovec){ many[i], i % 5 == 3 ? 0 : 1 }; /* some are empty */
	}
	assert_int_equal(fs_pwritev(fd, iov, 16, 0), ST_OK);
	assert_int_equal(fs_pwritev(fd, iov, 0, 5), ST_OK);
	assert_int_equal(fs_pwritev(fd, iov + 3, 1, 5), ST_OK);
	assert_int_equal(fs_close(fd), ST_OK);
	check_content("a", "abcefghjklmop");
	assert_int_equal(fs_pwritev(fd, iov, 16, 0), ST_IO_ERROR);
}

static void
syncs(void **state)
{
	int fd = open_new("a");

	(void) state;
	assert_int_equal(fs_pwrite(fd, "x", 1, 0), ST_OK);
	assert_int_equal(fs_writeback(fd, 0, 1), ST_OK);
	assert_int_equal(fs_writeback(fd, 1, 1), ST_OK);
	assert_int_equal(fs_writeback(fd, 4096, 4096), ST_OK);
	assert_int_equal(fs_datasync(fd), ST_OK);
	assert_int_equal(fs_sync(fd), ST_OK);
	fs_drop_cache(fd, 0, 1);
	assert_int_equal(fs_sync_dir("."), ST_OK);
	assert_int_equal(fs_close(fd), ST_OK);
	assert_int_equal(fs_datasync(fd), ST_IO_ERROR);
	assert_int_equal(fs_sync(fd), ST_IO_ERROR);
	assert_int_equal(fs_sync_dir("none"), ST_NOT_FOUND);
	assert_int_equal(fs_sync_dir("a"), ST_IO_ERROR);
	check_content("a", "x");
}

static void
names(void **state)
{
	struct stat st;

	(void) state;
	assert_int_equal(fs_close(open_new("a")), ST_OK);
	assert_int_equal(fs_rename("a", "b"), ST_OK);
	assert_false(exists("a"));
	assert_true(exists("b"));
	assert_int_equal(fs_rename("a", "b"), ST_NOT_FOUND);
	assert_int_equal(fs_mkdir("d"), ST_OK);
	assert_int_equal(stat("d", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(fs_mkdir("d"), ST_OK);
	assert_int_equal(fs_mkdir("b"), ST_IO_ERROR); /* a file is there */
	assert_int_equal(fs_mkdir("no/d"), ST_NOT_FOUND);
	assert_int_equal(fs_unlink("b"), ST_OK);
	assert_int_equal(fs_unlink("b"), ST_NOT_FOUND);
}

static Status
note_name(void *arg, const char *name)
{
	unsigned *seen = arg;

	assert_int_equal(strlen(name), 1);
	*seen |= 1u << (name[0] - 'a');
	return ST_OK;
}

static Status
stop_at_second(void *arg, const char *name)
{
	int *count = arg;

	(void) name;
	return ++*count == 2 ? status_fail(ST_CORRUPT, "stop") : ST_OK;
}

static void
listing(void **state)
{
	unsigned seen = 0;
	int count = 0;

	(void) state;
	assert_int_equal(fs_list(".", note_name, &seen), ST_OK);
	assert_int_equal(seen, 0);
	assert_int_equal(fs_close(open_new("a")), ST_OK);
	assert_int_equal(fs_close(open_new("b")), ST_OK);
	assert_int_equal(fs_mkdir("c"), ST_OK);
	assert_int_equal(fs_list(".", note_name, &seen), ST_OK);
	assert_int_equal(seen, 7);
	assert_int_equal(fs_list(".", stop_at_second, &count), ST_CORRUPT);
	assert_int_equal(count, 2);
	assert_int_equal(fs_list("none", note_name, &seen), ST_NOT_FOUND);
	assert_int_equal(fs_list("a", note_name, &seen), ST_IO_ERROR);
}

static void
free_space(void **state)
{
	uint64_t bytes = 0;

	(void) state;
	assert_int_equal(fs_free_space(".", &bytes), ST_OK);
	assert_true(bytes > 0);
	assert_int_equal(fs_free_space("none", &bytes), ST_NOT_FOUND);
}

static void
whole_files(void **state)
{
	char *text;
	size_t len;

	(void) state;
	assert_int_equal(fs_replace_file("a", "12345678", 8), ST_OK);
	assert_int_equal(fs_read_file("a", 7, &text, &len), ST_OUT_OF_RANGE);
	assert_string_equal(status_detail(), "file \"a\" has 8 bytes, at most 7 are expected");
	assert_int_equal(fs_read_file("a", 8, &text, &len), ST_OK);
	assert_int_equal(len, 8);
	assert_string_equal(text, "12345678");
	free(text);
	assert_int_equal(fs_read_file("a", 9, &text, &len), ST_OK);
	free(text);
	assert_int_equal(fs_replace_file("a", NULL, 0), ST_OK);
	check_content("a", "");
	assert_int_equal(fs_read_file("none", 9, &text, &len), ST_NOT_FOUND);
	assert_int_equal(fs_read_file(".", 1 << 20, &text, &len), ST_IO_ERROR);
	assert_int_equal(fs_replace_file("no/a", "x", 1), ST_NOT_FOUND);
}

static void
leftover_of_a_crash_does_not_shine_through(void **state)
{
	(void) state;
	assert_int_equal(fs_replace_file("a.tmp", "a longer leftover", 17), ST_OK);
	assert_int_equal(fs_replace_file("a", "new", 3), ST_OK);
	check_content("a", "new");
	assert_false(exists("a.tmp"));
}

static void
paths_have_a_bound(void **state)
{
	char path[FS_PATH_MAX + 1];

	(void) state;
	/* "./" again and again makes a long path of a short name; with ".tmp" and NUL it must fit FS_PATH_MAX. */
	for (size_t len = FS_PATH_MAX - 6; len <= FS_PATH_MAX - 4; len++) {
		memset(path, '/', len);
		path[0] = '.';
		path[len - 1] = 'a';
		path[len] = '\0';
		assert_int_equal(fs_replace_file(path, "x", 1), len <= FS_PATH_MAX - 5 ? ST_OK : ST_OUT_OF_RANGE);
	}
	check_content("a", "x");
}

/* A table that records the order of calls, and can fail one of them. */
static char calls[128];
static char fail_at;
static FsOps recording;

static Status
note(char what)
{
	size_t n = strlen(calls);

	calls[n] = what;
	calls[n + 1] = '\0';
	return what == fail_at ? status_fail(ST_IO_ERROR, "broken") : ST_OK;
}

static Status
rec_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	KV_TRY(note('w'));
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
rec_sync(int fd)
{
	KV_TRY(note('s'));
	return fs_posix.sync(fd);
}

static Status
rec_close(int fd)
{
	Status s = fs_posix.close(fd);

	KV_TRY(note('c'));
	return s;
}

static Status
rec_rename(const char *from, const char *to)
{
	KV_TRY(note('r'));
	return fs_posix.rename(from, to);
}

static Status
rec_sync_dir(const char *path)
{
	KV_TRY(note('d'));
	assert_string_equal(path, "sub");
	return fs_posix.sync_dir(path);
}

static void
replacing_syncs_content_before_name(void **state)
{
	(void) state;
	recording = fs_posix;
	recording.pwrite = rec_pwrite;
	recording.sync = rec_sync;
	recording.close = rec_close;
	recording.rename = rec_rename;
	recording.sync_dir = rec_sync_dir;
	fs = &recording;
	fail_at = 0;
	calls[0] = '\0';
	assert_int_equal(fs_mkdir("sub"), ST_OK);
	assert_int_equal(fs_replace_file("sub/a", "old", 3), ST_OK);
	assert_string_equal(calls, "wscrd");
	/* Whatever fails before the rename, the old content stays; every failure is told. */
	for (const char *p = "wscrd"; *p != '\0'; p++) {
		fail_at = *p;
		calls[0] = '\0';
		assert_int_equal(fs_replace_file("sub/a", "new", 3), ST_IO_ERROR);
		fs = &fs_posix;
		check_content("sub/a", *p == 'd' ? "new" : "old");
		fs = &recording;
	}
	fs = &fs_posix;
	unlink("sub/a.tmp");
	assert_int_equal(fs_unlink("sub/a"), ST_OK);
}

static void
size_limit_is_an_error_and_short_writes_are_finished(void **state)
{
	struct rlimit old, small;
	static char block[8192];
	uint64_t size;
	int fd = open_new("a");

	(void) state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 5000; /* the kernel takes 5000 bytes, then says EFBIG: a short write, then an error */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(fs_pwrite(fd, block, sizeof block, 0), ST_IO_ERROR);
	assert_int_equal(fs_pwritev(fd, &(struct iovec){ block, sizeof block }, 1, 0), ST_IO_ERROR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_non_null(strstr(status_detail(), "cannot write at "));
	assert_int_equal(fs_size(fd, &size), ST_OK);
	assert_int_equal(size, 5000);
	assert_int_equal(fs_close(fd), ST_OK);
}

#ifdef __linux__
static void
full_device_is_no_space(void **state)
{
	int fd;

	(void) state;
	if (fs_open("/dev/full", FS_WRITE, &fd) != ST_OK)
		skip();
	assert_int_equal(fs_pwrite(fd, "x", 1, 0), ST_NO_SPACE);
	assert_int_equal(fs_pwritev(fd, &(struct iovec){ dir, 1 }, 1, 0), ST_NO_SPACE);
	assert_int_equal(fs_close(fd), ST_OK);
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(links_and_directories),
		TEST(ways_to_open),
		TEST(reading_stops_at_the_end),
		TEST(writing_at_an_offset_leaves_zeroes_before),
		TEST(gathered_writes),
		TEST(syncs),
		TEST(names),
		TEST(listing),
		TEST(free_space),
		TEST(whole_files),
		TEST(leftover_of_a_crash_does_not_shine_through),
		TEST(paths_have_a_bound),
		TEST(replacing_syncs_content_before_name),
		TEST(size_limit_is_an_error_and_short_writes_are_finished),
#ifdef __linux__
		TEST(full_device_is_no_space),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
