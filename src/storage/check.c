/*
 * check.c - `kvd --check`: is everything that the manifest and the log name there, and whole? Reads only.
 *
 * One process on a directory that no server uses, without shared memory. What a start would refuse is found here, and
 * what it would not look at: blocks of tables, log that tables hold already.
 */
#include "kvstore_internal.h"
#include "storage/manifest.h"
#include "storage/op.h"
#include "storage/value_file.h"

#define TELL_BYTES 1048576 /* of log, between two calls of progress() */

static void
advance(KvCheck *c, uint64_t bytes)
{
	c->bytes += bytes;
	if (c->bytes > c->of)
		c->of = c->bytes; /* the log's end is only known when it is met */
	c->progress(c->arg, c->bytes, c->of);
}

/* False: there was one. */
static bool
passed(KvCheck *c, Status st)
{
	if (st != ST_OK)
		c->finding(c->arg, st);
	return st == ST_OK;
}

/* ---- tables */

typedef struct TableProgress {
	KvCheck *check;
	uint64_t before;
} TableProgress;

static void
table_progress(void *arg, uint64_t bytes)
{
	TableProgress *p = arg;

	advance(p->check, bytes - p->before);
	p->before = bytes;
}

static void
check_tables(KvCheck *c, ManifestImage *img)
{
	manifest_sort(img);
	for (size_t i = 0; i < img->ntables; i++)
		c->of += img->tables[i].info.bytes;
	for (size_t i = 0; i < img->ntables; i++) {
		const ManifestTable *t = &img->tables[i];
		TableProgress p = { .check = c };

		if (i > 0)
			(void) passed(c, manifest_check_order(&img->tables[i - 1], t));
		(void) passed(c, manifest_check_table(t, table_progress, &p));
		table_files_close_all();
		c->tables++;
		c->entries += t->info.entries;
		if (p.before < t->info.bytes)
			table_progress(&p, t->info.bytes);
	}
}

static void
check_values(KvCheck *c, const ManifestImage *img)
{
	for (size_t i = 0; i < img->nvalues; i++)
		c->of += img->values[i].bytes;
	for (size_t i = 0; i < img->nvalues; i++) {
		TableProgress p = { .check = c };

		(void) passed(c, value_file_verify(&img->values[i], table_progress, &p));
		table_files_close_all();
		if (p.before < img->values[i].bytes)
			table_progress(&p, img->values[i].bytes);
	}
}

/* ---- the log */

/* What replay would make of it. */
static Status
check_record(const WalRecord *r, Lsn durable)
{
	Reader in = reader_of(r->body.data, r->body.len);

	if (r->header.lsn < durable && r->end > durable)
		return status_fail(ST_CORRUPT, "\"wal/mark\" says that the log is synced up to %llu, inside the record at "
						   "%llu: it belongs to another log, restore both", (unsigned long long) durable,
						   (unsigned long long) r->header.lsn);
	for (uint32_t i = 0; r->header.kind == WAL_WRITE && i < r->header.count; i++) {
		Op op;
		Status st = op_decode(&in, &op);

		if (st != ST_OK)
			return status_prefix(st, "log record at position %llu", (unsigned long long) r->header.lsn);
	}
	return ST_OK;
}

/* Records of [from, to); the log may end, but not below `certain`. */
static Status
check_records(KvCheck *c, Lsn from, Lsn to, Lsn certain, Lsn durable)
{
	WalReader *reader;
	WalRecord r = { .end = from };
	Lsn told = from;
	Status st;

	KV_TRY(wal_offline_reader(from, certain, &reader));
	do {
		st = r.end < to ? wal_reader_next(reader, &r) : ST_NOT_FOUND;
		if (st == ST_OK) {
			c->records++;
			st = check_record(&r, durable);
		}
		if (st != ST_OK || r.end - told >= TELL_BYTES) {
			advance(c, r.end - told);
			told = r.end;
		}
	} while (st == ST_OK);
	wal_reader_close(reader);
	return st == ST_NOT_FOUND ? ST_OK : st;
}

/* Log below `flushed` is there for followers only; its first file may begin within a record. */
static Status
check_kept(KvCheck *c, Lsn start, Lsn flushed, Lsn durable)
{
	Lsn low, high, from = start;
	Status st = wal_offline_extent(&low, &high);

	if (st == ST_NOT_FOUND || (st == ST_OK && low >= flushed))
		return ST_OK;
	if (st == ST_OK && low > start)
		st = wal_offline_find(low, flushed, &from);
	if (st == ST_NOT_FOUND)
		return ST_OK;
	if (st == ST_OK && from < flushed) {
		c->of += flushed - from;
		st = check_records(c, from, flushed, flushed, durable);
	}
	return st == ST_OK ? ST_OK : status_prefix(st, "log that tables hold already, kept for other nodes");
}

/* False: the next start forgets all of the log (wal_restart.c), which may end anywhere then, its files be gone. */
static bool
log_counts(KvCheck *c)
{
	bool kept = c->installed == 0;

	if (!kept && c->installed_term != 0)
		(void) passed(c, wal_offline_goes_on(c->installed, c->installed_term, &kept));
	return kept;
}

/* flushed: all below is in tables; 0: nobody knows. */
static void
check_log(KvCheck *c, Lsn flushed)
{
	WalMarkInfo mark;

	if (!passed(c, wal_offline_mark(&mark)))
		return; /* nothing can be said about an end */
	if (!log_counts(c))
		return;
	if (flushed == 0)
		flushed = mark.start;
	if (mark.durable > flushed)
		c->of += mark.durable - flushed;
	(void) passed(c, check_kept(c, mark.start, flushed, mark.durable));
	(void) passed(c, check_records(c, flushed, UINT64_MAX, mark.durable, mark.durable));
}

void
kvstore_check(const Control *control, KvCheck *c)
{
	ManifestImage img;
	Lsn flushed = 0;

	if (passed(c, manifest_read(&img))) {
		check_tables(c, &img);
		check_values(c, &img);
		flushed = img.state.flushed;
		manifest_image_free(&img);
	}
	if (passed(c, wal_offline(control)))
		check_log(c, flushed);
}
