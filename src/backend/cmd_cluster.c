/*
 * cmd_cluster.c - CLUSTER: who is in the cluster and how each of them does; changes of it. And its figures
 * for STATS.
 *
 * The status is answered by any node from what its consensus worker publishes, everything else by the
 * leader's consensus worker through its mailbox. Nothing is pinned meanwhile.
 */
#include <stdio.h>

#include "common/config.h"
#include "ipc/latency.h"
#include "ipc/nodestate.h"
#include "port/clock.h"
#include "replication/address.h"
#include "replication/replstate.h"
#include "session.h"
#include "storage/kvstore.h"

#define CLUSTER_HEAD 8 /* action, flags, zero, deadline */

_Static_assert((int) PROTO_CLUSTER_ADD == (int) REPL_ADD && (int) PROTO_CLUSTER_REPAIR == (int) REPL_REPAIR,
			   "actions have the same numbers everywhere");

/* ---- status --------------------------------------------------------------- */

static const char *
role_word(const ReplView *v, const ReplPeer *p)
{
	if (p->id == v->leader)
		return "leader";
	if (p->id == v->self && v->role == NODE_CANDIDATE)
		return "candidate";
	return p->voter ? "follower" : "learner";
}

static const char *
state_word(const ReplView *v, const ReplPeer *p)
{
	static const char *const words[] = {
		[REPL_SELF] = "up",          [REPL_DOWN] = "down",           [REPL_PROBE] = "probing",
		[REPL_STREAM] = "streaming", [REPL_CATCHUP] = "catching_up", [REPL_INSTALL] = "installing"
	};

	if (p->id == v->self)
		return v->recovering ? "recovering" : v->fetching ? "fetching" : "up";
	if (v->role != NODE_LEADER)
		return p->state == REPL_DOWN ? "down" : "up";
	return (size_t) p->state < sizeof words / sizeof *words ? words[p->state] : "?";
}

/* A field: bytes that would end it are blanks. */
static Status
put_text(Buf *b, const char *text)
{
	size_t at = b->len;

	KV_TRY(buf_append_slice(b, slice_str(text)));
	for (size_t i = at; i < b->len; i++)
		if (b->data[i] < ' ')
			b->data[i] = ' ';
	return ST_OK;
}

/* A number, or nothing. Each field but the last ends with a tab. */
static Status
put_number(Buf *b, bool known, uint64_t n)
{
	return known ? buf_printf(b, "%llu\t", (unsigned long long) n) : buf_printf(b, "\t");
}

static Status
put_cluster(Buf *b, const ReplView *v)
{
	const uint8_t *id = kvstore_control()->cluster_id;
	const ReplPeer *leader = v->leader != 0 ? replview_peer(v, v->leader) : NULL;
	const ReplPeer *self = replview_peer(v, v->self);
	uint32_t lag = replstate_lag_ms();

	KV_TRY(buf_printf(
		b, "cluster\tnode\trole\tterm\tleader\tleader_address\tapplied\tcommit\tdurable\tend\tlag_ms\t"
		   "election_ms\ttransferring\thash_lsn\thash_ms\thash_agree\thash_asked\talarm\n"));
	for (int i = 0; i < 16; i++)
		KV_TRY(buf_printf(b, "%02x", id[i]));
	KV_TRY(buf_printf(b, "\t%s\t", self != NULL ? self->name : ""));
	KV_TRY(buf_printf(b, "%s\t", self != NULL ? role_word(v, self) : "none"));
	KV_TRY(put_number(b, true, v->term));
	KV_TRY(buf_printf(b, "%s\t%s\t", leader != NULL ? leader->name : "",
					  leader != NULL ? leader->client_address : ""));
	KV_TRY(put_number(b, true, kvstore_applied()));
	KV_TRY(put_number(b, true, wal_commit()));
	KV_TRY(put_number(b, true, wal_durable()));
	KV_TRY(put_number(b, true, wal_inserted()));
	KV_TRY(put_number(b, lag != UINT32_MAX, lag));
	KV_TRY(put_number(b, true, v->election_ms));
	KV_TRY(put_number(b, true, v->transferring));
	KV_TRY(put_number(b, v->hash_lsn != 0, v->hash_lsn));
	KV_TRY(put_number(b, v->hash_ms != 0, v->hash_ms));
	KV_TRY(put_number(b, v->hash_asked != 0, (uint64_t) v->hash_agree));
	KV_TRY(put_number(b, v->hash_asked != 0, (uint64_t) v->hash_asked));
	KV_TRY(put_text(b, v->alarm != REPL_NO_ALARM ? v->alarm_text : ""));
	return buf_printf(b, "\n\n");
}

