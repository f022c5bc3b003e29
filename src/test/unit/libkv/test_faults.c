/*
 * test_faults.c - servers that are silent, slow, wrong, or gone: every call ends in time with the right code, and no
 * write is sent twice whose outcome is in doubt.
 */
#include "fake_server.h"
#include "still_time.h"

#include <poll.h>
#include <stdatomic.h>
#include <time.h>

#include "../../../interfaces/libkv/libkv_internal.h"
#include "port/clock.h"

static void
pause_ms(int ms)
{
	struct timespec t = { 0, ms * 1000000L };

	nanosleep(&t, NULL);
}

static void
silent(Fake *f, int fd, int n)
{
	char byte;

	(void) f;
	(void) n;
	while (recv(fd, &byte, 1, 0) > 0)
		;
}

static int cuts_left; /* of cut_hello() */

/* Closes so many connections at their hello, as a server does whose processes start over, then is polite. */
static void
cut_hello(Fake *f, int fd, int n)
{
	uint8_t hello[PROTO_HEADER_SIZE];

	if (n >= cuts_left)
		fake_polite(f, fd, n);
	else
		(void) recv(fd, hello, sizeof hello, MSG_WAITALL);
}

/* Answers the hello, then nothing. */
static void
silent_after_hello(Fake *f, int fd, int n)
{
	if (fake_hello(f, fd))
		silent(f, fd, n);
}

static void
garbage(Fake *f, int fd, int n)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

	(void) fake_write(fd, text, sizeof text - 1);
	silent(f, fd, n);
}

/* The first connection closes when a request came, later ones are polite. */
static void
close_first(Fake *f, int fd, int n)
{
	ProtoHeader h;

	if (n > 0)
		fake_polite(f, fd, n);
	else if (fake_hello(f, fd))
		(void) fake_request(f, fd, &h);
}

static void
close_always(Fake *f, int fd, int n)
{
	(void) n;
	close_first(f, fd, 0);
}

/* The server dies with the request: nobody listens any more. */
static void
die_at_request(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (fake_hello(f, fd) && fake_request(f, fd, &h))
		shutdown(f->listen_fd, SHUT_RDWR);
}

/* The first connection gives half an answer. */
static void
half_answer_first(Fake *f, int fd, int n)
{
	uint8_t frame[PROTO_HEADER_SIZE + 19] = { 0 };
	ProtoHeader h;

	if (n > 0) {
		fake_polite(f, fd, n);
		return;
	}
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	proto_put_header(frame, 19, h.id, (uint8_t) (h.type | PROTO_ANSWER), 0);
	(void) fake_write(fd, frame, PROTO_HEADER_SIZE + 5);
}

static void
wrong_crc(Fake *f, int fd, int n)
{
	uint8_t frame[PROTO_HEADER_SIZE + 19] = { 0 };
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	proto_put_header(frame, 19, h.id, (uint8_t) (h.type | PROTO_ANSWER), 0);
	frame[PROTO_HEADER_SIZE + 18] ^= 1;
	(void) fake_write(fd, frame, sizeof frame);
	silent(f, fd, n);
}

static void
wrong_id(Fake *f, int fd, int n)
{
	ProtoHeader h;

	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	h.id++;
	(void) fake_answer(f, fd, &h);
	silent(f, fd, n);
}

static void
short_answer(Fake *f, int fd, int n)
{
	ProtoHeader h;

	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	(void) fake_frame(fd, &h, 0, "abc", 3);
	silent(f, fd, n);
}

/* Every byte of an answer in its own packet, with a pause that a deadline of its own would not survive. */
static void
slow(Fake *f, int fd, int n)
{
	uint8_t frame[PROTO_HEADER_SIZE + 8] = { 0 };
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	put_u64(frame + PROTO_HEADER_SIZE, 5);
	proto_put_header(frame, 8, h.id, (uint8_t) (h.type | PROTO_ANSWER), 0);
	for (size_t i = 0; i < sizeof frame; i++) {
		pause_ms(2);
		if (!fake_write(fd, frame + i, 1))
			return;
	}
	silent(f, fd, n);
}

