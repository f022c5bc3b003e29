/*
 * files.c - from the names on the command line to tables.
 */
#include <stdlib.h>
#include <string.h>

#include "kv_sstdump.h"
#include "port/child.h"
#include "storage/value_file.h"

#define PATH_BYTES 4096
#define TABLE_ENDING ".kvt"
#define MANIFEST_TRIES 10 /* a running server replaces its manifest once in a long while */

void
enter_directory(const char *name)
{
	static char abs[PATH_BYTES];
	Status st = child_enter_dir(name, abs, sizeof abs);

	if (st != ST_OK)
		exit(offline_failed(&dump.tool, st));
}

Status
read_manifest(ManifestImage *out)
{
	Status st = ST_OK;

	for (int i = 0; i < MANIFEST_TRIES; i++) {
		uint64_t before = 0, after = 0;

		KV_TRY(manifest_current(&before));
		st = manifest_read(out);
		if (st == ST_OK) {
			manifest_sort(out);
			return ST_OK;
		}
		if (st != ST_CORRUPT || manifest_current(&after) != ST_OK || before == after)
			break;
	}
	return st == ST_CORRUPT ? manifest_read(out) : st; /* once more, for its detail */
}

/* One table file, in the folder that table_files_dir() names. */
static int
one_table(uint64_t number, Status (*fn)(const TableFile *t))
{
	char path[PATH_BYTES];
	TableFile t = { 0 };
	Status st = table_read_info(number, &t.info, &t.smallest, &t.largest);

	table_path(number, path, sizeof path);
	if (st == ST_NOT_FOUND)
		st = status_fail(st, "%s is not there", path);
	if (st == ST_OK)
		st = fn(&t);
	table_files_close_all();
	buf_free(&t.smallest);
	buf_free(&t.largest);
	return st == ST_OK ? OFFLINE_WHOLE : offline_failed(&dump.tool, st);
}

int
worse(int a, int b)
{
	return a == OFFLINE_DAMAGED || b == OFFLINE_DAMAGED ? OFFLINE_DAMAGED : a > b ? a : b;
}

static int
each_of_directory(const char *name, Status (*fn)(const TableFile *t))
{
	ManifestImage img;
	int code = OFFLINE_WHOLE;
	Status st;

	enter_directory(name);
	st = read_manifest(&img);
	if (st != ST_OK)
		return offline_failed(&dump.tool, st);
	for (size_t i = 0; i < img.ntables; i++)
		code = worse(code, one_table(img.tables[i].info.number, fn));
	manifest_image_free(&img);
	return code;
}

int
each_table(char **names, int n, Status (*fn)(const TableFile *t))
{
	static char dir[PATH_BYTES], values[PATH_BYTES + sizeof VALUE_DIR + 4];
	uint64_t number;
	int code = OFFLINE_WHOLE;

	if (n == 1 && !offline_file(names[0], TABLE_ENDING, &number, dir, sizeof dir))
		return each_of_directory(names[0], fn);
	for (int i = 0; i < n; i++) {
		if (!offline_file(names[i], TABLE_ENDING, &number, dir, sizeof dir))
			offline_usage(&dump.tool, "no table file (16 hex digits and " TABLE_ENDING "): ", names[i]);
		table_files_dir(dir);
		snprintf(values, sizeof values, "%s/../%s", dir, VALUE_DIR);
		value_files_dir(values);
		code = worse(code, one_table(number, fn));
	}
	return code;
}
