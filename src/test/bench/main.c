/*
 * main.c - enginebench: the storage engine alone, measured by workloads that RocksDB's db_bench knows.
 *
 * Exit codes: 0 done; 1 something failed; 2 wrong usage.
 */
#include <string.h>

#include "bench.h"
#include "common/elog.h"
#include "ipc/procslot.h"
#include "port/child.h"

#define START_NAP_US 1000

/* name, help, run, fresh, writes, reads, with_writer, once */
static const Workload workloads[] = {
	{ "fillseq", "write --num keys in ascending order", work_fill_seq, true, true, false, false, false },
	{ "fillrandom", "write --writes times a random one of --num keys", work_fill_random, true, true, false, false,
	  false },
	{ "filluniquerandom", "write each of --num keys once, in random order", work_fill_unique, true, true, false, false,
	  false },
	{ "fillbatch", "fillseq in records of 1000", work_fill_batch, true, true, false, false, false },
	{ "fillsync", "--writes / 1000 durable writes", work_fill_sync, true, true, false, false, false },
	{ "overwrite", "fillrandom into what is there", work_fill_random, false, true, false, false, false },
	{ "deleterandom", "delete random keys", work_delete_random, false, true, false, false, false },
	{ "readrandom", "read random keys", work_read_random, false, false, true, false, false },
	{ "readmissing", "read keys that are not there", work_read_missing, false, false, true, false, false },
	{ "readseq", "walk from the first key on", work_read_seq, false, false, true, false, false },
	{ "readreverse", "walk from the last key back", work_read_reverse, false, false, true, false, false },
	{ "seekrandom", "seek a random key, then --seek_nexts more", work_seek_random, false, false, true, false, false },
	{ "readwhilewriting", "readrandom beside one more process that writes", work_read_random, false, true, true, true,
	  false },
	{ "flush", "write the memtable out", work_flush, false, false, false, false, true },
	{ "compact", "write the memtable out and compact everything", work_compact, false, false, false, false, true },
	{ "waitforcompaction", "until nothing is left to flush or compact", work_settle, false, false, false, false, true },
	{ "stats", "print the engine's figures", work_stats, false, false, false, false, true },
};
static const Workload count_live = { .name = "count", .run = work_count, .once = true };
static const char reopen_help[] = "stop, start again: time until it takes writes";
#define WORKLOADS (sizeof workloads / sizeof *workloads)

static uint64_t user_bytes; /* written since the engine's start */

const Workload *
workload_find(const char *name, size_t len)
{
	for (size_t i = 0; i < WORKLOADS; i++)
		if (strlen(workloads[i].name) == len && memcmp(workloads[i].name, name, len) == 0)
			return &workloads[i];
	return NULL;
}

void
workload_print_list(void)
{
	for (size_t i = 0; i < WORKLOADS; i++)
		printf("  %-18s %s\n", workloads[i].name, workloads[i].help);
	printf("  %-18s %s\n", "reopen", reopen_help);
}

/* ---- workers */

typedef struct Job {
	const Workload *work;
	uint64_t seed;
	int n, of;
	bool beside;
} Job;

/* The child: wait for the others, work. */
static void
worker_main(void *arg)
{
	const Job *job = arg;
	Worker w = { .n = job->n, .of = job->of, .r = &shared->worker[job->n] };

	prng_seed(&w.random, job->seed);
	values_init(&w.values, &w.random);
	countfs_install(&w.r->files, opt.direct != 0);
	atomic_fetch_add(&shared->ready, 1);
	while (atomic_load(&shared->go) == 0)
		procslot_sleep(procslot_prepare_sleep(), START_NAP_US);
	if (job->beside)
		work_write_beside(&w);
	else
		job->work->run(&w);
	if (!w.r->secondary)
		atomic_fetch_sub(&shared->measured_left, 1);
}

