/*
 * wal_ring.c - shared memory of the log: the ring, positions, inserting, reading from the ring.
 *
 * Runs in every process; takes no lock.
 *
 * Inserting. One 64-bit word {generation, position / 8} is the only thing inserters compete for (G1):
 *
 *	1. load the word w; its generation must be the caller's, the ring must have room
 *	2. insert_from[my slot] = w                        (seq_cst store)
 *	3. compare-and-swap the word: w -> same generation, position + size   (seq_cst); on failure back to 1
 *	4. copy the record to [position, position + size)
 *	5. insert_from[my slot] = 0                        (release)
 *
 * inserted() loads the word (seq_cst), then reads every mark of slots < procslot_high_water() (seq_cst) and
 * takes the minimum of the positions.
 *
 * Proof that everything below that minimum has been copied. Take a record [a, b) with b <= minimum <=
 * position read. Its step 3 came before the load of the word in the single order of seq_cst operations,
 * because only that step (or a later one that read its result) brings the position to b or above. So its
 * step 2 came before the load of the mark. The scan thus read that mark, its clearing, or something its
 * owner stored later. It can't have been that mark, nor an earlier value: the mark holds a position <= a <
 * b. So it was step 5 or a later store of the same owner, each of which releases what step 4 wrote, and the
 * scan's load acquires it. The slot was below the high water before step 1, thus before the scan, which
 * reads the high water after the word.
 *
 * Generations in marks. A process may sleep between 1 and 2 while the gate closes, the log is truncated and
 * the gate opens again; its mark would then hold a position that is no record boundary any more. Its step 3
 * is going to fail, so the mark means nothing: it carries the generation of the word, and a scan that sees
 * another generation skips it. The one exception: closing raises the generation (odd g to even g + 1) while
 * marks of g are still good. So in an even generation marks of g - 1 count too, until none is left: then closing
 * raises the generation by 2, which retires those that come late. Truncation does so as well, before the position
 * falls. 16 bits of generation come round after some 10,000 elections, each with a synced vote and TERM record, while
 * a process would have to sleep in between: not in the second in which every sleeper re-checks.
 *
 * Ring room: a byte may be overwritten when it is written to the files and applied, that is below
 * min(written, max(released, ring_base)); bytes below ring_base were never in this ring. Both are loaded with
 * acquire, after the flusher's and applier's release stores, so their reads of the old bytes are over. Who
 * else reads old bytes (a leader that sends them) does so at its own risk: it copies, then asks
 * wal_ring_floor() whether they were still there. Truncation lowers the position; it raises ring_base to
 * what the position had overwritten, so that the floor never falls below that.
 */
#include "common/coding.h"
#include "common/crc32c.h"
#include "common/kv_assert.h"
#include "ipc/procslot.h"
#include "wal_internal.h"

WalShared *wal_sh;

static uint64_t
align64(uint64_t n)
{
	return (n + 63) & ~UINT64_C(63);
}

static uint64_t
ring_size_of(uint64_t ring_bytes)
{
	return ring_bytes & ~UINT64_C(4095); /* whole pages, so that records never split below 8 bytes */
}

size_t
wal_shmem_size(size_t ring_bytes, int slots)
{
	return (size_t) (64 + align64(sizeof(WalShared)) + 2 * align64((uint64_t) slots * sizeof(uint64_t)) +
					 4096 + ring_size_of(ring_bytes));
}

Status
wal_ring_init(void *mem, uint64_t ring_bytes, int slots, const Control *control, uint64_t record_max)
{
	uint8_t *p = (uint8_t *) align64((uintptr_t) mem);
	WalShared *s = (WalShared *) p;

	KV_ASSERT(slots > 0 && record_max % 8 == 0);
	ring_bytes = ring_size_of(ring_bytes);
	if (ring_bytes < WAL_RING_RECORDS * record_max + WAL_RING_RESERVE)
		return status_fail(ST_BAD_SETTING,
						   "wal_buffers of %llu bytes cannot hold %d of the largest records "
						   "and %d bytes in reserve: set at least %llu",
						   (unsigned long long) ring_bytes, WAL_RING_RECORDS, WAL_RING_RESERVE,
						   (unsigned long long) (WAL_RING_RECORDS * record_max + WAL_RING_RESERVE + 4095) &
							   ~4095ull);
	/* The ring's own bytes are read only where something was inserted. */
	memset(s, 0, align64(sizeof *s) + 2 * align64((uint64_t) slots * sizeof(uint64_t)));
	p += align64(sizeof *s);
	s->insert_from = (_Atomic uint64_t *) p;
	p += align64((uint64_t) slots * sizeof(uint64_t));
	s->records = (_Atomic uint64_t *) p;
	p += align64((uint64_t) slots * sizeof(uint64_t));
	s->ring = (uint8_t *) (((uintptr_t) p + 4095) & ~(uintptr_t) 4095);
	s->ring_bytes = ring_bytes;
	s->record_max = record_max;
	s->slots = slots;
	s->segment_size = control->wal_segment_size;
	s->crc_seed = wal_crc_seed(control);
	s->first_lsn = wal_first_lsn(control);
	atomic_init(&s->reserve, wal_word(0, s->first_lsn));
	atomic_init(&s->written, s->first_lsn);
	atomic_init(&s->durable, s->first_lsn);
	atomic_init(&s->commit, s->first_lsn);
	atomic_init(&s->released, s->first_lsn);
	atomic_init(&s->ring_base, s->first_lsn);
	atomic_init(&s->start_lsn, s->first_lsn);
	atomic_init(&s->log_start, s->first_lsn);
	wal_sh = s;
	return ST_OK;
}

