/*
 * wal_segment.c - the log's files: names, descriptors, making, recycling, removing.
 *
 * Segment k holds bytes [k, k + 1) * segment size in wal/<k, 16 hex digits>.kvw. Runs in whoever flushes, in
 * the WAL writer and in the replay process at start. Takes WAL_SEGMENT for everything that changes names.
 *
 * 1. Files first_segment .. last_segment exist, whole, under synced names: writing into them cannot run out
 *    of space, and fdatasync() has no metadata to write. They are zero-filled, not just allocated: an
 *    unwritten extent would cost an inode update at each sync.
 * 2. A new one is filled and synced as wal/spare-N.tmp (N: slot of the maker), renamed, the directory synced;
 *    then last_segment rises. What a crash leaves as .tmp is removed at the next start.
 * 3. A recycled one is renamed without zeroing. The records left in it carry other positions: wal_scan.c.
 * 4. Numbers only rise, so a descriptor cached for number k never means another file for as long as k is in
 *    use. A removed file is cut to nothing first: other processes may hold it open while they are idle.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/elog.h"
#include "common/kv_assert.h"
#include "common/process_local.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "port/fs.h"
#include "wal_internal.h"

#define ZEROS 65536
#define ZERO_PARTS 16

/*
 * This process's descriptors: the segment being written and the next. fd 0 is never one: number 0 is no
 * segment.
 */
static PROCESS_LOCAL struct {
	uint64_t segment; /* 0: free */
	int fd;
} open_files[2];

static const uint8_t zeros[ZEROS];

void
wal_segment_name(uint64_t segment, char out[WAL_NAME_SIZE])
{
	snprintf(out, WAL_NAME_SIZE, WAL_DIR "/%016" PRIx64 ".kvw", segment);
}

Status
wal_segment_fd(uint64_t segment, int *fd)
{
	int old = open_files[0].segment <= open_files[1].segment ? 0 : 1;
	char name[WAL_NAME_SIZE];

	for (int i = 0; i < 2; i++)
		if (open_files[i].segment == segment) {
			*fd = open_files[i].fd;
			return ST_OK;
		}
	wal_segment_name(segment, name);
	if (open_files[old].segment != 0) {
		int closing = open_files[old].fd;

		open_files[old].segment = 0;
		KV_TRY(fs_close(closing));
	}
	KV_TRY(fs_open(name, FS_WRITE, fd));
	open_files[old].segment = segment;
	open_files[old].fd = *fd;
	return ST_OK;
}

void
wal_files_close(void)
{
	for (int i = 0; i < 2; i++)
		if (open_files[i].segment != 0) {
			open_files[i].segment = 0;
			/* All that counts was synced by then; a failing sync has panicked. */
			if (fs_close(open_files[i].fd) != ST_OK)
				elog(LOG_LEVEL_WARNING, "log file: %s", status_detail());
		}
	wal_mark_close();
}

Status
wal_segment_write(Lsn at, Slice data)
{
	while (data.len > 0) {
		uint64_t off = at % wal_sh->segment_size;
		uint64_t n = wal_sh->segment_size - off;
		int fd;

		if (n > data.len)
			n = data.len;
		KV_TRY(wal_segment_fd(wal_segment_of(at), &fd));
		KV_TRY(fs_pwrite(fd, data.data, (size_t) n, off));
		at += n;
		data = slice_of(data.data + n, data.len - (size_t) n);
	}
	return ST_OK;
}

Status
wal_sync_file(Status (*sync)(int fd), int fd)
{
	Status st;

	critical_sync_begin();
	st = sync(fd);
	critical_sync_end();
	return st;
}

Status
wal_segment_sync(Lsn from, Lsn to)
{
	int fd;

	if (from >= to)
		return ST_OK;
	for (uint64_t k = wal_segment_of(from); k <= wal_segment_of(to - 1); k++) {
		KV_TRY(wal_segment_fd(k, &fd));
		KV_TRY(wal_sync_file(fs_datasync, fd));
	}
	return ST_OK;
}