static void
refuse(int fd, Status code, const char *text)
{
	ProtoHeader none = { 0 };

	(void) fake_error(fd, &none, code, 0, text);
}

static void
too_many(Fake *f, int fd, int n)
{
	(void) n;
	(void) f;
	refuse(fd, ST_TOO_MANY_CONNECTIONS, "all 5 connections are taken");
	shutdown(fd, SHUT_WR);
	silent(f, fd, n);
}

/* "Starting" twice, then polite. */
static void
starting(Fake *f, int fd, int n)
{
	if (n >= 2) {
		fake_polite(f, fd, n);
		return;
	}
	refuse(fd, ST_STARTING, "replaying the log");
	shutdown(fd, SHUT_WR);
	silent(f, fd, n);
}

/* The goodbye of a server that stops, instead of an answer. */
static void
goodbye(Fake *f, int fd, int n)
{
	ProtoHeader h;

	if (n > 0) {
		fake_polite(f, fd, n);
		return;
	}
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h))
		return;
	refuse(fd, ST_SHUTTING_DOWN, "the server is stopped");
}

static void
not_leader(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h))
		if (!fake_error(fd, &h, ST_NOT_LEADER, 0, f->other))
			return;
}

/* The first request of a connection is answered BUSY. */
static void
busy_first(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd) || !fake_request(f, fd, &h) || !fake_error(fd, &h, ST_BUSY, 0, "try again"))
		return;
	while (fake_request(f, fd, &h) && fake_answer(f, fd, &h))
		;
}

/* Closes after each answer: what a server does that restarts between two commands. */
static void
one_answer(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (fake_hello(f, fd) && fake_request(f, fd, &h))
		(void) fake_answer(f, fd, &h);
}

static uint64_t
ms_since(uint64_t start)
{
	return (clock_mono_ns() - start) / 1000000;
}

typedef struct Case {
	const char *name;
	FakeFn serve;
	int connect, get, put; /* codes expected; get and put on fresh servers */
	int put_requests;      /* how often the write may have been sent; -1: the deadline ends the call */
} Case;

static const Case cases[] = {
	{ "silent", silent, KV_CANNOT_CONNECT, 0, 0, -1 },
	{ "garbage", garbage, KV_PROTOCOL, 0, 0, 0 },
	{ "too_many", too_many, KV_TOO_MANY_CONNECTIONS, 0, 0, 0 },
	{ "silent_after_hello", silent_after_hello, KV_OK, KV_TIMEOUT, KV_OUTCOME_UNKNOWN, -1 },
	{ "close_first", close_first, KV_OK, KV_OK, KV_OUTCOME_UNKNOWN, 1 },
	{ "close_always", close_always, KV_OK, KV_CLOSED, KV_OUTCOME_UNKNOWN, 1 },
	{ "half_answer_first", half_answer_first, KV_OK, KV_OK, KV_OUTCOME_UNKNOWN, 1 },
	{ "wrong_crc", wrong_crc, KV_OK, KV_PROTOCOL, KV_OUTCOME_UNKNOWN, 1 },
	{ "wrong_id", wrong_id, KV_OK, KV_PROTOCOL, KV_OUTCOME_UNKNOWN, 1 },
	{ "short_answer", short_answer, KV_OK, KV_PROTOCOL, KV_PROTOCOL, 1 },
	{ "starting", starting, KV_OK, KV_OK, KV_OK, 1 },
	{ "goodbye", goodbye, KV_OK, KV_OK, KV_OUTCOME_UNKNOWN, 1 },
	{ "busy_first", busy_first, KV_OK, KV_OK, KV_OK, 2 },
	{ "slow", slow, KV_OK, -1, KV_OK, 1 },
};

/* Short where the deadline is what ends the call; elsewhere no stall of a loaded machine may reach it. */
#define SHORT "?timeout=300ms"
#define SHORT_MS 300
#define LONG "?timeout=20s"
#define SOON_MS 10000

static void
check_code(const Case *k, const char *what, int got, int want)
{
	if (got != want)
		fail_msg("%s: %s gave %s (%s), expected %s", k->name, what, kv_code_name(got), kv_error(), kv_code_name(want));
}

