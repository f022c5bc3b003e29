/*
 * cmd_log_read.c - LOG_READ: committed log for a follower that is behind (doc/protocol.md).
 *
 * A backend, from the log's files; nothing is pinned but the log itself, from the place that was asked for
 * last, until the connection ends (the slot's own hold, which goes with the slot).
 */
#include "cmd_cluster_data.h"
#include "replication/replstate.h"
#include "replication/snapshot.h"

#define ASK_SIZE (MEMBER_ID_SIZE + 24) /* from, term before it, most bytes, 0 */
#define ANSWER_HEAD 16                 /* commit, end */
#define LOG_BYTES_MAX 4194304u         /* more are not sent at once, but for one record */

typedef struct LogRequest {
	Lsn from;
	uint64_t term;
	uint32_t most;
} LogRequest;

Status
check_member(Reader *r)
{
	const Control *c = kvstore_control();
	const uint8_t *cluster = reader_take(r, sizeof c->cluster_id);
	uint64_t incarnation = read_u64(r);
	ReplView view;

	if (cluster == NULL)
		return status_fail(ST_BAD_REQUEST, "cluster and node are missing");
	replstate_view(&view);
	if (memcmp(cluster, c->cluster_id, sizeof c->cluster_id) != 0)
		return status_fail(ST_FOREIGN, "this is a node of another cluster");
	if (replview_peer(&view, incarnation) == NULL)
		return status_fail(ST_FOREIGN, "only members of this cluster are served");
	return ST_OK;
}

static Status
decode(const Request *r, LogRequest *out)
{
	Reader reader = reader_of(r->payload, r->header.length);

	if (r->header.length != ASK_SIZE)
		return status_fail(ST_BAD_REQUEST, "LOG_READ has %d bytes", ASK_SIZE);
	KV_TRY(check_member(&reader));
	out->from = read_u64(&reader);
	out->term = read_u64(&reader);
	out->most = read_u32(&reader);
	if (read_u32(&reader) != 0 || out->from % 8 != 0)
		return status_fail(ST_BAD_REQUEST, "the last four bytes must be 0, a position is a multiple of 8");
	if (out->most > LOG_BYTES_MAX)
		out->most = LOG_BYTES_MAX;
	return ST_OK;
}

/*
 * Does the first record follow one of this term? (Rule L1: only a TERM record may have another, and it
 * names that.)
 */
static bool
follows(const WalRecord *first, uint64_t term)
{
	if (first->header.kind != WAL_TERM)
		return first->header.term == term;
	return first->body.len == sizeof(WalTermBody) && get_u64(first->body.data) == term;
}

/* Whole records from l->from, at least one. NOT_FOUND: not in the files. CONDITION_FAILED: not this log. */
static Status
append_records(Session *s, const LogRequest *l, Lsn until, Lsn *end)
{
	WalReader *reader;
	WalRecord rec;
	Slice raw;
	Status st;

	*end = l->from;
	KV_TRY(wal_reader_open(l->from, until, &reader));
	st = wal_reader_next_raw(reader, &rec, &raw);
	if (st == ST_NOT_FOUND || st == ST_CORRUPT)
		st = status_fail(ST_CONDITION_FAILED, "no record begins at %llu: %s", (unsigned long long) l->from,
						 status_detail());
	else if (st == ST_OK && !follows(&rec, l->term))
		st = status_fail(ST_CONDITION_FAILED, "the record before %llu is not of term %llu",
						 (unsigned long long) l->from, (unsigned long long) l->term);
	while (st == ST_OK) {
		st = buf_append_slice(&s->out, raw);
		*end = rec.end;
		if (st == ST_OK)
			st = wal_reader_next_raw(reader, &rec, &raw);
		if (st == ST_OK && rec.end - l->from > l->most)
			break;
	}
	wal_reader_close(reader);
	return st == ST_NOT_FOUND ? ST_OK : st;
}

static Status
read_log(Session *s, const LogRequest *l, size_t head_at)
{
	Lsn commit = wal_commit(), written = wal_written(), until = commit < written ? commit : written,
		end = l->from;
	uint8_t *head;

	if (!kvstore_hold_log(l->from))
		return status_fail(ST_NOT_FOUND, "the log begins at %llu here",
						   (unsigned long long) wal_files_floor());
	if (l->from > commit)
		return status_fail(ST_CONDITION_FAILED, "only %llu is committed here", (unsigned long long) commit);
	if (l->from < until)
		KV_TRY(append_records(s, l, until, &end));
	head = s->out.data + head_at;
	put_u64(head, commit);
	put_u64(head + 8, end);
	return ST_OK;
}

Status
cmd_log_read(Session *s, const Request *r)
{
	static const uint8_t head[ANSWER_HEAD];
	LogRequest l = { 0 };
	size_t at;
	Status st = decode(r, &l);

	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	st = read_log(s, &l, at + PROTO_HEADER_SIZE);
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	answer_end(s, r, at);
	return ST_OK;
}

void
cluster_data_end(void)
{
	snapshot_close();
	kvstore_release_log();
}
