/*
 * elog.c - log lines.
 *
 * Runs in every process. No locks: one line is one write(2) below PIPE_BUF, which pipes and files opened
 * O_APPEND keep whole. The one place in common that makes system calls (see README), so that
 * every room can log. A line that cannot be written is lost: there is nobody left to tell.
 *
 * Control bytes in a message become spaces (text) or escapes (JSON), and bytes that are not
 * UTF-8 become '?': what a client sends can neither start a line nor break a reader of JSON.
 */
#include "common/elog.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096   /* PIPE_BUF on Linux: longer writes may be torn */
#define MESSAGE_MAX_BYTES 2048 /* longer messages are cut */

static const char *const level_name[] = { "DEBUG", "INFO", "LOG", "WARNING", "ERROR", "FATAL", "PANIC" };

static int log_fd = 2;
static LogLevel log_min = LOG_LEVEL_LOG;
static bool log_json;
static const char *process_name = "kvd";

typedef struct Line {
	char text[LINE_MAX_BYTES];
	size_t len; /* <= sizeof text - 1 - room for the closing bytes */
} Line;

#define LINE_ROOM (LINE_MAX_BYTES - 8) /* what is added by line_add; the rest is for "}\n and NUL */

void
elog_setup(int fd, LogLevel min, bool json)
{
	log_fd = fd;
	log_min = min;
	log_json = json;
}

void
elog_process(const char *name)
{
	process_name = name;
}

/* Length of the UTF-8 sequence at p (RFC 3629), 0 when it is none. */
static size_t
utf8_len(const unsigned char *p)
{
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0; /* the closing NUL ends here too */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
		(p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static void
line_add(Line *l, const char *bytes, size_t n)
{
	if (n > LINE_ROOM - l->len)
		return;
	memcpy(l->text + l->len, bytes, n);
	l->len += n;
}

static void
line_add_clean(Line *l, const char *s)
{
	const unsigned char *p = (const unsigned char *) s;
	char escape[8];

	while (*p != '\0') {
		size_t n = utf8_len(p);

		if (n == 0) {
			line_add(l, "?", 1);
			n = 1;
		} else if (*p >= 0x20 && *p != 0x7f && !(log_json && (*p == '"' || *p == '\\'))) {
			line_add(l, (const char *) p, n);
		} else if (!log_json) {
			line_add(l, " ", 1);
		} else if (*p == '"' || *p == '\\') {
			snprintf(escape, sizeof escape, "\\%c", *p);
			line_add(l, escape, 2);
		} else {
			snprintf(escape, sizeof escape, "\\u%04x", *p);
			line_add(l, escape, 6);
		}
		p += n;
	}
}

/* "2026-01-31 12:00:00.123 UTC", or with `iso` "2026-01-31T12:00:00.123Z". */
static void
format_now(char *out, size_t size, bool iso)
{
	struct timespec now;
	struct tm tm;
	char date[40];

	clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &tm) == NULL)
		memset(&tm, 0, sizeof tm);
	strftime(date, sizeof date, iso ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(out, size, "%s.%03d%s", date, (int) (now.tv_nsec / 1000000), iso ? "Z" : " UTC");
}

static void
line_build(Line *l, LogLevel level, const char *message)
{
	char now[64];
	int n;

	format_now(now, sizeof now, log_json);
	if (log_json)
		n = snprintf(l->text, LINE_ROOM,
			"{\"time\":\"%s\",\"pid\":%ld,\"process\":\"%.64s\",\"level\":\"%s\",\"message\":\"", now,
			(long) getpid(), process_name, level_name[level]);
	else
		n = snprintf(l->text, LINE_ROOM, "%s [%ld] %.64s %s:  ", now, (long) getpid(), process_name,
			level_name[level]);
	l->len = (size_t) n;
	line_add_clean(l, message);
	if (log_json) {
		l->text[l->len++] = '"';
		l->text[l->len++] = '}';
	}
	l->text[l->len++] = '\n';
}

static void KV_PRINTF(2, 0)
elog_v(LogLevel level, const char *fmt, va_list args)
{
	int saved_errno = errno;
	char message[MESSAGE_MAX_BYTES];
	Line line;
	size_t done = 0;

	if (level < log_min)
		return;
	vsnprintf(message, sizeof message, fmt, args);
	line_build(&line, level, message);
	while (done < line.len) {
		ssize_t n = write(log_fd, line.text + done, line.len - done);

		if (n > 0)
			done += (size_t) n;
		else if (n == 0 || errno != EINTR)
			break;
	}
	errno = saved_errno;
}

void
elog(LogLevel level, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	elog_v(level, fmt, args);
	va_end(args);
}

_Noreturn void
elog_panic(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	elog_v(LOG_LEVEL_PANIC, fmt, args);
	va_end(args);
	_exit(EXIT_STOP_NODE);
}
