/*
 * wal_recover.c - find the log's end at start, and make what is there durable.
 *
 * Runs in the replay process, once, before the gate is ever opened: nobody inserts, flushes or makes segments
 * (house-keeping waits for `recovered`), so it takes no locks.
 *
 * 1. The first position p at which no sound record of the right term follows is the end. p below the durable
 *    mark: these bytes were synced once, so they are damaged; refuse (L5). Only a node whose replicas have
 *    them may cut there, and lowers the mark first. p at or above: a torn tail; cut. The cut is logical: the
 *    next record overwrites. Why the bytes behind it do no harm: wal_scan.c.
 * 2. Start does not trust the page cache (L7): after a failed sync it may hold bytes that are not on disk, as
 *    clean pages. Records above the mark are written again from the bytes that were checked, and synced,
 *    before they count.
 */
#include "common/bytes.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "wal_internal.h"

/* Checked records are gathered up to this size before they are written again. */
#define REWRITE_PIECE (1024 * 1024)

typedef struct Tail {
	Lsn from; /* where the tail begins: the mark */
	Lsn at;   /* position of buf */
	Buf buf;
} Tail;

static Status
tail_write(Tail *t)
{
	KV_TRY(wal_segment_write(t->at, slice_buf(&t->buf)));
	t->at += t->buf.len;
	buf_clear(&t->buf);
	return ST_OK;
}

static Status
tail_add(Tail *t, Slice raw)
{
	KV_TRY(buf_append_slice(&t->buf, raw));
	return t->buf.len >= REWRITE_PIECE ? tail_write(t) : ST_OK;
}

static void
note_record(const WalRecord *r, WalRecovery *out)
{
	if (r->header.kind == WAL_TERM || out->last_term == 0)
		wal_terms_add(r->header.term, r->header.lsn);
	if (r->header.kind == WAL_CONFIG) {
		out->previous_config = out->last_config;
		out->last_config = r->header.lsn;
	}
	if (r->header.log_time > out->last_time)
		out->last_time = r->header.log_time;
	out->last_term = r->header.term;
}

/* What the ring holds when recovery ends. */
typedef struct Kept {
	Lsn from; /* its first record; 0: none yet */
	Lsn next; /* a record about half of the ring further on; 0: not met yet */
} Kept;

/*
 * What may not be committed yet goes into the ring: a leader sends it from there, and nowhere else is it
 * to be had (only committed log is read from files for others): what is missing here nobody could ever get.
 * So all that fits, but for the room of TERM records; there was no more of it in the ring of the life before.
 * What comes finds room as soon as a leader has committed that. More than fits was committed, at least in part,
 * though the mark did not say so yet: then its end.
 */
static void
keep_in_ring(const WalRecord *r, Slice raw, Kept *k)
{
	uint64_t most = wal_sh->ring_bytes - WAL_RING_TERMS;

	if (k->from == 0)
		k->from = r->header.lsn;
	if (k->next == 0 && r->header.lsn - k->from >= most / 2)
		k->next = r->header.lsn;
	KV_ASSERT(r->end - k->from <= most || k->next != 0); /* a record is at most a quarter of the ring */
	if (r->end - k->from > most)
		*k = (Kept){ .from = k->next };
	wal_ring_copy_in(r->header.lsn, raw.data, raw.len);
}

/* All records from scan->pos on; those at or above the tail's start are written again. cut: damage is the end. */
static Status
scan_all(WalScan *scan, const WalMark *m, Tail *tail, bool cut, WalRecovery *out, Kept *kept)
{
	Lsn mark = tail->from;

	for (;;) {
		WalRecord r;
		Slice raw;
		Status s = wal_scan_next(scan, &r, &raw);

		if (s == ST_NOT_FOUND && scan->pos < mark)
			out->damaged_at = scan->pos;
		if (s == ST_NOT_FOUND && scan->pos < mark && !cut)
			return wal_scan_corrupt(
				scan, "it was synced up to a higher position: restore the directory from a backup "
					  "or a replica");
		if (s == ST_NOT_FOUND)
			return ST_OK;
		KV_TRY(s);
		if (r.header.lsn < mark && r.end > mark) {
			scan->pos = scan->bad = r.header.lsn;
			scan->why = "the durable mark is no record boundary";
			return wal_scan_corrupt(scan, "\"" WAL_MARK_FILE "\" belongs to another log: restore both");
		}
		note_record(&r, out);
		if (r.header.lsn >= m->commit)
			keep_in_ring(&r, raw, kept);
		if (r.header.lsn >= tail->from)
			KV_TRY(tail_add(tail, raw));
	}
}

