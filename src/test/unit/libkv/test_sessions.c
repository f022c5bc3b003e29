/*
 * test_sessions.c - writes with the option retry: done exactly once whatever the servers do, and "unknown" only
 * when it is.
 *
 * Two fakes share one state, as the members of a cluster do: a counter and the outcomes of serials. They execute,
 * answer, refuse, forget and vanish by dice; what the client is told must fit what was done.
 */
#include "fake_server.h"
#include "still_time.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/prng.h"
#include "port/clock.h"

#define SERIALS 8192
#define WRITES 400
#define SHORT "?timeout=300ms&retry=yes"
#define SHORT_MS 300
#define LONG "?timeout=20s&retry=yes"

/* What the cluster keeps; under lock. */
static struct {
	pthread_mutex_t lock;
	uint64_t session;           /* the newest one */
	int sessions;
	int64_t counter, done[SERIALS]; /* counter after the serial was done; 0: it was not */
	int copies, unstamped;      /* copies that were not done again */
	uint64_t confirmed;
	Prng dice;
	int mischief;               /* of 100 requests so many are treated badly */
} cluster = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
new_cluster(uint64_t seed, int mischief)
{
	pthread_mutex_lock(&cluster.lock);
	cluster.session = 100 + seed;
	cluster.sessions = 0;
	cluster.counter = 0;
	memset(cluster.done, 0, sizeof cluster.done);
	cluster.copies = cluster.unstamped = 0;
	cluster.confirmed = 0;
	prng_seed(&cluster.dice, seed);
	cluster.mischief = mischief;
	pthread_mutex_unlock(&cluster.lock);
}

/* Do the write, unless it was; false: its session is not ours. */
static bool
execute(const Buf *request, int64_t *result)
{
	const uint8_t *p = request->data;
	uint64_t serial = get_u64(p + PROTO_WRITE_PREFIX + 8), confirmed = get_u64(p + PROTO_WRITE_PREFIX + 16);
	bool known;

	pthread_mutex_lock(&cluster.lock);
	known = (p[1] & PROTO_WRITE_STAMPED) != 0 && get_u64(p + PROTO_WRITE_PREFIX) == cluster.session;
	cluster.unstamped += (p[1] & PROTO_WRITE_STAMPED) == 0;
	if (known && (serial >= SERIALS || confirmed > serial || serial - confirmed >= PROTO_SESSION_WINDOW ||
		serial < cluster.confirmed))
		abort();
	if (known) {
		cluster.confirmed = confirmed > cluster.confirmed ? confirmed : cluster.confirmed;
		if (cluster.done[serial] == 0)
			cluster.done[serial] = ++cluster.counter;
		else
			cluster.copies++;
		*result = cluster.done[serial];
	}
	pthread_mutex_unlock(&cluster.lock);
	return known;
}

static bool
answer_number(int fd, const ProtoHeader *h, int64_t result)
{
	uint8_t p[16];

	put_u64(p, 1000 + (uint64_t) result);
	put_u64(p + 8, (uint64_t) result);
	return fake_frame(fd, h, 0, p, h->type == PROTO_INCR ? 16 : 8);
}

static bool
answer_session(int fd, const ProtoHeader *h, uint64_t life)
{
	uint8_t p[16];

	pthread_mutex_lock(&cluster.lock);
	if (cluster.sessions++ > 0)
		cluster.session++;
	memset(cluster.done, 0, sizeof cluster.done);
	cluster.confirmed = 0;
	put_u64(p, cluster.session);
	put_u64(p + 8, life);
	pthread_mutex_unlock(&cluster.lock);
	return fake_frame(fd, h, 0, p, 16);
}

enum {
	GOOD, DROP_BEFORE, DROP_AFTER, HALF_ANSWER, NOT_LEADER, BUSY, NO_ROOM, UNKNOWN_DONE, UNKNOWN_NOT, GOODBYE, KINDS
};

static int
throw_dice(void)
{
	int kind = GOOD;

	pthread_mutex_lock(&cluster.lock);
	if ((int) prng_below(&cluster.dice, 100) < cluster.mischief)
		kind = 1 + (int) prng_below(&cluster.dice, KINDS - 1);
	pthread_mutex_unlock(&cluster.lock);
	return kind;
}

