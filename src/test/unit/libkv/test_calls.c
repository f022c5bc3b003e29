/*
 * test_calls.c - every call against a server that behaves, and what goes over the wire.
 */
#include "fake_server.h"

static void
test_keys(void **state)
{
	kv_client *c;
	kv_value v = { 0 };
	kv_info info;
	uint64_t version = 0, ns = 0;
	int64_t n = 0;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s"), "test"), KV_OK);
	kv_get_info(c, &info);
	assert_true(info.connected && info.role == KV_ROLE_LEADER && info.term == 7 && info.port == f.port);
	assert_string_equal(info.server_version, "0.1.0");
	assert_int_equal(kv_get(c, kv_str("k03"), NULL, &v), KV_OK);
	assert_string_equal((char *) v.data, "v03");
	assert_int_equal(v.version, 100);
	assert_int_equal(kv_get(c, kv_str("x"), NULL, &v), KV_NOT_FOUND);
	assert_string_equal(kv_error(), "no such key");
	assert_int_equal(kv_put(c, kv_str("a"), kv_str("b"), NULL, &version), KV_OK);
	assert_int_equal(version, 100);
	assert_int_equal(kv_delete(c, kv_str("a"), NULL, NULL), KV_OK);
	assert_int_equal(kv_incr(c, kv_str("a"), -5, NULL, &n, NULL), KV_OK);
	assert_int_equal(n, -4);
	assert_int_equal(kv_ping(c, &ns), KV_OK);
	assert_true(ns > 0);
	assert_int_equal(kv_stats(c, "wal.", &v), KV_OK);
	assert_string_equal((char *) v.data, "wal.");
	assert_int_equal(kv_config_set(c, "port", "1", &v), KV_OK);
	assert_memory_equal(v.data, "\1\0\0\0port=1", 11);
	assert_int_equal(kv_checkpoint(c, 1, 0, &version), KV_OK);
	assert_int_equal(f.connections, 1);
	kv_value_free(&v);
	kv_close(c);
	fake_stop(&f);
}

/* The bytes of a put with everything, as doc/protocol.md lays them out. */
static void
test_wire(void **state)
{
	static const uint8_t op[] = { 1, 3, 1, 0, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0,
		'k', 'e', 'y', 'v', 'a', 9, 0, 0, 0, 0, 0, 0, 0 };
	kv_write_options o = { .condition = KV_IF_VERSION, .if_version = 9, .ttl_ms = 1000 };
	kv_value v = { 0 };
	kv_age age;
	kv_client *c;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, "?timeout=20s&ack=local&read=local"), NULL), KV_OK);
	assert_int_equal(kv_put(c, kv_str("key"), kv_str("va"), &o, NULL), KV_OK);
	assert_int_equal(f.last.len, 8 + sizeof op);
	assert_int_equal(get_u32(f.last.data), 0); /* a condition needs quorum, whatever the handle says */
	assert_in_range(get_u32(f.last.data + 4), 1, 20000);
	assert_memory_equal(f.last.data + 8, op, sizeof op);
	assert_int_equal(kv_put(c, kv_str("key"), kv_str("va"), NULL, NULL), KV_OK);
	assert_int_equal(get_u32(f.last.data), 1);
	assert_int_equal(kv_get(c, kv_str("k00"), &(kv_read_options){ .at_least = 77 }, &v), KV_OK);
	kv_value_free(&v);
	assert_int_equal(get_u32(f.last.data), 1);
	assert_int_equal(get_u64(f.last.data + 8), 77);
	assert_int_equal(kv_get_local(c, kv_str("k07"), &(kv_read_options){ .at_least = 78 }, &v, &age), KV_OK);
	assert_int_equal(get_u32(f.last.data), 2);
	assert_int_equal(get_u64(f.last.data + 8), 78);
	assert_true(v.len == 3 && memcmp(v.data, "v07", 3) == 0 && age.position == 4712 && age.lag_ms == 13);
	assert_int_equal(kv_get_local(c, kv_str("x"), NULL, &v, &age), KV_NOT_FOUND);
	assert_true(age.position == 4711 && age.lag_ms == KV_LAG_UNKNOWN);
	assert_int_equal(kv_get_local(c, kv_str("k07"), NULL, &v, NULL), KV_OK);
	kv_value_free(&v);
	o.ack = KV_ACK_NONE;
	assert_int_equal(kv_put(c, kv_str("key"), kv_str("va"), &o, NULL), KV_USAGE);
	kv_close(c);
	fake_stop(&f);
}

