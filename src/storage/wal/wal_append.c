/*
 * wal_append.c - what goes into the log while the gate is closed: a new term's record, another node's records; and
 * the ring's bytes for those who send them.
 *
 * Run by the consensus worker, appending by the fetcher too. Nobody here waits for the disk or for a flusher: bytes
 * go into the ring, whoever flushes makes them durable.
 *
 * With the gate closed no backend reserves, so position and term history have one writer at a time:
 *	- begin_term: the consensus worker, while no fetcher has an order and no truncation is pending
 *	- append: the holder of WAL_APPEND, no truncation pending
 *	- truncation: the WAL writer, from its request to its end (wal_flush.c)
 * A flusher that runs beside them sees a position only after the bytes below it are there, by the mark and the
 * reserve word as for every insertion (wal_ring.c); the generation in the mark is even and counts as it is. The term
 * history is raised before the mark goes, so whoever sees a TERM record durable or committed finds its term.
 */
#include "common/coding.h"
#include "common/crc32c.h"
#include "common/kv_assert.h"
#include "ipc/lwlock.h"
#include "ipc/procslot.h"
#include "wal_internal.h"

/* Is a TERM record at the log's end certain to find no file? Files are made by others: flusher and WAL writer. */
static bool
no_file_for_term(void)
{
	Lsn end = wal_reserved() + WAL_TERM_RECORD_SIZE;

	return wal_out_of_space() && wal_segment_of(end - 1) > atomic_load(&wal_sh->last_segment);
}

Status
wal_begin_term(uint64_t term, uint64_t log_time, Lsn *start, Lsn *end)
{
	uint64_t previous = wal_term();
	WalHeader h = { .length = WAL_TERM_RECORD_SIZE, .term = term, .log_time = log_time, .kind = WAL_TERM };
	uint32_t generation = wal_generation();
	uint8_t body[8];
	Slice part = slice_of(body, sizeof body);
	Status s;

	KV_ASSERT(!wal_generation_open(generation) && wal_inserting_slot() < 0 && !wal_truncate_pending());
	KV_ASSERT(term > previous);
	if (no_file_for_term())
		return status_fail(ST_NO_SPACE, "no space for the log: a new term cannot begin");
	put_u64(body, previous);
	critical_enter();
	s = wal_put(my_slot_no, generation, &h, crc32c(wal_sh->crc_seed, body, sizeof body), &part, 1, start,
				end);
	critical_leave();
	return s;
}

/* ---- appending */

Status
wal_record_at(Slice bytes, Lsn at, uint64_t previous_term, WalRecord *out)
{
	const char *why;
	uint64_t size;

	if (bytes.len < WAL_HEADER_SIZE)
		return status_fail(ST_NOT_FOUND, "the bytes end inside the record at %llu", (unsigned long long) at);
	wal_header_decode(bytes.data, &out->header);
	why = wal_header_check(&out->header, at, previous_term, wal_sh->record_max);
	if (why == NULL) {
		size = wal_record_size(out->header.length - WAL_HEADER_SIZE);
		if (bytes.len < size)
			return status_fail(ST_NOT_FOUND, "the bytes end inside the record at %llu",
							   (unsigned long long) at);
		why = wal_record_check(bytes.data, &out->header, previous_term, wal_sh->crc_seed);
	}
	if (why != NULL)
		return status_fail(ST_CORRUPT, "no log record at position %llu: %s", (unsigned long long) at, why);
	out->body = slice_of(bytes.data + WAL_HEADER_SIZE, out->header.length - WAL_HEADER_SIZE);
	out->end = at + wal_record_size(out->body.len);
	return ST_OK;
}

bool
wal_append_room(size_t bytes)
{
	Lsn end = wal_reserved() + bytes;

	return end <= WAL_LSN_MAX && wal_ring_has_room(end, WAL_RING_OWN_TERMS);
}

/* The terms that `records` at `at` begin. Returns how many records there are. */
static uint64_t
note_terms(Lsn at, Slice records)
{
	uint64_t n = 0;

	for (size_t off = 0; off < records.len; n++) {
		WalHeader h;

		KV_ASSERT(records.len - off >= WAL_HEADER_SIZE);
		wal_header_decode(records.data + off, &h);
		KV_ASSERT(h.lsn == at + off && h.length >= WAL_HEADER_SIZE && h.length <= records.len - off);
		if (h.kind == WAL_TERM)
			wal_terms_add(h.term, h.lsn);
		off += (size_t) wal_record_size(h.length - WAL_HEADER_SIZE);
	}
	return n;
}

void
wal_append(Lsn at, Slice records)
{
	uint64_t w = atomic_load(&wal_sh->reserve);
	uint32_t generation = wal_word_generation(w);
	uint64_t n;

	KV_ASSERT(lwlock_mine(LWLOCK_WAL_APPEND, 0) && !wal_truncate_pending());
	KV_ASSERT(!wal_generation_open(generation) && wal_inserting_slot() < 0);
	KV_ASSERT(wal_word_pos(w) == at && records.len % 8 == 0 && wal_append_room(records.len));
	if (records.len == 0)
		return;
	critical_enter();
	atomic_store(&wal_sh->insert_from[my_slot_no], w);
	KV_ASSERT(atomic_compare_exchange_strong(&wal_sh->reserve, &w, wal_word(generation, at + records.len)));
	atomic_thread_fence(memory_order_release); /* as in wal_ring.c */
	wal_ring_copy_in(at, records.data, records.len);
	n = note_terms(at, records);
	atomic_store_explicit(&wal_sh->insert_from[my_slot_no], 0, memory_order_release);
	critical_leave();
	wal_count_records(my_slot_no, n);
}

/* ---- sending */

Lsn
wal_ring_floor(void)
{
	Lsn pos, base;

	atomic_thread_fence(memory_order_acquire); /* what was read of the ring was read before this looks */
	pos = wal_reserved();
	base = atomic_load(&wal_sh->ring_base);
	return pos > wal_sh->ring_bytes && pos - wal_sh->ring_bytes > base ? pos - wal_sh->ring_bytes : base;
}

int
wal_ring_pieces(Lsn from, Lsn to, struct iovec iov[2])
{
	KV_ASSERT(from <= to && to <= wal_reserved());
	if (from == to || from < wal_ring_floor())
		return 0;
	return wal_ring_iov(from, to, iov);
}

Lsn
wal_files_floor(void)
{
	Lsn first = atomic_load(&wal_sh->first_segment) * wal_sh->segment_size;
	Lsn start = atomic_load(&wal_sh->log_start);

	return first > start ? first : start;
}
