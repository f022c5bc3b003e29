/*
 * consensus_internal.h - what the files of the consensus worker share. Private to the room.
 *
 * Reading order: consensus.c (start, the turn, stop), act.c (doing what raft says), assemble.c (a leader's
 * stream becomes whole records), admin.c (requests of people), compare.c (contents of the replicas),
 * report.c (what others are shown).
 */
#ifndef REPLICATION_CONSENSUS_INTERNAL_H
#define REPLICATION_CONSENSUS_INTERNAL_H

#include "replication/fetch.h"
#include "replication/membership.h"
#include "replication/peers.h"
#include "replication/raft.h"
#include "replication/replstate.h"
#include "storage/control.h"

/* Everything is the consensus worker's own memory. */
typedef struct Consensus {
	Raft raft;
	const Control *control;
	MembershipAt current, previous; /* as raft.config and raft.previous, with names and addresses */
	Membership proposed;            /* of the change under way; n 0: none */
	bool gate_open;
	bool alone_without_end; /* wal_alone() */
	bool term_wanted;       /* elected; the TERM record could not be put yet */
	bool truncating;
	bool fetch_ordered; /* raft has ordered a fetch and was not told that it ended */
	bool repairing;     /* tables of the leader are to take the place of ours (compare.c) */
	uint64_t last_time; /* newest log time seen in the log */
	uint64_t durable_told, end_told;
	uint64_t elections, terms_led;
	uint64_t progress_us; /* when the leader's own disk last got further, or had nothing to do */
	Lsn progress_at;
} Consensus;

extern Consensus cons;

uint64_t now_us(void);

/* ---- act.c */
/*
 * Give raft the event, then do what it says. `bytes` stand at e->append->head.pos (EV_APPEND); incoming: the
 * configuration in them, or NULL.
 */
void consensus_event(RaftEvent *e, Slice bytes, const MembershipAt *incoming);
/* Serve readers that wait for a ReadIndex round. */
void consensus_reads_turn(void);
/* The same for events without bytes. */
void consensus_tell(RaftEventKind kind, uint64_t id, uint64_t pos, uint64_t end);
/* Ask raft for a change; a refusal's text is the status detail. */
KV_CHECK Status consensus_propose(const Membership *m);
KV_CHECK Status consensus_transfer(uint64_t to);
/* What raft would say, without doing it. */
RaftProposal consensus_would(RaftEventKind kind, const RaftConfig *config, uint64_t id);
/* raft.vote to both copies of the vote file. */
void consensus_persist_vote(void);
/* Put the TERM record; false: not possible yet. REQUIRES its answer to raft before any other event. */
bool consensus_begin_term(void);
/* Put it if it is still to be put. */
void consensus_retry_term(void);
RaftConfig raft_config_of(const MembershipAt *m);
/* Everything is committed that was inserted while others did not count yet: does the node become alone again? */
void consensus_adjust_alone(void);
void consensus_close_gate(void);

/* ---- assemble.c */
/* A piece of a leader's stream. */
void assemble_piece(const PeerEvent *e);
/* An APPEND without bytes: what came before it comes first, else it claims what raft has not got. */
void assemble_empty(const RaftMsg *m);
/* What it began ended: forget the rest of a record. */
void assemble_lost(uint64_t id);
/* Give raft what is whole and has room in the ring. Called every turn. */
void assemble_feed(void);

/* ---- admin.c */
void admin_turn(void);

/* ---- compare.c: the replicas' contents (rule C7) */
void compare_turn(uint64_t us);
void compare_message(const RaftMsg *m);
/* Leader: begin a comparison. NOT_LEADER, BUSY. */
KV_CHECK Status compare_begin(void);
/* Has the newest comparison ended? Its text, and whether it found everything equal. */
bool compare_ended(bool *equal, char *text, size_t size);
/* Leader: tell the node of this name to install our tables. BAD_REQUEST with the reason. */
KV_CHECK Status compare_repair(const char *name, bool dry_run);
void compare_show(ReplView *v);

/* ---- report.c */
/* A message came from this node. */
void report_heard(uint64_t id);
void report_turn(uint64_t us);

#endif
