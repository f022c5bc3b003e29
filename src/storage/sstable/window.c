/*
 * window.c - bytes of a table file read ahead of an iterator.
 *
 * Any process; private memory. A walk that finds its blocks in the cache reads nothing; one that meets missing
 * blocks in a row, either way, reads more than it needs with each of them: AHEAD_MIN, doubling to AHEAD_MAX. The
 * first AHEAD_AFTER are read alone, so that a short scan reads no more than it looks at. Blocks found in the
 * cache in between make it cautious again.
 */
#include "port/fs.h"
#include "sstable_internal.h"

#define AHEAD_MIN (8 * 1024)
#define AHEAD_AFTER 2
/* Between two neighbouring data blocks an index block may lie. */
#define GAP_MAX (BLOCK_TARGET + BLOCK_TRAILER)

static uint64_t
block_end(BlockHandle h)
{
	return h.offset + h.size + BLOCK_TRAILER;
}

static bool
neighbours(BlockHandle a, BlockHandle b)
{
	return block_end(a) <= b.offset && b.offset - block_end(a) <= GAP_MAX;
}

void
window_hit(ReadWindow *w)
{
	w->ahead = w->ahead / 2 < AHEAD_MIN ? 0 : w->ahead / 2;
	if (w->ahead == 0)
		w->row = 0;
}

/* Bytes to read for `h`, which is not in the window. */
static size_t
ahead_of(ReadWindow *w, BlockHandle h)
{
	if (w->always)
		return WINDOW_MAX;
	if (!neighbours(w->last, h) && !neighbours(h, w->last)) {
		w->row = 0;
		w->ahead = 0;
	}
	if (w->row++ < AHEAD_AFTER)
		return 0;
	w->ahead = w->ahead == 0 ? AHEAD_MIN : w->ahead >= WINDOW_MAX / 2 ? WINDOW_MAX : w->ahead * 2;
	return w->ahead;
}

static Status
move_to(ReadWindow *w, const BlockFile *f, BlockHandle h, size_t want)
{
	uint64_t from = h.offset, end = block_end(h); /* h was checked: inside the file */
	size_t got;
	int fd;

	if (want < end - from)
		want = (size_t) (end - from);
	if (h.offset < w->last.offset) /* going backward: end with the block */
		from = end > want ? end - want : 0;
	if (want > f->bytes - from)
		want = (size_t) (f->bytes - from);
	w->bytes.len = 0;
	KV_TRY(buf_reserve(&w->bytes, want));
	KV_TRY(block_file(f, &fd));
	KV_TRY(fs_pread(fd, w->bytes.data, want, from, &got));
	w->at = from;
	w->bytes.len = got;
	return end > from + got ? block_damaged(f, h.offset, "the file ends within it") : ST_OK;
}

Status
window_load(ReadWindow *w, const BlockFile *f, BlockHandle h, Buf *own, Slice *out)
{
	if (h.offset < w->at || block_end(h) > w->at + w->bytes.len)
		KV_TRY(move_to(w, f, h, ahead_of(w, h)));
	w->last = h;
	return block_open(f, h, w->bytes.data + (h.offset - w->at), own, out);
}
