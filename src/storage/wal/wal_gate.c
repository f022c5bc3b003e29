/*
 * wal_gate.c - the gate: may backends insert records, and for which term?
 *
 * Opened and closed by the consensus worker only; read by everybody. The gate is the lowest bit of the
 * generation in the reserve word (wal_ring.c): closing is one compare-and-swap, after which no reservation
 * succeeds.
 */
#include "common/kv_assert.h"
#include "common/process_local.h"
#include "ipc/procslot.h"
#include "port/clock.h"
#include "port/park.h"
#include "wal_internal.h"

#define CLOSE_SPINS 1000 /* an insertion takes microseconds */
#define CLOSE_NAP_US 100 /* inserters wake nobody, so look again soon */

uint32_t
wal_generation(void)
{
	return wal_word_generation(atomic_load(&wal_sh->reserve));
}

/* Generation up. Returns the new one. */
static uint32_t
raise_generation(uint32_t by)
{
	uint64_t w = atomic_load(&wal_sh->reserve), next;

	do
		next = wal_word(wal_word_generation(w) + by, wal_word_pos(w));
	while (!atomic_compare_exchange_weak(&wal_sh->reserve, &w, next));
	return wal_word_generation(next);
}

void
wal_open_gate(void)
{
	KV_ASSERT(!wal_generation_open(wal_generation()));
	KV_ASSERT(wal_term() != 0 && wal_inserting_slot() < 0);
	KV_ASSERT(wal_generation_open(raise_generation(1)));
}

bool
wal_close_gate(int limit_ms, int *stuck_slot)
{
	static PROCESS_LOCAL bool closing; /* marks of the generation before count */
	uint64_t until = clock_mono_ns() + (uint64_t) limit_ms * 1000000;
	int slot;

	if (wal_generation_open(wal_generation())) {
		raise_generation(1);
		closing = true;
	}
	for (int i = 0; (slot = wal_inserting_slot()) >= 0; i++) {
		static _Atomic uint32_t nobody_wakes;

		if (i < CLOSE_SPINS)
			park_relax();
		else if (clock_mono_ns() < until)
			park(&nobody_wakes, 0, CLOSE_NAP_US);
		else {
			*stuck_slot = slot;
			return false;
		}
	}
	/* A mark that comes now is of somebody who slept before he reserved, and who will not: it must not count. */
	if (closing)
		raise_generation(2);
	closing = false; /* a close that finds it closed changes nothing */
	/*
	 * No hole can be left: who reserved has copied, and who died in between was in a critical section, which
	 * restarts the node. So the stream ends at the position reserved.
	 */
	KV_ASSERT(wal_inserted() == wal_reserved());
	return true;
}
