/*
 * bootstrap.c - a blank node finds its cluster: waits to be added, or forms one with those that
 * cluster_members names.
 *
 * kvd itself, before it becomes the postmaster: one process, no shared memory, no locks. Speaks through the
 * transport (peer_in.c, peer_out.c).
 *
 * Forming (rule C1). Of those in cluster_members, the first coordinates and decides alone, once: when all
 * others have said that they are blank, and under which incarnation. It writes the new cluster down, its
 * own identity last, and from then on is a member like any other: its transport finds the others blank and
 * gives them what they belong to, however often anyone is restarted. Before it has written that down
 * nothing has happened; after it, it never coordinates again. One that belongs to a cluster already ends
 * the attempt for good: somebody lost a disk, and what was voted and acknowledged with it.
 */
#include "replication/bootstrap.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/config.h"
#include "common/elog.h"
#include "peer_internal.h"
#include "port/clock.h"
#include "port/config_files.h"
#include "replication/address.h"

#define STEP_MS 100   /* how often it looks whether it shall stop */
#define LATE_MS 10000 /* who belongs to a cluster, but has not made us a member by then, will not by itself;
                         who does not answer by then is perhaps misspelled: say why */
#define PROGRESS_MAX 2048

/* One of cluster_members. */
typedef struct Entry {
	char name[MEMBERSHIP_NAME_MAX + 1];
	char address[MEMBERSHIP_ADDRESS_MAX + 1];
	bool answered;
	uint64_t incarnation;
	char client_address[MEMBERSHIP_ADDRESS_MAX + 1];
	char trouble[STATUS_DETAIL_MAX];
} Entry;

typedef struct List {
	int n, self; /* self -1: not in it */
	Entry entry[MEMBERSHIP_NODES_MAX];
} List;

/* ---- settings */

static Status
read_entry(List *l, const char *text)
{
	const char *at = strchr(text, '@');
	char host[MEMBERSHIP_ADDRESS_MAX + 1];
	Entry *e = &l->entry[l->n];
	uint16_t port;

	if (l->n == MEMBERSHIP_NODES_MAX)
		return status_fail(ST_BAD_SETTING, "cluster_members names more than %d nodes", MEMBERSHIP_NODES_MAX);
	if (at == NULL || !membership_name_ok(text, (size_t) (at - text)) ||
		strlen(at + 1) > MEMBERSHIP_ADDRESS_MAX)
		return status_fail(ST_BAD_SETTING, "cluster_members: \"%s\" is not name@host:peer_port", text);
	if (address_split(at + 1, 0, host, &port) != ST_OK)
		return status_prefix(ST_BAD_SETTING, "cluster_members");
	memcpy(e->name, text, (size_t) (at - text));
	snprintf(e->address, sizeof e->address, "%s", at + 1);
	for (int i = 0; i < l->n; i++)
		if (strcmp(l->entry[i].name, e->name) == 0 || strcmp(l->entry[i].address, e->address) == 0)
			return status_fail(ST_BAD_SETTING, "cluster_members names %s twice", text);
	if (strcmp(e->name, config.node_name) == 0)
		l->self = l->n;
	l->n++;
	return ST_OK;
}

static Status
read_list(List *l)
{
	char text[sizeof config.cluster_members], *save = NULL;

	*l = (List){ .self = -1 };
	snprintf(text, sizeof text, "%s", config.cluster_members);
	for (char *one = strtok_r(text, ", ", &save); one != NULL; one = strtok_r(NULL, ", ", &save))
		KV_TRY(read_entry(l, one));
	if (l->n > 0 && l->self < 0)
		return status_fail(ST_BAD_SETTING, "cluster_members does not name this node, \"%s\" (node_name)",
						   config.node_name);
	return ST_OK;
}

static bool
is_default(const char *name)
{
	ConfigItem item;

	config_item(config_find(name), &item);
	return item.source == SOURCE_DEFAULT;
}

static Status
set(const char *name, const char *value)
{
	char assignment[64 + MEMBERSHIP_ADDRESS_MAX + 1];

	snprintf(assignment, sizeof assignment, "%s=%s", name, value);
	return config_set_command_line(assignment);
}

