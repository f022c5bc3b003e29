/*
 * fence.h - included before everything else (-include) where processes run as threads under the thread
 * sanitizer.
 *
 * It does not know fences. An atomic addition to one word stands in for each: it orders at least as much, so
 * there are no false alarms, but a race between two who both have a fence behind them may stay unseen.
 */
#ifndef TEST_THREADS_FENCE_H
#define TEST_THREADS_FENCE_H

#include <stdatomic.h>

extern _Atomic unsigned threads_fence_word;
#undef atomic_thread_fence
#define atomic_thread_fence(order) ((void) atomic_fetch_add(&threads_fence_word, 1))

#endif
