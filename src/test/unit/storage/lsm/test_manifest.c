/*
 * test_manifest.c - the manifest cut and damaged at every byte, other formats, rotation, order of syncs,
 * failing file operations.
 */
#include "lsm_test.h"

#include "common/coding.h"

static void
start(void)
{
	fresh_directory();
	fresh_memory(TEST_HEAP);
	config_init();
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
}

static Status
try_flush(uint64_t version)
{
	char key[16];
	Entry e = { .version = version, .kind = ENTRY_PUT };
	LsmState state = { version + 1, 3, 4 };

	snprintf(key, sizeof key, "k%03d", (int) (version % 997));
	e.key = slice_str(key);
	return flush_array(&e, 1, &state);
}

static void
current_path(char *path, size_t size)
{
	uint64_t number;

	ok(manifest_current(&number));
	manifest_path(number, path, size);
}

static void
write_file(const char *path, const void *data, size_t len)
{
	FILE *f;

	(void) unlink(path); /* some file systems sync a file that is truncated and written again */
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* The manifest's length after its list and after each of three edits, and its content. */
static void
three_edits(char *path, uint64_t ends[4], char **content, size_t *len)
{
	start();
	ok(try_flush(5));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	ends[0] = lsm_writer.manifest.length;
	for (int i = 1; i < 4; i++) {
		ok(try_flush(10 * (uint64_t) i));
		ends[i] = lsm_writer.manifest.length;
	}
	current_path(path, FS_PATH_MAX);
	ok(fs_read_file(path, 1 << 20, content, len));
	assert_int_equal(*len, ends[3]);
}

static void
test_cut_at_every_byte(void **state)
{
	char path[FS_PATH_MAX], *content;
	uint64_t ends[4];
	size_t len;

	(void) state;
	three_edits(path, ends, &content, &len);
	for (size_t cut = 0; cut <= len; cut++) {
		Status st;

		write_file(path, content, cut);
		fresh_memory(TEST_HEAP);
		st = lsm_open(&published);
		if (cut < ends[0]) {
			/* The list of tables was synced before CURRENT named it: never cut by a crash. */
			assert_int_equal(st, ST_CORRUPT);
			assert_non_null(strstr(status_detail(), path));
		} else {
			uint32_t edits = cut == ends[3] ? 3 : cut >= ends[2] ? 2 : cut >= ends[1];

			ok(st);
			assert_int_equal(published->ntables[0], 1 + edits);
			assert_int_equal(published->flushed, edits == 0 ? 6 : 10 * edits + 1);
		}
	}
	free(content);
}

static void
test_every_byte_flipped(void **state)
{
	char path[FS_PATH_MAX], *content;
	uint64_t ends[4];
	size_t len;

	(void) state;
	three_edits(path, ends, &content, &len);
	for (size_t at = 0; at < len; at++) {
		for (int bit = 0; bit < 8; bit += 7) {
			Status st;

			content[at] ^= (char) (1 << bit);
			write_file(path, content, len);
			content[at] ^= (char) (1 << bit);
			fresh_memory(TEST_HEAP);
			st = lsm_open(&published);
			if (at < ends[2]) {
				/* Also where a length seems to reach past the end: the records behind are still there. */
				assert_int_equal(st, ST_CORRUPT);
				assert_non_null(strstr(status_detail(), path));
				assert_non_null(strstr(status_detail(), "offset"));
			} else {
				/* The last record: as if it had been torn. */
				ok(st);
				assert_int_equal(published->ntables[0], 3);
			}
		}
	}
	/* The list alone: its last record was synced, so no byte of it can be a torn end. */
	for (size_t at = 0; at < ends[0]; at++) {
		content[at] ^= 1;
		write_file(path, content, ends[0]);
		content[at] ^= 1;
		fresh_memory(TEST_HEAP);
		assert_int_equal(lsm_open(&published), ST_CORRUPT);
	}
	/* Zeros or another manifest's bytes behind the end: also a torn end. */
	write_file(path, content, len);
	{
		FILE *f = fopen(path, "a");

		for (int i = 0; i < 5000; i++)
			fputc(0, f);
		fwrite(content + ends[0], 1, len - ends[0], f);
		fclose(f);
	}
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	assert_int_equal(published->ntables[0], 4);
	free(content);
}

/* After a torn end the node goes on, and what it writes then is read again. */
static void
test_goes_on_after_torn_end(void **state)
{
	char path[FS_PATH_MAX], *content;
	uint64_t ends[4];
	size_t len;

	(void) state;
	three_edits(path, ends, &content, &len);
	write_file(path, content, len - 3);
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
	ok(try_flush(50));
	fresh_memory(TEST_HEAP);
	ok(lsm_open(&published));
	assert_int_equal(published->ntables[0], 4);
	assert_int_equal(published->flushed, 51);
	assert_int_equal(published->flushed_term, 3);
	assert_int_equal(published->flushed_time, 4);
	free(content);
}

static void
test_other_format(void **state)
{
	char path[FS_PATH_MAX], *content;
	size_t len;

	(void) state;
	start();
	current_path(path, sizeof path);
	ok(fs_read_file(path, 1 << 20, &content, &len));
	put_u32((uint8_t *) content + 8, MANIFEST_FORMAT + 1);
	put_u32((uint8_t *) content + MANIFEST_HEADER - 4, manifest_header_crc((const uint8_t *) content));
	write_file(path, content, len);
	fresh_memory(TEST_HEAP);
	assert_int_equal(lsm_open(&published), ST_FOREIGN);
	assert_non_null(strstr(status_detail(), "format 3"));
	free(content);
}

static void
test_current(void **state)
{
	static const char *const bad[] = { "", "\n", "MANIFEST", "MANIFEST-0000000000000002", "MANIFEST-2\n",
		                           "MANIFEST-0000000000000002\nx", "MANIFEST-00000000000000zz\n",
		                           "../../etc/passwd\n" };

	(void) state;
	start();
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		write_file(LSM_CURRENT, bad[i], strlen(bad[i]));
		assert_int_equal(lsm_open(&published), ST_CORRUPT);
	}
	/* Well formed, but no such file. */
	write_file(LSM_CURRENT, "MANIFEST-0000000000000099\n", 26);
	assert_int_equal(lsm_open(&published), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "MANIFEST-0000000000000099"));
	assert_int_equal(unlink(LSM_CURRENT), 0);
	assert_int_equal(lsm_open(&published), ST_CORRUPT);
}

