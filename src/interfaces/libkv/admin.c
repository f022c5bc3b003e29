/*
 * admin.c - ping, stats, config, checkpoint.
 *
 * Runs in the client's threads.
 */
#include "libkv_internal.h"
#include "port/clock.h"

#define CHECKPOINT_TIMEOUT_MS PROTO_DEADLINE_MS /* it writes a memtable to disk: longer than a request */

int
kv_ping(kv_client *c, uint64_t *rtt_ns)
{
	Call call = { .command = PROTO_PING, .deadline_at = -1 };
	uint64_t start;
	Status st;

	KV_TRY(call_begin(c));
	/* The time to connect is not part of a round trip. */
	if (c->fd >= 0 && io_is_stale(c))
		io_close(c);
	st = connect_ensure(c, deadline_in(c->options.timeout_ms));
	start = clock_mono_ns();
	if (st == ST_OK)
		st = call_run(c, &call);
	if (st == ST_OK && rtt_ns != NULL)
		*rtt_ns = clock_mono_ns() - start;
	return call_end(c, st);
}

static Status
text_call(kv_client *c, Call *call, kv_value *out)
{
	KV_TRY(call_run(c, call));
	if (out == NULL)
		return ST_OK;
	out->version = 0;
	out->ttl_ms = 0;
	return value_set(out, call->answer);
}

int
kv_stats(kv_client *c, const char *prefix, kv_value *out)
{
	Call call = { .command = PROTO_STATS, .deadline_at = -1 };
	Status st;

	KV_TRY(call_begin(c));
	st = buf_append_slice(&c->out, slice_str(prefix != NULL ? prefix : ""));
	if (st == ST_OK)
		st = text_call(c, &call, out);
	return call_end(c, st);
}

static int
config_call(kv_client *c, ProtoConfigAction action, const char *name, const char *value, kv_value *out)
{
	/*
	 * Setting the same twice is harmless, so a lost answer may be asked for again; only the outcome of writes is
	 * in doubt.
	 */
	Call call = { .command = PROTO_CONFIG, .deadline_at = -1 };
	Status st;

	KV_TRY(call_begin(c));
	st = encode_u32(&c->out, (uint32_t) action);
	if (st == ST_OK)
		st = buf_append_slice(&c->out, slice_str(name));
	if (st == ST_OK && value != NULL)
		st = buf_printf(&c->out, "=%s", value);
	if (st == ST_OK)
		st = text_call(c, &call, out);
	return call_end(c, st);
}

int
kv_config_list(kv_client *c, const char *name, kv_value *out)
{
	return config_call(c, PROTO_CONFIG_LIST, name != NULL ? name : "", NULL, out);
}

int
kv_config_set(kv_client *c, const char *name, const char *value, kv_value *out)
{
	return config_call(c, PROTO_CONFIG_SET, name, value, out);
}

int
kv_config_reset(kv_client *c, const char *name, kv_value *out)
{
	return config_call(c, PROTO_CONFIG_RESET, name, NULL, out);
}

int
kv_config_reload(kv_client *c)
{
	return config_call(c, PROTO_CONFIG_RELOAD, "", NULL, NULL);
}

int
kv_checkpoint(kv_client *c, int compact, int timeout_ms, uint64_t *lsn)
{
	Call call = { .command = PROTO_CHECKPOINT, .deadline_at = 0,
		.timeout_ms = timeout_ms > 0 ? timeout_ms : CHECKPOINT_TIMEOUT_MS };
	Status st;

	KV_TRY(call_begin(c));
	st = encode_u32(&c->out, 0);
	if (st == ST_OK)
		st = encode_u32(&c->out, compact ? PROTO_CHECKPOINT_COMPACT : 0);
	if (st == ST_OK)
		st = call_run(c, &call);
	if (st == ST_OK && call.answer.len < 8)
		st = call_short_answer(c, PROTO_CHECKPOINT);
	if (st == ST_OK && lsn != NULL)
		*lsn = get_u64(call.answer.data);
	return call_end(c, st);
}
