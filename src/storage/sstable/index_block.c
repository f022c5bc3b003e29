/*
 * index_block.c - writing and searching the blocks of the index tree.
 *
 * Pure; any process. A block of n items, ordered; every key of child i is at or before separator i, and
 * after separator i - 1:
 *   n (u32)  prefix length (u32)  prefix
 *   head of each item (n * 8 bytes): the key's first bytes after the prefix, zero-padded
 *   start of each item, and the end of the last ((n + 1) * u32), from the first item
 *   items: version, child offset, child size (varints), key after the prefix
 * A search compares heads as big-endian numbers and looks at an item only when heads are equal. A separator
 * between two different keys has version 0, that is, it is after all versions of its key.
 */
#include "common/kv_assert.h"
#include "sstable_internal.h"

#define HEAD_BYTES 8

_Static_assert(INDEX_ITEM == HEAD_BYTES + 4, "of each item: its head and where it begins");

/* ---- writing */

static const IndexItem *
item_at(const IndexBuilder *b, uint32_t i)
{
	return (const IndexItem *) (const void *) b->items.data + i;
}

static Slice
item_key(const IndexBuilder *b, const IndexItem *it)
{
	return slice_of(b->keys.data + it->key_at, it->key_len);
}

static size_t
item_header(uint64_t version, BlockHandle child)
{
	return varint_len(version) + varint_len(child.offset) + varint_len(child.size);
}

static size_t
prefix_with(const IndexBuilder *b, Slice key)
{
	size_t i = 0, n;
	Slice first;

	if (b->n == 0)
		return key.len;
	first = item_key(b, item_at(b, 0));
	n = b->prefix < key.len ? b->prefix : key.len;
	while (i < n && first.data[i] == key.data[i])
		i++;
	return i;
}

static size_t
block_size(uint32_t n, size_t prefix, size_t header_bytes, size_t key_bytes)
{
	return INDEX_HEADER + prefix + (size_t) n * INDEX_ITEM + 4 + header_bytes + key_bytes - n * prefix;
}

size_t
index_builder_size_with(const IndexBuilder *b, Slice key, uint64_t version, BlockHandle child)
{
	return block_size(b->n + 1, prefix_with(b, key), b->header_bytes + item_header(version, child),
	                  b->keys.len + key.len);
}

Status
index_builder_add(IndexBuilder *b, Slice key, uint64_t version, BlockHandle child)
{
	IndexItem it = { b->keys.len, key.len, version, child };
	size_t prefix = prefix_with(b, key);

	KV_TRY(buf_append_slice(&b->keys, key));
	KV_TRY(buf_append(&b->items, &it, sizeof(it)));
	b->prefix = prefix;
	b->header_bytes += item_header(version, child);
	b->n++;
	return ST_OK;
}

static void
put_head(uint8_t *p, Slice suffix)
{
	memset(p, 0, HEAD_BYTES);
	if (suffix.len > 0)
		memcpy(p, suffix.data, suffix.len < HEAD_BYTES ? suffix.len : HEAD_BYTES);
}

Status
index_builder_finish(IndexBuilder *b)
{
	size_t size = block_size(b->n, b->prefix, b->header_bytes, b->keys.len);
	uint8_t *head, *start, *items, *p;

	KV_ASSERT(b->n > 0);
	b->content.len = 0;
	KV_TRY(buf_reserve(&b->content, size));
	put_u32(b->content.data, b->n);
	put_u32(b->content.data + 4, (uint32_t) b->prefix);
	if (b->prefix > 0)
		memcpy(b->content.data + INDEX_HEADER, b->keys.data, b->prefix);
	head = b->content.data + INDEX_HEADER + b->prefix;
	start = head + (size_t) b->n * HEAD_BYTES;
	p = items = start + ((size_t) b->n + 1) * 4;
	for (uint32_t i = 0; i < b->n; i++) {
		const IndexItem *it = item_at(b, i);
		Slice suffix = slice_of(b->keys.data + it->key_at + b->prefix, it->key_len - b->prefix);

		put_head(head + (size_t) i * HEAD_BYTES, suffix);
		put_u32(start + (size_t) i * 4, (uint32_t) (p - items));
		p = put_varint(p, it->version);
		p = put_varint(p, it->child.offset);
		p = put_varint(p, it->child.size);
		if (suffix.len > 0)
			memcpy(p, suffix.data, suffix.len);
		p += suffix.len;
	}
	put_u32(start + (size_t) b->n * 4, (uint32_t) (p - items));
	b->content.len = (size_t) (p - b->content.data);
	KV_ASSERT(b->content.len == size);
	return ST_OK;
}

Slice
index_builder_last(const IndexBuilder *b, uint64_t *version)
{
	const IndexItem *it = item_at(b, b->n - 1);

	*version = it->version;
	return item_key(b, it);
}

void
index_builder_reset(IndexBuilder *b)
{
	b->keys.len = b->items.len = b->content.len = 0;
	b->n = 0;
	b->prefix = b->header_bytes = 0;
}

void
index_builder_free(IndexBuilder *b)
{
	buf_free(&b->keys);
	buf_free(&b->items);
	buf_free(&b->content);
}

