/*
 * test_pipeline.c - exactly one reply for each append, in order, whatever the server does; and no deadlock when both
 * sides have more to send than sockets hold.
 */
#include "fake_server.h"

#include "common/prng.h"

/* Takes as many requests as the test says in one read. */
static _Atomic int reads;

static void
count_reads(Fake *f, int fd, int n)
{
	uint8_t buffer[65536];
	size_t have = 0, at = 0;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	for (;;) {
		ssize_t got = recv(fd, buffer + have, sizeof buffer - have, 0);

		if (got <= 0)
			return;
		have += (size_t) got;
		reads++;
		while (have - at >= PROTO_HEADER_SIZE) {
			ProtoHeader h;
			uint8_t version[8] = { 0 };

			proto_get_header(buffer + at, &h);
			if (have - at < PROTO_HEADER_SIZE + h.length)
				break;
			put_u64(version, h.id);
			at += PROTO_HEADER_SIZE + h.length;
			if (!fake_frame(fd, &h, 0, version, 8))
				return;
		}
	}
}

static void
test_order_and_one_send(void **state)
{
	kv_client *c;
	kv_reply r;
	uint64_t first = 0;
	Fake f;

	(void) state;
	reads = 0;
	fake_start(&f, count_reads);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	for (int i = 0; i < 100; i++)
		assert_int_equal(kv_append_put(c, kv_str("key"), kv_str("value"), NULL), KV_OK);
	assert_int_equal(kv_outstanding(c), 100);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_USAGE);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		assert_int_equal(r.code, KV_OK);
		assert_int_equal(r.command, PROTO_PUT);
		first = i == 0 ? r.version : first;
		assert_int_equal(r.version, first + (uint64_t) i);
	}
	assert_int_equal(reads, 1);
	assert_int_equal(kv_get_reply(c, &r), KV_NOT_FOUND);
	kv_close(c);
	fake_stop(&f);
}

/* Answers each request with 64 KiB before it reads the next. */
static void
answers_before_reading(Fake *f, int fd, int n)
{
	uint8_t *answer = calloc(1, 16 + 65536);
	ProtoHeader h;

	(void) n;
	if (answer != NULL && fake_hello(f, fd))
		while (fake_request(f, fd, &h) && fake_frame(fd, &h, 0, answer, 16 + 65536))
			;
	free(answer);
}

/* The oldest reply is a well one, of the size that answers_before_reading() gives. */
static void
take_large_reply(kv_client *c)
{
	kv_reply r;

	assert_int_equal(kv_get_reply(c, &r), KV_OK);
	assert_int_equal(r.code, KV_OK);
	assert_int_equal(r.value.len, 65536);
}

/*
 * Appends until sockets on both sides are full and the client keeps as many answers as it may, then goes on appending
 * against that bound. How much the sockets hold is the system's affair and changes from run to run; they hold less
 * than ENOUGH requests (1 GiB).
 */
static void
test_no_deadlock(void **state)
{
	enum { ENOUGH = 16384, AGAINST_BOUND = 100 };
	char *key = malloc(65536);
	int appended = 0, taken = 0;
	kv_client *c;
	Fake f;

	(void) state;
	assert_non_null(key);
	memset(key, 'k', 65536);
	fake_start(&f, answers_before_reading);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), NULL), KV_OK);
	while (taken < AGAINST_BOUND) {
		int code = kv_append_get(c, (kv_bytes){ key, 65536 }, NULL);

		if (code == KV_OK) {
			assert_true(++appended < ENOUGH);
			continue;
		}
		assert_int_equal(code, KV_BUSY);
		take_large_reply(c);
		taken++;
	}
	for (; taken < appended; taken++)
		take_large_reply(c);
	assert_int_equal(kv_outstanding(c), 0);
	kv_close(c);
	fake_stop(&f);
	free(key);
}

#define ANSWERED 3

