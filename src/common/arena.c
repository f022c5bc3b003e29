/*
 * arena.c - a list of blocks, filled from the newest.
 *
 * Runs anywhere; an arena belongs to one thread of one process. Invariants: the newest block is the
 * one being filled; used <= size; a request larger than what a block holds gets a block of its own.
 */
#include "common/arena.h"

#include <stdint.h>
#include <stdlib.h>

#define ALIGNMENT 8

struct ArenaBlock {
	ArenaBlock *next; /* older */
	size_t size;      /* of data */
	size_t used;
	_Alignas(ALIGNMENT) uint8_t data[];
};

static size_t
block_size(const Arena *a)
{
	return a->block_size != 0 ? a->block_size : ARENA_BLOCK_SIZE;
}

static ArenaBlock *
block_add(Arena *a, size_t bytes)
{
	size_t size = bytes > block_size(a) ? bytes : block_size(a);
	ArenaBlock *b = malloc(sizeof *b + size);

	if (b == NULL)
		return NULL;
	*b = (ArenaBlock){ .next = a->blocks, .size = size };
	a->blocks = b;
	return b;
}

void *
arena_alloc(Arena *a, size_t bytes)
{
	ArenaBlock *b = a->blocks;
	void *p;

	if (bytes > SIZE_MAX - sizeof *b - ALIGNMENT)
		return NULL;
	bytes = (bytes + ALIGNMENT - 1) & ~(size_t) (ALIGNMENT - 1);
	if (b == NULL || b->size - b->used < bytes)
		b = block_add(a, bytes);
	if (b == NULL)
		return NULL;
	p = b->data + b->used;
	b->used += bytes;
	return p;
}

void
arena_free(Arena *a)
{
	ArenaBlock *next;

	for (ArenaBlock *b = a->blocks; b != NULL; b = next) {
		next = b->next;
		free(b);
	}
	a->blocks = NULL;
}