Status
index_separator(Slice a, Slice b, Buf *out)
{
	size_t m = 0, n = a.len < b.len ? a.len : b.len, j;

	while (m < n && a.data[m] == b.data[m])
		m++;
	KV_ASSERT(m < b.len && (m == a.len || a.data[m] < b.data[m]));
	if (m == a.len)
		return buf_append_slice(out, a);
	if (b.len > m + 1) /* a proper prefix of b, greater than a */
		return buf_append(out, b.data, m + 1);
	/* raise one byte of a: at m if it stays below b's, else after m, where the result is below b anyhow */
	for (j = m; j < a.len; j++) {
		if (a.data[j] == 0xff || (j == m && a.data[m] + 1 == b.data[m]))
			continue;
		KV_TRY(buf_append(out, a.data, j + 1));
		out->data[out->len - 1]++;
		return ST_OK;
	}
	return buf_append_slice(out, a);
}

/* ---- reading */

bool
index_open(IndexView *v, Slice block)
{
	size_t fixed;

	if (block.len < INDEX_HEADER || block.len > BLOCK_BYTES_MAX)
		return false;
	v->n = get_u32(block.data);
	v->prefix_len = get_u32(block.data + 4);
	if (v->n == 0 || v->n > block.len / INDEX_ITEM || v->prefix_len > INTERNAL_KEY_MAX)
		return false;
	fixed = INDEX_HEADER + (size_t) v->prefix_len + (size_t) v->n * INDEX_ITEM + 4;
	if (block.len < fixed)
		return false;
	v->prefix = block.data + INDEX_HEADER;
	v->heads = v->prefix + v->prefix_len;
	v->offsets = v->heads + (size_t) v->n * HEAD_BYTES;
	v->items = block.data + fixed;
	v->items_len = (uint32_t) (block.len - fixed);
	return true;
}

bool
index_item(const IndexView *v, uint32_t i, Slice *suffix, uint64_t *version, BlockHandle *child)
{
	uint32_t from = get_u32(v->offsets + (size_t) i * 4), to = get_u32(v->offsets + (size_t) i * 4 + 4);
	const uint8_t *p = v->items + from, *end = v->items + to;
	uint64_t size;

	if (from > to || to > v->items_len)
		return false;
	if ((p = get_varint(p, end, version)) == NULL || (p = get_varint(p, end, &child->offset)) == NULL ||
		(p = get_varint(p, end, &size)) == NULL || size > BLOCK_BYTES_MAX)
		return false;
	child->size = (uint32_t) size;
	*suffix = slice_of(p, (size_t) (end - p));
	return suffix->len + v->prefix_len <= INTERNAL_KEY_MAX;
}

bool
index_child(const IndexView *v, uint32_t i, BlockHandle *child)
{
	Slice suffix;
	uint64_t version;

	return index_item(v, i, &suffix, &version, child);
}

void
index_prefetch(const IndexView *v, uint32_t i)
{
	const uint8_t *item = v->items + (uint64_t) v->items_len * i / v->n;

	__builtin_prefetch(v->offsets + (size_t) i * 4);
	__builtin_prefetch(item);
	__builtin_prefetch(item + 64);
}

static inline uint64_t
head_at(const uint8_t *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	x = __builtin_bswap64(x);
#endif
	return x;
}

static inline uint64_t
head_of(const IndexView *v, uint32_t i)
{
	return head_at(v->heads + (size_t) i * HEAD_BYTES);
}

/* First item at or after lo that is at or after (rest, version), which has the head `want`. */
static bool
search_items(const IndexView *v, uint32_t lo, uint64_t want, Slice rest, uint64_t version, uint32_t *out)
{
	for (uint32_t hi = v->n, mid = lo; lo < hi; mid = lo + (hi - lo) / 2) { /* lo first: heads are seldom equal */
		bool before = false;

		if (head_of(v, mid) == want) {
			Slice suffix;
			uint64_t sep_version;
			BlockHandle child;

			if (!index_item(v, mid, &suffix, &sep_version, &child))
				return false;
			before = entry_cmp(suffix, sep_version, rest, version) < 0;
		}
		if (before)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = lo;
	return true;
}

/* First item at or after (rest, version), where `rest` is the key after the prefix. */
static bool
search(const IndexView *v, Slice rest, uint64_t version, uint32_t *out)
{
	uint8_t bytes[HEAD_BYTES];
	uint64_t want;
	uint32_t lo = 0;

	put_head(bytes, rest);
	want = head_at(bytes);
	/* First head >= want. What comparisons say is added up instead of branched on: there is nothing to guess. */
	for (uint32_t n = v->n; n > 0;) {
		uint32_t half = (n + 1) / 2;

		lo += head_of(v, lo + half - 1) < want ? half : 0;
		n -= half;
	}
	if (lo == v->n || head_of(v, lo) != want) {
		*out = lo;
		return true;
	}
	return search_items(v, lo, want, rest, version, out);
}

bool
index_seek(const IndexView *v, Slice key, uint64_t version, uint32_t *i)
{
	size_t n = key.len < v->prefix_len ? key.len : v->prefix_len;
	int c = n == 0 ? 0 : memcmp(key.data, v->prefix, n);

	if (c == 0 && n == v->prefix_len)
		return search(v, slice_of(key.data + n, key.len - n), version, i);
	/* the key leaves the prefix, or ends within it: it is after all items or before all */
	*i = c > 0 ? v->n : 0;
	return true;
}
