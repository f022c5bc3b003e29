/*
 * range.h - range deletions: of the keys in [start, end) all versions below one version are gone.
 *
 * A range deletion is an operation of the log and has a version like every other. An entry of version ev is
 * hidden from a snapshot by a range deletion of version rv over its key if ev < rv < snapshot. Memtables and the list
 * of tables keep those that matter; what they say of a key is put together in a Cover.
 */
#ifndef STORAGE_RANGE_H
#define STORAGE_RANGE_H

#include "storage/entry.h"

typedef struct RangeDelete {
	Slice start, end;  /* internal keys of the user's keyspace; start < end, end is not part of it */
	uint64_t version;  /* no two have the same */
} RangeDelete;

/* The end of a range that has no other: what comes behind all keys of the user's keyspace. */
static inline Slice
range_user_end(void)
{
	static const uint8_t end = KEYSPACE_USER + 1;

	return slice_of(&end, 1);
}

/* Within the user's keyspace, of a possible size, not empty. */
static inline bool
range_is_sound(Slice start, Slice end)
{
	return start.len > 0 && start.len <= INTERNAL_KEY_MAX && end.len > 0 && end.len <= INTERNAL_KEY_MAX &&
		   start.data[0] == KEYSPACE_USER && slice_cmp(start, end) < 0 && slice_cmp(end, range_user_end()) <= 0;
}

/*
 * What one snapshot sees around a key: for each key in [from, to) the newest range deletion over it is `version`,
 * 0 if there is none. Slices live as long as what they came from: the pin.
 */
typedef struct Cover {
	Slice from;        /* empty: from the first key on */
	Slice to;          /* empty: to the last key */
	uint64_t version;
	bool known;        /* false: nothing has been looked up */
} Cover;

/* Everything, by nothing: to be narrowed by each source of range deletions. */
#define COVER_ALL ((Cover){ .known = true })

static inline bool
cover_holds(const Cover *c, Slice key)
{
	return c->known && slice_cmp(c->from, key) <= 0 && (c->to.len == 0 || slice_cmp(key, c->to) < 0);
}

/* Something begins or ends at `at`: what c says of `key` may not be so on the other side. */
static inline void
cover_bound(Cover *c, Slice key, Slice at)
{
	if (slice_cmp(at, key) > 0) {
		if (c->to.len == 0 || slice_cmp(at, c->to) < 0)
			c->to = at;
	} else if (slice_cmp(at, c->from) > 0)
		c->from = at;
}

/* Take one range deletion that the snapshot sees into account. */
static inline void
cover_add(Cover *c, Slice key, const RangeDelete *r)
{
	cover_bound(c, key, r->start);
	cover_bound(c, key, r->end);
	if (r->version > c->version && slice_cmp(r->start, key) <= 0 && slice_cmp(key, r->end) < 0)
		c->version = r->version;
}

/* What a walk over many keys asks: all that its snapshot sees, whatever it is made of. */
typedef struct RangeView RangeView;
struct RangeView {
	void (*look)(const RangeView *v, Slice key, Cover *out);
};

/* Version of the newest range deletion over key, 0 none; *c is kept from one call to the next. */
static inline uint64_t
range_view_at(const RangeView *v, Slice key, Cover *c)
{
	if (!cover_holds(c, key))
		v->look(v, key, c);
	return c->version;
}

/* What a range deletion leaves of an older entry: a tombstone as of its version. */
static inline void
entry_hide(Entry *e, uint64_t range_version)
{
	*e = (Entry){ .key = e->key, .version = range_version, .kind = ENTRY_DELETE };
}

#endif
