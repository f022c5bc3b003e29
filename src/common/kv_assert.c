/*
 * kv_assert.c - the end of a process that found its own bug.
 *
 * Runs in any process. The line goes through elog, so that it reaches the log file; abort() leaves a
 * core where the system keeps them, and the postmaster answers SIGABRT with a restart cycle.
 */
#include "common/kv_assert.h"

#include <stdlib.h>

#include "common/elog.h"

_Noreturn void
kv_assert_failed(const char *expr, const char *file, int line)
{
	elog(LOG_LEVEL_PANIC, "assertion failed: %s (%s:%d)", expr, file, line);
	abort();
}
