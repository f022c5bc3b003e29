/*
 * main.c - the options of kvbench.
 *
 * Exit codes: 0 done; 1 a wrong value was read; 2 wrong usage; 3 cannot connect or connection lost; 4 the
 * server answered some requests with errors.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/limits.h"
#include "kvbench.h"

#define SPARE_FDS 32 /* beside the connections: standard ones, poller */

enum { EXIT_WRONG_VALUE = 1, EXIT_USAGE = 2, EXIT_CONNECTION = 3, EXIT_ERRORS = 4 };
enum {
	OPT_DIST = 256, OPT_ACK, OPT_READ, OPT_RATE, OPT_JSON, OPT_SEED, OPT_SCAN, OPT_READ_PERCENT, OPT_CRC,
	OPT_POLL, OPT_HELP, OPT_VERSION
};

static const struct option long_options[] = {
	{ "host", required_argument, NULL, 'h' },
	{ "port", required_argument, NULL, 'p' },
	{ "connections", required_argument, NULL, 'c' },
	{ "pipeline", required_argument, NULL, 'P' },
	{ "count", required_argument, NULL, 'n' },
	{ "time", required_argument, NULL, 'T' },
	{ "key-size", required_argument, NULL, 'k' },
	{ "value-size", required_argument, NULL, 'd' },
	{ "keyspace", required_argument, NULL, 'r' },
	{ "dist", required_argument, NULL, OPT_DIST },
	{ "ack", required_argument, NULL, OPT_ACK },
	{ "read", required_argument, NULL, OPT_READ },
	{ "rate", required_argument, NULL, OPT_RATE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "scan", required_argument, NULL, OPT_SCAN },
	{ "read-percent", required_argument, NULL, OPT_READ_PERCENT },
	{ "verify-crc", no_argument, NULL, OPT_CRC },
	{ "poll", no_argument, NULL, OPT_POLL },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void
usage(void)
{
	printf("Usage: kvbench [OPTION]... WORKLOAD...\n"
		"Measures a kvd server: throughput, latencies, errors. Checks the values that it reads.\n\n"
		"Workloads, run one after the other:\n");
	workload_print_list();
	printf("\n"
		"  -h, --host HOST          server (127.0.0.1)\n"
		"  -p, --port PORT          its port (7400)\n"
		"  -c, --connections N      connections (50)\n"
		"  -P, --pipeline N         requests sent together on a connection (1)\n"
		"  -n, --count N            operations in all; default: each key once (fill*, readseq), else 10 s\n"
		"  -T, --time SECONDS       stop after this time\n"
		"  -k, --key-size BYTES     (16)\n"
		"  -d, --value-size BYTES   (100)\n"
		"  -r, --keyspace N         number of keys (1000000)\n"
		"      --dist D             uniform, zipfian or latest; default: the workload's\n"
		"      --ack A              writes: quorum, local or none (quorum)\n"
		"      --read R             reads: linearizable or local (linearizable)\n"
		"      --rate N             open loop: N operations per second, latencies from the intended start\n"
		"      --scan N             entries of a scan in seekrandom (50)\n"
		"      --read-percent N     share of reads in mixed (50)\n"
		"      --seed N             same seed, same choices (1)\n"
		"      --json               one JSON object per workload\n"
		"      --verify-crc         also check the CRC of each answer\n"
		"      --poll               wait with poll where epoll would be used\n"
		"      --help, --version\n\n"
		"Examples:\n"
		"  kvbench fillrandom readrandom            fill a million keys, then get them for 10 s\n"
		"  kvbench -c 1 -n 20000 overwrite          durable writes of one client\n"
		"  kvbench -c 50 -P 16 -n 2000000 readrandom\n"
		"  kvbench --rate 20000 -T 60 mixed         tails at a given load\n"
		"  kvbench fillseq a b c d f e              YCSB\n\n"
		"Exit codes: 0 done, 1 a wrong value was read, 2 usage, 3 cannot connect or connection lost,\n"
		"4 the server answered with errors.\n");
}

static Status
number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *out < min || *out > max)
		return status_fail(ST_USAGE, "%s %s: expected a whole number from %llu to %llu", option, text,
			(unsigned long long) min, (unsigned long long) max);
	return ST_OK;
}

static Status
number32(const char *option, const char *text, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t v;

	KV_TRY(number(option, text, min, max, &v));
	*out = (uint32_t) v;
	return ST_OK;
}

static Status
positive(const char *option, const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end == text || *end != '\0' || !isfinite(*out) || *out <= 0)
		return status_fail(ST_USAGE, "%s %s: expected a number above 0", option, text);
	return ST_OK;
}

/* Place of a word in a list "a,b,c". */
static Status
choice(const char *option, const char *text, const char *list, int *out)
{
	const char *at = list;

	for (*out = 0; at != NULL; ++*out) {
		size_t len = strcspn(at, ",");

		if (strlen(text) == len && strncmp(text, at, len) == 0)
			return ST_OK;
		at = at[len] == ',' ? at + len + 1 : NULL;
	}
	return status_fail(ST_USAGE, "%s %s: expected one of %s", option, text, list);
}

