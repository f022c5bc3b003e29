/*
 * control.h - the file `kvd.control`: what a data directory is, fixed when it is made.
 *
 * Format (doc/formats.md): magic, format version, identities, CRC; written with fs_replace_file(): when the
 * directory is made, and once more when a node that was made blank becomes a member of a cluster.
 */
#ifndef STORAGE_CONTROL_H
#define STORAGE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

#define CONTROL_FILE "kvd.control"
#define CONTROL_FORMAT 1
/* Bounds of wal_segment_size: a page, and what one file may take when it is zero-filled ahead. */
#define CONTROL_SEGMENT_MIN 4096u
#define CONTROL_SEGMENT_MAX 1073741824u

typedef struct Control {
	uint32_t format;           /* CONTROL_FORMAT */
	uint32_t wal_segment_size; /* bytes, a power of two */
	uint8_t cluster_id[16];    /* random; the same on every node of a cluster */
	uint64_t node_incarnation; /* random; this data directory and no other (rule C1) */
	uint64_t crc_seed;         /* random, of the cluster: seeds the CRC of log records (rule L10) */
	uint64_t created_ms;       /* wall clock, for people */
} Control;

/* Fill with fresh random identities. BAD_SETTING: segment size no power of two or out of bounds. */
KV_CHECK Status control_make(Control *c, uint32_t wal_segment_size);
/*
 * The same for a node that belongs to no cluster yet: it has its incarnation; cluster_id and crc_seed are
 * zero, and the cluster's wal_segment_size will take the place of this one.
 */
KV_CHECK Status control_make_blank(Control *c, uint32_t wal_segment_size);
/* Does it belong to no cluster yet? That is, is its cluster_id zero? */
bool control_blank(const Control *c);
/*
 * Replace the file in the working directory as a whole, and sync it and the directory. `format` is written as it is.
 * What fs_replace_file() fails with (NO_SPACE, IO_ERROR, ...): it is the old file then, or none, or already the new one
 * if only the sync of the directory failed.
 */
KV_CHECK Status control_write(const Control *c);
/*
 * NOT_FOUND: no such file. FOREIGN: other magic, a newer format, or far too long. CORRUPT: another length or checksum,
 * or a segment size that cannot be.
 */
KV_CHECK Status control_read(Control *c);

#endif
