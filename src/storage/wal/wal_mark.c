/*
 * wal_mark.c - the durable mark: how far the log is known to be synced (rule L6).
 *
 * Tells a torn tail from damage at the next start: an invalid record at or above the mark was being written
 * when the node went down and is cut; one below it was synced once and is damage. Written by the WAL writer,
 * at most MARK_INTERVAL_NS behind, by truncation and by recovery. So the exposure is: damage to bytes synced
 * within the last 50 ms, together with a crash in these 50 ms, is taken for a torn tail.
 *
 * Lock: WAL_SEGMENT guards the file and its copy in shared memory; truncation holds WAL_FLUSH as well.
 *
 * Format of wal/mark, two slots 4096 bytes apart, each (little-endian):
 *	 0  u32  magic    "KVM2"
 *	 4  u32  crc      crc32c of bytes 8..39
 *	 8  u64  epoch
 *	16  u64  durable
 *	24  u64  commit
 *	32  u64  start    the log begins here
 * Read, but not written any more: "KVMK", without start, 32 bytes; that log begins where it was made. A later
 * format has a higher digit: refused, in whichever slot.
 * The newest valid slot counts: higher epoch, then higher durable, then higher commit; that is the order of
 * writing, for within an epoch none of them falls. Equal slots say the same. A write goes to the other slot,
 * so a torn one leaves the older mark, which is only further behind.
 */
#include "common/coding.h"
#include "common/crc32c.h"
#include "common/elog.h"
#include "common/kv_assert.h"
#include "common/process_local.h"
#include "ipc/lwlock.h"
#include "port/clock.h"
#include "port/fs.h"
#include "wal_internal.h"

#define MARK_MAGIC 0x324d564bu     /* "KVM2" */
#define MARK_MAGIC_OLD 0x4b4d564bu /* "KVMK": without start, 32 bytes */
#define MARK_SIZE 40
#define MARK_SIZE_OLD 32
#define MARK_APART 4096 /* a torn write of one never touches the other */
#define MARK_INTERVAL_NS UINT64_C(50000000)
#define MARK_IDLE_NS UINT64_C(10000000) /* nothing flushed for so long: idle */

static PROCESS_LOCAL int mark_fd = -1;

static void
mark_encode(const WalMark *m, uint8_t out[MARK_SIZE])
{
	put_u32(out, MARK_MAGIC);
	put_u64(out + 8, m->epoch);
	put_u64(out + 16, m->durable);
	put_u64(out + 24, m->commit);
	put_u64(out + 32, m->start);
	put_u32(out + 4, crc32c(0, out + 8, MARK_SIZE - 8));
}

static bool
mark_decode(const uint8_t in[MARK_SIZE], WalMark *m)
{
	bool old = get_u32(in) == MARK_MAGIC_OLD;

	if ((!old && get_u32(in) != MARK_MAGIC) ||
		get_u32(in + 4) != crc32c(0, in + 8, (old ? MARK_SIZE_OLD : MARK_SIZE) - 8))
		return false;
	*m = (WalMark){ get_u64(in + 8), get_u64(in + 16), get_u64(in + 24), old ? 0 : get_u64(in + 32) };
	return true;
}

/*
 * A mark of a newer kvd, which knows what this one does not. It would be of another length; what has our checksum
 * is ours with a damaged digit.
 */
static bool
mark_of_later_format(const uint8_t in[MARK_SIZE])
{
	return get_u32(in) << 8 == MARK_MAGIC << 8 && in[3] > MARK_MAGIC >> 24 && in[3] <= '9' &&
	       get_u32(in + 4) != crc32c(0, in + 8, MARK_SIZE - 8);
}

static bool
mark_newer(const WalMark *a, const WalMark *b)
{
	if (a->epoch != b->epoch)
		return a->epoch > b->epoch;
	if (a->durable != b->durable)
		return a->durable > b->durable;
	return a->commit > b->commit;
}

Status
wal_create(const Control *control)
{
	Lsn first = wal_first_lsn(control);
	WalMark m = { 1, first, first, first };
	uint8_t file[2 * MARK_APART] = { 0 };

	mark_encode(&m, file);
	KV_TRY(fs_mkdir(WAL_DIR));
	KV_TRY(fs_replace_file(WAL_MARK_FILE, file, sizeof file));
	return fs_sync_dir(".");
}

