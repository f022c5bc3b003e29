/*
 * peer_proto.c - bytes of the peer protocol.
 *
 * Pure. Format: doc/peer-protocol.md. All numbers little-endian.
 *
 * Invariant: a decoder never reads past its input and never gives out a value that the rest of the server
 * could not have made (lengths, counts, texts).
 */
#include "peer_proto.h"

#include "common/coding.h"
#include "common/crc32c.h"
#include "common/kv_assert.h"

static const char magic[8] = "KVDPEER";

_Static_assert(sizeof magic + 2 + 2 + 4 == PEER_PRELUDE, "magic, two versions (or version and code), length");
_Static_assert(PEER_MESSAGE_FIXED == 1 + 1 + 2 + 4 + 7 * 8, "kind, nterms, zero, flags, seven numbers");
_Static_assert(PEER_FRAME_HEAD == 4 + 2 + 1 + 1 + 4, "length, head length, type, zero, crc");
_Static_assert(sizeof(RaftTerm) == 16, "two numbers");
_Static_assert(RAFT_TAIL_MAX <= 255, "nterms is one byte");
_Static_assert(40 + 8 +
					   MEMBERSHIP_NODES_MAX *
						   (8 + 1 + 3 + MEMBERSHIP_NAME_MAX + 2 * MEMBERSHIP_ADDRESS_MAX) <=
				   PEER_FORM_MAX,
			   "the largest configuration fits");
_Static_assert(PEER_PRELUDE + 48 + 3 + MEMBERSHIP_NAME_MAX + MEMBERSHIP_ADDRESS_MAX + PEER_TEXT_MAX + 4 <=
				   PEER_HELLO_MAX,
			   "the longest hello and answer fit");

/* ---- hello and answer */

typedef struct Writer {
	uint8_t *out;
	size_t len;
} Writer;

static void
write_u8(Writer *w, uint8_t v)
{
	w->out[w->len++] = v;
}

static void
write_u64(Writer *w, uint64_t v)
{
	put_u64(w->out + w->len, v);
	w->len += 8;
}

static void
write_text(Writer *w, const char *text, size_t max)
{
	size_t len = strlen(text);

	KV_ASSERT(len <= max && max <= 255);
	write_u8(w, (uint8_t) len);
	memcpy(w->out + w->len, text, len);
	w->len += len;
}

static void
begin(Writer *w, uint16_t first, uint16_t second)
{
	memcpy(w->out, magic, sizeof magic);
	put_u16(w->out + 8, first);
	put_u16(w->out + 10, second);
	w->len = PEER_PRELUDE;
}

static size_t
finish(Writer *w)
{
	put_u32(w->out + 12, (uint32_t) (w->len + 4));
	put_u32(w->out + w->len, crc32c(0, w->out, w->len));
	return w->len + 4;
}

size_t
peer_hello_encode(const PeerHello *h, uint8_t out[PEER_HELLO_MAX])
{
	Writer w = { out, 0 };

	begin(&w, h->newest, h->oldest);
	write_u8(&w, h->purpose);
	memcpy(out + w.len, h->cluster_id, sizeof h->cluster_id);
	w.len += sizeof h->cluster_id;
	write_u64(&w, h->self);
	write_u64(&w, h->expected);
	write_u64(&w, h->config_at);
	write_text(&w, h->name, MEMBERSHIP_NAME_MAX);
	write_text(&w, h->peer_address, MEMBERSHIP_ADDRESS_MAX);
	return finish(&w);
}

size_t
peer_answer_encode(const PeerAnswer *a, uint8_t out[PEER_HELLO_MAX])
{
	Writer w = { out, 0 };

	begin(&w, a->version, (uint16_t) a->code);
	write_u8(&w, a->blank ? 1 : 0);
	write_u64(&w, a->self);
	write_text(&w, a->name, MEMBERSHIP_NAME_MAX);
	write_text(&w, a->client_address, MEMBERSHIP_ADDRESS_MAX);
	write_text(&w, a->text, PEER_TEXT_MAX);
	return finish(&w);
}

static Status
malformed(void)
{
	return status_fail(ST_PROTOCOL, "no bytes of the peer protocol");
}

static void
read_text(Reader *r, char *out, size_t max)
{
	Slice text = read_bytes(r, read_u8(r));

	if (!reader_ok(r) || text.len > max) {
		r->failed = true;
		return;
	}
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < 0x20 || text.data[i] == 0x7f) /* it ends up in a log */
			r->failed = true;
		out[i] = (char) text.data[i];
	}
	out[text.len] = '\0';
}

