/*
 * damage.c - a small store, then each of its bytes changed, each of its files cut at each length, blocks and
 * files copied over others, files removed.
 *
 * Each time the engine is started on it, in a child with a copy of the disk of its own: it refuses, or says
 * at a read that something is damaged, or all is as it was. A wrong value, a key that is missing, an
 * acknowledged operation that is gone, a failure without a reason, a crash: none of them.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/elog.h"
#include "faultfs.h"
#include "model.h"
#include "storage/control.h"

#define FILES_MAX 64
#define FILE_MAX (1 << 20)
#define ZEROS_ALL 40  /* of a run of zeros so many are tried, */
#define ZEROS_STEP 61 /* and then each so-manieth */
#define COPY 512
#define COPIES_OF_FILE 40 /* blocks copied over others, in each file */

typedef enum Kind { CHANGE, CUT, COPY_BLOCK, COPY_FILE, REMOVE, KINDS } Kind;
static const char *const kind_name[KINDS] = { "bytes changed", "cut", "block over another",
											  "file over another", "removed" };

typedef struct Case {
	Kind kind;
	const char *path, *other;
	uint64_t at, from;
	uint8_t mask;
} Case;

static struct {
	char path[96];
	uint64_t bytes;
} files[FILES_MAX];
static int nfiles;

/* ---- the store */
static void
build(void *arg)
{
	uint32_t ms;
	Prng g;

	(void) arg;
	prng_seed(&g, world->seed);
	run_child_begin(prng_next(&g));
	MUST(engine_open());
	MUST(engine_start());
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 5; i++)
			step_write(&g);
		engine_apply_all();
		if (round == 3)
			break; /* the newest are in the log alone */
		engine_freeze();
		engine_compact();
	}
	for (int i = 0; i < 3; i++) {
		engine_wait(100);
		(void) worked(kvstore_walwriter_step(&ms), "the WAL writer"); /* the mark reaches the end */
	}
	journal_acked();
	check_all();
}

static void
note_file(void *arg, const char *path, uint64_t bytes)
{
	(void) arg;
	if (nfiles == FILES_MAX)
		failed("too many files");
	snprintf(files[nfiles].path, sizeof files[0].path, "%s", path);
	files[nfiles++].bytes = bytes;
}

/* ---- one case */
static void
copy_bytes(const char *from, uint64_t from_at, const char *to, uint64_t to_at, uint64_t len)
{
	uint8_t *bytes = malloc(len + 1);
	size_t got;
	int in, out;

	MUST(fs_open(from, FS_READ, &in));
	MUST(fs_open(to, FS_WRITE, &out));
	MUST(fs_pread(in, bytes, len, from_at, &got));
	MUST(fs_pwrite(out, bytes, got, to_at));
	MUST(fs_close(in));
	MUST(fs_close(out));
	free(bytes);
}

static void
change(const Case *c)
{
	uint8_t byte;
	size_t got;
	int fd;

	MUST(fs_open(c->path, FS_WRITE, &fd));
	MUST(fs_pread(fd, &byte, 1, c->at, &got));
	byte ^= c->mask;
	MUST(fs_pwrite(fd, &byte, 1, c->at));
	MUST(fs_close(fd));
}

static void
cut_at(const char *path, uint64_t bytes)
{
	int fd;

	MUST(fs_open(path, FS_WRITE, &fd));
	MUST(fs_truncate(fd, bytes));
	MUST(fs_close(fd));
}

static void
harm(const Case *c)
{
	uint64_t bytes;
	int fd;

	if (c->kind == CHANGE)
		change(c);
	if (c->kind == CUT)
		cut_at(c->path, c->at);
	if (c->kind == COPY_BLOCK)
		copy_bytes(c->path, c->from, c->path, c->at, COPY);
	if (c->kind == COPY_FILE) {
		MUST(fs_open(c->other, FS_READ, &fd));
		MUST(fs_size(fd, &bytes));
		MUST(fs_close(fd));
		cut_at(c->path, 0);
		copy_bytes(c->other, 0, c->path, 0, bytes);
	}
	if (c->kind == REMOVE)
		MUST(fs_unlink(c->path));
}

static void
refuse(Status st)
{
	if (!ordered(st) && st != ST_NOT_FOUND)
		failed("start: %s (%s)", status_name(st), status_detail());
	if (status_detail()[0] == '\0')
		failed("start: %s without a reason", status_name(st));
	world->end = END_REFUSED;
	_exit(1);
}

static void
try_case(void *arg)
{
	const Case *c = arg;
	Status st;

	disk_private();
	run_child_begin(world->seed);
	if (!world->verbose)
		elog_setup(-1, LOG_LEVEL_PANIC, false);
	harm(c);
	world->faulty = true;
	world->refused = 0;
	st = engine_open();
	if (st == ST_OK)
		st = engine_start();
	if (st != ST_OK)
		refuse(st);
	check_all();
	world->end = world->refused > 0 ? END_REFUSED : END_DONE;
	_exit(0);
}

