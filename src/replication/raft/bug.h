/*
 * bug.h - mistakes that can be switched on, one at a time, to see that tests and simulator catch them.
 *
 * Compiled in only with -DKVD_BUGS; in the server BUG() is the constant false. Each stands at the one spot
 * where it would naturally be made. The second column says who had it or which rule it breaks.
 */
#ifndef REPLICATION_RAFT_BUG_H
#define REPLICATION_RAFT_BUG_H

/* clang-format off */
#define RAFT_BUG_LIST(X)                                                                                     \
	X(COUNT_OLD_TERM,          "commits entries of an earlier term by counting: canonical/raft #220")        \
	X(OWN_NOT_DURABLE,         "leader counts its own unsynced log: NATS 2.12.1, etcd #14370")               \
	X(ACK_NOT_DURABLE,         "follower acknowledges what is not synced: NATS 2.12.1")                      \
	X(ACK_NOT_MATCHED,         "follower acknowledges what it has, not what was matched: rule L2")           \
	X(MATCHED_KEPT,            "matched is kept from an earlier leader: rule L2")                            \
	X(COMMIT_OVER_MATCHED,     "follower commits what was not matched: paper figure 2, min(leaderCommit, new)") \
	X(MAJORITY_OFF_BY_ONE,     "one less than a majority is enough")                                         \
	X(LEARNER_COUNTS,          "a learner's acknowledgement counts: redis-raft #17")                         \
	X(REMOVED_LEADER_COUNTS,   "a leader that removes itself counts itself: thesis 4.2.2")                   \
	X(VOTE_NOT_PERSISTED,      "a vote is answered before it is on disk")                                    \
	X(TERM_NOT_PERSISTED,      "a term is adopted and not written down")                                     \
	X(VOTE_TWICE,              "a second vote in a term: CCF #5891")                                         \
	X(NO_LOG_CHECK,            "votes for a candidate with an older log")                                    \
	X(STALE_VOTE_REPLY,        "counts votes of an earlier campaign")                                        \
	X(VOTES_KEPT,              "votes of the last campaign are not cleared for the next")                    \
	X(STRANGER_VOTES,          "counts votes of nodes outside the configuration: TigerBeetle #2767")         \
	X(LEARNER_VOTES,           "counts votes of learners")                                                   \
	X(PREVOTE_COUNTS_OLD,      "a granted pre-vote is counted as a vote: cockroach #123297")                 \
	X(PREV_TERM_NOT_CHECKED,   "an append is accepted without comparing what is before it")                  \
	X(OLD_LEADER_APPEND,       "an append of an older term is accepted")                                     \
	X(EQUAL_TERM_CANDIDATE,    "an append of the same term does not step a candidate down")                  \
	X(NO_TRUNCATE,             "a conflicting tail is kept: CCF #8293")                                      \
	X(TRUNCATE_ON_SHORT,       "a short or late append shortens the log: rule L4")                           \
	X(TRUNCATE_BELOW_COMMIT,   "what does not come from the leader's ring is cut away before it is fetched") \
	X(STALE_ACK_OF_OLD_TERM,   "an acknowledgement of an earlier term is counted")                           \
	X(HELLO_KEEPS_ACKED,       "acknowledgements from before a reconnect are kept: rule L5")                 \
	X(RECOVERING_VOTES,        "a node with a damaged log votes: NATS; FAST'18 protocol-aware recovery")     \
	X(RECOVERING_ACKS_COUNT,   "acknowledgements of a node with a damaged log count: rule L5")               \
	X(LATE_ANSWER_IS_UP,       "an answer that is read after its connection ended makes the peer up again")   \
	X(RECOVERED_TOO_EARLY,     "recovered at the commit of a leader that has none of its own term")          \
	X(CONFIG_BEFORE_OWN_COMMIT, "membership change before a commit in the own term: thesis erratum")         \
	X(TWO_CHANGES,             "a second membership change before the first is committed: RethinkDB 2.2.3")  \
	X(CONFIG_NOT_UNDONE,       "a truncated configuration stays in force: redis-raft #28")                   \
	X(VOTE_AFTER_CONTACT,      "votes although it has heard of a leader: rule R1")                           \
	X(VOTE_AFTER_START,        "votes right after its start: rule R1")                                       \
	X(LEASE_FROM_RECEIVE,      "lease from when the answer came: rule R2")                                   \
	X(LEASE_BEFORE_TERM_COMMIT, "lease before a commit in the own term: etcd, Consul 2014")                  \
	X(LEASE_KEPT_IN_TRANSFER,  "lease while leadership is being handed over: rule R2")                       \
	X(LEASE_AFTER_TRANSFER,    "lease after a transfer was given up, its TIMEOUT_NOW still on the way")      \
	X(READ_INDEX_REUSED,       "a read joins a round sent before it arrived: etcd #20418")                   \
	X(READ_BEFORE_TERM_COMMIT, "ReadIndex before a commit in the own term: redis-raft #19")
/* clang-format on */

#ifdef KVD_BUGS
enum {
	BUG_NONE,
#define X(name, text) BUG_##name,
	RAFT_BUG_LIST(X)
#undef X
	BUG_COUNT
};
extern int kvd_bug; /* the one that is on */
#define BUG(name) (kvd_bug == BUG_##name)
/* "COUNT_OLD_TERM"; NULL above the last. */
const char *raft_bug_name(int bug);
const char *raft_bug_text(int bug);
#else
#define BUG(name) false
#endif

#endif