/* ---- making */

/* Zeros over [from, to) of an open file. */
static Status
fill_zero(int fd, uint64_t from, uint64_t to)
{
	struct iovec iov[ZERO_PARTS];
	Status st;

	while (from < to) {
		int n = 0;

		uint64_t at = from;
		for (; n < ZERO_PARTS && at < to; n++) {
			iov[n].iov_base = (void *) zeros;
			iov[n].iov_len = (size_t) (to - at < ZEROS ? to - at : ZEROS);
			at += iov[n].iov_len;
		}
		KV_TRY(fs_pwritev(fd, iov, n, from));
		/* In pieces, so that the log's syncs do not wait behind all of it. */
		critical_sync_begin(); /* it waits for the piece before */
		st = fs_writeback(fd, from, at - from);
		critical_sync_end();
		KV_TRY(st);
		from = at;
	}
	return ST_OK;
}

/* A zero-filled, synced file under a temporary name. */
static Status
make_spare(const char *tmp)
{
	uint64_t room;
	Status s, closed;
	int fd;

	/* Tables need the last of the space, too: do not fill the disk only to find that it was not enough. */
	KV_TRY(fs_free_space(WAL_DIR, &room));
	if (room < wal_sh->segment_size)
		return status_fail(ST_NO_SPACE, "%llu bytes free, %llu needed", (unsigned long long) room,
						   (unsigned long long) wal_sh->segment_size);
	KV_TRY(fs_open(tmp, FS_CREATE, &fd));
	s = fs_truncate(fd, 0);
	if (s == ST_OK)
		s = fill_zero(fd, 0, wal_sh->segment_size);
	if (s == ST_OK)
		s = wal_sync_file(fs_sync, fd);
	closed = fs_close(fd);
	return s != ST_OK ? s : closed;
}

static Status
sync_names(void)
{
	Status s;

	critical_sync_begin();
	s = fs_sync_dir(WAL_DIR);
	critical_sync_end();
	return s;
}

/*
 * The disk is full. Writes are refused from when the segment being written is the last: its rest is TERM's
 * and TIME's.
 */
static Status
note_no_space(const char *tmp)
{
	char why[STATUS_DETAIL_MAX];
	Status s;

	snprintf(why, sizeof why, "%s", status_detail());
	s = fs_unlink(tmp);
	if (s != ST_OK && s != ST_NOT_FOUND)
		return s;
	if (atomic_load(&wal_sh->last_segment) <= wal_segment_of(wal_written()) &&
		atomic_exchange(&wal_sh->out_of_space, 1) == 0)
		elog(LOG_LEVEL_WARNING, "no space for the log: %s", why);
	return status_fail(ST_NO_SPACE, "%s", why);
}

static void
note_space(void)
{
	if (atomic_exchange(&wal_sh->out_of_space, 0) != 0)
		elog(LOG_LEVEL_LOG, "there is space for the log again");
}

/* Make the file of last_segment + 1. REQUIRES WAL_SEGMENT. */
static Status
make_next(void)
{
	uint64_t k = atomic_load(&wal_sh->last_segment) + 1;
	char tmp[WAL_NAME_SIZE], name[WAL_NAME_SIZE];
	Status s;

	snprintf(tmp, sizeof tmp, WAL_DIR "/spare-%d.tmp", my_slot_no);
	wal_segment_name(k, name);
	s = make_spare(tmp);
	if (s == ST_OK)
		s = fs_rename(tmp, name);
	if (s == ST_OK)
		s = sync_names();
	if (s != ST_OK) {
		s = status_prefix(s, "cannot make log file \"%s\"", name);
		return s == ST_NO_SPACE ? note_no_space(tmp) : s;
	}
	atomic_store(&wal_sh->last_segment, k);
	atomic_fetch_add_explicit(&wal_sh->segments_created, 1, memory_order_relaxed);
	note_space();
	return ST_OK;
}