/* The copy of kvd.control counts as removed when it is missing; control.c tells the caller NOT_FOUND. */
static bool
run_case(const Case *c)
{
	int nops = world->nops, nacked = world->nacked, status;

	status = run_child(try_case, (void *) (uintptr_t) c);
	world->nops = nops;
	world->nacked = nacked;
	world->checked++;
	if (world->end == END_RUNNING && status == EXIT_STOP_NODE << 8)
		world->end = END_STOPPED;
	if (world->end == END_DONE)
		world->harmless++;
	if (world->end == END_DONE || world->end == END_REFUSED || world->end == END_STOPPED)
		return true;
	printf("kvmodel damage: seed %llu: \"%s\": %s at %llu (%llu, %#x, %s): %s\n",
		   (unsigned long long) world->seed, c->path, kind_name[c->kind], (unsigned long long) c->at,
		   (unsigned long long) c->from, c->mask, c->other != NULL ? c->other : "", world->why);
	return false;
}

/* ---- all cases */
typedef struct Count {
	uint64_t cases, harmless;
} Count;

static bool
count(Count *n, const Case *c)
{
	uint64_t harmless = world->harmless;
	bool fine = run_case(c);

	n->cases++;
	n->harmless += world->harmless - harmless;
	return fine;
}

/* Log to come and the ends of pages are zeros: of long runs of them only some are tried. */
static void
note_zeros(const char *path, uint64_t bytes, uint32_t *run)
{
	uint8_t *content = malloc(bytes + 1);
	size_t got;
	int fd;

	MUST(fs_open(path, FS_READ, &fd));
	MUST(fs_pread(fd, content, bytes, 0, &got));
	MUST(fs_close(fd));
	for (uint64_t at = 0; at < got; at++)
		run[at] = content[at] != 0 ? 0 : at == 0 ? 1 : run[at - 1] + 1;
	free(content);
}

static bool
bytes_of_file(int f, Prng *g, bool all_bits, Count n[KINDS])
{
	static uint32_t zeros[FILE_MAX]; /* before and at each byte */
	Case c = { .path = files[f].path };

	if (files[f].bytes > FILE_MAX)
		failed("\"%s\" is too large", files[f].path);
	note_zeros(c.path, files[f].bytes, zeros);
	for (c.at = 0; c.at < files[f].bytes; c.at++) {
		if (zeros[c.at] > ZEROS_ALL && zeros[c.at] % ZEROS_STEP != 0)
			continue;
		c.kind = CHANGE;
		for (int bit = 0; bit < 8; bit++) {
			c.mask = (uint8_t) (all_bits ? UINT64_C(1) << bit : 1 + prng_below(g, 255));
			if (!count(&n[CHANGE], &c))
				return false;
			if (!all_bits)
				break;
		}
		c.kind = CUT;
		if (!count(&n[CUT], &c))
			return false;
	}
	return true;
}

static bool
blocks_of_file(int f, Prng *g, Count n[KINDS])
{
	Case c = { .kind = COPY_BLOCK, .path = files[f].path };
	uint64_t blocks = files[f].bytes / COPY;

	for (int i = 0; i < COPIES_OF_FILE && blocks > 1; i++) {
		c.at = prng_below(g, blocks) * COPY;
		c.from = prng_below(g, blocks) * COPY;
		if (c.at != c.from && !count(&n[COPY_BLOCK], &c))
			return false;
	}
	return true;
}

static bool
whole_file(int f, Count n[KINDS])
{
	Case c = { .kind = REMOVE, .path = files[f].path };

	if (!count(&n[REMOVE], &c))
		return false;
	c.kind = COPY_FILE;
	for (int i = 0; i < nfiles; i++) {
		c.other = files[i].path;
		if (i != f && !count(&n[COPY_FILE], &c))
			return false;
	}
	return true;
}

static bool
one_store(uint64_t seed, bool all_bits)
{
	Count n[KINDS] = { { 0, 0 } };
	Prng g;

	run_begin(seed, &g);
	world->set.keys = 24;
	world->set.segment_size = 4096;
	world->set.value_small = 40;
	world->set.large_of_100 = 0;
	world->set.blob_threshold = 20;
	world->set.table_size = 1024;
	world->set.retention_ms = 0;
	if (run_create())
		run_child(build, NULL);
	if (world->end != END_DONE) {
		printf("kvmodel damage: seed %llu: %s\n", (unsigned long long) seed, world->why);
		return false;
	}
	disk_settle();
	nfiles = 0;
	disk_each(note_file, NULL);
	for (int f = 0; f < nfiles && world->verbose; f++)
		printf("damage: %s, %llu bytes\n", files[f].path, (unsigned long long) files[f].bytes);
	for (int f = 0; f < nfiles; f++)
		if (!bytes_of_file(f, &g, all_bits, n) || !blocks_of_file(f, &g, n) || !whole_file(f, n))
			return false;
	for (int k = 0; k < KINDS; k++)
		printf("damage: seed %llu: %s: %llu cases, %llu without effect, never a wrong answer\n",
			   (unsigned long long) seed, kind_name[k], (unsigned long long) n[k].cases,
			   (unsigned long long) n[k].harmless);
	return true;
}

int
damage(const RunOptions *o)
{
	double began = run_now();
	uint64_t seeds = o->seeds == UINT64_MAX ? 1 : o->seeds;

	for (uint64_t s = 0; s < seeds; s++)
		if (!one_store(o->first + s, seeds > 1))
			return 1;
	printf("damage: %.1f s\n", run_now() - began);
	return 0;
}
