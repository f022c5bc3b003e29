/*
 * model.h - kvmodel: the whole engine on a simulated disk, beside a model that is only an array.
 *
 * A run is a list of incarnations, each a child process that starts the engine on what the disk holds,
 * compares all of it with the model, goes on with random operations and checks, and ends: killed, or without
 * power at its Nth change of the disk. What outlives a child is the disk and the World, both in shared
 * memory.
 *
 *   keys.c      keys and values, made from numbers
 *   model.c     the array, and what an operation does to it
 *   journal.c   operations by their place in the log: what has to be there after a start
 *   engine.c    start of the engine; its clocks, sleeps and random numbers
 *   steps.c     random operations;  checks.c  reads compared with the model
 *   run.c       a seed: incarnations, ends, verdict
 *   io_faults.c the Nth call fails, for all N;  malloc_faults.c  the Nth malloc
 *   damage.c    each byte of a small store;  installs.c  tables that take the place of all there are
 *   mistakes.c  known mistakes, which have to be noticed
 */
#ifndef TEST_MODEL_H
#define TEST_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/prng.h"
#include "disk.h"
#include "storage/kvstore.h"
#include "storage/op.h"
#include "storage/transfer.h"

#define KEYS_MAX 256
#define KEY_LONGEST 300
#define OPS_MAX 12288 /* in a run */
#define BATCH_OPS_MAX 8
#define VALUE_MAX_LEN 20000
#define VALUE_HUGE 300000 /* more than files are written in at once (BLOCK_OUT_BUFFER); for io only */
#define HELD_MAX 4 /* old states that are asked for again */

/* ---- values: numbers as decimal text, others made from an id */
typedef struct Value {
	bool numeric;
	uint32_t len;
	uint64_t id; /* numeric: the number */
} Value;

/* Made by keys_make(); order[i] is the i-th key in the order of bytes. */
extern Slice key_text[KEYS_MAX];
extern int key_order[KEYS_MAX], key_place[KEYS_MAX];
void keys_make(int n);
/* Valid until the next call but three. */
Slice value_text(const Value *v);

/* ---- one operation */
typedef struct ModelOp {
	OpKind kind;
	OpCondition condition;
	uint8_t flags;
	bool starts_record;
	int key;
	int end; /* DELETE_RANGE: from the key-th to before the end-th key in order; the number of keys: no end */
	uint64_t ttl_ms;
	int64_t step; /* INCR */
	Value value, expected;
	uint64_t expected_version;
	/* its place */
	Lsn version;
	uint64_t time_before; /* log time reached before its record */
	uint64_t time;        /* and at it; 0: not known */
} ModelOp;

/* ---- the model */
typedef struct ModelEntry {
	bool present;
	Value value;
	uint64_t expire_ms, version;
} ModelEntry;

typedef struct Model {
	ModelEntry entry[KEYS_MAX];
	uint64_t time; /* log time */
} Model;

extern Model model;

bool model_live(const ModelEntry *e, uint64_t time);
/* The operations of one record; gives how many of them hold. */
int model_apply(Model *m, const ModelOp *ops, int n);

/* ---- what a seed decides about the engine */
/* Kinds of steps, with a weight each. */
enum {
	STEP_WRITE,
	STEP_READ,
	STEP_KEY,
	STEP_FREEZE,
	STEP_COMPACTOR,
	STEP_COMPACT,
	STEP_WALWRITER,
	STEP_WAIT,
	STEP_TIME,
	STEP_HOLD,
	STEP_HELD,
	STEP_SCAN_DURING,
	STEP_FULL_DISK,
	STEP_SYSTEM,
	STEPS
};

typedef struct Settings {
	int keys;
	uint32_t segment_size, memtable_size, table_size, l0_trigger, level_ratio;
	uint32_t retention_ms;
	uint32_t level_base, codec, blob_threshold;
	uint32_t value_small, value_large, large_of_100;
	uint32_t weight[STEPS];
} Settings;

/* ---- in shared memory: what outlives a child */
typedef enum End { END_RUNNING, END_DONE, END_CUT, END_STOPPED, END_REFUSED, END_FAILED } End;

typedef struct World {
	uint64_t seed;
	int incarnation;
	Settings set;
	Prng engine_random;
	uint64_t mono_ns, wall_ms;
	bool verbose;
	bool tell;   /* failed() says why and aborts */
	bool faulty; /* calls fail on order, or bytes were changed: failures that say so are right */
	/* -- journal.c */
	ModelOp op[OPS_MAX];
	int nops;
	int nacked;         /* of these the engine has said that they are durable */
	uint64_t time_seen; /* log time that a start has shown */
	Lsn config;         /* newest CONFIG record known to be durable, 0 none; its body has config_len bytes */
	uint32_t config_len;
	/* -- installs.c */
	TransferPlan plan;
	bool planned, installed;
	/* -- verdict */
	End end;
	char why[1024];
	/* -- figures of all runs */
	uint64_t runs, starts, cuts, records, reads, scans, flushes, compactions, moves, gone, checked;
	uint64_t levels_used[8];
	uint64_t refused, stopped, passed, harmless; /* io_faults.c, damage.c: how it ended */
	uint64_t mallocs_failed;                     /* in the last child */
	uint64_t ranges, ranges_refused;
	uint64_t lost_unacked; /* operations that a power failure took, rightly */
} World;

