/*
 * fuzz_client.c - what clients send, to a backend over the whole engine, in this process.
 *
 * The bytes go through the dispatcher as they are, and once more with length and checksum of each frame made
 * right. Every answer has to be a whole frame. The engine, its disk, its clock and its sleep are kvmodel's
 * (src/test/model/engine.c), so that nothing waits.
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/mman.h>

#include "../../backend/session.h"
#include "../../storage/kvstore_internal.h"
#include "backend/backend.h"
#include "common/elog.h"
#include "faultfs.h"
#include "fuzz.h"
#include "ipc/latency.h"
#include "ipc/nodestate.h"
#include "ipc/procslot.h"
#include "model.h"
#include "replication/replstate.h"

#define IDLE_EVERY 64 /* inputs, then the background workers have a turn */
#define MERGE_EVERY 65536 /* and all is merged: hundreds of small tables would make it slow, and try nothing new */

/* CONFIG has the postmaster read its files again; here the parent is whoever runs us, whom SIGHUP would end. */
void __wrap_child_signal(pid_t pid, int signo);
void
__wrap_child_signal(pid_t pid, int signo)
{
	(void) pid;
	(void) signo;
}

static void *
memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FUZZ_CHECK(p != MAP_FAILED);
	return p;
}

static void
start(void)
{
	ReplView v = { .self = 1, .leader = 1, .election_ms = 1000 };
	int slots;
	Prng g;

	world_make();
	world->tell = true;
	run_begin(1, &g);
	world->set.memtable_size = 8 * MB;
	world->set.segment_size = 262144;
	world->set.retention_ms = 0;
	fs = &disk_fs;
	engine_create();
	FUZZ_MUST(engine_open());
	FUZZ_MUST(engine_start());
	slots = procslot_count();
	latency_shmem_init(memory(latency_shmem_size()));
	nodestate_shmem_init(memory(nodestate_shmem_size()));
	replstate_shmem_init(memory(replstate_shmem_size(slots)), slots);
	backend_shmem_init(memory(backend_shmem_size(slots)), slots);
	atomic_store(&nodestate()->role, NODE_LEADER);
	replstate_publish(&v);
}

static void
check_answers(Slice out)
{
	while (out.len > 0) {
		ProtoHeader h;

		FUZZ_CHECK(out.len >= PROTO_HEADER_SIZE);
		proto_get_header(out.data, &h);
		FUZZ_CHECK(h.length <= out.len - PROTO_HEADER_SIZE && proto_crc_ok(out.data, &h));
		out = slice_of(out.data + PROTO_HEADER_SIZE + h.length, out.len - PROTO_HEADER_SIZE - h.length);
	}
}

/* A connection that sends all of this at once. */
static void
talk(const uint8_t *data, size_t size, bool greeted)
{
	Session s = { .fd = -1, .hello_done = greeted };

	FUZZ_MUST(buf_append(&s.in, data, size));
	(void) !session_handle(&s);
	check_answers(slice_buf(&s.out));
	FUZZ_CHECK(!s.reading);
	buf_free(&s.in);
	buf_free(&s.out);
	buf_free(&s.key);
	write_run_free(&s.run);
	forward_end(&s.forward);
}

static void
repair(uint8_t *p, size_t size)
{
	while (size >= PROTO_HEADER_SIZE) {
		ProtoHeader h;

		proto_get_header(p, &h);
		if (h.length > size - PROTO_HEADER_SIZE)
			h.length = (uint32_t) (size - PROTO_HEADER_SIZE);
		proto_put_header(p, h.length, h.id, h.type, 0);
		p += PROTO_HEADER_SIZE + h.length;
		size -= PROTO_HEADER_SIZE + h.length;
	}
}

static void
idle(void)
{
	static unsigned inputs;
	uint32_t ms;

	if (++inputs % IDLE_EVERY != 0)
		return;
	engine_wait(1000);
	engine_apply_all();
	FUZZ_MUST(kvstore_walwriter_step(&ms));
	if (inputs % MERGE_EVERY == 0)
		atomic_fetch_add(&kvs->compact_wanted, 1);
	engine_compact();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (world == NULL)
		start();
	copy = malloc(size + 1);
	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data, size);
	talk(copy, size, size % 2 == 0);
	repair(copy, size);
	talk(copy, size, true);
	free(copy);
	idle();
	return 0;
}

/* ---- one request of each command */
static void
add_frame(Buf *b, uint8_t command, Slice payload)
{
	size_t at;

	FUZZ_MUST(proto_begin(b, &at));
	FUZZ_MUST(buf_append_slice(b, payload));
	proto_finish(b, at, command, command, 0);
}

void
fuzz_seeds(FuzzAdd add)
{
	/* Prefix of 16 zero bytes, then what most commands begin with: lengths, a key, a value. */
	static uint8_t payload[64] = { [16] = 3, [20] = 2, [32] = 'k', [33] = 'e', [34] = 'y', [35] = 'v' };
	Buf all = { 0 }, one = { 0 };

	for (uint8_t c = 0; c < PROTO_COMMANDS; c++) {
		for (size_t len = 0; len <= sizeof payload; len += 16) {
			buf_clear(&one);
			add_frame(&one, c, slice_of(payload, len));
			add(one.data, one.len);
		}
		add_frame(&all, c, slice_of(payload, 40));
	}
	add(all.data, all.len);
	buf_free(&all);
	buf_free(&one);
}
