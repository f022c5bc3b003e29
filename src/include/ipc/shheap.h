/*
 * shheap.h - a heap in shared memory for the few variable-sized things that readers follow by
 * pointer (the list of tables, their key ranges). Guarded by the HEAP lock.
 */
#ifndef IPC_SHHEAP_H
#define IPC_SHHEAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* Overhead included: the heap manages exactly `bytes`. */
void shheap_shmem_init(void *mem, size_t bytes);
/* 16-byte aligned, not zeroed. NULL when full (the caller names the setting metadata_size). */
KV_CHECK void *shheap_alloc(size_t bytes);
/* NULL is allowed. Asserts that it is an allocated block of this heap. */
void shheap_free(void *p);
size_t shheap_used(void);
size_t shheap_total(void);

#endif
