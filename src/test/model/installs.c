/*
 * installs.c - tables that were exported earlier take the place of all there are (rule C5), and power fails
 * meanwhile.
 *
 * The tables are the node's own of some time ago, and its log behind them is kept: so old tables and new
 * ones, each with the log behind them, are the same state, the journal's, and anything in between is none.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faultfs.h"
#include "model.h"

#define OUT "out"
#define IN "in"
#define STEPS 80
#define TRIES 4 /* starts that end too early, at most */

/* As the fetcher leaves what has come: the list as it was, files under their global names, all synced. */
static void
stage(void)
{
	char from[FS_PATH_MAX], to[FS_PATH_MAX];
	TransferList *l;
	TransferSum sum;

	MUST(fs_mkdir(IN));
	transfer_path(OUT, TRANSFER_LIST, from, sizeof from);
	transfer_path(IN, TRANSFER_LIST, to, sizeof to);
	MUST(fs_link(from, to));
	MUST(transfer_list_read(OUT, &l));
	transfer_list_sum(l, &sum);
	for (uint64_t i = 0; i < sum.files; i++) {
		TransferFile t = transfer_list_file(l, i);

		transfer_path(OUT, t.number, from, sizeof from);
		transfer_fetched_path(IN, &t, to, sizeof to);
		MUST(fs_link(from, to));
	}
	transfer_list_free(l);
	MUST(fs_remove_dir(OUT));
}

static void
fill(void *arg)
{
	TransferSum sum;
	Prng g;

	(void) arg;
	prng_seed(&g, world->seed);
	run_child_begin(prng_next(&g));
	MUST(engine_open());
	MUST(engine_start());
	steps_run(&g, STEPS);
	engine_apply_all();
	engine_freeze();
	engine_compact();
	kvstore_keep_log(0);
	MUST(transfer_export(OUT, &sum));
	kvstore_keep_log(sum.flushed);
	steps_run(&g, STEPS);
	engine_apply_all();
	stage();
	check_all();
}

static void
install(void)
{
	TransferList *l;
	bool done;

	if (world->installed) /* the caller removes what had come before it goes on */
		return;
	if (!world->planned)
		MUST(transfer_plan(&world->plan));
	world->planned = true;
	MUST(transfer_installed(&world->plan, &done));
	if (!done) {
		MUST(transfer_list_read(IN, &l));
		MUST(transfer_install(&world->plan, l, IN));
		transfer_list_free(l);
	}
	world->installed = true;
}

static void
cut(void)
{
	world->end = END_CUT;
	_exit(1);
}

typedef struct Start {
	uint64_t cut_at; /* 0: never */
} Start;

static void
start(void *arg)
{
	const Start *s = arg;

	run_child_begin(world->seed + s->cut_at);
	fault_plan(&(FaultPlan){ .calls = FAULT_CHANGES, .nth = s->cut_at, .kind = FAULT_CUT, .on_cut = cut });
	MUST(engine_prepare());
	install();
	MUST(engine_open());
	MUST(engine_start());
	check_all();
	world->starts++;
}

static bool
one_seed(uint64_t seed)
{
	static const unsigned kept[] = { 0, 64, 128, 192, 256 };
	Start s;
	Prng g;

	run_begin(seed, &g);
	world->planned = world->installed = false;
	if (!run_create())
		return false;
	run_child(fill, NULL);
	if (world->end != END_DONE)
		return false;
	disk_settle();
	for (int i = 0; i < TRIES; i++) {
		s.cut_at = i + 1 < TRIES ? 1 + prng_below(&g, 60) : 0;
		run_child(start, &s);
		if (world->end != END_DONE && world->end != END_CUT)
			return false;
		disk_power_loss(kept[prng_below(&g, sizeof kept / sizeof kept[0])]);
		world->cuts++;
	}
	s.cut_at = 0;
	run_child(start, &s);
	return world->end == END_DONE;
}

int
installs(const RunOptions *o)
{
	uint64_t seeds = o->seeds == UINT64_MAX ? 200 : o->seeds;
	double began = run_now();

	for (uint64_t i = 0; i < seeds; i++)
		if (!one_seed(o->first + i)) {
			printf("kvmodel install: seed %llu: %s\n  repeat with: kvmodel install --first %llu --seeds 1\n",
				   (unsigned long long) (o->first + i), world->why, (unsigned long long) (o->first + i));
			return 1;
		}
	printf("install: seeds %llu to %llu, %llu power failures, %.1f s\n", (unsigned long long) o->first,
		   (unsigned long long) (o->first + seeds - 1), (unsigned long long) world->cuts, run_now() - began);
	return 0;
}
