/*
 * cache.c - the block cache shared by all processes: fixed frames, a hash index, clock replacement.
 *
 * Runs in every process that reads tables. Takes LWLOCK_CACHE (one shard), only to change something;
 * a lookup takes no lock. Needs the caller's epoch pin (ipc/epoch.h).
 *
 * A block (file, offset) belongs to one shard, by hash. A shard has an open-addressed index of 64-bit
 * words and its own frames. A word is {tag:32, frame + 1:32}, 0 = empty; tag is a part of the hash whose
 * low bits are the word's home, so deletion can shift followers back without asking the frames.
 *
 * Life of a frame:  fresh or free -> indexed -> limbo -> free
 *   fill      (lock) content, header, then the index word with release order
 *   evict     (lock) index word removed; header and content stay as they are
 *   retire    (lock) a batch of evicted frames draws one retire epoch, after the last of them left the index
 *   reclaim   (lock) epoch_safe(its retire epoch): the batch is free
 *
 * Invariants:
 *   1. Outside the lock each indexed frame has exactly one word, and no word names any other frame.
 *   2. A frame's header and content change only between reclaim (or birth) and the store of its word.
 *   3. frames = fresh + free + indexed + limbo, in each shard.
 *
 * Why a lookup without the lock never gives a wrong block: let a reader with pin p load word w naming
 * frame f, in some life of f. The store of w released header and content of that life, the load acquired
 * them. To change f again it must be reclaimed, with a retire epoch r drawn after every word naming f was
 * gone. Reclaim needs every pin >= r. If p < r, f does not change before the reader unpins. If p >= r, the
 * pin was taken after r was drawn, so its fence puts the load of w after the removal: that word could not be
 * seen. So header and content are of one life, unchanging, and comparing the header with (file, offset)
 * decides. Tags only save comparisons; equal ones may mislead nobody. A probe's frame was named by a word that
 * was loaded under the same pin, so the same holds for it however much later its header is compared.
 * Why it may miss: shifting back moves words against the reader's direction, so it can pass one, or
 * meet one twice. A miss is only a read from the file; the insert that follows looks again under the lock and
 * takes what it finds. The walk ends after one round of the index at the latest.
 */
#include "common/process_local.h"
#include "storage/cache.h"

#include <stdatomic.h>

#include "common/figure.h"
#include "common/hash.h"
#include "common/kv_assert.h"
#include "ipc/epoch.h"
#include "ipc/lwlock.h"

#define SHARD_FRAMES_MIN 32 /* a smaller cache has fewer shards */
#define BATCH_MAX 32        /* evictions that share one retire epoch */
#define BATCH_MIN 2
#define BATCH_SHARE 64      /* a batch is at most 1/64 of the shard, so that little waits in limbo */
#define RESERVE_BATCHES 3   /* free and limbo are filled up when they fall to this many batches together */
#define LIMBO_BATCHES 4     /* so no more than this ever wait */
#define REFUSED_RECHECK 4   /* with nothing ready, pins are scanned (all slots) at every fourth insert only */
#define HITS_FLUSH 256      /* hits a process counts for itself before it adds them to the shared count */
#define NO_FRAME UINT32_MAX

/* Header fields are written under the shard's lock as invariant 2 says; read by pinned readers without it. */
typedef struct Frame {
	_Alignas(64) _Atomic uint64_t file;
	_Atomic uint64_t offset;
	_Atomic uint32_t len;
	uint32_t next;           /* lock: free list or the limbo batch's chain */
	_Alignas(64) uint8_t data[CACHE_BLOCK_MAX];
} Frame;

typedef struct LimboBatch {
	uint64_t retired;        /* retire epoch */
	uint32_t first, n;
} LimboBatch;

typedef struct Shard {
	/* constant after cache_shmem_init */
	_Alignas(64) _Atomic uint64_t *index;
	Frame *frames;
	/*
	 * Beside the frames, a byte each, so that the clock's hand does not touch every frame it passes. Clock count:
	 * readers raise it, the lock's holder lowers it; lost updates are harmless. Lock: 1 while a word names the frame.
	 */
	_Atomic uint8_t *used;
	uint8_t *indexed_frame;
	uint32_t mask;           /* index words - 1 */
	uint32_t nframes;
	uint32_t batch;
	/* lock */
	_Alignas(64) uint32_t fresh; /* frames from here on were never used */
	uint32_t hand;           /* clock */
	uint32_t free_first, nfree;
	uint32_t limbo_n;        /* frames in limbo */
	uint32_t refused;        /* inserts since a frame was last given */
	uint32_t limbo_head, limbo_tail; /* ring positions, ever increasing */
	LimboBatch limbo[LIMBO_BATCHES];
	/* lock; read without it for statistics: each stands alone */
	_Atomic uint64_t inserts, evictions, indexed;
	/* anyone adds */
	_Atomic uint64_t misses, bypassed;
} Shard;