/* The prelude; *length of the whole. NOT_FOUND until `in` holds all of it. */
static Status
decode_prelude(Slice in, uint16_t *first, uint16_t *second, size_t *length)
{
	size_t have = in.len < sizeof magic ? in.len : sizeof magic;

	if (memcmp(in.data, magic, have) != 0)
		return malformed();
	if (in.len < PEER_PRELUDE)
		return ST_NOT_FOUND;
	*first = get_u16(in.data + 8);
	*second = get_u16(in.data + 10);
	*length = get_u32(in.data + 12);
	if (*length < PEER_PRELUDE + 4 || *length > PEER_HELLO_MAX)
		return malformed();
	return in.len < *length ? ST_NOT_FOUND : ST_OK;
}

static bool
sound(Slice in, size_t length)
{
	return get_u32(in.data + length - 4) == crc32c(0, in.data, length - 4);
}

Status
peer_hello_decode(Slice in, PeerHello *h, size_t *used)
{
	Slice id;
	Reader r;

	memset(h, 0, sizeof *h);
	if (in.len == 0)
		return ST_NOT_FOUND;
	KV_TRY(decode_prelude(in, &h->newest, &h->oldest, used));
	if (h->oldest > PEER_VERSION || h->newest < PEER_VERSION_OLDEST)
		return status_fail(ST_BAD_VERSION,
						   "it speaks versions %u to %u of the peer protocol, this node %d to %d", h->oldest,
						   h->newest, PEER_VERSION_OLDEST, PEER_VERSION);
	if (h->oldest > h->newest || !sound(in, *used))
		return malformed();
	r = reader_of(in.data + PEER_PRELUDE, *used - PEER_PRELUDE - 4);
	h->purpose = read_u8(&r);
	id = read_bytes(&r, sizeof h->cluster_id);
	if (reader_ok(&r))
		memcpy(h->cluster_id, id.data, sizeof h->cluster_id);
	h->self = read_u64(&r);
	h->expected = read_u64(&r);
	h->config_at = read_u64(&r);
	read_text(&r, h->name, MEMBERSHIP_NAME_MAX);
	read_text(&r, h->peer_address, MEMBERSHIP_ADDRESS_MAX);
	/* Later versions may say more behind what we know. */
	if (!reader_ok(&r) || (h->newest == PEER_VERSION && reader_left(&r) != 0) || h->purpose < PEER_MEMBER ||
		h->purpose > PEER_IDENTIFY || h->self == 0)
		return malformed();
	return ST_OK;
}

Status
peer_answer_decode(Slice in, PeerAnswer *a, size_t *used)
{
	uint16_t code;
	unsigned flags;
	Reader r;

	memset(a, 0, sizeof *a);
	if (in.len == 0)
		return ST_NOT_FOUND;
	KV_TRY(decode_prelude(in, &a->version, &code, used));
	if (!sound(in, *used))
		return malformed();
	a->code = (Status) code;
	r = reader_of(in.data + PEER_PRELUDE, *used - PEER_PRELUDE - 4);
	flags = read_u8(&r);
	a->blank = (flags & 1) != 0;
	a->self = read_u64(&r);
	read_text(&r, a->name, MEMBERSHIP_NAME_MAX);
	read_text(&r, a->client_address, MEMBERSHIP_ADDRESS_MAX);
	read_text(&r, a->text, PEER_TEXT_MAX);
	if (!reader_ok(&r) || (code == ST_OK && (a->version < PEER_VERSION_OLDEST || a->version > PEER_VERSION)))
		return malformed();
	return ST_OK;
}

/* ---- frames */

/* Complete the header at `at` of a frame whose head is in `out` already. */
static void
finish_frame(Buf *out, size_t at, PeerFrameType type, size_t bytes_len)
{
	uint8_t *p = out->data + at;
	size_t head_len = out->len - at - PEER_FRAME_HEAD;

	put_u32(p, (uint32_t) (head_len + bytes_len));
	put_u16(p + 4, (uint16_t) head_len);
	p[6] = (uint8_t) type;
	p[7] = 0;
	put_u32(p + 8, crc32c(crc32c(0, p, 8), p + PEER_FRAME_HEAD, head_len));
}

Status
peer_message_encode(const RaftMsg *m, size_t bytes_len, Buf *out)
{
	size_t at = out->len, len = PEER_MESSAGE_FIXED + m->nterms * (size_t) 16;
	uint8_t *p;

	KV_ASSERT(m->nterms <= RAFT_TAIL_MAX && bytes_len <= PEERS_CHUNK);
	KV_TRY(buf_reserve(out, PEER_FRAME_HEAD + len));
	p = out->data + at + PEER_FRAME_HEAD;
	p[0] = m->kind;
	p[1] = (uint8_t) m->nterms;
	put_u16(p + 2, 0);
	put_u32(p + 4, m->flags);
	put_u64(p + 8, m->term);
	put_u64(p + 16, m->pos);
	put_u64(p + 24, m->pos_term);
	put_u64(p + 32, m->end);
	put_u64(p + 40, m->commit);
	put_u64(p + 48, m->stamp_us);
	put_u64(p + 56, m->clock_ms);
	for (uint32_t i = 0; i < m->nterms; i++) {
		put_u64(p + PEER_MESSAGE_FIXED + 16 * i, m->terms[i].term);
		put_u64(p + PEER_MESSAGE_FIXED + 16 * i + 8, m->terms[i].start);
	}
	out->len += PEER_FRAME_HEAD + len;
	finish_frame(out, at, PEER_FRAME_MESSAGE, bytes_len);
	return ST_OK;
}