extern World *world;
void world_make(void);

/* Ends the child, with a reason. */
_Noreturn void KV_PRINTF(1, 2) failed(const char *fmt, ...);
#define MUST(expr)                                                                                           \
	do {                                                                                                     \
		Status must_ = (expr);                                                                               \
		if (must_ != ST_OK)                                                                                  \
			failed("%s: %s (%s)", #expr, status_name(must_), status_detail());                               \
	} while (0)
/* Is this failure one that was ordered? A failure that may pass is tried again; others stop the node. */
bool ordered(Status st);
bool may_pass(Status st);
/* The node has stopped itself, as it should. */
_Noreturn void stopped(void);
/* For what stops the node when it fails; true: done, false: to be tried again. */
bool worked(Status st, const char *what);
#define CHECK(expr)                                                                                          \
	do {                                                                                                     \
		if (!(expr))                                                                                         \
			failed("%s:%d: %s does not hold", __FILE__, __LINE__, #expr);                                    \
	} while (0)

/* ---- journal.c */
/* Before a record is written: n operations, which will be at `at`. Gives the first. */
ModelOp *journal_add(const ModelOp *ops, int n, Lsn at);
/* The newest record was certainly not written. */
void journal_undo(int n);
/* All that is in the journal is durable. */
void journal_acked(void);
/*
 * The log ends at `end`: forget what is not in it, which must not have been acknowledged; the rest into the
 * model.
 */
void journal_recover(Lsn end);

/* ---- engine.c */
/* A new data directory on an empty disk. */
void engine_create(void);
/* Shared memory. */
KV_CHECK Status engine_prepare(void);
/* kvstore_open() and what has to come before. */
KV_CHECK Status engine_open(void);
/* The rest of a start, and the gate open. */
KV_CHECK Status engine_start(void);
/* A step of the compaction worker; what stops it stops the node. */
void engine_work(bool *did);
/* The same until there is nothing to do. */
void engine_compact(void);
/* The active memtable is frozen. */
void engine_freeze(void);
void engine_apply_all(void);
/* Time goes by. */
void engine_wait(uint64_t ms);

/* ---- checks.c */
void check_get(int key);
void check_all(void);
void check_some(Prng *g);
/* Remember the state now; ask for a remembered one again. */
void check_hold(Prng *g);
void check_held(Prng *g);
/* A scan goes on while tables are rewritten under it. */
void check_scan_during_work(Prng *g);

/* ---- steps.c */
void steps_run(Prng *g, int n);
/* One record of random operations. */
void step_write(Prng *g);

/* ---- run.c */
/* World, journal and disk as at the beginning of a seed, the settings drawn. */
void run_begin(uint64_t seed, Prng *g);
/* Then a data directory is made, with the settings as they are now. */
bool run_create(void);
/* In a child: the file system layer, mistakes, random numbers. */
void run_child_begin(uint64_t seed);
/* In a child: start the engine. A refusal for which may_fail() is true ends the child, another one the run. */
void run_child_start(bool (*may_fail)(Status st));
double run_now(void);
typedef struct RunOptions {
	uint64_t first, seeds;
	uint64_t cuts;    /* power: until so many */
	uint64_t seconds; /* 0: no limit */
	bool verbose;
} RunOptions;
void run_settings(uint64_t seed, Settings *s);
/* One seed; `power`: each incarnation but the last ends with a power failure. False: world->why. */
bool run_seed(uint64_t seed, bool power);
int run_model(const RunOptions *o);
int run_power(const RunOptions *o);
/* A child that runs fn; what came of it is in world->end. Gives the exit status as waitpid() has it. */
int run_child(void (*fn)(void *arg), void *arg);

/* ---- one program each */
int io_faults(const RunOptions *o);
/* One seed of it, all kinds. False: world->why. */
bool io_faults_seed(uint64_t seed);
int malloc_faults(const RunOptions *o);
int damage(const RunOptions *o);
int installs(const RunOptions *o);
int mistakes(const RunOptions *o);

/* ---- mistakes.c */
/* Switch one on, in this process and its children; -1: none. */
void mistake_set(int i);
/* Those made in fs have to be repeated whenever the layer is set up. */
void mistake_fs(void);

/* malloc_faults.c: allocations of the test's own never fail: pause(true) before, pause(false) behind. */
void malloc_pause(bool on);

#endif
