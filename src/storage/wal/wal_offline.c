/*
 * wal_offline.c - reading a log's files without the server's shared memory: tools, and kvd --check.
 *
 * One process that changes nothing. A server may be running: then files below may go, records above may be half
 * written; whoever reads tells these from damage by the mark, and by looking again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port/fs.h"
#include "wal_internal.h"

#define NUMBERS_FIRST 64 /* room for so many file numbers at first */

Status
wal_offline(const Control *control)
{
	WalShared *s = calloc(1, sizeof *s);

	if (s == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for reading the log");
	s->record_max = KV_RECORD_MAX;
	s->segment_size = control->wal_segment_size;
	s->first_lsn = wal_first_lsn(control);
	s->crc_seed = wal_crc_seed(control);
	free(wal_sh);
	wal_sh = s;
	return ST_OK;
}

Status
wal_offline_mark(WalMarkInfo *out)
{
	WalMark m;
	int slot;

	KV_TRY(wal_mark_read(&m, &slot));
	*out = (WalMarkInfo){ m.epoch, m.durable, m.commit, m.start };
	return ST_OK;
}

uint64_t
wal_offline_place(Lsn lsn, char *out)
{
	wal_segment_name(wal_segment_of(lsn), out);
	return lsn % wal_sh->segment_size;
}

typedef struct Numbers {
	uint64_t *n;
	size_t count, cap;
} Numbers;

static Status
note_number(void *arg, const char *name)
{
	Numbers *l = arg;
	char want[WAL_NAME_SIZE];
	uint64_t k;

	if (sscanf(name, "%16" SCNx64, &k) != 1 || k == 0)
		return ST_OK;
	wal_segment_name(k, want);
	if (strcmp(want, name) != 0 && strcmp(want + sizeof WAL_DIR, name) != 0)
		return ST_OK; /* the mark, a spare in the making, somebody's notes */
	if (l->count == l->cap) {
		size_t cap = l->cap == 0 ? NUMBERS_FIRST : 2 * l->cap;
		uint64_t *more = realloc(l->n, cap * sizeof *more);

		if (more == NULL)
			return status_fail(ST_OUT_OF_MEMORY, "out of memory listing " WAL_DIR);
		l->n = more;
		l->cap = cap;
	}
	l->n[l->count++] = k;
	return ST_OK;
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

Status
wal_offline_extent(Lsn *from, Lsn *to)
{
	Numbers l = { 0 };
	Status st = fs_list(WAL_DIR, note_number, &l);
	size_t i = 1;

	if (st == ST_OK && l.count == 0)
		st = status_fail(ST_NOT_FOUND, "there are no log files in \"" WAL_DIR "\"");
	if (st == ST_OK) {
		qsort(l.n, l.count, sizeof *l.n, by_number);
		while (i < l.count && l.n[i] == l.n[i - 1] + 1)
			i++;
		*from = l.n[0] * wal_sh->segment_size;
		*to = (l.n[i - 1] + 1) * wal_sh->segment_size;
	}
	free(l.n);
	return st;
}

Status
wal_offline_find(Lsn from, Lsn until, Lsn *at)
{
	WalScan s;
	Status st;

	KV_TRY(wal_scan_open(&s, from, UINT64_MAX, UINT64_MAX));
	st = wal_scan_find(&s, until);
	*at = s.pos;
	wal_scan_close(&s);
	return st;
}