static void
clear_results(int workers, int measured)
{
	atomic_store(&shared->ready, 0);
	atomic_store(&shared->go, 0);
	atomic_store(&shared->measured_left, (uint32_t) measured);
	for (int i = 0; i < workers; i++) {
		memset(&shared->worker[i], 0, sizeof shared->worker[i]);
		histogram_init(&shared->worker[i].latency);
	}
}

static void
run_workers(RunFigures *f)
{
	static uint64_t workers; /* of all runs: none draws the same keys as another */
	int measured = f->work->once ? 1 : (int) opt.threads, slots[WORKERS_MAX];
	pid_t pids[WORKERS_MAX];
	EngineCpu before, after;

	f->workers = measured + (f->work->with_writer ? 1 : 0);
	clear_results(f->workers, measured);
	for (int i = 0; i < f->workers; i++) {
		Job job = { f->work, (uint64_t) opt.seed * 1000000 + workers++, i, measured, i >= measured };

		pids[i] = engine_fork(worker_main, &job, &slots[i]);
	}
	while (atomic_load(&shared->ready) < (uint32_t) f->workers)
		child_poll(NULL, NULL, 0, 1);
	before = engine_cpu();
	(void) engine_longest_nap();
	atomic_store(&shared->go, 1);
	for (int i = 0; i < f->workers; i++)
		engine_join(pids[i], slots[i], report_sample_space);
	after = engine_cpu();
	f->longest_nap_ns = engine_longest_nap();
	f->cpu = (EngineCpu){ after.log - before.log, after.compaction - before.compaction,
		                  after.replay - before.replay };
	for (int i = 0; i < f->workers; i++)
		if (f->work->writes && (!f->work->with_writer || shared->worker[i].secondary))
			user_bytes += shared->worker[i].bytes;
}

/* ---- the list of workloads */

static void
start(bool fresh)
{
	if (fresh && !opt.use_existing_db)
		engine_remove();
	(void) engine_start();
	user_bytes = 0;
}

/* Figures of the engine that is about to stop. */
static void
stop(void)
{
	RunFigures f = { .work = &count_live };

	if (opt.space)
		run_workers(&f);
	report_engine(user_bytes, opt.space != 0);
	engine_stop();
}

static void
run(const Workload *work)
{
	RunFigures f = { .work = work };

	if (engine_running() && work->fresh && !opt.use_existing_db)
		stop();
	if (!engine_running())
		start(work->fresh);
	run_workers(&f);
	report_run(&f);
}

static void
reopen(void)
{
	if (!engine_running())
		start(false);
	engine_stop();
	report_reopen(engine_start());
}

/* Names are looked up before anything is run. */
static bool
for_each_name(void (*workload)(const Workload *), void (*other)(void))
{
	for (const char *p = opt.benchmarks; *p != '\0';) {
		size_t len = strcspn(p, ",");
		const Workload *work = workload_find(p, len);

		if (work != NULL && workload != NULL)
			workload(work);
		else if (work == NULL && len == strlen("reopen") && memcmp(p, "reopen", len) == 0) {
			if (other != NULL)
				other();
		} else if (work == NULL) {
			fprintf(stderr, "enginebench: no workload \"%.*s\"; see --help\n", (int) len, p);
			return false;
		}
		p += len + (p[len] == ',');
	}
	return true;
}

int
main(int argc, char **argv)
{
	options_parse(argc, argv);
	elog_setup(2, LOG_LEVEL_WARNING, false);
	if (!for_each_name(NULL, NULL))
		return 2;
	if (shared_make() != ST_OK)
		die("shared memory");
	engine_enter();
	printf("keys %lld bytes, values %lld bytes, %lld keys, %lld process%s, log %s\n", (long long) opt.key_size,
	       (long long) opt.value_size, (long long) opt.num, (long long) opt.threads, opt.threads > 1 ? "es" : "",
	       opt.sync ? "synced before a write returns" : "synced behind the writers, waited for at the end");
	(void) for_each_name(run, reopen);
	if (engine_running())
		stop();
	if (!opt.keep && !opt.use_existing_db)
		engine_remove();
	return 0;
}
