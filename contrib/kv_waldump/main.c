/*
 * main.c - kv_waldump: prints the log of a data directory, record by record, and says where and why it ends.
 *
 * Reads files only, through the server's own reader: what it calls a record is what the server would. Changes
 * nothing, and may be run while the server does.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kv_waldump.h"
#include "port/child.h"
#include "storage/control.h"

#define PATH_BYTES 4096
#define LOG_FOLDER "wal"

static const char help_text[] =
	"kv_waldump prints the log of a kvd data directory. It changes nothing and may run beside a server.\n"
	"\n"
	"usage: kv_waldump [OPTIONS] DATADIR\n"
	"       kv_waldump [OPTIONS] DATADIR/wal/FILE.kvw ...\n"
	"\n"
	"  --from LSN      begin with the first record at or above this position\n"
	"  --to LSN        end before the first record at or above this position\n"
	"  --kind KIND     only records of this kind: write term config time hash\n"
	"  --ops           operations instead of records, with keys and values\n"
	"  --full          values in full (default: their first 40 bytes)\n"
	"  --stats         no lines, but sums by kind\n"
	"  --format F      " OUTPUT_FORMATS ". Default: table on a terminal, otherwise tsv\n"
	"  --json          --format json\n"
	"  --help, --version\n"
	"\n"
	"The last line, on standard error, says where reading ended and why.\n"
	"Exit codes: 0 read to its end (a torn tail is one), 1 damage, 2 wrong usage, 3 cannot be read.\n";

typedef struct Sum {
	uint64_t records, bytes, ops;
} Sum;

static Dump dump = { .tool = { .name = "kv_waldump", .help = help_text } };
static Sum sums[WAL_KIND_MAX + 1];

const char *
kind_name(unsigned kind)
{
	static const char *const names[WAL_KIND_MAX + 1] = { "?", "write", "term", "config", "time", "hash" };

	return names[kind <= WAL_KIND_MAX ? kind : 0];
}

const char *
time_text(uint64_t ms, char *out)
{
	time_t seconds = (time_t) (ms / 1000);
	struct tm tm;
	size_t n = 0;

	if (gmtime_r(&seconds, &tm) != NULL)
		n = strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, TIME_TEXT - n, ".%03uZ", (unsigned) (ms % 1000));
	return out;
}

/* ---- rows */

static void
begin_rows(void)
{
	static const char *const columns[] = { "lsn", "length", "term", "kind", "ops", "time" };

	if (dump.ops)
		ops_begin(&dump.tool.out);
	else
		output_begin(&dump.tool.out, 6, columns);
}

static Status
show(const WalRecord *r)
{
	const WalHeader *h = &r->header;
	char when[TIME_TEXT];

	if (dump.kind != NULL && strcmp(dump.kind, kind_name(h->kind)) != 0)
		return ST_OK;
	sums[h->kind].records++;
	sums[h->kind].bytes += r->end - h->lsn;
	sums[h->kind].ops += h->count;
	if (dump.stats)
		return ST_OK;
	if (dump.ops)
		return ops_rows(&dump.tool.out, r, dump.full);
	output_row(&dump.tool.out, (Cell[]){ CELL_OF_U64(h->lsn), CELL_OF_U64(h->length), CELL_OF_U64(h->term),
		CELL_OF_STR(kind_name(h->kind)), CELL_OF_U64(h->count), CELL_OF_STR(time_text(h->log_time, when)) });
	return ST_OK;
}

static void
show_sums(void)
{
	static const char *const columns[] = { "kind", "records", "bytes", "ops" };
	Sum all = { 0 };

	output_begin(&dump.tool.out, 4, columns);
	for (unsigned k = 1; k <= WAL_KIND_MAX; k++) {
		const Sum *s = &sums[k];

		output_row(&dump.tool.out, (Cell[]){ CELL_OF_STR(kind_name(k)), CELL_OF_U64(s->records),
			CELL_OF_U64(s->bytes), CELL_OF_U64(s->ops) });
		all.records += s->records;
		all.bytes += s->bytes;
		all.ops += s->ops;
	}
	output_row(&dump.tool.out, (Cell[]){ CELL_OF_STR("all"), CELL_OF_U64(all.records), CELL_OF_U64(all.bytes),
		CELL_OF_U64(all.ops) });
	output_end(&dump.tool.out, false);
}

