/*
 * control.c - the file kvd.control: identity and fixed choices of a data directory.
 *
 * Runs in the postmaster and in tools. Written by fs_replace_file(). Format, 60 bytes, little-endian:
 *	 0  8 bytes  magic "kvdctrl" and a zero byte
 *	 8  u32      format, 1
 *	12  u32      wal_segment_size
 *	16  16 bytes cluster_id
 *	32  u64      node_incarnation
 *	40  u64      crc_seed
 *	48  u64      created_ms
 *	56  u32      crc32c of bytes 0..55
 */
#include "storage/control.h"

#include <stdlib.h>
#include <string.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "port/clock.h"
#include "port/fs.h"
#include "port/proc.h"

#define CONTROL_SIZE 60
#define CONTROL_READ_MAX                                                                                     \
	65536 /* a newer format may be longer and must still be told from no control file at all */

static const uint8_t magic[8] = "kvdctrl";

static bool
segment_size_ok(uint32_t size)
{
	return size >= CONTROL_SEGMENT_MIN && size <= CONTROL_SEGMENT_MAX && (size & (size - 1)) == 0;
}

Status
control_make(Control *c, uint32_t wal_segment_size)
{
	if (!segment_size_ok(wal_segment_size))
		return status_fail(ST_BAD_SETTING,
						   "wal_segment_size is %lu: it must be a power of two from %lu to %lu",
						   (unsigned long) wal_segment_size, (unsigned long) CONTROL_SEGMENT_MIN,
						   (unsigned long) CONTROL_SEGMENT_MAX);
	*c = (Control){ .format = CONTROL_FORMAT,
					.wal_segment_size = wal_segment_size,
					.created_ms = clock_wall_ms() };
	KV_TRY(proc_random(c->cluster_id, sizeof c->cluster_id));
	KV_TRY(proc_random(&c->node_incarnation, sizeof c->node_incarnation));
	return proc_random(&c->crc_seed, sizeof c->crc_seed);
}

Status
control_make_blank(Control *c, uint32_t wal_segment_size)
{
	KV_TRY(control_make(c, wal_segment_size));
	memset(c->cluster_id, 0, sizeof c->cluster_id);
	c->crc_seed = 0;
	return ST_OK;
}

bool
control_blank(const Control *c)
{
	static const uint8_t none[sizeof c->cluster_id];

	return memcmp(c->cluster_id, none, sizeof none) == 0;
}

Status
control_write(const Control *c)
{
	uint8_t b[CONTROL_SIZE];

	memcpy(b, magic, sizeof magic);
	put_u32(b + 8, c->format);
	put_u32(b + 12, c->wal_segment_size);
	memcpy(b + 16, c->cluster_id, sizeof c->cluster_id);
	put_u64(b + 32, c->node_incarnation);
	put_u64(b + 40, c->crc_seed);
	put_u64(b + 48, c->created_ms);
	put_u32(b + 56, crc32c(0, b, 56));
	return fs_replace_file(CONTROL_FILE, b, sizeof b);
}

static Status
control_decode(const uint8_t *b, size_t len, Control *c)
{
	if (len < 12 || memcmp(b, magic, sizeof magic) != 0)
		return status_fail(ST_FOREIGN,
						   "\"" CONTROL_FILE "\" was not written by kvd: is this the right directory?");
	c->format = get_u32(b + 8);
	if (c->format > CONTROL_FORMAT)
		return status_fail(ST_FOREIGN,
						   "\"" CONTROL_FILE "\" has format %lu, this kvd knows %d: use a newer kvd",
						   (unsigned long) c->format, CONTROL_FORMAT);
	if (len != CONTROL_SIZE || get_u32(b + 56) != crc32c(0, b, 56))
		return status_fail(ST_CORRUPT,
						   "\"" CONTROL_FILE "\" is damaged (checksum): restore it from a backup");
	c->wal_segment_size = get_u32(b + 12);
	memcpy(c->cluster_id, b + 16, sizeof c->cluster_id);
	c->node_incarnation = get_u64(b + 32);
	c->crc_seed = get_u64(b + 40);
	c->created_ms = get_u64(b + 48);
	if (c->format != CONTROL_FORMAT || !segment_size_ok(c->wal_segment_size))
		return status_fail(ST_CORRUPT,
						   "\"" CONTROL_FILE "\" holds impossible values: restore it from a backup");
	return ST_OK;
}

Status
control_read(Control *c)
{
	char *data;
	size_t len;
	Status s;

	s = fs_read_file(CONTROL_FILE, CONTROL_READ_MAX, &data, &len);
	if (s == ST_OUT_OF_RANGE)
		return status_fail(ST_FOREIGN,
						   "\"" CONTROL_FILE "\" is too long for one: is this the right directory?");
	KV_TRY(s);
	s = control_decode((const uint8_t *) data, len, c);
	free(data);
	return s;
}
