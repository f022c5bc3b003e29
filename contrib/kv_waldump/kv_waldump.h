/*
 * kv_waldump.h - what the files of kv_waldump share.
 *
 * main.c  arguments, which log, the walk and how it ends      ops.c  operations of a record as rows
 */
#ifndef KV_WALDUMP_H
#define KV_WALDUMP_H

#include "fe_utils/offline.h"
#include "storage/wal.h"

#define SHOWN_BYTES 40 /* of a value, unless --full */

typedef struct Dump {
	OfflineTool tool;
	Lsn from, to;
	const char *kind;  /* NULL: all */
	bool ops, full, stats;
	char ending[1024]; /* why reading ended: the last line */
} Dump;

const char *kind_name(unsigned kind);
/* 2026-11-21T04:00:07.123Z; out: TIME_TEXT bytes. */
#define TIME_TEXT 40
const char *time_text(uint64_t ms, char *out);

/* The columns of --ops, and a record's rows. */
void ops_begin(Output *o);
KV_CHECK Status ops_rows(Output *o, const WalRecord *r, bool full);

#endif