static Status
take(Options *o, int opt, const char *arg)
{
	uint32_t v;
	int place;

	switch (opt) {
	case 'h':
		o->host = arg;
		return ST_OK;
	case 'p':
		KV_TRY(number32("-p", arg, 1, 65535, &v));
		o->port = (uint16_t) v;
		return ST_OK;
	case 'c':
		return number32("-c", arg, 1, CONNECTIONS_MAX, &o->connections);
	case 'P':
		return number32("-P", arg, 1, PIPELINE_MAX, &o->pipeline);
	case 'n':
		return number("-n", arg, 1, UINT64_MAX / 2, &o->count);
	case 'T':
		return positive("-T", arg, &o->seconds);
	case 'k':
		return number32("-k", arg, 1, KV_KEY_MAX - 1, &o->key_size); /* readmissing adds a byte */
	case 'd':
		return number32("-d", arg, 0, KV_VALUE_MAX, &o->value_size);
	case 'r':
		return number("-r", arg, 1, UINT64_C(1) << 40, &o->keyspace);
	case OPT_DIST:
		KV_TRY(choice("--dist", arg, "default,uniform,zipfian,latest", &place));
		o->dist = (DistKind) place;
		return ST_OK;
	case OPT_ACK:
		KV_TRY(choice("--ack", arg, "quorum,local,none", &place));
		o->ack = (uint8_t) place;
		return ST_OK;
	case OPT_READ:
		KV_TRY(choice("--read", arg, "linearizable,local", &place));
		o->freshness = (uint8_t) place;
		return ST_OK;
	case OPT_RATE:
		return positive("--rate", arg, &o->rate);
	case OPT_SEED:
		return number("--seed", arg, 0, UINT64_MAX, &o->seed);
	case OPT_SCAN:
		return number32("--scan", arg, 1, UINT32_MAX, &o->scan);
	case OPT_READ_PERCENT:
		KV_TRY(number32("--read-percent", arg, 0, 100, &v));
		o->read_percent = (int) v;
		return ST_OK;
	case OPT_JSON:
		o->json = true;
		return ST_OK;
	case OPT_CRC:
		o->verify_crc = true;
		return ST_OK;
	case OPT_POLL:
		o->use_poll = true;
		return ST_OK;
	default:
		return status_fail(ST_USAGE, "see kvbench --help");
	}
}

/* One descriptor per connection: raise the soft limit as far as the hard one lets. */
static Status
raise_fd_limit(uint32_t connections)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= connections + SPARE_FDS)
		return ST_OK;
	if (l.rlim_max < connections + SPARE_FDS)
		return status_fail(ST_USAGE, "-c %u: this process may open only %llu files (ulimit -Hn)", connections,
			(unsigned long long) l.rlim_max);
	l.rlim_cur = connections + SPARE_FDS;
	if (setrlimit(RLIMIT_NOFILE, &l) != 0)
		return status_fail_errno(ST_USAGE, "-c %u: cannot raise the limit of open files", connections);
	return ST_OK;
}

static Status
check(const Options *o)
{
	if ((uint64_t) o->pipeline * (o->key_size + (uint64_t) o->value_size + 64) > BURST_BYTES_MAX)
		return status_fail(ST_USAGE, "-P %u -d %u: a burst would be larger than %u MiB", o->pipeline,
			o->value_size, BURST_BYTES_MAX >> 20);
	return raise_fd_limit(o->connections);
}

/* One workload with its own defaults; the exit code. */
static int
run_one(const Options *common, const char *name)
{
	Options o = *common;
	Workload w = *workload_find(name);
	Totals *t = malloc(sizeof *t);
	uint64_t errors = 0;
	Status s;
	int code = 0;

	if (t == NULL) {
		fprintf(stderr, "kvbench: out of memory\n");
		return EXIT_CONNECTION;
	}
	if (strcmp(w.name, "mixed") == 0) {
		w.percent[CLASS_READ] = o.read_percent;
		w.percent[CLASS_UPDATE] = 100 - o.read_percent;
	}
	if (o.count == 0 && o.seconds == 0 && (w.order == KEYS_RANDOM || w.order == KEYS_MISSING))
		o.seconds = 10;
	s = run_workload(&o, &w, t);
	if (s != ST_OK) {
		fprintf(stderr, "kvbench: %s: %s\n", w.name,
			status_detail()[0] != '\0' ? status_detail() : status_text(s));
		code = s == ST_USAGE ? EXIT_USAGE : EXIT_CONNECTION;
	}
	if (t->seconds > 0)
		report(&o, &w, t);
	for (int i = 0; i < CODES; i++)
		errors += t->errors[i];
	if (t->wrong > 0)
		code = EXIT_WRONG_VALUE;
	else if (code == 0 && errors > 0)
		code = EXIT_ERRORS;
	free(t);
	return code;
}

int
main(int argc, char **argv)
{
	Options o = { .host = "127.0.0.1", .port = 7400, .connections = 50, .pipeline = 1, .key_size = 16,
		.value_size = 100, .keyspace = 1000000, .seed = 1, .scan = 50, .read_percent = 50 };
	Status s = ST_OK;
	int opt, code = 0;

	while (s == ST_OK && (opt = getopt_long(argc, argv, "h:p:c:P:n:T:k:d:r:", long_options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			usage();
			return 0;
		}
		if (opt == OPT_VERSION) {
			printf("kvbench %s\n", KVD_VERSION);
			return 0;
		}
		s = take(&o, opt, optarg);
	}
	if (s == ST_OK)
		s = check(&o);
	if (s == ST_OK && optind == argc)
		s = status_fail(ST_USAGE, "which workload? See kvbench --help");
	for (int i = optind; s == ST_OK && i < argc; i++)
		if (workload_find(argv[i]) == NULL)
			s = status_fail(ST_USAGE, "no workload \"%s\"; see kvbench --help", argv[i]);
	if (s != ST_OK) {
		fprintf(stderr, "kvbench: %s\n", status_detail());
		return EXIT_USAGE;
	}
	for (int i = optind; i < argc && code != EXIT_CONNECTION && code != EXIT_USAGE; i++) {
		int c = run_one(&o, argv[i]);

		code = code == EXIT_WRONG_VALUE ? code : c != 0 ? c : code;
	}
	return code;
}
