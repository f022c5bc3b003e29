/*
 * wal_terms.c - the term history: which term a position belongs to.
 *
 * A bounded ring of (term, first LSN) in shared memory. Writers: recovery, then the gate's owner while the
 * gate is closed; readers: everybody, without a lock, under a sequence counter (odd: being changed; a reader
 * tries again). A writer that dies inside is in a critical section, so the node restarts and nobody spins for
 * long.
 *
 * When WAL_TERMS_MAX are remembered the oldest goes. The first entry after recovery stands for the records
 * just above where recovery began; its term may really have started earlier.
 */
#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "port/park.h"
#include "wal_internal.h"

#define T (&wal_sh->terms)

/*
 * Acquire and release on every field instead of fences: a reader that meets a new value has thereby also met
 * the odd counter stored before it, and its second look at the counter comes after all its loads.
 */
static uint32_t
load32(_Atomic uint32_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static uint64_t
load64(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static void
change_begin(void)
{
	critical_enter();
	atomic_fetch_add_explicit(&T->changing, 1, memory_order_relaxed);
}

static void
change_end(void)
{
	atomic_fetch_add_explicit(&T->changing, 1, memory_order_release);
	critical_leave();
}

static uint32_t
read_begin(void)
{
	uint32_t seq;

	while (((seq = load32(&T->changing)) & 1) != 0)
		park_relax();
	return seq;
}

static bool
read_again(uint32_t seq)
{
	return load32(&T->changing) != seq;
}

/* i-th oldest entry's place. */
static uint32_t
place(uint32_t i)
{
	return (load32(&T->first) + i) % WAL_TERMS_MAX;
}

void
wal_terms_reset(void)
{
	change_begin();
	atomic_store_explicit(&T->count, 0, memory_order_release);
	atomic_store_explicit(&T->first, 0, memory_order_release);
	change_end();
}

void
wal_terms_add(uint64_t term, Lsn start)
{
	uint32_t n = load32(&T->count), at = place(n);

	KV_ASSERT(n == 0 || (load64(&T->term[place(n - 1)]) < term && load64(&T->start[place(n - 1)]) <= start));
	change_begin();
	atomic_store_explicit(&T->term[at], term, memory_order_release);
	atomic_store_explicit(&T->start[at], start, memory_order_release);
	if (n == WAL_TERMS_MAX)
		atomic_store_explicit(&T->first, place(1), memory_order_release);
	else
		atomic_store_explicit(&T->count, n + 1, memory_order_release);
	change_end();
}

void
wal_terms_cut(Lsn to)
{
	uint32_t n = load32(&T->count);

	change_begin();
	while (n > 0 && load64(&T->start[place(n - 1)]) >= to)
		n--;
	atomic_store_explicit(&T->count, n, memory_order_release);
	change_end();
}

uint64_t
wal_term(void)
{
	uint64_t term;
	uint32_t seq, n;

	do {
		seq = read_begin();
		n = load32(&T->count);
		term = n == 0 ? 0 : load64(&T->term[place(n - 1)]);
	} while (read_again(seq));
	return term;
}

/* Index of the newest entry that starts at or below lsn; -1: none. */
static int64_t
find(Lsn lsn)
{
	int64_t low = -1, high = load32(&T->count);

	if (high > 0 && load64(&T->start[place((uint32_t) high - 1)]) <= lsn)
		return high - 1; /* nearly always */
	while (high - low > 1) {
		int64_t mid = low + (high - low) / 2;

		if (load64(&T->start[place((uint32_t) mid)]) <= lsn)
			low = mid;
		else
			high = mid;
	}
	return low;
}

uint64_t
wal_term_at(Lsn lsn)
{
	uint64_t term;
	uint32_t seq;

	do {
		int64_t i;

		seq = read_begin();
		i = find(lsn);
		term = i < 0 ? 0 : load64(&T->term[place((uint32_t) i)]);
	} while (read_again(seq));
	return term;
}

int
wal_term_history(WalTerm *out, int max)
{
	uint32_t seq;
	int n;

	do {
		int have;

		seq = read_begin();
		have = (int) load32(&T->count);
		n = have < max ? have : max;
		for (int i = 0; i < n; i++) {
			uint32_t at = place((uint32_t) (have - 1 - i));

			out[i] = (WalTerm){ load64(&T->term[at]), load64(&T->start[at]) };
		}
	} while (read_again(seq));
	return n;
}
