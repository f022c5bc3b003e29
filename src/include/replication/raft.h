/*
 * raft.h - Raft over the positions of one byte stream: a pure function of (state, event).
 *
 * No clock, file, socket, shared memory or allocation in here: time comes with each event, everything else that has
 * to happen is said in RaftOut. The same objects run in the server (replication/consensus.c) and in the simulator.
 *
 * A position (uint64_t) is a byte offset in the log; all positions here are record boundaries unless said otherwise,
 * and exclusive ends. Terms change only at TERM records (rule L1), so a log is described by its end and its
 * term history: (term, position of its TERM record). Two logs that have a record of the same term at the same
 * position are equal up to there. Sources: Ongaro & Ousterhout 2014 ("paper"), Ongaro's thesis 2014 ("thesis").
 *
 * Not thread-safe; one owner. All functions are total: an event that makes no sense any more (late, duplicate, from
 * a stranger) changes nothing.
 */
#ifndef REPLICATION_RAFT_H
#define REPLICATION_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/prng.h"

#define RAFT_NODES_MAX 16   /* = MEMBERSHIP_NODES_MAX */
#define RAFT_TERMS_MAX 512  /* terms remembered; a log that forks below the oldest needs a snapshot */
#define RAFT_TAIL_MAX 16    /* terms in one message */
#define RAFT_APPEND_TERMS 8 /* TERM records in one append; the host cuts appends that hold more */
#define RAFT_OUT_MESSAGES (3 * RAFT_NODES_MAX)

typedef struct RaftTerm {
	uint64_t term, start; /* position of its TERM record */
} RaftTerm;

typedef struct RaftMember {
	uint64_t id;  /* incarnation of the node; never 0 */
	bool voter;   /* else a learner: gets the log, does not count */
} RaftMember;

typedef struct RaftConfig {
	uint64_t start, end; /* of the CONFIG record that says so; 0, 0: from before the log */
	int n;
	RaftMember member[RAFT_NODES_MAX];
} RaftConfig;

/* Times: microseconds of a monotonic clock of this node. base: see rule R2, from the configuration. */
typedef struct RaftTiming {
	uint64_t election_us;  /* smallest election timeout; drawn from [1, 2) of it. Lease: 9/10 of it */
	uint64_t heartbeat_us; /* at most election_us / 4 */
	uint64_t commit_delay_us; /* an idle leader tells a new commit position at most this late */
	uint64_t window;       /* bytes sent to a follower and not yet acknowledged; at least the largest record */
} RaftTiming;

/* ---- messages ------------------------------------------------------------ */

typedef enum RaftKind {
	RAFT_PREVOTE = 1,      /* pos: end of my log, pos_term: its last term; term: the one I would take */
	RAFT_PREVOTE_REPLY,    /* flags: GRANTED; term: the asked one if granted, else mine; clock_ms */
	RAFT_VOTE,             /* as PREVOTE, term is mine now; flags: TRANSFER */
	RAFT_VOTE_REPLY,       /* flags: GRANTED; clock_ms */
	RAFT_APPEND,           /* pos, pos_term: a record of pos_term ends at pos (pos 0: nothing is claimed, only
	                          contact and commit); then the bytes up to `end`; commit; stamp_us */
	RAFT_APPEND_REPLY,     /* stamp_us as received; pos: acknowledged, durable and matched (flags RECOVERING: it
	                          does not count); end: of my log. With flags REFUSED: pos is the refused position, terms:
	                          my history below min(pos, end), newest first */
	RAFT_TIMEOUT_NOW,      /* campaign at once (thesis 3.10); stamp_us: not if a later one was seen */
	RAFT_CATCH_UP,         /* what follows your log is not in my ring: fetch it yourself. pos: where our logs part
	                          (0 with SNAPSHOT), pos_term: my term after pos, commit; flags: SNAPSHOT when
	                          the log at pos is gone and tables have to be fetched; stamp_us */
	RAFT_KINDS,
	RAFT_HOST_KINDS = 32   /* numbers from here on are the host's: raft_step() never sees them */
} RaftKind;

#define RAFT_GRANTED 1u    /* flags */
#define RAFT_TRANSFER 2u
#define RAFT_REFUSED 4u
#define RAFT_RECOVERING 8u
#define RAFT_SNAPSHOT 16u
#define RAFT_OWN_TERM 32u  /* APPEND: the leader has committed in its own term: commit is the newest there can be */

