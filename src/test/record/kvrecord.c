/*
 * kvrecord.c - options, threads and the report of the recorder.
 *
 * Exit codes: 0 done; 1 --verify found something missing; 2 wrong usage; 3 cannot work (no memory, file, server).
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "port/clock.h"
#include "record.h"

enum { EXIT_MISSING = 1, EXIT_USAGE = 2, EXIT_TROUBLE = 3 };

#define NS_PER_S 1e9
#define URI_BYTES 2048
#define HOSTS_MAX 16

const char *const record_kinds[REC_KINDS] = { "get", "lget", "put", "delete", "cas", "casv", "incr" };

static volatile sig_atomic_t stopped;

static void
stop(int signo)
{
	(void) signo;
	stopped = 1;
}

static void
usage(FILE *out)
{
	fprintf(out,
			"Usage: kvrecord [OPTION]... URI\n"
			"Clients that write down what they ask and what they are told; the history is for kvlin.\n\n"
			"  -o, --output FILE    the history, or the list of a journal (standard output)\n"
			"  -c, --clients N      (5)\n"
			"  -k, --keys N         registers; a quarter as many counters beside them (5)\n"
			"  -n, --operations N   in all; 0: until the time is up (1000)\n"
			"  -t, --time SECONDS   stop after this time, or at SIGTERM; 0: no limit (0)\n"
			"  -r, --rate N         operations a second, of all clients; 0: as fast as they go (0)\n"
			"  -m, --mix LIST       weights, e.g. get=4,lget=0,put=3,delete=1,cas=1,casv=1,incr=1 (these)\n"
			"  -s, --seed N         same seed, same choices (1)\n"
			"  -p, --prefix TEXT    of all keys; two histories of one server need two (h)\n"
			"  -f, --first N        number of the first client (0)\n"
			"  -j, --journal        write each key once, list those acknowledged\n"
			"  -v, --verify FILE    are all of a journal's list there?\n\n"
			"The URI is libkv's; each client begins with another of its hosts. At the end: lines \"name "
			"value\".\n");
}

bool
record_not_applied(int code)
{
	switch (code) {
	case KV_NOT_LEADER:
	case KV_TIMEOUT:
	case KV_CANNOT_CONNECT:
	case KV_CLOSED:
	case KV_BUSY:
	case KV_STARTING:
	case KV_SHUTTING_DOWN:
	case KV_TOO_MANY_CONNECTIONS:
	case KV_NO_SPACE:
	case KV_SESSION_EXPIRED:
	case KV_BAD_REQUEST:
	case KV_NOT_INTEGER:
	case KV_USAGE:
		return true;
	default:
		return false;
	}
}

void
record_sleep_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t) (ns / 1000000000), .tv_nsec = (long) (ns % 1000000000) };

	nanosleep(&t, NULL);
}

void
record_line(Record *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	pthread_mutex_lock(&r->lock);
	vfprintf(r->out, format, args);
	pthread_mutex_unlock(&r->lock);
	va_end(args);
}

bool
record_begin(Record *r)
{
	bool go;

	pthread_mutex_lock(&r->lock);
	go = !stopped && (r->operations == 0 || r->begun < r->operations);
	r->begun += go;
	pthread_mutex_unlock(&r->lock);
	return go;
}

void
record_end(Record *r, uint64_t from_ns, uint64_t to_ns, int code, bool write, bool ok)
{
	pthread_mutex_lock(&r->lock);
	if (ok)
		r->ok++;
	else if (!write || record_not_applied(code))
		r->failed++;
	else
		r->unknown++;
	if (!ok && code >= 0 && code < CODES)
		r->codes[code]++;
	if (ok && write) {
		if (to_ns > r->last_ack_ns && to_ns - r->last_ack_ns > r->gap_ns)
			r->gap_ns = to_ns - r->last_ack_ns;
		r->last_ack_ns = to_ns;
	}
	if (to_ns - from_ns > r->slowest_ns)
		r->slowest_ns = to_ns - from_ns;
	pthread_mutex_unlock(&r->lock);
	if (!ok && !stopped)
		record_sleep_ns(RETRY_PAUSE_MS * UINT64_C(1000000));
}

/* ---- clients */

