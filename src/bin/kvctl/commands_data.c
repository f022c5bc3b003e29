/*
 * commands_data.c - put get mget del incr cas: commands on single keys.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvctl.h"

/* Everything that fd gives, to its end. */
static Status
read_all(int fd, Buf *out)
{
	for (;;) {
		ssize_t n;

		KV_TRY(buf_reserve(out, 65536));
		n = read(fd, out->data + out->len, out->cap - out->len);
		if (n < 0)
			return status_fail_errno(ST_USAGE, "cannot read the value");
		if (n == 0)
			return ST_OK;
		out->len += (size_t) n;
	}
}

static Status
read_value(const char *path, Buf *out)
{
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	Status st;

	if (fd < 0)
		return status_fail_errno(ST_USAGE, "cannot open \"%s\"", path);
	st = read_all(fd, out);
	if (path != NULL)
		close(fd);
	return st;
}

static Status
ack_parse(const kv_bytes *text, kv_write_options *o)
{
	static const char *const names[] = { "quorum", "local", "none" };

	for (int i = 0; text != NULL && i < 3; i++) {
		if (strcmp(text->data, names[i]) == 0) {
			o->ack = KV_ACK_QUORUM + i;
			return ST_OK;
		}
	}
	return text == NULL ? ST_OK : status_fail(ST_USAGE, "--ack %s: expected quorum, local or none",
		(const char *) text->data);
}

static Status
ttl_parse(const kv_bytes *text, kv_write_options *o)
{
	if (text == NULL)
		return ST_OK;
	KV_TRY(time_parse(text->data, &o->ttl_ms));
	return o->ttl_ms > 0 ? ST_OK : status_fail(ST_USAGE, "--ttl must be longer than 0");
}

/* At most one of the four conditions. */
static Status
condition_parse(const kv_bytes *absent, const kv_bytes *present, const kv_bytes *version, const kv_bytes *value,
                kv_write_options *o)
{
	if ((absent != NULL) + (present != NULL) + (version != NULL) + (value != NULL) > 1)
		return status_fail(ST_USAGE, "only one condition is possible");
	if (absent != NULL)
		o->condition = KV_IF_ABSENT;
	if (present != NULL)
		o->condition = KV_IF_PRESENT;
	if (version != NULL) {
		o->condition = KV_IF_VERSION;
		KV_TRY(u64_parse(version->data, &o->if_version));
	}
	if (value != NULL) {
		o->condition = KV_IF_VALUE;
		o->if_value = *value;
	}
	return ST_OK;
}

/* A failed condition, with what is known of the key. */
static int
fail_condition(Ctl *ctl, int code, uint64_t version)
{
	static const char text[] = "nothing changed: the condition did not hold";

	if (code == KV_CONDITION_FAILED && version > 0)
		(void) status_fail(ST_CONDITION_FAILED, "%s; the key's version is %" PRIu64, text, version);
	else if (code == KV_CONDITION_FAILED)
		(void) status_fail(ST_CONDITION_FAILED, "%s; the key is absent", text);
	return ctl_fail(ctl, code);
}

static int
show_version(Ctl *ctl, uint64_t version)
{
	char shown[64];

	snprintf(shown, sizeof shown, "OK (version %" PRIu64 ")", version);
	output_fact(&ctl->out, "version", CELL_OF_U64(version), version > 0 ? shown : "OK");
	return EXIT_DONE;
}

static int
put(Ctl *ctl, kv_bytes key, kv_bytes value, const kv_write_options *o)
{
	uint64_t version = 0;
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	code = kv_put(client, key, value, o, &version);
	if (code != KV_OK)
		return fail_condition(ctl, code, version);
	return show_version(ctl, version);
}