typedef struct RaftMsg {
	uint8_t kind;          /* RaftKind */
	uint32_t flags;
	uint64_t from, to;     /* ids */
	uint64_t term;
	uint64_t pos, pos_term;
	uint64_t end;
	uint64_t commit;
	uint64_t stamp_us;     /* leader's clock when it sent; opaque to others, echoed */
	uint64_t clock_ms;     /* wall clock of who votes; the host fills it in before sending (rule T2) */
	uint32_t nterms;
	RaftTerm terms[RAFT_TAIL_MAX];
} RaftMsg;

/* ---- events -------------------------------------------------------------- */

typedef enum RaftEventKind {
	RAFT_EV_TICK,          /* time has passed; at the latest at raft_deadline_us() */
	RAFT_EV_MESSAGE,       /* any message but an APPEND with bytes */
	RAFT_EV_APPEND,        /* an APPEND and its bytes: whole records, checked, terms chained (L1). The host has room
	                          for them: what raft accepts, it puts into the log before the next event */
	RAFT_EV_TERM_BEGUN,    /* answer to out.begin_term, before any other event: its TERM record is at [pos, end) */
	RAFT_EV_APPENDED,      /* leader: the log has grown to `end` by records of the own term. Also right after a step
	                          that gave out close_gate, in whatever role by now: what came in before the gate closed */
	RAFT_EV_CONFIG_APPENDED, /* leader: answer to out.append_config, before any other event: `config`, start, end */
	RAFT_EV_CONFIG_FAILED, /* leader: it could not be appended (no space): forget it */
	RAFT_EV_DURABLE,       /* local durable position is `end` (may also have fallen: truncation) */
	RAFT_EV_TRUNCATED,     /* answer to out.truncate */
	RAFT_EV_FETCHED,       /* follower: what was fetched from the leader's committed log is in ours: append.pos ..
	                          append.end, terms, config; head.commit as the leader told it. None comes after
	                          out.stop_fetch or another fetch */
	RAFT_EV_FETCH_ENDED,   /* follower: the fetch is over, done or failed; the next CATCH_UP may start another */
	RAFT_EV_PEER_UP,       /* id: a new connection to it (its log may be shorter than it was, L5). What was sent over
	                          earlier ones is not delivered any more */
	RAFT_EV_PEER_DOWN,     /* id */
	RAFT_EV_PROPOSE,       /* leader: make `config` the configuration; answer in out.proposal */
	RAFT_EV_TRANSFER,      /* leader: hand over to id (0: whoever is furthest; self: to nobody, step down, G6);
	                          answer in out.proposal */
	RAFT_EV_READ,          /* leader: confirm leadership for reads that arrived until now */
	RAFT_EV_LOG_START      /* leader: positions from `pos` on can be streamed (ring), from `end` on fetched (files).
	                          pos <= commit: only committed log can be fetched, the rest must be streamable */
} RaftEventKind;

typedef struct RaftAppend {
	RaftMsg head;          /* kind APPEND; pos .. end are the bytes of this event */
	uint32_t nterms;
	RaftTerm terms[RAFT_APPEND_TERMS]; /* TERM records in [pos, end), oldest first */
	bool has_config;       /* at most one CONFIG record in an event; it is `config` (start, end set) */
	RaftConfig config;
} RaftAppend;

typedef struct RaftEvent {
	RaftEventKind kind;
	uint64_t now_us;
	uint64_t id;
	uint64_t pos, end;
	const RaftMsg *msg;          /* MESSAGE */
	const RaftAppend *append;    /* APPEND, FETCHED */
	const RaftConfig *config;    /* CONFIG_APPENDED, PROPOSE */
} RaftEvent;

/* ---- what has to be done, in this order ------------------------------------ */

typedef enum RaftProposal {
	RAFT_NO_ANSWER,
	RAFT_ACCEPTED,
	RAFT_NOT_LEADER,
	RAFT_NOT_YET,          /* nothing committed in the own term yet, or another change or transfer is under way */
	RAFT_TOO_MUCH,         /* more than one member differs, or a new voter was no learner */
	RAFT_NOT_CAUGHT_UP,    /* learner to be promoted is behind */
	RAFT_NO_QUORUM,        /* without it the voters that answer would be no majority */
	RAFT_UNKNOWN_NODE
} RaftProposal;

