/*
 * report.c - the result of a workload, for people or as one JSON object per line.
 *
 * Latencies are kept in nanoseconds and printed in microseconds; quantiles are upper edges of buckets, at
 * most 1/64 too large.
 */
#include <stdio.h>

#include "kvbench.h"

typedef struct Quantile {
	const char *name;
	double q;
} Quantile;

static const Quantile quantiles[] = {
	{ "p50", 0.50 }, { "p95", 0.95 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "p99.99", 0.9999 },
};
#define QUANTILES (sizeof quantiles / sizeof quantiles[0])

static double
mean_us(const Histogram *h)
{
	return h->count > 0 ? (double) h->sum / (double) h->count / 1e3 : 0;
}

static void
text_latency(const char *name, const Histogram *h, double seconds)
{
	printf("  %-18s %11.0f/s  us: mean %.1f", name, (double) h->count / seconds, mean_us(h));
	for (size_t i = 0; i < QUANTILES; i++)
		printf("  %s %.1f", quantiles[i].name, (double) histogram_quantile(h, quantiles[i].q) / 1e3);
	printf("  max %.1f\n", (double) h->max / 1e3);
}

static void
text(const Options *o, const Workload *w, const Totals *t, const Histogram *all)
{
	int classes = 0;

	printf("%s: %llu operations in %.2f s, %.0f per second", w->name, (unsigned long long) all->count,
		t->seconds, (double) all->count / t->seconds);
	printf(" (%u connections, pipeline %u, keys %u B of %llu, values %u B)\n", o->connections, o->pipeline,
		o->key_size, (unsigned long long) o->keyspace, o->value_size);
	for (int i = 0; i < CLASS_COUNT; i++)
		if (t->latency[i].count > 0) {
			text_latency(class_name((OpClass) i), &t->latency[i], t->seconds);
			classes++;
		}
	if (classes > 1)
		text_latency("all", all, t->seconds);
	if (t->entries > 0)
		printf("  scanned            %11.0f entries/s, %llu in all\n", (double) t->entries / t->seconds,
			(unsigned long long) t->entries);
	printf("  sent %.1f MB/s, received %.1f MB/s; kvbench itself used %.2f s of CPU, %.2f us per operation\n",
		(double) t->bytes_out / 1e6 / t->seconds, (double) t->bytes_in / 1e6 / t->seconds, t->cpu_seconds,
		all->count > 0 ? t->cpu_seconds * 1e6 / (double) all->count : 0);
	if (t->not_found > 0)
		printf("  not found          %11llu\n", (unsigned long long) t->not_found);
	if (t->late > 0)
		printf("  never begun        %11llu: the server is slower than --rate\n",
			(unsigned long long) t->late);
	for (int i = 0; i < CODES; i++)
		if (t->errors[i] > 0)
			printf("  error %-12s %11llu\n", status_name(i), (unsigned long long) t->errors[i]);
	if (t->wrong > 0)
		printf("  WRONG VALUES       %11llu\n", (unsigned long long) t->wrong);
}

static void
json_latency(const char *name, const Histogram *h)
{
	printf("\"%s\":{\"count\":%llu,\"mean\":%.3f", name, (unsigned long long) h->count, mean_us(h));
	for (size_t i = 0; i < QUANTILES; i++)
		printf(",\"%s\":%.3f", quantiles[i].name, (double) histogram_quantile(h, quantiles[i].q) / 1e3);
	printf(",\"max\":%.3f}", (double) h->max / 1e3);
}

static void
json(const Options *o, const Workload *w, const Totals *t, const Histogram *all)
{
	const char *comma = "";

	printf("{\"workload\":\"%s\",\"connections\":%u,\"pipeline\":%u,\"key_size\":%u,\"value_size\":%u,", w->name,
		o->connections, o->pipeline, o->key_size, o->value_size);
	printf("\"keyspace\":%llu,\"rate\":%.3f,\"seed\":%llu,\"seconds\":%.6f,", (unsigned long long) o->keyspace,
		o->rate, (unsigned long long) o->seed, t->seconds);
	printf("\"operations\":%llu,\"per_second\":%.3f,\"latency_us\":{", (unsigned long long) all->count,
		(double) all->count / t->seconds);
	json_latency("all", all);
	for (int i = 0; i < CLASS_COUNT; i++)
		if (t->latency[i].count > 0) {
			printf(",");
			json_latency(class_name((OpClass) i), &t->latency[i]);
		}
	printf("},\"entries\":%llu,\"bytes_sent\":%llu,\"bytes_received\":%llu,", (unsigned long long) t->entries,
		(unsigned long long) t->bytes_out, (unsigned long long) t->bytes_in);
	printf("\"cpu_seconds\":%.6f,\"not_found\":%llu,\"late\":%llu,\"wrong\":%llu,\"errors\":{", t->cpu_seconds,
		(unsigned long long) t->not_found, (unsigned long long) t->late, (unsigned long long) t->wrong);
	for (int i = 0; i < CODES; i++)
		if (t->errors[i] > 0) {
			printf("%s\"%s\":%llu", comma, status_name(i), (unsigned long long) t->errors[i]);
			comma = ",";
		}
	printf("}}\n");
}

void
report(const Options *o, const Workload *w, const Totals *t)
{
	Histogram all;

	histogram_init(&all);
	for (int i = 0; i < CLASS_COUNT; i++)
		histogram_merge(&all, &t->latency[i]);
	if (o->json)
		json(o, w, t, &all);
	else
		text(o, w, t, &all);
	fflush(stdout);
}
