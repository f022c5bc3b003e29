/*
 * driver.c - runs a fuzz target without libFuzzer: mutates its seeds, from a seed of its own.
 *
 * An input that ends the process is left in crash-SEED-N in the current directory; give its name to run it
 * again.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/elog.h"
#include "common/prng.h"
#include "fuzz.h"

#define SEEDS_MAX 256
#define INPUT_MAX 65536
#define MUTATIONS_MAX 6

static struct {
	uint8_t *data;
	size_t size;
} seeds[SEEDS_MAX];
static int nseeds;

static uint8_t input[INPUT_MAX];
static size_t input_size;
static uint64_t seed = 1, run;

static void
add_seed(const void *data, size_t size)
{
	if (nseeds == SEEDS_MAX || size > INPUT_MAX)
		return;
	seeds[nseeds].data = malloc(size + 1);
	FUZZ_CHECK(seeds[nseeds].data != NULL);
	memcpy(seeds[nseeds].data, data, size);
	seeds[nseeds++].size = size;
}

static uint64_t
interesting(Prng *g)
{
	static const uint64_t list[] = { 0,
									 1,
									 7,
									 8,
									 16,
									 127,
									 128,
									 255,
									 256,
									 4095,
									 4096,
									 65535,
									 65536,
									 0x7fffffff,
									 0x80000000,
									 0xffffffff,
									 UINT64_C(0x7fffffffffffffff),
									 UINT64_MAX };

	return list[prng_below(g, sizeof list / sizeof list[0])];
}

static void
insert(Prng *g, const uint8_t *from, size_t n)
{
	size_t at = prng_below(g, input_size + 1);

	if (n > INPUT_MAX - input_size)
		n = INPUT_MAX - input_size;
	memmove(input + at + n, input + at, input_size - at);
	memmove(input + at, from, n);
	input_size += n;
}

static void
mutate(Prng *g)
{
	size_t at = input_size > 0 ? prng_below(g, input_size) : 0, n = input_size - at;
	static const size_t widths[] = { 1, 2, 4, 8 };
	uint8_t bytes[8];
	int other = (int) prng_below(g, (uint64_t) nseeds);

	put_u64(bytes, prng_below(g, 2) == 0 ? interesting(g) : prng_next(g));
	switch (prng_below(g, 8)) {
	case 0:
	case 1:
		if (n > 0)
			input[at] ^= (uint8_t) (1u << prng_below(g, 8));
		break;
	case 2:
	case 3: {
		size_t width = widths[prng_below(g, 4)];

		if (n >= width)
			memcpy(input + at, bytes, width);
		break;
	}
	case 4: /* some bytes are gone */
		n = n > 0 ? 1 + prng_below(g, n < 64 ? n : 64) : 0;
		memmove(input + at, input + at + n, input_size - at - n);
		input_size -= n;
		break;
	case 5:
		insert(g, bytes, 1 + prng_below(g, 8));
		break;
	case 6: /* a piece of another, or of this one once more */
		if (seeds[other].size > 0) {
			size_t from = prng_below(g, seeds[other].size);

			insert(g, seeds[other].data + from, prng_below(g, seeds[other].size - from) + 1);
		}
		break;
	default:
		if (prng_below(g, 4) == 0)
			input_size = at;
	}
}

static void
draw_input(Prng *g)
{
	int i = (int) prng_below(g, (uint64_t) nseeds), n = (int) prng_below(g, MUTATIONS_MAX + 1);

	memcpy(input, seeds[i].data, seeds[i].size);
	input_size = seeds[i].size;
	while (n-- > 0)
		mutate(g);
}

/* A copy of exactly its size: one byte beyond is found by the sanitizer. */
static void
run_input(void)
{
	uint8_t *copy = malloc(input_size + (input_size == 0));

	FUZZ_CHECK(copy != NULL);
	memcpy(copy, input, input_size);
	(void) LLVMFuzzerTestOneInput(copy, input_size);
	free(copy);
}

static void
on_crash(int signo)
{
	char name[64];
	FILE *f;

	signal(signo, SIG_DFL);
	snprintf(name, sizeof name, "crash-%llu-%llu", (unsigned long long) seed, (unsigned long long) run);
	f = fopen(name, "wb");
	if (f != NULL) {
		fwrite(input, 1, input_size, f);
		fclose(f);
	}
	fprintf(stderr, "signal %d at seed %llu, run %llu; the input is in %s\n", signo,
			(unsigned long long) seed, (unsigned long long) run, name);
	raise(signo);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static int
run_file(const char *name)
{
	FILE *f = fopen(name, "rb");

	if (f == NULL) {
		perror(name);
		return 2;
	}
	input_size = fread(input, 1, sizeof input, f);
	fclose(f);
	run_input();
	return 0;
}

static int
write_seeds(const char *dir)
{
	for (int i = 0; i < nseeds; i++) {
		char name[512];
		FILE *f;

		snprintf(name, sizeof name, "%s/seed-%03d", dir, i);
		f = fopen(name, "wb");
		if (f == NULL) {
			perror(name);
			return 2;
		}
		fwrite(seeds[i].data, 1, seeds[i].size, f);
		fclose(f);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	uint64_t runs = 20000, seconds = 0;
	double began = now();
	Prng g;

	elog_setup(-1, LOG_LEVEL_PANIC, false);
	fuzz_seeds(add_seed);
	add_seed("", 0);
	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && strcmp(argv[i], "--runs") == 0)
			runs = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
			seconds = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--write") == 0)
			return write_seeds(argv[++i]);
		else
			return run_file(argv[i]);
	}
	signal(SIGABRT, on_crash);
	signal(SIGSEGV, on_crash);
	signal(SIGBUS, on_crash);
	signal(SIGFPE, on_crash);
	prng_seed(&g, seed);
	for (run = 0; run < runs && (seconds == 0 || now() - began < (double) seconds); run++) {
		draw_input(&g);
		run_input();
	}
	printf("%-28s %d seeds, %llu inputs, %.1f s\n",
		   strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0], nseeds,
		   (unsigned long long) run, now() - began);
	return 0;
}