static void
run_case(const Case *k, bool write)
{
	uint64_t start = clock_mono_ns();
	kv_value v = { 0 };
	kv_client *c;
	Fake f;
	int code;

	fake_start(&f, k->serve);
	code = kv_connect(&c, fake_uri(&f, NULL, k->put_requests < 0 && k->connect != KV_OK ? SHORT : LONG), NULL);
	check_code(k, "connect", code, k->connect);
	if (code == KV_OK && k->put_requests < 0)
		kv_set_timeout(c, SHORT_MS);
	if (code == KV_OK && write) {
		check_code(k, "put", kv_put(c, kv_str("k00"), kv_str("v"), NULL, NULL), k->put);
		if (k->put_requests >= 0)
			assert_int_equal(f.requests, k->put_requests);
	} else if (code == KV_OK && k->get >= 0)
		check_code(k, "get", kv_get(c, kv_str("k00"), NULL, &v), k->get);
	assert_in_range(ms_since(start), 0, SOON_MS);
	kv_value_free(&v);
	kv_close(c);
	fake_stop(&f);
}

static void
test_cases(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		run_case(&cases[i], false);
		run_case(&cases[i], true);
	}
}

static void
test_refused(void **state)
{
	uint64_t start = clock_mono_ns();
	kv_client *c;
	Fake f;

	(void) state;
	fake_start(&f, silent);
	fake_stop(&f); /* nobody listens at its port now */
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_CANNOT_CONNECT);
	assert_null(c);
	assert_non_null(strstr(kv_error(), "refused"));
	assert_in_range(ms_since(start), 0, SOON_MS); /* at once, not after the 20 s */
}

/* The first connection: cut off up to two times it is tried again, three times it is told, at once. */
static void
test_hello_cut_off(void **state)
{
	(void) state;
	for (cuts_left = 1; cuts_left <= 4; cuts_left++) {
		uint64_t start = clock_mono_ns();
		bool works = cuts_left < 3;
		kv_client *c;
		Fake f;

		fake_start(&f, cut_hello);
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), works ? KV_OK : KV_CANNOT_CONNECT);
		assert_in_range(ms_since(start), 0, SOON_MS);
		if (works)
			assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
		else
			assert_non_null(strstr(kv_error(), "connection")); /* closed, or reset: what it had not read */
		kv_close(c);
		fake_stop(&f);
		assert_int_equal(f.connections, works ? cuts_left + 1 : 3);
	}
}

/* Whichever host comes last: one that is ready soon is waited for. */
static void
test_next_round(void **state)
{
	static const FakeFn soon[] = { cut_hello, starting };

	(void) state;
	cuts_left = 2;
	for (int i = 0; i < 4; i++) {
		kv_client *c;
		Fake gone, f;

		fake_start(&gone, silent);
		fake_stop(&gone);
		fake_start(&f, soon[i / 2]);
		assert_int_equal(kv_connect(&c, fake_uri(i % 2 == 0 ? &f : &gone, i % 2 == 0 ? &gone : &f, LONG), NULL), KV_OK);
		kv_close(c);
		fake_stop(&f);
		assert_int_equal(f.connections, 3);
	}
}

/* A host that is gone, and one that accepts and is silent, leave time for the next. */
static void
test_next_host(void **state)
{
	uint64_t start;
	kv_client *c;
	kv_info info;
	Fake gone, quiet, good;

	(void) state;
	fake_start(&gone, silent);
	fake_stop(&gone);
	fake_start(&quiet, silent);
	fake_start(&good, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&gone, &good, LONG), NULL), KV_OK);
	kv_close(c);
	start = clock_mono_ns();
	assert_int_equal(kv_connect(&c, fake_uri(&quiet, &good, "?timeout=12s"), NULL), KV_OK);
	assert_in_range(ms_since(start), 5600, 12000); /* half of it for the first */
	kv_get_info(c, &info);
	assert_int_equal(info.port, good.port);
	kv_close(c);
	fake_stop(&quiet);
	fake_stop(&good);
}

