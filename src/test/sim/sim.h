/*
 * sim.h - a whole cluster in one thread: N raft cores, their disks, their network, their clocks and clients.
 *
 * One world per process, `W`; a run is a function of its seed. Ghost state ("what really happened") belongs to
 * nobody in the cluster; check.c alone judges by it. README.md says how things fit together.
 */
#ifndef SIM_H
#define SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/hash.h"
#include "replication/raft.h"
#include "../../replication/raft/bug.h"

#define SLOTS 8               /* machines */
#define CLIENTS 6             /* each with one session and one request at a time */
#define RECORDS_MAX (1 << 16) /* of all logs of a run together; a run that needs more ends early */
#define CONFIGS_MAX 4096
#define MESSAGES_MAX 4096 /* in flight */
#define TERMS_MAX 65536
#define OPS_MAX 65536     /* requests of clients */
#define UNSYNCED_MAX 4096 /* writes of one disk that are not synced */
#define INCARNATIONS_MAX 65536
#define CHUNK_MAX 512  /* records in one message */
#define FIRST_POS 4096 /* the logs' first position */
#define NEVER UINT64_MAX
#define ELECTION_US 100000

/* ---- mistakes of the host, switched on by name like those of bug.h */
/* clang-format off */
#define HOST_BUG_LIST(X)                                                                                     \
	X(ANSWER_BEFORE_COMMIT,   "a write is answered when it is in the leader's log: NATS 2.12.1")             \
	X(VOTE_FILE_NOT_SYNCED,   "the vote file is written and not synced: rule L8")                            \
	X(MESSAGES_BEFORE_PERSIST, "messages leave before term and vote are on disk")                            \
	X(DURABLE_WHEN_WRITTEN,   "durable is published when the write was issued, not when it was synced")      \
	X(DURABLE_OF_OLD_SYNC,    "a sync that began before a truncation publishes what came after it: rule L3") \
	X(WIPED_SAME_IDENTITY,    "a wiped disk comes back under its old incarnation: TigerBeetle #2767")        \
	X(DAMAGE_IS_TORN_TAIL,    "damage below the mark is cut like a torn tail: NATS; FAST'18; rule L5")       \
	X(TERMS_NEVER_DECREASE,   "recovery accepts any record whose term is not lower: rule L1")                \
	X(SESSION_NOT_CHECKED,    "a retried serial is executed again: thesis 6.3")                              \
	X(SESSIONS_NOT_FLUSHED,   "sessions are not part of the tables")                                         \
	X(BLIND_RETRY,            "a write in doubt is retried as a new one: TiDB 2.1.7")                        \
	X(INSTALL_KEEPS_STATE,    "the log is replaced before the tables, and a crash comes between")            \
	X(GATE_LEFT_OPEN,         "a deposed leader's backends go on inserting")                                 \
	X(LEASE_NOT_PUBLISHED,    "the lease is not taken back when the core says so")                           \
	X(LEASE_BEFORE_APPLIED,   "lease reads are served before the own TERM record is applied: rule R2")       \
	X(READ_NOT_APPLIED,       "a confirmed ReadIndex is answered before it is applied: redis-raft #14")      \
	X(READS_KEPT,             "a read that waits is answered by a leader of yesterday, with what is newer")     \
	X(LOCAL_READ,             "any node answers reads: etcd, Consul 2014")                                   \
	X(CACHE_TRUSTED,          "start takes what the page cache holds for durable: rule L7")                  \
	X(REPLAY_ALL,             "start applies the whole log, not what is known to be committed: rule A9")     \
	X(CONFIG_FORGOTTEN,       "start knows only configurations that are in the log's last part: rule C2")    \
	X(OLD_CONNECTION,         "what an earlier connection still holds is delivered: rules L2, L5")           \
	X(CLOCK_STOPS,            "the lease clock stands still while the node does: rule R3")
/* clang-format on */

enum {
	HOST_BUG_FIRST = 1000,
#define X(name, text) HBUG_##name,
	HOST_BUG_LIST(X)
#undef X
		HOST_BUG_END
};
extern int host_bug;
#define HBUG(name) (host_bug == HBUG_##name)

/* ---- chance: splitmix64, inlined; a run draws several times a step */
typedef struct Chance {
	uint64_t s;
} Chance;

static inline uint64_t
chance_next(Chance *c)
{
	c->s += UINT64_C(0x9e3779b97f4a7c15);
	return hash_mix(c->s);
}

/* [0, n); the bias of 2^-32 does not matter here */
static inline uint32_t
below(Chance *c, uint32_t n)
{
	return (uint32_t) (((chance_next(c) >> 32) * n) >> 32);
}

static inline uint64_t
between(Chance *c, uint64_t lo, uint64_t hi)
{
	return lo + (hi > lo ? chance_next(c) % (hi - lo + 1) : 0);
}

