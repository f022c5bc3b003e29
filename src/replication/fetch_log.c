/*
 * fetch_log.c - catching up by log: whole records of another node's committed log, appended here (rules L1,
 * L2, C3).
 *
 * Fetcher process. What is committed never changes, so it does not matter who leads meanwhile; that it goes
 * on from our end is checked by the other node (a record of our last term ends there) and again record by
 * record. Pieces are appended and told to the consensus worker one at a time: its Raft must know the log as
 * it is.
 */
#include "common/coding.h"
#include "common/proto.h"
#include "fetch_internal.h"
#include "fetch_shared.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "storage/kvstore.h"

#define WAIT_US 2000 /* for room in the ring, or the consensus worker; both wake us or are quick */
/* Bytes that are not synced yet: many short syncs disturb who shares the disk less than a long one. */
#define AHEAD_MAX 4194304
#define LOG_ANSWER_HEAD 16 /* commit, end */

/* ---- one piece */

/*
 * Records from the front of `left`, to stand at our end, as many as go into one piece. CORRUPT: they can't.
 */
static Status
cut_piece(Slice left, Lsn at, FetchPiece *p)
{
	uint64_t term = wal_term(); /* of our last record */

	*p = (FetchPiece){ .pos = at, .end = at };
	while (p->end - p->pos < left.len) {
		size_t used = (size_t) (p->end - p->pos);
		WalRecord r;
		Status st = wal_record_at(slice_of(left.data + used, left.len - used), p->end, term, &r);

		if (st == ST_NOT_FOUND)
			return status_fail(ST_CORRUPT, "the other node sent part of a log record");
		KV_TRY(st);
		if (p->end > p->pos && r.end - p->pos > FETCH_PIECE)
			break;
		if (r.header.kind == WAL_TERM) {
			if (p->nterms == RAFT_APPEND_TERMS)
				break;
			p->terms[p->nterms++] = (RaftTerm){ r.header.term, r.header.lsn };
		}
		if (r.header.kind == WAL_CONFIG) {
			if (p->has_config)
				break;
			KV_TRY(membership_decode(r.body, &p->config));
			p->has_config = true;
			p->config_start = r.header.lsn;
			p->config_end = r.end;
		}
		term = r.header.term;
		p->end = r.end;
	}
	return ST_OK;
}

/* Under one hold of the lock: nothing is appended for an order that was taken back. */
static bool
append_piece(const FetchJob *job, const FetchPiece *p, const uint8_t *bytes)
{
	size_t len = (size_t) (p->end - p->pos);
	bool ours;

	lwlock_acquire(LWLOCK_WAL_APPEND, 0);
	ours = fetch_sh->no == job->no && fetch_active() && p->pos == wal_inserted() && !wal_truncate_pending() &&
		   !wal_generation_open(wal_generation());
	if (ours) {
		wal_append(p->pos, slice_of(bytes, len));
		fetch_sh->piece = *p;
		atomic_store(&fetch_sh->posted, 1);
	}
	lwlock_release(LWLOCK_WAL_APPEND, 0);
	return ours;
}

Status
fetch_append(const FetchJob *job, Slice records, Lsn at)
{
	for (size_t used = 0; used < records.len;) {
		Slice left = slice_of(records.data + used, records.len - used);
		FetchPiece p;

		/* The piece before it first: its terms are in the history then, and it was told in order. */
		while (atomic_load(&fetch_sh->posted) != 0) {
			fetch_nap(job, WAIT_US);
			if (!fetch_stands(job))
				return fetch_not_ordered();
		}
		KV_TRY(cut_piece(left, at, &p));
		while (!wal_append_room((size_t) (p.end - p.pos)) || at - wal_durable() > AHEAD_MAX) {
			fetch_nap(job, WAIT_US);
			if (!fetch_stands(job))
				return fetch_not_ordered();
		}
		if (!append_piece(job, &p, left.data))
			return fetch_not_ordered();
		procslot_wake(PROC_WALWRITER);
		procslot_wake(PROC_CONSENSUS);
		used += (size_t) (p.end - p.pos);
		at = p.end;
	}
	return ST_OK;
}

/* ---- one request */
Status
fetch_log(const FetchJob *job, FetchClient *c, bool *done)
{
	const Control *self = kvstore_control();
	Lsn at = wal_inserted(), commit, end;
	uint8_t ask[48] = { 0 };
	Slice answer;

	*done = false;
	memcpy(ask, self->cluster_id, 16);
	put_u64(ask + 16, self->node_incarnation);
	put_u64(ask + 24, at);
	put_u64(ask + 32, wal_term());
	put_u32(ask + 40, FETCH_CHUNK);
	KV_TRY(fetch_client_call(c, PROTO_LOG_READ, slice_of(ask, sizeof ask), &answer));
	if (answer.len < LOG_ANSWER_HEAD)
		return status_fail(ST_CORRUPT, "the other node's answer is too short");
	commit = get_u64(answer.data);
	end = get_u64(answer.data + 8);
	if (end < at || end - at != answer.len - LOG_ANSWER_HEAD || end > commit)
		return status_fail(ST_CORRUPT, "the other node's answer contradicts itself");
	KV_TRY(fetch_append(job, slice_of(answer.data + LOG_ANSWER_HEAD, answer.len - LOG_ANSWER_HEAD), at));
	*done = end == at;
	return ST_OK;
}
