/*
 * fuzz_value.c - references to values, shares, and value files: footer and blocks.
 *
 * The input is taken for each of them. As a file it is read as it is, and once more with the checksums of its blocks
 * and of its footer made right.
 */
#include "../../storage/sstable/value_internal.h"
#include "fuzz.h"

#define FILE_ID (VALUE_ID_BIT | 0x1234)
#define BLOCKS_MAX 12 /* of a file, each of which is looked at by references */

static void
reference(Slice in)
{
	uint8_t again[VALUE_REF_MAX];
	ValueRef ref, same;

	if (!value_ref_decode(in, &ref))
		return;
	FUZZ_CHECK((ref.file_id & VALUE_ID_BIT) != 0 && ref.offset >= VALUE_PREFIX && ref.offset <= VALUE_OFFSET_MAX);
	FUZZ_CHECK(ref.length > 0 && ref.length <= KV_VALUE_MAX);
	FUZZ_CHECK(value_ref_decode(slice_of(again, value_ref_encode(&ref, again)), &same));
	FUZZ_CHECK(same.file_id == ref.file_id && same.offset == ref.offset && same.at == ref.at &&
			   same.length == ref.length);
}

/* What was taken is in order, and each of it is found. */
static void
shares(Slice in)
{
	uint32_t n = (uint32_t) (in.len / VALUE_SHARE_BYTES);
	const ValueShare *s;
	Buf out = { 0 };

	if (value_shares_decode(in.data, n, &out) == ST_OK) {
		FUZZ_CHECK(out.len == n * sizeof *s);
		s = (const ValueShare *) (const void *) out.data;
		for (uint32_t i = 0; i < n; i++)
			FUZZ_CHECK(s[i].values > 0 && value_share_find(s, n, s[i].file_id) == i);
	}
	buf_free(&out);
}

/* ---- a file */
static void
read_value(ValueReader *r, ValueLookup *l, const ValueRef *ref)
{
	static const TableIterOptions look = { 0 };
	uint8_t bytes[VALUE_REF_MAX];
	Slice in = slice_of(bytes, value_ref_encode(ref, bytes)), got;
	bool read;

	r->offset = 0; /* a block that a longer reference has read would serve shorter ones, which no builder makes */
	read = value_read(r, in, look, &got) == ST_OK;
	if (read) {
		FUZZ_CHECK(got.len == ref->length);
		fuzz_touch(got);
	}
	value_lookup_begin(l, in);
	while (value_lookup_step(l))
		;
	FUZZ_CHECK((l->status == ST_OK) == read); /* both ways say the same */
	if (read)
		fuzz_touch(l->value);
}

/* Each block by references that fit it, and that do not. */
static void
read_blocks(const uint8_t *p, size_t size)
{
	static ValueReader r;
	static ValueLookup l;
	size_t at = 0;

	for (int n = 0; n < BLOCKS_MAX && size - at > VALUE_PREFIX; n++) {
		uint32_t len = get_u32(p + at);
		const uint32_t lens[] = { 1, len, len + 1, VALUE_BLOCK_TARGET };

		at += VALUE_PREFIX;
		for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++)
			if (lens[i] > 0 && lens[i] <= KV_VALUE_MAX && lens[i] <= size + 1)
				read_value(&r, &l, &(ValueRef){ FILE_ID, at, lens[i] < VALUE_BLOCK_TARGET ? i : 0, lens[i] });
		if (len > size - at || BLOCK_TRAILER > size - at - len)
			break;
		at += (size_t) len + BLOCK_TRAILER;
	}
}

static void
read_file(const uint8_t *p, size_t size)
{
	ValueFileInfo said = { .file_id = FILE_ID, .bytes = size };
	char path[FS_PATH_MAX];
	ValueFooter f;

	table_files_close_all();
	value_path(FILE_ID, path, sizeof path);
	fuzz_file(path, p, size);
	if (size >= FOOTER_BYTES && value_footer_decode(p + size - FOOTER_BYTES, path, &f) == ST_OK) {
		said.values = f.values;
		said.value_bytes = f.value_bytes;
	}
	(void) !value_file_verify(&said, NULL, NULL);
	read_blocks(p, size);
}

/* Blocks from the front as far as their sizes lead, then the footer. */
static void
repair(uint8_t *p, size_t size)
{
	static const FooterKind kind = { "value file", VALUE_MAGIC, VALUE_FORMAT_VERSION, VALUE_FORMAT_VERSION };
	size_t at = VALUE_PREFIX, end;

	if (size < FOOTER_BYTES)
		return;
	end = size - FOOTER_BYTES;
	while (at < end) {
		uint32_t len = get_u32(p + at - VALUE_PREFIX);

		if (len > end - at || end - at - len < BLOCK_TRAILER)
			break;
		put_u32(p + at + len + 1, block_crc(FILE_ID, at, p + at, len, p[at + len]));
		at += (size_t) len + BLOCK_TRAILER + VALUE_PREFIX;
	}
	put_u64(p + end, FILE_ID);
	footer_seal(p + end, &kind);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool made;
	uint8_t *copy = malloc(size + 1);

	FUZZ_CHECK(copy != NULL);
	if (!made)
		fuzz_dir(VALUE_DIR);
	made = true;
	memcpy(copy, data, size);
	reference(slice_of(copy, size));
	shares(slice_of(copy, size));
	read_file(copy, size);
	repair(copy, size);
	read_file(copy, size);
	free(copy);
	return 0;
}

static void
add_file(FuzzAdd add, TableCodec codec, const size_t *lens, int n)
{
	static uint8_t value[10000];
	char path[FS_PATH_MAX];
	ValueFileInfo info;
	ValueBuilder *b;

	for (size_t i = 0; i < sizeof value; i++)
		value[i] = (uint8_t) (i / 30);
	FUZZ_MUST(value_builder_open(FILE_ID, codec, &b));
	for (int i = 0; i < n; i++) {
		ValueRef ref;
		uint8_t bytes[VALUE_REF_MAX];

		FUZZ_MUST(value_builder_add(b, slice_of(value, lens[i]), &ref));
		add(bytes, value_ref_encode(&ref, bytes));
	}
	FUZZ_MUST(value_builder_finish(b, &info));
	value_path(FILE_ID, path, sizeof path);
	fuzz_seed_of_file(add, path);
}

void
fuzz_seeds(FuzzAdd add)
{
	static const size_t lens[] = { 1, 900, 2000, 1500, 5000, 30, 4096 };
	uint8_t three[3 * VALUE_SHARE_BYTES];

	for (uint64_t i = 0; i < 3; i++)
		value_share_encode(&(ValueShare){ VALUE_ID_BIT | (i + 1) * 7, i + 1, 5000 * (i + 1) },
						   three + i * VALUE_SHARE_BYTES);
	add(three, sizeof three);
	fuzz_dir(VALUE_DIR);
	add_file(add, TABLE_CODEC_NONE, lens, sizeof lens / sizeof lens[0]);
	add_file(add, TABLE_CODEC_NONE, lens, 2);
	for (TableCodec c = TABLE_CODEC_LZ4; c <= TABLE_CODEC_ZSTD; c++)
		if (table_codec_built(c))
			add_file(add, c, lens, sizeof lens / sizeof lens[0]);
}
