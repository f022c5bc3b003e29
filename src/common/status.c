/*
 * status.c - the detail of the last failure, per thread, and the names of the codes.
 *
 * Runs in every process and in clients. No locks: the detail is thread-local.
 * Invariant: detail is NUL-terminated, at most STATUS_DETAIL_MAX bytes with its NUL. Arguments may
 * point into the detail itself (status_fail(code, "%s", status_detail())), so each text is
 * built beside it and copied at the end.
 */
#include "common/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERRNO_TEXT_MAX 128

static _Thread_local char detail[STATUS_DETAIL_MAX];

/* Write at text[at], cut at the end of the text. */
static void KV_PRINTF(3, 4)
append(char text[STATUS_DETAIL_MAX], size_t at, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(text + at, STATUS_DETAIL_MAX - at, fmt, args);
	va_end(args);
}

Status
status_fail(Status code, const char *fmt, ...)
{
	char text[STATUS_DETAIL_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	memcpy(detail, text, sizeof text);
	return code;
}

Status
status_fail_errno(Status code, const char *fmt, ...)
{
	int err = errno;
	char why[ERRNO_TEXT_MAX];
	char text[STATUS_DETAIL_MAX];
	va_list args;

	if (strerror_r(err, why, sizeof why) != 0)
		snprintf(why, sizeof why, "error %d", err);
	/* When both do not fit it is the caller's text that is cut: the reason is what counts. */
	va_start(args, fmt);
	vsnprintf(text, sizeof text - strlen(why) - 2, fmt, args);
	va_end(args);
	append(text, strlen(text), ": %s", why);
	memcpy(detail, text, sizeof text);
	errno = err;
	if (code == ST_IO_ERROR && (err == ENOSPC || err == EDQUOT))
		return ST_NO_SPACE;
	return code;
}

Status
status_prefix(Status code, const char *fmt, ...)
{
	char text[STATUS_DETAIL_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	append(text, strlen(text), ": %s", detail[0] != '\0' ? detail : status_text((int) code));
	memcpy(detail, text, sizeof text);
	return code;
}

const char *
status_detail(void)
{
	return detail;
}

const char *
status_name(int code)
{
	switch (code) {
#define STATUS_NAME(name, number, text) \
	case number: \
		return #name;
		STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
	default:
		return "UNKNOWN";
	}
}

const char *
status_text(int code)
{
	switch (code) {
#define STATUS_TEXT(name, number, text) \
	case number: \
		return text;
		STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
	default:
		return "unknown code";
	}
}
