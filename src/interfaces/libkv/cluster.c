/*
 * cluster.c - the cluster's status and changes of its members.
 *
 * Runs in the client's threads. A change is refused by all but the leader, and call.c follows to it. A
 * change whose answer is lost is in doubt, as a write is.
 */
#include "libkv_internal.h"

#define CLUSTER_DEADLINE_AT 4
#define CHANGE_TIMEOUT_MS PROTO_DEADLINE_MS /* the new configuration has to be agreed on */

static Status
encode_text(Buf *b, const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;
	uint8_t n[2];

	if (len > UINT16_MAX)
		return status_fail(ST_USAGE, "a name or address of %zu bytes is too long", len);
	put_u16(n, (uint16_t) len);
	KV_TRY(buf_append(b, n, sizeof n));
	return buf_append(b, text, len);
}

int
kv_cluster(kv_client *c, int action, const char *name, const char *address, int dry_run, int timeout_ms,
		   kv_value *out)
{
	Call call = { .command = PROTO_CLUSTER, .deadline_at = CLUSTER_DEADLINE_AT, .timeout_ms = timeout_ms };
	bool change = action != KV_CLUSTER_STATUS;
	uint8_t head[4] = { (uint8_t) action, dry_run ? PROTO_CLUSTER_DRY_RUN : 0 };
	Status st;

	if (change && timeout_ms <= 0)
		call.timeout_ms = CHANGE_TIMEOUT_MS;
	call.write = change && !dry_run;
	KV_TRY(call_begin(c));
	st = buf_append(&c->out, head, sizeof head);
	if (st == ST_OK)
		st = encode_u32(&c->out, 0);
	if (st == ST_OK)
		st = encode_text(&c->out, name);
	if (st == ST_OK)
		st = encode_text(&c->out, address);
	if (st == ST_OK)
		st = call_run(c, &call);
	if (st == ST_OK && out != NULL) {
		out->version = 0;
		out->ttl_ms = 0;
		st = value_set(out, call.answer);
	}
	return call_end(c, st);
}
