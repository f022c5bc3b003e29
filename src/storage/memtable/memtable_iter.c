/*
 * memtable_iter.c - walk a memtable in entry order, both ways.
 *
 * Run by any process under an epoch pin, without locks (why that is safe: memtable.c). There are no links backward:
 * a step back is a search.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "memtable_internal.h"

/* A walk forward fetches so many nodes ahead: neighbours in order lie anywhere in memory. */
#define AHEAD 3

typedef struct MemtableIter {
	Iter base;
	const Memtable *m;
	Link at;
	Link ahead; /* fetched up to here; 0: the end */
	int steps;  /* from at to ahead, unless nodes came in between */
} MemtableIter;

static void
iter_set(MemtableIter *it, Link link)
{
	it->at = it->ahead = link;
	it->steps = 0;
	it->base.valid = link != 0;
	if (link != 0)
		memtable_node_entry(node_at(it->m, link), &it->base.entry);
}

static void
memtable_iter_seek_first(Iter *base)
{
	MemtableIter *it = (MemtableIter *) base;

	iter_set(it, next_of(it->m, 0, 0));
}

static void
memtable_iter_seek_last(Iter *base)
{
	MemtableIter *it = (MemtableIter *) base;
	Link at = 0;

	int height = (int) atomic_load_explicit(&it->m->height, memory_order_relaxed);

	for (int level = height - 1; level >= 0; level--) {
		for (Link next; (next = next_of(it->m, at, level)) != 0;)
			at = next;
	}
	iter_set(it, at);
}

static void
memtable_iter_seek(Iter *base, Slice key, uint64_t version)
{
	MemtableIter *it = (MemtableIter *) base;
	Target t = target_of(key, version);

	iter_set(it, next_of(it->m, memtable_search(it->m, &t, NULL), 0));
}

static void
memtable_iter_seek_before(Iter *base, Slice key, uint64_t version)
{
	MemtableIter *it = (MemtableIter *) base;
	Target t = target_of(key, version);

	iter_set(it, memtable_search(it->m, &t, NULL));
}

/* Header, tower and key, the first bytes of the value. */
static void
fetch(const Node *n)
{
	__builtin_prefetch(n);
	__builtin_prefetch((const uint8_t *) n + 64);
	__builtin_prefetch((const uint8_t *) n + 128);
}

static void
memtable_iter_next(Iter *base)
{
	MemtableIter *it = (MemtableIter *) base;
	Link link;

	KV_ASSERT(base->valid);
	link = next_of(it->m, it->at, 0);
	for (it->steps--; it->steps < AHEAD && it->ahead != 0; it->steps++) {
		it->ahead = next_of(it->m, it->ahead, 0);
		fetch(node_at(it->m, it->ahead));
	}
	it->at = link;
	base->valid = link != 0;
	if (link != 0)
		memtable_node_entry(node_at(it->m, link), &base->entry);
}

/* No back links: they would cost memory in every node for the rarer direction. */
static void
memtable_iter_prev(Iter *base)
{
	MemtableIter *it = (MemtableIter *) base;
	Target t;

	KV_ASSERT(base->valid);
	t = target_of(base->entry.key, base->entry.version);
	iter_set(it, memtable_search(it->m, &t, NULL));
}

static void
memtable_iter_close(Iter *base)
{
	free(base);
}

static const IterOps memtable_iter_ops = {
	.seek_first = memtable_iter_seek_first,
	.seek_last = memtable_iter_seek_last,
	.seek = memtable_iter_seek,
	.seek_before = memtable_iter_seek_before,
	.next = memtable_iter_next,
	.prev = memtable_iter_prev,
	.close = memtable_iter_close,
};

Iter *
memtable_iter(const Memtable *m)
{
	MemtableIter *it = calloc(1, sizeof *it);

	if (it == NULL) {
		(void) status_fail(ST_OUT_OF_MEMORY, "no memory for an iterator");
		return NULL;
	}
	it->base.ops = &memtable_iter_ops;
	it->m = m;
	return &it->base;
}