/* p in millionths */
static inline bool
perhaps(Chance *c, uint32_t ppm)
{
	return ppm != 0 && below(c, 1000000) < ppm;
}

/*
 * ---- records: immutable, a tree (a log is a path in it), so two logs are equal where their records are the
 * same
 */
typedef enum RecKind { REC_ROOT, REC_TERM, REC_CONFIG, REC_WRITE } RecKind;

typedef struct Rec {
	uint64_t start, end, term, prev_term;
	uint32_t prev, index; /* record before it; how many are before it */
	uint32_t op;          /* WRITE: of a client; 0 nobody waits for it */
	uint32_t serial;
	uint16_t config; /* CONFIG: in W.config */
	uint8_t session;
	uint8_t kind;
} Rec;

/* ---- a disk */
typedef struct DiskOp {
	uint32_t rec; /* written to where it belongs */
} DiskOp;

/* What is in tables: changes all at once (manifest). */
typedef struct State {
	uint32_t rec, index; /* applied up to and with this record */
	uint64_t hash;
	uint32_t serial[CLIENTS];
} State;

typedef struct Disk {
	uint32_t nimage;
	uint32_t *image; /* durable whole records by position, stale ones behind the end too */
	uint32_t nops;
	DiskOp op[UNSYNCED_MAX]; /* written, not synced; oldest first */
	uint64_t mark;           /* below it no torn tail is cut */
	uint64_t mark_commit;
	RaftVote vote;
	RaftVote vote_synced; /* what survives a power loss; differs only with a bug */
	State tables;
	uint32_t floor; /* index: log below is given away */
} Disk;

/* ---- a machine */
typedef struct Waiter {
	uint32_t rec, op;    /* a write; rec 0 none */
	uint64_t arrived_us; /* a read: own clock; 0 none */
	uint32_t floor;      /* a read must see this index */
	bool confirmed;
	uint64_t at; /* confirmed read: when applied has come here */
} Waiter;

typedef struct Fetch {
	bool active, snapshot;
	uint64_t id, until;
	uint32_t number;
} Fetch;

typedef struct Partial {
	uint32_t rec;
	uint64_t upto;
} Partial;

typedef enum Pause { RUNS, WORKER_STOPPED, NODE_STOPPED } Pause;

typedef struct Node {
	int slot;
	bool up, initial; /* initial: was in the first configuration */
	bool damaged;     /* its disk, and it has not started since */
	uint64_t id;
	uint32_t boot;
	Raft raft;
	Disk disk;
	/* log: log[i] is the record of index i; base: the oldest that is kept */
	uint32_t *log;
	uint32_t base, last, synced; /* last: newest; synced: newest that is durable */
	uint32_t log_start, ring_start;
	bool sync_busy;
	uint32_t sync_to, sync_ops, sync_number;
	bool truncating;
	uint64_t truncate_to;
	/* published */
	bool gate;
	uint64_t lease, serve_from, published_commit;
	State state; /* applied */
	Fetch fetch;
	Waiter waiter[CLIENTS];
	uint32_t seen[SLOTS]; /* newest connection told to the core */
	Partial partial[SLOTS];
	/* time */
	uint64_t clock_offset, stopped_us;
	double clock_rate;
	uint64_t timer_at, busy_until, stopped_until;
	Pause pause;
	bool apply_due;
	/* ghost */
	uint64_t ghost_term, ghost_voted; /* newest vote it gave */
	uint64_t ack_term, ack_pos;       /* newest position it acknowledged, to the leader of that term */
	uint64_t helped;                  /* newest committed index that counted on it */
	uint64_t last_commit, config_seen;
	bool led; /* before this step: a leader that commits its own removal steps down in the same */
} Node;

/* ---- network */
typedef struct Letter {
	uint32_t next_free;
	int from, to;
	uint32_t session;
	uint32_t last;  /* APPEND with bytes: record that holds the last of them; 0: none */
	uint64_t until; /* bytes [msg.pos, until) */
	RaftMsg msg;    /* only the used part is copied */
} Letter;

typedef struct Link {
	uint32_t session; /* of the pair; kept at [low][high] */
	bool connected;
	uint64_t blocked_until; /* this direction; 0 open */
	bool lost;              /* this direction lost something: the connection breaks */
	uint64_t last_arrival;  /* FIFO */
} Link;

typedef enum EventKind {
	EV_TIMER,
	EV_LETTER,
	EV_SYNCED,
	EV_TRUNCATE,
	EV_CLIENT,
	EV_FAULT,
	EV_OPERATOR,
	EV_START,
	EV_FETCH,
	EV_FLUSH,
	EV_CONNECT,
	EV_CONNECTED,
	EV_APPLY,
	EV_RESUME,
	EV_MARK,
	EV_GROWN
} EventKind;

