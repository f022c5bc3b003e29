/*
 * journal.c - unique keys, each written once; the list of those acknowledged; are they all there?
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "port/clock.h"
#include "record.h"

#define VERIFY_BATCH 500
#define VERIFY_SHOWN 10
#define LINE_BYTES (2 * WORD_MAX + 2)

void
journal_operation(Client *c)
{
	char key[WORD_MAX], value[WORD_MAX];
	uint64_t from, to;
	int code;

	snprintf(key, sizeof key, "%sj%d.%" PRIu64, c->r->prefix, c->r->first_process + c->number, ++c->serial);
	snprintf(value, sizeof value, "%" PRIu64 ".%d", c->serial, c->r->first_process + c->number);
	from = clock_mono_ns();
	code = kv_put(c->kv, kv_str(key), kv_str(value), NULL, NULL);
	to = clock_mono_ns();
	if (code == KV_OK)
		record_line(c->r, "%s %s\n", key, value);
	record_end(c->r, from, to, code, true, code == KV_OK);
}

/* Checks n lines "key value"; how many are missing or different. -1: not known. */
static long
verify_batch(kv_client *kv, char lines[][LINE_BYTES], size_t n)
{
	static long shown;
	kv_bytes keys[VERIFY_BATCH] = { 0 };
	kv_items items;
	long bad = 0;

	for (size_t i = 0; i < n; i++) {
		*strchr(lines[i], ' ') = '\0';
		keys[i] = kv_str(lines[i]);
	}
	if (kv_mget(kv, keys, n, NULL, &items) != KV_OK) {
		fprintf(stderr, "kvrecord: cannot read back: %s\n", kv_error());
		return -1;
	}
	for (size_t i = 0; i < n; i++) {
		const char *value = lines[i] + strlen(lines[i]) + 1;
		const kv_item *it = &items.items[i];

		if (it->found && it->value.len == strlen(value) && memcmp(it->value.data, value, it->value.len) == 0)
			continue;
		bad++;
		if (shown++ < VERIFY_SHOWN)
			printf("missing %s: %s instead of \"%s\"\n", lines[i], it->found ? "another value" : "absent",
				   value);
	}
	kv_items_free(&items);
	return bad;
}

static long
verify_file(kv_client *kv, FILE *in, uint64_t *n)
{
	static char lines[VERIFY_BATCH][LINE_BYTES];
	size_t have = 0;
	long bad = 0, more;

	while (1) {
		bool end = fgets(lines[have], LINE_BYTES, in) == NULL;
		char *newline = end ? NULL : strchr(lines[have], '\n');

		/* a last line without its end: the recorder was killed while it wrote it */
		if (newline != NULL && strchr(lines[have], ' ') != NULL) {
			*newline = '\0';
			have++;
			(*n)++;
		}
		if (have == VERIFY_BATCH || (end && have > 0)) {
			if ((more = verify_batch(kv, lines, have)) < 0)
				return -1;
			bad += more;
			have = 0;
		}
		if (end)
			return ferror(in) ? -1 : bad;
	}
}

long
journal_verify(const char *uri, const char *path)
{
	FILE *in = fopen(path, "r");
	kv_client *kv;
	uint64_t n = 0;
	long bad;

	if (in == NULL) {
		fprintf(stderr, "kvrecord: cannot read %s\n", path);
		return -1;
	}
	if (kv_connect(&kv, uri, "kvrecord") != KV_OK) {
		fprintf(stderr, "kvrecord: %s\n", kv_error());
		fclose(in);
		return -1;
	}
	bad = verify_file(kv, in, &n);
	printf("verified %" PRIu64 "\nmissing %ld\n", n, bad);
	kv_close(kv);
	fclose(in);
	return bad;
}
