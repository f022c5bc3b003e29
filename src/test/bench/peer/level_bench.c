/*
 * level_bench.c - some workloads of db_bench on LevelDB, through its C interface; for bench_engine.
 *
 *   level_bench DIR WORKLOAD[,WORKLOAD...] NUM READS SEEK_NEXTS CACHE_BYTES WRITE_BUFFER_BYTES VALUE_SIZE THREADS
 *
 * Built by bench_engine where LevelDB is installed; no part of kvd. Keys and values as in ../data.c. Lines as db_bench
 * prints them, and "written N" (bytes of flush and compaction) where it settles.
 */
#include <leveldb/c.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEY_SIZE 16
#define POOL_BYTES (1024 * 1024)
#define THREADS_MAX 64

static leveldb_t *db;
static long num, reads, seek_nexts, value_size, threads;
static char *pool;

typedef struct Part {
	const char *name;
	unsigned long random;
	long n, done, found;
	double bytes;
} Part;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void
check(char *error)
{
	if (error == NULL)
		return;
	fprintf(stderr, "level_bench: %s\n", error);
	exit(1);
}

static unsigned long
draw(Part *p)
{
	p->random ^= p->random << 13; /* xorshift64 (Marsaglia 2003) */
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return p->random % (unsigned long) num;
}

static void
make_key(char *key, unsigned long number)
{
	for (int i = 0; i < 8; i++)
		key[i] = (char) (number >> (56 - 8 * i));
	memset(key + 8, '0', KEY_SIZE - 8);
}

static void
fill(Part *p)
{
	leveldb_writeoptions_t *o = leveldb_writeoptions_create();
	long at = 0;

	for (long i = 0; i < p->n; i++) {
		char key[KEY_SIZE], *error = NULL;

		make_key(key, strcmp(p->name, "fillseq") == 0 ? (unsigned long) i : draw(p));
		leveldb_put(db, o, key, KEY_SIZE, pool + at, (size_t) value_size, &error);
		check(error);
		at = at + value_size > POOL_BYTES ? 0 : at + value_size;
		p->bytes += (double) (KEY_SIZE + value_size);
	}
	p->done = p->n;
	leveldb_writeoptions_destroy(o);
}

/* As the other engines do without being asked: what is read from a file is verified. */
static leveldb_readoptions_t *
read_options(void)
{
	leveldb_readoptions_t *o = leveldb_readoptions_create();

	leveldb_readoptions_set_verify_checksums(o, 1);
	return o;
}

static void
read_random(Part *p)
{
	leveldb_readoptions_t *o = read_options();

	for (long i = 0; i < p->n; i++) {
		char key[KEY_SIZE], *error = NULL, *value;
		size_t len;

		make_key(key, draw(p));
		value = leveldb_get(db, o, key, KEY_SIZE, &len, &error);
		check(error);
		p->found += value != NULL;
		leveldb_free(value);
	}
	p->done = p->n;
	leveldb_readoptions_destroy(o);
}

static void
walk(Part *p, leveldb_iterator_t *it, long most)
{
	for (long i = 0; i < most && leveldb_iter_valid(it); i++) {
		size_t key, value;

		leveldb_iter_key(it, &key);
		leveldb_iter_value(it, &value);
		p->bytes += (double) (key + value);
		p->done++;
		leveldb_iter_next(it);
	}
}

static void
read_seq(Part *p)
{
	leveldb_readoptions_t *o = read_options();
	leveldb_iterator_t *it = leveldb_create_iterator(db, o);

	leveldb_iter_seek_to_first(it);
	walk(p, it, p->n);
	leveldb_iter_destroy(it);
	leveldb_readoptions_destroy(o);
}

static void
seek_random(Part *p)
{
	leveldb_readoptions_t *o = read_options();

	for (long i = 0; i < p->n; i++) {
		leveldb_iterator_t *it = leveldb_create_iterator(db, o);
		char key[KEY_SIZE];

		make_key(key, draw(p));
		leveldb_iter_seek(it, key, KEY_SIZE);
		walk(p, it, seek_nexts + 1);
		leveldb_iter_destroy(it);
	}
	p->done = p->n;
	leveldb_readoptions_destroy(o);
}

