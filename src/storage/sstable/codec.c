/*
 * codec.c - compression of blocks, and which codecs this build has.
 *
 * Any process; zstd's contexts are private to it and kept. Packed content: length of the content (u32), then
 * what the codec made of it. What is unpacked is not believed: the length is bounded by the caller, and the
 * codec must fill exactly that.
 */
#include "sstable_internal.h"
#include "common/process_local.h"

#ifdef WITH_LZ4
#include <lz4.h>
#endif
#ifdef WITH_ZSTD
#include <zstd.h>
#endif

#define ZSTD_LEVEL 1 /* blocks are small: higher ones find little more in them */

typedef struct Codec {
	const char *name;
	const char *build;     /* what to build with */
	/* At most `cap` bytes of packed `in`; 0: it does not fit, or fails. NULL: not in this build. */
	size_t (*pack)(Slice in, uint8_t *out, size_t cap);
	/* Exactly `len` bytes, or false. */
	bool (*unpack)(Slice in, uint8_t *out, size_t len);
} Codec;

#ifdef WITH_LZ4
static size_t
lz4_pack(Slice in, uint8_t *out, size_t cap)
{
	int n = LZ4_compress_default((const char *) in.data, (char *) out, (int) in.len, (int) cap);

	return n > 0 ? (size_t) n : 0;
}

static bool
lz4_unpack(Slice in, uint8_t *out, size_t len)
{
	return LZ4_decompress_safe((const char *) in.data, (char *) out, (int) in.len, (int) len) == (int) len;
}
#else
#define lz4_pack NULL
#define lz4_unpack NULL
#endif

#ifdef WITH_ZSTD
static size_t
zstd_pack(Slice in, uint8_t *out, size_t cap)
{
	static PROCESS_LOCAL ZSTD_CCtx *context;
	size_t n;

	if (context == NULL && (context = ZSTD_createCCtx()) == NULL)
		return 0;
	n = ZSTD_compressCCtx(context, out, cap, in.data, in.len, ZSTD_LEVEL);
	return ZSTD_isError(n) ? 0 : n;
}

static bool
zstd_unpack(Slice in, uint8_t *out, size_t len)
{
	static PROCESS_LOCAL ZSTD_DCtx *context;

	/* without one it is tried with a context of its own for this block */
	if (context == NULL)
		context = ZSTD_createDCtx();
	return context != NULL ? ZSTD_decompressDCtx(context, out, len, in.data, in.len) == len
	                       : ZSTD_decompress(out, len, in.data, in.len) == len;
}
#else
#define zstd_pack NULL
#define zstd_unpack NULL
#endif

/* By number on disk; TABLE_CODEC_NONE has no entry of use. */
static const Codec codecs[] = {
	[TABLE_CODEC_NONE] = { .name = "none" },
	[TABLE_CODEC_LZ4] = { "lz4", "liblz4 (WITH_LZ4=yes)", lz4_pack, lz4_unpack },
	[TABLE_CODEC_ZSTD] = { "zstd", "libzstd (WITH_ZSTD=yes)", zstd_pack, zstd_unpack },
};
#define NCODECS (sizeof(codecs) / sizeof(codecs[0]))

bool
table_codec_built(uint32_t codec)
{
	return codec == TABLE_CODEC_NONE || (codec < NCODECS && codecs[codec].pack != NULL);
}

Status
table_codec_check(uint32_t codec)
{
	if (codec < NCODECS && !table_codec_built(codec))
		return status_fail(ST_BAD_SETTING, "compression = %s: this kvd was built without it; build it with %s",
		                   codecs[codec].name, codecs[codec].build);
	return ST_OK;
}

Status
codec_pack(uint8_t codec, Slice content, Buf *out, bool *packed)
{
	/* the length and the bytes together must save an eighth */
	size_t cap = content.len - content.len / CODEC_SAVES, n;

	*packed = false;
	out->len = 0;
	if (codec == TABLE_CODEC_NONE || cap <= CODEC_HEADER)
		return ST_OK;
	KV_TRY(buf_reserve(out, cap));
	n = codecs[codec].pack(content, out->data + CODEC_HEADER, cap - CODEC_HEADER);
	if (n == 0)
		return ST_OK;
	put_u32(out->data, (uint32_t) content.len);
	out->len = CODEC_HEADER + n;
	*packed = true;
	return ST_OK;
}

Status
codec_unpack(uint8_t codec, Slice packed, size_t most, Buf *out)
{
	size_t len;

	if (codec == TABLE_CODEC_NONE || codec >= NCODECS) /* the former is not compressed */
		return status_fail(ST_CORRUPT, "unknown codec %u", codec);
	if (!table_codec_built(codec))
		return status_fail(ST_FOREIGN, "compressed with %s, which this kvd was built without: use one built with %s",
		                   codecs[codec].name, codecs[codec].build);
	len = packed.len > CODEC_HEADER ? get_u32(packed.data) : 0;
	if (len <= packed.len || len > most)
		return status_fail(ST_CORRUPT, "impossible length of compressed content");
	out->len = 0;
	KV_TRY(buf_reserve(out, len));
	if (!codecs[codec].unpack(slice_of(packed.data + CODEC_HEADER, packed.len - CODEC_HEADER), out->data, len))
		return status_fail(ST_CORRUPT, "malformed compressed content");
	out->len = len;
	return ST_OK;
}
