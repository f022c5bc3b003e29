/*
 * fuzz.h - one decoder, fed with anything: what each fuzz_NAME.c offers, and what they share.
 *
 * A target is built with libFuzzer (clang) or with driver.c, which knows nothing of coverage but runs
 * everywhere. It must come back from any input: refused with a status, or taken. Where bytes are guarded by a
 * checksum they are looked at as they are, and once more with the checksum made right, or nothing behind it
 * would ever be reached.
 */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/coding.h"
#include "common/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Inputs that are sound, made by the encoders: what is mutated. */
typedef void (*FuzzAdd)(const void *data, size_t size);
void fuzz_seeds(FuzzAdd add);

/* An invariant of the decoder itself. */
#define FUZZ_CHECK(expr)                                                                                     \
	do {                                                                                                     \
		if (!(expr))                                                                                         \
			fuzz_broken(#expr, __FILE__, __LINE__);                                                          \
	} while (0)
_Noreturn void fuzz_broken(const char *expr, const char *file, int line);
/* Touches every byte: a slice that points outside of what it should is found by the sanitizer. */
void fuzz_touch(Slice s);
/* For seeds that have to be encoded: failing is a mistake of the fuzzer. */
#define FUZZ_MUST(expr) FUZZ_CHECK((expr) == ST_OK)

/* common.c: a file of this content on a simulated disk, which `fs` is from then on. */
void fuzz_file(const char *path, const void *data, size_t size);
/* A directory for it. */
void fuzz_dir(const char *path);
/* What the encoders wrote to `path` becomes a seed. */
void fuzz_seed_of_file(FuzzAdd add, const char *path);

#endif