Status
wal_segment_ensure(uint64_t segment)
{
	Status s = ST_OK;

	if (segment <= atomic_load(&wal_sh->last_segment))
		return ST_OK;
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0);
	while (s == ST_OK && atomic_load(&wal_sh->last_segment) < segment) {
		s = make_next();
		if (s == ST_OK)
			atomic_fetch_add_explicit(&wal_sh->segments_inline, 1, memory_order_relaxed);
	}
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
	return s;
}

bool
wal_out_of_space(void)
{
	return atomic_load_explicit(&wal_sh->out_of_space, memory_order_relaxed) != 0;
}

Status
wal_prepare_segments(int spare, bool *did)
{
	Status s = ST_OK;

	*did = false;
	if (atomic_load(&wal_sh->recovered) == 0)
		return ST_OK;
	/* One at a time: a flusher may be waiting for the lock, and others for what the WAL writer does besides. */
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0);
	if (atomic_load(&wal_sh->last_segment) < wal_segment_of(wal_written()) + (uint64_t) spare) {
		s = make_next();
		*did = s == ST_OK;
	}
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
	return s == ST_NO_SPACE ? ST_OK : s; /* known by wal_out_of_space(); tried again next time */
}

/* ---- retiring */

/* Gone already is fine: a crash may have come between removing and noting it. */
static Status
ignore_missing(Status s)
{
	return s == ST_NOT_FOUND ? ST_OK : s;
}

static Status
remove_segment(const char *name)
{
	Status s, closed;
	int fd;

	s = fs_open(name, FS_WRITE, &fd);
	if (s != ST_OK)
		return ignore_missing(s);
	s = fs_truncate(fd, 0);
	closed = fs_close(fd);
	if (s == ST_OK)
		s = closed;
	return s != ST_OK ? s : ignore_missing(fs_unlink(name));
}

/* A short one (its removal was cut off by a crash) must not come back as a spare. */
static bool
is_whole(const char *name)
{
	uint64_t size = 0;
	bool ok;
	int fd;

	if (fs_open(name, FS_READ, &fd) != ST_OK)
		return false;
	ok = fs_size(fd, &size) == ST_OK && size == wal_sh->segment_size;
	return fs_close(fd) == ST_OK && ok;
}

/* REQUIRES WAL_SEGMENT. */
static Status
retire(Lsn below, uint64_t spare)
{
	uint64_t now = wal_segment_of(wal_written()), last = atomic_load(&wal_sh->last_segment);
	uint64_t k = atomic_load(&wal_sh->first_segment), end = wal_segment_of(below);
	uint64_t old_last = last, recycled = 0;
	char name[WAL_NAME_SIZE], next[WAL_NAME_SIZE];

	if (end > now)
		end = now;
	if (k >= end)
		return ST_OK;
	for (; k < end; k++) {
		wal_segment_name(k, name);
		if (last < now + spare && is_whole(name)) {
			wal_segment_name(last + 1, next);
			KV_TRY(fs_rename(name, next));
			last++;
			recycled++;
		} else
			KV_TRY(remove_segment(name));
		atomic_store(&wal_sh->first_segment, k + 1);
	}
	KV_TRY(sync_names());
	KV_ASSERT(atomic_load(&wal_sh->last_segment) == old_last);
	atomic_store(&wal_sh->last_segment, last); /* only now: the names are synced */
	atomic_fetch_add_explicit(&wal_sh->segments_recycled, recycled, memory_order_relaxed);
	if (recycled > 0)
		note_space();
	return ST_OK;
}

Status
wal_retire_segments(Lsn below, int spare)
{
	Status s;

	if (atomic_load(&wal_sh->recovered) == 0)
		return ST_OK;
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0);
	s = retire(below, (uint64_t) spare);
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
	return s;
}

/* ---- start */