typedef struct Event {
	uint64_t time;
	uint32_t seq;
	uint8_t kind, slot;
	uint16_t aux;
	uint32_t boot, number;
} Event;

/* ---- what a seed draws: every probability anew (swarm testing) */
typedef struct Profile {
	int voters, learners;
	uint32_t delay_min, delay_max, slow_ppm, slow_us; /* network */
	uint32_t drop_ppm, dup_ppm, reorder_ppm, cut_ppm, partial_ppm;
	bool silent_loss; /* else what is lost breaks the connection */
	uint32_t sync_min, sync_max, slow_sync_ppm, slow_sync_us;
	uint32_t fault_us;   /* mean time between faults */
	uint32_t weight[16]; /* of the kinds of faults */
	uint32_t crash_point_ppm;
	uint32_t skew_permille;
	uint32_t client_us, read_percent, patience_us, background_ppm;
	bool lease_reads;                      /* setting: else each read is a ReadIndex */
	uint32_t operator_us;                  /* mean time between orders of the operator; 0 none */
	uint32_t apply_lag_us, flush_us, keep; /* keep: records kept behind the flushed */
	uint32_t no_space_ppm;
	uint32_t record_max;
	uint64_t window;
	uint32_t heartbeat_us, commit_delay_us;
} Profile;

typedef struct Ballot {
	uint64_t voter, candidate;
} Ballot;

typedef enum Phase { SAFETY, LIVENESS } Phase;

typedef struct Client {
	uint32_t op, serial;
	bool busy, reading;
	int target;
	uint64_t deadline;
	uint32_t attempt;
	uint32_t inserted_op;
} Client;

typedef struct World {
	uint64_t seed, now;
	uint32_t steps, steps_max;
	Chance chance;
	Profile p;
	uint32_t without; /* kinds of faults switched off, for shrinking: bits of FaultKind */
	Phase phase;
	Node node[SLOTS];
	Link link[SLOTS][SLOTS];
	/* queue */
	uint32_t seq, nevents, events_max;
	Event *event;
	/* letters */
	Letter *letter;
	uint32_t free_letter, letters;
	/* records */
	Rec *rec;
	uint32_t nrec;
	RaftConfig *config;
	uint32_t nconfig;
	RaftConfig first_config;
	Client client[CLIENTS];
	uint32_t nops, incarnations;
	/* ghost */
	uint32_t *committed;     /* record committed at an index */
	uint64_t *committed_in;  /* term whose leader committed it */
	uint64_t *hash_at;       /* state after it */
	uint64_t *durable_of;    /* by incarnation: newest position it ever had durable */
	uint32_t ncommitted;     /* newest committed index */
	uint32_t *effect;        /* by op: record that had its effect */
	Ballot (*ballot)[SLOTS]; /* by term: who voted for whom */
	uint32_t *leader_rec;    /* by term: TERM record of its leader */
	uint64_t *leader_id;
	uint64_t max_term, max_voted;
	uint32_t seen_index; /* newest index that an answered write or read has shown */
	uint64_t answered, reads;
	/* liveness */
	uint64_t live_until, live_answered;
	uint32_t live_mask;
	uint64_t live_sum;
	uint64_t lull_until; /* no writes until then */
	bool quiet;
	/* end */
	bool done, overflow;
	jmp_buf failed;
	char invariant[64];
	char detail[256];
	/* counters for the summary */
	uint64_t crashes, elections, installs, fetches, damages, wipes, changes, partitions, pauses, truncations,
		lease_reads;
} World;

extern World W;
extern bool trace_on;

/* ---- world.c */
void world_make(void); /* memory, once */
void world_begin(uint64_t seed, uint32_t steps, uint32_t without);
/* Runs both phases. False: W.invariant and W.detail say why. */
bool world_run(void);
void push(uint64_t time, EventKind kind, int slot, uint32_t number);
void push_aux(uint64_t time, EventKind kind, int slot, uint32_t number, int aux);
Node *node_of(uint64_t id); /* NULL: no such incarnation now */
uint64_t local_now(const Node *n);
uint64_t global_time(const Node *n, uint64_t local);
uint64_t random_time(uint64_t mean);

/* ---- profile.c */
typedef enum FaultKind {
	FAULT_CRASH,
	FAULT_POWER,
	FAULT_PAUSE,
	FAULT_PAUSE_WORKER,
	FAULT_SPLIT,
	FAULT_ONE_WAY,
	FAULT_BRIDGE,
	FAULT_FLAP,
	FAULT_DAMAGE,
	FAULT_WIPE,
	FAULT_ISOLATE,
	FAULT_RESET,
	FAULT_ATTACK,
	FAULT_KINDS
} FaultKind;
void profile_draw(Profile *p, Chance *c);
void profile_print(const Profile *p);
const char *fault_name(int kind);

