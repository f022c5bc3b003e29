/*
 * membership.c - the body of a CONFIG record.
 *
 * Pure. Format (doc/formats-vote.md): u16 format, u16 n, then n times { u64 incarnation, u8 length, name }.
 */
#include "replication/membership.h"

#include "common/coding.h"

Status
membership_encode(const Membership *m, Buf *out)
{
	uint8_t head[9];

	if (m->n < 1 || m->n > MEMBERSHIP_NODES_MAX)
		return status_fail(ST_OUT_OF_RANGE, "a configuration has 1 to %d nodes, not %d", MEMBERSHIP_NODES_MAX, m->n);
	put_u16(head, MEMBERSHIP_FORMAT);
	put_u16(head + 2, (uint16_t) m->n);
	KV_TRY(buf_append(out, head, 4));
	for (int i = 0; i < m->n; i++) {
		const Member *node = &m->node[i];
		const char *nul = memchr(node->name, '\0', sizeof node->name);
		size_t len = nul == NULL ? sizeof node->name : (size_t) (nul - node->name);

		if (len == 0 || len > MEMBERSHIP_NAME_MAX)
			return status_fail(ST_OUT_OF_RANGE, "a node's name has 1 to %d bytes", MEMBERSHIP_NAME_MAX);
		put_u64(head, node->incarnation);
		head[8] = (uint8_t) len;
		KV_TRY(buf_append(out, head, 9));
		KV_TRY(buf_append(out, node->name, len));
	}
	return ST_OK;
}

Status
membership_decode(Slice body, Membership *out)
{
	Reader r = reader_of(body.data, body.len);
	unsigned format = read_u16(&r), n = read_u16(&r);

	memset(out, 0, sizeof *out);
	if (reader_ok(&r) && format != MEMBERSHIP_FORMAT)
		return status_fail(ST_BAD_VERSION, "configuration record of format %u, this kvd knows %d", format,
		                   MEMBERSHIP_FORMAT);
	if (!reader_ok(&r) || n < 1 || n > MEMBERSHIP_NODES_MAX)
		return status_fail(ST_CORRUPT, "malformed configuration record");
	for (out->n = 0; out->n < (int) n; out->n++) {
		Member *node = &out->node[out->n];
		Slice name;

		node->incarnation = read_u64(&r);
		name = read_bytes(&r, read_u8(&r));
		if (!reader_ok(&r) || name.len < 1 || name.len > MEMBERSHIP_NAME_MAX ||
			memchr(name.data, '\0', name.len) != NULL)
			return status_fail(ST_CORRUPT, "malformed configuration record");
		memcpy(node->name, name.data, name.len);
	}
	return reader_left(&r) == 0 ? ST_OK : status_fail(ST_CORRUPT, "malformed configuration record");
}
