/*
 * value_builder.c - writing a value file.
 *
 * Compaction worker (and replay at start); memory private to the builder: a write buffer and the block that small
 * values are gathered in. Where that block will be is known when its first value comes, its size only when it is
 * full: so the size stands before it in the file, and references are final when they are given out.
 */
#include <stdlib.h>

#include "common/kv_assert.h"
#include "value_internal.h"

struct ValueBuilder {
	BlockOut out;
	uint8_t codec;
	Buf open;                  /* values of the block that is not yet written */
	Buf packed;
	ValueFooter sums;
};

Status
value_builder_open(uint64_t file_id, TableCodec codec, ValueBuilder **out)
{
	ValueBuilder *b = calloc(1, sizeof(*b));
	char path[FS_PATH_MAX];
	Status st;

	KV_ASSERT((file_id & VALUE_ID_BIT) != 0);
	if (b == NULL)
		return status_fail(ST_OUT_OF_MEMORY, "no memory to write a value file");
	b->sums.file_id = file_id;
	b->codec = (uint8_t) codec;
	value_path(file_id, path, sizeof(path));
	st = block_out_open(&b->out, path, file_id);
	if (st != ST_OK) {
		free(b);
		return st;
	}
	*out = b;
	return ST_OK;
}

static Status
write_block(ValueBuilder *b, Slice content, uint8_t codec)
{
	uint8_t prefix[VALUE_PREFIX];
	BlockHandle h;

	put_u32(prefix, (uint32_t) content.len);
	KV_TRY(block_out_bytes(&b->out, prefix, sizeof(prefix)));
	b->sums.blocks++;
	return block_out_write(&b->out, content, codec, &h);
}

static Status
close_block(ValueBuilder *b)
{
	bool packed = false;

	if (b->open.len == 0)
		return ST_OK;
	if (b->codec != TABLE_CODEC_NONE)
		KV_TRY(codec_pack(b->codec, slice_buf(&b->open), &b->packed, &packed));
	KV_TRY(packed ? write_block(b, slice_buf(&b->packed), b->codec)
	              : write_block(b, slice_buf(&b->open), TABLE_CODEC_NONE));
	buf_clear(&b->open);
	return ST_OK;
}

Status
value_builder_add(ValueBuilder *b, Slice value, ValueRef *out)
{
	bool alone = value.len > VALUE_BLOCK_TARGET;

	KV_ASSERT(value.len > 0 && value.len <= KV_VALUE_MAX);
	if (alone || b->open.len + value.len > VALUE_BLOCK_TARGET)
		KV_TRY(close_block(b));
	*out = (ValueRef){ .file_id = b->sums.file_id, .offset = block_out_length(&b->out) + VALUE_PREFIX,
		               .at = (uint32_t) b->open.len, .length = (uint32_t) value.len };
	KV_ASSERT(out->offset <= VALUE_OFFSET_MAX);
	b->sums.values++;
	b->sums.value_bytes += value.len;
	return alone ? write_block(b, value, TABLE_CODEC_NONE) : buf_append_slice(&b->open, value);
}

uint64_t
value_builder_bytes(const ValueBuilder *b)
{
	return block_out_length(&b->out) + b->open.len;
}

static void
builder_free(ValueBuilder *b)
{
	buf_free(&b->open);
	buf_free(&b->packed);
	free(b);
}

static Status
finish_file(ValueBuilder *b)
{
	uint8_t footer[FOOTER_BYTES];

	KV_TRY(close_block(b));
	value_footer_encode(&b->sums, footer);
	KV_TRY(block_out_bytes(&b->out, footer, sizeof(footer)));
	return block_out_finish(&b->out);
}

Status
value_builder_finish(ValueBuilder *b, ValueFileInfo *out)
{
	Status st;

	KV_ASSERT(b->sums.values > 0);
	st = finish_file(b);
	if (st != ST_OK) {
		value_builder_abandon(b);
		return st;
	}
	*out = (ValueFileInfo){ b->sums.file_id, block_out_length(&b->out), b->sums.values, b->sums.value_bytes };
	builder_free(b);
	return ST_OK;
}

void
value_builder_abandon(ValueBuilder *b)
{
	block_out_abandon(&b->out);
	builder_free(b);
}
