/*
 * workload.c - what is done how often: the list of workloads, and the choice of the next operation.
 *
 * The first eight are named and meant as those of LevelDB's and RocksDB's db_bench, a to f are the core
 * workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC 2010).
 */
#include <stdio.h>
#include <string.h>

#include "kvbench.h"

static const Workload workloads[] = {
	{ "fillseq", "store every key once, in order", KEYS_SEQUENCE, DIST_UNIFORM, { [CLASS_INSERT] = 100 }, 0 },
	{ "fillrandom", "store every key once, in random order", KEYS_SHUFFLED, DIST_UNIFORM,
		{ [CLASS_INSERT] = 100 }, 0 },
	{ "overwrite", "store random keys", KEYS_RANDOM, DIST_UNIFORM, { [CLASS_UPDATE] = 100 }, 0 },
	{ "readrandom", "get random keys", KEYS_RANDOM, DIST_UNIFORM, { [CLASS_READ] = 100 }, 0 },
	{ "readmissing", "get keys that lie between stored ones", KEYS_MISSING, DIST_UNIFORM,
		{ [CLASS_READ] = 100 }, 0 },
	{ "readseq", "read all keys in order by paged scans, each connection its part", KEYS_PAGES, DIST_UNIFORM,
		{ [CLASS_SCAN] = 100 }, 0 },
	{ "seekrandom", "scan --scan entries from a random key on", KEYS_RANDOM, DIST_UNIFORM,
		{ [CLASS_SCAN] = 100 }, 0 },
	{ "mixed", "get --read-percent, store the rest", KEYS_RANDOM, DIST_UNIFORM,
		{ [CLASS_READ] = 50, [CLASS_UPDATE] = 50 }, 0 },
	{ "a", "YCSB A: 50 read, 50 update, zipfian", KEYS_RANDOM, DIST_ZIPFIAN,
		{ [CLASS_READ] = 50, [CLASS_UPDATE] = 50 }, 0 },
	{ "b", "YCSB B: 95 read, 5 update, zipfian", KEYS_RANDOM, DIST_ZIPFIAN,
		{ [CLASS_READ] = 95, [CLASS_UPDATE] = 5 }, 0 },
	{ "c", "YCSB C: read, zipfian", KEYS_RANDOM, DIST_ZIPFIAN, { [CLASS_READ] = 100 }, 0 },
	{ "d", "YCSB D: 95 read, 5 insert, latest", KEYS_RANDOM, DIST_LATEST,
		{ [CLASS_READ] = 95, [CLASS_INSERT] = 5 }, 0 },
	{ "e", "YCSB E: 95 scan of 1 to 100, 5 insert, zipfian", KEYS_RANDOM, DIST_ZIPFIAN,
		{ [CLASS_SCAN] = 95, [CLASS_INSERT] = 5 }, 100 },
	{ "f", "YCSB F: 50 read, 50 read-modify-write, zipfian", KEYS_RANDOM, DIST_ZIPFIAN,
		{ [CLASS_READ] = 50, [CLASS_RMW] = 50 }, 0 },
};
#define WORKLOADS (sizeof workloads / sizeof workloads[0])

const Workload *
workload_find(const char *name)
{
	if (strncmp(name, "ycsb-", 5) == 0)
		name += 5;
	for (size_t i = 0; i < WORKLOADS; i++)
		if (strcmp(workloads[i].name, name) == 0)
			return &workloads[i];
	return NULL;
}

void
workload_print_list(void)
{
	for (size_t i = 0; i < WORKLOADS; i++)
		printf("  %-12s %s\n", workloads[i].name, workloads[i].help);
}

const char *
class_name(OpClass c)
{
	static const char *const names[] = { "read", "update", "insert", "read-modify-write", "scan" };

	return names[c];
}

static OpClass
pick_class(Run *r)
{
	int dice;

	for (int i = 0; i < CLASS_COUNT; i++)
		if (r->w->percent[i] == 100)
			return (OpClass) i;
	dice = (int) prng_below(&r->prng, 100);
	for (int i = 0; i < CLASS_COUNT - 1; i++) {
		dice -= r->w->percent[i];
		if (dice < 0)
			return (OpClass) i;
	}
	return CLASS_SCAN;
}

static uint64_t
pick_key(Run *r, OpClass class)
{
	uint64_t n = r->o->keyspace;

	switch (r->w->order) {
	case KEYS_SEQUENCE:
		return r->issued % n;
	case KEYS_SHUFFLED:
		return dist_shuffle(r->issued % n, n, r->o->seed + r->issued / n);
	default:
		break;
	}
	if (class != CLASS_INSERT)
		return dist_next(&r->dist, &r->prng, r->next_key - r->inserting);
	if (r->next_key == r->data.index_limit)
		r->next_key = n + r->inserting; /* keys have no more digits: insert the same ones again */
	r->inserting++;
	return r->next_key++;
}

static Status
add(Run *r, Conn *c, OpClass class, uint64_t start_ns)
{
	Pending p = { .start_ns = start_ns, .class = (uint8_t) class };
	uint32_t limit;

	if (r->w->order == KEYS_PAGES)
		return conn_page(r, c, p);
	p.index = pick_key(r, class);
	switch (class) {
	case CLASS_READ:
		return conn_get(r, c, p, r->w->order == KEYS_MISSING);
	case CLASS_RMW:
		p.write_follows = true;
		return conn_get(r, c, p, false);
	case CLASS_SCAN:
		limit = r->w->scan_max == 0 ? r->o->scan : 1 + (uint32_t) prng_below(&r->prng, (uint64_t) r->w->scan_max);
		return conn_scan(r, c, p, limit);
	default:
		return conn_put(r, c, p);
	}
}

/* When the next operation of this connection should begin (--rate): turns go round over the connections. */
static uint64_t
intended_start(const Run *r, const Conn *c)
{
	return r->start_ns + (uint64_t) ((double) (c->no + c->started * r->o->connections) * 1e9 / r->o->rate);
}

Status
workload_fill(Run *r, Conn *c, uint32_t most, uint64_t now, uint32_t *added)
{
	uint32_t n = 0;

	for (; n < most && c->followers > 0; n++)
		KV_TRY(conn_put(r, c, c->follow[--c->followers]));
	for (; n < most && !r->stopped && !c->pages_done; n++) {
		uint64_t start = now;

		if (r->issued >= r->target) {
			r->stopped = true;
			break;
		}
		if (r->o->rate > 0) {
			if (c->started == c->due)
				break;
			start = intended_start(r, c);
			c->started++;
		}
		KV_TRY(add(r, c, pick_class(r), start));
		r->issued++;
		if (r->w->order == KEYS_PAGES) {
			n++;
			break; /* the next page starts where this one ends */
		}
	}
	*added = n;
	return ST_OK;
}
