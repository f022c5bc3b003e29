/*
 * memory.c - is there as much memory as the settings ask for? One sum, held against the machine before it is mapped.
 *
 * Postmaster, before it forks. All of it is touched when it is mapped, so that it can't run out later; where it can't
 * be had, the system would end this process, or another one, without a word. So it is refused here, with the sum.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "port/fs.h"
#include "port/proc.h"
#include "postmaster_internal.h"

/* Of the machine's memory: the rest is for the processes themselves and for the system's cache of files. */
#define SHARE_OF 8
#define SHARE 7
#define CGROUP_TEXT_MAX 4096

#define LOWER_THESE "lower memtable_size, memtable_count, block_cache_size, wal_buffers or metadata_size in kvd.conf"

typedef struct Limit {
	uint64_t bytes; /* UINT64_MAX: none known */
	const char *what;
} Limit;

static void
bound(Limit *l, uint64_t bytes, const char *what)
{
	if (bytes > 0 && bytes < l->bytes)
		*l = (Limit){ bytes, what };
}

/* A number in a file; 0: none there, or "max". */
static uint64_t
read_number(const char *path)
{
	char *text;
	size_t len;
	uint64_t n;

	if (fs_read_file(path, CGROUP_TEXT_MAX, &text, &len) != ST_OK)
		return 0; /* no limit of this kind */
	n = strtoull(text, NULL, 10);
	free(text);
	return n;
}

static void
bound_by_file(Limit *l, const char *groups, const char *group, const char *file)
{
	char path[2 * CGROUP_TEXT_MAX];

	snprintf(path, sizeof path, "%s%s/%s", groups, group, file);
	bound(l, read_number(path), "this control group");
}

/*
 * Of the control group we are in and those above it (Linux, version 2); of a container's, which looks like the root.
 * The test hook has groups of its own, and says in a file beside them which we are in.
 */
static void
bound_by_groups(Limit *l)
{
	const char *test = getenv("KVD_TEST_CGROUPS"), *groups = test != NULL ? test : "/sys/fs/cgroup";
	char *text, self[CGROUP_TEXT_MAX], *group, *end;
	size_t len;

	bound_by_file(l, groups, "", "memory.max");
	bound_by_file(l, groups, "/memory", "memory.limit_in_bytes");
	snprintf(self, sizeof self, "%s%s", test != NULL ? test : "/proc", test != NULL ? "/self" : "/self/cgroup");
	if (fs_read_file(self, CGROUP_TEXT_MAX, &text, &len) != ST_OK)
		return;
	group = strstr(text, "0::/");
	if (group != NULL) {
		group += strlen("0::");
		group[strcspn(group, "\n")] = '\0';
		while ((end = strrchr(group, '/')) != NULL && group[1] != '\0') {
			bound_by_file(l, groups, group, "memory.max");
			*end = '\0';
			if (end == group)
				break;
		}
	}
	free(text);
}

/* The test hook says what the machine has; else nobody knows better than the machine. */
static Limit
machine(void)
{
	const char *test = getenv("KVD_TEST_MEMORY");
	Limit l = { UINT64_MAX, "this machine" };

	if (test != NULL) {
		bound(&l, strtoull(test, NULL, 10), "this machine");
		return l;
	}
	bound(&l, proc_memory_bytes(), "this machine");
	bound_by_groups(&l);
	return l;
}

uint64_t
memory_limit(const char **what)
{
	Limit l = machine();
	uint64_t room;

	if (l.bytes != UINT64_MAX)
		l.bytes = l.bytes / SHARE_OF * SHARE;
	bound(&l, proc_address_limit(), "the limit on address space (ulimit -v)");
	if (fs_free_space("/dev/shm", &room) == ST_OK)
		bound(&l, room > 0 ? room : 1, "/dev/shm, where it is made,");
	*what = l.what;
	return l.bytes;
}

/* "wal_buffers 72 + memtable_count x memtable_size 192 + ... MB" */
static const char *
sum_text(uint64_t bytes, char *out, size_t size)
{
	uint64_t memtables = (uint64_t) (config.memtable_count * config.memtable_size);
	uint64_t named = (uint64_t) (config.wal_buffers + config.block_cache_size + config.metadata_size) + memtables;

	snprintf(out, size, "%" PRIu64 " MB of shared memory (wal_buffers %" PRIu64 ", memtable_count x memtable_size %"
	         PRIu64 ", block_cache_size %" PRIu64 ", metadata_size %" PRIu64 ", processes and the rest %" PRIu64 ")",
	         bytes >> 20, (uint64_t) config.wal_buffers >> 20, memtables >> 20,
	         (uint64_t) config.block_cache_size >> 20, (uint64_t) config.metadata_size >> 20,
	         bytes > named ? (bytes - named + (1 << 20) - 1) >> 20 : 0);
	return out;
}

Status
memory_check(uint64_t bytes)
{
	char sum[256];
	const char *what;
	uint64_t limit = memory_limit(&what);

	if (bytes <= limit)
		return ST_OK;
	return status_fail(ST_BAD_SETTING, "the settings ask for %s, but %s gives at most %" PRIu64 " MB: " LOWER_THESE,
	                   sum_text(bytes, sum, sizeof sum), what, limit >> 20);
}

Status
memory_failed(Status st, uint64_t bytes)
{
	char sum[256];

	return status_prefix(st, "cannot get %s: " LOWER_THESE, sum_text(bytes, sum, sizeof sum));
}

void
memory_log(uint64_t bytes)
{
	char sum[256];

	elog(LOG_LEVEL_INFO, "%s", sum_text(bytes, sum, sizeof sum));
}
