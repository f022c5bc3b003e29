/*
 * bench.h - what the files of enginebench share.
 *
 * One process drives (main.c): it makes the engine's shared memory and forks all others, among them the workers
 * that do what is measured. It is never attached to that memory itself, as the postmaster is not.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "common/bytes.h"
#include "common/histogram.h"
#include "common/prng.h"
#include "common/status.h"
#include "storage/kvstore.h"

#define WORKERS_MAX 64

/* ---- options.c */
typedef struct Options {
	const char *benchmarks, *db, *compression_type;
	int64_t num, reads, writes, key_size, value_size, threads, batch_size, seek_nexts, seed, duration, stall_us;
	int64_t cache_size, write_buffer_size, max_write_buffer_number, target_file_size_base;
	int64_t use_existing_db, direct, sync, histogram, space, keep;
	double compression_ratio;
} Options;
extern Options opt;
/* Exits with 2 and a text on wrong usage, with 0 after --help. Puts settings of the engine in force. */
void options_parse(int argc, char **argv);

/* ---- shared.c: the bench's own shared memory */
/* Files read and written, by one process or one kind of them. */
typedef struct FileCounts {
	_Atomic uint64_t reads, read_bytes, write_bytes, syncs;
} FileCounts;

/* Written by its worker, read by the driver once that has ended. */
typedef struct WorkerResult {
	uint64_t began_ns, ended_ns, cpu_ns;
	uint64_t ops, bytes; /* bytes: of keys and values */
	uint64_t found, entries;
	uint64_t stalls, stall_ns, stall_max_ns; /* operations longer than --stall_us */
	bool secondary;      /* the writer beside readers: not what is measured */
	FileCounts files;
	Histogram latency;   /* ns */
} WorkerResult;

typedef struct Shared {
	_Atomic uint32_t ready, go;       /* workers count themselves; the driver starts them together */
	_Atomic uint32_t measured_left;   /* workers that are not secondary and still run */
	_Atomic uint64_t live_entries, live_bytes; /* of the worker that counts them */
	_Atomic uint64_t started_ns;      /* engine: the gate was opened */
	FileCounts background;
	WorkerResult worker[WORKERS_MAX];
} Shared;
extern Shared *shared;
KV_CHECK Status shared_make(void);

/* ---- countfs.c: fs.h's table with counters */
/* Count this process's file operations here. drop: after each read, let go of what the page cache has of it. */
void countfs_install(FileCounts *counts, bool drop);

/* ---- engine.c: the engine's processes */
/* Make --db and go there. Exits if there are files in it that are not enginebench's. */
void engine_enter(void);
/* Remove what an engine left there. */
void engine_remove(void);
/* Start on the directory as it is; returns the nanoseconds until writes are taken. Exits on failure. */
uint64_t engine_start(void);
void engine_stop(void);
bool engine_running(void);
/* Fork into a free slot of the engine; the child runs body and ends. */
pid_t engine_fork(void (*body)(void *arg), void *arg, int *slot);
/* Wait for it, and look at something each second; its slot may be used again then. Exits when the child failed. */
void engine_join(pid_t pid, int slot, void (*each_second)(void));
#define BENCH_NAP_MS 5
/* The longest of the naps in which the joins since the last call waited: so much does the machine hold a process up. */
uint64_t engine_longest_nap(void);
/* CPU time so far, ns. */
typedef struct EngineCpu {
	uint64_t log, compaction, replay;
} EngineCpu;
EngineCpu engine_cpu(void);
/* End everything with a text. */
_Noreturn void die(const char *what);
#define MUST(expr)                                                                                           \
	do {                                                                                                     \
		if ((expr) != ST_OK)                                                                                 \
			die(#expr);                                                                                      \
	} while (0)

/* ---- data.c: keys and values as db_bench makes them */
/* number as 8 bytes big-endian, '0' behind it up to --key_size, the keyspace byte before. */
Slice data_key(Buf *buf, uint64_t number, size_t extra);
/* --value_size random bytes that compress to --compression_ratio. */
typedef struct ValueSource {
	uint8_t *pool;
	size_t at;
} ValueSource;
void values_init(ValueSource *v, Prng *random);
Slice values_next(ValueSource *v);

/* ---- work_write.c, work_read.c: what workers do */
typedef struct Worker {
	int n;               /* of this many */
	int of;
	Prng random;
	ValueSource values;
	WorkerResult *r;
	uint64_t last_ns, until_ns;
	uint64_t last_version;
	Buf key, body;
} Worker;

typedef struct Workload {
	const char *name, *help;
	void (*run)(Worker *w);
	bool fresh;          /* on an empty directory, unless --use_existing_db */
	bool writes;
	bool reads;          /* --reads, not --num, says how many operations */
	bool with_writer;    /* one more process, which writes until the others have done */
	bool once;           /* one process, whatever --threads says; no rates are printed */
} Workload;
const Workload *workload_find(const char *name, size_t len);
void workload_print_list(void);

/* ---- work_time.c */
/* This worker's part of so many operations. */
uint64_t worker_share(const Worker *w, uint64_t all);
/* The same, of a workload that --duration ends instead. */
uint64_t worker_count(const Worker *w, uint64_t all);
/* How often each worker reads: --reads, as each of db_bench's threads does, unless --duration ends it. */
uint64_t worker_reads(void);
/* The clock starts. */
void worker_begin(Worker *w);
/* One operation is over. */
void worker_done(Worker *w, uint64_t bytes);
/* Is there time left (--duration)? Cheap. */
bool worker_in_time(const Worker *w);
/* The work is over; what was written is waited for. */
void worker_end(Worker *w);

void work_fill_seq(Worker *w);
void work_fill_random(Worker *w);
void work_fill_unique(Worker *w);
void work_fill_sync(Worker *w);
void work_fill_batch(Worker *w);
void work_delete_random(Worker *w);
void work_write_beside(Worker *w);
void work_read_random(Worker *w);
void work_read_missing(Worker *w);
void work_read_seq(Worker *w);
void work_read_reverse(Worker *w);
void work_seek_random(Worker *w);
void work_flush(Worker *w);
void work_compact(Worker *w);
void work_settle(Worker *w);
void work_stats(Worker *w);
void work_count(Worker *w);

/* ---- report.c */
typedef struct RunFigures {
	const Workload *work;
	int workers;
	EngineCpu cpu; /* of this run */
	uint64_t longest_nap_ns;
} RunFigures;
void report_run(const RunFigures *f);
void report_reopen(uint64_t ns);
/* Look at how much room tables and value files take now: the most since the last report_engine() is told there. */
void report_sample_space(void);
/* Amplifications since the engine's start; counted: live_entries and live_bytes are known. */
void report_engine(uint64_t user_bytes, bool counted);

#endif
