/*
 * wal_format.c - a log record as bytes.
 *
 * Pure; runs everywhere; no locks. The format (little-endian, also in doc/formats.md):
 *
 *	 0  u32  crc       crc32c, started with the cluster's seed, over the body, then bytes 4..39
 *	 4  u32  length    40 + body, without padding
 *	 8  u64  lsn       position of this byte 0 in the stream
 *	16  u64  term
 *	24  u64  log_time  milliseconds
 *	32  u8   kind      1 WRITE, 2 TERM, 3 CONFIG, 4 TIME, 5 HASH
 *	33  u8   flags     0
 *	34  u16  reserved  0
 *	36  u32  count     operations of a WRITE, else 0
 *	40       body, then zero bytes up to a multiple of 8
 *
 * The body comes first in the CRC so that it can be computed before the position is known. Padding is not in
 * the CRC; it is checked to be zero, so that equal logs are equal bytes.
 */
#include "common/coding.h"
#include "common/crc32c.h"
#include "wal_internal.h"

_Static_assert(sizeof(WalHeader) == WAL_HEADER_SIZE, "the struct mirrors the bytes");
_Static_assert(offsetof(WalHeader, lsn) == 8 && offsetof(WalHeader, term) == 16,
			   "the struct mirrors the bytes");
_Static_assert(offsetof(WalHeader, log_time) == 24 && offsetof(WalHeader, kind) == 32,
			   "the struct mirrors the bytes");
_Static_assert(offsetof(WalHeader, reserved) == 34 && offsetof(WalHeader, count) == 36,
			   "the struct mirrors the bytes");
_Static_assert(KV_RECORD_MAX % 8 == 0, "padding never passes the bound");

void
wal_header_encode(const WalHeader *h, uint8_t out[WAL_HEADER_SIZE])
{
	put_u32(out, h->crc);
	put_u32(out + 4, h->length);
	put_u64(out + 8, h->lsn);
	put_u64(out + 16, h->term);
	put_u64(out + 24, h->log_time);
	out[32] = h->kind;
	out[33] = h->flags;
	put_u16(out + 34, h->reserved);
	put_u32(out + 36, h->count);
}

void
wal_header_decode(const uint8_t in[WAL_HEADER_SIZE], WalHeader *h)
{
	h->crc = get_u32(in);
	h->length = get_u32(in + 4);
	h->lsn = get_u64(in + 8);
	h->term = get_u64(in + 16);
	h->log_time = get_u64(in + 24);
	h->kind = in[32];
	h->flags = in[33];
	h->reserved = get_u16(in + 34);
	h->count = get_u32(in + 36);
}

uint32_t
wal_record_crc(uint32_t body_crc, const uint8_t encoded[WAL_HEADER_SIZE])
{
	return crc32c(body_crc, encoded + 4, WAL_HEADER_SIZE - 4);
}

const char *
wal_header_check(const WalHeader *h, Lsn pos, uint64_t previous_term, uint64_t record_max)
{
	if (h->lsn != pos)
		return "the header carries another position";
	if (h->length < WAL_HEADER_SIZE || wal_record_size(h->length - WAL_HEADER_SIZE) > record_max)
		return "the length is out of bounds";
	if (h->kind == 0 || h->kind > WAL_KIND_MAX)
		return "the kind is unknown";
	if (h->flags != 0 || h->reserved != 0 || (h->kind != WAL_WRITE && h->count != 0))
		return "a field that must be zero is not";
	if (h->term == 0)
		return "the term is zero";
	if (h->kind == WAL_TERM) {
		if (h->length != WAL_TERM_RECORD_SIZE)
			return "a TERM record has another length";
		if (previous_term != UINT64_MAX && h->term <= previous_term)
			return "a TERM record does not raise the term";
	} else if (previous_term != UINT64_MAX && h->term != previous_term)
		return "the term changes without a TERM record"; /* rule L1 */
	return NULL;
}

bool
wal_header_of_later_format(const WalHeader *h, uint64_t previous_term)
{
	return h->kind != 0 && (h->kind > WAL_KIND_MAX || h->flags != 0 || h->reserved != 0) &&
	       (previous_term == UINT64_MAX ? h->term != 0 : h->term == previous_term);
}

const char *
wal_record_check(const uint8_t *raw, const WalHeader *h, uint64_t previous_term, uint32_t seed)
{
	size_t size = (size_t) wal_record_size(h->length - WAL_HEADER_SIZE);
	uint32_t body_crc = crc32c(seed, raw + WAL_HEADER_SIZE, h->length - WAL_HEADER_SIZE);

	if (wal_record_crc(body_crc, raw) != h->crc)
		return "the checksum is wrong";
	for (size_t i = h->length; i < size; i++)
		if (raw[i] != 0)
			return "the padding is not zero";
	if (h->kind == WAL_TERM && previous_term != UINT64_MAX && get_u64(raw + WAL_HEADER_SIZE) != previous_term)
		return "a TERM record names another term before it"; /* rule L1 */
	return NULL;
}
