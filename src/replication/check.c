/*
 * check.c - one round of comparing contents: messages, judgement, who may be repaired (rule C7). Pure.
 *
 * Run by the consensus worker of the leader. What counts as right is what a majority of all voters has,
 * answered or not: two of three that agree outvote the third, one of three that answered proves nothing.
 * Learners are compared but do not vote.
 */
#include <stdio.h>
#include <string.h>

#include "replication/check.h"

/* ---- messages */
#define FAILED 1u /* RaftMsg.flags of a report */
#define DAMAGED 2u

void
check_report_put(const CheckReport *r, RaftMsg *m)
{
	m->kind = CHECK_MSG_REPORT;
	m->flags = (r->failed ? FAILED : 0) | (r->damaged ? DAMAGED : 0);
	m->pos = r->lsn;
	m->end = r->hash;
	m->commit = r->entries;
}

bool
check_report_get(const RaftMsg *m, CheckReport *out)
{
	if (m->kind != CHECK_MSG_REPORT)
		return false;
	*out = (CheckReport){ .lsn = m->pos,
						  .failed = (m->flags & FAILED) != 0,
						  .damaged = (m->flags & DAMAGED) != 0,
						  .hash = m->end,
						  .entries = m->commit };
	return true;
}

void
check_repair_put(uint64_t lsn, RaftMsg *m)
{
	m->kind = CHECK_MSG_REPAIR;
	m->pos = lsn;
}

bool
check_repair_get(const RaftMsg *m, uint64_t *lsn)
{
	*lsn = m->pos;
	return m->kind == CHECK_MSG_REPAIR;
}

/* ---- a round */
void
check_begin(CheckRound *r, uint64_t lsn, const Membership *m, uint64_t now_ms)
{
	memset(r, 0, sizeof *r);
	r->lsn = lsn;
	r->begun_ms = now_ms;
	r->members = *m;
}

void
check_report(CheckRound *r, uint64_t id, const CheckReport *report)
{
	if (r->lsn == 0 || report->lsn != r->lsn)
		return;
	for (int i = 0; i < r->members.n; i++) {
		if (r->members.node[i].incarnation != id || r->answered[i])
			continue;
		r->answered[i] = true;
		r->report[i] = *report;
	}
}

static bool
told(const CheckRound *r, int i)
{
	return r->answered[i] && !r->report[i].failed && !r->report[i].damaged;
}

static bool
same(const CheckReport *a, const CheckReport *b)
{
	return a->hash == b->hash && a->entries == b->entries;
}

/* Voters that say what node i says. */
static int
votes(const CheckRound *r, int i)
{
	int n = 0;

	for (int k = 0; k < r->members.n; k++)
		n += r->members.node[k].voter && told(r, k) && same(&r->report[k], &r->report[i]);
	return n;
}

/* A node that says what a majority of the voters says; -1 there is none. */
static int
majority(const CheckRound *r)
{
	for (int i = 0; i < r->members.n; i++)
		if (told(r, i) && votes(r, i) > membership_voters(&r->members) / 2)
			return i;
	return -1;
}

/* Do two nodes say different things, or is one damaged? */
static bool
disagree(const CheckRound *r)
{
	int first = -1;

	for (int i = 0; i < r->members.n; i++) {
		if (r->answered[i] && r->report[i].damaged)
			return true;
		if (!told(r, i))
			continue;
		if (first >= 0 && !same(&r->report[first], &r->report[i]))
			return true;
		first = i;
	}
	return false;
}