/* A manifest that is renamed over another one is noticed. */
static void
test_wrong_manifest(void **state)
{
	char path[FS_PATH_MAX];

	(void) state;
	start();
	current_path(path, sizeof path);
	assert_int_equal(rename(path, "MANIFEST-0000000000000077"), 0);
	write_file(LSM_CURRENT, "MANIFEST-0000000000000077\n", 26);
	assert_int_equal(lsm_open(&published), ST_CORRUPT);
	assert_non_null(strstr(status_detail(), "another manifest"));
}

static Status
count_manifest(void *arg, const char *name)
{
	*(int *) arg += strncmp(name, "MANIFEST-", 9) == 0;
	return ST_OK;
}

static void
test_rotation(void **state)
{
	uint64_t first;
	int n = 0;

	(void) state;
	start();
	first = lsm_writer.manifest.number;
	for (uint64_t i = 1; lsm_writer.manifest.number < first + 2; i++) {
		LsmCompactOptions opt = { .oldest = UINT64_MAX };
		Version *v;

		assert_true(lsm_writer.manifest.length < 2 * MANIFEST_ROTATE_BYTES);
		/* Large state, made large quickly: pretend that edits were written. */
		ok(try_flush(i * 10));
		if (i % 8 == 0) {
			ok(lsm_compact_all(&opt, &v));
			publish(v);
		}
		ok(lsm_collect());
		assert_true(i < 100000);
	}
	ok(fs_list(".", count_manifest, &n));
	assert_int_equal(n, 1);
	{
		uint64_t flushed = published->flushed, number = lsm_writer.manifest.number;
		uint32_t l0 = published->ntables[0];

		fresh_memory(TEST_HEAP);
		ok(lsm_open(&published));
		assert_int_equal(lsm_shared->manifest_number, number);
		assert_int_equal(published->flushed, flushed);
		assert_int_equal(published->ntables[0], l0);
	}
}

/* ---- a new manifest that can't be written */
static int new_manifest;
static Status why_not;

static Status
note_open(const char *path, FsOpen how, int *fd)
{
	Status st = quick_fs.open(path, how, fd);

	if (st == ST_OK && how == FS_CREATE_NEW && strncmp(path, "MANIFEST-", 9) == 0)
		new_manifest = *fd;
	return st;
}

static Status
write_elsewhere(int fd, const void *buf, size_t len, uint64_t off)
{
	return fd == new_manifest ? status_fail(why_not, "made up") : quick_fs.pwrite(fd, buf, len, off);
}

static Status
flush_long_key(size_t len, uint64_t version)
{
	static uint8_t key[60000];
	Entry e = { .version = version, .kind = ENTRY_PUT, .key = slice_of(key, len) };
	LsmState state = { version + 1, 3, 4 };

	memset(key, 'k', sizeof key);
	return flush_array(&e, 1, &state);
}

