/*
 * load.c - records of a file to the server: many in a batch, several batches under way.
 *
 * The handle has the option retry: when the connection breaks, libkv connects again and sends what was not answered,
 * each batch being done once. A load that failed all the same can be repeated, as a whole or behind the records that
 * are stored for certain (--skip): a put that is done twice leaves what one leaves.
 *
 * Invariant: `flight` lists the batches that were sent and not answered, oldest first; what was answered is counted
 * in `stored`, and in `whole` as long as nothing before it has failed. So whatever happens, "stored" is true for
 * certain, and the file's first skip + whole records are stored.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvctl.h"

#define BATCH_BYTES (256u << 10)   /* enough that a request costs little, small enough to go on while others wait */
#define BATCH_RECORDS 4096
#define FLIGHT_MAX 8               /* batches under way: covers the time of a sync */
/*
 * How long a load waits for an answer, or for a server to come back, unless --timeout says: a restart or a failover is
 * over by then, and nobody sits before it.
 */
#define PATIENCE_MS 60000

typedef struct Sent {
	uint64_t records;
	unsigned long first_line;
} Sent;

typedef struct Load {
	Ctl *ctl;
	kv_client *client;
	const char *name;
	bool json;
	kv_write_options options;      /* ack, default TTL */
	Lines lines;
	RecordBuf memory;
	kv_batch *batch;
	unsigned long batch_line;      /* of the first record in it */
	Sent flight[FLIGHT_MAX];
	int sent, oldest;
	uint64_t skip, skipped;        /* records to be left out from the start, and how many were */
	uint64_t stored, whole, unknown;
	int code;                      /* the first failure of a batch */
	char text[STATUS_DETAIL_MAX + 128];
	Progress progress;
} Load;

static void
note_failure(Load *l, int code, unsigned long line)
{
	if (l->code != KV_OK)
		return;
	l->code = code;
	snprintf(l->text, sizeof l->text, "%s: the batch from line %lu on: %s", l->name, line, kv_error());
}

/* The answer to the oldest batch. */
static void
take_reply(Load *l)
{
	const Sent *s = &l->flight[l->oldest];
	kv_reply r;
	int code = kv_get_reply(l->client, &r);

	if (code == KV_OK)
		code = r.code;
	if (code == KV_OK) {
		l->stored += s->records;
		l->whole += l->code == KV_OK ? s->records : 0;
	} else {
		note_failure(l, code, s->first_line);
		if (code == KV_OUTCOME_UNKNOWN)
			l->unknown += s->records;
	}
	l->oldest = (l->oldest + 1) % FLIGHT_MAX;
	l->sent--;
	progress_update(&l->progress, l->stored, l->lines.bytes);
}

/* Send the batch that is being filled. False: it failed. */
static bool
send_batch(Load *l)
{
	int code;

	if (kv_batch_count(l->batch) == 0)
		return true;
	if (l->sent == FLIGHT_MAX)
		take_reply(l);
	while (l->code == KV_OK && (code = kv_append_batch(l->client, l->batch, &l->options)) != KV_OK) {
		if (code == KV_BUSY && l->sent > 0)
			take_reply(l);
		else
			note_failure(l, code, l->batch_line);
	}
	if (l->code != KV_OK)
		return false;
	l->flight[(l->oldest + l->sent++) % FLIGHT_MAX] = (Sent){ kv_batch_count(l->batch), l->batch_line };
	kv_batch_clear(l->batch);
	code = kv_flush(l->client);
	if (code != KV_OK && code != KV_BUSY)
		note_failure(l, code, l->batch_line);
	return l->code == KV_OK;
}

/* One line into the batch. Not OK: the line is wrong, or ST_CLOSED: sending failed and note_failure() knows. */
static Status
add_line(Load *l, const char *line, size_t len)
{
	kv_write_options o = { .ttl_ms = l->options.ttl_ms };
	Record r;
	Status st;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len == 0)
		return ST_OK;
	if (l->skipped < l->skip) {
		l->skipped++;
		return ST_OK;
	}
	KV_TRY(l->json ? json_parse(line, len, &l->memory, &r) : tsv_parse(line, len, &l->memory, &r));
	if (r.ttl_ms > 0)
		o.ttl_ms = r.ttl_ms;
	st = (Status) kv_batch_put(l->batch, r.key, r.value, &o);
	if (st == ST_BATCH_TOO_LARGE && kv_batch_count(l->batch) > 0) {
		if (!send_batch(l))
			return ST_CLOSED;
		st = (Status) kv_batch_put(l->batch, r.key, r.value, &o);
	}
	KV_TRY(st);
	if (kv_batch_count(l->batch) == 1)
		l->batch_line = l->lines.number;
	if ((kv_batch_bytes(l->batch) >= BATCH_BYTES || kv_batch_count(l->batch) >= BATCH_RECORDS) && !send_batch(l))
		return ST_CLOSED;
	return ST_OK;
}

