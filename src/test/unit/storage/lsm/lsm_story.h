/*
 * lsm_story.h - small databases as text: what the tests of compaction share. Included once by each program.
 */
#ifndef LSM_STORY_H
#define LSM_STORY_H

#include "lsm_test.h"

static inline void
start(void)
{
	fresh_directory();
	fresh_memory(TEST_HEAP);
	config_init();
	ok(lsm_create(1));
	ok(lsm_open(&published));
	ok(lsm_writer_open(published));
}

/*
 * "key@version": a put with its own text as value; "-key@version": a tombstone; "key@version!ms": expires
 * then.
 */
static inline int
parse(const char *text, Entry *out, char *room)
{
	int n = 0;

	memcpy(room, text, strlen(text) + 1);
	for (char *p = strtok(room, " "); p != NULL; p = strtok(NULL, " "), n++) {
		char *at = strchr(p, '@'), *bang;

		out[n] = (Entry){ .kind = *p == '-' ? ENTRY_DELETE : ENTRY_PUT };
		p += *p == '-';
		out[n].key = slice_of(p, (size_t) (at - p));
		out[n].version = strtoull(at + 1, &bang, 10);
		out[n].expire_ms = *bang == '!' ? strtoull(bang + 1, NULL, 10) : 0;
		if (out[n].kind == ENTRY_PUT)
			out[n].value = out[n].key;
	}
	return n;
}

static inline void
flush_keeping(const char *text, uint64_t oldest)
{
	Entry e[32];
	char room[512];
	int n = parse(text, e, room);
	LsmState state = { published->flushed, 1, 1 };
	Version *v;
	Iter *it;

	for (int i = 0; i < n; i++)
		if (e[i].version >= state.flushed)
			state.flushed = e[i].version + 1;
	qsort(e, (size_t) n, sizeof *e, entry_order);
	it = array_iter(e, n);
	ok(lsm_flush(it, &state, oldest, &v));
	iter_close(it);
	publish(v);
}

static inline void
flush(const char *text)
{
	flush_keeping(text, 0);
}

/* All levels as text: "a@5 -b@3 | c@1" (levels from 0 on, table by table). */
static inline const char *
contents(void)
{
	static char text[1024];
	size_t len = 0;

	text[0] = 0;
	for (int level = 0; level < LSM_LEVELS; level++) {
		for (uint32_t i = 0; i < published->ntables[level]; i++) {
			TableIterOptions past = { .read_ahead = true };
			Iter *it = table_iter(&published->tables[level][i]->info, past);

			len += (size_t) snprintf(text + len, sizeof text - len, "%s%d:", len ? " " : "", level);
			for (iter_seek_first(it); it->valid; iter_next(it)) {
				const Entry *e = &it->entry;

				len += (size_t) snprintf(text + len, sizeof text - len, " %s%.*s@%llu",
				                        e->kind == ENTRY_DELETE ? "-" : "",
				                        (int) e->key.len, (const char *) e->key.data,
				                        (unsigned long long) e->version);
				if (e->expire_ms != 0)
					len += (size_t) snprintf(text + len, sizeof text - len, "!%llu",
					                        (unsigned long long) e->expire_ms);
				assert_int_equal(e->value.len, e->kind == ENTRY_DELETE ? 0 : e->key.len);
			}
			ok(it->status);
			iter_close(it);
		}
	}
	return text;
}

static inline Pick
pick_of(uint32_t level, uint32_t first, uint32_t n, uint32_t below_first, uint32_t below_n)
{
	Pick p = { .any = true, .out_level = level + 1 };

	p.first[level] = first;
	p.n[level] = n;
	p.first[level + 1] = below_first;
	p.n[level + 1] = below_n;
	return p;
}

static inline void
compact(Pick p, uint64_t oldest, uint64_t now)
{
	LsmCompactOptions opt = { .oldest = oldest, .now_ms = now };

	ok(compact_run(&p, &opt, false));
	publish(lsm_writer.current);
}

/* Put what is in level 0 (one table) `levels` levels down, as it is. */
static inline void
push_down(uint32_t levels)
{
	for (uint32_t level = 0; level < levels; level++) {
		Edit e = { 0 };
		Table *t = published->tables[level][0];

		ok(edit_delete(&e, level, t->info.number));
		ok(edit_add(&e, level + 1, t));
		ok(writer_install(&e));
		edit_free(&e);
		publish(lsm_writer.current);
	}
}

#endif