/* What may pass leaves the old one in use, and nothing of the new one. */
static void
test_rotation_put_off(void **state)
{
	FsOps ops = quick_fs;

	(void) state;
	ops.open = note_open;
	ops.pwrite = write_elsewhere;
	for (int i = 0; i < 2; i++) {
		uint64_t number, version = 10;
		int n = 0;

		start();
		for (; lsm_writer.manifest.length - lsm_writer.manifest.base <= MANIFEST_ROTATE_BYTES; version += 10) {
			LsmCompactOptions opt = { .oldest = UINT64_MAX };
			Version *v;

			ok(flush_long_key(60000, version));
			ok(lsm_compact_all(&opt, &v));
			publish(v);
			ok(lsm_collect());
		}
		number = lsm_writer.manifest.number;
		new_manifest = -1;
		why_not = i == 0 ? ST_NO_SPACE : ST_OUT_OF_MEMORY;
		fs = &ops;
		ok(flush_long_key(60000, version));
		fs = &quick_fs;
		assert_int_not_equal(new_manifest, -1);
		assert_false(lsm_writer.manifest.broken);
		assert_int_equal(lsm_writer.manifest.number, number);
		ok(fs_list(".", count_manifest, &n));
		assert_int_equal(n, 1);
		ok(flush_long_key(60000, version + 10));
		assert_int_equal(lsm_writer.manifest.number, number + 1);
		fresh_memory(TEST_HEAP);
		ok(lsm_open(&published));
		assert_int_equal(published->flushed, version + 11);
	}
}

/* ---- shared memory that fills */
static int
lines_in(const char *path, const char *what)
{
	char *text;
	size_t len;
	int n = 0;

	ok(fs_read_file(path, 1 << 20, &text, &len));
	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	free(text);
	return n;
}

/* Told once, when three quarters are taken; and again after it was half empty. */
static void
test_heap_told(void **state)
{
	uint64_t version = 10;
	int fd;

	(void) state;
	start();
	ok(fs_open("log", FS_CREATE_NEW, &fd));
	elog_setup(fd, LOG_LEVEL_WARNING, false);
	for (int round = 1; round <= 2; round++) {
		LsmCompactOptions opt = { .oldest = UINT64_MAX };
		Version *v;

		assert_int_equal(lines_in("log", "raise metadata_size"), round - 1);
		for (; shheap_used() < shheap_total() / 4 * 3; version += 10)
			ok(flush_long_key(20000, version));
		ok(flush_long_key(20000, version));
		version += 10;
		assert_int_equal(lines_in("log", "raise metadata_size"), round);
		ok(lsm_compact_all(&opt, &v));
		publish(v);
		ok(lsm_collect());
		assert_true(shheap_used() < shheap_total() / 2);
		ok(flush_long_key(20000, version));
		version += 10;
	}
	elog_setup(2, LOG_LEVEL_FATAL, false);
	ok(fs_close(fd));
}

/* ---- order of file operations */
static char trace[4096];
static char fd_names[64][64];

static void
note(const char *what, const char *name)
{
	size_t len = strlen(trace);

	assert_true(len + strlen(what) + strlen(name) + 3 < sizeof trace);
	snprintf(trace + len, sizeof trace - len, "%s %s\n", what, name);
}

static const char *
kind_of(const char *path)
{
	size_t n = strlen(path);

	return strncmp(path, "MANIFEST", 8) == 0 ? "manifest" : n > 4 && strcmp(path + n - 4, ".tmp") == 0 ? "tmp"
	     : strncmp(path, "tables/", 7) == 0 ? "table" : path;
}

static Status
trace_open(const char *path, FsOpen how, int *fd)
{
	Status st = fs_posix.open(path, how, fd);

	if (st == ST_OK && *fd < 64)
		snprintf(fd_names[*fd], sizeof fd_names[0], "%s", kind_of(path));
	return st;
}

static Status
trace_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	note("write", fd_names[fd]);
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
trace_sync(int fd)
{
	note("sync", fd_names[fd]);
	return ST_OK;
}

static Status
trace_sync_dir(const char *path)
{
	note("sync", path);
	return ST_OK;
}

static Status
trace_rename(const char *from, const char *to)
{
	note("rename to", kind_of(to));
	return fs_posix.rename(from, to);
}

static Status
trace_unlink(const char *path)
{
	note("unlink", kind_of(path));
	return fs_posix.unlink(path);
}

/* What makes one table part of the tree. */
#define TABLE_IN "write tmp\nsync tmp\nrename to table\nsync tables\nwrite manifest\nsync manifest\n"

