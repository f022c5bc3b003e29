/*
 * manifest_values.c - which of the value files that a manifest lists are still referred to.
 *
 * Pure. A manifest says when a value file comes, not when it goes: it goes when no table refers to it.
 */
#include <stdlib.h>

#include "lsm_internal.h"

typedef struct Sum {
	ValueFileInfo info;
	uint64_t values, bytes; /* referred to */
} Sum;

static int
sum_order(const void *a, const void *b)
{
	const Sum *x = a, *y = b;

	return (x->info.file_id > y->info.file_id) - (x->info.file_id < y->info.file_id);
}

static Sum *
find(Sum *sums, size_t n, uint64_t file_id)
{
	Sum key = { .info.file_id = file_id };

	return n == 0 ? NULL : bsearch(&key, sums, n, sizeof key, sum_order);
}

static Status
count_table(const ManifestTable *t, Sum *sums, size_t n, Buf *scratch)
{
	const ValueShare *s;

	buf_clear(scratch);
	KV_TRY(value_shares_decode(t->shares, t->info.value_files, scratch));
	s = (const ValueShare *) (const void *) scratch->data;
	for (uint32_t i = 0; i < t->info.value_files; i++) {
		Sum *sum = find(sums, n, s[i].file_id);

		if (sum == NULL || sum->info.values - sum->values < s[i].values ||
			sum->info.value_bytes - sum->bytes < s[i].bytes)
			return ST_CORRUPT;
		sum->values += s[i].values;
		sum->bytes += s[i].bytes;
	}
	return ST_OK;
}

static Status
settle(ManifestImage *img, Sum *sums, size_t n)
{
	Buf scratch = { 0 };
	Status st = ST_OK;

	qsort(sums, n, sizeof *sums, sum_order);
	for (size_t i = 1; i < n && st == ST_OK; i++)
		if (sums[i - 1].info.file_id == sums[i].info.file_id)
			st = ST_CORRUPT;
	for (size_t i = 0; i < img->ntables && st == ST_OK; i++)
		st = count_table(&img->tables[i], sums, n, &scratch);
	buf_free(&scratch);
	for (size_t i = 0; i < n && st == ST_OK; i++)
		if (sums[i].values > 0)
			img->values[img->nvalues++] = sums[i].info;
	return st;
}

Status
manifest_values_settle(ManifestImage *img, const Buf *listed)
{
	const ValueFileInfo *info = (const ValueFileInfo *) (const void *) listed->data;
	size_t n = listed->len / sizeof *info;
	Sum *sums = calloc(n + 1, sizeof *sums);
	Status st;

	img->values = calloc(n + 1, sizeof *img->values);
	if (sums == NULL || img->values == NULL) {
		free(sums);
		return status_fail(ST_OUT_OF_MEMORY, "no memory for the list of %zu value files", n);
	}
	for (size_t i = 0; i < n; i++)
		sums[i].info = info[i];
	st = settle(img, sums, n);
	free(sums);
	return st;
}