/* How far it is behind, as far as this node can know: the leader of all, others of themselves. */
static bool
lag_of(const ReplView *v, const ReplPeer *p, uint64_t *bytes, uint64_t *ms)
{
	Lsn end = p->id == v->self ? wal_commit() : wal_inserted(),
		here = p->id == v->self ? kvstore_applied() : p->acked;

	*bytes = end > here ? end - here : 0;
	*ms = p->id == v->self ? replstate_lag_ms() : p->lag_ms;
	if (p->id == v->self)
		return *ms != UINT32_MAX;
	return v->role == NODE_LEADER && p->acked != 0; /* LSN 0 is none: it has not answered this leader yet */
}

static Status
put_member(Buf *b, const ReplView *v, const ReplPeer *p)
{
	uint64_t bytes, ms, now_ms = clock_mono_ns() / 1000000;
	char own_peer[MEMBERSHIP_ADDRESS_MAX + 1], own_clients[MEMBERSHIP_ADDRESS_MAX + 1];
	const char *clients = p->client_address;
	bool self = p->id == v->self, lag = lag_of(v, p, &bytes, &ms);

	KV_TRY(buf_printf(b, "%s\t%016llx\t%s\t%d\t%s\t%d\t", p->name, (unsigned long long) p->id,
					  role_word(v, p), p->voter, state_word(v, p), self));
	/* A configuration from before nodes had addresses: this one knows its own. */
	if (self && clients[0] == '\0' && address_of_self(own_peer, own_clients) == ST_OK)
		clients = own_clients;
	KV_TRY(buf_printf(b, "%s\t%s\t", p->peer_address, clients));
	KV_TRY(put_number(b, v->role == NODE_LEADER && !self, p->sent));
	KV_TRY(put_number(b, v->role == NODE_LEADER || self, self ? wal_durable() : p->acked));
	KV_TRY(put_number(b, lag, bytes));
	KV_TRY(put_number(b, lag, ms));
	KV_TRY(put_number(b, !self && p->heard_ms != 0, now_ms > p->heard_ms ? now_ms - p->heard_ms : 0));
	KV_TRY(put_text(b, p->trouble));
	return buf_printf(b, "\n");
}

static Status
put_status(Buf *b)
{
	ReplView v;

	replstate_view(&v);
	KV_TRY(put_cluster(b, &v));
	KV_TRY(buf_printf(
		b, "name\tid\trole\tvoter\tstate\tself\tpeer_address\tclient_address\tsent\tacked\tlag_bytes\t"
		   "lag_ms\theard_ms\ttrouble\n"));
	for (int i = 0; i < v.n; i++)
		KV_TRY(put_member(b, &v, &v.peer[i]));
	return ST_OK;
}

/* ---- the command ---------------------------------------------------------- */

static Status
take_text(Reader *reader, size_t max, const char *what, char *out)
{
	Slice s = read_bytes(reader, read_u16(reader));

	if (!reader_ok(reader))
		return status_fail(ST_BAD_REQUEST, "the request ends inside the %s", what);
	if (s.len > max || memchr(s.data, 0, s.len) != NULL)
		return status_fail(ST_BAD_REQUEST, "a %s has at most %zu bytes, none of them 0", what, max);
	memcpy(out, s.data, s.len);
	out[s.len] = '\0';
	return ST_OK;
}

static Status
decode_cluster(const Request *r, ReplRequest *q, int *timeout_ms)
{
	Reader reader = reader_of(r->payload, r->header.length);
	const uint8_t *p = reader_take(&reader, CLUSTER_HEAD);

	*q = (ReplRequest){ 0 };
	if (p == NULL || p[0] > PROTO_CLUSTER_REPAIR || (p[1] & ~PROTO_CLUSTER_DRY_RUN) != 0 || p[2] != 0 ||
		p[3] != 0)
		return status_fail(ST_BAD_REQUEST,
						   "CLUSTER begins with a known action, flags, two zero bytes and a deadline");
	q->action = (ReplAction) p[0];
	q->dry_run = (p[1] & PROTO_CLUSTER_DRY_RUN) != 0;
	*timeout_ms = deadline_of(get_u32(p + 4));
	KV_TRY(take_text(&reader, MEMBERSHIP_NAME_MAX, "name", q->name));
	KV_TRY(take_text(&reader, MEMBERSHIP_ADDRESS_MAX, "address", q->address));
	if (reader_left(&reader) != 0)
		return status_fail(ST_BAD_REQUEST, "bytes left over after the address");
	return ST_OK;
}

