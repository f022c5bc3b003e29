/*
 * shheap.c - a heap in shared memory: boundary tags, free lists by size class, coalescing at once.
 *
 * Any process. Takes the HEAP lock, and being killed with it restarts the node with fresh memory, so nothing
 * here has to survive its user.
 *
 * Blocks tile the memory from `first` to `end` (a used block of header size that is never freed):
 *
 *   | 0   8 | word       size of the block (multiple of 16), bit 0 = used, bits 40-63 = tag of its address
 *   | 8   8 | prev_size  size of the block before it, 0 for the first
 *   | 16    | payload; of a free block: next and prev in its free list
 *
 * Invariants:
 * 1. No two free blocks are neighbours.
 * 2. Every free block is in the list of its class, every class list holds blocks of that class only.
 * 3. A word whose tag does not fit its address is no block: a stray or doubled free is an assert.
 */
#include "ipc/shheap.h"

#include <stdbool.h>
#include <string.h>

#include "common/hash.h"
#include "common/kv_assert.h"
#include "ipc/lwlock.h"

#define ALIGN 16
#define HEADER 16
#define BLOCK_MIN 32 /* header and the two links of a free block */
#define USED UINT64_C(1)
#define TAG_SHIFT 40 /* heaps are smaller than 1 TB */
#define SIZE_MASK ((UINT64_C(1) << TAG_SHIFT) - ALIGN)
#define CLASS_SPLIT 2 /* each power of two is split into 4 classes: at most 25 % lost by the search below */
#define CLASSES (TAG_SHIFT << CLASS_SPLIT)

typedef struct Block {
	uint64_t word;
	uint64_t prev_size;
	struct Block *next, *prev; /* free blocks only */
} Block;

/* All of it guarded by the HEAP lock; `used` is also read without it, for figures. */
typedef struct Heap {
	Block *first, *end;
	_Atomic size_t used;
	size_t total;
	Block *free[CLASSES];
} Heap;

static Heap *heap;

static uint64_t
tag_of(const Block *b)
{
	return hash_mix((uint64_t) (uintptr_t) b) << TAG_SHIFT;
}

static void
set_word(Block *b, size_t size, bool used)
{
	b->word = size | (used ? USED : 0) | tag_of(b);
}

static bool
tag_ok(const Block *b)
{
	return (b->word & ~((UINT64_C(1) << TAG_SHIFT) - 1)) == tag_of(b);
}

static size_t
size_of(const Block *b)
{
	return b->word & SIZE_MASK;
}

static bool
is_used(const Block *b)
{
	return b->word & USED;
}

static Block *
after(const Block *b)
{
	return (Block *) ((uintptr_t) b + size_of(b));
}

/* Class of the blocks with this size: the power of two and the next two bits. */
static unsigned
class_of(size_t size)
{
	unsigned top = 63 - (unsigned) __builtin_clzll(size);

	return (top << CLASS_SPLIT) + (unsigned) ((size >> (top - CLASS_SPLIT)) & ((1 << CLASS_SPLIT) - 1));
}

static void
list_add(Block *b)
{
	Block **head = &heap->free[class_of(size_of(b))];

	b->prev = NULL;
	b->next = *head;
	if (*head != NULL)
		(*head)->prev = b;
	*head = b;
}

static void
list_remove(Block *b)
{
	if (b->prev != NULL)
		b->prev->next = b->next;
	else
		heap->free[class_of(size_of(b))] = b->next;
	if (b->next != NULL)
		b->next->prev = b->prev;
}

void
shheap_shmem_init(void *mem, size_t bytes)
{
	uintptr_t start = ((uintptr_t) mem + sizeof(Heap) + ALIGN - 1) & ~(uintptr_t) (ALIGN - 1);
	uintptr_t end = (((uintptr_t) mem + bytes) & ~(uintptr_t) (ALIGN - 1)) - HEADER;

	KV_ASSERT(bytes > sizeof(Heap) + 4 * BLOCK_MIN && bytes < SIZE_MASK);
	heap = mem;
	memset(heap, 0, sizeof *heap);
	heap->first = (Block *) start;
	heap->end = (Block *) end;
	heap->total = bytes;
	heap->used = bytes - (end - start);
	set_word(heap->first, end - start, false);
	heap->first->prev_size = 0;
	set_word(heap->end, HEADER, true);
	heap->end->prev_size = end - start;
	list_add(heap->first);
}

/* A free block of at least this size: any in a higher class fits; only in its own class must we look. */
static Block *
find(size_t size)
{
	unsigned class = class_of(size);

	for (Block *b = heap->free[class]; b != NULL; b = b->next)
		if (size_of(b) >= size)
			return b;
	while (++class < CLASSES)
		if (heap->free[class] != NULL)
			return heap->free[class];
	return NULL;
}

void *
shheap_alloc(size_t bytes)
{
	size_t size;
	Block *b;

	if (bytes > heap->total)
		return NULL;
	size = (bytes + HEADER + ALIGN - 1) & ~(size_t) (ALIGN - 1);
	if (size < BLOCK_MIN)
		size = BLOCK_MIN;

	lwlock_acquire(LWLOCK_HEAP, 0);
	b = find(size);
	if (b != NULL) {
		size_t rest = size_of(b) - size;

		KV_ASSERT(tag_ok(b) && !is_used(b));
		list_remove(b);
		if (rest >= BLOCK_MIN) {
			Block *tail = (Block *) ((uintptr_t) b + size);

			set_word(tail, rest, false);
			tail->prev_size = size;
			after(tail)->prev_size = rest;
			list_add(tail);
		} else {
			size += rest;
		}
		set_word(b, size, true);
		heap->used += size;
	}
	lwlock_release(LWLOCK_HEAP, 0);
	return b == NULL ? NULL : (char *) b + HEADER;
}

/* b swallows its free right neighbour. */
static void
merge(Block *b, Block *right)
{
	size_t size = size_of(b) + size_of(right);

	KV_ASSERT(tag_ok(right) && right->prev_size == size_of(b));
	set_word(b, size, false);
	after(b)->prev_size = size;
}

void
shheap_free(void *p)
{
	Block *b = (Block *) ((uintptr_t) p - HEADER);
	Block *right;

	if (p == NULL)
		return;
	KV_ASSERT(b >= heap->first && b < heap->end && (uintptr_t) b % ALIGN == 0);
	lwlock_acquire(LWLOCK_HEAP, 0);
	KV_ASSERT(tag_ok(b) && is_used(b));
	heap->used -= size_of(b);
	set_word(b, size_of(b), false);
	right = after(b);
	if (!is_used(right)) {
		list_remove(right);
		merge(b, right);
	}
	if (b->prev_size != 0) {
		Block *left = (Block *) ((uintptr_t) b - b->prev_size);

		if (!is_used(left)) {
			list_remove(left);
			merge(left, b);
			b = left;
		}
	}
	list_add(b);
	lwlock_release(LWLOCK_HEAP, 0);
}

size_t
shheap_used(void)
{
	return heap->used;
}

size_t
shheap_total(void)
{
	return heap->total;
}
