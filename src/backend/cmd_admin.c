/*
 * cmd_admin.c - HELLO, PING, STATS, CONFIG, CHECKPOINT.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/config.h"
#include "common/kv_assert.h"
#include "ipc/nodestate.h"
#include "ipc/procslot.h"
#include "port/child.h"
#include "port/clock.h"
#include "port/config_files.h"
#include "port/fs.h"
#include "replication/replstate.h"
#include "session.h"

/* Held while kvd.auto.conf is read, changed and written back; the file itself is replaced each time. */
#define CONFIG_LOCK_FILE CONFIG_AUTO_FILE ".lock"
#define CONFIG_LOCK_RETRY_US 2000
#define CONFIG_LOCK_TIMEOUT_MS 5000

#define HELLO_HEAD 58 /* fixed part of the answer */
enum { ROLE_NONE = 0, ROLE_LEADER = 1, ROLE_FOLLOWER = 2, ROLE_LEARNER = 3 }; /* on the wire */

/* Send an error and end the connection after it. */
static Status
refuse(Session *s, const Request *r, Status code)
{
	s->closing = true;
	return answer_error(s, r, code, 0);
}

static Status
check_hello(Session *s, const Request *r)
{
	Reader reader = reader_of(r->payload, r->header.length);
	Slice magic = read_bytes(&reader, 4);
	uint16_t version = read_u16(&reader), flags = read_u16(&reader), n = read_u16(&reader);

	(void) read_bytes(&reader, n);
	if (!reader_ok(&reader) || reader_left(&reader) != 0 || n > PROTO_NAME_MAX ||
		!slice_eq(magic, slice_str(PROTO_MAGIC)))
		return status_fail(ST_BAD_REQUEST, "this is not a HELLO of the kvd protocol");
	s->forwarded = (flags & PROTO_HELLO_FORWARDED) != 0;
	if (version < PROTO_VERSION)
		return status_fail(ST_BAD_VERSION, "this server speaks protocol version %d", PROTO_VERSION);
	if (s->reserved_slot && !(flags & PROTO_HELLO_ADMIN))
		return status_fail(ST_TOO_MANY_CONNECTIONS,
						   "all %d connections are in use (max_connections); the last ones are kept for "
						   "administration",
						   (int) config.max_connections);
	return ST_OK;
}

static uint8_t
role_on_wire(void)
{
	ReplView v;

	if (atomic_load(&nodestate()->role) == NODE_LEADER)
		return ROLE_LEADER;
	replstate_view(&v);
	return v.self == 0 ? ROLE_NONE : v.voter ? ROLE_FOLLOWER : ROLE_LEARNER;
}

Status
cmd_hello(Session *s, const Request *r)
{
	const Control *c = kvstore_control();
	uint8_t head[HELLO_HEAD] = { 0 };
	size_t at, n = strlen(KVD_VERSION);
	Status st = check_hello(s, r);

	if (st != ST_OK)
		return refuse(s, r, st);
	put_u16(head, PROTO_VERSION);
	put_u16(head + 2, PROTO_VERSION);
	put_u32(head + 4, KV_KEY_MAX);
	put_u32(head + 8, (uint32_t) config.max_value_size);
	put_u32(head + 12, KV_FRAME_MAX);
	put_u32(head + 16, KV_BATCH_OPS_MAX);
	head[20] = role_on_wire();
	put_u64(head + 24, atomic_load(&nodestate()->term));
	memcpy(head + 32, c->cluster_id, sizeof c->cluster_id);
	put_u64(head + 48, c->node_incarnation);
	put_u16(head + 56, (uint16_t) n);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, head, sizeof head));
	KV_TRY(buf_append(&s->out, KVD_VERSION, n));
	answer_end(s, r, at);
	s->hello_done = true;
	return ST_OK;
}

Status
cmd_ping(Session *s, const Request *r)
{
	size_t at;

	if (r->header.length > PROTO_PING_MAX) {
		(void) status_fail(ST_BAD_REQUEST, "PING has at most %d bytes", PROTO_PING_MAX);
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, r->payload, r->header.length));
	answer_end(s, r, at);
	return ST_OK;
}

/* ---- STATS ---------------------------------------------------------------- */

