/*
 * fetch_incoming.c - the two small files beside fetched tables: what they are, and where they will go.
 *
 * COMPLETE is written by the fetcher when everything else is there and synced; PLAN by the replay process
 * before it moves the first file. Both are replaced as a whole, synced, and have a checksum. Format:
 * doc/formats-manifest.md.
 */
#include <stdlib.h>
#include <string.h>

#include "common/coding.h"
#include "common/crc32c.h"
#include "fetch_internal.h"
#include "port/fs.h"

#define GONE FETCH_INCOMING ".gone"
#define COMPLETE FETCH_INCOMING "/COMPLETE"
#define PLAN FETCH_INCOMING "/PLAN"
#define COMPLETE_MAGIC "KVDFETCH"
#define PLAN_MAGIC "KVDFPLAN"
#define FORMAT 1u
#define COMPLETE_SIZE 60
#define PLAN_SIZE 32
#define FLAG_REPAIR 1u

static Status
put_file(const char *path, uint8_t *p, size_t size, const char *magic)
{
	memcpy(p, magic, 8);
	put_u32(p + 8, FORMAT);
	put_u32(p + size - 4, crc32c(0, p, size - 4));
	return fs_replace_file(path, p, size);
}

static Status
get_file(const char *path, uint8_t *p, size_t size, const char *magic)
{
	char *text;
	size_t len;
	bool sound;
	Status st = ST_OK;

	KV_TRY(fs_read_file(path, 4096, &text, &len));
	sound = len >= 16 && get_u32((const uint8_t *) text + len - 4) == crc32c(0, text, len - 4);
	/* Whole, whatever its length and format: then the format tells. */
	if (!sound || memcmp(text, magic, 8) != 0)
		st = status_fail(ST_CORRUPT, "%s is damaged", path);
	else if (get_u32((const uint8_t *) text + 8) != FORMAT)
		st = status_fail(ST_FOREIGN, "%s has format %u, this kvd knows %u: use a newer kvd", path,
						 get_u32((const uint8_t *) text + 8), FORMAT);
	else if (len != size)
		st = status_fail(ST_CORRUPT, "%s is damaged: %zu bytes", path, len);
	else
		memcpy(p, text, size);
	free(text);
	return st;
}

Status
fetch_mark_complete(const FetchComplete *c, const Control *self)
{
	uint8_t p[COMPLETE_SIZE] = { 0 };

	put_u32(p + 12, c->repair ? FLAG_REPAIR : 0);
	memcpy(p + 16, self->cluster_id, 16);
	put_u64(p + 32, c->flushed);
	put_u64(p + 40, c->term);
	put_u64(p + 48, c->log_time);
	return put_file(COMPLETE, p, sizeof p, COMPLETE_MAGIC);
}

Status
fetch_read_complete(FetchComplete *out, const Control *self)
{
	uint8_t p[COMPLETE_SIZE];

	KV_TRY(get_file(COMPLETE, p, sizeof p, COMPLETE_MAGIC));
	if (memcmp(p + 16, self->cluster_id, 16) != 0)
		return status_fail(ST_CORRUPT, COMPLETE " is of another cluster");
	*out = (FetchComplete){ get_u64(p + 32), get_u64(p + 40), get_u64(p + 48),
							(get_u32(p + 12) & FLAG_REPAIR) != 0 };
	return ST_OK;
}

Status
fetch_write_plan(const TransferPlan *plan)
{
	uint8_t p[PLAN_SIZE] = { 0 };

	put_u64(p + 12, plan->manifest);
	put_u64(p + 20, plan->first_table);
	return put_file(PLAN, p, sizeof p, PLAN_MAGIC);
}

Status
fetch_read_plan(TransferPlan *out)
{
	uint8_t p[PLAN_SIZE];

	KV_TRY(get_file(PLAN, p, sizeof p, PLAN_MAGIC));
	*out = (TransferPlan){ get_u64(p + 12), get_u64(p + 20) };
	return ST_OK;
}

Status
fetch_remove_gone(void)
{
	return fs_remove_dir(GONE);
}

Status
fetch_remove_incoming(void)
{
	Status st;

	KV_TRY(fetch_remove_gone());
	st = fs_rename(FETCH_INCOMING, GONE);
	if (st == ST_NOT_FOUND)
		return ST_OK;
	KV_TRY(st);
	KV_TRY(fs_sync_dir("."));
	return fetch_remove_gone();
}
