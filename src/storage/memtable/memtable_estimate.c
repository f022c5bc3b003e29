/*
 * memtable_estimate.c - about how much of a memtable lies in a range of keys.
 *
 * Run by any process under an epoch pin, without locks (why that is safe: memtable.c). A level of the skiplist is a
 * sample of the entries, each taken with the same chance: the highest level that has enough of the range is walked, and
 * what it says multiplied. A range of few entries is thereby counted, on level 0.
 */
#include "memtable_internal.h"

/* One node in 4 reaches the next level (memtable.c). */
#define BRANCH_BITS 2
/* The error of a sample of n is about 1 in sqrt(n): 6 %. The walk is at most a few times as long. */
#define SAMPLE_MIN 256

/* Nodes of the level from `at` on that are before `end` (NULL: all). */
static void
add_up(const Memtable *m, Link at, int level, const Target *end, EntrySum *sum)
{
	*sum = (EntrySum){ 0 };
	for (; at != 0; at = next_of(m, at, level)) {
		const Node *n = node_at(m, at);

		if (end != NULL && !node_before(n, end))
			break;
		sum->entries++;
		sum->tombstones += n->kind == ENTRY_DELETE;
		sum->bytes += n->key_len + (uint64_t) n->value_len;
	}
}

void
memtable_estimate(const Memtable *m, Slice start, Slice end, bool unbounded, EntrySum *sum)
{
	Target from = target_of(start, UINT64_MAX), to = target_of(end, UINT64_MAX);
	int level = (int) atomic_load_explicit(&m->height, memory_order_relaxed);
	Link path[HEIGHT_MAX] = { 0 };

	(void) memtable_search(m, &from, path);
	do {
		level--;
		add_up(m, next_of(m, path[level], level), level, unbounded ? NULL : &to, sum);
	} while (level > 0 && sum->entries < SAMPLE_MIN);
	sum->entries <<= BRANCH_BITS * level;
	sum->tombstones <<= BRANCH_BITS * level;
	sum->bytes <<= BRANCH_BITS * level;
}