Status
bootstrap_settings(bool named)
{
	char host[MEMBERSHIP_ADDRESS_MAX + 1], number[8];
	uint16_t port = (uint16_t) (config.port + BOOTSTRAP_PORT_STEP);
	List l;

	KV_TRY(read_list(&l));
	if (named && l.n == 0 && is_default("node_name"))
		return status_fail(ST_BAD_SETTING, "the node needs a name of its own: -c node_name=NAME");
	if (!membership_name_ok(config.node_name, strlen(config.node_name)))
		return status_fail(ST_BAD_SETTING,
						   "node_name \"%s\" must be letters, digits, dots, dashes or underscores",
						   config.node_name);
	if (config.port == 0)
		return status_fail(ST_BAD_SETTING,
						   "port is 0: others could not be told where this node is; name a port");
	if (l.n > 0) {
		KV_TRY(address_split(l.entry[l.self].address, 0, host, &port));
		if (config.peer_advertise_address[0] == '\0')
			KV_TRY(set("peer_advertise_address", l.entry[l.self].address));
	} else if (config.peer_port == 0 && config.port > UINT16_MAX - BOOTSTRAP_PORT_STEP) {
		return status_fail(ST_BAD_SETTING, "port + %d is no port: set peer_port", BOOTSTRAP_PORT_STEP);
	}
	if (config.peer_port != 0)
		port = (uint16_t) config.peer_port;
	if (port == config.port)
		return status_fail(ST_BAD_SETTING, "port and the port for other nodes are both %u: they must differ",
						   port);
	if (config.peer_port != 0)
		return ST_OK;
	snprintf(number, sizeof number, "%u", port);
	return set("peer_port", number);
}

Status
bootstrap_keep_settings(void)
{
	static const char *const names[] = { "node_name",
										 "port",
										 "listen_addresses",
										 "advertise_address",
										 "peer_port",
										 "peer_listen_addresses",
										 "peer_advertise_address",
										 "cluster_members",
										 "election_timeout" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ConfigItem item;

		config_item(config_find(names[i]), &item);
		if (item.source == SOURCE_COMMAND_LINE)
			KV_TRY(config_write_auto(".", names[i], item.value));
	}
	return ST_OK;
}

/* ---- forming */

static void
say(char last[PROGRESS_MAX], const char *line)
{
	if (strcmp(last, line) == 0)
		return;
	snprintf(last, PROGRESS_MAX, "%s", line);
	printf("%s\n", line);
	fflush(stdout);
}

static const char *
replace_advice(const List *l)
{
	static char text[512];

	snprintf(text, sizeof text,
			 "if this node lost its data directory, bring it back on any member: "
			 "kvctl cluster replace %s %s (this node waits for that)",
			 config.node_name, l->entry[l->self].address);
	return text;
}

/* Ask one node, until it has answered. FOREIGN: it belongs to a cluster. */
static Status
ask(Entry *e)
{
	char name[MEMBERSHIP_NAME_MAX + 1];
	Status st;

	if (e->answered)
		return ST_OK;
	st = peers_identify(e->address, &e->incarnation, name, e->client_address);
	if (st == ST_OK && strcmp(name, e->name) != 0)
		st = status_fail(ST_BAD_SETTING, "it calls itself %s, but cluster_members %s", name, e->name);
	e->answered = st == ST_OK;
	if (st != ST_OK && st != ST_BUSY)
		snprintf(e->trouble, sizeof e->trouble, "%s", status_detail());
	return st == ST_FOREIGN ? ST_FOREIGN : ST_OK;
}

/* `late`: it is time to say why they do not answer, too. */
static bool
ask_all(List *l, bool late, char last[PROGRESS_MAX], Status *st)
{
	char line[PROGRESS_MAX] = "";
	size_t len = 0;
	bool all = true;

	*st = ST_OK;
	for (int i = 0; i < l->n && *st == ST_OK; i++) {
		Entry *e = &l->entry[i];

		if (i == l->self)
			continue;
		*st = ask(e);
		if (*st != ST_OK)
			snprintf(line, sizeof line, "no new cluster is formed: %s; %s", e->trouble, replace_advice(l));
		if (*st != ST_OK || e->answered)
			continue;
		len += (size_t) snprintf(line + len, sizeof line - len, "%s %s@%s", all ? "waiting for" : ",",
								 e->name, e->address);
		len = len < sizeof line ? len : sizeof line - 1;
		if (late && e->trouble[0] != '\0')
			len += (size_t) snprintf(line + len, sizeof line - len, " (%s)", e->trouble);
		len = len < sizeof line ? len : sizeof line - 1;
		all = false;
	}
	if (line[0] != '\0')
		say(last, line);
	return all && *st == ST_OK;
}