/* What an action must name is checked here; whether it makes sense is the consensus worker's to say. */
static Status
check_arguments(const ReplRequest *q)
{
	bool name = q->action == REPL_ADD || q->action == REPL_REMOVE || q->action == REPL_PROMOTE ||
				q->action == REPL_REPLACE || q->action == REPL_REPAIR;
	bool address = q->action == REPL_ADD || q->action == REPL_REPLACE;

	if (name && q->name[0] == '\0')
		return status_fail(ST_BAD_REQUEST, "the name of a node is missing");
	if (!name && q->action != REPL_TRANSFER && q->name[0] != '\0')
		return status_fail(ST_BAD_REQUEST, "this takes no name");
	if (address != (q->address[0] != '\0'))
		return status_fail(ST_BAD_REQUEST, address ? "the address host:port of the new node is missing"
												   : "this takes no address");
	return ST_OK;
}

static Status
in_time(void *deadline_ns)
{
	if (clock_mono_ns() < *(uint64_t *) deadline_ns)
		return ST_OK;
	return status_fail(ST_TIMEOUT, "hashing the contents takes longer than that");
}

/* As of a HASH record of now; *lsn is its position, 0 if there is none. */
static Status
hash_now(int timeout_ms, Lsn *lsn, uint64_t *hash, uint64_t *entries)
{
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t) timeout_ms * 1000000, log_time;
	Lsn wanted;

	*lsn = 0;
	KV_TRY(kvstore_insert_hash(wal_generation(), lsn));
	KV_TRY(kvstore_wait_applied(*lsn, timeout_ms));
	if (!kvstore_hash_wanted(&wanted, &log_time) || wanted != *lsn)
		return status_fail(ST_BUSY, "the contents are being hashed for somebody else");
	return kvstore_content_hash(*lsn, log_time, in_time, &deadline_ns, hash, entries);
}

/* A node without others has no checker process: its contents are hashed here. */
static Status
hash_alone(int timeout_ms, Buf *out)
{
	uint64_t hash, entries;
	Status st;
	Lsn lsn;

	kvstore_hash_claim();
	st = hash_now(timeout_ms, &lsn, &hash, &entries);
	kvstore_hash_done(lsn);
	KV_TRY(st);
	return buf_printf(out, "contents at position %llu: hash %016llx, %llu entries", (unsigned long long) lsn,
					  (unsigned long long) hash, (unsigned long long) entries);
}

static Status
answer_action(const ReplRequest *q, int timeout_ms, Buf *out)
{
	if ((int) q->action == PROTO_CLUSTER_STATUS)
		return put_status(out);
	if (q->action == REPL_CHECK && config.peer_port == 0 && !q->dry_run)
		return hash_alone(timeout_ms, out);
	return replstate_request(q, timeout_ms, out);
}

Status
cmd_cluster(Session *s, const Request *r)
{
	ReplRequest q;
	int timeout_ms = 0;
	size_t at;
	Status st = decode_cluster(r, &q, &timeout_ms);

	if (st == ST_OK && (int) q.action != PROTO_CLUSTER_STATUS)
		st = check_arguments(&q);
	if (st == ST_OK && (int) q.action != PROTO_CLUSTER_STATUS && !replstate_may_lead())
		st = ST_NOT_LEADER;
	if (st != ST_OK)
		return answer_error(s, r, st, 0);
	KV_TRY(answer_begin(s, &at));
	st = answer_action(&q, timeout_ms, &s->out);
	if (st == ST_TIMEOUT && !q.dry_run && q.action != REPL_CHECK)
		st = ST_OUTCOME_UNKNOWN; /* the worker goes on with it: not what TIMEOUT promises to a client */
	if (st != ST_OK) {
		s->out.len = at;
		return answer_error(s, r, st, 0);
	}
	answer_end(s, r, at);
	return ST_OK;
}

/* ---- figures -------------------------------------------------------------- */

