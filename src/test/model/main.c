/*
 * main.c - kvmodel: what is to be run.
 */
#include <stdlib.h>
#include <string.h>

#include "common/elog.h"
#include "model.h"

static void
usage(FILE *to)
{
	fprintf(
		to,
		"usage: kvmodel model|power|install|io|malloc|damage|mistakes [--first SEED] [--seeds N] [--cuts N] "
		"[--seconds N] [-v]\n"
		"  model     random operations beside a model, killed and started again at random\n"
		"  power     the same, but power fails, until --cuts failures\n"
		"  install   tables take the place of all there are, power fails meanwhile\n"
		"  io        the Nth call of the file system fails, for all N\n"
		"  malloc    the Nth allocation fails, for all N\n"
		"  damage    each byte of a small store changed; files cut, swapped, removed\n"
		"  mistakes  is each known mistake noticed within --seeds seeds?\n");
}

static uint64_t
number_of(const char *text)
{
	char *end;
	uint64_t n = text != NULL ? strtoull(text, &end, 10) : 0;

	if (text == NULL || *text < '0' || *text > '9' || *end != '\0') {
		usage(stderr);
		exit(2);
	}
	return n;
}

static int
run(const char *what, const RunOptions *o)
{
	static const struct {
		const char *name;
		int (*run)(const RunOptions *o);
	} programs[] = {
		{ "model", run_model },      { "power", run_power }, { "io", io_faults },
		{ "malloc", malloc_faults }, { "damage", damage },   { "install", installs },
		{ "mistakes", mistakes },
	};

	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
		if (strcmp(programs[i].name, what) == 0)
			return programs[i].run(o);
	usage(stderr);
	return 2;
}

int
main(int argc, char **argv)
{
	RunOptions o = { .first = 1, .seeds = UINT64_MAX };

	if (argc < 2) {
		usage(stderr);
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "-v") == 0)
			o.verbose = true;
		else if (strcmp(argv[i], "--first") == 0)
			o.first = number_of(argv[++i]);
		else if (strcmp(argv[i], "--seeds") == 0)
			o.seeds = number_of(argv[++i]);
		else if (strcmp(argv[i], "--cuts") == 0)
			o.cuts = number_of(argv[++i]);
		else if (strcmp(argv[i], "--seconds") == 0)
			o.seconds = number_of(argv[++i]);
		else {
			usage(stderr);
			return 2;
		}
	}
	world_make();
	world->verbose = o.verbose;
	if (!o.verbose)
		elog_setup(2, LOG_LEVEL_PANIC, false);
	return run(argv[1], &o);
}
