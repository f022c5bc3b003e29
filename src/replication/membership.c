/*
 * membership.c - who is in the cluster: the body of a CONFIG record, and questions about it.
 *
 * Pure. Formats, byte by byte: doc/formats-vote.md. Format 1, of clusters of one before there were others,
 * is still read.
 */
#include "replication/membership.h"

#include "common/coding.h"

#define FLAG_VOTER 1u

static size_t
text_len(const char *text, size_t size)
{
	const char *nul = memchr(text, '\0', size);

	return nul == NULL ? size : (size_t) (nul - text);
}

bool
membership_name_ok(const char *name, size_t len)
{
	if (len < 1 || len > MEMBERSHIP_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
			  c == '_' || c == '-'))
			return false;
	}
	return true;
}

static Status
check_node(const Membership *m, int i)
{
	const Member *node = &m->node[i];

	if (!membership_name_ok(node->name, text_len(node->name, sizeof node->name)))
		return status_fail(ST_OUT_OF_RANGE,
						   "a node's name has 1 to %d letters, digits, dots, dashes or underscores",
						   MEMBERSHIP_NAME_MAX);
	if (text_len(node->peer_address, sizeof node->peer_address) > MEMBERSHIP_ADDRESS_MAX ||
		text_len(node->client_address, sizeof node->client_address) > MEMBERSHIP_ADDRESS_MAX)
		return status_fail(ST_OUT_OF_RANGE, "an address of node %s is longer than %d bytes", node->name,
						   MEMBERSHIP_ADDRESS_MAX);
	if (node->incarnation == 0)
		return status_fail(ST_OUT_OF_RANGE, "node %s has no incarnation", node->name);
	for (int k = 0; k < i; k++) {
		if (m->node[k].incarnation == node->incarnation)
			return status_fail(ST_OUT_OF_RANGE, "nodes %s and %s are one and the same", m->node[k].name,
							   node->name);
		if (strcmp(m->node[k].name, node->name) == 0)
			return status_fail(ST_OUT_OF_RANGE, "two nodes have the name %s", node->name);
	}
	return ST_OK;
}

static Status
append_text(Buf *out, const char *text)
{
	uint8_t len = (uint8_t) strlen(text);

	KV_TRY(buf_append(out, &len, 1));
	return buf_append(out, text, len);
}

Status
membership_encode(const Membership *m, Buf *out)
{
	uint8_t head[9];

	if (m->n < 1 || m->n > MEMBERSHIP_NODES_MAX)
		return status_fail(ST_OUT_OF_RANGE, "a configuration has 1 to %d nodes, not %d", MEMBERSHIP_NODES_MAX,
						   m->n);
	if (m->election_ms == 0)
		return status_fail(ST_OUT_OF_RANGE, "a configuration without an election timeout");
	for (int i = 0; i < m->n; i++)
		KV_TRY(check_node(m, i));
	put_u16(head, MEMBERSHIP_FORMAT);
	put_u16(head + 2, (uint16_t) m->n);
	put_u32(head + 4, m->election_ms);
	KV_TRY(buf_append(out, head, 8));
	for (int i = 0; i < m->n; i++) {
		const Member *node = &m->node[i];

		put_u64(head, node->incarnation);
		head[8] = node->voter ? FLAG_VOTER : 0;
		KV_TRY(buf_append(out, head, 9));
		KV_TRY(append_text(out, node->name));
		KV_TRY(append_text(out, node->peer_address));
		KV_TRY(append_text(out, node->client_address));
	}
	return ST_OK;
}

static void
fail_reader(Reader *r)
{
	r->failed = true;
}

static void
read_text(Reader *r, char *out, size_t min, size_t max)
{
	Slice text = read_bytes(r, read_u8(r));

	if (!reader_ok(r))
		return;
	if (text.len < min || text.len > max || (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)) {
		fail_reader(r);
		return;
	}
	if (text.len > 0)
		memcpy(out, text.data, text.len);
}

static void
read_node(Reader *r, unsigned format, Member *node)
{
	unsigned flags = FLAG_VOTER;

	node->incarnation = read_u64(r);
	if (format >= 2)
		flags = read_u8(r);
	read_text(r, node->name, 1, MEMBERSHIP_NAME_MAX);
	if (format >= 2) {
		read_text(r, node->peer_address, 0, MEMBERSHIP_ADDRESS_MAX);
		read_text(r, node->client_address, 0, MEMBERSHIP_ADDRESS_MAX);
	}
	if (flags > FLAG_VOTER)
		fail_reader(r);
	node->voter = flags == FLAG_VOTER;
}

Status
membership_decode(Slice body, Membership *out)
{
	Reader r = reader_of(body.data, body.len);
	unsigned format = read_u16(&r), n = read_u16(&r);

	memset(out, 0, sizeof *out);
	if (reader_ok(&r) && format > MEMBERSHIP_FORMAT)
		return status_fail(ST_BAD_VERSION, "configuration record of format %u, this kvd knows up to %d",
						   format, MEMBERSHIP_FORMAT);
	out->election_ms = format >= 2 ? read_u32(&r) : MEMBERSHIP_ELECTION_MS;
	if (format < 1 || n < 1 || n > MEMBERSHIP_NODES_MAX || out->election_ms == 0)
		fail_reader(&r);
	while (reader_ok(&r) && out->n < (int) n)
		read_node(&r, format, &out->node[out->n++]);
	if (!reader_ok(&r) || reader_left(&r) != 0)
		return status_fail(ST_CORRUPT, "malformed configuration record");
	return ST_OK;
}

const Member *
membership_find(const Membership *m, uint64_t incarnation)
{
	for (int i = 0; i < m->n; i++)
		if (m->node[i].incarnation == incarnation)
			return &m->node[i];
	return NULL;
}

const Member *
membership_named(const Membership *m, const char *name)
{
	for (int i = 0; i < m->n; i++)
		if (strcmp(m->node[i].name, name) == 0)
			return &m->node[i];
	return NULL;
}

int
membership_voters(const Membership *m)
{
	int voters = 0;

	for (int i = 0; i < m->n; i++)
		voters += m->node[i].voter;
	return voters;
}

bool
membership_alone(const Membership *m, uint64_t self)
{
	return m->n == 1 && m->node[0].incarnation == self;
}