static void
publish(Lsn from, const WalMark *m, Lsn kept, WalRecovery *out)
{
	WalShared *s = wal_sh;

	atomic_store(&s->written, out->end);
	atomic_store(&s->durable, out->end);
	atomic_store(&s->commit, from);
	atomic_store(&s->released, from);
	atomic_store(&s->ring_base, kept != 0 ? kept : out->end);
	atomic_store(&s->start_lsn, out->end);
	atomic_store(&s->reserve, wal_word(wal_word_generation(atomic_load(&s->reserve)), out->end));
	out->commit_hint = m->commit < out->end ? m->commit : out->end;
}

/* Damage is about to be cut: from now on the log is known to be synced up to there only. */
static Status
lower_mark(Lsn end, WalMark *m)
{
	m->epoch++;
	m->durable = end;
	if (m->commit > end)
		m->commit = end;
	return wal_mark_write(m);
}

static Status
recover(WalScan *scan, Tail *tail, Lsn from, WalMark *m, bool cut, WalRecovery *out)
{
	Kept kept = { 0 };

	KV_TRY(scan_all(scan, m, tail, cut, out, &kept));
	out->end = scan->pos;
	if (out->damaged_at != 0)
		KV_TRY(lower_mark(out->end, m));
	out->torn_bytes = scan->torn;
	KV_TRY(wal_segment_settle(out->end)); /* before the tail, so that the file has its size */
	KV_TRY(tail_write(tail));
	KV_TRY(wal_segment_sync(tail->from, out->end));
	publish(from, m, kept.from, out);
	if (m->durable < out->end) {
		m->durable = out->end;
		KV_TRY(wal_mark_write(m));
	}
	atomic_store(&wal_sh->recovered, 1);
	return ST_OK;
}

static Status
find_end(Lsn from, uint64_t from_term, bool cut, WalRecovery *out)
{
	Tail tail = { 0 };
	WalScan scan;
	WalMark m;
	Status s;

	KV_ASSERT(atomic_load(&wal_sh->recovered) == 0 && !wal_generation_open(wal_generation()));
	KV_ASSERT(from >= wal_sh->first_lsn && from % 8 == 0);
	*out = (WalRecovery){ .last_term = from_term };
	wal_files_close();
	KV_TRY(wal_mark_read(&m, &wal_sh->mark_slot));
	wal_mark_set(&m);
	atomic_store(&wal_sh->log_start, m.start > wal_sh->first_lsn ? m.start : wal_sh->first_lsn);
	wal_terms_reset();
	if (from_term != 0)
		wal_terms_add(from_term, from);
	/* What tables hold was durable in the log, even where the mark is a little behind. */
	tail.from = tail.at = m.durable > from ? m.durable : from;
	/*
	 * 0 above the log's start: older than what the term history remembered; the first record's is taken as
	 * it comes.
	 */
	KV_TRY(wal_scan_open(&scan, from, UINT64_MAX,
						 from_term == 0 && from != wal_sh->first_lsn ? UINT64_MAX : from_term));
	s = recover(&scan, &tail, from, &m, cut, out);
	wal_scan_close(&scan);
	buf_free(&tail.buf);
	return s;
}

Status
wal_recover(Lsn from, uint64_t from_term, WalRecovery *out)
{
	return find_end(from, from_term, false, out);
}

Status
wal_recover_damaged(Lsn from, uint64_t from_term, WalRecovery *out)
{
	return find_end(from, from_term, true, out);
}
