/*
 * peer_queue.c - what waits to be sent on a connection: messages, and a range of the log between them.
 *
 * Consensus worker. Nothing waits; reads the log's ring, which others overwrite meanwhile.
 *
 * Invariants:
 * 1. Bytes leave in the order in which they were queued; log bytes [range_from, range_to) stand at range_at
 *    between them.
 * 2. Log bytes count as sent only if they were still in the ring after they had been handed to the system
 *    (rule C3); else the connection ends, and the other node drops what was cut off (its CRCs would find
 *    it, too).
 */
#include "common/elog.h"
#include "peer_internal.h"
#include "port/clock.h"
#include "storage/wal.h"

#define QUEUE_COMPACT 16384 /* sent bytes at the queue's front that are worth a copy */
#define SENDS_PER_TURN 4    /* of one connection: the others' heartbeats want to leave, too */

static bool
has_range(const PeerOut *o)
{
	return o->range_from < o->range_to;
}

bool
peer_queue_waits(const PeerOut *o)
{
	return o->queue_at < o->queue.len || has_range(o);
}

void
peer_queue_clear(PeerOut *o)
{
	buf_clear(&o->queue);
	o->queue_at = o->range_at = 0;
	o->range_from = o->range_to = 0;
}

/* After the system took n bytes: first what stands before the range, then the range, then the rest. */
static void
advance(PeerOut *o, size_t n)
{
	size_t first = has_range(o) ? o->range_at - o->queue_at : 0, of_range;

	if (first > n)
		first = n;
	o->queue_at += first;
	n -= first;
	of_range = n < o->range_to - o->range_from ? n : o->range_to - o->range_from;
	o->range_from += of_range;
	o->queue_at += n - of_range;
	if (o->queue_at == o->queue.len && !has_range(o)) {
		buf_clear(&o->queue);
		o->queue_at = 0;
	} else if (o->queue_at >= QUEUE_COMPACT) {
		memmove(o->queue.data, o->queue.data + o->queue_at, o->queue.len - o->queue_at);
		o->queue.len -= o->queue_at;
		o->range_at -= has_range(o) ? o->queue_at : 0;
		o->queue_at = 0;
	}
}

/* What to send now, in order; -1: the range is no longer in the ring. */
static int
pieces(const PeerOut *o, struct iovec iov[4])
{
	size_t split = has_range(o) ? o->range_at : o->queue.len;
	int n = 0, k;

	if (split > o->queue_at)
		iov[n++] = (struct iovec){ o->queue.data + o->queue_at, split - o->queue_at };
	if (!has_range(o))
		return n;
	k = wal_ring_pieces(o->range_from, o->range_to, iov + n);
	if (k == 0)
		return -1;
	n += k;
	if (o->queue.len > split)
		iov[n++] = (struct iovec){ o->queue.data + split, o->queue.len - split };
	return n;
}

const char *
peer_queue_push(PeerOut *o)
{
	for (int i = 0; i < SENDS_PER_TURN && peer_queue_waits(o); i++) {
		struct iovec iov[4];
		int n = pieces(o, iov);
		bool ranged = has_range(o);
		Lsn from = o->range_from;
		ssize_t sent = n < 0 ? 0 : net_sendv_some(o->fd, iov, n);

		/* Rule C3: overwritten while it was read? */
		if (n < 0 || (ranged && wal_ring_floor() > from)) {
			return "it was too slow for the log's ring";
		}
		if (sent < 0) {
			return "the connection broke";
		}
		if (sent == 0)
			break;
		o->moved_ns = clock_mono_ns();
		advance(o, (size_t) sent);
	}
	return NULL;
}

static void
note_waiting(PeerOut *o)
{
	if (!peer_queue_waits(o))
		o->moved_ns = clock_mono_ns();
}

void
peer_queue_message(PeerOut *o, const RaftMsg *m)
{
	if (o->queue.len - o->queue_at > PEERS_QUEUE_MAX - PEER_FRAME_HEAD - PEER_MESSAGE_MAX)
		return;
	note_waiting(o);
	if (peer_message_encode(m, 0, &o->queue) != ST_OK)
		elog(LOG_LEVEL_WARNING, "a message to node %s is dropped: %s", o->name, status_detail());
}

bool
peer_queue_ready(const PeerOut *o)
{
	return !has_range(o) && o->queue.len - o->queue_at <= PEERS_READY_MAX;
}

uint64_t
peer_queue_range(PeerOut *o, const RaftMsg *head, uint64_t to)
{
	struct iovec iov[2];
	RaftMsg m = *head;

	if (to > head->pos + PEERS_CHUNK)
		to = head->pos + PEERS_CHUNK;
	if (!peer_queue_ready(o) || to <= head->pos || wal_ring_pieces(head->pos, to, iov) == 0)
		return head->pos;
	note_waiting(o);
	m.end = to;
	if (peer_message_encode(&m, (size_t) (to - head->pos), &o->queue) != ST_OK)
		return head->pos;
	o->range_at = o->queue.len;
	o->range_from = head->pos;
	o->range_to = to;
	return to;
}