CheckVerdict
check_judge(const CheckRound *r, uint64_t now_ms)
{
	CheckVerdict v = { .lsn = r->lsn, .asked = r->members.n };
	int right;

	if (r->lsn == 0)
		return v;
	for (int i = 0; i < r->members.n; i++)
		v.answered += r->answered[i];
	if (v.answered < v.asked && now_ms - r->begun_ms < CHECK_ROUND_MS) {
		v.outcome = CHECK_WAITING;
		return v;
	}
	right = majority(r);
	if (right < 0) {
		v.outcome = disagree(r) ? CHECK_NO_MAJORITY : CHECK_UNKNOWN;
		return v;
	}
	v.hash = r->report[right].hash;
	v.entries = r->report[right].entries;
	for (int i = 0; i < r->members.n; i++) {
		if (!r->answered[i] || r->report[i].failed)
			continue;
		if (told(r, i) && same(&r->report[i], &r->report[right]))
			v.agree++;
		else
			v.differ[v.ndiffer++] = r->members.node[i].incarnation;
	}
	v.outcome = v.ndiffer > 0 ? CHECK_DIFFERS : CHECK_AGREE;
	return v;
}

/* ---- for people */
static void
names_of(const CheckVerdict *v, const CheckRound *r, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < v->ndiffer && n < size; i++) {
		const Member *m = membership_find(&r->members, v->differ[i]);

		n += (size_t) snprintf(out + n, size - n, "%s%s", i > 0 ? ", " : "", m != NULL ? m->name : "?");
	}
}

void
check_text(const CheckVerdict *v, const CheckRound *r, char *out, size_t size)
{
	unsigned long long lsn = v->lsn;
	char names[128];

	switch (v->outcome) {
	case CHECK_NONE:
		snprintf(out, size, "contents were not compared yet");
		break;
	case CHECK_WAITING:
		snprintf(out, size, "comparing contents as of %llu: %d of %d nodes have answered", lsn, v->answered,
				 v->asked);
		break;
	case CHECK_AGREE:
		snprintf(out, size, "as of %llu %d of %d nodes hold the same %llu entries", lsn, v->agree, v->asked,
				 (unsigned long long) v->entries);
		break;
	case CHECK_DIFFERS:
		names_of(v, r, names, sizeof names);
		snprintf(out, size, "%s differ%s from the other nodes as of %llu: kvctl cluster repair %s", names,
				 v->ndiffer == 1 ? "s" : "", lsn, v->ndiffer == 1 ? names : "NODE");
		break;
	case CHECK_NO_MAJORITY:
		snprintf(out, size,
				 "the nodes hold different contents as of %llu, and no majority agrees: restore a backup",
				 lsn);
		break;
	case CHECK_UNKNOWN:
		snprintf(out, size, "too few nodes could tell what they held as of %llu (%d of %d answered)", lsn,
				 v->answered, v->asked);
		break;
	}
}

/* ---- repair */
static Status
refuse(const char *why, const char *name)
{
	return status_fail(ST_BAD_REQUEST, "%s cannot be repaired: %s", name, why);
}

Status
check_may_repair(const CheckVerdict *v, const Membership *now, uint64_t leader, const char *name,
				 uint64_t *id)
{
	const Member *m = membership_named(now, name);
	bool differs = false;
	int good = 0;

	if (m == NULL)
		return refuse("no member of the cluster has this name", name);
	*id = m->incarnation;
	if (v->outcome == CHECK_NO_MAJORITY)
		return refuse("no majority of the nodes agrees on what is right", name);
	for (int i = 0; i < v->ndiffer; i++)
		differs = differs || v->differ[i] == m->incarnation;
	if (v->outcome != CHECK_DIFFERS || !differs)
		return refuse("the newest comparison did not find that it differs (kvctl cluster check)", name);
	if (m->incarnation == leader)
		return refuse("it is the leader: hand over first (kvctl cluster transfer)", name);
	/*
	 * While it is being repaired it does not count: the others must be a majority, and not be suspects too.
	 */
	for (int i = 0; i < now->n; i++) {
		bool suspect = false;

		for (int k = 0; k < v->ndiffer; k++)
			suspect = suspect || v->differ[k] == now->node[i].incarnation;
		good += now->node[i].voter && !suspect;
	}
	if (good <= membership_voters(now) / 2)
		return refuse("without it and others that differ no majority is left", name);
	for (int i = 0; i < v->ndiffer; i++)
		if (v->differ[i] == leader)
			return refuse("the leader differs too: hand over first (kvctl cluster transfer)", name);
	return ST_OK;
}