Status
wal_shmem_init(void *mem, size_t ring_bytes, int slots, const Control *control)
{
	return wal_ring_init(mem, ring_bytes, slots, control, KV_RECORD_MAX);
}

Lsn
wal_first_lsn(const Control *control)
{
	return control->wal_segment_size;
}

/* ---- positions */

/* Does this mark (not 0) hold back a scan that saw `generation`? See the top of the file. */
static bool
mark_counts(uint64_t mark, uint32_t generation)
{
	uint32_t g = wal_word_generation(mark);

	return g == generation || ((generation & 1) == 0 && ((g + 1) & 0xffff) == generation);
}

static int
slots_in_use(void)
{
	int n = procslot_high_water();

	return n < wal_sh->slots ? n : wal_sh->slots;
}

Lsn
wal_reserved(void)
{
	return wal_word_pos(atomic_load(&wal_sh->reserve));
}

Lsn
wal_inserted(void)
{
	uint64_t w = atomic_load(&wal_sh->reserve);
	uint32_t generation = wal_word_generation(w);
	Lsn low = wal_word_pos(w), written;
	int n = slots_in_use();

	for (int i = 0; i < n; i++) {
		uint64_t mark = atomic_load(&wal_sh->insert_from[i]);

		if (mark != 0 && mark_counts(mark, generation) && wal_word_pos(mark) < low)
			low = wal_word_pos(mark);
	}
	/* A mark set late by somebody who has not reserved yet may lie below what is written already. */
	written = wal_written();
	return low > written ? low : written;
}

int
wal_inserting_slot(void)
{
	uint32_t generation = wal_word_generation(atomic_load(&wal_sh->reserve));
	int n = slots_in_use();

	for (int i = 0; i < n; i++) {
		uint64_t mark = atomic_load(&wal_sh->insert_from[i]);

		if (mark != 0 && mark_counts(mark, generation))
			return i;
	}
	return -1;
}

Lsn
wal_written(void)
{
	return atomic_load_explicit(&wal_sh->written, memory_order_acquire);
}

Lsn
wal_durable(void)
{
	return atomic_load_explicit(&wal_sh->durable, memory_order_acquire);
}

Lsn
wal_commit(void)
{
	return atomic_load_explicit(&wal_sh->commit, memory_order_acquire);
}

void
wal_raise_commit(Lsn to)
{
	uint64_t now = atomic_load_explicit(&wal_sh->commit, memory_order_relaxed);

	while (now < to && !atomic_compare_exchange_weak(&wal_sh->commit, &now, to))
		;
}

void
wal_set_commit(Lsn to)
{
	Lsn inserted = wal_inserted();

	wal_raise_commit(to < inserted ? to : inserted);
}

void
wal_release_ring(Lsn applied)
{
	KV_DEBUG_ASSERT(applied >= atomic_load_explicit(&wal_sh->released, memory_order_relaxed));
	atomic_store_explicit(&wal_sh->released, applied, memory_order_release);
}

/* ---- the ring's bytes */

void
wal_ring_copy_in(Lsn at, const void *from, size_t len)
{
	uint64_t off = at % wal_sh->ring_bytes;
	uint64_t first = wal_sh->ring_bytes - off;

	if (len <= first)
		memcpy(wal_sh->ring + off, from, len);
	else {
		memcpy(wal_sh->ring + off, from, (size_t) first);
		memcpy(wal_sh->ring, (const uint8_t *) from + first, len - (size_t) first);
	}
}

