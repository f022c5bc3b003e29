/*
 * admin.c - what people ask of the cluster (kvctl cluster ...): checked, done step by step, answered.
 *
 * Consensus worker only. One request at a time waits in the mailbox (replication/replstate.h); it is looked
 * at every turn until it can be answered. A change of the members is answered when it is committed, so that
 * who reads "done" can rely on it. Safety is raft's: it refuses what is not safe, here the reason is put
 * into words.
 */
#include <stdio.h>
#include <string.h>

#include "common/elog.h"
#include "consensus_internal.h"
#include "port/clock.h"

#define TEXT_MAX 400
#define GIVE_UP_US UINT64_C(60000000) /* the client has left long ago */

typedef enum Stage {
	STAGE_NEW,
	STAGE_IDENTIFY,
	STAGE_COMMITTING,
	STAGE_TRANSFERRING,
	STAGE_REPLACING,
	STAGE_COMPARING
} Stage;

static struct {
	Stage stage;
	ReplRequest request;
	uint64_t since_us;
	Lsn config_start; /* COMMITTING: of the configuration before the change */
	uint64_t term;
	Member newcomer;
	char done[TEXT_MAX]; /* what to say when it is committed */
} now;

static void
finish(Status st, const char *text)
{
	replstate_answer(st, text);
	now.stage = STAGE_NEW;
}

static void
refuse(const char *text)
{
	finish(ST_BAD_REQUEST, text);
}

static const Member *
named(const char *name)
{
	return membership_named(&cons.current.members, name);
}

/* Refuse in words, with raft's reason. */
static void
refuse_proposal(const char *what, RaftProposal p)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof text, "%s refused: %s", what, raft_proposal_text(p));
	if (p == RAFT_NOT_LEADER)
		finish(ST_NOT_LEADER, "");
	else
		refuse(text);
}

/* Propose m, or only say what would come of it. */
static void
change(const Membership *m, const char *what, const char *would, const char *done)
{
	MembershipAt next = { .members = *m };
	RaftConfig c = raft_config_of(&next);
	RaftProposal p = consensus_would(RAFT_EV_PROPOSE, &c, 0);

	if (p != RAFT_ACCEPTED) {
		refuse_proposal(what, p);
		return;
	}
	if (now.request.dry_run) {
		finish(ST_OK, would);
		return;
	}
	now.config_start = cons.current.start;
	now.term = cons.raft.vote.term;
	snprintf(now.done, sizeof now.done, "%s", done);
	now.stage = STAGE_COMMITTING;
	if (consensus_propose(m) != ST_OK)
		refuse(status_detail());
}

static void
without(Membership *m, const char *name)
{
	int kept = 0;

	for (int i = 0; i < m->n; i++)
		if (strcmp(m->node[i].name, name) != 0)
			m->node[kept++] = m->node[i];
	m->n = kept;
}

/* ---- add and replace: ask the node who it is first */

static void
start_identify(void)
{
	const ReplRequest *r = &now.request;
	char text[TEXT_MAX];
	const Member *known = r->name[0] != '\0' ? named(r->name) : NULL;

	if (r->action == REPL_ADD && known != NULL) {
		snprintf(text, sizeof text,
				 "%s is a member already; a new disk under its name: kvctl cluster replace %s HOST:PORT",
				 r->name, r->name);
		refuse(text);
	} else if (r->action == REPL_REPLACE && known == NULL) {
		snprintf(text, sizeof text, "no member has the name \"%s\"", r->name);
		refuse(text);
	} else if (r->action == REPL_REPLACE && known->incarnation == cons.raft.self) {
		refuse("the leader can't replace itself: kvctl cluster transfer first");
	} else if (r->action == REPL_ADD && cons.current.members.n == MEMBERSHIP_NODES_MAX) {
		snprintf(text, sizeof text, "a cluster has at most %d members", MEMBERSHIP_NODES_MAX);
		refuse(text);
	} else {
		now.stage = STAGE_IDENTIFY;
	}
}

