/*
 * proto.c - frames of the client protocol: one header layout, used by server, library and tools.
 *
 * Pure functions on the caller's memory.
 */
#include "common/proto.h"

#include "common/crc32c.h"
#include "common/kv_assert.h"

_Static_assert(KV_KEY_MAX == 65536 && KV_VALUE_MAX == 16777216 && KV_FRAME_MAX == 17039360 &&
				   KV_BATCH_OPS_MAX == 65536,
			   "doc/protocol.md states these limits");

/* Where the fields lie (doc/protocol.md, "Frame"). The CRC covers all behind itself. */
enum { AT_LENGTH = 0, AT_CRC = 4, AT_ID = 8, AT_TYPE = 12, AT_FLAGS = 13, AT_STATUS = 14, CRC_FROM = 8 };

void
proto_get_header(const uint8_t *p, ProtoHeader *h)
{
	h->length = get_u32(p + AT_LENGTH);
	h->crc = get_u32(p + AT_CRC);
	h->id = get_u32(p + AT_ID);
	h->type = p[AT_TYPE];
	h->flags = p[AT_FLAGS];
	h->status = get_u16(p + AT_STATUS);
}

void
proto_put_header(uint8_t *p, uint32_t length, uint32_t id, uint8_t type, uint16_t status)
{
	put_u32(p + AT_LENGTH, length);
	put_u32(p + AT_ID, id);
	p[AT_TYPE] = type;
	p[AT_FLAGS] = 0;
	put_u16(p + AT_STATUS, status);
	put_u32(p + AT_CRC, crc32c(0, p + CRC_FROM, PROTO_HEADER_SIZE - CRC_FROM + (size_t) length));
}

bool
proto_crc_ok(const uint8_t *p, const ProtoHeader *h)
{
	return crc32c(0, p + CRC_FROM, PROTO_HEADER_SIZE - CRC_FROM + (size_t) h->length) == h->crc;
}

Status
proto_begin(Buf *b, size_t *at)
{
	KV_TRY(buf_reserve(b, PROTO_HEADER_SIZE));
	*at = b->len;
	b->len += PROTO_HEADER_SIZE;
	return ST_OK;
}

void
proto_finish(Buf *b, size_t at, uint32_t id, uint8_t type, uint16_t status)
{
	KV_ASSERT(b->len - at - PROTO_HEADER_SIZE <= KV_FRAME_MAX);
	proto_put_header(b->data + at, (uint32_t) (b->len - at - PROTO_HEADER_SIZE), id, type, status);
}

Status
proto_error(Buf *b, uint32_t id, uint8_t type, Status code, uint64_t detail, const char *text)
{
	size_t at;
	uint8_t number[8];

	put_u64(number, detail);
	KV_TRY(buf_reserve(b, PROTO_HEADER_SIZE + sizeof number + strlen(text)));
	KV_TRY(proto_begin(b, &at));
	KV_TRY(buf_append(b, number, sizeof number));
	KV_TRY(buf_append(b, text, strlen(text)));
	proto_finish(b, at, id, type, (uint16_t) code);
	return ST_OK;
}

const char *
proto_command_name(int command)
{
	switch (command) {
#define PROTO_NAME(name, number, word)                                                                       \
	case number:                                                                                             \
		return word;
		PROTO_COMMAND_LIST(PROTO_NAME)
#undef PROTO_NAME
	default:
		return "?";
	}
}