/* ---- the end */

/* The last line: kept until all rows are out. */
static void KV_PRINTF(1, 2)
ending(const char *fmt, ...)
{
	size_t n = strlen(dump.ending);
	va_list args;

	va_start(args, fmt);
	vsnprintf(dump.ending + n, sizeof dump.ending - n, fmt, args);
	va_end(args);
}

/* Did a server recycle the file of this position while it was read? */
static bool
let_go(Lsn at)
{
	Lsn low, high;

	return wal_offline_extent(&low, &high) == ST_OK && at < low;
}

/* No record at end->at: what does it mean? */
static int
say_end(const WalEnd *end, bool known, Lsn durable)
{
	char name[WAL_PATH_SIZE];
	uint64_t offset = wal_offline_place(end->bad, name);

	ending("no record at position %" PRIu64 ": %s (%s, offset %" PRIu64 "); ", end->at, end->why, name, offset);
	if (!known) {
		ending("without the durable mark nobody can tell whether there should be one");
		return OFFLINE_DAMAGED;
	}
	if (end->at < durable && let_go(end->at)) {
		ending("the server let go of that file while it was read: read again");
		return OFFLINE_UNREADABLE;
	}
	if (end->at < durable) {
		ending("the log was synced up to %" PRIu64 ": this is damage", durable);
		return OFFLINE_DAMAGED;
	}
	ending("the log was synced up to %" PRIu64 ": %s", durable, end->begun > 0
	       ? "a torn tail (or a record being written, if the server runs)" : "the log ends here");
	return OFFLINE_WHOLE;
}

static int
failed(Status st)
{
	int code = offline_code(st);

	ending("%s", status_detail());
	return code;
}

/* ---- the walk */

/* Records that begin in [from, to). */
static int
walk(Lsn from, Lsn to, bool known, Lsn durable)
{
	WalReader *reader;
	WalRecord r;
	WalEnd end;
	Status st = wal_offline_reader(from, 0, &reader);

	if (st != ST_OK)
		return failed(st);
	wal_reader_end(reader, &end);
	while (end.at < to && (st = wal_reader_next(reader, &r)) == ST_OK) {
		end.at = r.end;
		if (r.header.lsn >= dump.from && r.header.lsn < to && (st = show(&r)) != ST_OK)
			break;
	}
	if (st == ST_NOT_FOUND)
		wal_reader_end(reader, &end);
	wal_reader_close(reader);
	if (st == ST_NOT_FOUND)
		return say_end(&end, known, durable);
	if (st != ST_OK)
		return failed(st);
	ending("read up to position %" PRIu64 ", as asked", end.at);
	return OFFLINE_WHOLE;
}

/* The first record of [from, to), which may begin within one whose file is gone. *found false: there is none. */
static int
first_record(Lsn from, Lsn to, Lsn start, Lsn *at, bool *found)
{
	Status st;

	*found = true;
	*at = start;
	if (start >= from && start < to)
		return OFFLINE_WHOLE;
	st = wal_offline_find(from, to, at);
	*found = st == ST_OK;
	if (st == ST_OK && *at > from)
		fprintf(stderr, "%s: the first record begins at %" PRIu64 "; the %" PRIu64 " bytes before it are the rest of "
		        "one that begins in an earlier file, or unreadable\n", dump.tool.name, *at, *at - from);
	return st == ST_OK || st == ST_NOT_FOUND ? OFFLINE_WHOLE : failed(st);
}

/*
 * The files there are hold [low, high); what was asked for ends at `to`. That may be behind them: the first missing
 * file is where the log ends, or one that should be there.
 */
static int
dump_log(Lsn low, Lsn high, Lsn to)
{
	WalMarkInfo mark = { 0 };
	bool known = wal_offline_mark(&mark) == ST_OK, found;
	Lsn from = low > dump.from ? low : dump.from, at;
	int code;

	if (!known)
		fprintf(stderr, "%s: %s\n", dump.tool.name, status_detail());
	if (mark.start > from)
		from = mark.start;
	if (from >= high) {
		ending("nothing there: the log files hold positions %" PRIu64 " to %" PRIu64, low, high);
		return OFFLINE_UNREADABLE;
	}
	code = first_record(from, high, mark.start, &at, &found);
	if (code != OFFLINE_WHOLE)
		return code;
	if (!found) {
		WalEnd end = { from, from, "no sound record begins in what was asked for", 0 };

		return say_end(&end, known, mark.durable);
	}
	return walk(at, to, known, mark.durable);
}

