/*
 * format.c - checksum, footer and properties of a table file.
 *
 * Pure; any process. The byte tables are in doc/formats-tables.md.
 */
#include "common/crc32c.h"
#include "sstable_internal.h"

uint32_t
block_crc(uint64_t file_id, uint64_t offset, const uint8_t *content, size_t size, uint8_t codec)
{
	uint8_t seed[16];

	put_u64(seed, file_id);
	put_u64(seed + 8, offset);
	return crc32c(crc32c(crc32c(0, seed, sizeof(seed)), content, size), &codec, 1);
}

/* The footer's checksum covers all its other bytes. */
static uint32_t
footer_crc(const uint8_t *f)
{
	return crc32c(crc32c(0, f, 52), f + 56, 8);
}

void
footer_seal(uint8_t out[FOOTER_BYTES], const FooterKind *k)
{
	put_u32(out + 48, k->version);
	memcpy(out + 56, k->magic, 8);
	put_u32(out + 52, footer_crc(out));
}

Status
footer_check(const uint8_t in[FOOTER_BYTES], const FooterKind *k, const char *path)
{
	uint32_t version = get_u32(in + 48);

	if (memcmp(in + 56, k->magic, 8) != 0)
		return status_fail(ST_CORRUPT, "%s does not end with a footer of a %s: it is cut or damaged", path, k->what);
	if (get_u32(in + 52) != footer_crc(in))
		return status_fail(ST_CORRUPT, "%s: damaged footer (checksum)", path);
	if (version < k->oldest || version > k->version)
		return status_fail(ST_FOREIGN, "%s has %s format %u, this kvd knows %u to %u: use a newer kvd", path, k->what,
		                   version, k->oldest, k->version);
	return ST_OK;
}

static const FooterKind table_footer = { "table", TABLE_MAGIC, TABLE_FORMAT_OLDEST, TABLE_FORMAT_VERSION };

void
footer_encode(const Footer *f, uint8_t out[FOOTER_BYTES])
{
	memset(out, 0, FOOTER_BYTES);
	put_u64(out, f->file_id);
	put_u64(out + 8, f->root_offset);
	put_u32(out + 16, f->root_size);
	put_u32(out + 20, f->index_height);
	put_u64(out + 24, f->props_offset);
	put_u32(out + 32, f->props_size);
	footer_seal(out, &table_footer);
}

Status
footer_decode(const uint8_t in[FOOTER_BYTES], const char *path, Footer *f)
{
	KV_TRY(footer_check(in, &table_footer, path));
	f->file_id = get_u64(in);
	f->root_offset = get_u64(in + 8);
	f->root_size = get_u32(in + 16);
	f->index_height = get_u32(in + 20);
	f->props_offset = get_u64(in + 24);
	f->props_size = get_u32(in + 32);
	return ST_OK;
}

Status
properties_encode(const Properties *props, const ValueShare *shares, Buf *out)
{
	const TableInfo *t = &props->info;
	uint8_t *p;

	KV_TRY(buf_reserve(out, PROPERTIES_FIXED));
	p = out->data + out->len;
	put_u64(p, t->number);
	put_u64(p + 8, t->file_id);
	put_u64(p + 16, t->bytes);
	put_u64(p + 24, t->root_offset);
	put_u32(p + 32, t->root_size);
	put_u32(p + 36, t->index_height);
	put_u64(p + 40, t->filter_offset);
	put_u32(p + 48, t->filter_pages);
	put_u32(p + 52, t->value_files);
	put_u64(p + 56, t->entries);
	put_u64(p + 64, t->tombstones);
	put_u64(p + 72, t->expiring);
	put_u64(p + 80, t->key_bytes);
	put_u64(p + 88, t->value_bytes);
	put_u64(p + 96, t->version_min);
	put_u64(p + 104, t->version_max);
	put_u32(p + 112, (uint32_t) props->smallest.len);
	put_u32(p + 116, (uint32_t) props->largest.len);
	put_u64(p + 120, 0);
	out->len += PROPERTIES_FIXED;
	KV_TRY(buf_append_slice(out, props->smallest));
	KV_TRY(buf_append_slice(out, props->largest));
	for (uint32_t i = 0; i < t->value_files; i++) {
		uint8_t share[VALUE_SHARE_BYTES];

		value_share_encode(&shares[i], share);
		KV_TRY(buf_append(out, share, sizeof(share)));
	}
	return ST_OK;
}

bool
properties_decode(Slice in, Properties *out)
{
	const uint8_t *p = in.data;
	uint32_t nsmall, nlarge;
	size_t shares;

	if (in.len < PROPERTIES_FIXED)
		return false;
	out->info = (TableInfo){
		.number = get_u64(p),
		.file_id = get_u64(p + 8),
		.bytes = get_u64(p + 16),
		.root_offset = get_u64(p + 24),
		.root_size = get_u32(p + 32),
		.index_height = get_u32(p + 36),
		.filter_offset = get_u64(p + 40),
		.filter_pages = get_u32(p + 48),
		.value_files = get_u32(p + 52),
		.entries = get_u64(p + 56),
		.tombstones = get_u64(p + 64),
		.expiring = get_u64(p + 72),
		.key_bytes = get_u64(p + 80),
		.value_bytes = get_u64(p + 88),
		.version_min = get_u64(p + 96),
		.version_max = get_u64(p + 104),
	};
	nsmall = get_u32(p + 112);
	nlarge = get_u32(p + 116);
	shares = (size_t) out->info.value_files * VALUE_SHARE_BYTES;
	if (nsmall == 0 || nlarge == 0 || nsmall > INTERNAL_KEY_MAX || nlarge > INTERNAL_KEY_MAX ||
		in.len != (size_t) PROPERTIES_FIXED + nsmall + nlarge + shares)
		return false;
	out->smallest = slice_of(p + PROPERTIES_FIXED, nsmall);
	out->largest = slice_of(p + PROPERTIES_FIXED + nsmall, nlarge);
	out->shares = slice_of(p + PROPERTIES_FIXED + nsmall + nlarge, shares);
	return true;
}