typedef struct StatsOut {
	Session *s;
	Slice prefix;
} StatsOut;

static Status
emit_line(void *arg, const char *name, uint64_t value)
{
	StatsOut *o = arg;

	if (!slice_has_prefix(slice_str(name), o->prefix))
		return ST_OK;
	return buf_printf(&o->s->out, "%s %llu\n", name, (unsigned long long) value);
}

static Status
emit_node(StatsOut *o)
{
	const NodeState *n = nodestate();

	KV_TRY(emit_line(o, "node.gate_open", atomic_load(&n->gate_open)));
	KV_TRY(emit_line(o, "node.port", n->port));
	KV_TRY(emit_line(o, "node.restarts", n->restarts));
	KV_TRY(emit_line(o, "memory.block_cache", (uint64_t) config.block_cache_size));
	KV_TRY(emit_line(o, "memory.limit", n->memory_limit));
	KV_TRY(emit_line(o, "memory.mapped", n->memory_mapped));
	KV_TRY(emit_line(o, "memory.memtables", (uint64_t) (config.memtable_count * config.memtable_size)));
	KV_TRY(emit_line(o, "memory.metadata", (uint64_t) config.metadata_size));
	KV_TRY(emit_line(o, "memory.wal_buffers", (uint64_t) config.wal_buffers));
	KV_TRY(emit_line(o, "node.term", atomic_load(&n->term)));
	return emit_line(o, "node.uptime_ms", clock_wall_ms() - n->started_ms);
}

/* Every process attached to shared memory: kind and pid. */
static Status
emit_processes(StatsOut *o)
{
	static const char *const names[] = { [PROC_REPLAY] = "replay",
										 [PROC_CONSENSUS] = "consensus",
										 [PROC_WALWRITER] = "walwriter",
										 [PROC_COMPACTOR] = "compactor",
										 [PROC_FETCHER] = "fetcher",
										 [PROC_CHECKER] = "checker" };
	char name[48];
	uint64_t backends = 0;

	for (int i = PROC_AUX_COUNT; i < procslot_high_water(); i++)
		backends += atomic_load(&procslot_get(i)->state) == PROC_LIVE;
	KV_TRY(emit_line(o, "process.backends", backends));
	for (int i = 0; i < PROC_AUX_COUNT; i++) {
		snprintf(name, sizeof name, "process.%s.pid", names[i]);
		if (atomic_load(&procslot_get(i)->state) == PROC_LIVE)
			KV_TRY(emit_line(o, name, atomic_load(&procslot_get(i)->pid)));
	}
	return emit_line(o, "process.postmaster.pid", nodestate()->postmaster_pid);
}

Status
cmd_stats(Session *s, const Request *r)
{
	StatsOut o = { s, slice_of(r->payload, r->header.length) };
	size_t at;
	Status st;

	KV_TRY(answer_begin(s, &at));
	st = counters_emit(emit_line, &o);
	if (st == ST_OK)
		st = kvstore_stats(emit_line, &o);
	if (st == ST_OK)
		st = emit_node(&o);
	if (st == ST_OK)
		st = emit_processes(&o);
	if (st == ST_OK)
		st = replication_emit(emit_line, &o);
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	answer_end(s, r, at);
	return ST_OK;
}

/* ---- CONFIG --------------------------------------------------------------- */

static Status
put_setting(Session *s, int i)
{
	ConfigItem c;
	const char *restart;

	config_item(i, &c);
	restart = c.context == CONFIG_RELOAD ? "no" : c.restart_needed ? "pending" : "yes";
	return buf_printf(&s->out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.name, c.value, c.unit,
					  config_source_name(c.source), restart, c.def, c.help);
}

/* All settings, or the one named. */
static Status
list_settings(Session *s, const char *name)
{
	int only = name[0] != '\0' ? config_find(name) : -1;

	if (name[0] != '\0' && only < 0)
		return status_fail(ST_BAD_SETTING, "unknown setting \"%s\"", name);
	for (int i = 0; i < config_count(); i++)
		if (only < 0 || i == only)
			KV_TRY(put_setting(s, i));
	return ST_OK;
}