/* ---- arguments */

/* Into the data directory a log file is in; *number its. */
static void
enter_by_file(const char *path, uint64_t *number)
{
	char dir[PATH_BYTES], folder[PATH_BYTES + 8], abs[PATH_BYTES];
	const char *name;

	if (!offline_file(path, ".kvw", number, dir, sizeof dir))
		offline_usage(&dump.tool, "neither a data directory nor a log file: ", path);
	if (child_enter_dir(dir, abs, sizeof abs) != ST_OK)
		exit(offline_failed(&dump.tool, ST_IO_ERROR));
	name = strrchr(abs, '/');
	if (name == NULL || strcmp(name + 1, LOG_FOLDER) != 0)
		offline_usage(&dump.tool, "a log file is read where it belongs, in the folder " LOG_FOLDER
		              " of its data directory; not in ", abs);
	snprintf(folder, sizeof folder, "%.*s/", (int) (name - abs), abs);
	if (child_enter_dir(folder, abs, sizeof abs) != ST_OK)
		exit(offline_failed(&dump.tool, ST_IO_ERROR));
}

static void
open_log(Control *control)
{
	Status st = control_read(control);

	if (st == ST_OK)
		st = wal_offline(control);
	if (st != ST_OK)
		exit(offline_failed(&dump.tool, st));
}

/* Log files by name: numbers that follow each other. */
static int
dump_files(char **paths, int n)
{
	uint64_t first, number, segment, end;
	char dir[PATH_BYTES];
	Control control;

	enter_by_file(paths[0], &first);
	open_log(&control);
	for (int i = 1; i < n; i++)
		if (!offline_file(paths[i], ".kvw", &number, dir, sizeof dir) || number != first + (uint64_t) i)
			offline_usage(&dump.tool, "log files have to follow each other, by their numbers: ", paths[i]);
	segment = control.wal_segment_size;
	end = (first + (uint64_t) n) * segment;
	return dump_log(first * segment, end, dump.to < end ? dump.to : end);
}

static int
dump_directory(const char *dir)
{
	char abs[PATH_BYTES];
	Control control;
	Lsn low, high;
	Status st = child_enter_dir(dir, abs, sizeof abs);

	if (st != ST_OK)
		exit(offline_failed(&dump.tool, st));
	open_log(&control);
	st = wal_offline_extent(&low, &high);
	return st != ST_OK ? failed(st) : dump_log(low, high, dump.to);
}

static void
check_kind(void)
{
	for (unsigned k = 1; k <= WAL_KIND_MAX; k++)
		if (dump.kind == NULL || strcmp(dump.kind, kind_name(k)) == 0)
			return;
	offline_usage(&dump.tool, "--kind is one of write, term, config, time, hash; not ", dump.kind);
}

int
main(int argc, char **argv)
{
	const char *from = NULL, *to = NULL;
	const OfflineOption options[] = { { "--from", &from, NULL }, { "--to", &to, NULL }, { "--kind", &dump.kind, NULL },
		{ "--ops", NULL, &dump.ops }, { "--full", NULL, &dump.full }, { "--stats", NULL, &dump.stats },
		{ NULL, NULL, NULL } };
	uint64_t number;
	char dir[PATH_BYTES];
	int n, code;

	dump.tool.options = options;
	n = offline_arguments(&dump.tool, argc, argv);
	dump.from = offline_number(&dump.tool, "--from", from, 0);
	dump.to = offline_number(&dump.tool, "--to", to, UINT64_MAX);
	check_kind();
	if (n == 0)
		offline_usage(&dump.tool, "which log? a data directory or log files are missing", "");
	begin_rows();
	if (offline_file(argv[0], ".kvw", &number, dir, sizeof dir))
		code = dump_files(argv, n);
	else if (n == 1)
		code = dump_directory(argv[0]);
	else
		offline_usage(&dump.tool, "one data directory at a time, not also ", argv[1]);
	if (dump.stats)
		show_sums();
	else
		output_end(&dump.tool.out, false);
	if (!offline_finish(&dump.tool))
		return OFFLINE_UNREADABLE;
	fprintf(stderr, "%s: %s\n", dump.tool.name, dump.ending);
	return code;
}
