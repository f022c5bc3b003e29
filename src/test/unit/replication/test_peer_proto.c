/* test_peer_proto.c - the bytes of the peer protocol: as documented, round trips, every cut and damage, noise. */
#include "peer_test.h"

static void
messages_come_back_and_every_damage_shows(void **state)
{
	Prng g;

	(void) state;
	prng_seed(&g, seed);
	for (int round = 0; round < 50; round++) {
		RaftMsg m = some_message(&g), back;
		PeerFrame f;
		Buf b = { 0 };
		size_t used;

		assert_int_equal(peer_message_encode(&m, 0, &b), ST_OK);
		for (size_t len = 0; len < b.len; len++)
			assert_int_equal(peer_frame_decode(slice_of(b.data, len), &f, &used), ST_NOT_FOUND);
		assert_int_equal(peer_frame_decode(slice_buf(&b), &f, &used), ST_OK);
		assert_int_equal(used, b.len);
		assert_int_equal(f.bytes.len, 0);
		assert_int_equal(peer_message_decode(f.head, &back), ST_OK);
		assert_memory_equal(&m, &back, sizeof m);
		for (size_t i = 0; i < b.len; i++) {
			b.data[i] ^= (uint8_t) (1 << prng_below(&g, 8));
			assert_true(peer_frame_decode(slice_buf(&b), &f, &used) != ST_OK);
			b.data[i] = 0;
			assert_int_equal((buf_clear(&b), peer_message_encode(&m, 0, &b)), ST_OK);
		}
		buf_free(&b);
	}
}

static void
the_bytes_are_these(void **state)
{
	static const uint8_t want[] = { 80, 0, 0, 0, 80, 0, 1, 0, 0, 0, 0, 0, /* length, head, type, zero, crc */
									5,  1, 0, 0, 2,  0, 0, 0, 3, 0, 0, 0, 0,  0, 0, 0, 4, 0, 0, 0,
									0,  0, 0, 0, 5,  0, 0, 0, 0, 0, 0, 0, 6,  0, 0, 0, 0, 0, 0, 0,
									7,  0, 0, 0, 0,  0, 0, 0, 8, 0, 0, 0, 0,  0, 0, 0, 9, 0, 0, 0,
									0,  0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0 };
	RaftMsg m = { .kind = 5,
				  .flags = 2,
				  .from = 99,
				  .to = 98,
				  .term = 3,
				  .pos = 4,
				  .pos_term = 5,
				  .end = 6,
				  .commit = 7,
				  .stamp_us = 8,
				  .clock_ms = 9,
				  .nterms = 1,
				  .terms = { { 10, 11 } } };
	Buf b = { 0 };

	(void) state;
	assert_int_equal(peer_message_encode(&m, 0, &b), ST_OK);
	assert_int_equal(b.len, sizeof want);
	memset(b.data + 8, 0, 4);
	assert_memory_equal(b.data, want, sizeof want);
	buf_free(&b);
}

