/*
 * membership_file.c - the configuration as this node last knew it, in a file of its own.
 *
 * Consensus worker; kvd while it makes or joins a cluster. No locks. Replaced as a whole, synced. Format
 * (doc/formats-vote.md), little-endian:
 *    0   8  magic "KVDMEMB\0"     12   4  length of the body      24   n  body: as of a CONFIG record
 *    8   4  format                16   8  LSN of the record       24+n 4  crc32c of all before
 */
#include <stdlib.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "port/fs.h"
#include "replication/membership.h"

#define FILE_FORMAT 1
#define HEAD 24
#define FILE_MAX 65536 /* a newer format may be longer and must still be told from damage */

static const char magic[8] = "KVDMEMB";

Status
membership_file_write(const Membership *m, Lsn at)
{
	uint8_t head[HEAD] = { 0 }, crc[4];
	Buf b = { 0 };
	Status st = buf_append(&b, head, sizeof head);

	if (st == ST_OK)
		st = membership_encode(m, &b);
	if (st == ST_OK) {
		memcpy(b.data, magic, sizeof magic);
		put_u32(b.data + 8, FILE_FORMAT);
		put_u32(b.data + 12, (uint32_t) (b.len - HEAD));
		put_u64(b.data + 16, at);
		put_u32(crc, crc32c(0, b.data, b.len));
		st = buf_append(&b, crc, sizeof crc);
	}
	if (st == ST_OK)
		st = fs_replace_file(MEMBERSHIP_FILE, b.data, b.len);
	buf_free(&b);
	return st;
}

static Status
decode(const uint8_t *b, size_t len, Membership *m, Lsn *at)
{
	if (len < HEAD + 4 || memcmp(b, magic, sizeof magic) != 0)
		return status_fail(ST_CORRUPT, MEMBERSHIP_FILE " is damaged");
	if (get_u32(b + 8) > FILE_FORMAT)
		return status_fail(ST_FOREIGN, MEMBERSHIP_FILE " has format %u, this kvd knows %d: use a newer kvd",
						   get_u32(b + 8), FILE_FORMAT);
	if (get_u32(b + 12) != len - HEAD - 4 || get_u32(b + len - 4) != crc32c(0, b, len - 4))
		return status_fail(ST_CORRUPT, MEMBERSHIP_FILE " is damaged (checksum)");
	*at = get_u64(b + 16);
	if (membership_decode(slice_of(b + HEAD, len - HEAD - 4), m) != ST_OK)
		return status_prefix(ST_CORRUPT, MEMBERSHIP_FILE);
	return ST_OK;
}

Status
membership_file_read(Membership *m, Lsn *at)
{
	char *data;
	size_t len;
	Status st = fs_read_file(MEMBERSHIP_FILE, FILE_MAX, &data, &len);

	if (st == ST_OUT_OF_RANGE)
		return status_fail(ST_CORRUPT, MEMBERSHIP_FILE " is too long for one");
	KV_TRY(st);
	st = decode((const uint8_t *) data, len, m, at);
	free(data);
	return st;
}