typedef struct Cache {
	uint32_t nshards;        /* power of two; constant */
	/* any process adds, relaxed; in steps of HITS_FLUSH, so it lags by less than that per process */
	_Alignas(64) _Atomic uint64_t hits;
	Shard shards[LWLOCK_CACHE_SHARDS];
} Cache;

static Cache *cache;          /* NULL: no cache (offline tools): all lookups miss, all inserts are refused */
static PROCESS_LOCAL uint64_t hits_here;    /* not yet in cache->hits */
static PROCESS_LOCAL uint64_t misses_here;  /* not yet in a shard's misses */

#define FRAME_BYTES (sizeof(Frame) + 2) /* and its two bytes in the shard */

/* One line more than 4 KiB: the blocks that a batch looks at do not meet in the same sets of the processor's caches. */
_Static_assert(sizeof(Frame) == CACHE_BLOCK_MAX + 64, "one header line before the block");
_Static_assert((LWLOCK_CACHE_SHARDS & (LWLOCK_CACHE_SHARDS - 1)) == 0, "shards are chosen by mask");

/* ---- layout */

static uint32_t
index_words(uint64_t frames)
{
	uint32_t words = 64;

	while (words < frames * 2)
		words *= 2;
	return words;
}

/* Frames a shard can have in `bytes`, index included. */
static uint32_t
frames_in(size_t bytes)
{
	uint64_t frames = bytes / FRAME_BYTES;

	if (frames > UINT32_C(1) << 30) /* the index has at most 2^31 words: 4 TiB in one shard */
		frames = UINT32_C(1) << 30;
	while (frames > 0 && frames * FRAME_BYTES + index_words(frames) * sizeof(uint64_t) > bytes)
		frames--;
	return (uint32_t) frames;
}

size_t
cache_shmem_size(size_t cache_bytes)
{
	return cache_bytes;
}

static void
shard_init(Shard *s, uint8_t *mem, size_t bytes)
{
	s->nframes = frames_in(bytes);
	KV_ASSERT(s->nframes >= SHARD_FRAMES_MIN / 2);
	s->frames = (Frame *) mem;
	s->index = (_Atomic uint64_t *) (mem + (size_t) s->nframes * sizeof(Frame));
	s->mask = index_words(s->nframes) - 1;
	s->used = (_Atomic uint8_t *) (s->index + s->mask + 1);
	s->indexed_frame = (uint8_t *) (s->used + s->nframes);
	/* Frames may hold anything: nobody comes to one that no word names. */
	memset((void *) s->index, 0, (s->mask + 1) * sizeof *s->index + 2 * (size_t) s->nframes);
	s->batch = s->nframes / BATCH_SHARE;
	s->batch = s->batch < BATCH_MIN ? BATCH_MIN : s->batch > BATCH_MAX ? BATCH_MAX : s->batch;
	s->free_first = NO_FRAME;
}

void
cache_shmem_init(void *mem, size_t cache_bytes)
{
	uint8_t *base = (uint8_t *) (((uintptr_t) mem + 63) & ~(uintptr_t) 63);
	uint8_t *end = (uint8_t *) mem + cache_bytes;
	size_t each;

	KV_ASSERT(cache_bytes >= CACHE_BYTES_MIN);
	cache = (Cache *) base;
	memset(cache, 0, sizeof *cache);
	base += sizeof(Cache);
	cache->nshards = LWLOCK_CACHE_SHARDS;
	while (cache->nshards > 1 && (size_t) (end - base) / cache->nshards / sizeof(Frame) < SHARD_FRAMES_MIN)
		cache->nshards /= 2;
	each = (size_t) (end - base) / cache->nshards & ~(size_t) 63;
	for (uint32_t i = 0; i < cache->nshards; i++, base += each)
		shard_init(&cache->shards[i], base, each);
	hits_here = misses_here = 0;
}

/* ---- index */

static inline uint64_t
block_hash(uint64_t file, uint64_t offset)
{
	return hash_mix(file * UINT64_C(0x9e3779b97f4a7c15) + offset);
}