/* Answers three requests, takes two more and closes; later connections are polite. */
static void
close_after_some(Fake *f, int fd, int n)
{
	ProtoHeader h;

	if (n > 0) {
		fake_polite(f, fd, n);
		return;
	}
	if (!fake_hello(f, fd))
		return;
	for (int i = 0; i < ANSWERED + 2; i++)
		if (!fake_request(f, fd, &h) || (i < ANSWERED && !fake_answer(f, fd, &h)))
			return;
	/* Not at once: a close with unread requests would be a reset, and could take the answers with it. */
	shutdown(fd, SHUT_WR);
	while (fake_request(f, fd, &h))
		;
}

static void
test_break(void **state)
{
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	fake_start(&f, close_after_some);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), NULL), KV_OK);
	for (int i = 0; i < 10; i++)
		assert_int_equal(i % 2 == 0 ? kv_append_put(c, kv_str("k00"), kv_str("v"), NULL)
			: kv_append_get(c, kv_str("k00"), NULL), KV_OK);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		if (i < ANSWERED)
			assert_int_equal(r.code, KV_OK);
		else
			assert_int_equal(r.code, i % 2 == 0 ? KV_OUTCOME_UNKNOWN : KV_CLOSED);
		if (i == ANSWERED)
			assert_int_equal(kv_append_get(c, kv_str("k00"), NULL), KV_CLOSED);
	}
	/* All replies taken: the handle works again. */
	assert_int_equal(kv_append_get(c, kv_str("k07"), NULL), KV_OK);
	assert_int_equal(kv_get_reply(c, &r), KV_OK);
	assert_int_equal(r.code, KV_OK);
	assert_memory_equal(r.value.data, "v07", 3);
	kv_close(c);
	fake_stop(&f);
}

/* Writes that had not left when the connection broke certainly did not happen. */
static void
silent_reader(Fake *f, int fd, int n)
{
	int size = 4096;
	ProtoHeader h;

	(void) n;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (fake_hello(f, fd))
		(void) fake_request(f, fd, &h);
}

static void
test_not_left(void **state)
{
	char *value = calloc(1, 8u << 20);
	int unknown = 0, closed = 0;
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	assert_non_null(value);
	fake_start(&f, silent_reader);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), NULL), KV_OK);
	assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_OK);
	assert_int_equal(kv_append_put(c, kv_str("k"), (kv_bytes){ value, 8u << 20 }, NULL), KV_OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		unknown += r.code == KV_OUTCOME_UNKNOWN;
		closed += r.code == KV_CLOSED;
	}
	assert_int_equal(unknown, 1);
	assert_int_equal(closed, 1);
	kv_close(c);
	fake_stop(&f);
	free(value);
}

/* Random bytes as answers: every append still gets one reply. */
static void
noise(Fake *f, int fd, int n)
{
	uint8_t bytes[512];
	ProtoHeader h;
	Prng p;

	prng_seed(&p, (uint64_t) n + 1);
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	if (n % 2 == 0)
		(void) fake_answer(f, fd, &h);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t) prng_next(&p);
	if (n % 3 == 0)
		bytes[12] |= PROTO_ANSWER, bytes[3] = bytes[2] = bytes[1] = 0; /* a header that looks well */
	(void) fake_write(fd, bytes, sizeof bytes);
}

static void
test_noise(void **state)
{
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	fake_start(&f, noise);
	for (int round = 0; round < 60; round++) {
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), NULL), KV_OK);
		for (int i = 0; i < 4; i++)
			assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_OK);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(kv_get_reply(c, &r), KV_OK);
			assert_int_equal(r.code, i == 0 && round % 2 == 0 ? KV_OK : KV_OUTCOME_UNKNOWN);
		}
		kv_close(c);
	}
	fake_stop(&f);
}

static void
test_outstanding_bound(void **state)
{
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), NULL), KV_OK);
	for (int i = 0; i < 65536; i++)
		assert_int_equal(kv_append_ping(c), KV_OK);
	assert_int_equal(kv_append_ping(c), KV_BUSY);
	assert_int_equal(kv_outstanding(c), 65536);
	for (int i = 0; i < 65536; i++) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		assert_int_equal(r.code, KV_OK);
	}
	kv_close(c);
	fake_stop(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_one_send), cmocka_unit_test(test_no_deadlock), cmocka_unit_test(test_break),
		cmocka_unit_test(test_not_left), cmocka_unit_test(test_noise), cmocka_unit_test(test_outstanding_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
