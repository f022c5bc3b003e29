/*
 * assemble.c - a leader's stream of bytes becomes whole, checked records for raft.
 *
 * Consensus worker only. A leader sends ranges of its log in pieces that begin and end anywhere (rule C3);
 * a connection keeps their order. Pieces are joined here from a record boundary on, which is where our log
 * agrees with what the piece claims; whole records are checked (length, position, CRC, chain of terms: rule
 * L1) and given to raft as one append, as far as the ring has room for them. What has no room waits here:
 * the leader's window bounds it.
 */
#include "common/elog.h"
#include "common/kv_assert.h"
#include "consensus_internal.h"
#include "ipc/logclock.h"
#include "storage/wal.h"

/* Most bytes given to raft at once: one large record, or about this much of small ones. */
#define FEED_BYTES (1024 * 1024)
/* More than this is given back when all has been fed. */
#define KEEP_BYTES (4 * 1024 * 1024)

static struct {
	bool begun;
	uint64_t id, term;    /* whose stream */
	Lsn at;               /* position of buf's first byte, a record boundary */
	uint64_t term_before; /* of the record that ends there */
	RaftMsg head;         /* of the newest piece: commit, stamp, flags */
	Buf buf;
	size_t fed; /* bytes at the front that raft has had */
} in;

static Lsn
stream_end(void)
{
	return in.at + (in.buf.len - in.fed);
}

static void
forget(void)
{
	in.begun = false;
	in.fed = 0;
	if (in.buf.cap > KEEP_BYTES)
		buf_free(&in.buf);
	else
		buf_clear(&in.buf);
}

void
assemble_lost(uint64_t id)
{
	if (in.begun && in.id == id)
		forget();
}

/* Contact, commit position and an answer, as a heartbeat would give; pos 0 claims nothing. */
static void
tell_head(RaftMsg head, Lsn pos)
{
	RaftEvent e = { .kind = RAFT_EV_MESSAGE, .msg = &head };

	head.pos = pos;
	head.end = pos;
	consensus_event(&e, slice_of(NULL, 0), NULL);
}

/* Does our log agree with what the piece claims about its beginning? */
static bool
fits(const RaftMsg *m)
{
	return m->term == cons.raft.vote.term && m->pos <= wal_inserted() &&
		   raft_term_before(&cons.raft, m->pos) == m->pos_term;
}

void
assemble_piece(const PeerEvent *e)
{
	const RaftMsg *m = &e->msg;
	bool goes_on = in.begun && in.id == e->id && in.term == m->term && stream_end() == m->pos;

	if (!goes_on) {
		tell_head(*m, m->pos); /* a newer term is taken over; a gap is answered with what we have */
		forget();
		if (!fits(m))
			return;
		in.begun = true;
		in.id = e->id;
		in.term = m->term;
		in.at = m->pos;
		in.term_before = m->pos_term;
	} else if (in.buf.len > in.fed) {
		tell_head(*m, 0); /* it may take long until the record is whole: the leader lives */
	}
	in.head = *m;
	if (in.fed > 0) {
		memmove(in.buf.data, in.buf.data + in.fed, in.buf.len - in.fed);
		in.buf.len -= in.fed;
		in.fed = 0;
	}
	if (buf_append_slice(&in.buf, e->bytes) != ST_OK) {
		elog(LOG_LEVEL_WARNING, "no memory for %zu bytes of the leader's log", e->bytes.len);
		forget();
	}
}

/* ---- whole records */

/* Add a record to the append. False: it has to be the next append's first. */
static bool
add_record(RaftAppend *a, const WalRecord *rec, MembershipAt *config)
{
	if (rec->header.kind == WAL_TERM) {
		if (a->nterms == RAFT_APPEND_TERMS)
			return false;
		a->terms[a->nterms++] = (RaftTerm){ rec->header.term, rec->header.lsn };
	}
	if (rec->header.kind == WAL_CONFIG) {
		if (a->has_config)
			return false;
		if (membership_decode(rec->body, &config->members) != ST_OK)
			elog_panic("a CONFIG record at %llu from the leader can't be read: %s",
					   (unsigned long long) rec->header.lsn, status_detail());
		config->start = rec->header.lsn;
		config->end = rec->end;
		a->has_config = true;
		a->config = raft_config_of(config);
	}
	if (rec->header.log_time > cons.last_time)
		cons.last_time = rec->header.log_time;
	return true;
}

/* The whole records at the front; how many bytes. */
static size_t
gather(RaftAppend *a, MembershipAt *config, uint64_t *term)
{
	size_t done = 0;

	*term = in.term_before;
	while (done < FEED_BYTES) {
		Slice rest = slice_of(in.buf.data + in.fed + done, in.buf.len - in.fed - done);
		WalRecord rec;
		Status st = rest.len > 0 ? wal_record_at(rest, in.at + done, *term, &rec) : ST_NOT_FOUND;

		if (st == ST_NOT_FOUND)
			break;
		if (st != ST_OK) {
			elog(LOG_LEVEL_WARNING, "what the leader sent for %llu is no log: %s",
				 (unsigned long long) (in.at + done), status_detail());
			in.begun = false; /* what is whole before it is good; the rest is asked for again */
			break;
		}
		if (!wal_append_room(done + (size_t) (rec.end - rec.header.lsn)) || !add_record(a, &rec, config))
			break;
		done += (size_t) (rec.end - rec.header.lsn);
		*term = rec.header.term;
	}
	return done;
}

/* One append. False: nothing was whole, or had room. */
static bool
feed_once(void)
{
	static RaftAppend a;
	MembershipAt config = { 0 };
	RaftEvent e = { .kind = RAFT_EV_APPEND, .append = &a };
	uint64_t term;
	size_t n;

	a.nterms = 0;
	a.has_config = false;
	n = gather(&a, &config, &term);
	if (n == 0)
		return false;
	a.head = in.head;
	a.head.pos = in.at;
	a.head.pos_term = in.term_before;
	a.head.end = in.at + n;
	/*
	 * The answer goes to who sent the newest piece; its commit may lie beyond these records: raft takes the
	 * smaller.
	 */
	consensus_event(&e, slice_of(in.buf.data + in.fed, n), a.has_config ? &config : NULL);
	in.at += n;
	in.term_before = term;
	in.fed += n;
	return true;
}

void
assemble_feed(void)
{
	/*
	 * Raft takes nothing while the log is being cut, and a fetcher may be appending: then the leader sends no
	 * ranges. Tables for a repair (compare.c) are fetched beside the leader's stream, and may take long.
	 */
	if (cons.truncating || cons.raft.fetching || (fetch_active() && !cons.repairing))
		return;
	while (in.begun && feed_once())
		if (cons.truncating)
			return;
	if (!in.begun)
		forget();
	else if (in.fed == in.buf.len) {
		in.fed = 0;
		buf_clear(&in.buf);
		if (in.buf.cap > KEEP_BYTES)
			buf_free(&in.buf);
	}
}

void
assemble_empty(const RaftMsg *m)
{
	bool waits;

	assemble_feed();
	/* What it claims is here, but has no room or is not whole yet: that is no reason to look for a fork. */
	waits = in.begun && in.id == m->from && in.term == m->term && in.buf.len > in.fed && m->pos == stream_end();
	tell_head(*m, waits ? 0 : m->pos);
}
