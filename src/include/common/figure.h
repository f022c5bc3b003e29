/*
 * figure.h - figures in shared memory that one writer at a time adds to: one process, or whoever holds a lock.
 */
#ifndef COMMON_FIGURE_H
#define COMMON_FIGURE_H

#include <stdatomic.h>
#include <stdint.h>

/* Readers may see it at any moment; with one writer there is no need for an atomic addition. To subtract: -n. */
static inline void
figure_add(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(figure, atomic_load_explicit(figure, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