void
wal_ring_copy_out(Lsn from, void *to, size_t len)
{
	struct iovec iov[2];
	int n = wal_ring_iov(from, from + len, iov);

	memcpy(to, iov[0].iov_base, iov[0].iov_len);
	if (n == 2)
		memcpy((uint8_t *) to + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
}

int
wal_ring_iov(Lsn from, Lsn to, struct iovec iov[2])
{
	uint64_t off = from % wal_sh->ring_bytes, len = to - from;
	uint64_t first = wal_sh->ring_bytes - off;

	KV_DEBUG_ASSERT(len <= wal_sh->ring_bytes);
	iov[0].iov_base = wal_sh->ring + off;
	iov[0].iov_len = (size_t) (len < first ? len : first);
	iov[1].iov_base = wal_sh->ring;
	iov[1].iov_len = (size_t) (len - iov[0].iov_len);
	return iov[1].iov_len > 0 ? 2 : 1;
}

/* ---- inserting */

bool
wal_ring_has_room(Lsn end, uint64_t keep)
{
	Lsn written = wal_written();
	Lsn released = atomic_load_explicit(&wal_sh->released, memory_order_acquire);
	Lsn base = atomic_load_explicit(&wal_sh->ring_base, memory_order_relaxed);
	Lsn floor = released > base ? released : base;

	if (written < floor)
		floor = written;
	if (end <= floor)
		return true; /* an old view of the position: the reservation is going to fail and look again */
	return end - floor <= wal_sh->ring_bytes - keep;
}

/* Ring bytes that a record of this kind leaves to others. */
static uint64_t
kept_from(WalKind kind)
{
	if (kind == WAL_TERM)
		return 0;
	return kind == WAL_WRITE ? WAL_RING_RESERVE : WAL_RING_TERMS;
}

/* Steps 1 to 3. On failure the mark is cleared again. */
static Status
reserve(int slot, uint32_t generation, WalKind kind, uint64_t size, Lsn *start)
{
	uint64_t w = atomic_load_explicit(&wal_sh->reserve, memory_order_acquire);
	Status s;

	for (;;) {
		Lsn pos = wal_word_pos(w);

		if (wal_word_generation(w) != generation) {
			s = status_fail(ST_NOT_LEADER, "the log's gate is closed or belongs to another term");
			break;
		}
		if (pos + size > WAL_LSN_MAX) {
			s = status_fail(ST_INTERNAL,
							"the log has reached its last position %llu: dump and load into a new directory",
							(unsigned long long) WAL_LSN_MAX);
			break;
		}
		if (!wal_ring_has_room(pos + size, kept_from(kind))) {
			atomic_fetch_add_explicit(&wal_sh->ring_full, 1, memory_order_relaxed);
			s = status_fail(ST_BUSY, "no room for a log record of %llu bytes in wal_buffers",
							(unsigned long long) size);
			break;
		}
		atomic_store(&wal_sh->insert_from[slot], w);
		if (atomic_compare_exchange_strong(&wal_sh->reserve, &w, wal_word(generation, pos + size))) {
			/*
			 * Bytes that are overwritten from now on: whoever reads new ones sees the new position
			 * (wal_ring_floor()).
			 */
			atomic_thread_fence(memory_order_release);
			*start = pos;
			return ST_OK;
		}
	}
	atomic_store_explicit(&wal_sh->insert_from[slot], 0, memory_order_release);
	return s;
}

void
wal_count_records(int slot, uint64_t n)
{
	atomic_store_explicit(&wal_sh->records[slot],
						  atomic_load_explicit(&wal_sh->records[slot], memory_order_relaxed) + n,
						  memory_order_relaxed);
}

Status
wal_put(int slot, uint32_t generation, WalHeader *h, uint32_t body_crc, const Slice *parts, int nparts,
		Lsn *start, Lsn *end)
{
	static const uint8_t zeros[8];
	uint64_t size = wal_record_size(h->length - WAL_HEADER_SIZE);
	uint8_t header[WAL_HEADER_SIZE];
	Lsn at;

	KV_ASSERT(slot >= 0 && slot < wal_sh->slots);
	KV_TRY(reserve(slot, generation, h->kind, size, &h->lsn));
	if (h->kind != WAL_TERM)
		h->term = wal_term(); /* can't change: closing the gate waits for the mark */
	wal_header_encode(h, header);
	h->crc = wal_record_crc(body_crc, header);
	put_u32(header, h->crc);
	at = h->lsn;
	wal_ring_copy_in(at, header, sizeof header);
	at += sizeof header;
	for (int i = 0; i < nparts; i++) {
		if (parts[i].len > 0)
			wal_ring_copy_in(at, parts[i].data, parts[i].len);
		at += parts[i].len;
	}
	*start = h->lsn;
	*end = h->lsn + size;
	if (at < *end)
		wal_ring_copy_in(at, zeros, (size_t) (*end - at));
	if (h->kind == WAL_TERM)
		wal_terms_add(h->term, h->lsn);
	atomic_store_explicit(&wal_sh->insert_from[slot], 0, memory_order_release);
	wal_count_records(slot, 1);
	return ST_OK;
}

Status
wal_insert(uint32_t generation, WalKind kind, uint32_t count, uint64_t log_time, const Slice *parts,
		   int nparts, Lsn *start, Lsn *end)
{
	WalHeader h = { .log_time = log_time, .kind = (uint8_t) kind, .count = count };
	uint32_t crc = wal_sh->crc_seed;
	uint64_t body = 0;
	Status s;

	KV_ASSERT(kind == WAL_WRITE || ((kind == WAL_CONFIG || kind == WAL_TIME || kind == WAL_HASH) && count == 0));
	if (!wal_generation_open(generation))
		return status_fail(ST_NOT_LEADER, "the log's gate is closed");
	for (int i = 0; i < nparts; i++)
		body += parts[i].len;
	if (body > wal_sh->record_max || wal_record_size((size_t) body) > wal_sh->record_max)
		return status_fail(ST_BATCH_TOO_LARGE, "a log record of %llu bytes is larger than %llu",
						   (unsigned long long) wal_record_size((size_t) body),
						   (unsigned long long) wal_sh->record_max);
	for (int i = 0; i < nparts; i++)
		if (parts[i].len > 0)
			crc = crc32c(crc, parts[i].data, parts[i].len);
	h.length = (uint32_t) (WAL_HEADER_SIZE + body);
	critical_enter();
	s = wal_put(my_slot_no, generation, &h, crc, parts, nparts, start, end);
	critical_leave();
	return s;
}

/* ---- reading */

Status
wal_ring_read(Lsn lsn, Buf *scratch, WalRecord *out)
{
	Lsn position = wal_word_pos(atomic_load_explicit(&wal_sh->reserve, memory_order_acquire));
	uint8_t header[WAL_HEADER_SIZE];
	struct iovec iov[2];
	size_t body;

	KV_ASSERT(lsn < position);
	if (lsn < atomic_load_explicit(&wal_sh->ring_base, memory_order_relaxed) ||
		position - lsn > wal_sh->ring_bytes)
		return status_fail(ST_NOT_FOUND, "log position %llu is no longer in wal_buffers",
						   (unsigned long long) lsn);
	wal_ring_copy_out(lsn, header, sizeof header);
	wal_header_decode(header, &out->header);
	KV_ASSERT(out->header.lsn == lsn); /* only record boundaries are published */
	body = out->header.length - WAL_HEADER_SIZE;
	out->end = lsn + wal_record_size(body);
	if (wal_ring_iov(lsn + WAL_HEADER_SIZE, lsn + WAL_HEADER_SIZE + body, iov) == 1) {
		out->body = slice_of(iov[0].iov_base, body);
		return ST_OK;
	}
	buf_clear(scratch);
	KV_TRY(buf_append(scratch, iov[0].iov_base, iov[0].iov_len));
	KV_TRY(buf_append(scratch, iov[1].iov_base, iov[1].iov_len));
	out->body = slice_buf(scratch);
	return ST_OK;
}

void
wal_stats(WalStats *out)
{
	WalShared *s = wal_sh;

	*out = (WalStats){ 0 };
	for (int i = 0; i < s->slots; i++)
		out->records += atomic_load_explicit(&s->records[i], memory_order_relaxed);
	out->bytes = wal_reserved() - atomic_load(&s->start_lsn) + atomic_load(&s->bytes_cut);
	out->flushes = atomic_load_explicit(&s->flushes, memory_order_relaxed);
	out->flush_bytes = atomic_load_explicit(&s->flush_bytes, memory_order_relaxed);
	out->flush_ns = atomic_load_explicit(&s->flush_ns, memory_order_relaxed);
	out->flush_ns_max = atomic_load_explicit(&s->flush_ns_max, memory_order_relaxed);
	out->ring_full = atomic_load_explicit(&s->ring_full, memory_order_relaxed);
	out->segments_created = atomic_load_explicit(&s->segments_created, memory_order_relaxed);
	out->segments_recycled = atomic_load_explicit(&s->segments_recycled, memory_order_relaxed);
	out->segments_inline = atomic_load_explicit(&s->segments_inline, memory_order_relaxed);
}