static Status
found_cluster(const List *l, const Control *blank, Bootstrap *out)
{
	Membership *m = &out->members;

	KV_TRY(control_make(&out->control, blank->wal_segment_size));
	out->control.node_incarnation = blank->node_incarnation;
	out->at = 0;
	*m = (Membership){ .election_ms = (uint32_t) config.election_timeout, .n = l->n };
	for (int i = 0; i < l->n; i++) {
		const Entry *e = &l->entry[i];
		Member *node = &m->node[i];

		memcpy(node->name, e->name, sizeof node->name);
		memcpy(node->peer_address, e->address, sizeof node->peer_address);
		memcpy(node->client_address, e->client_address, sizeof node->client_address);
		node->incarnation = e->incarnation;
		node->voter = true;
		if (i != l->self)
			continue;
		node->incarnation = blank->node_incarnation;
		snprintf(node->client_address, sizeof node->client_address, "%s", peer_self.client_address);
	}
	printf("all %d nodes have answered: cluster formed\n", l->n);
	fflush(stdout);
	return ST_OK;
}

/* ---- waiting */

static void
adopt(const PeerForm *form, const Control *blank, Bootstrap *out)
{
	*out = (Bootstrap){ .control = *blank, .members = form->members, .at = form->at };
	memcpy(out->control.cluster_id, form->cluster_id, sizeof form->cluster_id);
	out->control.crc_seed = form->crc_seed;
	out->control.wal_segment_size = form->wal_segment_size;
	printf("made a member of a cluster of %d\n", form->members.n);
	fflush(stdout);
}

/* One that only waits asks the coordinator now and then: it may have a cluster that this node was lost from. */
static void
look_at_coordinator(List *l, uint64_t *since_ns, bool late, char last[PROGRESS_MAX])
{
	Entry *first = &l->entry[0];
	uint64_t now = clock_mono_ns();
	char line[PROGRESS_MAX];

	first->answered = false;
	if (ask(first) != ST_FOREIGN) {
		if (late && !first->answered && first->trouble[0] != '\0') {
			snprintf(line, sizeof line, "still waiting for %s to form the cluster (%s)", first->name,
					 first->trouble);
			say(last, line);
		}
		return;
	}
	if (*since_ns == 0)
		*since_ns = now;
	if (now - *since_ns < peers_ms(LATE_MS))
		return;
	snprintf(line, sizeof line, "%s, and this node is no member of it; %s", first->trouble,
			 replace_advice(l));
	say(last, line);
}

static Status
wait_loop(const Control *blank, List *l, const volatile sig_atomic_t *stop, Bootstrap *out)
{
	char last[PROGRESS_MAX] = "", line[PROGRESS_MAX];
	bool coordinates = l->n > 0 && l->self == 0;
	uint64_t late_ns = 0, begun_ns = clock_mono_ns();
	PeerForm form;
	PeerEvent e;
	Status st;

	if (l->n > 0 && !coordinates)
		snprintf(line, sizeof line, "waiting for %s@%s to form the cluster", l->entry[0].name,
				 l->entry[0].address);
	else if (l->n == 0)
		snprintf(line, sizeof line, "waiting to be added: kvctl cluster add %s@%s", peer_self.name,
				 peer_self.peer_address);
	if (!coordinates)
		say(last, line);
	while (!*stop) {
		bool late = clock_mono_ns() - begun_ns > peers_ms(LATE_MS);

		peers_wait(clock_mono_ns() + peers_ms(STEP_MS));
		while (peers_next(&e))
			; /* messages of members that do not know yet that we are not ready */
		if (peer_in_form(&form)) {
			adopt(&form, blank, out);
			return ST_OK;
		}
		if (coordinates && ask_all(l, late, last, &st))
			return found_cluster(l, blank, out);
		if (coordinates && st != ST_OK)
			coordinates = false; /* for good */
		else if (!coordinates && l->n > 0 && l->self > 0)
			look_at_coordinator(l, &late_ns, late, last);
	}
	return status_fail(ST_TIMEOUT, "stopped while waiting for a cluster");
}

Status
bootstrap_wait(const Control *blank, const volatile sig_atomic_t *stop, Bootstrap *out)
{
	List l;
	Status st;

	KV_TRY(bootstrap_settings(false));
	KV_TRY(read_list(&l));
	KV_TRY(peers_open_blank(blank));
	st = wait_loop(blank, &l, stop, out);
	peers_close();
	return st;
}
