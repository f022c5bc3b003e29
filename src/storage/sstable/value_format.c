/*
 * value_format.c - references, shares and the footer of value files.
 *
 * Pure; any process. The byte tables are in doc/formats-values.md.
 */
#include "value_internal.h"

size_t
value_ref_encode(const ValueRef *ref, uint8_t out[VALUE_REF_MAX])
{
	uint8_t *p = out;

	put_u64(p, ref->file_id);
	p = put_varint(p + 8, ref->offset);
	p = put_varint(p, ref->at);
	p = put_varint(p, ref->length);
	return (size_t) (p - out);
}

bool
value_ref_decode(Slice in, ValueRef *out)
{
	Reader r = reader_of(in.data, in.len);
	uint64_t at, length;

	out->file_id = read_u64(&r);
	out->offset = read_varint(&r);
	at = read_varint(&r);
	length = read_varint(&r);
	if (!reader_ok(&r) || reader_left(&r) != 0 || (out->file_id & VALUE_ID_BIT) == 0 ||
		out->offset < VALUE_PREFIX || out->offset > VALUE_OFFSET_MAX || length == 0 || length > KV_VALUE_MAX)
		return false;
	if (length > VALUE_BLOCK_TARGET ? at != 0 : at > VALUE_BLOCK_TARGET - length)
		return false;
	out->at = (uint32_t) at;
	out->length = (uint32_t) length;
	return true;
}

/* ---- shares */

void
value_share_encode(const ValueShare *s, uint8_t out[VALUE_SHARE_BYTES])
{
	put_u64(out, s->file_id);
	put_u64(out + 8, s->values);
	put_u64(out + 16, s->bytes);
}

Status
value_shares_decode(const uint8_t *in, uint32_t n, Buf *out)
{
	uint64_t before = 0;

	if (n > VALUE_SHARES_MAX)
		return ST_CORRUPT;
	for (; n > 0; n--, in += VALUE_SHARE_BYTES) {
		ValueShare s = { get_u64(in), get_u64(in + 8), get_u64(in + 16) };

		/* the ids ascend, and each has the bit */
		if ((s.file_id & VALUE_ID_BIT) == 0 || s.file_id <= before || s.values == 0 || s.bytes < s.values)
			return ST_CORRUPT;
		before = s.file_id;
		KV_TRY(buf_append(out, &s, sizeof(s)));
	}
	return ST_OK;
}

uint32_t
value_share_find(const ValueShare *shares, uint32_t n, uint64_t file_id)
{
	uint32_t lo = 0, hi = n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (shares[mid].file_id < file_id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

Status
value_shares_count(Buf *shares, const ValueRef *ref)
{
	uint32_t n = (uint32_t) (shares->len / sizeof(ValueShare)), i;
	ValueShare *s = (ValueShare *) (void *) shares->data;

	i = value_share_find(s, n, ref->file_id);
	if (i == n || s[i].file_id != ref->file_id) {
		KV_TRY(buf_reserve(shares, sizeof(ValueShare)));
		s = (ValueShare *) (void *) shares->data;
		memmove(&s[i + 1], &s[i], (n - i) * sizeof(ValueShare));
		s[i] = (ValueShare){ .file_id = ref->file_id };
		shares->len += sizeof(ValueShare);
	}
	s[i].values++;
	s[i].bytes += ref->length;
	return ST_OK;
}

/* ---- the footer */

static const FooterKind value_footer = { "value file", VALUE_MAGIC, VALUE_FORMAT_VERSION, VALUE_FORMAT_VERSION };

void
value_footer_encode(const ValueFooter *f, uint8_t out[FOOTER_BYTES])
{
	memset(out, 0, FOOTER_BYTES);
	put_u64(out, f->file_id);
	put_u64(out + 8, f->values);
	put_u64(out + 16, f->value_bytes);
	put_u64(out + 24, f->blocks);
	footer_seal(out, &value_footer);
}

Status
value_footer_decode(const uint8_t in[FOOTER_BYTES], const char *path, ValueFooter *f)
{
	KV_TRY(footer_check(in, &value_footer, path));
	*f = (ValueFooter){ get_u64(in), get_u64(in + 8), get_u64(in + 16), get_u64(in + 24) };
	return ST_OK;
}
