/*
 * crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), SSE4.2 when the CPU has it.
 */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * CRC of data[0..len) continuing `crc`. Start with 0 (or a seed); the result is finalised, and
 * passing it in again continues: crc32c(crc32c(0, a), b) == crc32c(0, a ++ b).
 * crc32c(0, "123456789") == 0xe3069283.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The portable table version, for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
