/*
 * kv_sstdump.h - what the files of kv_sstdump share.
 *
 * main.c      arguments, the table of commands       files.c     which tables: names of files, or the manifest's
 * tables.c    properties, scan                       levels.c    list, manifest, values, verify
 */
#ifndef KV_SSTDUMP_H
#define KV_SSTDUMP_H

#include "fe_utils/offline.h"
#include "storage/manifest.h"

#define SHOWN_BYTES 40 /* of a value, unless --full */

typedef struct Dump {
	OfflineTool tool;
	const char *from, *to;  /* scan: bounds, C escapes; NULL: none */
	bool full, system;      /* scan: whole values; keys of the system keyspace */
	uint64_t limit;         /* scan: entries */
	int values_code;        /* scan: the worst of values that could not be read */
} Dump;
extern Dump dump;

/* ---- files.c */
/* Enter the data directory `name`. Ends the process if it is none. */
void enter_directory(const char *name);
/* Read the manifest in effect, sorted; again when a server put another in its place meanwhile. */
KV_CHECK Status read_manifest(ManifestImage *out);
/* Of two exit codes: damage is worse than what could not be read. */
int worse(int a, int b);
/*
 * Call fn for each table named: all of a data directory, or files. Gives the worst exit code; a file that can't be read
 * is a line on standard error.
 */
typedef struct TableFile {
	TableInfo info;
	Buf smallest, largest;
} TableFile;
int each_table(char **names, int n, Status (*fn)(const TableFile *t));

/* ---- tables.c */
/* user:k1, system:s\x00 - appended. */
KV_CHECK Status key_text(Buf *out, Slice internal);
int run_properties(char **names, int n);
int run_scan(char **names, int n);

/* ---- levels.c */
int run_list(char **names, int n);
int run_manifest(char **names, int n);
int run_values(char **names, int n);
int run_verify(char **names, int n);

#endif
