/*
 * lines.c - a file line by line, in large reads.
 *
 * Invariant: [at, len) of buf is what was read and not given out.
 */
#include <errno.h>
#include <unistd.h>

#include "kvctl.h"

#define READ_BYTES (1u << 20)

/* More bytes behind those that are there. */
static Status
fill(Lines *l)
{
	ssize_t n;

	if (l->at > 0) {
		memmove(l->buf.data, l->buf.data + l->at, l->buf.len - l->at);
		l->buf.len -= l->at;
		l->at = 0;
	}
	if (l->buf.len > LINE_MAX_BYTES)
		return status_fail(ST_USAGE, "the line is longer than %u MB", LINE_MAX_BYTES >> 20);
	KV_TRY(buf_reserve(&l->buf, READ_BYTES));
	do
		n = read(l->fd, l->buf.data + l->buf.len, l->buf.cap - l->buf.len);
	while (n < 0 && errno == EINTR && !ctl_interrupted);
	if (n < 0)
		return status_fail_errno(ST_USAGE, "cannot read");
	l->eof = n == 0;
	l->buf.len += (size_t) n;
	return ST_OK;
}

Status
lines_next(Lines *l, const char **line, size_t *len)
{
	size_t seen = 0;

	*line = NULL;
	for (;;) {
		const char *start = (const char *) l->buf.data + l->at;
		size_t have = l->buf.len - l->at;
		const char *newline = have > seen ? memchr(start + seen, '\n', have - seen) : NULL;

		if (newline == NULL && !l->eof) {
			seen = have;
			l->number++; /* of the line that an error is about */
			KV_TRY(fill(l));
			l->number--;
			continue;
		}
		if (have == 0)
			return ST_OK;
		*line = start;
		*len = newline != NULL ? (size_t) (newline - start) : have;
		l->at += *len + (newline != NULL);
		l->bytes += *len + (newline != NULL);
		l->number++;
		return ST_OK;
	}
}

void
lines_free(Lines *l)
{
	buf_free(&l->buf);
}