static void *
client_main(void *arg)
{
	Client *c = arg;
	uint64_t start = clock_mono_ns(), n = 0;

	while (record_begin(c->r)) {
		if (c->r->journal)
			journal_operation(c);
		else
			client_operation(c);
		if (c->r->rate > 0) {
			uint64_t due = start + (uint64_t) ((double) ++n * c->r->clients / c->r->rate * NS_PER_S);
			uint64_t now = clock_mono_ns();

			if (now < due)
				record_sleep_ns(due - now);
			else
				start += now - due; /* what was missed in an outage is not made up for */
		}
	}
	return NULL;
}

/* The same URI, beginning with its i-th host. False: no room. */
static bool
rotate_hosts(const char *uri, int i, char *out, size_t size)
{
	const char *hosts = strncmp(uri, "kv://", 5) == 0 ? uri + 5 : uri;
	size_t len = strcspn(hosts, "/");
	const char *at[HOSTS_MAX];
	size_t n = 0, skip;

	at[n++] = hosts;
	for (const char *p = hosts; p < hosts + len && n < HOSTS_MAX; p++)
		if (*p == ',')
			at[n++] = p + 1;
	skip = (size_t) (at[(size_t) i % n] - hosts);
	if (skip == 0)
		return (size_t) snprintf(out, size, "%s", uri) < size;
	return (size_t) snprintf(out, size, "kv://%.*s,%.*s%s", (int) (len - skip), hosts + skip,
							 (int) (skip - 1), hosts, hosts + len) < size;
}

static bool
start_client(Record *r, Client *c, int number)
{
	char uri[URI_BYTES];

	memset(c, 0, sizeof *c);
	c->r = r;
	c->number = number;
	prng_seed(&c->prng, r->seed * CLIENTS_MAX + (uint64_t) number);
	c->seen = calloc((size_t) r->keys * 2, sizeof *c->seen);
	if (c->seen == NULL || !rotate_hosts(r->uri, number, uri, sizeof uri)) {
		fprintf(stderr, "kvrecord: out of memory, or the URI is too long\n");
		return false;
	}
	for (int i = 0; i < r->keys * 2; i++)
		memcpy(c->seen[i].value, "-", 2);
	if (kv_open(&c->kv, uri, "kvrecord") != KV_OK) {
		fprintf(stderr, "kvrecord: %s\n", kv_error());
		return false;
	}
	return pthread_create(&c->thread, NULL, client_main, c) == 0;
}

static void
report(const Record *r, uint64_t ns)
{
	FILE *out = r->out == stdout ? stderr : stdout;

	fprintf(out, "operations %" PRIu64 "\nok %" PRIu64 "\nfailed %" PRIu64 "\nunknown %" PRIu64 "\n",
			r->begun, r->ok, r->failed, r->unknown);
	for (int i = 0; i < CODES; i++)
		if (r->codes[i] > 0)
			fprintf(out, "code.%s %" PRIu64 "\n", kv_code_name(i), r->codes[i]);
	fprintf(out, "longest_gap_ms %.0f\nslowest_ms %.0f\nseconds %.3f\n", (double) r->gap_ns / 1e6,
			(double) r->slowest_ns / 1e6, (double) ns / NS_PER_S);
}