typedef struct RaftOut {
	bool close_gate;       /* 1. nothing may be inserted any more; publish lease 0 */
	bool persist;          /* 2. raft->vote on disk, synced, before anything below */
	bool accept;           /* 3. put the event's bytes [accept_from, accept_to) at the log's end */
	uint64_t accept_from, accept_to;
	bool truncate;         /* 4. cut the log at truncate_to (asynchronous; TRUNCATED when done). Appends are refused
	                             until then */
	uint64_t truncate_to;
	bool fetch;            /* 5. fetch committed log from fetch_from (or a snapshot) from node fetch_id; replaces an
	                             earlier fetch. stop_fetch: none is wanted any more */
	bool fetch_snapshot, stop_fetch;
	uint64_t fetch_id, fetch_from, fetch_until;
	bool begin_term;       /* 6. elected: put the TERM record of raft->vote.term at the end, TERM_BEGUN */
	bool append_config;    /* 7. insert a CONFIG record of `config`, CONFIG_APPENDED */
	RaftConfig config;
	bool open_gate;        /* 8. after TERM_BEGUN, or when a transfer was given up */
	bool commit_moved;     /* 9. publish raft->commit */
	bool lease_moved;      /* 10. publish raft_lease_us() (before the messages: a transfer ends the lease first, R2) */
	bool reads_moved;      /* 11. ReadIndex: reads that arrived before reads_until_us are confirmed at reads_index */
	uint64_t reads_until_us, reads_index;
	int nmessages;         /* 12. */
	RaftMsg message[RAFT_OUT_MESSAGES];
	RaftProposal proposal; /* answer to PROPOSE, TRANSFER */
	const char *note;      /* for the log, static; NULL nothing */
} RaftOut;

/* ---- state --------------------------------------------------------------- */

typedef enum RaftRole { RAFT_FOLLOWER, RAFT_PRECANDIDATE, RAFT_CANDIDATE, RAFT_LEADER } RaftRole;

typedef enum RaftPeerMode {
	RAFT_PROBE,     /* its log is not known: an empty APPEND asks */
	RAFT_STREAM,    /* gets what follows `next` */
	RAFT_CATCHUP,   /* fetches by itself; acknowledgements tell when it is back */
	RAFT_INSTALL    /* the same, with tables */
} RaftPeerMode;

typedef struct RaftPeer {
	uint64_t id;
	bool up;
	RaftPeerMode mode;
	uint64_t acked;        /* acknowledged in this leadership; counts toward commit (0 while it is recovering) */
	uint64_t seen;         /* acknowledged, also by one that is recovering: for flow control and views */
	uint64_t next;         /* STREAM: first byte not sent yet; any byte position */
	uint64_t probe;        /* PROBE: position asked about; STREAM: where it began; CATCHUP: where our logs part */
	uint64_t refused;      /* where it differed when it was asked last; 0 nowhere */
	uint64_t echo_us;      /* newest own stamp it has answered: the lease runs from here (R2) */
	uint64_t heard_us;     /* when the newest message came */
	uint64_t sent_us;      /* when an APPEND was last made */
	uint64_t told_commit;
	uint64_t end;          /* of its log, as it said last */
	uint64_t answer_us;    /* when its newest answer came that counts (CheckQuorum) */
	uint64_t bytes_us;     /* STREAM: when bytes were last sent */
	uint64_t up_us;        /* PEER_UP: positions in answers to what was sent before are of an older log */
	uint64_t since_us;     /* in this mode since: refusals of what was sent before are old news */
	uint64_t tell_us;      /* the new commit position is told at the latest then; 0 nothing to tell */
	bool poke;             /* gets an APPEND or CATCH_UP at the end of this step */
	uint64_t round_end, round_us; /* learner: thesis 4.2.1 */
	bool caught_up;
	bool granted, answered; /* candidate: its vote */
	uint64_t clock_ms;      /* its wall clock with the vote */
	bool clock_known;
} RaftPeer;

typedef struct RaftVote {
	uint64_t term, voted_for;
	bool recovering;       /* L5 */
} RaftVote;

