/*
 * crc32c.c - CRC-32C, polynomial 0x1EDC6F41 reflected (RFC 3720 appendix B.4).
 *
 * Pure. Two versions that must always agree: tables (slicing by 8) for any machine, and the CRC32
 * instruction of SSE4.2, chosen once when the program is loaded.
 */
#include "common/crc32c.h"

#include "common/coding.h"

#define POLYNOMIAL 0x82f63b78u /* bit-reflected */

typedef uint32_t (*CrcFn)(uint32_t crc, const uint8_t *p, size_t len);

/* table[k][b]: the register after byte b and k zero bytes. Filled before main(), then only read. */
static uint32_t table[8][256];

static uint32_t
crc_table(uint32_t crc, const uint8_t *p, size_t len)
{
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t lo = crc ^ get_u32(p), hi = get_u32(p + 4);

		crc = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^ table[4][lo >> 24] ^
			table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^ table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
	}
	for (; len > 0; len--, p++)
		crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
	return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc;

	for (; len >= 8; len -= 8, p += 8)
		c = _mm_crc32_u64(c, get_u64(p));
	for (; len > 0; len--, p++)
		c = _mm_crc32_u8((uint32_t) c, *p);
	return (uint32_t) c;
}
#endif

static CrcFn crc_fn = crc_table;

__attribute__((constructor)) static void
crc_setup(void)
{
	for (uint32_t b = 0; b < 256; b++) {
		uint32_t crc = b;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		table[0][b] = crc;
	}
	for (int k = 1; k < 8; k++)
		for (int b = 0; b < 256; b++)
			table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 0xff];
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		crc_fn = crc_sse42;
#endif
}

uint32_t
crc32c(uint32_t crc, const void *data, size_t len)
{
	return ~crc_fn(~crc, data, len);
}

uint32_t
crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	return ~crc_table(~crc, data, len);
}