static inline uint32_t
tag_of(uint64_t hash)
{
	return (uint32_t) hash;
}

static inline uint32_t
shard_of(uint64_t hash)
{
	return (uint32_t) (hash >> 32) & (cache->nshards - 1);
}

static inline bool
frame_is(const Frame *f, uint64_t file, uint64_t offset)
{
	return atomic_load_explicit(&f->offset, memory_order_relaxed) == offset &&
	       atomic_load_explicit(&f->file, memory_order_relaxed) == file;
}

/* The frame that holds the block, or NULL. Without the lock it may miss (see above). */
static Frame *
index_find(const Shard *s, uint32_t tag, uint64_t file, uint64_t offset)
{
	uint32_t i = tag & s->mask;

	for (uint32_t n = 0; n <= s->mask; n++, i = (i + 1) & s->mask) {
		uint64_t w = atomic_load_explicit(&s->index[i], memory_order_acquire);
		Frame *f;

		if (w == 0)
			return NULL;
		if ((uint32_t) (w >> 32) != tag)
			continue;
		f = &s->frames[(uint32_t) w - 1];
		if (frame_is(f, file, offset))
			return f;
	}
	return NULL;
}

static void
index_add(Shard *s, uint32_t tag, uint32_t frame)
{
	uint32_t i = tag & s->mask;

	while (atomic_load_explicit(&s->index[i], memory_order_relaxed) != 0)
		i = (i + 1) & s->mask;
	atomic_store_explicit(&s->index[i], (uint64_t) tag << 32 | (frame + 1), memory_order_release);
}

/* Remove the frame's word and shift back the words after it that may move nearer to their home. */
static void
index_remove(Shard *s, uint32_t tag, uint32_t frame)
{
	uint64_t word = (uint64_t) tag << 32 | (frame + 1);
	uint32_t hole = tag & s->mask;

	while (atomic_load_explicit(&s->index[hole], memory_order_relaxed) != word)
		hole = (hole + 1) & s->mask;
	for (uint32_t i = (hole + 1) & s->mask;; i = (i + 1) & s->mask) {
		uint64_t w = atomic_load_explicit(&s->index[i], memory_order_relaxed);
		uint32_t home = (uint32_t) (w >> 32) & s->mask;

		if (w == 0)
			break;
		/* w may fill the hole unless its home lies in (hole, i], cyclically */
		if (((i - home) & s->mask) >= ((i - hole) & s->mask)) {
			atomic_store_explicit(&s->index[hole], w, memory_order_release);
			hole = i;
		}
	}
	atomic_store_explicit(&s->index[hole], 0, memory_order_release);
}

/* ---- frames (all under the lock) */

/* Move batches that no pin can reach any more to the free list. */
static void
limbo_reclaim(Shard *s)
{
	uint64_t min;

	if (s->limbo_head == s->limbo_tail)
		return;
	min = epoch_min();
	while (s->limbo_head != s->limbo_tail) {
		LimboBatch *b = &s->limbo[s->limbo_head % LIMBO_BATCHES];
		uint32_t f = b->first;

		if (b->retired > min)
			return;
		for (uint32_t i = 0; i < b->n; i++) {
			uint32_t next = s->frames[f].next;

			s->frames[f].next = s->free_first;
			s->free_first = f;
			f = next;
		}
		s->nfree += b->n;
		s->limbo_n -= b->n;
		s->limbo_head++;
	}
}

/* The clock's choice: an indexed frame whose count is 0. Every frame's is after CACHE_STAY rounds, if nobody reads. */
static uint32_t
clock_pick(Shard *s)
{
	for (uint64_t n = 0; n < (CACHE_STAY + 1) * (uint64_t) s->fresh; n++) {
		uint32_t i = s->hand;
		uint8_t used;

		s->hand = i + 1 < s->fresh ? i + 1 : 0;
		if (!s->indexed_frame[i])
			continue;
		used = atomic_load_explicit(&s->used[i], memory_order_relaxed);
		if (used == 0)
			return i;
		atomic_store_explicit(&s->used[i], (uint8_t) (used - 1), memory_order_relaxed);
	}
	return NO_FRAME;
}

/* Frames that can be taken now. */
static uint32_t
frames_ready(const Shard *s)
{
	return s->nfree + (s->nframes - s->fresh);
}