int
run_put(Ctl *ctl, const Args *a)
{
	enum { TTL, ABSENT, PRESENT, VERSION, VALUE, ACK, STDIN, FROM_FILE, KEEP_TTL };
	kv_write_options o = { .keep_ttl = a->option[KEEP_TTL] != NULL };
	bool elsewhere = a->option[STDIN] != NULL || a->option[FROM_FILE] != NULL;
	Buf from = { 0 };
	Status st = ttl_parse(a->option[TTL], &o);
	int code;

	if (st == ST_OK)
		st = ack_parse(a->option[ACK], &o);
	if (st == ST_OK)
		st = condition_parse(a->option[ABSENT], a->option[PRESENT], a->option[VERSION], a->option[VALUE], &o);
	if (st == ST_OK && a->option[STDIN] != NULL && ctl->shell)
		st = status_fail(ST_USAGE, "-x is not possible here: standard input gives the commands; use --file");
	if (st != ST_OK)
		return ctl_usage(ctl, "%s", status_detail());
	if (a->n + elsewhere != 2 || (a->option[STDIN] != NULL && a->option[FROM_FILE] != NULL))
		return ctl_usage(ctl, elsewhere ? "the value can come from one place only" : "the value is missing");
	if (!elsewhere)
		return put(ctl, a->positional[0], a->positional[1], &o);
	st = read_value(a->option[FROM_FILE] != NULL ? a->option[FROM_FILE]->data : NULL, &from);
	code = st != ST_OK ? ctl_fail(ctl, st) : put(ctl, a->positional[0], (kv_bytes){ from.data, from.len }, &o);
	buf_free(&from);
	return code;
}

int
run_cas(Ctl *ctl, const Args *a)
{
	kv_write_options o = { .condition = KV_IF_VALUE, .if_value = a->positional[1] };

	if (ttl_parse(a->option[0], &o) != ST_OK)
		return ctl_usage(ctl, "%s", status_detail());
	return put(ctl, a->positional[0], a->positional[2], &o);
}

int
run_incr(Ctl *ctl, const Args *a)
{
	kv_write_options o = { 0 };
	int64_t step = 1;
	int64_t result;
	int code = EXIT_DONE;
	kv_client *client;

	if (ttl_parse(a->option[0], &o) != ST_OK || (a->n > 1 && i64_parse(a->positional[1].data, &step) != ST_OK))
		return ctl_usage(ctl, "%s", status_detail());
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	code = kv_incr(client, a->positional[0], step, &o, &result, NULL);
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	output_fact(&ctl->out, "value", CELL_OF_I64(result), NULL);
	return EXIT_DONE;
}

/* Rows key, value and perhaps version, ttl. */
static int
show_items(Ctl *ctl, const kv_item *items, size_t n, bool with_version)
{
	static const char *const columns[] = { "key", "value", "version", "ttl_ms" };
	size_t absent = 0;

	output_begin(&ctl->out, with_version ? 4 : 2, columns);
	for (size_t i = 0; i < n; i++) {
		Cell cells[4] = { CELL_OF_BYTES(items[i].key), CELL_OF_BYTES(items[i].value), CELL_OF_U64(items[i].version),
			CELL_OF_U64(items[i].ttl_ms) };

		if (!items[i].found) {
			absent++;
			/* Where an empty value would look the same, an absent key has no row. */
			if (ctl->out.now != FORMAT_JSON)
				continue;
			cells[1].kind = cells[2].kind = cells[3].kind = CELL_NONE;
		} else if (items[i].ttl_ms == 0)
			cells[3].kind = CELL_NONE;
		output_row(&ctl->out, cells);
	}
	output_end(&ctl->out, true);
	if (absent == 0)
		return EXIT_DONE;
	(void) status_fail(ST_NOT_FOUND, "%zu of %zu keys not found", absent, n);
	return ctl_fail(ctl, KV_NOT_FOUND);
}

static int
get_one(Ctl *ctl, kv_client *client, kv_bytes key, const kv_read_options *o, bool with_version)
{
	kv_value v = { 0 };
	int code = kv_get(client, key, o, &v);

	if (code != KV_OK) {
		kv_value_free(&v);
		return ctl_fail(ctl, code);
	}
	if (with_version) {
		kv_item item = { 1, key, { v.data, v.len }, v.version, v.ttl_ms };

		show_items(ctl, &item, 1, true);
	} else
		output_value(&ctl->out, slice_kv(key), slice_of(v.data, v.len));
	kv_value_free(&v);
	return EXIT_DONE;
}

