/*
 * report.c - what was measured, a line a figure.
 */
#include <inttypes.h>

#include "bench.h"
#include "port/fs.h"
#include "storage/lsm.h"

#define MIB 1048576.0

/* Results of the workers that count (secondary or not) in one; times are first begin and last end. */
static void
sum_up(int workers, bool secondary, WorkerResult *sum)
{
	*sum = (WorkerResult){ .began_ns = UINT64_MAX };
	histogram_init(&sum->latency);
	for (int i = 0; i < workers; i++) {
		WorkerResult *r = &shared->worker[i];

		if (r->secondary != secondary)
			continue;
		sum->began_ns = r->began_ns < sum->began_ns ? r->began_ns : sum->began_ns;
		sum->ended_ns = r->ended_ns > sum->ended_ns ? r->ended_ns : sum->ended_ns;
		sum->cpu_ns += r->cpu_ns;
		sum->ops += r->ops;
		sum->bytes += r->bytes;
		sum->found += r->found;
		sum->entries += r->entries;
		sum->stalls += r->stalls;
		sum->stall_ns += r->stall_ns;
		if (r->stall_max_ns > sum->stall_max_ns)
			sum->stall_max_ns = r->stall_max_ns;
		sum->files.reads += r->files.reads;
		sum->files.read_bytes += r->files.read_bytes;
		histogram_merge(&sum->latency, &r->latency);
	}
}

static void
print_rate(const char *name, const WorkerResult *s, int workers)
{
	double seconds = (double) (s->ended_ns - s->began_ns) / 1e9, ops = s->ops > 0 ? (double) s->ops : 1;

	/* as db_bench: time of one worker for one operation */
	printf("%-16s : %11.3f micros/op %.0f ops/sec %.3f seconds %" PRIu64 " operations; %6.1f MB/s", name,
	       seconds * 1e6 / ops * workers, ops / seconds, seconds, s->ops, (double) s->bytes / MIB / seconds);
}

static void
print_latencies(const WorkerResult *s)
{
	const Histogram *h = &s->latency;

	if (h->count == 0)
		return;
	printf("  latency us     : p50 %.1f p99 %.1f p99.9 %.1f max %.1f\n", (double) histogram_quantile(h, 0.5) / 1e3,
	       (double) histogram_quantile(h, 0.99) / 1e3, (double) histogram_quantile(h, 0.999) / 1e3,
	       (double) h->max / 1e3);
	printf("  stalls         : %" PRIu64 " over %.1f ms, longest %.1f ms, %.1f ms in all\n", s->stalls,
	       (double) opt.stall_us / 1e3, (double) s->stall_max_ns / 1e6, (double) s->stall_ns / 1e6);
}

static double
per_op(uint64_t ns, uint64_t ops)
{
	return ops > 0 ? (double) ns / 1e3 / (double) ops : 0;
}

void
report_run(const RunFigures *f)
{
	WorkerResult main_work, beside;
	int n = f->workers - (f->work->with_writer ? 1 : 0);
	uint64_t ops;

	sum_up(f->workers, false, &main_work);
	if (f->work->once) {
		printf("%-16s : %.3f seconds\n", f->work->name,
		       (double) (main_work.ended_ns - main_work.began_ns) / 1e9);
		return;
	}
	print_rate(f->work->name, &main_work, n);
	if (f->work->reads)
		printf(" (%" PRIu64 " of %" PRIu64 " found)", main_work.found, main_work.ops);
	printf("\n");
	print_latencies(&main_work);
	if (main_work.latency.count > 0)
		printf("  machine        : a nap of %d ms beside it took %.1f ms at most\n", BENCH_NAP_MS,
		       (double) f->longest_nap_ns / 1e6);
	ops = main_work.ops;
	printf("  cpu us/op      : workers %.3f log %.3f compaction %.3f replay %.3f\n", per_op(main_work.cpu_ns, ops),
	       per_op(f->cpu.log, ops), per_op(f->cpu.compaction, ops), per_op(f->cpu.replay, ops));
	if (f->work->reads)
		printf("  file reads     : %.4f per operation, %.1f MB\n",
		       (double) main_work.files.reads / (ops > 0 ? (double) ops : 1),
		       (double) main_work.files.read_bytes / MIB);
	if (main_work.entries > 0)
		printf("  entries        : %" PRIu64 "\n", main_work.entries);
	if (f->work->with_writer) {
		sum_up(f->workers, true, &beside);
		print_rate("  writer beside", &beside, 1);
		printf("\n");
		print_latencies(&beside);
	}
	fflush(stdout);
}

void
report_reopen(uint64_t ns)
{
	printf("%-16s : %.3f seconds\n", "reopen", (double) ns / 1e9);
	printf("  cpu ms         : replay %.1f\n", (double) engine_cpu().replay / 1e6);
	fflush(stdout);
}

/* ---- the engine's own figures */

typedef struct DirSum {
	const char *dir;
	uint64_t bytes;
} DirSum;

static Status
add_file(void *arg, const char *name)
{
	DirSum *sum = arg;
	char path[FS_PATH_MAX];
	uint64_t bytes = 0;
	int fd;

	snprintf(path, sizeof path, "%s/%s", sum->dir, name);
	if (fs_open(path, FS_READ, &fd) != ST_OK)
		return ST_OK; /* removed meanwhile */
	KV_TRY(fs_size(fd, &bytes));
	sum->bytes += bytes;
	return fs_close(fd);
}

static double
dir_bytes(const char *dir)
{
	DirSum sum = { .dir = dir };
	Status st = fs_list(dir, add_file, &sum);

	return st == ST_OK ? (double) sum.bytes : 0;
}

static double disk_most;

static double
disk_bytes(void)
{
	double now = dir_bytes("tables") + dir_bytes("values");

	if (now > disk_most)
		disk_most = now;
	return now;
}

void
report_sample_space(void)
{
	(void) disk_bytes();
}

void
report_engine(uint64_t user_bytes, bool counted)
{
	double disk = disk_bytes();
	double user = (double) user_bytes, live = (double) atomic_load(&shared->live_bytes), out;
	WalStats w;
	LsmStats l;

	wal_stats(&w);
	lsm_stats(&l);
	out = (double) (l.flush_bytes + l.compact_bytes_out);
	printf("engine           : user %.1f MB, log %.1f MB, flushed %.1f MB, compacted %.1f MB, tables %.1f MB\n",
	       user / MIB, (double) w.bytes / MIB, (double) l.flush_bytes / MIB, (double) l.compact_bytes_out / MIB,
	       disk / MIB);
	if (user_bytes > 0)
		printf("  write amp      : %.2f (compaction alone %.2f, log apart %.2f)\n", out / user,
		       (double) l.compact_bytes_out / user, (double) w.bytes / user);
	if (counted && live > 0)
		printf("  space amp      : %.2f, at most %.2f meanwhile (%.1f MB live in %" PRIu64 " entries)\n", disk / live,
		       disk_most / live, live / MIB, atomic_load(&shared->live_entries));
	disk_most = 0;
	printf("  log            : %" PRIu64 " syncs, mean %.2f ms, longest %.1f ms, ring full %" PRIu64 " times\n",
	       w.flushes, w.flushes > 0 ? (double) w.flush_ns / 1e6 / (double) w.flushes : 0,
	       (double) w.flush_ns_max / 1e6, w.ring_full);
	fflush(stdout);
}