static void
test_ranges(void **state)
{
	kv_scan_options o = { .range = { .start = kv_str("k01"), .end = kv_str("k09") } };
	kv_client *c;
	kv_iter *it;
	kv_item item;
	uint64_t n = 0;
	char seen[64] = "";
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	for (int reverse = 0; reverse < 2; reverse++) {
		o.reverse = reverse;
		seen[0] = '\0';
		assert_int_equal(kv_scan(c, &o, &it), KV_OK);
		while (kv_iter_next(it, &item) == KV_OK) {
			assert_memory_equal((const char *) item.key.data + 1, (const char *) item.value.data + 1, 2);
			strncat(seen, (const char *) item.key.data + 2, 1);
		}
		assert_string_equal(seen, reverse ? "87654321" : "12345678");
		assert_int_equal(kv_iter_snapshot(it), 4711);
		kv_iter_free(it);
	}
	o = (kv_scan_options){ .reverse = 1 };
	assert_int_equal(kv_scan(c, &o, &it), KV_OK);
	for (n = 0; kv_iter_next(it, &item) == KV_OK; n++)
		assert_int_equal(((const char *) item.key.data)[2], '9' - (char) n);
	kv_iter_free(it);
	assert_int_equal(n, 10);
	o = (kv_scan_options){ .limit = 4, .keys_only = 1 };
	assert_int_equal(kv_scan(c, &o, &it), KV_OK);
	for (n = 0; kv_iter_next(it, &item) == KV_OK; n++)
		assert_int_equal(item.value.len, 0);
	kv_iter_free(it);
	assert_int_equal(n, 4);
	assert_int_equal(kv_count(c, &(kv_range){ { NULL, 0 }, { NULL, 0 }, { NULL, 0 } }, NULL, &n), KV_OK);
	assert_int_equal(n, 10);
	assert_int_equal(kv_delete_range(c, &(kv_range){ .prefix = kv_str("k0") }, NULL, &n), KV_OK);
	assert_int_equal(n, 10);
	assert_int_equal(kv_count(c, &(kv_range){ .start = kv_str("b"), .end = kv_str("a") }, NULL, &n), KV_OK);
	assert_int_equal(n, 0);
	kv_close(c);
	fake_stop(&f);
}

/* The operation is the last thing in the request: kind 4, the start as key, the end as value. */
static void
expect_drop(const Fake *f, const char *start, const char *end)
{
	size_t n = strlen(start) + strlen(end);
	const uint8_t *op = f->last.data + f->last.len - n - PROTO_OP_HEADER;

	assert_int_equal(op[0], PROTO_OP_DELETE_RANGE);
	assert_int_equal(get_u32(op + 4), strlen(start));
	assert_int_equal(get_u32(op + 8), strlen(end));
	assert_memory_equal(op + PROTO_OP_HEADER, start, strlen(start));
	assert_memory_equal(op + PROTO_OP_HEADER + strlen(start), end, strlen(end));
}

static void
test_drop_range(void **state)
{
	kv_range prefix = { .prefix = kv_str("k0") }, all = { .start = { NULL, 0 } };
	kv_range none = { .start = kv_str("b"), .end = kv_str("a") };
	kv_batch *b = kv_batch_new();
	uint64_t version = 0;
	kv_reply reply;
	kv_client *c;
	size_t bytes;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	assert_int_equal(kv_drop_range(c, &prefix, NULL, &version), KV_OK);
	assert_true(version > 0);
	expect_drop(&f, "k0", "k1");
	assert_int_equal(kv_drop_range(c, &all, NULL, NULL), KV_OK);
	expect_drop(&f, "", "");
	assert_int_equal(kv_drop_range(c, &none, NULL, &version), KV_USAGE);
	assert_int_equal(kv_append_drop_range(c, &none, NULL), KV_USAGE);
	assert_int_equal(kv_append_drop_range(c, &prefix, NULL), KV_OK);
	assert_int_equal(kv_get_reply(c, &reply), KV_OK);
	assert_int_equal(reply.code, KV_OK);
	assert_int_equal(reply.command, PROTO_DELETE);
	expect_drop(&f, "k0", "k1");
	for (int i = 0; i < KV_BATCH_RANGES_MAX; i++)
		assert_int_equal(kv_batch_drop_range(b, &prefix), KV_OK);
	bytes = kv_batch_bytes(b);
	assert_int_equal(kv_batch_drop_range(b, &prefix), KV_BATCH_TOO_LARGE);
	assert_int_equal(kv_batch_bytes(b), bytes);
	kv_batch_clear(b);
	assert_int_equal(kv_batch_drop_range(b, &none), KV_USAGE);
	assert_int_equal(kv_batch_bytes(b), 0);
	assert_int_equal(kv_batch_drop_range(b, &prefix), KV_OK);
	assert_int_equal(kv_batch_write(c, b, NULL, &version, NULL), KV_OK);
	expect_drop(&f, "k0", "k1");
	kv_batch_free(b);
	kv_close(c);
	fake_stop(&f);
}

