/*
 * scan.c - the iterator: a range read page by page at one snapshot.
 *
 * Runs in the client's threads; an iterator belongs to one of them. It keeps the page it walks, and holds the
 * handle's lock only while it fetches the next one, so other calls may come between.
 *
 * Invariant: what is left to read is (start, end) or [start, end) with `after` telling which; each page moves it.
 */
#include <stdlib.h>

#include "libkv_internal.h"

struct kv_iter {
	kv_client *client;
	Range range;
	bool reverse, keys_only;
	bool after;             /* start is exclusive */
	bool more;              /* another page follows: behind its last entry, or, */
	bool behind;            /* of the page at hand, behind the key that stands after the entries */
	uint32_t page_bytes;
	uint64_t limit;         /* items still wanted; UINT64_MAX = all */
	uint64_t snapshot;
	ReadOptions read;
	Buf page;
	Reader entries;         /* what is left of the page */
	uint32_t left;          /* entries in it */
};

int
kv_scan(kv_client *c, const kv_scan_options *o, kv_iter **out)
{
	kv_iter *it = calloc(1, sizeof *it);
	Status st;

	*out = NULL;
	if (it == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "out of memory for an iterator");
	it->client = c;
	it->limit = UINT64_MAX;
	if (o != NULL) {
		it->reverse = o->reverse != 0;
		it->keys_only = o->keys_only != 0;
		it->page_bytes = o->page_bytes < PROTO_PAGE_MAX ? o->page_bytes : PROTO_PAGE_MAX;
		it->limit = o->limit > 0 ? o->limit : UINT64_MAX;
		it->read = o->read;
	}
	st = range_of(o != NULL ? &o->range : &(kv_range){ 0 }, &it->range);
	if (st != ST_OK) {
		kv_iter_free(it);
		return st;
	}
	it->more = !it->range.empty;
	*out = it;
	return KV_OK;
}

void
kv_iter_free(kv_iter *it)
{
	if (it == NULL)
		return;
	range_free(&it->range);
	buf_free(&it->page);
	free(it);
}

uint64_t
kv_iter_snapshot(const kv_iter *it)
{
	return it->snapshot;
}

static Status
encode_scan(kv_client *c, const kv_iter *it)
{
	uint32_t flags = (it->reverse ? PROTO_SCAN_REVERSE : 0) | (it->keys_only ? PROTO_SCAN_KEYS_ONLY : 0) |
		(it->range.unbounded ? PROTO_RANGE_UNBOUNDED : 0) | (it->after ? PROTO_RANGE_AFTER_START : 0);

	KV_TRY(encode_read_prefix(c, &c->out, &it->read));
	KV_TRY(encode_u64(&c->out, it->snapshot));
	KV_TRY(encode_u32(&c->out, it->limit > UINT32_MAX ? 0 : (uint32_t) it->limit));
	KV_TRY(encode_u32(&c->out, it->page_bytes));
	KV_TRY(encode_u32(&c->out, flags));
	KV_TRY(encode_u32(&c->out, (uint32_t) it->range.start.len));
	KV_TRY(encode_u32(&c->out, (uint32_t) it->range.end.len));
	KV_TRY(buf_append_slice(&c->out, slice_buf(&it->range.start)));
	return buf_append_slice(&c->out, slice_buf(&it->range.end));
}

/* The next request begins behind this key. */
static Status
move_on(kv_iter *it, Slice key)
{
	if (it->reverse) {
		it->range.unbounded = false;
		return buf_set(&it->range.end, key);
	}
	it->after = true;
	return buf_set(&it->range.start, key);
}

static Status
fetch(kv_client *c, kv_iter *it)
{
	Call call = { .command = PROTO_SCAN, .deadline_at = 4, .timeout_ms = it->read.timeout_ms };
	uint64_t snapshot;
	uint8_t more;

	KV_TRY(encode_scan(c, it));
	KV_TRY(call_run(c, &call));
	KV_TRY(buf_set(&it->page, call.answer));
	it->entries = reader_of(it->page.data, it->page.len);
	snapshot = read_u64(&it->entries);
	it->left = read_u32(&it->entries);
	more = read_u8(&it->entries);
	it->more = more != 0;
	it->behind = more == PROTO_MORE_BEHIND;
	(void) read_bytes(&it->entries, 3);
	if (!reader_ok(&it->entries) || (it->more && !it->behind && it->left == 0)) {
		it->left = 0;
		it->more = false;
		return call_short_answer(c, PROTO_SCAN);
	}
	it->snapshot = snapshot;
	return ST_OK;
}

/* The page has been walked; `last` is its last key, if it had any. */
static Status
leave_page(kv_iter *it, Slice last)
{
	if (it->behind) {
		last = slice_of(it->entries.p, reader_left(&it->entries));
		if (last.len == 0) {
			it->more = false;
			return status_fail(ST_PROTOCOL, "the answer to scan does not tell where to go on");
		}
	}
	return it->more ? move_on(it, last) : ST_OK;
}

int
kv_iter_next(kv_iter *it, kv_item *item)
{
	uint32_t k, v;
	Slice key, value;

	while (it->left == 0) {
		if (!it->more || it->limit == 0)
			return status_fail(ST_NOT_FOUND, "no more items");
		KV_TRY(call_begin(it->client));
		KV_TRY(call_end(it->client, fetch(it->client, it)));
		if (it->left == 0)
			KV_TRY(leave_page(it, slice_of(NULL, 0)));
	}
	k = read_u32(&it->entries);
	v = read_u32(&it->entries);
	item->version = read_u64(&it->entries);
	item->ttl_ms = read_u64(&it->entries);
	key = read_bytes(&it->entries, k);
	value = read_bytes(&it->entries, v);
	if (!reader_ok(&it->entries)) {
		it->left = 0;
		it->more = false;
		return status_fail(ST_PROTOCOL, "the answer to scan is shorter than it must be");
	}
	item->found = 1;
	item->key = (kv_bytes){ key.data, key.len };
	item->value = (kv_bytes){ value.data, value.len };
	if (it->limit != UINT64_MAX)
		it->limit--;
	return --it->left == 0 ? leave_page(it, key) : KV_OK;
}