Status
wal_mark_read(WalMark *mark, int *slot)
{
	uint8_t file[MARK_APART + MARK_SIZE] = { 0 };
	Status s, closed;
	WalMark m;
	size_t got;
	int fd;

	s = fs_open(WAL_MARK_FILE, FS_READ, &fd);
	if (s == ST_NOT_FOUND)
		return status_fail(ST_CORRUPT, "\"" WAL_MARK_FILE
									   "\" is missing: restore it or the whole directory from a backup");
	KV_TRY(s);
	s = fs_pread(fd, file, sizeof file, 0, &got);
	closed = fs_close(fd);
	KV_TRY(s);
	KV_TRY(closed);
	*slot = -1;
	for (int i = 0; i < 2; i++)
		if (mark_of_later_format(file + i * MARK_APART))
			return status_fail(ST_FOREIGN, "\"" WAL_MARK_FILE "\" has format %c, this kvd knows 2: use a newer kvd",
							   file[i * MARK_APART + 3]);
	for (int i = 0; i < 2; i++)
		if (mark_decode(file + i * MARK_APART, &m) && (*slot < 0 || mark_newer(&m, mark))) {
			*mark = m;
			*slot = i;
		}
	if (*slot < 0)
		return status_fail(ST_CORRUPT,
						   "\"" WAL_MARK_FILE "\" has no valid mark at 0 or %d: restore it or the whole "
						   "directory from a backup",
						   MARK_APART);
	return ST_OK;
}

void
wal_mark_set(const WalMark *mark)
{
	wal_sh->mark = *mark;
	atomic_store_explicit(&wal_sh->mark_commit, mark->commit, memory_order_relaxed);
}

Status
wal_mark_write(const WalMark *mark)
{
	uint8_t raw[MARK_SIZE];
	int slot = 1 - wal_sh->mark_slot;

	KV_ASSERT(mark_newer(mark, &wal_sh->mark));
	mark_encode(mark, raw);
	if (mark_fd < 0)
		KV_TRY(fs_open(WAL_MARK_FILE, FS_WRITE, &mark_fd));
	KV_TRY(fs_pwrite(mark_fd, raw, sizeof raw, (uint64_t) slot * MARK_APART));
	KV_TRY(wal_sync_file(fs_datasync, mark_fd));
	wal_mark_set(mark);
	wal_sh->mark_slot = slot;
	wal_sh->mark_ns = clock_mono_ns();
	return ST_OK;
}

void
wal_mark_close(void)
{
	if (mark_fd >= 0 && fs_close(mark_fd) != ST_OK)
		elog(LOG_LEVEL_WARNING, "\"" WAL_MARK_FILE "\": %s", status_detail()); /* it was synced */
	mark_fd = -1;
}

/* Is it time? In full flow at most once in MARK_INTERVAL_NS, and once more when the flow stops. */
static bool
mark_due(void)
{
	uint64_t flushed = atomic_load(&wal_sh->last_flush_ns), now = clock_mono_ns();

	return now >= wal_sh->mark_ns + MARK_INTERVAL_NS || now >= flushed + MARK_IDLE_NS;
}

/*
 * Nearly never: the WAL writer is at most 50 ms behind. What is inserted is at most a ring ahead of what is applied, so
 * that naming what is committed now is enough.
 */
void
wal_mark_keep_near(Lsn to)
{
	WalMark m;

	if (to - atomic_load_explicit(&wal_sh->mark_commit, memory_order_relaxed) <= wal_sh->ring_bytes / 2)
		return;
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0);
	m = (WalMark){ wal_sh->mark.epoch, wal_durable(), wal_commit(), wal_sh->mark.start };
	if (m.commit > wal_sh->mark.commit && wal_mark_write(&m) != ST_OK)
		elog_panic("cannot write the durable mark: %s", status_detail());
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
}

/* Write what is durable now, if the mark is behind and (due_only) it is time. */
static Status
bring_up(bool due_only, bool *did)
{
	Status s = ST_OK;
	WalMark m;

	*did = false;
	if (atomic_load(&wal_sh->recovered) == 0)
		return ST_OK;
	lwlock_acquire(LWLOCK_WAL_SEGMENT, 0); /* truncation holds it while it lowers durable */
	m = (WalMark){ wal_sh->mark.epoch, wal_durable(), wal_commit(), wal_sh->mark.start };
	if (mark_newer(&m, &wal_sh->mark) && (!due_only || mark_due())) {
		s = wal_mark_write(&m);
		*did = s == ST_OK;
	}
	lwlock_release(LWLOCK_WAL_SEGMENT, 0);
	return s;
}

Status
wal_update_mark(bool *did)
{
	return bring_up(true, did);
}

Status
wal_finish_mark(void)
{
	bool did;

	return bring_up(false, &did);
}
