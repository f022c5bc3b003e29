/*
 * fuzz_log.c - log records: header, checksum, chain of terms, and the operations of those that are sound.
 */
#include "../../storage/wal/wal_internal.h"
#include "fuzz.h"
#include "storage/op.h"

#define AT 4096 /* where the log of the input begins */
#define SEED 7

static void
operations(const WalHeader *h, const uint8_t *raw)
{
	Reader r = reader_of(raw + WAL_HEADER_SIZE, h->length - WAL_HEADER_SIZE);
	Op op;

	while (h->kind == WAL_WRITE && reader_left(&r) > 0 && op_decode(&r, &op) == ST_OK)
		fuzz_touch(op.key);
}

/* As the scan goes over it, whole records only. */
static void
scan(uint8_t *bytes, size_t size, bool repair)
{
	uint64_t term = UINT64_MAX;
	size_t at = 0;

	while (size - at >= WAL_HEADER_SIZE) {
		WalHeader h;

		wal_header_decode(bytes + at, &h);
		if (repair)
			h.lsn = AT + at;
		if (wal_header_check(&h, AT + at, term, KV_RECORD_MAX) != NULL)
			return;
		FUZZ_CHECK(h.length >= WAL_HEADER_SIZE);
		if (wal_record_size(h.length - WAL_HEADER_SIZE) > size - at)
			return;
		if (repair) {
			wal_header_encode(&h, bytes + at);
			h.crc = wal_record_crc(crc32c(SEED, bytes + at + WAL_HEADER_SIZE, h.length - WAL_HEADER_SIZE),
								   bytes + at);
			wal_header_encode(&h, bytes + at);
		}
		if (wal_record_check(bytes + at, &h, term, SEED) != NULL)
			return;
		operations(&h, bytes + at);
		term = h.term;
		at += wal_record_size(h.length - WAL_HEADER_SIZE);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size + 1);

	FUZZ_CHECK(bytes != NULL);
	memcpy(bytes, data, size);
	scan(bytes, size, false);
	scan(bytes, size, true);
	free(bytes);
	return 0;
}

static void
add_record(Buf *log, WalKind kind, uint64_t term, Slice body, uint32_t count)
{
	static const uint8_t zero[WAL_HEADER_SIZE];
	WalHeader h = { .length = (uint32_t) (WAL_HEADER_SIZE + body.len),
					.lsn = AT + log->len,
					.term = term,
					.log_time = 1000,
					.kind = (uint8_t) kind,
					.count = count };
	size_t at = log->len;

	FUZZ_MUST(buf_append(log, zero, sizeof zero));
	FUZZ_MUST(buf_append_slice(log, body));
	FUZZ_MUST(buf_append(log, zero, wal_record_size(body.len) - WAL_HEADER_SIZE - body.len));
	wal_header_encode(&h, log->data + at);
	h.crc = wal_record_crc(crc32c(SEED, body.data, body.len), log->data + at);
	wal_header_encode(&h, log->data + at);
}

void
fuzz_seeds(FuzzAdd add)
{
	Op op = { .kind = OP_PUT, .key = slice_of("\1key", 4), .value = slice_str("value") };
	Buf log = { 0 }, body = { 0 };
	uint8_t before[8] = { 0 };

	add_record(&log, WAL_TERM, 1, slice_of(before, 8), 0);
	FUZZ_MUST(op_encode(&body, &op));
	FUZZ_MUST(op_encode(&body, &op));
	add_record(&log, WAL_WRITE, 1, slice_buf(&body), 2);
	add_record(&log, WAL_TIME, 1, slice_of(NULL, 0), 0);
	before[0] = 1;
	add_record(&log, WAL_TERM, 2, slice_of(before, 8), 0);
	add_record(&log, WAL_HASH, 2, slice_of(NULL, 0), 0);
	add(log.data, log.len);
	buf_free(&log);
	buf_free(&body);
}