/* The clock's choice of up to s->batch frames, marked as out of the index; their headers are on the way. */
static uint32_t
pick_batch(Shard *s, uint32_t picked[BATCH_MAX])
{
	uint32_t n;

	for (n = 0; n < s->batch; n++) {
		picked[n] = clock_pick(s);
		if (picked[n] == NO_FRAME)
			break;
		s->indexed_frame[picked[n]] = 0; /* not twice */
		__builtin_prefetch(&s->frames[picked[n]]);
	}
	return n;
}

/*
 * Take one batch out of the index into limbo, unless enough is free or on its way: a pin that stays long must
 * not empty the cache. It makes inserts fail instead.
 */
static void
evict_batch(Shard *s)
{
	LimboBatch b = { 0, NO_FRAME, 0 };
	uint32_t picked[BATCH_MAX], tags[BATCH_MAX];

	if (frames_ready(s) + s->limbo_n > RESERVE_BATCHES * s->batch ||
		s->limbo_tail - s->limbo_head == LIMBO_BATCHES)
		return;
	b.n = pick_batch(s, picked);
	if (b.n == 0)
		return;
	for (uint32_t i = 0; i < b.n; i++) {
		const Frame *f = &s->frames[picked[i]];

		tags[i] = tag_of(block_hash(f->file, f->offset));
		__builtin_prefetch(&s->index[tags[i] & s->mask], 1);
	}
	for (uint32_t i = 0; i < b.n; i++) {
		index_remove(s, tags[i], picked[i]);
		s->frames[picked[i]].next = b.first;
		b.first = picked[i];
	}
	b.retired = epoch_retire();
	s->limbo[s->limbo_tail++ % LIMBO_BATCHES] = b;
	s->limbo_n += b.n;
	figure_add(&s->evictions, b.n);
	figure_add(&s->indexed, -(uint64_t) b.n);
}

/*
 * A frame nobody can see, or NO_FRAME. What is evicted now can be had only once today's pins (the
 * caller's too) are gone, so a batch is sent to limbo before the free list is empty.
 */
static uint32_t
frame_take(Shard *s)
{
	uint32_t f;

	if (frames_ready(s) <= s->batch && (frames_ready(s) > 0 || s->refused % REFUSED_RECHECK == 0))
		limbo_reclaim(s);
	evict_batch(s);
	s->refused = frames_ready(s) > 0 ? 0 : s->refused + 1;
	if (s->fresh < s->nframes)
		return s->fresh++;
	f = s->free_first;
	if (f != NO_FRAME) {
		s->free_first = s->frames[f].next;
		s->nfree--;
	}
	return f;
}

/* ---- for everybody */

static inline void
hit(const Shard *s, const Frame *f, CacheUse use, Slice *out)
{
	_Atomic uint8_t *used = &s->used[f - s->frames];

	if (atomic_load_explicit(used, memory_order_relaxed) < (uint8_t) use)
		atomic_store_explicit(used, (uint8_t) use, memory_order_relaxed);
	*out = slice_of(f->data, atomic_load_explicit(&f->len, memory_order_relaxed));
}

void
cache_probe_begin(CacheProbe *p, uint64_t file, uint64_t offset)
{
	p->file = file;
	p->offset = offset;
	p->hash = block_hash(file, offset);
	p->frame = NULL;
	if (cache != NULL) {
		const Shard *s = &cache->shards[shard_of(p->hash)];

		__builtin_prefetch(&s->index[tag_of(p->hash) & s->mask]);
	}
}

/* The walk of index_find() without a look at headers: the first word with the tag is nearly always it. */
void
cache_probe_fetch(CacheProbe *p, uint32_t from, uint32_t bytes)
{
	uint32_t tag = tag_of(p->hash), i;
	const Shard *s;

	if (cache == NULL)
		return;
	KV_DEBUG_ASSERT(epoch_pinned() && from + bytes <= CACHE_BLOCK_MAX);
	s = &cache->shards[shard_of(p->hash)];
	i = tag & s->mask;
	for (uint32_t n = 0; n <= s->mask; n++, i = (i + 1) & s->mask) {
		uint64_t w = atomic_load_explicit(&s->index[i], memory_order_acquire);
		const uint8_t *block;

		if (w == 0)
			return;
		if ((uint32_t) (w >> 32) != tag)
			continue;
		p->frame = &s->frames[(uint32_t) w - 1];
		__builtin_prefetch(p->frame);
		block = p->frame->data + from;
		for (uint32_t at = 0; at < bytes; at += 64)
			__builtin_prefetch(block + at);
		return;
	}
}

