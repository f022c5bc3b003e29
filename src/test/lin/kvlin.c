/*
 * kvlin.c - the program: checks recorded histories.
 *
 * Exit codes: 0 linearizable; 1 not; 2 wrong usage or no history; 3 undecided within the bounds.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lin.h"
#include "port/clock.h"

enum { EXIT_ILLEGAL = 1, EXIT_USAGE = 2, EXIT_UNDECIDED = 3 };

#define DEFAULT_STEPS UINT64_C(50000000)
#define DEFAULT_MEMORY_MB 512
#define DEFAULT_SECONDS 120
#define NS_PER_S UINT64_C(1000000000)

static void
usage(FILE *out)
{
	fprintf(
		out,
		"Usage: kvlin [OPTION]... HISTORY...\n"
		"Was the history linearizable? Several files are one history: other processes, the same clock.\n\n"
		"  -n, --steps N       configurations to try for a key (%llu)\n"
		"  -m, --memory MB     for those that are remembered (%d)\n"
		"  -t, --time SECONDS  for all (%d)\n\n"
		"Exit codes: 0 it was; 1 it was not, and the smallest part that was not is printed; 2 wrong usage "
		"or\n"
		"no history; 3 not decided within the bounds. The format of a history is in doc/testing.md.\n",
		(unsigned long long) DEFAULT_STEPS, DEFAULT_MEMORY_MB, DEFAULT_SECONDS);
}

static uint64_t
number(const char *option, const char *text)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || n == 0 || n > UINT64_MAX / NS_PER_S) {
		fprintf(stderr, "kvlin: --%s takes a number above 0, not \"%s\"\n", option, text);
		exit(EXIT_USAGE);
	}
	return n;
}

static void
read_files(LinHistory *h, char **names, int n)
{
	char error[256];

	for (int i = 0; i < n; i++) {
		FILE *in = fopen(names[i], "r");

		if (in == NULL) {
			fprintf(stderr, "kvlin: cannot read %s: %s\n", names[i], strerror(errno));
			exit(EXIT_USAGE);
		}
		if (!lin_history_read(h, in, names[i], error, sizeof error)) {
			fprintf(stderr, "kvlin: %s\n", error);
			exit(EXIT_USAGE);
		}
		fclose(in);
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "steps", required_argument, NULL, 'n' },
		{ "memory", required_argument, NULL, 'm' },
		{ "time", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	LinLimits limits = { .steps = DEFAULT_STEPS, .memory = (size_t) DEFAULT_MEMORY_MB << 20 };
	uint64_t seconds = DEFAULT_SECONDS;
	LinHistory h;
	LinReport r;
	int c;

	while ((c = getopt_long(argc, argv, "n:m:t:h", options, NULL)) != -1) {
		if (c == 'n')
			limits.steps = number("steps", optarg);
		else if (c == 'm')
			limits.memory = (size_t) number("memory", optarg) << 20;
		else if (c == 't')
			seconds = number("time", optarg);
		else {
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	lin_history_init(&h);
	read_files(&h, argv + optind, argc - optind);
	limits.deadline_ns = clock_mono_ns() + seconds * NS_PER_S;
	lin_check(&h, &limits, &r);
	lin_report_print(stdout, &h, &r);
	c = r.verdict == LIN_LEGAL ? 0 : r.verdict == LIN_ILLEGAL ? EXIT_ILLEGAL : EXIT_UNDECIDED;
	lin_report_free(&r);
	lin_history_free(&h);
	return c;
}
