/* test_membership.c - the body of a CONFIG record and its file: round trip, every cut, every bound. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/fs.h"
#include "replication/membership.h"

static Membership
some(int n)
{
	Membership m = { .n = n, .election_ms = 1000 };

	for (int i = 0; i < n && i < MEMBERSHIP_NODES_MAX; i++) {
		memset(m.node[i].name, 'a' + i, (size_t) (i % 3 == 0 ? MEMBERSHIP_NAME_MAX : 1));
		m.node[i].incarnation = UINT64_C(0x0102030405060708) * (uint64_t) (i + 1);
		m.node[i].voter = i % 2 == 0;
		memset(m.node[i].peer_address, 'p', (size_t) (i % 4 == 0 ? MEMBERSHIP_ADDRESS_MAX : i));
		memset(m.node[i].client_address, 'c', (size_t) (i % 4 == 1 ? MEMBERSHIP_ADDRESS_MAX : i));
	}
	return m;
}

static void
round_trip(void **state)
{
	(void) state;
	for (int n = 1; n <= MEMBERSHIP_NODES_MAX; n++) {
		Membership m = some(n), back;
		Buf b = { 0 };

		assert_int_equal(membership_encode(&m, &b), ST_OK);
		assert_int_equal(membership_decode(slice_buf(&b), &back), ST_OK);
		assert_memory_equal(&m, &back, sizeof m);
		buf_free(&b);
	}
}

static void
the_bytes_are_these(void **state)
{
	static const uint8_t want[] = { 2, 0, 1, 0, 0xe8, 3, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 1, 5, 'n', 'o', 'd', 'e', '1',
		3, 'h', ':', '1', 3, 'h', ':', '2' };
	Membership m = { .n = 1, .election_ms = 1000,
		.node = { { "node1", UINT64_C(0x0102030405060708), true, "h:1", "h:2" } } };
	Buf b = { 0 };

	(void) state;
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
	buf_free(&b);
}

static void
format_1_is_still_read(void **state)
{
	static const uint8_t old[] = { 1, 0, 1, 0, 8, 7, 6, 5, 4, 3, 2, 1, 5, 'n', 'o', 'd', 'e', '1' };
	Membership want = { .n = 1, .election_ms = MEMBERSHIP_ELECTION_MS,
		.node = { { "node1", UINT64_C(0x0102030405060708), true, "", "" } } }, m;

	(void) state;
	assert_int_equal(membership_decode(slice_of(old, sizeof old), &m), ST_OK);
	assert_memory_equal(&m, &want, sizeof m);
}

static void
bounds(void **state)
{
	Membership m = some(MEMBERSHIP_NODES_MAX), out;
	Buf b = { 0 };

	(void) state;
	m.n = 0;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m.n = MEMBERSHIP_NODES_MAX + 1;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	m.node[0].name[0] = '\0';
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	memset(m.node[0].name, 'x', sizeof m.node[0].name); /* no NUL: one too long */
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	m.node[0].name[3] = '@';
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	memset(m.node[0].client_address, 'x', sizeof m.node[0].client_address);
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	m.node[0].incarnation = 0;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(1);
	m.election_ms = 0;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(3);
	m.node[2].incarnation = m.node[0].incarnation;
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	m = some(3);
	memcpy(m.node[2].name, m.node[0].name, sizeof m.node[0].name);
	assert_int_equal(membership_encode(&m, &b), ST_OUT_OF_RANGE);
	buf_clear(&b);
	m = some(2);
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	b.data[0] = MEMBERSHIP_FORMAT + 1;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_BAD_VERSION);
	b.data[0] = MEMBERSHIP_FORMAT;
	b.data[2] = 0;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	b.data[2] = MEMBERSHIP_NODES_MAX + 1;
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	b.data[2] = 2;
	b.data[18] = '\0'; /* a NUL within a name */
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	buf_free(&b);
}

static void
every_cut_and_one_byte_more(void **state)
{
	Membership m = some(3), out;
	Buf b = { 0 };

	(void) state;
	assert_int_equal(membership_encode(&m, &b), ST_OK);
	for (size_t len = 0; len < b.len; len++)
		assert_int_equal(membership_decode(slice_of(b.data, len), &out), ST_CORRUPT);
	assert_int_equal(buf_append(&b, "", 1), ST_OK);
	assert_int_equal(membership_decode(slice_buf(&b), &out), ST_CORRUPT);
	buf_free(&b);
}

static void
questions(void **state)
{
	Membership m = some(5);

	(void) state;
	assert_ptr_equal(membership_find(&m, m.node[3].incarnation), &m.node[3]);
	assert_null(membership_find(&m, 1));
	assert_ptr_equal(membership_named(&m, "e"), &m.node[4]);
	assert_null(membership_named(&m, "ee"));
	assert_int_equal(membership_voters(&m), 3);
	assert_false(membership_alone(&m, m.node[0].incarnation));
	m.n = 1;
	assert_true(membership_alone(&m, m.node[0].incarnation));
	assert_false(membership_alone(&m, m.node[1].incarnation));
}

static void
the_file_comes_back_and_every_damage_shows(void **state)
{
	Membership m = some(3), back;
	char *good;
	size_t len;
	Lsn at;

	(void) state;
	assert_int_equal(membership_file_read(&back, &at), ST_NOT_FOUND);
	assert_int_equal(membership_file_write(&m, 4711), ST_OK);
	assert_int_equal(membership_file_read(&back, &at), ST_OK);
	assert_int_equal(at, 4711);
	assert_memory_equal(&m, &back, sizeof m);
	assert_int_equal(fs_read_file(MEMBERSHIP_FILE, 65536, &good, &len), ST_OK);
	for (size_t i = 0; i < len; i++) {
		good[i] ^= 0x10;
		assert_int_equal(fs_replace_file(MEMBERSHIP_FILE, good, len), ST_OK);
		assert_true(membership_file_read(&back, &at) != ST_OK);
		good[i] ^= 0x10;
		assert_int_equal(fs_replace_file(MEMBERSHIP_FILE, good, i), ST_OK);
		assert_int_equal(membership_file_read(&back, &at), ST_CORRUPT);
	}
	free(good);
	assert_int_equal(fs_unlink(MEMBERSHIP_FILE), ST_OK);
}

static int
enter(void **state)
{
	static char dir[256];
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof dir, "%s/kvd_membership.XXXXXX", tmp != NULL ? tmp : "/tmp");
	*state = dir;
	return mkdtemp(dir) == NULL || chdir(dir) != 0 ? -1 : 0;
}

static int
leave(void **state)
{
	return chdir("/") != 0 || rmdir(*state) != 0 ? -1 : 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(the_bytes_are_these),
		cmocka_unit_test(format_1_is_still_read),
		cmocka_unit_test(questions),
		cmocka_unit_test_setup_teardown(the_file_comes_back_and_every_damage_shows, enter, leave),
		cmocka_unit_test(bounds),
		cmocka_unit_test(every_cut_and_one_byte_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
