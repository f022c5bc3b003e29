/*
 * get_run.c - consecutive GETs of a drained batch are looked up together.
 *
 * Point reads wait for memory; those of one batch wait at the same time (kvstore_get_many()). What is out of the
 * ordinary, a request that is not whole, not well-formed, or asks for a version, is left to cmd_get().
 */
#include "common/kv_assert.h"
#include "session.h"

typedef struct GetRun {
	int n;
	Request request[KVSTORE_BATCH_MAX];
	Slice key[KVSTORE_BATCH_MAX]; /* internal */
	size_t end;                   /* of the last frame, in the session's input */
} GetRun;

/* Is the frame a plain GET like the run's first one? A read prefix with at_least 0. */
static bool
joins_run(const GetRun *run, const Request *r)
{
	const uint8_t *p = r->payload;

	if (r->header.type != PROTO_GET || r->header.flags != 0 || r->header.status != 0)
		return false;
	if (r->header.length <= PROTO_READ_PREFIX || r->header.length > PROTO_READ_PREFIX + KV_KEY_MAX)
		return false;
	if (p[0] > READ_LOCAL || p[1] != 0 || p[2] != 0 || p[3] != 0 || get_u64(p + 8) != 0)
		return false;
	return run->n == 0 || run->request[0].payload[0] == p[0];
}

static void
add(GetRun *run, const Request *r)
{
	/* The last byte of the prefix, decoded and 0, is where the keyspace of the internal key goes. */
	r->payload[PROTO_READ_PREFIX - 1] = KEYSPACE_USER;
	run->key[run->n] = slice_of(r->payload + PROTO_READ_PREFIX - 1, r->header.length - PROTO_READ_PREFIX + 1);
	run->request[run->n++] = *r;
}

/* r and the whole, well-formed GETs that follow it in the input. */
static void
gather(const Session *s, const Request *r, GetRun *run)
{
	Request next;

	run->n = 0;
	run->end = s->in_at;
	if (!joins_run(run, r))
		return;
	add(run, r);
	while (run->n < KVSTORE_BATCH_MAX && s->in.len - run->end >= PROTO_HEADER_SIZE) {
		uint8_t *p = s->in.data + run->end;

		proto_get_header(p, &next.header);
		next.payload = p + PROTO_HEADER_SIZE;
		if (next.header.length > s->in.len - run->end - PROTO_HEADER_SIZE || !joins_run(run, &next) ||
			!proto_crc_ok(p, &next.header))
			return;
		add(run, &next);
		run->end += PROTO_HEADER_SIZE + next.header.length;
	}
}

/* Look up run->key[from..) and answer as many as were found out; *done tells how many from the run's start. */
static Status
answer_some(Session *s, GetRun *run, int from, int *done)
{
	Entry entry[KVSTORE_BATCH_MAX];
	Status found[KVSTORE_BATCH_MAX];
	int n = kvstore_get_many(&s->snapshot, run->key + from, run->n - from, entry, found);

	for (int i = 0; i < n; i++) {
		const Request *r = &run->request[from + i];
		Status st = found[i];

		if (st == ST_OK) {
			KV_TRY(answer_value(s, r, &entry[i]));
			continue;
		}
		if (st == ST_NOT_FOUND)
			(void) status_fail(st, "no such key");
		else
			st = kvstore_get(&s->snapshot, run->key[from + i], &entry[i]); /* for its own words */
		KV_TRY(st == ST_OK ? answer_value(s, r, &entry[i]) : answer_error(s, r, st, 0));
	}
	*done = from + n;
	return ST_OK;
}

static Status
answer_run(Session *s, GetRun *run)
{
	int done = 0;

	while (done < run->n)
		KV_TRY(answer_some(s, run, done, &done));
	return ST_OK;
}

static Status
refuse_run(Session *s, const GetRun *run, Status st)
{
	for (int i = 0; i < run->n; i++)
		KV_TRY(answer_error(s, &run->request[i], st, 0));
	return ST_OK;
}

/* At one snapshot; a second time when the log's time had to move on first (rule T3). */
static Status
answer_at_once(Session *s, GetRun *run, const ReadPrefix *prefix)
{
	size_t mark = s->out.len;
	Status st = begin_plain_read(s, prefix);

	if (st != ST_OK)
		return refuse_run(s, run, st);
	KV_TRY(answer_run(s, run));
	if (!s->snapshot.time_behind)
		return ST_OK;
	s->out.len = mark;
	KV_TRY(end_read(s));
	st = kvstore_advance_time(s->now);
	if (st != ST_OK)
		return refuse_run(s, run, st == ST_NOT_LEADER ? st : ST_BUSY);
	st = begin_plain_read(s, prefix);
	return st == ST_OK ? answer_run(s, run) : refuse_run(s, run, st);
}

Status
get_run(Session *s, const Request *r, bool *taken)
{
	GetRun run;
	ReadPrefix prefix;

	*taken = false;
	gather(s, r, &run);
	if (run.n < 2) {
		if (run.n == 1)
			r->payload[PROTO_READ_PREFIX - 1] = 0; /* cmd_get() decodes it again */
		return ST_OK;
	}
	*taken = true;
	prefix = (ReadPrefix){ .freshness = r->payload[0] };
	KV_TRY(answer_at_once(s, &run, &prefix));
	s->in_at = run.end;
	for (int i = 1; i < run.n; i++)
		count_command(PROTO_GET);
	return ST_OK;
}
