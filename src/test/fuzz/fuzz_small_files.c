/*
 * fuzz_small_files.c - CURRENT, kvd.control, wal/mark, vote file, members file, COMPLETE and PLAN of fetched
 * tables: each as it is and with its checksum made right.
 *
 * The first byte of an input says which.
 */
#include "../../replication/fetch_internal.h"
#include "../../storage/lsm/lsm_internal.h"
#include "../../storage/wal/wal_internal.h"
#include "fuzz.h"
#include "replication/membership.h"
#include "replication/votefile.h"
#include "storage/control.h"

typedef enum Which { CURRENT, CONTROL, MARK, VOTE, MEMBERS, COMPLETE, PLAN, WHICH } Which;

#define INCARNATION UINT64_C(0x1122334455667788)
#define VOTE_COPY VOTEFILE_0
#define COMPLETE_FILE FETCH_INCOMING "/COMPLETE"
#define PLAN_FILE FETCH_INCOMING "/PLAN"

static const Control cluster = { .cluster_id = { 1, 2, 3 } };

static void
read_current(const uint8_t *data, size_t size)
{
	uint64_t number;

	fuzz_file(LSM_CURRENT, data, size);
	(void) !manifest_current(&number);
}

static void
read_control(const uint8_t *data, size_t size)
{
	Control c;

	fuzz_file(CONTROL_FILE, data, size);
	if (control_read(&c) == ST_OK)
		FUZZ_CHECK(c.wal_segment_size >= CONTROL_SEGMENT_MIN && c.wal_segment_size <= CONTROL_SEGMENT_MAX);
}

static void
read_mark(const uint8_t *data, size_t size)
{
	WalMark m;
	int slot;

	fuzz_file(WAL_MARK_FILE, data, size);
	(void) !wal_mark_read(&m, &slot);
}

static void
read_members(const uint8_t *data, size_t size)
{
	Membership m;
	Lsn at;

	fuzz_file(MEMBERSHIP_FILE, data, size);
	(void) !membership_file_read(&m, &at);
	(void) !membership_decode(slice_of(data, size), &m);
}

static void
read_vote(const uint8_t *data, size_t size)
{
	Vote v;

	fuzz_file(VOTE_COPY, data, size);
	(void) !votefile_read(INCARNATION, &v);
	(void) !votefile_check(0, INCARNATION);
}

static void
read_complete(const uint8_t *data, size_t size)
{
	FetchComplete c;

	fuzz_file(COMPLETE_FILE, data, size);
	(void) !fetch_read_complete(&c, &cluster);
}

static void
read_plan(const uint8_t *data, size_t size)
{
	TransferPlan p;

	fuzz_file(PLAN_FILE, data, size);
	(void) !fetch_read_plan(&p);
}

/* Where the checksum of each stands, and what it covers. */
static void
repair(Which which, uint8_t *p, size_t size)
{
	if (which == CONTROL && size >= 60)
		put_u32(p + 56, crc32c(0, p, 56));
	if (which == MARK && size >= 40)
		put_u32(p + 4, crc32c(0, p + 8, 32));
	if (which == MEMBERS && size >= 28) {
		put_u32(p + 12, (uint32_t) (size - 28));
		put_u32(p + size - 4, crc32c(0, p, size - 4));
	}
	if ((which == VOTE && size >= 8) || ((which == COMPLETE || which == PLAN) && size >= 16))
		put_u32(p + size - 4, crc32c(0, p, size - 4));
}

static void (*const read_it[WHICH])(const uint8_t *data, size_t size) = {
	[CURRENT] = read_current, [CONTROL] = read_control, [MARK] = read_mark,
	[VOTE] = read_vote,       [MEMBERS] = read_members, [COMPLETE] = read_complete,
	[PLAN] = read_plan,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	Which which;

	if (size == 0)
		return 0;
	fuzz_dir(WAL_DIR);
	fuzz_dir(FETCH_INCOMING);
	which = (Which) (data[0] % WHICH);
	copy = malloc(size);
	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	read_it[which](copy, size - 1);
	repair(which, copy, size - 1);
	read_it[which](copy, size - 1);
	free(copy);
	return 0;
}

static FuzzAdd add_to;
static uint8_t add_which;

static void
add_with_kind(const void *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);

	FUZZ_CHECK(copy != NULL);
	copy[0] = add_which;
	memcpy(copy + 1, data, size);
	add_to(copy, size + 1);
	free(copy);
}

static void
add_file(FuzzAdd add, Which which, const char *path)
{
	add_to = add;
	add_which = (uint8_t) which;
	fuzz_seed_of_file(add_with_kind, path);
}

void
fuzz_seeds(FuzzAdd add)
{
	static const char current[] = "MANIFEST-0000000000000007\n";
	Membership m = { .n = 1 };
	const FetchComplete done = { .flushed = 4096, .term = 3, .log_time = 1000, .repair = true };
	const TransferPlan plan = { .manifest = 7, .first_table = 12 };
	Control c;

	fuzz_dir(WAL_DIR);
	fuzz_dir(FETCH_INCOMING);
	FUZZ_MUST(fetch_mark_complete(&done, &cluster));
	FUZZ_MUST(fetch_write_plan(&plan));
	fuzz_file(LSM_CURRENT, current, sizeof current - 1);
	FUZZ_MUST(control_make(&c, 65536));
	FUZZ_MUST(control_write(&c));
	FUZZ_MUST(wal_create(&c));
	FUZZ_MUST(votefile_create(INCARNATION));
	m.election_ms = 1000;
	m.node[0] = (Member){
		.name = "node1", .incarnation = 5, .voter = true, .peer_address = "h:1", .client_address = "h:2"
	};
	FUZZ_MUST(membership_file_write(&m, 4096));
	add_file(add, CURRENT, LSM_CURRENT);
	add_file(add, CONTROL, CONTROL_FILE);
	add_file(add, MARK, WAL_MARK_FILE);
	add_file(add, VOTE, VOTE_COPY);
	add_file(add, MEMBERS, MEMBERSHIP_FILE);
	add_file(add, COMPLETE, COMPLETE_FILE);
	add_file(add, PLAN, PLAN_FILE);
}