static void
test_sync_order(void **state)
{
	FsOps ops = fs_posix;
	const FsOps *before = fs;
	char *p;

	(void) state;
	ops.open = trace_open;
	ops.pwrite = trace_pwrite;
	ops.sync = ops.datasync = trace_sync;
	ops.sync_dir = trace_sync_dir;
	ops.rename = trace_rename;
	ops.unlink = trace_unlink;
	start();
	snprintf(fd_names[lsm_writer.manifest.fd], sizeof fd_names[0], "manifest");
	fs = &ops;
	trace[0] = 0;
	ok(try_flush(5));
	assert_string_equal(trace, TABLE_IN);
	/* Compaction: the same, and inputs are removed after the manifest is synced. */
	{
		LsmCompactOptions opt = { .oldest = 100 };
		Version *v;

		trace[0] = 0;
		ok(lsm_compact_all(&opt, &v));
		publish(v);
		ok(lsm_collect());
		assert_string_equal(trace, TABLE_IN "unlink table\n");
	}
	/* A new manifest: whole and synced before CURRENT names it, the old one removed after that. */
	ok(lsm_open(&published));
	trace[0] = 0;
	ok(lsm_writer_open(published));
	p = strstr(trace, "sync manifest\n");
	assert_non_null(p);
	assert_null(strstr(p, "write manifest"));
	p = strstr(p, "rename to CURRENT\n");
	assert_non_null(p);
	p = strstr(p, "sync ");
	assert_non_null(p);
	assert_non_null(strstr(p, "unlink manifest"));
	fs = before;
}

/* ---- failing file operations */
static int countdown;      /* operations that still succeed */
static Status failure;

static bool
fails(void)
{
	return countdown-- <= 0;
}

static Status
bad_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	if (fails()) {
		/* Part of it is there. */
		(void) !fs_posix.pwrite(fd, buf, len / 2, off);
		return status_fail(failure, "made up: write");
	}
	return fs_posix.pwrite(fd, buf, len, off);
}

static Status
bad_sync(int fd)
{
	(void) fd;
	return fails() ? status_fail(failure, "made up: sync") : ST_OK;
}

static Status
bad_sync_dir(const char *path)
{
	(void) path;
	return fails() ? status_fail(failure, "made up: sync of a directory") : ST_OK;
}

static Status
bad_rename(const char *from, const char *to)
{
	return fails() ? status_fail(failure, "made up: rename") : fs_posix.rename(from, to);
}

static Status
bad_open(const char *path, FsOpen how, int *fd)
{
	return how != FS_READ && fails() ? status_fail(failure, "made up: open") : fs_posix.open(path, how, fd);
}

/*
 * A flush and a compaction with the n-th operation failing, for every n: told, nothing lost, nothing leaked.
 */
static void
test_failures(void **state)
{
	FsOps ops = quick_fs;
	bool done = false;

	(void) state;
	ops.open = bad_open;
	ops.pwrite = bad_pwrite;
	ops.sync = ops.datasync = bad_sync;
	ops.sync_dir = bad_sync_dir;
	ops.rename = bad_rename;
	for (int n = 0; !done; n++) {
		for (int full = 0; full < 2; full++) {
			LsmCompactOptions opt = { .oldest = 100 };
			Version *v = NULL;
			Status st;
			int files = 0;
			size_t used;

			start();
			ok(try_flush(5));
			ok(lsm_collect());
			used = shheap_used();
			failure = full ? ST_NO_SPACE : ST_IO_ERROR;
			countdown = n;
			fs = &ops;
			st = try_flush(10);
			if (st == ST_OK)
				st = lsm_compact_all(&opt, &v);
			fs = &quick_fs;
			assert_true(st == ST_OK || st == failure);
			done = st == ST_OK;
			if (st != ST_OK && published->ntables[0] == 1)
				assert_int_equal(shheap_used(), used);
			if (v != NULL)
				publish(v);
			if (st == ST_NO_SPACE && !lsm_writer.manifest.broken)
				ok(try_flush(20)); /* space again: it goes on without a restart */
			else if (lsm_writer.manifest.broken)
				assert_int_equal(try_flush(20), ST_IO_ERROR);
			fresh_memory(TEST_HEAP);
			ok(lsm_open(&published));
			ok(lsm_writer_open(published));
			{
				Iter *it = lsm_iter(published, (TableIterOptions){ 0 });
				bool first = false;

				epoch_pin(0);
				for (iter_seek_first(it); it->valid; iter_next(it))
					first |= it->entry.version == 5;
				ok(it->status);
				iter_close(it);
				epoch_unpin();
				assert_true(first);
			}
			ok(fs_list("tables", count_name, &files));
			assert_int_equal(files, published->ntables[0] + published->ntables[LSM_LEVELS - 1]);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_every_byte_flipped),
		cmocka_unit_test(test_goes_on_after_torn_end),
		cmocka_unit_test(test_other_format),
		cmocka_unit_test(test_current),
		cmocka_unit_test(test_wrong_manifest),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_rotation_put_off),
		cmocka_unit_test(test_heap_told),
		cmocka_unit_test(test_sync_order),
		cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