static void
add_newcomer(void)
{
	Membership m = cons.current.members;
	char would[TEXT_MAX], done[TEXT_MAX];

	if (named(now.newcomer.name) != NULL) {
		snprintf(would, sizeof would,
				 "the node calls itself %s, which is a member's name: set another node_name",
				 now.newcomer.name);
		refuse(would);
		return;
	}
	if (m.node[0].peer_address[0] == '\0') {
		refuse("this node has no peer_port: set one and restart it, then add others");
		return;
	}
	m.node[m.n++] = now.newcomer;
	snprintf(would, sizeof would, "would add %s at %s as a learner, a voter as soon as it has caught up",
			 now.newcomer.name, now.newcomer.peer_address);
	snprintf(done, sizeof done,
			 "added %s at %s as a learner; it becomes a voter by itself when it has caught up",
			 now.newcomer.name, now.newcomer.peer_address);
	change(&m, "adding a node", would, done);
}

static void
remove_old(void)
{
	Membership m = cons.current.members;
	char would[TEXT_MAX];

	without(&m, now.request.name);
	snprintf(would, sizeof would, "would remove %s, then add the node at %s as a learner", now.request.name,
			 now.request.address);
	change(&m, "replacing a node", would, "");
	if (now.stage == STAGE_COMMITTING)
		now.stage = STAGE_REPLACING;
}

static void
identify(void)
{
	uint64_t incarnation;
	char name[MEMBERSHIP_NAME_MAX + 1], client[MEMBERSHIP_ADDRESS_MAX + 1], text[TEXT_MAX];
	Status st = peers_identify(now.request.address, &incarnation, name, client);

	if (st == ST_BUSY)
		return;
	if (st != ST_OK) {
		snprintf(text, sizeof text, "no node can be added: %.240s", status_detail()); /* it begins with the address */
		refuse(text);
		return;
	}
	now.newcomer = (Member){ .incarnation = incarnation };
	memcpy(now.newcomer.name, name, sizeof name);
	memcpy(now.newcomer.client_address, client, sizeof client);
	snprintf(now.newcomer.peer_address, sizeof now.newcomer.peer_address, "%s", now.request.address);
	if (now.request.name[0] != '\0' && strcmp(name, now.request.name) != 0) {
		snprintf(text, sizeof text, "the node at %s calls itself %s, not %s (its setting node_name)",
				 now.request.address, name, now.request.name);
		refuse(text);
	} else if (now.request.action == REPL_REPLACE) {
		remove_old();
	} else {
		add_newcomer();
	}
}

/* ---- the others */

static void
start_remove(void)
{
	Membership m = cons.current.members;
	const Member *gone = named(now.request.name);
	char would[TEXT_MAX], done[TEXT_MAX];

	if (gone == NULL) {
		snprintf(would, sizeof would, "no member has the name \"%s\"", now.request.name);
		refuse(would);
		return;
	}
	if (gone->incarnation == cons.raft.self) {
		refuse("the leader can't remove itself: kvctl cluster transfer first");
		return;
	}
	without(&m, now.request.name);
	snprintf(would, sizeof would, "would remove %s; %d voters stay", now.request.name, membership_voters(&m));
	snprintf(done, sizeof done, "removed %s; %d voters stay. Stop it and delete its directory",
			 now.request.name, membership_voters(&m));
	change(&m, "removing a node", would, done);
}

static void
start_promote(void)
{
	Membership m = cons.current.members;
	const Member *learner = named(now.request.name);
	char text[TEXT_MAX], done[TEXT_MAX];

	if (learner == NULL || learner->voter) {
		snprintf(text, sizeof text,
				 learner == NULL ? "no member has the name \"%s\"" : "%s is a voter already",
				 now.request.name);
		refuse(text);
		return;
	}
	for (int i = 0; i < m.n; i++)
		if (strcmp(m.node[i].name, now.request.name) == 0)
			m.node[i].voter = true;
	snprintf(text, sizeof text, "would make %s a voter", now.request.name);
	snprintf(done, sizeof done, "%s is a voter", now.request.name);
	change(&m, "promoting a node", text, done);
}

static void
start_transfer(void)
{
	const Member *to = now.request.name[0] != '\0' ? named(now.request.name) : NULL;
	uint64_t id = to != NULL ? to->incarnation : 0;
	char text[TEXT_MAX];
	RaftProposal p;

	if (now.request.name[0] != '\0' && to == NULL) {
		snprintf(text, sizeof text, "no member has the name \"%s\"", now.request.name);
		refuse(text);
		return;
	}
	if (id == cons.raft.self) {
		finish(ST_OK, "it leads already");
		return;
	}
	p = consensus_would(RAFT_EV_TRANSFER, NULL, id);
	if (p != RAFT_ACCEPTED) {
		refuse_proposal("handing over", p);
	} else if (now.request.dry_run) {
		finish(ST_OK, "would hand leadership over");
	} else {
		now.stage = STAGE_TRANSFERRING;
		if (consensus_transfer(id) != ST_OK)
			refuse(status_detail());
	}
}