/* One write; false: the connection ends. */
static bool
treat(Fake *f, int fd, const ProtoHeader *h, int kind)
{
	ProtoHeader none = { 0 };
	bool done = kind == GOOD || kind == DROP_AFTER || kind == HALF_ANSWER || kind == UNKNOWN_DONE;
	int64_t result = 0;

	if (done && !execute(&f->last, &result))
		return fake_error(fd, h, ST_SESSION_EXPIRED, 0, "who is that?");
	switch (kind) {
	case GOOD:
		return answer_number(fd, h, result);
	case HALF_ANSWER:
		(void) fake_write(fd, "\x10\0\0\0\1\2\3", 7);
		return false;
	case NOT_LEADER:
		return fake_error(fd, h, ST_NOT_LEADER, 0, f->other);
	case BUSY:
		return fake_error(fd, h, ST_BUSY, 0, "later");
	case NO_ROOM:
		return fake_error(fd, h, ST_TIMEOUT, 0, "no room");
	case UNKNOWN_DONE:
	case UNKNOWN_NOT:
		return fake_error(fd, h, ST_OUTCOME_UNKNOWN, 0, "who knows");
	case GOODBYE:
		(void) fake_error(fd, &none, ST_SHUTTING_DOWN, 0, "bye");
		return false;
	default:
		return false;
	}
}

static void
moody(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h)) {
		bool more = h.type == PROTO_SESSION ? answer_session(fd, &h, get_u64(f->last.data + 8))
			: h.type == PROTO_GET ? fake_answer(f, fd, &h) : treat(f, fd, &h, throw_dice());

		if (!more)
			return;
	}
}

static void
start_pair(Fake *a, Fake *b)
{
	fake_start(a, moody);
	fake_start(b, moody);
	snprintf(a->other, sizeof a->other, "127.0.0.1:%u", b->port);
	snprintf(b->other, sizeof b->other, "127.0.0.1:%u", a->port);
}

static uint64_t
first_seed(int *runs)
{
	const char *from = getenv("KVD_TEST_SEED");

	*runs = from != NULL ? 1 : 4;
	return from != NULL ? strtoull(from, NULL, 10) : 1;
}

static void
test_calls_once(void **state)
{
	int runs;
	uint64_t seed = first_seed(&runs);

	(void) state;
	for (int run = 0; run < runs; run++, seed++) {
		kv_client *c;
		Fake a, b;

		new_cluster(seed, 30);
		start_pair(&a, &b);
		assert_int_equal(kv_connect(&c, fake_uri(&a, &b, "?timeout=20s"), NULL), KV_OK);
		for (int i = 1; i <= WRITES; i++) {
			int64_t result = 0;
			uint64_t version = 0;
			int code = kv_incr(c, kv_str("n"), 1, NULL, &result, &version);

			if (code != KV_OK || result != i || version != 1000 + (uint64_t) i)
				fail_msg("seed %llu: write %d gave %s and %lld (%s)", (unsigned long long) seed, i, kv_code_name(code),
					(long long) result, kv_error());
		}
		assert_int_equal(cluster.counter, WRITES);
		assert_int_equal(cluster.sessions, 1);
		assert_true(cluster.copies > 0);
		kv_close(c);
		fake_stop(&a);
		fake_stop(&b);
	}
}

/* Deep pipelines, reads between; each reply comes once and in order, each number once. */
static void
test_pipeline_once(void **state)
{
	int runs;
	uint64_t seed = first_seed(&runs);

	(void) state;
	for (int run = 0; run < runs; run++, seed++) {
		static bool seen[WRITES + 1];
		int appended = 0, taken = 0;
		kv_client *c;
		kv_reply r;
		Fake a, b;

		memset(seen, 0, sizeof seen);
		new_cluster(seed, 3);
		start_pair(&a, &b);
		assert_int_equal(kv_connect(&c, fake_uri(&a, &b, "?timeout=20s"), NULL), KV_OK);
		while (taken < WRITES) {
			if (appended < WRITES && appended - taken < 1 + (int) (seed * 37 % 100)) {
				int code = appended % 5 == 4 ? kv_append_get(c, kv_str("k05"), NULL)
					: kv_append_incr(c, kv_str("n"), 1, NULL);

				if (code == KV_OK)
					appended++;
				else if (code != KV_BUSY)
					fail_msg("seed %llu: append %d: %s", (unsigned long long) seed, appended, kv_error());
				if (code == KV_OK)
					continue;
			}
			assert_int_equal(kv_get_reply(c, &r), KV_OK);
			if (r.code != KV_OK)
				fail_msg("seed %llu: reply %d is %s: %s", (unsigned long long) seed, taken, kv_code_name(r.code),
					kv_error());
			assert_int_equal(r.command, taken % 5 == 4 ? PROTO_GET : PROTO_INCR);
			if (taken % 5 == 4)
				assert_memory_equal(r.value.data, "v05", 3);
			else {
				assert_in_range(r.integer, 1, WRITES);
				assert_false(seen[r.integer]);
				seen[r.integer] = true;
			}
			taken++;
		}
		assert_int_equal(cluster.counter, WRITES * 4 / 5);
		assert_int_equal(cluster.sessions, 1);
		kv_close(c);
		fake_stop(&a);
		fake_stop(&b);
	}
}

/* ---- what is said at the end ---------------------------------------------- */

