/*
 * wal_scan.c - reading records from the files, in order, with every check; WalReader on top of it.
 *
 * Runs in the replay process and in tools. No locks: the caller sees to it that the segments are not retired.
 *
 * Why bytes left behind a cut, or in a recycled segment, are never taken for the continuation of another log:
 *	- recycled: a record in it carries the position it was written for, which is lower (numbers only rise)
 *	- behind a cut at p, at their own positions: a record is only taken behind one of its own term, or, being a TERM
 *	  record, behind one of the term it names (rule L1); (position, term) stands for one record in the whole
 *	  cluster. So what is taken is always a log that a leader once had. If this node goes on writing by itself it
 *	  begins with a TERM record of a term that was never used (vote file): no old record fits behind that. If it
 *	  appends a leader's records, an old one that still fits behind them is that leader's own next record, which
 *	  this node had before: no harm, as it was never said to be gone.
 */
#include <stdlib.h>

#include "common/coding.h"
#include "common/kv_assert.h"
#include "port/fs.h"
#include "wal_internal.h"

/*
 * One read from a file: large enough to make calls cheap, small enough to stay in the CPU's cache for the
 * checksum.
 */
#define SCAN_READ (512 * 1024)

Status
wal_scan_open(WalScan *s, Lsn from, Lsn until, uint64_t term)
{
	*s = (WalScan){ .pos = from, .until = until, .term = term, .at = from, .fd = -1, .cap = SCAN_READ };
	s->buf = malloc(s->cap);
	if (s->buf == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for reading the log");
	return ST_OK;
}

void
wal_scan_close(WalScan *s)
{
	free(s->buf);
	s->buf = NULL;
	if (s->fd >= 0)
		(void) !fs_close(s->fd); /* only read through it */
	s->fd = -1;
}

Status
wal_scan_corrupt(const WalScan *s, const char *advice)
{
	char name[WAL_NAME_SIZE];

	wal_segment_name(wal_segment_of(s->bad), name);
	return status_fail(
		ST_CORRUPT, "log file \"%s\" is damaged at offset %llu (record at position %llu): %s; %s", name,
		(unsigned long long) (s->bad % wal_sh->segment_size), (unsigned long long) s->pos, s->why, advice);
}

/* Up to `want` bytes of the stream at `at`, from one file. *got 0: there is no file, or it ends before. */
static Status
read_some(WalScan *s, Lsn at, uint8_t *to, size_t want, size_t *got)
{
	uint64_t segment = wal_segment_of(at), left = (segment + 1) * wal_sh->segment_size - at;
	char name[WAL_NAME_SIZE];

	*got = 0;
	if (s->fd < 0 || s->segment != segment) {
		Status st;

		if (s->fd >= 0) {
			int closing = s->fd;

			s->fd = -1;
			KV_TRY(fs_close(closing));
		}
		wal_segment_name(segment, name);
		st = fs_open(name, FS_READ, &s->fd);
		if (st != ST_OK) {
			s->fd = -1;
			return st == ST_NOT_FOUND ? ST_OK : st;
		}
		s->segment = segment;
	}
	return fs_pread(s->fd, to, want < left ? want : (size_t) left, at % wal_sh->segment_size, got);
}

/* Have `need` bytes at pos in the buffer, or as many as there are; reads ahead. */
static Status
fill(WalScan *s, size_t need)
{
	size_t used = (size_t) (s->pos - s->at);

	if (s->len - used >= need)
		return ST_OK;
	memmove(s->buf, s->buf + used, s->len - used);
	s->at = s->pos;
	s->len -= used;
	if (need > s->cap) {
		uint8_t *more = realloc(s->buf, need + SCAN_READ);

		if (more == NULL)
			return status_fail(ST_OUT_OF_MEMORY, "out of memory for a log record of %zu bytes", need);
		s->buf = more;
		s->cap = need + SCAN_READ;
	}
	while (s->len < need) {
		Lsn at = s->at + s->len;
		size_t want = s->cap - s->len, got;

		if (want > SCAN_READ)
			want = SCAN_READ;
		if (want > s->until - at)
			want = (size_t) (s->until - at);
		if (want == 0)
			break;
		KV_TRY(read_some(s, at, s->buf + s->len, want, &got));
		s->len += got;
		if (got == 0)
			break;
	}
	return ST_OK;
}

static size_t
have(const WalScan *s)
{
	return s->len - (size_t) (s->pos - s->at);
}

static Status
no_record(WalScan *s, const char *why)
{
	s->why = why;
	s->bad = s->pos;
	return status_fail(ST_NOT_FOUND, "no log record at position %llu", (unsigned long long) s->pos);
}

/* The bytes end before the record does. */
static Status
cut_short(WalScan *s)
{
	Status st = no_record(s, "the file is missing or ends here");

	s->bad = s->at + s->len;
	return st;
}

/*
 * The header is none of ours. A whole record, at its place and of the right term, that says what this kvd does not know
 * was written by a newer one: to take it for the log's end would cut off what follows.
 */
static Status
not_ours(WalScan *s, const WalHeader *h, const char *why)
{
	size_t size = (size_t) s->torn; /* 0: not known */

	if (size == 0 || !wal_header_of_later_format(h, s->term))
		return no_record(s, why);
	KV_TRY(fill(s, size));
	if (have(s) < size || wal_record_check(s->buf + (s->pos - s->at), h, s->term, wal_sh->crc_seed) != NULL)
		return no_record(s, why);
	return status_fail(ST_FOREIGN, "the log record at position %llu is of a format that this kvd does not know: use a "
					   "newer kvd", (unsigned long long) s->pos);
}

Status
wal_scan_next(WalScan *s, WalRecord *out, Slice *raw)
{
	const char *why;
	uint64_t size;

	s->torn = 0;
	KV_TRY(fill(s, WAL_HEADER_SIZE));
	if (have(s) < WAL_HEADER_SIZE)
		return cut_short(s);
	wal_header_decode(s->buf + (s->pos - s->at), &out->header);
	why = wal_header_check(&out->header, s->pos, s->term, wal_sh->record_max);
	if (out->header.lsn == s->pos && out->header.length >= WAL_HEADER_SIZE &&
		out->header.length <= wal_sh->record_max)
		s->torn = wal_record_size(out->header.length - WAL_HEADER_SIZE);
	if (why != NULL)
		return not_ours(s, &out->header, why);
	size = wal_record_size(out->header.length - WAL_HEADER_SIZE);
	KV_TRY(fill(s, (size_t) size));
	if (have(s) < size)
		return cut_short(s);
	*raw = slice_of(s->buf + (s->pos - s->at), (size_t) size);
	why = wal_record_check(raw->data, &out->header, s->term, wal_sh->crc_seed);
	if (why != NULL)
		return no_record(s, why);
	out->body = slice_of(raw->data + WAL_HEADER_SIZE, out->header.length - WAL_HEADER_SIZE);
	out->end = s->pos + size;
	s->pos = out->end;
	s->term = out->header.term;
	return ST_OK;
}

Status
wal_scan_find(WalScan *s, Lsn limit)
{
	for (; s->pos < limit; s->pos += 8) {
		Lsn at = s->pos;
		WalRecord r;
		Slice raw;
		Status st;

		KV_TRY(fill(s, WAL_HEADER_SIZE));
		if (have(s) < WAL_HEADER_SIZE)
			break;
		/* A header carries its position: nearly everything else is told by these eight bytes. */
		if (get_u64(s->buf + (at - s->at) + 8) != at)
			continue;
		s->term = UINT64_MAX;
		st = wal_scan_next(s, &r, &raw);
		if (st == ST_OK) { /* its bytes are still in the buffer */
			s->pos = at;
			s->term = UINT64_MAX;
			return ST_OK;
		}
		if (st != ST_NOT_FOUND)
			return st;
	}
	return cut_short(s);
}

/* ---- WalReader */

struct WalReader {
	WalScan scan;
	Lsn certain; /* no sound record below this: damage; at or above: the end */
};

Status
wal_offline_reader(Lsn from, Lsn certain, WalReader **out)
{
	WalReader *r = malloc(sizeof *r);
	Status s;

	if (r == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for reading the log");
	r->certain = certain;
	s = wal_scan_open(&r->scan, from, UINT64_MAX, from == wal_sh->first_lsn ? 0 : UINT64_MAX);
	if (s != ST_OK) {
		free(r);
		return s;
	}
	*out = r;
	return ST_OK;
}

void
wal_reader_end(const WalReader *r, WalEnd *out)
{
	*out = (WalEnd){ r->scan.pos, r->scan.bad, r->scan.why, r->scan.torn };
}

Status
wal_reader_open(Lsn from, Lsn until, WalReader **out)
{
	uint64_t term = from == wal_sh->first_lsn ? 0 : wal_term_at(from - 1);
	WalMark mark = { 0 };
	WalReader *r;
	Status s;
	int slot;

	if (until == UINT64_MAX)
		KV_TRY(wal_mark_read(&mark, &slot));
	r = malloc(sizeof *r);
	if (r == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for reading the log");
	r->certain = until == UINT64_MAX ? mark.durable : until;
	/* Older than the term history: the first record's term is taken as it comes. */
	s = wal_scan_open(&r->scan, from, until, term == 0 && from != wal_sh->first_lsn ? UINT64_MAX : term);
	if (s != ST_OK) {
		free(r);
		return s;
	}
	*out = r;
	return ST_OK;
}

Status
wal_reader_next(WalReader *r, WalRecord *out)
{
	Slice raw;

	return wal_reader_next_raw(r, out, &raw);
}

Status
wal_reader_next_raw(WalReader *r, WalRecord *out, Slice *raw)
{
	Status s;

	if (r->scan.pos >= r->scan.until)
		return status_fail(ST_NOT_FOUND, "end of the log range");
	s = wal_scan_next(&r->scan, out, raw);
	if (s == ST_NOT_FOUND && r->scan.pos < r->certain)
		return wal_scan_corrupt(&r->scan, "restore the directory from a backup or a replica");
	return s;
}

void
wal_reader_close(WalReader *r)
{
	if (r == NULL)
		return;
	wal_scan_close(&r->scan);
	free(r);
}
