/*
 * fuzz_table.c - a table's footer, properties, filter and compressed blocks.
 *
 * The input is taken for each of them.
 */
#include "../../storage/sstable/sstable_internal.h"
#include "fuzz.h"
#include "storage/value_file.h"

#define PROPERTIES_READ 120 /* of the fixed part; the rest is 0, one day more */

static void
footers(const uint8_t *data, size_t size)
{
	static const FooterKind kind = { "table", TABLE_MAGIC, TABLE_FORMAT_OLDEST, TABLE_FORMAT_VERSION };
	uint8_t raw[FOOTER_BYTES] = { 0 };
	Footer f;

	memcpy(raw, data, size < sizeof raw ? size : sizeof raw);
	(void) !footer_decode(raw, "a file", &f);
	footer_seal(raw, &kind);
	(void) !footer_decode(raw, "a file", &f);
}

static void
packed(const uint8_t *data, size_t size)
{
	Buf out = { 0 };

	for (uint8_t codec = TABLE_CODEC_LZ4; codec < 5; codec++) {
		buf_clear(&out);
		if (codec_unpack(codec, slice_of(data, size), BLOCK_TARGET, &out) == ST_OK)
			FUZZ_CHECK(out.len <= BLOCK_TARGET);
	}
	buf_free(&out);
}

static void
filter(const uint8_t *data, size_t size)
{
	static uint8_t page[FILTER_PAGE];

	memcpy(page, data, size < sizeof page ? size : sizeof page);
	for (uint64_t h = 0; h < 64; h++)
		(void) filter_probe(page, 3, h * UINT64_C(0x9e3779b97f4a7c15));
}

/* What was decoded can be encoded, and is the same bytes again, but for those that nobody reads. */
static void
properties(Slice in)
{
	Buf shares = { 0 }, again = { 0 };
	Properties p;

	if (!properties_decode(in, &p))
		return;
	fuzz_touch(p.smallest);
	fuzz_touch(p.largest);
	fuzz_touch(p.shares);
	if (value_shares_decode(p.shares.data, p.info.value_files, &shares) == ST_OK) {
		FUZZ_MUST(properties_encode(&p, (const ValueShare *) (const void *) shares.data, &again));
		FUZZ_CHECK(again.len == in.len && memcmp(again.data, in.data, PROPERTIES_READ) == 0);
		FUZZ_CHECK(memcmp(again.data + PROPERTIES_FIXED, in.data + PROPERTIES_FIXED, in.len - PROPERTIES_FIXED) == 0);
	}
	buf_free(&shares);
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	footers(data, size);
	packed(data, size);
	filter(data, size);
	properties(slice_of(data, size));
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	Properties p = { .info = { .number = 3,
							   .file_id = 9,
							   .bytes = 9000,
							   .root_offset = 4096,
							   .root_size = 100,
							   .index_height = 1,
							   .entries = 10,
							   .version_min = 5,
							   .version_max = 20 },
					 .smallest = slice_of("\1a", 2),
					 .largest = slice_of("\1zz", 3) };
	const ValueShare shares[] = { { VALUE_ID_BIT | 3, 1, 2000 }, { VALUE_ID_BIT | 8, 4, 90000 } };
	Footer f = { .file_id = 9,
				 .root_offset = 4096,
				 .props_offset = 5000,
				 .root_size = 100,
				 .index_height = 1,
				 .props_size = 140 };
	uint8_t raw[FOOTER_BYTES], text[3000];
	Buf b = { 0 };

	FUZZ_MUST(properties_encode(&p, NULL, &b));
	add(b.data, b.len);
	buf_clear(&b);
	p.info.value_files = 2;
	FUZZ_MUST(properties_encode(&p, shares, &b));
	add(b.data, b.len);
	footer_encode(&f, raw);
	add(raw, sizeof raw);
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t) (i / 50);
	for (uint8_t codec = TABLE_CODEC_LZ4; codec <= TABLE_CODEC_ZSTD; codec++) {
		bool worth;

		buf_clear(&b);
		if (table_codec_built(codec) && codec_pack(codec, slice_of(text, sizeof text), &b, &worth) == ST_OK)
			add(b.data, b.len);
	}
	buf_free(&b);
}
