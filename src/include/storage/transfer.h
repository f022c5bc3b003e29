/*
 * transfer.h - the engine's state as tables that another node can have (rule C5).
 *
 * The sender makes a directory with a second name for each file of its newest list of tables, and that
 * list. The receiver gets the list, then the files, checks them, and at its next start puts them in the
 * place of its own.
 */
#ifndef STORAGE_TRANSFER_H
#define STORAGE_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "storage/wal.h"

/* What tables and value files contain, and how much it is. */
typedef struct TransferSum {
	Lsn flushed;       /* all records below it */
	uint64_t term;     /* of the record before it */
	uint64_t log_time; /* reached there */
	uint64_t files, file_bytes; /* tables and value files */
	uint64_t list_bytes;
} TransferSum;

#define TRANSFER_LIST 0 /* "number" of the list; tables count from 1, a value file's is its id */

/*
 * Sender, an attached process without a read under way. dir: made by this call, must not exist. Whatever
 * becomes of the tables, the files stay until the directory is removed (fs_remove_dir()).
 */
KV_CHECK Status transfer_export(const char *dir, TransferSum *out);
/* Path of the list or of a file in an exported directory. */
void transfer_path(const char *dir, uint64_t number, char *out, size_t size);

/* ---- receiver */
typedef struct TransferFile {
	uint64_t number;  /* at the sender */
	uint64_t file_id; /* everywhere */
	uint64_t bytes;
} TransferFile;

/* <dir>/LIST, as it came. CORRUPT, FOREIGN. */
typedef struct TransferList TransferList;
KV_CHECK Status transfer_list_read(const char *dir, TransferList **out);
/* May be NULL. */
void transfer_list_free(TransferList *l);
/* What the list says of itself; a copy. */
void transfer_list_sum(const TransferList *l, TransferSum *out);
/* i < files */
TransferFile transfer_list_file(const TransferList *l, uint64_t i);
/* Where it belongs until it is installed. */
void transfer_fetched_path(const char *dir, const TransferFile *f, char *out, size_t size);
/* Every byte of fetched file i against its checksums and the list. CORRUPT. `progress` may be NULL. */
KV_CHECK Status transfer_verify(const TransferList *l, uint64_t i, const char *dir,
								void (*progress)(void *arg, uint64_t bytes), void *arg);

/* ---- receiver's replay process, before kvstore_open() */
typedef struct TransferPlan {
	uint64_t manifest, first_table;
} TransferPlan;
/*
 * Names that nothing here has. The plan is to be kept before the next step: it is done again with the same
 * one.
 */
KV_CHECK Status transfer_plan(TransferPlan *out);
/* All of the old tables, or all of the new, wherever it is cut off; OK: the new. */
KV_CHECK Status transfer_install(const TransferPlan *plan, const TransferList *l, const char *dir);
/* Has it been done? */
KV_CHECK Status transfer_installed(const TransferPlan *plan, bool *done);
/* What the tables in effect contain. */
KV_CHECK Status transfer_flushed(Lsn *flushed);

#endif
