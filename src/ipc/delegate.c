/*
 * delegate.c - replies left by backends, sent by the WAL writer.
 *
 * No locks. Each slot's box belongs to its backend while want is 0 and to the WAL writer while it is not:
 *   backend:     fills the box, then stores want (release)      0 -> position
 *   WAL writer:  sees want (acquire), sends, then stores 0 (release)
 * Sockets travel over a datagram pair that all children inherit. The WAL writer drains it before it clears a dead
 * slot, so an offer of the dead is never taken for one of the slot's next owner.
 */
#include "ipc/delegate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/net.h"

typedef struct Box {
	_Alignas(64) uint32_t len;   /* reply bytes; backend */
	uint32_t generation;         /* of the gate at insertion; backend */
	uint32_t sent;               /* WAL writer */
	uint64_t stuck_since_ns;     /* WAL writer: the socket was full since then; 0 not */
	_Atomic uint32_t registered; /* WAL writer: it has the socket */
	uint8_t reply[DELEGATE_REPLY_MAX];
} Box;

typedef struct DelegateShared {
	int slots;
	int pair[2]; /* backends write to 0, the WAL writer reads 1; the same numbers in all children */
	_Alignas(64) _Atomic uint32_t offers; /* sockets offered so far; backends */
	_Alignas(64) _Atomic uint64_t want[]; /* see above; then the boxes */
} DelegateShared;

static DelegateShared *shared;
static Box *boxes;

/* -- of the backend */
static bool offered;

/* -- of the WAL writer */
static int *sockets; /* by slot, -1 none */
static uint32_t offers_seen;

static size_t
boxes_at(int slots)
{
	return (sizeof(DelegateShared) + (size_t) slots * sizeof(shared->want[0]) + 63) & ~(size_t) 63;
}

size_t
delegate_shmem_size(int slots)
{
	return boxes_at(slots) + (size_t) slots * sizeof(Box);
}

Status
delegate_shmem_init(void *mem, int slots)
{
	static int pair[2] = { -1, -1 }; /* of the node's previous life */

	net_close_pair(pair);
	KV_TRY(net_socket_pair(pair));
	shared = mem;
	memset(mem, 0, delegate_shmem_size(slots));
	shared->slots = slots;
	shared->pair[0] = pair[0];
	shared->pair[1] = pair[1];
	boxes = (Box *) (void *) ((uint8_t *) mem + boxes_at(slots));
	return ST_OK;
}

bool
delegate_ready(int client_fd)
{
	if (atomic_load_explicit(&boxes[my_slot_no].registered, memory_order_acquire))
		return true;
	if (!offered) {
		offered = true; /* once: without room in the pair this connection does without */
		if (net_pass_fd(shared->pair[0], client_fd, (uint32_t) my_slot_no))
			atomic_fetch_add(&shared->offers, 1);
	}
	return false;
}

bool
delegate_pending(void)
{
	return atomic_load_explicit(&shared->want[my_slot_no], memory_order_acquire) != 0;
}

uint8_t *
delegate_buffer(void)
{
	KV_ASSERT(!delegate_pending());
	return boxes[my_slot_no].reply;
}

void
delegate_offer(size_t len, uint64_t want, uint32_t generation)
{
	Box *b = &boxes[my_slot_no];

	KV_ASSERT(len > 0 && len <= DELEGATE_REPLY_MAX && want != 0);
	b->len = (uint32_t) len;
	b->generation = generation;
	b->sent = 0;
	b->stuck_since_ns = 0;
	atomic_store(&shared->want[my_slot_no], want);
	procslot_wake(PROC_WALWRITER);
}

void
delegate_wait(void)
{
	while (delegate_pending()) {
		uint32_t token = procslot_prepare_sleep();

		if (delegate_pending())
			procslot_sleep(token, UINT64_C(1000000));
		else
			procslot_cancel_sleep();
	}
}

static void
make_sockets(void)
{
	sockets = malloc((size_t) shared->slots * sizeof *sockets);
	if (sockets == NULL)
		return; /* offers are dropped, backends do without */
	for (int i = 0; i < shared->slots; i++)
		sockets[i] = -1;
}

/* Take everything that lies in the pair. */
static void
drain(void)
{
	uint32_t slot;
	int fd;

	if (sockets == NULL)
		make_sockets();
	while (net_take_fd(shared->pair[1], &fd, &slot)) {
		KV_ASSERT(slot < (uint32_t) shared->slots);
		if (sockets == NULL) {
			net_close(fd); /* not kept for later, when the slot may be another's */
			continue;
		}
		if (sockets[slot] >= 0)
			net_close(sockets[slot]);
		sockets[slot] = fd;
		atomic_store_explicit(&boxes[slot].registered, 1, memory_order_release);
	}
}

void
delegate_collect(void)
{
	uint32_t offers = atomic_load(&shared->offers);

	if (offers == offers_seen)
		return;
	drain();
	offers_seen = offers;
}

uint64_t
delegate_oldest(bool *slow)
{
	uint64_t oldest = 0;

	*slow = false;

	for (int i = PROC_AUX_COUNT, high = procslot_high_water(); i < high; i++) {
		uint64_t want = atomic_load_explicit(&shared->want[i], memory_order_acquire);

		if (want == 0)
			continue;
		/* Nobody waits behind a client that does not read. */
		if (boxes[i].stuck_since_ns != 0)
			*slow = true;
		else if (oldest == 0 || want < oldest)
			oldest = want;
	}
	return oldest;
}

/* The box is the backend's again. */
static void
give_back(int slot)
{
	atomic_store(&shared->want[slot], 0);
	procslot_wake(slot);
}

/* Send the rest of a reply; true when the box is done with. */
static bool
send_reply(int slot, uint64_t timeout_ms)
{
	Box *b = &boxes[slot];
	int n = net_send_some(sockets[slot], b->reply + b->sent, b->len - b->sent);

	if (n < 0)
		return true; /* the client is gone; its backend will notice */
	b->sent += (uint32_t) n;
	if (b->sent == b->len)
		return true;
	if (n > 0 || b->stuck_since_ns == 0)
		b->stuck_since_ns = clock_mono_ns();
	if (clock_mono_ns() - b->stuck_since_ns < timeout_ms * 1000000)
		return false;
	net_shutdown(sockets[slot]);
	return true;
}

void
delegate_send(uint64_t applied, uint64_t commit, uint32_t generation, uint64_t timeout_ms)
{
	for (int i = PROC_AUX_COUNT, high = procslot_high_water(); i < high; i++) {
		uint64_t want = atomic_load_explicit(&shared->want[i], memory_order_acquire);

		if (want == 0)
			continue;
		if (want <= applied) {
			if (send_reply(i, timeout_ms))
				give_back(i);
		} else if (want > commit && boxes[i].generation != generation) {
			net_shutdown(sockets[i]);
			give_back(i);
		}
	}
}

void
delegate_forget(int slot)
{
	drain(); /* also what was sent by one that died before it counted its offer */
	atomic_store(&shared->want[slot], 0);
	atomic_store(&boxes[slot].registered, 0);
	if (sockets == NULL || sockets[slot] < 0)
		return;
	net_shutdown(sockets[slot]);
	net_close(sockets[slot]);
	sockets[slot] = -1;
}