typedef struct Raft {
	/* -- read by the host */
	uint64_t self;
	RaftVote vote;         /* persist before anything that depends on it */
	RaftRole role;
	uint64_t leader;       /* 0 not known */
	uint64_t commit;
	RaftConfig config;     /* newest in the log (C2) */
	bool transferring;
	/* -- private */
	RaftTiming timing;
	Prng prng;
	RaftConfig previous;   /* in force if `config` is truncated */
	uint64_t end, durable; /* of the own log */
	uint64_t matched;      /* L2: equal to the leader's log in this term */
	uint32_t nterms;       /* oldest first */
	RaftTerm terms[RAFT_TERMS_MAX];
	uint64_t forgotten;    /* positions below: term not known; 0: the log's first record is known */
	bool truncating;
	uint64_t truncate_to;
	uint64_t term_end;     /* leader: end of the own TERM record; commit below it counts for nothing */
	uint64_t contact_us;   /* of a leader, or the start (R1) */
	uint64_t deadline_us;  /* follower: campaign; candidate: again */
	uint64_t quorum_us;    /* leader: checks that a majority answers (CheckQuorum) */
	uint64_t transfer_to, transfer_until_us;
	uint64_t timeout_us;   /* stamp of the newest TIMEOUT_NOW of this term; 0 none */
	uint64_t read_us;      /* leader: newest read waiting; 0 none */
	uint64_t read_round_us; /* stamp of the round sent for reads that is not confirmed yet; 0 none */
	uint64_t stamp_us;     /* follower: newest stamp of the leader */
	uint64_t told_ack;     /* follower: newest position acknowledged to the leader */
	uint64_t retry_us;     /* leader: no promotion by itself before */
	uint64_t recover_to;   /* L5: commit of a leader that has committed in its own term; 0 not heard yet */
	uint64_t stream_start, log_start;
	bool fetching, fetch_snapshot;
	uint64_t fetch_id;
	bool config_pending;   /* leader: append_config was given out */
	bool force;            /* campaign of TIMEOUT_NOW */
	int npeers;
	RaftPeer peer[RAFT_NODES_MAX]; /* members but self, in the order of `config` */
} Raft;

typedef struct RaftStart {
	uint64_t self, seed, now_us;
	RaftVote vote;
	RaftTiming timing;
	RaftConfig config, previous; /* previous.n 0: none */
	uint64_t end, durable, commit;
	const RaftTerm *terms; /* oldest first */
	uint32_t nterms;
	uint64_t first;        /* the log's first position there ever was: below it there is no term (0) */
} RaftStart;

/* ---- functions ----------------------------------------------------------- */

/*
 * If r->vote differs from s->vote afterwards (the log was of a newer term than the vote file), the host
 * persists it before the first event.
 */
void raft_init(Raft *r, const RaftStart *s);
/* Fills *out (all of it). */
void raft_step(Raft *r, const RaftEvent *e, RaftOut *out);
/* Before this time nothing happens by itself. */
uint64_t raft_deadline_us(const Raft *r);
/*
 * What to send to the peer next: STREAM, up, bytes left in its window. *head is the APPEND (end not set), bytes
 * [head->pos, *to) may follow it, as many as the host likes from the front; then raft_sent(). The host asks for
 * each peer whose connection takes bytes, after every step.
 */
bool raft_next_send(const Raft *r, uint64_t id, uint64_t now_us, RaftMsg *head, uint64_t *to);
void raft_sent(Raft *r, uint64_t id, uint64_t now_us, uint64_t to);
/* Until when (own clock) reads may be answered without asking; 0 none, UINT64_MAX for a single voter. */
uint64_t raft_lease_us(const Raft *r);
/* What is applied from here on answers reads of this leadership (its TERM record's end); UINT64_MAX: no leader. */
uint64_t raft_serve_from(const Raft *r);
/*
 * Elected: the most that log time may step to: median of the voters' wall clocks, with the own one (rule T2).
 * own_ms if it is the only one.
 */
uint64_t raft_clock_ms(const Raft *r, uint64_t own_ms);
/* Smallest position a follower may still need, also one that is away (0: not heard of yet); `end` if none. */
uint64_t raft_needed(const Raft *r);
/* Term of the record that ends at pos / starts at pos; 0: none or not known. */
uint64_t raft_term_before(const Raft *r, uint64_t pos);
uint64_t raft_term_at(const Raft *r, uint64_t pos);
const RaftPeer *raft_peer(const Raft *r, uint64_t id);
bool raft_is_voter(const RaftConfig *c, uint64_t id);
int raft_voters(const RaftConfig *c);
const char *raft_role_name(RaftRole role);
const char *raft_proposal_text(RaftProposal p);

#endif