/* This process at once; the others by the postmaster, as if an operator had sent it SIGHUP. */
static Status
reload_everywhere(void)
{
	KV_TRY(config_load(".", true, NULL));
	child_signal(child_parent(), SIGHUP);
	return ST_OK;
}

/* One backend at a time: what another one writes between our reading and writing would be lost. */
static Status
write_setting(const char *name, const char *value)
{
	uint64_t deadline = clock_mono_ns() + (uint64_t) CONFIG_LOCK_TIMEOUT_MS * 1000000;
	Status st, closed;
	pid_t holder;
	int fd;

	while ((st = child_lock_file(CONFIG_LOCK_FILE, &fd, &holder)) == ST_BUSY && clock_mono_ns() < deadline)
		procslot_sleep(procslot_prepare_sleep(), CONFIG_LOCK_RETRY_US);
	KV_TRY(st);
	st = config_write_auto(".", name, value);
	closed = fs_close(fd); /* gives the lock back */
	return st != ST_OK ? st : closed;
}

static Status
change_setting(Session *s, uint8_t action, char *text)
{
	char *value = action == PROTO_CONFIG_SET ? strchr(text, '=') : NULL;

	if (action == PROTO_CONFIG_SET && value == NULL)
		return status_fail(ST_BAD_SETTING, "expected name=value, got \"%s\"", text);
	if (value != NULL)
		*value++ = '\0';
	if (config_find(text) < 0)
		return status_fail(ST_BAD_SETTING, "unknown setting \"%s\"", text);
	if (value != NULL)
		KV_TRY(config_check(text, value));
	KV_TRY(write_setting(text, value));
	KV_TRY(reload_everywhere());
	return list_settings(s, text);
}

static Status
do_config(Session *s, uint8_t action, char *text)
{
	switch (action) {
	case PROTO_CONFIG_LIST:
		return list_settings(s, text);
	case PROTO_CONFIG_SET:
	case PROTO_CONFIG_RESET:
		return change_setting(s, action, text);
	case PROTO_CONFIG_RELOAD:
		return reload_everywhere();
	default:
		return status_fail(ST_BAD_REQUEST, "unknown action %u of CONFIG", action);
	}
}

Status
cmd_config(Session *s, const Request *r)
{
	static const uint8_t end = 0;
	char *text;
	size_t at;
	Status st;

	if (r->header.length < 4 || r->payload[1] != 0 || r->payload[2] != 0 || r->payload[3] != 0 ||
		r->header.length > PROTO_PING_MAX || memchr(r->payload + 4, 0, r->header.length - 4) != NULL) {
		(void) status_fail(ST_BAD_REQUEST, "CONFIG begins with an action and three zero bytes, text follows");
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	KV_TRY(buf_set(&s->key, slice_of(r->payload + 4, r->header.length - 4)));
	KV_TRY(buf_append(&s->key, &end, 1));
	text = (char *) s->key.data;
	KV_TRY(answer_begin(s, &at));
	st = do_config(s, r->payload[0], text);
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	answer_end(s, r, at);
	return ST_OK;
}

/* ---- CHECKPOINT ----------------------------------------------------------- */

Status
cmd_checkpoint(Session *s, const Request *r)
{
	uint8_t payload[8];
	uint32_t ms, flags;
	uint64_t target = kvstore_applied();
	size_t at;
	Status st;

	if (r->header.length != 8 || (get_u32(r->payload + 4) & ~(uint32_t) PROTO_CHECKPOINT_COMPACT) != 0) {
		(void) status_fail(ST_BAD_REQUEST, "CHECKPOINT has a deadline and flags, 8 bytes");
		return answer_error(s, r, ST_BAD_REQUEST, 0);
	}
	ms = get_u32(r->payload);
	flags = get_u32(r->payload + 4);
	ms = (uint32_t) deadline_of(ms);
	st = kvstore_checkpoint((int) ms);
	if (st == ST_OK && (flags & PROTO_CHECKPOINT_COMPACT))
		st = kvstore_compact((int) ms);
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	put_u64(payload, target);
	KV_TRY(answer_begin(s, &at));
	KV_TRY(buf_append(&s->out, payload, sizeof payload));
	answer_end(s, r, at);
	return ST_OK;
}