/* Pages, also empty ones, that end because the server has looked at enough. */
static void
test_pages_that_end_early(void **state)
{
	kv_client *c;
	kv_iter *it;
	kv_item item;
	uint64_t n = 0;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	f.sparse = true;
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	for (int reverse = 0; reverse < 2; reverse++) {
		kv_scan_options o = { .reverse = reverse };
		char seen[64] = "";

		assert_int_equal(kv_scan(c, &o, &it), KV_OK);
		while (kv_iter_next(it, &item) == KV_OK)
			strncat(seen, (const char *) item.key.data + 2, 1);
		assert_string_equal(seen, reverse ? "9630" : "0369");
		kv_iter_free(it);
	}
	assert_int_equal(kv_count(c, &(kv_range){ .prefix = kv_str("k") }, NULL, &n), KV_OK);
	assert_int_equal(n, 4);
	kv_close(c);
	fake_stop(&f);
}

static void
test_mget(void **state)
{
	kv_bytes keys[5] = { kv_str("k01"), kv_str("nope"), kv_str("k03"), kv_str("k04"), kv_str("zz") };
	kv_items items;
	kv_client *c;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	assert_int_equal(kv_mget(c, keys, 5, NULL, &items), KV_OK);
	assert_int_equal(f.requests, 3); /* the fake answers two keys at a time */
	assert_int_equal(get_u64(f.last.data + 8), 98); /* at least what the first answer saw */
	assert_true(items.items[0].found && !items.items[1].found && items.items[3].found && !items.items[4].found);
	assert_memory_equal(items.items[3].value.data, "v04", 3);
	kv_items_free(&items);
	assert_int_equal(kv_mget(c, keys, 0, NULL, &items), KV_OK);
	kv_items_free(&items);
	kv_close(c);
	fake_stop(&f);
}

/* What is too large is refused before it travels; a batch that refused an operation is still whole. */
static void
test_limits(void **state)
{
	char *big = calloc(1, KV_VALUE_MAX + 1);
	kv_batch *b = kv_batch_new();
	kv_client *c;
	size_t bytes;
	Fake f;

	(void) state;
	assert_true(big != NULL && b != NULL);
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	assert_int_equal(kv_put(c, (kv_bytes){ big, 0 }, kv_str("v"), NULL, NULL), KV_USAGE);
	assert_int_equal(kv_put(c, (kv_bytes){ big, KV_KEY_MAX + 1 }, kv_str("v"), NULL, NULL), KV_KEY_TOO_LARGE);
	assert_int_equal(kv_put(c, kv_str("k"), (kv_bytes){ big, KV_VALUE_MAX + 1 }, NULL, NULL), KV_VALUE_TOO_LARGE);
	assert_int_equal(f.requests, 0);
	assert_int_equal(kv_put(c, (kv_bytes){ big, KV_KEY_MAX }, (kv_bytes){ big, KV_VALUE_MAX }, NULL, NULL), KV_OK);
	assert_int_equal(kv_batch_put(b, (kv_bytes){ big, KV_KEY_MAX }, (kv_bytes){ big, KV_VALUE_MAX }, NULL), KV_OK);
	bytes = kv_batch_bytes(b);
	assert_int_equal(kv_batch_put(b, kv_str("k"), (kv_bytes){ big, 262144 }, NULL), KV_BATCH_TOO_LARGE);
	assert_int_equal(kv_batch_bytes(b), bytes);
	assert_int_equal(kv_batch_write(c, b, NULL, NULL, NULL), KV_OK);
	kv_batch_clear(b);
	assert_int_equal(kv_batch_write(c, b, NULL, NULL, NULL), KV_USAGE);
	for (int i = 0; i < KV_BATCH_OPS_MAX; i++)
		assert_int_equal(kv_batch_delete(b, kv_str("k"), NULL), KV_OK);
	assert_int_equal(kv_batch_delete(b, kv_str("k"), NULL), KV_BATCH_TOO_LARGE);
	assert_int_equal(kv_batch_count(b), KV_BATCH_OPS_MAX);
	kv_batch_free(b);
	kv_close(c);
	fake_stop(&f);
	free(big);
}

static void *
put_many(void *arg)
{
	kv_value v = { 0 };

	for (int i = 0; i < 200; i++) {
		char key[4] = { 'k', '0', (char) ('0' + i % 10), '\0' };

		if (kv_get(arg, kv_str(key), NULL, &v) != KV_OK || memcmp((char *) v.data + 1, key + 1, 2) != 0)
			return arg;
	}
	kv_value_free(&v);
	return NULL;
}

/* Threads that share a handle get their own answers. */
static void
test_threads(void **state)
{
	pthread_t t[4];
	kv_client *c;
	void *failed;
	Fake f;

	(void) state;
	fake_start(&f, fake_polite);
	assert_int_equal(kv_connect(&c, fake_uri(&f, NULL, ""), NULL), KV_OK);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, put_many, c), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	kv_close(c);
	fake_stop(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys), cmocka_unit_test(test_wire), cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_drop_range),
		cmocka_unit_test(test_pages_that_end_early),
		cmocka_unit_test(test_mget), cmocka_unit_test(test_limits), cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
