/*
 * lsm_verify.c - kvd --check: every table the manifest names, and the order of the levels.
 *
 * A tool without other processes; it goes on after a finding so that one run tells all.
 */
#include <stdio.h>

#include "common/bytes.h"
#include "lsm_internal.h"

typedef struct Check {
	void (*report)(void *arg, const char *line);
	void *arg;
	Status first;        /* first failure */
	uint64_t tables, entries, bytes;
} Check;

static void
finding(Check *c, Status st, const char *what)
{
	char line[STATUS_DETAIL_MAX + 64];

	if (st == ST_OK)
		return;
	if (c->first == ST_OK)
		c->first = st;
	snprintf(line, sizeof line, "%s: %s", what, status_detail());
	c->report(c->arg, line);
}

static Status
compare(const Table *t, const TableInfo *info, const Buf *smallest, const Buf *largest)
{
	const TableInfo *a = &t->info;

	if (a->file_id != info->file_id || a->bytes != info->bytes || a->entries != info->entries ||
	    a->tombstones != info->tombstones || a->version_min != info->version_min ||
	    a->version_max != info->version_max || a->root_offset != info->root_offset ||
	    a->filter_offset != info->filter_offset || a->filter_pages != info->filter_pages)
		return status_fail(ST_CORRUPT, "table %llx: the manifest and the file disagree",
		                   (unsigned long long) a->number);
	if (!slice_eq(t->smallest, slice_buf(smallest)) || !slice_eq(t->largest, slice_buf(largest)))
		return status_fail(ST_CORRUPT, "table %llx: the manifest and the file have different key ranges",
		                   (unsigned long long) a->number);
	return ST_OK;
}

static void
check_table(Check *c, uint32_t level, const Table *t)
{
	Buf smallest = { 0 }, largest = { 0 };
	TableInfo info;
	char what[64];
	Status st = table_read_info(t->info.number, &info, &smallest, &largest);

	snprintf(what, sizeof what, "level %u, table %016llx", level, (unsigned long long) t->info.number);
	if (st == ST_OK)
		st = compare(t, &info, &smallest, &largest);
	if (st == ST_OK)
		st = table_verify(&t->info, NULL, NULL);
	finding(c, st, what);
	c->tables++;
	c->entries += t->info.entries;
	c->bytes += t->info.bytes;
	buf_free(&smallest);
	buf_free(&largest);
}

Status
lsm_verify(const Version *v, void (*report)(void *arg, const char *line), void *arg)
{
	Check c = { .report = report, .arg = arg, .first = ST_OK };
	char line[128];

	finding(&c, version_check(v), "manifest");
	for (uint32_t level = 0; level < LSM_LEVELS; level++)
		for (uint32_t i = 0; i < v->ntables[level]; i++)
			check_table(&c, level, v->tables[level][i]);
	snprintf(line, sizeof line, "tables: %llu with %llu entries, %llu bytes", (unsigned long long) c.tables,
	         (unsigned long long) c.entries, (unsigned long long) c.bytes);
	report(arg, line);
	return c.first;
}
