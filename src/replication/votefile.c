/*
 * votefile.c - term and vote on disk.
 *
 * Consensus worker (and the postmaster when it makes a data directory). No locks.
 *
 * Format (doc/formats-vote.md), VOTEFILE_SIZE bytes, little-endian, the same in both files:
 *    0   8  magic "KVDVOTE\0"     16   8  sequence: newest wins     40   4  flags
 *    8   4  format                24   8  term                      44   8  incarnation of this node
 *   12   4  0                     32   8  voted_for                 52   8  0     60  4  crc32c of bytes 0..59
 *
 * Invariants:
 * 1. At every moment at least one copy is whole: the one that is not the newest good is written first.
 * 2. An answer that depends on a vote leaves only after votefile_write() returned: both copies hold it then, and
 *    damage of one cannot make the node forget it.
 */
#include "replication/votefile.h"

#include <string.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "port/fs.h"

static const char magic[8] = "KVDVOTE";
static const char *const file_name[2] = { VOTEFILE_0, VOTEFILE_1 };

static uint64_t my_incarnation;
static uint64_t sequence;   /* of the newest good copy */
static int newest = -1;     /* its file */

static void
encode(uint8_t out[VOTEFILE_SIZE], const Vote *v, uint64_t seq)
{
	memset(out, 0, VOTEFILE_SIZE);
	memcpy(out, magic, sizeof magic);
	put_u32(out + 8, VOTEFILE_FORMAT);
	put_u64(out + 16, seq);
	put_u64(out + 24, v->term);
	put_u64(out + 32, v->voted_for);
	put_u32(out + 40, v->flags);
	put_u64(out + 44, my_incarnation);
	put_u32(out + 60, crc32c(0, out, 60));
}

/* CORRUPT, FOREIGN or the content. */
static Status
decode(const uint8_t *p, size_t len, uint64_t incarnation, Vote *v, uint64_t *seq)
{
	if (len != VOTEFILE_SIZE || memcmp(p, magic, sizeof magic) != 0 || get_u32(p + 60) != crc32c(0, p, 60))
		return status_fail(ST_CORRUPT, "damaged");
	if (get_u32(p + 8) != VOTEFILE_FORMAT)
		return status_fail(ST_FOREIGN, "the vote file has format %u, this kvd knows %d: use a newer kvd",
		                   get_u32(p + 8), VOTEFILE_FORMAT);
	if (get_u64(p + 44) != incarnation)
		return status_fail(ST_FOREIGN, "the vote file belongs to another data directory");
	*seq = get_u64(p + 16);
	v->term = get_u64(p + 24);
	v->voted_for = get_u64(p + 32);
	v->flags = get_u32(p + 40);
	return ST_OK;
}

static Status
write_copy(int i, const Vote *v, uint64_t seq, FsOpen how)
{
	uint8_t bytes[VOTEFILE_SIZE];
	int fd;
	Status st, closed;

	encode(bytes, v, seq);
	KV_TRY(fs_open(file_name[i], how, &fd));
	st = fs_pwrite(fd, bytes, sizeof bytes, 0);
	if (st == ST_OK)
		st = fs_sync(fd);
	closed = fs_close(fd);
	return st != ST_OK ? st : closed;
}

Status
votefile_create(uint64_t incarnation)
{
	Vote none = { 0 };

	my_incarnation = incarnation;
	for (int i = 0; i < 2; i++)
		KV_TRY(write_copy(i, &none, 1, FS_CREATE));
	sequence = 1;
	newest = 0;
	return ST_OK;
}

static Status
read_copy(int i, uint64_t incarnation, Vote *v, uint64_t *seq)
{
	uint8_t bytes[VOTEFILE_SIZE + 1]; /* a longer file is none of ours */
	size_t got = 0;
	Status st, closed;
	int fd;

	st = fs_open(file_name[i], FS_READ, &fd);
	if (st == ST_NOT_FOUND)
		return status_fail(ST_CORRUPT, "missing");
	if (st != ST_OK)
		return st;
	st = fs_pread(fd, bytes, sizeof bytes, 0, &got);
	closed = fs_close(fd);
	if (st != ST_OK || closed != ST_OK)
		return st != ST_OK ? st : closed;
	return decode(bytes, got, incarnation, v, seq);
}

Status
votefile_read(uint64_t incarnation, Vote *out)
{
	my_incarnation = incarnation;
	newest = -1;
	for (int i = 0; i < 2; i++) {
		Vote v;
		uint64_t seq = 0;
		Status st = read_copy(i, incarnation, &v, &seq);

		if (st == ST_CORRUPT) {
			elog(LOG_LEVEL_WARNING, "%s is %s", file_name[i], status_detail());
			continue;
		}
		if (st != ST_OK)
			return status_prefix(st, "%s", file_name[i]);
		if (newest < 0 || seq > sequence) {
			newest = i;
			sequence = seq;
			*out = v;
		}
	}
	if (newest >= 0)
		return ST_OK;
	return status_fail(ST_CORRUPT, "both vote files are damaged or missing: this node has forgotten how it voted; "
	                   "restore " VOTEFILE_0 " or " VOTEFILE_1 ", or make the node anew and let it join as a learner");
}

Status
votefile_check(int copy, uint64_t incarnation)
{
	Vote v;
	uint64_t seq;
	Status st = read_copy(copy, incarnation, &v, &seq);

	if (st == ST_CORRUPT)
		return status_fail(st, "%s is %s: a node goes on with the other copy, if that is whole, and writes this one "
		                   "anew with its next vote", file_name[copy], status_detail());
	return st == ST_OK ? st : status_prefix(st, "%s", file_name[copy]);
}

Status
votefile_write(const Vote *v)
{
	KV_ASSERT(newest >= 0);
	KV_TRY(write_copy(!newest, v, sequence + 1, FS_CREATE));
	KV_TRY(fs_sync_dir(".")); /* the copy may have been missing */
	KV_TRY(write_copy(newest, v, sequence + 1, FS_CREATE));
	sequence++;
	return ST_OK;
}
