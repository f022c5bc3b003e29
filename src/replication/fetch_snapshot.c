/*
 * fetch_snapshot.c - all tables and value files of another node into FETCH_INCOMING (rule C5).
 *
 * Fetcher process. The other node keeps its files while the connection lasts; here they are called by their
 * global ids, so when the fetch is cut off, at any point, the next one goes on with what is there: a file
 * with the right name may be short, or wrong, but never another table's. Every byte is checked before
 * COMPLETE says that all is there. The node serves as before until then; the tables are installed by the
 * restart that follows.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/coding.h"
#include "common/config.h"
#include "common/elog.h"
#include "common/proto.h"
#include "fetch_internal.h"
#include "port/child.h"
#include "port/fs.h"
#include "storage/kvstore.h"

#define OPEN_ANSWER 48                    /* F, term, log time, tables, their bytes, the list's bytes */
#define WRITEBACK_BYTES (8 * FETCH_CHUNK) /* written out in this pace, so that the sync at the end is short */
#define NO_SPACE_NAP_US 5000000

typedef struct Incoming {
	const FetchJob *job;
	FetchClient *client;
	TransferSum sum;
	TransferList *list;
	uint64_t done, total; /* bytes */
} Incoming;

/* ---- files */

/* What this file system has to take: what is missing, and the reserve that writes keep. */
static Status
check_space(const Incoming *in)
{
	uint64_t left, needed = in->total - in->done + (uint64_t) config.disk_reserve;

	KV_TRY(fs_free_space(".", &left));
	if (left >= needed)
		return ST_OK;
	status_fail(ST_NO_SPACE,
				"%" PRIu64 " MB of tables do not fit: %" PRIu64 " MB free, %" PRIu64 " MB needed",
				(in->total - in->done) >> 20, left >> 20, needed >> 20);
	fetch_client_close(in->client); /* the other node need not keep its files for us meanwhile */
	fetch_nap(in->job, NO_SPACE_NAP_US);
	return ST_NO_SPACE;
}

static Status
ask_bytes(Incoming *in, uint64_t number, uint64_t at, uint64_t left, Slice *bytes)
{
	uint32_t n = left < FETCH_CHUNK ? (uint32_t) left : FETCH_CHUNK;
	uint8_t ask[24] = { 0 };

	put_u64(ask, number);
	put_u64(ask + 8, at);
	put_u32(ask + 16, n);
	KV_TRY(fetch_client_call(in->client, PROTO_SNAPSHOT_READ, slice_of(ask, sizeof ask), bytes));
	if (bytes->len != n)
		return status_fail(ST_CORRUPT, "the other node's file is shorter than its list says");
	return ST_OK;
}

/* From where the file ends. Written, not synced. */
static Status
fill_file(Incoming *in, int fd, uint64_t number, uint64_t bytes)
{
	uint64_t at, flushed;

	KV_TRY(fs_size(fd, &at));
	if (at > bytes) {
		KV_TRY(fs_truncate(fd, 0));
		at = 0;
	}
	for (flushed = at; at < bytes;) {
		Slice piece;

		if (!fetch_stands(in->job))
			return fetch_not_ordered();
		KV_TRY(ask_bytes(in, number, at, bytes - at, &piece));
		KV_TRY(fs_pwrite(fd, piece.data, piece.len, at));
		at += piece.len;
		in->done += piece.len;
		fetch_nap(in->job, fetch_client_rest_us(in->client));
		if (at - flushed >= WRITEBACK_BYTES) {
			KV_TRY(fs_writeback(fd, flushed, at - flushed));
			flushed = at;
		}
	}
	return ST_OK;
}

static Status
fetch_file(Incoming *in, const char *path, uint64_t number, uint64_t bytes)
{
	Status st, closed;
	int fd;

	KV_TRY(fs_open(path, FS_CREATE, &fd));
	st = fill_file(in, fd, number, bytes);
	if (st == ST_OK)
		st = fs_sync(fd);
	closed = fs_close(fd);
	return st != ST_OK ? st : closed;
}

/* ---- what is there already */
typedef struct Present {
	Incoming *in;
	Buf useless; /* names, NUL-terminated */
} Present;

/* The file of the list that this one is (part of). */
static bool
is_wanted(const Incoming *in, const char *name, TransferFile *f)
{
	char path[FS_PATH_MAX];
	unsigned long long id;

	if (sscanf(name, "%16llx", &id) != 1)
		return false;
	for (uint64_t i = 0; i < in->sum.files; i++) {
		*f = transfer_list_file(in->list, i);
		if (f->file_id != id)
			continue;
		transfer_fetched_path(FETCH_INCOMING, f, path, sizeof path);
		if (strcmp(path + sizeof FETCH_INCOMING, name) == 0)
			return true;
	}
	return false;
}

static Status
look_at(void *arg, const char *name)
{
	Present *p = arg;
	char path[FS_PATH_MAX];
	TransferFile f;
	uint64_t bytes;
	int fd;

	transfer_path(FETCH_INCOMING, TRANSFER_LIST, path, sizeof path);
	if (strcmp(path + sizeof FETCH_INCOMING, name) == 0)
		return ST_OK;
	if (!is_wanted(p->in, name, &f))
		return buf_append(&p->useless, name, strlen(name) + 1);
	transfer_fetched_path(FETCH_INCOMING, &f, path, sizeof path);
	KV_TRY(fs_open(path, FS_READ, &fd));
	KV_TRY(fs_size(fd, &bytes));
	KV_TRY(fs_close(fd));
	p->in->done += bytes <= f.bytes ? bytes : 0;
	return ST_OK;
}