static int
run(Record *r)
{
	Client *clients = calloc((size_t) r->clients, sizeof *clients);
	uint64_t start = clock_mono_ns();
	int n = 0;

	if (clients == NULL)
		return EXIT_TROUBLE;
	r->last_ack_ns = start;
	if (r->seconds > 0) {
		timer_t timer;
		struct itimerspec when = { .it_value = {
									   (time_t) r->seconds,
									   (long) ((r->seconds - (double) (time_t) r->seconds) * NS_PER_S) } };

		if (timer_create(CLOCK_MONOTONIC, NULL, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
			return EXIT_TROUBLE;
	}
	while (n < r->clients && start_client(r, &clients[n], n))
		n++;
	if (n < r->clients)
		stopped = 1;
	for (int i = 0; i < n; i++)
		pthread_join(clients[i].thread, NULL);
	for (int i = 0; i < n; i++) {
		kv_close(clients[i].kv);
		free(clients[i].seen);
	}
	free(clients);
	if (fflush(r->out) != 0) {
		fprintf(stderr, "kvrecord: cannot write: %s\n", strerror(errno));
		return EXIT_TROUBLE;
	}
	report(r, clock_mono_ns() - start);
	return n < r->clients ? EXIT_TROUBLE : 0;
}

/* ---- options */

static double
number(const char *option, const char *text, double least, double most)
{
	char *end;
	double n = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(n >= least && n <= most)) {
		fprintf(stderr, "kvrecord: --%s takes a number from %g to %g, not \"%s\"\n", option, least, most,
				text);
		exit(EXIT_USAGE);
	}
	return n;
}

static void
read_mix(Record *r, char *list)
{
	char *save = NULL;
	unsigned sum = 0;

	memset(r->weight, 0, sizeof r->weight);
	for (char *item = strtok_r(list, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(item, '=');
		int kind = 0;

		if (equals != NULL)
			*equals = '\0';
		while (kind < REC_KINDS && strcmp(record_kinds[kind], item) != 0)
			kind++;
		if (equals == NULL || kind == REC_KINDS) {
			fprintf(stderr, "kvrecord: --mix has no operation \"%s\"\n", item);
			exit(EXIT_USAGE);
		}
		r->weight[kind] = (unsigned) number("mix", equals + 1, 0, 1000);
		sum += r->weight[kind];
	}
	if (sum == 0) {
		fprintf(stderr, "kvrecord: --mix has no operation at all\n");
		exit(EXIT_USAGE);
	}
}

static void
open_output(Record *r, const char *path)
{
	r->out = path == NULL ? stdout : fopen(path, "w");
	if (r->out == NULL) {
		fprintf(stderr, "kvrecord: cannot write %s: %s\n", path, strerror(errno));
		exit(EXIT_TROUBLE);
	}
	setvbuf(r->out, NULL, _IOLBF, 0); /* suites look at it while it grows */
}

static const struct option options[] = {
	{ "output", required_argument, NULL, 'o' }, { "clients", required_argument, NULL, 'c' },
	{ "keys", required_argument, NULL, 'k' },   { "operations", required_argument, NULL, 'n' },
	{ "time", required_argument, NULL, 't' },   { "rate", required_argument, NULL, 'r' },
	{ "mix", required_argument, NULL, 'm' },    { "seed", required_argument, NULL, 's' },
	{ "prefix", required_argument, NULL, 'p' }, { "first", required_argument, NULL, 'f' },
	{ "journal", no_argument, NULL, 'j' },      { "verify", required_argument, NULL, 'v' },
	{ "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
};

static void
read_option(Record *r, int c, const char **output, const char **verify)
{
	switch (c) {
	case 'o':
		*output = optarg;
		break;
	case 'c':
		r->clients = (int) number("clients", optarg, 1, CLIENTS_MAX);
		break;
	case 'k':
		r->keys = (int) number("keys", optarg, 1, KEYS_MAX);
		break;
	case 'n':
		r->operations = (uint64_t) number("operations", optarg, 0, 1e12);
		break;
	case 't':
		r->seconds = number("time", optarg, 0, 1e6);
		break;
	case 'r':
		r->rate = number("rate", optarg, 0, 1e9);
		break;
	case 'm':
		read_mix(r, optarg);
		break;
	case 's':
		r->seed = (uint64_t) number("seed", optarg, 0, 1e15);
		break;
	case 'p':
		r->prefix = optarg;
		break;
	case 'f':
		r->first_process = (int) number("first", optarg, 0, 60000);
		break;
	case 'j':
		r->journal = true;
		break;
	case 'v':
		*verify = optarg;
		break;
	default:
		usage(c == 'h' ? stdout : stderr);
		exit(c == 'h' ? 0 : EXIT_USAGE);
	}
}

int
main(int argc, char **argv)
{
	Record r = { .prefix = "h",
				 .clients = 5,
				 .keys = 5,
				 .operations = 1000,
				 .seed = 1,
				 .weight = { [REC_GET] = 4,
							 [REC_PUT] = 3,
							 [REC_DELETE] = 1,
							 [REC_CAS] = 1,
							 [REC_CASV] = 1,
							 [REC_INCR] = 1 } };
	const char *output = NULL, *verify = NULL;
	struct sigaction sa = { .sa_handler = stop };
	int c;

	while ((c = getopt_long(argc, argv, "o:c:k:n:t:r:m:s:p:f:jv:h", options, NULL)) != -1)
		read_option(&r, c, &output, &verify);
	if (optind + 1 != argc || strlen(r.prefix) > WORD_MAX / 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	r.uri = argv[optind];
	if (verify != NULL) {
		long bad = journal_verify(r.uri, verify);

		return bad == 0 ? 0 : bad > 0 ? EXIT_MISSING : EXIT_TROUBLE;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	pthread_mutex_init(&r.lock, NULL);
	open_output(&r, output);
	return run(&r);
}