typedef struct Listing {
	uint64_t first; /* lowest number seen */
	bool collect;   /* numbers above `keep` are collected in `doomed`; else only look */
	uint64_t keep;
	uint64_t *doomed;
	size_t ndoomed, cap;
	bool tmp; /* temporary files were seen */
	char tmp_name[WAL_NAME_SIZE];
} Listing;

static Status
list_one(void *arg, const char *name)
{
	Listing *l = arg;
	uint64_t k;
	char digits[17] = "", tail[8] = "", extra;
	char *end;

	if (strncmp(name, "spare-", 6) == 0 && strlen(name) < WAL_NAME_SIZE - sizeof WAL_DIR) {
		snprintf(l->tmp_name, sizeof l->tmp_name, WAL_DIR "/%.24s", name);
		l->tmp = true;
		return ST_OK;
	}
	if (sscanf(name, "%16[0-9a-f].%3[kvw]%c", digits, tail, &extra) != 2 || strlen(name) != 20)
		return ST_OK; /* the mark, or somebody's notes: none of ours to touch */
	k = strtoull(digits, &end, 16);
	if (k == 0)
		return ST_OK;
	if (k < l->first)
		l->first = k;
	if (l->collect && k > l->keep) {
		if (l->ndoomed == l->cap) {
			size_t cap = l->cap == 0 ? 16 : 2 * l->cap;
			uint64_t *more = realloc(l->doomed, cap * sizeof *more);

			if (more == NULL)
				return status_fail(ST_OUT_OF_MEMORY, "out of memory listing " WAL_DIR);
			l->doomed = more;
			l->cap = cap;
		}
		l->doomed[l->ndoomed++] = k;
	}
	return ST_OK;
}

/* Give a segment that ends too early its full size: the write into it must not run out of space later. */
static Status
fill_segment(uint64_t segment)
{
	uint64_t size;
	int fd;

	KV_TRY(wal_segment_fd(segment, &fd));
	KV_TRY(fs_size(fd, &size));
	if (size >= wal_sh->segment_size)
		return ST_OK;
	KV_TRY(fill_zero(fd, size, wal_sh->segment_size));
	return fs_sync(fd);
}

static Status
remove_tmp(void)
{
	Listing l;

	do {
		l = (Listing){ .first = UINT64_MAX };
		KV_TRY(fs_list(WAL_DIR, list_one, &l));
		if (l.tmp)
			KV_TRY(fs_unlink(l.tmp_name));
	} while (l.tmp);
	return ST_OK;
}

/* Segments above `keep`; *l: what there is. */
static Status
remove_above(uint64_t keep, Listing *l)
{
	char name[WAL_NAME_SIZE];
	Status s;

	*l = (Listing){ .first = UINT64_MAX, .collect = true, .keep = keep };
	s = fs_list(WAL_DIR, list_one, l);
	for (size_t i = 0; s == ST_OK && i < l->ndoomed; i++) {
		wal_segment_name(l->doomed[i], name);
		s = remove_segment(name);
	}
	if (s == ST_OK)
		s = fs_sync_dir(WAL_DIR);
	free(l->doomed);
	l->doomed = NULL;
	return s;
}

Status
wal_segment_forget(void)
{
	Listing l;

	return remove_above(0, &l);
}

Status
wal_segment_settle(Lsn end)
{
	uint64_t now = wal_segment_of(end), last = now - 1;
	char name[WAL_NAME_SIZE];
	Listing l;
	Status s;
	int fd;

	KV_TRY(remove_tmp());
	wal_segment_name(now, name);
	s = fs_open(name, FS_READ, &fd);
	if (s == ST_OK) {
		KV_TRY(fs_close(fd));
		KV_TRY(fill_segment(now));
		last = now;
		for (wal_segment_name(last + 1, name); is_whole(name); wal_segment_name(last + 1, name))
			last++;
	} else if (s != ST_NOT_FOUND)
		return s;
	KV_TRY(remove_above(last, &l));
	atomic_store(&wal_sh->first_segment, l.first < now ? l.first : now);
	atomic_store(&wal_sh->last_segment, last);
	return ST_OK;
}