int
run_get(Ctl *ctl, const Args *a)
{
	kv_read_options o = { .read = a->option[1] != NULL ? KV_READ_LOCAL : KV_READ_DEFAULT };
	bool with_version = a->option[0] != NULL;
	kv_items items;
	int code = EXIT_DONE;
	kv_client *client = ctl_client(ctl, &code);

	if (client == NULL)
		return code;
	if (a->n == 1)
		return get_one(ctl, client, a->positional[0], &o, with_version);
	code = kv_mget(client, a->positional, (size_t) a->n, &o, &items);
	if (code != KV_OK)
		return ctl_fail(ctl, code);
	code = show_items(ctl, items.items, items.n, with_version);
	kv_items_free(&items);
	return code;
}

static int
show_deleted(Ctl *ctl, uint64_t deleted)
{
	char shown[64];

	snprintf(shown, sizeof shown, "OK (%" PRIu64 " deleted)", deleted);
	output_fact(&ctl->out, "deleted", CELL_OF_U64(deleted), shown);
	return EXIT_DONE;
}

/* All of it at once. */
static int
drop_range(Ctl *ctl, kv_client *client, const kv_range *r, const kv_write_options *o)
{
	uint64_t version = 0;
	int code = kv_drop_range(client, r, o, &version);

	if (code != KV_OK)
		return ctl_fail(ctl, code);
	return show_version(ctl, version);
}

/* Key by key, counted. */
static int
del_range(Ctl *ctl, kv_client *client, const kv_range *r, const kv_write_options *o)
{
	uint64_t deleted = 0;
	int code = kv_delete_range(client, r, o, &deleted);

	if (code == KV_OK)
		return show_deleted(ctl, deleted);
	(void) status_prefix((Status) code, "after %" PRIu64 " keys were deleted", deleted);
	return ctl_fail(ctl, code);
}

static int
del_keys(Ctl *ctl, kv_client *client, const Args *a, const kv_write_options *o)
{
	kv_write_options options = *o;
	uint64_t deleted = 0;
	uint64_t version = 0;
	int absent = 0;

	/* A weak acknowledgement knows nothing of the key. */
	if (o->condition == KV_IF_ALWAYS && o->ack <= KV_ACK_QUORUM)
		options.condition = KV_IF_PRESENT;
	for (int i = 0; i < a->n && !ctl_interrupted; i++) {
		int code = kv_delete(client, a->positional[i], &options, &version);

		if (code == KV_NOT_FOUND)
			absent++;
		else if (code != KV_OK)
			return fail_condition(ctl, code, version);
		else
			deleted++;
	}
	show_deleted(ctl, deleted);
	if (absent == 0)
		return EXIT_DONE;
	(void) status_fail(ST_NOT_FOUND, "%d of %d keys not found", absent, a->n);
	return ctl_fail(ctl, KV_NOT_FOUND);
}

int
run_del(Ctl *ctl, const Args *a)
{
	enum { PREFIX, RANGE, VERSION, VALUE, ACK, COUNT };
	kv_write_options o = { 0 };
	bool count = a->option[COUNT] != NULL;
	bool range = a->option[RANGE] != NULL;
	int wanted = range ? 2 : a->option[PREFIX] != NULL ? 0 : a->n;
	bool conditional = a->option[VERSION] != NULL || a->option[VALUE] != NULL;
	int code = EXIT_DONE;
	kv_client *client;
	kv_range r;

	if (ack_parse(a->option[ACK], &o) != ST_OK ||
		condition_parse(NULL, NULL, a->option[VERSION], a->option[VALUE], &o) != ST_OK)
		return ctl_usage(ctl, "%s", status_detail());
	if (a->n != wanted || (range && a->option[PREFIX] != NULL) || (wanted == 0 && a->option[PREFIX] == NULL))
		return ctl_usage(ctl, "name keys, or --prefix P, or --range START END");
	if (conditional && (range || wanted != 1))
		return ctl_usage(ctl, "conditions are for one key");
	if (count && !range && wanted != 0)
		return ctl_usage(ctl, "--count is for a range; keys are counted in any case");
	client = ctl_client(ctl, &code);
	if (client == NULL)
		return code;
	if (!range && wanted != 0)
		return del_keys(ctl, client, a, &o);
	r = range ? range_from(NULL, &a->positional[0], a->positional[1].len > 0 ? &a->positional[1] : NULL)
			  : range_from(a->option[PREFIX], NULL, NULL);
	return count ? del_range(ctl, client, &r, &o) : drop_range(ctl, client, &r, &o);
}