static void
start_compare(void)
{
	if (cons.current.members.n == 1)
		refuse("this node is alone: there is nothing to compare it with");
	else if (now.request.dry_run)
		finish(ST_OK, "would compare the contents of all members");
	else if (compare_begin() != ST_OK)
		refuse(status_detail());
	else
		now.stage = STAGE_COMPARING;
	now.term = cons.raft.vote.term;
}

static void
repair(void)
{
	char text[TEXT_MAX];
	Status st = compare_repair(now.request.name, now.request.dry_run);

	snprintf(text, sizeof text,
			 now.request.dry_run ? "would tell %s to install the leader's tables"
								 : "told %s to install the leader's tables; it restarts when it has them",
			 now.request.name);
	if (st == ST_OK)
		finish(ST_OK, text);
	else
		refuse(status_detail());
}

static void
start(void)
{
	if (cons.raft.role != RAFT_LEADER) {
		finish(ST_NOT_LEADER, "");
		return;
	}
	switch (now.request.action) {
	case REPL_ADD:
	case REPL_REPLACE:
		start_identify();
		break;
	case REPL_REMOVE:
		start_remove();
		break;
	case REPL_PROMOTE:
		start_promote();
		break;
	case REPL_TRANSFER:
		start_transfer();
		break;
	case REPL_CHECK:
		start_compare();
		break;
	case REPL_REPAIR:
		repair();
		break;
	}
}

/* ---- going on */

static bool
changed_and_committed(void)
{
	return cons.current.start != now.config_start && cons.raft.commit >= cons.current.end;
}

static void
go_on(void)
{
	char text[TEXT_MAX];
	bool equal;

	if (now.stage == STAGE_IDENTIFY) {
		identify();
	} else if (now.stage == STAGE_COMPARING) {
		/* A round ends with its leader's term, without a result. Nothing was changed: the next leader may be asked. */
		if (cons.raft.role != RAFT_LEADER || cons.raft.vote.term != now.term)
			finish(ST_NOT_LEADER, "");
		else if (compare_ended(&equal, text, sizeof text))
			finish(equal ? ST_OK : ST_BAD_REQUEST, text);
	} else if (now.stage == STAGE_TRANSFERRING) {
		const Member *leader = membership_find(&cons.current.members, cons.raft.leader);

		if (cons.raft.role != RAFT_LEADER && leader != NULL) {
			snprintf(text, sizeof text, "%s leads in term %llu", leader->name,
					 (unsigned long long) cons.raft.vote.term);
			/* The one that was asked for may have lost the election that it was told to begin. */
			if (now.request.name[0] != '\0' && strcmp(leader->name, now.request.name) != 0)
				refuse(text);
			else
				finish(ST_OK, text);
		} else if (cons.raft.role == RAFT_LEADER && !cons.raft.transferring) {
			refuse("the other node did not take over in time; this one still leads");
		}
	} else if (cons.raft.role != RAFT_LEADER || cons.raft.vote.term != now.term) {
		finish(ST_OUTCOME_UNKNOWN,
			   "leadership changed while the change was under way: look at kvctl cluster status");
	} else if (changed_and_committed()) {
		if (now.stage == STAGE_REPLACING)
			add_newcomer();
		else
			finish(ST_OK, now.done);
	}
}

void
admin_turn(void)
{
	ReplRequest r;

	if (!replstate_pending(&r)) {
		now.stage = STAGE_NEW;
		return;
	}
	if (now.stage == STAGE_NEW || memcmp(&r, &now.request, sizeof r) != 0) {
		now.request = r;
		now.since_us = now_us();
		now.stage = STAGE_NEW;
		start();
	} else if (now_us() - now.since_us > GIVE_UP_US) {
		finish(ST_TIMEOUT, "gave up; it may still be done: look at kvctl cluster status");
	} else {
		go_on();
	}
}
