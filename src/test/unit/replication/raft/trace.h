/*
 * trace.h - a language for stories about Raft: a few nodes, their logs and disks, and messages that go where the
 * story says. One world at a time; time stands still unless the story lets it pass.
 *
 * Nodes are 1 .. n. A log starts at FIRST; every record is RECORD bytes long. Disks sync at once, unless told to
 * be slow. Watched all the time: one leader in a term; what is committed stays so, on every node, whatever happens.
 *
 * Each story names the mistakes (bug.h) that it must notice: it is run once for each of them and has to fail.
 */
#ifndef RAFT_TRACE_H
#define RAFT_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "bug.h"
#include "replication/raft.h"

#define FIRST UINT64_C(64)
#define RECORD UINT64_C(8)
#define AT(n) (FIRST + (n) *RECORD) /* after n records */
#define MS UINT64_C(1000)
#define ELECTION (1000 * MS)
#define HEARTBEAT (100 * MS)
#define COMMIT_DELAY (5 * MS)
#define WINDOW (16 * RECORD)
#define NODES 6

/* ---- stories */
typedef struct Story {
	const char *name;
	void (*tell)(void);
	int bugs[8]; /* BUG_x, ended by 0 */
} Story;

int stories_run(const Story *story, int n);
#define STORIES_RUN(table) stories_run(table, (int) (sizeof(table) / sizeof((table)[0])))

/* Where the story is, said with a CHECK that fails. */
void story_says(const char *what);
void check_failed(const char *expr, const char *file, int line);
#define CHECK(expr) ((expr) ? (void) 0 : check_failed(#expr, __FILE__, __LINE__))

/* ---- the world */
/* `voters` voters, and as many learners; blank logs, no leader yet. Links are up. */
void nodes(int voters, int learners);
Raft *node(int id);
uint64_t now_us(void);

/* ---- time and messages */
/* Deliver everything that is under way, and what comes of it. */
void settle(void);
/* Time passes; nodes tick when they are due, messages take no time. */
void pass(uint64_t us);
/* Time passes, and nobody notices. */
void wait_blind(uint64_t us);
void tick(int id);
/* Steps since the start of the story. */
int steps(void);

/* Cut or mend the link in both directions / one direction. */
void cut(int a, int b);
void cut_one_way(int from, int to);
void mend(int a, int b);
void isolate(int id);
void rejoin(int id);
/* Messages of this kind are kept back until release(), which puts them under way again. */
void hold(RaftKind kind);
void release(void);
/* What was sent last of this kind: NULL none since the start of the story. */
const RaftMsg *last_sent(RaftKind kind, int from, int to);
int sent_count(RaftKind kind, int from, int to);

/* ---- events */
/* It has not heard of a leader for long and campaigns; everything that follows happens. Must win. */
void elect(int id);
/* The same, without anything else said about how it ends. */
void campaign(int id);
/* The leader puts so many records into its log, and they are sent. */
void write_records(int id, int n);
/* As above, but nothing leaves and nothing is synced yet. */
void append_quietly(int id, int n);
void slow_disk(int id);
/* All of its log is synced, and from now on at once again. */
void sync_disk(int id);
/* A truncation takes until the story says finish_cut(). */
void slow_cut(int id);
void finish_cut(int id);
void crash(int id);
/* Comes back with what was durable. */
void restart(int id);
/* Comes back with a log that was damaged from `end` on (L5). */
void restart_damaged(int id, uint64_t end);
void connect_again(int leader, int peer);
/* Only this node notices; what is under way arrives nevertheless. */
void disconnect(int id, int peer);
RaftProposal transfer(int id, int to);
RaftProposal propose(int id, const RaftConfig *c);
RaftConfig with_learner(int id, int learner);
RaftConfig with_voter(int id, int voter);
RaftConfig without(int id, int member);
void ask_to_read(int id);
/* Its ring begins at `stream`, its files at `fetch`. */
void log_start(int id, uint64_t stream, uint64_t fetch);
/* What it has been told to fetch arrives from `from`, up to `until` (at most what is committed there). */
void fetched(int id, int from, uint64_t until);
void fetch_ended(int id);

/* Hand a message to a node, made by the story: from, term, and more by the fields of the result before give(). */
RaftMsg message(RaftKind kind, int from, int to, uint64_t term);
void give(const RaftMsg *m);
/* Bytes from somebody else's log: [pos, end) of node `of`, in the name of `from`. */
void give_bytes(int of, int from, int to, uint64_t term, uint64_t pos, uint64_t end);
/* What the last step of this node said. */
const RaftOut *out(int id);
/* Its answer of this kind in that step: there is one. */
const RaftMsg *answer(int id, RaftKind kind);

/* ---- what can be seen */
bool leads(int id);
bool gate_open(int id);
uint64_t log_end(int id);
uint64_t term(int id);
/* Term that the disk has: what a restart would find. */
uint64_t disk_term(int id);
uint64_t disk_vote(int id);
bool same_log(int a, int b);
bool fetching(int id);
bool fetching_tables(int id);
/* Newest read that was confirmed to a host; reads before it may be answered from reads_index(). */
uint64_t reads_until(int id);
uint64_t reads_index(int id);

#endif
