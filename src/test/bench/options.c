/*
 * options.c - the options of enginebench, named as db_bench names them.
 */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "common/config.h"

Options opt;

typedef struct Option {
	const char *name;
	int64_t *number;
	double *real;
	const char **text;
	const char *def;
	double min, max;
	const char *help;
} Option;

#define NUMBER(field, def, min, max, help) { #field, &opt.field, NULL, NULL, def, min, max, help }

static const Option options[] = {
	{ "benchmarks", NULL, NULL, &opt.benchmarks, "fillseq,fillrandom,readrandom,stats", 0, 0,
	  "Workloads, one after the other." },
	{ "db", NULL, NULL, &opt.db, NULL, 0, 0, "Directory to work in (needed)." },
	{ "compression_type", NULL, NULL, &opt.compression_type, "none", 0, 0, "compression: none, lz4 or zstd." },
	NUMBER(num, "1000000", 1, 4e9, "Keys."),
	NUMBER(writes, "-1", -1, 1e12, "Operations of the workloads that write at random; -1: --num."),
	NUMBER(reads, "-1", -1, 1e12, "Operations of each process of the workloads that read; -1: --num."),
	NUMBER(key_size, "16", 8, 65535, "Bytes of a key."),
	NUMBER(value_size, "100", 0, 16777216, "Bytes of a value."),
	{ "compression_ratio", NULL, &opt.compression_ratio, NULL, "0.5", 0, 1, "Values compress to this." },
	NUMBER(threads, "1", 1, WORKERS_MAX - 1, "Worker processes."),
	NUMBER(batch_size, "1", 1, 65536, "Operations in one record."),
	NUMBER(seek_nexts, "0", 0, 1e9, "Further entries after a seek."),
	NUMBER(seed, "1", 0, 9e18, "Same seed, same choices."),
	NUMBER(duration, "0", 0, 1e9,
	       "Each workload lasts so many seconds, whatever --reads and --writes say; 0: no limit."),
	NUMBER(sync, "0", 0, 1, "1: wait until each write is durable."),
	NUMBER(use_existing_db, "0", 0, 1, "1: keep what is in --db; the fill* then add to it."),
	NUMBER(direct, "0", 0, 1, "1: workers keep nothing in the page cache: what misses the block cache costs a read."),
	NUMBER(histogram, "1", 0, 1, "0: do not measure latencies (saves the clock's 30 ns an operation)."),
	NUMBER(stall_us, "10000", 1, 1e9, "An operation longer than this counts as a stall."),
	NUMBER(space, "1", 0, 1, "1: count live bytes at the end, for space amplification."),
	NUMBER(keep, "0", 0, 1, "1: leave --db as it is at the end."),
	NUMBER(cache_size, "134217728", 1, 9e15, "block_cache_size."),
	NUMBER(write_buffer_size, "67108864", 1, 9e15, "memtable_size."),
	NUMBER(max_write_buffer_number, "3", 1, 1e6, "memtable_count."),
	NUMBER(target_file_size_base, "67108864", 1, 9e15, "table_size."),
};
#define OPTIONS (sizeof options / sizeof *options)

static void
usage_error(const char *what, const char *which)
{
	fprintf(stderr, "enginebench: %s%s; see --help\n", what, which);
	exit(2);
}

static void
help(void)
{
	printf("Usage: enginebench --db=DIR [--OPTION=VALUE]...\n"
	       "Measures the storage engine without a server. Workloads (--benchmarks=a,b,c):\n");
	workload_print_list();
	printf("\nOptions:\n");
	for (size_t i = 0; i < OPTIONS; i++)
		printf("  --%-26s %s%s%s%s\n", options[i].name, options[i].help, options[i].def != NULL ? " (" : "",
		       options[i].def != NULL ? options[i].def : "", options[i].def != NULL ? ")" : "");
	printf("  --%-26s %s\n", "set=NAME=VALUE", "Any setting of kvd.conf.");
	exit(0);
}

static bool
assign(const Option *o, const char *value)
{
	char *end;
	double d;

	if (o->text != NULL) {
		*o->text = value;
		return true;
	}
	errno = 0;
	d = strtod(value, &end);
	if (*value == '\0' || *end != '\0' || errno != 0 || !(d >= o->min && d <= o->max))
		return false;
	if (o->real != NULL)
		*o->real = d;
	else if (d != floor(d))
		return false;
	else
		*o->number = (int64_t) d;
	return true;
}

static void
parse_one(const char *arg)
{
	const char *eq = strchr(arg, '=');

	if (strcmp(arg, "--help") == 0)
		help();
	if (strncmp(arg, "--set=", 6) == 0) {
		if (config_set_command_line(arg + 6) != ST_OK)
			usage_error(status_detail(), "");
		return;
	}
	for (size_t i = 0; i < OPTIONS && eq != NULL && strncmp(arg, "--", 2) == 0; i++) {
		size_t len = (size_t) (eq - arg) - 2;

		if (strlen(options[i].name) != len || memcmp(options[i].name, arg + 2, len) != 0)
			continue;
		if (!assign(&options[i], eq + 1))
			usage_error("value out of range in ", arg);
		return;
	}
	usage_error("no such option: ", arg);
}

static void
set_text(const char *name, const char *value)
{
	char text[128];

	snprintf(text, sizeof text, "%s=%s", name, value);
	if (config_set_command_line(text) != ST_OK)
		usage_error(status_detail(), "");
}

static void
set_number(const char *name, int64_t value)
{
	char text[64];

	snprintf(text, sizeof text, "%lld", (long long) value);
	set_text(name, text);
}

void
options_parse(int argc, char **argv)
{
	config_init();
	for (size_t i = 0; i < OPTIONS; i++)
		if (options[i].def != NULL)
			(void) assign(&options[i], options[i].def);
	/* RocksDB keeps no snapshots that nobody holds; --set=snapshot_retention=1min is what kvd does by default. */
	set_number("snapshot_retention", 0);
	for (int i = 1; i < argc; i++)
		parse_one(argv[i]);
	if (opt.db == NULL)
		usage_error("--db=DIR is needed", "");
	if (opt.reads < 0)
		opt.reads = opt.num;
	if (opt.writes < 0)
		opt.writes = opt.num;
	set_text("compression", opt.compression_type);
	set_number("block_cache_size", opt.cache_size);
	set_number("memtable_size", opt.write_buffer_size);
	set_number("memtable_count", opt.max_write_buffer_number);
	set_number("table_size", opt.target_file_size_base);
	if (config_apply(slice_of("", 0), slice_of("", 0), false, NULL) != ST_OK)
		usage_error(status_detail(), "");
}
