/*
 * journal.c - what was written, by its place in the log; after a start, what is left of it becomes the model.
 *
 * The log ends somewhere: operations below that are there, in their order; those above are not, and none of
 * them may have been acknowledged. So a start has one right outcome, whatever the disk has lost.
 */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "model.h"

ModelOp *
journal_add(const ModelOp *ops, int n, Lsn at)
{
	ModelOp *first = &world->op[world->nops];

	if (world->nops + n > OPS_MAX)
		failed("the journal is full");
	memcpy(first, ops, (size_t) n * sizeof *ops);
	for (int i = 0; i < n; i++) {
		first[i].starts_record = i == 0;
		first[i].version = at + (Lsn) i;
		first[i].time_before = model.time;
		first[i].time = 0;
	}
	world->nops += n;
	return first;
}

void
journal_undo(int n)
{
	world->nops -= n;
}

void
journal_acked(void)
{
	world->nacked = world->nops;
}

static int
record_length(int at)
{
	int n = 1;

	while (at + n < world->nops && !world->op[at + n].starts_record)
		n++;
	return n;
}

/* The record that was under way when the child ended: its stamp is in the log. */
static void
learn_time(ModelOp *op, int n)
{
	Buf scratch = { 0 };
	WalRecord r;

	malloc_pause(true);
	MUST(kvstore_log_record(op->version, &scratch, &r));
	malloc_pause(false);
	CHECK(r.header.kind == WAL_WRITE && r.header.lsn == op->version && r.header.count == (uint32_t) n);
	for (int i = 0; i < n; i++)
		op[i].time = r.header.log_time > op->time_before ? r.header.log_time : op->time_before;
	buf_free(&scratch);
}

void
journal_recover(Lsn end)
{
	int kept = world->nops;

	while (kept > 0 && world->op[kept - 1].version >= end)
		kept--;
	if (kept < world->nacked)
		failed("lost: the operation at %llu was acknowledged, the log ends at %llu (%d of %d operations "
			   "acknowledged)",
			   (unsigned long long) world->op[kept].version, (unsigned long long) end, world->nacked,
			   world->nops);
	CHECK(kept == world->nops || world->op[kept].starts_record);
	world->lost_unacked += (uint64_t) (world->nops - kept);
	world->nops = kept;
	memset(&model, 0, sizeof model);
	for (int at = 0; at < kept;) {
		int n = record_length(at);

		if (world->op[at].time == 0)
			learn_time(&world->op[at], n);
		(void) model_apply(&model, &world->op[at], n);
		at += n;
	}
}
