/*
 * replstate.c - the published view of the consensus worker.
 *
 * Writer: consensus worker. Readers: every attached process, without a lock.
 *
 * There are two copies. The worker fills the older one and then raises the sequence number, whose lowest
 * bit names the newer copy. A reader copies that one and takes it if the number is still the same: only
 * then was it not filled anew meanwhile. So a worker that stands still or dies while it writes never holds
 * a reader up and leaves nothing half done.
 *
 * Order: the fence in replstate_publish() stands between raising the number and filling the other copy. A
 * reader that saw a word of the new filling therefore sees, behind its own fence, the raised number, and
 * tries again.
 */
#include "replication/replstate.h"

#include "common/kv_assert.h"
#include "replstate_internal.h"

ReplShared *repl_sh;

size_t
replstate_shmem_size(int slots)
{
	return sizeof(ReplShared) + (size_t) slots * sizeof(ReplReader);
}

void
replstate_shmem_init(void *mem, int slots)
{
	KV_ASSERT((uintptr_t) mem % 64 == 0);
	repl_sh = mem;
	memset(mem, 0, replstate_shmem_size(slots));
	repl_sh->slots = slots;
}

void
replstate_publish(const ReplView *v)
{
	uint64_t seq = atomic_load_explicit(&repl_sh->view_seq, memory_order_relaxed);
	_Atomic uint64_t *to = repl_sh->view[(seq + 1) & 1];
	uint64_t words[REPL_VIEW_WORDS] = { 0 };

	KV_ASSERT(v->n >= 0 && v->n <= MEMBERSHIP_NODES_MAX);
	memcpy(words, v, sizeof *v);
	atomic_store_explicit(&repl_sh->election_ns, (uint64_t) v->election_ms * 1000000, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < REPL_VIEW_WORDS; i++)
		atomic_store_explicit(&to[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&repl_sh->view_seq, seq + 1, memory_order_release);
}

void
replstate_view(ReplView *out)
{
	uint64_t words[REPL_VIEW_WORDS];
	uint64_t seq;

	do {
		const _Atomic uint64_t *from;

		seq = atomic_load_explicit(&repl_sh->view_seq, memory_order_acquire);
		from = repl_sh->view[seq & 1];
		for (size_t i = 0; i < REPL_VIEW_WORDS; i++)
			words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load_explicit(&repl_sh->view_seq, memory_order_relaxed) != seq);
	memcpy(out, words, sizeof *out);
}

const ReplPeer *
replview_peer(const ReplView *v, uint64_t id)
{
	for (int i = 0; i < v->n; i++)
		if (v->peer[i].id == id)
			return &v->peer[i];
	return NULL;
}

void
replstate_leader_address(char out[MEMBERSHIP_ADDRESS_MAX + 1])
{
	const ReplPeer *p;
	ReplView v;

	replstate_view(&v);
	p = v.leader == 0 ? NULL : replview_peer(&v, v.leader);
	memset(out, 0, MEMBERSHIP_ADDRESS_MAX + 1);
	if (p != NULL)
		memcpy(out, p->client_address, sizeof p->client_address);
}
