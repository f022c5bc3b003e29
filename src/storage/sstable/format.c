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
footer_encode(const Footer *f, uint8_t out[FOOTER_BYTES])
{
	memset(out, 0, FOOTER_BYTES);
	put_u64(out, f->file_id);
	put_u64(out + 8, f->root_offset);
	put_u32(out + 16, f->root_size);
	put_u32(out + 20, f->index_height);
	put_u64(out + 24, f->props_offset);
	put_u32(out + 32, f->props_size);
	put_u32(out + 48, TABLE_FORMAT_VERSION);
	memcpy(out + 56, TABLE_MAGIC, 8);
	put_u32(out + 52, footer_crc(out));
}

Status
footer_decode(const uint8_t in[FOOTER_BYTES], const char *path, Footer *f)
{
	uint32_t version;

	if (memcmp(in + 56, TABLE_MAGIC, 8) != 0)
		return status_fail(ST_CORRUPT, "%s does not end with a table footer: it is cut or damaged", path);
	if (get_u32(in + 52) != footer_crc(in))
		return status_fail(ST_CORRUPT, "%s: damaged footer (checksum)", path);
	version = get_u32(in + 48);
	if (version < TABLE_FORMAT_OLDEST || version > TABLE_FORMAT_VERSION)
		return status_fail(ST_FOREIGN, "%s has table format %u, this kvd knows %u to %u: use a newer kvd", path,
		                   version, TABLE_FORMAT_OLDEST, TABLE_FORMAT_VERSION);
	f->file_id = get_u64(in);
	f->root_offset = get_u64(in + 8);
	f->root_size = get_u32(in + 16);
	f->index_height = get_u32(in + 20);
	f->props_offset = get_u64(in + 24);
	f->props_size = get_u32(in + 32);
	return ST_OK;
}

Status
properties_encode(const TableInfo *t, Slice smallest, Slice largest, Buf *out)
{
	uint8_t *p;

	KV_TRY(buf_reserve(out, PROPERTIES_FIXED + smallest.len + largest.len));
	p = out->data + out->len;
	put_u64(p, t->number);
	put_u64(p + 8, t->file_id);
	put_u64(p + 16, t->bytes);
	put_u64(p + 24, t->root_offset);
	put_u32(p + 32, t->root_size);
	put_u32(p + 36, t->index_height);
	put_u64(p + 40, t->filter_offset);
	put_u32(p + 48, t->filter_pages);
	put_u32(p + 52, 0);
	put_u64(p + 56, t->entries);
	put_u64(p + 64, t->tombstones);
	put_u64(p + 72, t->expiring);
	put_u64(p + 80, t->key_bytes);
	put_u64(p + 88, t->value_bytes);
	put_u64(p + 96, t->version_min);
	put_u64(p + 104, t->version_max);
	put_u32(p + 112, (uint32_t) smallest.len);
	put_u32(p + 116, (uint32_t) largest.len);
	put_u64(p + 120, 0);
	out->len += PROPERTIES_FIXED;
	KV_TRY(buf_append_slice(out, smallest));
	return buf_append_slice(out, largest);
}

bool
properties_decode(Slice in, TableInfo *t, Slice *smallest, Slice *largest)
{
	const uint8_t *p = in.data;
	uint32_t nsmall, nlarge;

	if (in.len < PROPERTIES_FIXED)
		return false;
	*t = (TableInfo){
		.number = get_u64(p),
		.file_id = get_u64(p + 8),
		.bytes = get_u64(p + 16),
		.root_offset = get_u64(p + 24),
		.root_size = get_u32(p + 32),
		.index_height = get_u32(p + 36),
		.filter_offset = get_u64(p + 40),
		.filter_pages = get_u32(p + 48),
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
	if (nsmall == 0 || nlarge == 0 || nsmall > INTERNAL_KEY_MAX || nlarge > INTERNAL_KEY_MAX ||
		in.len != (size_t) PROPERTIES_FIXED + nsmall + nlarge)
		return false;
	*smallest = slice_of(p + PROPERTIES_FIXED, nsmall);
	*largest = slice_of(p + PROPERTIES_FIXED + nsmall, nlarge);
	return true;
}