static int always; /* what a steady server does with each write */
static int then;   /* ... and with the second and later copies */

static void
steady(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h)) {
		if (h.type == PROTO_SESSION ? !answer_session(fd, &h, get_u64(f->last.data + 8))
			: !treat(f, fd, &h, f->requests == 1 ? always : then))
			return;
	}
}

static void
check_end(int first, int later, int code, int64_t counter)
{
	for (int pipelined = 0; pipelined < 2; pipelined++) {
		uint64_t start = clock_mono_ns();
		kv_client *c;
		kv_reply r = { 0 };
		int got;
		Fake f;

		always = first;
		then = later;
		new_cluster(1, 0);
		fake_start(&f, steady);
		if (code != KV_OK) /* the deadline ends the call */
			atomic_store(&still_ns, start);
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, code == KV_OK ? LONG : SHORT), NULL), KV_OK);
		if (pipelined) {
			assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_OK);
			assert_int_equal(kv_get_reply(c, &r), KV_OK);
			got = r.code;
		} else
			got = kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL);
		if (got != code)
			fail_msg("%d, then %d, pipelined %d: %s (%s) instead of %s", first, later, pipelined, kv_code_name(got),
				kv_error(), kv_code_name(code));
		if (code != KV_OK)
			assert_true(f.requests >= 2);
		assert_true(clock_mono_ns() - start < (code == KV_OK ? 15000 : SHORT_MS + 1) * UINT64_C(1000000));
		atomic_store(&still_ns, 0);
		assert_int_equal(cluster.counter, counter);
		kv_close(c);
		fake_stop(&f);
	}
}

static void
test_ends(void **state)
{
	(void) state;
	check_end(GOOD, GOOD, KV_OK, 1);
	check_end(DROP_BEFORE, GOOD, KV_OK, 1);
	check_end(DROP_AFTER, GOOD, KV_OK, 1);
	check_end(UNKNOWN_NOT, GOOD, KV_OK, 1);
	/* Nobody can tell. */
	check_end(DROP_BEFORE, DROP_BEFORE, KV_OUTCOME_UNKNOWN, 0);
	check_end(DROP_AFTER, NOT_LEADER, KV_OUTCOME_UNKNOWN, 1);
	check_end(DROP_AFTER, BUSY, KV_OUTCOME_UNKNOWN, 1);
	check_end(UNKNOWN_DONE, NO_ROOM, KV_OUTCOME_UNKNOWN, 1);
	/* Certainly not done: each copy was refused. */
	check_end(NOT_LEADER, NOT_LEADER, KV_NOT_LEADER, 0);
	check_end(BUSY, BUSY, KV_BUSY, 0);
	check_end(NO_ROOM, NO_ROOM, KV_TIMEOUT, 0);
	check_end(NOT_LEADER, BUSY, KV_BUSY, 0);
}

/* ---- sessions that end ---------------------------------------------------- */

/* The first write is dropped, done or not; then the cluster has forgotten the session. */
static void
forgetful(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h)) {
		if (h.type == PROTO_SESSION)
			(void) answer_session(fd, &h, get_u64(f->last.data + 8));
		else if (f->requests == 1) {
			pthread_mutex_lock(&cluster.lock);
			cluster.session += 7;
			pthread_mutex_unlock(&cluster.lock);
			if (always == DROP_BEFORE)
				return;
			(void) fake_error(fd, &h, ST_SESSION_EXPIRED, 0, "forgotten");
		} else if (!treat(f, fd, &h, GOOD))
			return;
	}
}

static void
test_session_ends(void **state)
{
	(void) state;
	for (int doubt = 0; doubt < 2; doubt++) {
		kv_client *c;
		Fake f;

		always = doubt ? DROP_BEFORE : GOOD;
		new_cluster(1, 0);
		fake_start(&f, forgetful);
		assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
		/* Refused when it came for the first time: not done, so done now. With a copy in doubt it must not be. */
		assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), doubt ? KV_OUTCOME_UNKNOWN : KV_OK);
		assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
		assert_int_equal(f.sessions, 2);
		assert_int_equal(cluster.counter, doubt ? 1 : 2);
		kv_close(c);
		fake_stop(&f);
	}
}

static void
drop_first(Fake *f, int fd, int n)
{
	if (n > 0)
		f->cluster = 1; /* somebody else's servers stand there now */
	always = DROP_AFTER;
	then = GOOD;
	steady(f, fd, n);
}

static void
test_other_cluster(void **state)
{
	kv_client *c;
	Fake f;

	(void) state;
	new_cluster(1, 0);
	fake_start(&f, drop_first);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OUTCOME_UNKNOWN);
	assert_int_equal(f.requests, 1); /* its stamp would say something else there */
	assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
	assert_int_equal(f.sessions, 2);
	kv_close(c);
	fake_stop(&f);
}