Status
peer_message_decode(Slice head, RaftMsg *m)
{
	Reader r = reader_of(head.data, head.len);

	memset(m, 0, sizeof *m);
	m->kind = read_u8(&r);
	m->nterms = read_u8(&r);
	(void) read_u16(&r);
	m->flags = read_u32(&r);
	m->term = read_u64(&r);
	m->pos = read_u64(&r);
	m->pos_term = read_u64(&r);
	m->end = read_u64(&r);
	m->commit = read_u64(&r);
	m->stamp_us = read_u64(&r);
	m->clock_ms = read_u64(&r);
	if (m->nterms > RAFT_TAIL_MAX)
		return malformed();
	for (uint32_t i = 0; i < m->nterms; i++) {
		m->terms[i].term = read_u64(&r);
		m->terms[i].start = read_u64(&r);
	}
	return reader_ok(&r) && reader_left(&r) == 0 && m->kind != 0 ? ST_OK : malformed();
}

Status
peer_form_encode(const PeerForm *f, Buf *out)
{
	size_t at = out->len;
	uint8_t head[PEER_FRAME_HEAD + 40] = { 0 };

	memcpy(head + PEER_FRAME_HEAD, f->cluster_id, sizeof f->cluster_id);
	put_u64(head + PEER_FRAME_HEAD + 16, f->crc_seed);
	put_u32(head + PEER_FRAME_HEAD + 24, f->wal_segment_size);
	put_u64(head + PEER_FRAME_HEAD + 32, f->at);
	KV_TRY(buf_append(out, head, sizeof head));
	KV_TRY(membership_encode(&f->members, out));
	finish_frame(out, at, PEER_FRAME_FORM, 0);
	return ST_OK;
}

Status
peer_form_decode(Slice head, PeerForm *f)
{
	memset(f, 0, sizeof *f);
	if (head.len < 40)
		return malformed();
	memcpy(f->cluster_id, head.data, sizeof f->cluster_id);
	f->crc_seed = get_u64(head.data + 16);
	f->wal_segment_size = get_u32(head.data + 24);
	f->at = get_u64(head.data + 32);
	if (membership_decode(slice_of(head.data + 40, head.len - 40), &f->members) != ST_OK)
		return status_prefix(ST_PROTOCOL, "members of the cluster");
	return ST_OK;
}

/* NOT_FOUND until all of it is there; checks everything but the checksum. */
static Status
frame_lengths(Slice in, size_t *length, size_t *head_len)
{
	size_t head_max;
	uint8_t type;

	if (in.len < PEER_FRAME_HEAD)
		return ST_NOT_FOUND;
	*length = get_u32(in.data);
	*head_len = get_u16(in.data + 4);
	type = in.data[6];
	head_max = type == PEER_FRAME_MESSAGE ? PEER_MESSAGE_MAX : type == PEER_FRAME_FORM ? PEER_FORM_MAX : 0;
	if (head_max == 0 || *head_len > head_max || *head_len > *length || *length - *head_len > PEERS_CHUNK ||
		(type == PEER_FRAME_FORM && *length != *head_len))
		return malformed();
	return in.len < PEER_FRAME_HEAD + *length ? ST_NOT_FOUND : ST_OK;
}

bool
peer_frame_waits(Slice in)
{
	size_t length, head_len;

	return frame_lengths(in, &length, &head_len) != ST_NOT_FOUND;
}

Status
peer_frame_decode(Slice in, PeerFrame *out, size_t *used)
{
	size_t length, head_len;

	KV_TRY(frame_lengths(in, &length, &head_len));
	if (get_u32(in.data + 8) != crc32c(crc32c(0, in.data, 8), in.data + PEER_FRAME_HEAD, head_len))
		return malformed();
	out->type = in.data[6];
	out->head = slice_of(in.data + PEER_FRAME_HEAD, head_len);
	out->bytes = slice_of(in.data + PEER_FRAME_HEAD + head_len, length - head_len);
	*used = PEER_FRAME_HEAD + length;
	return ST_OK;
}