/* ---- record.c */
uint32_t rec_new(uint32_t prev, RecKind kind, uint64_t term, uint64_t size);
uint32_t rec_ancestor(uint32_t rec, uint32_t index);
uint64_t log_end(const Node *n);
/* Index of the record that ends at pos in the log of n; UINT32_MAX: none does. */
uint32_t log_find_end(const Node *n, uint64_t pos);
void log_append(Node *n, uint32_t rec);
void log_cut(Node *n, uint32_t last);

/* ---- disk.c */
void disk_write(Node *n, uint32_t rec);
void disk_sync_done(Node *n, uint32_t nops);
void disk_power_loss(Node *n);
void disk_damage(Node *n);
bool disk_holds(const Node *n, uint32_t rec);
/* What recovery finds: fills log, base, last. False: damage below the mark, cut. */
bool disk_recover(Node *n);

/* ---- host.c: what replication/consensus.c does around the core */
void host_event(Node *n, RaftEvent *e);
void host_message(Node *n, const Letter *l);
void host_fed(Node *n); /* tell the core of what was inserted */
void host_start_sync(Node *n);
void host_sync_done(Node *n, uint32_t number);
void host_truncate(Node *n);
/* Records as one event: APPEND or FETCHED. At most RAFT_APPEND_TERMS TERM records and one CONFIG record. */
void host_records(Node *n, RaftAppend *a, const uint32_t *rec, uint32_t count, RaftEventKind kind);
void host_timer(Node *n);
void host_arm(Node *n); /* the next EV_TIMER */
void host_fetch(Node *n, uint32_t number);
void host_log_start(Node *n);

/* ---- stream.c: log bytes in messages */
void stream_out(Node *n);
void stream_in(Node *n, const Letter *l);

/* ---- machine.c: lives and deaths */
void node_init(Node *n, int slot, bool initial);
void node_start(Node *n);
void node_stop(Node *n, bool power); /* power: what is not synced is lost in part */
void node_wipe(Node *n);
void node_install(Node *n, const State *tables);
/* The core has not been told of it yet: crash here? Then true, and the node is down. */
bool node_crash_point(Node *n);
void node_pause(Node *n, Pause kind, uint64_t us);
void node_flush(Node *n);

/* ---- net.c */
void net_send(Node *from, const RaftMsg *m, uint32_t last, uint64_t until, uint64_t leaves);
void net_arrive(Letter *l);
void net_free(Letter *l);
void net_break(int a, int b);
void net_connect(int a, int b);
void net_connected(Node *n, int peer, uint32_t session);
void net_down_all(Node *n);
void net_block(int from, int to, uint64_t until);
void net_heal_all(void);
bool net_reachable(int a, int b);
void net_tell_new_peers(Node *n);

/* ---- apply.c */
void apply_up_to(Node *n);
void apply_soon(Node *n); /* now or a little later */
void apply_state(State *s, uint32_t rec);

/* ---- client.c */
void client_event(int c);
void clients_look(Node *n); /* applied or commit moved: answer */
void clients_reads_moved(Node *n, uint64_t until_us, uint64_t index);
void clients_insert_more(Node *n); /* what backends do between two steps of the worker */
void clients_forget(Node *n);
void clients_end_reads(Node *n);

/* ---- operator.c, fault.c, live.c */
void operator_event(void);
int operator_lost(const RaftConfig *c); /* voters of c that are gone or do not vote */
bool operator_may_lose(const Node *n);
void fault_event(uint32_t number, int slot, int aux);
void fault_crash_soon(Node *n, uint64_t within);
void live_begin(void);
/* True: nothing more to wait for. */
bool live_check(void);

/* ---- check.c */
_Noreturn void sim_fail(const char *invariant, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_step(Node *n, const RaftOut *out, const RaftEvent *e);
void check_message(Node *n, const RaftMsg *m);
void check_own_vote(Node *n);
void check_cut_done(const Node *n);
/* Reads that a lease would answer now: would any be stale? */
void check_leases(void);
void check_append(const Node *n, uint32_t rec);
void check_elected(Node *n, uint32_t rec);
void check_config(Node *n, const RaftConfig *c);
void check_committed(Node *n);
void check_applied(const Node *n, uint32_t rec);
void check_truncate(const Node *n, uint64_t to);
void check_recovered(Node *n);
void check_answer(Node *n, uint32_t rec);
void check_read(const Node *n, uint32_t floor, const char *how);

/* ---- trace.c */
void trace_begin(bool on, bool full, uint32_t keep);
void trace_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void trace_print(void);
void trace_message(const char *what, const RaftMsg *m, uint64_t until);
#define TRACE(...) (trace_on ? trace_line(__VA_ARGS__) : (void) 0)

#endif
