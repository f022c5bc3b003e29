/*
 * manifest.h - reading the manifest, the list of tables: at start, and by tools. Format in doc/formats-manifest.md.
 *
 * Reads only. An edit at the end that is cut off did not take effect: it is dropped, with a line in the log.
 */
#ifndef STORAGE_MANIFEST_H
#define STORAGE_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "storage/lsm.h"

#define LSM_CURRENT "CURRENT" /* the file that names the manifest in effect */

/* Operations of an edit; on disk. */
typedef enum ManifestOp {
	MANIFEST_ADD = 1,
	MANIFEST_DELETE = 2,
	MANIFEST_STATE = 3,
	MANIFEST_NEXT = 4,
	MANIFEST_VALUES = 5,
	MANIFEST_RANGE = 6,
	MANIFEST_RANGE_DROP = 7
} ManifestOp;

typedef struct ManifestTable {
	uint32_t level;
	TableInfo info;
	Slice smallest, largest;   /* into ManifestImage.file */
	const uint8_t *shares;     /* info.value_files of them, encoded and sound; into file, too */
} ManifestTable;
typedef struct ManifestImage {
	uint64_t number, next_number;
	LsmState state;
	ManifestTable *tables;
	size_t ntables;
	RangeDelete *ranges;       /* by version; keys into `file` */
	size_t nranges;
	ValueFileInfo *values;     /* those that a table refers to, by file id */
	size_t nvalues;
	uint8_t *file;
} ManifestImage;
/* Number of the manifest that CURRENT names. */
KV_CHECK Status manifest_current(uint64_t *number);
/*
 * What CURRENT names. CORRUPT and FOREIGN name file and offset. While a server runs it may name another one and remove
 * this before it is opened (CORRUPT, missing): try again.
 */
KV_CHECK Status manifest_read(ManifestImage *out);
/* The same of another file, which must have this number. */
KV_CHECK Status manifest_read_file(const char *path, uint64_t number, ManifestImage *out);
/*
 * What is read is freed, with all slices into it; the image may be read into again. Harmless on a zeroed one, and on
 * one that was freed. After a read that failed there is nothing to free.
 */
void manifest_image_free(ManifestImage *img);

/* ---- checks, for kvd --check and tools */
/* Order the tables by level; within it as a Version has them (level 0: newest first). */
void manifest_sort(ManifestImage *img);
/* Two tables that follow each other, sorted: may they in their level? CORRUPT. */
KV_CHECK Status manifest_check_order(const ManifestTable *a, const ManifestTable *b);
/*
 * Is the table's file there, the one that is meant, and whole (table_verify())? CORRUPT names file and offset.
 * `progress` may be NULL.
 */
KV_CHECK Status manifest_check_table(const ManifestTable *t, void (*progress)(void *arg, uint64_t bytes), void *arg);

/* One operation of an edit, as it stands in the file. */
typedef struct ManifestEdit {
	uint64_t offset;           /* of its record: operations of one record take effect together */
	ManifestOp op;
	uint32_t level;            /* ADD, DELETE */
	uint64_t number;           /* ADD, DELETE: of the table; NEXT: the next table number */
	const ManifestTable *table; /* ADD */
	RangeDelete range;         /* RANGE; RANGE_DROP: its version */
	const ValueFileInfo *values; /* VALUES */
	LsmState state;            /* STATE */
} ManifestEdit;
/*
 * As manifest_read(), and `see` gets each operation in the order of the file (its slices point into the image, which
 * is being made). Operations before the damage are seen, too.
 */
KV_CHECK Status manifest_read_edits(ManifestImage *out, void (*see)(void *arg, const ManifestEdit *e), void *arg);

#endif
