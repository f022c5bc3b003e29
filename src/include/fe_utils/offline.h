/*
 * offline.h - what tools that look into a data directory share: arguments, exit codes, names of files.
 */
#ifndef FE_UTILS_OFFLINE_H
#define FE_UTILS_OFFLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "fe_utils/output.h"

enum {
	OFFLINE_WHOLE = 0,     /* read to the end, no damage */
	OFFLINE_DAMAGED = 1,
	OFFLINE_USAGE = 2,
	OFFLINE_UNREADABLE = 3 /* no such file, no permission, an error of the disk, another format */
};

typedef struct OfflineOption {
	const char *name;      /* "--limit" */
	const char **value;    /* it takes one; NULL: a flag */
	bool *flag;
} OfflineOption;

typedef struct OfflineTool {
	const char *name;      /* before each message */
	const char *help;      /* the whole text of --help */
	const OfflineOption *options; /* ended by a NULL name */
	Output out;            /* --format, --json */
} OfflineTool;

/*
 * Take options (anywhere; "--" ends them) out of argv and set up out. Gives how many other arguments are left, in
 * argv[0..n). Ends the process for --help, --version and wrong usage.
 */
int offline_arguments(OfflineTool *t, int argc, char **argv);
/* Wrong usage: say so and end. */
_Noreturn void offline_usage(const OfflineTool *t, const char *what, const char *which);
/* The exit code for a failure. */
int offline_code(Status st);
/* One line on standard error; the exit code for this failure, with the status's detail. */
int offline_failed(const OfflineTool *t, Status st);
/* A number, or usage. NULL: `otherwise`. */
uint64_t offline_number(const OfflineTool *t, const char *option, const char *text, uint64_t otherwise);
/*
 * Is path a file of this kind, <16 hex digits><ending>? Then its number, and the directory it is in ("." if the path
 * names none).
 */
bool offline_file(const char *path, const char *ending, uint64_t *number, char *dir, size_t size);
/* Print what is held of the output and flush; false: it could not be written. */
bool offline_finish(OfflineTool *t);

#endif
