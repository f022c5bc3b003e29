/*
 * fuzz_codec.c - compressed content whose checksum was right: unpacked to the length it says, or refused.
 */
#include "../../storage/sstable/sstable_internal.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Buf out = { 0 };

	if (size == 0)
		return 0;
	/* the first byte chooses the codec, one that nobody knows among them */
	if (codec_unpack(data[0] % 4, slice_of(data + 1, size - 1), BLOCK_TARGET, &out) == ST_OK) {
		FUZZ_CHECK(out.len <= BLOCK_TARGET && out.len >= size - 1);
		fuzz_touch(slice_buf(&out));
	}
	FUZZ_CHECK(out.cap <= 2 * BLOCK_TARGET);
	buf_free(&out);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	for (uint8_t codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		for (size_t len = 64; len <= BLOCK_TARGET; len *= 4) {
			uint8_t content[BLOCK_TARGET], seed[BLOCK_TARGET + 1] = { codec };
			Buf packed = { 0 };
			bool is_packed = false;

			for (size_t i = 0; i < len; i++)
				content[i] = (uint8_t) (i / 9 * 7 % 13);
			if (table_codec_built(codec))
				FUZZ_MUST(codec_pack(codec, slice_of(content, len), &packed, &is_packed));
			if (is_packed) {
				memcpy(seed + 1, packed.data, packed.len);
				add(seed, packed.len + 1);
			} else
				add(seed, 1);
			buf_free(&packed);
		}
	}
}