/* Why it ended before the file did, what is stored, and how to go on. */
static int
load_failed(Load *l, const char *bad)
{
	const char *why = bad[0] != '\0' ? bad : l->code != KV_OK ? l->text : "interrupted";
	int code = l->code != KV_OK ? l->code : bad[0] != '\0' ? KV_USAGE : KV_CLOSED;
	char perhaps[64] = "", hint[128];

	if (l->unknown > 0)
		snprintf(perhaps, sizeof perhaps, ", %" PRIu64 " perhaps", l->unknown);
	(void) status_fail((Status) code, "%s; %" PRIu64 " record%s stored for certain%s", why, l->stored,
		l->stored == 1 ? " is" : "s are", perhaps);
	snprintf(hint, sizeof hint, "to go on load again with --skip %" PRIu64 ", or all: twice does no harm",
		l->skipped + l->whole);
	return ctl_fail_hint(l->ctl, code, hint);
}

/* Everything, then the verdict. */
static int
load(Load *l)
{
	char bad[STATUS_DETAIL_MAX + 128] = "";
	Status st = ST_OK;

	while (st == ST_OK && l->code == KV_OK && !ctl_interrupted) {
		const char *line;
		size_t len;

		st = lines_next(&l->lines, &line, &len);
		if (st == ST_OK && line == NULL)
			break;
		if (st == ST_OK)
			st = add_line(l, line, len);
	}
	if (st != ST_OK && l->code == KV_OK)
		snprintf(bad, sizeof bad, "%s:%lu: %s", l->name, l->lines.number + (l->lines.number == 0), status_detail());
	if (l->code == KV_OK)
		(void) send_batch(l);
	while (l->sent > 0)
		take_reply(l);
	progress_end(&l->progress, l->stored, l->lines.bytes);
	if (l->code != KV_OK || bad[0] != '\0' || ctl_interrupted)
		return load_failed(l, bad);
	if (l->skipped < l->skip)
		return ctl_usage(l->ctl, "--skip %" PRIu64 ": %s has %" PRIu64 " records", l->skip, l->name, l->skipped);
	if (!l->ctl->quiet && !l->progress.shown)
		output_fact(&l->ctl->out, "records", CELL_OF_U64(l->stored), NULL);
	return EXIT_DONE;
}

bool
name_is_json(const char *path)
{
	static const char *const ends[] = { ".json", ".jsonl", ".ndjson" };
	size_t len = path != NULL ? strlen(path) : 0;

	for (size_t i = 0; i < 3; i++)
		if (len > strlen(ends[i]) && strcmp(path + len - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

void
record_buf_free(RecordBuf *b)
{
	buf_free(&b->key);
	buf_free(&b->value);
	buf_free(&b->name);
}

static int
load_fd(Ctl *ctl, Load *l)
{
	struct stat info;
	uint64_t total = 0;
	int code = EXIT_DONE;

	if (fstat(l->lines.fd, &info) == 0 && S_ISREG(info.st_mode))
		total = (uint64_t) info.st_size;
	l->client = ctl_client(ctl, &code);
	if (l->client == NULL)
		return code;
	if (!ctl->shell && ctl->timeout_ms == 0 && (ctl->uri == NULL || strstr(ctl->uri, "timeout=") == NULL))
		kv_set_timeout(l->client, PATIENCE_MS);
	l->batch = kv_batch_new();
	if (l->batch == NULL) {
		(void) status_fail(ST_OUT_OF_MEMORY, "out of memory");
		return ctl_fail(ctl, KV_OUT_OF_MEMORY);
	}
	progress_start(&l->progress, isatty(STDERR_FILENO) && !ctl->quiet, total, "loaded");
	code = load(l);
	kv_batch_free(l->batch);
	return code;
}

int
run_load(Ctl *ctl, const Args *a)
{
	enum { JSON, TSV, TTL, ACK, SKIP };
	static const char *const acks[] = { "quorum", "local", "none" };
	const char *path = a->n > 0 && strcmp(a->positional[0].data, "-") != 0 ? a->positional[0].data : NULL;
	Load l = { .ctl = ctl, .name = path != NULL ? path : "stdin", .lines.fd = STDIN_FILENO };
	int k = 0;
	int code;

	l.json = ctl->out.format == FORMAT_JSON || name_is_json(path);
	l.json = a->option[JSON] != NULL || (a->option[TSV] == NULL && l.json);
	if (a->option[TTL] != NULL && time_parse(a->option[TTL]->data, &l.options.ttl_ms) != ST_OK)
		return ctl_usage(ctl, "--ttl: %s", status_detail());
	if (a->option[SKIP] != NULL && u64_parse(a->option[SKIP]->data, &l.skip) != ST_OK)
		return ctl_usage(ctl, "--skip: %s", status_detail());
	while (a->option[ACK] != NULL && k < 3 && strcmp(a->option[ACK]->data, acks[k]) != 0)
		k++;
	if (k == 3)
		return ctl_usage(ctl, "--ack %s: expected quorum, local or none", (const char *) a->option[ACK]->data);
	l.options.ack = a->option[ACK] != NULL ? KV_ACK_QUORUM + k : KV_ACK_DEFAULT;
	if (path == NULL && ctl->shell)
		return ctl_usage(ctl, "name a file: standard input gives the commands");
	if (path != NULL && (l.lines.fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
		(void) status_fail_errno(ST_USAGE, "cannot open \"%s\"", path);
		return ctl_fail(ctl, ST_USAGE);
	}
	code = load_fd(ctl, &l);
	if (path != NULL)
		close(l.lines.fd);
	lines_free(&l.lines);
	record_buf_free(&l.memory);
	return code;
}