typedef Status (*EmitFn)(void *arg, const char *name, uint64_t value);

static Status
emit_peer(const ReplView *v, const ReplPeer *p, EmitFn emit, void *arg)
{
	char name[sizeof "replication.peer." + MEMBERSHIP_NAME_MAX + 16];
	uint64_t bytes, ms, now_ms = clock_mono_ns() / 1000000;
	struct {
		const char *word;
		bool known;
		uint64_t value;
	} line[] = {
		{ "acked", v->role == NODE_LEADER, p->acked },
		{ "heard_ms", p->heard_ms != 0, now_ms > p->heard_ms ? now_ms - p->heard_ms : 0 },
		{ "lag_bytes", false, 0 },
		{ "lag_ms", false, 0 },
		{ "up", true, p->state != REPL_DOWN },
	};

	line[2].known = line[3].known = lag_of(v, p, &bytes, &ms);
	line[2].value = bytes;
	line[3].value = ms;
	for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
		snprintf(name, sizeof name, "replication.peer.%s.%s", p->name, line[i].word);
		if (line[i].known)
			KV_TRY(emit(arg, name, line[i].value));
	}
	return ST_OK;
}

/* Of the followers, where this node leads; of this node, where another one does. */
static void
largest_lag(const ReplView *v, uint64_t *bytes, uint64_t *ms)
{
	*bytes = *ms = 0;
	for (int i = 0; i < v->n; i++) {
		uint64_t b, m;

		if (!lag_of(v, &v->peer[i], &b, &m))
			continue;
		*bytes = b > *bytes ? b : *bytes;
		*ms = m > *ms ? m : *ms;
	}
}

/* latency.WORD_count, and quantiles in ns. */
static Status
emit_latency(const char *word, LatencyKind kind, EmitFn emit, void *arg)
{
	static const struct {
		const char *word;
		double q;
	} quantiles[] = { { "p50", 0.5 }, { "p90", 0.9 }, { "p99", 0.99 }, { "max", 1 } };
	char name[48];
	Histogram h;

	latency_read(kind, &h);
	snprintf(name, sizeof name, "latency.%s_count", word);
	KV_TRY(emit(arg, name, h.count));
	for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
		snprintf(name, sizeof name, "latency.%s_ns_%s", word, quantiles[i].word);
		KV_TRY(emit(arg, name, histogram_quantile(&h, quantiles[i].q)));
	}
	return ST_OK;
}

Status
replication_emit(EmitFn emit, void *arg)
{
	uint64_t lag_bytes, lag_ms, voters = 0;
	ReplReads reads;
	ReplView v;

	replstate_view(&v);
	replstate_reads(&reads);
	largest_lag(&v, &lag_bytes, &lag_ms);
	for (int i = 0; i < v.n; i++)
		voters += v.peer[i].voter;
	KV_TRY(emit_latency("commit", LATENCY_COMMIT, emit, arg));
	KV_TRY(emit_latency("log_sync", LATENCY_LOG_SYNC, emit, arg));
	KV_TRY(emit(arg, "replication.alarm", v.alarm != REPL_NO_ALARM));
	KV_TRY(emit(arg, "replication.elections", v.elections));
	KV_TRY(emit(arg, "replication.fetching", v.fetching));
	KV_TRY(emit(arg, "replication.hash_lsn", v.hash_lsn));
	KV_TRY(emit(arg, "replication.lag_bytes_max", lag_bytes));
	KV_TRY(emit(arg, "replication.lag_ms_max", lag_ms));
	KV_TRY(emit(arg, "replication.leader_known", v.leader != 0));
	KV_TRY(emit(arg, "replication.learners", (uint64_t) v.n - voters));
	for (int i = 0; i < v.n; i++)
		if (v.peer[i].id != v.self)
			KV_TRY(emit_peer(&v, &v.peer[i], emit, arg));
	KV_TRY(emit(arg, "replication.reads_by_lease", reads.by_lease));
	KV_TRY(emit(arg, "replication.reads_by_round", reads.by_round));
	KV_TRY(emit(arg, "replication.recovering", v.recovering));
	KV_TRY(emit(arg, "replication.role", v.role));
	KV_TRY(emit(arg, "replication.rounds", reads.rounds));
	KV_TRY(emit(arg, "replication.terms_led", v.terms_led));
	return emit(arg, "replication.voters", voters);
}
