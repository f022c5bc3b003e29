/*
 * kv_assert.h - asserts that stay on in release builds.
 *
 * KV_ASSERT: our own bug, cheap to test; the process aborts with the place.
 * KV_DEBUG_ASSERT: as KV_ASSERT, but compiled in only with -DKV_DEBUG (hot paths).
 */
#ifndef COMMON_KV_ASSERT_H
#define COMMON_KV_ASSERT_H

_Noreturn void kv_assert_failed(const char *expr, const char *file, int line);

#define KV_ASSERT(expr) ((expr) ? (void) 0 : kv_assert_failed(#expr, __FILE__, __LINE__))

#ifdef KV_DEBUG
#define KV_DEBUG_ASSERT(expr) KV_ASSERT(expr)
#else
#define KV_DEBUG_ASSERT(expr) ((void) sizeof(expr))
#endif

#endif