bool
cache_probe_get(const CacheProbe *p, CacheUse use, Slice *out)
{
	const Shard *s;
	Frame *f = p->frame;

	if (cache == NULL)
		return false;
	KV_DEBUG_ASSERT(epoch_pinned());
	s = &cache->shards[shard_of(p->hash)];
	if (f == NULL || !frame_is(f, p->file, p->offset))
		f = index_find(s, tag_of(p->hash), p->file, p->offset);
	if (f == NULL) {
		misses_here++;
		return false;
	}
	hit(s, f, use, out);
	if (++hits_here == HITS_FLUSH) {
		atomic_fetch_add_explicit(&cache->hits, HITS_FLUSH, memory_order_relaxed);
		hits_here = 0;
	}
	return true;
}

bool
cache_lookup(uint64_t file, uint64_t offset, CacheUse use, Slice *out)
{
	CacheProbe p = { file, offset, block_hash(file, offset), NULL };

	return cache_probe_get(&p, use, out);
}

/*
 * The first write of a process to a page of shared memory is a fault for that page alone; where it reads first, the
 * system maps the pages around as well. A new process has a tenth of the faults that way. A frame lies in two pages.
 */
static void
fill(Frame *f, Slice block)
{
	(void) *(const volatile uint8_t *) f->data;
	(void) *(const volatile uint8_t *) (f->data + block.len - 1);
	memcpy(f->data, block.data, block.len);
}

static bool
insert_locked(Shard *s, uint32_t tag, uint64_t file, uint64_t offset, Slice block, CacheUse use,
              Slice *out)
{
	Frame *f = index_find(s, tag, file, offset);
	uint32_t i;

	if (f != NULL) { /* another process was faster */
		hit(s, f, use, out);
		return true;
	}
	i = frame_take(s);
	if (i == NO_FRAME)
		return false;
	f = &s->frames[i];
	if (block.len > 0)
		fill(f, block);
	atomic_store_explicit(&f->file, file, memory_order_relaxed);
	atomic_store_explicit(&f->offset, offset, memory_order_relaxed);
	atomic_store_explicit(&f->len, (uint32_t) block.len, memory_order_relaxed);
	atomic_store_explicit(&s->used[i], (uint8_t) use, memory_order_relaxed);
	s->indexed_frame[i] = 1;
	index_add(s, tag, i);
	figure_add(&s->inserts, 1);
	figure_add(&s->indexed, 1);
	*out = slice_of(f->data, block.len);
	return true;
}

bool
cache_insert(uint64_t file, uint64_t offset, Slice block, CacheUse use, Slice *out)
{
	uint64_t hash = block_hash(file, offset);
	uint32_t which;
	Shard *s;
	bool done = false;

	if (cache == NULL)
		return false;
	KV_ASSERT(epoch_pinned());
	which = shard_of(hash);
	s = &cache->shards[which];
	if (block.len <= CACHE_BLOCK_MAX) {
		lwlock_acquire(LWLOCK_CACHE, which);
		done = insert_locked(s, tag_of(hash), file, offset, block, use, out);
		lwlock_release(LWLOCK_CACHE, which);
	}
	if (!done)
		atomic_fetch_add_explicit(&s->bypassed, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->misses, misses_here, memory_order_relaxed);
	misses_here = 0;
	return done;
}

void
cache_stats(CacheStats *out)
{
	*out = (CacheStats){ 0 };
	if (cache == NULL)
		return;
	atomic_fetch_add_explicit(&cache->hits, hits_here, memory_order_relaxed);
	atomic_fetch_add_explicit(&cache->shards[0].misses, misses_here, memory_order_relaxed);
	hits_here = misses_here = 0;
	out->hits = atomic_load_explicit(&cache->hits, memory_order_relaxed);
	for (uint32_t i = 0; i < cache->nshards; i++) {
		Shard *s = &cache->shards[i];

		out->misses += atomic_load_explicit(&s->misses, memory_order_relaxed);
		out->inserts += atomic_load_explicit(&s->inserts, memory_order_relaxed);
		out->evictions += atomic_load_explicit(&s->evictions, memory_order_relaxed);
		out->bypassed += atomic_load_explicit(&s->bypassed, memory_order_relaxed);
		out->frames_used += atomic_load_explicit(&s->indexed, memory_order_relaxed);
		out->frames_total += s->nframes;
	}
}
