/*
 * client.c - one random operation on one random key, written down before and after.
 *
 * Every value is written once only, so that a read tells which write it saw. Counters are keys of their own, counted
 * up by one: the checker is fast with those.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "port/clock.h"
#include "record.h"

#define COUNTER_EVERY 4 /* keys to one counter */

typedef struct Call {
	RecordKind kind;
	char key[WORD_MAX], value[WORD_MAX], expect[WORD_MAX];
	uint64_t expect_version;
	struct Seen *seen;
	int code;
	char result[3 * WORD_MAX]; /* behind "ok op key" */
} Call;

static RecordKind
choose_kind(Client *c)
{
	unsigned sum = 0, at;
	int kind = 0;

	for (int i = 0; i < REC_KINDS; i++)
		sum += c->r->weight[i];
	at = (unsigned) prng_below(&c->prng, sum);
	while (at >= c->r->weight[kind])
		at -= c->r->weight[kind++];
	return (RecordKind) kind;
}

static void
choose(Client *c, Call *call)
{
	int key = (int) prng_below(&c->prng, (uint64_t) c->r->keys);
	bool counter;

	memset(call, 0, sizeof *call);
	call->kind = choose_kind(c);
	/* reads and deletes of both sorts */
	counter =
		call->kind == REC_INCR || ((call->kind <= REC_LGET || call->kind == REC_DELETE) &&
								   c->r->weight[REC_INCR] > 0 && prng_below(&c->prng, COUNTER_EVERY) == 0);
	if (counter)
		key /= COUNTER_EVERY;
	snprintf(call->key, sizeof call->key, "%s%c%d", c->r->prefix, counter ? 'n' : 'r', key);
	call->seen = &c->seen[counter ? c->r->keys + key : key];
	/* every value once: the client's number, a serial */
	snprintf(call->value, sizeof call->value, "%d.%" PRIu64, c->r->first_process + c->number, ++c->serial);
	snprintf(call->expect, sizeof call->expect, "%s", call->seen->value);
	call->expect_version = call->seen->version;
	if (call->kind == REC_CASV && call->expect_version == 0)
		call->kind = REC_CAS;
}

static void
saw(Call *call, const char *value, uint64_t version)
{
	snprintf(call->seen->value, sizeof call->seen->value, "%s", value);
	call->seen->version = version;
}

static void
do_get(Client *c, Call *call)
{
	kv_read_options o = { .read = call->kind == REC_LGET ? KV_READ_LOCAL : KV_READ_LINEARIZABLE };
	kv_value v = { 0 };

	call->code = kv_get(c->kv, kv_str(call->key), &o, &v);
	if (call->code == KV_NOT_FOUND) {
		call->code = KV_OK;
		snprintf(call->result, sizeof call->result, " -");
		saw(call, "-", 0);
	} else if (call->code == KV_OK) {
		snprintf(call->result, sizeof call->result, " %.60s %" PRIu64, (char *) v.data, v.version);
		saw(call, v.data, v.version);
	}
	kv_value_free(&v);
}

static void
do_cas(Client *c, Call *call)
{
	kv_write_options o = { .condition = KV_IF_VALUE, .if_value = kv_str(call->expect) };
	uint64_t version = 0;

	if (call->kind == REC_CASV)
		o = (kv_write_options){ .condition = KV_IF_VERSION, .if_version = call->expect_version };
	else if (strcmp(call->expect, "-") == 0)
		o = (kv_write_options){ .condition = KV_IF_ABSENT };
	call->code = kv_put(c->kv, kv_str(call->key), kv_str(call->value), &o, &version);
	if (call->code == KV_OK) {
		snprintf(call->result, sizeof call->result, " yes %" PRIu64, version);
		saw(call, call->value, version);
	} else if (call->code == KV_CONDITION_FAILED) {
		call->code = KV_OK;
		snprintf(call->result, sizeof call->result, " no %" PRIu64, version);
	}
}

static void
do_write(Client *c, Call *call)
{
	uint64_t version = 0;
	int64_t n = 0;

	if (call->kind == REC_PUT)
		call->code = kv_put(c->kv, kv_str(call->key), kv_str(call->value), NULL, &version);
	else if (call->kind == REC_DELETE)
		call->code = kv_delete(c->kv, kv_str(call->key), NULL, &version);
	else
		call->code = kv_incr(c->kv, kv_str(call->key), 1, NULL, &n, &version);
	if (call->code != KV_OK)
		return;
	if (call->kind == REC_INCR)
		snprintf(call->result, sizeof call->result, " %" PRId64 " %" PRIu64, n, version);
	else {
		snprintf(call->result, sizeof call->result, " %" PRIu64, version);
		saw(call, call->kind == REC_PUT ? call->value : "-", call->kind == REC_PUT ? version : 0);
	}
}

static void
write_invocation(Client *c, const Call *call, uint64_t now)
{
	char arguments[2 * WORD_MAX + 2] = "";

	switch (call->kind) {
	case REC_PUT:
		snprintf(arguments, sizeof arguments, " %s", call->value);
		break;
	case REC_CAS:
		snprintf(arguments, sizeof arguments, " %s %s", call->expect, call->value);
		break;
	case REC_CASV:
		snprintf(arguments, sizeof arguments, " %" PRIu64 " %s", call->expect_version, call->value);
		break;
	case REC_INCR:
		snprintf(arguments, sizeof arguments, " 1");
		break;
	default:
		break;
	}
	record_line(c->r, "%" PRIu64 " %d invoke %s %s%s\n", now, c->r->first_process + c->number,
				record_kinds[call->kind], call->key, arguments);
}

void
client_operation(Client *c)
{
	bool write, applied_never;
	uint64_t from, to;
	Call call;

	choose(c, &call);
	write = call.kind > REC_LGET;
	from = clock_mono_ns();
	write_invocation(c, &call, from);
	if (!write)
		do_get(c, &call);
	else if (call.kind == REC_CAS || call.kind == REC_CASV)
		do_cas(c, &call);
	else
		do_write(c, &call);
	to = clock_mono_ns();
	applied_never = !write || record_not_applied(call.code);
	if (call.code == KV_OK)
		record_line(c->r, "%" PRIu64 " %d ok %s %s%s\n", to, c->r->first_process + c->number,
					record_kinds[call.kind], call.key, call.result);
	else
		record_line(c->r, "%" PRIu64 " %d %s %s %s %s\n", to, c->r->first_process + c->number,
					applied_never ? "fail" : "unknown", record_kinds[call.kind], call.key,
					kv_code_name(call.code));
	record_end(c->r, from, to, call.code, write, call.code == KV_OK);
}
