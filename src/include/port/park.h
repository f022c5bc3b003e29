/*
 * park.h - sleep until a word in shared memory changes (Linux: futex; elsewhere: short naps).
 */
#ifndef PORT_PARK_H
#define PORT_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Sleep while *word == expected, at most timeout_us microseconds. Returns at once when it differs.
 * May return early (signal, spurious): callers loop. Works between processes.
 */
void park(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_us);
/* Wake up to n sleepers on the word. Call after changing it. Async-signal-safe. */
void unpark(_Atomic uint32_t *word, int n);
/* Politeness for spin loops (pause instruction). */
static inline void
park_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

#endif
