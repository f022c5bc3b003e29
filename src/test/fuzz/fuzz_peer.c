/*
 * fuzz_peer.c - what other nodes send: hello, answer, frames with messages and forms.
 */
#include "../../replication/peer_proto.h"
#include "fuzz.h"

/* The checksum is of header and message; the log behind them has its own. */
static void
repair_frame(uint8_t *p, size_t size)
{
	size_t head = size >= PEER_FRAME_HEAD ? get_u16(p + 4) : 0;

	if (size >= PEER_FRAME_HEAD && head <= size - PEER_FRAME_HEAD)
		put_u32(p + 8, crc32c(crc32c(0, p, 8), p + PEER_FRAME_HEAD, head));
}

static void
frames(uint8_t *bytes, size_t size, bool repair)
{
	size_t at = 0, used;

	while (at < size) {
		PeerFrame f;
		RaftMsg m;
		PeerForm form;

		if (repair)
			repair_frame(bytes + at, size - at);
		if (peer_frame_decode(slice_of(bytes + at, size - at), &f, &used) != ST_OK)
			return;
		FUZZ_CHECK(used > 0 && used <= size - at);
		fuzz_touch(f.head);
		fuzz_touch(f.bytes);
		if (f.type == PEER_FRAME_MESSAGE)
			(void) !peer_message_decode(f.head, &m);
		if (f.type == PEER_FRAME_FORM)
			(void) !peer_form_decode(f.head, &form);
		at += used;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Slice in = slice_of(data, size);
	uint8_t *copy = malloc(size + 1);
	PeerHello h;
	PeerAnswer a;
	RaftMsg m;
	PeerForm form;
	size_t used;

	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data, size);
	if (peer_hello_decode(in, &h, &used) == ST_OK)
		FUZZ_CHECK(used <= size && memchr(h.name, 0, sizeof h.name) != NULL);
	if (peer_answer_decode(in, &a, &used) == ST_OK)
		FUZZ_CHECK(used <= size && memchr(a.text, 0, sizeof a.text) != NULL);
	frames(copy, size, false);
	frames(copy, size, true);
	/* Behind the checksum. */
	(void) !peer_message_decode(in, &m);
	(void) !peer_form_decode(in, &form);
	free(copy);
	return 0;
}

void
fuzz_seeds(FuzzAdd add)
{
	uint8_t room[PEER_HELLO_MAX];
	PeerHello h = { .newest = 2,
					.oldest = 1,
					.purpose = PEER_MEMBER,
					.self = 5,
					.expected = 6,
					.name = "node1",
					.peer_address = "127.0.0.1:7500" };
	PeerAnswer a = {
		.version = 1, .code = ST_OK, .self = 6, .name = "node2", .client_address = "127.0.0.1:7400"
	};
	PeerForm f = { .crc_seed = 3, .wal_segment_size = 65536, .at = 4096 };
	RaftMsg m = { 0 };
	Buf b = { 0 };

	add(room, peer_hello_encode(&h, room));
	add(room, peer_answer_encode(&a, room));
	m.kind = (__typeof__(m.kind)) 1;
	m.term = 4;
	FUZZ_MUST(peer_message_encode(&m, 0, &b));
	add(b.data, b.len);
	add(b.data + PEER_FRAME_HEAD, b.len - PEER_FRAME_HEAD);
	buf_clear(&b);
	f.members.election_ms = 1000;
	f.members.n = 1;
	f.members.node[0] = (Member){
		.name = "node1", .incarnation = 5, .voter = true, .peer_address = "h:1", .client_address = "h:2"
	};
	FUZZ_MUST(peer_form_encode(&f, &b));
	add(b.data, b.len);
	add(b.data + PEER_FRAME_HEAD, b.len - PEER_FRAME_HEAD);
	buf_free(&b);
}