/* Count what an earlier fetch has brought, remove what is of no use any more. */
static Status
look_around(Incoming *in)
{
	Present p = { .in = in };
	Status st = fs_list(FETCH_INCOMING, look_at, &p);

	for (size_t at = 0; st == ST_OK && at < p.useless.len;) {
		const char *name = (const char *) p.useless.data + at;
		char path[FS_PATH_MAX];

		snprintf(path, sizeof path, FETCH_INCOMING "/%s", name);
		st = fs_unlink(path);
		at += strlen(name) + 1;
	}
	buf_free(&p.useless);
	return st;
}

/* ---- steps */
static Status
open_remote(Incoming *in)
{
	const Control *self = kvstore_control();
	uint8_t ask[24];
	Slice a;

	memcpy(ask, self->cluster_id, 16);
	put_u64(ask + 16, self->node_incarnation);
	KV_TRY(fetch_client_call(in->client, PROTO_SNAPSHOT_OPEN, slice_of(ask, sizeof ask), &a));
	if (a.len != OPEN_ANSWER)
		return status_fail(ST_CORRUPT, "the other node's answer has not the right length");
	in->sum = (TransferSum){ get_u64(a.data),      get_u64(a.data + 8),  get_u64(a.data + 16),
							 get_u64(a.data + 24), get_u64(a.data + 32), get_u64(a.data + 40) };
	in->total = in->sum.file_bytes;
	if (in->sum.flushed <= wal_commit() && !in->job->order.repair)
		return status_fail(ST_CONDITION_FAILED,
						   "its tables hold no more (%" PRIu64 ") than is committed here", in->sum.flushed);
	elog(LOG_LEVEL_LOG, "fetching tables in %" PRIu64 " files, %" PRIu64 " MB, from %s: all up to %" PRIu64,
		 in->sum.files, in->sum.file_bytes >> 20, in->job->order.address, in->sum.flushed);
	return ST_OK;
}

static Status
get_list(Incoming *in)
{
	char path[FS_PATH_MAX];
	TransferSum said;
	Status st;

	transfer_path(FETCH_INCOMING, TRANSFER_LIST, path, sizeof path);
	st = fs_unlink(path); /* of an earlier fetch */
	if (st != ST_NOT_FOUND)
		KV_TRY(st);
	KV_TRY(fetch_file(in, path, TRANSFER_LIST, in->sum.list_bytes));
	in->done = 0;
	KV_TRY(transfer_list_read(FETCH_INCOMING, &in->list));
	transfer_list_sum(in->list, &said);
	if (memcmp(&said, &in->sum, sizeof said) != 0)
		return status_fail(ST_CORRUPT, "the other node's list is not what it said");
	return ST_OK;
}

/* A file that turns out to be wrong goes, and is fetched anew by the next attempt. */
static Status
get_file(Incoming *in, uint64_t i)
{
	TransferFile f = transfer_list_file(in->list, i);
	char path[FS_PATH_MAX];
	Status st;

	transfer_fetched_path(FETCH_INCOMING, &f, path, sizeof path);
	KV_TRY(fetch_file(in, path, f.number, f.bytes));
	st = transfer_verify(in->list, i, FETCH_INCOMING, NULL, NULL);
	if (st == ST_OK)
		return ST_OK;
	if (st == ST_CORRUPT || st == ST_FOREIGN)
		KV_TRY(fs_unlink(path));
	return status_fail(st, "%s of the other node is damaged, here or there: %s", path, status_detail());
}

static Status
get_all(Incoming *in)
{
	KV_TRY(open_remote(in));
	KV_TRY(fs_mkdir(FETCH_INCOMING));
	KV_TRY(get_list(in));
	KV_TRY(look_around(in));
	KV_TRY(check_space(in));
	for (uint64_t i = 0; i < in->sum.files; i++)
		KV_TRY(get_file(in, i));
	KV_TRY(fs_sync_dir(FETCH_INCOMING));
	return fs_sync_dir(".");
}

Status
fetch_snapshot(const FetchJob *job, FetchClient *c)
{
	Incoming in = { .job = job, .client = c };
	FetchComplete mark;
	Status st = get_all(&in);

	transfer_list_free(in.list);
	if (st == ST_NOT_FOUND) /* only LOG_READ's has a meaning for our caller */
		return status_fail(ST_CLOSED, "%s", status_detail());
	KV_TRY(st);
	mark = (FetchComplete){ in.sum.flushed, in.sum.term, in.sum.log_time, job->order.repair };
	if (!fetch_stands(job))
		return fetch_not_ordered();
	/* C5: again, it may have moved meanwhile. */
	if (mark.flushed <= wal_commit() && !mark.repair)
		return status_fail(ST_CONDITION_FAILED, "its tables hold no more than is committed here by now");
	KV_TRY(fetch_mark_complete(&mark, kvstore_control()));
	elog(LOG_LEVEL_LOG, "all tables are here; the node restarts with them");
	child_exit(EXIT_INSTALL);
}
