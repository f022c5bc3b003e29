/*
 * trace.c - what happened, line by line: the last lines are kept, or all are printed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define LINE_MAX 240
#define KEEP_MAX 4000

bool trace_on;
static bool full;
static uint32_t keep, lines;
static char kept[KEEP_MAX][LINE_MAX];

void
trace_begin(bool on, bool all, uint32_t last)
{
	trace_on = on;
	full = all;
	keep = last < KEEP_MAX ? last : KEEP_MAX;
	lines = 0;
}

void
trace_line(const char *format, ...)
{
	char *line = kept[lines++ % keep];
	va_list ap;
	int n = snprintf(line, LINE_MAX, "%6u %9.3f  ", W.steps, (double) W.now / 1000.0);

	va_start(ap, format);
	vsnprintf(line + n, LINE_MAX - (size_t) n, format, ap);
	va_end(ap);
	if (full)
		puts(line);
}

void
trace_print(void)
{
	uint32_t from = lines > keep ? lines - keep : 0;

	for (uint32_t i = from; i < lines && !full; i++)
		puts(kept[i % keep]);
}

static const char *
kind_name(int kind)
{
	static const char *const name[RAFT_KINDS] = { "?",          "PREVOTE", "PREVOTE_REPLY", "VOTE",
												  "VOTE_REPLY", "APPEND",  "APPEND_REPLY",  "TIMEOUT_NOW",
												  "CATCH_UP" };

	return kind > 0 && kind < RAFT_KINDS ? name[kind] : "?";
}

/* 3 sends APPEND 3->1 term 7 at 8192 (5) to 9000 commit 8000 */
void
trace_message(const char *what, const RaftMsg *m, uint64_t until)
{
	char bytes[32] = "", flags[64];

	if (until != 0)
		snprintf(bytes, sizeof bytes, " bytes to %llu", (unsigned long long) until);
	snprintf(flags, sizeof flags, "%s%s%s%s%s%s", m->flags & RAFT_GRANTED ? " granted" : "",
			 m->flags & RAFT_TRANSFER ? " transfer" : "", m->flags & RAFT_REFUSED ? " refused" : "",
			 m->flags & RAFT_RECOVERING ? " recovering" : "", m->flags & RAFT_SNAPSHOT ? " snapshot" : "",
			 m->flags & RAFT_OWN_TERM ? " own-term" : "");
	trace_line("%llu %s %s %llu->%llu term %llu at %llu (%llu) end %llu commit %llu stamp %llu%s%s",
			   (unsigned long long) ((what[0] == 's' ? m->from : m->to) % SLOTS), what, kind_name(m->kind),
			   (unsigned long long) (m->from % SLOTS), (unsigned long long) (m->to % SLOTS),
			   (unsigned long long) m->term, (unsigned long long) m->pos, (unsigned long long) m->pos_term,
			   (unsigned long long) m->end, (unsigned long long) m->commit, (unsigned long long) m->stamp_us,
			   bytes, flags);
}
