/*
 * raft_internal.h - what the files of this room share. README.md says which file is about what.
 */
#ifndef REPLICATION_RAFT_INTERNAL_H
#define REPLICATION_RAFT_INTERNAL_H

#include <stddef.h>

#include "replication/raft.h"

/* One call of raft_step(). */
typedef struct Step {
	Raft *r;
	uint64_t now;
	RaftOut *out;
} Step;

/* ---- raft.c: messages, time */
/* A message to `to` in the current term; the rest is zero. Valid until the next one. */
RaftMsg *raft_say(Step *s, RaftKind kind, uint64_t to);
/* `base` to twice of it from now on. */
uint64_t raft_random_timeout(Step *s, uint64_t base);

/* ---- role.c */
/* A newer term was seen. leader 0: not known. */
void raft_adopt_term(Step *s, uint64_t term);
/* Follower in the current term. */
void raft_become_follower(Step *s, uint64_t leader);
void raft_become_leader(Step *s);
/* An APPEND or CATCH_UP came from the leader of this term. False: it has to be ignored. */
bool raft_heard_leader(Step *s, const RaftMsg *m);
void raft_stop_fetching(Step *s);
void raft_raise_commit(Step *s, uint64_t to);

/* ---- election.c */
void raft_campaign(Step *s, bool force);
void raft_on_prevote(Step *s, const RaftMsg *m);
void raft_on_prevote_reply(Step *s, const RaftMsg *m);
void raft_on_vote(Step *s, const RaftMsg *m);
void raft_on_vote_reply(Step *s, const RaftMsg *m);

/* ---- append.c, fetch.c: follower */
/* a NULL: an APPEND without bytes. */
void raft_on_append(Step *s, const RaftMsg *m, const RaftAppend *a);
void raft_acknowledge(Step *s, uint64_t stamp_us);
void raft_refuse(Step *s, const RaftMsg *m, uint64_t pos);
void raft_cut_log(Step *s, uint64_t at);
void raft_extend_log(Step *s, const RaftAppend *a, uint64_t from);
/* First position where the log differs from what is in `a`; UINT64_MAX if it does not as far as both go. */
uint64_t raft_conflict(const Raft *r, const RaftAppend *a);
/* durable or matched has moved: L5, and tell the leader. */
void raft_follower_progress(Step *s);
void raft_on_catch_up(Step *s, const RaftMsg *m);
void raft_on_fetched(Step *s, const RaftAppend *a);

/* ---- progress.c, catchup.c: leader */
void raft_on_append_reply(Step *s, const RaftMsg *m);
void raft_peer_reset(Step *s, RaftPeer *p);
void raft_peer_probe(Step *s, RaftPeer *p, uint64_t pos);
void raft_peer_stream(Step *s, RaftPeer *p, uint64_t next);
/* Its log and ours are equal up to `fork` and, as far as is known, not further. */
void raft_peer_follow_from(Step *s, RaftPeer *p, uint64_t fork);
void raft_peer_refused(Step *s, RaftPeer *p, const RaftMsg *m);
/* What messages of this step are stamped with: now, or just after it for a round that was sent for reads. */
uint64_t raft_stamp(const Raft *r, uint64_t now);
/* Sends what is due, to each peer at most one. */
void raft_keep_alive(Step *s);
uint64_t raft_alive_due(const Raft *r, const RaftPeer *p);
void raft_log_start(Step *s, uint64_t stream, uint64_t fetch);

/* ---- commit.c */
/* Of n numbers, one for each voter, the largest that a majority has reached. Sorts them. */
uint64_t raft_majority(uint64_t *number, int n);
bool raft_own_committed(const Raft *r);
/*
 * For each voter of the configuration what `of` says; self for this node. Majority of it; UINT64_MAX without
 * voters.
 */
typedef uint64_t (*RaftOf)(const RaftPeer *p);
uint64_t raft_majority_of(const Raft *r, RaftOf of, uint64_t self);
void raft_try_commit(Step *s);
/* CheckQuorum: when this leader steps down if nobody answers until then; UINT64_MAX for a single voter. */
uint64_t raft_quorum_until(const Raft *r);

/* ---- read.c */
void raft_on_read(Step *s);
void raft_answer_reads(Step *s);

/* ---- transfer.c */
void raft_on_transfer(Step *s, uint64_t to);
void raft_transfer_go_on(Step *s);
bool raft_timeout_now_due(const Raft *r);
/* A TIMEOUT_NOW of this term may still be on its way. */
bool raft_transfer_in_flight(const Raft *r);
void raft_on_timeout_now(Step *s, const RaftMsg *m);

/* ---- membership.c */
RaftPeer *raft_find_peer(Raft *r, uint64_t id);
const RaftMember *raft_find_member(const RaftConfig *c, uint64_t id);
bool raft_only_voter(const Raft *r);
/* Peers follow the configuration; those that stay keep what is known of them. */
void raft_sync_peers(Step *s);
void raft_config_set(Step *s, const RaftConfig *c);
void raft_config_undo(Step *s);
void raft_on_propose(Step *s, const RaftConfig *c);
void raft_learner_round(Step *s, RaftPeer *p);
void raft_promote_learners(Step *s);
/* Leader: what follows from a configuration being committed. */
void raft_config_committed(Step *s);

/* ---- history.c */
void raft_history_push(Raft *r, uint64_t term, uint64_t start);
void raft_history_cut(Raft *r, uint64_t at);
uint64_t raft_last_term(const Raft *r);
/* Newest first, terms that start below `below`; how many. */
uint32_t raft_history_tail(const Raft *r, uint64_t below, RaftTerm *out);
/*
 * Where this log and one with `theirs` (newest first) below `end` part. Exact if they have one of these
 * terms in common; else the oldest start listed: above it they may differ.
 */
uint64_t raft_history_fork(const Raft *r, uint64_t end, const RaftTerm *theirs, uint32_t n, bool *exact);
/* Whether raft_term_before(pos) is an answer. */
bool raft_history_knows(const Raft *r, uint64_t pos);

#endif
