/*
 * arena.h - memory that is freed all at once, by lifetime (a message, a job).
 *
 * Pointers stay valid until arena_free(). Allocations are 8-byte aligned.
 */
#ifndef COMMON_ARENA_H
#define COMMON_ARENA_H

#include <stddef.h>

#include "common/bytes.h"

typedef struct ArenaBlock ArenaBlock;

typedef struct Arena {
	ArenaBlock *blocks;  /* newest first; zero-initialise the struct */
	size_t block_size;   /* 0 means ARENA_BLOCK_SIZE */
} Arena;

#define ARENA_BLOCK_SIZE 8192

/* NULL when out of memory. */
KV_CHECK void *arena_alloc(Arena *a, size_t bytes);
void arena_free(Arena *a);

#endif