static void
test_leader(void **state)
{
	kv_client *c;
	kv_info info;
	Fake follower, leader;

	(void) state;
	fake_start(&leader, fake_polite);
	fake_start(&follower, not_leader);
	snprintf(follower.other, sizeof follower.other, "127.0.0.1:%u", leader.port);
	/* The leader is none of the hosts named. */
	assert_int_equal(kv_connect(&c, fake_uri(&follower, NULL, LONG), NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
	assert_int_equal(follower.requests, 1);
	assert_int_equal(leader.requests, 2);
	kv_get_info(c, &info);
	assert_int_equal(info.port, leader.port);
	kv_close(c);
	/* An empty hint, and one that points to itself: others are asked while there is time, then NOT_LEADER. */
	follower.other[0] = '\0';
	assert_int_equal(kv_connect(&c, fake_uri(&follower, &leader, LONG), NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
	kv_close(c);
	snprintf(follower.other, sizeof follower.other, "127.0.0.1:%u", follower.port);
	follower.requests = 0;
	atomic_store(&still_ns, clock_mono_ns());
	assert_int_equal(kv_connect(&c, fake_uri(&follower, NULL, SHORT), NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_NOT_LEADER);
	atomic_store(&still_ns, 0);
	assert_true(follower.requests > 2);
	kv_close(c);
	fake_stop(&follower);
	fake_stop(&leader);
}

/* A connection that the server closed between two calls is replaced before a write is sent, so its outcome is known. */
static void
test_stale(void **state)
{
	kv_client *c;
	Fake f;

	(void) state;
	fake_start(&f, one_answer);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
		assert_int_equal(f.requests, i);
		while (f.closed < i)
			pause_ms(1);
		assert_int_equal(poll(&(struct pollfd){ .fd = c->fd, .events = POLLIN }, 1, 20000), 1); /* it has come */
		pause_ms(20); /* the library looks only at connections that rested for 10 ms */
	}
	kv_close(c);
	fake_stop(&f);
}

static kv_client *volatile to_cancel;

static void *
cancel_soon(void *arg)
{
	Fake *f = arg;

	while (f->requests == 0)
		pause_ms(1);
	kv_cancel(to_cancel);
	return NULL;
}

/* Takes requests and never answers. */
static void
mute(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h))
		;
}

static void
test_cancel(void **state)
{
	(void) state;
	for (int write = 0; write < 2; write++) {
		uint64_t start = clock_mono_ns();
		kv_value v = { 0 };
		pthread_t t;
		kv_client *c;
		Fake f;

		fake_start(&f, mute);
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=30s"), NULL), KV_OK);
		to_cancel = c;
		assert_int_equal(pthread_create(&t, NULL, cancel_soon, &f), 0);
		if (write)
			assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OUTCOME_UNKNOWN);
		else
			assert_int_equal(kv_get(c, kv_str("k"), NULL, &v), KV_CLOSED);
		assert_in_range(ms_since(start), 0, 10000);
		pthread_join(t, NULL);
		kv_close(c);
		fake_stop(&f);
	}
}

/* A server that is gone in the middle of a request: told is the lost connection, and soon. */
static void
test_first_cause(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++) {
		uint64_t start = clock_mono_ns();
		kv_value v = { 0 };
		kv_client *c;
		Fake f;

		fake_start(&f, die_at_request);
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
		kv_set_timeout(c, SHORT_MS);
		atomic_store(&still_ns, start); /* only its pauses between tries move it */
		assert_int_equal(i == 0 ? kv_checkpoint(c, 1, 600000, NULL) : kv_get(c, kv_str("k00"), NULL, &v), KV_CLOSED);
		assert_non_null(strstr(kv_error(), "closed the connection while the request was under way"));
		assert_in_range(ms_since(start), 0, SHORT_MS);
		atomic_store(&still_ns, 0);
		assert_int_equal(f.requests, 1);
		kv_value_free(&v);
		kv_close(c);
		fake_stop(&f);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases), cmocka_unit_test(test_refused), cmocka_unit_test(test_hello_cut_off),
		cmocka_unit_test(test_next_round), cmocka_unit_test(test_next_host),
		cmocka_unit_test(test_leader), cmocka_unit_test(test_stale), cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_first_cause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