static void
hellos_come_back_and_every_damage_shows(void **state)
{
	PeerHello h = { .newest = 1,
					.oldest = 1,
					.purpose = PEER_MEMBER,
					.self = 7,
					.expected = 8,
					.config_at = 9,
					.name = "n1",
					.peer_address = "[::1]:7" },
			  back;
	PeerAnswer a = { .version = 1,
					 .code = ST_OK,
					 .blank = true,
					 .self = 5,
					 .name = "n2",
					 .client_address = "h:1",
					 .text = "because" },
			   aback;
	uint8_t bytes[PEER_HELLO_MAX];
	size_t len = peer_hello_encode(&h, bytes), used;

	(void) state;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(peer_hello_decode(slice_of(bytes, i), &back, &used), ST_NOT_FOUND);
	assert_int_equal(peer_hello_decode(slice_of(bytes, len), &back, &used), ST_OK);
	assert_int_equal(used, len);
	assert_memory_equal(&h, &back, sizeof h);
	for (size_t i = 0; i < len; i++) {
		bytes[i] ^= 1;
		assert_true(peer_hello_decode(slice_of(bytes, len), &back, &used) != ST_OK);
		bytes[i] ^= 1;
	}
	/* A newer node that still speaks our version, and says more than we know; one that does not. */
	h.newest = PEER_VERSION + 1;
	len = peer_hello_encode(&h, bytes);
	bytes[12] = (uint8_t) (len + 1);
	memset(bytes + len - 4, 'x', 1);
	{
		uint32_t crc = crc32c(0, bytes, len - 3);

		memcpy(bytes + len - 3, &crc, 4); /* little-endian hosts only: so are the others here */
	}
	assert_int_equal(peer_hello_decode(slice_of(bytes, len + 1), &back, &used), ST_OK);
	h.oldest = PEER_VERSION + 1;
	len = peer_hello_encode(&h, bytes);
	assert_int_equal(peer_hello_decode(slice_of(bytes, len), &back, &used), ST_BAD_VERSION);
	len = peer_answer_encode(&a, bytes);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(peer_answer_decode(slice_of(bytes, i), &aback, &used), ST_NOT_FOUND);
	assert_int_equal(peer_answer_decode(slice_of(bytes, len), &aback, &used), ST_OK);
	assert_memory_equal(&a, &aback, sizeof a);
}

static void
forms_come_back(void **state)
{
	PeerForm f = { .crc_seed = 1, .wal_segment_size = 2, .at = 3, .members = members(3) }, back;
	PeerFrame frame;
	size_t used;
	Buf b = { 0 };

	(void) state;
	memset(f.cluster_id, 4, sizeof f.cluster_id);
	assert_int_equal(peer_form_encode(&f, &b), ST_OK);
	assert_int_equal(peer_frame_decode(slice_buf(&b), &frame, &used), ST_OK);
	assert_int_equal(frame.type, PEER_FRAME_FORM);
	assert_int_equal(peer_form_decode(frame.head, &back), ST_OK);
	assert_memory_equal(&f, &back, sizeof f);
	for (size_t i = 0; i < frame.head.len; i++)
		assert_int_equal(peer_form_decode(slice_of(frame.head.data, i), &back), ST_PROTOCOL);
	buf_free(&b);
}

/* Sound frames with some bytes changed, and plain noise: refused or taken, never read outside of (sanitizers). */
static void
noise_never_hurts(void **state)
{
	Prng g;

	(void) state;
	prng_seed(&g, seed + 1);
	for (int round = 0; round < 100000; round++) {
		RaftMsg m = some_message(&g);
		size_t used, len;
		PeerAnswer a;
		PeerHello h;
		PeerFrame f;
		PeerForm form;
		Buf b = { 0 };
		uint8_t *copy;

		assert_int_equal(peer_message_encode(&m, 0, &b), ST_OK);
		for (uint64_t i = prng_below(&g, 6); i > 0; i--)
			b.data[prng_below(&g, round % 3 == 0 ? PEER_FRAME_HEAD : b.len)] = (uint8_t) prng_next(&g);
		len = prng_below(&g, b.len + 1);
		copy = malloc(len + 1); /* of just this size: a sanitizer sees a step outside */
		memcpy(copy, b.data, len);
		if (peer_frame_decode(slice_of(copy, len), &f, &used) == ST_OK)
			assert_true(used <= len);
		(void) !peer_message_decode(slice_of(copy, len), &m);
		(void) !peer_form_decode(slice_of(copy, len), &form);
		if (len >= 8 && round % 2 == 0)
			memcpy(copy, "KVDPEER", 8);
		(void) !peer_hello_decode(slice_of(copy, len), &h, &used);
		(void) !peer_answer_decode(slice_of(copy, len), &a, &used);
		free(copy);
		buf_free(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_bytes_are_these),
		cmocka_unit_test(messages_come_back_and_every_damage_shows),
		cmocka_unit_test(hellos_come_back_and_every_damage_shows),
		cmocka_unit_test(forms_come_back),
		cmocka_unit_test(noise_never_hurts),
	};

	choose_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
