/*
 * elog.h - the server's log: levels, text for people or JSON for machines, one write(2) a line.
 *
 * Never log a value or a key's full bytes. Text line:
 *   2026-01-31 12:00:00.123 UTC [1234] walwriter LOG:  message
 * JSON line: {"time":"...","pid":1234,"process":"walwriter","level":"LOG","message":"..."}
 */
#ifndef COMMON_ELOG_H
#define COMMON_ELOG_H

#include <stdbool.h>

#include "common/status.h"

typedef enum LogLevel {
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_LOG,     /* what an operator wants to see by default */
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_FATAL,   /* this process ends */
	LOG_LEVEL_PANIC    /* the node ends or restarts */
} LogLevel;

/* Lines below `min` are not written. fd: where lines go (2 by default). */
void elog_setup(int fd, LogLevel min, bool json);
/* The name shown for this process ("postmaster", "walwriter", ...). Static storage expected. */
void elog_process(const char *name);
void elog(LogLevel level, const char *fmt, ...) KV_PRINTF(2, 3);

/*
 * elog(LOG_LEVEL_PANIC) then _exit(EXIT_STOP_NODE): durability is in doubt (failed fsync,
 * damage, apply error): the postmaster stops the node and does not restart it.
 */
_Noreturn void elog_panic(const char *fmt, ...) KV_PRINTF(1, 2);

#define EXIT_FATAL 1
#define EXIT_STOP_NODE 3
/* Fetcher process only: tables lie ready to take the place of ours, which the next start does: restart the node. */
#define EXIT_INSTALL 4

#endif