/* ---- bounds and defaults -------------------------------------------------- */

static void
test_window(void **state)
{
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	new_cluster(1, 0);
	fake_start(&f, moody);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
	for (int round = 0; round < 3; round++) {
		while (kv_outstanding(c) - (size_t) round < PROTO_SESSION_WINDOW) /* what was taken are writes */
			assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_OK);
		assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_BUSY);
		assert_int_equal(kv_append_get(c, kv_str("k00"), NULL), KV_OK); /* has no number */
		for (int i = 0; i < 2 + round; i++) {
			assert_int_equal(kv_get_reply(c, &r), KV_OK);
			assert_int_equal(r.code, KV_OK);
		}
	}
	while (kv_outstanding(c) > 0) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		assert_int_equal(r.code, KV_OK);
	}
	kv_close(c);
	fake_stop(&f);
}

/* Requests are kept to be sent again, but not without bound; one of any size fits. */
static void
test_kept_bytes(void **state)
{
	size_t size = 4u << 20;
	char *value = calloc(1, size);
	int fit = 0;
	kv_client *c;
	kv_reply r;
	Fake f;

	(void) state;
	assert_non_null(value);
	new_cluster(1, 0);
	fake_start(&f, moody);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, LONG), NULL), KV_OK);
	while (kv_append_put(c, kv_str("k"), (kv_bytes){ value, size }, NULL) == KV_OK)
		fit++;
	assert_int_equal(fit, 4); /* 16 MiB and what is around them */
	while (kv_outstanding(c) > 0) {
		assert_int_equal(kv_get_reply(c, &r), KV_OK);
		assert_int_equal(r.code, KV_OK);
	}
	assert_int_equal(kv_append_put(c, kv_str("k"), (kv_bytes){ value, size }, NULL), KV_OK);
	assert_int_equal(kv_get_reply(c, &r), KV_OK);
	kv_close(c);
	fake_stop(&f);
	free(value);
}

static void
check_stamped(const char *options, bool two, int ack, bool stamped)
{
	kv_write_options o = { .ack = ack };
	kv_client *c;
	Fake a, b;

	new_cluster(1, 0);
	start_pair(&a, &b);
	assert_int_equal(kv_connect(&c, fake_uri(&a, two ? &b : NULL, options), NULL), KV_OK);
	(void) kv_put(c, kv_str("k"), kv_str("v"), &o, NULL);
	assert_int_equal(cluster.unstamped, !stamped);
	assert_int_equal(cluster.sessions, stamped);
	kv_close(c);
	fake_stop(&a);
	fake_stop(&b);
}

static void
test_defaults(void **state)
{
	(void) state;
	check_stamped("", false, KV_ACK_DEFAULT, false);
	check_stamped("", true, KV_ACK_DEFAULT, true);
	check_stamped("?retry=yes", false, KV_ACK_DEFAULT, true);
	check_stamped("?retry=no", true, KV_ACK_DEFAULT, false);
	check_stamped("?retry=yes&ack=local", true, KV_ACK_DEFAULT, false);
	check_stamped("?retry=yes&ack=local", true, KV_ACK_QUORUM, true);
	check_stamped("?retry=yes", true, KV_ACK_NONE, false);
}

/* A host that takes requests and is silent is left for the other one while there is time. */
static void
mute(Fake *f, int fd, int n)
{
	ProtoHeader h;

	(void) n;
	if (!fake_hello(f, fd))
		return;
	while (fake_request(f, fd, &h))
		if (h.type == PROTO_SESSION)
			(void) answer_session(fd, &h, get_u64(f->last.data + 8));
}

static void
test_silent_host(void **state)
{
	(void) state;
	for (int pipelined = 0; pipelined < 2; pipelined++) {
		kv_client *c;
		kv_reply r;
		Fake a, b;

		new_cluster(1, 0);
		fake_start(&a, mute);
		fake_start(&b, moody);
		assert_int_equal(kv_connect(&c, fake_uri(&a, &b, "?timeout=12s"), NULL), KV_OK);
		if (pipelined) {
			assert_int_equal(kv_append_put(c, kv_str("k"), kv_str("v"), NULL), KV_OK);
			assert_int_equal(kv_get_reply(c, &r), KV_OK);
			assert_int_equal(r.code, KV_OK);
		} else
			assert_int_equal(kv_put(c, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK);
		assert_int_equal(a.requests, 1);
		assert_int_equal(cluster.counter, 1);
		kv_close(c);
		fake_stop(&a);
		fake_stop(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_once), cmocka_unit_test(test_pipeline_once), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_session_ends), cmocka_unit_test(test_other_cluster), cmocka_unit_test(test_window),
		cmocka_unit_test(test_kept_bytes), cmocka_unit_test(test_defaults), cmocka_unit_test(test_silent_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
