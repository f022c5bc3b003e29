/*
 * faultfs.h - a layer over any FsOps that counts calls, fails the Nth of them, cuts the power there, or makes
 * mistakes.
 *
 * One plan at a time. Counters lie in shared memory, so that a parent sees what its children did.
 */
#ifndef TEST_LIB_FAULTFS_H
#define TEST_LIB_FAULTFS_H

#include <stdbool.h>
#include <stdint.h>

#include "port/fs.h"

/* Kinds of calls, as a mask. */
enum {
	FAULT_OPEN = 1,   /* of what is there */
	FAULT_CREATE = 2, /* open() that may make a file */
	FAULT_READ = 4,   /* pread, size */
	FAULT_WRITE = 8,  /* pwrite, pwritev, truncate */
	FAULT_SYNC = 16,  /* sync, datasync */
	FAULT_SYNC_DIR = 32,
	FAULT_NAME = 64,  /* rename, link, unlink */
	FAULT_DIR = 128,  /* mkdir, rmdir */
	FAULT_LIST = 256, /* list, free_space */
	FAULT_CLOSE = 512,
	FAULT_WRITEBACK = 1024, /* makes nothing durable, so it is no change */
	FAULT_CHANGES = FAULT_CREATE | FAULT_WRITE | FAULT_SYNC | FAULT_SYNC_DIR | FAULT_NAME | FAULT_DIR,
	FAULT_ALL = 2047
};

typedef enum FaultKind {
	FAULT_EIO,   /* nothing is done; a sync or writeback loses what it was to write, if the disk can (disk_lose()) */
	FAULT_SHORT, /* of a write half is done; then EIO */
	/*
	 * Of a write half is done; then ENOSPC. Only calls that take space: new files and names, writes that make
	 * a file grow.
	 */
	FAULT_ENOSPC,
	FAULT_CUT /* of a write half is done; then on_cut() is called, which does not come back, or EIO */
} FaultKind;

typedef struct FaultPlan {
	uint32_t calls; /* which kinds count */
	uint64_t nth;   /* 1, 2, ...; 0: none fails */
	bool forever;   /* all later ones fail, too */
	FaultKind kind;
	const char *path; /* only files whose path begins so; NULL: all */
	void (*on_cut)(void);
} FaultPlan;

/* fs = this layer over `under`. Counters are zeroed, there is no plan, no mistake. Again: before each use. */
void fault_use(const FsOps *under);
void fault_plan(const FaultPlan *p);
/* Calls of these kinds since fault_plan() or fault_use(). */
uint64_t fault_calls(uint32_t kinds);
/* Calls that the plan counted, and those that failed. */
uint64_t fault_counted(void);
uint64_t fault_hits(void);

/* A mistake: calls of these kinds (SYNC, SYNC_DIR, NAME) on paths that begin so say OK and do nothing. */
void fault_forget(uint32_t kinds, const char *path);

#endif