static void *
run_part(void *arg)
{
	Part *p = arg;

	if (strcmp(p->name, "readrandom") == 0)
		read_random(p);
	else if (strcmp(p->name, "readseq") == 0)
		read_seq(p);
	else if (strcmp(p->name, "seekrandom") == 0)
		seek_random(p);
	else
		fill(p);
	return NULL;
}

static double
written(void)
{
	char *stats = leveldb_property_value(db, "leveldb.stats"), *line, *save;
	double sum = 0;

	/* "Level Files Size(MB) Time(sec) Read(MB) Write(MB)", a line for each level */
	for (line = strtok_r(stats, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		double level, files, size, seconds, in, out;

		if (sscanf(line, "%lf %lf %lf %lf %lf %lf", &level, &files, &size, &seconds, &in, &out) == 6)
			sum += out;
	}
	leveldb_free(stats);
	return sum * 1048576.0;
}

/* It does not tell whether it compacts: nothing written for two seconds. */
static void
settle(void)
{
	double before = -1, since = now();

	while (now() - since < 2) {
		struct timespec nap = { .tv_nsec = 50000000 };
		double is = written();

		if (is != before)
			since = now();
		before = is;
		nanosleep(&nap, NULL);
	}
	printf("written %.0f\n", before);
}

static void
run(const char *name)
{
	static unsigned long seed = 88172645463325252UL;
	Part parts[THREADS_MAX];
	pthread_t thread[THREADS_MAX];
	bool writes = strncmp(name, "fill", 4) == 0 || strcmp(name, "overwrite") == 0;
	long each = writes ? num / threads : reads, done = 0, found = 0;
	double began, bytes = 0, seconds;

	if (strcmp(name, "waitforcompaction") == 0) {
		settle();
		return;
	}
	began = now();
	for (long i = 0; i < threads; i++) {
		parts[i] = (Part){ .name = name, .random = seed++ * 6364136223846793005UL, .n = each };
		pthread_create(&thread[i], NULL, run_part, &parts[i]);
	}
	for (long i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		done += parts[i].done;
		found += parts[i].found;
		bytes += parts[i].bytes;
	}
	seconds = now() - began;
	printf("%-12s : %11.3f micros/op %.0f ops/sec %.3f seconds %ld operations; %6.1f MB/s (%ld of %ld found)\n", name,
	       seconds * 1e6 / (double) done * (double) threads, (double) done / seconds, seconds, done,
	       bytes / 1048576.0 / seconds, found, done);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	leveldb_options_t *o = leveldb_options_create();
	char *error = NULL, *save;

	if (argc != 10)
		return 2;
	num = atol(argv[3]);
	reads = atol(argv[4]);
	seek_nexts = atol(argv[5]);
	value_size = atol(argv[8]);
	threads = atol(argv[9]);
	pool = malloc(POOL_BYTES + (size_t) value_size);
	for (long i = 0; i < POOL_BYTES + value_size; i++)
		pool[i] = i % 100 < 50 ? (char) (' ' + rand() % 95) : pool[i - 50];
	leveldb_options_set_create_if_missing(o, 1);
	leveldb_options_set_compression(o, leveldb_no_compression);
	leveldb_options_set_cache(o, leveldb_cache_create_lru((size_t) atol(argv[6])));
	leveldb_options_set_write_buffer_size(o, (size_t) atol(argv[7]));
	leveldb_options_set_filter_policy(o, leveldb_filterpolicy_create_bloom(10));
	db = leveldb_open(o, argv[1], &error);
	check(error);
	for (char *name = strtok_r(argv[2], ",", &save); name != NULL; name = strtok_r(NULL, ",", &save))
		run(name);
	leveldb_close(db);
	return 0;
}
