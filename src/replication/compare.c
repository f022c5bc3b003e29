/*
 * compare.c - do the replicas hold the same? (rule C7), the consensus worker's part.
 *
 * Consensus worker only. The leader begins a comparison, regularly and when asked: a HASH record in the
 * log. Each node's checker process hashes its contents as of that record and tells this worker, which tells
 * the leader; the leader judges (check.c), raises or lifts the alarm. A node that is told to repair itself
 * orders the leader's tables, which take the place of its own at a restart; its log stays.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/elog.h"
#include "consensus_internal.h"
#include "port/clock.h"
#include "replication/check.h"
#include "storage/kvstore.h"

#define REPAIR_RETRY_US UINT64_C(2000000)

static CheckRound current;   /* leader: the newest comparison */
static CheckVerdict verdict; /* the newest that has ended */
static char verdict_text[160];
static bool announced = true; /* `current` has ended and was told */
static uint64_t verdict_ms;   /* wall clock */
static uint64_t begun_us;     /* when the last one was begun, or this node began to lead */

Status
compare_begin(void)
{
	Lsn lsn;

	if (cons.raft.role != RAFT_LEADER || !cons.gate_open)
		return status_fail(ST_NOT_LEADER, "%s", "");
	KV_TRY(kvstore_insert_hash(wal_generation(), &lsn));
	check_begin(&current, lsn, &cons.current.members, now_us() / 1000);
	announced = false;
	begun_us = now_us();
	return ST_OK;
}

bool
compare_ended(bool *equal, char *text, size_t size)
{
	if (!announced)
		return false;
	*equal = verdict.outcome == CHECK_AGREE;
	snprintf(text, size, "%s", verdict_text);
	return true;
}

Status
compare_repair(const char *name, bool dry_run)
{
	RaftMsg m = { .from = cons.raft.self, .term = cons.raft.vote.term };
	uint64_t id;

	if (cons.raft.role != RAFT_LEADER)
		return status_fail(ST_NOT_LEADER, "%s", "");
	KV_TRY(check_may_repair(&verdict, &cons.current.members, cons.raft.self, name, &id));
	if (dry_run)
		return ST_OK;
	check_repair_put(verdict.lsn, &m);
	m.to = id;
	peers_send(&m);
	return ST_OK;
}

/* ---- leader */

static void
judge(void)
{
	CheckVerdict v;

	if (announced || current.lsn == 0)
		return;
	v = check_judge(&current, now_us() / 1000);
	if (v.outcome == CHECK_WAITING || v.outcome == CHECK_NONE)
		return;
	announced = true;
	verdict = v;
	verdict_ms = clock_wall_ms();
	check_text(&v, &current, verdict_text, sizeof verdict_text);
	elog(v.outcome == CHECK_AGREE     ? LOG_LEVEL_INFO
		 : v.outcome == CHECK_UNKNOWN ? LOG_LEVEL_WARNING
									  : LOG_LEVEL_ERROR,
		 "%s", verdict_text);
}

static void
lead(uint64_t us)
{
	static uint64_t term;
	CheckReport own;

	if (term != cons.raft.vote.term) {
		term = cons.raft.vote.term;
		begun_us = us;
		announced = true;
	}
	if (!announced && check_own(&own) && own.lsn == current.lsn)
		check_report(&current, cons.raft.self, &own);
	judge();
	if (config.hash_check_interval > 0 && cons.current.members.n > 1 && announced &&
		us - begun_us >= (uint64_t) config.hash_check_interval * 1000) {
		begun_us = us;
		if (compare_begin() != ST_OK)
			elog(LOG_LEVEL_DEBUG, "contents not compared now: %s", status_detail());
	}
}

/* ---- follower */

/* Reports may be lost: the newest is repeated for a while. */
static void
tell_leader(uint64_t us)
{
	static uint64_t lsn, first_us, next_us;
	RaftMsg m = { .from = cons.raft.self, .to = cons.raft.leader, .term = cons.raft.vote.term };
	CheckReport own;

	if (cons.raft.leader == 0 || !check_own(&own))
		return;
	if (own.lsn != lsn) {
		lsn = own.lsn;
		first_us = next_us = us;
	}
	if (us < next_us || us - first_us > CHECK_FORGET_MS * UINT64_C(1000))
		return;
	next_us = us + CHECK_REPEAT_MS * UINT64_C(1000);
	check_report_put(&own, &m);
	peers_send(&m);
}

static void
order_repair(uint64_t us)
{
	static uint64_t tried_us;
	const Member *leader = membership_find(&cons.current.members, cons.raft.leader);
	FetchOrder o = { .from = cons.end_told, .until = cons.raft.commit, .snapshot = true, .repair = true };

	if (!cons.repairing || fetch_active() || leader == NULL || us - tried_us < REPAIR_RETRY_US)
		return;
	tried_us = us;
	memcpy(o.address, leader->client_address, sizeof o.address);
	fetch_order(&o);
}

static void
begin_repair(void)
{
	if (cons.repairing)
		return;
	elog(LOG_LEVEL_ERROR,
		 "the contents of this node differ from the majority's: installing the leader's tables");
	cons.repairing = true;
	consensus_persist_vote(); /* as after damage: it takes part again when it has all that is committed (rule L5) */
}

/* ---- both */

void
compare_message(const RaftMsg *m)
{
	CheckReport report;
	uint64_t lsn;

	if (m->kind == CHECK_MSG_REPORT && check_report_get(m, &report)) {
		if (cons.raft.role == RAFT_LEADER && !announced)
			check_report(&current, m->from, &report);
	} else if (m->kind == CHECK_MSG_REPAIR && check_repair_get(m, &lsn)) {
		if (m->from == cons.raft.leader && m->term == cons.raft.vote.term && cons.raft.role == RAFT_FOLLOWER)
			begin_repair();
	}
}

void
compare_turn(uint64_t us)
{
	if (cons.raft.role == RAFT_LEADER) {
		lead(us);
		return;
	}
	announced = true;
	tell_leader(us);
	order_repair(us);
}

void
compare_show(ReplView *v)
{
	CheckReport own;

	if (check_own(&own)) {
		v->hash_lsn = own.lsn;
		v->hash = own.hash;
		v->hash_entries = own.entries;
	}
	v->hash_ms = verdict_ms;
	v->hash_agree = verdict.agree;
	v->hash_asked = verdict.asked;
	v->alarm = REPL_NO_ALARM;
	v->alarm_text[0] = '\0';
	if (cons.raft.role == RAFT_LEADER &&
		(verdict.outcome == CHECK_DIFFERS || verdict.outcome == CHECK_NO_MAJORITY)) {
		v->alarm = REPL_ALARM_DIFFERS;
		snprintf(v->alarm_text, sizeof v->alarm_text, "%s", verdict_text);
	}
}
