/*
 * value_gc.c - what a compaction does with values that lie in value files: nothing, as a rule.
 *
 * Compaction worker only. References are copied as they are, so keys are written anew without their values. Values are
 * read, and written to a file of the compaction's own, where that lets a file go sooner:
 *   1. less than half of the file is live (values_are_few());
 *   2. the file is small, as those of a flush that met few large values: many such files become one.
 *   3. the table would refer to too many files.
 * What is dropped needs nothing: the new tables do not count it.
 *
 * A file goes when the last table's part of it is copied, so all that is live in it needs room before any comes back.
 * Where room is bounded, 1 and 2 are for files of which all fits: the first ones by their ids, so that the compactions
 * that follow go on with the same files. So are they where one compaction would copy more than VALUE_COPY_BYTES for
 * them: what is left is for the next ones.
 */
#include "common/config.h"
#include "lsm_internal.h"

/* Smaller files, as a part of what a memtable holds, are put together, up to VALUE_FILE_BYTES / SMALL_PART bytes. */
#define SMALL_PART 64

uint64_t value_gc_copy_max = VALUE_COPY_BYTES;
uint32_t value_gc_shares_max = VALUE_SHARES_MAX - VALUE_SHARES_OWN;
uint32_t value_gc_shares_end = VALUE_SHARES_MAX - VALUE_SHARES_OWN / 2;

static bool
is_small(const ValueFileInfo *f)
{
	uint64_t usual = (uint64_t) config.memtable_size;

	return f->bytes < (usual < VALUE_FILE_BYTES ? usual : VALUE_FILE_BYTES) / SMALL_PART;
}

/* Bytes in it that inputs refer to. */
static uint64_t
referred_bytes(const Version *base, const Pick *p, uint64_t file_id)
{
	uint64_t bytes = 0;

	for (uint32_t level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < p->n[level]; i++) {
			const Table *t = base->tables[level][p->first[level] + i];
			uint32_t at = value_share_find(t->values, t->info.value_files, file_id);

			if (at < t->info.value_files && t->values[at].file_id == file_id)
				bytes += t->values[at].bytes;
		}
	}
	return bytes;
}

Status
value_gc_begin(ValueGc *g, const Version *base, const Pick *p, uint64_t room, Edit *edit)
{
	uint64_t copied = 0, bytes;

	g->out.edit = edit;
	for (uint32_t i = 0; i < base->nvalues && copied < value_gc_copy_max; i++) {
		const LiveValues *l = &base->values[i];

		if (!values_are_few(l) && !is_small(&l->file->info))
			continue;
		bytes = referred_bytes(base, p, l->file->info.file_id);
		if (bytes == 0)
			continue;
		if (l->bytes > room) {
			g->left_out = true;
			continue;
		}
		room -= l->bytes;
		copied += bytes;
		KV_TRY(buf_append(&g->victims, &l->file->info.file_id, sizeof l->file->info.file_id));
	}
	return ST_OK;
}

static bool
is_victim(const ValueGc *g, uint64_t file_id)
{
	const uint64_t *ids = (const uint64_t *) (const void *) g->victims.data;
	size_t lo = 0, hi = g->victims.len / sizeof *ids, n = hi;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ids[mid] < file_id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && ids[lo] == file_id;
}

static bool
one_too_many(const TableBuilder *b, uint64_t file_id)
{
	uint32_t n, at;
	const ValueShare *shares = table_builder_shares(b, &n);

	if (n < value_gc_shares_max)
		return false;
	at = value_share_find(shares, n, file_id);
	return at == n || shares[at].file_id != file_id;
}

bool
value_gc_full(const TableBuilder *b)
{
	uint32_t n;

	(void) table_builder_shares(b, &n);
	return n >= value_gc_shares_end;
}

Status
value_gc_entry(ValueGc *g, const TableBuilder *b, Entry *e)
{
	ValueRef ref;

	if (e->kind != ENTRY_VALUE_REF)
		return ST_OK;
	if (!value_ref_decode(e->value, &ref))
		return status_fail(ST_CORRUPT, "a table has a malformed reference to a value: restore this node's data");
	if (!is_victim(g, ref.file_id) && !one_too_many(b, ref.file_id))
		return ST_OK;
	KV_TRY(value_read(&g->reader, e->value, (TableIterOptions){ .read_ahead = true }, &e->value));
	g->relocated += ref.length;
	return value_writer_put(&g->out, e);
}

Status
value_gc_finish(ValueGc *g)
{
	return value_writer_finish(&g->out);
}

void
value_gc_free(ValueGc *g)
{
	buf_free(&g->reader.own);
	buf_free(&g->victims);
}
